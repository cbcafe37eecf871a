/* SPDX-License-Identifier: ISC */
/*
 * WWW-Authenticate, by RFC 9110, 11.6.1: a comma-separated list of challenges, each a scheme and its parameters, which are
 * separated by commas as well:
 *
 *   Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull", Basic realm="r"
 *
 * A word that is not followed by '=' begins a challenge. Values are tokens or quoted strings with backslash escapes.
 * What does not fit in its buffer, or holds a control character, makes the whole header malformed: half a realm would
 * be another realm. Parameters that are not known are passed over.
 */
#include "image/oci/challenge.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

static bool is_token(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~/:",
			    c)); /* '/', ':' are not tokens, but some servers do not quote URLs */
}

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* A token into buf. The end, or NULL. */
static const char *read_token(const char *p, char *buf, size_t size)
{
	size_t n = 0;

	while (is_token(*p)) {
		if (n + 1 >= size)
			return NULL;
		buf[n++] = *p++;
	}
	buf[n] = 0;
	return n ? p : NULL;
}

static const char *read_quoted(const char *p, char *buf, size_t size)
{
	size_t n = 0;

	for (p++; *p != '"'; p++) {
		if (*p == '\\')
			p++;
		if ((unsigned char)*p < 32 || *p == 127 || n + 1 >= size)
			return NULL;
		buf[n++] = *p;
	}
	buf[n] = 0;
	return p + 1;
}

/* The value after '='; to the parameter that `name` is. */
static const char *read_value(const char *p, const char *name, struct challenge *c)
{
	char unknown[2048], *buf = unknown;
	size_t size = sizeof(unknown);

	if (!strcasecmp(name, "realm")) {
		buf = c->realm;
		size = sizeof(c->realm);
	} else if (!strcasecmp(name, "service")) {
		buf = c->service;
		size = sizeof(c->service);
	} else if (!strcasecmp(name, "scope")) {
		buf = c->scope;
		size = sizeof(c->scope);
	}
	return *p == '"' ? read_quoted(p, buf, size) : read_token(p, buf, size);
}

static void begin(struct challenge *c, const char *scheme)
{
	memset(c, 0, sizeof(*c));
	memcpy(c->scheme, scheme, strlen(scheme) + 1); /* read into a buffer of the same size */
	for (char *p = c->scheme; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p += 'a' - 'A';
}

int challenge_parse(const char *p, struct challenge out[CHALLENGE_MAX])
{
	char word[sizeof(out->scheme)];
	int n = 0;

	for (;;) {
		while (*(p = skip_space(p)) == ',')
			p++;
		if (!*p)
			return n;
		const char *end = read_token(p, word, sizeof(word));
		if (!end)
			return 0;
		p = skip_space(end);
		if (*p == '=') {
			if (!n)
				return 0; /* a parameter before any scheme */
			p = read_value(skip_space(p + 1), word, &out[n - 1]);
			if (!p)
				return 0;
		} else {
			if (n == CHALLENGE_MAX)
				return n;
			begin(&out[n++], word);
		}
	}
}
