/* SPDX-License-Identifier: ISC */
/* System calls on whole file systems, extended attributes, and files without a name. */
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/memfd.h>
#include <linux/xattr.h>

#include "guest/linux/linux.h"
#include "guest/linux/path.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

/* --- statfs, mount ------------------------------------------------------------- */

static s64 sb_statfs(struct inode *ino, struct statfs *user)
{
	struct superblock *sb = ino ? ino->sb : NULL;
	struct statfs st = {.f_bsize = PAGE_SIZE, .f_frsize = PAGE_SIZE, .f_namelen = NAME_MAX};

	if (sb) {
		st.f_type = sb->magic;
		st.f_fsid.val[0] = (int)sb->dev;
		int err = sb->statfs ? sb->statfs(sb, &st) : 0;
		if (err)
			return err;
		/* of the mount here, whatever a volume's host says of its own */
		st.f_flags = 0x20 /* ST_VALID */ | (sb->flags & SB_RDONLY ? 1 : 0) |
			     (sb->flags & SB_NOEXEC ? 8 : 0);
	}
	return put_user(st, user);
}

SYSCALL2(statfs, const char *, upath, struct statfs *, user)
{
	struct dentry *d;
	char *path;
	s64 r = path_in(&path, upath);

	if (r)
		return r;
	r = path_walk(AT_FDCWD, path, WALK_FOLLOW, &d);
	path_free(path);
	if (r)
		return r;
	r = sb_statfs(d->inode, user);
	dentry_put(d);
	return r;
}

SYSCALL2(fstatfs, int, fd, struct statfs *, user)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = sb_statfs(f->inode, user);
	file_put(f);
	return r;
}

/* What is mounted is decided before the program starts. */
SYSCALL0(mount)
{
	return -EPERM;
}

SYSCALL0(umount2)
{
	return -EPERM;
}

SYSCALL0(pivot_root)
{
	return -EPERM;
}

SYSCALL0(name_to_handle_at)
{
	return -EOPNOTSUPP;
}

SYSCALL0(open_by_handle_at)
{
	return -EPERM;
}

/* --- extended attributes ------------------------------------------------------------ */

enum { XATTR_LIST_MAX_ = 65536 };

struct xtarget {
	struct dentry *d;
	struct file *f;
	struct inode *ino;
};

static s64 xtarget_path(struct xtarget *t, const char *upath, bool follow)
{
	char *path;
	s64 r = path_in(&path, upath);

	*t = (struct xtarget){0};
	if (r)
		return r;
	r = path_walk(AT_FDCWD, path, follow ? WALK_FOLLOW : 0, &t->d);
	path_free(path);
	if (!r)
		t->ino = t->d->inode;
	return r;
}

static s64 xtarget_fd(struct xtarget *t, int fd)
{
	*t = (struct xtarget){.f = fd_get(fd)};
	if (!t->f)
		return -EBADF;
	t->ino = t->f->inode;
	return t->f->flags & O_PATH ? -EBADF : t->ino ? 0 : -EOPNOTSUPP;
}

static void xtarget_put(struct xtarget *t)
{
	if (t->d)
		dentry_put(t->d);
	if (t->f)
		file_put(t->f);
}

static s64 name_in(char *name, const char *uname)
{
	s64 n = strncpy_in(name, uname, XATTR_NAME_MAX + 1);

	if (n == -ENAMETOOLONG || n == 0)
		return -ERANGE;
	return n < 0 ? n : 0;
}

