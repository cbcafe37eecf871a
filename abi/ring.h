/* SPDX-License-Identifier: ISC */
/*
 * The ring: the whole surface that a guest can touch.
 *
 * One page pair per vCPU holds a submission ring (guest writes, monitor reads)
 * and a completion ring (monitor writes, guest reads). All indices are free
 * running 32-bit counters, masked on use. The producer owns `tail`, the
 * consumer owns `head`; each side keeps a private copy of what it owns and
 * treats what the other side wrote as hostile: tail - head > RING_ENTRIES
 * ends the instance.
 *
 * A doorbell hands the CPU to the monitor: it takes every submission, does all
 * the I/O that can be done, and, if the guest asked to wait and nothing has
 * completed, sleeps until something does or `wait_until_ns` (monotonic)
 * passes. `more` counts completions that did not fit and wait in the monitor.
 *
 * Addresses in requests are guest-physical and must lie in RAM. The data of a
 * request may be longer than a page only if the frames are contiguous in gpa.
 * The monitor copies a request once, validates the copy and uses only that.
 * Results are >= 0, or a negative Linux errno.
 */
#ifndef COWBELL_ABI_RING_H
#define COWBELL_ABI_RING_H

#include <stdint.h>

#define RING_VERSION	 1
#define RING_ENTRIES	 256u
#define RING_MAX_HANDLES 65536u
#define RING_MAX_IO	 (1u << 20) /* bytes in one transfer */
#define RING_PATH_MAX	 4096u

struct ring_sqe {
	uint16_t op; /* enum ring_op */
	uint16_t flags; /* enum ring_sqe_flag */
	uint32_t handle; /* what it acts on; RING_NO_HANDLE where none */
	uint64_t user_data; /* returned in the completion, never interpreted */
	uint64_t addr; /* gpa of the data */
	uint32_t len; /* bytes of data */
	uint32_t arg; /* per operation */
	uint64_t off; /* file offset, or per operation */
	uint64_t addr2; /* gpa of a second block: socket address, second path */
	uint32_t len2;
	uint32_t arg2;
	uint64_t pad;
};

struct ring_cqe {
	uint64_t user_data;
	int32_t res; /* >= 0, or -errno */
	uint32_t flags; /* enum ring_cqe_flag */
	uint64_t val; /* per operation: a new handle, a length, an event */
	uint64_t val2;
};

#define RING_NO_HANDLE 0xffffffffu
#define RING_UD_EVENT  0xffffffffffffffffull /* user_data of unasked events */

enum ring_sqe_flag {
	RING_SQE_MORE = 1, /* ACCEPT, RECV_READY: stays armed, completes many times */
	RING_SQE_QUIET = 2, /* if it succeeds within the turn that took it, its completion is posted
				 * but does not end that turn's wait (sends, options: nobody waits for them).
				 * A failure, or success in a later turn, ends a wait as usual. */
};

enum ring_cqe_flag {
	RING_CQE_MORE = 1, /* the request is still armed */
};

/* Handles 0, 1, 2 are the standard streams from the start. */
enum ring_op {
	RING_OP_NOP = 0,

	/* streams: console, sockets. Completes when at least one byte moved
	 * (READ: or at end of stream with 0). addr/len = buffer. */
	RING_OP_READ = 1,
	RING_OP_WRITE = 2, /* completes when all of len is written, or on error: res = bytes written before
				 * it and val = the errno, or res = -errno */
	RING_OP_CLOSE = 3, /* outstanding requests complete with -ECANCELED first; with arg =
				 * RING_CLOSE_DRAIN its SENDs and WRITEs that were submitted earlier are
				 * finished first (or fail), all others are cancelled. The handle
				 * accepts nothing more from the submission of CLOSE on. */
	RING_OP_CANCEL = 4, /* off = user_data of the request to cancel */
	RING_OP_POLL = 5, /* arg = POLLIN|POLLOUT|...; completes once with res = revents */

