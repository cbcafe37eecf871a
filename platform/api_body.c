// SPDX-License-Identifier: ISC
/* Fields of requests: of the body, of the query, of the address that the client used. */
#include "platform/api_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *api_shown(const char *text, char out[64])
{
	size_t i;

	for (i = 0; i < 60 && text[i]; i++)
		out[i] = (unsigned char)text[i] < ' ' || text[i] == 127 ? '?' : text[i];
	/* Do not end inside a character. */
	if (text[i])
		while (i && ((unsigned char)text[i] & 0xc0) == 0x80)
			i--;
	out[i] = '\0';
	return out;
}

static void wrong_type(struct call *c, const char *key, const char *want, bool *ok)
{
	if (*ok)
		api_error(c, API_INVALID, "Parameter %s must be %s.", key, want);
	*ok = false;
}

const char *body_string(struct call *c, const char *key, bool *ok)
{
	json_t *v = json_object_get(c->body, key);

	if (!v || json_is_null(v))
		return NULL;
	if (!json_is_string(v)) {
		wrong_type(c, key, "a string", ok);
		return NULL;
	}
	return json_string_value(v);
}

int body_bool(struct call *c, const char *key, bool *ok)
{
	json_t *v = json_object_get(c->body, key);

	if (!v || json_is_null(v))
		return -1;
	if (json_is_boolean(v))
		return json_is_true(v);
	if (json_is_string(v) && !strcmp(json_string_value(v), "true"))
		return 1;
	if (json_is_string(v) && !strcmp(json_string_value(v), "false"))
		return 0;
	wrong_type(c, key, "true or false", ok);
	return -1;
}

int64_t body_number(struct call *c, const char *key, bool *ok)
{
	json_t *v = json_object_get(c->body, key);

	if (!v || json_is_null(v))
		return -1;
	if (json_is_integer(v) && json_integer_value(v) >= 0)
		return json_integer_value(v);
	if (json_is_string(v)) {
		const char *s = json_string_value(v);
		size_t n = strspn(s, "0123456789");
		if (n && n < 18 && !s[n])
			return atoll(s);
	}
	wrong_type(c, key, "a whole number that is not negative", ok);
	return -1;
}

char *api_query(struct exchange *x, const char *name)
{
	size_t len = strlen(name);
	struct str q = x->query;

	while (q.n) {
		const char *amp = memchr(q.p, '&', q.n);
		size_t n = amp ? (size_t)(amp - q.p) : q.n;
		if (n > len && !memcmp(q.p, name, len) && q.p[len] == '=') {
			char *out = xcalloc(1, n - len);
			size_t o = 0;
			for (size_t i = len + 1; i < n; i++) {
				unsigned v;
				char digits[3] = "";
				if (q.p[i] == '%' && i + 2 < n) {
					memcpy(digits, q.p + i + 1, 2);
					if (strspn(digits, "0123456789abcdefABCDEF") == 2) {
						v = (unsigned)strtoul(digits, NULL, 16);
						out[o++] = v ? (char)v : '?';
						i += 2;
						continue;
					}
				}
				out[o++] = q.p[i] == '+' ? ' ' : q.p[i];
			}
			return out;
		}
		q.p += amp ? n + 1 : n;
		q.n -= amp ? n + 1 : n;
	}
	return NULL;
}

char *api_base_url(struct exchange *x)
{
	char *url = NULL;
	bool v6 = memchr(x->host.p, ':', x->host.n) && x->host.p[0] != '[';
	int n;

	if (x->host_port)
		n = asprintf(&url, "%s://%s%.*s%s:%u", x->tls ? "https" : "http", v6 ? "[" : "",
			     (int)x->host.n, x->host.p, v6 ? "]" : "", x->host_port);
	else
		n = asprintf(&url, "%s://%s%.*s%s", x->tls ? "https" : "http", v6 ? "[" : "", (int)x->host.n,
			     x->host.p, v6 ? "]" : "");
	return n < 0 ? xstrdup("") : url;
}
