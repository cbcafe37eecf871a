/* SPDX-License-Identifier: ISC */
/* What the files that talk to a registry share: the source of registry.c, fetching (fetch.c), signatures (transfer.c). */
#ifndef COWBELL_IMAGE_OCI_REGISTRY_H
#define COWBELL_IMAGE_OCI_REGISTRY_H

#include "image/image.h"
#include "image/oci/session.h"

/*
 * A small thing into memory: "/manifests/TAG" or "/blobs/sha256:HEX". out_max bounds it; hex (or NULL) is what it must have
 * as its digest. 0 and *data (malloc), *found; a 404 is no failure but leaves *found false. Else an exit status after one line.
 */
int fetch_small(struct session *s, const char *what, const char *accept, uint64_t max, const char *hex,
		struct http_response *r, bool *found);
/* A blob as a file at offset 0, complete and with its digest. 0, or an exit status after one line. */
int fetch_blob(struct session *s, struct store *st, const struct oci_descriptor *d, int *fd);
/* Forget the file that fetch_blob() keeps for the case that the process ends early. */
void fetch_done(struct store *st, const char *hex);

/* Signatures of `hex` on the registry, into the local name sig_ref. *n: how many payloads there were. As above. */
int signatures_fetch(struct session *s, struct store *st, const char *sig_ref, const char *hex, size_t *n);

/* Where a blob is known to be on a registry, for mounts across repositories: a memo. */
void remember_origin(struct session *s, struct store *st, const char *hex);
/* The repository of the same registry that has it (malloc), or NULL; never the session's own. */
char *known_origin(struct session *s, struct store *st, const char *hex);

void transfer_options(const struct image_transfer *t, struct registry_options *o);

#endif
