/* SPDX-License-Identifier: ISC */
/*
 * Log sessions: clients that read lines of an app as text/event-stream.
 *
 * POST /apps/X/log-sessions makes a session, whose token is in its URL; GET of the URL is the stream, and needs no other right (that
 * is how Heroku's clients read it). So a token is 128 random bits, is good for SESSION_NS after it was last used, and the user
 * who asked for it must still have the app each time.
 *
 * A line is one event:   id: NUMBER
 *                        data: 2026-11-22T21:47:00.123456+00:00 app[web.1]: text
 * A client that comes again with Last-Event-ID goes on there. Without `tail` the stream ends after what is kept. A comment
 * each KEEPALIVE_S seconds shows proxies and clients that somebody is there.
 *
 * Back-pressure: lines are taken from the ring (logring.h) as long as exchange_write() wants more. If the ring overtakes a slow reader, an
 * event of its own says how many lines are missing (L11).
 *
 * Life of a stream: log_stream() -> pump() from the cursor and from drained() -> ended by us (no tail, app gone, our end) or closed by
 * the client. A session outlives its streams; a second client with the same token takes the stream over.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/logring.h"
#include "platform/metrics_data.h"

#define SESSIONS_MAX	 2000
#define SESSIONS_APP_MAX 100
#define STREAMS_MAX	 1000
#define STREAMS_APP_MAX	 100 /* so that one tenant's do not take the places of all */
#define SESSION_NS	 (5 * 60 * 1000000000ull)
#define KEEPALIVE_S	 15
#define BATCH		 (48 * 1024)

struct session;
struct stream {
	struct exchange *x;
	const struct app *app; /* to be counted */
	struct session *session; /* or NULL */
	struct log_cursor cursor;
	struct log_filter filter;
	uint64_t last; /* without tail: it ends after this line */
	bool tail, json, full; /* full: the client takes no more now */
	int64_t told_us; /* time of the last line that was written */
	struct stream *prev, *next;
};

struct session {
	char token[33], user_id[37];
	struct app *app;
	struct log_filter filter;
	unsigned lines;
	bool tail;
	uint64_t used_ns;
	struct stream *stream; /* at most one */
	struct session *next;
};

static struct session *sessions;
static struct stream *streams;
static uv_timer_t timer;
static bool timer_made;

static void tick(uv_timer_t *t);

static void need_timer(void)
{
	if (!timer_made) {
		uv_timer_init(loop, &timer);
		timer_made = true;
	}
	if (!uv_is_active((uv_handle_t *)&timer)) {
		uv_timer_start(&timer, tick, KEEPALIVE_S * 1000, KEEPALIVE_S * 1000);
		uv_unref((uv_handle_t *)&timer);
	}
}

/* --- streams --------------------------------------------------------------------------------------------- */

static void stream_free(struct stream *s)
{
	log_cursor_close(&s->cursor);
	if (s->session) {
		s->session->stream = NULL;
		s->session->used_ns = now_ns();
	}
	*(s->prev ? &s->prev->next : &streams) = s->next;
	if (s->next)
		s->next->prev = s->prev;
	log_totals.n_sessions--;
	free(s);
}

static void stream_end(struct stream *s)
{
	struct exchange *x = s->x;

	x->user = NULL;
	stream_free(s);
	exchange_end(x);
}

static void session_remove(struct session **p);

/* All that was asked for was told: the session is over, too. */
static void stream_done(struct stream *s)
{
	struct session *session = s->session;

	stream_end(s);
	for (struct session **p = &sessions; session && *p; p = &(*p)->next)
		if (*p == session) {
			session_remove(p);
			break;
		}
}

static void put_json(struct text *t, const struct log_entry *e)
{
	json_t *o = json_pack("{s:I, s:I, s:s, s:s, s:s%}", "seq", (json_int_t)e->seq, "t",
			      (json_int_t)(e->us / 1000), "source", e->source, "dyno", e->dyno, "text",
			      e->text, e->n);
	char *line = o ? json_dumps(o, JSON_COMPACT) : NULL;

	if (line)
		text_add(t, "id: %llu\ndata: %s\n\n", (unsigned long long)e->seq, line);
	free(line);
	json_decref(o);
}

