/* SPDX-License-Identifier: ISC */
/* Which pages of RAM a snapshot has to look at, and their copy, made while the guest rests. */
#ifndef COWBELL_MONITOR_SNAPCOPY_H
#define COWBELL_MONITOR_SNAPCOPY_H

#include <stdbool.h>
#include <stdint.h>

#include "monitor/gpa.h"

/* state[]: enum snap_frame, and */
enum snap_page {
	SNAP_PAGE_FRAME = 3, /* mask: what the guest said */
	SNAP_PAGE_COPIED = 4, /* it is the next one in the buffer */
	SNAP_PAGE_OLD = 8, /* nobody wrote to it since the restore: as in the snapshot that we come from */
};

struct snap_pages {
	const struct guest_mem *m;
	int pagemap_fd; /* /proc/self/pagemap, or -1 (process) */
	const uint8_t *dropped; /* one bit a page: the guest gave it back since the restore; or NULL */
	volatile bool cancel;

	uint64_t *missing; /* process: one bit a page, what lazy.c has not filled */
	uint8_t *state; /* one for each page of RAM at rest */
	uint64_t n;
	uint8_t *buf; /* the copied pages in the order of their addresses */
	uint64_t copied; /* in it; there is room for all of RAM */
	void *buf_map; /* as mapped: buf is aligned in it */
	uint64_t buf_len, state_len, missing_len;
};

/* While the guest still runs, in any thread: room, populated as far as it will be needed. 0 or -errno. */
int snap_pages_prepare(struct snap_pages *p);
/* The guest rests; census as ring_server_census() gives it. 0 or -errno. */
int snap_pages_copy(struct snap_pages *p, const uint8_t *census, uint64_t n_census);
void snap_pages_free(struct snap_pages *p);

#endif
