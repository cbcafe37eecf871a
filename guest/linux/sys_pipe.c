/* SPDX-License-Identifier: ISC */
/* System calls that make pipes, eventfds and inotify instances. */
#include <linux/inotify.h>

#include "guest/linux/linux.h"
#include "guest/linux/path.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

static s64 install(struct file *f, u32 flags)
{
	if (!f)
		return -ENOMEM;
	s64 fd = fd_install(f, flags & O_CLOEXEC, 0);
	if (fd < 0)
		file_put(f);
	return fd;
}

static s64 make_pipe(int *ufds, u32 flags)
{
	struct file *ends[2];
	int fds[2];

	if (flags & ~(u32)(O_CLOEXEC | O_NONBLOCK | O_DIRECT))
		return -EINVAL;
	s64 r = pipe_new(ends, flags);
	if (r)
		return r;
	fds[0] = (int)install(ends[0], flags);
	if (fds[0] < 0) {
		file_put(ends[1]);
		return fds[0];
	}
	fds[1] = (int)install(ends[1], flags);
	if (fds[1] < 0) {
		fd_close(fds[0]);
		return fds[1];
	}
	if (copy_out(ufds, fds, sizeof(fds))) {
		fd_close(fds[0]);
		fd_close(fds[1]);
		return -EFAULT;
	}
	return 0;
}

SYSCALL1(pipe, int *, fds)
{
	return make_pipe(fds, 0);
}

SYSCALL2(pipe2, int *, fds, u32, flags)
{
	return make_pipe(fds, flags);
}

SYSCALL2(eventfd2, u32, count, u32, flags)
{
	if (flags & ~(u32)(O_CLOEXEC | O_NONBLOCK | 1))
		return -EINVAL;
	return install(eventfd_new(count, flags), flags);
}

SYSCALL1(eventfd, u32, count)
{
	return install(eventfd_new(count, 0), 0);
}
