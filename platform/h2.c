/* SPDX-License-Identifier: ISC */
/*
 * HTTP/2 of clients: nghttp2 is the protocol, this file makes exchanges of its streams. By ALPN over TLS, or by prior knowledge in the clear.
 *
 *   HEADERS complete -> http_dispatch() -> DATA... -> END_STREAM -> body_end()      h2_out.c: the answer
 *   RST_STREAM or the connection's end before exchange_end() -> closed()
 *
 * nghttp2 checks what RFC 9113 demands of a message (pseudo headers, no connection headers, Content-Length against DATA); what becomes a line of
 * HTTP/1 for an instance is checked by the guard's rules in addition.
 *
 * Floods: H2_STREAMS at one time; streams that are reset are counted by nghttp2 (rapid reset) and so are acknowledgements that we owe, settings and
 * continuations; a head may have HEAD_MAX bytes after decompression, or the connection ends; frames that cost the client nothing
 * (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty DATA) have a budget a second. The body's window opens only as the taker consumes.
 *
 * nghttp2 must not be called back into while it runs: nothing is sent here, frames are collected by h2_flush() before the loop sleeps; and
 * if the connection ends meanwhile (`inside`), the session is deleted afterwards.
 */
#include "platform/h2_inside.h"

#include <stdlib.h>

#define COST_A_SECOND 10000

enum { P_METHOD = 1, P_PATH = 2, P_AUTHORITY = 4, P_SCHEME = 8 };

void h2_free_stream(struct h2_stream *st)
{
	list_del(&st->node);
	st->h2->n_streams--;
	buf_free(&st->in);
	buf_free(&st->out);
	buf_free(&st->text);
	free(st->v);
	free(st);
}

void h2_free_session(struct h2 *h)
{
	soon_drop(&h->resumed);
	while (!list_empty(&h->streams))
		h2_free_stream(list_first(&h->streams, struct h2_stream, node));
	nghttp2_session_del(h->s);
	h->c->h2 = NULL;
	free(h);
}

/* --- heads ---------------------------------------------------------------------------------------------- */

static struct h2_stream *stream_of(nghttp2_session *s, int32_t id)
{
	return nghttp2_session_get_stream_user_data(s, id);
}

