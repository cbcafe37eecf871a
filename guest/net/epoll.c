/* SPDX-License-Identifier: ISC */
/*
 * epoll.
 *
 * An item joins one open file to one epoll set. It waits on the file's queues;
 * a wake-up puts it on the set's ready list, and epoll_wait walks that list only
 * (O(ready)). Each listed item is asked again with poll(): a wake-up is a hint. A
 * level-triggered item that was ready goes back to the list's end and is asked
 * again the next time; an edge-triggered or one-shot one does not.
 *
 * Items are found by descriptor number through a growing array; the numbers that
 * were closed while a duplicate lives stay, chained, as on Linux. A file that
 * goes away takes its items along (epoll_forget). Items hold no reference.
 *
 * A set is a file with poll() itself, so sets nest; the depth is bounded and
 * cycles are refused when an item is added.
 */
#include <linux/eventpoll.h>

#include "guest/mm/mm.h"
#include "guest/net/net.h"
#include "guest/net/sock.h"

#define NEST_MAX     4
#define EVENTS_MAX   (INT32_MAX / (int)sizeof(struct epoll_event))
#define OUT_BATCH    64
#define PRIVATE_BITS ((u32)EPOLLWAKEUP | (u32)EPOLLONESHOT | (u32)EPOLLET | (u32)EPOLLEXCLUSIVE)
#define EXCLUSIVE_OK ((u32)EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE)

struct epitem;
struct eppoint { /* one wait queue of the item's file */
	struct waiter w;
	struct epitem *item;
	struct eppoint *next;
};

struct eventpoll;
struct epitem {
	struct list ready; /* in the set's ready list, or empty */
	struct list file_node; /* in file->epoll_links */
	struct epitem *same_fd;
	struct eventpoll *ep;
	struct file *file;
	int fd;
	u32 events;
	u64 data;
	struct eppoint point; /* first one inline; more are rare */
	bool point_used;
};

struct eventpoll {
	struct list ready;
	struct waitq wq; /* threads in epoll_wait */
	struct waitq poll_wq; /* sets that contain this one, poll() */
	struct epitem **by_fd;
	u32 n_fd;
	struct file *file;
};

static const struct file_ops epoll_fops;

static struct eventpoll *ep_of(struct file *f)
{
	return f->ops == &epoll_fops ? f->priv : NULL;
}

/* --- wake-ups ---------------------------------------------------------------------- */

static void ep_mark_ready(struct eventpoll *ep, struct epitem *it)
{
	if (list_empty(&it->ready))
		list_add_tail(&ep->ready, &it->ready);
	waitq_wake(&ep->wq, POLLIN);
	waitq_wake(&ep->poll_wq, POLLIN | POLLRDNORM);
}

static bool ep_wake(struct waiter *w, u32 events)
{
	struct epitem *it = container_of(w, struct eppoint, w)->item;
	if (!(it->events & ~PRIVATE_BITS))
		return false; /* a spent one-shot */
	if (events && !(events & it->events))
		return false;
	ep_mark_ready(it->ep, it);
	return true;
}

struct ep_table {
	struct poll_table pt;
	struct epitem *item;
	bool failed;
};

static void ep_add_queue(struct poll_table *pt, struct waitq *q)
{
	struct ep_table *t = container_of(pt, struct ep_table, pt);
	struct epitem *it = t->item;
	struct eppoint *p = &it->point;
	if (it->point_used) {
		p = kzalloc(sizeof(*p));
		if (!p) {
			t->failed = true;
			return;
		}
		p->next = it->point.next;
		it->point.next = p;
	}
	it->point_used = true;
	p->item = it;
	p->w.fn = ep_wake;
	p->w.exclusive = it->events & (u32)EPOLLEXCLUSIVE;
	list_init(&p->w.node);
	waitq_add(q, &p->w);
}

/* --- items --------------------------------------------------------------------------- */

static struct epitem *ep_find(struct eventpoll *ep, int fd, struct file *f)
{
	struct epitem *it = (u32)fd < ep->n_fd ? ep->by_fd[fd] : NULL;
	while (it && it->file != f)
		it = it->same_fd;
	return it;
}

static void ep_remove(struct epitem *it)
{
	struct epitem **pp = &it->ep->by_fd[it->fd];
	while (*pp != it)
		pp = &(*pp)->same_fd;
	*pp = it->same_fd;
	list_del(&it->ready);
	list_del(&it->file_node);
	waitq_remove(&it->point.w);
	while (it->point.next) {
		struct eppoint *p = it->point.next;
		it->point.next = p->next;
		waitq_remove(&p->w);
		kfree(p);
	}
	kfree(it);
}

static bool ep_grow(struct eventpoll *ep, int fd)
{
	if ((u32)fd < ep->n_fd)
		return true;
	u32 n = MAX(ep->n_fd, 16u);
	while (n <= (u32)fd)
		n *= 2;
	struct epitem **a = krealloc(ep->by_fd, n * sizeof(*a));
	if (!a)
		return false;
	memset(a + ep->n_fd, 0, (n - ep->n_fd) * sizeof(*a));
	ep->by_fd = a;
	ep->n_fd = n;
	return true;
}

