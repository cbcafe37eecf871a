/* SPDX-License-Identifier: ISC */
/*
 * Inside the ring server: what ring_server.c, handles.c, net*.c, console.c and
 * volume.c share. Nothing else includes it.
 *
 * Data flow of a turn:
 *
 *   SQE copied --> op_*() --> done at once ------------------> rs_complete()
 *                       \--> request queued on its handle       |
 *   epoll event --> handle readable/writable --> handle_run() --+
 *
 *   rs_complete() --> completion ring, or `late` queue when that is full
 *
 * Everything that grows with what the guest does lives in four arrays that
 * are reserved when the server is made and touched only when used, so that the
 * server allocates nothing later and each bound is the size of an array.
 */
#ifndef COWBELL_MONITOR_RING_INTERNAL_H
#define COWBELL_MONITOR_RING_INTERNAL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

#include "abi/control.h"
#include "lib/list.h"
#include "monitor/ring_server.h"

#define RS_MAX_REQS	8192u /* requests waiting for something, all handles together */
#define RS_LATE_SIZE	16384u /* completions that found no room; power of two */
#define RS_LATE_TAKE	4096u /* take no submission while more than this are late */
#define RS_MAX_EVENTS	64 /* unasked events not yet delivered */
#define RS_BATCH	256 /* readiness events taken at once */
#define RS_UDP_PEERS	CTL_MAX_PEERS /* of one forwarded UDP port */
#define RS_ACCEPT_BATCH 64 /* connections accepted from one listener before others get a turn */

/* Above an epoll tag whose low half is a port's index; no handle gets as far. */
#define RS_TAG_PORT UINT32_MAX

enum handle_kind { H_FREE, H_CONSOLE, H_SOCKET, H_FILE };

union rs_addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* A request that waits on its handle. */
struct rs_req {
	struct list node;
	struct ring_sqe sqe;
	uint32_t done; /* WRITE, SEND: bytes that are through */
	uint32_t turn; /* that took it */
};

/*
 * readable and writable are what the last edge-triggered event or system call
 * told: true means "a call may succeed", false means "an event will come".
 */
struct handle {
	uint32_t id, gen;
	uint8_t kind; /* enum handle_kind */
	bool readable, writable;
	bool pollable; /* is in the epoll set */
	bool shared_blocking; /* console: description belongs to others too and blocks; obey readiness only */
	bool rdhup, hup, err; /* sticky: peer sends no more, both directions ended, error */
	bool dead; /* of a restored instance: its connection is no more; ECONNRESET */
	bool closing; /* CLOSE with drain was taken: sends what is queued, then goes */
	/* sockets */
	bool is_tty;
	bool dgram, listening, connecting, is_sock;
	bool v6only;
	bool is_unix; /* the host's side is AF_UNIX: -p unix:PATH:PORT */
	int8_t port; /* index of the forwarded port it holds, or -1 */
	uint16_t family; /* as the guest sees it */
	uint32_t backlog;
	uint16_t guest_port; /* local port as the guest sees it, 0 = the host's */
	/* files */
	bool writable_file, is_dir;
	uint32_t open_flags; /* access mode */
	char *path; /* below the volume's root, if snapshots may be taken; malloced */
	int fd;
	int volume;
	uint32_t next_free;
	struct list in, out, polls; /* struct rs_req */
	struct list stalled; /* on rs->stalled: could go on, but there was no room */
	union rs_addr peer;
};

/* A port that -p forwards: the host's sockets, open from the start. */
struct rs_port {
	int tcp, udp; /* descriptors, -1 none */
	bool tcp_taken, udp_taken;
	uint16_t guest, host;
	uint16_t family; /* of the host's sockets; of an AF_UNIX one AF_INET, as which the guest sees it */
	bool is_unix;
	bool refuses; /* AF_UNIX: nobody listens any more; who comes is turned away (net_unix.c) */
	/* who sent datagrams lately: it may be answered, whatever the egress rules say */
	struct ctl_peers peers;
};

/* Is the program initialised? (ready.c) */
struct rs_ready {
	bool watch; /* somebody wants to know */
	bool is, told, marker; /* it is so; the program said so; it said something about it */
	uint64_t since_ns, slept_ns,
		sleeps_ns; /* of the quiet: since when, how much of it asleep, the sleep under way */
};

struct ring_server {
	const struct monitor_config *cfg;
	struct guest_mem *mem;
	struct ring_server_hooks hooks;
	int cpus_fd; /* or -1 */
	struct ring_page *page;
	int epfd, evfd;

	uint32_t sq_head, cq_tail; /* ours; what the shared page says is never read back */
	uint32_t cq_head; /* the guest's, as validated in this turn */
	unsigned n_urgent; /* completions of this turn that end a wait */
	unsigned n_done; /* completions of this turn */
	uint32_t turn;

	struct ring_cqe *late; /* [RS_LATE_SIZE] */
	uint32_t late_head, late_tail;
	struct rs_req *reqs; /* [RS_MAX_REQS] */
	struct list free_reqs;
	uint32_t reqs_fresh, n_reqs; /* entries never used start at reqs_fresh */
	struct handle *handles; /* [RING_MAX_HANDLES] */
	uint32_t handles_fresh, handles_free;
	struct list stalled;

	struct {
		uint32_t event;
		uint64_t detail;
	} events[RS_MAX_EVENTS];
	unsigned n_events;

