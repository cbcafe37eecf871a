/* SPDX-License-Identifier: ISC */
/*
 * Path look-up in an EROFS image, to find a program on the guest's PATH.
 *
 * The image comes from anybody: every offset is checked against its size,
 * every loop is bounded, and what does not make sense is "not found". Only
 * uncompressed images are taken, since the guest maps them in place.
 */
#include "image/erofs_read.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK	  4096u
#define MAX_DIR	  (64u << 20)
#define MAX_LINKS 40

struct inode {
	uint64_t size, data_at; /* data_at: of full blocks, or of all that is inline */
	uint64_t tail_at; /* FLAT_INLINE: where the last partial block is */
	uint32_t mode;
	bool in_line;
};

static uint32_t get32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static bool read_at(const struct erofs_image *im, void *p, uint64_t n, uint64_t off)
{
	return off <= im->size && n <= im->size - off && pread(im->fd, p, n, (off_t)off) == (ssize_t)n;
}

const char *erofs_fd_open(struct erofs_image *im, int fd)
{
	uint8_t sb[128];
	struct stat st;

	if (fstat(fd, &st))
		return "cannot be read";
	im->fd = fd;
	im->size = (uint64_t)st.st_size;
	if (!read_at(im, sb, sizeof(sb), 1024) || get32(sb) != 0xe0f5e1e2u)
		return "is neither a directory nor an EROFS image";
	if (sb[12] != 12)
		return "is an EROFS image with blocks that are not 4 KiB; make it with mkfs.erofs -b4096";
	if (get32(sb + 80))
		return "is an EROFS image with compression or other features; make it with mkfs.erofs "
		       "without -z and -E";
	if ((uint64_t)get32(sb + 36) * BLOCK > im->size)
		return "is truncated: the image is shorter than it says";
	im->meta_at = (uint64_t)get32(sb + 40) * BLOCK;
	im->root_nid = get16(sb + 14);
	return NULL;
}

static bool read_inode(const struct erofs_image *im, uint64_t nid, struct inode *i)
{
	uint8_t b[64];
	uint64_t at;

	if (nid > im->size / 32)
		return false;
	at = im->meta_at + nid * 32;
	if (!read_at(im, b, 32, at))
		return false;
	uint16_t format = get16(b), xattrs = get16(b + 2);
	unsigned layout = format >> 1 & 7;
	uint64_t head = format & 1 ? 64 : 32;
	if ((format & 1 && !read_at(im, b, 64, at)) || (layout != 0 && layout != 2))
		return false;
	i->mode = get16(b + 4);
	i->size = format & 1 ? get64(b + 8) : get32(b + 8);
	i->data_at = (uint64_t)get32(b + 16) * BLOCK;
	i->tail_at = at + head + (xattrs ? 12 + 4 * ((uint64_t)xattrs - 1) : 0);
	i->in_line = layout == 2;
	return true;
}

/* `n` bytes of an inode's data, all within one block. */
static bool read_data(const struct erofs_image *im, const struct inode *i, void *p, uint64_t n, uint64_t off)
{
	uint64_t full = i->in_line ? i->size & ~(uint64_t)(BLOCK - 1) : i->size;

	if (off > i->size || n > i->size - off)
		return false;
	return off >= full ? read_at(im, p, n, i->tail_at + (off - full))
			   : read_at(im, p, n, i->data_at + off);
}

/* The child's nid, or false. */
static bool find_in_dir(const struct erofs_image *im, const struct inode *dir, const char *name, size_t len,
			uint64_t *nid)
{
	uint8_t b[BLOCK];

	if (dir->size > MAX_DIR)
		return false;
	for (uint64_t off = 0; off < dir->size; off += BLOCK) {
		uint32_t n = dir->size - off < BLOCK ? (uint32_t)(dir->size - off) : BLOCK;
		if (n < 12 || !read_data(im, dir, b, n, off))
			return false;
		uint32_t count = get16(b + 8) / 12;
		if (!count || count * 12 > n)
			return false;
		for (uint32_t k = 0; k < count; k++) {
			uint32_t at = get16(b + k * 12 + 8), end = k + 1 < count ? get16(b + k * 12 + 20) : n;
			if (at > end || end > n)
				return false;
			size_t have = strnlen((char *)b + at, end - at);
			if (have == len && !memcmp(b + at, name, len)) {
				*nid = get64(b + k * 12);
				return true;
			}
		}
	}
	return false;
}

static int lookup_from(const struct erofs_image *im, uint64_t *trail, int depth, const char *path,
		       int *links);

/* Follow one link that lies in the directory on top of the trail. The trail's new depth, or -errno. */
static int follow_link(const struct erofs_image *im, const struct inode *link, uint64_t *trail, int depth,
		       int *links)
{
	char target[PATH_MAX];

	if (++*links > MAX_LINKS)
		return -ELOOP;
	if (!link->size || link->size >= sizeof(target) || !read_data(im, link, target, link->size, 0))
		return -EIO;
	target[link->size] = 0;
	return lookup_from(im, trail, depth, target, links);
}

enum { MAX_TRAIL = 256 };

/* trail[0..depth] are the nids from the root to the current node. */
static int lookup_from(const struct erofs_image *im, uint64_t *trail, int depth, const char *path, int *links)
{
	struct inode i;

	if (*path == '/')
		depth = 0;
	while (*(path += strspn(path, "/"))) {
		size_t len = strcspn(path, "/");
		uint64_t nid;
		if (!read_inode(im, trail[depth], &i) || !S_ISDIR(i.mode))
			return -ENOTDIR;
		if (len == 2 && !strncmp(path, "..", 2)) {
			depth -= depth > 0;
		} else if (len != 1 || *path != '.') {
			if (!find_in_dir(im, &i, path, len, &nid) || !read_inode(im, nid, &i))
				return -ENOENT;
			if (S_ISLNK(i.mode)) {
				depth = follow_link(im, &i, trail, depth, links);
				if (depth < 0)
					return depth;
			} else {
				if (depth + 1 >= MAX_TRAIL)
					return -ENAMETOOLONG;
				trail[++depth] = nid;
			}
		}
		path += len;
	}
	return depth;
}

int erofs_fd_lookup(const struct erofs_image *im, const char *path)
{
	uint64_t trail[MAX_TRAIL] = {im->root_nid};
	int links = 0, depth = lookup_from(im, trail, 0, path, &links);
	struct inode i;

	if (depth < 0)
		return depth;
	return read_inode(im, trail[depth], &i) ? (int)i.mode : -EIO;
}
