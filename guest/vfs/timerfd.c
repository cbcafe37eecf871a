/* SPDX-License-Identifier: ISC */
/*
 * timerfd: a timer that is read. The file's counter is the number of
 * expirations since the last read; a read takes it, and sleeps while it is 0.
 *
 * Nobody can set the clock in here, but a restored instance finds itself at another time: who asked for
 * TFD_TIMER_CANCEL_ON_SET has a read that ends with ECANCELED then, once.
 */
#include <linux/fcntl.h>
#include <linux/time.h>
#include <linux/timerfd.h>

#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/restored.h"
#include "guest/vfs/vfs.h"

struct timerfd {
	struct list node; /* of all that there are */
	struct ktimer timer;
	struct waitq wait;
	u64 ticks, interval_ns;
	int clock;
	bool cancel_on_set, cancelled;
};

static struct list all_timerfds = LIST_INIT(all_timerfds);

/* Expirations up to now, beyond the one that `next` stands for; *next becomes the first to come. */
static u64 advance(u64 *next, u64 interval)
{
	u64 now = mono_ns(), n = now > *next ? (now - *next) / interval : 0;

	*next += (n + 1) * interval;
	return n;
}

static void fired(struct ktimer *k)
{
	struct timerfd *t = container_of(k, struct timerfd, timer);
	u64 next = k->deadline_ns;

	t->ticks++;
	if (t->interval_ns) {
		t->ticks += advance(&next, t->interval_ns);
		ktimer_arm(k, next);
	}
	waitq_wake(&t->wait, POLLIN | POLLRDNORM);
}

/* Timers are looked at when somebody sleeps or on ticks: a busy reader looks itself. */
static void catch_up(struct timerfd *t)
{
	if (t->timer.armed && t->timer.deadline_ns <= mono_ns())
		ktimers_run();
}

static s64 timerfd_read(struct file *f, struct uio *u, u64 *pos)
{
	struct timerfd *t = f->priv;
	u64 ticks;
	int err;

	if (u->left < sizeof(ticks))
		return -EINVAL;
	catch_up(t);
	if (!t->ticks && !t->cancelled) {
		if (f->flags & O_NONBLOCK)
			return -EAGAIN;
		err = wait_event(&t->wait, t->ticks || t->cancelled, NO_DEADLINE, true);
		if (err)
			return err;
	}
	if (t->cancelled) {
		t->cancelled = false;
		t->ticks = 0;
		return -ECANCELED;
	}
	ticks = t->ticks;
	t->ticks = 0;
	return uio_put(u, &ticks, sizeof(ticks)) == sizeof(ticks) ? (s64)sizeof(ticks) : -EFAULT;
}

static u32 timerfd_poll(struct file *f, struct poll_table *pt)
{
	struct timerfd *t = f->priv;

	poll_on(pt, &t->wait);
	catch_up(t);
	return t->ticks || t->cancelled ? POLLIN | POLLRDNORM : 0;
}

static void remaining(struct timerfd *t, u64 *left, u64 *interval)
{
	u64 now = mono_ns();

	*interval = t->interval_ns;
	*left = !t->timer.armed ? 0 : t->timer.deadline_ns > now ? t->timer.deadline_ns - now : 1;
}

static int timerfd_fdinfo(struct file *f, char *buf, size_t size)
{
	struct timerfd *t = f->priv;
	u64 left, interval;

	remaining(t, &left, &interval);
	return snprintf(buf, size,
			"clockid: %d\nticks: %lu\nsettime flags: 00\nit_value: (%llu, %llu)\nit_interval: "
			"(%llu, %llu)\n",
			t->clock, t->ticks, left / NS_PER_SEC, left % NS_PER_SEC, interval / NS_PER_SEC,
			interval % NS_PER_SEC);
}

static void timerfd_release(struct file *f)
{
	struct timerfd *t = f->priv;

	ktimer_cancel(&t->timer);
	list_del(&t->node);
	kfree(t);
}

void timerfds_restored(void)
{
	list_for_each (n, &all_timerfds) {
		struct timerfd *t = list_entry(n, struct timerfd, node);

		if (!t->cancel_on_set)
			continue;
		t->cancelled = true;
		waitq_wake_all(&t->wait, POLLIN | POLLRDNORM);
	}
}

static const struct file_ops timerfd_ops = {
	.kind = "anon_inode:[timerfd]",
	.read = timerfd_read,
	.poll = timerfd_poll,
	.fdinfo = timerfd_fdinfo,
	.release = timerfd_release,
};

SYSCALL2(timerfd_create, int, clock, int, flags)
{
	struct timerfd *t;
	struct file *f;
	int fd;

	if (flags & ~(TFD_CLOEXEC | TFD_NONBLOCK))
		return -EINVAL;
	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME &&
	    clock != CLOCK_REALTIME_ALARM && clock != CLOCK_BOOTTIME_ALARM)
		return -EINVAL;
	t = kzalloc(sizeof(*t));
	if (!t)
		return -ENOMEM;
	list_init(&t->node);
	ktimer_init(&t->timer, fired);
	waitq_init(&t->wait);
	t->clock = clock;
	f = file_new(&timerfd_ops, O_RDWR | ((u32)flags & O_NONBLOCK), t);
	if (!f) {
		kfree(t);
		return -ENOMEM;
	}
	list_add_tail(&all_timerfds, &t->node);
	fd = fd_install(f, flags & TFD_CLOEXEC, 0);
	if (fd < 0)
		file_put(f);
	return fd;
}

static struct file *timerfd_get(int fd, int *err)
{
	struct file *f = fd_get(fd);

	*err = -EBADF;
	if (f && f->ops != &timerfd_ops) {
		*err = -EINVAL;
		file_put(f);
		f = NULL;
	}
	return f;
}

static int put_setting(void *user, u64 left, u64 interval)
{
	return timespec_out(user, interval) || timespec_out((char *)user + 16, left) ? -EFAULT : 0;
}

static int set(struct timerfd *t, int flags, u64 value, u64 interval)
{
	u64 deadline;
	int err;

	ktimer_cancel(&t->timer);
	t->ticks = 0;
	t->interval_ns = interval;
	t->cancelled = false;
	t->cancel_on_set = flags & TFD_TIMER_CANCEL_ON_SET && flags & TFD_TIMER_ABSTIME &&
			   (t->clock == CLOCK_REALTIME || t->clock == CLOCK_REALTIME_ALARM);
	if (!value)
		return 0;
	err = clock_deadline(t->clock, flags & TFD_TIMER_ABSTIME, value, &deadline);
	if (!err)
		ktimer_arm(&t->timer, deadline);
	return err;
}

SYSCALL4(timerfd_settime, int, fd, int, flags, const char *, unew, char *, uold)
{
	u64 value, interval, left, old_interval;
	struct file *f;
	int err;

	if (flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET))
		return -EINVAL;
	err = timespec_in(unew, &interval);
	if (!err)
		err = timespec_in(unew + 16, &value);
	if (err)
		return err;
	f = timerfd_get(fd, &err);
	if (!f)
		return err;
	remaining(f->priv, &left, &old_interval);
	err = set(f->priv, flags, value, interval);
	if (!err && uold)
		err = put_setting(uold, left, old_interval);
	file_put(f);
	return err;
}

SYSCALL2(timerfd_gettime, int, fd, char *, ucur)
{
	u64 left, interval;
	int err;
	struct file *f = timerfd_get(fd, &err);

	if (!f)
		return err;
	remaining(f->priv, &left, &interval);
	err = put_setting(ucur, left, interval);
	file_put(f);
	return err;
}
