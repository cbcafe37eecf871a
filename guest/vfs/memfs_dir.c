/* SPDX-License-Identifier: ISC */
/*
 * Names in memory directories, and the overlay's rules.
 *
 * A directory's own entries are in a small hash table and in a list by
 * position; an entry without a node is a whiteout and hides what the layers
 * have. What is not there is looked up in the layers, highest first. A layer
 * hides what is below it by a character device 0:0 of that name, by a file
 * ".wh.NAME", or as a whole by the attribute {trusted,user}.overlay.opaque = y or
 * a file ".wh..wh..opq". Such names are never shown.
 *
 * A directory's list of layers is fixed when its node is made and moves with
 * it, so renaming a merged directory just works.
 *
 * Positions for readdir: bits 56..61 say the source (0 own entries, 1 + k the
 * k-th layer), the rest the place in it.
 */
#include <linux/fs.h>

#include "guest/proc/proc.h"
#include "guest/vfs/memfs.h"
#include "guest/vfs/prefix.h"

enum { FIRST_BUCKETS = 8, POS_SHIFT = 56 };

/* --- own entries -------------------------------------------------------------- */

static u32 name_hash(const char *name, u32 len)
{
	u32 h = 0x811c9dc5u;

	for (u32 i = 0; i < len; i++)
		h = (h ^ (u8)name[i]) * 0x01000193u;
	return h ^ h >> 16;
}

static struct mdir *own(struct mnode *m)
{
	if (m->dir)
		return m->dir;
	struct mdir *d = kzalloc(sizeof(*d));
	if (!d)
		return NULL;
	list_init(&d->order);
	d->next_pos = 1;
	m->dir = d;
	return d;
}

static struct mentry *find_entry(struct mnode *m, const char *name, u32 len)
{
	struct mdir *d = m->dir;

	if (!d)
		return NULL;
	if (unlikely(d->lazy)) {
		void (*fill)(struct inode *) = d->lazy;
		d->lazy = NULL;
		fill(&m->i);
	}
	if (!d->n_buckets)
		return NULL;
	u32 h = name_hash(name, len);
	for (struct mentry *e = d->tab[h & (d->n_buckets - 1)]; e; e = e->hash_next)
		if (e->hash == h && e->len == len && !memcmp(e->name, name, len))
			return e;
	return NULL;
}

static bool grow_table(struct mdir *d)
{
	u32 n = d->n_buckets ? d->n_buckets * 4 : FIRST_BUCKETS;
	struct mentry **tab = kzalloc(n * sizeof(*tab));

	if (!tab)
		return d->n_buckets != 0;
	list_for_each (it, &d->order) {
		struct mentry *e = list_entry(it, struct mentry, order);
		e->hash_next = tab[e->hash & (n - 1)];
		tab[e->hash & (n - 1)] = e;
	}
	kfree(d->tab);
	d->tab = tab;
	d->n_buckets = n;
	return true;
}

/* Make room for a name, so that what follows cannot fail. The entry is not in the table yet. */
static struct mentry *new_entry(struct mnode *m, const char *name, u32 len)
{
	struct mdir *d = own(m);

	if (!d || (d->n_entries >= d->n_buckets && !grow_table(d)))
		return NULL;
	struct mentry *e = kmalloc(sizeof(*e) + len + 1);
	if (!e)
		return NULL;
	*e = (struct mentry){.hash = name_hash(name, len), .len = (u8)len};
	memcpy(e->name, name, len);
	e->name[len] = 0;
	return e;
}

static void add_entry(struct mnode *m, struct mentry *e, struct mnode *node)
{
	struct mdir *d = m->dir;

	e->node = node;
	e->pos = d->next_pos++;
	e->hash_next = d->tab[e->hash & (d->n_buckets - 1)];
	d->tab[e->hash & (d->n_buckets - 1)] = e;
	list_add_tail(&d->order, &e->order);
	d->n_entries++;
	d->n_positive += node != NULL;
	memfs_dirty(m);
}

static void remove_entry(struct mnode *m, struct mentry *e)
{
	struct mdir *d = m->dir;
	struct mentry **pp = &d->tab[e->hash & (d->n_buckets - 1)];

	while (*pp != e)
		pp = &(*pp)->hash_next;
	*pp = e->hash_next;
	list_del(&e->order);
	d->n_entries--;
	d->n_positive -= e->node != NULL;
	kfree(e);
}

