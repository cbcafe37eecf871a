/* SPDX-License-Identifier: ISC */
/*
 * Buffers and senders: see buf.h.
 *
 * A request that passes through needs four buffers for a moment (head in, head out, both ways). They come from a list of free
 * ones, so that the hot path never calls malloc; at most POOL_MAX stay there. A buffer that outgrew the usual size is malloc'ed and freed.
 *
 * A sender's life: put -> out; flush -> uv_try_write(out); what the kernel did not take becomes `flight` and is given to uv_write(),
 * `out` starts anew; at the end of the flight progress() is called and what came since is flushed. So there is one
 * write in flight at most, its memory never moves, and nothing is written out of order.
 */
#include "platform/buf.h"

#include <assert.h>
#include <stdlib.h>

#define POOL_MAX     256
#define COPY_AT_MOST BUF_SIZE /* bigger pieces are not copied if the kernel takes them */

size_t buf_bytes;

static char *pool[POOL_MAX];
static unsigned n_pool;

static char *pool_get(void)
{
	return n_pool ? pool[--n_pool] : xrealloc(NULL, BUF_SIZE);
}

static void pool_put(char *p)
{
	if (n_pool < POOL_MAX)
		pool[n_pool++] = p;
	else
		free(p);
}

char *buf_room(struct buf *b, size_t n)
{
	if (!b->p) {
		b->start = b->end = 0;
		b->cap = n <= BUF_SIZE ? BUF_SIZE : (uint32_t)n;
		b->p = n <= BUF_SIZE ? pool_get() : xrealloc(NULL, n);
		buf_bytes += b->cap;
	}
	if (b->cap - b->end >= n)
		return b->p + b->end;
	if (b->start && b->cap - buf_len(b) >= n) {
		memmove(b->p, b->p + b->start, buf_len(b));
		b->end -= b->start;
		b->start = 0;
		return b->p + b->end;
	}
	assert(n < 1u << 30 && b->cap < 1u << 30);
	uint32_t cap = b->cap;
	while (cap - buf_len(b) < n)
		cap *= 2;
	char *p = xrealloc(NULL, cap);
	size_t len = buf_len(b);
	memcpy(p, b->p + b->start, len);
	buf_free(b);
	buf_bytes += cap;
	*b = (struct buf){.p = p, .start = 0, .end = (uint32_t)len, .cap = cap};
	return p + len;
}

void buf_add(struct buf *b, const char *data, size_t n)
{
	memcpy(buf_room(b, n), data, n);
	b->end += (uint32_t)n;
}

void buf_take(struct buf *b, size_t n)
{
	assert(n <= buf_len(b));
	b->start += (uint32_t)n;
	if (b->start == b->end)
		buf_free(b);
}

void buf_free(struct buf *b)
{
	if (!b->p)
		return;
	buf_bytes -= b->cap;
	if (b->cap == BUF_SIZE)
		pool_put(b->p);
	else
		free(b->p);
	*b = (struct buf){0};
}

size_t put_dec(char *to, uint64_t v)
{
	char tmp[20];
	size_t n = 0;
	do
		tmp[n++] = (char)('0' + v % 10);
	while (v /= 10);
	for (size_t i = 0; i < n; i++)
		to[i] = tmp[n - 1 - i];
	return n;
}

size_t put_hex(char *to, uint64_t v)
{
	size_t n = 1;
	while (n < 16 && v >> (4 * n))
		n++;
	for (size_t i = 0; i < n; i++)
		to[i] = "0123456789abcdef"[v >> (4 * (n - 1 - i)) & 15];
	return n;
}

void sender_init(struct sender *s, uv_stream_t *stream, void (*progress)(struct sender *s))
{
	*s = (struct sender){.stream = stream, .progress = progress};
}

static void sender_fail(struct sender *s, int err)
{
	s->failed = true;
	s->error = err;
	buf_free(&s->out);
}

static void wrote(uv_write_t *req, int status)
{
	struct sender *s = req->data;
	s->writing = false;
	buf_free(&s->flight);
	if (status)
		sender_fail(s, status);
	else
		sender_flush(s);
	if (status != UV_ECANCELED && s->progress)
		s->progress(s);
}

/* What is in `out` goes into flight. */
static void start_flight(struct sender *s)
{
	s->flight = s->out;
	s->out = (struct buf){0};
	s->req.data = s;
	uv_buf_t b = uv_buf_init(s->flight.p + s->flight.start, (unsigned)buf_len(&s->flight));
	int err = uv_write(&s->req, s->stream, &b, 1, wrote);
	if (err) {
		buf_free(&s->flight);
		sender_fail(s, err);
		return;
	}
	s->writing = true;
}

void sender_flush(struct sender *s)
{
	if (s->failed || s->writing || !buf_len(&s->out))
		return;
	uv_buf_t b = uv_buf_init(s->out.p + s->out.start, (unsigned)buf_len(&s->out));
	int n = uv_try_write(s->stream, &b, 1);
	if (n < 0 && n != UV_EAGAIN) {
		sender_fail(s, n);
		return;
	}
	if (n > 0)
		buf_take(&s->out, (size_t)n);
	if (buf_len(&s->out))
		start_flight(s);
}

void sender_put(struct sender *s, const char *data, size_t n)
{
	if (s->failed || !n)
		return;
	if (s->writing || n < COPY_AT_MOST) {
		buf_add(&s->out, data, n);
		return;
	}
	size_t have = buf_len(&s->out);
	uv_buf_t b[2] = {
		uv_buf_init(have ? s->out.p + s->out.start : (char *)data, (unsigned)(have ? have : n)),
		uv_buf_init((char *)data, (unsigned)n)};
	int w = uv_try_write(s->stream, b, have ? 2 : 1);
	if (w < 0 && w != UV_EAGAIN) {
		sender_fail(s, w);
		return;
	}
	size_t done = w > 0 ? (size_t)w : 0, head = done < have ? done : have;
	if (head)
		buf_take(&s->out, head);
	if (done - head < n) {
		buf_add(&s->out, data + (done - head), n - (done - head));
		start_flight(s);
	}
}

void sender_close(struct sender *s)
{
	buf_free(&s->out);
	s->failed = true;
	s->progress = NULL;
}
