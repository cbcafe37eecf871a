/* SPDX-License-Identifier: ISC */
/*
 * inotify: events of inodes, queued to instances.
 *
 * A watch is on its instance's list and on its inode's chain, and holds the
 * inode. Events come from the calls that cause them (file.c, open.c, namei.c,
 * the attribute calls). A watch ends when asked, with its instance, or when the
 * inode's last name is removed. Nothing here sleeps but a read.
 */
#include <asm/ioctls.h>
#include <linux/inotify.h>

#include "guest/linux/linux.h"
#include "guest/linux/path.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

enum { MAX_EVENTS = 16384, MAX_WATCHES = 65536 };

struct event {
	struct list node;
	struct inotify_event ev; /* ev.len: name with its padding */
	char name[];
};

struct instance {
	struct list events, watches;
	u32 n_events;
	s32 last_wd;
	struct waitq wq;
};

struct watch {
	struct list node;
	struct watch *next; /* inode's chain */
	struct inode *ino;
	struct instance *in;
	s32 wd;
	u32 mask;
};

u32 inotify_watches;

static void queue(struct instance *in, s32 wd, u32 mask, u32 cookie, const char *name, u32 len)
{
	u32 padded = name ? (u32)ALIGN_UP(len + 1, sizeof(struct inotify_event)) : 0;

	if (in->n_events >= MAX_EVENTS) {
		if (in->n_events > MAX_EVENTS)
			return;
		wd = -1, mask = IN_Q_OVERFLOW, padded = 0, cookie = 0;
	}
	if (!list_empty(&in->events)) { /* the same again says nothing new */
		struct event *last = list_last(&in->events, struct event, node);
		if (last->ev.wd == wd && last->ev.mask == mask && last->ev.cookie == cookie &&
		    last->ev.len == padded && (!padded || !strncmp(last->name, name, len)))
			return;
	}
	struct event *e = kzalloc(sizeof(*e) + padded);
	if (!e)
		return;
	e->ev = (struct inotify_event){.wd = wd, .mask = mask, .cookie = cookie, .len = padded};
	if (padded)
		memcpy(e->name, name, len);
	list_add_tail(&in->events, &e->node);
	in->n_events++;
	waitq_wake(&in->wq, POLLIN | POLLRDNORM);
}

/* Take the watch off and free it; its instance hears IN_IGNORED if it lives on. */
static void end_watch(struct watch *w, bool tell)
{
	struct watch **pp = (struct watch **)&w->ino->watches;

	while (*pp != w)
		pp = &(*pp)->next;
	*pp = w->next;
	list_del(&w->node);
	inotify_watches--;
	if (tell)
		queue(w->in, w->wd, IN_IGNORED, 0, NULL, 0);
	inode_put(w->ino);
	kfree(w);
}

void inotify_post(struct inode *ino, u32 mask, u32 cookie, const char *name, u32 len)
{
	for (struct watch *w = ino->watches, *next; w; w = next) {
		next = w->next;
		if (!(w->mask & mask & IN_ALL_EVENTS))
			continue;
		queue(w->in, w->wd, mask, cookie, name, len);
		if (w->mask & IN_ONESHOT)
			end_watch(w, true);
	}
}

void inotify_dentry_event(struct dentry *d, u32 mask)
{
	if (!d->inode)
		return;
	if (IS_DIR(d->inode))
		mask |= IN_ISDIR;
	if (d->parent != d && !(d->flags & D_DELETED))
		inotify_post(d->parent->inode, mask, 0, d->name, d->len);
	inotify_post(d->inode, mask, 0, NULL, 0);
}

void inotify_unlinked(struct inode *ino)
{
	struct kstat st;

	if (!ino->watches)
		return;
	if (!IS_DIR(ino) && !inode_getattr(ino, &st) && st.nlink)
		return;
	inode_get(ino);
	inotify_post(ino, IN_DELETE_SELF | (IS_DIR(ino) ? IN_ISDIR : 0), 0, NULL, 0);
	while (ino->watches)
		end_watch(ino->watches, true);
	inode_put(ino);
}

/* --- the instance as a file ------------------------------------------------------- */

static s64 inotify_read(struct file *f, struct uio *u, u64 *pos)
{
	struct instance *in = f->priv;
	s64 done = 0;

	while (list_empty(&in->events)) {
		if (f->flags & O_NONBLOCK)
			return -EAGAIN;
		int r = wait_event(&in->wq, !list_empty(&in->events), NO_DEADLINE, true);
		if (r)
			return r;
	}
	while (!list_empty(&in->events)) {
		struct event *e = list_first(&in->events, struct event, node);
		u64 n = sizeof(e->ev) + e->ev.len;
		if (n > u->left)
			return done ? done : -EINVAL;
		if (uio_put(u, &e->ev, n) < n)
			return done ? done : -EFAULT;
		done += (s64)n;
		list_del(&e->node);
		in->n_events--;
		kfree(e);
	}
	return done;
}

