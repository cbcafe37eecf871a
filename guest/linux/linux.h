/* SPDX-License-Identifier: ISC */
/*
 * The system-call table. guest/linux/syscalls.tbl is the one source: number,
 * name, argument types (for --strace). tools/gen-syscalls makes the dispatch
 * table and the decoder from it. A handler is
 *
 *	SYSCALL(openat, int, dirfd, const char *, path, int, flags, u32, mode) { ... return fd or -errno; }
 *
 * in the file of its family (guest/linux/sys_<family>.c, thin: checks and
 * copies arguments, then calls vfs/, mm/, proc/ or net/). A name in the table
 * without a handler gives ENOSYS and one log line.
 */
#ifndef COWBELL_GUEST_LINUX_H
#define COWBELL_GUEST_LINUX_H

#include <asm-generic/errno.h>

#include "guest/base.h"

typedef s64 syscall_fn(u64, u64, u64, u64, u64, u64);

#define SC_CAST_(t, v) ((t)(v))
#define SYSCALL0(name)                                                                                       \
	static s64 do_##name(void);                                                                          \
	s64 sys_##name(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);                                            \
	s64 sys_##name(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)                                             \
	{                                                                                                    \
		(void)a, (void)b, (void)c, (void)d, (void)e, (void)f;                                        \
		return do_##name();                                                                          \
	}                                                                                                    \
	static s64 do_##name(void)
#define SC_DEF_(name, params, call)                                                                          \
	static s64 do_##name params;                                                                         \
	s64 sys_##name(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);                                            \
	s64 sys_##name(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)                                             \
	{                                                                                                    \
		(void)a, (void)b, (void)c, (void)d, (void)e, (void)f;                                        \
		return do_##name call;                                                                       \
	}                                                                                                    \
	static s64 do_##name params
#define SYSCALL1(name, t1, n1)	       SC_DEF_(name, (t1 n1), (SC_CAST_(t1, a)))
#define SYSCALL2(name, t1, n1, t2, n2) SC_DEF_(name, (t1 n1, t2 n2), (SC_CAST_(t1, a), SC_CAST_(t2, b)))
#define SYSCALL3(name, t1, n1, t2, n2, t3, n3)                                                               \
	SC_DEF_(name, (t1 n1, t2 n2, t3 n3), (SC_CAST_(t1, a), SC_CAST_(t2, b), SC_CAST_(t3, c)))
#define SYSCALL4(name, t1, n1, t2, n2, t3, n3, t4, n4)                                                       \
	SC_DEF_(name, (t1 n1, t2 n2, t3 n3, t4 n4),                                                          \
		(SC_CAST_(t1, a), SC_CAST_(t2, b), SC_CAST_(t3, c), SC_CAST_(t4, d)))
#define SYSCALL5(name, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5)                                               \
	SC_DEF_(name, (t1 n1, t2 n2, t3 n3, t4 n4, t5 n5),                                                   \
		(SC_CAST_(t1, a), SC_CAST_(t2, b), SC_CAST_(t3, c), SC_CAST_(t4, d), SC_CAST_(t5, e)))
#define SYSCALL6(name, t1, n1, t2, n2, t3, n3, t4, n4, t5, n5, t6, n6)                                       \
	SC_DEF_(name, (t1 n1, t2 n2, t3 n3, t4 n4, t5 n5, t6 n6),                                            \
		(SC_CAST_(t1, a), SC_CAST_(t2, b), SC_CAST_(t3, c), SC_CAST_(t4, d), SC_CAST_(t5, e),        \
		 SC_CAST_(t6, f)))

#endif
