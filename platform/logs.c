/* SPDX-License-Identifier: ISC */
/*
 * Lines of apps: one ring of bytes for each app that ever said anything.
 *
 * The router writes a line for each request, so log_line() is a copy into a buffer and no more; readers are told later, from the loop,
 * many lines at a time.
 *
 * A ring is a buffer whose bytes [head, tail) are records, oldest first, without gaps. Places are counted from the app's first byte
 * ever (`start` is that of head), so a reader's place stays good when the buffer grows or its content moves down. When the
 * end is reached the content moves to the front, after so much of the oldest was let go that this is rare: a byte
 * is moved some three times in its life.
 *
 * Bounds: LOG_LINES_MAX lines and LOG_BYTES_MAX bytes for one app, LOG_TOTAL_MAX for all. When all together have too much, the app that
 * was silent the longest loses its buffer, whole. What was lost is counted by readers from the numbers of lines.
 *
 * What is kept is valid UTF-8 without control characters but tab and colours (ESC [ digits m), whatever an app wrote: its lines end up in
 * terminals, in event streams and in syslog frames, and none of those must be steered by them.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "platform/logring.h"

#define RING_MIN 1024

struct record {
	uint32_t size; /* of all: this, source NUL, dyno NUL, text, padded to 8 */
	uint16_t text;
	uint8_t source, dyno;
	int64_t us;
};

struct log_follower {
	struct app *app;
	log_cb *cb;
	void *arg;
	struct log_follower *prev, *next;
};

struct log_app {
	struct app *app;
	char *buf; /* NULL: there are no lines */
	uint32_t cap, head, tail, n_lines;
	uint64_t start, seq; /* place of head; number of the last line */
	struct log_app *older, *newer; /* of those with a buffer, by their last line */
	struct log_cursor *cursors;
	struct log_follower *followers;
	bool due; /* in the list of those whose cursors are to be told */
	struct log_app *next_due;
};

struct log_totals log_totals;
static struct log_app *oldest, *newest, *due_first, **due_end = &due_first;
static uv_timer_t due_timer;

static void tell_due(uv_timer_t *t);

void logs_open(void)
{
	uv_timer_init(loop, &due_timer);
	uv_unref((uv_handle_t *)&due_timer);
	drains_open();
}

/* --- the order of silence ------------------------------------------------------------------------- */

static void order_remove(struct log_app *l)
{
	*(l->older ? &l->older->newer : &oldest) = l->newer;
	*(l->newer ? &l->newer->older : &newest) = l->older;
	l->older = l->newer = NULL;
}

static void order_newest(struct log_app *l)
{
	l->older = newest;
	l->newer = NULL;
	*(newest ? &newest->newer : &oldest) = l;
	newest = l;
}

/* --- the ring --------------------------------------------------------------------------------------- */

static struct record *record_at(const struct log_app *l, uint32_t at)
{
	return (struct record *)(l->buf + at);
}

static void drop_oldest(struct log_app *l)
{
	uint32_t size = record_at(l, l->head)->size;

	l->head += size;
	l->start += size;
	l->n_lines--;
}

static void drop_all(struct log_app *l)
{
	if (!l->buf)
		return;
	l->start += l->tail - l->head;
	log_totals.bytes -= l->cap;
	free(l->buf);
	l->buf = NULL;
	l->cap = l->head = l->tail = l->n_lines = 0;
	order_remove(l);
}

static struct log_app *log_of(struct app *a)
{
	if (!a->logs) {
		a->logs = xcalloc(1, sizeof(*a->logs));
		a->logs->app = a;
	}
	return a->logs;
}

/* Room for `size` bytes at tail. */
static void make_room(struct log_app *l, uint32_t size)
{
	uint32_t used, cap = l->cap;

	while (l->n_lines >= LOG_LINES_MAX)
		drop_oldest(l);
	if (l->tail + size <= l->cap)
		return;
	used = l->tail - l->head;
	while (used + size > cap - cap / 4 && cap < LOG_BYTES_MAX)
		cap = cap ? cap * 2 : RING_MIN;
	while (used && used + size > cap - (cap == LOG_BYTES_MAX ? cap / 4 : 0)) {
		drop_oldest(l);
		used = l->tail - l->head;
	}
	if (cap != l->cap) {
		char *buf = xrealloc(NULL, cap);
		if (used)
			memcpy(buf, l->buf + l->head, used);
		free(l->buf);
		l->buf = buf;
		log_totals.bytes += cap - l->cap;
		l->cap = cap;
	} else if (l->head) {
		memmove(l->buf, l->buf + l->head, used);
	}
	l->head = 0;
	l->tail = used;
}

