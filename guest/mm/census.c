// SPDX-License-Identifier: ISC
/*
 * The census: what each frame of RAM is good for, one byte a frame (enum snap_frame), for a snapshot.
 *
 *   census_begin() -> census_count() for each address space -> census_close() -> the monitor reads -> census_end()
 *
 * FREE: in the allocator's lists. USER: every reference that the frame has is an entry of a page table for private
 * memory. So frames are first counted through the tables, and the count is compared with the frame's own: whatever
 * else holds one (a file's pages, a buffer on its way) makes it the library OS's, which is the safe answer.
 * Entries of the frame array are looked at only where a table refers to the frame: those of RAM that nobody used
 * have no memory yet.
 *
 * A second array, one bit a frame, is for the monitor of a restored instance, to tell which frames it has not
 * filled yet (guest/plat/process.c). Nobody has a use for the contents of both in a snapshot: they count as FREE.
 */
#include "guest/mm/census.h"

#include <linux/mman.h>

#include "abi/snapshot.h"
#include "guest/mm/frame.h"
#include "guest/mm/pt.h"
#include "guest/mm/vma.h"

#define COUNT_MAX 255

static u8 *map;
static u64 n_frames;
struct lazy_frames lazy_frames;

static void *array(u64 bytes)
{
	return kzalloc(MAX(PAGE_UP(bytes), PAGE_SIZE)); /* whole pages, so that nothing else is in them */
}

/* Bits of a larger RAM; what is known of the smaller one stays. */
static bool lazy_resize(u64 frames)
{
	u64 words = (frames + 63) / 64;
	u64 *bits;

	if (lazy_frames.n >= frames)
		return true;
	bits = array(words * sizeof(u64));
	if (!bits)
		return false;
	if (lazy_frames.bits)
		memcpy(bits, lazy_frames.bits, (lazy_frames.n + 63) / 64 * sizeof(u64));
	kfree(lazy_frames.bits);
	lazy_frames.bits = bits;
	lazy_frames.n = frames;
	return true;
}

bool census_begin(void)
{
	u64 n = frames_present();

	ASSERT(!map);
	if (!lazy_resize(n) || !(map = array(n)))
		return false;
	n_frames = frames_present(); /* the arrays may have needed more RAM */
	if (n_frames == n)
		return true;
	census_end();
	return false;
}

static void count_leaf(const struct pt_leaf *l)
{
	u64 pfn = pte_gpa(l->entry).v >> PAGE_SHIFT;

	if (pfn >= n_frames || l->pages > n_frames - pfn)
		return;
	for (u64 i = pfn; i < pfn + l->pages; i++)
		map[i] = (u8)(map[i] + (map[i] < COUNT_MAX));
}

void census_count(struct aspace *as)
{
	list_for_each (n, &as->vmas) {
		struct vma *v = list_entry(n, struct vma, node);
		struct pt_leaf l;

		if (vma_shared(v) || v->flags & VMA_SPECIAL)
			continue;
		for (u64 va = v->start; pt_next(as, va, v->end, &l); va = l.va + (l.pages << PAGE_SHIFT))
			count_leaf(&l);
	}
}

static void mark_own(const void *p, u64 bytes)
{
	memset(map + (frame_gpa(p).v >> PAGE_SHIFT), SNAP_FRAME_FREE, PAGE_UP(bytes) >> PAGE_SHIFT);
}

void census_close(gpa_t *g, u64 *len)
{
	for (u64 i = 0; i < n_frames; i++) {
		const struct frame *f;

		if (likely(!map[i]))
			continue;
		f = frame_of(GPA(i << PAGE_SHIFT));
		map[i] = map[i] < COUNT_MAX && f->kind == FRAME_USED && f->b == map[i] ? SNAP_FRAME_USER
										       : SNAP_FRAME_KERNEL;
	}
	frames_mark_free(map, SNAP_FRAME_FREE);
	mark_own(map, n_frames);
	mark_own(lazy_frames.bits, (n_frames + 63) / 64 * sizeof(u64));
	*g = frame_gpa(map);
	*len = n_frames;
}

void census_end(void)
{
	kfree(map);
	map = NULL;
}
