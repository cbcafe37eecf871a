/* SPDX-License-Identifier: ISC */
/*
 * The strict look at the raw bytes of HTTP/1 before the parser (llhttp) gets them: what could be read in two ways is refused, not guessed.
 * Pure functions over memory: no I/O, no allocation but the array of headers.
 */
#ifndef COWBELL_PLATFORM_GUARD_H
#define COWBELL_PLATFORM_GUARD_H

#include "platform/http.h"

#define HEAD_LINE_MAX	 8192 /* request line, and value of a header */
#define HEAD_NAME_MAX	 1000
#define HEAD_HEADERS_MAX 1000
#define HEAD_MAX	 (64 * 1024) /* a request's head */
#define ANSWER_HEAD_MAX	 (512 * 1024) /* an answer's */
#define ANSWER_LINE_MAX	 (64 * 1024)
#define COOKIE_MAX	 8192

struct head {
	struct str method, target; /* of a request */
	struct str host; /* the value of Host; .p NULL: none */
	struct str upgrade; /* the value of Upgrade */
	int status; /* of an answer */
	int version; /* 10 or 11 */
	bool has_length, chunked;
	bool close, keep_alive, connection_upgrade; /* said by Connection */
	bool expect_continue;
	uint64_t length;
	unsigned n_headers, cap_headers;
	struct header *headers; /* grows by malloc: zero it once, free it with head_free() */
};
void head_free(struct head *h);

/*
 * Look for the end of a head in p[0..n), from *scanned on, which this call moves. > 0: bytes of the head, the empty line included;
 * 0: it goes on; < 0: the negative HTTP status with which to refuse it. Finds bare LF, too long lines and heads.
 */
long guard_find_end(const char *p, size_t n, size_t *scanned, size_t line_max, size_t head_max);
/* Take a whole head to pieces. 0, or the HTTP status with which to refuse it; *why is a short text for logs. */
int guard_request(const char *p, size_t n, struct head *h, const char **why);
/* The same for an answer: 0, or -1 and *why. */
int guard_answer(const char *p, size_t n, struct head *h, const char **why);

/* Host header or authority: [A-Za-z0-9._-]+ or [IPv6], and a port. Host without port into *name. */
bool guard_host(struct str value, struct str *name, uint16_t *port);
/* origin-form, "*" of OPTIONS, or absolute-form whose authority is *authority. Path and query are parts of target. */
bool guard_target(struct str method, struct str target, struct str *authority, struct str *path,
		  struct str *query);
bool guard_token(struct str s);
bool guard_value(struct str s); /* of a header: no control characters but HTAB */

/* Chunks: sizes are plain hexadecimal digits, lines end with CRLF, no extensions; trailers are checked as headers are. */
struct chunk_guard {
	int state;
	unsigned digits;
	uint64_t left;
	uint32_t trailer; /* bytes of trailers so far */
	uint32_t line; /* bytes of this trailer's line */
	bool colon;
};
/* How many of the n bytes belong to this body (fewer than n only when it has ended: state CHUNKS_END), or -1. */
#define CHUNKS_END 100
long guard_chunks(struct chunk_guard *g, const char *p, size_t n);

#endif
