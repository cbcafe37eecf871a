/* SPDX-License-Identifier: ISC */
/* --strace: what strace.c and strace_names.c share. */
#ifndef COWBELL_GUEST_LINUX_STRACE_H
#define COWBELL_GUEST_LINUX_STRACE_H

#include "guest/base.h"

/* One line being built. */
struct out {
	u32 len, next_arg;
	char text[900];
};

void out_f(struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A flag word or enumeration by the names of its family (enum syscall_arg). */
void out_flags(struct out *o, u8 family, u64 v);
void out_mask(struct out *o, u64 sigmask);
const char *errno_name(int e); /* NULL: no name */
const char *signal_name(int sig);

#endif
