/* SPDX-License-Identifier: ISC */
/* System calls that look at files or change their attributes, by path or descriptor. */
#include <asm/stat.h>
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <linux/utime.h>

#include "guest/linux/linux.h"
#include "guest/linux/path.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

enum { NSEC = 1000000000 };

/* --- paths from the app: one buffer is kept, so the usual call allocates nothing -- */

static char *spare;

int path_in(char **out, const char *user)
{
	char *p = spare;

	spare = NULL;
	if (!p && !(p = kmalloc(PATH_MAX)))
		return -ENOMEM;
	s64 n = strncpy_in(p, user, PATH_MAX);
	if (n < 0) {
		path_free(p);
		return (int)n;
	}
	*out = p;
	return 0;
}

void path_free(char *p)
{
	if (spare)
		kfree(p);
	else
		spare = p;
}

/* What a call acts on: an inode by path, or the file of a descriptor (path empty or NULL). */
struct object {
	struct dentry *d;
	struct file *f;
};

static struct inode *object_inode(struct object *o)
{
	return o->d ? o->d->inode : o->f->inode;
}

static void object_put(struct object *o)
{
	if (o->d)
		dentry_put(o->d);
	if (o->f)
		file_put(o->f);
}

static int object_get(struct object *o, int dirfd, const char *upath, u32 at_flags)
{
	char *path;

	*o = (struct object){0};
	int err = path_in(&path, upath);
	if (err)
		return err;
	if (!*path && at_flags & AT_EMPTY_PATH && dirfd != AT_FDCWD) {
		path_free(path);
		o->f = fd_get(dirfd);
		return o->f ? 0 : -EBADF;
	}
	u32 walk = (at_flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) |
		   (at_flags & AT_EMPTY_PATH ? WALK_EMPTY : 0);
	err = path_walk(dirfd, path, walk, &o->d);
	path_free(path);
	return err;
}

static int object_fd(struct object *o, int fd)
{
	*o = (struct object){.f = fd_get(fd)};
	return o->f ? 0 : -EBADF;
}

static int object_stat(struct object *o, struct kstat *st)
{
	return o->d ? inode_getattr(o->d->inode, st) : vfs_stat_file(o->f, st);
}

/* --- stat --------------------------------------------------------------------------- */

/* Rounded down: what is before 1970 has nanoseconds from 0, too. */
static struct statx_timestamp stamp(s64 ns)
{
	s64 sec = ns / NSEC - (ns % NSEC < 0);

	return (struct statx_timestamp){.tv_sec = sec, .tv_nsec = (u32)(ns - sec * NSEC)};
}

static s64 put_stat(const struct kstat *k, struct stat *user)
{
	struct stat st = {
		.st_dev = k->dev,
		.st_ino = k->ino,
		.st_nlink = k->nlink,
		.st_mode = k->mode,
		.st_uid = k->uid,
		.st_gid = k->gid,
		.st_rdev = k->rdev,
		.st_size = (s64)k->size,
		.st_blksize = k->blksize,
		.st_blocks = (s64)k->blocks,
		.st_atime = (u64)stamp(k->atime_ns).tv_sec,
		.st_atime_nsec = stamp(k->atime_ns).tv_nsec,
		.st_mtime = (u64)stamp(k->mtime_ns).tv_sec,
		.st_mtime_nsec = stamp(k->mtime_ns).tv_nsec,
		.st_ctime = (u64)stamp(k->ctime_ns).tv_sec,
		.st_ctime_nsec = stamp(k->ctime_ns).tv_nsec,
	};

	return put_user(st, user);
}

static s64 stat_at(int dirfd, const char *path, u32 at_flags, struct stat *user)
{
	struct object o;
	struct kstat k;
	s64 r = object_get(&o, dirfd, path, at_flags);

	if (!r) {
		r = object_stat(&o, &k);
		if (!r)
			r = put_stat(&k, user);
	}
	object_put(&o);
	return r;
}

SYSCALL2(stat, const char *, path, struct stat *, user)
{
	return stat_at(AT_FDCWD, path, 0, user);
}

SYSCALL2(lstat, const char *, path, struct stat *, user)
{
	return stat_at(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, user);
}

