/* SPDX-License-Identifier: ISC */
/* What is counted: for /metrics (Prometheus), the dashboard, and `cowbell apps --json`. Counting costs nanoseconds and no memory for apps never asked. */
#ifndef COWBELL_PLATFORM_METRICS_H
#define COWBELL_PLATFORM_METRICS_H

#include "platform/http.h"
#include "platform/sched.h"

struct request_times {
	uint64_t queue_ns; /* waited for an instance, a start included */
	uint64_t connect_ns, service_ns; /* until connected; until the end of the answer */
	bool cold;
};
void metrics_request(struct app *a, int status, enum hcode code, uint64_t bytes,
		     const struct request_times *t);
/* A start that succeeded: from the decision to the first listen. how as in struct instance. */
void metrics_start(struct app *a, const char *how, uint64_t ns);
void metrics_build(struct app *a, bool ok, uint64_t ns);
void metrics_app_gone(struct app *a);

/*
 * W3C trace context: spans.c. The router calls trace_begin() with the client's traceparent (.p NULL: none), sends trace_header() upstream in
 * its place (tracestate as it came, if trace.given), and tells the hop's end by span_log().
 */
struct trace {
	char trace_id[33], parent_id[17], span_id[17]; /* parent_id "": this is the first span */
	uint8_t flags;
	bool given; /* the client's was good */
};
void trace_begin(struct trace *t, struct str traceparent);
void trace_header(const struct trace *t, char out[56]);
/* One line of JSON to our own log if config.log_format is json or the app's lab feature "log-spans" is on (then to its own log, too). Cheap if neither. */
void span_log(struct app *a, const struct exchange *x, const struct trace *t, const char *dyno, int status,
	      enum hcode code, const struct request_times *times);

/* GET /metrics, dashboard pages and their JSON and event streams: takes the exchange. */
void metrics_serve(struct exchange *x);
void dashboard_serve(struct exchange *x);
void dashboard_stop(void); /* our own end: its event streams end */

#endif
