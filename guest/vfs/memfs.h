/* SPDX-License-Identifier: ISC */
/*
 * The memory file system's own structures, shared by memfs.c (inodes,
 * superblocks), memfs_data.c (file contents) and memfs_dir.c (names).
 *
 * One kind of inode serves tmpfs and the overlay: a node may have a `lower`,
 * its origin in the image layers. What was changed is in the node, what was
 * not is read from the image in place:
 *   - a file's page is the entry of its page tree, else the image's bytes (up
 *     to `limit`, which truncation lowers), else zeros;
 *   - a directory's name is its own entry (which may be a whiteout), else the
 *     highest layer's.
 *
 * A node with a lower is found again by (layer, nid), so that hard links and
 * reopened files meet the same node. MEM_DIRTY: it differs from the image, so
 * it holds a reference on itself until its last name is gone. There is no
 * copying up of whole files, nor of parents.
 */
#ifndef COWBELL_GUEST_VFS_MEMFS_H
#define COWBELL_GUEST_VFS_MEMFS_H

#include "guest/mm/mm.h"
#include "guest/vfs/internal.h"
#include "guest/vfs/pagetree.h"
#include "lib/erofs.h"

#define MEMFS_MAX_LAYERS 32

struct layer {
	struct erofs fs;
	u64 gpa; /* of image byte 0 */
};

/* Does a directory of a layer hide those of the layers below? */
bool memfs_is_opaque(const struct erofs *fs, const struct erofs_inode *ei);

struct lower {
	u32 layer;
	u32 n_more; /* directories: layers that are merged below */
	u64 limit; /* files: image bytes below this are still valid */
	struct erofs_inode ei; /* in `layer` */
	struct {
		u32 layer;
		u64 nid;
	} more[];
};

/* A name in a directory. node NULL: whiteout. */
struct mentry {
	struct mentry *hash_next;
	struct list order; /* by pos */
	struct mnode *node; /* referenced */
	u64 pos;
	u32 hash;
	u8 len;
	char name[];
};

struct mdir {
	struct mentry **tab;
	u32 n_buckets, n_entries, n_positive;
	struct list order;
	u64 next_pos;
	void (*lazy)(struct inode *dir);
};

struct mxattr {
	struct mxattr *next;
	char *name;
	u32 len;
	u8 val[];
};

enum {
	MEM_DIRTY = 1,
	MEM_XATTR = 2, /* lower's attributes were copied to xattrs */
	MEM_APP = 4, /* /app, of a start that is made for others (prefix.c) */
};

struct mnode {
	struct inode i;
	u32 uid, gid, nlink, seals;
	u32 flags;
	u64 size, rdev;
	s64 atime, mtime, ctime, btime;
	union {
		struct pagetree pages;
		struct mdir *dir; /* NULL until it has an entry of its own */
		char *target;
	};
	struct lower *lower;
	struct mnode *hash_next;
	struct mxattr *xattrs;
};

/* Entries of the page tree: gpa | flags. */
enum { PG_PRESENT = 1, PG_HOLE = 2 /* zeros that hide the image */, PG_CLEAN = 4 /* copy of image bytes */ };

static inline struct mnode *mnode(struct inode *i)
{
	return container_of(i, struct mnode, i);
}

extern struct layer memfs_layers[]; /* memfs.c */
extern u32 memfs_n_layers;

void memfs_dirty(struct mnode *m);
struct mnode *memfs_new_node(struct superblock *sb, u32 mode, u64 rdev);
/* The node of an image inode; dirs: with the layers below merged. -errno in *err. */
struct mnode *memfs_lower_node(struct superblock *sb, struct lower *lo, int *err);
/* Each node with a lower, until fn says false; true: all of them. */
bool memfs_each_lower(bool (*fn)(struct mnode *m, void *arg), void *arg);
/* Its lower is at another place of its layer, which has changed. */
void memfs_relocate(struct mnode *m, const struct erofs_inode *ei);
void memfs_touch(struct mnode *m); /* contents changed now: mtime, ctime */

/* memfs_data.c */
void memfs_free_pages(struct mnode *m);
int memfs_truncate(struct mnode *m, u64 size);
int memfs_get_page(struct inode *ino, u64 pgoff, bool write, u32 max_run, gpa_t *gpa, u32 *run);
extern const struct file_ops memfs_fops;

/* memfs_dir.c */
void memfs_dir_free(struct mnode *m);
extern const struct inode_ops memfs_ops;
int memfs_lookup(struct inode *dir, const char *name, u32 len, struct inode **out);
int memfs_create(struct inode *dir, const char *name, u32 len, u32 mode, u64 rdev, struct inode **out);
int memfs_mkdir(struct inode *dir, const char *name, u32 len, u32 mode, struct inode **out);
int memfs_symlink(struct inode *dir, const char *name, u32 len, const char *target, struct inode **out);
int memfs_link(struct inode *dir, const char *name, u32 len, struct inode *ino);
int memfs_unlink(struct inode *dir, const char *name, u32 len, struct inode *victim);
int memfs_rmdir(struct inode *dir, const char *name, u32 len, struct inode *victim);
int memfs_rename(struct inode *odir, const char *oname, u32 olen, struct inode *ndir, const char *nname,
		 u32 nlen, struct inode *ino, struct inode *over, u32 flags);
int memfs_readdir(struct inode *dir, struct dir_sink *s);

/* memfs_xattr.c */
s64 memfs_getxattr(struct inode *ino, const char *name, void *buf, size_t size);
s64 memfs_listxattr(struct inode *ino, char *buf, size_t size);
int memfs_setxattr(struct inode *ino, const char *name, const void *val, size_t len, int flags);
void memfs_free_xattrs(struct mnode *m);

#endif
