/* SPDX-License-Identifier: ISC */
/*
 * Connections to hosts that tenants name (log drains), TCP or TLS.
 *
 *   resolving -> connecting (each address in turn) -> [handshake] -> up -> closed
 *
 * Where a name leads is looked at after it was resolved, and the address that was looked at is the one that is connected to, so a name that
 * changes its mind gains nothing. Private addresses are passed over unless the configuration's drain_private allows them: they would
 * be the platform's own API, its neighbours, or a cloud's metadata service.
 *
 * TLS verifies the chain (the system's, or SSL_CERT_FILE) and the name. OpenSSL works on memory; bytes go in and out by libuv.
 *
 * The struct lives until libuv has closed its handles and given back a look-up in flight (`refs`).
 */
#include "platform/outconn.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS  10000 /* for all of it, to up */
#define WAITING_MAX (256 * 1024)
#define WAITING_GO  (64 * 1024)

struct outconn {
	uv_tcp_t tcp;
	uv_timer_t timer;
	uv_getaddrinfo_t lookup;
	uv_connect_t connect;
	struct addrinfo *found, *next; /* next: to be tried */
	const struct outconn_events *ev; /* NULL: nobody wants to hear any more */
	void *arg;
	SSL *ssl; /* or NULL */
	BIO *in, *out;
	char host[256];
	char why[160];
	uint16_t port;
	unsigned refs;
	bool tls, tcp_open, up, blocked, closing, certificate;
	size_t waiting; /* bytes that libuv has */
};

struct write {
	uv_write_t req;
	struct outconn *c;
	size_t n;
	char data[];
};

/* --- addresses -------------------------------------------------------------------------------------------- */

static bool private4(uint32_t a) /* host order */
{
	static const struct {
		uint32_t net, bits;
	} nets[] = {{0x00000000, 8},  {0x0a000000, 8},	{0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
		    {0xac100000, 12}, {0xc0000000, 24}, {0xc0a80000, 16}, {0xc6120000, 15}, {0xe0000000, 3}};

	for (size_t i = 0; i < sizeof(nets) / sizeof(*nets); i++)
		if ((a ^ nets[i].net) >> (32 - nets[i].bits) == 0)
			return true;
	return false;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool private6(const uint8_t *p)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, nat64[12] = {0, 0x64, 0xff, 0x9b},
			     zero[12];

	if (!memcmp(p, mapped, 12) || !memcmp(p, nat64, 12) ||
	    !memcmp(p, zero, 12)) /* zero: ::, ::1, compatible ones */
		return !memcmp(p, zero, 12) || private4(be32(p + 12));
	if (p[0] == 0x20 && p[1] == 0x02) /* 6to4 */
		return private4(be32(p + 2));
	return (p[0] & 0xfe) == 0xfc || (p[0] == 0xfe && (p[1] & 0x80)) || p[0] == 0xff;
}

bool address_is_private(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return private4(ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr));
	if (a->sa_family == AF_INET6)
		return private6(((const struct sockaddr_in6 *)a)->sin6_addr.s6_addr);
	return true;
}

/* --- the end ------------------------------------------------------------------------------------------------ */

static void unref(struct outconn *c)
{
	if (--c->refs)
		return;
	SSL_free(c->ssl);
	if (c->found)
		uv_freeaddrinfo(c->found);
	free(c);
}

static void on_closed(uv_handle_t *h)
{
	unref(h->data);
}

static void begin_close(struct outconn *c)
{
	if (c->closing)
		return;
	c->closing = true;
	uv_cancel((uv_req_t *)&c->lookup);
	uv_close((uv_handle_t *)&c->timer, on_closed);
	if (c->tcp_open)
		uv_close((uv_handle_t *)&c->tcp, on_closed);
}

void outconn_close(struct outconn *c)
{
	if (!c)
		return;
	c->ev = NULL;
	begin_close(c);
}

static void fail(struct outconn *c, const char *why)
{
	const struct outconn_events *ev = c->ev;
	char text[sizeof(c->why)];

	if (c->closing)
		return;
	snprintf(text, sizeof(text), "%s", why);
	c->ev = NULL;
	begin_close(c); /* c lives until the loop turns */
	if (ev)
		ev->down(c->arg, text, c->certificate);
}

