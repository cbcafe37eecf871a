/* SPDX-License-Identifier: ISC */
/* Inside of image/: an image of the store as something to run. See run.c. */
#ifndef COWBELL_IMAGE_RUN_H
#define COWBELL_IMAGE_RUN_H

#include "image/image.h"
#include "image/oci/reference.h"

/* For a program word that names an image (image:..., oci:..., docker-archive:...). As image_prepare(). */
int prepare_stored(const struct image_request *req, const struct source_name *src, struct image_set *out);

/* Is the word the name of an image in the store, so that `cowbell run image:WORD` would run it? Prints nothing. */
bool stored_has(const char *word);

#endif
