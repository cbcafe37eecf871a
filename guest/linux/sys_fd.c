/* SPDX-License-Identifier: ISC */
/* System calls on descriptors: opening, closing, duplicating, fcntl, ioctl, locks. */
#include <asm/ioctls.h>
#include <linux/close_range.h>
#include <linux/openat2.h>

#include "guest/linux/linux.h"
#include "guest/linux/path.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

/* --- opening ------------------------------------------------------------------ */

static s64 open_path(int dirfd, const char *upath, u32 flags, u32 mode, u32 walk_flags)
{
	char *path;
	struct file *f;
	s64 r = path_in(&path, upath);

	if (r)
		return r;
	r = vfs_open_at(dirfd, path, flags, mode, walk_flags, &f);
	path_free(path);
	if (r)
		return r;
	r = fd_install(f, flags & O_CLOEXEC, 0);
	if (r < 0)
		file_put(f);
	return r;
}

SYSCALL4(openat, int, dirfd, const char *, path, u32, flags, u32, mode)
{
	return open_path(dirfd, path, flags, mode, 0);
}

SYSCALL3(open, const char *, path, u32, flags, u32, mode)
{
	return open_path(AT_FDCWD, path, flags, mode, 0);
}

SYSCALL2(creat, const char *, path, u32, mode)
{
	return open_path(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, 0);
}

SYSCALL4(openat2, int, dirfd, const char *, path, const struct open_how *, uhow, size_t, size)
{
	struct open_how how;
	u32 walk = 0;
	static const struct {
		u64 resolve;
		u32 walk;
	} map[] = {{RESOLVE_NO_XDEV, WALK_NO_XDEV},
		   {RESOLVE_NO_MAGICLINKS, WALK_NO_MAGICLINKS},
		   {RESOLVE_NO_SYMLINKS, WALK_NO_SYMLINKS | WALK_NO_MAGICLINKS},
		   {RESOLVE_BENEATH, WALK_BENEATH},
		   {RESOLVE_IN_ROOT, WALK_IN_ROOT}};

	if (size < sizeof(how))
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	for (size_t i = sizeof(how); i < size; i++) {
		u8 b;
		if (copy_in(&b, (const u8 *)uhow + i, 1))
			return -EFAULT;
		if (b)
			return -E2BIG;
	}
	if (get_user(how, uhow))
		return -EFAULT;
	for (u32 i = 0; i < ARRAY_SIZE(map); i++)
		if (how.resolve & map[i].resolve) {
			walk |= map[i].walk;
			how.resolve &= ~map[i].resolve;
		}
	if (how.resolve & RESOLVE_CACHED)
		return -EAGAIN;
	if (how.resolve || how.flags >> 23 ||
	    (walk & (WALK_BENEATH | WALK_IN_ROOT)) == (WALK_BENEATH | WALK_IN_ROOT))
		return -EINVAL;
	if (how.mode & ~07777ull || (how.mode && !(how.flags & (O_CREAT | __O_TMPFILE))))
		return -EINVAL;
	if (how.flags & O_PATH && how.flags & ~(u64)(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC))
		return -EINVAL;
	return open_path(dirfd, path, (u32)how.flags, (u32)how.mode, walk);
}

SYSCALL1(close, int, fd)
{
	return fd_close(fd);
}

SYSCALL3(close_range, u32, first, u32, last, u32, flags)
{
	if (first > last || flags & ~(u32)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC))
		return -EINVAL;
	if (flags & CLOSE_RANGE_UNSHARE && fdtable_unshare_current())
		return -ENOMEM;
	fd_close_range(first, last, flags & CLOSE_RANGE_CLOEXEC);
	return 0;
}

/* --- duplicating ---------------------------------------------------------------- */

static s64 dup_min(struct file *f, int min, bool cloexec)
{
	file_get(f);
	s64 r = fd_install(f, cloexec, min);
	if (r < 0)
		file_put(f);
	return r;
}

SYSCALL1(dup, int, fd)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = fd_install(f, false, 0);
	if (r < 0)
		file_put(f);
	return r;
}

static s64 dup_to(int fd, int to, bool cloexec)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = fd_install_at(f, to, cloexec);
	if (r < 0)
		file_put(f);
	return r;
}

SYSCALL2(dup2, int, fd, int, to)
{
	if (fd == to) {
		struct file *f = fd_get(fd);
		if (!f)
			return -EBADF;
		file_put(f);
		return fd;
	}
	return dup_to(fd, to, false);
}

SYSCALL3(dup3, int, fd, int, to, u32, flags)
{
	if (fd == to || flags & ~(u32)O_CLOEXEC)
		return -EINVAL;
	return dup_to(fd, to, flags & O_CLOEXEC);
}

/* --- fcntl -------------------------------------------------------------------------- */

enum { SETFL_MASK = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | FASYNC };

static s64 set_file_flags(int fd, struct file *f, u32 flags)
{
	u32 old = f->flags;

	if (flags & FASYNC && file_async_begin(f, fd))
		return -ENOMEM;
	if (!(flags & FASYNC))
		file_async_end(f);

	f->flags = (old & ~(u32)SETFL_MASK) | (flags & SETFL_MASK);
	if (f->ops->set_flags && f->flags != old) {
		int r = f->ops->set_flags(f, f->flags);
		if (r) {
			f->flags = old;
			return r;
		}
	}
	return 0;
}

