/* SPDX-License-Identifier: ISC */
/*
 * What arch/ offers to the rest of the library OS beside proc.h's contract:
 * the exception table, XSAVE areas, the limits of the library OS's text.
 */
#ifndef COWBELL_GUEST_ARCH_H
#define COWBELL_GUEST_ARCH_H

/* Exception stack of a CPU > 0 on the process platform: size and alignment. */
#define PROCESS_SIGNAL_STACK 0x4000

#ifdef __ASSEMBLER__
/*
 * A fault at an instruction in [from, to) that mm_fault() cannot mend goes on
 * at `fixup`, with all registers as they were at the fault. 12 bytes an entry.
 */
/* clang-format off */
.macro EX_TABLE from, to, fixup
	.pushsection .extable, "a", @progbits
	.balign 4
	.long \from - ., \to - ., \fixup - .
	.popsection
.endm
/* clang-format on */
#else
#include "guest/arch/x86_64/regs.h"
#include "guest/base.h"

struct thread;

/* The same for inline assembly; labels as strings, "1b" and so on. */
#define EX_TABLE(from, to, fixup)                                                                            \
	".pushsection .extable, \"a\", @progbits\n.balign 4\n.long " from " - ., " to " - ., " fixup         \
	" - .\n.popsection\n"

extern char libos_text_start[], libos_text_end[];
static inline bool in_libos_text(u64 rip)
{
	return rip - (u64)libos_text_start < (u64)(libos_text_end - libos_text_start);
}

/*
 * An exception whose RIP is in the library OS (exception.c). Runs on the exception
 * stack, never sleeps; returns when r can be resumed, else panics.
 * Both platforms end here: kvm from entry.S, process from its signal handler.
 */
void exception_in_libos(struct regs *r, int vector, u64 error, u64 addr);

/* An unpatched `syscall` site: counts, lets patch.c rewrite the site, then syscall_dispatch(). */
void syscall_trapped(struct regs *r);

/*
 * Resume r completely, wherever it lies (kernel or exception stack); r may be the
 * app's or the library OS's. No work is looked for. For exception handlers.
 */
_Noreturn void arch_resume(struct regs *r);

/* Bytes of an XSAVE area, to be allocated 64-byte aligned; and its initial contents (as after execve). */
size_t arch_xstate_size(void);
void arch_xstate_init(void *area);
void arch_init(void);

/* What C relies on over a call, and fs base; entry.S and switch.S know the order. */
struct arch_frozen {
	u64 rbx, rbp, r12, r13, r14, r15, rsp, rip, fs_base;
};
/* 0; and once more 1, when libos_resume brings it back in a restored instance. The caller's frame must still be there. */
int arch_freeze(struct arch_frozen *f) __attribute__((returns_twice));

extern u64 xstate_mask; /* components that XSAVE and XRSTOR handle (boot->xcr0) */
#endif
#endif