/* Levels of sets below `ep`; more than NEST_MAX when it is too deep or contains `target`. */
static int ep_depth(struct eventpoll *ep, struct eventpoll *target, int level)
{
	int deepest = 0;
	if (ep == target || level > NEST_MAX)
		return NEST_MAX + 1;
	for (u32 i = 0; i < ep->n_fd; i++) {
		for (struct epitem *it = ep->by_fd[i]; it; it = it->same_fd) {
			struct eventpoll *sub = ep_of(it->file);
			if (sub)
				deepest = MAX(deepest, 1 + ep_depth(sub, target, level + 1));
		}
	}
	return deepest;
}

/* Levels of sets above `ep`. */
static int ep_height(struct eventpoll *ep, int level)
{
	int highest = 0;
	if (level > NEST_MAX)
		return level;
	list_for_each (l, &ep->file->epoll_links) {
		struct epitem *it = list_entry(l, struct epitem, file_node);
		highest = MAX(highest, 1 + ep_height(it->ep, level + 1));
	}
	return highest;
}

static int ep_insert(struct eventpoll *ep, struct file *f, int fd, const struct epoll_event *ev)
{
	struct eventpoll *sub = ep_of(f);
	if (sub) {
		if (ev->events & (u32)EPOLLEXCLUSIVE)
			return -EINVAL;
		if (ep_depth(sub, ep, 0) + 1 + ep_height(ep, 0) > NEST_MAX)
			return -ELOOP;
	}
	struct epitem *it = ep_grow(ep, fd) ? kzalloc(sizeof(*it)) : NULL;
	if (!it)
		return -ENOMEM;
	*it = (struct epitem){.ep = ep, .file = f, .fd = fd, .data = ev->data};
	it->events = ev->events | EPOLLERR | EPOLLHUP;
	list_init(&it->ready);
	list_init(&it->point.w.node);
	list_add_tail(&f->epoll_links, &it->file_node);
	it->same_fd = ep->by_fd[fd];
	ep->by_fd[fd] = it;
	struct ep_table t = {.pt.add = ep_add_queue, .item = it};
	u32 mask = f->ops->poll(f, &t.pt);
	if (t.failed) {
		ep_remove(it);
		return -ENOMEM;
	}
	if (mask & it->events)
		ep_mark_ready(ep, it);
	return 0;
}

static int ep_modify(struct eventpoll *ep, struct epitem *it, const struct epoll_event *ev)
{
	if ((it->events | ev->events) & (u32)EPOLLEXCLUSIVE)
		return -EINVAL;
	it->events = ev->events | EPOLLERR | EPOLLHUP;
	it->data = ev->data;
	if (it->file->ops->poll(it->file, NULL) & it->events)
		ep_mark_ready(ep, it);
	return 0;
}

void epoll_forget(struct file *f)
{
	list_for_each_safe (l, &f->epoll_links)
		ep_remove(list_entry(l, struct epitem, file_node));
}

s64 epoll_control(int epfd, int op, int fd, const void *uevent)
{
	struct epoll_event ev = {0};
	if (op != EPOLL_CTL_DEL && copy_in(&ev, uevent, sizeof(ev)))
		return -EFAULT;
	struct file *ef = fd_get(epfd);
	if (!ef)
		return -EBADF;
	struct file *f = fd_get(fd);
	s64 r = -EBADF;
	if (!f)
		goto out;
	struct eventpoll *ep = ep_of(ef);
	r = -EPERM;
	if (!f->ops->poll)
		goto out_f;
	r = -EINVAL;
	if (!ep || f == ef)
		goto out_f;
	if (op != EPOLL_CTL_DEL && ev.events & (u32)EPOLLEXCLUSIVE &&
	    (op == EPOLL_CTL_MOD || ev.events & ~EXCLUSIVE_OK))
		goto out_f;
	struct epitem *it = ep_find(ep, fd, f);
	switch (op) {
	case EPOLL_CTL_ADD:
		r = it ? -EEXIST : ep_insert(ep, f, fd, &ev);
		break;
	case EPOLL_CTL_MOD:
		r = it ? ep_modify(ep, it, &ev) : -ENOENT;
		break;
	case EPOLL_CTL_DEL:
		r = it ? 0 : -ENOENT;
		if (it)
			ep_remove(it);
		break;
	}
out_f:
	file_put(f);
out:
	file_put(ef);
	return r;
}

/* --- collecting ------------------------------------------------------------------------ */

/* Is anything really ready? Takes what is not off the list. */
static bool ep_has_ready(struct eventpoll *ep)
{
	while (!list_empty(&ep->ready)) {
		struct epitem *it = list_first(&ep->ready, struct epitem, ready);
		if (it->file->ops->poll(it->file, NULL) & it->events)
			return true;
		list_del(&it->ready);
	}
	return false;
}

