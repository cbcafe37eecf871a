/* SPDX-License-Identifier: ISC */
/*
 * Writes a tree as an EROFS image: uncompressed, every regular file on whole
 * pages of its own, so that the guest maps them in place.
 *
 *   offset 1024   superblock, 128 bytes
 *   offset 1152   inodes, 64 bytes each (extended: they keep the modification
 *                 time, which Python compares with its .pyc), 32-byte units are
 *                 the "nid". A symlink's target, and a directory of less than
 *                 MAX_INLINE bytes, follows its inode in the same block.
 *   next block    larger directories, then files, each from a block boundary
 *
 * Our own writer instead of mkfs.erofs: no staging copy of the files, no
 * process, no privilege for ownership, and the layout that we want (mkfs puts
 * file tails among the inodes). The result passes fsck.erofs.
 *
 * Two passes. Layout gives every node its nid and block; sizes of directories
 * do not depend on either. Then metadata is built in memory and files are
 * copied by copy_file_range(2). The same tree gives the same bytes. A file
 * that changed since it was put into the tree fails the whole with -ESTALE.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "image/tree.h"

#define BLOCK	    4096u
#define SB_OFFSET   1024u
#define META_START  1152u
#define INODE_SIZE  64u
#define MAX_INLINE  (BLOCK - INODE_SIZE)
#define DIRENT_SIZE 12u
#define EROFS_MAGIC 0xe0f5e1e2u

struct erofs_super {
	uint32_t magic, checksum, feature_compat;
	uint8_t blkszbits, extslots;
	uint16_t root_nid;
	uint64_t inos, build_time;
	uint32_t build_time_nsec, blocks, meta_blkaddr, xattr_blkaddr;
	uint8_t uuid[16], volume_name[16];
	uint32_t feature_incompat;
	uint8_t reserved[44];
};

struct erofs_inode {
	uint16_t format; /* bit 0: extended; bits 1-3: data layout */
	uint16_t xattr_icount, mode, reserved;
	uint64_t size;
	uint32_t u; /* first block, or device number */
	uint32_t ino, uid, gid;
	uint64_t mtime;
	uint32_t mtime_nsec, nlink;
	uint8_t reserved2[16];
};

struct erofs_dirent {
	uint64_t nid;
	uint16_t nameoff;
	uint8_t file_type, reserved;
} __attribute__((packed));

_Static_assert(sizeof(struct erofs_super) == 128, "on disk");
_Static_assert(sizeof(struct erofs_inode) == INODE_SIZE, "on disk");
_Static_assert(sizeof(struct erofs_dirent) == DIRENT_SIZE, "on disk");

enum { LAYOUT_PLAIN = 0, LAYOUT_INLINE = 2 };

struct writer {
	struct tree *t;
	int fd;
	uint8_t *meta; /* blocks [0, data_block) */
	uint64_t meta_end;
	uint64_t next_block;
	uint64_t inos;
	struct node **links; /* hard links: open addressing by (dev, ino) */
	size_t n_links;
};

/* --- directories ------------------------------------------------------------ */

/* Called for each entry in order, with the block it falls into. */
struct dir_cursor {
	uint64_t block_start; /* offset of the current block in the directory */
	uint32_t used; /* bytes of dirents and names in it */
};

/* Entries are ordered by strcmp with "." and ".." among them: some names ("!x", "-x") come before. */
static size_t list_entries(const struct node *dir, const struct node **v, const char **names)
{
	size_t n = 0;
	bool dot = false, dotdot = false;

	for (const struct node *c = dir->child;; c = c->sibling) {
		if (!dot && (!c || strcmp(".", c->name) < 0)) {
			names[n] = ".";
			v[n++] = dir;
			dot = true;
		}
		if (!dotdot && (!c || strcmp("..", c->name) < 0)) {
			names[n] = "..";
			v[n++] = dir->parent ? dir->parent : dir;
			dotdot = true;
		}
		if (!c)
			return n;
		names[n] = c->name;
		v[n++] = c;
	}
}

