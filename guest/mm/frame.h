/* SPDX-License-Identifier: ISC */
/* What the files of mm/ share about frames; everyone else uses mm.h. */
#ifndef COWBELL_GUEST_MM_FRAME_H
#define COWBELL_GUEST_MM_FRAME_H

#include "guest/mm/mm.h"

#define FRAME_MAX_ORDER 18 /* 1 GiB */
#define HUGE_ORDER	9

/* What a frame is. Zero is the inside of a free block: untouched entries mean free. */
enum frame_kind { FRAME_NONE, FRAME_CLEAN, FRAME_DIRTY, FRAME_USED, FRAME_SLAB, FRAME_LARGE };

/*
 * One per frame, 8 bytes. Head of a free block: kind CLEAN or DIRTY, order, link = next
 * and b = previous block of its list (frame numbers, 0 = none). In use: b = references;
 * link = kmalloc's size class (SLAB) or number of pages (LARGE).
 */
struct frame {
	u32 kind : 3, order : 5, link : 24;
	u32 b;
};

struct frame *frame_of(gpa_t g);

/* As frame_alloc, but leaves the library OS's reserve alone and does not zero: *dirty says if it must be. */
gpa_t frame_alloc_user(unsigned order, bool *dirty);
/* Give back n frames of frame_alloc_user() that nothing was done with: they are as dirty as they were. */
void frame_unalloc(gpa_t g, u64 n, bool dirty);
/* A block of 2 MiB is about to be mapped as one: have the host back it by a huge page too, once, where it does not anyway. */
void frame_back_huge(gpa_t g);
/* Drop one reference of each of n frames from g on; image pages are ignored. */
void frame_put_run(gpa_t g, u64 n);
void frame_get_run(gpa_t g, u64 n);
/* Is memory so short that nothing should be mapped on speculation? */
bool frames_are_short(void);
/* Give free memory that the host still backs back to it, but `keep` pages. Rings the doorbell. */
void frames_trim(u64 keep);
/* Dirty free pages now, and the fewest since the last call (for reclaim.c). */
u64 frames_dirty(void);
u64 frames_dirty_low(void);
void reclaim_hint(void); /* memory was freed: start the clock that gives it back */

/* For snapshots: frames there are; a byte for each of them, set where it is free; what is free now reads as zero. */
u64 frames_present(void);
void frames_mark_free(u8 *map, u8 value);
void frames_restored(void);

/* One zeroed page for a page table, from boot memory or the reserve if need be. */
gpa_t frame_alloc_table(void);

#endif
