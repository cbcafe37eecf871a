/* SPDX-License-Identifier: ISC */
/*
 * `cowbell logs -a APP` and `drains`. A log session is a URL with a secret in it that answers text/event-stream: lines
 * `data: TEXT`, an empty line after each event.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/client.h"
#include "lib/host/say.h"

#define MAX_LINE 65536

static const struct option_def log_options[] = {
	PLATFORM_APP,
	{P_TAIL, 't', "tail", NULL, "go on as more comes"},
	{P_NUM, 'n', "num", "N", "so many lines first (100)"},
	{P_SOURCE, 's', "source", "SOURCE", "only of app or heroku"},
	{P_DYNO, 'd', "dyno-name", "DYNO", "only of this process, such as web.1 or router"},
	PLATFORM_JSON,
	PLATFORM_HELP,
	PLATFORM_END};

struct events {
	char line[MAX_LINE];
	size_t n;
	bool json, colours;
};

/* "TIME SOURCE[DYNO]: TEXT", the head of it in a colour of the source's on a terminal. */
static void put_event(const struct events *e, const char *s, size_t n)
{
	const char *colon = memchr(s, ']', n);

	if (e->json) {
		json_t *o = json_pack("{s:s%}", "line", s, n);
		if (o)
			json_dumpf(o, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(o);
		return;
	}
	size_t head = colon && (size_t)(colon + 2 - s) <= n && colon[1] == ':' ? (size_t)(colon + 2 - s) : 0;
	if (e->colours && head)
		printf("\033[%dm", memmem(s, head, " heroku[", 8) ? 35 : 36);
	show_text(s, head);
	if (e->colours && head)
		fputs("\033[0m", stdout);
	show_text(s + head, n - head);
	putchar('\n');
}

static bool on_events(void *arg, const char *data, size_t n)
{
	struct events *e = arg;

	for (size_t i = 0; i < n; i++) {
		if (data[i] != '\n') {
			if (e->n < MAX_LINE)
				e->line[e->n++] = data[i];
			continue;
		}
		size_t len = e->n && e->line[e->n - 1] == '\r' ? e->n - 1 : e->n;
		if (len >= 5 && !memcmp(e->line, "data:", 5)) {
			size_t skip = len > 5 && e->line[5] == ' ' ? 6 : 5;
			put_event(e, e->line + skip, len - skip);
		}
		e->n = 0;
	}
	return !fflush(stdout);
}

static int run_logs(const struct at *at, const struct words *w)
{
	json_t *body = json_pack("{s:b}", "tail", w->has[P_TAIL]), *session = NULL;
	struct events *e = calloc(1, sizeof(*e));
	long lines = w->has[P_NUM] ? strtol(w->value[P_NUM], NULL, 10) : 100;
	int r;

	json_object_set_new(body, "lines", json_integer(lines));
	if (w->has[P_SOURCE])
		json_object_set_new(body, "source", json_string(w->value[P_SOURCE]));
	if (w->has[P_DYNO])
		json_object_set_new(body, "dyno", json_string(w->value[P_DYNO]));
	if (!e || lines < 0) {
		json_decref(body);
		free(e);
		return say_fail(EXIT_OURS, "logs: --num %s: must be a number of lines", w->value[P_NUM]);
	}
	e->json = at->json;
	e->colours = isatty(1) && !getenv("NO_COLOR");
	r = app_call(at, "POST", "/log-sessions", body, &session);
	if (!r)
		r = client_stream(at->c, jstr(session, "logplex_url"), "text/event-stream", on_events, e);
	json_decref(session);
	json_decref(body);
	free(e);
	return r;
}

/* --- drains ----------------------------------------------------------------------------------------------------------- */

static void drain_row(struct table *t, const json_t *d)
{
	table_row(t, 2, jstr(d, "url"), jstr(d, "token"));
}

static int run_drains(const struct at *at, const struct words *w)
{
	return show_listing(
		at, &(struct listing){"/log-drains", "Drains", "drains", "drains add URL", NULL, drain_row});
}

static int run_drain_add(const struct at *at, const struct words *w)
{
	json_t *body = json_pack("{s:s}", "url", w->names[0]);

	return make_change(at, &(struct change){"POST", "/log-drains", .body = body}, "Adding drain %s to %s",
			   w->names[0], at->app);
}

static int run_drain_remove(const struct at *at, const struct words *w)
{
	return make_change(at, &(struct change){"DELETE", "/log-drains/", .word = w->names[0]},
			   "Removing drain %s from %s", w->names[0], at->app);
}

const struct verb log_verbs[] = {
	{"logs", log_options,
	 "-a APP [--tail] [--num N] [--json]\n\nPrints what an app of the platform and its router have "
	 "logged.",
	 0, 0, APP, run_logs, NULL},
	{"drains", app_options,
	 "[COMMAND] [-a APP] [--json]\n\nLists where the log of an app is sent: syslog://HOST:PORT, "
	 "syslog+tls://HOST:PORT\nor https://USER:PASSWORD@HOST/PATH.",
	 0, 0, APP, run_drains, NULL},
	{"drains add", app_options, "URL [-a APP]\n\nSends the log of an app there.", 1, 1, APP,
	 run_drain_add, "send the log to a URL"},
	{"drains remove", app_options, "URL|ID [-a APP]\n\nSends nothing there any more.", 1, 1, APP,
	 run_drain_remove, "stop sending there"},
	{NULL, NULL, NULL, 0, 0, NO_SERVER, NULL, NULL},
};
