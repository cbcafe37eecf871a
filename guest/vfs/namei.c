/* SPDX-License-Identifier: ISC */
/*
 * Calls that change directories. Each walks to the parent, looks the last
 * component up, checks by Linux's rules and in Linux's order (existence,
 * then permission), and lets the file system do it. Dentries are brought in
 * line afterwards, so the cache never says what the file system does not.
 */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/inotify.h>

#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

struct target {
	struct walk w;
	struct dentry *d; /* the last component; NULL if there is none */
};

static int target_find(struct target *t, int dirfd, const char *path)
{
	int err = walk_start(&t->w, dirfd, path, 0);

	t->d = NULL;
	if (err)
		return err;
	err = walk_parent(&t->w);
	if (!err && t->w.len && !t->w.dots) {
		if (!IS_DIR(t->w.cur->inode))
			err = -ENOTDIR;
		else
			t->d = dentry_lookup(t->w.cur, t->w.last, t->w.len, &err);
	}
	if (err)
		walk_end(&t->w);
	return err;
}

static void target_end(struct target *t)
{
	if (t->d)
		dentry_put(t->d);
	walk_end(&t->w);
}

static struct inode *target_dir(struct target *t)
{
	return t->w.cur->inode;
}

/* What everything that makes a name begins with, but for the permission. */
static int find_free(struct target *t, int dirfd, const char *path, bool is_dir)
{
	int err = target_find(t, dirfd, path);

	if (err)
		return err;
	if (!t->d || t->d->inode)
		err = -EEXIST;
	else if (t->w.slash && !is_dir)
		err = -ENOENT;
	else if (t->w.cur->flags & D_DELETED)
		err = -ENOENT;
	if (err)
		target_end(t);
	return err;
}

static int begin_create(struct target *t, int dirfd, const char *path, bool is_dir)
{
	int err = find_free(t, dirfd, path, is_dir);

	if (!err && (err = vfs_may_create(target_dir(t))))
		target_end(t);
	return err;
}

static int end_create(struct target *t, int err, struct inode *ino, u32 extra)
{
	if (!err) {
		if (t->d->inode)
			inode_put(ino);
		else
			dentry_instantiate(t->d, ino);
		notify_name(target_dir(t), IN_CREATE | extra, 0, t->d->name, t->d->len);
	}
	target_end(t);
	return err;
}

int vfs_mkdir(int dirfd, const char *path, u32 mode)
{
	struct target t;
	struct inode *ino = NULL;
	int err = begin_create(&t, dirfd, path, true);

	if (err)
		return err;
	const struct inode_ops *ops = target_dir(&t)->ops;
	mode &= 01777 & ~current_fs()->umask;
	err = ops->mkdir ? ops->mkdir(target_dir(&t), t.d->name, t.d->len, mode, &ino) : -EPERM;
	return end_create(&t, err, ino, IN_ISDIR);
}

int vfs_mknod(int dirfd, const char *path, u32 mode, u64 rdev)
{
	struct target t;
	struct inode *ino = NULL;

	if (!S_IFMT_(mode))
		mode |= S_IFREG;
	switch (S_IFMT_(mode)) {
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	case S_IFCHR:
	case S_IFBLK:
		if (!(current->proc->cap_effective >> CAP_MKNOD & 1))
			return -EPERM;
		break;
	case S_IFDIR:
		return -EPERM;
	default:
		return -EINVAL;
	}
	int err = begin_create(&t, dirfd, path, false);
	if (err)
		return err;
	const struct inode_ops *ops = target_dir(&t)->ops;
	mode &= ~current_fs()->umask | 0170000;
	err = ops->create ? ops->create(target_dir(&t), t.d->name, t.d->len, mode, rdev, &ino) : -EPERM;
	return end_create(&t, err, ino, 0);
}

int vfs_symlink(const char *target, int dirfd, const char *path)
{
	struct target t;
	struct inode *ino = NULL;

	if (!*target)
		return -ENOENT;
	int err = begin_create(&t, dirfd, path, false);
	if (err)
		return err;
	const struct inode_ops *ops = target_dir(&t)->ops;
	err = ops->symlink ? ops->symlink(target_dir(&t), t.d->name, t.d->len, target, &ino) : -EPERM;
	return end_create(&t, err, ino, 0);
}

