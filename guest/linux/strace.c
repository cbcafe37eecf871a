/* SPDX-License-Identifier: ISC */
/*
 * --strace: system calls as lines of text, in strace's manner.
 *
 *	[tid 3] openat(AT_FDCWD, "/etc/x", O_RDONLY|O_CLOEXEC) = 3
 *
 * The thread's number stands before it when there are several threads or processes.
 * A line is built in a buffer of the thread: the arguments that the call reads
 * when it enters, those that it writes and the result when it returns. A call
 * that may not return (exit, execve, rt_sigreturn) is printed when it enters.
 * Reading the app's memory for a trace never changes the outcome of the call.
 *
 * Which printer shows an argument comes from syscalls.tbl; names of flags are
 * in strace_names.c.
 */
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/stat.h>
#include <linux/uio.h>

#include "abi/boot.h"
#include "guest/linux/strace.h"
#include "guest/linux/table.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"

#define STRING_MAX 32 /* bytes shown of a string or buffer */
#define PATH_SHOWN 160

bool strace_on;

const char *syscall_name(u64 nr)
{
	for (unsigned i = 0; i < syscall_desc_count; i++)
		if (syscall_desc[i].nr == nr)
			return syscall_names + syscall_desc[i].name;
	return NULL;
}

static const struct syscall_desc *find(u64 nr)
{
	for (unsigned i = 0; i < syscall_desc_count; i++)
		if (syscall_desc[i].nr == nr)
			return &syscall_desc[i];
	return NULL;
}