static void put_entry(struct stream *s, struct text *t, const struct log_entry *e)
{
	char time[40];

	if (s->json) {
		put_json(t, e);
		return;
	}
	log_time(e->us, time);
	text_add(t, "id: %llu\ndata: %s %s[%s]: %.*s\n\n", (unsigned long long)e->seq, time, e->source,
		 e->dyno, (int)e->n, e->text);
}

static void put_lost(struct stream *s, struct text *t, const struct log_entry *before, uint64_t lost)
{
	char since[40], text[200];
	int n;

	log_time(s->told_us ? s->told_us : before->us, since);
	n = snprintf(text, sizeof(text),
		     "Error L11 (Tail buffer overflow) -> This tail session dropped %llu messages since %s.",
		     (unsigned long long)lost, since);
	struct log_entry e = {before->seq - 1, before->us, "heroku", "logplex", text, (size_t)n};
	put_entry(s, t, &e);
}

/* Write what is there and wanted. May end the stream. */
static void pump(struct stream *s)
{
	struct text t = {0};
	struct log_entry e;
	uint64_t lost;
	bool done = false;

	while (!s->full) {
		done = true;
		t.n = 0;
		while (s->cursor.seq <= s->last && log_cursor_next(&s->cursor, &e, &lost)) {
			if (lost)
				put_lost(s, &t, &e, lost);
			if (e.seq <= s->last && log_filter_passes(&s->filter, &e)) {
				put_entry(s, &t, &e);
				s->told_us = e.us;
			}
			if (t.n >= BATCH) {
				done = false;
				break;
			}
		}
		if (t.n && !exchange_write(s->x, t.p, t.n))
			s->full = true;
		if (done)
			break;
	}
	free(t.p);
	if (!s->tail && done)
		stream_done(s);
}

static void cursor_more(struct log_cursor *c)
{
	struct stream *s = (struct stream *)((char *)c - offsetof(struct stream, cursor));

	if (!s->full)
		pump(s);
}

static void cursor_gone(struct log_cursor *c)
{
	stream_end((struct stream *)((char *)c - offsetof(struct stream, cursor)));
}

static void stream_body(struct exchange *x, const char *data, size_t n)
{
	(void)x, (void)data, (void)n;
}

static void stream_body_end(struct exchange *x)
{
	(void)x;
}

static void stream_drained(struct exchange *x)
{
	struct stream *s = x->user;

	if (!s)
		return;
	s->full = false;
	pump(s);
}

static void stream_closed(struct exchange *x)
{
	if (x->user)
		stream_free(x->user);
}

static const struct exchange_handler stream_handler = {stream_body, stream_body_end, stream_drained,
						       stream_closed};

static void refuse(struct exchange *x, int status, const char *id, const char *message)
{
	char body[256];
	int n = snprintf(body, sizeof(body), "{\"id\":\"%s\",\"message\":\"%s\"}", id, message);

	exchange_reply(x, status, "application/json", body, (size_t)n);
}

/* The client's place in the stream, 0 if it says none. */
static uint64_t last_event_id(struct exchange *x)
{
	struct str id = exchange_header(x, "Last-Event-ID");
	uint64_t v = 0;

	if (!id.p || id.n == 0 || id.n > 18)
		return 0;
	for (size_t i = 0; i < id.n; i++) {
		if (id.p[i] < '0' || id.p[i] > '9')
			return 0;
		v = v * 10 + (uint64_t)(id.p[i] - '0');
	}
	return v;
}

