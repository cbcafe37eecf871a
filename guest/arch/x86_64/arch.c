/* SPDX-License-Identifier: ISC */
/*
 * The C half of arch/: new threads' first stack frame, XSAVE areas, exceptions
 * in the library OS, and the asserts that hold the layouts that are known as numbers.
 *
 * Exceptions in the library OS's text. A page fault on the app's memory (a
 * user copy) is given to mm_fault(); if it cannot help, the exception table
 * says where to go on. Everything else is our bug and ends the instance. This runs
 * on the exception stack, of which there is one: a second exception inside
 * overwrites the first, which does no harm because it can only be a panic.
 */
#include "guest/arch/x86_64/arch.h"
#include "abi/boot.h"
#include "abi/libos.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/proc/smp.h"

/* What assembly, the monitor and patched sites know as numbers; all else comes from tools/asm-offsets.c. */
#define HOLD(type, member, value) _Static_assert(offsetof(type, member) == (value), #type "." #member)
HOLD(struct cpu, self, BOOT_CPU_SELF);
HOLD(struct cpu, thread, 8); /* current_thread() */
HOLD(struct cpu, syscall_entry, 16);
HOLD(struct cpu, exc_stack_top, BOOT_CPU_EXC_STACK);
HOLD(struct cpu, stack_guard, BOOT_CPU_GUARD);
HOLD(struct cpu, shared, 120); /* tests/hostile/guest.c */
HOLD(struct cpu, id, BOOT_CPU_ID);
_Static_assert(sizeof(struct cpu) <= 2048, "the page's end takes exception frames");
/* entry.S pushes and pops the frame in this order */
HOLD(struct regs, r11, 48);
HOLD(struct regs, rcx, 88);
HOLD(struct regs, rip, 128);
_Static_assert(sizeof(struct regs) == 168, "regs");
_Static_assert(TRAP_KICK == 256, "entry.S");

u64 xstate_mask = 3;
bool xstate_has_opt;

extern char thread_first_switch[];
void xstate_refused(struct thread *t);

void patch_syscall_site(struct regs *r) __attribute__((weak));

void arch_init(void)
{
	xstate_mask = boot->xcr0 ? boot->xcr0 : 3;
	xstate_has_opt = boot->cpu_features[12] & 1; /* cpuid 0xd.1 eax bit 0 */
}

size_t arch_xstate_size(void)
{
	return ALIGN_UP(MAX(boot->xstate_size, 576ul), 64);
}

void arch_xstate_init(void *area)
{
	memset(area, 0, arch_xstate_size());
	*(u16 *)area = 0x37f; /* x87 control word */
	*(u32 *)((char *)area + 24) = 0x1f80; /* MXCSR: read even where XSTATE_BV is clear */
	*(u32 *)((char *)area + 28) = 0xffff;
}

/* XRSTOR refused what a signal handler left in its frame: as Linux, the thread gets SIGSEGV. */
void xstate_refused(struct thread *t)
{
	arch_xstate_init(t->xstate);
	signal_force(SIGSEGV, SI_KERNEL, 0);
}

void arch_thread_setup(struct thread *t, void (*fn)(void *), void *arg)
{
	/* Below a struct regs, which a thread of the app has at the top. 16-byte aligned after `ret`. */
	u64 *sp = (u64 *)ALIGN_UP(t->kstack_top - sizeof(struct regs) - 32, 16) - 2;

	*--sp = (u64)thread_first_switch;
	*--sp = 0; /* rbx */
	*--sp = 0; /* rbp */
	*--sp = (u64)fn; /* r12 */
	*--sp = (u64)arg; /* r13 */
	*--sp = 0; /* r14 */
	*--sp = 0; /* r15 */
	t->kstack_sp = (u64)sp;
}

void syscall_trapped(struct regs *r)
{
	stats->syscall_traps++;
	if (patch_syscall_site)
		patch_syscall_site(r);
	syscall_dispatch(r);
}

struct ex_entry {
	s32 from, to, fixup; /* each relative to its own address */
};
extern const struct ex_entry extable_start[], extable_end[];

static u64 ex_address(const s32 *rel)
{
	return (u64)rel + (s64)*rel;
}

/* Where to go on after a fault at rip that no mapping cures; 0: nowhere. */
static u64 extable_fixup(u64 rip)
{
	for (const struct ex_entry *e = extable_start; e < extable_end; e++)
		if (rip >= ex_address(&e->from) && rip < ex_address(&e->to))
			return ex_address(&e->fixup);
	return 0;
}

void exception_in_libos(struct regs *r, int vector, u64 error, u64 addr)
{
	u64 fixup = extable_fixup(r->rip);

	if (fixup) {
		/* Without the lock nothing is mended: the call is made again with it. */
		if (!without_lock() && vector == TRAP_PF && addr < BOOT_TASK_SIZE && current &&
		    current->proc && current->proc->as &&
		    mm_fault(current->proc->as, addr, error | PF_USER) == 0)
			return;
		r->rip = fixup;
		return;
	}
	panic("exception %d (error %#lx, address %#lx) in the library OS at text+%#lx, rsp %#lx, rax %#lx "
	      "rdi %#lx",
	      vector, error, addr, r->rip - (u64)libos_text_start, r->rsp, r->rax, r->rdi);
}
