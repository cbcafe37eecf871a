/* SPDX-License-Identifier: ISC */
/*
 * The guard before the HTTP/1 parser: see guard.h.
 *
 * Two readers of one byte stream that disagree about where a message ends are how requests are smuggled. So a message must be of the one
 * form that nobody reads in another way: lines end with CRLF; no CR, LF or NUL anywhere else; names are tokens that are followed by
 * the colon at once; no folded lines; one Content-Length of digits only, or one Transfer-Encoding that says "chunked" and no
 * Content-Length; chunk sizes of hexadecimal digits only. Afterwards llhttp reads the same bytes, and must agree.
 *
 * Life of a head: guard_find_end() while bytes come (each byte is looked at once) -> guard_request() or guard_answer().
 * The strings of struct head are pieces of the bytes given.
 */
#include "platform/guard.h"

#include <stdlib.h>
#include <string.h>

/* Classes of bytes: 1 may be in a token (RFC 9110, 5.6.2), 2 in a header value, 4 in a request target, 8 in a host name. */
enum { T = 1, V = 2, U = 4, H = 8 };
static uint8_t class_of[256];

__attribute__((constructor)) static void make_classes(void)
{
	for (unsigned c = 0; c < 256; c++) {
		bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (alnum || (c && c < 128 && strchr("!#$%&'*+-.^_`|~", (int)c)))
			class_of[c] |= T;
		if (c == '\t' || (c >= 32 && c != 127))
			class_of[c] |= V;
		if (c > 32 && c < 127 && c != '#')
			class_of[c] |= U;
		if (alnum || c == '.' || c == '-' || c == '_')
			class_of[c] |= H;
	}
}

bool str_eq(struct str s, const char *text)
{
	return strlen(text) == s.n && !memcmp(s.p, text, s.n);
}

bool str_eq_nocase(struct str s, const char *text)
{
	size_t i = 0;
	for (; i < s.n && text[i]; i++) {
		char a = s.p[i], b = text[i];
		if (a == b)
			continue;
		a |= 0x20;
		if (a != (b | 0x20) || a < 'a' || a > 'z')
			return false;
	}
	return i == s.n && !text[i];
}

static bool all_of(struct str s, uint8_t what)
{
	for (size_t i = 0; i < s.n; i++)
		if (!(class_of[(uint8_t)s.p[i]] & what))
			return false;
	return true;
}

bool guard_token(struct str s)
{
	return s.n && all_of(s, T);
}

bool guard_value(struct str s)
{
	return all_of(s, V);
}

void head_free(struct head *h)
{
	free(h->headers);
	*h = (struct head){0};
}

/* Status of a line that is too long: the first one is the request line. */
static int too_long(bool first)
{
	return first ? -414 : -431;
}

long guard_find_end(const char *p, size_t n, size_t *scanned, size_t line_max, size_t head_max)
{
	size_t at = *scanned; /* the start of a line */
	for (;;) {
		const char *lf = at < n ? memchr(p + at, '\n', n - at) : NULL;
		if (!lf) {
			if (n - at > line_max + HEAD_NAME_MAX + 4)
				return too_long(!at);
			if (n > head_max)
				return -431;
			*scanned = at;
			return 0;
		}
		size_t end = (size_t)(lf - p);
		if (end == at || p[end - 1] != '\r')
			return -400;
		if (end - 1 == at)
			return at ? (long)(end + 1) : -400;
		if (end - at > line_max + HEAD_NAME_MAX + 4)
			return too_long(!at);
		if (end > head_max)
			return -431;
		at = end + 1;
	}
}

static struct header *new_header(struct head *h)
{
	if (h->n_headers == h->cap_headers) {
		h->cap_headers = h->cap_headers ? 2 * h->cap_headers : 32;
		h->headers = xrealloc(h->headers, h->cap_headers * sizeof(*h->headers));
	}
	return &h->headers[h->n_headers++];
}

/* Zero all but the array. */
static void start_head(struct head *h)
{
	struct header *array = h->headers;
	unsigned cap = h->cap_headers;
	*h = (struct head){.headers = array, .cap_headers = cap};
}

static bool take_length(struct head *h, struct str v)
{
	if (h->has_length || !v.n || v.n > 18)
		return false;
	uint64_t n = 0;
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(v.p[i] - '0');
	}
	h->has_length = true;
	h->length = n;
	return true;
}

