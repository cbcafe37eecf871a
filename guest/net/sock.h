/* SPDX-License-Identifier: ISC */
/*
 * Sockets inside net/: the object, what a provider implements, addresses.
 *
 * A struct sock belongs to one struct file (its `priv`) and is counted: the
 * file, every request outstanding in the ring, every queue that it waits in
 * and every socket that names it as `peer` hold one reference. `ops` is the
 * provider seam. A socket may change its provider once in its life: a TCP
 * socket starts as `tcp_ops` (no connection) and becomes a stream of the host
 * (`host_stream_ops`) or one inside the guest (`local_stream_ops`, which AF_UNIX
 * streams use as well). An in-guest TCP/IP stack would be one more such table.
 *
 *   socket.c   object, file operations, generic options, waiting
 *   inet.c     addresses, ports, TCP bind/listen/connect, IP and TCP options
 *   host.c     TCP over ring handles           udp.c      datagrams, both ways at once
 *   local.c    byte streams inside the guest   unix.c     AF_UNIX names, datagrams, fd passing
 *   forward.c  ports that are forwarded since a restore
 *   netlink.c  route dumps, SIOCGIF*           epoll.c    epoll; poll.c: poll and select
 */
#ifndef COWBELL_GUEST_SOCK_H
#define COWBELL_GUEST_SOCK_H

#include <asm-generic/errno.h>
#include <asm/ioctls.h>
#include <asm/socket.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/tcp.h>
#include <linux/un.h>

#include "guest/base.h"
#include "guest/plat/ring.h"
#include "guest/proc/proc.h"
#include "guest/vfs/vfs.h"

/* Constants that the kernel keeps out of its exported headers. */
enum { AF_UNSPEC = 0, AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10, AF_NETLINK = 16, AF_MAX = 46 };
enum { SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_RAW = 3, SOCK_SEQPACKET = 5, SOCK_TYPE_MASK = 15 };
enum { SOCK_CLOEXEC = 02000000, SOCK_NONBLOCK = 04000 };
enum { SHUT_RD, SHUT_WR, SHUT_RDWR };
enum { SCM_RIGHTS = 1, SCM_CREDENTIALS = 2 };
enum { SOL_IP = 0, SOL_TCP = 6, SOL_UDP = 17, SOL_IPV6 = 41, SOL_NETLINK = 270 };
enum {
	MSG_OOB = 1,
	MSG_PEEK = 2,
	MSG_DONTROUTE = 4,
	MSG_CTRUNC = 8,
	MSG_TRUNC = 0x20,
	MSG_DONTWAIT = 0x40,
	MSG_EOR = 0x80,
	MSG_WAITALL = 0x100,
	MSG_CONFIRM = 0x800,
	MSG_ERRQUEUE = 0x2000,
	MSG_NOSIGNAL = 0x4000,
	MSG_MORE = 0x8000,
	MSG_WAITFORONE = 0x10000,
	MSG_CMSG_CLOEXEC = 0x40000000,
};

union saddr {
	u16 family;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
	u8 raw[128];
};

/* An internet address and port; IPv4 as v4-mapped IPv6, port in host order. */
struct inaddr {
	u8 ip[16];
	u16 port;
};

#define SCM_MAX_FDS 253
struct scm_fds {
	u32 n;
	struct list node; /* unix.c: all that are in flight */
	struct sock *holder; /* in whose receive queue */
	struct file *file[];
};

/* A piece of a stream, or one message. payload = data + addr_len + off. */
struct skb {
	struct list node;
	u32 len, off, cap; /* payload bytes left, consumed, and room in all of data[] */
	u32 addr_len; /* sender's address comes first in data[] */
	s32 pid; /* AF_UNIX: sender's credentials */
	u32 uid, gid;
	struct scm_fds *fds;
	u8 data[];
};
static inline u8 *skb_payload(struct skb *b)
{
	return b->data + b->addr_len + b->off;
}
struct skb *skb_new(u32 room, const void *addr, u32 addr_len);
void skb_free(struct skb *b);

struct ucred {
	s32 pid;
	u32 uid, gid;
};

/* One send or receive, apart from its bytes. */
struct msginfo {
	u32 flags; /* MSG_* */
	bool nonblock;
	/* sending */
	const union saddr *to; /* NULL: none */
	u32 to_len;
	struct scm_fds *fds; /* taken over by the provider when it returns >= 0 and fds is then NULL */
	struct ucred cred;
	/* receiving: filled by the provider */
	union saddr *from; /* NULL: not wanted */
	u32 from_len;
	u32 out_flags; /* MSG_TRUNC, MSG_EOR */
	bool has_cred, want_cmsg;
	struct inaddr local; /* for IP_PKTINFO; port 0: none */
	u16 ttl, tos; /* of a datagram, both ways, and 1 more than it is; 0: the socket's, or not known */
};

