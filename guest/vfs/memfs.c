/* SPDX-License-Identifier: ISC */
/*
 * Memory file system: nodes, superblocks, attributes. See memfs.h for the idea.
 *
 * Life of a node: made by memfs_new_node() (tmpfs) or memfs_lower_node()
 * (image); kept by dentries, open files, mappings, directory entries, and by
 * itself while MEM_DIRTY; evicted with its pages when the last one goes.
 */
#include <linux/magic.h>

#include "guest/proc/proc.h"
#include "guest/vfs/memfs.h"
#include "guest/vfs/prefix.h"

enum { ID_BUCKETS = 256 };

struct layer memfs_layers[MEMFS_MAX_LAYERS];
u32 memfs_n_layers;
static struct mnode *by_id[ID_BUCKETS]; /* nodes with a lower, by (layer, nid) */
static u64 last_ino = 1ull << 32; /* image inodes have smaller numbers */

static u32 id_hash(u32 layer, u64 nid)
{
	return (u32)((nid * 0x9e3779b97f4a7c15ull >> 40) + layer) % ID_BUCKETS;
}

struct mnode *memfs_new_node(struct superblock *sb, u32 mode, u64 rdev)
{
	struct mnode *m = kzalloc(sizeof(*m));

	if (!m)
		return NULL;
	struct vfs_cred c = vfs_cred();
	inode_init(&m->i, sb, &memfs_ops, mode, ++last_ino);
	m->uid = c.uid;
	m->gid = c.gid;
	m->nlink = S_IFMT_(mode) == S_IFDIR ? 2 : 1;
	m->rdev = rdev;
	m->atime = m->mtime = m->ctime = m->btime = (s64)real_ns();
	return m;
}

struct mnode *memfs_lower_node(struct superblock *sb, struct lower *lo, int *err)
{
	struct mnode **head = &by_id[id_hash(lo->layer, lo->ei.nid)];

	for (struct mnode *m = *head; m; m = m->hash_next)
		if (m->lower->ei.nid == lo->ei.nid && m->lower->layer == lo->layer) {
			kfree(lo);
			inode_get(&m->i);
			return m;
		}
	struct mnode *m = kzalloc(sizeof(*m));
	if (!m) {
		kfree(lo);
		*err = -ENOMEM;
		return NULL;
	}
	const struct erofs_inode *ei = &lo->ei;
	inode_init(&m->i, sb, &memfs_ops, ei->mode, ei->nid << 4 | (lo->layer & 15));
	m->uid = ei->uid;
	m->gid = ei->gid;
	m->nlink = S_IFMT_(ei->mode) == S_IFDIR ? 1 : MAX(ei->nlink, 1u);
	m->size = ei->size;
	m->rdev = ei->rdev;
	m->atime = m->mtime = m->ctime = m->btime = ei->mtime * (s64)NS_PER_SEC + ei->mtime_nsec;
	lo->limit = ei->size;
	m->lower = lo;
	m->hash_next = *head;
	*head = m;
	return m;
}

static void unlink_id(struct mnode *m)
{
	struct mnode **pp = &by_id[id_hash(m->lower->layer, m->lower->ei.nid)];

	while (*pp != m)
		pp = &(*pp)->hash_next;
	*pp = m->hash_next;
}

bool memfs_each_lower(bool (*fn)(struct mnode *m, void *arg), void *arg)
{
	for (u32 i = 0; i < ID_BUCKETS; i++)
		for (struct mnode *m = by_id[i]; m; m = m->hash_next)
			if (!fn(m, arg))
				return false;
	return true;
}

void memfs_relocate(struct mnode *m, const struct erofs_inode *ei)
{
	struct lower *lo = m->lower;

	unlink_id(m);
	lo->ei = *ei;
	m->i.ino = ei->nid << 4 | (lo->layer & 15);
	m->hash_next = by_id[id_hash(lo->layer, ei->nid)];
	by_id[id_hash(lo->layer, ei->nid)] = m;
	m->size = ei->size;
	if (!(m->flags & MEM_DIRTY))
		m->atime = m->mtime = m->ctime = m->btime = ei->mtime * (s64)NS_PER_SEC + ei->mtime_nsec;
}

