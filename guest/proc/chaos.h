/* SPDX-License-Identifier: ISC */
/* Injected scheduling (chaos.c). */
#ifndef COWBELL_GUEST_CHAOS_H
#define COWBELL_GUEST_CHAOS_H

#include "guest/proc/proc.h"

extern bool chaos_on;
extern bool dispatch_watched; /* linux/dispatch.c */

/* What boot information asks for: at boot and in a restored instance. */
void chaos_init(void);
void chaos_syscall(void); /* a system call begins */
bool chaos_skip(void); /* leave out the thread whose turn it is */
void chaos_window(void); /* between two steps that must not depend on who is quicker */

#endif
