/* SPDX-License-Identifier: ISC */
/*
 * O_ASYNC: a file whose owner (F_SETOWN) gets SIGIO, or what F_SETSIG says,
 * when something happens. It is a poller that never asks: it waits on the
 * queues that the file's poll operation names, for as long as the flag is set,
 * and sends a signal at each wake-up. So it works for what poll works for.
 */
#include <asm-generic/errno.h>

#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/vfs/internal.h"

enum { MAX_QUEUES = 4 };

struct async {
	struct poll_table pt;
	struct file *f;
	int fd; /* as it was called when the flag was set */
	u32 n;
	struct listener {
		struct waiter w;
		struct async *a;
	} on[MAX_QUEUES];
};

/* si_code and si_band of a wake-up. */
static int band_of(u32 events, long *band)
{
	if (events & POLLERR) {
		*band = POLLERR;
		return POLL_ERR;
	}
	if (events & POLLHUP) {
		*band = POLLHUP | POLLERR;
		return POLL_HUP;
	}
	if (events & POLLIN || !(events & POLLOUT)) {
		*band = POLLIN | POLLRDNORM;
		return POLL_IN;
	}
	*band = POLLOUT | POLLWRNORM | POLLWRBAND;
	return POLL_OUT;
}

/* As kill(2), with the ids of who made it the owner. */
static bool may_tell(const struct file *f, const struct process *p)
{
	return !f->owner_euid || f->owner_euid == p->suid || f->owner_euid == p->uid ||
	       f->owner_uid == p->suid || f->owner_uid == p->uid;
}

static void tell(struct file *f, struct process *p, struct thread *t, const siginfo_t *info)
{
	int sig = f->owner_sig ? f->owner_sig : SIGIO;

	if (!f->owner_sig)
		info = NULL; /* it says nothing but that the kernel sent it */
	if (!may_tell(f, p))
		return;
	if (t)
		signal_thread(t, sig, info);
	else
		signal_process(p, sig, info);
}

static bool happened(struct waiter *w, u32 events)
{
	struct async *a = container_of(w, struct listener, w)->a;
	struct file *f = a->f;
	struct process *p;
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_code = band_of(events, &info.si_band);
	info.si_fd = a->fd;
	if (f->owner_is_thread) {
		struct thread *t = thread_by_tid(f->owner);

		if (t && !t->kfn)
			tell(f, t->proc, t, &info);
	} else if (f->owner > 0) {
		p = process_by_pid(f->owner);
		if (p)
			tell(f, p, NULL, &info);
	} else if (f->owner) {
		list_for_each_safe (it, &all_processes) {
			p = list_entry(it, struct process, all_node);
			if (p->pgid == -f->owner)
				tell(f, p, NULL, &info);
		}
	}
	return false;
}

static void listen_on(struct poll_table *pt, struct waitq *q)
{
	struct async *a = container_of(pt, struct async, pt);
	struct listener *l;

	if (a->n == MAX_QUEUES)
		return;
	l = &a->on[a->n++];
	l->a = a;
	l->w.fn = happened;
	waitq_add(q, &l->w);
}

void file_async_end(struct file *f)
{
	struct async *a = f->async;

	f->async = NULL;
	for (u32 i = 0; a && i < a->n; i++)
		waitq_remove(&a->on[i].w);
	kfree(a);
}

int file_async_begin(struct file *f, int fd)
{
	struct async *a;

	if (f->async || !f->ops->poll)
		return 0;
	a = kzalloc(sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->pt.add = listen_on;
	a->f = f;
	a->fd = fd;
	f->async = a;
	f->ops->poll(f, &a->pt);
	return 0;
}

/* owner: a process, or with a minus a group; 0: nobody. */
int file_set_owner(struct file *f, s32 owner, bool thread)
{
	if (owner == INT32_MIN)
		return -EINVAL;
	if (thread	? !thread_by_tid(owner)
	    : owner > 0 ? !process_by_pid(owner)
			: owner < 0 && !pgrp_session(-owner))
		return -ESRCH;
	f->owner = owner;
	f->owner_is_thread = thread && owner;
	f->owner_uid = current->proc->uid;
	f->owner_euid = current->proc->euid;
	return 0;
}
