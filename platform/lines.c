/* SPDX-License-Identifier: ISC */
/*
 * Output of a tenant's program, which is bounded: a line is cut into pieces of LINE_BYTES, of more than LINES_PER_S or
 * KEPT_PER_S the rest of that second is dropped and counted in one line (L10), and of more than READ_PER_S nothing is read
 * until the second is over, so that a program which writes in a loop waits for its pipe and costs us little.
 */
#include "platform/lines.h"

#include <stdlib.h>
#include <string.h>

#include "platform/logs.h"

#define LINE_BYTES  10000
#define LINES_PER_S 5000
#define KEPT_PER_S  (4u << 20)
#define READ_PER_S  (32u << 20)
#define SECOND_NS   1000000000ull

/* What the library OS says last when a program has used up its memory. A program that says it itself deceives its owner only. */
#define OUT_OF_MEMORY "cowbell: out of memory: limit "

static void tell_dropped(struct lines *l)
{
	if (l->dropped && l->i->app)
		log_linef(l->i->app, "heroku", "logplex",
			  "Error L10 (output buffer overflow): %s: %u messages dropped", l->i->dyno,
			  l->dropped);
	l->dropped = 0;
}

bool lines_second_over(const struct lines *l)
{
	return now_ns() - l->second_ns >= SECOND_NS;
}

bool lines_too_many(const struct lines *l)
{
	return l->read_bytes >= READ_PER_S;
}

static void put_line(struct lines *l, const char *text, size_t n)
{
	if (n > sizeof(OUT_OF_MEMORY) && !memcmp(text, OUT_OF_MEMORY, sizeof(OUT_OF_MEMORY) - 1))
		l->out_of_memory = true;
	if (l->kept_lines >= LINES_PER_S || l->kept_bytes + n > KEPT_PER_S) {
		l->dropped++;
		return;
	}
	l->kept_lines++;
	l->kept_bytes += n;
	if (n && text[n - 1] == '\r')
		n--;
	if (l->i->app)
		log_line(l->i->app, "app", l->i->dyno, text, n);
}

/* A part of a line, to what is there of it. */
static void add(struct lines *l, const char *data, size_t n, bool whole)
{
	if (!l->line)
		l->line = xrealloc(NULL, LINE_BYTES);
	memcpy(l->line + l->n, data, n);
	l->n += n;
	if (!whole && l->n < LINE_BYTES)
		return;
	put_line(l, l->line, l->n);
	l->n = 0;
}

void lines_put(struct lines *l, const char *data, size_t n)
{
	if (lines_second_over(l)) {
		tell_dropped(l);
		l->second_ns = now_ns();
		l->read_bytes = l->kept_bytes = l->kept_lines = 0;
	}
	l->read_bytes += n;
	while (n) {
		const char *nl = memchr(data, '\n', n);
		size_t part = nl ? (size_t)(nl - data) : n, room = LINE_BYTES - l->n;

		if (part > room)
			part = room, nl = NULL;
		if (nl && !l->n) /* a whole line, as most are */
			put_line(l, data, part);
		else
			add(l, data, part, nl);
		part += nl != NULL;
		data += part;
		n -= part;
	}
	if (!l->n) {
		free(l->line);
		l->line = NULL;
	}
}

void lines_end(struct lines *l)
{
	if (l->n)
		put_line(l, l->line, l->n);
	tell_dropped(l);
	free(l->line);
	l->line = NULL;
	l->n = 0;
}