void memfs_dir_free(struct mnode *m)
{
	struct mdir *d = m->dir;

	if (!d)
		return;
	list_for_each_safe (it, &d->order) {
		struct mentry *e = list_entry(it, struct mentry, order);
		if (e->node)
			inode_put(&e->node->i);
		kfree(e);
	}
	kfree(d->tab);
	kfree(d);
}

void memfs_lazy(struct inode *dir, void (*fn)(struct inode *dir))
{
	struct mdir *d = own(mnode(dir));

	if (d)
		d->lazy = fn;
}

/* --- the layers beneath ------------------------------------------------------------- */

static bool is_whiteout(const struct erofs_inode *ei)
{
	return S_IFMT_(ei->mode) == S_IFCHR && ei->rdev == 0;
}

bool memfs_is_opaque(const struct erofs *fs, const struct erofs_inode *ei)
{
	struct erofs_dirent de;
	char v = 0;

	if (ei->xattr_size && ((erofs_getxattr(fs, ei, "trusted.overlay.opaque", &v, 1) == 1 && v == 'y') ||
			       (erofs_getxattr(fs, ei, "user.overlay.opaque", &v, 1) == 1 && v == 'y')))
		return true;
	return !erofs_lookup(fs, ei, ".wh..wh..opq", 12, &de);
}

static bool has_wh_file(const struct erofs *fs, const struct erofs_inode *dir, const char *name, u32 len)
{
	char wh[4 + NAME_MAX];
	struct erofs_dirent de;

	if (len > NAME_MAX - 4)
		return false;
	memcpy(wh, ".wh.", 4);
	memcpy(wh + 4, name, len);
	return !erofs_lookup(fs, dir, wh, len + 4, &de);
}

/* The i-th directory of a merged one: its layer and inode. */
static int lower_dir(const struct lower *lo, u32 i, u32 *layer, struct erofs_inode *ei)
{
	if (i == 0) {
		*layer = lo->layer;
		*ei = lo->ei;
		return 0;
	}
	*layer = lo->more[i - 1].layer;
	return erofs_inode(&memfs_layers[*layer].fs, lo->more[i - 1].nid, ei);
}

/*
 * Look a name up in the layers beneath `dir`. *out is a new struct lower, or
 * NULL when only existence is asked for (out == NULL). -ENOENT, -EIO...
 */
static int lower_lookup(struct mnode *dir, const char *name, u32 len, struct lower **out)
{
	struct lower *lo = dir->lower, *found = NULL;
	u32 n = lo->n_more + 1;

	if (len >= 4 && !memcmp(name, ".wh.", 4))
		return -ENOENT;
	for (u32 i = 0; i < n; i++) {
		struct erofs_inode top, ei;
		const struct erofs_inode *dei = &lo->ei;
		struct erofs_dirent de;
		u32 layer = lo->layer;
		int err;
		if (i) {
			if ((err = lower_dir(lo, i, &layer, &top)))
				goto fail;
			dei = &top;
		}
		const struct erofs *fs = &memfs_layers[layer].fs;
		err = erofs_lookup(fs, dei, name, len, &de);
		if (err == -ENOENT) {
			if (i + 1 < n && has_wh_file(fs, dei, name, len))
				break;
			continue;
		}
		if (err || (err = erofs_inode(fs, de.nid, &ei))) {
		fail:
			kfree(found);
			log_line(LOG_WARN, "image layer %u: damaged at \"%.*s\" (%d)", layer, (int)len, name,
				 err);
			return -EIO;
		}
		bool is_dir = S_IFMT_(ei.mode) == S_IFDIR;
		if (is_whiteout(&ei) || (found && !is_dir))
			break;
		if (!out)
			return 0;
		if (!found) {
			found = kzalloc(sizeof(*found) + (is_dir ? (n - i - 1) * sizeof(found->more[0]) : 0));
			if (!found)
				return -ENOMEM;
			found->layer = layer;
			found->ei = ei;
		} else {
			found->more[found->n_more].layer = layer;
			found->more[found->n_more++].nid = ei.nid;
		}
		if (!is_dir || (i + 1 < n && memfs_is_opaque(fs, &ei)))
			break;
	}
	if (!found)
		return -ENOENT;
	*out = found;
	return 0;
}

