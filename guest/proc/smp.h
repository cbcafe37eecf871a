/* SPDX-License-Identifier: ISC */
/* Several virtual CPUs (smp.c). With one of them nothing here does anything. */
#ifndef COWBELL_GUEST_SMP_H
#define COWBELL_GUEST_SMP_H

#include "abi/boot.h"
#include "guest/proc/proc.h"

extern struct cpu *cpus[BOOT_MAX_VCPUS];
extern u32 n_cpus; /* that run: 1 until smp_start() */

static inline bool smp(void)
{
	return unlikely(n_cpus > 1);
}

/* Start as many CPUs as boot information says; at boot, and in a restored instance, by CPU 0. */
void smp_start(void);

/* From entry.S: from the app, and on the last steps to it. */
void smp_enter(void);
void smp_leave(void);

/* Around a wait in the monitor, by an idle thread: others may have the library OS meanwhile. */
void smp_unlock(void);
void smp_lock(void);
bool smp_locked(void); /* by this CPU */

/* In the library OS for a call that is first tried without the lock (syscalls.tbl). */
static inline bool without_lock(void)
{
	return smp() && !smp_locked();
}
/* The idle thread has nothing to run: sleep until there may be something. */
void smp_idle(void);

/*
 * Translations of `as` (NULL: the library OS's) were taken away or changed on this CPU: when this returns no other
 * CPU's app uses them. The others drop theirs before they next touch memory of the app.
 */
void smp_flush_others(const struct aspace *as);
/* Every other CPU that runs the app in `as` (NULL: any) has been in the library OS since; it stays until the caller leaves. */
void smp_quiesce(const struct aspace *as);
/* t has a signal, or should give its CPU up: if another CPU runs it, that one comes in. */
void smp_poke_thread(struct thread *t);
/* Let CPU `cpu` look at the run queue soon. */
void smp_resched(u32 cpu);

/*
 * All other CPUs come to rest, with what they ran in the run queue, until smp_go_on(). False: only CPU 0 can ask for
 * that, and has been told to.
 */
bool smp_rest(void);
void smp_go_on(void);

#endif