	/* sockets. Addresses are Linux struct sockaddr in addr2/len2. */
	RING_OP_SOCKET = 16, /* arg = domain, arg2 = type, off = protocol; val = handle */
	RING_OP_BIND = 17, /* the monitor maps guest ports to host ports by its policy;
				 * -EADDRNOTAVAIL: not forwarded, keep it inside the guest.
				 * res = 0; val = bound port as the guest sees it */
	RING_OP_LISTEN = 18, /* arg = backlog. RING_NO_HANDLE, of a restored instance: whoever listened is
				 * listening again; from now on the other forwarded ports refuse connections */
	RING_OP_ACCEPT = 19, /* val = handle; peer address written to addr2 (128 bytes), val2 = its length;
				 * with RING_SQE_MORE one completion per connection (addr2 unused then),
				 * val2 = RING_PEER_IPV4 | address << 16 | port (both in host order) for an
				 * IPv4 or v4-mapped peer, else 0: ask by GETNAME */
	RING_OP_CONNECT = 20, /* completes when connected or refused */
	RING_OP_SEND = 21, /* stream: all of addr/len sent, or error; several on one handle are sent in the
				 * order submitted. datagram: one message, to addr2/len2 if len2 */
	RING_OP_RECV = 22, /* stream: >= 1 byte or 0 at end. datagram: one message; source written to
				 * addr2 (capacity len2), val = its length; val2 = full datagram length */
	RING_OP_SHUTDOWN = 23, /* arg = SHUT_*; of the write half: after the SENDs submitted earlier */
	RING_OP_SETSOCKOPT = 24, /* arg = level, arg2 = name, addr/len = value */
	RING_OP_GETSOCKOPT = 25, /* arg = level, arg2 = name, addr/len = buffer; val = length */
	RING_OP_GETNAME = 26, /* arg = 0 own, 1 peer; to addr2/len2; val = length */

	/* volumes. handle = RING_VOL_BASE + volume id for path operations, where
	 * addr/len = path relative to the volume's root (no NUL), or an open file. */
	RING_OP_VOL_OPEN = 32, /* arg = O_* flags, arg2 = mode; val = handle; len2 not 0: struct statx of the
				 * opened file to addr2 */
	RING_OP_VOL_STAT =
		33, /* path (addr/len, len 0: the handle itself); struct statx to addr2; never follows a final link */
	RING_OP_VOL_PREAD = 34, /* off, addr/len */
	RING_OP_VOL_PWRITE = 35, /* off, addr/len; arg = 1: append. Short and failed as WRITE */
	RING_OP_VOL_READDIR = 36, /* linux_dirent64 records to addr/len; off = position, val = next position;
				 * on a volume instead of an open directory: addr2/len2 = its path */
	RING_OP_VOL_TRUNCATE = 37, /* off = size */
	RING_OP_VOL_FSYNC = 38, /* arg = 1: data only. On a volume: addr/len = path of a directory */
	RING_OP_VOL_MKDIR = 39, /* arg2 = mode */
	RING_OP_VOL_UNLINK = 40, /* arg = 0 or AT_REMOVEDIR */
	RING_OP_VOL_RENAME = 41, /* addr/len old, addr2/len2 new (same volume); arg = RENAME_* */
	RING_OP_VOL_LINK = 42, /* addr/len old, addr2/len2 new */
	RING_OP_VOL_SYMLINK = 43, /* addr/len new name, addr2/len2 target text */
	RING_OP_VOL_READLINK = 44, /* to addr2/len2; val = length */
	RING_OP_VOL_SETATTR = 45, /* arg = mask RING_ATTR_*; addr2 = struct ring_attr; path or handle */
	RING_OP_VOL_FALLOCATE = 46, /* arg = mode, off, addr2 = length (a number, not a gpa) */
	RING_OP_VOL_STATFS = 47, /* struct statfs to addr2/len2 */
	RING_OP_VOL_LOCK = 48, /* on an open file, never waits (-EAGAIN). arg = LOCK_*, arg2 = enum ring_lock.
				 * len2 not 0: struct statx, taken after, to addr2 */

	/* console */
	RING_OP_TTY_GET = 64, /* handle 0..2: struct ring_tty to addr */
	RING_OP_TTY_SET = 65, /* struct ring_tty from addr; arg = TCSETS action 0..2 */

