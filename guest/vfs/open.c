/* SPDX-License-Identifier: ISC */
/*
 * open(2): from a path to a struct file; what an open file says about itself;
 * directories and O_PATH as files; where a process is (fs_context).
 */
#include <linux/inotify.h>

#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

/* --- where a process is ------------------------------------------------------ */

struct fs_context *current_fs(void)
{
	return current->own_fs ? current->own_fs : current->proc->fs;
}

struct fs_context *fs_context_fork(struct fs_context *c)
{
	struct fs_context *n = kmalloc(sizeof(*n));

	if (!n)
		return NULL;
	*n = *c;
	n->refs = 1;
	dentry_get(n->root);
	dentry_get(n->cwd);
	return n;
}

void fs_context_get(struct fs_context *c)
{
	c->refs++;
}

struct fs_context *fs_context_unshare(struct fs_context *c)
{
	struct fs_context *n;

	if (c->refs == 1)
		return c;
	n = fs_context_fork(c);
	if (n)
		c->refs--;
	return n;
}

void fs_context_put(struct fs_context *c)
{
	if (--c->refs)
		return;
	dentry_put(c->root);
	dentry_put(c->cwd);
	kfree(c);
}

/* --- opening --------------------------------------------------------------------- */

const struct file_ops path_fops = {.kind = "path"};

struct file *file_open_dentry(struct dentry *d, u32 flags, int *err)
{
	struct inode *ino = d->inode;
	struct file *f = file_new(&path_fops, flags & ~(u32)(O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC), NULL);

	if (!f) {
		*err = -ENOMEM;
		return NULL;
	}
	inode_get(ino);
	dentry_get(d);
	f->inode = ino;
	f->dentry = d;
	*err = 0;
	if (flags & O_PATH)
		return f;
	f->flags |= O_LARGEFILE;
	if (IS_DIR(ino))
		f->ops = &dir_fops;
	if (ino->ops->open && (!IS_DIR(ino) || !ino->ops->readdir))
		*err = ino->ops->open(ino, f);
	else if (ino->ops->fops && !IS_DIR(ino))
		f->ops = ino->ops->fops;
	else if (!IS_DIR(ino))
		*err = -ENXIO;
	f->flags &= ~(u32)O_NOCTTY; /* open() of a terminal looked at it */
	if (*err) {
		f->ops = &path_fops;
		f->flags |= O_PATH;
		file_put(f);
		return NULL;
	}
	return f;
}

int vfs_may_create(struct inode *dir)
{
	return inode_permission(dir, 3);
}

/* A regular file for the missing name `d` of the directory that the walk has reached. *created: it is new. */
static int create_missing(struct walk *w, struct dentry *d, u32 flags, u32 mode, bool *created)
{
	struct inode *dir = w->cur->inode, *ino;
	u64 how = dir->sb->flags & SB_NOCACHE && !(flags & O_EXCL) ? CREATE_OR_FIND : 0;
	int err = w->cur->flags & D_DELETED ? -ENOENT : vfs_may_create(dir);

	if (err)
		return err;
	if (!dir->ops->create)
		return -EPERM;
	err = dir->ops->create(dir, d->name, d->len, S_IFREG | (mode & 07777 & ~current_fs()->umask), how,
			       &ino);
	if (err)
		return err;
	if (d->inode)
		inode_put(ino); /* the file system slept and another walk was faster */
	else
		dentry_instantiate(d, ino);
	*created = !how || !inode_size(d->inode); /* found, and not empty: O_TRUNC is for us to do */
	notify_name(dir, IN_CREATE, 0, d->name, d->len);
	return 0;
}

/* Find or create the last component for O_CREAT. 1: a link, go on. */
static int open_create(struct walk *w, u32 flags, u32 mode, bool *created)
{
	int err = 0;

	if (!w->len && !IS_DIR(w->cur->inode)) /* a magic link led here: /dev/stdout */
		return flags & O_EXCL ? -EEXIST : 0;
	if (!w->len || w->dots)
		return flags & O_EXCL ? -EEXIST : -EISDIR;
	if (w->slash)
		return -EISDIR;
	struct dentry *d = dentry_lookup(w->cur, w->last, w->len, &err);
	if (!d)
		return err;
	if (!d->inode) {
		err = create_missing(w, d, flags, mode, created);
	} else {
		d = dentry_cross(d);
		if (flags & O_EXCL)
			err = -EEXIST;
		else if (IS_LNK(d->inode))
			err = !(w->flags & WALK_FOLLOW) ? -ELOOP : (err = walk_follow(w, d)) ? err : 1;
		else if (IS_DIR(d->inode))
			err = -EISDIR;
	}
	if (!err) {
		dentry_put(w->cur);
		w->cur = d;
	} else {
		dentry_put(d);
	}
	return err;
}

