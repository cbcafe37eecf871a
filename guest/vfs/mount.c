/* SPDX-License-Identifier: ISC */
/*
 * What is mounted where, made at boot; and the first fs_context.
 *
 * The image layers that the monitor placed (boot regions of kind LAYER) become
 * the root, all of it writable in memory. /proc, /sys, /dev, /dev/shm and
 * /dev/pts are mounted on it, then the volumes. /tmp stays part of the root,
 * which is memory already and may hold what the image brought.
 *
 * Boot must take microseconds: nothing is read but the superblocks; /dev
 * fills itself at the first look (dev.c), /proc and /sys are tables.
 */
#include "abi/boot.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

struct list vfs_mounts = LIST_INIT(vfs_mounts);
struct superblock *root_sb;
static int last_mnt_id = 20;
static u64 last_dev = 32;

u64 vfs_new_dev(void)
{
	return last_dev++;
}

/* The dentry at an absolute path from the real root, without links, as root. Directories made if asked. */
static struct dentry *reach(const char *path, bool make, u32 mode, int *err)
{
	struct dentry *cur = root_sb->root;

	dentry_get(cur);
	for (const char *p = path;;) {
		while (*p == '/')
			p++;
		if (!*p)
			return cur;
		const char *e = p;
		while (*e && *e != '/')
			e++;
		u32 n = (u32)(e - p);
		struct dentry *d = n > NAME_MAX ? NULL : dentry_lookup(cur, p, n, err);
		if (d && !d->inode && make && cur->inode->ops->mkdir) {
			struct inode *ino;
			*err = cur->inode->ops->mkdir(cur->inode, p, n, mode, &ino);
			if (!*err)
				dentry_instantiate(d, ino);
		}
		if (d && (!d->inode || !IS_DIR(d->inode))) {
			*err = d->inode ? -ENOTDIR : -ENOENT;
			dentry_put(d);
			d = NULL;
		}
		dentry_put(cur);
		if (!d)
			return NULL;
		cur = dentry_cross(d);
		p = e;
	}
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