void memfs_dirty(struct mnode *m)
{
	/* without a name it lives as long as its users */
	if (!m->lower || m->flags & MEM_DIRTY || !m->nlink)
		return;
	m->flags |= MEM_DIRTY;
	inode_get(&m->i);
}

void memfs_touch(struct mnode *m)
{
	m->mtime = m->ctime = (s64)real_ns();
}

static void memfs_evict(struct inode *ino)
{
	struct mnode *m = mnode(ino);

	if (m->lower)
		unlink_id(m);
	if (IS_REG(ino))
		memfs_free_pages(m);
	else if (IS_DIR(ino))
		memfs_dir_free(m);
	else if (IS_LNK(ino))
		kfree(m->target);
	else if (S_IFMT_(ino->mode) == S_IFIFO)
		fifo_inode_gone(ino);
	memfs_free_xattrs(m);
	kfree(m->lower);
	kfree(m);
}

static int memfs_getattr(struct inode *ino, struct kstat *st)
{
	struct mnode *m = mnode(ino);

	if (unlikely(prefix_armed))
		prefix_look(m);
	st->ino = ino->ino;
	st->dev = ino->dev;
	st->rdev = m->rdev;
	st->mode = ino->mode;
	st->nlink = m->nlink;
	st->uid = m->uid;
	st->gid = m->gid;
	st->blksize = PAGE_SIZE;
	st->atime_ns = m->atime;
	st->mtime_ns = m->mtime;
	st->ctime_ns = m->ctime;
	st->btime_ns = m->btime;
	if (IS_REG(ino)) {
		u64 image = m->lower ? PAGE_UP(m->lower->limit) / PAGE_SIZE : 0;
		st->size = m->size;
		st->blocks = MAX(image, m->pages.count) * (PAGE_SIZE / 512);
	} else if (IS_LNK(ino)) {
		st->size = m->size;
	} else if (IS_DIR(ino)) {
		st->size =
			m->lower ? PAGE_UP(m->lower->ei.size) : 40 + (m->dir ? m->dir->n_positive * 20 : 0);
		st->blocks = st->size / 512;
	}
	return 0;
}

static int memfs_setattr(struct inode *ino, const struct iattr *a)
{
	struct mnode *m = mnode(ino);

	if (a->valid & ATTR_SIZE) {
		if (!IS_REG(ino))
			return -EINVAL;
		int err = memfs_truncate(m, a->size);
		if (err)
			return err;
		memfs_touch(m);
	}
	if (a->valid & ATTR_MODE)
		ino->mode = (ino->mode & ~07777u) | (a->mode & 07777);
	if (a->valid & ATTR_UID)
		m->uid = a->uid;
	if (a->valid & ATTR_GID)
		m->gid = a->gid;
	if (a->valid & ATTR_ATIME)
		m->atime = a->atime_ns;
	if (a->valid & ATTR_MTIME)
		m->mtime = a->mtime_ns;
	m->ctime = (s64)real_ns();
	memfs_dirty(m);
	return 0;
}

static u64 memfs_size(struct inode *ino)
{
	return IS_REG(ino) || IS_LNK(ino) ? mnode(ino)->size : 0;
}

static int memfs_open(struct inode *ino, struct file *f)
{
	switch (S_IFMT_(ino->mode)) {
	case S_IFREG:
		f->ops = &memfs_fops;
		return 0;
	case S_IFIFO:
		return fifo_open(ino, f);
	case S_IFCHR:
		return dev_open(ino, f);
	}
	return -ENXIO;
}

static s64 memfs_readlink(struct inode *ino, char *buf, size_t size)
{
	struct mnode *m = mnode(ino);
	u64 n = m->size;
	const char *p = m->target;

	if (m->lower)
		p = erofs_data(&memfs_layers[m->lower->layer].fs, &m->lower->ei, 0, &n);
	if (!p)
		return -EIO;
	n = MIN(n, size);
	memcpy(buf, p, n);
	return (s64)n;
}

