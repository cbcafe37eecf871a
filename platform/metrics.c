/* SPDX-License-Identifier: ISC */
/*
 * Counting. One set of counters for all, a small one for each app that was ever asked, and series of the last ten
 * minutes: of all, and of those apps and users whom somebody looks at (a cache of SERIES_KEPT, the longest unseen goes first).
 *
 * A request costs some additions. An app costs sizeof(struct metrics_app), about 100 bytes; a histogram only after METRICS_FEW requests.
 *
 * A cold request's way has four parts: it waited in the queue until a start was under way or had happened (queue), the start until the program
 * listened (start), connecting to it, and the answer. The router knows queue and start together; the start alone is told by
 * metrics_start() just before, so the difference is the queue.
 */
#include "platform/metrics_data.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SERIES_KEPT 128

const char *const how_names[N_HOW] = {"boot", "prefix", "snapshot", "standby", "other"};
const char *const phase_names[N_PHASES] = {"queue", "start", "connect", "service", "total"};

struct metrics_all metrics_all;

/* Whose last ten minutes are kept, by a key that is never dereferenced. */
static struct watched {
	const void *who; /* struct app or struct user */
	char id[37]; /* its id: an address may be used again */
	struct series *series;
	uint64_t used; /* order of use */
} watched[SERIES_KEPT];
static unsigned n_watched;
static uint64_t uses;

static uv_timer_t sampler;

/* --- series ------------------------------------------------------------------------------------------ */

uint32_t series_now(void)
{
	return (uint32_t)(now_ns() / 1000000000) + 1; /* 0 is a slot that was never used */
}

const struct second *series_second(const struct series *s, uint32_t sec)
{
	const struct second *slot = &s->second[sec % SERIES_SECONDS];

	return slot->sec == sec ? slot : NULL;
}

void series_latency(const struct series *s, uint32_t since, struct hist *h)
{
	uint32_t now = series_now() / SERIES_STEP;

	for (uint32_t step = since / SERIES_STEP; step <= now; step++) {
		const struct step *slot = &s->step[step % (SERIES_SECONDS / SERIES_STEP)];
		if (slot->step == step)
			hist_merge(h, &slot->h);
	}
}

static void series_add(struct series *s, uint32_t sec, uint64_t us, bool error, bool cold)
{
	struct second *a = &s->second[sec % SERIES_SECONDS];
	uint32_t number = sec / SERIES_STEP;
	struct step *b = &s->step[number % (SERIES_SECONDS / SERIES_STEP)];

	if (a->sec != sec)
		*a = (struct second){.sec = sec};
	a->requests++;
	a->errors += error;
	a->cold += cold;
	if (b->step != number) {
		memset(b, 0, sizeof(*b));
		b->step = number;
	}
	hist_add(&b->h, us);
}

static struct series *find_series(const void *who)
{
	for (unsigned i = 0; i < n_watched; i++)
		if (watched[i].who == who)
			return watched[i].series;
	return NULL;
}

static const struct series *watch(const void *who, const char *id)
{
	struct watched *w = NULL;

	for (unsigned i = 0; i < n_watched && !w; i++)
		if (watched[i].who == who)
			w = &watched[i];
	if (!w && n_watched < SERIES_KEPT) {
		w = &watched[n_watched++];
		*w = (struct watched){.who = who, .series = xcalloc(1, sizeof(struct series))};
	} else if (!w) {
		w = &watched[0];
		for (unsigned i = 1; i < n_watched; i++)
			if (watched[i].used < w->used)
				w = &watched[i];
		w->id[0] = 0;
		w->who = who;
	}
	if (strcmp(w->id, id)) {
		memset(w->series, 0, sizeof(*w->series));
		snprintf(w->id, sizeof(w->id), "%s", id);
	}
	w->used = ++uses;
	return w->series;
}

const struct series *metrics_series_user(const struct user *u)
{
	return watch(u, u->id);
}

const struct series *metrics_series_app(const struct app *a)
{
	return watch(a, a->id);
}

/* --- instances, from time to time --------------------------------------------------------------------- */

static void take_sample(uv_timer_t *t)
{
	uint32_t step = series_now() / SERIES_STEP;
	struct sample *s = &metrics_all.sample[step % (SERIES_SECONDS / SERIES_STEP)];
	size_t running = sched_n_running();

	*s = (struct sample){step, (uint32_t)running, running ? sched_memory() : 0};
	if (!running)
		uv_timer_stop(&sampler); /* a sleeping platform does nothing; the next request begins again */
}

static void start_sampling(void)
{
	if (!sampler.data) {
		sampler.data = &sampler; /* it is made */
		uv_timer_init(loop, &sampler);
		uv_unref((uv_handle_t *)&sampler);
	}
	if (!uv_is_active((uv_handle_t *)&sampler))
		uv_timer_start(&sampler, take_sample, 200, SERIES_STEP * 1000 / 2);
}

/* --- counting ------------------------------------------------------------------------------------------ */

static struct metrics_app *metrics_of(struct app *a)
{
	if (!a->metrics)
		a->metrics = xcalloc(1, sizeof(*a->metrics));
	return a->metrics;
}

static void timing_add(struct timing *t, uint64_t us)
{
	hist_add(&t->h, us);
	t->count++;
	t->sum_us += us;
}

