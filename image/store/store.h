/* SPDX-License-Identifier: ISC */
/*
 * The local store of images: content-addressed blobs, names that point at
 * manifests, and memos that save work. See store.c for the layout on disk and
 * for what holds after a crash.
 *
 * Digests are SHA-256, written as 64 hexadecimal digits without "sha256:".
 * Functions return 0 or -errno unless they say otherwise, and print nothing;
 * store_open() says in one line what is wrong.
 */
#ifndef COWBELL_IMAGE_STORE_STORE_H
#define COWBELL_IMAGE_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/host/strings.h"

struct store;

/* $XDG_DATA_HOME/cowbell, else ~/.local/share/cowbell, for root /var/lib/cowbell; made if it is missing. NULL after one line. */
struct store *store_open(void);
/* Is there one already? For those who would not make one. */
bool store_is_there(void);
void store_close(struct store *s);
const char *store_dir(const struct store *s);

/* --- locks -----------------------------------------------------------------
 * Whoever adds blobs or follows names holds the store from before the first blob until the name that keeps them
 * is written; prune waits for all holders. Nests. Released by store_close() and by the end of the process.
 */
int store_hold(struct store *s);
void store_release(struct store *s);
/* Only one at a time works on `key` (two builds of one layer): waits. A descriptor to close(2), or -errno. */
int store_lock(struct store *s, const char *key);

/* --- blobs ------------------------------------------------------------------ */
struct blob; /* one being written; has no name in the store until it is committed */

struct blob *blob_new(struct store *s); /* NULL with errno */
int blob_write(struct blob *b, const void *data, size_t n); /* append; hashed on the way */
/* For writers that write at random places (EROFS): then do not use blob_write(); blob_commit() hashes the file. */
int blob_fd(struct blob *b);
/* Give it its name, and free `b` in every case. expect: digest that it must have (else -EBADMSG), or NULL. */
int blob_commit(struct blob *b, const char *expect, char hex[65], uint64_t *size);
void blob_abort(struct blob *b);

/*
 * All or nothing: blobs committed from here on are seen by this process only, until store_end(keep) gives all of them their
 * names, or drops them as if they had never been. Does not nest; holds the store. Memos are not held back.
 */
void store_begin(struct store *s);
int store_end(struct store *s, bool keep);

/* A small blob at once. */
int store_put(struct store *s, const void *data, size_t n, char hex[65]);
/* Read-only descriptor, or -ENOENT... ; not verified (large). */
int store_blob(struct store *s, const char *hex, uint64_t *size);
/* A small blob whole, verified against its digest (-EBADMSG), NUL-terminated, malloc. -EFBIG beyond `max`. */
int store_get(struct store *s, const char *hex, size_t max, char **data, size_t *n);
bool store_has(struct store *s, const char *hex);
/* An open temporary file without a name, for downloads and spools; close(2) removes it. */
int store_tmpfile(struct store *s);
/* A new empty directory for scratch work, removed by store_rmtree() or, after a crash, by the next prune. Path in buf. */
int store_scratch(struct store *s, char *buf, size_t size);
int store_rmtree(const char *path);

/* --- names: "NAME:TAG" (image/oci/reference.h checks them) to the digest of a manifest ------------------------ */
int store_ref_get(struct store *s, const char *ref, char hex[65]);
/* Atomic; everything written before is on disk before the name is. */
int store_ref_set(struct store *s, const char *ref, const char *hex);
int store_ref_remove(struct store *s, const char *ref);
/* All names, sorted. */
int store_refs(struct store *s, struct strings *out);
/* Those that begin and end so ("" : any), sorted. Reads every name, but nothing of what they mean. */
int store_refs_like(struct store *s, const char *begin, const char *end, struct strings *out);

/* --- memos: derived knowledge that may be lost (kind: a word; key: hexadecimal) -------------------------------- */
/* The value, malloc, or NULL. */
char *store_memo_get(struct store *s, const char *kind, const char *key);
void store_memo_set(struct store *s, const char *kind, const char *key, const char *value);

/*
 * From here on this process does not wait for the disk for names and small blobs: whoever started it does a syncfs(2) before it
 * relies on them. What a power failure tears before that is mended by whoever writes the same blob again (blob_check), as each of
 * them is small enough to be looked into.
 */
void store_sync_later(void);

/* --- digests ------------------------------------------------------------------ */
void sha256_hex(const void *data, size_t n, char hex[65]);
int sha256_fd(int fd, char hex[65]); /* the whole file, from its beginning */
bool is_digest(const char *hex); /* exactly 64 lower-case hexadecimal digits */

#endif
