/* SPDX-License-Identifier: ISC */
/*
 * Dentries: names and what they are, cached.
 *
 * A dentry in use (refs > 0) is found by hash of (parent, name). One that
 * nobody uses stays in the hash and on the LRU list, at most MAX_UNUSED of
 * them; a child holds a reference on its parent, so a path's ancestors
 * outlive it. Negative dentries (no inode) remember that a name is missing.
 * Names of SB_NOCACHE file systems are not hashed: each walk asks anew, but
 * for mount points, which must be found again, and directories that the file
 * system believes for a while (ops->name_valid).
 *
 * A name that is removed leaves the hash (D_DELETED): open files keep their
 * dentry for /proc, a new lookup makes another.
 */
#include "guest/vfs/internal.h"

enum { N_BUCKETS = 512, MAX_UNUSED = 1024 };

static struct dentry *buckets[N_BUCKETS];
static struct list lru = LIST_INIT(lru);
static u32 n_unused;

static u32 hash_name(const struct dentry *parent, const char *name, u32 len)
{
	u32 h = (u32)((uintptr_t)parent >> 5) * 0x9e3779b1u;

	for (u32 i = 0; i < len; i++)
		h = (h ^ (u8)name[i]) * 0x01000193u;
	return h ^ h >> 15;
}

static void unhash(struct dentry *d)
{
	if (!(d->flags & D_HASHED))
		return;
	struct dentry **pp = &buckets[d->hash % N_BUCKETS];
	while (*pp != d)
		pp = &(*pp)->hash_next;
	*pp = d->hash_next;
	d->flags &= ~D_HASHED;
}

static void rehash(struct dentry *d)
{
	d->hash = hash_name(d->parent, d->name, d->len);
	d->hash_next = buckets[d->hash % N_BUCKETS];
	buckets[d->hash % N_BUCKETS] = d;
	d->flags |= D_HASHED;
}

static bool set_name(struct dentry *d, const char *name, u32 len)
{
	char *p = d->name_buf;

	if (len >= sizeof(d->name_buf) && !(p = kmalloc(len + 1)))
		return false;
	memcpy(p, name, len);
	p[len] = 0;
	d->name = p;
	d->len = (u8)len;
	return true;
}

static struct dentry *alloc(struct superblock *sb, struct dentry *parent, const char *name, u32 len)
{
	struct dentry *d = kmalloc(sizeof(*d));

	if (!d)
		return NULL;
	*d = (struct dentry){.refs = 1, .sb = sb, .parent = parent};
	list_init(&d->lru);
	if (!set_name(d, name, len)) {
		kfree(d);
		return NULL;
	}
	if (parent)
		dentry_get(parent);
	else
		d->parent = d;
	return d;
}

void dentry_get(struct dentry *d)
{
	if (d->refs++ == 0) {
		list_del(&d->lru);
		n_unused--;
	}
}

/* refs is 0 and d is on no list. Returns the parent, whose reference is the caller's to drop. */
static struct dentry *destroy(struct dentry *d)
{
	struct dentry *parent = d->parent == d ? NULL : d->parent;

	unhash(d);
	if (d->inode)
		inode_put(d->inode);
	if (d->name != d->name_buf)
		kfree(d->name);
	kfree(d);
	return parent;
}

static void trim(void)
{
	while (n_unused > MAX_UNUSED) {
		struct dentry *d = list_first(&lru, struct dentry, lru);
		list_del(&d->lru);
		n_unused--;
		d = destroy(d);
		/* the parent may become unused: it joins the list's end and waits its turn */
		if (d && --d->refs == 0) {
			list_add_tail(&lru, &d->lru);
			n_unused++;
		}
	}
}

void dentry_put(struct dentry *d)
{
	while (d && --d->refs == 0) {
		if (d->flags & D_HASHED) {
			list_add_tail(&lru, &d->lru);
			n_unused++;
			trim();
			return;
		}
		d = destroy(d);
	}
}

struct dentry *dentry_new_root(struct superblock *sb, struct inode *ino)
{
	struct dentry *d = alloc(sb, NULL, "/", 1);

	if (d)
		d->inode = ino;
	return d;
}

struct dentry *dentry_new_anon(struct inode *ino, const char *name)
{
	struct dentry *d = alloc(ino->sb, NULL, name, (u32)MIN(strlen(name), (size_t)NAME_MAX));

	if (d) {
		inode_get(ino);
		d->inode = ino;
		d->flags = D_DELETED;
	}
	return d;
}

