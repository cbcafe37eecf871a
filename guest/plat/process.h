/* SPDX-License-Identifier: ISC */
/* What the files of the process platform share. */
#ifndef COWBELL_GUEST_PLAT_PROCESS_H
#define COWBELL_GUEST_PLAT_PROCESS_H

#include "abi/process.h"
#include "guest/base.h"

struct aspace;
struct cpu;

/* Through the gate (arch/x86_64/process.S). */
s64 process_gate(u64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);

struct range {
	u64 lo, hi; /* hi 0: empty */
};

/* --- process_hosts.c ------------------------------------------------------------ */

/* One host process. What it maps of the app's half is a mirror of `as`, but for `stale`. */
struct host {
	struct aspace *as; /* NULL: it waits to be used */
	struct range stale; /* of the app's half: to be unmapped before `as` runs here */
	struct range
		gone; /* of the library OS's half: unmapped in the host process that did it, not here yet */
	u64 used; /* when it got the CPU last, as a count of handovers */
	u32 seats; /* for CPUs below that; counted only with several */
};

extern struct host hosts[PROCESS_MAX];
#define here (&hosts[this_cpu()->host]) /* the host process that runs this */

/* The one that mirrors `as`, or NULL. */
struct host *host_of(const struct aspace *as);
/* The one that shall run `as` from now on; *fresh: it mirrors nothing of it. Never fails. */
struct host *host_for(struct aspace *as, bool *fresh);
/* Go on in h: callable where the stack and the app's registers may be switched, as in schedule(). */
void host_switch(struct host *h);
/* `as` ends: who mirrors it is free. */
void host_free_aspace(struct aspace *as);
/* Mappings of [va, va+len) are not true any more in h (app's half), or in all but the current one (library OS's). */
void host_stale(struct host *h, u64 va, u64 len);
void hosts_gone(u64 va, u64 len);
/* A restored instance: there is only the one that the monitor made. */
void hosts_restored(void);
/* Several CPUs: make what n of them need; how many there can be. Then each is started. */
u32 hosts_prepare(u32 n);
void host_start_cpu(struct cpu *c);
/* Drop what is gone of the library OS's half. */
void host_forget_gone(void);

#endif
