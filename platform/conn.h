/* SPDX-License-Identifier: ISC */
/*
 * A client's connection, inside of the front: conn.c moves its bytes, tls.c wraps them, h1.c and h2.c understand them. Nobody outside of
 * the front includes this.
 */
#ifndef COWBELL_PLATFORM_CONN_H
#define COWBELL_PLATFORM_CONN_H

#include <llhttp.h>

#include "lib/list.h"
#include "platform/buf.h"
#include "platform/guard.h"
#include "platform/http.h"
#include "platform/wheel.h"

#define HEAD_TIMEOUT_MS                                                                                      \
	10000 /* from the first byte (or accept) to a whole head, handshake and PROXY header included */
#define IDLE_TIMEOUT_MS	 60000 /* between requests */
#define BODY_TIMEOUT_MS	 55000 /* without a byte of a body that we wait for */
#define WRITE_TIMEOUT_MS 55000 /* without the client taking a byte of the answer */
#define BODY_GRACE_MS	 30000 /* then a body of known length must come at ... */
#define BODY_RATE	 100 /* bytes a second on average */
#define STALL_LOOK_MS	 10000
#define PAUSED_LOOK_MS	 1000 /* has the client gone while we do not read? */
#define LINGER_MS	 2000 /* reading on after an answer that came before the body's end */
#define LINGER_BYTES	 (8 << 20) /* clients that send all before they read get to see why not */
#define STOP_MS		 30000 /* that requests in flight may take at our own end */
#define CONN_HELD	 (64 * 1024) /* bytes that wait in memory: of a paused body, of pipelined requests */

enum h1_state {
	H1_HEAD, /* a head is awaited or incomplete */
	H1_BODY, /* an exchange is on; its body comes */
	H1_WAIT, /* an exchange is on; its body is complete (bytes that come are the next request's, or held for an upgrade) */
	H1_TUNNEL, /* bytes both ways */
};

struct h1 {
	enum h1_state state;
	bool busy; /* h1_process() is on the stack */
	bool paused, live; /* live: the exchange was handed out and has not ended */
	bool responded, chunked, no_body, keep_alive, cut_at_end;
	bool body_end_owed; /* body_end() is still to be called */
	bool waiting_room; /* exchange_write() said false */
	bool held_back; /* the next request is there, and waits until more of the answers before it is taken */
	bool body_complete;
	bool failed; /* parsing */
	bool ended; /* the message is complete: set by the parser */
	int64_t promised; /* content_length of the answer */
	uint64_t body_in; /* bytes of the request's body so far */
	size_t scanned;
	struct buf head_buf; /* holds the head: strings of the exchange point into it */
	struct head head;
	struct chunk_guard chunks;
	llhttp_t parser;
	struct exchange x;
};

enum conn_proto { PROTO_PROXY, PROTO_SNIFF, PROTO_H1, PROTO_H2, PROTO_DRAIN };

struct tls_conn;
struct h2;

struct conn {
	uv_tcp_t tcp;
	struct list node; /* of all connections */
	struct list idle_node; /* of those between requests; oldest first */
	struct wheel_timer timer;
	struct tls_conn *tls; /* NULL: plain */
	enum conn_proto proto;
	bool closing, reading;
	bool finishing; /* close when everything is written */
	bool linger; /* then read on for a while */
	struct soon soon;
	struct buf in; /* received, not yet understood */
	struct buf plain; /* TLS: to be encrypted */
	struct sender out; /* on the wire */
	size_t out_seen; /* what waited when that was last looked at */
	uint64_t stalled_since;
	size_t lingered;
	/* ms of the loop's clock */
	uint64_t head_since; /* when the head began; 0: not one byte of it is there */
	uint64_t idle_since, body_since, last_in;
	char peer[64];
	uint16_t peer_port;
	uint32_t client; /* where it is counted; 0: not */
	struct h1 h1;
	struct h2 *h2;
};

/* conn.c */
void conn_accept(uv_stream_t *server, bool tls);
void conn_put(struct conn *c, const char *data,
	      size_t n); /* to be sent; goes out with conn_flush() or before the loop sleeps */
void conn_flush(struct conn *c);
void conn_mark(struct conn *c); /* flush before the loop sleeps */
size_t conn_waiting(const struct conn *c);
void conn_reading(struct conn *c, bool on);
void conn_finish(struct conn *c, bool linger); /* write what waits, then close */
void conn_cut(struct conn *c); /* close now; handlers were told or are told by the protocol's *_gone() */
void conn_reset(struct conn *c); /* close so that the peer sees an error */
void conn_timeout(struct conn *c, uint64_t ms);
void conn_idle(struct conn *c, bool idle);
void conn_plain(struct conn *c, const char *data, size_t n); /* bytes after PROXY and TLS */
void conn_ciphertext(struct conn *c, const char *data, size_t n);
void conns_stop(void (*cb)(void));
extern size_t conns_open, conns_max;
extern bool conns_stopping;

/* h1.c */
void h1_start(struct conn *c);
void h1_input(struct conn *c, const char *data,
	      size_t n); /* data may be the end of c->in, already counted in by conn.c: then NULL */
bool h1_wants_in(const struct conn *c); /* read into c->in rather than into scratch */
void h1_gone(struct conn *c); /* the client has gone, or is cut off */
void h1_writable(struct conn *c);
uint64_t h1_timeout(struct conn *c); /* ms until the next look; 0: cut it */
void h1_process(struct conn *c);
void h1_respond(struct exchange *x, int status, const struct header *headers, unsigned n, int64_t length);
bool h1_write(struct exchange *x, const char *data, size_t n);
void h1_end(struct exchange *x);
void h1_abort(struct exchange *x);
void h1_pause(struct exchange *x, bool on);
void h1_continue(struct exchange *x);
void h1_tunnel(struct exchange *x);

/* h2.c */
void h2_start(struct conn *c);
void h2_input(struct conn *c, const char *data, size_t n);
void h2_gone(struct conn *c);
bool h2_flush(
	struct conn
		*c); /* frames into the connection's buffer, before it is flushed; true: there were some */
void h2_writable(struct conn *c);
size_t h2_waiting(const struct conn *c); /* bytes of answers that wait in its streams */
uint64_t h2_timeout(struct conn *c);
void h2_stop(struct conn *c);
void h2_respond(struct exchange *x, int status, const struct header *headers, unsigned n, int64_t length);
bool h2_write(struct exchange *x, const char *data, size_t n);
void h2_end(struct exchange *x);
void h2_abort(struct exchange *x);
void h2_pause(struct exchange *x, bool on);
void h2_continue(struct exchange *x);

/* tls.c */
const char *tls_open(void); /* default certificate; an error text or NULL */
bool tls_start(struct conn *c);
void tls_input(struct conn *c, const char *data, size_t n); /* ciphertext; gives conn_plain() what it holds */
void tls_encrypt(struct conn *c); /* c->plain to c->out */
void tls_bye(struct conn *c); /* close_notify */
void tls_free(struct conn *c);
bool tls_is_h2(const struct conn *c); /* after the handshake */

/* proxy_protocol.c: > 0: bytes of the header; 0: more must come; < 0: refused. peer stays as it is for LOCAL and UNKNOWN. */
long proxy_parse(const char *p, size_t n, char peer[64], uint16_t *peer_port);

/* exchange.c */
void exchange_identify(struct exchange *x); /* request_id, from the client's header or new */
const char *http_date(void); /* "Mon, 23 Nov 2026 01:00:00 GMT", of this second */
const char *http_reason(int status);

#endif
