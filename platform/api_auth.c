// SPDX-License-Identifier: ISC
/* Who calls the API, by the token that he shows, and how often he may. */
#include "platform/api_util.h"

#include <stdlib.h>
#include <string.h>

#define TOKEN_MAX 256

/* --- who asks ----------------------------------------------------------------------------------------- */

static int base64_value(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : -1;
}

/* "user:token" of Basic; the token's place in out, or NULL. */
static const char *basic_token(struct str s, char *out, size_t size)
{
	unsigned bits = 0, have = 0;
	size_t n = 0;
	char *colon;

	while (s.n && s.p[s.n - 1] == '=')
		s.n--;
	for (size_t i = 0; i < s.n; i++) {
		int v = base64_value(s.p[i]);
		if (v < 0)
			return NULL;
		bits = bits << 6 | (unsigned)v;
		have += 6;
		if (have >= 8) {
			have -= 8;
			if (n + 1 >= size)
				return NULL;
			out[n++] = (char)(bits >> have & 0xff);
		}
	}
	out[n] = '\0';
	if (memchr(out, 0, n))
		return NULL;
	colon = strchr(out, ':');
	/* `heroku` and netrc give the token as password; some tools as the user's name with nothing behind it. */
	if (colon && colon[1])
		return colon + 1;
	if (colon)
		*colon = '\0';
	return out;
}

/* Browsers remember a password that was typed once, and send it along with what pages of others make them send. */
static bool forged_by_a_page(const struct exchange *x)
{
	struct str site = exchange_header(x, "Sec-Fetch-Site");

	return site.p && !str_eq(site, "same-origin") && !str_eq(site, "none");
}

struct user *api_user(struct exchange *x)
{
	struct str h = exchange_header(x, "Authorization");
	char buf[TOKEN_MAX * 2];
	const char *token;
	size_t scheme = 0;

	if (!h.p)
		return NULL;
	while (scheme < h.n && h.p[scheme] != ' ')
		scheme++;
	struct str kind = {h.p, scheme}, rest = {h.p + scheme, h.n - scheme};
	while (rest.n && rest.p[0] == ' ')
		rest.p++, rest.n--;
	while (rest.n && rest.p[rest.n - 1] == ' ')
		rest.n--;
	if (!rest.n)
		return NULL;
	if (str_eq_nocase(kind, "Bearer"))
		return rest.n <= TOKEN_MAX ? model_user_by_token(rest.p, rest.n) : NULL;
	if (!str_eq_nocase(kind, "Basic") || forged_by_a_page(x))
		return NULL;
	token = basic_token(rest, buf, sizeof(buf));
	if (!token || !*token || strlen(token) > TOKEN_MAX)
		return NULL;
	return model_user_by_token(token, strlen(token));
}

/* --- how often ------------------------------------------------------------------------------------------ */

/*
 * A bucket for each user, filled at api_per_hour / 3600 a second. The table is small and of fixed size: a bucket that
 * would be full again by now is as good as none, and gives way.
 */
#define BUCKETS 1024
static struct bucket {
	const struct user *user;
	double left;
	uint64_t ns;
} buckets[BUCKETS];

/* What remains after this call, -1 if there is no limit, -2 if it is one too many. */
long api_take_call(const struct user *u)
{
	double rate = config.api_per_hour / 3600.0, full = config.api_per_hour;
	uint64_t now = now_ns();
	struct bucket *b = NULL;
	size_t at = ((uintptr_t)u >> 4) % BUCKETS;

	if (!config.api_per_hour)
		return -1;
	for (size_t i = 0; i < 16; i++) {
		struct bucket *k = &buckets[(at + i) % BUCKETS];
		if (k->user == u) {
			b = k;
			break;
		}
		if (!b && (!k->user || k->left + rate * (double)(now - k->ns) / 1e9 >= full))
			b = k;
	}
	if (!b) /* sixteen busy neighbours: the first shares its bucket's place */
		b = &buckets[at];
	if (b->user != u)
		*b = (struct bucket){u, full, now};
	b->left += rate * (double)(now - b->ns) / 1e9;
	b->ns = now;
	if (b->left > full)
		b->left = full;
	if (b->left < 1)
		return -2;
	b->left -= 1;
	return (long)b->left;
}