static bool has_prefix(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static s64 x_get(struct xtarget *t, s64 r, const char *uname, void *uval, size_t size)
{
	char name[XATTR_NAME_MAX + 1], *buf = NULL;

	if (!r)
		r = name_in(name, uname);
	if (!r && !t->ino->ops->getxattr)
		r = -EOPNOTSUPP;
	if (!r && has_prefix(name, "user.")) {
		if (!IS_REG(t->ino) && !IS_DIR(t->ino))
			r = -ENODATA;
		else
			r = inode_permission(t->ino, 4);
	}
	if (!r && has_prefix(name, "trusted.") && !(current->proc->cap_effective >> CAP_SYS_ADMIN & 1))
		r = -ENODATA;
	size = MIN(size, (size_t)XATTR_SIZE_MAX);
	if (!r && size && !(buf = kmalloc(size)))
		r = -ENOMEM;
	if (!r)
		r = t->ino->ops->getxattr(t->ino, name, buf, size);
	if (r > 0 && size && copy_out(uval, buf, (size_t)r))
		r = -EFAULT;
	kfree(buf);
	xtarget_put(t);
	return r;
}

static s64 x_list(struct xtarget *t, s64 r, char *ubuf, size_t size)
{
	char *buf = NULL;

	if (!r && !t->ino->ops->listxattr) {
		xtarget_put(t);
		return 0;
	}
	size = MIN(size, (size_t)XATTR_LIST_MAX_);
	if (!r && size && !(buf = kmalloc(size)))
		r = -ENOMEM;
	if (!r)
		r = t->ino->ops->listxattr(t->ino, buf, size);
	if (r > 0 && size && copy_out(ubuf, buf, (size_t)r))
		r = -EFAULT;
	kfree(buf);
	xtarget_put(t);
	return r;
}

static s64 x_set_check(struct inode *ino, const char *name)
{
	if (ino->sb && ino->sb->flags & SB_RDONLY)
		return -EROFS;
	if (!ino->ops->setxattr)
		return -EOPNOTSUPP;
	if (has_prefix(name, "user.")) {
		if (!IS_REG(ino) && !IS_DIR(ino))
			return -EPERM;
		return inode_permission(ino, 2);
	}
	if (has_prefix(name, "security.") || has_prefix(name, "trusted."))
		return current->proc->cap_effective >> CAP_SYS_ADMIN & 1 ? 0 : -EPERM;
	return -EOPNOTSUPP;
}

static s64 x_set(struct xtarget *t, s64 r, const char *uname, const void *uval, size_t size, int flags)
{
	char name[XATTR_NAME_MAX + 1], *buf = NULL;

	if (!r && flags & ~(XATTR_CREATE | XATTR_REPLACE))
		r = -EINVAL;
	if (!r)
		r = name_in(name, uname);
	if (!r && size > XATTR_SIZE_MAX)
		r = -E2BIG;
	if (!r)
		r = x_set_check(t->ino, name);
	if (!r && !(buf = kmalloc(size + 1)))
		r = -ENOMEM;
	if (!r && copy_in(buf, uval, size))
		r = -EFAULT;
	if (!r)
		r = t->ino->ops->setxattr(t->ino, name, buf, size, flags);
	kfree(buf);
	xtarget_put(t);
	return r;
}

static s64 x_remove(struct xtarget *t, s64 r, const char *uname)
{
	char name[XATTR_NAME_MAX + 1];

	if (!r)
		r = name_in(name, uname);
	if (!r)
		r = x_set_check(t->ino, name);
	if (!r)
		r = t->ino->ops->setxattr(t->ino, name, NULL, 0, 0);
	xtarget_put(t);
	return r;
}

SYSCALL4(getxattr, const char *, path, const char *, name, void *, val, size_t, size)
{
	struct xtarget t;
	return x_get(&t, xtarget_path(&t, path, true), name, val, size);
}

SYSCALL4(lgetxattr, const char *, path, const char *, name, void *, val, size_t, size)
{
	struct xtarget t;
	return x_get(&t, xtarget_path(&t, path, false), name, val, size);
}

SYSCALL4(fgetxattr, int, fd, const char *, name, void *, val, size_t, size)
{
	struct xtarget t;
	return x_get(&t, xtarget_fd(&t, fd), name, val, size);
}

SYSCALL3(listxattr, const char *, path, char *, buf, size_t, size)
{
	struct xtarget t;
	return x_list(&t, xtarget_path(&t, path, true), buf, size);
}

SYSCALL3(llistxattr, const char *, path, char *, buf, size_t, size)
{
	struct xtarget t;
	return x_list(&t, xtarget_path(&t, path, false), buf, size);
}

SYSCALL3(flistxattr, int, fd, char *, buf, size_t, size)
{
	struct xtarget t;
	return x_list(&t, xtarget_fd(&t, fd), buf, size);
}

SYSCALL5(setxattr, const char *, path, const char *, name, const void *, val, size_t, size, int, flags)
{
	struct xtarget t;
	return x_set(&t, xtarget_path(&t, path, true), name, val, size, flags);
}

SYSCALL5(lsetxattr, const char *, path, const char *, name, const void *, val, size_t, size, int, flags)
{
	struct xtarget t;
	return x_set(&t, xtarget_path(&t, path, false), name, val, size, flags);
}

SYSCALL5(fsetxattr, int, fd, const char *, name, const void *, val, size_t, size, int, flags)
{
	struct xtarget t;
	return x_set(&t, xtarget_fd(&t, fd), name, val, size, flags);
}

SYSCALL2(removexattr, const char *, path, const char *, name)
{
	struct xtarget t;
	return x_remove(&t, xtarget_path(&t, path, true), name);
}

SYSCALL2(lremovexattr, const char *, path, const char *, name)
{
	struct xtarget t;
	return x_remove(&t, xtarget_path(&t, path, false), name);
}

SYSCALL2(fremovexattr, int, fd, const char *, name)
{
	struct xtarget t;
	return x_remove(&t, xtarget_fd(&t, fd), name);
}

/* --- memfd ------------------------------------------------------------------------------- */

enum { MEMFD_NAME_MAX = 249 };

SYSCALL2(memfd_create, const char *, uname, u32, flags)
{
	char name[6 + 1 + MEMFD_NAME_MAX + 1] = "memfd:";

	if (flags & ~(u32)(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | (63u << MFD_HUGE_SHIFT)))
		return -EINVAL;
	if (flags & MFD_HUGETLB)
		return -ENOMEM; /* no pool of huge pages */
	s64 n = strncpy_in(name + 6, uname, MEMFD_NAME_MAX + 1);
	if (n < 0)
		return n == -ENAMETOOLONG ? -EINVAL : n;
	struct file *f = vfs_anon_file(name, 0, O_RDWR);
	if (!f)
		return -ENOMEM;
	if (!(flags & MFD_ALLOW_SEALING))
		memfs_add_seals(f->inode, F_SEAL_SEAL);
	s64 fd = fd_install(f, flags & MFD_CLOEXEC, 0);
	if (fd < 0)
		file_put(f);
	return fd;
}
