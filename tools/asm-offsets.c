/* SPDX-License-Identifier: ISC */
/* Compiled to assembly only: the Makefile takes the "->NAME value" lines and makes gen/asm-offsets.h of them. */
#include "abi/boot.h"
#include "guest/proc/proc.h"

#define OFFSET(name, type, member) __asm__ volatile("\n->" #name " %0" ::"i"(offsetof(type, member)))

void offsets(void);
void offsets(void)
{
	OFFSET(CPU_THREAD, struct cpu, thread);
	OFFSET(CPU_USER_RSP, struct cpu, user_rsp);
	OFFSET(CPU_SMP, struct cpu, smp);
	OFFSET(CPU_SCRATCH, struct cpu, scratch);
	OFFSET(CPU_SHARED, struct cpu, shared);
	OFFSET(CPU_NEED_RESCHED, struct cpu, need_resched);
	OFFSET(CPU_HANDOVER, struct cpu, handover);
	OFFSET(CPU_FORGET_VA, struct cpu, forget_va);
	OFFSET(CPU_FORGET_LEN, struct cpu, forget_len);

	OFFSET(THREAD_KSTACK_TOP, struct thread, kstack_top);
	OFFSET(THREAD_KSTACK_SP, struct thread, kstack_sp);
	OFFSET(THREAD_FS_BASE, struct thread, fs_base);
	OFFSET(THREAD_XSTATE, struct thread, xstate);
	OFFSET(THREAD_XSTATE_SAVED, struct thread, xstate_saved);
	OFFSET(THREAD_SIGNAL_PENDING, struct thread, signal_pending);

	OFFSET(VCPU_KICK, struct boot_vcpu, kick);
	OFFSET(VCPU_RSP, struct boot_vcpu, gpr[4]);
	OFFSET(VCPU_RIP, struct boot_vcpu, rip);
	OFFSET(VCPU_RFLAGS, struct boot_vcpu, rflags);

	OFFSET(REGS_R11, struct regs, r11);
	OFFSET(REGS_RCX, struct regs, rcx);
	OFFSET(REGS_RIP, struct regs, rip);
	OFFSET(REGS_CS, struct regs, cs);
	OFFSET(REGS_RFLAGS, struct regs, rflags);
	OFFSET(REGS_RSP, struct regs, rsp);
	OFFSET(REGS_SS, struct regs, ss);
}
