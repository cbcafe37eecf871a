/* SPDX-License-Identifier: ISC */
/*
 * HTTP/1.0 and 1.1 of clients.
 *
 *   HEAD --head complete--> BODY --body complete--> WAIT --exchange_end()--> HEAD
 *                             \--exchange_end() before: the rest is read and thrown away, or the connection closes
 *   WAIT/BODY --exchange_tunnel()--> TUNNEL --> closed
 *
 * A head is first looked at by guard.c, which refuses what can be read in two ways, and takes it to pieces; then llhttp reads the same bytes, and
 * where the message ends must be what the guard found. Chunked bodies likewise: the guard walks over the framing, llhttp gives the data.
 *
 * One exchange at a time: requests that a client sends ahead wait in c->in (at most CONN_HELD, then we stop reading) and are answered in
 * order; while the client does not take the answers to those before (SENDER_HIGH), the next one is not begun. The head's buffer is taken
 * from the connection while its exchange lives, so its strings never move.
 *
 * Callbacks to takers come from reading, writing and time-outs only, never from inside of an exchange_*() call.
 */
#include "platform/conn.h"

#include <assert.h>

static int on_message_complete(llhttp_t *p)
{
	struct conn *c = p->data;
	c->h1.ended = true;
	return HPE_PAUSED; /* not one byte further: the next message gets a parser of its own */
}

static int on_headers_complete(llhttp_t *p)
{
	p->upgrade = 0; /* whether it is one is our answer's affair */
	return 0;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
	struct conn *c = p->data;
	struct h1 *h = &c->h1;
	h->body_in += n;
	if (h->live && h->x.handler && h->x.handler->body)
		h->x.handler->body(&h->x, at, n);
	return 0;
}

