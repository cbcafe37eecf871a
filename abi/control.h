/* SPDX-License-Identifier: ISC */
/*
 * Control contract between a running instance's monitor (server) and whoever manages it (client: the
 * `cowbell` command, the platform).
 *
 * Transport: SOCK_SEQPACKET of AF_UNIX in the abstract namespace, so one packet is one message and nothing is left
 * behind by a monitor that dies, however it dies:
 *
 *   \0 cowbell/UID/i/ID      every instance; UID: decimal, of its user; ID: 12 hexadecimal digits
 *   \0 cowbell/UID/n/NAME    also, if the user named it; the kernel lets one socket only have a name, so it is unique
 *
 * Anybody may bind such names: a client must check (SO_PEERCRED) that the server is its own user or root, the
 * server that the client is. What the other side sends is validated all the same. Instances are found by
 * /proc/net/unix, and are those of the caller's network namespace.
 *
 * A client sends one struct ctl_request, with at most one descriptor (SCM_RIGHTS) where the operation
 * says so, and gets one packet: struct ctl_reply, then `len` bytes, with descriptors for CTL_FDS only. It may then send the next. A connection stays
 * open until one side closes it; the instance's end is seen as its hangup.
 *
 * Versions: a server refuses another CTL_VERSION (-EPROTONOSUPPORT) and unknown operations (-EOPNOTSUPP). Within a
 * version structures only grow at their end: a reader takes what both know and reads zeros for the rest.
 */
#ifndef COWBELL_ABI_CONTROL_H
#define COWBELL_ABI_CONTROL_H

#include <stdint.h>

#define CTL_MAGIC	0x4c544343u /* "CCTL" */
#define CTL_VERSION	1
#define CTL_ID_LEN	12
#define CTL_NAME_MAX	64 /* with its NUL */
#define CTL_PROGRAM_MAX 256
#define CTL_WHY_MAX	160
#define CTL_MAX_PORTS	64
#define CTL_MAX_EGRESS	64
#define CTL_PREFIX	"cowbell/" /* after the NUL byte */

enum ctl_op {
	CTL_STATUS = 1, /* reply: struct ctl_status */
	CTL_SIGNAL =
		2, /* arg: number, 0: what asks the program to stop. As the same signal to the monitor's process */
	CTL_SNAPSHOT = 3, /* descriptor: a file open for reading and writing, empty; arg: CTL_SNAP_*.
			     reply: struct ctl_snapshot */
	CTL_FDS =
		4, /* arg: how many of them were fetched before. reply: struct ctl_fds, with `count` descriptors */
	CTL_PEERS = 6, /* of the holder; arg: index of a port. reply: struct ctl_peers */
	CTL_HANDOVER =
		5, /* of the connection that holds it. arg 1: it runs elsewhere from now on, this process
			     ends after the (empty) reply; 0: it goes on here */
};

/*
 * A move: CTL_SNAPSHOT with CTL_SNAP_HOLD; the instance rests, and connections of its clients wait in the kernel.
 * CTL_FDS until all are there. Then the client makes a new monitor of it, which says CTL_HANDOVER 1 when it needs only
 * to let the guest run. The moment at which the old monitor reads that is the moment of the move: before it, the
 * old one goes on by itself if the connection closes, CTL_HANDOVER 0 comes, or HOLD_MS pass (then -ESTALE answers).
 */
enum ctl_snap {
	CTL_SNAP_STOP = 1, /* the instance ends once it is written */
	CTL_SNAP_HOLD = 2, /* it rests on once it is written; only detached ones */
	CTL_SNAP_BARE = 4, /* no image layers in the file (CTL_FDS gives them), and it need not last */
	CTL_SNAP_FULL = 8, /* it stands alone, although the instance comes from a snapshot */
};
#define CTL_HOLD_MS 60000

struct ctl_request {
	uint32_t magic; /*  0: CTL_MAGIC */
	uint16_t version; /*  4 */
	uint16_t op; /*  6: enum ctl_op */
	uint32_t arg; /*  8 */
	uint32_t pad; /* 12: 0 */
};

struct ctl_reply {
	uint32_t magic; /*  0: CTL_MAGIC */
	uint16_t version; /*  4 */
	uint16_t op; /*  6: of the request */
	int32_t error; /*  8: 0, or -errno */
	uint32_t len; /* 12: of what follows */
	char why[CTL_WHY_MAX]; /* 16: if error: a phrase, NUL-terminated; may be empty */
};

struct ctl_port {
	uint8_t addr[16]; /*  0: of the host; IPv4 as v4-mapped IPv6 */
	uint16_t host, guest; /* 16, 18 */
	uint32_t kind; /* 20: enum ctl_port_kind */
};