static struct stream *stream_open(struct exchange *x, struct app *a, const struct log_filter *f,
				  unsigned lines, bool tail, bool json)
{
	static const struct header h[] = {{STR("Content-Type"), STR("text/event-stream; charset=utf-8")},
					  {STR("Cache-Control"), STR("no-store")},
					  {STR("X-Accel-Buffering"), STR("no")},
					  {STR("X-Content-Type-Options"), STR("nosniff")},
					  {STR("Connection"), STR("close")}};
	struct stream *s = xcalloc(1, sizeof(*s));
	uint64_t after = last_event_id(x);

	s->x = x;
	s->app = a;
	s->filter = *f;
	s->tail = tail;
	s->json = json;
	s->cursor.more = cursor_more;
	s->cursor.gone = cursor_gone;
	s->next = streams;
	if (streams)
		streams->prev = s;
	streams = s;
	log_totals.n_sessions++;
	log_totals.sessions++;
	x->user = s;
	x->handler = &stream_handler;
	/* Connection: close, since a browser that goes on to another page would hold the connection to drain it; HTTP/2 has no such header */
	exchange_respond(x, 200, h, sizeof(h) / sizeof(*h) - (x->version >= 20), -1);
	if (!exchange_write(x, ":\n\n", 3)) /* the head goes out now, not with the first line */
		s->full = true;
	log_cursor_open(&s->cursor, a, after ? after : log_tail(a, f, lines));
	s->last = tail ? UINT64_MAX : log_last(a);
	need_timer();
	return s;
}

/* May this client follow the app's log? False: answered. */
static bool may_open(struct exchange *x, const struct app *a)
{
	unsigned of_app = 0;

	if (!str_eq(x->method, "GET")) { /* HEAD, whose answer would never end */
		refuse(x, 405, "method_not_allowed", "Logs are read by GET.");
		return false;
	}
	for (const struct stream *s = streams; s; s = s->next)
		of_app += s->app == a;
	if (log_totals.n_sessions < STREAMS_MAX && of_app < STREAMS_APP_MAX)
		return true;
	refuse(x, 503, "too_many_sessions", "Too many clients follow logs now. Try again later.");
	return false;
}

void log_stream(struct exchange *x, struct app *a, const struct log_filter *f, unsigned lines, bool tail,
		bool json)
{
	if (may_open(x, a))
		pump(stream_open(x, a, f, lines, tail, json));
}

/* --- sessions -------------------------------------------------------------------------------------------- */

static void session_remove(struct session **p)
{
	struct session *s = *p;

	if (s->stream)
		s->stream->session = NULL;
	*p = s->next;
	OPENSSL_cleanse(s->token, sizeof(s->token));
	free(s);
}

static void tick(uv_timer_t *t)
{
	uint64_t now = now_ns();

	for (struct session **p = &sessions; *p;) {
		if (!(*p)->stream && now - (*p)->used_ns > SESSION_NS)
			session_remove(p);
		else
			p = &(*p)->next;
	}
	for (struct stream *s = streams, *next; s; s = next) {
		next = s->next;
		if (!s->full && !exchange_write(s->x, ":\n\n", 3))
			s->full = true;
	}
	if (!sessions && !streams)
		uv_timer_stop(t);
}

static bool take_word(json_t *params, const char *key, char *out, size_t size, struct fault *f)
{
	json_t *v = json_object_get(params, key);

	if (!v || json_is_null(v))
		return true;
	if (!json_is_string(v) || json_string_length(v) >= size ||
	    strlen(json_string_value(v)) != json_string_length(v)) {
		*f = (struct fault){422, "invalid_params", ""};
		snprintf(f->message, sizeof(f->message), "%s is not valid.", key);
		return false;
	}
	strcpy(out, json_string_value(v));
	return true;
}

/* A number, or one as a string. */
static bool take_lines(json_t *v, unsigned *lines)
{
	json_int_t n = -1;
	char *end = NULL;

	if (!v || json_is_null(v))
		return true;
	if (json_is_integer(v))
		n = json_integer_value(v);
	else if (json_is_string(v) && json_string_length(v))
		n = strtol(json_string_value(v), &end, 10);
	if (n < 0 || (end && *end))
		return false;
	*lines = n > LOG_LINES_MAX ? LOG_LINES_MAX : (unsigned)n;
	return true;
}

