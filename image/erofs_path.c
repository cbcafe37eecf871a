/* SPDX-License-Identifier: ISC */
/*
 * Path look-up in an EROFS image, to find a program on the guest's PATH.
 *
 * lib/erofs.c reads the format, here as in the guest. It wants the image in
 * memory. A mapping of the file would end us with SIGBUS if somebody cut the
 * file meanwhile, so the window is anonymous memory of the file's size, and
 * what the next step looks at (an inode, a directory's data, a link's) is read
 * into it first; the rest of it is never touched and costs nothing.
 *
 * The image comes from anybody: lib/erofs.c checks every offset, every loop
 * here is bounded, and what does not make sense is "not found".
 */
#include "image/erofs_path.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLKBITS	   12
#define MAX_DIR	   (64u << 20)
#define MAX_LINKS  40
#define SUPER_END  (1024 + 128)
#define INODE_SIZE 64 /* the larger of the two forms */

/* Read a part of the file into the window, as far as the file goes. */
static int fill(const struct erofs_image *im, uint64_t off, uint64_t n)
{
	if (off >= im->size)
		return -EUCLEAN;
	for (n = n < im->size - off ? n : im->size - off; n;) {
		ssize_t r = pread(im->fd, im->window + off, n, (off_t)off);
		if (r <= 0)
			return r ? -errno : -EUCLEAN;
		off += (uint64_t)r;
		n -= (uint64_t)r;
	}
	return 0;
}

static int read_inode(const struct erofs_image *im, uint64_t nid, struct erofs_inode *i)
{
	if (nid > im->size / 32)
		return -EUCLEAN;
	int err = fill(im, im->fs.meta_off + nid * 32, INODE_SIZE);

	return err ? err : erofs_inode(&im->fs, nid, i);
}

/* All the data of a directory or a link; lib/erofs.c has found that it lies in the image. */
static int read_data(const struct erofs_image *im, const struct erofs_inode *i, uint64_t max)
{
	int err = i->size > max ? -EFBIG : 0;

	if (!err && i->plain)
		err = fill(im, i->data_off, i->plain);
	if (!err && i->size > i->plain)
		err = fill(im, i->tail_off, i->size - i->plain);
	return err;
}

/* As erofs_image_open(), when there is a window. */
static const char *open_window(struct erofs_image *im)
{
	struct erofs_inode root;
	int err = fill(im, 0, SUPER_END);

	if (!err)
		err = erofs_super(&im->fs, im->window, im->size);
	if (err == -EOPNOTSUPP || (!err && im->fs.incompat))
		return "is an EROFS image with compression or other features; make it with mkfs.erofs "
		       "without -z and -E";
	if (err == -EUCLEAN)
		return "is a damaged EROFS image";
	if (err)
		return "is neither a directory nor an EROFS image";
	if (im->fs.blkbits != BLKBITS)
		return "is an EROFS image with blocks that are not 4 KiB; make it with mkfs.erofs -b4096";
	if (im->fs.blocks << BLKBITS > im->size)
		return "is truncated: the image is shorter than it says";
	if (read_inode(im, im->fs.root_nid, &root) || !S_ISDIR(root.mode))
		return "is a damaged EROFS image";
	return NULL;
}

const char *erofs_image_open(struct erofs_image *im, int fd)
{
	struct stat st;

	*im = (struct erofs_image){.fd = fd};
	if (fstat(fd, &st))
		return "cannot be read";
	if (!S_ISREG(st.st_mode) || st.st_size < SUPER_END)
		return "is neither a directory nor an EROFS image";
	im->size = (uint64_t)st.st_size;
	im->window = mmap(NULL, im->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			  -1, 0);
	if (im->window == MAP_FAILED) {
		im->window = NULL;
		return "is too large for this machine's memory";
	}
	const char *why = open_window(im);
	if (why)
		erofs_image_close(im);
	return why;
}

void erofs_image_close(struct erofs_image *im)
{
	if (im->window)
		munmap(im->window, im->size);
	im->window = NULL;
}

static int lookup_from(const struct erofs_image *im, uint64_t *trail, int depth, const char *path,
		       int *links);

/* Follow one link that lies in the directory on top of the trail. The trail's new depth, or -errno. */
static int follow_link(const struct erofs_image *im, const struct erofs_inode *link, uint64_t *trail,
		       int depth, int *links)
{
	char target[PATH_MAX];
	const void *p;
	uint64_t n = 0;

	if (++*links > MAX_LINKS)
		return -ELOOP;
	if (!link->size || read_data(im, link, sizeof(target) - 1))
		return -EIO;
	for (uint64_t off = 0; (p = erofs_data(&im->fs, link, off, &n)); off += n)
		memcpy(target + off, p, n);
	target[link->size] = 0;
	return lookup_from(im, trail, depth, target, links);
}

/* An entry of a directory. */
static int find_child(const struct erofs_image *im, const struct erofs_inode *dir, const char *name,
		      size_t len, struct erofs_inode *out)
{
	struct erofs_dirent d;

	if (read_data(im, dir, MAX_DIR) || erofs_lookup(&im->fs, dir, name, len, &d) ||
	    read_inode(im, d.nid, out))
		return -ENOENT;
	return 0;
}

enum { MAX_TRAIL = 256 };

/* trail[0..depth] are the nids from the root to the current node. */
static int lookup_from(const struct erofs_image *im, uint64_t *trail, int depth, const char *path, int *links)
{
	struct erofs_inode i, child;

	if (*path == '/')
		depth = 0;
	for (size_t len; *(path += strspn(path, "/")); path += len) {
		len = strcspn(path, "/");
		if (read_inode(im, trail[depth], &i) || !S_ISDIR(i.mode))
			return -ENOTDIR;
		if (len == 2 && !strncmp(path, "..", 2)) {
			depth -= depth > 0;
		} else if (len != 1 || *path != '.') {
			if (find_child(im, &i, path, len, &child))
				return -ENOENT;
			if (S_ISLNK(child.mode)) {
				depth = follow_link(im, &child, trail, depth, links);
				if (depth < 0)
					return depth;
			} else {
				if (depth + 1 >= MAX_TRAIL)
					return -ENAMETOOLONG;
				trail[++depth] = child.nid;
			}
		}
	}
	return depth;
}

int erofs_image_lookup(const struct erofs_image *im, const char *path)
{
	uint64_t trail[MAX_TRAIL] = {im->fs.root_nid};
	int links = 0, depth = lookup_from(im, trail, 0, path, &links);
	struct erofs_inode i;

	if (depth < 0)
		return depth;
	return read_inode(im, trail[depth], &i) ? -EIO : (int)i.mode;
}