	struct rs_port ports[MONITOR_MAX_PORTS];
	bool interrupted;
	bool now; /* ring_server_turn_now() */
	int outside_fd; /* of ring_server_watch(), -1: none */
	bool outside; /* it is readable */
	int lost; /* errno of the last write that failed, and its turn */
	uint32_t lost_turn;
	bool exiting;
	/* snapshots: the guest was asked to rest; its RING_OP_SNAPSHOT was taken in this turn */
	bool acted; /* it has read, written or sent something, or made a socket, ever */
	bool prefix_asked; /* RING_READY_PREFIX was taken */
	bool freeze_asked, frozen;
	struct ring_sqe freeze_sqe;
	struct rs_ready ready;
	const uint64_t *listened; /* not 0: the program has listened, ever */
	uint32_t unix_clients; /* accepted by AF_UNIX, ever */
	bool answered; /* something was sent on an accepted connection; until hooks.answered was called */
	uint64_t accept_ns,
		answer_ns; /* first connection accepted, first answer; 0: not yet, or nobody wants to know */
	bool had_peer; /* a connection was accepted, or a datagram received on a forwarded port, ever */
	int wait_status;
	char why[160]; /* not empty: TURN_BROKEN */
	int64_t mono_off_ns; /* host CLOCK_MONOTONIC minus the guest's */
	uint32_t uid, gid; /* of this process: shown as the guest's own on volumes */
};

/* --- ring_server.c --- */
void rs_complete(struct ring_server *rs, const struct ring_sqe *sqe, int32_t res, uint32_t flags,
		 uint64_t val, uint64_t val2);
/* The request is malformed: this instance ends. */
void rs_broken(struct ring_server *rs, const struct ring_sqe *sqe, const char *what);
/* Data of a request; NULL after rs_broken(). Lengths of 0 give a pointer that must not be used. */
void *rs_data(struct ring_server *rs, const struct ring_sqe *sqe, uint64_t gpa, uint32_t len);
/* Copy a path out: 1..RING_PATH_MAX-1 bytes without NUL inside. 0, or -errno. */
int rs_path(struct ring_server *rs, uint64_t gpa, uint32_t len, char *buf);
/* Data that the program wrote got lost for `err`. If it ends before it can know, we say so. */
void rs_lost(struct ring_server *rs, int err);
/* A completion written now would have to wait. */
bool rs_cq_full(struct ring_server *rs);

/* --- handles.c --- */
void handles_init(struct ring_server *rs);
/* A new handle that owns fd, or NULL: table full (fd stays the caller's). */
struct handle *handle_new(struct ring_server *rs, enum handle_kind kind, int fd);
struct handle *handle_get(struct ring_server *rs, uint32_t id);
/* Put its descriptor into the epoll set. false: this kind of file has no readiness and is always ready. */
bool handle_watch(struct ring_server *rs, struct handle *h);
/* Ask epoll for an event again if the descriptor is ready at this moment. */
void handle_rearm(struct ring_server *rs, struct handle *h);
/* Let a request wait on one of the handle's lists; completes it with -EAGAIN if there are too many. */
struct rs_req *handle_queue(struct ring_server *rs, struct list *queue, const struct ring_sqe *sqe);
void req_free(struct ring_server *rs, struct rs_req *r);
void req_done(struct ring_server *rs, struct rs_req *r, int32_t res, uint64_t val, uint64_t val2);
/* Do what its queued requests and its readiness allow. */
void handle_run(struct ring_server *rs, struct handle *h);
bool handle_cancel(struct ring_server *rs, struct handle *h, uint64_t user_data);
/* Close the descriptor, give the number back. Nothing may be queued on it. */
void handle_free(struct ring_server *rs, struct handle *h);
/* CLOSE: completes it now, or when what is queued was sent. */
void handle_close(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe);

/* One step of the first request of h->in or h->out: true = it completed, false = it must wait. */
bool console_read(struct ring_server *rs, struct handle *h, struct rs_req *r);
bool console_write(struct ring_server *rs, struct handle *h, struct rs_req *r);
bool net_in(struct ring_server *rs, struct handle *h, struct rs_req *r);
bool net_out(struct ring_server *rs, struct handle *h, struct rs_req *r);

/* --- ready.c --- */
/* The guest waits until `deadline` (host's): how long to sleep before the next look. */
uint64_t ready_before_sleep(struct ring_server *rs, uint64_t deadline);
void ready_after_sleep(struct ring_server *rs);
void ready_activity(struct ring_server *rs, const struct handle *h); /* an event on h */
void ready_told(struct ring_server *rs, bool now); /* RING_OP_READY */

/* --- for a restore --- */
/* The forwarded port of `guest` becomes the handle's, as BIND does it. 0 or -errno. */
int net_take_port(struct ring_server *rs, struct handle *h, uint16_t guest, bool v6only);
int net_relisten(struct ring_server *rs, struct handle *h, uint32_t backlog);
/* Whoever listened does again: from now on nobody can connect to a forwarded port on which no handle listens. */
void net_settle(struct ring_server *rs);
/* Does its path still lead to this open file? */
bool volume_has_name(struct ring_server *rs, const struct handle *h);
/* Descriptor of a file or directory of a volume that the guest had open, or -errno. */
int volume_reopen(struct ring_server *rs, int volume, const char *path, uint32_t open_flags, bool dir);

/* --- the parts: 0 or -1 after a message --- */
int console_init(struct ring_server *rs);
void console_log(struct ring_server *rs, const struct ring_sqe *sqe);
void console_tty(struct ring_server *rs, const struct ring_sqe *sqe);
int net_init(struct ring_server *rs);
void net_free(struct ring_server *rs);
void net_op(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe);
void net_close(struct ring_server *rs, struct handle *h);
/* The socket of a port on which nobody listens any more has something. */
void net_turn_away(struct ring_server *rs, uint32_t port);
void volume_op(struct ring_server *rs, const struct ring_sqe *sqe);

#endif
