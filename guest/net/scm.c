/* SPDX-License-Identifier: ISC */
/*
 * Descriptors in flight (SCM_RIGHTS), and cycles of them.
 *
 * A scm_fds holds one reference of each file. While it lies in a receive queue
 * it is on `in_flight` and names its holder. Sockets that are only reachable
 * through each other's queues would never go: unix_gc() runs when an AF_UNIX
 * socket closes while something is in flight, or when many were sent, marks what can still be reached
 * from outside and takes the files out of all other queues.
 *
 * Putting a file may close a socket whose queue holds more files: that is done
 * by a loop, not by recursion, because the app chooses the depth.
 */
#include "guest/net/sock.h"

static struct list in_flight = LIST_INIT(in_flight);
static struct list to_free = LIST_INIT(to_free);
static bool freeing;
static void collect(void);
static u32 n_in_flight, n_queued, n_closed; /* the latter two since the last collection */
#define GC_EVERY 1024

void scm_queued(struct scm_fds *f, struct sock *holder)
{
	f->holder = holder;
	list_add_tail(&in_flight, &f->node);
	n_in_flight++;
	if (++n_queued >= GC_EVERY)
		collect();
}

void scm_unqueued(struct scm_fds *f)
{
	f->holder = NULL;
	list_del(&f->node);
	n_in_flight--;
}

struct scm_fds *scm_dup(struct scm_fds *f)
{
	struct scm_fds *n = kmalloc(sizeof(*n) + f->n * sizeof(f->file[0]));
	if (!n)
		return NULL;
	memcpy(n, f, sizeof(*n) + f->n * sizeof(f->file[0]));
	list_init(&n->node);
	n->holder = NULL;
	for (u32 i = 0; i < n->n; i++)
		file_get(n->file[i]);
	return n;
}

void scm_free(struct scm_fds *f)
{
	n_in_flight -= f->holder != NULL;
	list_del(&f->node);
	list_add_tail(&to_free, &f->node);
	if (freeing)
		return;
	freeing = true;
	while (!list_empty(&to_free)) {
		struct scm_fds *x = list_first(&to_free, struct scm_fds, node);
		list_del(&x->node);
		for (u32 i = 0; i < x->n; i++)
			if (x->file[i])
				file_put(x->file[i]);
		kfree(x);
	}
	freeing = false;
}

static struct sock *unix_of(struct file *f)
{
	struct sock *s = f ? sock_of(f) : NULL;
	return s && s->family == AF_UNIX ? s : NULL;
}

static bool reachable(const struct sock *s)
{
	/* no file: a connection that waits to be accepted, or one being closed */
	return s->gc_mark || !s->gc_refs || !s->file || s->file->refs > s->gc_refs;
}

static bool mark_files(const struct scm_fds *f)
{
	bool changed = false;
	if (!reachable(f->holder))
		return false;
	for (u32 i = 0; i < f->n; i++) {
		struct sock *s = unix_of(f->file[i]);
		if (s && !s->gc_mark) {
			s->gc_mark = true;
			changed = true;
		}
	}
	return changed;
}

/* Mark what reachable queues hold; true if that was news. Both ways, so that chains take one round. */
static bool mark_round(void)
{
	bool changed = false;
	list_for_each (l, &in_flight)
		changed |= mark_files(list_entry(l, struct scm_fds, node));
	for (struct list *l = in_flight.prev; l != &in_flight; l = l->prev)
		changed |= mark_files(list_entry(l, struct scm_fds, node));
	return changed;
}

static void collect(void)
{
	if (list_empty(&in_flight) || freeing)
		return;
	n_queued = n_closed = 0;
	for (int pass = 0; pass < 2; pass++) {
		list_for_each (l, &in_flight) {
			struct scm_fds *f = list_entry(l, struct scm_fds, node);
			f->holder->gc_refs = pass ? f->holder->gc_refs : 0;
			f->holder->gc_mark = false;
			for (u32 i = 0; i < f->n; i++) {
				struct sock *s = unix_of(f->file[i]);
				if (!s)
					continue;
				s->gc_refs = pass ? s->gc_refs + 1 : 0;
				s->gc_mark = false;
			}
		}
	}
	while (mark_round())
		;
	/* Take the files out first: putting them changes the list. */
	struct list dead = LIST_INIT(dead);
	list_for_each_safe (l, &in_flight) {
		struct scm_fds *f = list_entry(l, struct scm_fds, node);
		if (reachable(f->holder))
			continue;
		struct scm_fds *copy = kmalloc(sizeof(*copy) + f->n * sizeof(f->file[0]));
		if (!copy)
			continue; /* the next close tries again */
		memcpy(copy, f, sizeof(*copy) + f->n * sizeof(f->file[0]));
		f->n = 0;
		copy->holder = NULL;
		list_init(&copy->node);
		list_add_tail(&dead, &copy->node);
	}
	while (!list_empty(&dead))
		scm_free(list_first(&dead, struct scm_fds, node));
}

/* A socket closed. The work is proportional to what is in flight, so it is done that much more rarely. */
void unix_gc(void)
{
	if (n_in_flight && ++n_closed > n_in_flight / 8)
		collect();
}