/* A nameless file in the directory's file system. */
static int open_tmpfile(struct dentry *dir, u32 flags, u32 mode, struct file **out)
{
	int err;

	if (!IS_DIR(dir->inode))
		return -ENOTDIR;
	if (O_ACCESS(flags) == O_RDONLY)
		return -EINVAL;
	if ((err = vfs_may_create(dir->inode)))
		return err;
	if (!inode_is_memfs(dir->inode))
		return -EOPNOTSUPP;
	struct inode *ino = memfs_anon_inode(S_IFREG | (mode & 07777 & ~current_fs()->umask));
	if (!ino)
		return -ENOMEM;
	ino->sb = dir->inode->sb;
	ino->dev = ino->sb->dev;
	char name[24];
	snprintf(name, sizeof(name), "#%lu", (unsigned long)ino->ino);
	struct dentry *d = dentry_new_anon(ino, name);
	inode_put(ino);
	if (!d)
		return -ENOMEM;
	*out = file_open_dentry(d, flags & ~(u32)(O_TMPFILE), &err);
	dentry_put(d);
	return err;
}

/* May current open this inode so? */
static int check_open(struct walk *w, u32 flags)
{
	struct inode *ino = w->cur->inode;
	static const u8 masks[] = {4, 2, 6, 6};

	if ((flags & O_DIRECTORY || w->must_dir || (w->len && w->slash)) && !IS_DIR(ino))
		return -ENOTDIR;
	if (flags & O_PATH)
		return 0;
	if (IS_LNK(ino))
		return -ELOOP;
	if (IS_DIR(ino) && (O_ACCESS(flags) != O_RDONLY || flags & O_TRUNC))
		return -EISDIR;
	int err = inode_permission(ino, masks[O_ACCESS(flags)] | (flags & O_TRUNC ? 2 : 0));
	if (!err && flags & O_NOATIME && !vfs_capable_owner(ino))
		err = -EPERM;
	return err;
}

int vfs_truncate(struct inode *ino, u64 size)
{
	struct iattr a = {.valid = ATTR_SIZE, .size = size};

	return inode_setattr(ino, &a);
}

/* One attempt. *raced: the name was there when it was looked up, and gone when it was opened. */
static int open_once(int dirfd, const char *path, u32 flags, u32 mode, u32 walk_flags, struct file **out,
		     bool *raced)
{
	struct walk w;
	bool created = false;
	int err;

	*raced = false;
	if (!(flags & O_NOFOLLOW) && (flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL))
		walk_flags |= WALK_FOLLOW;
	if ((err = walk_start(&w, dirfd, path, walk_flags)))
		return err;
	bool tmpfile = (flags & O_TMPFILE) == O_TMPFILE;
	do {
		err = walk_parent(&w);
		if (err)
			break;
		if (flags & O_CREAT && !tmpfile)
			err = open_create(&w, flags, mode, &created);
		else if (w.len)
			err = walk_last(&w);
	} while (err == 1);
	if (!err && tmpfile) {
		err = open_tmpfile(w.cur, flags, mode, out);
		walk_end(&w);
		return err;
	}
	if (!err && !created)
		err = check_open(&w, flags);
	if (!err)
		*raced = !(*out = file_open_dentry(w.cur, flags, &err)) && err == -ENOENT;
	if (!err && flags & O_TRUNC && !created && IS_REG(w.cur->inode)) {
		err = vfs_truncate(w.cur->inode, 0);
		if (!err)
			notify(w.cur, IN_MODIFY);
		else
			file_put(*out);
	}
	if (!err && !(flags & O_PATH))
		notify(w.cur, IN_OPEN);
	walk_end(&w);
	return err;
}

#define OPEN_TRIES 64 /* for a name that comes and goes all the time */

/*
 * On a volume the host's programs and other instances make and remove names at any time. O_CREAT without O_EXCL
 * means whatever is there: what others made meanwhile will do (CREATE_OR_FIND), what they removed is made again.
 */
int vfs_open_at(int dirfd, const char *path, u32 flags, u32 mode, u32 walk_flags, struct file **out)
{
	bool raced;
	int err;

	if (flags & O_PATH)
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	for (int tries = 0;; tries++) {
		err = open_once(dirfd, path, flags, mode, walk_flags, out, &raced);
		if (!raced || !(flags & O_CREAT) || flags & O_EXCL || tries == OPEN_TRIES)
			return err;
	}
}

struct file *vfs_open(int dirfd, const char *path, u32 flags, u32 mode, int *err)
{
	struct file *f = NULL;

	*err = vfs_open_at(dirfd, path, flags, mode, 0, &f);
	return *err ? NULL : f;
}

struct file *vfs_anon_file(const char *name, u64 size, u32 flags)
{
	struct inode *ino = memfs_anon_inode(S_IFREG | 0777);
	int err;

