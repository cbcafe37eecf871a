/* SPDX-License-Identifier: ISC */
/*
 * Reader of uncompressed EROFS images that lie in memory as a whole.
 *
 * Nothing is copied and nothing is allocated: an inode is decoded into the
 * caller's struct, file data is handed out as pointers into the image. The
 * image is hostile: each offset is checked against its size before use, and
 * no walk is longer than the image. Errors are negative Linux errno values,
 * -EUCLEAN for an image that contradicts itself.
 */
#ifndef COWBELL_LIB_EROFS_H
#define COWBELL_LIB_EROFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct erofs {
	const uint8_t *base;
	uint64_t size;
	uint32_t blkbits;
	uint32_t incompat; /* zero padding: nothing by itself, but only compressed images have it */
	uint64_t meta_off, xattr_off;
	uint64_t root_nid;
	uint64_t blocks; /* that the image says it has; not checked */
	uint64_t n_inodes;
	uint64_t build_time;
	uint32_t build_nsec;
};

struct erofs_inode {
	uint64_t nid, size;
	uint32_t mode, uid, gid, nlink;
	uint64_t rdev; /* as the kernel's new_encode_dev has it */
	int64_t mtime;
	uint32_t mtime_nsec;
	uint32_t ino;
	uint8_t layout;
	uint64_t data_off; /* image offset of the first whole block */
	uint64_t plain; /* file bytes in whole blocks from data_off */
	uint64_t tail_off; /* image offset of the rest, if size > plain */
	uint64_t xattr_off;
	uint32_t xattr_size;
};

/* Directory entry types, as in dirent's d_type after erofs_dtype(). */
struct erofs_dirent {
	uint64_t nid;
	const char *name; /* in the image, not terminated */
	uint32_t len;
	uint8_t type; /* DT_* */
	uint64_t next_pos; /* where to go on */
};

/*
 * Check the superblock and that the root is a directory. 0, -EINVAL (not EROFS), -EOPNOTSUPP (needs a feature that
 * is not here), -EUCLEAN. erofs_super() leaves the root out: it looks at the first 1152 bytes only.
 */
int erofs_open(struct erofs *fs, const void *base, uint64_t size);
int erofs_super(struct erofs *fs, const void *base, uint64_t size);
int erofs_inode(const struct erofs *fs, uint64_t nid, struct erofs_inode *out);
/* Pointer to the file's byte `off` and how many follow it contiguously; NULL at or beyond the end. */
const void *erofs_data(const struct erofs *fs, const struct erofs_inode *ino, uint64_t off, uint64_t *n);
/* -ENOENT, -EUCLEAN, or 0 with the entry. */
int erofs_lookup(const struct erofs *fs, const struct erofs_inode *dir, const char *name, size_t len,
		 struct erofs_dirent *out);
/* The entry at pos (0 first); 1 an entry, 0 the end, or -EUCLEAN. Gives "." and ".." as well. */
int erofs_readdir(const struct erofs *fs, const struct erofs_inode *dir, uint64_t pos,
		  struct erofs_dirent *out);
/* Value length (size 0 only asks), -ENODATA, -ERANGE. Name with its prefix. */
int64_t erofs_getxattr(const struct erofs *fs, const struct erofs_inode *ino, const char *name, void *buf,
		       size_t size);
/* Names, each NUL-terminated, one after the other; total length, -ERANGE. */
int64_t erofs_listxattr(const struct erofs *fs, const struct erofs_inode *ino, char *buf, size_t size);

#endif
