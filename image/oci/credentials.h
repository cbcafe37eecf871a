/* SPDX-License-Identifier: ISC */
/* User name and password for a registry. */
#ifndef COWBELL_IMAGE_OCI_CREDENTIALS_H
#define COWBELL_IMAGE_OCI_CREDENTIALS_H

#include <stddef.h>

enum credentials_state {
	CREDENTIALS_NONE,
	CREDENTIALS_FOUND,
	CREDENTIALS_HELPER, /* the file names a helper program for this host, which is not supported */
	CREDENTIALS_TOKEN, /* an identity token, which is not supported */
	CREDENTIALS_BAD, /* the file is not valid */
};

struct credentials {
	char *user, *password; /* malloc, NULL unless found */
	char *file; /* where it was found or where the trouble is; malloc, or NULL */
};

/* What the text of an auth file says about HOST[:PORT]/PATH. */
enum credentials_state credentials_in(const char *json, size_t n, const char *name, struct credentials *out);
/* creds: "USER:PASSWORD" of an option, or NULL: look at the auth files, in order. */
enum credentials_state credentials_find(const char *creds, const char *name, struct credentials *out);
void credentials_free(struct credentials *c);

#endif
