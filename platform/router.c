/* SPDX-License-Identifier: ISC */
/*
 * The router: from an exchange to an instance of its app and back.
 *
 *   WAITING --sched_acquire() has one--> CONNECTING --connected--> SENT --head of the answer--> ANSWERING --its end--> done
 *                                                                    \--101--> TUNNEL --either side closes--> done
 *
 * The client's body is held back (exchange_pause()) until there is a connection, and passed on as it comes; each side is stopped while
 * the other does not take what it sends. An instance that was acquired is released once, in end_rq(), whatever happened.
 *
 * Sent again on another connection, at most TRIES times, is only a request that the instance cannot have acted on: the connection had been
 * kept from an earlier request and ended without a byte of an answer, no byte of a body was passed on, and the method is idempotent or
 * the kernel refused to take the request.
 *
 * Time-outs are the app's: connect; first byte (counted anew while the body moves); then idle, either direction. Ends and their codes:
 * the client goes H27; the instance closes before an answer H13, within it H18; see pages.c for all. Each request makes one
 * line (router_log.c) and is counted (metrics_request()).
 */
#include "platform/router_inside.h"

#include <errno.h>
#include <stdlib.h>

#define TRIES	     3
#define RETRY_MS     20 /* while the instance's backlog of connections is full */
#define CONTINUE_MS  1000 /* then a client that expects 100-continue may send, whatever the app thinks of it */
#define INTERIMS_MAX 32 /* answers before the answer */
#define MS(ns)	     ((ns) / 1000000)

static struct rq *spare;
static const struct exchange_handler handler;

static void send_request(struct rq *r, bool fresh);
static void acquired(void *arg, const struct sched_result *res);
static void timeout(struct wheel_timer *t);

static struct rq *new_rq(void)
{
	struct rq *r = spare;
	if (r) {
		spare = (struct rq *)r->x;
		memset(r, 0, sizeof(*r));
		return r;
	}
	return xcalloc(1, sizeof(*r));
}

static void free_rq(struct rq *r)
{
	r->x = (struct exchange *)spare;
	spare = r;
}

/* Its app, unless that was destroyed meanwhile. */
static struct app *rq_app(const struct rq *r)
{
	return r->inst ? r->inst->app : r->app;
}

static const struct limits *limits_of(const struct rq *r)
{
	struct app *a = rq_app(r);
	return a ? app_limits(a) : &config.limits;
}

/* Let go of everything but the exchange. */
static void end_rq(struct rq *r, bool bad)
{
	wheel_clear(&r->timer);
	if (r->wait)
		sched_cancel(r->wait);
	if (r->u)
		uconn_close(r->u);
	struct instance *i = r->inst;
	free_rq(r);
	if (i)
		sched_release(i, bad);
}

/* No answer of the app: ours, or a cut when it had begun. */
static void fail(struct rq *r, enum hcode code, const char *note)
{
	struct exchange *x = r->x;
	const struct hcode_text *t = hcode_text(code);
	bool begun = r->state >= RQ_ANSWERING;
	rq_log(x, rq_app(r), r, code, t->status, note);
	end_rq(r, code == H13 || code == H19 || code == H21);
	if (begun)
		exchange_abort(x);
	else
		page_send(x, t->status, t->title, t->text);
}

void router_error(struct exchange *x, struct app *a, enum hcode code)
{
	const struct hcode_text *t = hcode_text(code);
	rq_log(x, a, NULL, code, t->status, NULL);
	page_send(x, t->status, t->title, t->text);
}

/* --- towards the instance ----------------------------------------------------------------------------- */

static bool idempotent(struct str m)
{
	return str_eq(m, "GET") || str_eq(m, "HEAD") || str_eq(m, "PUT") || str_eq(m, "DELETE") ||
	       str_eq(m, "OPTIONS") || str_eq(m, "TRACE");
}

static void check_room(struct rq *r)
{
	size_t waits = sender_waiting(&r->u->s);
	if (waits > SENDER_HIGH && !r->client_paused) {
		r->client_paused = true;
		exchange_pause(r->x);
	} else if (r->client_paused && waits <= SENDER_HIGH / 2) {
		r->client_paused = false;
		exchange_resume(r->x);
	}
}

void rq_upstream_room(struct rq *r)
{
	r->last_ms = uv_now(loop);
	check_room(r);
}

