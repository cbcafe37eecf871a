/* SPDX-License-Identifier: ISC */
/*
 * Signatures of images: Ed25519 over cosign's payload, kept beside the image under "NAME:sha256-HEX.sig".
 * See sign.c for the format, for what a signature covers and for what it does not.
 */
#ifndef COWBELL_IMAGE_OCI_SIGN_H
#define COWBELL_IMAGE_OCI_SIGN_H

#include <stdbool.h>
#include <stddef.h>

#include "image/store/store.h"

#define SIGNATURE_MAX_LAYERS   64 /* signatures of one image */
#define SIGNATURE_MAX_MANIFEST (256u << 10)
#define SIGNATURE_MAX_PAYLOAD  (64u << 10)

/*
 * For the run side. 0: the store holds a valid signature by the key in `public_pem_file` over exactly the manifest
 * `manifest_hex`, and every blob that the manifest names is in the store with its digest (blobs are hashed, unless they
 * were hashed since they were last changed). Else an exit status after one clear line. `name` ("NAME:TAG") is for messages
 * and for the name that is looked under first.
 */
int signature_check(struct store *s, const char *name, const char *manifest_hex, const char *public_pem_file);

/* "NAME:sha256-HEX.sig" for an image "NAME:TAG" or "NAME". */
void signature_ref(const char *name, const char *manifest_hex, char *buf, size_t size);
/* Is this the tag of a signature: "sha256-HEX.sig"? */
bool signature_is_tag(const char *tag);

/*
 * Add the signatures of a signature manifest (JSON from elsewhere) to those that the name `ref` holds. Only such whose
 * payloads are in the store, and which are not there yet. Hold the store. 0 or -errno.
 */
int signature_merge(struct store *s, const char *ref, const char *json, size_t n);

/*
 * blobs.c: every blob of a manifest has its digest. With use_memo a file that was hashed before and has the same inode,
 * size, mtime and ctime since is taken as good. 0, or an exit status after one line.
 */
int blobs_verify(struct store *s, const char *name, const char *manifest_hex, bool use_memo);

#endif
