/* SPDX-License-Identifier: ISC */
/*
 * What the dashboard shows, as JSON. A user sees figures of the apps that he may use, an admin those of all.
 *
 * All of the platform are counted as they happen (metrics.c). Of one user or app: totals are summed up from its apps' counters when
 * asked for; the last ten minutes are kept from the first time on that somebody looked.
 *
 * Times are milliseconds; "at" is milliseconds since 1970.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "platform/api_util.h"
#include "platform/dashboard.h"
#include "platform/instance.h"

#define PAGE 50

static double ms(double us)
{
	return us / 1000;
}

static json_t *latency_json(const struct hist *h)
{
	uint64_t n = hist_count(h);

	if (!n)
		return json_pack("{s:i}", "count", 0);
	return json_pack("{s:I, s:f, s:f, s:f}", "count", (json_int_t)n, "p50", ms(hist_quantile(h, 0.5)),
			 "p90", ms(hist_quantile(h, 0.9)), "p99", ms(hist_quantile(h, 0.99)));
}

/* --- the last ten minutes ------------------------------------------------------------------------------------ */

static json_t *series_json(const struct series *s)
{
	json_t *requests = json_array(), *errors = json_array(), *cold = json_array(),
	       *latency = json_array();
	uint32_t now = series_now() - 1; /* the last second that is over */

	for (uint32_t i = 0; i < SERIES_SECONDS - 1; i++) {
		uint32_t sec = now - (SERIES_SECONDS - 2) + i;
		const struct second *x = series_second(s, sec);
		json_array_append_new(requests, json_integer(x ? x->requests : 0));
		json_array_append_new(errors, json_integer(x ? x->errors : 0));
		json_array_append_new(cold, json_integer(x ? x->cold : 0));
	}
	uint32_t step = now / SERIES_STEP, n = SERIES_SECONDS / SERIES_STEP;
	for (uint32_t i = 0; i + 1 < n; i++) {
		const struct step *slot = &s->step[(step - (n - 2) + i) % n];
		if (slot->step == step - (n - 2) + i)
			json_array_append_new(latency, latency_json(&slot->h));
		else
			json_array_append_new(latency, json_null());
	}
	return json_pack("{s:i, s:o, s:o, s:o, s:i, s:o}", "seconds", SERIES_SECONDS - 1, "requests",
			 requests, "errors", errors, "cold", cold, "step", SERIES_STEP, "latency", latency);
}

static json_t *samples_json(void)
{
	json_t *memory = json_array(), *running = json_array();
	uint32_t now = series_now() / SERIES_STEP, n = SERIES_SECONDS / SERIES_STEP;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t step = now - (n - 1) + i;
		const struct sample *s = &metrics_all.sample[step % n];
		json_array_append_new(memory, json_integer(i + 1 == n	     ? (json_int_t)sched_memory()
							   : s->step == step ? (json_int_t)s->memory
									     : 0));
		json_array_append_new(running, json_integer(i + 1 == n	      ? (json_int_t)sched_n_running()
							    : s->step == step ? s->running
									      : 0));
	}
	return json_pack("{s:o, s:o}", "memory", memory, "running", running);
}

json_t *dashboard_second(struct user *u, struct app *a, uint32_t sec)
{
	const struct series *s = a	    ? metrics_series_app(a)
				 : u->admin ? &metrics_all.series
					    : metrics_series_user(u);
	const struct second *x = series_second(s, sec);
	struct hist h = {{0}};
	uint64_t memory = 0;
	size_t running = 0;

	series_latency(s, sec > 60 ? sec - 60 : 1, &h);
	if (a || !u->admin) {
		size_t n = 1;
		struct app **list = a ? &a : model_apps(u, &n);
		for (size_t i = 0; i < n; i++)
			for (const struct instance *k = list[i]->sched ? sched_instances(list[i]) : NULL; k;
			     k = k->next) {
				running += k->state == DYNO_UP || k->state == DYNO_STARTING;
				memory += a ? instance_memory(k) : 0;
			}
		if (!a)
			free(list);
	} else {
		running = sched_n_running();
		memory = sched_memory();
	}
	return json_pack("{s:I, s:I, s:i, s:i, s:i, s:i, s:I, s:o}", "at", (json_int_t)(real_us() / 1000),
			 "sec", (json_int_t)sec, "requests", x ? (int)x->requests : 0, "errors",
			 x ? (int)x->errors : 0, "cold", x ? (int)x->cold : 0, "running", (int)running,
			 "memory", (json_int_t)memory, "latency", latency_json(&h));
}

/* --- cold starts ------------------------------------------------------------------------------------------------ */

static json_t *phases_json(const uint32_t us[N_PHASES])
{
	json_t *o = json_object();

	for (unsigned i = 0; i < N_PHASES; i++)
		json_object_set_new(o, phase_names[i], json_real(ms(us[i])));
	return o;
}

