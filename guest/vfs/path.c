/* SPDX-License-Identifier: ISC */
/*
 * The path walk: from a string to a dentry, by Linux's rules.
 *
 * A walk holds references on where it is, its root and its start. It goes
 * component by component; a symbolic link replaces what remains of the path by
 * its target and the remainder, in a new buffer (so there is no recursion),
 * at most 40 times. ".." never leads above the walk's root. RESOLVE_* of
 * openat2 are the WALK_* flags.
 */
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

enum { MAX_LINKS = 40 };

static void move_to(struct walk *w, struct dentry *d) /* takes d's reference */
{
	struct dentry *old = w->cur;

	w->cur = d;
	dentry_put(old);
}

/* Where a relative path starts. */
static int start_dir(int dirfd, bool empty_ok, struct dentry **out)
{
	if (dirfd == AT_FDCWD) {
		*out = current_fs()->cwd;
		dentry_get(*out);
		return 0;
	}
	struct file *f = fd_get(dirfd);
	if (!f)
		return -EBADF;
	int err = 0;
	if (!f->dentry || (!empty_ok && !IS_DIR(f->dentry->inode))) {
		err = -ENOTDIR;
	} else {
		*out = f->dentry;
		dentry_get(*out);
	}
	file_put(f);
	return err;
}

int walk_start(struct walk *w, int dirfd, const char *path, u32 flags)
{
	struct dentry *start;

	*w = (struct walk){.p = path, .flags = flags};
	if (!*path && !(flags & WALK_EMPTY))
		return -ENOENT;
	if (*path == '/' && !(flags & (WALK_BENEATH | WALK_IN_ROOT))) {
		start = current_fs()->root;
		dentry_get(start);
	} else {
		if (*path == '/' && flags & WALK_BENEATH)
			return -EXDEV;
		int err = start_dir(dirfd, !*path, &start);
		if (err)
			return err;
	}
	w->cur = w->start = start;
	w->root = flags & WALK_IN_ROOT ? start : current_fs()->root;
	dentry_get(w->start);
	dentry_get(w->root);
	return 0;
}

void walk_end(struct walk *w)
{
	if (w->cur)
		dentry_put(w->cur);
	if (w->start)
		dentry_put(w->start);
	if (w->root)
		dentry_put(w->root);
	kfree(w->alloc);
	*w = (struct walk){0};
}

struct dentry *dentry_cross(struct dentry *d)
{
	while (unlikely(d->mounted)) {
		struct dentry *root = d->mounted->root;
		dentry_get(root);
		dentry_put(d);
		d = root;
	}
	return d;
}

static int go_up(struct walk *w)
{
	struct dentry *d = w->cur;

	if (w->flags & WALK_BENEATH && d == w->start)
		return -EXDEV;
	if (d == w->root)
		return 0;
	while (d->parent == d && d->sb && d == d->sb->root && d->sb->mountpoint) {
		if (w->flags & WALK_NO_XDEV)
			return -EXDEV;
		d = d->sb->mountpoint;
		if (d == w->root)
			break;
	}
	d = d->parent;
	dentry_get(d);
	move_to(w, dentry_cross(d));
	return 0;
}

/* Replace what remains by the link's target, followed by the remainder. */
static int splice_target(struct walk *w, struct dentry *link)
{
	char *target = kmalloc(PATH_MAX);
	if (!target)
		return -ENOMEM;
	s64 n = link->inode->ops->readlink(link->inode, target, PATH_MAX - 1);
	if (n <= 0) {
		kfree(target);
		return n ? (int)n : -ENOENT;
	}
	size_t rest = strlen(w->p);
	char *buf = kmalloc((size_t)n + rest + 1);
	if (!buf) {
		kfree(target);
		return -ENOMEM;
	}
	memcpy(buf, target, (size_t)n);
	memcpy(buf + n, w->p, rest + 1);
	kfree(target);
	kfree(w->alloc);
	w->alloc = buf;
	w->p = buf;
	if (buf[0] != '/')
		return 0;
	if (w->flags & WALK_BENEATH)
		return -EXDEV;
	dentry_get(w->root);
	move_to(w, w->root);
	return 0;
}

int walk_follow(struct walk *w, struct dentry *link)
{
	const struct inode_ops *ops = link->inode->ops;

	if (++w->links > MAX_LINKS || w->flags & WALK_NO_SYMLINKS)
		return -ELOOP;
	if (w->slash)
		w->must_dir = true;
	if (!ops->follow)
		return ops->readlink ? splice_target(w, link) : -EINVAL;
	if (w->flags & WALK_NO_MAGICLINKS)
		return -ELOOP;
	if (w->flags & (WALK_BENEATH | WALK_IN_ROOT))
		return -EXDEV;
	struct dentry *d;
	int err = ops->follow(link->inode, &d);
	if (err)
		return err;
	if (w->flags & WALK_NO_XDEV && d->sb != w->cur->sb) {
		dentry_put(d);
		return -EXDEV;
	}
	move_to(w, d);
	return 0;
}

/* Take one component. 1: it was a link, the path goes on with its target. */
static int step(struct walk *w, const char *name, u32 n, bool follow)
{
	int err = 0;

	if (name[0] == '.' && n == 1)
		return 0;
	if (name[0] == '.' && n == 2 && name[1] == '.')
		return go_up(w);
	struct dentry *d = dentry_lookup(w->cur, name, n, &err);
	if (!d)
		return err;
	if (!d->inode) {
		dentry_put(d);
		return -ENOENT;
	}
	if (unlikely(d->mounted)) {
		if (w->flags & WALK_NO_XDEV) {
			dentry_put(d);
			return -EXDEV;
		}
		d = dentry_cross(d);
	}
	if (follow && IS_LNK(d->inode)) {
		err = walk_follow(w, d);
		dentry_put(d);
		return err ? err : 1;
	}
	move_to(w, d);
	return 0;
}

int walk_parent(struct walk *w)
{
	for (;;) {
		const char *p = w->p;
		while (*p == '/')
			p++;
		w->len = 0;
		w->dots = false;
		if (!*p) {
			w->p = p;
			return 0;
		}
		if (!IS_DIR(w->cur->inode))
			return -ENOTDIR;
		int err = inode_permission(w->cur->inode, 1);
		if (err)
			return err;
		const char *e = p;
		while (*e && *e != '/')
			e++;
		if (e - p > (long)NAME_MAX)
			return -ENAMETOOLONG;
		u32 n = (u32)(e - p);
		w->p = e;
		w->slash = *e;
		while (*e == '/')
			e++;
		if (!*e) {
			w->last = p;
			w->len = n;
			w->dots = p[0] == '.' && (n == 1 || (n == 2 && p[1] == '.'));
			return 0;
		}
		w->slash = false;
		if ((err = step(w, p, n, true)) < 0)
			return err;
	}
}

int walk_last(struct walk *w)
{
	return step(w, w->last, w->len, w->flags & WALK_FOLLOW || w->slash);
}

int path_walk(int dirfd, const char *path, u32 flags, struct dentry **out)
{
	struct walk w;
	int err = walk_start(&w, dirfd, path, flags);

	if (err)
		return err;
	do {
		err = walk_parent(&w);
		if (!err && w.len)
			err = walk_last(&w);
	} while (err == 1);
	if (!err && (w.must_dir || flags & WALK_DIRECTORY || (w.len && w.slash)) && !IS_DIR(w.cur->inode))
		err = -ENOTDIR;
	if (!err) {
		*out = w.cur;
		dentry_get(*out);
	}
	walk_end(&w);
	return err;
}
