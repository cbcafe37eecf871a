/* SPDX-License-Identifier: ISC */
/*
 * Names of images and where they come from, as users write them:
 *
 *   NAME[:TAG][@sha256:HEX]      in the local store, or on a registry for push and pull: [HOST[:PORT]/]PATH[:TAG]
 *   image:NAME[:TAG]             the same for `cowbell run`, where a bare word is a program
 *   oci:DIR[:REF]                a directory in OCI image layout
 *   oci-archive:FILE[:REF]       the same as a tar file
 *   docker-archive:FILE[:REF]    what `docker save` writes
 *
 * Grammar: the OCI distribution specification, and the reference grammar of Docker's distribution.
 */
#ifndef COWBELL_IMAGE_OCI_REFERENCE_H
#define COWBELL_IMAGE_OCI_REFERENCE_H

#include <stdbool.h>

enum source_kind { SOURCE_NONE, SOURCE_STORE, SOURCE_OCI_DIR, SOURCE_OCI_ARCHIVE, SOURCE_DOCKER_ARCHIVE };

struct reference {
	char name[256]; /* without tag; lower case, checked */
	char tag[129]; /* "latest" if none was given */
	char hex[65]; /* of @sha256:..., or "" */
	bool has_tag;
};

struct source_name {
	enum source_kind kind;
	char path[4096]; /* of the file or directory; of SOURCE_STORE the word, for image_find() */
	char ref[256]; /* which image in it, or "" */
	struct reference store; /* for SOURCE_STORE */
};

/* Parse NAME[:TAG][@sha256:HEX]. NULL, or a phrase that says what is wrong. */
const char *reference_parse(const char *s, struct reference *out);
/* "NAME:TAG", as names are kept in the store. */
void reference_text(const struct reference *r, char *buf, unsigned long size);
/* Which source a word with a known prefix names; SOURCE_NONE without an error: it has no such prefix. */
const char *source_parse(const char *s, struct source_name *out);

#endif
