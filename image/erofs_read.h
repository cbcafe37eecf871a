/* SPDX-License-Identifier: ISC */
/* Looking up paths in an EROFS image that somebody brings. See erofs_read.c. */
#ifndef COWBELL_IMAGE_EROFS_READ_H
#define COWBELL_IMAGE_EROFS_READ_H

#include <stdbool.h>
#include <stdint.h>

struct erofs_image {
	int fd;
	uint64_t size, meta_at, root_nid;
};

/* NULL, or a phrase that says why the file is no image that can be used. */
const char *erofs_fd_open(struct erofs_image *im, int fd);
/* Follow a path, links included. Its mode, or -errno. */
int erofs_fd_lookup(const struct erofs_image *im, const char *path);

#endif
