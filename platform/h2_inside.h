/* SPDX-License-Identifier: ISC */
/* Inside of HTTP/2: h2.c is the session and what comes in, h2_out.c answers. */
#ifndef COWBELL_PLATFORM_H2_INSIDE_H
#define COWBELL_PLATFORM_H2_INSIDE_H

#include <nghttp2/nghttp2.h>

#include "platform/conn.h"

#define H2_STREAMS     100
#define H2_STREAM_HIGH (64 * 1024) /* bytes of an answer that wait in a stream */
#define H2_WINDOW      (256 * 1024)
#define H2_CONN_WINDOW (1024 * 1024)

struct h2_stream {
	struct exchange x;
	struct list node;
	struct h2 *h2;
	int32_t id;
	bool live; /* the exchange was handed out and has not ended */
	bool refused; /* the head is too big, or not valid; no exchange */
	bool in_ended, end_owed, paused;
	bool responded, no_body, out_ended, deferred, waiting_room;
	bool gone; /* nghttp2 has forgotten it, the taker has not */
	int64_t promised;
	uint64_t last_in, last_out; /* ms; when the body, or the answer, last moved */
	struct buf in; /* of the body, while it is paused */
	struct buf out;
	/* the head: text of all names and values; offsets into it until it is whole, pointers then */
	struct buf text;
	struct header *v;
	unsigned n_v, cap_v;
	struct str method, path, authority;
	unsigned seen; /* pseudo headers */
};

struct h2 {
	nghttp2_session *s;
	struct conn *c;
	struct list streams;
	unsigned n_streams;
	bool inside; /* a function of nghttp2 is on the stack */
	bool doomed; /* the connection has gone meanwhile */
	bool stopping;
	uint64_t second; /* for the budget of frames that cost us and not the client */
	unsigned cost;
	struct soon resumed;
};

void h2_free_stream(struct h2_stream *st);
void h2_free_session(struct h2 *h); /* not while it is `inside` */
/* Give what was held back, and the end of the body. */
void h2_deliver(struct h2_stream *st);

#endif