static int on_begin_headers(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
	struct h2 *h = arg;
	if (f->hd.type != NGHTTP2_HEADERS || f->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	struct h2_stream *st = xcalloc(1, sizeof(*st));
	st->h2 = h;
	st->id = f->hd.stream_id;
	st->last_in = st->last_out = uv_now(loop);
	list_add_tail(&h->streams, &st->node);
	h->n_streams++;
	conn_idle(h->c, false);
	nghttp2_session_set_stream_user_data(s, st->id, st);
	return 0;
}

/* Into the stream's text; the pointer is an offset until the head is whole. */
static struct str keep(struct h2_stream *st, const uint8_t *p, size_t n)
{
	size_t at = buf_len(&st->text);
	buf_add(&st->text, (const char *)p, n);
	return (struct str){(const char *)at, n};
}

static void add_header(struct h2_stream *st, struct str name, struct str value)
{
	if (st->n_v == st->cap_v) {
		st->cap_v = st->cap_v ? 2 * st->cap_v : 16;
		st->v = xrealloc(st->v, st->cap_v * sizeof(*st->v));
	}
	st->v[st->n_v++] = (struct header){name, value};
}

static void pseudo(struct h2_stream *st, struct str name, struct str value)
{
	if (str_eq(name, ":method"))
		st->method = value, st->seen |= P_METHOD;
	else if (str_eq(name, ":path"))
		st->path = value, st->seen |= P_PATH;
	else if (str_eq(name, ":authority"))
		st->authority = value, st->seen |= P_AUTHORITY;
	else if (str_eq(name, ":scheme"))
		st->seen |= P_SCHEME;
	else
		st->refused = true; /* :protocol: extended CONNECT was not offered */
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t n,
		     const uint8_t *value, size_t n_value, uint8_t flags, void *arg)
{
	struct h2 *h = arg;
	struct h2_stream *st = stream_of(s, f->hd.stream_id);
	if (f->hd.type != NGHTTP2_HEADERS || f->headers.cat != NGHTTP2_HCAT_REQUEST || !st)
		return 0; /* trailers are not passed on */
	struct str nm = {(const char *)name, n}, v = {(const char *)value, n_value};
	if (buf_len(&st->text) + n + n_value > HEAD_MAX || st->n_v >= HEAD_HEADERS_MAX) {
		nghttp2_session_terminate_session(h->s, NGHTTP2_ENHANCE_YOUR_CALM);
		h->stopping = true;
		st->refused = true;
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	bool special = n && name[0] == ':';
	if (n > HEAD_NAME_MAX || n_value > HEAD_LINE_MAX || !guard_value(v) || (!special && !guard_token(nm)))
		st->refused = true;
	if (special)
		pseudo(st, nm, keep(st, value, n_value));
	else if (!st->refused)
		add_header(st, keep(st, name, n), keep(st, value, n_value));
	return 0;
}

static struct str real(struct h2_stream *st, struct str s)
{
	return (struct str){st->text.p + st->text.start + (size_t)s.p, s.n};
}

/* Crumbs of a cookie become one header again (RFC 9113, 8.2.3). Offsets still. */
static void join_cookies(struct h2_stream *st)
{
	unsigned first = 0, found = 0, to = 0;
	struct buf all = {0};
	for (unsigned i = 0; i < st->n_v; i++) {
		if (!str_eq(real(st, st->v[i].name), "cookie")) {
			st->v[to++] = st->v[i];
			continue;
		}
		struct str v = real(st, st->v[i].value);
		if (found++)
			buf_add(&all, "; ", 2);
		else
			first = to, st->v[to++] = st->v[i];
		buf_add(&all, v.p, v.n);
	}
	st->n_v = to;
	if (found > 1)
		st->v[first].value = keep(st, (const uint8_t *)all.p + all.start, buf_len(&all));
	buf_free(&all);
}

/* Offsets to pointers, and a Host header from :authority. false: refused. */
static bool finish_head(struct h2_stream *st)
{
	if ((st->seen & (P_METHOD | P_PATH | P_SCHEME)) != (P_METHOD | P_PATH | P_SCHEME) || st->refused)
		return false;
	join_cookies(st);
	struct str host_name = keep(st, (const uint8_t *)"host", 4);
	bool has_host = false;
	for (unsigned i = 0; i < st->n_v; i++) {
		if (!str_eq(real(st, st->v[i].name), "host"))
			continue;
		struct str v = real(st, st->v[i].value), a = real(st, st->authority);
		if (has_host || ((st->seen & P_AUTHORITY) && (v.n != a.n || strncasecmp(v.p, a.p, a.n))))
			return false;
		has_host = true;
		if (!(st->seen & P_AUTHORITY))
			st->authority = st->v[i].value, st->seen |= P_AUTHORITY;
	}
	if (!(st->seen & P_AUTHORITY))
		return false;
	if (!has_host)
		add_header(st, host_name, st->authority);
	for (unsigned i = 0; i < st->n_v; i++) {
		st->v[i].name = real(st, st->v[i].name);
		st->v[i].value = real(st, st->v[i].value);
	}
	st->method = real(st, st->method);
	st->path = real(st, st->path);
	st->authority = real(st, st->authority);
	return true;
}

static bool take_length(struct exchange *x, bool ends)
{
	struct str v = exchange_header(x, "content-length");
	x->content_length = ends ? 0 : -1;
	if (!v.p)
		return true;
	int64_t n = 0;
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return false;
		n = n * 10 + (v.p[i] - '0');
	}
	x->content_length = n;
	return v.n && v.n <= 18 && (!ends || !n);
}

/* 0, or the status with which the request is refused. */
static int make_exchange(struct h2_stream *st, bool ends)
{
	struct exchange *x = &st->x;
	struct conn *c = st->h2->c;
	struct str authority;
	if (!finish_head(st))
		return 400;
	x->method = st->method;
	x->target = st->path;
	x->n_headers = st->n_v;
	x->headers = st->v;
	if (!guard_token(x->method) || x->method.n > 64 ||
	    !guard_host(st->authority, &x->host, &x->host_port) ||
	    !guard_target(x->method, x->target, &authority, &x->path, &x->query) || authority.p)
		return 400;
	if (str_eq(x->method, "CONNECT"))
		return 405;
	for (char *p = (char *)x->host.p; p < x->host.p + x->host.n; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p |= 0x20;
	if (!take_length(x, ends))
		return 400;
	struct str expect = exchange_header(x, "expect");
	if (expect.p && !str_eq_nocase(expect, "100-continue"))
		return 417;
	x->expect_continue = expect.p && !ends;
	x->version = 20;
	x->tls = c->tls != NULL;
	memcpy(x->peer, c->peer, sizeof(x->peer));
	x->peer_port = c->peer_port;
	x->start_ns = now_ns();
	x->front = st;
	exchange_identify(x);
	return 0;
}

static void refuse(struct h2_stream *st, int status)
{
	char text[8];
	snprintf(text, sizeof(text), "%d", status);
	nghttp2_nv nv = {(uint8_t *)":status", (uint8_t *)text, 7, 3, NGHTTP2_NV_FLAG_NONE};
	st->out_ended = true;
	nghttp2_submit_response(st->h2->s, st->id, &nv, 1, NULL);
}

static void head_complete(struct h2_stream *st, bool ends)
{
	st->in_ended = ends;
	st->end_owed = true;
	int status = make_exchange(st, ends);
	if (status) {
		refuse(st, status);
		return;
	}
	st->live = true;
	http_dispatch(&st->x);
	h2_deliver(st);
}

/* --- bodies ---------------------------------------------------------------------------------------------- */

void h2_deliver(struct h2_stream *st)
{
	struct exchange *x = &st->x;
	if (st->live && !st->paused && buf_len(&st->in)) {
		struct buf b = st->in;
		size_t n = buf_len(&b);
		st->in = (struct buf){0};
		if (x->handler && x->handler->body)
			x->handler->body(x, b.p + b.start, n);
		buf_free(&b);
		nghttp2_session_consume(st->h2->s, st->id, n);
	}
	if (st->live && !st->paused && st->in_ended && st->end_owed && !buf_len(&st->in)) {
		st->end_owed = false;
		if (x->handler && x->handler->body_end)
			x->handler->body_end(x);
	}
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *arg)
{
	struct h2_stream *st = stream_of(s, id);
	if (!st || !st->live) {
		nghttp2_session_consume(s, id, n);
		return 0;
	}
	st->last_in = uv_now(loop);
	if (st->paused || buf_len(&st->in)) {
		buf_add(&st->in, (const char *)data, n); /* the window bounds it */
		return 0;
	}
	if (st->x.handler && st->x.handler->body)
		st->x.handler->body(&st->x, (const char *)data, n);
	nghttp2_session_consume(s, id, n);
	return 0;
}

/* What a frame costs us beyond its bytes. */
static unsigned cost_of(const nghttp2_frame_hd *f)
{
	switch (f->type) {
	case NGHTTP2_PING:
	case NGHTTP2_SETTINGS:
	case NGHTTP2_PRIORITY:
	case NGHTTP2_RST_STREAM:
		return 20;
	case NGHTTP2_WINDOW_UPDATE:
		return 1;
	case NGHTTP2_DATA:
		return f->length < 16 && !(f->flags & NGHTTP2_FLAG_END_STREAM) ? 5 : 0;
	}
	return 0;
}

/* Each frame, also of streams that have ended and those that nghttp2 passes over. */
static int on_begin_frame(nghttp2_session *s, const nghttp2_frame_hd *f, void *arg)
{
	struct h2 *h = arg;
	uint64_t second = uv_now(loop) / 1000;
	if (h->second != second) {
		h->second = second;
		h->cost = 0;
	}
	h->cost += cost_of(f);
	if (h->cost > COST_A_SECOND && !h->stopping) {
		plog("info", NULL, "client %s: flood of HTTP/2 frames: connection ended", h->c->peer);
		h->stopping = true;
		nghttp2_session_terminate_session(h->s, NGHTTP2_ENHANCE_YOUR_CALM);
	}
	return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
	struct h2_stream *st = f->hd.stream_id ? stream_of(s, f->hd.stream_id) : NULL;
	if (!st)
		return 0;
	bool ends = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
	if (f->hd.type == NGHTTP2_HEADERS && f->headers.cat == NGHTTP2_HCAT_REQUEST) {
		head_complete(st, ends);
	} else if (ends && (f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS)) {
		st->in_ended = true;
		h2_deliver(st);
	}
	return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t error, void *arg)
{
	struct h2 *h = arg;
	struct h2_stream *st = stream_of(s, id);
	if (!st)
		return 0;
	nghttp2_session_set_stream_user_data(s, id, NULL);
	if (st->live && st->no_body && st->responded && !error) {
		st->gone = true; /* freed by h2_end() */
		return 0;
	}
	if (st->live) {
		st->live = false;
		if (st->x.handler && st->x.handler->closed)
			st->x.handler->closed(&st->x);
	}
	h2_free_stream(st);
	if (!h->n_streams) {
		h->c->idle_since = uv_now(loop);
		conn_idle(h->c, true);
	}
	return 0;
}

/* --- the session ------------------------------------------------------------------------------------------ */

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;

static void prepare(void)
{
	if (callbacks)
		return;
	if (nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&options))
		abort();
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	nghttp2_option_set_no_auto_window_update(options, 1);
	nghttp2_option_set_max_outbound_ack(options, 200);
	nghttp2_option_set_max_settings(options, 32);
	nghttp2_option_set_max_continuations(options, 8);
	nghttp2_option_set_stream_reset_rate_limit(options, 200, 20);
	nghttp2_option_set_no_closed_streams(options, 1);
}

void h2_start(struct conn *c)
{
	prepare();
	struct h2 *h = xcalloc(1, sizeof(*h));
	h->c = c;
	list_init(&h->streams);
	c->h2 = h;
	if (nghttp2_session_server_new2(&h->s, callbacks, h, options))
		abort();
	nghttp2_settings_entry iv[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, H2_STREAMS},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_WINDOW},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEAD_MAX},
	};
	nghttp2_submit_settings(h->s, NGHTTP2_FLAG_NONE, iv, sizeof(iv) / sizeof(iv[0]));
	nghttp2_session_set_local_window_size(h->s, NGHTTP2_FLAG_NONE, 0, H2_CONN_WINDOW);
	c->head_since = 0;
	c->idle_since = uv_now(loop);
	conn_mark(c);
}

