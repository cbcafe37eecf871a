/* SPDX-License-Identifier: ISC */
/*
 * Clients' requests, whatever they come by: HTTP/1.1 or HTTP/2, plain or TLS. The front (front.c, h1.c, h2.c, tls.c) parses strictly,
 * applies the limits of headers and the time-outs of slow clients, and hands each request, once its head is complete, to
 * http_dispatch() as an exchange. Whoever takes it (the API, the router, git, the dashboard) sets its handler and answers.
 *
 * Life: front makes an exchange -> http_dispatch(x) -> the taker sets x->handler and x->user -> body pieces
 * come by handler->body (unless paused) -> handler->body_end -> taker calls exchange_respond(), exchange_write()*,
 * exchange_end() at any time, also before the body's end -> the front frees it after exchange_end(). If the client goes
 * first, handler->closed is called once, and the exchange is gone when it returns: the taker forgets it.
 * After exchange_end() the taker forgets it, too; no callback comes any more.
 */
#ifndef COWBELL_PLATFORM_HTTP_H
#define COWBELL_PLATFORM_HTTP_H

#include "platform/platform.h"

struct str { /* a piece of a buffer, not NUL-terminated */
	const char *p;
	size_t n;
};
#define STR(lit) ((struct str){lit, sizeof(lit) - 1})
bool str_eq(struct str s, const char *text);
bool str_eq_nocase(struct str s, const char *text);

struct header {
	struct str name, value; /* names of requests by HTTP/2 are lower case; compare without case */
};

struct exchange;

struct exchange_handler {
	void (*body)(struct exchange *x, const char *data,
		     size_t n); /* a piece of the body; use or copy it now */
	void (*body_end)(struct exchange *x);
	void (*drained)(struct exchange *x); /* after exchange_write() said false: there is room again */
	void (*closed)(
		struct exchange *x); /* the client has gone, or broke the protocol, before exchange_end() */
};

struct exchange {
	/* the request; valid until the exchange ends */
	struct str method, target; /* as the client sent it; origin-form, "*" of OPTIONS allowed */
	struct str path, query; /* of target; query without '?' */
	struct str host; /* without port, lower case; of Host or :authority */
	uint16_t host_port; /* 0: not said */
	unsigned n_headers;
	struct header *headers; /* all, Host too; no hop-by-hop ones are removed */
	int version; /* 10, 11, 20 */
	bool tls;
	bool upgrade; /* HTTP/1.1 with a valid Connection: upgrade and Upgrade */
	bool expect_continue; /* Expect: 100-continue; the front answers 100 when the taker first wants the body (exchange_continue) */
	int64_t content_length; /* of the body; 0: none; -1: chunked or HTTP/2 without length */
	char request_id[201]; /* the client's if it is good, else a UUID */
	char peer[64]; /* address of the client, of PROXY protocol if it is on */
	uint16_t peer_port;
	uint64_t start_ns; /* when the head was complete */

	/* set by the taker */
	const struct exchange_handler *handler;
	void *user;

	/* for the log and metrics, kept up by the front */
	int status;
	uint64_t bytes_out; /* of the body */

	void *front; /* the front's own */
};

struct str exchange_header(const struct exchange *x,
			   const char *name); /* the first; .p NULL if there is none */

/*
 * Send the head of the answer. content_length -1: unknown (chunked, or HTTP/2 frames; HTTP/1.0: until close). Headers are written as given;
 * Content-Length, Transfer-Encoding, Connection, Date are the front's. For 1xx, 204, 304 and HEAD no body is sent whatever is written.
 */
void exchange_respond(struct exchange *x, int status, const struct header *headers, unsigned n,
		      int64_t content_length);
/* A piece of the body; copied if it cannot be sent at once. false: enough is waiting, stop until drained(). */
bool exchange_write(struct exchange *x, const char *data, size_t n);
/* The end. If fewer bytes than content_length were written, the connection is cut. */
void exchange_end(struct exchange *x);
/* Cut: no good end can be made (the upstream broke in the middle). As exchange_end() for the taker. */
void exchange_abort(struct exchange *x);
/* Back-pressure on the client's body. */
void exchange_pause(struct exchange *x);
void exchange_resume(struct exchange *x);
/* Send "100 Continue" now, if the client waits for it. */
void exchange_continue(struct exchange *x);
/*
 * After respond(101): bytes both ways by body()/write() until exchange_end() or closed(). HTTP/1.1 only (RFC 8441's
 * extended CONNECT over HTTP/2 may come later).
 */
void exchange_tunnel(struct exchange *x);

/* A whole answer in one: */
void exchange_reply(struct exchange *x, int status, const char *content_type, const char *body, size_t n);

/* Implemented in dispatch.c: by host and path to API, git, dashboard, ACME-like paths or the router. */
void http_dispatch(struct exchange *x);

/* Open the listeners (or take them over from systemd). 0, or an exit status after one line. */
int front_open(void);
/* Stop accepting; idle connections close, HTTP/2 ones get GOAWAY; cb when all are gone. */
void front_stop(void (*cb)(void));
/* Ports in use, for URLs: of HTTP and TLS; 0: none. */
uint16_t front_port(bool tls);

/* tls.c: certificates by name (SNI). PEM texts; replaced if there is one for this id. Error text (static) or NULL. */
const char *tls_cert_set(const char *id, const char *chain_pem, const char *key_pem,
			 const char *const *hostnames, unsigned n);
void tls_cert_remove(const char *id);

#endif
