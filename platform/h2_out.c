/* SPDX-License-Identifier: ISC */
/*
 * Answers by HTTP/2. What a taker writes waits in the stream's own buffer, from which nghttp2 takes it as the client's windows and the other
 * streams allow; a taker that runs ahead is told to stop at H2_STREAM_HIGH. Nothing is sent from here: see h2.c.
 */
#include "platform/h2_inside.h"

#include <stdio.h>
#include <stdlib.h>

static ssize_t give(nghttp2_session *s, int32_t id, uint8_t *to, size_t n, uint32_t *flags,
		    nghttp2_data_source *source, void *arg)
{
	struct h2_stream *st = source->ptr;
	size_t have = buf_len(&st->out), k = have < n ? have : n;
	if (k) {
		memcpy(to, st->out.p + st->out.start, k);
		buf_take(&st->out, k);
		st->last_out = uv_now(loop);
	}
	if (k == have && st->out_ended) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		return (ssize_t)k;
	}
	if (k)
		return (ssize_t)k;
	st->deferred = true;
	return NGHTTP2_ERR_DEFERRED;
}

static nghttp2_nv nv_of(struct str name, struct str value)
{
	return (nghttp2_nv){(uint8_t *)name.p, (uint8_t *)value.p, name.n, value.n, NGHTTP2_NV_FLAG_NONE};
}

static bool connection_header(struct str n)
{
	return str_eq_nocase(n, "connection") || str_eq_nocase(n, "upgrade") ||
	       str_eq_nocase(n, "keep-alive") || str_eq_nocase(n, "transfer-encoding") ||
	       str_eq_nocase(n, "proxy-connection");
}

void h2_respond(struct exchange *x, int status, const struct header *headers, unsigned n, int64_t length)
{
	struct h2_stream *st = x->front;
	if (!st->live || st->responded)
		return;
	char number[8], digits[24];
	snprintf(number, sizeof(number), "%d", status);
	nghttp2_nv *nv = xcalloc(n + 3, sizeof(*nv));
	size_t k = 0;
	bool dated = status < 200;
	nv[k++] = nv_of((struct str)STR(":status"), (struct str){number, 3});
	for (unsigned i = 0; i < n; i++) {
		if (connection_header(headers[i].name))
			continue;
		dated |= str_eq_nocase(headers[i].name, "date");
		nv[k++] = nv_of(headers[i].name, headers[i].value);
	}
	if (!dated)
		nv[k++] = nv_of((struct str)STR("date"), (struct str){http_date(), 29});
	if (status < 200) {
		nghttp2_submit_headers(st->h2->s, NGHTTP2_FLAG_NONE, st->id, NULL, nv, k, NULL);
	} else {
		if (length >= 0 && status != 204 && !(status == 304 && !length))
			nv[k++] = nv_of((struct str)STR("content-length"),
					(struct str){digits, put_dec(digits, (uint64_t)length)});
		x->status = status;
		st->responded = true;
		st->promised = length;
		st->no_body = status == 204 || status == 304 || !length || str_eq(x->method, "HEAD");
		nghttp2_data_provider p = {.source.ptr = st, .read_callback = give};
		nghttp2_submit_response(st->h2->s, st->id, nv, k, st->no_body ? NULL : &p);
	}
	free(nv);
	conn_mark(st->h2->c);
}

static void wake(struct h2_stream *st)
{
	if (st->deferred && !st->gone) {
		st->deferred = false;
		nghttp2_session_resume_data(st->h2->s, st->id);
	}
	conn_mark(st->h2->c);
}

bool h2_write(struct exchange *x, const char *data, size_t n)
{
	struct h2_stream *st = x->front;
	if (!st->live || !st->responded || st->no_body || !n)
		return true;
	if (st->promised >= 0 && n > (uint64_t)st->promised - x->bytes_out)
		n = (size_t)((uint64_t)st->promised - x->bytes_out);
	if (!buf_len(&st->out))
		st->last_out = uv_now(loop);
	buf_add(&st->out, data, n);
	x->bytes_out += n;
	wake(st);
	if (buf_len(&st->out) < H2_STREAM_HIGH)
		return true;
	st->waiting_room = true;
	return false;
}

void h2_end(struct exchange *x)
{
	struct h2_stream *st = x->front;
	struct h2 *h = st->h2;
	if (!st->live)
		return;
	st->live = false;
	st->out_ended = true;
	if (st->gone) {
		h2_free_stream(st);
		if (!h->n_streams && !h->doomed) {
			h->c->idle_since = uv_now(loop);
			conn_idle(h->c, true);
		}
		return;
	}
	bool cut = !st->responded ||
		   (!st->no_body && st->promised >= 0 && x->bytes_out < (uint64_t)st->promised);
	if (cut)
		nghttp2_submit_rst_stream(h->s, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_INTERNAL_ERROR);
	/* a body that nobody wants: its window is never opened again; what was held is given back */
	if (buf_len(&st->in)) {
		nghttp2_session_consume(h->s, st->id, buf_len(&st->in));
		buf_free(&st->in);
	}
	wake(st);
}

void h2_abort(struct exchange *x)
{
	struct h2_stream *st = x->front;
	if (!st->live)
		return;
	st->live = false;
	if (st->gone) {
		h2_free_stream(st);
		return;
	}
	nghttp2_submit_rst_stream(st->h2->s, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_INTERNAL_ERROR);
	conn_mark(st->h2->c);
}

static void deliver_resumed(struct soon *s)
{
	struct h2 *h = container_of(s, struct h2, resumed);
	h->inside = true;
	list_for_each_safe (it, &h->streams)
		h2_deliver(list_entry(it, struct h2_stream, node));
	h->inside = false;
	if (h->doomed)
		h2_free_session(h);
	else
		conn_mark(h->c);
}

void h2_pause(struct exchange *x, bool on)
{
	struct h2_stream *st = x->front;
	st->paused = on;
	st->last_in = uv_now(loop);
	if (!on && (buf_len(&st->in) || st->in_ended))
		soon_add(&st->h2->resumed, deliver_resumed);
}

void h2_continue(struct exchange *x)
{
	struct h2_stream *st = x->front;
	if (!x->expect_continue || st->responded || !st->live)
		return;
	x->expect_continue = false;
	nghttp2_nv nv = nv_of((struct str)STR(":status"), (struct str)STR("100"));
	nghttp2_submit_headers(st->h2->s, NGHTTP2_FLAG_NONE, st->id, NULL, &nv, 1, NULL);
	conn_mark(st->h2->c);
}
