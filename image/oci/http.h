/* SPDX-License-Identifier: ISC */
/* HTTP for registries, over libcurl, which is loaded when it is first needed. See http.c for what is never done. */
#ifndef COWBELL_IMAGE_OCI_HTTP_H
#define COWBELL_IMAGE_OCI_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/host/strings.h"

#define HTTP_MAX_SMALL (64u << 10) /* of the body of an answer that is an error, or that nobody streams */

struct http; /* connections that are kept, and settings */

struct http_options {
	const char *ca_file; /* PEM file of the certificates to trust instead of the system's, or NULL */
	bool allow_plain; /* http:// URLs are allowed; else only https:// */
	uint64_t stall_ns; /* give up when nothing moves for this long; 0: 30 s */
};

struct http_request {
	const char *method; /* GET, HEAD, POST, PUT, PATCH */
	const char *url;
	const struct strings *headers; /* "Name: value"; without Authorization */
	const char *authorization; /* value of the header, or NULL; never sent to another host than url's */
	/* What is sent: nothing, memory, or a part of a file. */
	const void *body;
	int body_fd; /* -1: none */
	uint64_t body_offset, body_size;
	/* Where the body of a good answer (2xx) goes: appended to a file, or into memory (response.body). */
	int out_fd; /* -1: memory */
	uint64_t out_max; /* more bytes than this are an error */
	/*
	 * > 0: out_fd holds so many bytes already, ask for the rest. A server that sends all of it again is let: the file is
	 * emptied first, and response.restarted is set. out_max is for the rest.
	 */
	uint64_t resume_from;
	bool follow; /* GET and HEAD: follow redirects */
	bool progress; /* count bytes of bodies with progress_add() */
};

enum http_failure {
	HTTP_OK, /* an answer came; look at its status */
	HTTP_BROKEN, /* no connection, or it broke: trying again may help */
	HTTP_NOT_TLS, /* the server does not speak TLS */
	HTTP_REFUSED, /* trying again does not help: certificate, address, too large, disk full, libcurl is missing */
};

#define HTTP_MAX_CHALLENGES 8

struct http_response {
	long status;
	char *body; /* NUL-terminated (malloc), never NULL; of the answer to an error, cut at HTTP_MAX_SMALL */
	size_t n_body;
	uint64_t received; /* bytes that went to out_fd */
	bool restarted; /* see resume_from */
	char *content_type, *location, *content_range, *range, *docker_digest,
		*retry_after; /* malloc, or NULL */
	int64_t content_length; /* -1: not said */
	char *challenge[HTTP_MAX_CHALLENGES]; /* WWW-Authenticate */
	int n_challenges;
	char error[320]; /* what went wrong unless HTTP_OK */
};

/* NULL after one line: libcurl is not there. */
struct http *http_open(const struct http_options *o);
void http_close(struct http *h);
void http_allow_plain(struct http *h, bool allow);
/* Always fills `r`, which http_response_free() frees. */
enum http_failure http_do(struct http *h, const struct http_request *q, struct http_response *r);
void http_response_free(struct http_response *r);

/* An absolute URL from a Location header, relative to `base`. malloc, or NULL: no valid http(s) URL without a user in it. */
char *http_resolve(struct http *h, const char *base, const char *location);
/* Do two URLs have the same scheme, host and port? */
bool http_same_origin(struct http *h, const char *a, const char *b);
bool http_same_host(struct http *h, const char *a, const char *b);
/* Is it a https URL, or one whose host is this very machine (localhost, 127.0.0.0/8, ::1)? */
bool http_is_tls(const char *url);
bool http_is_loopback(struct http *h, const char *url);
/* %XX for all but unreserved characters. malloc. */
char *http_escape(const char *text);

#endif
