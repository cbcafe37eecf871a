/* SPDX-License-Identifier: ISC */
/* System calls on names and directories: making, removing, moving, listing; where the process is. */
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/fs.h>

#include "guest/linux/linux.h"
#include "guest/linux/path.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

#define WITH_PATH(user, call)                                                                                \
	({                                                                                                   \
		char *path_;                                                                                 \
		s64 r_ = path_in(&path_, user);                                                              \
		if (!r_) {                                                                                   \
			const char *path = path_;                                                            \
			r_ = (call);                                                                         \
			path_free(path_);                                                                    \
		}                                                                                            \
		r_;                                                                                          \
	})

SYSCALL3(mkdirat, int, dirfd, const char *, upath, u32, mode)
{
	return WITH_PATH(upath, vfs_mkdir(dirfd, path, mode));
}

SYSCALL2(mkdir, const char *, upath, u32, mode)
{
	return WITH_PATH(upath, vfs_mkdir(AT_FDCWD, path, mode));
}

static u64 wide_dev(u32 dev)
{
	return MKDEV((dev & 0xfff00) >> 8, (dev & 0xff) | ((dev >> 12) & 0xfff00));
}

SYSCALL4(mknodat, int, dirfd, const char *, upath, u32, mode, u32, dev)
{
	return WITH_PATH(upath, vfs_mknod(dirfd, path, mode, wide_dev(dev)));
}

SYSCALL3(mknod, const char *, upath, u32, mode, u32, dev)
{
	return WITH_PATH(upath, vfs_mknod(AT_FDCWD, path, mode, wide_dev(dev)));
}

SYSCALL3(unlinkat, int, dirfd, const char *, upath, u32, flags)
{
	if (flags & ~(u32)AT_REMOVEDIR)
		return -EINVAL;
	return WITH_PATH(upath, flags ? vfs_rmdir(dirfd, path) : vfs_unlink(dirfd, path));
}

SYSCALL1(unlink, const char *, upath)
{
	return WITH_PATH(upath, vfs_unlink(AT_FDCWD, path));
}

SYSCALL1(rmdir, const char *, upath)
{
	return WITH_PATH(upath, vfs_rmdir(AT_FDCWD, path));
}

/* Calls with two paths. */
static s64 two_paths(const char *ua, const char *ub, char **a, char **b)
{
	s64 r = path_in(a, ua);

	if (r)
		return r;
	r = path_in(b, ub);
	if (r)
		path_free(*a);
	return r;
}

static s64 symlink_at(const char *utarget, int dirfd, const char *upath)
{
	char *target, *path;
	s64 r = two_paths(utarget, upath, &target, &path);

	if (r)
		return r;
	r = vfs_symlink(target, dirfd, path);
	path_free(target);
	path_free(path);
	return r;
}

SYSCALL3(symlinkat, const char *, target, int, dirfd, const char *, path)
{
	return symlink_at(target, dirfd, path);
}

SYSCALL2(symlink, const char *, target, const char *, path)
{
	return symlink_at(target, AT_FDCWD, path);
}

static s64 link_at(int ofd, const char *uold, int nfd, const char *unew, u32 flags)
{
	char *old, *new;

	if (flags & ~(u32)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	s64 r = two_paths(uold, unew, &old, &new);
	if (r)
		return r;
	r = vfs_link(ofd, old, nfd, new,
		     (flags & AT_SYMLINK_FOLLOW ? WALK_FOLLOW : 0) |
			     (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0));
	path_free(old);
	path_free(new);
	return r;
}

SYSCALL5(linkat, int, ofd, const char *, old, int, nfd, const char *, new, u32, flags)
{
	return link_at(ofd, old, nfd, new, flags);
}

SYSCALL2(link, const char *, old, const char *, new)
{
	return link_at(AT_FDCWD, old, AT_FDCWD, new, 0);
}

static s64 rename_at(int ofd, const char *uold, int nfd, const char *unew, u32 flags)
{
	char *old, *new;
	s64 r = two_paths(uold, unew, &old, &new);

	if (r)
		return r;
	r = vfs_rename(ofd, old, nfd, new, flags);
	path_free(old);
	path_free(new);
	return r;
}

SYSCALL2(rename, const char *, old, const char *, new)
{
	return rename_at(AT_FDCWD, old, AT_FDCWD, new, 0);
}

SYSCALL4(renameat, int, ofd, const char *, old, int, nfd, const char *, new)
{
	return rename_at(ofd, old, nfd, new, 0);
}

SYSCALL5(renameat2, int, ofd, const char *, old, int, nfd, const char *, new, u32, flags)
{
	return rename_at(ofd, old, nfd, new, flags);
}

/* --- listing ------------------------------------------------------------------------- */

static s64 list_dir(int fd, struct uio *u)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = f->flags & O_PATH ? -EBADF : f->ops->getdents ? f->ops->getdents(f, u) : -ENOTDIR;
	if (r > 0)
		notify(f->dentry, 1 /* IN_ACCESS */);
	file_put(f);
	return r;
}