/* As with fs.protected_hardlinks = 1: a file of somebody else only if one could also write it. */
static int may_link(struct inode *ino)
{
	if (vfs_capable_owner(ino))
		return 0;
	if (!IS_REG(ino) || ino->mode & S_ISUID || (ino->mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
		return -EPERM;
	return inode_permission(ino, 6) ? -EPERM : 0;
}

int vfs_link(int odirfd, const char *old, int ndirfd, const char *new, u32 walk_flags)
{
	struct dentry *od;
	struct target t;
	int err = path_walk(odirfd, old, walk_flags, &od);

	if (err)
		return err;
	struct inode *ino = od->inode;
	if ((err = find_free(&t, ndirfd, new, false))) {
		dentry_put(od);
		return err;
	}
	const struct inode_ops *ops = target_dir(&t)->ops;
	if (ino->sb != t.w.cur->sb)
		err = -EXDEV;
	else if (!(err = may_link(ino)) && !(err = vfs_may_create(target_dir(&t))))
		err = IS_DIR(ino) || !ops->link ? -EPERM
						: ops->link(target_dir(&t), t.d->name, t.d->len, ino);
	if (!err)
		inode_get(ino);
	err = end_create(&t, err, ino, 0);
	if (!err)
		notify(od, IN_ATTRIB);
	dentry_put(od);
	return err;
}

int vfs_bind_socket(const char *path, u32 mode, void *sock, struct inode **out)
{
	struct target t;
	struct inode *ino = NULL;
	int err = begin_create(&t, AT_FDCWD, path, false);

	if (err)
		return err == -EEXIST ? -EADDRINUSE : err;
	const struct inode_ops *ops = target_dir(&t)->ops;
	mode = S_IFSOCK | (mode & 0777 & ~current_fs()->umask);
	err = ops->create ? ops->create(target_dir(&t), t.d->name, t.d->len, mode, 0, &ino) : -EPERM;
	if (!err) {
		ino->special = sock;
		inode_get(ino);
		*out = ino;
	}
	return end_create(&t, err, ino, 0);
}

void *vfs_lookup_socket(const char *path, int *err)
{
	struct dentry *d;
	void *sock = NULL;

	*err = path_walk(AT_FDCWD, path, WALK_FOLLOW, &d);
	if (*err)
		return NULL;
	*err = inode_permission(d->inode, 2);
	if (!*err && (S_IFMT_(d->inode->mode) != S_IFSOCK || !(sock = d->inode->special)))
		*err = -ECONNREFUSED;
	dentry_put(d);
	return sock;
}

/* May current remove or replace `d` in `dir`? */
static int may_delete(struct inode *dir, struct dentry *d)
{
	struct kstat st;
	int err = inode_permission(dir, 3);

	if (err)
		return err;
	if (dir->mode & S_ISVTX && !vfs_capable_owner(dir)) {
		if ((err = inode_getattr(d->inode, &st)))
			return err;
		if (st.uid != vfs_cred().uid)
			return -EPERM;
	}
	return d->mounted ? -EBUSY : 0;
}

int vfs_unlink(int dirfd, const char *path)
{
	struct target t;
	int err = target_find(&t, dirfd, path);

	if (err)
		return err;
	struct inode *dir = target_dir(&t), *ino = t.d ? t.d->inode : NULL;
	if (!t.d)
		err = -EISDIR;
	else if (!ino)
		err = -ENOENT;
	else if (t.w.slash)
		err = IS_DIR(ino) ? -EISDIR : -ENOTDIR;
	else if (!(err = may_delete(dir, t.d)))
		err = IS_DIR(ino)	  ? -EISDIR
		      : !dir->ops->unlink ? -EPERM
					  : dir->ops->unlink(dir, t.d->name, t.d->len, ino);
	if (!err) {
		dentry_unlinked(t.d);
		notify(t.d, IN_ATTRIB);
		inotify_unlinked(ino);
		notify_name(dir, IN_DELETE, 0, t.d->name, t.d->len);
	}
	target_end(&t);
	return err;
}

int vfs_rmdir(int dirfd, const char *path)
{
	struct target t;
	int err = target_find(&t, dirfd, path);

	if (err)
		return err;
	struct inode *dir = target_dir(&t), *ino = t.d ? t.d->inode : NULL;
	if (!t.d)
		err = !t.w.len ? -EBUSY : t.w.len == 1 ? -EINVAL : -ENOTEMPTY;
	else if (!ino)
		err = -ENOENT;
	else if (!(err = may_delete(dir, t.d)))
		err = !IS_DIR(ino)	 ? -ENOTDIR
		      : !dir->ops->rmdir ? -EPERM
					 : dir->ops->rmdir(dir, t.d->name, t.d->len, ino);
	if (!err) {
		dentry_unlinked(t.d);
		inotify_unlinked(ino);
		notify_name(dir, IN_DELETE | IN_ISDIR, 0, t.d->name, t.d->len);
	}
	target_end(&t);
	return err;
}

/* Is `a` the same as `d` or above it, in one file system? */
static bool is_above(struct dentry *a, struct dentry *d)
{
	for (;; d = d->parent) {
		if (a == d)
			return true;
		if (d->parent == d)
			return false;
	}
}

static int check_rename(struct target *o, struct target *n, u32 flags)
{
	struct inode *ino = o->d->inode, *over = n->d->inode;
	int err;

	if (!ino)
		return -ENOENT;
	if (o->w.cur->sb != n->w.cur->sb)
		return -EXDEV;
	if (over && flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (!over && flags & RENAME_EXCHANGE)
		return -ENOENT;
	if (!IS_DIR(ino) && (o->w.slash || (!(flags & RENAME_EXCHANGE) && n->w.slash)))
		return -ENOTDIR;
	if (over && flags & RENAME_EXCHANGE && !IS_DIR(over) && n->w.slash)
		return -ENOTDIR;
	if (is_above(o->d, n->w.cur))
		return -EINVAL;
	if (over && is_above(n->d, o->w.cur))
		return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	if (ino == over)
		return 0;
	if ((err = may_delete(target_dir(o), o->d)))
		return err;
	if (!over)
		return n->w.cur->flags & D_DELETED ? -ENOENT : vfs_may_create(target_dir(n));
	if ((err = may_delete(target_dir(n), n->d)))
		return err;
	if (flags & RENAME_EXCHANGE)
		return 0;
	if (IS_DIR(ino) && !IS_DIR(over))
		return -ENOTDIR;
	if (!IS_DIR(ino) && IS_DIR(over))
		return -EISDIR;
	return 0;
}

/* A directory that moves gets another "..": that is a change of the directory itself. */
static int check_reparent(struct target *o, struct target *n, u32 flags)
{
	int err = 0;

	if (target_dir(o) == target_dir(n) || o->d->inode == n->d->inode)
		return 0;
	if (IS_DIR(o->d->inode))
		err = inode_permission(o->d->inode, 2);
	if (!err && flags & RENAME_EXCHANGE && IS_DIR(n->d->inode))
		err = inode_permission(n->d->inode, 2);
	return err;
}

static void rename_dentries(struct target *o, struct target *n, u32 flags)
{
	if (flags & RENAME_EXCHANGE) {
		/* each takes the other's place; a third name keeps the two apart */
		char name[NAME_MAX + 1];
		u32 len = n->d->len;
		memcpy(name, n->d->name, len);
		dentry_moved(n->d, o->w.cur, o->d->name, o->d->len);
		dentry_moved(o->d, n->w.cur, name, len);
		return;
	}
	dentry_unlinked(n->d);
	dentry_moved(o->d, n->w.cur, n->d->name, n->d->len);
}

static void notify_rename(struct target *o, struct target *n, const char *oname, u32 olen, bool dir)
{
	static u32 cookie;
	u32 d = dir ? IN_ISDIR : 0;

	if (likely(!inotify_watches))
		return;
	cookie++;
	inotify_post(target_dir(o), IN_MOVED_FROM | d, cookie, oname, olen);
	inotify_post(target_dir(n), IN_MOVED_TO | d, cookie, n->d->name, n->d->len);
	inotify_post(o->d->inode, IN_MOVE_SELF, 0, NULL, 0);
}

int vfs_rename(int odirfd, const char *old, int ndirfd, const char *new, u32 flags)
{
	struct target o, n;
	char oname[NAME_MAX + 1];

	if (flags & ~(u32)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
	    flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	int err = target_find(&o, odirfd, old);
	if (err)
		return err;
	if ((err = target_find(&n, ndirfd, new))) {
		target_end(&o);
		return err;
	}
	if (!o.d || !n.d)
		err = o.d && flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
	else
		err = check_rename(&o, &n, flags);
	if (!err)
		err = check_reparent(&o, &n, flags);
	if (!err && o.d->inode != n.d->inode) {
		struct inode *ino = o.d->inode, *over = n.d->inode, *dir = target_dir(&o);
		u32 olen = o.d->len;
		memcpy(oname, o.d->name, olen);
		err = !dir->ops->rename ? -EPERM
					: dir->ops->rename(dir, oname, olen, target_dir(&n), n.d->name,
							   n.d->len, ino, over, flags);
		if (!err) {
			notify_rename(&o, &n, oname, olen, IS_DIR(ino));
			if (over && !(flags & RENAME_EXCHANGE))
				inotify_unlinked(over);
			rename_dentries(&o, &n, flags);
		}
	}
	target_end(&n);
	target_end(&o);
	return err;
}
