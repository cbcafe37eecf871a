/* SPDX-License-Identifier: ISC */
/*
 * A reader for TOML 1.0 (cowbell.toml; pyproject.toml, Pipfile and Cargo.toml as far as detection asks them): tables, arrays
 * of tables, dotted and quoted keys, all four kinds of strings, integers, booleans, arrays, inline tables. Floats,
 * dates and times are kept as the text they are.
 *
 * The result is flat: one entry for each value, its path the keys with 0x1f between them, in the file's order. That is
 * all that detection needs, and it leaves nothing to walk that could be deep. Keys may not hold control characters.
 *
 * Input is an app's: at most MAX_ENTRIES values, MAX_PATH_BYTES of path, TOML_MAX_DEPTH levels of nesting. A key that is defined twice is an
 * error, as TOML says. Everything wrong is "line N: what".
 */
#include "lib/host/toml.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ENTRIES    5000
#define MAX_PATH_BYTES 1024
#define SEP	       '\x1f'

struct reader {
	const char *p, *end;
	int line;
	struct toml *t;
	char table[MAX_PATH_BYTES]; /* path of the current [table] */
};

struct text {
	char *s;
	size_t n, cap;
};

static bool value(struct reader *r, const char *path, int depth);

__attribute__((format(printf, 2, 3))) static bool fail(struct reader *r, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(r->t->error, sizeof(r->t->error), "line %d: ", r->line);

	va_start(ap, fmt);
	vsnprintf(r->t->error + n, sizeof(r->t->error) - (size_t)n, fmt, ap);
	va_end(ap);
	return false;
}

static int peek(const struct reader *r)
{
	return r->p < r->end ? (unsigned char)*r->p : -1;
}

static bool looking_at(const struct reader *r, const char *s)
{
	size_t n = strlen(s);

	return (size_t)(r->end - r->p) >= n && !memcmp(r->p, s, n);
}

static void blanks(struct reader *r)
{
	while (peek(r) == ' ' || peek(r) == '\t')
		r->p++;
}

/* A comment, if there is one, then the line's end or the file's. */
static bool line_end(struct reader *r)
{
	blanks(r);
	if (peek(r) == '#')
		while (r->p < r->end && *r->p != '\n')
			r->p++;
	if (peek(r) == '\r')
		r->p++;
	if (peek(r) == -1)
		return true;
	if (peek(r) != '\n')
		return fail(r, "'%c' where the line should end", isprint(peek(r)) ? peek(r) : '?');
	r->p++;
	r->line++;
	return true;
}

/* Blanks, newlines and comments between the entries of an array. */
static void space(struct reader *r)
{
	for (;;) {
		blanks(r);
		if (peek(r) == '#')
			while (r->p < r->end && *r->p != '\n')
				r->p++;
		if (peek(r) == '\n')
			r->line++;
		else if (peek(r) != '\r')
			return;
		r->p++;
	}
}

static void put(struct text *t, char c)
{
	if (t->n + 2 > t->cap) {
		t->cap = t->cap ? t->cap * 2 : 64;
		t->s = realloc(t->s, t->cap);
		if (!t->s)
			abort(); /* no longer than the file, which is in memory */
	}
	t->s[t->n++] = c;
	t->s[t->n] = 0;
}

static void put_utf8(struct text *t, uint32_t c)
{
	if (c < 0x80) {
		put(t, (char)c);
	} else if (c < 0x800) {
		put(t, (char)(0xc0 | c >> 6));
		put(t, (char)(0x80 | (c & 0x3f)));
	} else if (c < 0x10000) {
		put(t, (char)(0xe0 | c >> 12));
		put(t, (char)(0x80 | (c >> 6 & 0x3f)));
		put(t, (char)(0x80 | (c & 0x3f)));
	} else {
		put(t, (char)(0xf0 | c >> 18));
		put(t, (char)(0x80 | (c >> 12 & 0x3f)));
		put(t, (char)(0x80 | (c >> 6 & 0x3f)));
		put(t, (char)(0x80 | (c & 0x3f)));
	}
}

/* After the backslash. */
static bool escape(struct reader *r, struct text *out)
{
	static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
	int c = peek(r);
	const char *f = c > 0 ? strchr(from, c) : NULL;

	if (f) {
		put(out, to[f - from]);
		r->p++;
		return true;
	}
	if (c != 'u' && c != 'U')
		return fail(r, "unknown escape in a string");
	uint32_t u = 0;
	r->p++;
	for (int i = c == 'u' ? 4 : 8; i; i--, r->p++) {
		if (peek(r) < 0 || !isxdigit(peek(r)))
			return fail(r, "\\%c needs hexadecimal digits", c);
		u = u << 4 | (uint32_t)(isdigit(peek(r)) ? peek(r) - '0' : (peek(r) | 32) - 'a' + 10);
	}
	if (!u || u > 0x10ffff || (u >= 0xd800 && u < 0xe000))
		return fail(r, "\\%c names no character that can be used here", c);
	put_utf8(out, u);
	return true;
}