static uint64_t dir_bytes(const char **names, size_t n)
{
	struct dir_cursor c = {0, 0};

	for (size_t i = 0; i < n; i++) {
		uint32_t need = DIRENT_SIZE + (uint32_t)strlen(names[i]);
		if (c.used + need > BLOCK) {
			c.block_start += BLOCK;
			c.used = 0;
		}
		c.used += need;
	}
	return c.block_start + c.used;
}

static uint8_t file_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return 1;
	case S_IFDIR:
		return 2;
	case S_IFCHR:
		return 3;
	case S_IFBLK:
		return 4;
	case S_IFIFO:
		return 5;
	case S_IFLNK:
		return 7;
	default:
		return 0;
	}
}

/* Lay out a directory's blocks at `out` (dir_bytes() long). */
static void fill_dir(uint8_t *out, const struct node **v, const char **names, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t first = i;
		uint32_t used = 0;
		while (i < n && used + DIRENT_SIZE + strlen(names[i]) <= BLOCK)
			used += DIRENT_SIZE + (uint32_t)strlen(names[i++]);
		uint32_t name_at = (uint32_t)(i - first) * DIRENT_SIZE;
		for (size_t k = first; k < i; k++) {
			struct erofs_dirent d = {v[k]->nid, (uint16_t)name_at, file_type(v[k]->mode), 0};
			memcpy(out + (k - first) * DIRENT_SIZE, &d, sizeof(d));
			memcpy(out + name_at, names[k], strlen(names[k]));
			name_at += (uint32_t)strlen(names[k]);
		}
		out += BLOCK; /* the last block's rest is not part of the directory */
	}
}

/* --- layout ------------------------------------------------------------------- */