static json_t *kind_json(enum how how, const struct timing t[N_PHASES])
{
	json_t *o = json_pack("{s:s, s:I}", "how", how_names[how], "count", (json_int_t)t[PHASE_TOTAL].count);

	for (unsigned i = 0; i < N_PHASES; i++)
		json_object_set_new(o, phase_names[i],
				    json_pack("{s:f, s:f, s:f}", "p50", ms(hist_quantile(&t[i].h, 0.5)),
					      "p99", ms(hist_quantile(&t[i].h, 0.99)), "mean",
					      ms((double)t[i].sum_us / (double)t[i].count)));
	return o;
}

/* The newest cold starts that the user may see (of one app: that one's), and, for who does not see all, what they add up to. */
static json_t *cold_json(struct user *u, const struct app *only)
{
	const struct metrics_all *m = &metrics_all;
	json_t *recent = json_array(), *kinds = json_array();
	struct timing(*mine)[N_PHASES] = xcalloc(N_HOW, sizeof(*mine));
	bool all = u->admin && !only;

	for (uint64_t i = 0; i < m->n_recent && i < COLD_STARTS_KEPT; i++) {
		const struct cold_start *c = &m->recent[(m->n_recent - 1 - i) % COLD_STARTS_KEPT];
		struct app *a = only ? NULL : model_app(c->app_id);
		if (only ? strcmp(only->id, c->app_id) : !a || model_role(u, a) == ROLE_NONE)
			continue;
		for (unsigned p = 0; p < N_PHASES; p++) {
			struct timing *t = &mine[c->how][p];
			hist_add(&t->h, c->phase_us[p]);
			t->count++;
			t->sum_us += c->phase_us[p];
		}
		if (json_array_size(recent) < 30)
			json_array_append_new(
				recent, json_pack("{s:s, s:I, s:s, s:o}", "app", only ? only->name : a->name,
						  "at", (json_int_t)(c->us / 1000), "how", how_names[c->how],
						  "ms", phases_json(c->phase_us)));
	}
	for (unsigned h = 0; h < N_HOW; h++) {
		const struct timing *t = all ? m->cold[h] : mine[h];
		if (t[PHASE_TOTAL].count)
			json_array_append_new(kinds, kind_json((enum how)h, t));
	}
	free(mine);
	return json_pack("{s:o, s:o}", "kinds", kinds, "recent", recent);
}

/* --- apps --------------------------------------------------------------------------------------------------------- */

static const char *state_of(struct app *a)
{
	const char *state = a->release.image ? "asleep" : "empty";

	if (a->maintenance)
		return "maintenance";
	for (const struct instance *i = a->sched ? sched_instances(a) : NULL; i; i = i->next) {
		if (i->state == DYNO_UP)
			return "running";
		if (i->state == DYNO_STARTING)
			state = "starting";
		else if (i->state == DYNO_CRASHED && !strcmp(state, "asleep"))
			state = "crashed";
	}
	return state;
}

static unsigned n_instances(struct app *a)
{
	unsigned n = 0;

	for (const struct instance *i = a->sched ? sched_instances(a) : NULL; i; i = i->next)
		n += i->state == DYNO_UP || i->state == DYNO_STARTING || i->state == DYNO_DRAINING;
	return n;
}

/* What the overview counts over all apps of a user. */
struct sums {
	unsigned total, running, asleep, empty, crashed, maintenance, instances;
	uint64_t memory, requests, cold, builds, builds_failed, by_class[6];
	struct hist latency;
};

static void sum_up(struct user *u, struct sums *s)
{
	size_t n;
	struct app **list = model_apps(u->admin ? NULL : u, &n);

	s->total = (unsigned)n;
	for (size_t i = 0; i < n; i++) {
		struct app *a = list[i];
		const struct metrics_app *m = a->metrics;
		const char *state = a->sched || a->maintenance ? state_of(a)
				    : a->release.image	       ? "asleep"
							       : "empty";
		switch (state[0]) {
		case 'r':
		case 's':
			s->running++;
			break;
		case 'a':
			s->asleep++;
			break;
		case 'e':
			s->empty++;
			break;
		case 'c':
			s->crashed++;
			break;
		default:
			s->maintenance++;
		}
		s->instances += n_instances(a);
		if (u->admin || !m)
			continue;
		for (unsigned k = 0; k < 6; k++)
			s->by_class[k] += m->by_class[k];
		s->requests += m->requests;
		s->cold += m->cold;
		s->builds += m->builds;
		s->builds_failed += m->builds_failed;
		metrics_app_latency(a, &s->latency);
		for (const struct instance *k = a->sched ? sched_instances(a) : NULL; k; k = k->next)
			s->memory += instance_memory(k);
	}
	free(list);
}

