/* SPDX-License-Identifier: ISC */
/*
 * Bytes on their way. struct buf: a buffer that grows, whose usual size comes from a pool. struct sender: what waits to be written to a
 * stream; it writes at once what the kernel takes, many pieces in one system call, and keeps the rest.
 */
#ifndef COWBELL_PLATFORM_BUF_H
#define COWBELL_PLATFORM_BUF_H

#include <string.h>

#include "platform/platform.h"

#define BUF_SIZE 16384 /* of one from the pool */

struct buf { /* zeroed memory is an empty one; the bytes are p[start..end) */
	char *p;
	uint32_t start, end, cap;
};

extern size_t buf_bytes; /* of all that are in use */

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

/* Room for n more bytes at the end: where they may be written. May move what is there. */
char *buf_room(struct buf *b, size_t n);
void buf_add(struct buf *b, const char *data, size_t n);
/* The first n bytes are done with; an empty buffer gives its memory back. */
void buf_take(struct buf *b, size_t n);
void buf_free(struct buf *b);

/* Adds "text" of known length; the caller has made room with buf_room() before. */
static inline void buf_lit_(struct buf *b, const char *text, size_t n)
{
	memcpy(b->p + b->end, text, n);
	b->end += (uint32_t)n;
}
#define BUF_LIT(b, lit) buf_lit_(b, lit, sizeof(lit) - 1)
/* A decimal or hexadecimal number, into at least 20 bytes; returns how many digits. */
size_t put_dec(char *to, uint64_t v);
size_t put_hex(char *to, uint64_t v);

/* n <= 64 unpredictable bytes; from a store, so that a request does not cost a system call. Valid until the next call. */
const uint8_t *few_random_bytes(size_t n);

struct sender {
	uv_stream_t *stream;
	struct buf out; /* not handed to the kernel yet */
	struct buf flight; /* the kernel has taken a part; libuv writes the rest of it when there is room */
	uv_write_t req;
	bool writing, failed;
	int error; /* of the failure, negative */
	void (*progress)(struct sender *s); /* a write that had to wait has ended, or failed */
};

/* More than this waiting: whoever makes it should stop. */
#define SENDER_HIGH (256 * 1024)

void sender_init(struct sender *s, uv_stream_t *stream, void (*progress)(struct sender *s));
/* Adds; big pieces go out at once together with what waits. */
void sender_put(struct sender *s, const char *data, size_t n);
/* Hands over what waits. */
void sender_flush(struct sender *s);
/* The stream is closed: forget what waits. What is in flight stays until libuv says that it has ended. */
void sender_close(struct sender *s);

static inline size_t sender_waiting(const struct sender *s)
{
	return buf_len(&s->out) + buf_len(&s->flight);
}

#endif
