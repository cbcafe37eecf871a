/* SPDX-License-Identifier: ISC */
/*
 * Connections to instances: AF_UNIX stream sockets, kept for the next request.
 *
 *   upstream_get() -> busy --whole answer, may be kept--> idle --next request--> busy
 *                      \--anything else--> closed          \--IDLE_MS, or a byte, or its end--> closed
 *
 * The one used last is used first, so that the others may grow old and go. An instance's program may close an idle connection in the moment
 * in which it gets a request: router.c sends it again on a new one if that is safe. To make that rare, ours end first (IDLE_MS is below what
 * common servers wait).
 *
 * An answer is as little trusted as a request: the guard looks at the raw bytes, then llhttp reads them, and both must agree; bytes after
 * its end mean that the connection is not used again.
 */
#include "platform/router_inside.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define IDLE_MS	 4000
#define IDLE_MAX 64 /* of one instance */

static char scratch[64 * 1024];
static struct uconn *spare;
static unsigned n_spare;

static int on_message_complete(llhttp_t *p)
{
	struct uconn *u = p->data;
	u->ended = true;
	return HPE_PAUSED;
}

static int on_headers_complete(llhttp_t *p)
{
	struct uconn *u = p->data;
	p->upgrade = 0;
	return (u->rq && u->rq->head_only) || p->status_code == 204 || p->status_code == 304; /* 1: no body */
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
	struct uconn *u = p->data;
	u->body_in += n;
	if (u->rq)
		rq_answer_body(u->rq, at, n);
	return 0;
}

