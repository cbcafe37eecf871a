/* SPDX-License-Identifier: ISC */
/*
 * Log drains: lines of an app to where its owner wants them.
 *
 *   syslog://, syslog+tls://   RFC 5424 with octet counting (RFC 6587, 5425):   LENGTH <PRI>1 TIME TOKEN SOURCE DYNO - - TEXT
 *   http://, https://          POST of application/logplex-1, as Heroku's clients expect it: the same frames without the "- " of
 *                              structured data, with Logplex-Msg-Count, Logplex-Frame-Id and Logplex-Drain-Token
 *
 * State of a drain, and the function on each edge:
 *
 *   idle -- line (cursor_more) --> connecting -- on_up --> up -- nothing for IDLE_S (on_timer) --> idle
 *     ^                               |                      |
 *     +---- on_timer ---- waiting <---+------ on_down -------+        waiting: 1 s, doubled up to a minute, and some chance
 *
 * The queue is the app's ring (logring.h): a drain that is slow or away finds its place overtaken and tells how many lines
 * that were (L10), to the receiver and to the app. A POST is kept until it was answered, and is sent again with the same Frame-Id
 * after a failure, so receivers can tell repeats; 4xx but 408 and 429 means that it will never be taken: it is dropped and counted.
 * What was given to the kernel of a syslog connection that then broke may be lost; syslog has no answers.
 *
 * Data: one struct for each row of the table `drains`, all loaded at start; rows are written by api_log.c.
 */
#include <llhttp.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/drain_url.h"
#include "platform/logring.h"
#include "platform/metrics_data.h"
#include "platform/outconn.h"
#include "platform/store.h"

#define IDLE_S	     60
#define ANSWER_S     20
#define GATHER_MS    150 /* lines that come together are sent together */
#define BACKOFF_MAX  60000
#define FRAME_LINES  200
#define FRAME_BYTES  (64 * 1024)
#define TELL_AGAIN_S 600 /* of a lasting failure */

enum drain_state { DRAIN_IDLE, DRAIN_CONNECTING, DRAIN_UP, DRAIN_WAITING };

struct drain {
	char id[37], token[48];
	char *text; /* URL as it was given */
	struct drain_url url;
	struct app *app;
	struct log_cursor cursor;
	enum drain_state state;
	struct outconn *conn;
	uv_timer_t timer;
	unsigned backoff_ms;
	uint64_t told_ns; /* when the app was told of a failure; 0: none since it worked */
	int64_t last_us; /* time of the last line that was sent */
	bool full; /* conn takes no more now */
	/* a POST that was not answered yet */
	struct text post;
	unsigned post_lines;
	char frame_id[37];
	bool sent, gathering;
	llhttp_t parser;
	bool closing, seen;
	struct drain *next;
};

static struct drain *drains;
static llhttp_settings_t parser_settings;

static void on_timer(uv_timer_t *t);
static void go(struct drain *d);

static void arm(struct drain *d, uint64_t ms)
{
	uv_timer_start(&d->timer, on_timer, ms, 0);
	uv_unref((uv_handle_t *)&d->timer);
}

/* --- frames --------------------------------------------------------------------------------------------- */

static unsigned priority(const struct log_entry *e)
{
	if (strcmp(e->source, "heroku"))
		return 190; /* local7.info */
	return strcmp(e->dyno, "router") ? 134 : 158; /* local0.info, local3.info */
}

static void put_frame(struct drain *d, struct text *t, const struct log_entry *e)
{
	char time[40], head[256];
	int n;

	log_time(e->us, time);
	n = snprintf(head, sizeof(head), "<%u>1 %s %s %s %s - %s", priority(e), time, d->token, e->source,
		     e->dyno, d->url.http ? "" : "- ");
	text_add(t, "%zu %s%.*s%s", (size_t)n + e->n + d->url.http, head, (int)e->n, e->text,
		 d->url.http ? "\n" : "");
	d->last_us = e->us;
}