const struct inode_ops memfs_ops = {
	.getattr = memfs_getattr,
	.setattr = memfs_setattr,
	.open = memfs_open,
	.evict = memfs_evict,
	.size = memfs_size,
	.get_page = memfs_get_page,
	.lookup = memfs_lookup,
	.create = memfs_create,
	.mkdir = memfs_mkdir,
	.symlink = memfs_symlink,
	.link = memfs_link,
	.unlink = memfs_unlink,
	.rmdir = memfs_rmdir,
	.rename = memfs_rename,
	.readdir = memfs_readdir,
	.readlink = memfs_readlink,
	.getxattr = memfs_getxattr,
	.listxattr = memfs_listxattr,
	.setxattr = memfs_setxattr,
};

static int memfs_statfs(struct superblock *sb, struct statfs *st)
{
	st->f_bsize = st->f_frsize = PAGE_SIZE;
	st->f_blocks = (long)frames_total();
	st->f_bfree = st->f_bavail = (long)frames_free();
	st->f_files = st->f_ffree = 1 << 20;
	st->f_namelen = NAME_MAX;
	return 0;
}

static struct superblock *new_sb(const char *type)
{
	struct superblock *sb = kzalloc(sizeof(*sb));

	if (!sb)
		return NULL;
	sb->type = sb->source = type;
	sb->options = "";
	sb->magic = TMPFS_MAGIC;
	sb->dev = vfs_new_dev();
	sb->statfs = memfs_statfs;
	return sb;
}

struct superblock *memfs_new(const char *type, struct inode **root)
{
	struct superblock *sb = new_sb(type);
	struct mnode *m = sb ? memfs_new_node(sb, S_IFDIR | 01777, 0) : NULL;

	if (!m) {
		kfree(sb);
		return NULL;
	}
	*root = &m->i;
	return sb;
}

struct superblock *memfs_new_root(struct inode **root)
{
	struct superblock *sb = new_sb("overlay");
	u32 n = memfs_n_layers;
	int err = 0;

	if (!sb)
		return NULL;
	sb->magic = OVERLAYFS_SUPER_MAGIC;
	struct lower *lo = kzalloc(sizeof(*lo) + n * sizeof(lo->more[0]));
	if (!n || !lo) {
		struct mnode *m = memfs_new_node(sb, S_IFDIR | 0755, 0);
		*root = m ? &m->i : NULL;
		return sb;
	}
	lo->layer = n - 1;
	err = erofs_inode(&memfs_layers[n - 1].fs, memfs_layers[n - 1].fs.root_nid, &lo->ei);
	struct erofs_inode above = lo->ei;
	for (u32 i = n - 1; !err && i-- > 0 && !memfs_is_opaque(&memfs_layers[i + 1].fs, &above);) {
		const struct erofs *fs = &memfs_layers[i].fs;
		lo->more[lo->n_more].layer = i;
		lo->more[lo->n_more++].nid = fs->root_nid;
		err = erofs_inode(fs, fs->root_nid, &above);
	}
	if (err)
		panic("an image layer has a bad root inode (%d)", err);
	struct mnode *m = memfs_lower_node(sb, lo, &err);
	*root = m ? &m->i : NULL;
	return sb;
}

int memfs_add_layer(const void *base, u64 size, u64 gpa)
{
	if (memfs_n_layers == MEMFS_MAX_LAYERS)
		return -ENFILE;
	struct layer *l = &memfs_layers[memfs_n_layers];
	int err = erofs_open(&l->fs, base, size);
	if (err)
		return err;
	l->gpa = gpa;
	memfs_n_layers++;
	return 0;
}

static struct superblock *hidden_sb(void)
{
	static struct superblock *sb;

	if (!sb)
		sb = new_sb("tmpfs");
	return sb;
}

struct inode *memfs_anon_inode(u32 mode)
{
	struct superblock *sb = hidden_sb();
	struct mnode *m = sb ? memfs_new_node(sb, mode, 0) : NULL;

	if (!m)
		return NULL;
	m->nlink = 0;
	return &m->i;
}

bool inode_is_memfs(struct inode *ino)
{
	return ino->ops == &memfs_ops;
}
