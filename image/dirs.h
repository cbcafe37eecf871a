/* SPDX-License-Identifier: ISC */
/* Where Cowbell keeps what is its own: the cache and the store. */
#ifndef COWBELL_IMAGE_DIRS_H
#define COWBELL_IMAGE_DIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIRS_OWN 2

struct dir_id {
	uint64_t dev, ino;
};

/* Absolute paths, made of the environment; the directories need not exist. False: none can be named. */
bool dirs_cache(char *out, size_t size);
bool dirs_store(char *out, size_t size);
/* mkdir -p; the last one private to the user (layers hold copies of files that only they may read). 0 or -errno. */
int dirs_make(char *path);
/* Those of them that are there, by identity. How many. */
int dirs_own(struct dir_id own[DIRS_OWN]);

#endif