SYSCALL4(newfstatat, int, dirfd, const char *, path, struct stat *, user, u32, flags)
{
	if (flags & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH))
		return -EINVAL;
	return stat_at(dirfd, path, flags, user);
}

SYSCALL2(fstat, int, fd, struct stat *, user)
{
	struct file *f = fd_get(fd);
	struct kstat k;

	if (!f)
		return -EBADF;
	s64 r = vfs_stat_file(f, &k);
	file_put(f);
	return r ? r : put_stat(&k, user);
}

SYSCALL5(statx, int, dirfd, const char *, path, u32, flags, u32, mask, struct statx *, user)
{
	struct object o;
	struct kstat k;

	if (mask & STATX__RESERVED ||
	    flags & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE) ||
	    (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE)
		return -EINVAL;
	s64 r = object_get(&o, dirfd, path, flags);
	if (!r)
		r = object_stat(&o, &k);
	if (!r) {
		struct inode *ino = object_inode(&o);
		struct statx sx = {
			.stx_mask = STATX_BASIC_STATS | (k.btime_ns ? STATX_BTIME : 0),
			.stx_blksize = k.blksize,
			.stx_nlink = k.nlink,
			.stx_uid = k.uid,
			.stx_gid = k.gid,
			.stx_mode = (u16)k.mode,
			.stx_ino = k.ino,
			.stx_size = k.size,
			.stx_blocks = k.blocks,
			.stx_atime = stamp(k.atime_ns),
			.stx_btime = stamp(k.btime_ns),
			.stx_ctime = stamp(k.ctime_ns),
			.stx_mtime = stamp(k.mtime_ns),
			.stx_rdev_major = (u32)DEV_MAJOR(k.rdev),
			.stx_rdev_minor = (u32)DEV_MINOR(k.rdev),
			.stx_dev_major = (u32)DEV_MAJOR(k.dev),
			.stx_dev_minor = (u32)DEV_MINOR(k.dev),
		};
		if (mask & STATX_MNT_ID && ino && ino->sb) {
			sx.stx_mask |= STATX_MNT_ID;
			sx.stx_mnt_id = (u64)ino->sb->mnt_id;
		}
		r = put_user(sx, user);
	}
	object_put(&o);
	return r;
}

/* --- access, readlink ------------------------------------------------------------------- */

static s64 access_at(int dirfd, const char *path, u32 mode, u32 flags)
{
	struct process *p = current->proc;
	struct object o;

	if (mode & ~7u || flags & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_EACCESS))
		return -EINVAL;
	/* the walk, too, is by the real ids */
	u32 fsuid = p->fsuid, fsgid = p->fsgid;
	if (!(flags & AT_EACCESS)) {
		p->fsuid = p->uid;
		p->fsgid = p->gid;
	}
	s64 r = object_get(&o, dirfd, path, flags);
	if (!r && mode && object_inode(&o))
		r = inode_permission(object_inode(&o), (int)mode);
	p->fsuid = fsuid;
	p->fsgid = fsgid;
	object_put(&o);
	return r;
}

SYSCALL2(access, const char *, path, u32, mode)
{
	return access_at(AT_FDCWD, path, mode, 0);
}

SYSCALL3(faccessat, int, dirfd, const char *, path, u32, mode)
{
	return access_at(dirfd, path, mode, 0);
}

SYSCALL4(faccessat2, int, dirfd, const char *, path, u32, mode, u32, flags)
{
	return access_at(dirfd, path, mode, flags);
}

static s64 readlink_at(int dirfd, const char *path, char *ubuf, int size)
{
	struct object o;

	if (size <= 0)
		return -EINVAL;
	s64 r = object_get(&o, dirfd, path, AT_SYMLINK_NOFOLLOW | (dirfd == AT_FDCWD ? 0 : AT_EMPTY_PATH));
	if (!r) {
		struct inode *ino = object_inode(&o);
		char *buf = NULL;
		if (!ino || !IS_LNK(ino) || !ino->ops->readlink)
			r = o.f ? -ENOENT : -EINVAL;
		else if (!(buf = kmalloc(PATH_MAX)))
			r = -ENOMEM;
		else
			r = ino->ops->readlink(ino, buf, PATH_MAX);
		if (r > 0) {
			r = MIN(r, size);
			if (copy_out(ubuf, buf, (size_t)r))
				r = -EFAULT;
		}
		kfree(buf);
	}
	object_put(&o);
	return r;
}