enum ctl_port_kind {
	CTL_PORT_IP, /* TCP and UDP */
	CTL_PORT_UNIX, /* a socket file of the host; address and host port are zeros */
};

struct ctl_egress { /* a rule of where it may connect to; a later one wins */
	uint8_t addr[16]; /*  0 */
	uint8_t prefix, deny; /* 16, 17 */
	uint16_t port; /* 18: 0 any */
};

enum ctl_flag {
	CTL_F_NAMED = 1, /* the name is the user's, and unique */
	CTL_F_DETACHED = 2,
	CTL_F_RESTORED = 4, /* from a snapshot */
};

enum ctl_monitor { CTL_KVM = 1, CTL_PROCESS = 2 };

struct ctl_status {
	uint64_t pid; /*   0: of the monitor, in the server's own view */
	uint64_t uptime_ns; /*   8 */
	uint64_t started_ns; /*  16: CLOCK_REALTIME */
	uint64_t mem_used,
		mem_max; /*  24, 32: bytes of guest memory in use (the guest's word), and the limit */
	uint32_t monitor; /*  40: enum ctl_monitor */
	uint32_t flags; /*  44: enum ctl_flag */
	uint32_t n_ports, n_volumes; /*  48, 52 */
	char id[16]; /*  56: CTL_ID_LEN digits, NUL */
	char name[CTL_NAME_MAX]; /*  72 */
	char program[CTL_PROGRAM_MAX]; /* 136: image or program, as the user said it */
	struct ctl_port ports[CTL_MAX_PORTS]; /* 392 */
	struct ctl_egress egress[CTL_MAX_EGRESS]; /* 1928 */
	uint32_t n_egress, n_cpus; /* 3208, 3212: virtual CPUs */
	uint64_t timeout_ns; /* 3216: left of its time; 0: without end */
	uint32_t stop_signal; /* 3224: what SIGTERM is to its program; 0: the same */
	uint32_t n_processes; /* 3228: in it now (the guest's word); 0: not known */
	uint8_t parent_digest
		[32]; /* 3232: of the snapshot that it comes from and a delta would lie over; zeros: none */
	char parent[224]; /* 3264: how that is called */
};

/* Descriptors that an instance gives away. Layers and volumes: to anyone who may ask; all: while it is held, to
 * the connection that holds it. Sorted by kind, then id. */
enum ctl_fd_kind {
	CTL_FD_LAYER = 1, /* id: which; off: where in the file it begins */
	CTL_FD_VOLUME = 2, /* id: which; O_PATH */
	CTL_FD_STREAM = 3, /* 0..2: standard streams; 3: record of a detached instance */
	CTL_FD_CONTROL = 4, /* 0, 1: sockets that listen on ID and name */
	CTL_FD_TCP = 5, /* id: of the port, as in ctl_status */
	CTL_FD_UDP = 6,
	CTL_FD_HANDLE = 7, /* id: number of the guest's handle */
};

struct ctl_fd {
	uint32_t kind, id; /* 0, 4 */
	uint64_t off; /* 8 */
};

/* Whom a UDP port may answer, since they sent it something lately. */
#define CTL_MAX_PEERS 128

struct ctl_peers {
	uint32_t count, pad; /* 0, 4: seen ever; the place of the n-th is n modulo CTL_MAX_PEERS */
	struct {
		uint8_t ip[16];
		uint16_t port;
	} peer[CTL_MAX_PEERS]; /* 8: 18 bytes each */
};

#define CTL_FDS_MAX 200 /* in one packet; the kernel takes 253 */

struct ctl_fds {
	uint32_t count, total; /* 0, 4: here; of all */
	struct ctl_fd fd[CTL_FDS_MAX]; /* 8 */
};

struct ctl_snapshot {
	uint64_t bytes; /* 0: that the file takes */
	uint64_t paused_ns; /* 8: the program stood still for so long */
};

#define CTL_PACKET_MAX 4096 /* no packet is longer */

_Static_assert(sizeof(struct ctl_request) == 16, "abi");
_Static_assert(sizeof(struct ctl_reply) == 16 + CTL_WHY_MAX, "abi");
_Static_assert(sizeof(struct ctl_port) == 24, "abi");
_Static_assert(sizeof(struct ctl_status) == 672 + 24 * CTL_MAX_PORTS + 20 * CTL_MAX_EGRESS, "abi");
_Static_assert(sizeof(struct ctl_fd) == 16, "abi");
_Static_assert(sizeof(struct ctl_peers) == 8 + 18 * CTL_MAX_PEERS, "abi");
_Static_assert(sizeof(struct ctl_reply) + sizeof(struct ctl_fds) <= CTL_PACKET_MAX, "one packet");
_Static_assert(sizeof(struct ctl_reply) + sizeof(struct ctl_status) <= CTL_PACKET_MAX, "one packet");

#endif