/* Room for an inode and what follows it inline, never across a block boundary; 32-byte steps. */
static void place_inode(struct writer *w, struct node *n, uint32_t inline_bytes)
{
	uint32_t need = INODE_SIZE + inline_bytes;

	if (w->meta_end % BLOCK + need > BLOCK)
		w->meta_end = (w->meta_end + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
	n->nid = w->meta_end / 32;
	w->meta_end = (w->meta_end + need + 31) & ~31ull;
	w->inos++;
}

/* The node that already has these contents (a hard link), or NULL after remembering this one. */
static struct node *same_file(struct writer *w, struct node *n)
{
	size_t i = (size_t)((n->ino * 0x9e3779b97f4a7c15ull ^ n->dev) >> 20) & (w->n_links - 1);

	for (; w->links[i]; i = (i + 1) & (w->n_links - 1))
		if (w->links[i]->ino == n->ino && w->links[i]->dev == n->dev)
			return w->links[i];
	w->links[i] = n;
	return NULL;
}

/* Take out what this user may not read; root reads all. */
static void drop_unreadable(struct writer *w, struct node *dir)
{
	char path[PATH_MAX];

	for (struct node **link = &dir->child; *link;) {
		struct node *c = *link;
		if (S_ISREG(c->mode) && !c->data && (c->mode & 0444) != 0444 &&
		    tree_path(c, path, sizeof(path)) &&
		    faccessat(w->t->root_fd, path + 1, R_OK, AT_EACCESS)) {
			*link = c->sibling;
			dir->n_children--;
			continue;
		}
		link = &c->sibling;
	}
}

static int layout_dir(struct writer *w, struct node *dir)
{
	size_t max = dir->n_children + 2;
	const struct node **v = calloc(max, sizeof(*v));
	const char **names = calloc(max, sizeof(*names));

	if (!v || !names) {
		free(v);
		free(names);
		return -ENOMEM;
	}
	dir->dir_size = dir_bytes(names, list_entries(dir, v, names));
	dir->nlink = 2;
	place_inode(w, dir, dir->dir_size < MAX_INLINE ? (uint32_t)dir->dir_size : 0);
	free(v);
	free(names);
	return 0;
}

static int layout(struct writer *w, struct node *dir)
{
	drop_unreadable(w, dir);
	int r = layout_dir(w, dir);
	for (struct node *c = dir->child; c && !r; c = c->sibling) {
		if (S_ISDIR(c->mode)) {
			dir->nlink++;
			r = layout(w, c);
			continue;
		}
		c->nlink = 1;
		if (S_ISLNK(c->mode) && strlen(c->data) > MAX_INLINE)
			return -ENAMETOOLONG;
		place_inode(w, c, S_ISLNK(c->mode) ? (uint32_t)strlen(c->data) : 0);
	}
	return r;
}

/* Blocks of data, in the order of the tree: files used together lie together. */
static void place_blocks(struct writer *w, struct node *dir)
{
	if (dir->dir_size >= MAX_INLINE) {
		dir->block = (uint32_t)w->next_block;
		w->next_block += (dir->dir_size + BLOCK - 1) / BLOCK;
	}
	for (struct node *c = dir->child; c; c = c->sibling) {
		if (S_ISDIR(c->mode)) {
			place_blocks(w, c);
		} else if (S_ISREG(c->mode) && c->size) {
			struct node *same = c->data ? NULL : same_file(w, c);
			if (same && same->size == c->size) {
				c->block = same->block;
				continue;
			}
			c->block = (uint32_t)w->next_block;
			w->next_block += (c->size + BLOCK - 1) / BLOCK;
		}
	}
}

/* --- writing ------------------------------------------------------------------ */

static int write_all(int fd, const void *p, size_t n, uint64_t off)
{
	while (n) {
		ssize_t r = pwrite(fd, p, n, (off_t)off);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r ? -errno : -EIO;
		p = (const char *)p + r;
		n -= (size_t)r;
		off += (uint64_t)r;
	}
	return 0;
}

static int copy_by_hand(int in, int out, uint64_t from, uint64_t n, uint64_t to)
{
	enum { SIZE = 256 << 10 };
	char *buf = malloc(SIZE);
	int r = buf ? 0 : -ENOMEM;

	while (!r && n) {
		ssize_t got = pread(in, buf, n < SIZE ? n : SIZE, (off_t)from);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			r = got ? -errno : -ESTALE;
			break;
		}
		r = write_all(out, buf, (size_t)got, to);
		from += (uint64_t)got;
		to += (uint64_t)got;
		n -= (uint64_t)got;
	}
	free(buf);
	return r;
}

static int copy_range(int in, int out, uint64_t n, uint64_t to)
{
	off_t from = 0, dst = (off_t)to;

	while (n) {
		ssize_t r = copy_file_range(in, &from, out, &dst, n, 0);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) /* other file systems, /proc, ... */
			return copy_by_hand(in, out, (uint64_t)from, n, (uint64_t)dst);
		n -= (uint64_t)r;
	}
	return 0;
}

static int copy_file(struct writer *w, const struct node *n)
{
	struct stat st;
	int in = tree_open(w->t, n), r;

	if (in < 0)
		return in == -ENOENT || in == -ELOOP ? -ESTALE : in;
	r = copy_range(in, w->fd, n->size, (uint64_t)n->block * BLOCK);
	if (!r && fstat(in, &st))
		r = -errno;
	if (!r && (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != n->size || st.st_ino != n->ino ||
		   st.st_ctim.tv_sec * 1000000000ll + st.st_ctim.tv_nsec != n->ctime_ns))
		r = -ESTALE;
	close(in);
	return r;
}

static uint32_t encode_dev(uint64_t rdev)
{
	uint32_t ma = major(rdev), mi = minor(rdev);

	return (mi & 0xff) | ma << 8 | (mi & ~0xffu) << 12;
}

