/* SPDX-License-Identifier: ISC */
/*
 * The frame of a signal handler on the app's stack, as Linux x86-64 lays it
 * out, and the way back from it:
 *
 *	high	[128 bytes red zone]
 *		XSAVE image, 64-byte aligned; sw_reserved in its bytes 464..511
 *		says what is in it; FP_XSTATE_MAGIC2 follows it
 *		siginfo				\
 *		ucontext			 } struct rt_sigframe
 *	low	address of the restorer		/   rsp: 8 below a multiple of 16
 *
 * Everything read back by rt_sigreturn may have been changed by the app. It can
 * name any register contents that an app may have; what it could not have (a
 * code address outside of its half, reserved bits of flags, MXCSR or the XSAVE
 * header) is refused or masked, so that the library OS does not fault on it.
 */
#include <asm/sigcontext.h>
#include <asm/signal.h>
#include <asm/ucontext.h>
#include <linux/signal.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"

#define RED_ZONE       128
#define FLAGS_USER     0x50dd5ull /* CF PF AF ZF SF TF DF OF RF AC: what an app may set */
#define FLAGS_TF       0x100ull
#define FLAGS_DF       0x400ull
#define FLAGS_RF       0x10000ull
#define FLAGS_FIXED    0x202ull
#define UC_SS_BITS     6 /* UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS */
#define XSAVE_HDR      512
#define XSAVE_MIN      576
#define MXCSR_MASK_DEF 0xffbfu
#define AUTODISARM     (1u << 31)

struct rt_sigframe {
	u64 pretcode;
	struct ucontext uc;
	siginfo_t info;
};

_Static_assert(sizeof(struct rt_sigframe) == 440, "the layout that debuggers and unwinders know");
_Static_assert(sizeof(struct ucontext) == 304, "layout");

static u64 fp_size(void)
{
	return boot->xstate_size + FP_XSTATE_MAGIC2_SIZE;
}

u64 sigframe_min_size(void)
{
	return sizeof(struct rt_sigframe) + fp_size() + 64 + 16 + RED_ZONE;
}

/* --- the alternate stack --------------------------------------------------------- */

static bool on_altstack(const struct thread *t, u64 sp)
{
	u64 base = (u64)t->altstack.ss_sp;

	if (t->altstack.ss_flags & (int)AUTODISARM)
		return false;
	return t->altstack.ss_size && sp > base && sp - base <= t->altstack.ss_size;
}

int altstack_flags(const struct thread *t, u64 sp)
{
	if (!t->altstack.ss_size)
		return SS_DISABLE;
	return on_altstack(t, sp) ? SS_ONSTACK : 0;
}

/* --- push -------------------------------------------------------------------------- */

/* Where the frame goes; 0 if it would leave the alternate stack that the app is on. */
static u64 place(const struct regs *r, const struct ksigaction *ka, u64 *fp)
{
	struct thread *t = current;
	bool was_on = on_altstack(t, r->rsp), entering = false;
	u64 sp = r->rsp - RED_ZONE;

	if ((ka->flags & SA_ONSTACK) && !was_on && t->altstack.ss_size) {
		sp = (u64)t->altstack.ss_sp + t->altstack.ss_size;
		entering = true;
	}
	*fp = (sp - fp_size()) & ~63ull;
	sp = ((*fp - sizeof(struct rt_sigframe)) & ~15ull) - 8;
	if ((was_on || entering) && sp - (u64)t->altstack.ss_sp > t->altstack.ss_size)
		return 0;
	return sp;
}

static int push_xstate(u64 fp)
{
	struct thread *t = current;
	u32 magic2 = FP_XSTATE_MAGIC2;
	struct _fpx_sw_bytes sw = {
		.magic1 = FP_XSTATE_MAGIC1,
		.extended_size = (u32)fp_size(),
		.xfeatures = boot->xcr0,
		.xstate_size = (u32)boot->xstate_size,
	};

	if (!t->xstate_saved)
		arch_xstate_save(t);
	if (copy_out((void *)fp, t->xstate, boot->xstate_size) ||
	    copy_out((void *)(fp + 464), &sw, sizeof(sw)) ||
	    put_user(magic2, (u32 *)(fp + boot->xstate_size)))
		return -EFAULT;
	return 0;
}

static void fill_context(struct sigcontext *sc, const struct regs *r, u64 fp, sigmask_t old)
{
	struct thread *t = current;

	sc->r8 = r->r8, sc->r9 = r->r9, sc->r10 = r->r10, sc->r11 = r->r11;
	sc->r12 = r->r12, sc->r13 = r->r13, sc->r14 = r->r14, sc->r15 = r->r15;
	sc->rdi = r->rdi, sc->rsi = r->rsi, sc->rbp = r->rbp, sc->rbx = r->rbx;
	sc->rdx = r->rdx, sc->rax = r->rax, sc->rcx = r->rcx, sc->rsp = r->rsp;
	sc->rip = r->rip;
	sc->eflags = r->rflags;
	sc->cs = 0x33;
	sc->ss = 0x2b;
	sc->err = t->trap_err;
	sc->trapno = t->trap_no;
	sc->cr2 = t->trap_addr;
	sc->oldmask = old;
	sc->fpstate = (void *)fp;
}

