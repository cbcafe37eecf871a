/* SPDX-License-Identifier: ISC */
/*
 * The table that tools/gen-syscalls makes from syscalls.tbl, and what
 * dispatch.c and strace.c share about it.
 */
#ifndef COWBELL_GUEST_LINUX_TABLE_H
#define COWBELL_GUEST_LINUX_TABLE_H

#include "guest/linux/linux.h"

#define SYSCALL_MAX 512 /* slots; a power of two, so that one comparison guards the load */

/* How --strace shows an argument or a result: the words of syscalls.tbl. */
enum syscall_arg {
	SA_none,
	SA_int,
	SA_uint,
	SA_long,
	SA_ulong,
	SA_size,
	SA_hex,
	SA_oct,
	SA_ptr,
	SA_fd,
	SA_dfd,
	SA_fdpair,
	SA_str,
	SA_strv,
	SA_ostr,
	SA_ibuf,
	SA_obuf,
	SA_ts,
	SA_tv,
	SA_its,
	SA_itv,
	SA_rl,
	SA_ots,
	SA_sa,
	SA_iov,
	SA_pollfds,
	SA_sigset,
	SA_sigact,
	SA_epev,
	SA_clargs,
	SA_oflags,
	SA_mode,
	SA_accm,
	SA_atf,
	SA_prot,
	SA_mapf,
	SA_madv,
	SA_whence,
	SA_sig,
	SA_how,
	SA_clock,
	SA_futex,
	SA_clonef,
	SA_dom,
	SA_stype,
	SA_msgf,
	SA_sol,
	SA_shut,
	SA_rlim,
	SA_prctl,
	SA_ioctl,
	SA_fcntl,
	SA_epop,
};

struct syscall_desc {
	u16 nr;
	u16 name; /* offset in syscall_names */
	u8 result;
	u8 arg[6];
};

extern const bool syscall_free[SYSCALL_MAX]; /* may be tried without the lock */
extern syscall_fn *const syscall_table[SYSCALL_MAX];
extern const unsigned syscall_count;
extern const struct syscall_desc syscall_desc[];
extern const unsigned syscall_desc_count;
extern const char syscall_names[];

s64 syscall_missing(void); /* dispatch.c: ENOSYS and one log line per number */
const char *syscall_name(u64 nr); /* strace.c; NULL if there is no such number */

/* strace.c: what to print before the call, and after it. */
struct regs;
extern bool strace_on;
void strace_enter(const struct regs *r);
void strace_exit(const struct regs *r, s64 result);

#endif