/* An admin's: they are counted in all. */
static void sums_of_all(struct sums *s)
{
	const struct metrics_all *m = &metrics_all;

	s->memory = sched_memory();
	s->requests = m->latency.count;
	s->builds = m->builds.count;
	s->builds_failed = m->builds_failed;
	for (unsigned i = 0; i < 6; i++)
		s->by_class[i] = m->by_class[i];
	for (unsigned i = 0; i < N_HOW; i++)
		s->cold += m->cold[i][PHASE_TOTAL].count;
	hist_merge(&s->latency, &m->latency.h);
}

static json_t *classes_json(const uint64_t by_class[6])
{
	json_int_t none = (json_int_t)by_class[0] + (json_int_t)by_class[1];

	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "2xx", (json_int_t)by_class[2], "3xx",
			 (json_int_t)by_class[3], "4xx", (json_int_t)by_class[4], "5xx",
			 (json_int_t)by_class[5], "none", none);
}

json_t *dashboard_overview(struct user *u)
{
	const struct metrics_all *m = &metrics_all;
	const struct series *s = u->admin ? &m->series : metrics_series_user(u);
	struct sums *sum = xcalloc(1, sizeof(*sum));
	struct hist recent = {{0}};
	json_t *o;

	sum_up(u, sum);
	if (u->admin)
		sums_of_all(sum);
	series_latency(s, series_now() > SERIES_SECONDS ? series_now() - SERIES_SECONDS : 1, &recent);
	o = json_pack("{s:b, s:I, s:{s:i, s:i, s:i, s:i, s:i, s:i}, s:i, s:I, s:I, s:o}", "admin", u->admin,
		      "since", (json_int_t)(metrics_since_us() / 1000), "apps", "total", sum->total,
		      "running", sum->running, "asleep", sum->asleep, "empty", sum->empty, "crashed",
		      sum->crashed, "maintenance", sum->maintenance, "instances", sum->instances, "requests",
		      (json_int_t)sum->requests, "cold_requests", (json_int_t)sum->cold, "classes",
		      classes_json(sum->by_class));
	json_object_set_new(o, "memory", json_pack("{s:I}", "used", (json_int_t)sum->memory));
	if (u->admin) {
		json_object_set_new(json_object_get(o, "memory"), "budget",
				    json_integer((json_int_t)metrics_memory_budget()));
		json_object_set_new(json_object_get(o, "memory"), "platform",
				    json_integer((json_int_t)metrics_rss()));
		json_object_set_new(o, "samples", samples_json());
	}
	json_object_set_new(o, "builds",
			    json_pack("{s:I, s:I}", "count", (json_int_t)sum->builds, "failed",
				      (json_int_t)sum->builds_failed));
	if (u->admin && m->builds.count)
		json_object_set_new(json_object_get(o, "builds"), "p50",
				    json_real(ms(hist_quantile(&m->builds.h, 0.5))));
	json_object_set_new(o, "latency", latency_json(&recent));
	json_object_set_new(o, "latency_all", latency_json(&sum->latency));
	json_object_set_new(o, "series", series_json(s));
	json_object_set_new(o, "cold", cold_json(u, NULL));
	free(sum);
	return o;
}

static json_t *row_json(struct app *a)
{
	const struct metrics_app *m = a->metrics;
	char *url = app_url(a);
	struct hist h = {{0}};

	metrics_app_latency(a, &h);
	json_t *o =
		json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:i, s:o}", "name", a->name, "owner",
			  a->owner->email, "url", url, "state", state_of(a), "instances", (int)n_instances(a),
			  "version", (int)a->release.version, "released", (json_int_t)(a->released_us / 1000),
			  "requests", (json_int_t)(m ? m->requests : 0), "cold", m ? (int)m->cold : 0,
			  "latency", latency_json(&h));
	free(url);
	return o;
}

static int by_requests(const void *a, const void *b)
{
	const struct metrics_app *x = (*(struct app *const *)a)->metrics,
				 *y = (*(struct app *const *)b)->metrics;
	uint64_t n = x ? x->requests : 0, m = y ? y->requests : 0;

	return n != m ? (n < m) - (n > m)
		      : strcmp((*(struct app *const *)a)->name, (*(struct app *const *)b)->name);
}

static int by_release(const void *a, const void *b)
{
	int64_t x = (*(struct app *const *)a)->released_us, y = (*(struct app *const *)b)->released_us;

	return x != y ? (x < y) - (x > y)
		      : strcmp((*(struct app *const *)a)->name, (*(struct app *const *)b)->name);
}

