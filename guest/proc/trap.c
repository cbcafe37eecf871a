/* SPDX-License-Identifier: ISC */
/*
 * Traps of the app: a page fault that is mended, or a signal with the details
 * that Linux gives. Runs on the thread's kernel stack, as a system call does;
 * traps of the library OS itself end elsewhere (arch/).
 */
#include "guest/arch/x86_64/regs.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"

#define FLAGS_TF    0x100ull
#define MXCSR_MASKS 7 /* exception mask bits stand this much above the flags */

/* What a floating-point exception was: the first one that is raised and not masked. */
static int fp_code(u32 raised, u32 masked)
{
	u32 e = raised & ~masked;

	if (e & 1)
		return FPE_FLTINV;
	if (e & 4)
		return FPE_FLTDIV;
	if (e & 8)
		return FPE_FLTOVF;
	if (e & (2 | 16))
		return FPE_FLTUND;
	return e & 32 ? FPE_FLTRES : FPE_FLTUNK;
}

static int fp_trap_code(int vector)
{
	struct thread *t = current;
	const u8 *x = t->xstate;
	u32 mxcsr;

	if (!t->xstate_saved)
		arch_xstate_save(t);
	if (vector == TRAP_MF)
		return fp_code(*(const u16 *)(x + 2), *(const u16 *)x);
	mxcsr = *(const u32 *)(x + 24);
	return fp_code(mxcsr, mxcsr >> MXCSR_MASKS);
}

static void page_fault(struct regs *r, u64 error, u64 addr)
{
	struct thread *t = current;
	int res;

	if (!t->proc->as) {
		signal_force(SIGSEGV, SEGV_MAPERR, addr);
		return;
	}
	t->proc->minflt++;
	res = mm_fault(t->proc->as, addr, (u32)error);
	if (!res)
		return;
	res = -res;
	t->trap_no = TRAP_PF;
	t->trap_err = error | PF_USER;
	t->trap_addr = addr;
	if (res >> 8 != SIGKILL)
		signal_force(res >> 8, res & 0xff, addr);
}

static void fault_signal(const struct regs *r, int vector, u64 error, int sig, int code, u64 addr)
{
	struct thread *t = current;

	t->trap_no = (u64)vector;
	t->trap_err = error;
	signal_force(sig, code, addr);
}

void trap_from_user(struct regs *r, int vector, u64 error, u64 addr)
{
	r->orig_rax = ~0ull;
	switch (vector) {
	case TRAP_PF:
		page_fault(r, error, addr);
		break;
	case TRAP_KICK:
		sched_tick();
		break;
	case TRAP_DE:
		fault_signal(r, vector, 0, SIGFPE, FPE_INTDIV, r->rip);
		break;
	case TRAP_DB:
		r->rflags &= ~FLAGS_TF;
		fault_signal(r, vector, 0, SIGTRAP, TRAP_TRACE, r->rip);
		break;
	case TRAP_BP:
		fault_signal(r, vector, 0, SIGTRAP, SI_KERNEL, 0);
		break;
	case TRAP_UD:
		fault_signal(r, vector, 0, SIGILL, ILL_ILLOPN, r->rip);
		break;
	case TRAP_MF:
	case TRAP_XF:
		fault_signal(r, vector, 0, SIGFPE, fp_trap_code(vector), r->rip);
		break;
	case TRAP_AC:
		fault_signal(r, vector, 0, SIGBUS, BUS_ADRALN, 0);
		break;
	default: /* #OF, #BR, #NP, #SS, #GP ... */
		fault_signal(r, vector, error, SIGSEGV, SI_KERNEL, 0);
		break;
	}
}