static void body(struct exchange *x, const char *data, size_t n)
{
	struct rq *r = x->user;
	struct sender *s = &r->u->s;
	r->last_ms = uv_now(loop);
	r->body_passed += n;
	if (r->state != RQ_TUNNEL && x->content_length < 0) {
		char head[20];
		size_t k = put_hex(head, n);
		memcpy(head + k, "\r\n", 2);
		sender_put(s, head, k + 2);
		sender_put(s, data, n);
		sender_put(s, "\r\n", 2);
	} else {
		sender_put(s, data, n);
	}
	uconn_flush_soon(r->u);
	check_room(r);
}

static void body_end(struct exchange *x)
{
	struct rq *r = x->user;
	r->body_done = true;
	if (!r->u || !x->content_length)
		return;
	r->body_sent = true;
	if (x->content_length < 0)
		sender_put(&r->u->s, "0\r\n\r\n", 5);
	sender_flush(&r->u->s);
}

static void drained(struct exchange *x)
{
	struct rq *r = x->user;
	r->upstream_paused = false;
	r->last_ms = uv_now(loop);
	if (r->u)
		uconn_reading(r->u, true);
}

/* The client has gone. */
static void closed(struct exchange *x)
{
	struct rq *r = x->user;
	if (r->state == RQ_TUNNEL)
		rq_log(x, rq_app(r), r, H_OK, 101, NULL);
	else
		rq_log(x, rq_app(r), r, H27, 499, NULL);
	end_rq(r, false);
}

static const struct exchange_handler handler = {
	.body = body,
	.body_end = body_end,
	.drained = drained,
	.closed = closed,
};

static void send_request(struct rq *r, bool fresh)
{
	int err;
	struct uconn *u = upstream_get(r->inst, fresh, &err);
	if (!u && err == -EAGAIN) {
		r->state = RQ_CONNECTING;
		if (r->x->content_length)
			exchange_pause(r->x);
		wheel_set(&r->timer, RETRY_MS, timeout);
		return;
	}
	if (!u && r->inst->app && !r->body_passed &&
	    ++r->tries < TRIES) { /* it is ending: to another one, or the one after it */
		struct instance *i = r->inst;
		r->app = i->app;
		r->inst = NULL;
		r->state = RQ_WAITING;
		wheel_clear(&r->timer);
		if (r->x->content_length) /* it may send by now, and there is nobody to take it */
			exchange_pause(r->x);
		sched_release(i, true);
		struct sched_wait *w = sched_acquire(r->app, acquired, r);
		if (w)
			r->wait = w;
		return;
	}
	if (!u) {
		fail(r, H21, NULL);
		return;
	}
	r->u = u;
	u->rq = r;
	r->state = RQ_SENT;
	r->tries++;
	r->connected_ns = now_ns();
	r->sent_ms = r->last_ms = uv_now(loop);
	rq_write_head(r, &u->s.out);
	if (!r->x->content_length || r->body_done) {
		if (r->x->content_length < 0)
			sender_put(&u->s, "0\r\n\r\n", 5);
		r->body_sent = true;
		sender_flush(&u->s);
	} else {
		uconn_flush_soon(u);
		exchange_resume(r->x);
	}
	wheel_set(&r->timer, r->x->expect_continue ? CONTINUE_MS : MS(limits_of(r)->first_byte_ns), timeout);
}

static void acquired(void *arg, const struct sched_result *res)
{
	struct rq *r = arg;
	r->wait = NULL;
	r->acquired_ns = now_ns();
	if (!res->inst) {
		fail(r, res->code, NULL);
		return;
	}
	r->inst = res->inst;
	r->cold = res->cold;
	send_request(r, false);
}

void router_serve(struct exchange *x, struct app *a)
{
	if (!router_may(a, app_limits(a)->requests_per_s)) {
		rq_log(x, a, NULL, H_OK, 429, NULL);
		page_send(x, 429, "Too many requests",
			  "This app gets more requests a second than its owner allows.");
		return;
	}
	struct rq *r = new_rq();
	r->x = x;
	r->app = a;
	r->head_only = str_eq(x->method, "HEAD");
	x->handler = &handler;
	x->user = r;
	rq_trace(r);
	if (x->content_length)
		exchange_pause(x);
	struct sched_wait *w = sched_acquire(a, acquired, r);
	if (w)
		r->wait = w; /* else acquired() was called, and r may have ended */
}

/* --- from the instance -------------------------------------------------------------------------------- */

