/* SPDX-License-Identifier: ISC */
/*
 * What the user sees of a build: Heroku's manner on standard output (`-----> a step`, indented details), failures as
 * ` !     ` lines on standard error. With --json each is an object on a line of its own on standard output:
 *
 *   {"event":"step","text":...}  {"event":"line","text":...}  {"event":"output","text":...}
 *   {"event":"error","status":125,"text":...}                 {"event":"image",...}  (build.c)
 *
 * Text may quote files, package names and what a build step printed: control characters, the C1 ones of UTF-8 too, and
 * bytes that are no UTF-8 are shown as '?', so that no app drives the terminal or forges a line.
 * Output of a command arrives in pieces; a line is kept until its end is known, at most LINE_MAX_BYTES of it.
 */
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/build.h"
#include "lib/host/say.h"

#define LINE_MAX_BYTES 4096

static bool json;
static bool held_back; /* out_hold_back(): lines stay in stdio's buffer */
static char held[LINE_MAX_BYTES + 1]; /* a line of command output that has not ended yet */
static size_t n_held;

static void say_failed(int status, const char *text);

void out_json(bool on)
{
	json = on;
	say_on_failure(on ? say_failed : NULL);
}

bool out_is_json(void)
{
	return json;
}

/* Bytes of the well-formed and harmless UTF-8 character at s, 0: there is none. */
static size_t good_char(const unsigned char *s, size_t n)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t len = s[0] < 0x80 ? 1 : (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : 4;

	if (len == 1)
		return (s[0] >= 0x20 && s[0] != 0x7f) || s[0] == '\t';
	if (s[0] < 0xc2 || s[0] > 0xf4 || len > n)
		return 0;
	uint32_t c = s[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	bool bad = c < least[len] || c < 0xa0 || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff;
	return bad ? 0 : len;
}

/* In place; newlines stay where `lines`. */
static void clean(char *s, bool lines)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n;) {
		size_t len = good_char((unsigned char *)s + i, n - i);
		if (!len && !(lines && s[i] == '\n'))
			s[i] = '?';
		i += len ? len : 1;
	}
}

static void emit_json(const char *event, int status, const char *text)
{
	json_t *o = json_pack("{s:s}", "event", event);

	if (o && status >= 0)
		json_object_set_new(o, "status", json_integer(status));
	if (o)
		json_object_set_new(o, "text", json_string(text));
	char *line = o ? json_dumps(o, JSON_COMPACT) : NULL;
	if (line)
		out_raw(line);
	free(line);
	json_decref(o);
}

void out_hold_back(void)
{
	held_back = true;
}

void out_live(void)
{
	held_back = false;
	fflush(stdout);
}

static void flush_line(void)
{
	if (!held_back)
		fflush(stdout);
}

void out_raw(const char *line)
{
	puts(line);
	flush_line();
}

/* Other parts than the build (the store, an import, an export) fail by say_fail(). */
static void say_failed(int status, const char *text)
{
	char *copy = strdup(text);

	if (copy) {
		clean(copy, false);
		emit_json("error", status, copy);
	}
	free(copy);
}

static void emit(const char *event, const char *head, char *text)
{
	clean(text, false);
	if (json)
		emit_json(event, -1, text);
	else
		printf("%s%s\n", head, text);
	flush_line();
}

/* A command's unfinished last line ends where something else is said. */
static void flush_held(void)
{
	if (!n_held)
		return;
	held[n_held] = 0;
	n_held = 0;
	emit("output", "       ", held);
}

static char *format(const char *fmt, va_list ap)
{
	char *text = NULL;

	return vasprintf(&text, fmt, ap) < 0 ? NULL : text;
}

static void emit_va(const char *event, const char *head, const char *fmt, va_list ap)
{
	char *text = format(fmt, ap);

	flush_held();
	if (text)
		emit(event, head, text);
	free(text);
}

void out_step(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit_va("step", "-----> ", fmt, ap);
	va_end(ap);
}

void out_line(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit_va("line", "       ", fmt, ap);
	va_end(ap);
}

void out_text(const char *data, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (data[i] == '\n') {
			flush_held(); /* empty lines are left out */
		} else if (data[i] == '\r') {
			/* progress that redraws its line: what follows replaces it, or a newline ends it */
			if (i + 1 < n && data[i + 1] != '\n')
				flush_held();
		} else {
			if (n_held == LINE_MAX_BYTES)
				flush_held();
			held[n_held++] = data[i] ? data[i] : '?';
		}
	}
}

int out_fail(int status, const char *fmt, ...)
{
	va_list ap;

	flush_held();
	va_start(ap, fmt);
	char *text = format(fmt, ap);
	va_end(ap);
	if (!text)
		return status;
	clean(text, true);
	if (json)
		emit_json("error", status, text);
	char *rest = text;
	for (char *line; (line = strsep(&rest, "\n"));)
		fprintf(stderr, " !     %s\n", line);
	free(text);
	return status;
}