static const llhttp_settings_t settings = {
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

void h1_start(struct conn *c)
{
	c->h1.state = H1_HEAD;
}

static void update_reading(struct conn *c)
{
	struct h1 *h = &c->h1;
	if (c->closing || c->finishing)
		return;
	size_t held = buf_len(&c->in);
	bool was = c->reading;
	conn_reading(c, (h->state == H1_HEAD && !h->held_back) || (h->state == H1_TUNNEL && !h->paused) ||
				(h->state == H1_BODY && !h->paused) ||
				(h->state != H1_TUNNEL && held < CONN_HELD));
	if (was && !c->reading)
		conn_timeout(c, PAUSED_LOOK_MS);
}

/* Refuse a request that never became an exchange. */
static void refuse(struct conn *c, int status, const char *why)
{
	char body[128], text[512];
	int n = snprintf(body, sizeof(body), "%d %s: %s\n", status, http_reason(status), why);
	int len = snprintf(text, sizeof(text),
			   "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
			   "Connection: close\r\n\r\n%s",
			   status, http_reason(status), http_date(), n, body);
	plog("debug", NULL, "client %s: request refused: %d %s", c->peer, status, why);
	conn_put(c, text, (size_t)len);
	conn_finish(c, true);
}

/* The client broke the framing of a body, or was too slow, while its exchange was on. */
static void fault(struct conn *c, int status, const char *why)
{
	struct h1 *h = &c->h1;
	bool responded = h->responded;
	if (h->live) {
		h->live = false;
		if (h->x.handler && h->x.handler->closed)
			h->x.handler->closed(&h->x);
	}
	if (responded)
		conn_cut(c);
	else
		refuse(c, status, why);
}

/* An Upgrade that we would pass on: not to HTTP/2 in the clear, nor to TLS, which are not the app's to speak. */
static bool upgradable(const struct head *d)
{
	if (d->version != 11 || !d->connection_upgrade || !d->upgrade.n || d->chunked || d->length)
		return false;
	for (size_t i = 0; i < d->upgrade.n; i++)
		if (d->upgrade.p[i] == ',')
			return false;
	return !str_eq_nocase(d->upgrade, "h2c") && !str_eq_nocase(d->upgrade, "HTTP/2.0") &&
	       strncasecmp(d->upgrade.p, "TLS/", d->upgrade.n < 4 ? d->upgrade.n : 4) != 0;
}

static void lower(struct str s)
{
	char *p = (char *)s.p; /* it lies in our own buffer */
	for (size_t i = 0; i < s.n; i++)
		if (p[i] >= 'A' && p[i] <= 'Z')
			p[i] |= 0x20;
}

/* Fields of the exchange from the head. 0, or the status with which to refuse it. */
static int make_exchange(struct conn *c, const char **why)
{
	struct h1 *h = &c->h1;
	struct exchange *x = &h->x;
	struct head *d = &h->head;
	struct str authority;
	*why = "bad Host";
	if (!guard_host(d->host, &x->host, &x->host_port))
		return 400;
	*why = "bad target";
	if (!guard_target(d->method, d->target, &authority, &x->path, &x->query))
		return 400;
	*why = "target and Host differ";
	if (authority.p && (authority.n != d->host.n || strncasecmp(authority.p, d->host.p, authority.n)))
		return 400;
	lower(x->host);
	x->method = d->method;
	x->target = d->target;
	x->n_headers = d->n_headers;
	x->headers = d->headers;
	x->version = d->version;
	x->tls = c->tls != NULL;
	x->upgrade = upgradable(d);
	x->expect_continue = d->expect_continue && (d->chunked || d->length);
	x->content_length = d->chunked ? -1 : (int64_t)d->length;
	memcpy(x->peer, c->peer, sizeof(x->peer));
	x->peer_port = c->peer_port;
	x->start_ns = now_ns();
	x->handler = NULL;
	x->user = NULL;
	x->status = 0;
	x->bytes_out = 0;
	x->front = c;
	exchange_identify(x);
	return 0;
}

/* The second opinion. */
static bool parser_agrees(struct conn *c, const char *p, size_t n)
{
	struct h1 *h = &c->h1;
	struct head *d = &h->head;
	llhttp_init(&h->parser, HTTP_REQUEST, &settings);
	h->parser.data = c;
	h->ended = false;
	llhttp_errno_t err = llhttp_execute(&h->parser, p, n);
	bool body = d->chunked || d->length;
	if (!body)
		return err == HPE_PAUSED && h->ended && llhttp_get_error_pos(&h->parser) == p + n;
	return err == HPE_OK && !h->ended && !!(h->parser.flags & F_CHUNKED) == d->chunked &&
	       (d->chunked || h->parser.content_length == d->length);
}

static void deliver_end(struct conn *c)
{
	struct h1 *h = &c->h1;
	if (!h->live || !h->body_end_owed || !h->body_complete || h->paused)
		return;
	h->body_end_owed = false;
	if (h->x.handler && h->x.handler->body_end)
		h->x.handler->body_end(&h->x);
}

/* Its buffer becomes the head's; what follows the head goes into a new one. */
static void detach_head(struct conn *c, size_t len)
{
	struct h1 *h = &c->h1;
	struct buf *b = &h->head_buf;
	*b = c->in;
	c->in = (struct buf){0};
	size_t rest = buf_len(b) - len;
	if (rest) {
		b->end -= (uint32_t)rest;
		buf_add(&c->in, b->p + b->end, rest);
	}
}

/* true: go on with what there is. */
static bool take_head(struct conn *c)
{
	struct h1 *h = &c->h1;
	if (!buf_len(&c->in))
		return false;
	h->held_back = conn_waiting(c) > SENDER_HIGH;
	if (h->held_back) /* it asks, and does not take what it gets: h1_writable() goes on */
		return false;
	const char *p = c->in.p + c->in.start, *why = "bad line end or line too long";
	long len = guard_find_end(p, buf_len(&c->in), &h->scanned, HEAD_LINE_MAX, HEAD_MAX);
	if (!len) {
		if (!c->head_since) {
			c->head_since = uv_now(loop);
			conn_timeout(c, HEAD_TIMEOUT_MS);
		}
		return false;
	}
	int status = len < 0 ? (int)-len : guard_request(p, (size_t)len, &h->head, &why);
	if (!status)
		status = make_exchange(c, &why);
	if (!status && !parser_agrees(c, p, (size_t)len)) {
		why = llhttp_get_error_reason(&h->parser);
		why = why && *why ? why : "not understood";
		status = llhttp_get_errno(&h->parser) == HPE_INVALID_METHOD ? 501 : 400;
	}
	if (status) {
		refuse(c, status, why);
		return false;
	}
	detach_head(c, (size_t)len);
	struct head *d = &h->head;
	h->live = true;
	h->responded = h->chunked = h->no_body = h->paused = h->waiting_room = h->cut_at_end = false;
	h->keep_alive = (d->version == 11 ? !d->close : d->keep_alive && !d->close) && !conns_stopping;
	h->chunks = (struct chunk_guard){0};
	h->body_in = 0;
	h->body_complete = !d->chunked && !d->length;
	h->body_end_owed = true;
	h->state = h->body_complete ? H1_WAIT : H1_BODY;
	c->head_since = 0;
	if (!h->body_complete) {
		c->body_since = c->last_in = uv_now(loop);
		conn_timeout(c, BODY_GRACE_MS);
	}
	conn_idle(c, false);
	http_dispatch(&h->x);
	deliver_end(c);
	return true;
}

/* Give bytes to guard and parser; how many were the body's, or -1 when the connection is done with. */
static long feed(struct conn *c, const char *data, size_t n)
{
	struct h1 *h = &c->h1;
	size_t k = n;
	bool end;
	if (h->head.chunked) {
		long g = guard_chunks(&h->chunks, data, n);
		if (g < 0) {
			fault(c, 400, "bad chunk");
			return -1;
		}
		k = (size_t)g;
		end = h->chunks.state == CHUNKS_END;
	} else {
		uint64_t left = h->head.length - h->body_in;
		if (k > left)
			k = (size_t)left;
		end = k == left;
	}
	c->last_in = uv_now(loop);
	llhttp_errno_t err = llhttp_execute(&h->parser, data, k);
	if (c->closing || c->finishing)
		return -1;
	if (end ? err != HPE_PAUSED || !h->ended || llhttp_get_error_pos(&h->parser) != data + k
		: err != HPE_OK) {
		fault(c, 400, "bad body");
		return -1;
	}
	return (long)k;
}

static void next_request(struct conn *c)
{
	struct h1 *h = &c->h1;
	buf_free(&h->head_buf);
	h->state = H1_HEAD;
	h->scanned = 0;
	c->idle_since = uv_now(loop);
	conn_idle(c, true);
	if (buf_len(&c->in))
		conn_mark(c);
}

/* data: a piece of the body and maybe more. */
static bool body_bytes(struct conn *c, const char *data, size_t n)
{
	struct h1 *h = &c->h1;
	long k = feed(c, data, n);
	if (k < 0)
		return false;
	if ((size_t)k < n)
		buf_add(&c->in, data + k, n - (size_t)k);
	if (!h->ended || h->state != H1_BODY)
		return true;
	h->body_complete = true;
	h->state = H1_WAIT;
	if (h->live)
		deliver_end(c);
	else
		next_request(c);
	return true;
}

/* What lies in c->in for the body or the tunnel. It is taken out first, since callbacks may end the connection. */
static bool take_held(struct conn *c)
{
	struct h1 *h = &c->h1;
	if (h->paused || !buf_len(&c->in))
		return false;
	struct buf b = c->in;
	c->in = (struct buf){0};
	bool on = true;
	if (h->state == H1_BODY)
		on = body_bytes(c, b.p + b.start, buf_len(&b));
	else if (h->live && h->x.handler->body)
		h->x.handler->body(&h->x, b.p + b.start, buf_len(&b));
	buf_free(&b);
	return on;
}

void h1_process(struct conn *c)
{
	struct h1 *h = &c->h1;
	if (h->busy)
		return;
	h->busy = true;
	bool on = true;
	while (on && !c->closing && !c->finishing) {
		if (h->state == H1_HEAD) {
			on = take_head(c);
		} else if (h->state == H1_WAIT) {
			deliver_end(c);
			on = h->state != H1_WAIT;
		} else {
			on = take_held(c);
		}
	}
	h->busy = false;
	update_reading(c);
}

bool h1_wants_in(const struct conn *c)
{
	const struct h1 *h = &c->h1;
	return h->state == H1_HEAD || h->state == H1_WAIT || h->paused || buf_len(&c->in);
}

void h1_input(struct conn *c, const char *data, size_t n)
{
	struct h1 *h = &c->h1;
	if (data && h1_wants_in(c)) {
		buf_add(&c->in, data, n);
		data = NULL;
	}
	if (data && h->state == H1_BODY)
		body_bytes(c, data, n);
	else if (data && h->state == H1_TUNNEL && h->live && h->x.handler->body)
		h->x.handler->body(&h->x, data, n);
	h1_process(c);
}

void h1_gone(struct conn *c)
{
	struct h1 *h = &c->h1;
	if (h->live) {
		h->live = false;
		if (h->x.handler && h->x.handler->closed)
			h->x.handler->closed(&h->x);
	}
	buf_free(&h->head_buf);
	head_free(&h->head);
}

void h1_writable(struct conn *c)
{
	struct h1 *h = &c->h1;
	if (conn_waiting(c) > SENDER_HIGH / 2)
		return;
	if (h->held_back) {
		h->held_back = false;
		c->idle_since = uv_now(loop);
		conn_mark(c);
	}
	if (!h->waiting_room)
		return;
	h->waiting_room = false;
	if (h->live && h->x.handler && h->x.handler->drained)
		h->x.handler->drained(&h->x);
}

/* Too slow a body: nothing for BODY_TIMEOUT_MS, or of a known length and under BODY_RATE on average. */
static bool body_too_slow(struct conn *c, uint64_t now)
{
	struct h1 *h = &c->h1;
	if (now - c->last_in >= BODY_TIMEOUT_MS)
		return true;
	uint64_t grace = BODY_GRACE_MS + h->body_in * 1000 / BODY_RATE;
	return !h->head.chunked && now - c->body_since > grace;
}

uint64_t h1_timeout(struct conn *c)
{
	struct h1 *h = &c->h1;
	uint64_t now = uv_now(loop);
	if (h->state == H1_HEAD && h->held_back)
		return STALL_LOOK_MS; /* conn.c sees whether it takes anything */
	if (h->state == H1_HEAD) {
		uint64_t from = c->head_since ? c->head_since : c->idle_since;
		uint64_t limit = c->head_since ? HEAD_TIMEOUT_MS : IDLE_TIMEOUT_MS;
		if (now - from < limit)
			return limit - (now - from);
		if (c->head_since && buf_len(&c->in))
			refuse(c, 408, "the head took too long");
		return 0;
	}
	if (h->state == H1_BODY && !h->paused && body_too_slow(c, now)) {
		fault(c, 408, "the body took too long");
		return 0;
	}
	return !c->reading ? PAUSED_LOOK_MS : h->state == H1_BODY ? 5000 : IDLE_TIMEOUT_MS;
}

static struct buf *out_of(struct conn *c)
{
	return c->tls ? &c->plain : &c->out.out;
}

static bool is_date(struct str s)
{
	return s.n == 4 && str_eq_nocase(s, "date");
}

static void put_status(struct buf *o, int status, const struct header *v, unsigned n)
{
	const char *reason = http_reason(status);
	size_t need = 256 + strlen(reason);
	for (unsigned i = 0; i < n; i++)
		need += v[i].name.n + v[i].value.n + 4;
	buf_room(o, need);
	BUF_LIT(o, "HTTP/1.1 ");
	o->end += (uint32_t)put_dec(o->p + o->end, (unsigned)status);
	BUF_LIT(o, " ");
	buf_lit_(o, reason, strlen(reason));
	BUF_LIT(o, "\r\n");
	bool dated = status < 200;
	for (unsigned i = 0; i < n; i++) {
		dated |= is_date(v[i].name);
		buf_lit_(o, v[i].name.p, v[i].name.n);
		BUF_LIT(o, ": ");
		buf_lit_(o, v[i].value.p, v[i].value.n);
		BUF_LIT(o, "\r\n");
	}
	if (!dated) {
		BUF_LIT(o, "Date: ");
		buf_lit_(o, http_date(), 29);
		BUF_LIT(o, "\r\n");
	}
}

void h1_respond(struct exchange *x, int status, const struct header *headers, unsigned n, int64_t length)
{
	struct conn *c = x->front;
	struct h1 *h = &c->h1;
	if (c->closing || h->responded)
		return;
	struct buf *o = out_of(c);
	put_status(o, status, headers, n);
	if (status < 200 && status != 101) {
		BUF_LIT(o, "\r\n");
		conn_flush(c);
		conn_mark(c);
		return;
	}
	x->status = status;
	h->responded = true;
	h->promised = length;
	h->no_body = status < 200 || status == 204 || status == 304 || str_eq(x->method, "HEAD");
	if (status == 101) {
		conn_mark(c);
		BUF_LIT(o, "\r\n");
		return;
	}
	if (length >= 0 && status != 204 && !(status == 304 && !length)) {
		BUF_LIT(o, "Content-Length: ");
		o->end += (uint32_t)put_dec(o->p + o->end, (uint64_t)length);
		BUF_LIT(o, "\r\n");
	} else if (!h->no_body && x->version == 11) {
		h->chunked = true;
		BUF_LIT(o, "Transfer-Encoding: chunked\r\n");
	} else if (!h->no_body) {
		h->keep_alive = false;
	}
	/* bytes after an upgrade that was not accepted: nobody knows what they are */
	if ((x->upgrade && buf_len(&c->in)) || conns_stopping)
		h->keep_alive = false;
	if (!h->keep_alive)
		BUF_LIT(o, "Connection: close\r\n");
	else if (x->version == 10)
		BUF_LIT(o, "Connection: keep-alive\r\n");
	BUF_LIT(o, "\r\n");
	conn_mark(c);
}

bool h1_write(struct exchange *x, const char *data, size_t n)
{
	struct conn *c = x->front;
	struct h1 *h = &c->h1;
	if (c->closing || !n)
		return true;
	if (h->state == H1_TUNNEL) {
		x->bytes_out += n;
		conn_put(c, data, n);
		conn_flush(c);
	} else if (!h->responded || h->no_body) {
		return true;
	} else if (h->chunked) {
		char head[20];
		size_t k = put_hex(head, n);
		head[k++] = '\r';
		head[k++] = '\n';
		conn_put(c, head, k);
		conn_put(c, data, n);
		conn_put(c, "\r\n", 2);
		x->bytes_out += n;
	} else {
		if (h->promised >= 0 && n > (uint64_t)h->promised - x->bytes_out) {
			n = (size_t)((uint64_t)h->promised - x->bytes_out);
			h->cut_at_end = true; /* more than was said */
		}
		conn_put(c, data, n);
		x->bytes_out += n;
		if (h->promised >= 0 && x->bytes_out == (uint64_t)h->promised)
			conn_flush(c);
	}
	if (conn_waiting(c) < SENDER_HIGH)
		return true;
	h->waiting_room = true;
	return false;
}

void h1_end(struct exchange *x)
{
	struct conn *c = x->front;
	struct h1 *h = &c->h1;
	if (c->closing || !h->live)
		return;
	h->live = false;
	if (!h->responded || h->state == H1_TUNNEL) {
		conn_finish(c, false);
		return;
	}
	if (h->chunked && !h->no_body)
		conn_put(c, "0\r\n\r\n", 5);
	conn_flush(c);
	bool cut = h->cut_at_end || (!h->no_body && h->promised >= 0 && x->bytes_out < (uint64_t)h->promised);
	bool rest_is_short =
		!h->head.chunked && !x->expect_continue && h->head.length - h->body_in <= CONN_HELD;
	bool held = x->upgrade && buf_len(&c->in);
	if (cut || !h->keep_alive || conns_stopping || held || (!h->body_complete && !rest_is_short)) {
		conn_finish(c, !h->body_complete || buf_len(&c->in));
	} else if (h->body_complete) {
		next_request(c);
	} else {
		h->paused = false;
		conn_mark(c);
	}
}

void h1_abort(struct exchange *x)
{
	struct conn *c = x->front;
	struct h1 *h = &c->h1;
	if (c->closing || !h->live)
		return;
	h->live = false;
	/* what is on its way may still arrive; the end must be seen as none: by the framing, or where that cannot tell, by a reset */
	if (h->responded && !h->chunked && h->promised < 0 && !h->no_body)
		conn_reset(c);
	else
		conn_finish(c, false);
}

void h1_pause(struct exchange *x, bool on)
{
	struct conn *c = x->front;
	struct h1 *h = &c->h1;
	if (h->paused == on)
		return;
	h->paused = on;
	if (!on) {
		c->last_in = c->body_since = uv_now(loop); /* its silence was ours */
		conn_mark(c);
	} else if (!h->busy) {
		update_reading(c);
	}
}

void h1_continue(struct exchange *x)
{
	struct conn *c = x->front;
	if (!x->expect_continue || c->h1.responded || c->closing)
		return;
	x->expect_continue = false;
	if (c->h1.body_in || c->h1.body_complete || buf_len(&c->in))
		return; /* it did not wait */
	conn_put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	conn_flush(c);
}

void h1_tunnel(struct exchange *x)
{
	struct conn *c = x->front;
	c->h1.state = H1_TUNNEL;
	c->h1.keep_alive = false;
	conn_mark(c);
}
