/* SPDX-License-Identifier: ISC */
/*
 * Every way into the library OS and out of it.
 *
 *   libos_start      first instruction, on the boot stack
 *   syscall_entry    from a patched site: jmp *%gs:16 with %rcx = return address
 *   syscall_trap     from an unpatched site (kvm, LSTAR), still in ring 3 or already in ring 0
 *   exception_entry  kvm: the ring-0 stub came here with the frame in the per-CPU page
 *   upcall_entry     kvm: the monitor diverted the app; its rip, rflags, rsp are in struct boot_vcpu
 *   arch_return_to_user, arch_resume   ways out
 *
 * All of it runs in ring 3. Each entry builds a struct regs (regs.h) at the top
 * of the current thread's kernel stack, except an exception in the library
 * OS's own text, which stays on the exception stack. The app's stack is never
 * touched: it has a red zone. Vector registers stay live: library OS code has none.
 *
 * Way out: user_return looks for work (signals, rescheduling, kicks), loads
 * the vector registers if they were saved, then leaves by `jmp *%rcx` where the
 * frame is one that `syscall` could have left (rcx = rip, r11 = rflags), else by iretq,
 * which ring 3 may execute to return to ring 3. A kick that comes after the look is not lost: the monitor
 * sees RIP in this text, leaves `kick` set and tries again.
 */
#include "abi/libos.h"
#include "gen/asm-offsets.h"
#include "guest/arch/x86_64/arch.h"

#define RFLAGS_NT 0x4000

/* The general registers below orig_rax, as struct regs has them; all as they are. */
.macro PUSH_GPRS
	push %rdi
	push %rsi
	push %rdx
	push %rcx
	push %rax
	push %r8
	push %r9
	push %r10
	push %r11
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
.endm

.macro POP_GPRS
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rax
	pop %rcx
	pop %rdx
	pop %rsi
	pop %rdi
.endm

.macro FUNC name
	.balign 16
	.globl \name
	.hidden \name
	.type \name, @function
\name:
.endm

	.section .text.entry, "ax", @progbits

FUNC libos_start
	xor %ebp, %ebp
	call guest_main
	ud2

/* Frame of a system call. Clobbers r11, which `syscall` clobbers too; r11 := rflags as it does. */
.macro SYSCALL_FRAME
	mov %rsp, %gs:CPU_USER_RSP
	mov %gs:CPU_THREAD, %r11
	mov THREAD_KSTACK_TOP(%r11), %rsp
	push $BOOT_USER_SS
	pushq %gs:CPU_USER_RSP
	pushfq
	push $BOOT_USER_CS
	push %rcx
	push %rax			/* orig_rax */
	push %rdi
	push %rsi
	push %rdx
	push %rcx
	push $-38			/* rax: ENOSYS until somebody says otherwise */
	push %r8
	push %r9
	push %r10
	pushq 88(%rsp)			/* r11 = the rflags pushed above */
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	cld
	mov %rsp, %rdi
	sub $8, %rsp			/* the frame is 168 bytes: align for C */
.endm

/* With several CPUs the library OS is entered under its lock. \slow keeps the arguments in registers that C preserves. */
.macro IF_SMP slow
	cmpb $0, %gs:CPU_SMP
	jne \slow
.endm
.macro ENTER_SMP back
	mov %rdi, %rbx
	mov %esi, %r12d
	mov %rdx, %r13
	mov %rcx, %r14
	call smp_enter
	mov %rbx, %rdi
	mov %r12d, %esi
	mov %r13, %rdx
	mov %r14, %rcx
	jmp \back
.endm

FUNC syscall_entry
	SYSCALL_FRAME
	IF_SMP 8f
7:	call syscall_dispatch
	add $8, %rsp
	jmp user_return
8:	call syscall_try_free		/* without the lock, as if this were the app */
	test %al, %al
	jz 9f
	add $8, %rsp
	jmp free_return
9:	lea 8(%rsp), %rdi
	ENTER_SMP 7b

/*
 * Real hardware enters LSTAR in ring 0; a software-nested KVM leaves the CPU in
 * ring 3. Ring 0 goes back at once, to the same place as ring 3 continues from.
 */
FUNC syscall_trap
	mov %rcx, %gs:CPU_SCRATCH
	mov %cs, %ecx
	test $3, %cl
	jnz 1f
	lea 1f(%rip), %rcx
	sysretq
1:	mov %gs:CPU_SCRATCH, %rcx
	SYSCALL_FRAME
	IF_SMP 8f
7:	call syscall_trapped
	add $8, %rsp
	jmp user_return
8:	ENTER_SMP 7b

/*
 * The stub's iretq loaded rip, rsp (exception stack) and rflags; every other
 * register is the interrupted one's. Faults in the library OS's text stay here, faults
 * of the app move to its thread's kernel stack, where they may sleep.
 */
FUNC exception_entry
	mov %rax, %gs:CPU_SCRATCH
	mov %rcx, %gs:CPU_SCRATCH+8
	mov %gs:BOOT_FRAME_RIP, %rax
	lea libos_text_start(%rip), %rcx
	cmp %rcx, %rax
	jb 1f
	lea libos_text_end(%rip), %rcx
	cmp %rcx, %rax
	jb 2f