/* A comma-separated list of tokens; each is looked at. */
static bool take_connection(struct head *h, struct str v)
{
	size_t i = 0;
	while (i < v.n) {
		while (i < v.n && (v.p[i] == ' ' || v.p[i] == '\t' || v.p[i] == ','))
			i++;
		size_t from = i;
		while (i < v.n && class_of[(uint8_t)v.p[i]] & T)
			i++;
		struct str t = {v.p + from, i - from};
		if (t.n == 5 && str_eq_nocase(t, "close"))
			h->close = true;
		else if (t.n == 10 && str_eq_nocase(t, "keep-alive"))
			h->keep_alive = true;
		else if (t.n == 7 && str_eq_nocase(t, "upgrade"))
			h->connection_upgrade = true;
		while (i < v.n && (v.p[i] == ' ' || v.p[i] == '\t'))
			i++;
		if (i < v.n && v.p[i] != ',')
			return false;
	}
	return true;
}

/*
 * Content_Length and Transfer_Encoding: programs that get headers as environment variables (CGI, WSGI, Rack) cannot tell them from those
 * with a hyphen.
 */
static bool disguised(struct str name)
{
	if (!memchr(name.p, '_', name.n))
		return false;
	static const char *const framing[] = {"content-length", "transfer-encoding"};
	for (unsigned k = 0; k < 2; k++) {
		if (name.n != strlen(framing[k]))
			continue;
		size_t i = 0;
		while (i < name.n &&
		       ((name.p[i] | 0x20) == framing[k][i] || (name.p[i] == '_' && framing[k][i] == '-')))
			i++;
		if (i == name.n)
			return true;
	}
	return false;
}

/* One header line that frames the message or says something about the connection. NULL, or why not. */
static const char *note_header(struct head *h, struct str name, struct str value)
{
	switch (name.n) {
	case 4:
		if (str_eq_nocase(name, "host")) {
			if (h->host.p)
				return "several Host headers";
			h->host = value;
		}
		break;
	case 7:
		if (str_eq_nocase(name, "upgrade")) {
			if (h->upgrade.p)
				return "several Upgrade headers";
			h->upgrade = value;
		}
		break;
	case 10:
		if (str_eq_nocase(name, "connection") && !take_connection(h, value))
			return "bad Connection";
		break;
	case 14:
		if (str_eq_nocase(name, "content-length")) {
			if (!take_length(h, value))
				return "bad Content-Length";
		} else if (disguised(name)) {
			return "disguised Content-Length";
		}
		break;
	case 17:
		if (str_eq_nocase(name, "transfer-encoding")) {
			if (h->chunked || value.n != 7 || !str_eq_nocase(value, "chunked"))
				return "bad Transfer-Encoding";
			h->chunked = true;
		} else if (disguised(name)) {
			return "disguised Transfer-Encoding";
		}
		break;
	}
	return NULL;
}

/* "name: value" of p[0..n) without CRLF. NULL, or why not. */
static const char *take_line(struct head *h, const char *p, size_t n, int *status, size_t value_max)
{
	size_t i = 0;
	while (i < n && class_of[(uint8_t)p[i]] & T)
		i++;
	if (i == n || p[i] != ':' || !i)
		return i == 0 && n && (p[0] == ' ' || p[0] == '\t') ? "folded header" : "bad header name";
	if (i > HEAD_NAME_MAX || h->n_headers >= HEAD_HEADERS_MAX) {
		*status = 431;
		return "too many headers or too long a name";
	}
	struct str name = {p, i};
	i++;
	while (i < n && (p[i] == ' ' || p[i] == '\t'))
		i++;
	while (n > i && (p[n - 1] == ' ' || p[n - 1] == '\t'))
		n--;
	struct str value = {p + i, n - i};
	if (value.n > value_max) {
		*status = 431;
		return "header too long";
	}
	if (!guard_value(value))
		return "control character in a header";
	*new_header(h) = (struct header){name, value};
	return note_header(h, name, value);
}

/* All lines after the first, which ends before p. */
static const char *take_lines(struct head *h, const char *p, const char *end, int *status, size_t value_max)
{
	end -= 2; /* the empty line */
	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		if (!lf || lf == p || lf[-1] != '\r')
			return "bare LF";
		const char *why = take_line(h, p, (size_t)(lf - 1 - p), status, value_max);
		if (why)
			return why;
		p = lf + 1;
	}
	return p == end && p[0] == '\r' && p[1] == '\n' ? NULL : "bad end of head";
}

