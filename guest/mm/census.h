/* SPDX-License-Identifier: ISC */
/* What the library OS tells a snapshot about its frames; snapshot.c and the process platform use it. */
#ifndef COWBELL_GUEST_MM_CENSUS_H
#define COWBELL_GUEST_MM_CENSUS_H

#include "guest/mm/mm.h"

/* Get room; may ring the doorbell. False: no memory, or RAM grew meanwhile. */
bool census_begin(void);
/* Once for each address space. Nothing may be allocated from here on until the monitor has read. */
void census_count(struct aspace *as);
/* The array of enum snap_frame, in contiguous RAM. */
void census_close(gpa_t *g, u64 *len);
void census_end(void);

/*
 * Frames that the monitor of a restored instance has yet to fill: bit set. n == 0 or all bits clear: none.
 * Whoever finds a set bit asks the monitor before the frame is mapped anywhere. `some`: there were some. A frame that
 * the allocator gives out has no bit set: it calls lazy_take.
 */
struct lazy_frames {
	u64 *bits;
	u64 n;
	bool some;
};
void lazy_take(gpa_t g, u64 n); /* plat/process.c */
extern struct lazy_frames lazy_frames;

#endif