static bool lower_has(struct mnode *dir, const char *name, u32 len)
{
	return dir->lower && lower_lookup(dir, name, len, NULL) == 0;
}

int memfs_lookup(struct inode *ino, const char *name, u32 len, struct inode **out)
{
	struct mnode *dir = mnode(ino), *m;
	struct mentry *e = find_entry(dir, name, len);
	struct lower *lo;
	int err;

	if (unlikely(prefix_armed)) {
		prefix_lookup(dir, name, len);
		e = find_entry(dir, name, len);
	}
	if (e) {
		if (!e->node)
			return -ENOENT;
		*out = &e->node->i;
		inode_get(*out);
		return 0;
	}
	if (!dir->lower)
		return -ENOENT;
	if ((err = lower_lookup(dir, name, len, &lo)))
		return err;
	if (!(m = memfs_lower_node(ino->sb, lo, &err)))
		return err;
	if (unlikely(prefix_armed) && ino == root_sb->root->inode && len == sizeof(PREFIX_DIR) - 1 &&
	    !memcmp(name, PREFIX_DIR, len))
		m->flags |= MEM_APP;
	*out = &m->i;
	return 0;
}

/* --- changes ------------------------------------------------------------------------------ */

/* Is this directory still reachable by a name? A removed one takes no new entries. */
static bool is_dead(struct mnode *dir)
{
	return dir->nlink == 0;
}

/* Put node under name; takes a reference of node. The name is not there, but may be whited out. */
static int insert(struct mnode *dir, const char *name, u32 len, struct mnode *node)
{
	struct mentry *old = find_entry(dir, name, len);

	if (is_dead(dir))
		return -ENOENT;
	if (old && old->node)
		return -EEXIST;
	struct mentry *e = new_entry(dir, name, len);
	if (!e)
		return -ENOSPC;
	if (old)
		remove_entry(dir, old);
	inode_get(&node->i);
	add_entry(dir, e, node);
	memfs_touch(dir);
	return 0;
}

/* Take the name away, leaving a whiteout if a layer has it. Cannot fail after `white` was prepared. */
static void withdraw(struct mnode *dir, const char *name, u32 len, struct mentry *white)
{
	struct mentry *e = find_entry(dir, name, len);
	struct mnode *node = e ? e->node : NULL;

	if (e)
		remove_entry(dir, e);
	if (white)
		add_entry(dir, white, NULL);
	memfs_touch(dir);
	memfs_dirty(dir);
	if (node)
		inode_put(&node->i);
}

/* The whiteout that removing `name` will need; false: no memory. */
static bool prepare_white(struct mnode *dir, const char *name, u32 len, struct mentry **white)
{
	*white = NULL;
	if (!lower_has(dir, name, len))
		return true;
	return (*white = new_entry(dir, name, len)) != NULL;
}

static int create_node(struct inode *ino, const char *name, u32 len, u32 mode, u64 rdev, const char *target,
		       struct inode **out)
{
	struct mnode *dir = mnode(ino), *m = memfs_new_node(ino->sb, mode, rdev);

	if (!m)
		return -ENOSPC;
	if (ino->mode & S_ISGID) {
		m->gid = dir->gid;
		if (IS_DIR(&m->i))
			m->i.mode |= S_ISGID;
	}
	if (target) {
		m->size = strlen(target);
		if (!(m->target = kstrdup(target))) {
			inode_put(&m->i);
			return -ENOSPC;
		}
	}
	int err = insert(dir, name, len, m);
	if (err) {
		m->nlink = 0;
		inode_put(&m->i);
		return err;
	}
	if (IS_DIR(&m->i) && !dir->lower)
		dir->nlink++;
	*out = &m->i;
	return 0;
}

int memfs_create(struct inode *dir, const char *name, u32 len, u32 mode, u64 rdev, struct inode **out)
{
	return create_node(dir, name, len, mode, rdev, NULL, out);
}

