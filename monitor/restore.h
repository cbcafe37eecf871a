/* SPDX-License-Identifier: ISC */
/* From a snapshot file to the memory and the plan of an instance; instance.c does the rest. */
#ifndef COWBELL_MONITOR_RESTORE_H
#define COWBELL_MONITOR_RESTORE_H

#include "monitor/backend/backend.h"
#include "monitor/monitor.h"
#include "monitor/snapfile.h"

/*
 * Open and check cfg->restore_fd and compare it with this build, CPU and configuration. *out is cfg with what the
 * snapshot decides: layers, memory. 0, or -1 after a message.
 */
int restore_open(struct snap_file *f, const struct monitor_config *cfg, struct monitor_config *out);
/* Before the backend's create(), with m->ram and the regions there: RAM, plan, boot_info. */
int restore_guest(struct load_plan *plan, struct guest_mem *m, const struct snap_file *f,
		  const struct monitor_config *cfg, enum boot_plat plat);
/* After it: does the CPU that the backend offers suit? */
int restore_check_cpu(const struct guest_mem *m, const struct load_plan *plan, const struct snap_file *f);
/* What goes on in the background is done when it returns. Before the filter. */
void restore_wait(void);
/* Host's monotonic clock minus the guest's, which goes on from the snapshot's plus what passed. */
int64_t restore_clock_offset(const struct snap_file *f, bool prefix);

#endif
