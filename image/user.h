/* SPDX-License-Identifier: ISC */
/* Inside of image/: whom a program runs as. See user.c. */
#ifndef COWBELL_IMAGE_USER_H
#define COWBELL_IMAGE_USER_H

#include "image/image.h"
#include "image/overlay.h"

/*
 * USER[:GROUP], names or numbers, by the image's own accounts. 0, or an exit status after one line; `from` says where the word
 * stands ("-u", "the image's User").
 */
int user_lookup(const struct overlay *o, const char *word, const char *from, struct image_user *out);
/* The same for the layers of a set, into set->user. */
int user_of_set(struct image_set *set, const char *word);

#endif