static void put_lost(struct drain *d, struct text *t, const struct log_entry *before, uint64_t lost)
{
	char since[40], text[256];
	int n;

	log_totals.drain_lost += lost;
	log_time(d->last_us ? d->last_us : before->us, since);
	n = snprintf(text, sizeof(text),
		     "Error L10 (output buffer overflow): drain '%s' dropped %llu messages since %s.",
		     d->token, (unsigned long long)lost, since);
	struct log_entry e = {0, before->us, "heroku", "logplex", text, (size_t)n};
	put_frame(d, t, &e);
}

/* Lines from the ring, until there is enough; how many. */
static unsigned take_lines(struct drain *d, struct text *t)
{
	struct log_entry e;
	uint64_t lost;
	unsigned lines = 0;

	while (lines < FRAME_LINES && t->n < FRAME_BYTES && log_cursor_next(&d->cursor, &e, &lost)) {
		if (lost) {
			put_lost(d, t, &e, lost);
			lines++;
		}
		put_frame(d, t, &e);
		lines++;
	}
	return lines;
}

/* --- syslog ----------------------------------------------------------------------------------------------- */

static void pump_syslog(struct drain *d)
{
	struct text t = {0};
	unsigned lines;

	while (!d->full && d->state == DRAIN_UP && (lines = take_lines(d, &t))) {
		log_totals.drain_lines += lines;
		d->full = !outconn_write(d->conn, t.p, t.n);
		t.n = 0;
	}
	free(t.p);
	if (d->state == DRAIN_UP)
		arm(d, IDLE_S * 1000);
}

/* --- HTTP --------------------------------------------------------------------------------------------------- */

static void put_basic(struct text *t, const char *user)
{
	unsigned char code[400];

	EVP_EncodeBlock(code, (const unsigned char *)user, (int)strlen(user));
	text_add(t, "Authorization: Basic %s\r\n", code);
}

static void put_request(struct drain *d, struct text *t)
{
	const struct drain_url *u = &d->url;
	bool v6 = strchr(u->host, ':');

	text_add(t, "POST %s HTTP/1.1\r\nHost: %s%s%s", u->path, v6 ? "[" : "", u->host, v6 ? "]" : "");
	if (u->port != (u->tls ? 443 : 80))
		text_add(t, ":%u", u->port);
	text_add(t,
		 "\r\nUser-Agent: cowbell-drain\r\nContent-Type: application/logplex-1\r\nContent-Length: "
		 "%zu\r\n"
		 "Logplex-Msg-Count: %u\r\nLogplex-Frame-Id: %s\r\nLogplex-Drain-Token: %s\r\n",
		 d->post.n, d->post_lines, d->frame_id, d->token);
	if (u->user[0])
		put_basic(t, u->user);
	text_add(t, "\r\n");
}

static void pump_http(struct drain *d)
{
	struct text t = {0};

	if (d->sent || d->state != DRAIN_UP)
		return;
	d->gathering = false;
	if (!d->post_lines) {
		d->post.n = 0;
		d->post_lines = take_lines(d, &d->post);
		make_uuid(d->frame_id);
	}
	if (!d->post_lines) {
		arm(d, IDLE_S * 1000);
		return;
	}
	put_request(d, &t);
	text_add(&t, "%s", ""); /* p is there */
	d->sent = true;
	llhttp_init(&d->parser, HTTP_RESPONSE, &parser_settings);
	d->parser.data = d;
	arm(d, ANSWER_S * 1000);
	outconn_write(d->conn, t.p, t.n);
	outconn_write(d->conn, d->post.p, d->post.n);
	free(t.p);
}

static void fail(struct drain *d, const char *why, bool certificate);

static void post_done(struct drain *d)
{
	d->post_lines = 0;
	if (d->post.cap > FRAME_BYTES) {
		free(d->post.p);
		d->post = (struct text){0};
	}
}

