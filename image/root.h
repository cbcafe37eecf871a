/* SPDX-License-Identifier: ISC */
/* --root DIR|IMAGE: a file system that the user brings. See root.c. */
#ifndef COWBELL_IMAGE_ROOT_H
#define COWBELL_IMAGE_ROOT_H

#include "image/image.h"

/* As image_prepare(), for requests with a root. */
int prepare_root(const struct image_request *req, struct image_set *out);

#endif
