/* SPDX-License-Identifier: ISC */
/*
 * --strace: names of flags, enumerations, errors and signals.
 *
 * Names lie in fixed-size records, so that the tables need no relocation and
 * stay in the read-only text of the library OS. A family is either a set of
 * bits, shown as A|B|0x..., or an enumeration, shown as one name. In a set,
 * `mask` of a record says which bits it speaks for; a record of value 0 is
 * the name of "none of these".
 */
#include <asm/mman.h>
#include <asm/prctl.h>
#include <asm/signal.h>
#include <linux/capability.h>
#include <linux/eventpoll.h>
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/time.h>

#include "guest/linux/strace.h"
#include "guest/linux/table.h"

struct name {
	u32 value, mask; /* mask 0: an enumeration */
	char text[24];
};

#define BIT(x)                                                                                               \
	{                                                                                                    \
		(u32)(x), (u32)(x), #x                                                                       \
	}
#define VAL(x)                                                                                               \
	{                                                                                                    \
		(u32)(x), 0, #x                                                                              \
	}
#define PART(x, m)                                                                                           \
	{                                                                                                    \
		(u32)(x), (u32)(m), #x                                                                       \
	}
#define NAMED(v, n)                                                                                          \
	{                                                                                                    \
		(u32)(v), 0, n                                                                               \
	}
#define NAMED_BIT(v, n)                                                                                      \
	{                                                                                                    \
		(u32)(v), (u32)(v), n                                                                        \
	}

static const struct name oflags[] = {
	PART(O_RDONLY, O_ACCMODE),
	PART(O_WRONLY, O_ACCMODE),
	PART(O_RDWR, O_ACCMODE),
	PART(O_SYNC, O_SYNC),
	PART(O_TMPFILE, O_TMPFILE),
	BIT(O_CREAT),
	BIT(O_EXCL),
	BIT(O_NOCTTY),
	BIT(O_TRUNC),
	BIT(O_APPEND),
	BIT(O_NONBLOCK),
	BIT(O_DSYNC),
	BIT(O_DIRECT),
	BIT(O_LARGEFILE),
	BIT(O_DIRECTORY),
	BIT(O_NOFOLLOW),
	BIT(O_NOATIME),
	BIT(O_CLOEXEC),
	BIT(O_PATH),
};

static const struct name accm[] = {
	NAMED(0, "F_OK"),
	NAMED_BIT(4, "R_OK"),
	NAMED_BIT(2, "W_OK"),
	NAMED_BIT(1, "X_OK"),
};

static const struct name atf[] = {
	BIT(AT_SYMLINK_NOFOLLOW), BIT(AT_REMOVEDIR),	    BIT(AT_SYMLINK_FOLLOW),  BIT(AT_NO_AUTOMOUNT),
	BIT(AT_EMPTY_PATH),	  BIT(AT_STATX_FORCE_SYNC), BIT(AT_STATX_DONT_SYNC), BIT(AT_RECURSIVE),
};

static const struct name prot[] = {
	PART(PROT_NONE, PROT_READ | PROT_WRITE | PROT_EXEC),
	BIT(PROT_READ),
	BIT(PROT_WRITE),
	BIT(PROT_EXEC),
	BIT(PROT_GROWSDOWN),
};

static const struct name mapf[] = {
	PART(MAP_SHARED, MAP_TYPE),
	PART(MAP_PRIVATE, MAP_TYPE),
	PART(MAP_SHARED_VALIDATE, MAP_TYPE),
	BIT(MAP_FIXED),
	BIT(MAP_ANONYMOUS),
	BIT(MAP_GROWSDOWN),
	BIT(MAP_DENYWRITE),
	BIT(MAP_LOCKED),
	BIT(MAP_NORESERVE),
	BIT(MAP_POPULATE),
	BIT(MAP_NONBLOCK),
	BIT(MAP_STACK),
	BIT(MAP_HUGETLB),
	BIT(MAP_SYNC),
	BIT(MAP_FIXED_NOREPLACE),
	BIT(MAP_32BIT),
};

