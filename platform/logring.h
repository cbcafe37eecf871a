/* SPDX-License-Identifier: ISC */
/*
 * Between logs.c, which keeps the lines of apps, and those who read them at their own pace: sessions, drains, the dashboard.
 *
 * A reader is a cursor into the ring of one app. It is told (`more`) that there are lines, takes as many as its client has room for,
 * and is told again when new ones came. Who is too slow finds that the ring went on without him: the next line comes with
 * the number of lines lost before it. So no reader has a queue of its own, and none can hold the others up.
 */
#ifndef COWBELL_PLATFORM_LOGRING_H
#define COWBELL_PLATFORM_LOGRING_H

#include "platform/logs.h"

#define LOG_LINE_MAX   10000 /* bytes of text in one line; longer ones are cut into several */
#define LOG_LINES_MAX  1500
#define LOG_BYTES_MAX  ((size_t)512 << 10) /* of one app */
#define LOG_TOTAL_MAX  ((size_t)64 << 20) /* of all apps */
#define LOG_SOURCE_MAX 24
#define LOG_DYNO_MAX   64

struct log_entry { /* valid until the next log_line() or the next turn of the loop */
	uint64_t seq; /* of the app; the first line has 1 */
	int64_t us;
	const char *source, *dyno, *text; /* source and dyno end with NUL; text does not */
	size_t n;
};

struct log_cursor {
	struct app *app; /* NULL: it was destroyed; told by gone() */
	void (*more)(struct log_cursor *c); /* lines are there; from the loop, never from inside log_line() */
	void (*gone)(struct log_cursor *c); /* the app goes; the cursor is closed already */
	uint64_t seq, pos; /* logs.c's: the next line, and where it is */
	bool due; /* logs.c's */
	struct log_cursor *prev, *next;
};

/* Read from the line after `after` on; UINT64_MAX: only new ones, 0: all that are kept. more() is called for what is there. */
void log_cursor_open(struct log_cursor *c, struct app *a, uint64_t after);
/* The next line, or false. *lost: lines that went by unread before it. */
bool log_cursor_next(struct log_cursor *c, struct log_entry *e, uint64_t *lost);
void log_cursor_close(struct log_cursor *c); /* also of one that is closed already */

/* The number of the line after which the last `lines` ones begin that pass the filter; for log_cursor_open(). */
struct log_filter {
	char source[LOG_SOURCE_MAX], dyno[LOG_DYNO_MAX]; /* "": any; a dyno "web" means web.1, web.2, ... */
};
bool log_filter_passes(const struct log_filter *f, const struct log_entry *e);
uint64_t log_last(const struct app *a); /* the number of the last line; 0: none */
uint64_t log_tail(struct app *a, const struct log_filter *f, unsigned lines);

/* "2026-11-22T21:47:00.123456+00:00" */
void log_time(int64_t us, char out[40]);

/* Of all apps: lines taken, bytes kept; for metrics. */
struct log_totals {
	uint64_t lines, bytes, sessions, drain_lines, drain_lost;
	unsigned n_sessions, n_drains;
};
extern struct log_totals log_totals;

/*
 * An event stream of an app's lines to a client whose rights were looked at: takes the exchange. Last-Event-ID goes on from there. json: each
 * event is {"seq","t","source","dyno","text"} in place of a line as `heroku logs` shows it.
 */
void log_stream(struct exchange *x, struct app *a, const struct log_filter *f, unsigned lines, bool tail,
		bool json);

/* sessions.c, drains.c: called by logs.c */
void sessions_app_gone(struct app *a);
void drains_open(void);
void drains_app_gone(struct app *a);
void drains_stop(void);

/* drains.c, for the API. Rows are in the table `drains`. */
#define DRAINS_MAX 10 /* of one app */
/* NULL if the URL may be a drain's; else why not. */
const char *drain_url_fault(const char *url);

#endif
