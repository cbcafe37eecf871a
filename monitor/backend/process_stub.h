/* SPDX-License-Identifier: ISC */
/*
 * How the guest process begins (process_stub.c): a file of one executable page
 * and a list of host system calls that the page carries out one after another.
 */
#ifndef COWBELL_MONITOR_PROCESS_STUB_H
#define COWBELL_MONITOR_PROCESS_STUB_H

#include <stddef.h>
#include <stdint.h>

#include "monitor/backend/backend.h"

#define STUB_MAX_STEPS 160

struct stub_report { /* what a stub that failed sends over its socket: result < 0 */
	uint64_t step, result;
};

/*
 * An ELF file in a memfd that makes the guest process of `m` and `plan`, talking over `sock` (a number in the
 * child's table). several: of CPUs. Descriptor, or -errno. *step_names: one name for each step, for messages.
 */
int stub_file(const struct guest_mem *m, const struct load_plan *plan, int sock, bool several,
	      const char *const **step_names);

/* Number of host calls that the guest's filter lets through. */
int stub_allowed_calls(bool several);

#endif
