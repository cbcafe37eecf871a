/* SPDX-License-Identifier: ISC */
/* Looking up paths in an EROFS image that somebody brings. See erofs_path.c. */
#ifndef COWBELL_IMAGE_EROFS_PATH_H
#define COWBELL_IMAGE_EROFS_PATH_H

#include <stdint.h>

#include "lib/erofs.h"

struct erofs_image {
	struct erofs fs; /* over the window */
	uint8_t *window; /* as large as the file; filled where it was read */
	uint64_t size;
	int fd; /* the caller's */
};

/* NULL, or a phrase that says why the file is no image that can be used. The descriptor stays the caller's. */
const char *erofs_image_open(struct erofs_image *im, int fd);
void erofs_image_close(struct erofs_image *im);
/* Follow a path, links included. Its mode, or -errno. */
int erofs_image_lookup(const struct erofs_image *im, const char *path);

#endif
