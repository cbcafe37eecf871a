/* SPDX-License-Identifier: ISC */
/*
 * The platform's own certificate: of config.tls_cert and tls_key, or else a self-signed one that is made at the first need and lasts ten
 * years, in data_dir/certs/self.crt and self.key (mode 0600): EC P-256, for DOMAIN, *.DOMAIN, localhost, *.localhost, 127.0.0.1, ::1.
 * A client that is to trust it is given self.crt (NODE_EXTRA_CA_CERTS, curl --cacert, git http.sslCAInfo).
 */
#include "platform/tls_self.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/host/strings.h"
#include "platform/platform.h"

#define DAYS 3650

static bool extend(X509 *x, int nid, const char *value)
{
	X509V3_CTX v;

	X509V3_set_ctx_nodb(&v);
	X509V3_set_ctx(&v, x, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &v, nid, value);
	bool ok = e && X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
	return ok;
}

static X509 *make_cert(EVP_PKEY *key)
{
	X509 *x = X509_new();
	char names[512];
	uint8_t serial[16];
	bool local = !strcmp(config.domain, "localhost");

	if (!x)
		return NULL;
	random_bytes(serial, sizeof(serial));
	serial[0] &= 0x7f;
	BIGNUM *n = BN_bin2bn(serial, sizeof(serial), NULL);
	snprintf(names, sizeof(names), "DNS:localhost,DNS:*.localhost%s%.200s%s%.200s,IP:127.0.0.1,IP:::1",
		 local ? "" : ",DNS:", local ? "" : config.domain, local ? "" : ",DNS:*.",
		 local ? "" : config.domain);
	X509_NAME *name = X509_get_subject_name(x);
	bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) && X509_set_version(x, 2) &&
		  X509_gmtime_adj(X509_getm_notBefore(x), -86400) &&
		  X509_time_adj_ex(X509_getm_notAfter(x), DAYS, 0, NULL) && X509_set_pubkey(x, key) &&
		  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"Cowbell", -1,
					     -1, 0) &&
		  X509_set_issuer_name(x, name) && extend(x, NID_basic_constraints, "critical,CA:TRUE") &&
		  extend(x, NID_subject_alt_name, names) && extend(x, NID_ext_key_usage, "serverAuth") &&
		  X509_sign(x, key, EVP_sha256());
	BN_free(n);
	if (ok)
		return x;
	X509_free(x);
	return NULL;
}

/* Whole or not at all: written aside, synced, renamed. */
static int put(const char *path, EVP_PKEY *key, X509 *cert)
{
	char *aside = textf("%s.new", path);
	int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, key ? 0600 : 0644);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	int err = f ? 0 : -errno;

	if (f) {
		bool ok = key ? PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL)
			      : PEM_write_X509(f, cert);
		ok = ok && !fflush(f) && !fsync(fd);
		err = fclose(f) || !ok ? -EIO : rename(aside, path) ? -errno : 0;
	}
	free(aside);
	return err;
}

static int make(const char *cert_path, const char *key_path)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = key ? make_cert(key) : NULL;
	int err = cert ? put(key_path, key, NULL) : -EPROTO;

	if (!err)
		err = put(cert_path, NULL, cert);
	X509_free(cert);
	EVP_PKEY_free(key);
	return err;
}

int tls_self_files(const char **cert, const char **key)
{
	static char *c, *k;
	int err = 0;

	if (config.tls_cert && config.tls_key) {
		*cert = config.tls_cert;
		*key = config.tls_key;
		return 0;
	}
	if (!c) {
		char *dir = textf("%s/certs", config.data_dir);
		if (mkdir(dir, 0700) < 0 && errno != EEXIST)
			err = -errno;
		c = textf("%s/self.crt", dir);
		k = textf("%s/self.key", dir);
		free(dir);
	}
	if (!err && (access(c, R_OK) || access(k, R_OK)))
		err = make(c, k);
	if (err)
		plog("error", NULL, "a certificate cannot be made: %s", strerror(-err));
	*cert = c;
	*key = k;
	return err;
}

SSL_CTX *tls_self_ctx(void)
{
	static SSL_CTX *ctx;
	const char *cert, *key;

	if (ctx || tls_self_files(&cert, &key))
		return ctx;
	ctx = SSL_CTX_new(TLS_server_method());
	if (ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) &&
	    SSL_CTX_use_certificate_chain_file(ctx, cert) == 1 &&
	    SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1)
		return ctx;
	plog("error", NULL, "the certificate %s with key %s cannot be used", cert, key);
	SSL_CTX_free(ctx);
	return ctx = NULL;
}
