/* SPDX-License-Identifier: ISC */
/*
 * signalfd: pending signals that are read. The file has only a mask; it shows
 * what is pending for whoever reads it, which is why the caller blocks those
 * signals first. Senders wake process.signal_wait.
 */
#include <linux/fcntl.h>
#include <linux/signalfd.h>

#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/vfs/vfs.h"

struct signalfd {
	sigmask_t mask;
};

static sigmask_t waiting(const struct signalfd *s)
{
	struct thread *t = current;

	return (t->pending.set | t->proc->pending.set) & s->mask;
}

static void convert(struct signalfd_siginfo *out, const siginfo_t *in)
{
	memset(out, 0, sizeof(*out));
	out->ssi_signo = (u32)in->si_signo;
	out->ssi_errno = in->si_errno;
	out->ssi_code = in->si_code;
	if (in->si_code == SI_TIMER) {
		out->ssi_tid = (u32)in->si_tid;
		out->ssi_overrun = (u32)in->si_overrun;
		out->ssi_ptr = (u64)in->si_ptr;
		out->ssi_int = in->si_int;
	} else if (in->si_code > 0 && (SIGBIT(in->si_signo) & (SIGBIT(SIGSEGV) | SIGBIT(SIGBUS) |
							       SIGBIT(SIGILL) | SIGBIT(SIGFPE)))) {
		out->ssi_addr = (u64)in->si_addr;
	} else {
		out->ssi_pid = (u32)in->si_pid;
		out->ssi_uid = (u32)in->si_uid;
		if (in->si_code < 0 && in->si_code != SI_TKILL) {
			out->ssi_ptr = (u64)in->si_ptr;
			out->ssi_int = in->si_int;
		} else if (in->si_signo == SIGCHLD) {
			out->ssi_status = in->si_status;
		}
	}
}

static s64 signalfd_read(struct file *f, struct uio *u, u64 *pos)
{
	struct signalfd *s = f->priv;
	struct signalfd_siginfo out;
	siginfo_t info;
	s64 done = 0;
	int err;

	if (u->left < sizeof(out))
		return -EINVAL;
	if (!waiting(s)) {
		if (f->flags & O_NONBLOCK)
			return -EAGAIN;
		err = wait_event(&current->proc->signal_wait, waiting(s), NO_DEADLINE, true);
		if (err)
			return err;
	}
	while (u->left >= sizeof(out) && signal_dequeue(s->mask, &info)) {
		convert(&out, &info);
		if (uio_put(u, &out, sizeof(out)) != sizeof(out))
			return done ? done : -EFAULT;
		done += sizeof(out);
	}
	return done ? done : -EAGAIN;
}

static u32 signalfd_poll(struct file *f, struct poll_table *pt)
{
	poll_on(pt, &current->proc->signal_wait);
	return waiting(f->priv) ? POLLIN | POLLRDNORM : 0;
}

static int signalfd_fdinfo(struct file *f, char *buf, size_t size)
{
	struct signalfd *s = f->priv;

	return snprintf(buf, size, "sigmask:\t%016lx\n", s->mask);
}

static void signalfd_release(struct file *f)
{
	kfree(f->priv);
}

static const struct file_ops signalfd_ops = {
	.kind = "anon_inode:[signalfd]",
	.read = signalfd_read,
	.poll = signalfd_poll,
	.fdinfo = signalfd_fdinfo,
	.release = signalfd_release,
};

static s64 new_signalfd(sigmask_t mask, int flags)
{
	struct signalfd *s = kzalloc(sizeof(*s));
	struct file *f;
	int fd;

	if (!s)
		return -ENOMEM;
	s->mask = mask;
	f = file_new(&signalfd_ops, O_RDWR | ((u32)flags & O_NONBLOCK), s);
	if (!f) {
		kfree(s);
		return -ENOMEM;
	}
	fd = fd_install(f, flags & SFD_CLOEXEC, 0);
	if (fd < 0)
		file_put(f);
	return fd;
}

static s64 signalfd_make(int fd, const sigmask_t *umask, u64 size, int flags)
{
	sigmask_t mask;
	struct file *f;

	if (flags & ~(SFD_CLOEXEC | SFD_NONBLOCK) || size != sizeof(mask))
		return -EINVAL;
	if (get_user(mask, umask))
		return -EFAULT;
	mask &= ~SIG_KERNEL_ONLY;
	if (fd == -1)
		return new_signalfd(mask, flags);
	f = fd_get(fd);
	if (!f)
		return -EBADF;
	if (f->ops != &signalfd_ops) {
		file_put(f);
		return -EINVAL;
	}
	((struct signalfd *)f->priv)->mask = mask;
	waitq_wake_all(&current->proc->signal_wait, POLLIN);
	file_put(f);
	return fd;
}

SYSCALL4(signalfd4, int, fd, const sigmask_t *, umask, u64, size, int, flags)
{
	return signalfd_make(fd, umask, size, flags);
}

SYSCALL3(signalfd, int, fd, const sigmask_t *, umask, u64, size)
{
	return signalfd_make(fd, umask, size, 0);
}
