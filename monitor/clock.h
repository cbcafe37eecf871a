/* SPDX-License-Identifier: ISC */
/* The guest's clock parameters (struct boot_time), kept current from the host's clocks. */
#ifndef COWBELL_MONITOR_CLOCK_H
#define COWBELL_MONITOR_CLOCK_H

#include <stdint.h>

#include "abi/boot.h"

/* First values. The rate comes from the time since this process began. */
void clock_start(struct boot_time *t);
/* Before clock_start(): the guest's monotonic clock is the host's minus this (a restored instance). */
void clock_set_offset(int64_t host_minus_guest_ns);
/* The guest's monotonic clock now, and realtime of the same moment. */
void clock_guest_now(const struct boot_time *t, uint64_t *mono, uint64_t *real);
/* Correct them if they are due; cheap when they are not. Call it before the guest runs on. */
void clock_update(struct boot_time *t);
/* CLOCK_MONOTONIC now, roughly, without asking the host; after clock_start(). */
uint64_t clock_ns_now(void);
/* CLOCK_MONOTONIC at a TSC value of this run. */
uint64_t clock_ns_of_tsc(uint64_t tsc);

#endif