/* --- bytes -------------------------------------------------------------------------------------------------- */

static void on_written(uv_write_t *req, int status)
{
	struct write *w = (struct write *)req;
	struct outconn *c = w->c;

	c->waiting -= w->n;
	free(w);
	if (status < 0)
		fail(c, uv_strerror(status));
	else if (c->blocked && c->waiting < WAITING_GO && c->ev) {
		c->blocked = false;
		c->ev->writable(c->arg);
	}
}

static void send_raw(struct outconn *c, const char *data, size_t n)
{
	struct write *w = xcalloc(1, sizeof(*w) + n);
	uv_buf_t b = uv_buf_init(w->data, (unsigned)n);

	w->c = c;
	w->n = n;
	memcpy(w->data, data, n);
	c->waiting += n;
	if (uv_write(&w->req, (uv_stream_t *)&c->tcp, &b, 1, on_written)) {
		c->waiting -= n;
		free(w); /* reading will say that the connection is gone */
	}
}

/* What OpenSSL wants to send. */
static void flush_ssl(struct outconn *c)
{
	char buf[16384];
	int n;

	while ((n = BIO_read(c->out, buf, sizeof(buf))) > 0)
		send_raw(c, buf, (size_t)n);
}

bool outconn_write(struct outconn *c, const char *data, size_t n)
{
	if (!c->up || c->closing)
		return false;
	if (!c->ssl) {
		send_raw(c, data, n);
	} else {
		ERR_clear_error();
		if (n && SSL_write(c->ssl, data, (int)n) <= 0)
			snprintf(c->why, sizeof(c->why), "TLS write failed"); /* reading tells */
		flush_ssl(c);
	}
	c->blocked = c->waiting > WAITING_MAX;
	return !c->blocked;
}

static void become_up(struct outconn *c)
{
	c->up = true;
	uv_timer_stop(&c->timer);
	if (c->ev)
		c->ev->up(c->arg);
}

static void ssl_failed(struct outconn *c, const char *what)
{
	long verify = SSL_get_verify_result(c->ssl);
	unsigned long e = ERR_peek_error();
	char text[sizeof(c->why)];

	if (verify != X509_V_OK) {
		c->certificate = true;
		snprintf(text, sizeof(text), "its certificate is not good: %s",
			 X509_verify_cert_error_string(verify));
	} else {
		const char *reason = e ? ERR_reason_error_string(e) : NULL;
		snprintf(text, sizeof(text), "%s: %s", what, reason ? reason : "the connection broke");
	}
	ERR_clear_error();
	flush_ssl(c);
	fail(c, text);
}

static void handshake(struct outconn *c)
{
	int rc, err;

	ERR_clear_error();
	rc = SSL_do_handshake(c->ssl);
	err = SSL_get_error(c->ssl, rc);
	if (rc != 1 && err != SSL_ERROR_WANT_READ && err != SSL_ERROR_WANT_WRITE) {
		ssl_failed(c, "TLS handshake");
		return;
	}
	flush_ssl(c);
	if (rc == 1)
		become_up(c);
}

static void read_ssl(struct outconn *c)
{
	char buf[16384];
	int n, err;

	if (!c->up)
		handshake(c);
	while (c->up && !c->closing) {
		ERR_clear_error();
		n = SSL_read(c->ssl, buf, sizeof(buf));
		if (n > 0) {
			if (c->ev)
				c->ev->data(c->arg, buf, (size_t)n);
			continue;
		}
		err = SSL_get_error(c->ssl, n);
		flush_ssl(c);
		if (err == SSL_ERROR_ZERO_RETURN)
			fail(c, "closed by the other side");
		else if (err != SSL_ERROR_WANT_READ)
			ssl_failed(c, "TLS");
		return;
	}
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
	static char buf[65536]; /* used up in on_read() */

	*b = uv_buf_init(buf, sizeof(buf));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
	struct outconn *c = stream->data;

	if (n < 0) {
		fail(c, n == UV_EOF ? "closed by the other side" : uv_strerror((int)n));
	} else if (n > 0 && c->ssl) {
		BIO_write(c->in, b->base, (int)n);
		read_ssl(c);
	} else if (n > 0 && c->ev) {
		c->ev->data(c->arg, b->base, (size_t)n);
	}
}