/* Store up to `max` events. Number stored, or -EFAULT. */
static int ep_collect(struct eventpoll *ep, struct epoll_event *uev, int max)
{
	struct epoll_event out[OUT_BATCH];
	struct list todo, again;
	int n = 0, batch = 0;
	bool fault = false;
	if (list_empty(&ep->ready))
		return 0;
	/* the list as it is now; what becomes ready again is for the next call */
	todo = ep->ready;
	todo.next->prev = todo.prev->next = &todo;
	list_init(&ep->ready);
	list_init(&again);
	while (!list_empty(&todo) && n < max && !fault) {
		struct epitem *it = list_first(&todo, struct epitem, ready);
		list_del(&it->ready);
		u32 mask = it->file->ops->poll(it->file, NULL) & it->events & ~PRIVATE_BITS;
		if (!mask)
			continue;
		out[batch++] = (struct epoll_event){.events = mask, .data = it->data};
		n++;
		if (it->events & (u32)EPOLLONESHOT)
			it->events &= PRIVATE_BITS;
		else if (!(it->events & (u32)EPOLLET))
			list_add_tail(&again, &it->ready);
		if (batch == OUT_BATCH || n == max || list_empty(&todo)) {
			fault = copy_out(uev + n - batch, out, (u32)batch * sizeof(*out));
			batch = 0;
		}
	}
	if (batch && !fault)
		fault = copy_out(uev + n - batch, out, (u32)batch * sizeof(*out));
	/* unread ones first, then those that may still be ready */
	while (!list_empty(&again)) {
		struct list *l = again.next;
		list_del(l);
		list_add_tail(&todo, l);
	}
	while (!list_empty(&todo)) {
		struct list *l = todo.prev;
		list_del(l);
		list_add_head(&ep->ready, l);
	}
	return fault ? -EFAULT : n;
}

static s64 ep_wait(struct eventpoll *ep, struct epoll_event *uev, int max, u64 deadline, bool poll_only)
{
	bool ready = ep_has_ready(ep);
	if (ready || poll_only)
		net_turn(ready);
	for (;;) {
		int n = ep_collect(ep, uev, max);
		if (n || poll_only)
			return n;
		struct waiter w = {.fn = waiter_wake_thread, .thread = current, .exclusive = true};
		int r;
		list_init(&w.node);
		waitq_add(&ep->wq, &w);
		thread_prepare_sleep(true);
		r = list_empty(&ep->ready) ? thread_sleep(deadline) : 0;
		thread_finish_sleep();
		waitq_remove(&w);
		if (r && list_empty(&ep->ready))
			return r == -ETIMEDOUT ? 0 : -EINTR;
	}
}

s64 epoll_wait_events(int epfd, void *uevents, int max, u64 deadline, bool poll_only)
{
	if (max <= 0 || max > EVENTS_MAX)
		return -EINVAL;
	struct file *ef = fd_get(epfd);
	if (!ef)
		return -EBADF;
	struct eventpoll *ep = ep_of(ef);
	s64 r = ep ? ep_wait(ep, uevents, max, deadline, poll_only) : -EINVAL;
	file_put(ef);
	return r;
}

/* --- the set as a file -------------------------------------------------------------------- */

static u32 epoll_poll(struct file *f, struct poll_table *pt)
{
	struct eventpoll *ep = f->priv;
	poll_on(pt, &ep->poll_wq);
	return ep_has_ready(ep) ? POLLIN | POLLRDNORM : 0;
}

static int epoll_fdinfo(struct file *f, char *buf, size_t size)
{
	struct eventpoll *ep = f->priv;
	int n = 0;
	for (u32 i = 0; i < ep->n_fd; i++)
		for (struct epitem *it = ep->by_fd[i]; it && (size_t)n < size; it = it->same_fd)
			n += snprintf(buf + n, size - (size_t)n, "tfd: %8d events: %8x data: %16lx\n", it->fd,
				      it->events, (unsigned long)it->data);
	return MIN(n, (int)size);
}

static void epoll_release(struct file *f)
{
	struct eventpoll *ep = f->priv;
	for (u32 i = 0; i < ep->n_fd; i++)
		while (ep->by_fd[i])
			ep_remove(ep->by_fd[i]);
	kfree(ep->by_fd);
	kfree(ep);
}

static const struct file_ops epoll_fops = {
	.kind = "anon_inode:[eventpoll]",
	.poll = epoll_poll,
	.fdinfo = epoll_fdinfo,
	.release = epoll_release,
};

s64 epoll_create_fd(bool cloexec)
{
	struct eventpoll *ep = kzalloc(sizeof(*ep));
	if (!ep)
		return -ENOMEM;
	list_init(&ep->ready);
	waitq_init(&ep->wq);
	waitq_init(&ep->poll_wq);
	struct file *f = file_new(&epoll_fops, O_RDWR, ep);
	if (!f) {
		kfree(ep);
		return -ENOMEM;
	}
	ep->file = f;
	int fd = fd_install(f, cloexec, 0);
	if (fd < 0)
		file_put(f);
	return fd;
}