1:	mov %gs:CPU_THREAD, %rcx
	mov THREAD_KSTACK_TOP(%rcx), %rsp
	mov %gs:CPU_SCRATCH+8, %rcx
	pushq %gs:BOOT_FRAME_SS
	pushq %gs:BOOT_FRAME_RSP
	pushq %gs:BOOT_FRAME_RFLAGS
	pushq %gs:BOOT_FRAME_CS
	push %rax
	mov %gs:CPU_SCRATCH, %rax
	push $-1			/* orig_rax: no system call */
	PUSH_GPRS
	mov %rsp, %rdi
	mov %gs:BOOT_FRAME_VECTOR, %esi
	mov %gs:BOOT_FRAME_ERROR, %rdx
	mov %gs:BOOT_FRAME_CR2, %rcx
	sub $8, %rsp
	IF_SMP 8f
7:	call trap_from_user
	add $8, %rsp
	jmp user_return
8:	ENTER_SMP 7b

2:	mov %gs:CPU_SCRATCH+8, %rcx
	pushq %gs:BOOT_FRAME_SS
	pushq %gs:BOOT_FRAME_RSP
	pushq %gs:BOOT_FRAME_RFLAGS
	pushq %gs:BOOT_FRAME_CS
	push %rax
	mov %gs:CPU_SCRATCH, %rax
	push $-1
	PUSH_GPRS
	mov %rsp, %rdi
	mov %gs:BOOT_FRAME_VECTOR, %esi
	mov %gs:BOOT_FRAME_ERROR, %rdx
	mov %gs:BOOT_FRAME_CR2, %rcx
	sub $8, %rsp
	call exception_in_libos
	add $8, %rsp
	jmp resume

/* Registers are the app's but for rip, rsp and rflags. vcpu->kick is set, so user_return finds work. */
FUNC upcall_entry
	mov %rax, %gs:CPU_SCRATCH
	mov %gs:CPU_THREAD, %rax
	mov THREAD_KSTACK_TOP(%rax), %rsp
	mov %gs:CPU_SHARED, %rax
	push $BOOT_USER_SS
	pushq VCPU_RSP(%rax)
	pushq VCPU_RFLAGS(%rax)
	push $BOOT_USER_CS
	pushq VCPU_RIP(%rax)
	mov %gs:CPU_SCRATCH, %rax
	push $-1
	PUSH_GPRS
	mov %rsp, %rdi
	mov $256, %esi			/* TRAP_KICK */
	xor %edx, %edx
	xor %ecx, %ecx
	sub $8, %rsp
	IF_SMP 8f
7:	call trap_from_user
	add $8, %rsp
	jmp user_return
8:	ENTER_SMP 7b

/* rsp = struct regs of the app at the top of the kernel stack; no register is worth anything. */
user_return:
	mov %gs:CPU_THREAD, %rbx
	mov %gs:CPU_SHARED, %rcx
	movzbl THREAD_SIGNAL_PENDING(%rbx), %eax
	or %gs:CPU_NEED_RESCHED, %al
	or VCPU_KICK(%rcx), %eax
	mov THREAD_XSTATE_SAVED(%rbx), %edx
	or %eax, %edx
	jnz 3f
1:	IF_SMP 8f
2:	mov REGS_RIP(%rsp), %rcx
	cmp REGS_RCX(%rsp), %rcx
	jne resume
	mov REGS_RFLAGS(%rsp), %rdx
	cmp REGS_R11(%rsp), %rdx
	jne resume
	POP_GPRS
	mov (REGS_RSP - 120)(%rsp), %rsp
	jmp *%rcx

3:	test %eax, %eax
	jz 4f
	mov %rsp, %rdi
	sub $8, %rsp
	call return_to_user_work
	add $8, %rsp
	jmp user_return

4:	mov THREAD_XSTATE(%rbx), %rcx
	mov xstate_mask(%rip), %eax
	mov 4+xstate_mask(%rip), %edx
5:	xrstor64 (%rcx)
6:	movq $0, THREAD_XSTATE_SAVED(%rbx)
	jmp 1b
	/* A signal frame brought contents that the CPU refuses. */
7:	mov %rbx, %rdi
	sub $8, %rsp
	call xstate_refused
	add $8, %rsp
	jmp user_return
	EX_TABLE 5b, 6b, 7b

	/* Give the lock up; a kick that came meanwhile was meant for somebody who holds it. */
8:	sub $8, %rsp
	call smp_leave
	add $8, %rsp
free_return:
	mov %gs:CPU_SHARED, %rcx
	cmpl $0, VCPU_KICK(%rcx)
	je 2b
	sub $8, %rsp
	call smp_enter
	add $8, %rsp
	jmp user_return

/* First instruction of CPU n > 0, on its idle thread's stack. */
FUNC smp_cpu_entry
	xor %ebp, %ebp
	call smp_cpu_main
	ud2

/* rsp = any struct regs. NT must be clear for iretq, now and in the frame. */
resume:
	push $2
	popfq
	movq $BOOT_USER_CS, REGS_CS(%rsp)
	movq $BOOT_USER_SS, REGS_SS(%rsp)
	andq $~RFLAGS_NT, REGS_RFLAGS(%rsp)
	POP_GPRS
	add $8, %rsp
	iretq

FUNC arch_return_to_user
	mov %rdi, %rsp
	jmp user_return

FUNC arch_resume
	mov %rdi, %rsp
	jmp resume

	.section .note.GNU-stack, "", @progbits
