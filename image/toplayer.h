/* SPDX-License-Identifier: ISC */
/* Inside of image/: the layer that is made at each start of a stored image. See toplayer.c. */
#ifndef COWBELL_IMAGE_TOPLAYER_H
#define COWBELL_IMAGE_TOPLAYER_H

#include "image/image.h"
#include "image/overlay.h"
#include "image/tree.h"

struct toplayer {
	const char *hostname;
	const char *workdir; /* made if it is missing */
	char *const *volumes; /* directories, made if they are missing, NULL-terminated; may be NULL */
	uint32_t uid, gid; /* who owns the volumes that are made */
};

/* Put the layer on top of the set, whose layers `o` shows. 0, or -errno. */
int toplayer_add(struct image_set *set, const struct overlay *o, const struct toplayer *n);
/* The same with what a start without an app loads early, as set->app.names_fd. */
int toplayer_preload(struct image_set *set, const struct overlay *o, const struct toplayer *n);
/* Put a tree on top of the set, as an image in memory; frees the tree, which may be NULL (-ENOMEM). 0, or -errno. */
int toplayer_put(struct image_set *set, struct tree *t);

#endif
