/* SPDX-License-Identifier: ISC */
/* SHA-256 (FIPS 180-4), for naming things by their content. */
#ifndef COWBELL_LIB_HOST_SHA256_H
#define COWBELL_LIB_HOST_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
	uint32_t h[8];
	uint64_t n; /* bytes taken so far */
	uint8_t block[64];
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *p, size_t n);
void sha256_end(struct sha256 *s, uint8_t out[32]);
/* As above, in hexadecimal, with a NUL. */
void sha256_end_hex(struct sha256 *s, char out[65]);

#endif