static void append(struct log_app *l, int64_t us, const char *source, size_t n_source, const char *dyno,
		   size_t n_dyno, const char *text, size_t n)
{
	uint32_t size = (uint32_t)((sizeof(struct record) + n_source + 1 + n_dyno + 1 + n + 7) & ~(size_t)7);
	bool had = l->buf;

	make_room(l, size);
	if (had)
		order_remove(l);
	order_newest(l);
	struct record *r = record_at(l, l->tail);
	*r = (struct record){size, (uint16_t)n, (uint8_t)n_source, (uint8_t)n_dyno, us};
	char *p = (char *)(r + 1);
	memcpy(p, source, n_source);
	p[n_source] = 0;
	p += n_source + 1;
	memcpy(p, dyno, n_dyno);
	p[n_dyno] = 0;
	memcpy(p + n_dyno + 1, text, n);
	l->tail += size;
	l->n_lines++;
	l->seq++;
	log_totals.lines++;
	while (log_totals.bytes > LOG_TOTAL_MAX && oldest != l)
		drop_all(oldest);
}

static void entry_of(const struct log_app *l, const struct record *r, uint64_t seq, struct log_entry *e)
{
	const char *p = (const char *)(r + 1);

	*e = (struct log_entry){seq, r->us, p, p + r->source + 1, p + r->source + 1 + r->dyno + 1, r->text};
}

/* --- what may be kept ------------------------------------------------------------------------------- */

/* Length of the UTF-8 sequence at p, 0 if it is none (overlong forms and surrogates are none). */
static size_t utf8_at(const unsigned char *p, size_t n)
{
	unsigned c = p[0], min = 0x80, value;
	size_t len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

	if (c < 0xc2 || c > 0xf4 || len > n)
		return 0;
	value = c & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (p[i] & 0x3f);
	}
	min = len == 2 ? 0x80 : len == 3 ? 0x800 : 0x10000;
	if (value < min || value > 0x10ffff || (value >= 0xd800 && value < 0xe000) || value < 0xa0)
		return 0; /* C1 controls, too */
	return len;
}

/* ESC [ digits ; m: a colour. Its length, or 0. */
static size_t colour_at(const unsigned char *p, size_t n)
{
	size_t i = 2;

	if (n < 3 || p[1] != '[')
		return 0;
	while (i < n && i < 24 && ((p[i] >= '0' && p[i] <= '9') || p[i] == ';'))
		i++;
	return i < n && p[i] == 'm' ? i + 1 : 0;
}

/* Nothing but printable ASCII? Eight bytes at a time: is one below 0x20, is one 0x7f, is one above. */
static bool plain(const unsigned char *p, size_t n)
{
	const uint64_t ones = 0x0101010101010101, high = ones * 0x80;
	uint64_t w, del;

	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&w, p, 8);
		del = w ^ ones * 0x7f;
		if ((w | (w - ones * 0x20) | (del - ones)) & high)
			return false;
	}
	for (size_t i = 0; i < n; i++)
		if (p[i] < 0x20 || p[i] >= 0x7f)
			return false;
	return true;
}

/* Copy with all that is not wanted replaced by U+FFFD; as much of p as fits `size` bytes. Returns bytes written, *used those read. */
static size_t clean(const unsigned char *p, size_t n, char *out, size_t size, size_t *used)
{
	size_t i = 0, o = 0;

	while (i < n) {
		size_t len = p[i] >= 0x80				      ? utf8_at(p + i, n - i)
			     : p[i] == 0x1b				      ? colour_at(p + i, n - i)
			     : (p[i] >= 0x20 && p[i] != 0x7f) || p[i] == '\t' ? 1
									      : 0;
		if (o + (len ? len : 3) > size)
			break;
		if (len) {
			memcpy(out + o, p + i, len);
			o += len;
			i += len;
		} else {
			memcpy(out + o, "\xef\xbf\xbd", 3);
			o += 3;
			i++;
		}
	}
	*used = i;
	return o;
}

