/* SPDX-License-Identifier: ISC */
/*
 * GET /metrics: what is counted, in Prometheus' text format 0.0.4.
 *
 * Who may read: whoever has a token, as `Authorization: Bearer TOKEN` or as the password of Basic (Prometheus' authorization or
 * basic_auth, with credentials_file at data_dir/admin-token). An admin gets the figures of all; another user only those of the
 * apps that he may see, with ?apps=all as an admin does. That the client is local gives no rights: behind a balancer everybody is.
 *
 * Figures of single apps are told only on request (?apps=all, ?app=NAME), for 34,000 of them would be a flood; apps that were never asked are left out.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "platform/api.h"
#include "platform/logring.h"
#include "platform/metrics_data.h"

static void head(struct text *t, const char *name, const char *type, const char *help)
{
	text_add(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void value(struct text *t, const char *name, const char *type, double v, const char *help)
{
	head(t, name, type, help);
	text_add(t, "%s %.17g\n", name, v);
}

/* Buckets at each doubling; they are exact, since a doubling is an end of ours. label: "" or `a="b",`. */
static void histogram(struct text *t, const char *name, const char *label, const struct timing *m)
{
	uint64_t sum = 0;
	unsigned i = 0;
	size_t n = strlen(label);

	for (unsigned b = 6; b <= 26; b++) {
		for (; i < HIST_BUCKETS - 1 && hist_above(i) <= (uint64_t)1 << b; i++)
			sum += m->h.n[i];
		text_add(t, "%s_bucket{%sle=\"%.9g\"} %llu\n", name, label, (double)((uint64_t)1 << b) / 1e6,
			 (unsigned long long)sum);
	}
	text_add(t, "%s_bucket{%sle=\"+Inf\"} %llu\n", name, label, (unsigned long long)m->count);
	if (n) {
		text_add(t, "%s_sum{%.*s} %.9g\n", name, (int)n - 1, label, (double)m->sum_us / 1e6);
		text_add(t, "%s_count{%.*s} %llu\n", name, (int)n - 1, label, (unsigned long long)m->count);
	} else {
		text_add(t, "%s_sum %.9g\n%s_count %llu\n", name, (double)m->sum_us / 1e6, name,
			 (unsigned long long)m->count);
	}
}

static void requests(struct text *t)
{
	const struct metrics_all *m = &metrics_all;
	static const char *const class[6] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

	head(t, "cowbell_requests_total", "counter",
	     "Requests to apps by class of status; none: the client left first.");
	for (unsigned i = 0; i < 6; i++)
		text_add(t, "cowbell_requests_total{class=\"%s\"} %llu\n", class[i],
			 (unsigned long long)m -> by_class[i]);
	head(t, "cowbell_router_errors_total", "counter", "Errors of the router by Heroku's code.");
	for (unsigned i = 10; i < 100; i++)
		if (m->by_code[i] || i == 10 || i == 12)
			text_add(t, "cowbell_router_errors_total{code=\"H%02u\"} %llu\n", i,
				 (unsigned long long)m->by_code[i]);
	value(t, "cowbell_response_bytes_total", "counter", (double)m->bytes,
	      "Bytes of bodies answered by apps.");
	head(t, "cowbell_request_seconds", "histogram", "From a request's head to the end of its answer.");
	histogram(t, "cowbell_request_seconds", "", &m->latency);
}

static void starts(struct text *t)
{
	const struct metrics_all *m = &metrics_all;
	char label[64];

	head(t, "cowbell_start_seconds", "histogram",
	     "Starts of instances, from the decision until the program listens.");
	for (unsigned i = 0; i < N_HOW; i++) {
		snprintf(label, sizeof(label), "how=\"%s\",", how_names[i]);
		histogram(t, "cowbell_start_seconds", label, &m->starts[i]);
	}
	head(t, "cowbell_cold_request_seconds", "summary",
	     "Requests that waited for a start, and where their time went.");
	for (unsigned i = 0; i < N_HOW; i++)
		for (unsigned p = 0; p < N_PHASES; p++) {
			const struct timing *c = &m->cold[i][p];
			static const double q[] = {0.5, 0.9, 0.99};
			snprintf(label, sizeof(label), "how=\"%s\",phase=\"%s\"", how_names[i],
				 phase_names[p]);
			for (unsigned k = 0; k < 3; k++)
				text_add(t, "cowbell_cold_request_seconds{%s,quantile=\"%g\"} %.9g\n", label,
					 q[k], hist_quantile(&c->h, q[k]) / 1e6);
			text_add(t, "cowbell_cold_request_seconds_sum{%s} %.9g\n", label,
				 (double)c->sum_us / 1e6);
			text_add(t, "cowbell_cold_request_seconds_count{%s} %llu\n", label,
				 (unsigned long long)c->count);
		}
}