static u32 inotify_poll(struct file *f, struct poll_table *pt)
{
	struct instance *in = f->priv;

	poll_on(pt, &in->wq);
	return list_empty(&in->events) ? 0 : POLLIN | POLLRDNORM;
}

static s64 inotify_ioctl(struct file *f, u32 cmd, u64 arg)
{
	struct instance *in = f->priv;
	int n = 0;

	if (cmd != FIONREAD)
		return -ENOTTY;
	list_for_each (it, &in->events) {
		struct event *e = list_entry(it, struct event, node);
		n += (int)(sizeof(e->ev) + e->ev.len);
	}
	return put_user(n, (int *)arg);
}

static void inotify_release(struct file *f)
{
	struct instance *in = f->priv;

	list_for_each_safe (it, &in->watches)
		end_watch(list_entry(it, struct watch, node), false);
	list_for_each_safe (ev, &in->events)
		kfree(list_entry(ev, struct event, node));
	kfree(in);
}

static const struct file_ops inotify_fops = {
	.kind = "anon_inode:inotify",
	.read = inotify_read,
	.poll = inotify_poll,
	.ioctl = inotify_ioctl,
	.release = inotify_release,
};

/* --- the calls ------------------------------------------------------------------------ */

static s64 new_instance(u32 flags)
{
	if (flags & ~(u32)(O_CLOEXEC | O_NONBLOCK))
		return -EINVAL;
	struct instance *in = kzalloc(sizeof(*in));
	if (!in)
		return -ENOMEM;
	list_init(&in->events);
	list_init(&in->watches);
	waitq_init(&in->wq);
	struct file *f = file_new(&inotify_fops, O_RDONLY | (flags & O_NONBLOCK), in);
	if (!f) {
		kfree(in);
		return -ENOMEM;
	}
	s64 fd = fd_install(f, flags & O_CLOEXEC, 0);
	if (fd < 0)
		file_put(f);
	return fd;
}

SYSCALL0(inotify_init)
{
	return new_instance(0);
}

SYSCALL1(inotify_init1, u32, flags)
{
	return new_instance(flags);
}

static s64 add_watch(struct instance *in, struct inode *ino, u32 mask)
{
	for (struct watch *w = ino->watches; w; w = w->next) {
		if (w->in != in)
			continue;
		if (mask & IN_MASK_CREATE)
			return -EEXIST;
		w->mask = mask & IN_MASK_ADD ? w->mask | mask : mask;
		return w->wd;
	}
	if (inotify_watches >= MAX_WATCHES)
		return -ENOSPC;
	struct watch *w = kzalloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	*w = (struct watch){.next = ino->watches, .ino = ino, .in = in, .wd = ++in->last_wd, .mask = mask};
	inode_get(ino);
	ino->watches = w;
	list_add_tail(&in->watches, &w->node);
	inotify_watches++;
	return w->wd;
}

SYSCALL3(inotify_add_watch, int, fd, const char *, upath, u32, mask)
{
	struct dentry *d;
	char *path;

	if (!(mask & (IN_ALL_EVENTS | IN_UNMOUNT)) || (mask & IN_MASK_ADD && mask & IN_MASK_CREATE))
		return -EINVAL;
	struct file *f = fd_get(fd);
	if (!f)
		return -EBADF;
	s64 r = f->ops == &inotify_fops ? path_in(&path, upath) : -EINVAL;
	if (!r) {
		r = path_walk(AT_FDCWD, path,
			      (mask & IN_DONT_FOLLOW ? 0 : WALK_FOLLOW) |
				      (mask & IN_ONLYDIR ? WALK_DIRECTORY : 0),
			      &d);
		path_free(path);
		if (!r) {
			r = inode_permission(d->inode, 4);
			if (!r)
				r = add_watch(f->priv, d->inode, mask);
			dentry_put(d);
		}
	}
	file_put(f);
	return r;
}

SYSCALL2(inotify_rm_watch, int, fd, s32, wd)
{
	struct file *f = fd_get(fd);
	s64 r = -EINVAL;

	if (!f)
		return -EBADF;
	if (f->ops == &inotify_fops) {
		struct instance *in = f->priv;
		list_for_each_safe (it, &in->watches) {
			struct watch *w = list_entry(it, struct watch, node);
			if (w->wd != wd)
				continue;
			end_watch(w, true);
			r = 0;
		}
	}
	file_put(f);
	return r;
}
