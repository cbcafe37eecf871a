/* SPDX-License-Identifier: ISC */
/*
 * Java's trusted authorities: /etc/ssl/certs/java/cacerts, which a script of
 * ca-certificates-java makes on each machine with that machine's own
 * authorities and the time of the day. Here it is made of the ca-certificates
 * package alone, as a key store of Java's oldest kind (JKS), big-endian:
 *
 *   u32 0xfeedfeed   u32 2   u32 number of entries
 *   each: u32 2 (a trusted certificate)   alias   u64 milliseconds   "X.509"   u32 length, DER
 *         (texts: u16 length, bytes)
 *   SHA-1 of the password in UTF-16, "Mighty Aphrodite" and all of the above
 *
 * The password is Java's well-known one: it guards against damage, not against people.
 */
#include <nettle/base64.h>
#include <nettle/sha1.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/debs.h"

#define MAX_CERT 16384

static void put_number(FILE *f, uint64_t v, int bytes)
{
	while (bytes--)
		fputc((int)(v >> (8 * bytes) & 0xff), f);
}

static void put_text(FILE *f, const char *text)
{
	put_number(f, strlen(text), 2);
	fputs(text, f);
}

/* The next certificate of a PEM text as DER; 0 at the end. */
static size_t next_cert(const char **pem, uint8_t der[MAX_CERT])
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
	const char *p;

	while ((p = strstr(*pem, begin))) {
		struct base64_decode_ctx c;
		const char *stop = strstr(p += strlen(begin), end);
		size_t n = MAX_CERT;
		if (!stop)
			break;
		*pem = stop + strlen(end);
		base64_decode_init(&c);
		if (BASE64_DECODE_LENGTH((size_t)(stop - p)) <= MAX_CERT &&
		    base64_decode_update(&c, &n, der, (size_t)(stop - p), p) && base64_decode_final(&c) && n)
			return n;
	}
	return 0;
}

static void put_entries(FILE *f, const char *pem, bool count_only, unsigned *count)
{
	uint8_t der[MAX_CERT];
	char alias[32];
	size_t n;

	for (*count = 0; (n = next_cert(&pem, der)); ++*count) {
		if (count_only)
			continue;
		snprintf(alias, sizeof(alias), "authority-%03u", *count + 1);
		put_number(f, 2, 4);
		put_text(f, alias);
		put_number(f, LAYER_MTIME * 1000ull, 8);
		put_text(f, "X.509");
		put_number(f, n, 4);
		fwrite(der, 1, n, f);
	}
}

/* Of the bytes so far. */
static void put_sum(FILE *f, char *const *data, const size_t *n)
{
	static const char password[] = "changeit", salt[] = "Mighty Aphrodite";
	uint8_t sum[SHA1_DIGEST_SIZE];
	struct sha1_ctx c;

	fflush(f);
	sha1_init(&c);
	for (const char *p = password; *p; p++)
		sha1_update(&c, 2, (const uint8_t[]){0, (uint8_t)*p});
	sha1_update(&c, strlen(salt), (const uint8_t *)salt);
	sha1_update(&c, *n, (const uint8_t *)*data);
	sha1_digest(&c, sizeof(sum), sum);
	fwrite(sum, 1, sizeof(sum), f);
}

void java_put_authorities(struct debs *d, struct tree *t)
{
	char *pem = base_authorities(d, t), *data = NULL;
	unsigned count = 0;
	size_t n = 0;
	FILE *f = pem ? open_memstream(&data, &n) : NULL;

	if (f) {
		put_entries(f, pem, true, &count);
		put_number(f, 0xfeedfeed, 4);
		put_number(f, 2, 4);
		put_number(f, count, 4);
		put_entries(f, pem, false, &count);
		put_sum(f, &data, &n);
		fclose(f);
		if (count)
			tree_put_file(t, "/etc/ssl/certs/java/cacerts", 0644, data, n);
	}
	free(data);
	free(pem);
}
