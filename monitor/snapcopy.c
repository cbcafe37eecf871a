/* SPDX-License-Identifier: ISC */
/*
 * The only work that grows with an instance's memory and is done while its guest rests: copying pages. So all that can
 * be done before is done before (room for the copy, huge pages where the host has them, mappings of a
 * memfd), and all that can be done later is done later, from the copy: which pages are zero, which are those of the
 * parent, checksums, writing (snapwrite.c).
 *
 * Pages that need no copy: FREE ones; those that the host never had to give us, which are zero; and those of a
 * restored instance that were not written to, which are in its snapshot. The host knows:
 *
 *   kvm       RAM is private memory: /proc/self/pagemap tells pages that are there and ours from those that
 *             are still the snapshot's. Without it all are copied
 *   process   RAM is a memfd: what is no hole. Holes that lazy.c has not filled yet are the snapshot's
 *
 * Limits: the copy takes as much memory as the instance, for as long as the file is written.
 */
#include "monitor/snapcopy.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi/snapshot.h"
#include "monitor/lazy.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(snapshot, lseek);
HOST_SYSCALL(snapshot, pread64);
HOST_SYSCALL(snapshot, madvise);
HOST_SYSCALL(snapshot, mmap);
HOST_SYSCALL(snapshot, munmap);

#define PG	    SNAP_PAGE
#define HUGE	    (2ull << 20)
#define POPULATE_AT 8 /* huge pages at once, so that a cancelled one ends soon */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22 /* Linux 5.14; without it pages come one by one, which is slower */
#define MADV_POPULATE_WRITE 23
#endif

#define PM_PRESENT (1ull << 63)
#define PM_SWAPPED (1ull << 62)
#define PM_FILE	   (1ull << 61)
#define PM_BATCH   4096

/* --- what is where ------------------------------------------------------------------ */