static const struct name madv[] = {
	VAL(MADV_NORMAL),	  VAL(MADV_RANDOM),    VAL(MADV_SEQUENTIAL),  VAL(MADV_WILLNEED),
	VAL(MADV_DONTNEED),	  VAL(MADV_FREE),      VAL(MADV_REMOVE),      VAL(MADV_DONTFORK),
	VAL(MADV_DOFORK),	  VAL(MADV_MERGEABLE), VAL(MADV_UNMERGEABLE), VAL(MADV_HUGEPAGE),
	VAL(MADV_NOHUGEPAGE),	  VAL(MADV_DONTDUMP),  VAL(MADV_DODUMP),      VAL(MADV_WIPEONFORK),
	VAL(MADV_KEEPONFORK),	  VAL(MADV_COLD),      VAL(MADV_PAGEOUT),     VAL(MADV_POPULATE_READ),
	VAL(MADV_POPULATE_WRITE), VAL(MADV_COLLAPSE),
};

static const struct name whence[] = {
	NAMED(0, "SEEK_SET"),  NAMED(1, "SEEK_CUR"),  NAMED(2, "SEEK_END"),
	NAMED(3, "SEEK_DATA"), NAMED(4, "SEEK_HOLE"),
};

static const struct name how[] = {
	VAL(SIG_BLOCK),
	VAL(SIG_UNBLOCK),
	VAL(SIG_SETMASK),
};

static const struct name sigact[] = {
	BIT(SA_NOCLDSTOP), BIT(SA_NOCLDWAIT), BIT(SA_SIGINFO), BIT(SA_RESTORER),
	BIT(SA_ONSTACK),   BIT(SA_RESTART),   BIT(SA_NODEFER), BIT(SA_RESETHAND),
};

static const struct name clocks[] = {
	VAL(CLOCK_REALTIME),	      VAL(CLOCK_MONOTONIC),	VAL(CLOCK_PROCESS_CPUTIME_ID),
	VAL(CLOCK_THREAD_CPUTIME_ID), VAL(CLOCK_MONOTONIC_RAW), VAL(CLOCK_REALTIME_COARSE),
	VAL(CLOCK_MONOTONIC_COARSE),  VAL(CLOCK_BOOTTIME),	VAL(CLOCK_REALTIME_ALARM),
	VAL(CLOCK_BOOTTIME_ALARM),    VAL(CLOCK_TAI),
};

static const struct name futex[] = {
	PART(FUTEX_WAIT, FUTEX_CMD_MASK),
	PART(FUTEX_WAKE, FUTEX_CMD_MASK),
	PART(FUTEX_FD, FUTEX_CMD_MASK),
	PART(FUTEX_REQUEUE, FUTEX_CMD_MASK),
	PART(FUTEX_CMP_REQUEUE, FUTEX_CMD_MASK),
	PART(FUTEX_WAKE_OP, FUTEX_CMD_MASK),
	PART(FUTEX_LOCK_PI, FUTEX_CMD_MASK),
	PART(FUTEX_UNLOCK_PI, FUTEX_CMD_MASK),
	PART(FUTEX_TRYLOCK_PI, FUTEX_CMD_MASK),
	PART(FUTEX_WAIT_BITSET, FUTEX_CMD_MASK),
	PART(FUTEX_WAKE_BITSET, FUTEX_CMD_MASK),
	PART(FUTEX_WAIT_REQUEUE_PI, FUTEX_CMD_MASK),
	PART(FUTEX_CMP_REQUEUE_PI, FUTEX_CMD_MASK),
	PART(FUTEX_LOCK_PI2, FUTEX_CMD_MASK),
	BIT(FUTEX_PRIVATE_FLAG),
	BIT(FUTEX_CLOCK_REALTIME),
};

