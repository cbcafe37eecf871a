// SPDX-License-Identifier: ISC
/*
 * Reading of certificates that users bring. They are hostile input: sizes were bounded by the caller, all parsing is
 * OpenSSL's, and nothing of them is trusted; names in them are told back, never acted upon (api_domain.c).
 */
#include "platform/cert.h"

#include "platform/platform.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#define CHAIN_MAX   16
#define DOMAINS_MAX 250

/* A password is never asked for: such a key cannot be used. */
static int no_password(char *buf, int size, int rw, void *arg)
{
	(void)buf, (void)size, (void)rw, (void)arg;
	return -1;
}

static STACK_OF(X509) * read_chain(const char *pem)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	STACK_OF(X509) *chain = sk_X509_new_null();
	X509 *x;

	while (in && chain && sk_X509_num(chain) < CHAIN_MAX &&
	       (x = PEM_read_bio_X509(in, NULL, no_password, NULL)))
		sk_X509_push(chain, x);
	BIO_free(in);
	ERR_clear_error();
	return chain;
}

static EVP_PKEY *read_key(const char *pem)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : NULL;

	BIO_free(in);
	ERR_clear_error();
	return key;
}

static json_t *name_text(const X509_NAME *name)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *data;
	long n;
	json_t *v = NULL;

	if (out && X509_NAME_print_ex(out, name, 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
		n = BIO_get_mem_data(out, &data);
		v = json_stringn(data, (size_t)(n < 512 ? n : 512));
	}
	BIO_free(out);
	return v ? v : json_string("");
}

static json_t *time_text(const ASN1_TIME *t)
{
	struct tm tm;
	char text[32];

	if (!ASN1_TIME_to_tm(t, &tm))
		return json_null();
	format_time((int64_t)timegm(&tm) * 1000000, text);
	return json_string(text);
}

static void add_domain(json_t *list, const ASN1_STRING *s)
{
	const char *p = (const char *)ASN1_STRING_get0_data(s);
	int n = ASN1_STRING_length(s);
	json_t *v;

	if (n <= 0 || n > 253 || memchr(p, 0, (size_t)n) || json_array_size(list) >= DOMAINS_MAX)
		return;
	v = json_stringn(p, (size_t)n); /* NULL if it is no UTF-8 */
	if (v)
		json_array_append_new(list, v);
}

/* The names of subjectAltName; the common name if there are none. */
static json_t *domains_of(X509 *x)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	json_t *list = json_array();
	int at;

	for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		if (g->type == GEN_DNS)
			add_domain(list, g->d.dNSName);
	}
	GENERAL_NAMES_free(names);
	if (!json_array_size(list)) {
		at = X509_NAME_get_index_by_NID(X509_get_subject_name(x), NID_commonName, -1);
		if (at >= 0)
			add_domain(list, X509_NAME_ENTRY_get_data(
						 X509_NAME_get_entry(X509_get_subject_name(x), at)));
	}
	return list;
}

/* Do the machine's own authorities vouch for it? */
static bool is_ca_signed(X509 *x, STACK_OF(X509) * chain)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	bool ok = store && ctx && X509_STORE_set_default_paths(store) &&
		  X509_STORE_CTX_init(ctx, store, x, chain) && X509_verify_cert(ctx) == 1;

	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	ERR_clear_error();
	return ok;
}

static json_t *describe(X509 *x, STACK_OF(X509) * chain)
{
	bool self = !X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x));
	char id[37];
	json_t *v = json_object();

	make_uuid(id);
	json_object_set_new(v, "acm", json_false());
	json_object_set_new(v, "ca_signed?", json_boolean(!self && is_ca_signed(x, chain)));
	json_object_set_new(v, "cert_domains", domains_of(x));
	json_object_set_new(v, "expires_at", time_text(X509_get0_notAfter(x)));
	json_object_set_new(v, "id", json_string(id));
	json_object_set_new(v, "issuer", name_text(X509_get_issuer_name(x)));
	json_object_set_new(v, "self_signed?", json_boolean(self));
	json_object_set_new(v, "starts_at", time_text(X509_get0_notBefore(x)));
	json_object_set_new(v, "subject", name_text(X509_get_subject_name(x)));
	return v;
}

const char *cert_check(const char *chain_pem, const char *key_pem, json_t **info)
{
	STACK_OF(X509) *chain = read_chain(chain_pem);
	EVP_PKEY *key = read_key(key_pem);
	const char *why = NULL;

	if (!chain || !sk_X509_num(chain))
		why = "No certificate given is in PEM format.";
	else if (!key)
		why = "The key is not in PEM format, or has a password.";
	else if (X509_check_private_key(sk_X509_value(chain, 0), key) != 1)
		why = "The key does not belong to the certificate.";
	else
		*info = describe(sk_X509_value(chain, 0), chain);
	ERR_clear_error();
	sk_X509_pop_free(chain, X509_free);
	EVP_PKEY_free(key);
	return why;
}