/* A backslash at a line's end in """: all white space up to the next text goes. */
static bool folded(struct reader *r)
{
	const char *q = r->p;

	while (q < r->end && (*q == ' ' || *q == '\t' || *q == '\r'))
		q++;
	if (q == r->end || *q != '\n')
		return false;
	while (r->p < r->end && strchr(" \t\r\n", *r->p) && *r->p)
		r->line += *r->p++ == '\n';
	return true;
}

/* A string of any kind, from its opening quote. */
static bool string(struct reader *r, struct text *out)
{
	char q = *r->p;
	char three[4] = {q, q, q, 0};
	bool multi = looking_at(r, three);

	put(out, 0);
	out->n = 0;
	r->p += multi ? 3 : 1;
	if (multi && peek(r) == '\r')
		r->p++;
	if (multi && peek(r) == '\n') {
		r->p++;
		r->line++;
	}
	while (r->p < r->end) {
		char c = *r->p;
		if (multi ? looking_at(r, three) : c == q) {
			r->p += multi ? 3 : 1;
			for (int i = 0; multi && i < 2 && peek(r) == q; i++, r->p++)
				put(out, q); /* """" ends with a quote inside */
			return true;
		}
		if (c == '\n' && !multi)
			break;
		if ((unsigned char)c < 0x20 && c != '\t' && !(multi && (c == '\n' || c == '\r')))
			return fail(r, "a control character in a string");
		r->line += c == '\n';
		r->p++;
		if (c != '\\' || q == '\'')
			put(out, c);
		else if (!(multi && folded(r)) && !escape(r, out))
			return false;
	}
	return fail(r, "a string that does not end");
}

static bool bare(int c)
{
	return c > 0 && (isalnum(c) || c == '_' || c == '-');
}

/* One or more keys with dots between them, appended to `path`. */
static bool key(struct reader *r, char path[MAX_PATH_BYTES], char *parents[TOML_MAX_DEPTH], int *n_parents)
{
	for (*n_parents = 0;;) {
		struct text k = {0};
		size_t len = strlen(path);
		blanks(r);
		if (peek(r) == '"' || peek(r) == '\'') {
			if (!string(r, &k)) {
				free(k.s);
				return false;
			}
		} else {
			while (bare(peek(r)))
				put(&k, *r->p++);
		}
		bool bad = !k.s; /* a quoted key may be empty, then it is "" */
		for (size_t i = 0; k.s && i < k.n; i++)
			bad |= (unsigned char)k.s[i] < 0x20;
		bool deep = len + k.n + 2 > MAX_PATH_BYTES || *n_parents == TOML_MAX_DEPTH;
		if (!bad && !deep)
			snprintf(path + len, MAX_PATH_BYTES - len, "%s%s", len ? "\x1f" : "", k.s);
		free(k.s);
		if (bad)
			return fail(r, "no key where one should be");
		if (deep)
			return fail(r, "a key that is too long or too deep");
		blanks(r);
		if (peek(r) != '.')
			return true;
		r->p++;
		parents[(*n_parents)++] = path + strlen(path);
	}
}

static struct toml_entry *find(const struct toml *t, const char *path)
{
	for (size_t i = t->n; i-- > 0;)
		if (!strcmp(t->v[i].path, path))
			return &t->v[i];
	return NULL;
}

static struct toml_entry *add(struct reader *r, const char *path, enum toml_type type, const char *text)
{
	struct toml *t = r->t;

	if (t->n == MAX_ENTRIES) {
		fail(r, "more than %d values", MAX_ENTRIES);
		return NULL;
	}
	if (t->n == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 32;
		t->v = realloc(t->v, t->cap * sizeof(*t->v));
		if (!t->v)
			abort();
	}
	struct toml_entry *e = &t->v[t->n];
	*e = (struct toml_entry){strdup(path), strdup(text), type, r->line, false, false};
	if (!e->path || !e->value)
		abort();
	t->n++;
	return e;
}

/* Tables that dots lead through: made where they are missing. */
static bool make_parents(struct reader *r, char *path, char *const parents[], int n)
{
	for (int i = 0; i < n; i++) {
		char keep = *parents[i];
		*parents[i] = 0;
		const struct toml_entry *e = find(r->t, path);
		bool good = e ? (e->type == TOML_TABLE && !e->closed) : add(r, path, TOML_TABLE, "") != NULL;
		*parents[i] = keep;
		if (!good)
			return r->t->error[0] ? false : fail(r, "a key leads through a value");
	}
	return true;
}