	/* the instance */
	RING_OP_MEM_GROW = 80, /* off = wanted ram_size; val = new ram_size */
	RING_OP_MEM_RELEASE =
		81, /* off = gpa, addr2 = length (numbers): contents may be dropped, reads as zero after */
	RING_OP_EXIT = 82, /* arg = wait status as in wait(2): exit code << 8, or signal number */
	RING_OP_LOG = 83, /* addr/len: one line of text; arg = enum boot_log, | RING_LOG_RAW: without the
				 * "cowbell: " before it (strace lines) */
	RING_OP_MEM_HUGE = 84, /* off = gpa, addr2 = length: back by huge host pages now, if possible */
	RING_OP_SNAPSHOT =
		86, /* the guest is at rest as RING_EV_SNAPSHOT asked: alone, as the last of a turn; arg = 1: and
				 * RING_READY_PREFIX still holds. A restored
				 * instance goes on at libos_header.resume and never sees it complete.
				 * -EAGAIN: completions wait for room, again after these */
	RING_OP_READY =
		87, /* arg = 1: the program says that it is ready for its first request; 0: that it will say so.
				 * RING_READY_PREFIX: it is about to look at its app for the first time (BOOT_F_PREFIX_MAKE); the
				 * monitor asks for rest, or says -EINVAL. RING_READY_APP: it waits for its app's layer, and goes on when
				 * that completes (BOOT_F_STANDBY) */
	RING_OP_STOP = 85, /* arg = signal: the program stopped itself (Ctrl-Z); monitor stops too */
};

enum ring_lock {
	RING_LOCK_FILE = 0, /* as flock */
	RING_LOCK_RANGE = 1, /* of the bytes off..addr (numbers, both included), held by the open file; record
				 * locks of other programs see it */
	RING_LOCK_ASK = 2, /* would it be got: val = 0, 1 somebody has a shared one, 2 an exclusive one */
};

#define RING_VOL_BASE	  0x40000000u
#define RING_CLOSE_DRAIN  1u
#define RING_LOG_RAW	  0x100u
#define RING_READY_PREFIX 2u
#define RING_READY_APP	  3u
#define RING_PEER_IPV4	  (1ull << 63)
#define RING_SIGNAL_TYPED 0x100u /* a key at the host's terminal made it */

/* Unasked events: a completion with user_data RING_UD_EVENT, val = enum ring_event, val2 = detail. */
enum ring_event {
	RING_EV_SIGNAL = 1, /* val2 = signal that the monitor received for the program, | RING_SIGNAL_TYPED */
	RING_EV_WINCH = 2,
	RING_EV_RESTORED = 3, /* the instance was restored; clocks and randomness need attention */
	RING_EV_SNAPSHOT = 4, /* come to rest and answer with RING_OP_SNAPSHOT */
};

struct ring_attr {
	uint32_t mode, uid, gid, pad;
	int64_t atime_ns, mtime_ns; /* INT64_MIN: leave; INT64_MAX: now */
};
enum { RING_ATTR_MODE = 1, RING_ATTR_OWNER = 2, RING_ATTR_TIMES = 4 };

struct ring_tty {
	uint32_t iflag, oflag, cflag, lflag;
	uint8_t line, cc[19];
	uint16_t rows, cols, xpix, ypix;
	uint32_t is_tty; /* bit n: stream n is a terminal */
	uint32_t pad;
};

/* What the two sides share, per vCPU: control page, then the two arrays. */
struct ring_ctl {
	/* written by the guest */
	uint32_t sq_tail;
	uint32_t cq_head;
	uint32_t wait; /* 1: sleep if nothing completes; 0: poll and return */
	uint32_t pad0;
	uint64_t wait_until_ns; /* monotonic; UINT64_MAX: for ever */
	uint64_t pad1[5];
	/* written by the monitor */
	uint32_t sq_head;
	uint32_t cq_tail;
	uint32_t more;
	uint32_t pad2;
	uint64_t pad3[6];
};

struct ring_page {
	struct ring_ctl ctl;
	uint8_t pad[4096 - sizeof(struct ring_ctl)];
	struct ring_sqe sq[RING_ENTRIES];
	struct ring_cqe cq[RING_ENTRIES];
};

_Static_assert(sizeof(struct ring_sqe) == 64, "abi");
_Static_assert(sizeof(struct ring_cqe) == 32, "abi");
_Static_assert(sizeof(struct ring_ctl) == 128, "abi");

#endif
