/* SPDX-License-Identifier: ISC */
/* eventfd: a 64-bit counter that can be waited for. Write adds, read takes all (or one, EFD_SEMAPHORE). */
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

enum { EFD_SEMAPHORE = 1 };
#define COUNT_MAX (~0ull - 1)

struct eventfd {
	u64 count;
	bool semaphore;
	struct waitq wq;
};

static s64 eventfd_read(struct file *f, struct uio *u, u64 *pos)
{
	struct eventfd *e = f->priv;

	if (u->left < 8)
		return -EINVAL;
	while (!e->count) {
		if (f->flags & O_NONBLOCK)
			return -EAGAIN;
		int r = wait_event(&e->wq, e->count, NO_DEADLINE, true);
		if (r)
			return r;
	}
	u64 v = e->semaphore ? 1 : e->count;
	e->count -= v;
	waitq_wake(&e->wq, POLLOUT);
	return uio_put(u, &v, 8) == 8 ? 8 : -EFAULT;
}

static s64 eventfd_write(struct file *f, struct uio *u, u64 *pos)
{
	struct eventfd *e = f->priv;
	u64 v;

	if (u->left < 8)
		return -EINVAL;
	if (uio_get(u, &v, 8) != 8)
		return -EFAULT;
	if (v == ~0ull)
		return -EINVAL;
	while (COUNT_MAX - e->count < v) {
		if (f->flags & O_NONBLOCK)
			return -EAGAIN;
		int r = wait_event(&e->wq, COUNT_MAX - e->count >= v, NO_DEADLINE, true);
		if (r)
			return r;
	}
	e->count += v;
	waitq_wake(&e->wq, POLLIN);
	return 8;
}

static u32 eventfd_poll(struct file *f, struct poll_table *pt)
{
	struct eventfd *e = f->priv;

	poll_on(pt, &e->wq);
	return (e->count ? POLLIN : 0) | (e->count < COUNT_MAX ? POLLOUT : 0);
}

static int eventfd_fdinfo(struct file *f, char *buf, size_t size)
{
	struct eventfd *e = f->priv;

	return snprintf(buf, size, "eventfd-count: %16lx\n", (unsigned long)e->count);
}

static void eventfd_release(struct file *f)
{
	kfree(f->priv);
}

static const struct file_ops eventfd_fops = {
	.kind = "anon_inode:[eventfd]",
	.read = eventfd_read,
	.write = eventfd_write,
	.poll = eventfd_poll,
	.fdinfo = eventfd_fdinfo,
	.release = eventfd_release,
};

struct file *eventfd_new(u64 count, u32 flags)
{
	struct eventfd *e = kzalloc(sizeof(*e));

	if (!e)
		return NULL;
	e->count = count;
	e->semaphore = flags & EFD_SEMAPHORE;
	waitq_init(&e->wq);
	struct file *f = file_new(&eventfd_fops, O_RDWR | (flags & O_NONBLOCK), e);
	if (!f)
		kfree(e);
	return f;
}
