/* SPDX-License-Identifier: ISC */
/*
 * From a register frame to the handler of a system call and back.
 *
 * This is the hottest code of the library OS: one counter, one load, one
 * indirect call, one store. Whatever is rare (a trace, an unknown number, a
 * result that asks for a restart) is kept out of line.
 *
 * A handler's result between -ERESTART_RESTARTBLOCK and -ERESTARTSYS is not for
 * the app: proc/signal.c turns it into EINTR or a restart on the way out. So
 * that the way out looks, signal_pending is set here.
 */
#include "abi/boot.h"
#include "guest/linux/table.h"
#include "guest/mm/mm.h"
#include "guest/proc/chaos.h"

bool dispatch_watched; /* calls are traced, or disturbed */

/* One log line for each number that has no handler: bits of the numbers told. */
static u64 missing_told[SYSCALL_MAX / 64];

/* Log once that a call is not there. */
s64 syscall_missing(void)
{
	u32 nr = (u32)current_regs()->orig_rax;
	u64 *word, bit;
	const char *name;

	if (nr == BOOT_NR_MAIN_MARK && current->proc->as->main_entry)
		return exec_note_main();
	if (nr >= SYSCALL_MAX)
		return -ENOSYS;
	word = &missing_told[nr / 64];
	bit = 1ull << (nr % 64);
	if (*word & bit)
		return -ENOSYS;
	*word |= bit;
	name = syscall_name(nr);
	if (name)
		log_line(LOG_INFO, "system call %s (%u) is not supported: ENOSYS", name, nr);
	else
		log_line(LOG_INFO, "system call %u is not known: ENOSYS", nr);
	return -ENOSYS;
}

static __attribute__((noinline, cold)) s64 dispatch_traced(struct regs *r, syscall_fn *fn)
{
	s64 res;

	if (chaos_on) {
		chaos_syscall();
		if (!strace_on)
			return fn(r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
	}
	if ((u32)r->orig_rax == BOOT_NR_MAIN_MARK) /* ours, not the program's */
		return fn(r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
	strace_enter(r);
	res = fn(r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
	strace_exit(r, res);
	return res;
}

/*
 * On one of several CPUs, before the lock is taken. True: the call is done, and if there is no kick the app can go on at once.
 * Nothing is changed when it is false.
 */
bool syscall_try_free(struct regs *r)
{
	u32 nr = (u32)r->orig_rax;
	s64 res;

	if (nr >= SYSCALL_MAX || !syscall_free[nr] || unlikely(strace_on))
		return false;
	if (unlikely(chaos_on))
		chaos_window();
	res = syscall_table[nr](r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
	if (res == -ENEEDLOCK || res == -EFAULT)
		return false;
	this_cpu()->free_syscalls++;
	r->rax = (u64)res;
	return true;
}

/* Entry from arch/entry.S; on the current thread's kernel stack, may sleep. */
void syscall_dispatch(struct regs *r)
{
	u32 nr = (u32)r->orig_rax;
	syscall_fn *fn = syscall_table[likely(nr < SYSCALL_MAX) ? nr : SYSCALL_MAX - 1];
	s64 res;

	stats->syscalls++;
	if (unlikely(dispatch_watched))
		res = dispatch_traced(r, fn);
	else
		res = fn(r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
	if (unlikely((u64)(res + ERESTART_RESTARTBLOCK) <= ERESTART_RESTARTBLOCK - ERESTARTSYS))
		current->signal_pending = true;
	r->rax = (u64)res;
}
