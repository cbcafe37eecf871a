/* SPDX-License-Identifier: ISC */
/*
 * Spans of the router, one for each request, for OpenTelemetry. The trace context itself is the router's (router_head.c).
 *
 * A span is one line of JSON with the names of OpenTelemetry's semantic conventions, so that a collector reads it as it is. It goes to our own
 * log if that is JSON; to the app's own if the client's trace is sampled, or if the app's feature "log-spans" is on.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/logs.h"
#include "platform/metrics_data.h"
#include "platform/store.h"

#define FEATURE_SECONDS 30

static void feature_row(void *arg, sqlite3_stmt *st)
{
	*(bool *)arg = true;
}

/* Not asked before an app's second request: 34,000 apps that are asked once need not be looked up. */
static bool app_wants(struct app *a)
{
	struct metrics_app *m = a ? a->metrics : NULL;
	uint32_t now;

	if (!m || m->requests < 2)
		return false;
	now = series_now();
	if (!m->spans_sec || now - m->spans_sec >= FEATURE_SECONDS) {
		m->spans_sec = now;
		m->spans = false;
		store_exec("SELECT 1 FROM features WHERE owner_id = ? AND name = 'log-spans'", feature_row,
			   &m->spans, "s", a->id);
	}
	return m->spans;
}

static void set(json_t *o, const char *key, struct str s)
{
	json_t *v = s.p ? json_stringn(s.p, s.n < 2048 ? s.n : 2048) : NULL;

	if (v)
		json_object_set_new(o, key, v);
}

void span_log(struct app *a, const struct exchange *x, const char traceparent[56], const char *parent,
	      const char *dyno, int status, enum hcode code, const struct request_times *times)
{
	bool ours = config.log_format && !strcmp(config.log_format, "json");
	bool sampled = strchr("13579bdf", traceparent[54]), theirs = sampled || app_wants(a);
	uint64_t end_ns = (uint64_t)real_us() * 1000, took = now_ns() - x->start_ns;
	char *text, h[8], end[24], start[24];

	if (!ours && !theirs)
		return;
	snprintf(end, sizeof(end), "%llu", (unsigned long long)end_ns);
	snprintf(start, sizeof(start), "%llu", (unsigned long long)(end_ns - took));
	json_t *o = json_pack("{s:s, s:s%, s:s%, s:s, s:s, s:s, s:s, s:b}", "span", "router", "trace_id",
			      traceparent + 3, (size_t)32, "span_id", traceparent + 36, (size_t)16,
			      "parent_span_id", parent, "kind", "SERVER", "start_time_unix_nano", start,
			      "end_time_unix_nano", end, "sampled", sampled);
	json_t *attr =
		json_pack("{s:i, s:s, s:s*, s:s, s:f, s:f, s:f, s:b}", "http.response.status_code", status,
			  "cowbell.app", a ? a->name : "", "cowbell.dyno", dyno && *dyno ? dyno : NULL,
			  "http.request.id", x->request_id, "cowbell.queue_ms", (double)times->queue_ns / 1e6,
			  "cowbell.connect_ms", (double)times->connect_ns / 1e6, "cowbell.service_ms",
			  (double)times->service_ns / 1e6, "cowbell.cold", times->cold);
	if (!o || !attr)
		goto out;
	set(attr, "http.request.method", x->method);
	set(attr, "url.path", x->path); /* not the query: secrets travel in it */
	set(attr, "server.address", x->host);
	if (code) {
		snprintf(h, sizeof(h), "H%02d", (int)code);
		json_object_set_new(attr, "error.type", json_string(h));
	}
	json_object_set(o, "attributes", attr);
	text = json_dumps(o, JSON_COMPACT);
	if (text && theirs)
		log_line(a, "heroku", "span", text, strlen(text));
	if (text && ours) {
		size_t n = strlen(text);
		text[n] = '\n'; /* the NUL's place: one write for one line */
		ssize_t done = write(STDERR_FILENO, text, n + 1);
		(void)done; /* a log that cannot be written is not worth an end */
	}
	free(text);
out:
	json_decref(attr);
	json_decref(o);
}
