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
 * A span of the router for OpenTelemetry (spans.c): one JSON object to our own log if config.log_format is json, and to the app's if
 * its client's trace is sampled or its feature "log-spans" is on. traceparent: what the instance got; parent: span of the client, or "".
 */
void span_log(struct app *a, const struct exchange *x, const char traceparent[56], const char *parent,
	      const char *dyno, int status, enum hcode code, const struct request_times *times);

/* GET /metrics, dashboard pages and their JSON and event streams: takes the exchange. */
void metrics_serve(struct exchange *x);
void dashboard_serve(struct exchange *x);
void dashboard_stop(void); /* our own end: its event streams end */

#endif
