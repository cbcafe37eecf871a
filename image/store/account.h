/* SPDX-License-Identifier: ISC */
/* Inside of image/: what is in the store and who uses what. See account.c. */
#ifndef COWBELL_IMAGE_STORE_ACCOUNT_H
#define COWBELL_IMAGE_STORE_ACCOUNT_H

#include <sys/types.h>

#include "image/oci/oci.h"
#include "image/store/store.h"

struct account_blob {
	char hex[65];
	bool present; /* false: an image names it, and it is not there */
	bool manifest; /* it parses as one */
	uint64_t size, disk; /* bytes in it; bytes of the blocks that it takes */
	unsigned users; /* images that hold it */
	unsigned last; /* the last of them, while counting: index + 1 */
};

/* One manifest that names lead to. */
struct account_image {
	char hex[65];
	struct strings names; /* NAME:TAG */
	struct strings signatures; /* NAME:sha256-HEX.sig */
	const char *damage; /* why it cannot be accounted for, or NULL (static) */
	char config[65]; /* its configuration's digest, or "" */
	size_t *blob, n_blobs; /* indexes, each once: manifest, config, layers, those of its signatures */
	unsigned missing; /* of these, how many are not there */
	uint64_t size, disk; /* of its blobs */
	uint64_t own; /* disk of those that no other image holds: what is freed when it goes */
};

struct account {
	size_t n_images, n_blobs, n_table;
	uint32_t *table; /* from the digest of an image to its index + 1, see account.c */
	struct account_image *images; /* in the order of their first names */
	struct account_blob *blobs; /* in the order of their digests */
	struct strings orphans; /* names of signatures whose image has no such name any more */
	struct strings broken; /* "NAME:TAG: what is wrong": names whose blobs are not known */
	uint64_t disk; /* of all blobs */
	uint64_t unused; /* of those that no image holds */
	size_t n_unused;
};

/* Hold the store. 0 or -errno. Takes time and memory for each image and each blob of the store. */
int account_open(struct store *s, struct account *a);
/*
 * The same of one image alone, named `ref` ("" if it has no name), whatever else the store has: with its names only this one,
 * without knowledge of what is shared. Of its blobs `users` is 0 or 1 then, and `own` means nothing.
 */
int account_open_one(struct store *s, const char *ref, const char *hex, struct account *a);
void account_close(struct account *a);
/* Index of a blob, or -1. */
ssize_t account_find_blob(const struct account *a, const char *hex);
struct account_image *account_find_image(const struct account *a, const char *hex);

/* "NAME:sha256-HEX.sig": the length of NAME, and HEX. 0: it is no name of a signature. */
size_t signature_of(const char *ref, char hex[65]);

/* What prune would do, or does. */
struct prune_result {
	unsigned blobs, leftovers, memos, names;
	uint64_t bytes; /* of disk */
	int error; /* -errno of something that could not be removed, or 0 */
	bool refused; /* blobs were left alone, see account.broken */
};
/* Exclude all others. The account is of before. 0 or -errno. */
int prune_run(struct store *s, struct account *a, bool all, bool dry_run, struct prune_result *out);

#endif