struct sock;
struct sock_ops {
	int (*bind)(struct sock *s, const union saddr *a, u32 len);
	int (*connect)(struct sock *s, const union saddr *a, u32 len, bool nonblock);
	int (*listen)(struct sock *s, int backlog);
	int (*getname)(struct sock *s, bool peer, union saddr *out); /* length, or -errno */
	s64 (*send)(struct sock *s, struct uio *u, struct msginfo *m);
	s64 (*recv)(struct sock *s, struct uio *u, struct msginfo *m);
	u32 (*poll)(struct sock *s);
	int (*shutdown)(struct sock *s, int how);
	u32 (*inq)(struct sock *s); /* FIONREAD */
	u32 (*outq)(struct sock *s);
	void (*option)(struct sock *s, int level, int name); /* a stored option changed; may be NULL */
	void (*close)(struct sock *s); /* the file is gone */
	void (*destroy)(struct sock *s); /* the last reference is gone; may be NULL */
};

enum sock_state { S_IDLE, S_LISTEN, S_CONNECTING, S_CONNECTED, S_DEAD };

struct sock {
	u32 refs;
	u16 family;
	u8 type, protocol;
	u8 state;
	bool shut_rd, shut_wr; /* by this side, or by an end of stream (rd) */
	bool bound, named, closed, connect_reported; /* named: bound to a specific address (UDP) */
	int err; /* SO_ERROR, positive */
	const struct sock_ops *ops;
	struct waitq wq;
	u32 sndbuf, rcvbuf, rcvlowat;
	u64 rcvtimeo, sndtimeo; /* ns, 0: for ever */

	/* options that are only stored, or are passed on to the host */
	bool reuseaddr, reuseport, keepalive, broadcast, passcred, v6only, nodelay, cork, linger, pktinfo,
		recverr, oobinline, timestamp, dontroute, freebind, mcast_loop_off, recvttl, recvtos;
	u8 tos, ttl, mtu_discover, priority;
	u16 coverage[2]; /* UDP-Lite: of what is sent and at least received */
	u32 linger_s, keepidle, keepintvl, keepcnt, user_timeout, defer_accept, mark, fastopen;

	/* received messages or stream pieces */
	struct list rxq;
	u32 rx_bytes;

	/* local.c: urgent data, and whether a write after the peer's end was taken */
	enum { URGENT_NONE, URGENT_VALID, URGENT_READ } urgent;
	u32 urgent_after; /* bytes of rxq before it */
	u8 urgent_byte;
	bool reset;

	/* listening */
	struct list acceptq, accept_node;
	u32 backlog, n_accept;

	struct sock *
		peer; /* counted; other end of a local stream, target of a connected AF_UNIX datagram socket */
	struct ucred peer_cred;
	struct inaddr local, remote;
	struct list port_node; /* in the port table while bound */
	struct list all_node; /* in all_socks */
	u32 uid; /* who made it */
	struct file *file; /* borrowed, NULL before and after it has one */
	void *host; /* host.c, udp.c: ring state */
	void *un; /* unix.c, netlink.c */
	u32 gc_refs; /* scm.c */
	bool gc_mark;
};

/* --- socket.c --------------------------------------------------------------- */
extern const struct file_ops sock_fops;
extern struct list all_socks;
struct sock *sock_new(int family, int type, int protocol, const struct sock_ops *ops);
static inline void sock_get(struct sock *s)
{
	s->refs++;
}
void sock_put(struct sock *s);
struct file *sock_file(struct sock *s,
		       u32 flags); /* takes the caller's reference; NULL: no memory, reference dropped */
struct sock *sock_of(struct file *f); /* NULL: not a socket */
int sock_create(int family, int type, int protocol, struct sock **out);
int sock_accept(struct sock *s, bool nonblock, struct sock **out);
void sock_set_cred(struct sock *s, struct msginfo *m); /* AF_UNIX: the sender is current */
int sock_error(struct sock *s); /* 0 or -errno; clears it */
void sock_fail(struct sock *s, int err, u32 events);
void sock_drop_rxq(struct sock *s);
s64 sock_send(struct sock *s, struct uio *u, struct msginfo *m);
s64 sock_recv(struct sock *s, struct uio *u, struct msginfo *m);
int sock_setsockopt(struct sock *s, int level, int name, const void *uval, u32 len);
int sock_getsockopt(struct sock *s, int level, int name, void *uval, u32 *ulen);
/* Discard n bytes of the user's buffer as if they had been written (MSG_TRUNC on streams). */
static inline void uio_skip(struct uio *u, u64 n)
{
	u->left -= n < u->left ? n : u->left;
}

#define sock_wait(s_, cond_, nonblock_, timeo_)                                                              \
	({                                                                                                   \
		int rc_ = 0;                                                                                 \
		if (!(cond_)) {                                                                              \
			if (nonblock_) {                                                                     \
				rc_ = -EAGAIN;                                                               \
			} else {                                                                             \
				u64 to_ = (timeo_);                                                          \
				rc_ = wait_event(&(s_)->wq, cond_, to_ ? mono_ns() + to_ : NO_DEADLINE,      \
						 true);                                                      \
				if (rc_ == -ETIMEDOUT)                                                       \
					rc_ = -EAGAIN;                                                       \
				else if (rc_ == -ERESTARTSYS && to_)                                         \
					rc_ = -EINTR;                                                        \
			}                                                                                    \
		}                                                                                            \
		rc_;                                                                                         \
	})