/* May this app have one more session? The oldest that nobody reads makes place. */
static bool make_place(const struct app *a)
{
	struct session **unread = NULL, **unread_of_app = NULL, **p;
	unsigned all = 0, of_app = 0;

	for (p = &sessions; *p; p = &(*p)->next, all++) { /* the newest is first */
		of_app += (*p)->app == a;
		if (!(*p)->stream) {
			unread = p;
			if ((*p)->app == a)
				unread_of_app = p;
		}
	}
	if (of_app < SESSIONS_APP_MAX && all < SESSIONS_MAX)
		return true;
	p = of_app >= SESSIONS_APP_MAX ? unread_of_app : unread;
	if (p)
		session_remove(p);
	return p;
}

struct fault logs_session_create(struct app *a, const struct user *u, json_t *params, const char *base_url,
				 char id[37], char **url)
{
	struct session *s;
	struct fault f = FAULT_NONE;
	unsigned lines = 100;
	struct log_filter filter = {{0}, {0}};
	json_t *tail = json_object_get(params, "tail");

	if (!make_place(a))
		return (struct fault){429, "rate_limit",
				      "Too many log sessions. Wait until some have ended."};
	if (!take_lines(json_object_get(params, "lines"), &lines))
		return (struct fault){422, "invalid_params", "lines is not a number."};
	if (tail && !json_is_boolean(tail) && !json_is_null(tail))
		return (struct fault){422, "invalid_params", "tail is not true or false."};
	if (!take_word(params, "source", filter.source, sizeof(filter.source), &f) ||
	    !take_word(params, "type", filter.dyno, sizeof(filter.dyno), &f) ||
	    !take_word(params, "dyno", filter.dyno, sizeof(filter.dyno), &f))
		return f;
	s = xcalloc(1, sizeof(*s));
	make_token(s->token, 32);
	make_uuid(id);
	snprintf(s->user_id, sizeof(s->user_id), "%s", u->id);
	s->app = a;
	s->filter = filter;
	s->lines = lines;
	s->tail = json_is_true(tail);
	s->used_ns = now_ns();
	s->next = sessions;
	sessions = s;
	need_timer();
	*url = xcalloc(1, strlen(base_url) + 80);
	sprintf(*url, "%s/log-sessions/%s", base_url, s->token);
	return f;
}

static struct session *session_find(struct str token)
{
	for (struct session *s = sessions; s; s = s->next)
		if (token.n == 32 && !CRYPTO_memcmp(token.p, s->token, 32))
			return s;
	return NULL;
}

void logs_session(struct exchange *x)
{
	static const size_t prefix = sizeof("/log-sessions/") - 1;
	struct str token = {x->path.p + prefix, x->path.n > prefix ? x->path.n - prefix : 0};
	struct session *s = session_find(token);
	struct user *u = s ? model_user(s->user_id) : NULL;

	if (!str_eq(x->method, "GET")) {
		refuse(x, 405, "method_not_allowed", "Log sessions are read by GET.");
		return;
	}
	if (!u || model_role(u, s->app) == ROLE_NONE) {
		refuse(x, 404, "not_found", "There is no such log session; it may have ended.");
		return;
	}
	if (s->stream)
		stream_end(s->stream); /* sets s->stream to NULL */
	if (!may_open(x, s->app))
		return;
	s->used_ns = now_ns();
	s->stream = stream_open(x, s->app, &s->filter, s->lines, s->tail, false);
	s->stream->session = s;
	pump(s->stream);
}

void sessions_app_gone(struct app *a)
{
	for (struct session **p = &sessions; *p;) {
		if ((*p)->app == a)
			session_remove(p);
		else
			p = &(*p)->next;
	}
	/* their streams end by cursor_gone() */
}

void logs_stop(void)
{
	while (streams)
		stream_end(streams);
	while (sessions)
		session_remove(&sessions);
	drains_stop();
}