static bool key_value(struct reader *r, const char *table, int depth)
{
	char path[MAX_PATH_BYTES], *parents[TOML_MAX_DEPTH];
	int n;

	snprintf(path, sizeof(path), "%s", table);
	if (!key(r, path, parents, &n) || !make_parents(r, path, parents, n))
		return false;
	if (find(r->t, path))
		return fail(r, "a key that is there already");
	if (peek(r) != '=')
		return fail(r, "no '=' after a key");
	r->p++;
	blanks(r);
	return value(r, path, depth);
}

static bool array(struct reader *r, const char *path, int depth)
{
	char entry[MAX_PATH_BYTES];
	struct toml_entry *a = add(r, path, TOML_ARRAY, "");
	unsigned i = 0;

	if (!a)
		return false;
	a->closed = true;
	r->p++;
	for (;;) {
		space(r);
		if (peek(r) == ']')
			break;
		if (snprintf(entry, sizeof(entry), "%s%c%u", path, SEP, i++) >= (int)sizeof(entry))
			return fail(r, "a key that is too long or too deep");
		if (!value(r, entry, depth + 1))
			return false;
		space(r);
		if (peek(r) == ',')
			r->p++;
		else if (peek(r) != ']')
			return fail(r, "an array that does not end");
	}
	r->p++;
	return true;
}

static bool inline_table(struct reader *r, const char *path, int depth)
{
	size_t at = r->t->n;

	if (!add(r, path, TOML_TABLE, ""))
		return false;
	r->p++;
	blanks(r);
	while (peek(r) != '}') {
		if (!key_value(r, path, depth + 1))
			return false;
		blanks(r);
		if (peek(r) == ',')
			r->p++;
		else if (peek(r) != '}')
			return fail(r, "an inline table that does not end on its line");
		blanks(r);
	}
	r->p++;
	r->t->v[at].closed = true;
	return true;
}

/* A number, a date, true, false. */
static bool plain(struct reader *r, const char *path)
{
	char text[64];
	size_t n = 0, digits = 0;

	while (peek(r) > 0 && (isalnum(peek(r)) || strchr("+-._:", peek(r))) && n < sizeof(text) - 1)
		text[n++] = *r->p++;
	text[n] = 0;
	/* a date and a time may have one blank between them */
	if (n == 10 && text[4] == '-' && peek(r) == ' ' && r->end - r->p > 2 &&
	    isdigit((unsigned char)r->p[1])) {
		text[n++] = *r->p++;
		while (peek(r) > 0 && (isalnum(peek(r)) || strchr("+-.:", peek(r))) && n < sizeof(text) - 1)
			text[n++] = *r->p++;
		text[n] = 0;
	}
	if (!strcmp(text, "true") || !strcmp(text, "false"))
		return add(r, path, TOML_BOOL, text);
	const char *p = text + (text[0] == '-' || text[0] == '+');
	if (!strcmp(p, "inf") || !strcmp(p, "nan"))
		return add(r, path, TOML_OTHER, text);
	if (!isdigit((unsigned char)*p))
		return fail(r, "no value where one should be (text needs quotes)");
	for (; p[digits]; digits++)
		if (!isdigit((unsigned char)p[digits]) && p[digits] != '_')
			return add(r, path, TOML_OTHER, text);
	size_t m = 0;
	for (size_t i = 0; i < n; i++)
		if (text[i] != '_' && text[i] != '+')
			text[m++] = text[i];
	text[m] = 0;
	return add(r, path, TOML_INTEGER, text);
}

static bool value(struct reader *r, const char *path, int depth)
{
	if (depth > TOML_MAX_DEPTH)
		return fail(r, "values nested more than %d deep", TOML_MAX_DEPTH);
	if (peek(r) == '"' || peek(r) == '\'') {
		struct text s = {0};
		int line = r->line;
		bool good = string(r, &s);
		if (good) {
			struct toml_entry *e = add(r, path, TOML_STRING, s.s);
			good = e != NULL;
			if (e)
				e->line = line;
		}
		free(s.s);
		return good;
	}
	if (peek(r) == '[')
		return array(r, path, depth);
	if (peek(r) == '{')
		return inline_table(r, path, depth);
	return plain(r, path);
}

/* How many entries an array of tables has. */
static unsigned count_tables(const struct toml *t, const char *path)
{
	size_t len = strlen(path);
	unsigned n = 0;

	for (size_t i = 0; i < t->n; i++)
		n += !strncmp(t->v[i].path, path, len) && t->v[i].path[len] == SEP &&
		     !strchr(t->v[i].path + len + 1, SEP);
	return n;
}

