/* SPDX-License-Identifier: ISC */
/*
 * Inside of the router. router.c: the life of a request; upstream.c: connections to instances; router_head.c: heads both ways;
 * router_log.c: the line of each request; pages.c: what a client is told when there is no answer of the app.
 */
#ifndef COWBELL_PLATFORM_ROUTER_INSIDE_H
#define COWBELL_PLATFORM_ROUTER_INSIDE_H

#include <llhttp.h>

#include "lib/list.h"
#include "platform/buf.h"
#include "platform/guard.h"
#include "platform/router.h"
#include "platform/wheel.h"

enum rq_state {
	RQ_WAITING, /* for an instance */
	RQ_CONNECTING, /* its backlog of connections is full: tried again */
	RQ_SENT, /* the head is on its way; no final answer yet */
	RQ_ANSWERING, /* the answer's body comes */
	RQ_TUNNEL,
};

/* A request that is being routed. */
struct rq {
	struct exchange *x;
	struct app *app; /* as it was; see rq_app() */
	struct sched_wait *wait;
	struct instance *inst; /* acquired and not released */
	struct uconn *u;
	struct wheel_timer timer;
	struct list node; /* of all */
	enum rq_state state;
	bool cold, body_done, client_paused, upstream_paused, head_only;
	bool body_sent; /* all of it was handed to the connection */
	uint64_t body_passed;
	unsigned tries, interims;
	uint64_t acquired_ns, connected_ns;
	uint64_t last_ms; /* when a byte last moved */
	uint64_t sent_ms;
	char traceparent[56]; /* that the instance gets */
	char parent_span[17]; /* of the client's traceparent; "": it sent none */
	bool sampled;
};

/* A connection to an instance. */
struct uconn {
	uv_pipe_t pipe;
	struct sender s;
	struct list node; /* of idle ones, or of busy ones of its instance */
	struct wheel_timer timer;
	struct upstream *up; /* NULL: the instance has gone */
	struct rq *rq; /* NULL: idle */
	bool closing, reading, reused, idle;
	bool got_bytes; /* of this answer */
	bool in_body, ended, until_close;
	struct uconn *next_spare;
	struct soon soon;
	uint64_t body_in;
	struct buf in; /* the answer's head, until it is whole */
	size_t scanned;
	struct head head;
	struct chunk_guard chunks;
	llhttp_t parser;
};

struct upstream {
	struct list idle, busy;
	unsigned n_idle;
};

/* upstream.c. NULL: *err; -EAGAIN means that it may be tried again soon. */
struct uconn *upstream_get(struct instance *i, bool fresh, int *err);
void uconn_put_back(struct uconn *u); /* idle now */
void uconn_close(struct uconn *u); /* its rq is told nothing */
void uconn_flush_soon(struct uconn *u);
void uconn_reading(struct uconn *u, bool on);

/* What upstream.c tells router.c of a connection in use. */
int rq_answer(struct rq *r,
	      const struct head *h); /* a whole head, interim ones too; != 0: end of it all was reached */
void rq_answer_body(struct rq *r, const char *data, size_t n);
void rq_answer_end(struct rq *r);
void rq_upstream_eof(struct rq *r, int err); /* closed, or broken, before the end */
void rq_upstream_bad(struct rq *r, enum hcode code, const char *why); /* no good HTTP */
void rq_upstream_room(struct rq *r); /* less waits to be sent than did */

/* router_head.c */
void rq_write_head(struct rq *r, struct buf *o);
/* Headers of an answer that the client gets, into a static array. 0, or -1 and why. */
unsigned answer_headers(struct rq *r, const struct head *h, struct header **out, const char **why);
void rq_trace(struct rq *r);

/* router_log.c */
void rq_log(struct exchange *x, struct app *a, const struct rq *r, enum hcode code, int status,
	    const char *note);

/* router_limit.c: may this app get one more request, of so many a second? 0: no limit. */
bool router_may(const struct app *a, unsigned per_s);

/* pages.c */
bool page_wanted(const struct exchange *x); /* the client takes HTML */
void page_send(struct exchange *x, int status, const char *title, const char *text);
struct hcode_text {
	enum hcode code;
	int status;
	bool info; /* at=info */
	const char *desc, *title, *text;
};
const struct hcode_text *hcode_text(enum hcode code);

#endif
