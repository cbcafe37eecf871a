/* SPDX-License-Identifier: ISC */
/*
 * TLS of clients' connections: 1.2 and 1.3, ALPN (h2, http/1.1), no renegotiation, no compression.
 *
 * OpenSSL never sees a socket: a BIO of our own reads from the bytes that conn.c received (t->in, for the length of a call) and writes into
 * the connection's sender. Plaintext to be sent collects in c->plain, so that head and body become one record.
 *
 * Certificates are one SSL_CTX each, chosen by the name that the client asks for (SNI): first its exact name, then the wildcard of its
 * parent, else the platform's own. They are set and removed at run time by id; a connection keeps the one with which it began.
 */
#include "platform/conn.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "platform/tls_self.h"

struct tls_conn {
	SSL *ssl;
	const char *in; /* ciphertext that is not read yet; only while tls_input() runs */
	size_t n_in;
	bool up, said_bye;
};

struct cert {
	struct list node;
	char *id;
	char **names; /* lower case */
	unsigned n;
	SSL_CTX *ctx;
};

static struct list certs = LIST_INIT(certs);
static SSL_CTX *own;
static BIO_METHOD *method;
static char plaintext[64 * 1024];

/* --- the BIO -------------------------------------------------------------------------------------------- */

static int bio_read(BIO *b, char *to, int n)
{
	struct conn *c = BIO_get_data(b);
	struct tls_conn *t = c->tls;
	BIO_clear_retry_flags(b);
	if (!t->n_in) {
		BIO_set_retry_read(b);
		return -1;
	}
	size_t k = (size_t)n < t->n_in ? (size_t)n : t->n_in;
	memcpy(to, t->in, k);
	t->in += k;
	t->n_in -= k;
	return (int)k;
}

static int bio_write(BIO *b, const char *from, int n)
{
	struct conn *c = BIO_get_data(b);
	BIO_clear_retry_flags(b);
	if (n > 0)
		conn_ciphertext(c, from, (size_t)n);
	return n;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_DUP;
}

static int bio_create(BIO *b)
{
	BIO_set_init(b, 1);
	return 1;
}

static BIO *new_bio(struct conn *c)
{
	if (!method) {
		method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
		if (!method)
			return NULL;
		BIO_meth_set_read(method, bio_read);
		BIO_meth_set_write(method, bio_write);
		BIO_meth_set_ctrl(method, bio_ctrl);
		BIO_meth_set_create(method, bio_create);
	}
	BIO *b = BIO_new(method);
	if (b)
		BIO_set_data(b, c);
	return b;
}

/* --- certificates ----------------------------------------------------------------------------------------- */

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in,
			   unsigned in_n, void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";
	unsigned char *o;
	if (SSL_select_next_proto(&o, n, ours, sizeof(ours) - 1, in, in_n) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = o;
	return SSL_TLSEXT_ERR_OK;
}

static struct cert *cert_of_name(const char *name, size_t n)
{
	list_for_each (it, &certs) {
		struct cert *k = list_entry(it, struct cert, node);
		for (unsigned i = 0; i < k->n; i++)
			if (strlen(k->names[i]) == n && !strncasecmp(k->names[i], name, n))
				return k;
	}
	return NULL;
}

