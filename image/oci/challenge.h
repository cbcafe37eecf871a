/* SPDX-License-Identifier: ISC */
/* How a registry asks for credentials: the WWW-Authenticate header. */
#ifndef COWBELL_IMAGE_OCI_CHALLENGE_H
#define COWBELL_IMAGE_OCI_CHALLENGE_H

#define CHALLENGE_MAX 8 /* in one header */

struct challenge {
	char scheme[24]; /* lower case: "bearer", "basic" */
	char realm[2048], service[256], scope[2048]; /* "" if not given */
};

/* All challenges of one header value; how many, 0 if it is malformed. */
int challenge_parse(const char *header, struct challenge out[CHALLENGE_MAX]);

#endif
