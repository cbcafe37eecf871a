/* SPDX-License-Identifier: ISC */
/*
 * Reading an EROFS image on the host: one directory, one file at a time. Paths are overlay.c's.
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
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLKBITS	     12
#define PAGE	     4096ull
#define MAX_DIR	     (64u << 20)
#define SUPER_END    (1024 + 128)
#define INODE_SIZE   64 /* the larger of the two forms */
#define XATTR_HEADER 12
#define MAX_XATTR    (4 + 255 + 65535)

/*
 * Read a part of the file into the window, as far as the file goes: whole pages, each once. So what was checked is what is
 * used, whoever writes to the file meanwhile.
 */
static int fill(const struct erofs_image *im, uint64_t off, uint64_t n)
{
	if (off >= im->size)
		return -EUCLEAN;
	n = n < im->size - off ? n : im->size - off;
	for (uint64_t page = off / PAGE, last = (off + n - 1) / PAGE; n && page <= last; page++) {
		if (im->there[page / 8] & 1u << page % 8)
			continue;
		uint64_t from = page * PAGE, end = from + PAGE < im->size ? from + PAGE : im->size;
		for (uint64_t at = from; at < end;) {
			ssize_t r = pread(im->fd, im->window + at, end - at, (off_t)at);
			if (r <= 0)
				return r ? -errno : -EUCLEAN;
			at += (uint64_t)r;
		}
		im->there[page / 8] |= (uint8_t)(1u << page % 8);
	}
	return 0;
}

int erofs_image_inode(const struct erofs_image *im, uint64_t nid, struct erofs_inode *i)
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
	if (erofs_image_inode(im, im->fs.root_nid, &root) || !S_ISDIR(root.mode))
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
	im->there = calloc(1, im->size / PAGE / 8 + 1);
	if (im->window == MAP_FAILED || !im->there) {
		if (im->window != MAP_FAILED)
			munmap(im->window, im->size);
		im->window = NULL;
		free(im->there);
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
	free(im->there);
	im->window = im->there = NULL;
}

int erofs_image_find(const struct erofs_image *im, const struct erofs_inode *dir, const char *name,
		     size_t len, struct erofs_inode *out)
{
	struct erofs_dirent d;
	int err = read_data(im, dir, MAX_DIR);

	if (!err)
		err = erofs_lookup(&im->fs, dir, name, len, &d);
	return err ? err : erofs_image_inode(im, d.nid, out);
}

int64_t erofs_image_read(const struct erofs_image *im, const struct erofs_inode *i, void *buf, uint64_t n,
			 uint64_t off)
{
	uint64_t done = 0, left = 0;

	while (done < n && off + done < i->size) {
		const uint8_t *p = erofs_data(&im->fs, i, off + done, &left);
		if (!p || !left)
			return -EUCLEAN;
		left = left < n - done ? left : n - done;
		/* Not through the window: a program may be large, and only its head is wanted. */
		ssize_t r = pread(im->fd, (uint8_t *)buf + done, left, (off_t)(p - im->window));
		if (r <= 0)
			return r ? -errno : -EUCLEAN;
		done += (uint64_t)r;
	}
	return (int64_t)done;
}

bool erofs_image_opaque(const struct erofs_image *im, const struct erofs_inode *dir)
{
	static const char *const names[] = {"trusted.overlay.opaque", "user.overlay.opaque"};
	struct erofs_inode mark;
	char v = 0;

	if (!erofs_image_find(im, dir, ".wh..wh..opq", 12, &mark))
		return true;
	if (dir->xattr_size < XATTR_HEADER || fill(im, dir->xattr_off, dir->xattr_size))
		return false;
	/* Shared attributes lie elsewhere: the header has their places. */
	const uint8_t *h = im->window + dir->xattr_off;
	for (unsigned k = 0; k < h[4] && XATTR_HEADER + 4 * (k + 1) <= dir->xattr_size; k++) {
		uint32_t id;
		memcpy(&id, h + XATTR_HEADER + 4 * k, 4);
		fill(im, im->fs.xattr_off + 4ull * id, MAX_XATTR);
	}
	for (int k = 0; k < 2; k++)
		if (erofs_getxattr(&im->fs, dir, names[k], &v, 1) == 1 && v == 'y')
			return true;
	return false;
}
