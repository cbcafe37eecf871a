/* SPDX-License-Identifier: ISC */
/*
 * What strangers send when an image comes from a registry or is signed. The first byte chooses: a WWW-Authenticate header, an
 * auth file, a key, a payload.
 */
#include <stdlib.h>
#include <string.h>

#include "image/oci/challenge.h"
#include "image/oci/credentials.h"
#include "image/oci/key.h"
#include "image/oci/payload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void header(const char *text)
{
	struct challenge c[CHALLENGE_MAX];
	int n = challenge_parse(text, c);

	if (n < 0 || n > CHALLENGE_MAX)
		abort();
	for (int i = 0; i < n; i++)
		for (const char *p = c[i].realm; *p; p++)
			if ((unsigned char)*p < 32)
				abort();
}

static void auth_file(const char *text, size_t n)
{
	struct credentials c = {0};
	enum credentials_state state = credentials_in(text, n, "r.example:5000/a/b", &c);

	if ((state == CREDENTIALS_FOUND) != (c.user && c.password))
		abort();
	credentials_free(&c);
}

static void key(const char *text, size_t n, enum key_kind kind)
{
	uint8_t raw[32], again[32];
	char pem[256];

	if (key_parse(text, n, kind, raw))
		return;
	key_format(raw, kind, pem, sizeof(pem));
	if (key_parse(pem, strlen(pem), kind, again) || memcmp(raw, again, 32))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	size_t n = size - 1;
	char *text = malloc(n + 1); /* exactly as large: reading past it is seen */
	memcpy(text, data + 1, n);
	text[n] = 0;
	switch (data[0]) {
	case 'h':
		header(text);
		break;
	case 'a':
		auth_file(text, n);
		break;
	case 'k':
		key(text, n, KEY_PRIVATE);
		key(text, n, KEY_PUBLIC);
		break;
	default:
		payload_check(text, n, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
	}
	free(text);
	return 0;
}
