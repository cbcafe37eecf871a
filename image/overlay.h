/* SPDX-License-Identifier: ISC */
/* Paths in a stack of EROFS layers, as the guest sees them. See overlay.c. */
#ifndef COWBELL_IMAGE_OVERLAY_H
#define COWBELL_IMAGE_OVERLAY_H

#include "image/erofs_path.h"

#define OVERLAY_MAX_LAYERS 16

struct overlay {
	int n;
	struct erofs_image layer[OVERLAY_MAX_LAYERS]; /* lowest first */
};

struct overlay_file {
	int layer;
	struct erofs_inode i;
};

/* NULL, or a phrase that says why layer *bad is no image that can be used. The descriptors stay the caller's. */
const char *overlay_open(struct overlay *o, const int *fd, int n, int *bad);
void overlay_close(struct overlay *o);
/* Follow a path, links included; a relative one starts at the root. 0 or -errno. */
int overlay_lookup(const struct overlay *o, const char *path, struct overlay_file *out);
/* The same for the mode alone: it, or -errno. */
int overlay_mode(const struct overlay *o, const char *path);
/* Bytes read, fewer at the end; or -errno. */
int64_t overlay_read(const struct overlay *o, const struct overlay_file *f, void *buf, uint64_t n,
		     uint64_t off);

/*
 * Every directory on the way to `path`, links followed, from below the root on: its path without links and its inode, or
 * NULL where the layers have none. 0 or -errno: -ENOTDIR where something else is in the way.
 */
int overlay_dirs(const struct overlay *o, const char *path,
		 void (*each)(void *arg, const char *dir, const struct erofs_inode *i), void *arg);

#endif
