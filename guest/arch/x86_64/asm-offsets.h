/* SPDX-License-Identifier: ISC */
/* Offsets that assembly uses; arch.c holds each one by a static assert. */
#ifndef COWBELL_GUEST_ASM_OFFSETS_H
#define COWBELL_GUEST_ASM_OFFSETS_H

/* struct cpu */
#define CPU_THREAD	  8
#define CPU_USER_RSP	  24
#define CPU_SCRATCH	  48
#define CPU_SHARED	  112
#define CPU_NEED_RESCHED  120

/* struct thread */
#define THREAD_KSTACK_TOP   0
#define THREAD_KSTACK_SP    8
#define THREAD_FS_BASE	    16
#define THREAD_XSTATE	    24
#define THREAD_XSTATE_SAVED 32

/* struct boot_vcpu */
#define VCPU_KICK   0
#define VCPU_RSP    48
#define VCPU_RIP    144
#define VCPU_RFLAGS 152

/* struct regs */
#define REGS_SIZE   168
#define REGS_R11    48
#define REGS_RAX    80
#define REGS_RCX    88
#define REGS_RIP    128
#define REGS_CS	    136
#define REGS_RFLAGS 144
#define REGS_RSP    152
#define REGS_SS	    160

#endif
