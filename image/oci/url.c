/* SPDX-License-Identifier: ISC */
/*
 * Addresses that a registry sends us to. They are taken apart by libcurl, which also goes there: two parsers that disagree about
 * where a host name ends would be a way around every check here. http_open() was called before, so libcurl is loaded.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "image/oci/http.h"
#include "lib/host/curl.h"
#include "lib/host/say.h"

#define MAX_URL 8192u

bool http_is_tls(const char *url)
{
	return !strncasecmp(url, "https://", 8);
}

/* One part of a URL, lower case (malloc), or NULL. */
static char *part_of(const char *url, CURLUPart what)
{
	CURLU *u = curl_api.url();
	char *part = NULL, *copy = NULL;

	if (u && !curl_api.url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) &&
	    !curl_api.url_get(u, what, &part, CURLU_DEFAULT_PORT)) {
		copy = textf("%s", part);
		for (char *p = copy; *p; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p += 'a' - 'A';
		curl_api.free(part);
	}
	curl_api.url_cleanup(u);
	return copy;
}

static bool same_part(const char *a, const char *b, CURLUPart what)
{
	char *x = part_of(a, what), *y = part_of(b, what);
	bool same = x && y && !strcmp(x, y);

	free(x);
	free(y);
	return same;
}

bool http_same_origin(struct http *h, const char *a, const char *b)
{
	(void)h; /* an open one shows that the library is loaded */
	return same_part(a, b, CURLUPART_SCHEME) && same_part(a, b, CURLUPART_HOST) &&
	       same_part(a, b, CURLUPART_PORT);
}

bool http_same_host(struct http *h, const char *a, const char *b)
{
	(void)h;
	return same_part(a, b, CURLUPART_HOST);
}

bool http_is_loopback(struct http *h, const char *url)
{
	char *host = part_of(url, CURLUPART_HOST);
	struct in_addr v4;

	(void)h;
	bool yes = host && (!strcmp(host, "localhost") || !strcmp(host, "[::1]") ||
			    (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127));
	free(host);
	return yes;
}

char *http_resolve(struct http *h, const char *base, const char *location)
{
	CURLU *u = curl_api.url();
	char *whole = NULL, *copy = NULL;

	(void)h;
	if (u && strlen(location) <= MAX_URL &&
	    !curl_api.url_set(u, CURLUPART_URL, base, CURLU_DISALLOW_USER) &&
	    !curl_api.url_set(u, CURLUPART_URL, location, CURLU_DISALLOW_USER) &&
	    !curl_api.url_get(u, CURLUPART_URL, &whole, 0)) {
		if (!strncmp(whole, "https://", 8) || !strncmp(whole, "http://", 7))
			copy = textf("%s", whole);
		curl_api.free(whole);
	}
	curl_api.url_cleanup(u);
	return copy;
}

char *http_escape(const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
	char *out = malloc(strlen(text) * 3 + 1), *p = out;

	if (!out)
		exit(say_fail(EXIT_OURS, "out of memory"));
	for (; *text; text++) {
		if (strchr(plain, *text))
			*p++ = *text;
		else
			p += sprintf(p, "%%%02X", (unsigned char)*text);
	}
	*p = 0;
	return out;
}
