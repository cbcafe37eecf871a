/* SPDX-License-Identifier: ISC */
/*
 * poll and select, and when a program that asks for events gets a doorbell.
 *
 * poll_files() asks every file, and if none is ready waits on all their queues.
 * Waiters live in blocks: the first on the stack, more from kmalloc.
 *
 * The turn rule: a program that sleeps rings the doorbell by sleeping. One that
 * asks while events are ready would never ring it, so asking flushes what is
 * queued. One that asks without waiting (timeout 0) may do so in a tight loop:
 * it gets a doorbell at most every SPIN_NS.
 */
#include "guest/net/poll.h"

#include "abi/boot.h"
#include "guest/net/sock.h"

#define BLOCK		16
#define SPIN_KVM_NS	100000ull
#define SPIN_PROCESS_NS 20000ull

struct block {
	struct block *next;
	u32 n;
	struct waiter w[BLOCK];
};

struct poll_wait {
	struct poll_table pt;
	struct block *last;
	struct block first;
	bool failed;
};

void net_turn(bool have_events)
{
	static u64 last_ns, last_bells;
	if (have_events) {
		if (ring_pending())
			ring_flush();
		return;
	}
	if (ring_hurried()) {
		ring_flush();
		return;
	}
	u64 now = mono_ns();
	if (last_bells != stats->doorbells) { /* somebody rang since: count from here */
		last_bells = stats->doorbells;
		last_ns = now;
		return;
	}
	if (now - last_ns < (boot->plat == BOOT_PLAT_KVM ? SPIN_KVM_NS : SPIN_PROCESS_NS))
		return;
	ring_flush();
	last_bells = stats->doorbells;
	last_ns = now;
}

static void add_queue(struct poll_table *pt, struct waitq *q)
{
	struct poll_wait *pw = container_of(pt, struct poll_wait, pt);
	struct block *b = pw->last;
	if (b->n == BLOCK) {
		b = kmalloc(sizeof(*b));
		if (!b) {
			pw->failed = true;
			return;
		}
		b->next = NULL;
		b->n = 0;
		pw->last->next = b;
		pw->last = b;
	}
	struct waiter *w = &b->w[b->n++];
	*w = (struct waiter){.fn = waiter_wake_thread, .thread = current};
	list_init(&w->node);
	waitq_add(q, w);
}

static void drop_waiters(struct poll_wait *pw)
{
	struct block *b = &pw->first;
	while (b) {
		struct block *next = b->next;
		for (u32 i = 0; i < b->n; i++)
			waitq_remove(&b->w[i]);
		if (b != &pw->first)
			kfree(b);
		b = next;
	}
}

/* Ask all; with pt, also wait on them until the first that is ready. */
static int scan(struct poll_ent *e, u32 n, struct poll_table *pt)
{
	int ready = 0;
	for (u32 i = 0; i < n; i++) {
		e[i].revents = 0;
		if (e[i].bad)
			e[i].revents = POLLNVAL;
		else if (e[i].file)
			e[i].revents =
				(e[i].file->ops->poll ? e[i].file->ops->poll(e[i].file, ready ? NULL : pt)
						      : POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM) &
				e[i].events;
		ready += e[i].revents != 0;
	}
	return ready;
}

int poll_files(struct poll_ent *e, u32 n, u64 deadline, bool poll_only)
{
	struct poll_wait pw;
	int ready = scan(e, n, NULL), r = 0;
	if (ready || poll_only) {
		u64 bells = stats->doorbells;
		net_turn(ready);
		return bells != stats->doorbells ? scan(e, n, NULL) : ready;
	}
	pw.pt.add = add_queue;
	pw.last = &pw.first;
	pw.first.next = NULL;
	pw.first.n = 0;
	pw.failed = false;
	struct poll_table *pt = &pw.pt;
	for (;;) {
		thread_prepare_sleep(true);
		ready = scan(e, n, pt);
		pt = NULL;
		if (ready || r || pw.failed)
			break;
		r = thread_sleep(deadline);
	}
	thread_finish_sleep();
	drop_waiters(&pw);
	if (ready)
		return ready;
	if (pw.failed)
		return -ENOMEM;
	return r == -ETIMEDOUT ? 0 : r;
}