/* --- inet.c ------------------------------------------------------------------- */
extern const struct sock_ops tcp_ops;
enum port_table { PORTS_TCP, PORTS_UDP, PORTS_UDPLITE };
int inet_parse(struct sock *s, const union saddr *a, u32 len, struct inaddr *out);
u32 inet_format(int family, const struct inaddr *a, union saddr *out);
bool inet_is_any(const struct inaddr *a);
bool inet_is_v4(const struct inaddr *a);
bool inet_is_local(const struct inaddr *a); /* loopback or the guest's own address, or any */
bool inet_is_loopback(const struct inaddr *a); /* 127/8 or ::1 */
void inet_own_addr(int family, struct inaddr *a); /* keeps the port */
int inet_bind_port(struct sock *s, enum port_table t, const struct inaddr *want);
void inet_unbind(struct sock *s);
struct sock *inet_find(enum port_table t, const struct inaddr *to,
		       const struct inaddr *from); /* best receiver */
/* SO_REUSEPORT: s, or another one with its address that has the option, by the peer; without a peer each in turn. */
struct sock *inet_group_pick(struct sock *s, enum port_table t, const struct inaddr *from);
struct sock *inet_group_next(const struct sock *s, enum port_table t); /* any other one of them, or NULL */
bool inet_port_forwarded(u16 port);
bool inet_is_hidden(const struct sock *s); /* it listens, and its port's host socket is nobody's */
bool inet_has_link(void); /* may it talk to anyone outside? */
u16 inet_ephemeral(enum port_table t);
void inet_each(enum port_table t, void (*fn)(struct sock *)); /* fn may not bind or close */
int inet_setopt(struct sock *s, int level, int name, const void *val, u32 len);
int inet_getopt(struct sock *s, int level, int name, void *val, u32 *len);
int inet_getname(struct sock *s, bool peer, union saddr *out);
void net_note_listen(void); /* first_listen_tsc */

/* --- host.c ------------------------------------------------------------------- */
extern const struct sock_ops host_stream_ops;
int host_listen(struct sock *s); /* sleeps; -EADDRNOTAVAIL: not forwarded */
void host_unlisten(struct sock *s);
void host_accept_more(struct sock *s); /* the accept queue has room again */
int host_connect(struct sock *s); /* to s->remote; starts it, result by s->state and s->err */
void host_option_async(struct sock *s, u32 handle, int level, int name);
void host_close_handle(u32 handle);
void host_free(struct sock *s); /* ring state of a socket without outstanding requests */
/* A request that nobody waits for; `n` <= 32 bytes of data are copied. false: no memory. */
bool host_fire(const struct ring_sqe *sqe, const void *data, u32 n);
void host_push_options(struct sock *s, u32 handle); /* those that differ from the host's defaults */

/* --- local.c ------------------------------------------------------------------- */
extern const struct sock_ops local_stream_ops;
s64 local_recv_urgent(struct sock *s, struct uio *u, struct msginfo *m); /* recv with MSG_OOB */
bool local_at_mark(struct sock *s); /* SIOCATMARK */
void local_pair(struct sock *a, struct sock *b); /* connects two sockets; each then names the other */
/* Takes a reference of child; false: closed, or full and not `force`. */
bool sock_acceptq_push(struct sock *listener, struct sock *child, bool force);

/* --- udp.c, unix.c, netlink.c ---------------------------------------------------- */
extern const struct sock_ops udp_ops, unix_stream_ops, unix_dgram_ops, netlink_ops;
bool udp_is_hidden(struct sock *s); /* bound, and its port's host socket is not its own */
void udp_forward(struct sock *s); /* get that, unless somebody else has it; sleeps */
int unix_socketpair(int type, struct sock *out[2]);
int unix_getname(struct sock *s, bool peer, union saddr *out);
void unix_gone(struct sock *s); /* closed: its name finds it no more */
void unix_destroy(struct sock *s);
void scm_free(struct scm_fds *f);
void scm_queued(struct scm_fds *f, struct sock *holder); /* from now on in flight */
struct scm_fds *scm_dup(struct scm_fds *f); /* for MSG_PEEK */
void scm_unqueued(struct scm_fds *f);
void unix_gc(void);
s64 netif_ioctl(u32 cmd, u64 arg);

/* --- epoll.c, poll.c --------------------------------------------------------------- */
s64 epoll_create_fd(bool cloexec);
s64 epoll_control(int epfd, int op, int fd, const void *uevent);
s64 epoll_wait_events(int epfd, void *uevents, int max, u64 deadline, bool poll_only);
/* The app asks for events: is it time to ring the doorbell first? */
void net_turn(bool have_events);

#endif