static void write_inode(struct writer *w, const struct node *n, uint64_t size, bool in_line, uint32_t u)
{
	struct erofs_inode i = {
		.format = (uint16_t)(1 | (in_line ? LAYOUT_INLINE : LAYOUT_PLAIN) << 1),
		.mode = (uint16_t)n->mode,
		.size = size,
		.u = u,
		.ino = (uint32_t)n->nid,
		.uid = n->uid,
		.gid = n->gid,
		.mtime = (uint64_t)n->mtime,
		.mtime_nsec = n->mtime_nsec,
		.nlink = n->nlink,
	};

	memcpy(w->meta + n->nid * 32, &i, sizeof(i));
}

static int write_dir(struct writer *w, struct node *dir)
{
	size_t max = dir->n_children + 2;
	bool in_line = dir->dir_size < MAX_INLINE;
	uint64_t room = (dir->dir_size + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
	const struct node **v = calloc(max, sizeof(*v));
	const char **names = calloc(max, sizeof(*names));
	uint8_t *blocks = calloc(1, room);
	int r = v && names && blocks ? 0 : -ENOMEM;

	if (!r) {
		fill_dir(blocks, v, names, list_entries(dir, v, names));
		write_inode(w, dir, dir->dir_size, in_line, in_line ? 0 : dir->block);
		if (in_line)
			memcpy(w->meta + dir->nid * 32 + INODE_SIZE, blocks, dir->dir_size);
		else
			r = write_all(w->fd, blocks, room, (uint64_t)dir->block * BLOCK);
	}
	free(v);
	free(names);
	free(blocks);
	return r;
}

static int write_file(struct writer *w, struct node *n)
{
	write_inode(w, n, n->size, false, n->size ? n->block : 0);
	if (!n->size)
		return 0;
	if (n->data)
		return write_all(w->fd, n->data, n->size, (uint64_t)n->block * BLOCK);
	if (same_file(w, n) != n)
		return 0; /* a hard link of one that is written */
	return copy_file(w, n);
}

static int write_tree(struct writer *w, struct node *dir)
{
	int r = write_dir(w, dir);

	for (struct node *c = dir->child; c && !r; c = c->sibling) {
		if (S_ISDIR(c->mode)) {
			r = write_tree(w, c);
		} else if (S_ISREG(c->mode)) {
			r = write_file(w, c);
		} else if (S_ISLNK(c->mode)) {
			size_t n = strlen(c->data);
			write_inode(w, c, n, true, 0);
			memcpy(w->meta + c->nid * 32 + INODE_SIZE, c->data, n);
		} else {
			write_inode(w, c, 0, false, encode_dev(c->rdev));
		}
	}
	return r;
}

static void write_super(struct writer *w)
{
	struct erofs_super sb = {
		.magic = EROFS_MAGIC,
		.blkszbits = 12,
		.root_nid = (uint16_t)w->t->root->nid,
		.inos = w->inos,
		.blocks = (uint32_t)w->next_block,
		.volume_name = "cowbell",
	};

	memcpy(w->meta + SB_OFFSET, &sb, sizeof(sb));
}

int erofs_write(struct tree *t, int fd, uint64_t *bytes)
{
	struct writer w = {.t = t, .fd = fd, .meta_end = META_START, .n_links = 64};
	int r;

	while (w.n_links < t->n_nodes * 2)
		w.n_links *= 2;
	tree_sort(t);
	w.links = calloc(w.n_links, sizeof(*w.links));
	r = w.links ? layout(&w, t->root) : -ENOMEM;
	if (!r) {
		uint64_t meta_blocks = (w.meta_end + BLOCK - 1) / BLOCK;
		w.next_block = meta_blocks;
		place_blocks(&w, t->root);
		w.meta = w.next_block < UINT32_MAX ? calloc(meta_blocks, BLOCK) : NULL;
		r = w.meta ? 0 : -ENOMEM;
		if (!r && ftruncate(fd, (off_t)(w.next_block * BLOCK)))
			r = -errno;
		if (!r)
			r = write_tree(&w, t->root);
		if (!r) {
			write_super(&w);
			r = write_all(fd, w.meta, meta_blocks * BLOCK, 0);
		}
		*bytes = w.next_block * BLOCK;
	}
	free(w.meta);
	free(w.links);
	return r;
}
