/* SPDX-License-Identifier: ISC */
/*
 * From one thread to another: kernel stack, fs base, vector registers.
 *
 * Vector registers belong to the app and stay in the CPU while its thread is in
 * the library OS. They are saved here, when another thread gets the CPU, and
 * loaded only on that thread's way back to the app (entry.S), so a thread that
 * never goes back costs nothing. XSAVE and XSAVEOPT write the standard format,
 * which signal frames and snapshots use as it is.
 */
#include "gen/asm-offsets.h"

	.text

/* void arch_switch(struct thread *prev, struct thread *next) */
	.balign 16
	.globl arch_switch
	.hidden arch_switch
arch_switch:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, THREAD_KSTACK_SP(%rdi)
	rdfsbase %rax
	mov %rax, THREAD_FS_BASE(%rdi)
	mov THREAD_XSTATE(%rdi), %rcx
	test %rcx, %rcx			/* a thread of the library OS has none */
	jz 2f
	cmpq $0, THREAD_XSTATE_SAVED(%rdi)
	jne 2f
	movq $1, THREAD_XSTATE_SAVED(%rdi)
	mov xstate_mask(%rip), %eax
	mov 4+xstate_mask(%rip), %edx
	cmpb $0, xstate_has_opt(%rip)
	je 1f
	xsaveopt64 (%rcx)
	jmp 2f
1:	xsave64 (%rcx)
2:	mov THREAD_KSTACK_SP(%rsi), %rsp
	mov %rsi, %gs:CPU_THREAD
	mov THREAD_FS_BASE(%rsi), %rax
	wrfsbase %rax
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

/* First return of arch_switch into a new thread: r12 = fn, r13 = arg (arch_thread_setup). */
	.balign 16
	.globl thread_first_switch
	.hidden thread_first_switch
thread_first_switch:
	mov %r13, %rdi
	xor %ebp, %ebp
	call *%r12
	ud2

/*
 * void arch_xstate_save(struct thread *t): live registers to t->xstate, all of
 * them (no init optimisation: signal frames show them to the app).
 */
	.balign 16
	.globl arch_xstate_save
	.hidden arch_xstate_save
arch_xstate_save:
	cmpq $0, THREAD_XSTATE_SAVED(%rdi)
	jne 1f
	mov THREAD_XSTATE(%rdi), %rcx
	mov xstate_mask(%rip), %eax
	mov 4+xstate_mask(%rip), %edx
	xsave64 (%rcx)
	movq $1, THREAD_XSTATE_SAVED(%rdi)
1:	ret

/*
 * Snapshots. int arch_freeze(struct arch_frozen *f), and its second return, in a
 * restored instance, where libos_resume is the first instruction: rdi = boot_info, boot stack.
 */
	.balign 16
	.globl arch_freeze, libos_resume
	.hidden arch_freeze, libos_resume
arch_freeze:
	mov %rbx, (%rdi)
	mov %rbp, 8(%rdi)
	mov %r12, 16(%rdi)
	mov %r13, 24(%rdi)
	mov %r14, 32(%rdi)
	mov %r15, 40(%rdi)
	lea 8(%rsp), %rax
	mov %rax, 48(%rdi)
	mov (%rsp), %rax
	mov %rax, 56(%rdi)
	rdfsbase %rax
	mov %rax, 64(%rdi)
	xor %eax, %eax
	ret

libos_resume:
	xor %ebp, %ebp
	call snapshot_resume
	mov 64(%rax), %rcx
	wrfsbase %rcx
	mov (%rax), %rbx
	mov 8(%rax), %rbp
	mov 16(%rax), %r12
	mov 24(%rax), %r13
	mov 32(%rax), %r14
	mov 40(%rax), %r15
	mov 48(%rax), %rsp
	mov 56(%rax), %rcx
	mov $1, %eax
	jmp *%rcx

/*
 * kvm: the two services of the ring-0 stub, asked for by `int3` with the
 * address after it in r11 (abi/libos.h).
 */
	.balign 16
	.globl kvm_load_cr3, kvm_flush_page, kvm_flush_cr3_site, kvm_flush_page_site
	.hidden kvm_load_cr3, kvm_flush_page, kvm_flush_cr3_site, kvm_flush_page_site
kvm_load_cr3:				/* void kvm_load_cr3(u64 cr3) */
	mov %rdi, %rax
	lea kvm_flush_cr3_site(%rip), %r11
	int3
kvm_flush_cr3_site:
	ret

	.balign 16
kvm_flush_page:				/* void kvm_flush_page(u64 va) */
	lea kvm_flush_page_site(%rip), %r11
	int3
kvm_flush_page_site:
	ret

	.section .note.GNU-stack, "", @progbits