static int on_answer(llhttp_t *parser)
{
	struct drain *d = parser->data;
	int status = parser->status_code;
	bool good = status >= 200 && status < 300;
	char why[64];

	if (status < 200)
		return 0; /* the answer comes after it */
	d->sent = false;
	snprintf(why, sizeof(why), "it answered %d", status);
	if (good) {
		log_totals.drain_lines += d->post_lines;
		d->told_ns = 0;
		d->backoff_ms = 0;
		post_done(d);
	} else if (status >= 400 && status < 500 && status != 408 && status != 429) {
		log_totals.drain_lost += d->post_lines;
		post_done(d);
		fail(d, why, false);
		return HPE_USER;
	} else {
		fail(d, why, false);
		return HPE_USER;
	}
	return llhttp_should_keep_alive(parser) ? 0 : HPE_USER;
}

/* --- connection ------------------------------------------------------------------------------------------- */

static void disconnect(struct drain *d)
{
	outconn_close(d->conn);
	d->conn = NULL;
	d->full = d->sent = d->gathering = false;
}

static void tell(struct drain *d, const char *why, bool certificate)
{
	if (d->told_ns && now_ns() - d->told_ns < TELL_AGAIN_S * 1000000000ull)
		return;
	d->told_ns = now_ns();
	if (certificate)
		log_linef(d->app, "heroku", "logplex", "Error L14 (certificate validation): drain '%s': %s",
			  d->token, why);
	else
		log_linef(d->app, "heroku", "logplex",
			  "Error L13 (local delivery error): drain '%s' on %s:%u: %s", d->token, d->url.host,
			  d->url.port, why);
}

static void fail(struct drain *d, const char *why, bool certificate)
{
	unsigned chance = 0;

	disconnect(d);
	d->backoff_ms = d->backoff_ms ? d->backoff_ms * 2 : 1000;
	if (d->backoff_ms > BACKOFF_MAX)
		d->backoff_ms = BACKOFF_MAX;
	random_bytes(&chance, sizeof(chance));
	d->state = DRAIN_WAITING;
	arm(d, d->backoff_ms / 2 + chance % (d->backoff_ms / 2 + 1));
	tell(d, why, certificate);
}

static void on_up(void *arg)
{
	struct drain *d = arg;

	d->state = DRAIN_UP;
	if (!d->url.http) {
		d->backoff_ms = 0;
		d->told_ns = 0;
	}
	go(d);
}

static void on_data(void *arg, const char *data, size_t n)
{
	struct drain *d = arg;
	llhttp_errno_t err;

	if (!d->url.http)
		return; /* syslog receivers have nothing to say */
	if (!d->sent) {
		fail(d, "it spoke without being asked", false);
		return;
	}
	err = llhttp_execute(&d->parser, data, n);
	if (d->state != DRAIN_UP)
		return; /* on_answer() has failed it */
	if (err == HPE_OK) {
		if (!d->sent)
			go(d);
	} else if (!d->sent) { /* answered, and the connection is not to be used again */
		disconnect(d);
		d->state = DRAIN_IDLE;
		go(d);
	} else {
		fail(d, "its answer is not HTTP", false);
	}
}

static void on_writable(void *arg)
{
	struct drain *d = arg;

	d->full = false;
	go(d);
}

static void on_down(void *arg, const char *why, bool certificate)
{
	struct drain *d = arg;

	d->conn = NULL;
	if (d->state == DRAIN_UP && d->url.http && d->sent)
		llhttp_finish(&d->parser); /* an answer may end with its connection */
	if (d->state == DRAIN_UP && d->url.http && !d->sent) { /* a server closes what is not used */
		disconnect(d);
		d->state = DRAIN_IDLE;
		uv_timer_stop(&d->timer);
		go(d);
	} else if (d->state != DRAIN_WAITING) {
		fail(d, why, certificate);
	}
}

static const struct outconn_events events = {on_up, on_data, on_writable, on_down};

