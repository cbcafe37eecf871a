/* SPDX-License-Identifier: ISC */
/*
 * Enough of a guest for mm/ to run as an ordinary program: RAM is a memfd, seen
 * through a direct map, and a platform that mirrors the library OS's slot (the
 * frame array, stacks) with real mappings. The app's half has page tables only:
 * fake_read and fake_write walk them as the CPU would and call mm_fault.
 */
#ifndef COWBELL_TESTS_FAKE_GUEST_H
#define COWBELL_TESTS_FAKE_GUEST_H

#include "guest/mm/mm.h"

struct fake_counts {
	unsigned long maps, unmaps, flushes, grows, releases, sigkills;
	bool refuse_grow;
};
extern struct fake_counts fake;

/* RAM of `now` bytes that may grow to `max`; calls frames_init(). */
void fake_guest_start(uint64_t now, uint64_t max);
/* As the CPU: 0, or what mm_fault said. */
int fake_read(struct aspace *as, uint64_t va, uint64_t *value);
int fake_write(struct aspace *as, uint64_t va, uint64_t value);
/* Is the page really zero bytes, straight from RAM? */
bool fake_is_zero(gpa_t g, uint64_t len);

/* A file of `pages` pages in RAM whose page i starts with the word tag + i. */
struct file *fake_file(uint64_t pages, uint64_t tag, uint32_t flags);
void fake_file_truncate(struct file *f, uint64_t pages);

#endif