static int choose_cert(SSL *ssl, int *alert, void *arg)
{
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	if (!name || strlen(name) > 253)
		return SSL_TLSEXT_ERR_OK;
	struct cert *k = cert_of_name(name, strlen(name));
	const char *dot = strchr(name, '.');
	if (!k && dot) {
		char wild[256];
		int n = snprintf(wild, sizeof(wild), "*%s", dot);
		k = cert_of_name(wild, (size_t)n);
	}
	if (k)
		SSL_set_SSL_CTX(ssl, k->ctx);
	return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *new_ctx(void)
{
	SSL_CTX *x = SSL_CTX_new(TLS_server_method());
	if (!x)
		return NULL;
	SSL_CTX_set_min_proto_version(x, TLS1_2_VERSION);
	SSL_CTX_set_options(x, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
				       SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
				       SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(x, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
	/* forward secrecy and authenticated encryption only, in TLS 1.2, too */
	SSL_CTX_set_cipher_list(x, "ECDHE+AESGCM:ECDHE+CHACHA20");
	SSL_CTX_set_alpn_select_cb(x, choose_protocol, NULL);
	SSL_CTX_set_tlsext_servername_callback(x, choose_cert);
	/* sessions are resumed by ticket only; names share no tickets */
	SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
	return x;
}

/* No prompt for a pass phrase on the terminal. */
static int no_password(char *buf, int size, int rw, void *arg)
{
	return 0;
}

static const char *use_pem(SSL_CTX *x, const char *chain, const char *key)
{
	BIO *b = BIO_new_mem_buf(chain, -1);
	const char *why = NULL;
	X509 *leaf = b ? PEM_read_bio_X509(b, NULL, no_password, NULL) : NULL;
	if (!leaf || SSL_CTX_use_certificate(x, leaf) != 1)
		why = "the certificate cannot be read";
	X509 *ca;
	for (unsigned n = 0; !why && n < 16 && (ca = PEM_read_bio_X509(b, NULL, no_password, NULL)); n++)
		if (SSL_CTX_add0_chain_cert(x, ca) != 1) {
			X509_free(ca);
			why = "the chain cannot be used";
		}
	X509_free(leaf);
	BIO_free(b);
	b = BIO_new_mem_buf(key, -1);
	EVP_PKEY *k = !why && b ? PEM_read_bio_PrivateKey(b, NULL, no_password, NULL) : NULL;
	if (!why && !k)
		why = "the private key cannot be read";
	if (!why && (SSL_CTX_use_PrivateKey(x, k) != 1 || SSL_CTX_check_private_key(x) != 1))
		why = "the private key is not the certificate's";
	EVP_PKEY_free(k);
	BIO_free(b);
	ERR_clear_error();
	return why;
}

static void cert_free(struct cert *k)
{
	list_del(&k->node);
	for (unsigned i = 0; i < k->n; i++)
		free(k->names[i]);
	free(k->names);
	free(k->id);
	SSL_CTX_free(k->ctx);
	free(k);
}

void tls_cert_remove(const char *id)
{
	list_for_each_safe (it, &certs) {
		struct cert *k = list_entry(it, struct cert, node);
		if (!strcmp(k->id, id))
			cert_free(k);
	}
}

const char *tls_cert_set(const char *id, const char *chain_pem, const char *key_pem,
			 const char *const *hostnames, unsigned n)
{
	SSL_CTX *x = new_ctx();
	if (!x)
		return "out of memory";
	const char *why = use_pem(x, chain_pem, key_pem);
	if (why) {
		SSL_CTX_free(x);
		return why;
	}
	tls_cert_remove(id);
	struct cert *k = xcalloc(1, sizeof(*k));
	k->id = xstrdup(id);
	k->names = xcalloc(n + 1, sizeof(*k->names));
	for (unsigned i = 0; i < n; i++)
		k->names[k->n++] = xstrdup(hostnames[i]);
	k->ctx = x;
	list_add_tail(&certs, &k->node);
	return NULL;
}

const char *tls_open(void)
{
	const char *chain, *key;
	if (own)
		return NULL;
	if (tls_self_files(&chain, &key))
		return "no certificate";
	own = new_ctx();
	if (!own || SSL_CTX_use_certificate_chain_file(own, chain) != 1)
		return "the certificate file cannot be read";
	if (SSL_CTX_use_PrivateKey_file(own, key, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(own) != 1)
		return "the key file cannot be read, or is not the certificate's";
	return NULL;
}

/* --- connections ------------------------------------------------------------------------------------------- */

bool tls_start(struct conn *c)
{
	SSL *ssl = SSL_new(own);
	BIO *b = ssl ? new_bio(c) : NULL;
	if (!b) {
		SSL_free(ssl);
		return false;
	}
	SSL_set_bio(ssl, b, b);
	SSL_set_accept_state(ssl);
	c->tls = xcalloc(1, sizeof(*c->tls));
	c->tls->ssl = ssl;
	return true;
}

/* What OpenSSL says of a call that did not go through; true: it is only that more must come. */
static bool only_waits(struct tls_conn *t, int ret)
{
	int err = SSL_get_error(t->ssl, ret);
	ERR_clear_error();
	return err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE;
}

/* true: it is up. */
static bool handshake(struct conn *c)
{
	struct tls_conn *t = c->tls;
	int r = SSL_do_handshake(t->ssl);
	bool waits = r != 1 && only_waits(t, r);
	if (r == 1)
		t->up = true;
	sender_flush(&c->out);
	if (r != 1 && !waits) {
		plog("debug", NULL, "client %s: TLS handshake failed", c->peer);
		conn_cut(c);
	}
	return r == 1;
}

void tls_input(struct conn *c, const char *data, size_t n)
{
	struct tls_conn *t = c->tls;
	t->in = data;
	t->n_in = n;
	if (!t->up && !handshake(c))
		return;
	for (;;) {
		int r = SSL_read(t->ssl, plaintext, sizeof(plaintext));
		if (r > 0) {
			conn_plain(c, plaintext, (size_t)r);
			if (c->closing)
				return; /* t is gone */
			continue;
		}
		if (!only_waits(t, r)) {
			conn_cut(c);
			return;
		}
		break;
	}
	conn_mark(c); /* tickets, alerts, key updates */
}

void tls_encrypt(struct conn *c)
{
	struct tls_conn *t = c->tls;
	while (t && t->up && buf_len(&c->plain)) {
		int r = SSL_write(t->ssl, c->plain.p + c->plain.start, (int)buf_len(&c->plain));
		if (r <= 0) {
			ERR_clear_error();
			buf_free(&c->plain);
			c->out.failed = true;
			return;
		}
		buf_take(&c->plain, (size_t)r);
	}
}

void tls_bye(struct conn *c)
{
	struct tls_conn *t = c->tls;
	if (!t || !t->up || t->said_bye)
		return;
	t->said_bye = true;
	tls_encrypt(c);
	SSL_shutdown(t->ssl);
	ERR_clear_error();
}

void tls_free(struct conn *c)
{
	if (!c->tls)
		return;
	SSL_free(c->tls->ssl);
	free(c->tls);
	c->tls = NULL;
}

bool tls_is_h2(const struct conn *c)
{
	const unsigned char *p;
	unsigned n;
	SSL_get0_alpn_selected(c->tls->ssl, &p, &n);
	return n == 2 && !memcmp(p, "h2", 2);
}