static const struct name clonef[] = {
	BIT(CLONE_VM),
	BIT(CLONE_FS),
	BIT(CLONE_FILES),
	BIT(CLONE_SIGHAND),
	BIT(CLONE_PIDFD),
	BIT(CLONE_PTRACE),
	BIT(CLONE_VFORK),
	BIT(CLONE_PARENT),
	BIT(CLONE_THREAD),
	BIT(CLONE_NEWNS),
	BIT(CLONE_SYSVSEM),
	BIT(CLONE_SETTLS),
	BIT(CLONE_PARENT_SETTID),
	BIT(CLONE_CHILD_CLEARTID),
	BIT(CLONE_DETACHED),
	BIT(CLONE_UNTRACED),
	BIT(CLONE_CHILD_SETTID),
	BIT(CLONE_NEWCGROUP),
	BIT(CLONE_NEWUTS),
	BIT(CLONE_NEWIPC),
	BIT(CLONE_NEWUSER),
	BIT(CLONE_NEWPID),
	BIT(CLONE_NEWNET),
	BIT(CLONE_IO),
};

static const struct name dom[] = {
	NAMED(0, "AF_UNSPEC"),	 NAMED(1, "AF_UNIX"),	 NAMED(2, "AF_INET"),	NAMED(10, "AF_INET6"),
	NAMED(16, "AF_NETLINK"), NAMED(17, "AF_PACKET"), NAMED(40, "AF_VSOCK"),
};

static const struct name stype[] = {
	{1, 15, "SOCK_STREAM"},
	{2, 15, "SOCK_DGRAM"},
	{3, 15, "SOCK_RAW"},
	{5, 15, "SOCK_SEQPACKET"},
	NAMED_BIT(O_CLOEXEC, "SOCK_CLOEXEC"),
	NAMED_BIT(O_NONBLOCK, "SOCK_NONBLOCK"),
};

static const struct name msgf[] = {
	NAMED_BIT(0x1, "MSG_OOB"),
	NAMED_BIT(0x2, "MSG_PEEK"),
	NAMED_BIT(0x4, "MSG_DONTROUTE"),
	NAMED_BIT(0x8, "MSG_CTRUNC"),
	NAMED_BIT(0x20, "MSG_TRUNC"),
	NAMED_BIT(0x40, "MSG_DONTWAIT"),
	NAMED_BIT(0x80, "MSG_EOR"),
	NAMED_BIT(0x100, "MSG_WAITALL"),
	NAMED_BIT(0x800, "MSG_CONFIRM"),
	NAMED_BIT(0x2000, "MSG_ERRQUEUE"),
	NAMED_BIT(0x4000, "MSG_NOSIGNAL"),
	NAMED_BIT(0x8000, "MSG_MORE"),
	NAMED_BIT(0x10000, "MSG_WAITFORONE"),
	NAMED_BIT(0x4000000, "MSG_ZEROCOPY"),
	NAMED_BIT(0x20000000, "MSG_FASTOPEN"),
	NAMED_BIT(0x40000000, "MSG_CMSG_CLOEXEC"),
};

static const struct name sol[] = {
	NAMED(0, "SOL_IP"),   NAMED(1, "SOL_SOCKET"), NAMED(6, "SOL_TCP"),
	NAMED(17, "SOL_UDP"), NAMED(41, "SOL_IPV6"),
};

static const struct name shut[] = {
	NAMED(0, "SHUT_RD"),
	NAMED(1, "SHUT_WR"),
	NAMED(2, "SHUT_RDWR"),
};

static const struct name rlim[] = {
	VAL(RLIMIT_CPU),      VAL(RLIMIT_FSIZE), VAL(RLIMIT_DATA),   VAL(RLIMIT_STACK),
	VAL(RLIMIT_CORE),     VAL(RLIMIT_RSS),	 VAL(RLIMIT_NPROC),  VAL(RLIMIT_NOFILE),
	VAL(RLIMIT_MEMLOCK),  VAL(RLIMIT_AS),	 VAL(RLIMIT_LOCKS),  VAL(RLIMIT_SIGPENDING),
	VAL(RLIMIT_MSGQUEUE), VAL(RLIMIT_NICE),	 VAL(RLIMIT_RTPRIO), VAL(RLIMIT_RTTIME),
};

