/* SPDX-License-Identifier: ISC */
/* Ed25519 keys in PEM files, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them. */
#ifndef COWBELL_IMAGE_OCI_KEY_H
#define COWBELL_IMAGE_OCI_KEY_H

#include <stddef.h>
#include <stdint.h>

#define KEY_SEED_BYTES	 32
#define KEY_PUBLIC_BYTES 32
#define KEY_MAX_FILE	 8192

enum key_kind { KEY_PRIVATE, KEY_PUBLIC };

/* The 32 bytes of the key in PEM text. NULL, or a phrase that says what is wrong; then `raw` is zeroed. */
const char *key_parse(const char *pem, size_t n, enum key_kind kind, uint8_t raw[32]);
/* PEM text, NUL-terminated; `size` of at least 256. */
void key_format(const uint8_t raw[32], enum key_kind kind, char *buf, size_t size);

/* From a file. 0, or an exit status after one line. */
int key_read(const char *file, enum key_kind kind, uint8_t raw[32]);
/* A private key with its public half: secret is libsodium's 64 bytes. 0, or an exit status after one line. */
int key_read_pair(const char *file, uint8_t secret[64], uint8_t public_key[32]);

#endif
