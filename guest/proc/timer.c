/* SPDX-License-Identifier: ISC */
/*
 * Kernel timers: a pairing heap threaded through the timers themselves, so
 * that arming one cannot fail. Insert is O(1), remove O(log n) amortised.
 *
 * node[0] first child, node[1] next sibling, node[2] previous sibling, or the
 * parent for a first child. The root has neither siblings nor parent.
 */
#include "guest/proc/internal.h"

static struct ktimer *root;

#define CHILD(t) ((t)->node[0])
#define NEXT(t)	 ((t)->node[1])
#define PREV(t)	 ((t)->node[2])

/* Join two heaps; either may be empty. Equal deadlines keep `a` on top. */
static struct ktimer *meld(struct ktimer *a, struct ktimer *b)
{
	struct ktimer *child;

	if (!a || !b)
		return a ? a : b;
	if (b->deadline_ns < a->deadline_ns) {
		struct ktimer *t = a;

		a = b;
		b = t;
	}
	child = CHILD(a);
	NEXT(b) = child;
	if (child)
		PREV(child) = b;
	PREV(b) = a;
	CHILD(a) = b;
	return a;
}

/* Join a list of siblings in pairs, then the pairs from last to first. */
static struct ktimer *meld_siblings(struct ktimer *first)
{
	struct ktimer *pairs = NULL, *heap = NULL;

	while (first) {
		struct ktimer *a = first, *b = NEXT(a), *pair;

		first = b ? NEXT(b) : NULL;
		NEXT(a) = PREV(a) = NULL;
		if (b)
			NEXT(b) = PREV(b) = NULL;
		pair = meld(a, b);
		NEXT(pair) = pairs;
		pairs = pair;
	}
	while (pairs) {
		struct ktimer *next = NEXT(pairs);

		NEXT(pairs) = NULL;
		heap = meld(heap, pairs);
		pairs = next;
	}
	return heap;
}

static void heap_remove(struct ktimer *t)
{
	struct ktimer *sub = meld_siblings(CHILD(t));

	if (t == root) {
		root = sub;
	} else {
		struct ktimer *prev = PREV(t), *next = NEXT(t);

		if (CHILD(prev) == t)
			CHILD(prev) = next;
		else
			NEXT(prev) = next;
		if (next)
			PREV(next) = prev;
		root = meld(root, sub);
	}
	CHILD(t) = NEXT(t) = PREV(t) = NULL;
}

void ktimer_init(struct ktimer *t, void (*fn)(struct ktimer *))
{
	*t = (struct ktimer){.fn = fn};
}

void ktimer_arm(struct ktimer *t, u64 deadline_mono_ns)
{
	if (t->armed)
		heap_remove(t);
	CHILD(t) = NEXT(t) = PREV(t) = NULL;
	t->deadline_ns = deadline_mono_ns;
	t->armed = true;
	root = meld(root, t);
	if (root == t)
		sched_update_tick();
}

void ktimer_cancel(struct ktimer *t)
{
	if (!t->armed)
		return;
	t->armed = false;
	heap_remove(t);
}

u64 ktimer_next(void)
{
	return root ? root->deadline_ns : NO_DEADLINE;
}

/* A callback may arm, also itself; what it arms for now or the past waits for the next run. */
void ktimers_run(void)
{
	u64 now;

	if (!root)
		return;
	now = mono_ns();
	for (unsigned i = 0; root && root->deadline_ns <= now && i < 1000; i++) {
		struct ktimer *t = root;

		t->armed = false;
		heap_remove(t);
		t->fn(t);
	}
}
