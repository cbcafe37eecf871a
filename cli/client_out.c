/* SPDX-License-Identifier: ISC */
/*
 * How the platform's verbs speak: lists and titles on standard output as Heroku's client has them, what is being done on
 * standard error. Where that is a terminal a spinner turns while a request runs; elsewhere a line is written once, whole.
 *
 * Text from the platform is other people's (names, descriptions, log lines). On a terminal no control character of it gets through.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/client.h"
#include "lib/host/say.h"

#define TURN_NS 90000000ull

static struct {
	bool open, quiet, spins;
	char text[256];
	uint64_t turned_ns;
	unsigned frame;
} action;

void action_quiet(void)
{
	action.quiet = true;
}

/* The line so far; what: behind it. */
static void action_draw(const char *what)
{
	if (action.spins)
		fprintf(stderr, "\r\033[K%s... %s", action.text, what);
	else
		fprintf(stderr, "%s... %s", action.text, what);
}

void action_begin(const char *fmt, ...)
{
	const char *term = getenv("TERM");
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(action.text, sizeof(action.text), fmt, ap);
	va_end(ap);
	for (char *p = action.text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	action.open = !action.quiet;
	action.spins = isatty(2) && term && *term && strcmp(term, "dumb");
	if (action.open && action.spins)
		action_draw("");
}

void action_turn(void)
{
	static const char *const frames[] = {"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"};
	uint64_t now = cli_now_ns();

	if (!action.open || !action.spins || now - action.turned_ns < TURN_NS)
		return;
	action.turned_ns = now;
	action_draw(frames[action.frame++ % 10]);
}

void action_end(const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (!action.open)
		return;
	action.open = false;
	action_draw(what);
	fputc('\n', stderr);
}

void action_fail(void)
{
	if (action.open)
		action_end("!");
}

/* --- text ------------------------------------------------------------------------------------------------------------ */

void show_text(const char *s, size_t n)
{
	static int terminal = -1;

	if (terminal < 0)
		terminal = isatty(1);
	for (size_t i = 0; terminal && i < n; i++) {
		unsigned char ch = (unsigned char)s[i];
		/* C1 controls, which are two bytes in UTF-8, are escapes to some terminals as well */
		bool c1 = ch == 0xc2 && i + 1 < n && ((unsigned char)s[i + 1] & 0xe0) == 0x80;
		if (c1)
			i++;
		putchar(c1 || (ch < 0x20 && ch != '\n' && ch != '\t') || ch == 0x7f ? '?' : ch);
	}
	if (!terminal)
		fwrite(s, 1, n, stdout);
}

void show_line(const char *s)
{
	show_text(s, strlen(s));
	putchar('\n');
}

void show_title(const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		exit(say_fail(EXIT_OURS, "out of memory"));
	va_end(ap);
	fputs("=== ", stdout);
	show_line(text);
	putchar('\n');
	free(text);
}

void show_json(const json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
}

/* --- times and sizes ----------------------------------------------------------------------------------------------------- */

static const char *ago(double s, char *out, size_t size)
{
	if (s < 0)
		s = 0;
	if (s < 60)
		snprintf(out, size, "~ %.0fs ago", s);
	else if (s < 3600)
		snprintf(out, size, "~ %.0fm ago", s / 60);
	else if (s < 172800)
		snprintf(out, size, "~ %.0fh ago", s / 3600);
	else
		snprintf(out, size, "~ %.0fd ago", s / 86400);
	return out;
}

const char *time_text(const char *iso)
{
	static char ring[4][80];
	static unsigned at;
	char *out = ring[at++ % 4], when[32];
	struct tm tm = {0};

	*out = 0;
	if (iso && strptime(iso, "%Y-%m-%dT%H:%M:%S", &tm)) {
		strftime(when, sizeof(when), "%Y/%m/%d %H:%M:%S +0000", &tm);
		int n = snprintf(out, 80, "%s (", when);
		ago(difftime(time(NULL), timegm(&tm)), out + n, 80 - (size_t)n - 2);
		strcat(out, ")");
	}
	return out;
}

const char *bytes_text(uint64_t n)
{
	static char ring[4][32];
	static unsigned at;
	char *out = ring[at++ % 4];

	if (n < 10000)
		snprintf(out, 32, "%llu B", (unsigned long long)n);
	else if (n < 10000000)
		snprintf(out, 32, "%.1f KB", (double)n / 1e3);
	else if (n < 10000000000ull)
		snprintf(out, 32, "%.1f MB", (double)n / 1e6);
	else
		snprintf(out, 32, "%.1f GB", (double)n / 1e9);
	return out;
}

/* --- tables ---------------------------------------------------------------------------------------------------------------- */

/* Columns of a terminal that it takes: code points, near enough. */
static size_t width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

void table_row(struct table *t, size_t columns, ...)
{
	va_list ap;

	t->columns = columns;
	va_start(ap, columns);
	for (size_t i = 0; i < columns; i++) {
		const char *cell = va_arg(ap, const char *);
		strings_add(&t->cells, cell ? cell : "");
	}
	va_end(ap);
}

void table_print(struct table *t)
{
	size_t *wide = calloc(t->columns + 1, sizeof(*wide));

	for (size_t i = 0; wide && i < t->cells.n; i++) {
		size_t w = width(t->cells.v[i]);
		if (w > wide[i % t->columns])
			wide[i % t->columns] = w;
	}
	for (size_t i = 0; wide && i < t->cells.n; i++) {
		const char *cell = t->cells.v[i];
		bool last = i % t->columns == t->columns - 1;
		show_text(cell, strlen(cell));
		if (last)
			putchar('\n');
		else
			printf("%*s", (int)(wide[i % t->columns] - width(cell) + 2), "");
	}
	free(wide);
	strings_free(&t->cells);
}

/* --- JSON -------------------------------------------------------------------------------------------------------------------- */

const char *jstr(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

const char *jstr2(const json_t *o, const char *key, const char *key2)
{
	return jstr(json_object_get(o, key), key2);
}

json_int_t jint(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}
