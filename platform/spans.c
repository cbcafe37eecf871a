/* SPDX-License-Identifier: ISC */
/*
 * W3C trace context (version 00) and a span for each hop through the router.
 *
 *   traceparent: 00-<32 hex digits: trace>-<16: parent span>-<2: flags>
 *
 * A client's header is taken only if it is exactly that (lower case, not all zeros; of a later version the first four
 * fields); else a trace begins here, not sampled. The span's line goes to our own log as one JSON object with the names of OpenTelemetry's
 * semantic conventions, so that a collector reads it as it is. Spans of an app go to its own log if its feature "log-spans" is on.
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

/* n lower-case hexadecimal digits, not all of them 0 unless allowed. */
static bool hex(const char *p, size_t n, bool zero_allowed)
{
	bool some = zero_allowed;

	for (size_t i = 0; i < n; i++) {
		if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f')))
			return false;
		some |= p[i] != '0';
	}
	return some;
}

static bool good_parent(struct str s)
{
	const char *p = s.p;

	if (!p || s.n < 55 || !hex(p, 2, true) || !memcmp(p, "ff", 2) || p[2] != '-' || p[35] != '-' ||
	    p[52] != '-')
		return false;
	if (!hex(p + 3, 32, false) || !hex(p + 36, 16, false) || !hex(p + 53, 2, true))
		return false;
	return s.n == 55 || (memcmp(p, "00", 2) && p[55] == '-');
}

/* Ids must differ, not be secret: xorshift, begun with randomness, costs no system call. */
static uint64_t next_id(void)
{
	static uint64_t s;

	while (!s)
		random_bytes(&s, sizeof(s));
	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return s;
}

static void put_id(char *out, uint64_t v)
{
	for (int i = 15; i >= 0; i--, v >>= 4)
		out[i] = "0123456789abcdef"[v & 15];
}

void trace_begin(struct trace *t, struct str traceparent)
{
	memset(t, 0, sizeof(*t));
	t->given = good_parent(traceparent);
	if (t->given) {
		char flags[3] = {traceparent.p[53], traceparent.p[54], 0};
		memcpy(t->trace_id, traceparent.p + 3, 32);
		memcpy(t->parent_id, traceparent.p + 36, 16);
		t->flags = (uint8_t)strtoul(flags, NULL, 16) & 1;
	} else {
		put_id(t->trace_id, next_id());
		put_id(t->trace_id + 16, next_id());
	}
	put_id(t->span_id, next_id());
}

void trace_header(const struct trace *t, char out[56])
{
	memcpy(out, "00-", 3);
	memcpy(out + 3, t->trace_id, 32);
	out[35] = '-';
	memcpy(out + 36, t->span_id, 16);
	memcpy(out + 52, t->flags & 1 ? "-01" : "-00", 4);
}

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

void span_log(struct app *a, const struct exchange *x, const struct trace *t, const char *dyno, int status,
	      enum hcode code, const struct request_times *times)
{
	bool ours = config.log_format && !strcmp(config.log_format, "json"), theirs = app_wants(a);
	uint64_t end_ns = (uint64_t)real_us() * 1000, took = now_ns() - x->start_ns;
	char *text, h[8], end[24], start[24];

	if (!ours && !theirs)
		return;
	snprintf(end, sizeof(end), "%llu", (unsigned long long)end_ns);
	snprintf(start, sizeof(start), "%llu", (unsigned long long)(end_ns - took));
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b}", "span", "router", "trace_id",
			      t->trace_id, "span_id", t->span_id, "parent_span_id", t->parent_id, "kind",
			      "SERVER", "start_time_unix_nano", start, "end_time_unix_nano", end, "sampled",
			      t->flags & 1);
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
		if (write(STDERR_FILENO, text, n + 1) < 0)
			ours = false; /* a log that cannot be written is not worth an end */
	}
	free(text);
out:
	json_decref(attr);
	json_decref(o);
}