int memfs_mkdir(struct inode *dir, const char *name, u32 len, u32 mode, struct inode **out)
{
	return create_node(dir, name, len, S_IFDIR | (mode & 07777), 0, NULL, out);
}

int memfs_symlink(struct inode *dir, const char *name, u32 len, const char *target, struct inode **out)
{
	return create_node(dir, name, len, S_IFLNK | 0777, 0, target, out);
}

int memfs_link(struct inode *dir, const char *name, u32 len, struct inode *ino)
{
	struct mnode *m = mnode(ino);
	int err = insert(mnode(dir), name, len, m);

	if (err)
		return err;
	m->nlink++;
	m->ctime = (s64)real_ns();
	memfs_dirty(m);
	return 0;
}

/* One name of m is gone. */
static void drop_link(struct mnode *m)
{
	bool dir = IS_DIR(&m->i);

	m->nlink = dir ? 0 : m->nlink ? m->nlink - 1 : 0;
	m->ctime = (s64)real_ns();
	if (m->nlink) {
		memfs_dirty(m);
	} else if (m->flags & MEM_DIRTY) {
		m->flags &= ~MEM_DIRTY;
		/* MEM_DIRTY's own reference; the caller holds another */
		m->i.refs--;
	}
}

int memfs_unlink(struct inode *ino, const char *name, u32 len, struct inode *victim)
{
	struct mnode *dir = mnode(ino);
	struct mentry *white;

	if (!prepare_white(dir, name, len, &white))
		return -ENOSPC;
	withdraw(dir, name, len, white);
	drop_link(mnode(victim));
	return 0;
}

static bool found_one(struct dir_sink *s, const char *name, u32 len, u64 ino, u8 type, u64 next_pos)
{
	s->pos = ~0ull;
	return false;
}

static bool is_empty(struct inode *dir)
{
	struct dir_sink s = {.emit = found_one};

	memfs_readdir(dir, &s);
	return s.pos != ~0ull;
}

int memfs_rmdir(struct inode *ino, const char *name, u32 len, struct inode *victim)
{
	struct mnode *dir = mnode(ino);
	struct mentry *white;

	if (!is_empty(victim))
		return -ENOTEMPTY;
	if (!prepare_white(dir, name, len, &white))
		return -ENOSPC;
	withdraw(dir, name, len, white);
	drop_link(mnode(victim));
	if (!dir->lower && dir->nlink > 2)
		dir->nlink--;
	return 0;
}

static void count_subdir(struct mnode *dir, int delta)
{
	if (!dir->lower)
		dir->nlink += (u32)delta;
}

static int exchange(struct mnode *od, const char *oname, u32 olen, struct mnode *nd, const char *nname,
		    u32 nlen, struct mnode *a, struct mnode *b)
{
	struct mentry *ea = new_entry(nd, nname, nlen), *eb = new_entry(od, oname, olen);

	if (!ea || !eb) {
		kfree(ea);
		kfree(eb);
		return -ENOSPC;
	}
	inode_get(&a->i);
	inode_get(&b->i);
	withdraw(od, oname, olen, NULL);
	withdraw(nd, nname, nlen, NULL);
	add_entry(nd, ea, a);
	add_entry(od, eb, b);
	int move = IS_DIR(&a->i) - IS_DIR(&b->i);
	count_subdir(od, -move);
	count_subdir(nd, move);
	return 0;
}

int memfs_rename(struct inode *odir, const char *oname, u32 olen, struct inode *ndir, const char *nname,
		 u32 nlen, struct inode *ino, struct inode *over, u32 flags)
{
	struct mnode *od = mnode(odir), *nd = mnode(ndir), *m = mnode(ino);
	struct mentry *white, *e;

	if (is_dead(nd))
		return -ENOENT;
	if (flags & RENAME_EXCHANGE)
		return exchange(od, oname, olen, nd, nname, nlen, m, mnode(over));
	if (over && IS_DIR(over) && !is_empty(over))
		return -ENOTEMPTY;
	if (!prepare_white(od, oname, olen, &white))
		return -ENOSPC;
	if (!(e = new_entry(nd, nname, nlen))) {
		kfree(white);
		return -ENOSPC;
	}
	/* from here on nothing fails */
	inode_get(ino);
	withdraw(od, oname, olen, white);
	withdraw(nd, nname, nlen, NULL);
	add_entry(nd, e, m);
	if (over) {
		drop_link(mnode(over));
		if (IS_DIR(over))
			count_subdir(nd, -1);
	}
	if (IS_DIR(ino)) {
		count_subdir(od, -1);
		count_subdir(nd, 1);
	}
	m->ctime = (s64)real_ns();
	return 0;
}

