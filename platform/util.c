/* SPDX-License-Identifier: ISC */
/*
 * What all parts use: the clock, memory, randomness, times as text, and our own log.
 *
 * The log is for operators and goes to standard error, one line for each event, as text or as JSON. What strangers wrote may be
 * in a line (a host name, a path), so control characters are escaped in either. A line is cut at LINE_MAX_BYTES.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "platform/platform.h"

#define LINE_MAX_BYTES 2048

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int64_t real_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void format_time(int64_t us, char out[32])
{
	time_t s = (time_t)(us / 1000000);
	struct tm tm;

	if (!gmtime_r(&s, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		strcpy(out, "1970-01-01T00:00:00Z");
}

static void *need(void *p)
{
	if (!p)
		exit(say_fail(EXIT_OURS, "serve: out of memory"));
	return p;
}

void *xcalloc(size_t n, size_t size)
{
	return need(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t size)
{
	return need(realloc(p, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return need(strdup(s));
}

char *xstrndup(const char *s, size_t n)
{
	return need(strndup(s, n));
}

/* From a store of random bytes that one system call fills for many callers. */
void random_bytes(void *p, size_t n)
{
	static uint8_t pool[256];
	static size_t left;
	uint8_t *out = p;

	while (n) {
		if (!left) {
			ssize_t got = getrandom(pool, sizeof(pool), 0);
			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				exit(say_fail(EXIT_OURS, "serve: no random numbers: %s", strerror(errno)));
			left = (size_t)got;
		}
		size_t take = n < left ? n : left;
		left -= take;
		memcpy(out, pool + left, take);
		explicit_bzero(pool + left, take);
		out += take;
		n -= take;
	}
}

void make_uuid(char out[37])
{
	uint8_t b[16];

	random_bytes(b, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

void make_token(char *out, size_t digits)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < digits; i++) {
		uint8_t b;
		random_bytes(&b, 1);
		out[i] = hex[b & 15];
	}
	out[digits] = 0;
}

/* --- our own log ---------------------------------------------------------------------------------------- */

struct line {
	char s[LINE_MAX_BYTES];
	size_t n;
};

/* What must be said even of a line that is full: the quote, the brace, the newline. */
#define LINE_RESERVE 8

static void put(struct line *l, const char *s)
{
	size_t n = strlen(s), room = sizeof(l->s) - LINE_RESERVE - l->n;

	if (n > room)
		n = room;
	memcpy(l->s + l->n, s, n);
	l->n += n;
}

/* A text with what could end or forge a line made harmless; as in a JSON string. */
static void put_escaped(struct line *l, const char *s, bool json)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		char e[8] = {(char)c, 0};

		if (c < 32 || c == 127)
			snprintf(e, sizeof(e), json ? "\\u%04x" : "\\x%02x", c);
		else if (json && (c == '"' || c == '\\'))
			snprintf(e, sizeof(e), "\\%c", c);
		if (l->n + strlen(e) > sizeof(l->s) - LINE_RESERVE)
			return;
		put(l, e);
	}
}

static void put_json(struct line *l, const char *level, const char *app, const char *text)
{
	char now[32];

	format_time(real_us(), now);
	put(l, "{\"time\":\"");
	put(l, now);
	put(l, "\",\"level\":\"");
	put_escaped(l, level, true);
	if (app) {
		put(l, "\",\"app\":\"");
		put_escaped(l, app, true);
	}
	put(l, "\",\"message\":\"");
	put_escaped(l, text, true);
	memcpy(l->s + l->n, "\"}\n", 3);
	l->n += 3;
}

static void put_text(struct line *l, const char *level, const char *app, const char *text)
{
	put(l, "cowbell: ");
	if (strcmp(level, "info")) {
		put(l, level);
		put(l, ": ");
	}
	if (app) {
		put_escaped(l, app, false);
		put(l, ": ");
	}
	put_escaped(l, text, false);
	l->s[l->n++] = '\n';
}

void plog(const char *level, const char *app, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	struct line l;
	va_list ap;

	if (!config.verbose && !strcmp(level, "debug"))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	l.n = 0;
	if (config.log_format && !strcmp(config.log_format, "json"))
		put_json(&l, level, app, text);
	else
		put_text(&l, level, app, text);
	/* One write, so that lines of children do not mix into it. A log that cannot be written is not worth an end. */
	if (write(STDERR_FILENO, l.s, l.n) < 0)
		return;
}