/* --- the beginning ------------------------------------------------------------------------------------------ */

static SSL_CTX *client_context(void)
{
	static SSL_CTX *ctx;

	if (!ctx && (ctx = SSL_CTX_new(TLS_client_method()))) {
		SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
		SSL_CTX_set_default_verify_paths(ctx);
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
		SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	}
	return ctx;
}

static bool begin_tls(struct outconn *c)
{
	SSL_CTX *ctx = client_context();
	struct in6_addr ip;
	bool literal = inet_pton(AF_INET, c->host, &ip) == 1 || inet_pton(AF_INET6, c->host, &ip) == 1;

	c->ssl = ctx ? SSL_new(ctx) : NULL;
	c->in = BIO_new(BIO_s_mem());
	c->out = BIO_new(BIO_s_mem());
	if (!c->ssl || !c->in || !c->out) {
		BIO_free(c->in);
		BIO_free(c->out);
		return false;
	}
	SSL_set_bio(c->ssl, c->in, c->out);
	SSL_set_connect_state(c->ssl);
	if (literal)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c->ssl), c->host) == 1;
	return SSL_set_tlsext_host_name(c->ssl, c->host) == 1 && SSL_set1_host(c->ssl, c->host) == 1;
}

static void try_next(struct outconn *c);

static void on_tcp_closed(uv_handle_t *h)
{
	struct outconn *c = h->data;

	if (!c->closing)
		try_next(c);
	unref(c);
}

static void on_connected(uv_connect_t *req, int status)
{
	struct outconn *c = req->data;

	if (c->closing)
		return;
	if (status < 0) {
		snprintf(c->why, sizeof(c->why), "%s", uv_strerror(status));
		c->tcp_open = false;
		uv_close((uv_handle_t *)&c->tcp, on_tcp_closed);
		return;
	}
	uv_tcp_nodelay(&c->tcp, 1);
	uv_tcp_keepalive(&c->tcp, 1, 60);
	uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
	if (!c->tls)
		become_up(c);
	else if (begin_tls(c))
		handshake(c);
	else
		fail(c, "TLS cannot be used");
}

static void try_next(struct outconn *c)
{
	while (c->next) {
		struct addrinfo *a = c->next;
		c->next = a->ai_next;
		if (!config.drain_private && address_is_private(a->ai_addr)) {
			snprintf(c->why, sizeof(c->why),
				 "its address is private, which this server does not allow");
			continue;
		}
		uv_tcp_init(loop, &c->tcp);
		c->tcp.data = c;
		c->tcp_open = true;
		c->refs++;
		c->connect.data = c;
		int err = uv_tcp_connect(&c->connect, &c->tcp, a->ai_addr, on_connected);
		if (!err)
			return;
		snprintf(c->why, sizeof(c->why), "%s", uv_strerror(err));
		c->tcp_open = false;
		uv_close((uv_handle_t *)&c->tcp, on_tcp_closed); /* which tries the next */
		return;
	}
	fail(c, c->why[0] ? c->why : "it has no address");
}

static void on_found(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
	struct outconn *c = req->data;

	c->found = res;
	if (!c->closing) {
		c->next = res;
		if (status < 0)
			fail(c, uv_strerror(status));
		else
			try_next(c);
	}
	unref(c);
}

static void on_timeout(uv_timer_t *t)
{
	fail(t->data, "no connection in time");
}

struct outconn *outconn_open(const char *host, uint16_t port, bool tls, const struct outconn_events *ev,
			     void *arg)
{
	struct outconn *c = xcalloc(1, sizeof(*c));
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC, .ai_flags = AI_NUMERICSERV};
	char service[8];

	snprintf(c->host, sizeof(c->host), "%s", host);
	snprintf(service, sizeof(service), "%u", port);
	c->port = port;
	c->tls = tls;
	c->ev = ev;
	c->arg = arg;
	c->refs = 1;
	uv_timer_init(loop, &c->timer);
	c->timer.data = c;
	c->lookup.data = c;
	if (uv_getaddrinfo(loop, &c->lookup, on_found, c->host, service, &hints)) {
		uv_timer_start(&c->timer, on_timeout, 0, 0);
		return c;
	}
	c->refs++;
	uv_timer_start(&c->timer, on_timeout, CONNECT_MS, 0);
	return c;
}