/* Something may be to do. */
static void go(struct drain *d)
{
	if (d->closing)
		return;
	if (d->state == DRAIN_IDLE && (d->post_lines || d->cursor.seq <= log_last(d->app))) {
		d->state = DRAIN_CONNECTING;
		d->conn = outconn_open(d->url.host, d->url.port, d->url.tls, &events, d);
	} else if (d->state == DRAIN_UP && !d->url.http) {
		pump_syslog(d);
	} else if (d->state == DRAIN_UP) {
		pump_http(d);
	}
}

static void on_timer(uv_timer_t *t)
{
	struct drain *d = t->data;

	if (d->gathering) {
		d->gathering = false;
		go(d);
	} else if (d->state == DRAIN_WAITING) {
		d->state = DRAIN_IDLE;
		go(d);
	} else if (d->state == DRAIN_UP && d->sent) {
		fail(d, "it did not answer in time", false);
	} else if (d->state == DRAIN_UP && !d->full) {
		disconnect(d);
		d->state = DRAIN_IDLE;
	} else if (d->state == DRAIN_UP) {
		fail(d, "it takes nothing any more", false);
	}
}

static void cursor_more(struct log_cursor *c)
{
	struct drain *d = (struct drain *)((char *)c - offsetof(struct drain, cursor));

	if (d->url.http && d->state == DRAIN_UP && !d->sent && !d->gathering) {
		d->gathering = true;
		arm(d, GATHER_MS);
	} else if (!d->gathering) {
		go(d);
	}
}

/* --- the list ----------------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
	struct drain *d = h->data;

	free(d->text);
	free(d->post.p);
	free(d);
}

static void drain_close(struct drain **p)
{
	struct drain *d = *p;

	*p = d->next;
	d->closing = true;
	log_cursor_close(&d->cursor);
	outconn_close(d->conn);
	log_totals.n_drains--;
	uv_close((uv_handle_t *)&d->timer, on_closed);
}

static void drain_add(struct app *a, const char *id, const char *url, const char *token)
{
	struct drain *d = xcalloc(1, sizeof(*d));

	if (drain_url_parse(url, &d->url)) {
		free(d); /* of a Cowbell that took other URLs */
		return;
	}
	snprintf(d->id, sizeof(d->id), "%s", id);
	snprintf(d->token, sizeof(d->token), "%s", token);
	d->text = xstrdup(url);
	d->app = a;
	d->seen = true;
	uv_timer_init(loop, &d->timer);
	d->timer.data = d;
	d->cursor.more = cursor_more;
	log_cursor_open(&d->cursor, a, UINT64_MAX);
	d->next = drains;
	drains = d;
	log_totals.n_drains++;
}

/* A row (id, app_id, url, token): a new one is added, one that is known is seen. */
static void row(void *arg, sqlite3_stmt *st)
{
	const char *id = (const char *)sqlite3_column_text(st, 0),
		   *url = (const char *)sqlite3_column_text(st, 2);
	struct app *a = arg ? arg : model_app((const char *)sqlite3_column_text(st, 1));

	for (struct drain *d = drains; d; d = d->next)
		if (!strcmp(d->id, id) && !strcmp(d->text, url)) {
			d->seen = true;
			return;
		}
	if (a)
		drain_add(a, id, url, (const char *)sqlite3_column_text(st, 3));
}

void drains_open(void)
{
	llhttp_settings_init(&parser_settings);
	parser_settings.on_message_complete = on_answer;
	store_exec("SELECT id, app_id, url, token FROM drains", row, NULL, "");
}

void logs_drains_changed(struct app *a)
{
	for (struct drain *d = drains; d; d = d->next)
		d->seen = d->app != a;
	store_exec("SELECT id, app_id, url, token FROM drains WHERE app_id = ?", row, a, "s", a->id);
	for (struct drain **p = &drains; *p;)
		if (!(*p)->seen)
			drain_close(p);
		else
			p = &(*p)->next;
}

void drains_app_gone(struct app *a)
{
	for (struct drain **p = &drains; *p;)
		if ((*p)->app == a)
			drain_close(p);
		else
			p = &(*p)->next;
}

void drains_stop(void)
{
	while (drains)
		drain_close(&drains);
}
