/* SPDX-License-Identifier: ISC */
/* What the files of the store share; everyone else sees store.h. Layout on disk: store.c. */
#ifndef COWBELL_IMAGE_STORE_INSIDE_H
#define COWBELL_IMAGE_STORE_INSIDE_H

#include "image/store/store.h"

#define BLOBS	      "blobs/sha256"
#define TMP_NAME_MAX  32
#define BLOB_PATH_MAX (sizeof(BLOBS) + 65)

struct store {
	int dir; /* the store's directory */
	int gate, lock; /* flock(2) */
	int holds; /* nesting of store_hold() */
	char path[4096];
	struct pending *pending; /* pending.c: blobs between store_begin() and store_end(), or NULL */
};

/* store.c: store_sync_later() was called. */
extern bool store_lazy;
#define BLOB_SMALL (64u << 10) /* a blob that is found is looked into up to here */

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

/* blob.c: "blobs/sha256/HEX" into buf; false: no digest. Give an open file a name. 0 or -errno. */
bool blob_path(char buf[BLOB_PATH_MAX], const char *hex);
int link_fd(struct store *s, int fd, const char *name);

/* pending.c. Take the file over (and its temporary name, if it has one); false: nothing is held back now. */
bool pending_take(struct store *s, const char *hex, int fd, const char *tmp);
bool pending_has(struct store *s, const char *hex);
/* A descriptor, or -ENOENT. */
int pending_open(struct store *s, const char *hex);

#endif
