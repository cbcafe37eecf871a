/* SPDX-License-Identifier: ISC */
/* What is signed: the "simple signing" JSON as cosign writes it, which names a manifest by digest. */
#ifndef COWBELL_IMAGE_OCI_PAYLOAD_H
#define COWBELL_IMAGE_OCI_PAYLOAD_H

#include <stddef.h>

#define MEDIA_SIMPLESIGNING "application/vnd.dev.cosign.simplesigning.v1+json"

/* The payload for a manifest; equal arguments give equal bytes. malloc. */
char *payload_format(const char *repository, const char *manifest_hex);
/* Does a payload speak of exactly this manifest? NULL, or a phrase that says what is wrong. */
const char *payload_check(const char *json, size_t n, const char *manifest_hex);

#endif
