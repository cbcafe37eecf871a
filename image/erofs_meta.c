/* SPDX-License-Identifier: ISC */
/*
 * The metadata of an EROFS image: what erofs.c (a tree of host files) and
 * erofs_stream.c (contents that arrive one after the other) have in common.
 *
 *   offset 1024   superblock, 128 bytes
 *   base + end... inodes. A 32-byte unit, counted from `base`, is the "nid".
 *                 64 bytes each (extended: they keep the modification time,
 *                 which Python compares with its .pyc), or 32 (compact) where
 *                 the time is that of the root, which the superblock has.
 *                 A symlink's target, the contents of a small file, and a
 *                 directory of less than a block follow their inode in the same block.
 *   elsewhere     larger directories and files, each from a block boundary
 *
 * base is 0, with inodes behind the superblock, or a block behind the data. The root's nid must fit 16 bits, so
 * the root is the first inode. An inode and what is inline with it
 * must not cross a block; it goes to the first of a few blocks that has room,
 * so that little is lost at the ends of blocks.
 *
 * The same tree gives the same bytes. The result passes fsck.erofs.
 */
#include "image/erofs_meta.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BLOCK	    EROFS_BLOCK
#define SB_OFFSET   1024u
#define EXTENDED    64u
#define COMPACT	    32u
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

struct erofs_compact {
	uint16_t format; /* bit 0: extended; bits 1-3: data layout */
	uint16_t xattr_icount, mode, nlink;
	uint32_t size, reserved;
	uint32_t u; /* first block, or device number */
	uint32_t ino;
	uint16_t uid, gid;
	uint32_t reserved2;
};

struct erofs_extended {
	uint16_t format, xattr_icount, mode, reserved;
	uint64_t size;
	uint32_t u;
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
_Static_assert(sizeof(struct erofs_compact) == COMPACT, "on disk");
_Static_assert(sizeof(struct erofs_extended) == EXTENDED, "on disk");
_Static_assert(sizeof(struct erofs_dirent) == DIRENT_SIZE, "on disk");

enum { LAYOUT_PLAIN = 0, LAYOUT_INLINE = 2 };

int erofs_write_all(int fd, const void *p, size_t n, uint64_t off)
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

bool erofs_fits_inline(const void *data, uint64_t size)
{
	return size && size <= EROFS_MAX_INLINE && (size < SELFMAG || memcmp(data, ELFMAG, SELFMAG));
}

/* --- directories ------------------------------------------------------------ */

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
	uint64_t block_start = 0;
	uint32_t used = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t need = DIRENT_SIZE + (uint32_t)strlen(names[i]);
		if (used + need > BLOCK) {
			block_start += BLOCK;
			used = 0;
		}
		used += need;
	}
	return block_start + used;
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
static void fill_dir(uint8_t *out, const struct node **v, const char **names, size_t count)
{
	for (size_t i = 0; i < count;) {
		size_t first = i;
		uint32_t used = 0;
		while (i < count && used + DIRENT_SIZE + strlen(names[i]) <= BLOCK)
			used += DIRENT_SIZE + (uint32_t)strlen(names[i++]);
		uint32_t name_at = (uint32_t)(i - first) * DIRENT_SIZE;
		for (size_t k = first; k < i; k++) {
			const struct node *n = v[k]->link ? v[k]->link : v[k];
			struct erofs_dirent d = {n->nid, (uint16_t)name_at, file_type(n->mode), 0};
			memcpy(out + (k - first) * DIRENT_SIZE, &d, sizeof(d));
			memcpy(out + name_at, names[k], strlen(names[k]));
			name_at += (uint32_t)strlen(names[k]);
		}
		out += BLOCK; /* the last block's rest is not part of the directory */
	}
}

/* --- layout ------------------------------------------------------------------- */

/* May this node have the small inode? The file system's own time is the root's. */
static bool is_compact(const struct erofs_meta *m, const struct node *n)
{
	const struct node *root = m->t->root;

	return n->mtime == root->mtime && n->mtime_nsec == root->mtime_nsec && n->uid <= UINT16_MAX &&
	       n->gid <= UINT16_MAX && n->nlink <= UINT16_MAX && n->size <= UINT32_MAX &&
	       n->dir_size <= UINT32_MAX;
}

static uint32_t inode_size(const struct erofs_meta *m, const struct node *n)
{
	return is_compact(m, n) ? COMPACT : EXTENDED;
}

