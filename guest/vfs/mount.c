/* SPDX-License-Identifier: ISC */
/*
 * What is mounted where, made at boot; and the first fs_context.
 *
 * The image layers that the monitor placed (boot regions of kind LAYER) become
 * the root, all of it writable in memory. /proc, /sys, /dev, /dev/shm, /dev/mqueue and
 * /dev/pts are mounted on it, then the volumes. /tmp stays part of the root,
 * which is memory already and may hold what the image brought.
 *
 * Boot must take microseconds: nothing is read but the superblocks; /dev
 * fills itself at the first look (dev.c), /proc and /sys are tables.
 */
#include "abi/boot.h"
#include "guest/ipc/ipc.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

#define MAX_STEPS 1000 /* components of a path with all its links */

struct list vfs_mounts = LIST_INIT(vfs_mounts);
struct superblock *root_sb;
static int last_mnt_id = 20;
static u64 last_dev = 32;

u64 vfs_new_dev(void)
{
	return last_dev++;
}

static struct dentry *up(struct dentry *from)
{
	struct dentry *d = from;

	while (d->parent == d && d->sb && d == d->sb->root && d->sb->mountpoint)
		d = d->sb->mountpoint;
	d = d->parent;
	dentry_get(d);
	dentry_put(from);
	return dentry_cross(d);
}

/* A link's target with `rest` behind it; kmalloc, or NULL. */
static char *splice(struct dentry *link, const char *rest, int *err)
{
	size_t n = strlen(rest);
	char *path = kmalloc(PATH_MAX + n);
	s64 len = path && link->inode->ops->readlink
			  ? link->inode->ops->readlink(link->inode, path, PATH_MAX - 1)
			  : -ENOMEM;

	if (len <= 0) {
		*err = len ? (int)len : -ENOENT;
		kfree(path);
		return NULL;
	}
	memcpy(path + len, rest, n + 1);
	return path;
}

/* One component from *cur on. *path and *own change where it is a link. 0 or -errno; then *cur is gone. */
static int reach_step(struct dentry **cur, const char **path, char **own, bool make, u32 mode)
{
	const char *p = *path, *e = p;
	int err = 0;

	while (*e && *e != '/')
		e++;
	u32 n = (u32)(e - p);
	*path = e;
	if (n == 1 && p[0] == '.')
		return 0;
	if (n == 2 && p[0] == '.' && p[1] == '.') {
		*cur = up(*cur);
		return 0;
	}
	struct dentry *d = n > NAME_MAX ? NULL : dentry_lookup(*cur, p, n, &err);
	if (n > NAME_MAX)
		err = -ENAMETOOLONG;
	if (d && d->inode && IS_LNK(d->inode)) {
		char *next = splice(d, e, &err);
		dentry_put(d);
		kfree(*own);
		*path = *own = next;
		if (!next || *next == '/') {
			dentry_put(*cur);
			*cur = root_sb->root;
			if (next)
				dentry_get(*cur);
		}
		return next ? 0 : err;
	}
	if (d && !d->inode && make && (*cur)->inode->ops->mkdir) {
		struct inode *ino;
		err = (*cur)->inode->ops->mkdir((*cur)->inode, p, n, mode, &ino);
		if (!err)
			dentry_instantiate(d, ino);
	}
	if (d && (!d->inode || !IS_DIR(d->inode))) {
		err = d->inode ? -ENOTDIR : -ENOENT;
		dentry_put(d);
		d = NULL;
	}
	dentry_put(*cur);
	*cur = d ? dentry_cross(d) : NULL;
	return d ? 0 : err;
}

/* The dentry of a directory by its path from the real root, links followed, as root. Directories made if asked. */
static struct dentry *reach(const char *path, bool make, u32 mode, int *err)
{
	struct dentry *cur = root_sb->root;
	char *own = NULL;

	dentry_get(cur);
	*err = 0;
	for (u32 steps = 0; !*err; steps++) {
		while (*path == '/')
			path++;
		if (!*path)
			break;
		if (steps < MAX_STEPS) {
			*err = reach_step(&cur, &path, &own, make, mode);
		} else { /* links in a circle */
			*err = -ELOOP;
			dentry_put(cur);
		}
	}
	kfree(own);
	return *err ? NULL : cur;
}

int vfs_mount(struct superblock *sb, struct inode *root, const char *path)
{
	int err = 0;

	if (!sb->dev)
		sb->dev = vfs_new_dev();
	root->sb = sb;
	root->dev = sb->dev;
	struct dentry *at = root_sb ? reach(path, true, 0755, &err) : NULL;
	if (root_sb && !at) {
		inode_put(root);
		return err;
	}
	if (!(sb->root = dentry_new_root(sb, root))) {
		inode_put(root);
		if (at)
			dentry_put(at);
		return -ENOMEM;
	}
	sb->mnt_id = ++last_mnt_id;
	sb->mountpoint = at;
	if (at) {
		dentry_pin_mountpoint(at);
		at->mounted = sb;
	}
	list_add_tail(&vfs_mounts, &sb->node);
	return 0;
}

static void mount_or_die(struct superblock *sb, struct inode *root, const char *path)
{
	int err = sb && root ? vfs_mount(sb, root, path) : -ENOMEM;

	if (err)
		panic("cannot mount %s (%d)", path, err);
}

static void mount_root(void)
{
	struct inode *root = NULL;

	for (u32 i = 0; i < MIN(boot->n_regions, (u32)BOOT_MAX_REGIONS); i++) {
		const struct boot_region *r = &boot->regions[i];
		if (r->kind != BOOT_REGION_LAYER)
			continue;
		int err = memfs_add_layer((const void *)r->va, r->size, r->gpa);
		if (err)
			panic("image layer %u is not a usable EROFS image (%d)", i, err);
	}
	struct superblock *sb = memfs_new_root(&root);
	mount_or_die(sb, root, "/");
	root_sb = sb;
}

void vfs_init(void)
{
	struct superblock *sb;
	struct inode *root = NULL;
	int err = 0;

	mount_root();
	sb = proc_new(&root);
	mount_or_die(sb, root, "/proc");
	sb = sys_new(&root);
	mount_or_die(sb, root, "/sys");
	sb = memfs_new("devtmpfs", &root);
	if (root)
		root->mode = S_IFDIR | 0755;
	mount_or_die(sb, root, "/dev");
	dev_init(root);
	sb = pts_new(&root);
	mount_or_die(sb, root, "/dev/pts");
	sb = memfs_new("tmpfs", &root);
	mount_or_die(sb, root, "/dev/shm");
	sb = mqueue_fs_new(&root);
	mount_or_die(sb, root, "/dev/mqueue");

	struct dentry *tmp = reach("/tmp", true, 01777, &err);
	if (tmp) {
		struct iattr a = {.valid = ATTR_MODE, .mode = 01777};
		if ((tmp->inode->mode & 01777) != 01777)
			inode_setattr(tmp->inode, &a);
		dentry_put(tmp);
	}
	volumes_init();
}

struct fs_context *fs_context_new(void)
{
	struct fs_context *c = kzalloc(sizeof(*c));
	int err = 0;

	if (!c)
		return NULL;
	c->refs = 1;
	c->umask = 022;
	c->root = root_sb->root;
	dentry_get(c->root);
	const char *cwd = boot->cwd_off ? (const char *)boot->strings_va + boot->cwd_off : "/";
	if (!(c->cwd = reach(cwd, false, 0, &err))) {
		dentry_get(c->root);
		c->cwd = c->root;
	}
	return c;
}
