/* SPDX-License-Identifier: ISC */
/* Inside of image/: what a start from a prefix needs of an image. See prefix.c. */
#ifndef COWBELL_IMAGE_PREFIX_H
#define COWBELL_IMAGE_PREFIX_H

#include "image/image.h"
#include "image/overlay.h"
#include "image/tree.h"

/* set->app is filled if the topmost layer of the set is an app's and suits; else app_layer stays 0. */
void prefix_describe(struct image_set *set);
/* The layer without the app, as set->app.skeleton_fd. 0 or -errno. */
int prefix_skeleton(struct image_set *set);
/* What is imported early, into the layer of names of the instance that is started without an app. */
void prefix_preload(struct tree *t, const struct overlay *o,
		    void (*dirs)(struct tree *t, const struct overlay *o, const char *dir));

#endif
