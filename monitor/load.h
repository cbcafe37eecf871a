/* SPDX-License-Identifier: ISC */
/* The loader: makes a fresh guest's memory ready for its first instruction, the same way for every backend. */
#ifndef COWBELL_MONITOR_LOAD_H
#define COWBELL_MONITOR_LOAD_H

#include "monitor/backend/backend.h"
#include "monitor/monitor.h"

/*
 * Fill m->regions: the library OS's text first, then the layers of cfg. `map_layers` also maps the layers here
 * (kvm needs it). A region's boot_region.fd is left 0 for the backend. 0, or -errno after a message.
 */
int load_regions(struct guest_mem *m, const struct monitor_config *cfg, bool map_layers);

/*
 * Place the library OS and the boot data in guest RAM (from gpa 0), build the first page table, choose every
 * address of slot 255 at random. Needs m->ram and the regions. 0, or -errno after a message.
 */
int load_guest(struct load_plan *plan, struct guest_mem *m, const struct monitor_config *cfg,
	       enum boot_plat plat);

/* Entry points for a library OS whose header is at header_va (a restore). 0, or -errno after a message. */
int load_symbols(struct load_plan *plan, uint64_t header_va);
/* Checksums of the built-in library OS's text and read-only data, an eighth each: a snapshot fits one build only. */
int load_libos_digest(uint8_t digest[32]);

/* In the loaded guest; the backend may correct fields (descriptors, CPU features) before the first run. */
struct boot_info *load_boot_info(const struct guest_mem *m, const struct load_plan *plan);

/* What is around the guest in this run, fresh or restored: ports, kinds of the streams, log level, regions. */
void load_surroundings(struct boot_info *bi, const struct guest_mem *m, const struct monitor_config *cfg);

/* The CPU leaves, xcr0 and xstate size that the host's own user mode sees, into boot_info. */
void load_host_cpu(struct boot_info *bi);

#endif