void h2_input(struct conn *c, const char *data, size_t n)
{
	struct h2 *h = c->h2;
	if (h->inside)
		return;
	h->inside = true;
	ssize_t r = nghttp2_session_mem_recv(h->s, (const uint8_t *)data, n);
	h->inside = false;
	if (h->doomed) {
		h2_free_session(h);
		return;
	}
	if (r < 0) {
		plog("debug", NULL, "client %s: HTTP/2: %s", c->peer, nghttp2_strerror((int)r));
		conn_cut(c);
		return;
	}
	conn_mark(c);
}

bool h2_flush(struct conn *c)
{
	struct h2 *h = c->h2;
	if (!h || h->inside)
		return false;
	bool some = false;
	h->inside = true;
	while (!h->doomed && conn_waiting(c) < 2 * BUF_SIZE) {
		const uint8_t *p;
		ssize_t n = nghttp2_session_mem_send(h->s, &p);
		if (n <= 0) {
			if (n < 0)
				c->out.failed = true;
			break;
		}
		conn_put(c, (const char *)p, (size_t)n);
		some = true;
	}
	h->inside = false;
	if (h->doomed) {
		h2_free_session(h);
		return false;
	}
	return some;
}

/* Room again: those streams that were told to stop. And the end, when the session is done. */
void h2_writable(struct conn *c)
{
	struct h2 *h = c->h2;
	if (!h || h->inside)
		return;
	if (!nghttp2_session_want_read(h->s) && !nghttp2_session_want_write(h->s)) {
		conn_finish(c, true);
		return;
	}
	h->inside = true; /* the list must not change under us */
	list_for_each_safe (it, &h->streams) {
		struct h2_stream *st = list_entry(it, struct h2_stream, node);
		if (!st->waiting_room || buf_len(&st->out) > H2_STREAM_HIGH / 2)
			continue;
		st->waiting_room = false;
		if (st->live && st->x.handler && st->x.handler->drained)
			st->x.handler->drained(&st->x);
	}
	h->inside = false;
	if (h->doomed)
		h2_free_session(h);
}

