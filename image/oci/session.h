/* SPDX-License-Identifier: ISC */
/* Talking to one repository of one registry: authentication, trying again, and what the registry says. See session.c. */
#ifndef COWBELL_IMAGE_OCI_SESSION_H
#define COWBELL_IMAGE_OCI_SESSION_H

#include "image/oci/http.h"
#include "image/oci/import.h"

#define SESSION_TRIES 5

struct session {
	struct http *http;
	char host[256]; /* HOST[:PORT] as in the name */
	char path[256]; /* the repository */
	char *base; /* "https://HOST:PORT" */
	const struct registry_options *options;
	char *authorization; /* value of the header, or NULL */
	uint64_t expires_ns; /* CLOCK_MONOTONIC, of a token; 0: never */
};

/* 0, or an exit status after one line. */
int session_open(struct session *s, const struct reference *r, const struct registry_options *o);
void session_close(struct session *s);

/* "BASE/v2/PATH" and what follows, malloc. */
char *session_url(const struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * One request, authenticated; a 401 gets credentials and another try. With `tries` > 1 it is tried again after a
 * connection that broke, a 429 or a 5xx, with growing pauses. Always fills `r`.
 */
enum http_failure session_do(struct session *s, struct http_request *q, struct http_response *r, int tries);
/* Sleep before try number `n` (from 1), at least as long as the answer asks for, up to a bound. */
void session_pause(int n, const struct http_response *r);
/* Is it worth another try? */
bool session_passing(enum http_failure f, const struct http_response *r);

/* Say what went wrong with `what`, in the registry's own words if it has any, and give EXIT_OURS. */
int session_fail(const struct session *s, const char *what, enum http_failure f,
		 const struct http_response *r);

#endif