/* q: a part of the name; state; sort=name|requests|released; page from 1. */
json_t *dashboard_apps(struct user *u, struct exchange *x)
{
	char *q = api_query(x, "q"), *state = api_query(x, "state"), *sort = api_query(x, "sort"),
	     *page = api_query(x, "page");
	size_t n, kept = 0, first;
	struct app **list = model_apps(u->admin ? NULL : u, &n);
	json_t *rows = json_array();

	for (char *p = q; p && *p; p++)
		*p = (char)tolower((unsigned char)*p);
	for (size_t i = 0; i < n; i++) {
		if (q && *q && !strstr(list[i]->name, q))
			continue;
		if (state && *state && strcmp(state, "all") && strcmp(state, state_of(list[i])))
			continue;
		list[kept++] = list[i];
	}
	if (sort && kept && !strcmp(sort, "requests"))
		qsort(list, kept, sizeof(*list), by_requests);
	else if (sort && kept && !strcmp(sort, "released"))
		qsort(list, kept, sizeof(*list), by_release);
	size_t number = page ? strtoul(page, NULL, 10) : 1, pages = kept ? (kept + PAGE - 1) / PAGE : 1;
	number = number < 1 ? 1 : number > pages ? pages : number;
	first = (number - 1) * PAGE;
	for (size_t i = first; i < kept && i < first + PAGE; i++)
		json_array_append_new(rows, row_json(list[i]));
	free(list);
	free(q);
	free(state);
	free(sort);
	free(page);
	return json_pack("{s:I, s:I, s:I, s:I, s:o}", "total", (json_int_t)n, "found", (json_int_t)kept,
			 "page", (json_int_t)number, "pages", (json_int_t)pages, "apps", rows);
}

/* --- one app ------------------------------------------------------------------------------------------------------- */

static json_t *instances_json(struct app *a)
{
	json_t *list = json_array();

	for (const struct instance *i = a->sched ? sched_instances(a) : NULL; i; i = i->next)
		json_array_append_new(
			list,
			json_pack("{s:s, s:s, s:s, s:i, s:s, s:I, s:i, s:I, s:o}", "dyno", i->dyno, "type",
				  i->type, "state", sched_state_name(i), "version", (int)i->version, "how",
				  i->how ? i->how : "", "at", (json_int_t)(i->created_us / 1000), "in_flight",
				  (int)i->in_flight, "memory", (json_int_t)instance_memory(i), "start_ms",
				  i->listening_ns > i->started_ns
					  ? json_real((double)(i->listening_ns - i->started_ns) / 1e6)
					  : json_null()));
	return list;
}

static json_t *formation_json(const struct app *a)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < a->n_formation; i++) {
		const struct formation *f = &a->formation[i];
		json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:s}", "type", f->type, "command",
						      f->command ? f->command : "", "quantity",
						      (int)f->quantity, "size", f->size));
	}
	return list;
}

/* Only the names: values are shown when somebody asks for them, by the API. */
static json_t *config_names(const struct app *a)
{
	json_t *vars = a->release.config ? json_loads(a->release.config, 0, NULL) : NULL,
	       *list = json_array(), *v;
	const char *key;

	json_object_foreach(vars, key, v)
	{
		json_array_append_new(list, json_string(key));
	}
	json_decref(vars);
	return list;
}

json_t *dashboard_app(struct user *u, struct app *a)
{
	const struct metrics_app *m = a->metrics;
	const struct series *s = metrics_series_app(a);
	char *url = app_url(a), *git = app_git_url(a);
	uint64_t by_class[6] = {0};
	struct hist h = {{0}};
	json_t *domains = json_array(), *o;

	for (unsigned i = 0; m && i < 6; i++)
		by_class[i] = m->by_class[i];
	for (const struct domain *d = a->domains; d; d = d->next)
		json_array_append_new(domains, json_string(d->hostname));
	metrics_app_latency(a, &h);
	o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:I, s:I}", "id", a->id, "name", a->name,
		      "url", url, "git_url", git, "owner", a->owner->email, "role",
		      model_role(u, a) == ROLE_OWNER ? "owner" : "collaborator", "state", state_of(a),
		      "maintenance", a->maintenance, "version", (int)a->release.version, "image_bytes",
		      (json_int_t)a->release.image_bytes, "released", (json_int_t)(a->released_us / 1000));
	free(url);
	free(git);
	json_object_set_new(o, "instances", instances_json(a));
	json_object_set_new(o, "formation", formation_json(a));
	json_object_set_new(o, "config", config_names(a));
	json_object_set_new(o, "domains", domains);
	json_object_set_new(o, "latency", latency_json(&h));
	json_object_set_new(o, "series", series_json(s));
	json_object_set_new(o, "classes", classes_json(by_class));
	json_object_set_new(o, "requests", json_integer((json_int_t)(m ? m->requests : 0)));
	json_object_set_new(o, "cold_requests", json_integer((json_int_t)(m ? m->cold : 0)));
	json_object_set_new(o, "cold", cold_json(u, a));
	return o;
}