/* fn for each run of pages [first, end) that the memfd has. */
static int for_each_data(const struct guest_mem *m, void *arg,
			 void (*fn)(void *arg, uint64_t first, uint64_t end))
{
	uint64_t at = 0;

	while (at < m->ram_size) {
		off_t data = lseek(m->ram_fd, (off_t)at, SEEK_DATA), hole;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(m->ram_fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		at = (uint64_t)hole < m->ram_size ? ((uint64_t)hole + PG - 1) / PG * PG : m->ram_size;
		if ((uint64_t)data < at)
			fn(arg, (uint64_t)data / PG, at / PG);
	}
	return 0;
}

/* Entries of pagemap for n <= PM_BATCH pages from `first` on. */
static int read_pagemap(const struct snap_pages *p, uint64_t first, uint64_t n, uint64_t *out)
{
	off_t off = (off_t)(((uintptr_t)p->m->ram / PG + first) * 8);
	ssize_t got = pread(p->pagemap_fd, out, n * 8, off);

	return got < 0 ? -errno : (uint64_t)got == n * 8 ? 0 : -EIO;
}

/* --- before ------------------------------------------------------------------------- */

struct estimate {
	const struct guest_mem *m;
	uint64_t pages;
};

static void count_run(void *arg, uint64_t first, uint64_t end)
{
	struct estimate *e = arg;

	e->pages += end - first;
	madvise(e->m->ram + first * PG, (end - first) * PG, MADV_POPULATE_READ);
}

/* How many pages would have to be copied now. */
static uint64_t estimate(const struct snap_pages *p)
{
	struct estimate e = {.m = p->m};
	uint64_t map[PM_BATCH];

	if (p->m->ram_fd >= 0) {
		for_each_data(p->m, &e, count_run);
		return e.pages;
	}
	if (p->pagemap_fd < 0)
		return p->m->ram_size / PG;
	for (uint64_t at = 0; at < p->m->ram_size / PG && !p->cancel; at += PM_BATCH) {
		uint64_t n = p->m->ram_size / PG - at < PM_BATCH ? p->m->ram_size / PG - at : PM_BATCH;

		if (read_pagemap(p, at, n, map))
			return p->m->ram_size / PG;
		for (uint64_t i = 0; i < n; i++)
			e.pages += map[i] & PM_SWAPPED || (map[i] & PM_PRESENT && !(map[i] & PM_FILE));
	}
	return e.pages;
}

static void *reserve(uint64_t len)
{
	void *v = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return v == MAP_FAILED ? NULL : v;
}

int snap_pages_prepare(struct snap_pages *p)
{
	uint64_t pages = estimate(p), want, max = p->m->ram_max;

	p->state_len = p->m->ram_max / PG;
	p->state = reserve(p->state_len);
	p->buf_len = max + HUGE;
	p->buf_map = reserve(p->buf_len);
	p->missing_len = p->m->lazy ? (max / PG + 63) / 64 * 8 : 0;
	p->missing = p->missing_len ? reserve(p->missing_len) : NULL;
	if (!p->state || !p->buf_map || (p->missing_len && !p->missing))
		return -ENOMEM;
	want = (pages + pages / 16 + 64) * PG; /* it may grow until it rests */
	want = want < max ? (want + HUGE - 1) / HUGE * HUGE : max;
	p->buf = (uint8_t *)p->buf_map + HUGE - (uintptr_t)p->buf_map % HUGE;
	madvise(p->buf, want, MADV_HUGEPAGE);
	for (uint64_t at = 0; at < want && !p->cancel; at += POPULATE_AT * HUGE)
		madvise(p->buf + at, want - at < POPULATE_AT * HUGE ? want - at : POPULATE_AT * HUGE,
			MADV_POPULATE_WRITE);
	madvise(p->state, p->m->ram_size / PG, MADV_POPULATE_WRITE);
	return 0;
}

/* --- at rest ------------------------------------------------------------------------ */

static void take_census(struct snap_pages *p, const uint8_t *census, uint64_t n_census)
{
	p->n = p->m->ram_size / PG;
	if (n_census > p->n)
		n_census = p->n;
	memcpy(p->state, census ? census : p->state, census ? n_census : 0);
	for (uint64_t i = 0; census && i < n_census; i++) /* it is the guest's word */
		if (p->state[i] > SNAP_FRAME_FREE)
			p->state[i] = SNAP_FRAME_KERNEL;
}

/* A page that the host has no memory of ours for. */
static void absent(struct snap_pages *p, uint64_t i, bool old)
{
	if (old && !(p->dropped && p->dropped[i / 8] >> i % 8 & 1))
		p->state[i] |= SNAP_PAGE_OLD;
}

static int classify_private(struct snap_pages *p)
{
	uint64_t map[PM_BATCH];
	int r;

	for (uint64_t at = 0; at < p->n; at += PM_BATCH) {
		uint64_t n = p->n - at < PM_BATCH ? p->n - at : PM_BATCH;

		if (p->pagemap_fd < 0)
			memset(map, 0xff, sizeof(map));
		else if ((r = read_pagemap(p, at, n, map)))
			return r;
		for (uint64_t i = 0; i < n; i++) {
			if ((p->state[at + i] & SNAP_PAGE_FRAME) == SNAP_FRAME_FREE)
				continue;
			if (map[i] & PM_SWAPPED ||
			    (map[i] & PM_PRESENT && (p->pagemap_fd < 0 || !(map[i] & PM_FILE))))
				p->state[at + i] |= SNAP_PAGE_COPIED;
			else if (map[i] & PM_PRESENT)
				p->state[at + i] |= SNAP_PAGE_OLD;
			else
				absent(p, at + i, true);
		}
	}
	return 0;
}

static void mark_run(void *arg, uint64_t first, uint64_t end)
{
	struct snap_pages *p = arg;

	for (uint64_t i = first; i < end; i++)
		if ((p->state[i] & SNAP_PAGE_FRAME) != SNAP_FRAME_FREE)
			p->state[i] |= SNAP_PAGE_COPIED;
}

static int classify_shared(struct snap_pages *p)
{
	int r = for_each_data(p->m, p, mark_run);
	uint64_t left = p->missing ? lazy_missing(p->m, p->missing, p->n) : 0;

	for (uint64_t i = 0; left && i < p->n; i++)
		if (p->missing[i / 64] >> i % 64 & 1 && (p->state[i] & SNAP_PAGE_FRAME) != SNAP_FRAME_FREE)
			p->state[i] = (p->state[i] & SNAP_PAGE_FRAME) | SNAP_PAGE_OLD;
	return r;
}

/* Faster than memcpy() for long runs on the processors of the last ten years, and equal for short ones. */
static void copy(void *to, const void *from, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

int snap_pages_copy(struct snap_pages *p, const uint8_t *census, uint64_t n_census)
{
	uint64_t i = 0;
	int r;

	take_census(p, census, n_census);
	r = p->m->ram_fd >= 0 ? classify_shared(p) : classify_private(p);
	if (r)
		return r;
	while (i < p->n) {
		uint64_t first = i;

		while (i < p->n && p->state[i] & SNAP_PAGE_COPIED)
			i++;
		if (i == first) {
			i++;
			continue;
		}
		copy(p->buf + p->copied * PG, p->m->ram + first * PG, (i - first) * PG);
		p->copied += i - first;
	}
	return 0;
}

void snap_pages_free(struct snap_pages *p)
{
	if (p->buf_map)
		munmap(p->buf_map, p->buf_len);
	if (p->state)
		munmap(p->state, p->state_len);
	if (p->missing)
		munmap(p->missing, p->missing_len);
	p->buf_map = p->missing = NULL;
	p->buf = p->state = NULL;
}
