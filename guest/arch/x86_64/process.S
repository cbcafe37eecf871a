/* SPDX-License-Identifier: ISC */
/*
 * Process platform: the gate to the host, and the way from a host signal into
 * the library OS. abi/process.h says what may go through the gate.
 *
 * A host signal arrives on the exception stack (sigaltstack), where the host
 * has put the interrupted registers, vector registers included, into a frame.
 * process_signal() (guest/plat/process.c) either mends the cause and returns, and the
 * frame is resumed as it is; or it copies what it needs and leaves for the
 * thread's kernel stack by process_continue(), and the frame is forgotten.
 * Further signals may nest on the exception stack below the frame.
 */
#include "guest/arch/x86_64/arch.h"

.macro FUNC name
	.balign 16
	.globl \name
	.hidden \name
	.type \name, @function
\name:
.endm

	.section .text.entry, "ax", @progbits

/* s64 process_gate(u64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) */
FUNC process_gate
	mov %rdi, %rax
	mov %rsi, %rdi
	mov %rdx, %rsi
	mov %rcx, %rdx
	mov %r8, %r10
	mov %r9, %r8
	mov 8(%rsp), %r9
1:	syscall
	.globl process_gate_ret
	.hidden process_gate_ret
process_gate_ret:
	ret

/* Entered by the host: rdi = signal, rsi = siginfo, rdx = ucontext, rsp = frame (8 modulo 16). */
FUNC process_signal_entry
	mov %rsp, %rbx
	sub $8, %rsp
	xor %ebp, %ebp
	call process_signal
	lea 8(%rbx), %rsp		/* past the return address that the host pushed */
	mov $15, %eax			/* rt_sigreturn */
	jmp 1b

/* _Noreturn void process_continue(struct regs *r, int vector, u64 error, u64 addr) */
FUNC process_continue
	mov %rdi, %rbx
	lea -8(%rdi), %rsp
	xor %ebp, %ebp
	call process_trap
	mov %rbx, %rdi
	jmp arch_return_to_user

	.section .note.GNU-stack, "", @progbits