/* Our own words, but a dyno's name may come from a Procfile. */
static size_t clean_name(const char *name, char *out, size_t size)
{
	size_t n = 0;

	for (; name && name[n] && n < size - 1; n++)
		out[n] = name[n] > 0x20 && name[n] < 0x7f && !strchr("[]:\"", name[n]) ? name[n] : '_';
	if (!n)
		out[n++] = '-';
	out[n] = 0;
	return n;
}

/* --- writing ---------------------------------------------------------------------------------------- */

static void become_due(struct log_app *l)
{
	if (l->due)
		return;
	l->due = true;
	l->next_due = NULL;
	*due_end = l;
	due_end = &l->next_due;
	if (!uv_is_active((uv_handle_t *)&due_timer)) {
		uv_timer_start(&due_timer, tell_due, 10, 0);
		uv_ref((uv_handle_t *)&due_timer);
	}
}

static void put(struct log_app *l, int64_t us, const char *source, const char *dyno, const char *text,
		size_t n)
{
	char s[LOG_SOURCE_MAX], d[LOG_DYNO_MAX];
	size_t n_s = clean_name(source, s, sizeof(s)), n_d = clean_name(dyno, d, sizeof(d));

	append(l, us, s, n_s, d, n_d, text, n);
	for (struct log_follower *f = l->followers, *next; f; f = next) {
		next = f->next;
		f->cb(f->arg, us, s, d, text, n);
	}
}

void log_line(struct app *a, const char *source, const char *dyno, const char *text, size_t n)
{
	struct log_app *l;
	int64_t us = real_us();

	if (!a)
		return;
	l = log_of(a);
	while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	if (n <= LOG_LINE_MAX && plain((const unsigned char *)text, n)) {
		put(l, us, source, dyno, text, n);
	} else {
		char piece[LOG_LINE_MAX];
		for (size_t used, out; n; text += used, n -= used) {
			out = clean((const unsigned char *)text, n, piece, sizeof(piece), &used);
			put(l, us, source, dyno, piece, out);
		}
	}
	if (l->cursors)
		become_due(l);
}

