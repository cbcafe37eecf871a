/* SPDX-License-Identifier: ISC */
/*
 * pidfd: a descriptor that means one process, for ever. It is readable when
 * the process has ended, and keeps a reference of it, so that its number being
 * used again does not matter. Nothing is read from it or written to it.
 */
#include <linux/fcntl.h>

#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/vfs/vfs.h"

static u32 pidfd_poll(struct file *f, struct poll_table *pt)
{
	struct process *p = f->priv;

	poll_on(pt, &p->exit_wait);
	return p->zombie ? POLLIN | POLLRDNORM : 0;
}

static int pidfd_fdinfo(struct file *f, char *buf, size_t size)
{
	struct process *p = f->priv;
	int pid = p->reaped ? -1 : p->pid;

	return snprintf(buf, size, "Pid:\t%d\nNSpid:\t%d\n", pid, pid);
}

static void pidfd_release(struct file *f)
{
	process_put(f->priv);
}

static const struct file_ops pidfd_fops = {
	.kind = "anon_inode:[pidfd]",
	.poll = pidfd_poll,
	.fdinfo = pidfd_fdinfo,
	.release = pidfd_release,
};

int pidfd_install(struct process *p, u32 flags)
{
	struct file *f = file_new(&pidfd_fops, O_RDWR | flags, p);
	int fd;

	if (!f)
		return -ENOMEM;
	process_get(p);
	fd = fd_install(f, true, 0);
	if (fd < 0)
		file_put(f);
	return fd;
}

struct process *pidfd_process(int fd, u32 *flags)
{
	struct file *f = fd_get(fd);
	struct process *p = NULL;

	if (!f)
		return NULL;
	if (f->ops == &pidfd_fops) {
		p = f->priv;
		process_get(p);
		if (flags)
			*flags = f->flags;
	}
	file_put(f);
	return p;
}

SYSCALL2(pidfd_open, s32, pid, u32, flags)
{
	struct process *p;

	if (flags & ~(u32)O_NONBLOCK || pid <= 0)
		return -EINVAL;
	p = process_by_pid(pid);
	if (!p)
		return thread_by_tid(pid) ? -EINVAL : -ESRCH;
	return pidfd_install(p, flags);
}

/* A pidfd's process, or that of an open directory /proc/PID; referenced. */
static struct process *process_of_fd(int fd)
{
	struct process *p = pidfd_process(fd, NULL);
	struct file *f = p ? NULL : fd_get(fd);

	if (!f)
		return p;
	p = proc_directory_process(f);
	if (p)
		process_get(p);
	file_put(f);
	return p;
}

SYSCALL4(pidfd_send_signal, int, fd, int, sig, const siginfo_t *, uinfo, u32, flags)
{
	struct process *p = process_of_fd(fd);
	siginfo_t info;
	s64 res = 0;

	if (!p)
		return -EBADF;
	memset(&info, 0, sizeof(info));
	info.si_code = SI_USER;
	info.si_pid = current->proc->pid;
	info.si_uid = current->proc->uid;
	info.si_signo = sig;
	if (flags || sig < 0 || sig > N_SIGNALS)
		res = -EINVAL;
	else if (uinfo && get_user(info, uinfo))
		res = -EFAULT;
	else if (uinfo && info.si_signo != sig)
		res = -EINVAL;
	else if (uinfo && p != current->proc && (info.si_code >= 0 || info.si_code == SI_TKILL))
		res = -EPERM;
	else if (p->reaped)
		res = -ESRCH;
	else if (!signal_permitted(p, sig))
		res = -EPERM;
	else if (sig)
		res = signal_process(p, sig, &info);
	process_put(p);
	return res;
}

SYSCALL3(pidfd_getfd, int, pidfd, int, fd, u32, flags)
{
	struct process *p;
	struct file *f;
	s64 res;

	if (flags)
		return -EINVAL;
	p = pidfd_process(pidfd, NULL);
	if (!p)
		return -EBADF;
	f = p->fds ? fdtable_file(p->fds, fd) : NULL;
	if (p->zombie || p->reaped) {
		res = -ESRCH;
	} else if (current->proc->euid && (current->proc->uid != p->uid || current->proc->euid != p->euid)) {
		res = -EPERM;
	} else if (!f) {
		res = -EBADF;
	} else {
		file_get(f);
		res = fd_install(f, true, 0);
		if (res < 0)
			file_put(f);
	}
	process_put(p);
	return res;
}