void out_f(struct out *o, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (o->len >= sizeof(o->text) - 1)
		return;
	va_start(ap, fmt);
	n = vsnprintf(o->text + o->len, sizeof(o->text) - o->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		o->len = MIN(o->len + (u32)n, (u32)sizeof(o->text) - 1);
}

/* --- bytes and strings ----------------------------------------------------------- */

static void out_byte(struct out *o, u8 c)
{
	switch (c) {
	case '\n':
		out_f(o, "\\n");
		break;
	case '\t':
		out_f(o, "\\t");
		break;
	case '\r':
		out_f(o, "\\r");
		break;
	case '"':
	case '\\':
		out_f(o, "\\%c", c);
		break;
	default:
		if (c >= 32 && c < 127)
			out_f(o, "%c", c);
		else
			out_f(o, "\\%o", c);
	}
}

static void out_bytes(struct out *o, u64 addr, u64 len)
{
	u8 buf[STRING_MAX];
	u64 n = MIN(len, sizeof(buf));

	if (!addr) {
		out_f(o, "NULL");
		return;
	}
	if (copy_in(buf, (void *)addr, n)) {
		out_f(o, "0x%lx", addr);
		return;
	}
	out_f(o, "\"");
	for (u64 i = 0; i < n; i++)
		out_byte(o, buf[i]);
	out_f(o, len > n ? "\"..." : "\"");
}

static void out_string(struct out *o, u64 addr)
{
	u8 c;

	if (!addr) {
		out_f(o, "NULL");
		return;
	}
	if (get_user(c, (u8 *)addr)) {
		out_f(o, "0x%lx", addr);
		return;
	}
	out_f(o, "\"");
	for (u32 i = 0;; i++) {
		if (get_user(c, (u8 *)addr + i) || !c || i == PATH_SHOWN) {
			out_f(o, c && i == PATH_SHOWN ? "\"..." : "\"");
			return;
		}
		out_byte(o, c);
	}
}

static void out_strings(struct out *o, u64 vec)
{
	u64 p;

	out_f(o, "[");
	for (u32 i = 0; i < 16; i++) {
		if (get_user(p, (u64 *)vec + i) || !p)
			break;
		out_f(o, i ? ", " : "");
		if (i == 15)
			out_f(o, "...");
		else
			out_string(o, p);
	}
	out_f(o, "]");
}

/* --- structures --------------------------------------------------------------------- */

/* n pairs of 64-bit numbers, as timespec, itimerval and rlimit are. */
static void out_pairs(struct out *o, u64 addr, unsigned n, const char *first, const char *second)
{
	s64 v[4];

	if (!addr || copy_in(v, (void *)addr, n * 16)) {
		out_f(o, addr ? "0x%lx" : "NULL", addr);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		out_f(o, "%s{%s=%ld, %s=%ld}", i ? ", " : "", first, v[2 * i], second, v[2 * i + 1]);
}

static void out_sigset(struct out *o, u64 addr)
{
	sigmask_t m;

	if (!addr || get_user(m, (u64 *)addr)) {
		out_f(o, addr ? "0x%lx" : "NULL", addr);
		return;
	}
	out_mask(o, m);
}

static void out_sigaction(struct out *o, u64 addr)
{
	u64 v[4];

	if (!addr || copy_in(v, (void *)addr, sizeof(v))) {
		out_f(o, addr ? "0x%lx" : "NULL", addr);
		return;
	}
	if (v[0] < 2)
		out_f(o, v[0] ? "{sa_handler=SIG_IGN, sa_mask=" : "{sa_handler=SIG_DFL, sa_mask=");
	else
		out_f(o, "{sa_handler=0x%lx, sa_mask=", v[0]);
	out_mask(o, v[3]);
	out_f(o, ", sa_flags=");
	out_flags(o, SA_sigact, v[1]);
	out_f(o, "}");
}

static void out_sockaddr(struct out *o, u64 addr, u64 len)
{
	u8 b[112] = {0};

	len = MIN((u32)len, sizeof(b) - 1);
	if (!addr || len < 2 || copy_in(b, (void *)addr, len)) {
		out_f(o, addr ? "0x%lx" : "NULL", addr);
		return;
	}
	if (b[0] == 2 && len >= 8) {
		out_f(o, "{sa_family=AF_INET, sin_port=htons(%u), sin_addr=inet_addr(\"%u.%u.%u.%u\")}",
		      b[2] << 8 | b[3], b[4], b[5], b[6], b[7]);
	} else if (b[0] == 10 && len >= 24) {
		out_f(o, "{sa_family=AF_INET6, sin6_port=htons(%u), sin6_addr=", b[2] << 8 | b[3]);
		for (int i = 8; i < 24; i += 2)
			out_f(o, "%s%x", i > 8 ? ":" : "", b[i] << 8 | b[i + 1]);
		out_f(o, "}");
	} else if (b[0] == 1) {
		out_f(o, "{sa_family=AF_UNIX, sun_path=%s\"%s\"}", b[2] ? "" : "@",
		      b[2] ? (char *)b + 2 : (char *)b + 3);
	} else {
		out_f(o, "{sa_family=%u}", b[0] | b[1] << 8);
	}
}

static void out_iov(struct out *o, u64 addr, u64 n)
{
	struct iovec v;

	out_f(o, "[");
	for (u64 i = 0; i < MIN((u32)n, 4u); i++) {
		if (get_user(v, (struct iovec *)addr + i))
			break;
		out_f(o, "%s{iov_base=", i ? ", " : "");
		out_bytes(o, (u64)v.iov_base, v.iov_len);
		out_f(o, ", iov_len=%lu}", v.iov_len);
	}
	out_f(o, (u32)n > 4 ? ", ...]" : "]");
}

static void out_pollfds(struct out *o, u64 addr, u64 n)
{
	struct {
		s32 fd;
		s16 events, revents;
	} p;

	out_f(o, "[");
	for (u64 i = 0; i < MIN((u32)n, 6u); i++) {
		if (copy_in(&p, (char *)addr + 8 * i, sizeof(p)))
			break;
		out_f(o, "%s{fd=%d, events=", i ? ", " : "", p.fd);
		out_flags(o, SA_pollfds, (u16)p.events);
		out_f(o, "}");
	}
	out_f(o, (u32)n > 6 ? ", ...]" : "]");
}

static void out_epoll_event(struct out *o, u64 addr)
{
	struct {
		u32 events;
		u64 data;
	} __attribute__((packed)) e;

	if (!addr || copy_in(&e, (void *)addr, sizeof(e))) {
		out_f(o, addr ? "0x%lx" : "NULL", addr);
		return;
	}
	out_f(o, "{events=");
	out_flags(o, SA_epev, e.events);
	out_f(o, ", data=0x%lx}", e.data);
}

static void out_clone_args(struct out *o, u64 addr)
{
	u64 v[8];

	if (copy_in(v, (void *)addr, sizeof(v))) {
		out_f(o, "0x%lx", addr);
		return;
	}
	out_f(o, "{flags=");
	out_flags(o, SA_clonef, v[0]);
	out_f(o, ", child_tid=0x%lx, parent_tid=0x%lx, stack=0x%lx, stack_size=0x%lx, tls=0x%lx}", v[2], v[3],
	      v[5], v[6], v[7]);
}

/* --- one argument --------------------------------------------------------------------- */

static void out_plain(struct out *o, u8 type, u64 v)
{
	switch (type) {
	case SA_int:
	case SA_fd:
		out_f(o, "%d", (int)v);
		break;
	case SA_uint:
		out_f(o, "%u", (u32)v);
		break;
	case SA_long:
		out_f(o, "%ld", (s64)v);
		break;
	case SA_ulong:
	case SA_size:
		out_f(o, "%lu", v);
		break;
	case SA_oct:
	case SA_mode:
		out_f(o, "0%o", (u32)v);
		break;
	case SA_hex:
		out_f(o, v ? "0x%lx" : "0", v);
		break;
	case SA_dfd:
		if ((int)v == AT_FDCWD)
			out_f(o, "AT_FDCWD");
		else
			out_f(o, "%d", (int)v);
		break;
	case SA_ptr:
		out_f(o, v ? "0x%lx" : "NULL", v);
		break;
	default:
		out_flags(o, type, v);
	}
}

static void out_arg(struct out *o, u8 type, const u64 *a, unsigned i)
{
	u64 v = a[i], next = i < 5 ? a[i + 1] : 0;

	switch (type) {
	case SA_str:
		out_string(o, v);
		break;
	case SA_strv:
		out_strings(o, v);
		break;
	case SA_ibuf:
		out_bytes(o, v, next);
		break;
	case SA_ts:
		out_pairs(o, v, 1, "tv_sec", "tv_nsec");
		break;
	case SA_tv:
		out_pairs(o, v, 1, "tv_sec", "tv_usec");
		break;
	case SA_its:
		out_pairs(o, v, 2, "tv_sec", "tv_nsec");
		break;
	case SA_itv:
		out_pairs(o, v, 2, "tv_sec", "tv_usec");
		break;
	case SA_rl:
		out_pairs(o, v, 1, "rlim_cur", "rlim_max");
		break;
	case SA_sa:
		out_sockaddr(o, v, next);
		break;
	case SA_iov:
		out_iov(o, v, next);
		break;
	case SA_pollfds:
		out_pollfds(o, v, next);
		break;
	case SA_sigset:
		out_sigset(o, v);
		break;
	case SA_sigact:
		out_sigaction(o, v);
		break;
	case SA_epev:
		out_epoll_event(o, v);
		break;
	case SA_clargs:
		out_clone_args(o, v);
		break;
	default:
		out_plain(o, type, v);
	}
}

/* What the call has written, once it has returned. */
static void out_result_arg(struct out *o, u8 type, const u64 *a, unsigned i, s64 res)
{
	s32 fd[2];

	if (res < 0 || (type == SA_ots && res)) {
		out_plain(o, SA_ptr, a[i]);
		return;
	}
	switch (type) {
	case SA_obuf:
		out_bytes(o, a[i], (u64)res);
		break;
	case SA_ostr:
		out_string(o, a[i]);
		break;
	case SA_ots:
		out_pairs(o, a[i], 1, "tv_sec", "tv_nsec");
		break;
	default: /* SA_fdpair */
		if (copy_in(fd, (void *)a[i], sizeof(fd)))
			out_plain(o, SA_ptr, a[i]);
		else
			out_f(o, "[%d, %d]", fd[0], fd[1]);
	}
}

static bool written_by_call(u8 type)
{
	return type == SA_obuf || type == SA_ostr || type == SA_ots || type == SA_fdpair;
}

/* --- the line ---------------------------------------------------------------------------- */

static void out_args(struct out *o, const struct syscall_desc *d, const struct regs *r, unsigned from,
		     bool returned, s64 res)
{
	const u64 a[6] = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};

	for (unsigned i = from; i < 6 && d->arg[i] != SA_none; i++) {
		bool out = written_by_call(d->arg[i]);

		if (out && !returned) {
			o->next_arg = i; /* the rest waits for the result */
			return;
		}
		if (i)
			out_f(o, ", ");
		/* open's mode means nothing without O_CREAT */
		if (d->arg[i] == SA_mode && i && d->arg[i - 1] == SA_oflags &&
		    !(a[i - 1] & (O_CREAT | 020000000))) {
			o->len -= 2;
			continue;
		}
		if (out)
			out_result_arg(o, d->arg[i], a, i, res);
		else
			out_arg(o, d->arg[i], a, i);
	}
	o->next_arg = 6;
}

static void out_result(struct out *o, u8 type, s64 res)
{
	if (res < 0 && res > -4096) {
		const char *name = errno_name((int)-res);

		if (name)
			out_f(o, " = -1 %s", name);
		else
			out_f(o, " = -1 (error %d)", (int)-res);
	} else if (type == SA_int) {
		out_f(o, " = %ld", res);
	} else {
		out_f(o, " = ");
		out_plain(o, type, (u64)res);
	}
}

static bool may_not_return(u64 nr)
{
	return nr == 15 || nr == 59 || nr == 60 || nr == 231 || nr == 322;
}

static void print_line(const char *text)
{
	struct thread *t = current;

	if (t->proc->n_threads > 1 || n_living)
		log_raw("[tid %d] %s", t->tid, text);
	else
		log_raw("%s", text);
}

static void print(struct out *o)
{
	o->text[o->len] = 0;
	print_line(o->text);
	o->len = 0;
}

void strace_enter(const struct regs *r)
{
	struct thread *t = current;
	struct out *o = t->strace_buf;
	const struct syscall_desc *d = find((u32)r->orig_rax);

	if (!o)
		o = t->strace_buf = kmalloc(sizeof(*o));
	if (!o)
		return;
	o->len = 0;
	o->next_arg = 6;
	if (!d) {
		out_f(o, "syscall_%u(0x%lx, 0x%lx, 0x%lx", (u32)r->orig_rax, r->rdi, r->rsi, r->rdx);
		return;
	}
	out_f(o, "%s(", syscall_names + d->name);
	out_args(o, d, r, 0, false, 0);
	if (may_not_return(d->nr)) {
		out_f(o, ")");
		print(o);
	}
}

void strace_exit(const struct regs *r, s64 res)
{
	struct out *o = current->strace_buf;
	const struct syscall_desc *d = find((u32)r->orig_rax);

	if (!o ||
	    r->orig_rax == ~0ull) /* rt_sigreturn: the registers are those of the code that was interrupted */
		return;
	if (!d) {
		out_f(o, ")");
		out_result(o, SA_int, res);
		print(o);
		return;
	}
	if (may_not_return(d->nr)) {
		if (res < 0) {
			out_f(o, "%s(...)", syscall_names + d->name);
			out_result(o, d->result, res);
			print(o);
		}
		return;
	}
	out_args(o, d, r, o->next_arg, true, res);
	out_f(o, ")");
	out_result(o, d->result, res);
	print(o);
}

void strace_signal(int sig, const siginfo_t *info)
{
	char line[128];

	if (!strace_on)
		return;
	if (sig == SIGCHLD)
		snprintf(line, sizeof(line), "--- %s {si_code=%d, si_pid=%d, si_status=%d} ---",
			 signal_name(sig), info->si_code, info->si_pid, info->si_status);
	else
		snprintf(line, sizeof(line), "--- %s {si_code=%d, si_addr=0x%lx} ---", signal_name(sig),
			 info->si_code, (u64)info->si_addr);
	print_line(line);
}