void log_linef(struct app *a, const char *source, const char *dyno, const char *fmt, ...)
{
	char text[LOG_LINE_MAX];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (n >= 0)
		log_line(a, source, dyno, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* --- reading ---------------------------------------------------------------------------------------- */

static void due_remove(struct log_app *l)
{
	struct log_app **p = &due_first;

	while (*p != l)
		p = &(*p)->next_due;
	*p = l->next_due;
	if (!*p)
		due_end = p;
	l->due = false;
}

/* Those that are in the list now; who becomes due again meanwhile waits for the next turn. */
static void tell_due(uv_timer_t *t)
{
	size_t n = 0;

	for (struct log_app *l = due_first; l; l = l->next_due)
		n++;
	while (n-- && due_first) {
		struct log_app *l = due_first;
		due_remove(l);
		for (struct log_cursor *c = l->cursors; c; c = c->next)
			c->due = true;
		/* more() may close this cursor or any other: begin anew after each */
		for (struct log_cursor *c = l->cursors; c;) {
			if (!c->due) {
				c = c->next;
				continue;
			}
			c->due = false;
			c->more(c);
			c = l->cursors;
		}
	}
	if (due_first)
		uv_timer_start(&due_timer, tell_due, 10, 0);
	else
		uv_unref((uv_handle_t *)&due_timer);
}

void log_cursor_open(struct log_cursor *c, struct app *a, uint64_t after)
{
	struct log_app *l = log_of(a);
	uint64_t seq = l->seq - l->n_lines + 1, pos = l->start;
	uint32_t at = l->head;

	if (after > l->seq)
		after = l->seq;
	for (; seq <= after; seq++) {
		pos += record_at(l, at)->size;
		at += record_at(l, at)->size;
	}
	c->app = a;
	c->seq = after && after + 1 < seq ? after + 1 : seq; /* lines that are gone already count as lost */
	c->pos = pos;
	c->due = false;
	c->prev = NULL;
	c->next = l->cursors;
	if (l->cursors)
		l->cursors->prev = c;
	l->cursors = c;
	if (seq <= l->seq)
		become_due(l);
}

bool log_cursor_next(struct log_cursor *c, struct log_entry *e, uint64_t *lost)
{
	struct log_app *l = c->app ? c->app->logs : NULL;
	uint64_t first;

	*lost = 0;
	if (!l)
		return false;
	first = l->seq - l->n_lines + 1;
	if (c->seq > l->seq)
		return false;
	if (!l->n_lines)
		return false; /* all of them went; the next line tells how many */
	if (c->seq < first) {
		*lost = first - c->seq;
		c->seq = first;
		c->pos = l->start;
	}
	if (c->pos < l->start)
		c->pos = l->start;
	struct record *r = record_at(l, l->head + (uint32_t)(c->pos - l->start));
	entry_of(l, r, c->seq, e);
	c->pos += r->size;
	c->seq++;
	return true;
}

void log_cursor_close(struct log_cursor *c)
{
	struct log_app *l = c->app ? c->app->logs : NULL;

	if (!l)
		return;
	*(c->prev ? &c->prev->next : &l->cursors) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->app = NULL;
	c->prev = c->next = NULL;
}

bool log_filter_passes(const struct log_filter *f, const struct log_entry *e)
{
	size_t n = strlen(f->dyno);

	if (f->source[0] && strcmp(f->source, e->source))
		return false;
	return !n || (!strncmp(f->dyno, e->dyno, n) && (!e->dyno[n] || e->dyno[n] == '.'));
}

uint64_t log_last(const struct app *a)
{
	return a->logs ? a->logs->seq : 0;
}

uint64_t log_tail(struct app *a, const struct log_filter *f, unsigned lines)
{
	struct log_app *l = a->logs;
	uint32_t passing = 0, at;
	struct log_entry e;
	uint64_t seq;

	if (!l || !l->n_lines || !lines)
		return UINT64_MAX;
	for (at = l->head; at < l->tail; at += record_at(l, at)->size) {
		entry_of(l, record_at(l, at), 0, &e);
		passing += log_filter_passes(f, &e);
	}
	seq = l->seq - l->n_lines;
	for (at = l->head; at < l->tail && passing > lines; at += record_at(l, at)->size, seq++) {
		entry_of(l, record_at(l, at), 0, &e);
		passing -= log_filter_passes(f, &e);
	}
	return seq;
}

struct log_follower *logs_follow(struct app *a, log_cb *cb, void *arg)
{
	struct log_app *l = log_of(a);
	struct log_follower *f = xcalloc(1, sizeof(*f));

	*f = (struct log_follower){a, cb, arg, NULL, l->followers};
	if (l->followers)
		l->followers->prev = f;
	l->followers = f;
	return f;
}

void logs_unfollow(struct log_follower *f)
{
	if (!f)
		return;
	if (f->app) {
		*(f->prev ? &f->prev->next : &f->app->logs->followers) = f->next;
		if (f->next)
			f->next->prev = f->prev;
	}
	free(f);
}

void logs_app_gone(struct app *a)
{
	struct log_app *l = a->logs;

	sessions_app_gone(a);
	drains_app_gone(a);
	if (!l)
		return;
	while (l->cursors) {
		struct log_cursor *c = l->cursors;
		log_cursor_close(c);
		if (c->gone)
			c->gone(c);
	}
	for (struct log_follower *f = l->followers; f; f = f->next)
		f->app = NULL; /* theirs to free, by logs_unfollow() */
	drop_all(l);
	if (l->due)
		due_remove(l);
	a->logs = NULL;
	free(l);
}

void log_time(int64_t us, char out[40])
{
	time_t s = (time_t)(us / 1000000);
	struct tm tm;
	char text[24] = "";

	if (gmtime_r(&s, &tm))
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, 40, "%s.%06d+00:00", text, (int)(us % 1000000));
}