size_t h2_waiting(const struct conn *c)
{
	size_t n = 0;
	if (c->h2)
		list_for_each (it, &c->h2->streams)
			n += buf_len(&list_entry(it, struct h2_stream, node)->out);
	return n;
}

void h2_gone(struct conn *c)
{
	struct h2 *h = c->h2;
	if (!h)
		return;
	h->doomed = true;
	list_for_each (it, &h->streams) {
		struct h2_stream *st = list_entry(it, struct h2_stream, node);
		if (!st->live)
			continue;
		st->live = false;
		if (st->x.handler && st->x.handler->closed)
			st->x.handler->closed(&st->x);
	}
	if (!h->inside)
		h2_free_session(h);
}

void h2_stop(struct conn *c)
{
	if (c->h2 && !c->h2->stopping) {
		c->h2->stopping = true;
		nghttp2_submit_goaway(c->h2->s, NGHTTP2_FLAG_NONE,
				      nghttp2_session_get_last_proc_stream_id(c->h2->s), NGHTTP2_NO_ERROR,
				      NULL, 0);
		conn_mark(c);
		conn_timeout(c, 1);
	}
}

/* Streams whose client is silent: a body that does not come, an answer for which no window is opened. */
static void reset_stalled(struct h2 *h, uint64_t now)
{
	list_for_each (it, &h->streams) {
		struct h2_stream *st = list_entry(it, struct h2_stream, node);
		bool in = st->live && !st->in_ended && !st->paused && now - st->last_in > BODY_TIMEOUT_MS &&
			  !st->responded;
		bool out = buf_len(&st->out) && now - st->last_out > WRITE_TIMEOUT_MS;
		if (in || out)
			nghttp2_submit_rst_stream(h->s, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_CANCEL);
	}
	conn_mark(h->c);
}

uint64_t h2_timeout(struct conn *c)
{
	struct h2 *h = c->h2;
	uint64_t now = uv_now(loop);
	if (h->n_streams) {
		reset_stalled(h, now);
		return 5000;
	}
	if (h->stopping)
		return 0;
	if (now - c->idle_since < IDLE_TIMEOUT_MS)
		return IDLE_TIMEOUT_MS - (now - c->idle_since);
	h2_stop(c);
	return 1000;
}
