/* SPDX-License-Identifier: ISC */
/*
 * Guest-physical memory as the monitor sees it. gpa.c is the one place that
 * turns a guest address into a pointer.
 */
#ifndef COWBELL_MONITOR_GPA_H
#define COWBELL_MONITOR_GPA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "abi/boot.h"
#include "abi/snapshot.h"

typedef struct {
	uint64_t v;
} gpa_t;

struct guest_region {
	struct boot_region r;
	int host_fd; /* the monitor's descriptor of the file */
	const uint8_t *host; /* mapped read-only here, or NULL */
};

struct guest_mem {
	uint8_t *ram; /* ram_max bytes of address space reserved; [0, ram_size) usable */
	uint64_t ram_size, ram_max;
	bool restored; /* RAM comes from a snapshot: make none of it ready in advance */
	int ram_fd; /* memfd (process), or -1: private anonymous (kvm) */
	int n_regions;
	struct guest_region regions[BOOT_MAX_REGIONS];
	int files[SNAP_MAX_CHAIN], n_files; /* that the guest of a lazy instance may read (process) */
	struct lazy *lazy; /* RAM is yet to be filled from a snapshot (lazy.h); or NULL */
};

/*
 * Pointer to len bytes of guest RAM, or NULL if any of them is not RAM that the guest has now.
 * Valid until the next MEM_GROW... never moves. The bytes are hostile and may change at any time.
 */
void *gpa_ram(const struct guest_mem *m, gpa_t gpa, uint64_t len);
/* The same as a question: nothing is filled, no pointer is given. */
bool gpa_is_ram(const struct guest_mem *m, gpa_t gpa, uint64_t len);
/* Copy out of or into guest RAM; false if out of range. */
bool gpa_read(const struct guest_mem *m, gpa_t gpa, void *dst, uint64_t len);
bool gpa_write(const struct guest_mem *m, gpa_t gpa, const void *src, uint64_t len);

#endif