static const llhttp_settings_t settings = {
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

static void closed(uv_handle_t *h)
{
	struct uconn *u = h->data;
	buf_free(&u->in);
	if (n_spare < 64) {
		u->next_spare = spare;
		spare = u;
		n_spare++;
	} else {
		head_free(&u->head);
		free(u);
	}
}

void uconn_close(struct uconn *u)
{
	if (u->closing)
		return;
	u->closing = true;
	if (u->up && u->idle)
		u->up->n_idle--;
	u->rq = NULL;
	u->up = NULL;
	list_del(&u->node);
	wheel_clear(&u->timer);
	soon_drop(&u->soon);
	sender_close(&u->s);
	uv_close((uv_handle_t *)&u->pipe, closed);
}

static void flush_now(struct soon *s)
{
	struct uconn *u = container_of(s, struct uconn, soon);
	sender_flush(&u->s);
	if (u->rq)
		rq_upstream_room(u->rq);
}

void uconn_flush_soon(struct uconn *u)
{
	if (!u->closing)
		soon_add(&u->soon, flush_now);
}

static void progress(struct sender *s)
{
	struct uconn *u = container_of(s, struct uconn, s);
	if (!u->closing && u->rq)
		rq_upstream_room(u->rq);
}

static void refuse(struct uconn *u, enum hcode code, const char *why)
{
	rq_upstream_bad(u->rq, code, why);
}

/* The second opinion on a head. */
static const char *parser_agrees(struct uconn *u, const char *p, size_t n)
{
	const struct head *h = &u->head;
	bool no_body =
		u->rq->head_only || h->status == 204 || h->status == 304 || (h->has_length && !h->length);
	llhttp_init(&u->parser, HTTP_RESPONSE, &settings);
	u->parser.data = u;
	u->ended = false;
	llhttp_errno_t err = llhttp_execute(&u->parser, p, n);
	if (no_body)
		return err == HPE_PAUSED && u->ended && llhttp_get_error_pos(&u->parser) == p + n
			       ? NULL
			       : "the parser disagrees";
	if (err != HPE_OK || u->ended)
		return "not understood by the parser";
	u->until_close = !h->chunked && !h->has_length;
	return !!(u->parser.flags & F_CHUNKED) == h->chunked &&
			       (!h->has_length || u->parser.content_length == h->length)
		       ? NULL
		       : "the parser disagrees";
}

/* The answer is whole; `extra`: bytes came behind it. */
static void whole(struct uconn *u, bool extra)
{
	struct rq *r = u->rq;
	const struct head *h = &u->head;
	bool keep = !extra && !u->until_close && u->up && !u->s.failed && !sender_waiting(&u->s) &&
		    r->body_sent && (h->version == 11 ? !h->close : h->keep_alive && !h->close);
	r->u = NULL;
	u->rq = NULL;
	if (keep)
		uconn_put_back(u);
	else
		uconn_close(u);
	rq_answer_end(r);
}

static void body_input(struct uconn *u, const char *data, size_t n)
{
	const struct head *h = &u->head;
	size_t k = n;
	bool end = false;
	if (h->chunked) {
		long g = guard_chunks(&u->chunks, data, n);
		if (g < 0) {
			refuse(u, H17, "bad chunk");
			return;
		}
		k = (size_t)g;
		end = u->chunks.state == CHUNKS_END;
	} else if (h->has_length) {
		if (k > h->length - u->body_in)
			k = (size_t)(h->length - u->body_in);
		end = k == h->length - u->body_in;
	}
	llhttp_errno_t err = llhttp_execute(&u->parser, data, k);
	if (u->closing)
		return;
	if (end ? err != HPE_PAUSED || !u->ended || llhttp_get_error_pos(&u->parser) != data + k
		: err != HPE_OK)
		refuse(u, H17, "bad body");
	else if (end)
		whole(u, k < n);
}

/* What lies in u->in: heads, interim ones too, and then what follows. */
static void head_input(struct uconn *u)
{
	while (!u->closing && u->rq && buf_len(&u->in) && !u->in_body) {
		const char *p = u->in.p + u->in.start, *why = "bad line end, or the head is too long";
		long len = guard_find_end(p, buf_len(&u->in), &u->scanned, ANSWER_LINE_MAX, ANSWER_HEAD_MAX);
		if (!len)
			return;
		if (len < 0 || guard_answer(p, (size_t)len, &u->head, &why)) {
			refuse(u, len == -431 || len == -414 ? H25 : H17, why);
			return;
		}
		bool final = u->head.status >= 200;
		if (final && (why = parser_agrees(u, p, (size_t)len))) {
			refuse(u, H17, why);
			return;
		}
		struct buf b = u->in; /* the head's strings stay in it */
		u->in = (struct buf){0};
		u->scanned = 0;
		buf_take(&b, 0);
		size_t rest = buf_len(&b) - (size_t)len;
		int gone = rq_answer(u->rq, &u->head);
		if (!gone && rest && final && !u->ended)
			u->in_body = true, body_input(u, b.p + b.start + len, rest);
		else if (!gone && final && u->ended)
			whole(u, rest > 0);
		else if (!gone && final)
			u->in_body = true;
		else if (!gone && rest && u->rq->state == RQ_TUNNEL)
			rq_answer_body(u->rq, b.p + b.start + len, rest);
		else if (!gone && rest)
			buf_add(&u->in, b.p + b.start + len, rest);
		buf_free(&b);
		if (gone || final || u->closing || !u->rq || u->rq->state == RQ_TUNNEL)
			return;
	}
}

static void allocate(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
	(void)suggested;
	struct uconn *u = h->data;
	if (u->in_body || !u->rq || u->rq->state == RQ_TUNNEL) {
		*b = uv_buf_init(scratch, sizeof(scratch));
		return;
	}
	b->base = buf_room(&u->in, 4096);
	b->len = u->in.cap - u->in.end;
}

static void ended(struct uconn *u, int err)
{
	struct rq *r = u->rq;
	if (u->in_body && u->until_close && err == UV_EOF && r) {
		whole(u, false);
		return;
	}
	if (!r) {
		uconn_close(u);
		return;
	}
	rq_upstream_eof(r, err);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct uconn *u = s->data;
	if (u->closing)
		return;
	if (n <= 0) {
		if (buf_len(&u->in) == 0)
			buf_free(&u->in);
		if (n < 0)
			ended(u, (int)n);
		return;
	}
	if (!u->rq) { /* idle, and nobody asked for anything */
		uconn_close(u);
		return;
	}
	u->got_bytes = true;
	u->rq->last_ms = uv_now(loop);
	if (b->base != scratch) {
		u->in.end += (uint32_t)n;
		head_input(u);
	} else if (u->rq->state == RQ_TUNNEL) {
		rq_answer_body(u->rq, b->base, (size_t)n);
	} else {
		body_input(u, b->base, (size_t)n);
	}
}

void uconn_reading(struct uconn *u, bool on)
{
	if (u->closing || u->reading == on)
		return;
	u->reading = on;
	if (on)
		uv_read_start((uv_stream_t *)&u->pipe, allocate, on_read);
	else
		uv_read_stop((uv_stream_t *)&u->pipe);
}

static int dial(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	size_t n = strlen(path);
	if (!n || n >= sizeof(a.sun_path))
		return -ENOENT;
	memcpy(a.sun_path, path, n + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fd;
	int err = errno;
	close(fd);
	return -err;
}

static struct uconn *new_uconn(void)
{
	struct uconn *u = spare;
	if (!u)
		return xcalloc(1, sizeof(*u));
	spare = u->next_spare;
	n_spare--;
	struct head h = {.headers = u->head.headers, .cap_headers = u->head.cap_headers};
	memset(u, 0, sizeof(*u));
	u->head = h;
	return u;
}

static struct upstream *upstream_of(struct instance *i)
{
	if (!i->upstream) {
		i->upstream = xcalloc(1, sizeof(*i->upstream));
		list_init(&i->upstream->idle);
		list_init(&i->upstream->busy);
	}
	return i->upstream;
}

static void start_answer(struct uconn *u)
{
	u->got_bytes = u->in_body = u->ended = u->until_close = false;
	u->body_in = 0;
	u->scanned = 0;
	u->chunks = (struct chunk_guard){0};
	u->idle = false;
}

struct uconn *upstream_get(struct instance *i, bool fresh, int *err)
{
	struct upstream *up = upstream_of(i);
	*err = 0;
	if (!fresh && !list_empty(&up->idle)) {
		struct uconn *u = list_first(&up->idle, struct uconn, node);
		list_del(&u->node);
		list_add_head(&up->busy, &u->node);
		up->n_idle--;
		u->reused = true;
		start_answer(u);
		return u;
	}
	int fd = dial(i->socket_path);
	if (fd < 0) {
		*err = fd;
		return NULL;
	}
	struct uconn *u = new_uconn();
	list_init(&u->node);
	uv_pipe_init(loop, &u->pipe, 0);
	u->pipe.data = u;
	sender_init(&u->s, (uv_stream_t *)&u->pipe, progress);
	*err = uv_pipe_open(&u->pipe, fd);
	if (*err) {
		close(fd);
		uconn_close(u);
		return NULL;
	}
	u->up = up;
	list_add_head(&up->busy, &u->node);
	start_answer(u);
	uconn_reading(u, true);
	return u;
}

static void too_old(struct wheel_timer *t)
{
	struct uconn *u = container_of(t, struct uconn, timer);
	if (!u->rq)
		uconn_close(u);
}

void uconn_put_back(struct uconn *u)
{
	struct upstream *up = u->up;
	if (up->n_idle >= IDLE_MAX) {
		uconn_close(u);
		return;
	}
	list_del(&u->node);
	list_add_head(&up->idle, &u->node);
	up->n_idle++;
	u->idle = true;
	uconn_reading(u, true);
	wheel_set(&u->timer, IDLE_MS, too_old);
}

void router_instance_gone(struct instance *i)
{
	struct upstream *up = i->upstream;
	if (!up)
		return;
	list_for_each_safe (it, &up->idle)
		uconn_close(list_entry(it, struct uconn, node));
	list_for_each_safe (it, &up->busy) {
		struct uconn *u = list_entry(it, struct uconn, node);
		list_del(&u->node);
		u->up = NULL;
	}
	free(up);
	i->upstream = NULL;
}