SYSCALL3(readlink, const char *, path, char *, buf, int, size)
{
	return readlink_at(AT_FDCWD, path, buf, size);
}

SYSCALL4(readlinkat, int, dirfd, const char *, path, char *, buf, int, size)
{
	return readlink_at(dirfd, path, buf, size);
}

/* --- changing attributes ------------------------------------------------------------------- */

static s64 object_setattr(struct object *o, const struct iattr *a)
{
	struct inode *ino = object_inode(o);

	if (o->f && o->f->flags & O_PATH && !o->d && a->valid == 0)
		return -EBADF;
	if (!ino)
		return a->valid & (ATTR_MODE | ATTR_UID | ATTR_GID) ? 0 : -EPERM;
	s64 r = inode_setattr(ino, a);
	if (!r)
		notify(o->d ? o->d : o->f->dentry, 4 /* IN_ATTRIB */);
	return r;
}

static s64 object_chmod(struct object *o, u32 mode)
{
	struct iattr a = {.valid = ATTR_MODE, .mode = mode & 07777};
	struct inode *ino = object_inode(o);
	struct kstat st;

	if (!ino)
		return 0;
	if (IS_LNK(ino))
		return -EOPNOTSUPP;
	if (!vfs_capable_owner(ino))
		return -EPERM;
	/* set-group-id only for a group that one belongs to */
	if (vfs_cred().uid && a.mode & S_ISGID && !inode_getattr(ino, &st) && !vfs_in_group(st.gid))
		a.mode &= ~(u32)S_ISGID;
	return object_setattr(o, &a);
}

static s64 object_chown(struct object *o, u32 uid, u32 gid)
{
	struct iattr a = {
		.valid = (uid != ~0u ? ATTR_UID : 0) | (gid != ~0u ? ATTR_GID : 0), .uid = uid, .gid = gid};
	struct inode *ino = object_inode(o);
	struct kstat st;

	if (!ino)
		return 0;
	int err = inode_getattr(ino, &st);
	if (err)
		return err;
	u32 me = vfs_cred().uid;
	if (me && ((a.valid & ATTR_UID && (uid != st.uid || me != st.uid)) ||
		   (a.valid & ATTR_GID && (me != st.uid || !vfs_in_group(gid)))))
		return -EPERM;
	if (IS_REG(ino) && st.mode & 06000) {
		a.valid |= ATTR_MODE;
		a.mode = st.mode & 07777 & ~(u32)(S_ISUID | (st.mode & S_IXGRP ? S_ISGID : 0));
	}
	return object_setattr(o, &a);
}

static s64 chmod_at(int dirfd, const char *path, u32 mode)
{
	struct object o;
	s64 r = object_get(&o, dirfd, path, 0);

	if (!r)
		r = object_chmod(&o, mode);
	object_put(&o);
	return r;
}

SYSCALL2(chmod, const char *, path, u32, mode)
{
	return chmod_at(AT_FDCWD, path, mode);
}

SYSCALL3(fchmodat, int, dirfd, const char *, path, u32, mode)
{
	return chmod_at(dirfd, path, mode);
}

SYSCALL2(fchmod, int, fd, u32, mode)
{
	struct object o;
	s64 r = object_fd(&o, fd);

	if (!r)
		r = o.f->flags & O_PATH ? -EBADF : object_chmod(&o, mode);
	object_put(&o);
	return r;
}

