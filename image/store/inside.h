/* SPDX-License-Identifier: ISC */
/* What the files of the store share; everyone else sees store.h. Layout on disk: store.c. */
#ifndef COWBELL_IMAGE_STORE_INSIDE_H
#define COWBELL_IMAGE_STORE_INSIDE_H

#include "image/store/store.h"

#define BLOBS	     "blobs/sha256"
#define TMP_NAME_MAX 32

struct store {
	int dir; /* the store's directory */
	int gate, lock; /* flock(2) */
	int holds; /* nesting of store_hold() */
	char path[4096];
};

/* store.c: for prune alone. waiting(arg) is called once if somebody holds the store. */
int store_exclude(struct store *s, void (*waiting)(void));
void store_unexclude(struct store *s);
/* "tmp/RANDOM" into buf: nobody else has it. */
void tmp_name(char buf[TMP_NAME_MAX]);
/* Make a directory's entries last. 0 or -errno. */
int sync_dir(struct store *s, const char *name);
/* Each entry of a directory of the store but "." and "..". 0 or -errno; a callback's nonzero ends it and is given back. */
int each_entry(struct store *s, const char *dir, int (*fn)(void *arg, int dirfd, const char *name),
	       void *arg);
/* Is the blob there, with the bytes that its name promises? Looks inside where it is small. 0 or -errno. */
int blob_check(struct store *s, const char *hex, uint64_t size);
int write_full(int fd, const void *data, size_t n);

/* refs.c: 64 hexadecimal digits as 43 characters of base64url. Writes no NUL; unpack: false if it is none. */
#define DIGEST_PACKED 43
void digest_pack(const char *hex, char *out);
bool digest_unpack(const char *s, char *hex);

/* memo.c: a memo's value by its file name (malloc, or NULL). */
char *memo_value(struct store *s, const char *file);

#endif
