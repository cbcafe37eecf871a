/* SPDX-License-Identifier: ISC */
/*
 * EROFS on disk, little endian, as far as it is read here:
 *
 *   superblock at byte 1024 (offsets from there)
 *     0 u32 magic 0xE0F5E1E2    12 u8 log2 of the block size   14 u16 root nid
 *    16 u64 inodes  24 u64 build time  32 u32 its ns  36 u32 blocks
 *    40 u32 first metadata block   44 u32 first shared xattr block
 *    80 u32 incompatible features: 1 (zero padding) is harmless, others are refused
 *
 *   inode at meta + nid * 32, compact 32 bytes or extended 64
 *     0 u16 format: bit 0 extended, bits 1..3 layout (0 plain, 2 tail inline)
 *     2 u16 xattr count: 0, or the xattr area has 12 + 4 * (count - 1) bytes
 *     4 u16 mode
 *     compact:  6 u16 nlink  8 u32 size   16 u32 block/rdev  20 u32 ino  24 u16 uid  26 u16 gid
 *     extended: 8 u64 size  16 u32 block/rdev  20 u32 ino  24 u32 uid  28 u32 gid
 *               32 u64 mtime  40 u32 ns  44 u32 nlink
 *   then the xattr area, then (tail inline) the last part of the data, which
 *   does not cross a block.
 *
 *   directory data: blocks of 12-byte entries (u64 nid, u16 name offset, u8
 *   type, u8 0) followed by the names. Entry 0's name offset tells the count; a
 *   name ends where the next begins, the last at the block's end or a NUL.
 *   All names of a directory ascend (memcmp), so both levels search binary.
 *
 *   xattr area: 12 bytes of header (byte 4: count of shared ids), u32 shared
 *   ids (entry at xattr block + 4 * id), entries: u8 name length, u8 prefix,
 *   u16 value length, name, value, padded to 4.
 */
#include "lib/erofs.h"

#include <asm-generic/errno.h>

void *memcpy(void *restrict d, const void *restrict s, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);

enum {
	SB_OFF = 1024,
	SB_SIZE = 128,
	LAYOUT_PLAIN = 0,
	LAYOUT_INLINE = 2,
	DIRENT_SIZE = 12,
	XATTR_HEADER = 12,
	INCOMPAT_KNOWN = 1,
};
#define EROFS_MAGIC 0xE0F5E1E2u

static uint16_t le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static uint64_t le64(const uint8_t *p)
{
	return le32(p) | (uint64_t)le32(p + 4) << 32;
}

/* Is [off, off + n) inside the image? */
static bool inside(const struct erofs *fs, uint64_t off, uint64_t n)
{
	return off <= fs->size && n <= fs->size - off;
}

int erofs_super(struct erofs *fs, const void *base, uint64_t size)
{
	const uint8_t *sb = (const uint8_t *)base + SB_OFF;

	if (size < SB_OFF + SB_SIZE || le32(sb) != EROFS_MAGIC)
		return -EINVAL;
	if (le32(sb + 80) & ~(uint32_t)INCOMPAT_KNOWN)
		return -EOPNOTSUPP;
	*fs = (struct erofs){.base = base, .size = size};
	fs->blkbits = sb[12];
	if (fs->blkbits < 9 || fs->blkbits > 16)
		return -EUCLEAN;
	fs->root_nid = le16(sb + 14);
	fs->n_inodes = le64(sb + 16);
	fs->build_time = le64(sb + 24);
	fs->build_nsec = le32(sb + 32);
	fs->incompat = le32(sb + 80);
	fs->blocks = le32(sb + 36);
	fs->meta_off = (uint64_t)le32(sb + 40) << fs->blkbits;
	fs->xattr_off = (uint64_t)le32(sb + 44) << fs->blkbits;
	return fs->meta_off < size ? 0 : -EUCLEAN;
}

int erofs_open(struct erofs *fs, const void *base, uint64_t size)
{
	struct erofs_inode root;
	int err = erofs_super(fs, base, size);

	if (!err)
		err = erofs_inode(fs, fs->root_nid, &root);
	if (err)
		return err;
	return (root.mode & 0170000) == 0040000 ? 0 : -EUCLEAN;
}

/* Place the data of a regular file, directory or link; check that all of it is in the image. */
static int place_data(const struct erofs *fs, struct erofs_inode *ino, uint32_t blkaddr, uint64_t after)
{
	uint64_t blk = 1ull << fs->blkbits;

	if (ino->size > fs->size)
		return -EUCLEAN;
	ino->data_off = (uint64_t)blkaddr << fs->blkbits;
	ino->plain = ino->size;
	if (ino->layout == LAYOUT_INLINE && ino->size) {
		ino->plain = (ino->size - 1) & ~(blk - 1);
		ino->tail_off = after;
		uint64_t n = ino->size - ino->plain;
		if (!inside(fs, after, n) || (after & (blk - 1)) + n > blk)
			return -EUCLEAN;
	}
	if (ino->plain && !inside(fs, ino->data_off, ino->plain))
		return -EUCLEAN;
	return 0;
}