static s64 chown_at(int dirfd, const char *path, u32 uid, u32 gid, u32 flags)
{
	struct object o;

	if (flags & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	s64 r = object_get(&o, dirfd, path, flags);
	if (!r)
		r = object_chown(&o, uid, gid);
	object_put(&o);
	return r;
}

SYSCALL3(chown, const char *, path, u32, uid, u32, gid)
{
	return chown_at(AT_FDCWD, path, uid, gid, 0);
}

SYSCALL3(lchown, const char *, path, u32, uid, u32, gid)
{
	return chown_at(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

SYSCALL5(fchownat, int, dirfd, const char *, path, u32, uid, u32, gid, u32, flags)
{
	return chown_at(dirfd, path, uid, gid, flags);
}

SYSCALL3(fchown, int, fd, u32, uid, u32, gid)
{
	struct object o;
	s64 r = object_fd(&o, fd);

	if (!r)
		r = o.f->flags & O_PATH ? -EBADF : object_chown(&o, uid, gid);
	object_put(&o);
	return r;
}

/* --- times ------------------------------------------------------------------------------------ */

enum { UTIME_NOW_ = 0x3fffffff, UTIME_OMIT_ = 0x3ffffffe };
struct ts64 {
	s64 sec, nsec;
};

static s64 utimes_object(struct object *o, const struct ts64 ts[2])
{
	struct iattr a = {0};
	struct inode *ino = object_inode(o);
	bool now_only = true;
	s64 now = (s64)real_ns(), *out[2] = {&a.atime_ns, &a.mtime_ns};

	for (int i = 0; i < 2; i++) {
		if (ts && ts[i].nsec == UTIME_OMIT_) {
			now_only = false;
			continue;
		}
		a.valid |= i ? ATTR_MTIME : ATTR_ATIME;
		if (!ts || ts[i].nsec == UTIME_NOW_) {
			*out[i] = now;
			continue;
		}
		if (ts[i].nsec < 0 || ts[i].nsec >= NSEC)
			return -EINVAL;
		now_only = false;
		*out[i] = ts[i].sec * NSEC + ts[i].nsec;
	}
	if (!a.valid || !ino)
		return 0;
	if (!vfs_capable_owner(ino)) {
		if (!now_only)
			return -EPERM;
		if (inode_permission(ino, 2))
			return -EACCES;
	}
	return object_setattr(o, &a);
}

static s64 utimes_at(int dirfd, const char *path, const struct ts64 *ts, u32 flags)
{
	struct object o;
	s64 r = path ? object_get(&o, dirfd, path, flags) : object_fd(&o, dirfd);

	if (!r)
		r = utimes_object(&o, ts);
	object_put(&o);
	return r;
}

SYSCALL4(utimensat, int, dirfd, const char *, path, const struct ts64 *, uts, u32, flags)
{
	struct ts64 ts[2];

	if (flags & ~(u32)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	if (uts && copy_in(ts, uts, sizeof(ts)))
		return -EFAULT;
	if (uts && ts[0].nsec == UTIME_OMIT_ && ts[1].nsec == UTIME_OMIT_)
		return 0;
	return utimes_at(dirfd, path, uts ? ts : NULL, flags);
}

/* Microseconds, as utimes has them. */
static s64 utimes_usec(int dirfd, const char *path, const struct ts64 *utv)
{
	struct ts64 ts[2];

	if (utv && copy_in(ts, utv, sizeof(ts)))
		return -EFAULT;
	for (int i = 0; utv && i < 2; i++) {
		if (ts[i].nsec < 0 || ts[i].nsec >= 1000000)
			return -EINVAL;
		ts[i].nsec *= 1000;
	}
	return utimes_at(dirfd, path, utv ? ts : NULL, 0);
}

SYSCALL2(utimes, const char *, path, const struct ts64 *, tv)
{
	return utimes_usec(AT_FDCWD, path, tv);
}

SYSCALL3(futimesat, int, dirfd, const char *, path, const struct ts64 *, tv)
{
	return utimes_usec(dirfd, path, tv);
}

SYSCALL2(utime, const char *, path, const struct utimbuf *, ut)
{
	struct utimbuf t;

	if (ut && get_user(t, ut))
		return -EFAULT;
	struct ts64 ts[2] = {{ut ? t.actime : 0, 0}, {ut ? t.modtime : 0, 0}};
	return utimes_at(AT_FDCWD, path, ut ? ts : NULL, 0);
}

SYSCALL2(truncate, const char *, path, s64, size)
{
	struct object o;

	if (size < 0)
		return -EINVAL;
	s64 r = object_get(&o, AT_FDCWD, path, 0);
	if (!r) {
		struct inode *ino = object_inode(&o);
		r = IS_DIR(ino) ? -EISDIR : !IS_REG(ino) ? -EINVAL : inode_permission(ino, 2);
		if (!r)
			r = vfs_truncate(ino, (u64)size);
	}
	object_put(&o);
	return r;
}
