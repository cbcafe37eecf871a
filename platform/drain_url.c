/* SPDX-License-Identifier: ISC */
/*
 * URLs of log drains, written by tenants: SCHEME://[USER[:PASSWORD]@]HOST[:PORT][/PATH][?QUERY]
 *
 *   syslog (514), syslog+tls (6514), http (80), https (443)
 *
 * Strict: printable ASCII without quotes and the like, since path and host go into requests and log lines as they are.
 */
#include "platform/drain_url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/logring.h"
#include "platform/outconn.h"

static const struct scheme {
	const char *name;
	bool tls, http;
	uint16_t port;
} schemes[] = {{"syslog://", false, false, 514},
	       {"syslog+tls://", true, false, 6514},
	       {"http://", false, true, 80},
	       {"https://", true, true, 443}};

static int nibble(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? (c | 0x20) - 'a' + 10 : -1;
}

/* user:password with %XX; false if that is wrong or too long. */
static bool decode(const char *p, size_t n, char *out, size_t size)
{
	size_t o = 0;

	for (size_t i = 0; i < n; i++, o++) {
		int c = (unsigned char)p[i];
		if (o + 1 >= size)
			return false;
		if (c == '%') {
			int a = n - i > 2 ? nibble(p[i + 1]) : -1, b = n - i > 2 ? nibble(p[i + 2]) : -1;
			if (a < 0 || b < 0 || !(a | b))
				return false;
			c = a << 4 | b;
			i += 2;
		}
		out[o] = (char)c;
	}
	out[o] = 0;
	return true;
}

static bool good_host(const char *p, size_t n, bool v6)
{
	if (!n || n > 253)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!(v6 ? isxdigit((unsigned char)p[i]) || p[i] == ':' || p[i] == '.'
			 : isalnum((unsigned char)p[i]) || p[i] == '-' || p[i] == '.' || p[i] == '_'))
			return false;
	return v6 || (p[0] != '-' && p[0] != '.');
}

/* HOST[:PORT] or [V6][:PORT], all of it. */
static const char *take_host(struct drain_url *u, const char *p, size_t n)
{
	bool v6 = n && *p == '[';
	const char *end = v6 ? memchr(p, ']', n) : memchr(p, ':', n), *host = p + v6, *port;
	unsigned v = 0;

	if (v6 && !end)
		return "is not valid: its address does not end";
	if (!end)
		end = p + n;
	if (!good_host(host, (size_t)(end - host), v6))
		return "is not valid: it has no good host";
	snprintf(u->host, sizeof(u->host), "%.*s", (int)(end - host), host);
	port = end + v6;
	if (port == p + n)
		return NULL;
	for (const char *q = port + 1; q < p + n && v <= 65535; q++)
		v = isdigit((unsigned char)*q) ? v * 10 + (unsigned)(*q - '0') : 65536;
	if (*port != ':' || !v || v > 65535)
		return "is not valid: its port is none";
	u->port = (uint16_t)v;
	return NULL;
}

const char *drain_url_parse(const char *url, struct drain_url *u)
{
	const struct scheme *s = NULL;
	const char *p, *slash, *at;
	size_t n;

	memset(u, 0, sizeof(*u));
	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
		if (!strncasecmp(url, schemes[i].name, strlen(schemes[i].name)))
			s = &schemes[i];
	if (!s)
		return "must begin with syslog://, syslog+tls://, https:// or http://";
	if (strlen(url) > DRAIN_URL_MAX)
		return "is too long";
	for (p = url; *p; p++)
		if (*p <= 0x20 || *p >= 0x7f || strchr("\"\\<>^`{|}#", *p))
			return "is not valid: it has characters that must be escaped";
	u->tls = s->tls;
	u->http = s->http;
	u->port = s->port;
	p = url + strlen(s->name);
	slash = p + strcspn(p, "/?");
	at = memrchr(p, '@', (size_t)(slash - p));
	if (at && !decode(p, (size_t)(at - p), u->user, sizeof(u->user)))
		return "is not valid: its user or password is not";
	if (at)
		p = at + 1;
	n = (size_t)(slash - p);
	snprintf(u->path, sizeof(u->path), "%s%s", *slash == '/' ? "" : "/", slash);
	return take_host(u, p, n);
}

const char *drain_url_fault(const char *url)
{
	struct drain_url u;
	const char *why = drain_url_parse(url, &u);
	struct sockaddr_in a4 = {.sin_family = AF_INET};
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6};

	if (why || config.drain_private)
		return why;
	if ((inet_pton(AF_INET, u.host, &a4.sin_addr) == 1 && address_is_private((struct sockaddr *)&a4)) ||
	    (inet_pton(AF_INET6, u.host, &a6.sin6_addr) == 1 && address_is_private((struct sockaddr *)&a6)) ||
	    !strcasecmp(u.host, "localhost"))
		return "leads to a private address, which this server does not allow";
	return NULL;
}