/* [[array.of.tables]]: one more entry; its path in r->table. */
static bool array_table(struct reader *r, char *path)
{
	struct toml_entry *e = find(r->t, path);
	char entry[MAX_PATH_BYTES];

	if (e && (e->type != TOML_ARRAY || e->closed))
		return fail(r, "a key that is there already");
	if (!e && !add(r, path, TOML_ARRAY, ""))
		return false;
	if (snprintf(entry, sizeof(entry), "%s%c%u", path, SEP, count_tables(r->t, path)) >=
	    (int)sizeof(entry))
		return fail(r, "a key that is too long or too deep");
	memcpy(r->table, entry, sizeof(entry));
	return add(r, entry, TOML_TABLE, "") != NULL;
}

/* Where a header leads through an array of tables it means the array's last one: rewrite the path so. */
static bool through_arrays(struct reader *r, char path[MAX_PATH_BYTES], int levels)
{
	char out[MAX_PATH_BYTES] = "", *rest = path;

	for (int i = 0; i < levels; i++) {
		char *k = strsep(&rest, "\x1f");
		size_t n = strlen(out);
		if (snprintf(out + n, sizeof(out) - n, "%s%s", n ? "\x1f" : "", k ? k : "") >=
		    (int)(sizeof(out) - n))
			return fail(r, "a key that is too long or too deep");
		if (i == levels - 1)
			break;
		const struct toml_entry *e = find(r->t, out);
		if (!e && !(e = add(r, out, TOML_TABLE, "")))
			return false;
		n = strlen(out);
		if (e->type == TOML_ARRAY && !e->closed) {
			if (snprintf(out + n, sizeof(out) - n, "%c%u", SEP, count_tables(r->t, out) - 1) >=
			    (int)(sizeof(out) - n))
				return fail(r, "a key that is too long or too deep");
		} else if (e->type != TOML_TABLE || e->closed) {
			return fail(r, "a table's name leads through a value");
		}
	}
	memcpy(path, out, sizeof(out));
	return true;
}

static bool header(struct reader *r)
{
	char path[MAX_PATH_BYTES] = "", *parents[TOML_MAX_DEPTH];
	int n;
	bool many = looking_at(r, "[[");

	r->p += many ? 2 : 1;
	if (!key(r, path, parents, &n))
		return false;
	if (!looking_at(r, many ? "]]" : "]"))
		return fail(r, "a table's name that does not end");
	r->p += many ? 2 : 1;
	if (!through_arrays(r, path, n + 1))
		return false;
	if (many)
		return array_table(r, path) && line_end(r);
	struct toml_entry *e = find(r->t, path);
	if (e && (e->type != TOML_TABLE || e->closed || e->headed))
		return fail(r, "a table that is there already");
	if (!e && !(e = add(r, path, TOML_TABLE, "")))
		return false;
	e->headed = true;
	memcpy(r->table, path, sizeof(path));
	return line_end(r);
}

bool toml_parse(const char *text, size_t n, struct toml *out)
{
	struct reader r = {text, text + n, 1, out, ""};

	memset(out, 0, sizeof(*out));
	if (memchr(text, 0, n))
		return fail(&r, "a NUL byte in the file");
	if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		r.p += 3;
	while (r.p < r.end) {
		blanks(&r);
		if (peek(&r) == '[') {
			if (!header(&r))
				return false;
			continue;
		}
		if (peek(&r) != '#' && peek(&r) != '\n' && peek(&r) != '\r' && peek(&r) != -1 &&
		    !key_value(&r, r.table, 0))
			return false;
		if (!line_end(&r))
			return false;
	}
	return true;
}

void toml_free(struct toml *t)
{
	for (size_t i = 0; i < t->n; i++) {
		free(t->v[i].path);
		free(t->v[i].value);
	}
	free(t->v);
	t->v = NULL;
	t->n = t->cap = 0;
}

static void to_path(char buf[MAX_PATH_BYTES], const char *path)
{
	snprintf(buf, MAX_PATH_BYTES, "%s", path);
	for (char *p = buf; *p; p++)
		if (*p == '/')
			*p = SEP;
}

const struct toml_entry *toml_find(const struct toml *t, const char *path)
{
	char buf[MAX_PATH_BYTES];

	to_path(buf, path);
	return find(t, buf);
}

const struct toml_entry *toml_next(const struct toml *t, const char *path, size_t *at, const char **key_out)
{
	char buf[MAX_PATH_BYTES];

	to_path(buf, path);
	size_t n = strlen(buf);
	while (*at < t->n) {
		const struct toml_entry *e = &t->v[(*at)++];
		const char *rest = e->path + n + (n > 0);
		if (strncmp(e->path, buf, n) || (n && e->path[n] != SEP) || strchr(rest, SEP))
			continue;
		*key_out = rest;
		return e;
	}
	return NULL;
}
