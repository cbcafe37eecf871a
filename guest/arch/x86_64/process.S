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
 *
 * From one host process to another (guest/plat/process_hosts.c), on one CPU: from its seat in one to that in the other. All share the library OS's stacks, so one that waits or is
 * born must not touch any: its rsp points at a constant word, the address where the gate's `ret` goes on. What the
 * one before left in struct cpu is loaded there, by whichever has been given the CPU.
 */
#include "abi/libos.h"
#include "abi/process.h"
#include "gen/asm-offsets.h"
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
	cmp process_signal_stacks(%rip), %rsp
	jb 2f
	cmp 8+process_signal_stacks(%rip), %rsp
	jb 3f
2:
	sub $8, %rsp
	xor %ebp, %ebp
	call process_signal
	lea 8(%rbx), %rsp		/* past the return address that the host pushed */
	mov $15, %eax			/* rt_sigreturn */
	jmp 1b
	/*
	 * Other CPUs' exception stacks have no guard page. What is about to leave one would begin at its top again, for ever: one
	 * fault more, or two, and the host finds no room for the frame.
	 */
3:	mov %esp, %eax
	and $PROCESS_SIGNAL_STACK - 1, %eax
	cmp $PROCESS_SIGNAL_STACK / 4, %eax
	jae 2b
	ud2

/* _Noreturn void process_continue(struct regs *r, int vector, u64 error, u64 addr) */
FUNC process_continue
	mov %rdi, %rbx
	lea -8(%rdi), %rsp
	xor %ebp, %ebp
	call process_trap
	mov %rbx, %rdi
	jmp arch_return_to_user

/* Leave by the gate with the registers as they are; go on at `to` without a stack. */
.macro GATE to
	lea .Lslot\@(%rip), %rsp
	jmp 1b
	.pushsection .data.rel.ro, "aw", @progbits
	.balign 8
.Lslot\@:
	.quad \to
	.popsection
.endm

.macro SEAT_CLONE
	mov $56, %eax
	mov $PROCESS_SEAT_FLAGS, %edi
	lea process_seat_slot(%rip), %rsi
	xor %edx, %edx
	xor %r10d, %r10d
	xor %r8d, %r8d
.endm

/*
 * void process_handover(u64 host): host process `host` goes on; the call returns there, and it is a later one's
 * return that this one goes on with.
 */
FUNC process_handover
	mov %rdi, %rsi
	mov %gs:BOOT_CPU_SELF, %rdi
	add $CPU_HANDOVER, %rdi
	call arch_freeze		/* rsp, rip: as after this call; not used */
	mov %rsp, %gs:CPU_HANDOVER+48
	mov $PROCESS_DOORBELL_NR, %eax
	mov $PROCESS_SWITCH, %edi
	GATE process_arrive

/* It is our turn; rax < 0: there is no monitor any more. */
process_arrive:
	test %rax, %rax
	js process_over
	mov %gs:CPU_FORGET_LEN, %rsi	/* what is not there any more, perhaps the stack */
	test %rsi, %rsi
	jz process_arrived
	mov %gs:CPU_FORGET_VA, %rdi
	mov $11, %eax			/* munmap */
	GATE process_arrived
process_arrived:
	mov %gs:BOOT_CPU_SELF, %rdi
	add $CPU_HANDOVER, %rdi
	mov 64(%rdi), %rcx
	wrfsbase %rcx
	mov (%rdi), %rbx
	mov 8(%rdi), %rbp
	mov 16(%rdi), %r12
	mov 24(%rdi), %r13
	mov 32(%rdi), %r14
	mov 40(%rdi), %r15
	mov 48(%rdi), %rsp
	ret

/* Where clone returns in a new host process. */
process_born:
	mov $157, %eax			/* prctl */
	mov $1, %edi			/* PR_SET_PDEATHSIG */
	mov $9, %esi
	xor %edx, %edx
	xor %r10d, %r10d
	xor %r8d, %r8d
	GATE process_mortal
process_mortal:
	test %rax, %rax
	js process_over
	xor %ebx, %ebx
process_next_seat:			/* one for each other CPU; this one is the maker's */
	cmp process_n_seats(%rip), %ebx
	jae process_complete
	cmp %gs:BOOT_CPU_ID, %ebx
	je process_seat_made
	SEAT_CLONE
	GATE process_seat_cloned
process_seat_cloned:
	test %rax, %rax
	js process_seats_refused
process_seat_made:
	inc %ebx
	jmp process_next_seat
process_seats_refused:			/* it waits for ever: nobody goes where there are too few */
	movl $2, process_seats_word(%rip)
	jmp process_takes_seat
process_complete:
	movl $1, process_seats_word(%rip)
process_takes_seat:
	mov $PROCESS_DOORBELL_NR, %eax
	mov $PROCESS_WAIT, %edi
	mov %gs:BOOT_CPU_ID, %esi
	GATE process_arrive

/* s64 process_make_seat(u64 n): the seat of CPU n in this host process */
FUNC process_make_seat
	push %rbx
	mov %edi, %ebx
	SEAT_CLONE
	call 1b
	pop %rbx
	ret

/* Where clone returns in a new thread: ebx says whose seat it is. */
process_seat_born:
	mov %ebx, %eax
	shl $5, %eax
	lea process_seats(%rip), %rdi
	add %rax, %rdi
	mov (%rdi), %rax
	wrgsbase %rax
	add $8, %rdi
	xor %esi, %esi
	mov $131, %eax			/* sigaltstack */
	GATE process_seat_ready
process_seat_ready:
	test %rax, %rax
	js process_over
	mov $PROCESS_DOORBELL_NR, %eax
	mov $PROCESS_WAIT, %edi
	mov %ebx, %esi
	GATE process_arrive

process_over:
	mov $231, %eax			/* exit_group */
	mov $1, %edi
	GATE process_over

	.section .data.rel.ro, "aw", @progbits
	.balign 8
	.globl process_born_slot
	.hidden process_born_slot
process_born_slot:
	.quad process_born
process_seat_slot:
	.quad process_seat_born

	.section .note.GNU-stack, "", @progbits
