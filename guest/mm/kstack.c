/* SPDX-License-Identifier: ISC */
/*
 * Kernel stacks, in the vmap area, each above a guard page that is never mapped.
 *
 * The area's first part is the frame array (ram_max / 512 bytes); stacks are
 * cut from the rest, one after the other, and a slot once cut is reused for
 * stacks of its size only. Freed stacks stay mapped for the next thread; of a
 * burst of threads all but CACHE_MAX give their frames back.
 * A stack's frames are contiguous, so that a buffer on it can be shown to the
 * monitor, and untouched ones cost the host nothing.
 */
#include <asm-generic/errno.h>

#include "abi/boot.h"
#include "guest/mm/frame.h"
#include "guest/mm/pt.h"

#define CACHE_MAX 32u

struct slot {
	struct slot *next;
	u64 base; /* lowest mapped address */
	size_t size;
	gpa_t frames; /* GPA_NONE: not mapped now */
};

static struct slot *free_slots, *used_slots;
static u64 vmap_next;
static unsigned n_cached;

static struct slot *slot_cut(size_t size)
{
	struct slot *s;

	if (!vmap_next)
		vmap_next = boot->vmap_va + ALIGN_UP(boot->ram_max / 512 + HUGE_SIZE, HUGE_SIZE);
	if (vmap_next + size + PAGE_SIZE > boot->vmap_va + boot->vmap_size)
		return NULL;
	s = kmalloc(sizeof(*s));
	if (!s)
		return NULL;
	*s = (struct slot){.base = vmap_next + PAGE_SIZE, .size = size, .frames = GPA_NONE};
	vmap_next += size + PAGE_SIZE;
	return s;
}

static bool slot_fill(struct slot *s)
{
	u64 pages = s->size >> PAGE_SHIFT;
	unsigned order = pages > 1 ? 64u - (unsigned)__builtin_clzll(pages - 1) : 0;
	gpa_t g = frame_alloc(order, false);

	if (g.v == GPA_NONE.v)
		return false;
	frame_put_run(GPA(g.v + s->size), (1ull << order) - pages);
	if (kpt_map(s->base, g, pages, PTE_W | PTE_NX)) {
		frame_put_run(g, pages);
		return false;
	}
	s->frames = g;
	return true;
}

static struct slot *slot_take(struct slot **list, size_t size, u64 base)
{
	for (struct slot **l = list; *l; l = &(*l)->next) {
		struct slot *s = *l;

		if (s->size == size && (!base || s->base == base)) {
			*l = s->next;
			return s;
		}
	}
	return NULL;
}

void *kstack_alloc(size_t size)
{
	struct slot *s;

	size = PAGE_UP(size);
	s = slot_take(&free_slots, size, 0);
	if (!s)
		s = slot_cut(size);
	if (!s)
		return NULL;
	if (s->frames.v != GPA_NONE.v) {
		n_cached--;
	} else if (!slot_fill(s)) {
		s->next = free_slots;
		free_slots = s;
		return NULL;
	}
	s->next = used_slots;
	used_slots = s;
	return (void *)(s->base + size);
}

void kstack_free(void *top, size_t size)
{
	struct slot *s;

	size = PAGE_UP(size);
	s = slot_take(&used_slots, size, (u64)top - size);
	ASSERT(s);
	if (n_cached < CACHE_MAX) {
		n_cached++;
		s->next = free_slots;
		free_slots = s;
		return;
	}
	kpt_unmap(s->base, size >> PAGE_SHIFT);
	frame_put_run(s->frames, size >> PAGE_SHIFT);
	s->frames = GPA_NONE;
	/* Behind the mapped ones, which are preferred. */
	struct slot **l = &free_slots;

	while (*l)
		l = &(*l)->next;
	s->next = NULL;
	*l = s;
}
