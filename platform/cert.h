/* SPDX-License-Identifier: ISC */
/* Certificates that users bring: see cert.c. */
#ifndef COWBELL_PLATFORM_CERT_H
#define COWBELL_PLATFORM_CERT_H

#include <jansson.h>
#include <openssl/crypto.h>

/*
 * Is this a chain in PEM with the private key of its first certificate? NULL, and what is in it as Heroku's "ssl_cert"
 * (cert_domains, issuer, subject, starts_at, expires_at, ca_signed?, ...) in *info; or why not.
 */
const char *cert_check(const char *chain_pem, const char *key_pem, json_t **info);

#endif