static const struct name prctl[] = {
	VAL(PR_SET_PDEATHSIG),	  VAL(PR_GET_PDEATHSIG),
	VAL(PR_GET_DUMPABLE),	  VAL(PR_SET_DUMPABLE),
	VAL(PR_SET_KEEPCAPS),	  VAL(PR_SET_NAME),
	VAL(PR_GET_NAME),	  VAL(PR_GET_SECCOMP),
	VAL(PR_SET_SECCOMP),	  VAL(PR_CAPBSET_READ),
	VAL(PR_CAPBSET_DROP),	  VAL(PR_SET_TIMERSLACK),
	VAL(PR_GET_TIMERSLACK),	  VAL(PR_SET_CHILD_SUBREAPER),
	VAL(PR_SET_NO_NEW_PRIVS), VAL(PR_GET_NO_NEW_PRIVS),
	VAL(PR_GET_TID_ADDRESS),  VAL(PR_SET_THP_DISABLE),
	VAL(PR_CAP_AMBIENT),	  VAL(PR_SET_VMA),
};

static const struct name ioctl[] = {
	NAMED(21505, "TCGETS"),	      NAMED(21506, "TCSETS"),	     NAMED(21507, "TCSETSW"),
	NAMED(21508, "TCSETSF"),      NAMED(21518, "TIOCSCTTY"),     NAMED(21519, "TIOCGPGRP"),
	NAMED(21520, "TIOCSPGRP"),    NAMED(21523, "TIOCGWINSZ"),    NAMED(21524, "TIOCSWINSZ"),
	NAMED(21531, "FIONREAD"),     NAMED(21537, "FIONBIO"),	     NAMED(21584, "FIONCLEX"),
	NAMED(21585, "FIOCLEX"),      NAMED(2147767344, "TIOCGPTN"), NAMED(1074025521, "TIOCSPTLCK"),
	NAMED(1074041865, "FICLONE"),
};

static const struct name fcntls[] = {
	VAL(F_DUPFD),	      VAL(F_GETFD),	 VAL(F_SETFD),	    VAL(F_GETFL),     VAL(F_SETFL),
	VAL(F_GETLK),	      VAL(F_SETLK),	 VAL(F_SETLKW),	    VAL(F_SETOWN),    VAL(F_GETOWN),
	VAL(F_SETSIG),	      VAL(F_GETSIG),	 VAL(F_OFD_GETLK),  VAL(F_OFD_SETLK), VAL(F_OFD_SETLKW),
	VAL(F_DUPFD_CLOEXEC), VAL(F_SETPIPE_SZ), VAL(F_GETPIPE_SZ), VAL(F_ADD_SEALS), VAL(F_GET_SEALS),
};

static const struct name epop[] = {
	VAL(EPOLL_CTL_ADD),
	VAL(EPOLL_CTL_DEL),
	VAL(EPOLL_CTL_MOD),
};

static const struct name epev[] = {
	NAMED_BIT(0x1u, "EPOLLIN"),
	NAMED_BIT(0x2u, "EPOLLPRI"),
	NAMED_BIT(0x4u, "EPOLLOUT"),
	NAMED_BIT(0x8u, "EPOLLERR"),
	NAMED_BIT(0x10u, "EPOLLHUP"),
	NAMED_BIT(0x40u, "EPOLLRDNORM"),
	NAMED_BIT(0x80u, "EPOLLRDBAND"),
	NAMED_BIT(0x100u, "EPOLLWRNORM"),
	NAMED_BIT(0x200u, "EPOLLWRBAND"),
	NAMED_BIT(0x2000u, "EPOLLRDHUP"),
	NAMED_BIT(0x10000000u, "EPOLLEXCLUSIVE"),
	NAMED_BIT(0x20000000u, "EPOLLWAKEUP"),
	NAMED_BIT(0x40000000u, "EPOLLONESHOT"),
	NAMED_BIT(0x80000000u, "EPOLLET"),
};