static void machine(struct text *t)
{
	const struct metrics_all *m = &metrics_all;
	struct rusage ru;

	head(t, "cowbell_builds_total", "counter", "Builds that have ended.");
	text_add(t,
		 "cowbell_builds_total{result=\"succeeded\"} %llu\ncowbell_builds_total{result=\"failed\"} "
		 "%llu\n",
		 (unsigned long long)(m->builds.count - m->builds_failed),
		 (unsigned long long)m->builds_failed);
	head(t, "cowbell_build_seconds", "histogram", "How long builds took.");
	histogram(t, "cowbell_build_seconds", "", &m->builds);
	value(t, "cowbell_apps", "gauge", (double)model_n_apps(), "Apps that exist.");
	value(t, "cowbell_instances", "gauge", (double)sched_n_running(), "Instances that run.");
	value(t, "cowbell_instances_memory_bytes", "gauge", (double)sched_memory(),
	      "Memory of all instances.");
	value(t, "cowbell_memory_budget_bytes", "gauge", (double)metrics_memory_budget(),
	      "What they may have together.");
	value(t, "cowbell_log_lines_total", "counter", (double)log_totals.lines,
	      "Lines of apps and of the platform about them.");
	value(t, "cowbell_log_bytes", "gauge", (double)log_totals.bytes, "Memory that holds lines.");
	value(t, "cowbell_log_sessions", "gauge", log_totals.n_sessions, "Clients that follow logs.");
	value(t, "cowbell_drains", "gauge", log_totals.n_drains, "Log drains.");
	value(t, "cowbell_drain_lines_total", "counter", (double)log_totals.drain_lines,
	      "Lines delivered to drains.");
	value(t, "cowbell_drain_lost_lines_total", "counter", (double)log_totals.drain_lost,
	      "Lines that drains lost.");
	value(t, "process_resident_memory_bytes", "gauge", (double)metrics_rss(),
	      "Of the platform's own process.");
	getrusage(RUSAGE_SELF, &ru);
	value(t, "process_cpu_seconds_total", "counter",
	      (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
		      (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6,
	      "Of the platform's own process.");
	value(t, "process_start_time_seconds", "gauge", (double)metrics_since_us() / 1e6,
	      "Of the platform's own process, since 1970.");
}

static size_t n_instances(struct app *a)
{
	size_t n = 0;

	for (const struct instance *i = sched_instances(a); i; i = i->next)
		n++;
	return n;
}

/* One family after the other, as the format wants it. */
static void apps(struct text *t, struct app **list, size_t n)
{
	head(t, "cowbell_app_requests_total", "counter", "Requests to an app.");
	for (size_t i = 0; i < n; i++)
		for (unsigned c = 1; list[i]->metrics && c < 6; c++)
			if (list[i]->metrics->by_class[c])
				text_add(t, "cowbell_app_requests_total{app=\"%s\",class=\"%uxx\"} %u\n",
					 list[i]->name, c, list[i]->metrics->by_class[c]);
	head(t, "cowbell_app_cold_requests_total", "counter",
	     "Requests to an app that waited for its start.");
	for (size_t i = 0; i < n; i++)
		if (list[i]->metrics)
			text_add(t, "cowbell_app_cold_requests_total{app=\"%s\"} %u\n", list[i]->name,
				 list[i]->metrics->cold);
	head(t, "cowbell_app_instances", "gauge", "Instances of an app.");
	for (size_t i = 0; i < n; i++)
		if (list[i]->metrics)
			text_add(t, "cowbell_app_instances{app=\"%s\"} %zu\n", list[i]->name,
				 n_instances(list[i]));
	head(t, "cowbell_app_latency_seconds", "gauge", "Quantiles of an app's answers.");
	for (size_t i = 0; i < n; i++) {
		struct hist h = {{0}};
		if (!list[i]->metrics)
			continue;
		metrics_app_latency(list[i], &h);
		text_add(t, "cowbell_app_latency_seconds{app=\"%s\",quantile=\"0.5\"} %.9g\n", list[i]->name,
			 hist_quantile(&h, 0.5) / 1e6);
		text_add(t, "cowbell_app_latency_seconds{app=\"%s\",quantile=\"0.99\"} %.9g\n", list[i]->name,
			 hist_quantile(&h, 0.99) / 1e6);
	}
}

/* --- answers ------------------------------------------------------------------------------------------------ */

static void answer(struct exchange *x, int status, const char *type, const char *body, size_t n)
{
	struct header h[] = {{STR("Content-Type"), {type, strlen(type)}},
			     {STR("Cache-Control"), STR("no-store")},
			     {STR("X-Content-Type-Options"), STR("nosniff")},
			     {STR("WWW-Authenticate"), STR("Basic realm=\"cowbell\"")}};

	exchange_respond(x, status, h, status == 401 ? 4 : 3, (int64_t)n);
	if (n && !str_eq(x->method, "HEAD"))
		exchange_write(x, body, n);
	exchange_end(x);
}

static void answer_text(struct exchange *x, int status, const char *text)
{
	answer(x, status, "text/plain; charset=utf-8", text, strlen(text));
}

void metrics_serve(struct exchange *x)
{
	struct user *u = api_user(x);
	struct text t = {0};
	char name[64] = "";

	if (!str_eq(x->method, "GET") && !str_eq(x->method, "HEAD")) {
		answer_text(x, 405, "Only GET.\n");
		return;
	}
	if (!u) {
		answer_text(x, 401, "A token is needed: Authorization: Bearer TOKEN.\n");
		return;
	}
	if (u->admin) {
		requests(&t);
		starts(&t);
		machine(&t);
	}
	if (x->query.n > 4 && x->query.n - 4 < sizeof(name) && !memcmp(x->query.p, "app=", 4))
		memcpy(name, x->query.p + 4, x->query.n - 4);
	if (name[0]) {
		struct app *a = model_app(name);
		if (!a || model_role(u, a) == ROLE_NONE) {
			free(t.p);
			answer_text(x, 404, "There is no such app.\n");
			return;
		}
		apps(&t, &a, 1);
	} else if (!u->admin || str_eq(x->query, "apps=all")) {
		size_t n;
		struct app **list = model_apps(u->admin ? NULL : u, &n);
		apps(&t, list, n);
		free(list);
	}
	answer(x, 200, "text/plain; version=0.0.4; charset=utf-8", t.p ? t.p : "", t.n);
	free(t.p);
}
