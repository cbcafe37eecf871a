/* SPDX-License-Identifier: ISC */
/* Inside of image/: which image of the store a word means. See names.c. */
#ifndef COWBELL_IMAGE_NAMES_H
#define COWBELL_IMAGE_NAMES_H

#include "image/store/store.h"

#define IMAGE_REF_MAX 400

/*
 * NAME[:TAG][@sha256:HEX], sha256:HEX (or its beginning), or at least four digits of a digest. 0, or an exit status after
 * one line. `ref` is NAME:TAG if the word is a name, else "". Hold the store.
 */
int image_find(struct store *s, const char *word, char ref[IMAGE_REF_MAX], char hex[65]);

/* "12.0 MiB" */
void size_text(uint64_t bytes, char buf[32]);
/* Text of others on standard output: control characters are shown as '?'. */
void put_text(const char *text);

#endif
