/* SPDX-License-Identifier: ISC */
/* Compiled to assembly only: the Makefile takes the "->NAME value" lines and makes gen/asm-offsets.h of them. */
#include "guest/proc/proc.h"

#define OFFSET(name, type, member) __asm__ volatile("\n->" #name " %0" ::"i"(offsetof(type, member)))

void offsets(void);
void offsets(void)
{
	OFFSET(THREAD_SIGNAL_PENDING, struct thread, signal_pending);
}