static s64 fcntl_lock(struct file *f, u32 cmd, struct flock *ufl)
{
	struct flock fl;

	if (get_user(fl, ufl))
		return -EFAULT;
	s64 r = lock_fcntl(f, cmd, &fl);
	if (!r && (cmd == F_GETLK || cmd == F_OFD_GETLK) && put_user(fl, ufl))
		r = -EFAULT;
	return r;
}

static s64 fcntl_pipe(struct file *f, u32 cmd, u64 arg)
{
	struct pipe *p = file_pipe(f);

	if (!p)
		return -EBADF;
	return cmd == F_GETPIPE_SZ ? (s64)pipe_get_size(p) : pipe_set_size(p, arg);
}

static s64 fcntl_seals(struct file *f, u32 cmd, u64 arg)
{
	if (!f->inode || !inode_is_memfs(f->inode) || !IS_REG(f->inode))
		return -EINVAL;
	if (cmd == F_GET_SEALS)
		return memfs_seals(f->inode);
	return CAN_WRITE(f) ? memfs_add_seals(f->inode, (u32)arg) : -EPERM;
}

static s64 fcntl_owner(struct file *f, u32 cmd, u64 arg)
{
	struct f_owner_ex ex;

	switch (cmd) {
	case F_SETOWN:
		return file_set_owner(f, (s32)arg, false);
	case F_GETOWN:
		return f->owner;
	case F_SETSIG:
		if (arg > N_SIGNALS)
			return -EINVAL;
		f->owner_sig = (int)arg;
		return 0;
	case F_GETSIG:
		return f->owner_sig;
	case F_SETOWN_EX:
		if (get_user(ex, (struct f_owner_ex *)arg))
			return -EFAULT;
		if (ex.type < F_OWNER_TID || ex.type > F_OWNER_PGRP)
			return -EINVAL;
		return file_set_owner(f, ex.type == F_OWNER_PGRP ? -ex.pid : ex.pid, ex.type == F_OWNER_TID);
	default:
		ex = (struct f_owner_ex){f->owner_is_thread ? F_OWNER_TID
					 : f->owner < 0	    ? F_OWNER_PGRP
							    : F_OWNER_PID,
					 f->owner < 0 ? -f->owner : f->owner};
		return put_user(ex, (struct f_owner_ex *)arg);
	}
}

static s64 file_fcntl(int fd, struct file *f, u32 cmd, u64 arg)
{
	switch (cmd) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		if (arg >= current->proc->rlim[RLIMIT_NOFILE].rlim_cur)
			return -EINVAL;
		return dup_min(f, (int)arg, cmd == F_DUPFD_CLOEXEC);
	case F_GETFD:
		return fd_cloexec(fd) ? FD_CLOEXEC : 0;
	case F_SETFD:
		fd_set_cloexec(fd, arg & FD_CLOEXEC);
		return 0;
	case F_GETFL:
		return f->flags;
	}
	if (f->flags & O_PATH)
		return -EBADF;
	switch (cmd) {
	case F_SETFL:
		return set_file_flags(fd, f, (u32)arg);
	case F_GETLK:
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_GETLK:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return fcntl_lock(f, cmd, (struct flock *)arg);
	case F_SETOWN:
	case F_GETOWN:
	case F_SETSIG:
	case F_GETSIG:
	case F_SETOWN_EX:
	case F_GETOWN_EX:
		return fcntl_owner(f, cmd, arg);
	case F_SETPIPE_SZ:
	case F_GETPIPE_SZ:
		return fcntl_pipe(f, cmd, arg);
	case F_ADD_SEALS:
	case F_GET_SEALS:
		return fcntl_seals(f, cmd, arg);
	}
	return -EINVAL;
}

SYSCALL3(fcntl, int, fd, u32, cmd, u64, arg)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = file_fcntl(fd, f, cmd, arg);
	file_put(f);
	return r;
}

SYSCALL2(flock, int, fd, int, op)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = f->flags & O_PATH ? -EBADF : lock_flock(f, op);
	file_put(f);
	return r;
}

/* --- ioctl ------------------------------------------------------------------------------ */

static s64 file_ioctl(int fd, struct file *f, u32 cmd, u64 arg)
{
	int v;

	if (f->flags & O_PATH)
		return -EBADF;
	switch (cmd) {
	case FIOCLEX:
	case FIONCLEX:
		fd_set_cloexec(fd, cmd == FIOCLEX);
		return 0;
	case FIONBIO:
	case FIOASYNC:
		if (get_user(v, (int *)arg))
			return -EFAULT;
		u32 bit = cmd == FIONBIO ? O_NONBLOCK : FASYNC;
		return set_file_flags(fd, f, v ? f->flags | bit : f->flags & ~bit);
	case FIONREAD:
		if (f->inode && IS_REG(f->inode)) {
			v = (int)(inode_size(f->inode) - f->pos);
			return put_user(v, (int *)arg);
		}
		break;
	}
	return f->ops->ioctl ? f->ops->ioctl(f, cmd, arg) : -ENOTTY;
}

SYSCALL3(ioctl, int, fd, u32, cmd, u64, arg)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = file_ioctl(fd, f, cmd, arg);
	file_put(f);
	return r;
}