/* "HTTP/1.0" or "HTTP/1.1" */
static int version_of(const char *p, size_t n)
{
	if (n != 8 || memcmp(p, "HTTP/1.", 7))
		return 0;
	return p[7] == '1' ? 11 : p[7] == '0' ? 10 : 0;
}

static int request_line(struct head *h, const char *p, size_t n, const char **why)
{
	const char *sp = memchr(p, ' ', n);
	*why = "bad request line";
	if (!sp)
		return 400;
	h->method = (struct str){p, (size_t)(sp - p)};
	if (!guard_token(h->method) || h->method.n > 64)
		return 400;
	const char *target = sp + 1;
	sp = memchr(target, ' ', n - (size_t)(target - p));
	if (!sp)
		return 400;
	h->target = (struct str){target, (size_t)(sp - target)};
	if (!h->target.n || !all_of(h->target, U))
		return 400;
	size_t rest = n - (size_t)(sp + 1 - p);
	h->version = version_of(sp + 1, rest);
	if (h->version)
		return 0;
	*why = "bad version";
	return rest == 8 && !memcmp(sp + 1, "HTTP/", 5) && sp[6] >= '0' && sp[6] <= '9' && sp[7] == '.' &&
			       sp[8] >= '0' && sp[8] <= '9'
		       ? 505
		       : 400;
}

/* What the framing headers say together. */
static const char *check_framing(struct head *h)
{
	if (h->chunked && h->has_length)
		return "Content-Length with Transfer-Encoding";
	if (h->chunked && h->version == 10)
		return "Transfer-Encoding in HTTP/1.0";
	return NULL;
}

static int check_expect(struct head *h, const char **why)
{
	for (unsigned i = 0; i < h->n_headers; i++) {
		if (h->headers[i].name.n != 6 || !str_eq_nocase(h->headers[i].name, "expect"))
			continue;
		if (h->expect_continue || !str_eq_nocase(h->headers[i].value, "100-continue")) {
			*why = "unsupported Expect";
			return 417;
		}
		h->expect_continue = true;
	}
	if (h->version == 10)
		h->expect_continue = false;
	return 0;
}

int guard_request(const char *p, size_t n, struct head *h, const char **why)
{
	int status = 400;
	start_head(h);
	const char *lf = memchr(p, '\n', n);
	if (n < 4 || !lf || lf == p || lf[-1] != '\r') {
		*why = "bare LF";
		return 400;
	}
	if (lf - 1 - p > HEAD_LINE_MAX) {
		*why = "request line too long";
		return 414;
	}
	int bad = request_line(h, p, (size_t)(lf - 1 - p), why);
	if (bad)
		return bad;
	*why = take_lines(h, lf + 1, p + n, &status, HEAD_LINE_MAX);
	if (*why)
		return status;
	*why = check_framing(h);
	if (*why)
		return 400;
	if (!h->host.p) {
		*why = "no Host";
		return 400;
	}
	if (str_eq(h->method, "CONNECT")) {
		*why = "CONNECT";
		return 405;
	}
	return check_expect(h, why);
}

int guard_answer(const char *p, size_t n, struct head *h, const char **why)
{
	int status = 0;
	start_head(h);
	const char *lf = memchr(p, '\n', n);
	*why = "bad status line";
	if (!lf || lf - p < 13 || lf[-1] != '\r')
		return -1;
	size_t len = (size_t)(lf - 1 - p);
	h->version = version_of(p, 8);
	if (!h->version || p[8] != ' ' || !guard_value((struct str){p, len}))
		return -1;
	for (int i = 9; i < 12; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -1;
		h->status = h->status * 10 + (p[i] - '0');
	}
	if (h->status < 100 || h->status > 599 || (len > 12 && p[12] != ' '))
		return -1;
	*why = take_lines(h, lf + 1, p + n, &status, ANSWER_LINE_MAX);
	if (!*why)
		*why = check_framing(h);
	/* an answer that has no body by its status must not announce chunks of one */
	if (!*why && h->chunked && (h->status < 200 || h->status == 204))
		*why = "Transfer-Encoding without a body";
	return *why ? -1 : 0;
}