/* --- reading ------------------------------------------------------------------------------------ */

/* Is a layer's entry hidden by own entries or by the layers above the i-th? */
static bool is_hidden(struct mnode *dir, u32 i, const struct erofs_dirent *de)
{
	if (de->len >= 4 && !memcmp(de->name, ".wh.", 4))
		return true;
	if (find_entry(dir, de->name, de->len))
		return true;
	for (u32 k = 0; k < i; k++) {
		struct erofs_inode ei;
		struct erofs_dirent other;
		u32 layer;
		if (lower_dir(dir->lower, k, &layer, &ei))
			continue;
		const struct erofs *fs = &memfs_layers[layer].fs;
		if (!erofs_lookup(fs, &ei, de->name, de->len, &other) ||
		    has_wh_file(fs, &ei, de->name, de->len))
			return true;
	}
	return false;
}

static int read_lower(struct mnode *dir, u32 i, struct dir_sink *s)
{
	struct erofs_inode ei;
	struct erofs_dirent de;
	u64 tag = (u64)(i + 1) << POS_SHIFT, pos = s->pos & ((1ull << POS_SHIFT) - 1);
	u32 layer;
	int r = lower_dir(dir->lower, i, &layer, &ei);

	if (r)
		return -EIO;
	const struct erofs *fs = &memfs_layers[layer].fs;
	while ((r = erofs_readdir(fs, &ei, pos, &de)) == 1) {
		pos = de.next_pos;
		if (de.name[0] == '.' && (de.len == 1 || (de.len == 2 && de.name[1] == '.')))
			continue;
		/* a whiteout is a character device, so only those need a look at the inode */
		struct erofs_inode child;
		if (de.type == DT_OF_MODE(S_IFCHR) && !erofs_inode(fs, de.nid, &child) && is_whiteout(&child))
			continue;
		if (is_hidden(dir, i, &de))
			continue;
		if (!s->emit(s, de.name, de.len, de.nid << 4 | (layer & 15), de.type, tag | pos))
			return 1;
	}
	return r ? -EIO : 0;
}

int memfs_readdir(struct inode *ino, struct dir_sink *s)
{
	struct mnode *m = mnode(ino);
	u32 source = (u32)(s->pos >> POS_SHIFT), n = m->lower ? m->lower->n_more + 1 : 0;
	int r;

	if (unlikely(prefix_armed))
		prefix_list(m);
	find_entry(m, "", 0); /* a lazy directory fills itself */
	if (source == 0 && m->dir) {
		list_for_each (it, &m->dir->order) {
			struct mentry *e = list_entry(it, struct mentry, order);
			if (e->pos < s->pos || !e->node)
				continue;
			if (!s->emit(s, e->name, e->len, e->node->i.ino, DT_OF_MODE(e->node->i.mode),
				     e->pos + 1))
				return 0;
		}
	}
	for (u32 i = source ? source - 1 : 0; i < n; i++) {
		if (source != i + 1)
			s->pos = (u64)(i + 1) << POS_SHIFT;
		if ((r = read_lower(m, i, s)))
			return r < 0 ? r : 0;
		source = 0;
	}
	return 0;
}

/* --- for the file systems that are built of nodes (dev.c) --------------------------------------------- */

struct inode *memfs_mknod(struct inode *dir, const char *name, u32 mode, u64 rdev)
{
	struct inode *ino;

	if (create_node(dir, name, (u32)strlen(name), mode, rdev, NULL, &ino))
		return NULL;
	return ino;
}

struct inode *memfs_mklink(struct inode *dir, const char *name, const char *target)
{
	struct inode *ino;

	if (create_node(dir, name, (u32)strlen(name), S_IFLNK | 0777, 0, target, &ino))
		return NULL;
	return ino;
}
