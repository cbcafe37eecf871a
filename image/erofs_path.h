/* SPDX-License-Identifier: ISC */
/* Reading an EROFS image that somebody brings. See erofs_path.c. */
#ifndef COWBELL_IMAGE_EROFS_PATH_H
#define COWBELL_IMAGE_EROFS_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/erofs.h"

struct erofs_image {
	struct erofs fs; /* over the window */
	uint8_t *window; /* as large as the file; filled where it was read */
	uint8_t *there; /* bit n: page n of the window was read */
	uint64_t size;
	int fd; /* the caller's */
};

/* NULL, or a phrase that says why the file is no image that can be used. The descriptor stays the caller's. */
const char *erofs_image_open(struct erofs_image *im, int fd);
void erofs_image_close(struct erofs_image *im);
/* All 0 or -errno; -EUCLEAN for an image that contradicts itself. */
int erofs_image_inode(const struct erofs_image *im, uint64_t nid, struct erofs_inode *i);
int erofs_image_find(const struct erofs_image *im, const struct erofs_inode *dir, const char *name,
		     size_t len, struct erofs_inode *out);
/* File or link data: bytes read, fewer at the end. */
int64_t erofs_image_read(const struct erofs_image *im, const struct erofs_inode *i, void *buf, uint64_t n,
			 uint64_t off);
/* Does the directory hide those of the layers below? */
bool erofs_image_opaque(const struct erofs_image *im, const struct erofs_inode *dir);

#endif