int erofs_inode(const struct erofs *fs, uint64_t nid, struct erofs_inode *out)
{
	if (nid > fs->size / 32)
		return -EUCLEAN;
	uint64_t off = fs->meta_off + nid * 32;
	if (!inside(fs, off, 32))
		return -EUCLEAN;

	const uint8_t *p = fs->base + off;
	uint32_t format = le16(p);
	uint64_t isize = format & 1 ? 64 : 32;
	if (!inside(fs, off, isize))
		return -EUCLEAN;
	*out = (struct erofs_inode){.nid = nid};
	out->layout = (format >> 1) & 7;
	if (out->layout != LAYOUT_PLAIN && out->layout != LAYOUT_INLINE)
		return -EOPNOTSUPP;
	out->mode = le16(p + 4);
	out->ino = le32(p + 20);
	if (format & 1) {
		out->size = le64(p + 8);
		out->uid = le32(p + 24);
		out->gid = le32(p + 28);
		out->mtime = (int64_t)le64(p + 32);
		out->mtime_nsec = le32(p + 40) % 1000000000u;
		out->nlink = le32(p + 44);
	} else {
		out->nlink = le16(p + 6);
		out->size = le32(p + 8);
		out->uid = le16(p + 24);
		out->gid = le16(p + 26);
		out->mtime = (int64_t)fs->build_time;
		out->mtime_nsec = fs->build_nsec % 1000000000u;
	}

	uint32_t icount = le16(p + 2);
	out->xattr_off = off + isize;
	out->xattr_size = icount ? XATTR_HEADER + 4 * (icount - 1) : 0;
	if (!inside(fs, out->xattr_off, out->xattr_size))
		return -EUCLEAN;

	switch (out->mode & 0170000) {
	case 0100000:
	case 0040000:
	case 0120000:
		return place_data(fs, out, le32(p + 16), out->xattr_off + out->xattr_size);
	case 0020000:
	case 0060000:
		out->rdev = le32(p + 16);
		out->size = 0;
		return 0;
	case 0010000:
	case 0140000:
		out->size = 0;
		return 0;
	}
	return -EUCLEAN;
}

const void *erofs_data(const struct erofs *fs, const struct erofs_inode *ino, uint64_t off, uint64_t *n)
{
	if (off >= ino->size)
		return NULL;
	if (off < ino->plain) {
		*n = ino->plain - off;
		return fs->base + ino->data_off + off;
	}
	*n = ino->size - off;
	return fs->base + ino->tail_off + (off - ino->plain);
}

/* --- directories ------------------------------------------------------------ */

struct dirblock {
	const uint8_t *p;
	uint32_t size; /* bytes of the directory in this block */
	uint32_t count;
};

/* Block `b` of a directory: its bytes are contiguous as the tail does not cross a block. */
static int dir_block(const struct erofs *fs, const struct erofs_inode *dir, uint64_t b, struct dirblock *out)
{
	uint64_t blk = 1ull << fs->blkbits, off = b << fs->blkbits, n = 0;

	out->p = erofs_data(fs, dir, off, &n);
	if (!out->p)
		return -EUCLEAN;
	out->size = (uint32_t)(n < blk ? n : blk);
	if (out->size < DIRENT_SIZE)
		return -EUCLEAN;
	uint32_t first = le16(out->p + 8);
	if (first < DIRENT_SIZE || first % DIRENT_SIZE || first > out->size)
		return -EUCLEAN;
	out->count = first / DIRENT_SIZE;
	return 0;
}

static int dir_entry(const struct dirblock *b, uint32_t i, struct erofs_dirent *out)
{
	static const uint8_t types[] = {0, 8, 4, 2, 6, 1, 12, 10}; /* EROFS_FT_* to DT_* */
	const uint8_t *e = b->p + i * DIRENT_SIZE;
	uint32_t start = le16(e + 8), end = b->size;

	if (i + 1 < b->count)
		end = le16(e + DIRENT_SIZE + 8);
	if (start < b->count * DIRENT_SIZE || start >= end || end > b->size)
		return -EUCLEAN;
	out->nid = le64(e);
	out->name = (const char *)b->p + start;
	out->len = end - start;
	if (i + 1 == b->count)
		for (uint32_t k = 0; k < out->len; k++)
			if (!out->name[k])
				out->len = k;
	out->type = e[10] < sizeof(types) ? types[e[10]] : 0;
	return out->len >= 1 && out->len <= 255 ? 0 : -EUCLEAN;
}

static int name_cmp(const char *a, size_t an, const char *b, size_t bn)
{
	int c = memcmp(a, b, an < bn ? an : bn);

	return c ? c : an < bn ? -1 : an > bn;
}

int erofs_lookup(const struct erofs *fs, const struct erofs_inode *dir, const char *name, size_t len,
		 struct erofs_dirent *out)
{
	uint64_t lo = 0, hi = (dir->size + (1ull << fs->blkbits) - 1) >> fs->blkbits;
	struct dirblock b, best = {0};
	int err;

