/* SPDX-License-Identifier: ISC */
/*
 * A thread's register frame. It lies at the top of the thread's kernel stack
 * while the thread is inside the library OS. The order is struct
 * user_regs_struct's (ptrace), so that entry.S can push it and signals and
 * core dumps can copy it.
 */
#ifndef COWBELL_GUEST_REGS_H
#define COWBELL_GUEST_REGS_H

#include <stdint.h>

struct regs {
	uint64_t r15, r14, r13, r12, rbp, rbx;
	uint64_t r11, r10, r9, r8;
	uint64_t rax, rcx, rdx, rsi, rdi;
	uint64_t orig_rax; /* system call number; -1 when entered by a trap or kick */
	uint64_t rip, cs, rflags, rsp, ss;
};

enum trap_vector {
	TRAP_DE = 0,
	TRAP_DB = 1,
	TRAP_BP = 3,
	TRAP_OF = 4,
	TRAP_BR = 5,
	TRAP_UD = 6,
	TRAP_NM = 7,
	TRAP_DF = 8,
	TRAP_NP = 11,
	TRAP_SS = 12,
	TRAP_GP = 13,
	TRAP_PF = 14,
	TRAP_MF = 16,
	TRAP_AC = 17,
	TRAP_XF = 19,
	TRAP_KICK = 256, /* not hardware: the monitor diverted the app */
	TRAP_SYSCALL = 257, /* an unpatched `syscall` site */
};

/* Page-fault error code bits. */
enum { PF_PRESENT = 1, PF_WRITE = 2, PF_USER = 4, PF_EXEC = 16 };

#endif
