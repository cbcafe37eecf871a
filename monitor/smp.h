/* SPDX-License-Identifier: ISC */
/* The CPUs of an instance beyond the first: see smp.c. With one CPU each of these is a test of one word. */
#ifndef COWBELL_MONITOR_SMP_H
#define COWBELL_MONITOR_SMP_H

#include <stdbool.h>
#include <stdint.h>

struct instance;

/* Threads for CPUs 1..n-1, which wait for the guest to start theirs; before the filter, which is then for all threads. */
int smp_prepare(struct instance *in, int n_cpus);
int smp_cpus(void); /* how many there are, with CPU 0 */
bool smp_serve(void); /* hooks.cpus of the ring server: another CPU may want something */
void smp_ready(void); /* all have given up what seccomp_lock_monitor() takes */

/* For the loop, which runs CPU 0. Before CPU 0 runs and while it is in a turn: where others find it. */
void smp_cpu0_runs(void);
void smp_cpu0_turns(void);
/* Somebody poked CPU 0 since this was asked last: it should not sleep; it should come back to be looked at. */
bool smp_cpu0_poked(void);
bool smp_cpu0_nudged(void);
/* Another CPU wants the ring served; then that it is. */
bool smp_wants_ring(void);
void smp_ring_served(void);
/* A doorbell of CPU 0: true if it was one of these calls, and not for the ring. */
bool smp_call0(void);
/* Why the instance has to end because of another CPU; NULL: it has not. */
const char *smp_died(void);

#endif