static uint32_t cut32(uint64_t v)
{
	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static void app_latency_add(struct metrics_app *m, uint64_t us)
{
	if (!m->hist && m->requests <= METRICS_FEW) {
		m->few[m->requests - 1] = cut32(us);
		return;
	}
	if (!m->hist) {
		m->hist = xcalloc(1, sizeof(*m->hist));
		for (unsigned i = 0; i < METRICS_FEW; i++)
			hist_add(m->hist, m->few[i]);
	}
	hist_add(m->hist, us);
}

void metrics_app_latency(const struct app *a, struct hist *h)
{
	const struct metrics_app *m = a->metrics;

	if (!m)
		return;
	if (m->hist)
		hist_merge(h, m->hist);
	for (unsigned i = 0; !m->hist && i < METRICS_FEW && i < m->requests; i++)
		hist_add(h, m->few[i]);
}

static void count_cold(struct app *a, const struct request_times *t)
{
	struct metrics_all *m = &metrics_all;
	struct metrics_app *mine = a->metrics;
	uint64_t queue = t->queue_ns / 1000, start = mine->start_us;
	struct cold_start *c = &m->recent[m->n_recent++ % COLD_STARTS_KEPT];

	if (!start || start > queue)
		start = queue; /* it waited for a start that others had asked for */
	memcpy(c->app_id, a->id, sizeof(c->app_id));
	c->us = real_us();
	c->how = mine->how;
	c->phase_us[PHASE_QUEUE] = cut32(queue - start);
	c->phase_us[PHASE_START] = cut32(start);
	c->phase_us[PHASE_CONNECT] = cut32(t->connect_ns / 1000);
	c->phase_us[PHASE_SERVICE] = cut32(t->service_ns / 1000);
	c->phase_us[PHASE_TOTAL] = cut32((t->queue_ns + t->connect_ns + t->service_ns) / 1000);
	for (unsigned i = 0; i < N_PHASES; i++)
		timing_add(&m->cold[mine->how][i], c->phase_us[i]);
	mine->cold++;
}

void metrics_request(struct app *a, int status, enum hcode code, uint64_t bytes,
		     const struct request_times *t)
{
	struct metrics_all *m = &metrics_all;
	unsigned class = status >= 100 && status < 600 ? (unsigned)status / 100 : 0;
	uint64_t us = (t->queue_ns + t->connect_ns + t->service_ns) / 1000;
	uint32_t sec = series_now();
	unsigned h = (unsigned)code;
	struct series *s;

	start_sampling();
	m->by_class[class]++;
	if (h && h < sizeof(m->by_code) / sizeof(*m->by_code))
		m->by_code[h]++;
	m->bytes += bytes;
	timing_add(&m->latency, us);
	series_add(&m->series, sec, us, class == 5, t->cold);
	if (!a)
		return;
	struct metrics_app *mine = metrics_of(a);
	mine->requests++;
	mine->bytes += bytes;
	mine->by_class[class]++;
	app_latency_add(mine, us);
	if (t->cold)
		count_cold(a, t);
	if (n_watched) {
		if ((s = find_series(a)))
			series_add(s, sec, us, class == 5, t->cold);
		if ((s = find_series(a->owner)))
			series_add(s, sec, us, class == 5, t->cold);
	}
}

void metrics_start(struct app *a, const char *how, uint64_t ns)
{
	enum how h = HOW_OTHER;

	start_sampling();
	for (unsigned i = 0; how && i < HOW_OTHER; i++)
		if (!strcmp(how, how_names[i]))
			h = (enum how)i;
	timing_add(&metrics_all.starts[h], ns / 1000);
	if (!a)
		return;
	struct metrics_app *m = metrics_of(a);
	m->how = h;
	m->start_us = cut32(ns / 1000);
	m->starts++;
}

void metrics_build(struct app *a, bool ok, uint64_t ns)
{
	start_sampling();
	timing_add(&metrics_all.builds, ns / 1000);
	metrics_all.builds_failed += !ok;
	if (!a)
		return;
	metrics_of(a)->builds++;
	a->metrics->builds_failed += !ok;
}

void metrics_app_gone(struct app *a)
{
	for (unsigned i = 0; i < n_watched; i++)
		if (watched[i].who == a) {
			free(watched[i].series);
			watched[i] = watched[--n_watched];
			break;
		}
	if (a->metrics)
		free(a->metrics->hist);
	free(a->metrics);
	a->metrics = NULL;
}

/* --- of the machine -------------------------------------------------------------------------------------- */

uint64_t metrics_memory_budget(void)
{
	if (config.memory_budget)
		return config.memory_budget;
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
}

int64_t metrics_since_us(void)
{
	static int64_t since;
	unsigned long long ticks = 0;
	struct timespec t;
	char line[1024], *p;
	FILE *f;

	if (since)
		return since;
	f = fopen("/proc/self/stat", "re");
	if (f && fgets(line, sizeof(line), f) && (p = strrchr(line, ')')))
		sscanf(p + 2,
		       "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		       &ticks);
	if (f)
		fclose(f);
	clock_gettime(CLOCK_BOOTTIME, &t);
	since = real_us() - ((int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000) +
		(int64_t)(ticks * 1000000 / (unsigned long long)sysconf(_SC_CLK_TCK));
	return since;
}

uint64_t metrics_rss(void)
{
	unsigned long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f)
		return 0;
	if (fscanf(f, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	fclose(f);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void text_add(struct text *t, const char *fmt, ...)
{
	va_list args;
	int n;

	for (;;) {
		va_start(args, fmt);
		n = vsnprintf(t->p ? t->p + t->n : NULL, t->cap - t->n, fmt, args);
		va_end(args);
		if (n < 0)
			return;
		if (t->n + (size_t)n < t->cap)
			break;
		t->cap = (t->n + (size_t)n + 1) * 2;
		t->p = xrealloc(t->p, t->cap);
	}
	t->n += (size_t)n;
}