	/* the last block whose first name is <= name */
	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;
		if ((err = dir_block(fs, dir, mid, &b)) || (err = dir_entry(&b, 0, out)))
			return err;
		int c = name_cmp(name, len, out->name, out->len);
		if (!c)
			return 0;
		if (c < 0) {
			hi = mid;
		} else {
			lo = mid + 1;
			best = b;
		}
	}
	uint32_t l = 1, h = best.count;
	while (l < h) {
		uint32_t mid = l + (h - l) / 2;
		if ((err = dir_entry(&best, mid, out)))
			return err;
		int c = name_cmp(name, len, out->name, out->len);
		if (!c)
			return 0;
		if (c < 0)
			h = mid;
		else
			l = mid + 1;
	}
	return -ENOENT;
}

/* pos: block number << 16 | index in it. */
int erofs_readdir(const struct erofs *fs, const struct erofs_inode *dir, uint64_t pos,
		  struct erofs_dirent *out)
{
	uint64_t blk = pos >> 16, n_blk = (dir->size + (1ull << fs->blkbits) - 1) >> fs->blkbits;
	uint32_t i = pos & 0xffff;
	struct dirblock b;
	int err;

	if (blk >= n_blk)
		return 0;
	if ((err = dir_block(fs, dir, blk, &b)))
		return err;
	if (i >= b.count)
		return -EUCLEAN;
	if ((err = dir_entry(&b, i, out)))
		return err;
	out->next_pos = i + 1 < b.count ? pos + 1 : (blk + 1) << 16;
	return 1;
}

/* --- extended attributes -------------------------------------------------------- */

struct xattr {
	const char *prefix, *name;
	size_t prefix_len, name_len, value_len, total;
	const uint8_t *value;
};

static int xattr_at(const struct erofs *fs, uint64_t off, uint64_t end, struct xattr *x)
{
	static const char *const prefixes[] = {
		"", "user.",	"system.posix_acl_access", "system.posix_acl_default", "trusted.",
		"", "security."};

	if (off > end || end - off < 4 || !inside(fs, off, 4))
		return -EUCLEAN;
	const uint8_t *p = fs->base + off;
	x->name_len = p[0];
	x->prefix = p[1] < sizeof(prefixes) / sizeof(prefixes[0]) ? prefixes[p[1]] : "";
	x->prefix_len = strlen(x->prefix);
	x->value_len = le16(p + 2);
	x->total = (4 + x->name_len + x->value_len + 3) & ~(size_t)3;
	if (end - off < 4 + x->name_len + x->value_len || !inside(fs, off, 4 + x->name_len + x->value_len))
		return -EUCLEAN;
	x->name = (const char *)p + 4;
	x->value = p + 4 + x->name_len;
	return 0;
}

/* The n-th attribute: shared ones first. *cursor starts at 0. 1 found, 0 end. */
static int xattr_next(const struct erofs *fs, const struct erofs_inode *ino, uint64_t *cursor,
		      struct xattr *x)
{
	if (ino->xattr_size < XATTR_HEADER)
		return 0;
	const uint8_t *h = fs->base + ino->xattr_off;
	uint64_t shared = h[4], end = ino->xattr_off + ino->xattr_size;
	uint64_t inline_off = ino->xattr_off + XATTR_HEADER + 4 * shared;
	if (inline_off > end)
		return -EUCLEAN;
	int err;
	if (*cursor < shared) {
		uint64_t id = le32(h + XATTR_HEADER + 4 * *cursor);
		err = xattr_at(fs, fs->xattr_off + id * 4, fs->size, x);
		++*cursor;
		return err ? err : 1;
	}
	uint64_t off = inline_off + (*cursor - shared);
	if (off + 4 > end)
		return 0;
	/* an all-zero entry is padding */
	if (!le32(fs->base + off))
		return 0;
	if ((err = xattr_at(fs, off, end, x)))
		return err;
	*cursor += x->total;
	return 1;
}

int64_t erofs_getxattr(const struct erofs *fs, const struct erofs_inode *ino, const char *name, void *buf,
		       size_t size)
{
	size_t len = strlen(name);
	uint64_t cursor = 0;
	struct xattr x;
	int r;

	while ((r = xattr_next(fs, ino, &cursor, &x)) == 1) {
		if (x.prefix_len + x.name_len != len || memcmp(name, x.prefix, x.prefix_len) ||
		    memcmp(name + x.prefix_len, x.name, x.name_len))
			continue;
		if (size && size < x.value_len)
			return -ERANGE;
		if (size)
			memcpy(buf, x.value, x.value_len);
		return (int64_t)x.value_len;
	}
	return r ? r : -ENODATA;
}

int64_t erofs_listxattr(const struct erofs *fs, const struct erofs_inode *ino, char *buf, size_t size)
{
	uint64_t cursor = 0, total = 0;
	struct xattr x;
	int r;

	while ((r = xattr_next(fs, ino, &cursor, &x)) == 1) {
		size_t n = x.prefix_len + x.name_len + 1;
		if (size) {
			if (size - total < n)
				return -ERANGE;
			memcpy(buf + total, x.prefix, x.prefix_len);
			memcpy(buf + total + x.prefix_len, x.name, x.name_len);
			buf[total + n - 1] = 0;
		}
		total += n;
	}
	return r ? r : (int64_t)total;
}
