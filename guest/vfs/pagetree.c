/* SPDX-License-Identifier: ISC */
/* Radix tree of file pages; see pagetree.h. Never sleeps. Depth is at most 11 (64 bits of index, 6 a level). */
#include "guest/vfs/pagetree.h"

enum { BITS = 6, FANOUT = 1 << BITS };

struct node {
	u64 slot[FANOUT];
};

static struct node *as_node(u64 v)
{
	return (struct node *)(uintptr_t)v;
}

/* Highest index that a tree of this height can hold. */
static u64 max_index(u32 height)
{
	return height * BITS >= 64 ? ~0ull : (1ull << (height * BITS)) - 1;
}

u64 pagetree_get(const struct pagetree *t, u64 index)
{
	u64 v = t->root;

	if (index > max_index(t->height))
		return 0;
	for (u32 h = t->height; h && v; h--)
		v = as_node(v)->slot[index >> ((h - 1) * BITS) & (FANOUT - 1)];
	return v;
}

bool pagetree_set(struct pagetree *t, u64 index, u64 entry)
{
	while (index > max_index(t->height)) {
		if (!entry)
			return true;
		if (t->root) {
			struct node *n = kzalloc(sizeof(*n));
			if (!n)
				return false;
			n->slot[0] = t->root;
			t->root = (uintptr_t)n;
		}
		t->height++;
	}
	u64 *v = &t->root;
	for (u32 h = t->height; h; h--) {
		if (!*v) {
			struct node *n = entry ? kzalloc(sizeof(*n)) : NULL;
			if (!n)
				return !entry;
			*v = (uintptr_t)n;
		}
		v = &as_node(*v)->slot[index >> ((h - 1) * BITS) & (FANOUT - 1)];
	}
	t->count += (entry != 0) - (*v != 0);
	*v = entry;
	return true;
}

static u64 next_below(u64 v, u32 h, u64 base, u64 from)
{
	if (!v)
		return ~0ull;
	if (!h)
		return base;
	u32 shift = (h - 1) * BITS;
	u32 i = from > base ? (u32)(from >> shift & (FANOUT - 1)) : 0;
	for (; i < FANOUT; i++) {
		u64 child = base + ((u64)i << shift);
		u64 r = next_below(as_node(v)->slot[i], h - 1, child, MAX(from, child));
		if (r != ~0ull)
			return r;
	}
	return ~0ull;
}

u64 pagetree_next(const struct pagetree *t, u64 from)
{
	if (!t->count || from > max_index(t->height))
		return ~0ull;
	return next_below(t->root, t->height, 0, from);
}

struct removal {
	u64 from, to;
	void (*fn)(u64 entry, void *arg);
	void *arg;
	u64 count;
};

/* Returns true if *v is empty afterwards. */
static bool remove_below(u64 *v, u32 h, u64 base, struct removal *r)
{
	if (!*v)
		return true;
	if (!h) {
		if (base < r->from || base > r->to)
			return false;
		u64 entry = *v;
		*v = 0;
		r->count++;
		if (r->fn)
			r->fn(entry, r->arg);
		return true;
	}
	u32 shift = (h - 1) * BITS;
	bool empty = true;
	for (u32 i = 0; i < FANOUT; i++) {
		u64 lo = base + ((u64)i << shift), hi = lo + max_index(h - 1);
		u64 *child = &as_node(*v)->slot[i];
		if (hi < r->from || lo > r->to)
			empty &= !*child;
		else
			empty &= remove_below(child, h - 1, lo, r);
	}
	if (empty) {
		kfree(as_node(*v));
		*v = 0;
	}
	return empty;
}

void pagetree_remove(struct pagetree *t, u64 from, u64 to, void (*fn)(u64 entry, void *arg), void *arg)
{
	struct removal r = {from, to, fn, arg, 0};

	if (from > to)
		return;
	if (remove_below(&t->root, t->height, 0, &r))
		t->height = 0;
	t->count -= r.count;
}