static const struct name polls[] = {
	NAMED_BIT(0x1, "POLLIN"),      NAMED_BIT(0x2, "POLLPRI"),      NAMED_BIT(0x4, "POLLOUT"),
	NAMED_BIT(0x8, "POLLERR"),     NAMED_BIT(0x10, "POLLHUP"),     NAMED_BIT(0x20, "POLLNVAL"),
	NAMED_BIT(0x40, "POLLRDNORM"), NAMED_BIT(0x2000, "POLLRDHUP"),
};

static const struct name *family(u8 which, u32 *n)
{
	switch (which) {
#define FAMILY(sa, table)                                                                                    \
	case SA_##sa:                                                                                        \
		*n = ARRAY_SIZE(table);                                                                      \
		return table
		FAMILY(oflags, oflags);
		FAMILY(accm, accm);
		FAMILY(atf, atf);
		FAMILY(prot, prot);
		FAMILY(mapf, mapf);
		FAMILY(madv, madv);
		FAMILY(whence, whence);
		FAMILY(how, how);
		FAMILY(sigact, sigact);
		FAMILY(clock, clocks);
		FAMILY(futex, futex);
		FAMILY(clonef, clonef);
		FAMILY(dom, dom);
		FAMILY(stype, stype);
		FAMILY(msgf, msgf);
		FAMILY(sol, sol);
		FAMILY(shut, shut);
		FAMILY(rlim, rlim);
		FAMILY(prctl, prctl);
		FAMILY(ioctl, ioctl);
		FAMILY(fcntl, fcntls);
		FAMILY(epop, epop);
		FAMILY(epev, epev);
		FAMILY(pollfds, polls);
#undef FAMILY
	}
	return NULL;
}

void out_flags(struct out *o, u8 which, u64 v)
{
	u32 n = 0, left = (u32)v, shown = 0;
	const struct name *t;

	if (which == SA_sig) {
		out_f(o, "%s", v ? signal_name((int)v) : "0");
		return;
	}
	t = family(which, &n);
	for (u32 i = 0; i < n; i++) {
		if (!t[i].mask ? (u32)v != t[i].value
			       : (left & t[i].mask) != t[i].value || (v & t[i].mask) != t[i].value)
			continue;
		out_f(o, "%s%s", shown++ ? "|" : "", t[i].text);
		if (!t[i].mask)
			return;
		left &= ~t[i].mask;
	}
	if (left || !shown)
		out_f(o, left ? "%s0x%x" : "%s%u", shown ? "|" : "", left);
}