	if (!ino)
		return NULL;
	struct dentry *d = vfs_truncate(ino, size) ? NULL : dentry_new_anon(ino, name);
	inode_put(ino);
	if (!d)
		return NULL;
	struct file *f = file_open_dentry(d, flags, &err);
	dentry_put(d);
	return f;
}

/* --- what an open file is -------------------------------------------------------------- */

int vfs_stat_file(struct file *f, struct kstat *st)
{
	if (f->inode)
		return inode_getattr(f->inode, st);
	*st = (struct kstat){.ino = f->ino_anon, .dev = 11, .nlink = 1, .blksize = 4096, .mode = 0600};
	if (f->ops->kind && !strcmp(f->ops->kind, "socket"))
		st->mode = S_IFSOCK | 0777;
	struct vfs_cred c = vfs_cred();
	st->uid = c.uid;
	st->gid = c.gid;
	return 0;
}

int vfs_file_path(struct file *f, char *buf, size_t size)
{
	struct dentry *d = f->dentry;
	int n;

	if (!d) {
		const char *kind = f->ops->kind ? f->ops->kind : "anon_inode:[file]";
		unsigned long num = f->inode ? f->inode->ino : f->ino_anon;
		n = strchr(kind, ':') ? snprintf(buf, size, "%s", kind)
				      : snprintf(buf, size, "%s:[%lu]", kind, num);
		return (size_t)n < size ? n : -ENAMETOOLONG;
	}
	if (d->parent == d && d != d->sb->root)
		n = snprintf(buf, size, "/%s", d->name);
	else
		n = dentry_path(d, current->proc->fs ? current_fs()->root : root_sb->root, buf, size);
	if (n < 0 || (size_t)n >= size)
		return -ENAMETOOLONG;
	if (d->flags & D_DELETED) {
		int m = snprintf(buf + n, size - (size_t)n, " (deleted)");
		if ((size_t)(n + m) >= size)
			return -ENAMETOOLONG;
		n += m;
	}
	return n;
}

/* --- directories as files ------------------------------------------------------------------ */

struct linux_dirent64_head {
	u64 d_ino;
	s64 d_off;
	u16 d_reclen;
	u8 d_type;
} __attribute__((packed));

struct getdents_sink {
	struct dir_sink s;
	struct uio *u;
	u64 next;
	u64 n;
	s64 err;
};

/* Positions of the file: 0 ".", 1 "..", 2 + the file system's. */
static bool put_record(struct getdents_sink *g, const char *name, u32 len, u64 ino, u8 type, u64 next)
{
	u8 rec[sizeof(struct linux_dirent64_head) + NAME_MAX + 8];
	struct linux_dirent64_head h = {ino, (s64)next, 0, type};

	len = MIN(len, (u32)NAME_MAX);
	h.d_reclen = (u16)ALIGN_UP(sizeof(h) + len + 1, 8);
	if (h.d_reclen > g->u->left) {
		if (!g->n)
			g->err = -EINVAL;
		return false;
	}
	memcpy(rec, &h, sizeof(h));
	memcpy(rec + sizeof(h), name, len);
	memset(rec + sizeof(h) + len, 0, h.d_reclen - sizeof(h) - len);
	if (uio_put(g->u, rec, h.d_reclen) < h.d_reclen) {
		g->err = -EFAULT;
		return false;
	}
	g->n += h.d_reclen;
	g->next = next;
	return true;
}

static bool emit_record(struct dir_sink *s, const char *name, u32 len, u64 ino, u8 type, u64 next_pos)
{
	struct getdents_sink *g = container_of(s, struct getdents_sink, s);

	return put_record(g, name, len, ino, type, next_pos + 2);
}

static s64 dir_getdents(struct file *f, struct uio *u)
{
	struct getdents_sink g = {.s.emit = emit_record, .u = u, .next = f->pos};
	struct dentry *d = f->dentry;
	int err = 0;

	if (d->flags & D_DELETED)
		return -ENOENT;
	if (g.next == 0 && !put_record(&g, ".", 1, f->inode->ino, DT_OF_MODE(S_IFDIR), 1))
		return g.err;
	if (g.next == 1) {
		struct dentry *up =
			d == d->sb->root && d->sb->mountpoint ? d->sb->mountpoint->parent : d->parent;
		put_record(&g, "..", 2, up->inode->ino, DT_OF_MODE(S_IFDIR), 2);
	}
	if (g.next >= 2) {
		g.s.pos = g.next - 2;
		err = f->inode->ops->readdir(f->inode, &g.s);
	}
	f->pos = g.next;
	if (g.n)
		return (s64)g.n;
	return g.err ? g.err : err;
}

static int dir_fsync(struct file *f, bool data_only)
{
	return 0;
}

const struct file_ops dir_fops = {
	.getdents = dir_getdents,
	.lseek = generic_lseek,
	.fsync = dir_fsync,
};