bool guard_host(struct str v, struct str *name, uint16_t *port)
{
	size_t i = 0;
	*port = 0;
	if (v.n && v.p[0] == '[') {
		for (i = 1; i < v.n && ((v.p[i] >= '0' && v.p[i] <= '9') || v.p[i] == ':' || v.p[i] == '.' ||
					((v.p[i] | 0x20) >= 'a' && (v.p[i] | 0x20) <= 'f'));)
			i++;
		if (i == v.n || v.p[i] != ']' || i < 3)
			return false;
		*name = (struct str){v.p + 1, i - 1};
		i++;
	} else {
		while (i < v.n && class_of[(uint8_t)v.p[i]] & H)
			i++;
		*name = (struct str){v.p, i};
	}
	if (!name->n || name->n > 253)
		return false;
	if (i == v.n)
		return true;
	if (v.p[i++] != ':' || v.n - i > 5)
		return false;
	unsigned n = 0;
	for (; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return false;
		n = n * 10 + (unsigned)(v.p[i] - '0');
	}
	*port = (uint16_t)n;
	return n <= 65535;
}

bool guard_target(struct str method, struct str t, struct str *authority, struct str *path, struct str *query)
{
	*authority = *query = (struct str){0};
	if (!t.n || !all_of(t, U))
		return false;
	if (t.n == 1 && t.p[0] == '*') {
		*path = t;
		return str_eq(method, "OPTIONS");
	}
	size_t i = 0;
	if (t.p[0] != '/') {
		if (t.n > 7 && !strncasecmp(t.p, "http://", 7))
			i = 7;
		else if (t.n > 8 && !strncasecmp(t.p, "https://", 8))
			i = 8;
		else
			return false;
		authority->p = t.p + i;
		while (i < t.n && t.p[i] != '/' && t.p[i] != '?')
			i++;
		authority->n = (size_t)(t.p + i - authority->p);
		if (!authority->n)
			return false;
	}
	path->p = t.p + i;
	while (i < t.n && t.p[i] != '?')
		i++;
	path->n = (size_t)(t.p + i - path->p);
	if (!path->n)
		*path = STR("/");
	if (i < t.n)
		*query = (struct str){t.p + i + 1, t.n - i - 1};
	return true;
}

/* States of the chunk reader; each waits for what its name says. */
enum { SIZE, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LF, END_LF, END = CHUNKS_END };

/* One byte outside of data. false: refused. */
static bool chunk_byte(struct chunk_guard *g, uint8_t c)
{
	switch (g->state) {
	case SIZE:
		if (c == '\r') {
			g->state = SIZE_LF;
			return g->digits > 0;
		}
		unsigned d = c - '0';
		if (d > 9) {
			d = (c | 0x20) - 'a' + 10u;
			if (d < 10 || d > 15)
				return false;
		}
		g->left = g->left << 4 | d;
		return ++g->digits <= 15;
	case SIZE_LF:
		g->state = g->left ? DATA : TRAILER;
		g->digits = 0;
		g->line = 0;
		return c == '\n';
	case DATA_CR:
		g->state = DATA_LF;
		return c == '\r';
	case DATA_LF:
		g->state = SIZE;
		return c == '\n';
	case TRAILER:
		if (++g->trailer > HEAD_LINE_MAX)
			return false;
		if (c == '\r') {
			g->state = g->line ? TRAILER_LF : END_LF;
			return !g->line || g->colon;
		}
		if (!g->colon && c == ':') {
			g->colon = g->line > 0;
			return g->line++ > 0;
		}
		g->line++;
		return class_of[c] & (g->colon ? V : T);
	case TRAILER_LF:
		g->state = TRAILER;
		g->line = 0;
		g->colon = false;
		return c == '\n';
	case END_LF:
		g->state = END;
		return c == '\n';
	}
	return false;
}

long guard_chunks(struct chunk_guard *g, const char *p, size_t n)
{
	size_t i = 0;
	while (i < n && g->state != END) {
		if (g->state == DATA) {
			size_t k = n - i < g->left ? n - i : (size_t)g->left;
			i += k;
			g->left -= k;
			if (!g->left)
				g->state = DATA_CR;
		} else if (!chunk_byte(g, (uint8_t)p[i++])) {
			return -1;
		}
	}
	return (long)i;
}