SYSCALL3(getdents64, int, fd, void *, buf, u32, n)
{
	struct iovec iov;
	struct uio u;

	uio_single(&u, &iov, buf, MIN(n, 0x7fffffffu), false);
	return list_dir(fd, &u);
}

/* The old record: inode, offset, length, name, and the type in the last byte. Converted from the new one. */
SYSCALL3(getdents, int, fd, u8 *, ubuf, u32, n)
{
	u32 size = MIN(n, 32768u);
	u8 *buf = kmalloc(size + 8);
	struct iovec iov;
	struct uio u;

	if (!buf)
		return -ENOMEM;
	uio_single(&u, &iov, buf, size, true);
	s64 r = list_dir(fd, &u);
	for (s64 at = 0; at < r;) {
		u8 *rec = buf + at;
		u16 len;
		memcpy(&len, rec + 16, 2);
		u8 type = rec[18];
		memmove(rec + 18, rec + 19, len - 19u);
		rec[len - 1] = type;
		at += len;
	}
	if (r > 0 && copy_out(ubuf, buf, (size_t)r))
		r = -EFAULT;
	kfree(buf);
	return r;
}

/* --- where the process is -------------------------------------------------------------- */

static int enter_dir(struct dentry *d, struct dentry **place)
{
	int err = !IS_DIR(d->inode) ? -ENOTDIR : inode_permission(d->inode, 1);

	if (err) {
		dentry_put(d);
		return err;
	}
	struct dentry *old = *place;
	*place = d;
	dentry_put(old);
	return 0;
}

static s64 change_dir(const char *path, struct dentry **place)
{
	struct dentry *d;
	int err = path_walk(AT_FDCWD, path, WALK_FOLLOW | WALK_DIRECTORY, &d);

	return err ? err : enter_dir(d, place);
}

SYSCALL1(chdir, const char *, upath)
{
	return WITH_PATH(upath, change_dir(path, &current_fs()->cwd));
}

SYSCALL1(chroot, const char *, upath)
{
	if (!(current->proc->cap_effective >> CAP_SYS_CHROOT & 1))
		return -EPERM;
	return WITH_PATH(upath, change_dir(path, &current_fs()->root));
}

SYSCALL1(fchdir, int, fd)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = -ENOTDIR;
	if (f->dentry) {
		dentry_get(f->dentry);
		r = enter_dir(f->dentry, &current_fs()->cwd);
	}
	file_put(f);
	return r;
}

SYSCALL2(getcwd, char *, ubuf, u64, size)
{
	struct fs_context *c = current_fs();
	char *buf = kmalloc(PATH_MAX);
	s64 r;

	if (!buf)
		return -ENOMEM;
	if (c->cwd->flags & D_DELETED)
		r = -ENOENT;
	else
		r = dentry_path(c->cwd, c->root, buf, PATH_MAX);
	if (r > 0) {
		r++;
		if ((u64)r > size)
			r = -ERANGE;
		else if (copy_out(ubuf, buf, (size_t)r))
			r = -EFAULT;
	}
	kfree(buf);
	return r;
}

SYSCALL1(umask, u32, mask)
{
	u32 old = current_fs()->umask;

	current_fs()->umask = mask & 0777;
	return old;
}