/* errno names, from 1 on, each ended by a NUL; an empty one has no name. */
static const char errno_text[] =
	"EPERM\0ENOENT\0ESRCH\0EINTR\0EIO\0ENXIO\0E2BIG\0ENOEXEC\0EBADF\0ECHILD\0EAGAIN\0ENOMEM\0EACCES\0"
	"EFAULT\0ENOTBLK\0EBUSY\0EEXIST\0EXDEV\0ENODEV\0ENOTDIR\0EISDIR\0EINVAL\0ENFILE\0EMFILE\0ENOTTY\0"
	"ETXTBSY\0EFBIG\0ENOSPC\0ESPIPE\0EROFS\0EMLINK\0EPIPE\0EDOM\0ERANGE\0EDEADLK\0ENAMETOOLONG\0"
	"ENOLCK\0ENOSYS\0ENOTEMPTY\0ELOOP\0\0ENOMSG\0EIDRM\0ECHRNG\0EL2NSYNC\0EL3HLT\0EL3RST\0ELNRNG\0"
	"EUNATCH\0ENOCSI\0EL2HLT\0EBADE\0EBADR\0EXFULL\0ENOANO\0EBADRQC\0EBADSLT\0\0EBFONT\0ENOSTR\0"
	"ENODATA\0ETIME\0ENOSR\0ENONET\0ENOPKG\0EREMOTE\0ENOLINK\0EADV\0ESRMNT\0ECOMM\0EPROTO\0EMULTIHOP\0"
	"EDOTDOT\0EBADMSG\0EOVERFLOW\0ENOTUNIQ\0EBADFD\0EREMCHG\0ELIBACC\0ELIBBAD\0ELIBSCN\0ELIBMAX\0"
	"ELIBEXEC\0EILSEQ\0ERESTART\0ESTRPIPE\0EUSERS\0ENOTSOCK\0EDESTADDRREQ\0EMSGSIZE\0EPROTOTYPE\0"
	"ENOPROTOOPT\0EPROTONOSUPPORT\0ESOCKTNOSUPPORT\0EOPNOTSUPP\0EPFNOSUPPORT\0EAFNOSUPPORT\0"
	"EADDRINUSE\0EADDRNOTAVAIL\0ENETDOWN\0ENETUNREACH\0ENETRESET\0ECONNABORTED\0ECONNRESET\0ENOBUFS\0"
	"EISCONN\0ENOTCONN\0ESHUTDOWN\0ETOOMANYREFS\0ETIMEDOUT\0ECONNREFUSED\0EHOSTDOWN\0EHOSTUNREACH\0"
	"EALREADY\0EINPROGRESS\0ESTALE\0EUCLEAN\0ENOTNAM\0ENAVAIL\0EISNAM\0EREMOTEIO\0EDQUOT\0ENOMEDIUM\0"
	"EMEDIUMTYPE\0ECANCELED\0ENOKEY\0EKEYEXPIRED\0EKEYREVOKED\0EKEYREJECTED\0EOWNERDEAD\0"
	"ENOTRECOVERABLE\0ERFKILL\0EHWPOISON\0";

static const char signal_text[] = "SIGHUP\0SIGINT\0SIGQUIT\0SIGILL\0SIGTRAP\0SIGABRT\0SIGBUS\0SIGFPE\0SIGKILL"
				  "\0SIGUSR1\0SIGSEGV\0SIGUSR2\0SIGPIPE\0SIGALRM\0SIGTERM\0SIGSTKFLT\0"
				  "SIGCHLD\0SIGCONT\0SIGSTOP\0SIGTSTP\0SIGTTIN\0SIGTTOU\0SIGURG\0SIGXCPU\0SIG"
				  "XFSZ\0SIGVTALRM\0SIGPROF\0SIGWINCH\0SIGIO\0SIGPWR\0SIGSYS\0";

/* The n-th string of a block of them (from 1), or NULL. */
static const char *nth(const char *block, size_t size, int n)
{
	const char *s = block;

	for (int i = 1; s < block + size - 1; i++, s += strlen(s) + 1)
		if (i == n)
			return *s ? s : NULL;
	return NULL;
}

const char *errno_name(int e)
{
	switch (e) {
	case 512:
		return "ERESTARTSYS (To be restarted)";
	case 514:
		return "ERESTARTNOHAND (To be restarted if no handler)";
	case 516:
		return "ERESTART_RESTARTBLOCK (Interrupted by signal)";
	default:
		return nth(errno_text, sizeof(errno_text), e);
	}
}

const char *signal_name(int sig)
{
	static char rt[16];
	const char *s = nth(signal_text, sizeof(signal_text), sig);

	if (s)
		return s;
	snprintf(rt, sizeof(rt), sig >= 32 && sig <= 64 ? "SIGRT_%d" : "%d",
		 sig >= 32 && sig <= 64 ? sig - 32 : sig);
	return rt;
}

void out_mask(struct out *o, u64 m)
{
	const char *sep = "";
	bool invert = __builtin_popcountll(m) > 40;

	out_f(o, invert ? "~[" : "[");
	m = invert ? ~m : m;
	for (int sig = 1; sig <= 64; sig++) {
		if (!(m >> (sig - 1) & 1))
			continue;
		out_f(o, "%s%s", sep, sig <= 31 ? signal_name(sig) + 3 : signal_name(sig));
		sep = " ";
	}
	out_f(o, "]");
}