/* Does it all go behind the inode? */
static bool is_inline(const struct erofs_meta *m, const struct node *n)
{
	if (S_ISDIR(n->mode))
		return n->dir_size <= BLOCK - inode_size(m, n);
	return S_ISLNK(n->mode) || (S_ISREG(n->mode) && n->content);
}

static uint64_t node_size(const struct node *n)
{
	if (S_ISDIR(n->mode))
		return n->dir_size;
	if (S_ISLNK(n->mode))
		return strlen(n->data);
	return S_ISREG(n->mode) ? n->size : 0;
}

/* `need` bytes (a multiple of 32) within one block: an offset in the metadata. */
static uint64_t take_room(struct erofs_meta *m, uint32_t need)
{
	struct erofs_room *r = NULL, *least = NULL;

	for (unsigned i = 0; i < m->n_rooms && !r; i++)
		if (m->room[i].left >= need)
			r = &m->room[i];
		else if (!least || m->room[i].left < least->left)
			least = &m->room[i];
	if (!r) {
		/* a new block; where all places are taken the fullest is closed for it */
		r = m->n_rooms < EROFS_ROOMS ? &m->room[m->n_rooms++] : least;
		*r = (struct erofs_room){m->end, BLOCK};
		m->end += BLOCK;
	}
	uint64_t at = r->at;
	r->at += need;
	r->left -= need;
	return at;
}

static int place_inode(struct erofs_meta *m, struct node *n)
{
	uint64_t need = inode_size(m, n) + (is_inline(m, n) ? node_size(n) : 0);

	if (need > BLOCK)
		return -ENAMETOOLONG; /* a symlink's target */
	n->nid = take_room(m, (uint32_t)(need + 31) & ~31u) / 32;
	m->inos++;
	return 0;
}

static int layout_dir(struct erofs_meta *m, struct node *dir)
{
	size_t max = dir->n_children + 2;
	const struct node **v = calloc(max, sizeof(*v));
	const char **names = calloc(max, sizeof(*names));
	int r = v && names ? 0 : -ENOMEM;

	if (!r) {
		dir->dir_size = dir_bytes(names, list_entries(dir, v, names));
		dir->nlink = 2;
		for (const struct node *c = dir->child; c; c = c->sibling)
			dir->nlink += S_ISDIR(c->mode);
		r = place_inode(m, dir);
	}
	free(v);
	free(names);
	return r;
}

/* The node whose inode this name has. */
static struct node *inode_of(struct node *n)
{
	return n->link ? n->link : n;
}

static int layout(struct erofs_meta *m, struct node *dir)
{
	int r = layout_dir(m, dir);

	for (struct node *c = dir->child; c && !r; c = c->sibling) {
		if (S_ISDIR(c->mode))
			r = layout(m, c);
		else if (!inode_of(c)->nid)
			r = place_inode(m, inode_of(c));
	}
	return r;
}

static void forget_places(struct node *dir)
{
	for (struct node *c = dir->child; c; c = c->sibling) {
		inode_of(c)->nlink = 0;
		inode_of(c)->nid = 0;
		if (S_ISDIR(c->mode))
			forget_places(c);
	}
}

static void count_names(struct node *dir)
{
	for (struct node *c = dir->child; c; c = c->sibling) {
		if (S_ISDIR(c->mode))
			count_names(c);
		else
			inode_of(c)->nlink++;
	}
}

int erofs_meta_layout(struct erofs_meta *m)
{
	/* what the superblock leaves of the first block */
	m->room[m->n_rooms++] = (struct erofs_room){m->end, BLOCK - (uint32_t)(m->end % BLOCK)};
	m->end += m->room[0].left;
	forget_places(m->t->root);
	count_names(m->t->root);
	int r = layout(m, m->t->root);
	if (r)
		return r;
	m->mem = calloc(m->end / BLOCK, BLOCK);
	return m->mem ? 0 : -ENOMEM;
}

void erofs_place_dir(struct erofs_meta *m, struct node *dir)
{
	if (is_inline(m, dir))
		return;
	dir->block = (uint32_t)m->next_block;
	m->next_block += (dir->dir_size + BLOCK - 1) / BLOCK;
}

/* --- writing ------------------------------------------------------------------ */