static int interim(struct rq *r, const struct head *h)
{
	struct exchange *x = r->x;
	const char *why;
	struct header *v;
	if (++r->interims > INTERIMS_MAX) { /* each is sent on, and moves the time-out */
		fail(r, H17, "too many interim answers");
		return 1;
	}
	if (h->status == 100) {
		exchange_continue(x);
	} else if (h->status == 103 && x->version >= 11) {
		unsigned n = answer_headers(r, h, &v, &why);
		if (!why)
			exchange_respond(x, h->status, v, n, -1);
	}
	return 0;
}

static int switched(struct rq *r, const struct head *h)
{
	struct exchange *x = r->x;
	struct header *v;
	const char *why;
	if (!x->upgrade || !h->upgrade.n || !h->connection_upgrade) {
		fail(r, H23, x->upgrade ? "101 without Upgrade" : "101 that nobody asked for");
		return 1;
	}
	unsigned n = answer_headers(r, h, &v, &why);
	r->state = RQ_TUNNEL;
	exchange_respond(x, 101, v, n, -1);
	exchange_tunnel(x);
	wheel_set(&r->timer, MS(limits_of(r)->idle_ns), timeout);
	return 0;
}

int rq_answer(struct rq *r, const struct head *h)
{
	if (h->status == 101)
		return switched(r, h);
	if (h->status < 200)
		return interim(r, h);
	struct header *v;
	const char *why;
	unsigned n = answer_headers(r, h, &v, &why);
	if (why) {
		fail(r, H25, why);
		return 1;
	}
	r->state = RQ_ANSWERING;
	exchange_respond(r->x, h->status, v, n, h->has_length ? (int64_t)h->length : -1);
	return 0;
}

void rq_answer_body(struct rq *r, const char *data, size_t n)
{
	if (!exchange_write(r->x, data, n)) {
		r->upstream_paused = true;
		uconn_reading(r->u, false);
	}
}

void rq_answer_end(struct rq *r)
{
	struct exchange *x = r->x;
	rq_log(x, rq_app(r), r, H_OK, x->status, NULL);
	end_rq(r, false);
	exchange_end(x);
}

void rq_upstream_eof(struct rq *r, int err)
{
	struct uconn *u = r->u;
	if (r->state == RQ_TUNNEL) {
		struct exchange *x = r->x;
		rq_log(x, rq_app(r), r, H_OK, 101, NULL);
		end_rq(r, false);
		exchange_end(x);
		return;
	}
	bool again = u->reused && !u->got_bytes && !r->body_passed && r->tries < TRIES &&
		     r->inst->socket_path[0] &&
		     (idempotent(r->x->method) || u->s.failed || err == UV_ECONNRESET);
	if (again) {
		r->u = NULL;
		uconn_close(u);
		send_request(r, true);
		return;
	}
	fail(r, r->state == RQ_ANSWERING ? H18 : H13, NULL);
}

void rq_upstream_bad(struct rq *r, enum hcode code, const char *why)
{
	fail(r, r->state == RQ_ANSWERING ? H18 : code, why);
}

/* --- time ----------------------------------------------------------------------------------------------- */

static void again_in(struct rq *r, uint64_t limit, uint64_t since)
{
	uint64_t now = uv_now(loop);
	wheel_set(&r->timer, since + limit > now ? since + limit - now : 1, timeout);
}

static void timeout(struct wheel_timer *t)
{
	struct rq *r = container_of(t, struct rq, timer);
	const struct limits *l = limits_of(r);
	uint64_t now = uv_now(loop), first = MS(l->first_byte_ns), idle = MS(l->idle_ns);
	if (r->state == RQ_CONNECTING) {
		if (now_ns() - r->acquired_ns > l->connect_ns)
			fail(r, H19, NULL);
		else
			send_request(r, true);
	} else if (r->state == RQ_SENT) {
		if (r->x->expect_continue && now - r->sent_ms >= CONTINUE_MS)
			exchange_continue(r->x);
		if (now - r->last_ms >= first)
			fail(r, r->body_done ? H12 : H28, NULL);
		else
			again_in(r, first, r->last_ms);
	} else if (now - r->last_ms < idle) {
		again_in(r, idle, r->last_ms);
	} else if (r->state == RQ_TUNNEL) {
		struct exchange *x = r->x;
		rq_log(x, rq_app(r), r, H15, 503, NULL);
		end_rq(r, false);
		exchange_end(x);
	} else {
		fail(r, r->upstream_paused ? H28 : H15, NULL);
	}
}