struct dentry *dentry_of(const struct inode *ino)
{
	if (root_sb->root->inode == ino)
		return root_sb->root;
	for (u32 i = 0; i < N_BUCKETS; i++)
		for (struct dentry *d = buckets[i]; d; d = d->hash_next)
			if (d->inode == ino)
				return d;
	return NULL;
}

static struct dentry *find(struct dentry *dir, const char *name, u32 len)
{
	u32 h = hash_name(dir, name, len);

	for (struct dentry *d = buckets[h % N_BUCKETS]; d; d = d->hash_next)
		if (d->hash == h && d->parent == dir && d->len == len && !memcmp(d->name, name, len)) {
			dentry_get(d);
			return d;
		}
	return NULL;
}

/* A cached name of an SB_NOCACHE file system: a mount point, or a directory that was seen lately. */
static bool name_valid(struct dentry *d, struct dentry *dir)
{
	const struct inode_ops *ops = d->inode ? d->inode->ops : NULL;

	return d->mounted || !ops || !ops->name_valid ||
	       ops->name_valid(d->inode, dir->inode, d->name, d->len);
}

struct dentry *dentry_lookup(struct dentry *dir, const char *name, u32 len, int *err)
{
	bool nocache = dir->sb->flags & SB_NOCACHE;
	struct dentry *d = find(dir, name, len);

	if (d && (!nocache || name_valid(d, dir)))
		return d;
	struct inode *ino = NULL;
	int r = dir->inode->ops->lookup(dir->inode, name, len, &ino);
	if (d) {
		if (!r && d->inode == ino) {
			inode_put(ino);
			return d;
		}
		unhash(d);
		dentry_put(d);
	}
	if (r && r != -ENOENT) {
		*err = r;
		return NULL;
	}
	/* lookup may have slept: somebody else may have made it meanwhile */
	if ((d = find(dir, name, len))) {
		if (!r)
			inode_put(ino);
		return d;
	}
	d = alloc(dir->sb, dir, name, len);
	if (!d) {
		if (!r)
			inode_put(ino);
		*err = -ENOMEM;
		return NULL;
	}
	d->inode = r ? NULL : ino;
	if ((!nocache || (!r && ino->ops->name_valid && IS_DIR(ino))) && !(dir->flags & D_DELETED))
		rehash(d);
	return d;
}

void dentry_instantiate(struct dentry *d, struct inode *ino)
{
	ASSERT(!d->inode);
	d->inode = ino;
}

void dentry_unlinked(struct dentry *d)
{
	unhash(d);
	d->flags |= D_DELETED;
}

void dentry_moved(struct dentry *d, struct dentry *ndir, const char *name, u32 len)
{
	struct dentry *odir = d->parent;

	/* its hash is of the old place; what is cached below it hangs on the pointer and stays true */
	unhash(d);
	if (d->name != d->name_buf)
		kfree(d->name);
	if (!set_name(d, name, len)) {
		/* no memory for a long name: only the cache suffers, the file system has the right one */
		set_name(d, "?", 1);
		d->flags |= D_DELETED;
	}
	dentry_get(ndir);
	d->parent = ndir;
	if (!(d->flags & D_DELETED) && !(d->sb->flags & SB_NOCACHE))
		rehash(d);
	dentry_put(odir);
}

/* Make a mount point findable even where names are not cached. */
void dentry_pin_mountpoint(struct dentry *d)
{
	if (!(d->flags & D_HASHED))
		rehash(d);
}

/* One step up, through mount points; NULL at the top. */
static struct dentry *up(struct dentry *d)
{
	while (d->parent == d) {
		if (!d->sb || d != d->sb->root || !d->sb->mountpoint)
			return NULL;
		d = d->sb->mountpoint;
	}
	return d;
}

int dentry_path(struct dentry *d, struct dentry *root, char *buf, size_t size)
{
	char *end = buf + size, *p = end;

	while (d != root) {
		struct dentry *named = up(d);
		if (!named)
			break;
		if ((size_t)(p - buf) < named->len + 2u)
			return -ENAMETOOLONG;
		p -= named->len;
		memcpy(p, named->name, named->len);
		*--p = '/';
		d = named->parent;
	}
	if (p == end) {
		if (size < 2)
			return -ENAMETOOLONG;
		*--p = '/';
	}
	int len = (int)(end - p);
	memmove(buf, p, (size_t)len);
	buf[len] = 0;
	return len;
}