static uint32_t encode_dev(uint64_t rdev)
{
	uint32_t ma = major(rdev), mi = minor(rdev);

	return (mi & 0xff) | ma << 8 | (mi & ~0xffu) << 12;
}

static uint32_t block_or_device(const struct erofs_meta *m, const struct node *n)
{
	if (S_ISCHR(n->mode) || S_ISBLK(n->mode))
		return encode_dev(n->rdev);
	return is_inline(m, n) || !node_size(n) ? 0 : n->block;
}

/* The inode; what follows it inline begins at the pointer that it returns. */
static uint8_t *write_inode(struct erofs_meta *m, const struct node *n)
{
	uint8_t *p = m->mem + n->nid * 32;
	uint16_t format = (uint16_t)(is_inline(m, n) ? LAYOUT_INLINE : LAYOUT_PLAIN) << 1;

	if (is_compact(m, n)) {
		struct erofs_compact i = {
			.format = format,
			.mode = (uint16_t)n->mode,
			.nlink = (uint16_t)n->nlink,
			.size = (uint32_t)node_size(n),
			.u = block_or_device(m, n),
			.ino = (uint32_t)n->nid,
			.uid = (uint16_t)n->uid,
			.gid = (uint16_t)n->gid,
		};
		memcpy(p, &i, sizeof(i));
		return p + sizeof(i);
	}
	struct erofs_extended i = {
		.format = format | 1,
		.mode = (uint16_t)n->mode,
		.size = node_size(n),
		.u = block_or_device(m, n),
		.ino = (uint32_t)n->nid,
		.uid = n->uid,
		.gid = n->gid,
		.mtime = (uint64_t)n->mtime,
		.mtime_nsec = n->mtime_nsec,
		.nlink = n->nlink,
	};
	memcpy(p, &i, sizeof(i));
	return p + sizeof(i);
}

static int write_dir(struct erofs_meta *m, int fd, struct node *dir)
{
	size_t max = dir->n_children + 2;
	uint64_t room = (dir->dir_size + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
	const struct node **v = calloc(max, sizeof(*v));
	const char **names = calloc(max, sizeof(*names));
	uint8_t *blocks = calloc(1, room);
	int r = v && names && blocks ? 0 : -ENOMEM;

	if (!r) {
		fill_dir(blocks, v, names, list_entries(dir, v, names));
		uint8_t *behind = write_inode(m, dir);
		if (is_inline(m, dir))
			memcpy(behind, blocks, dir->dir_size);
		else
			r = erofs_write_all(fd, blocks, room, (uint64_t)dir->block * BLOCK);
	}
	free(v);
	free(names);
	free(blocks);
	return r;
}

static int write_nodes(struct erofs_meta *m, int fd, struct node *dir)
{
	int r = write_dir(m, fd, dir);

	for (struct node *c = dir->child; c && !r; c = c->sibling) {
		if (S_ISDIR(c->mode)) {
			r = write_nodes(m, fd, c);
		} else {
			const struct node *n =
				inode_of(c); /* once for each of its names, with the same bytes */
			uint8_t *behind = write_inode(m, n);
			if (is_inline(m, n))
				memcpy(behind, S_ISLNK(n->mode) ? n->data : n->content, node_size(n));
		}
	}
	return r;
}

int erofs_meta_write(struct erofs_meta *m, int fd)
{
	struct erofs_super sb = {
		.magic = EROFS_MAGIC,
		.blkszbits = 12,
		.root_nid = (uint16_t)m->t->root->nid,
		.inos = m->inos,
		.build_time = (uint64_t)m->t->root->mtime,
		.build_time_nsec = m->t->root->mtime_nsec,
		.blocks = (uint32_t)m->next_block,
		.meta_blkaddr = (uint32_t)(m->base / BLOCK),
		.volume_name = "cowbell",
	};

	if (m->next_block > UINT32_MAX || m->t->root->nid > UINT16_MAX)
		return -EFBIG;
	if (ftruncate(fd, (off_t)(m->next_block * BLOCK)))
		return -errno;
	int r = write_nodes(m, fd, m->t->root);
	if (!r && !m->base)
		memcpy(m->mem + SB_OFFSET, &sb, sizeof(sb));
	if (!r)
		r = erofs_write_all(fd, m->mem, m->end, m->base);
	if (!r && m->base)
		r = erofs_write_all(fd, &sb, sizeof(sb), SB_OFFSET);
	return r;
}