bool sigframe_push(struct regs *r, int sig, const siginfo_t *info, const struct ksigaction *ka, sigmask_t old)
{
	struct thread *t = current;
	struct rt_sigframe f;
	u64 fp, sp = place(r, ka, &fp);

	if (!sp || !(ka->flags & SA_RESTORER) || push_xstate(fp))
		return false;
	memset(&f, 0, sizeof(f));
	f.pretcode = (u64)ka->restorer;
	f.uc.uc_flags = UC_FP_XSTATE | UC_SS_BITS;
	f.uc.uc_stack = t->altstack;
	f.uc.uc_stack.ss_flags = altstack_flags(t, r->rsp) | (t->altstack.ss_flags & (int)AUTODISARM);
	f.uc.uc_sigmask = old;
	f.info = *info;
	fill_context(&f.uc.uc_mcontext, r, fp, old);
	if (copy_out((void *)sp, &f, sizeof(f)))
		return false;
	if (t->altstack.ss_flags & (int)AUTODISARM)
		t->altstack = (stack_t){.ss_flags = SS_DISABLE};

	r->rdi = (u64)sig;
	r->rsi = sp + offsetof(struct rt_sigframe, info);
	r->rdx = sp + offsetof(struct rt_sigframe, uc);
	r->rax = 0;
	r->rip = (u64)ka->handler;
	r->rsp = sp;
	r->rflags &= ~(FLAGS_TF | FLAGS_DF | FLAGS_RF);
	xstate_reset(t);
	return true;
}

/* --- pop ----------------------------------------------------------------------------- */

/* Make a user's XSAVE image one that XRSTOR accepts whatever it holds. */
static void sanitise_xstate(u8 *x, bool extended)
{
	u64 *hdr = (u64 *)(x + XSAVE_HDR);
	u32 mask = *(u32 *)(x + 28);

	hdr[0] = extended ? hdr[0] & boot->xcr0 : 3;
	memset(hdr + 1, 0, 56);
	*(u32 *)(x + 24) &= mask ? mask : MXCSR_MASK_DEF;
}

static int pop_xstate(u64 fp)
{
	struct thread *t = current;
	struct _fpx_sw_bytes sw;
	u8 *x = t->xstate;
	u32 magic2 = 0, mask;
	bool extended;

	if (!t->xstate_saved)
		arch_xstate_save(t); /* for its MXCSR mask */
	mask = *(u32 *)(x + 28);
	xstate_reset(t);
	if (!fp)
		return 0;
	if (copy_in(&sw, (void *)(fp + 464), sizeof(sw)))
		return -EFAULT;
	extended = sw.magic1 == FP_XSTATE_MAGIC1 && sw.xstate_size >= XSAVE_MIN &&
		   sw.xstate_size <= boot->xstate_size && sw.extended_size >= sw.xstate_size;
	if (extended && get_user(magic2, (u32 *)(fp + sw.xstate_size)))
		return -EFAULT;
	extended = extended && magic2 == FP_XSTATE_MAGIC2;
	if (copy_in(x, (void *)fp, extended ? sw.xstate_size : 512)) {
		xstate_reset(t);
		return -EFAULT;
	}
	*(u32 *)(x + 28) = mask;
	sanitise_xstate(x, extended);
	if (extended)
		*(u64 *)(x + XSAVE_HDR) &= sw.xfeatures;
	return 0;
}

static void pop_context(struct regs *r, const struct sigcontext *sc)
{
	r->r8 = sc->r8, r->r9 = sc->r9, r->r10 = sc->r10, r->r11 = sc->r11;
	r->r12 = sc->r12, r->r13 = sc->r13, r->r14 = sc->r14, r->r15 = sc->r15;
	r->rdi = sc->rdi, r->rsi = sc->rsi, r->rbp = sc->rbp, r->rbx = sc->rbx;
	r->rdx = sc->rdx, r->rax = sc->rax, r->rcx = sc->rcx, r->rsp = sc->rsp;
	r->rip = sc->rip;
	r->rflags = (sc->eflags & FLAGS_USER) | FLAGS_FIXED;
	r->orig_rax = ~0ull;
}

int sigframe_pop(struct regs *r)
{
	struct thread *t = current;
	struct rt_sigframe f;

	if (copy_in(&f, (void *)(r->rsp - 8), sizeof(f)))
		return -EFAULT;
	if (f.uc.uc_mcontext.rip >= BOOT_TASK_SIZE)
		return -EFAULT;
	if (pop_xstate((u64)f.uc.uc_mcontext.fpstate))
		return -EFAULT;
	pop_context(r, &f.uc.uc_mcontext);
	signal_set_blocked(f.uc.uc_sigmask);
	/* As sigaltstack() would, but an invalid one is ignored. */
	if (!on_altstack(t, r->rsp)) {
		if (f.uc.uc_stack.ss_flags & SS_DISABLE)
			t->altstack = (stack_t){.ss_flags = SS_DISABLE};
		else if (f.uc.uc_stack.ss_size >= MINSIGSTKSZ)
			t->altstack = f.uc.uc_stack;
		t->altstack.ss_flags &= (int)AUTODISARM | SS_DISABLE;
	}
	return 0;
}

/*
 * May the call be made again by going back two bytes? True at a `syscall`
 * instruction, and at the two-byte jump that has taken its place.
 */
bool sigframe_restartable(const struct regs *r)
{
	u8 insn[2];

	if (copy_in(insn, (void *)(r->rip - 2), sizeof(insn)))
		return false;
	return (insn[0] == 0x0f && insn[1] == 0x05) || insn[0] == 0xeb;
}
