/* SPDX-License-Identifier: ISC */
/*
 * Wait queues: a list of callbacks. The list is walked with care for waiters
 * that remove themselves, and any other waiter, from within their callback: a
 * cursor node marks the place, so the walk ends even if all of them go.
 *
 * Exclusive waiters stand at the end of the queue and are woken in the order
 * in which they came; non-exclusive ones always come first.
 */
#include "guest/proc/waitq.h"
#include "guest/proc/proc.h"

void waitq_init(struct waitq *q)
{
	list_init(&q->waiters);
}

void waitq_add(struct waitq *q, struct waiter *w)
{
	if (unlikely(!q->waiters.next)) /* zeroed memory is an empty queue too */
		list_init(&q->waiters);
	w->wq = q;
	if (w->exclusive)
		list_add_tail(&q->waiters, &w->node);
	else
		list_add_head(&q->waiters, &w->node);
}

void waitq_remove(struct waiter *w)
{
	if (!w->wq)
		return;
	w->wq = NULL;
	list_del(&w->node);
}

void waitq_detach(struct waitq *q)
{
	if (!q->waiters.next)
		return;
	while (!list_empty(&q->waiters))
		waitq_remove(list_first(&q->waiters, struct waiter, node));
}

/* gcc 12 does not see that the cursor has left the list on every path. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdangling-pointer"
void waitq_wake_n(struct waitq *q, u32 events, unsigned max_exclusive)
{
	struct waiter cursor = {.fn = NULL};
	struct list *it;

	if (!q->waiters.next || list_empty(&q->waiters))
		return;
	list_add_head(&q->waiters, &cursor.node);
	while ((it = cursor.node.next) != &q->waiters) {
		struct waiter *w = list_entry(it, struct waiter, node);
		bool exclusive = w->exclusive;

		list_del(&cursor.node);
		list_add_head(it, &cursor.node); /* step behind w before it may go away */
		if (!w->fn)
			continue; /* the cursor of a walk further out */
		if (exclusive && !max_exclusive)
			break;
		if (w->fn(w, events) && exclusive)
			max_exclusive--;
	}
	list_del(&cursor.node);
}
#pragma GCC diagnostic pop

bool waiter_wake_thread(struct waiter *w, u32 events)
{
	struct thread *t = w->thread;

	if (!thread_sleeps(t))
		return false; /* on its way already: let the next one have an exclusive wake-up */
	thread_wake(t);
	return true;
}
