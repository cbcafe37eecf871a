/* SPDX-License-Identifier: ISC */
/*
 * Which request goes to which dyno, and who waits.
 *
 *   acquire ── a web dyno is up and has room ──────────────────────▶ cb at once
 *      └─ else ─▶ waiters (FIFO, bounded: H11) ── a dyno comes up, a request ends ──▶ cb
 *                    │   formation_reconcile() starts what is missing, once for all of them
 *                    ├─ cancel: the client has gone; an app that nobody waits for goes on starting, and sleeps again when idle
 *                    └─ crash H10, no listen in time H20, nothing free in time H12
 *
 * Idle: an app whose web dynos have nothing in flight stands in sched_idle, the longest idle first; requests take it out. Its front is
 * what sleeps after config.idle_ns, or sooner when budget.c wants memory. All of that is O(1) for each request.
 *
 * One timer for all apps ticks while any of them is awake. When all sleep, nothing runs here.
 */
#include "platform/sched.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform/instance.h"
#include "platform/logs.h"
#include "platform/router.h"
#include "platform/sched_inside.h"
#include "platform/standby.h"
#include "platform/tls_self.h"

#define TICK_MAX_MS  1000u
#define TICK_MIN_MS  50u
#define KEEP_CRASHES (600 * S_NS)

struct sched_wait {
	struct list link;
	struct sched_app *sa;
	sched_cb *cb;
	void *arg;
	uint64_t since_ns;
};

struct list sched_apps = LIST_INIT(sched_apps), sched_idle = LIST_INIT(sched_idle);
bool sched_stopping;
static uv_timer_t tick;
static void (*stopped_cb)(void);

struct sched_app *sched_app_of(struct app *a)
{
	struct sched_app *sa = a->sched;

	if (sa)
		return sa;
	sa = a->sched = xcalloc(1, sizeof(*sa));
	sa->app = a;
	list_init(&sa->idle);
	list_init(&sa->waiters);
	list_add_tail(&sched_apps, &sa->all);
	sched_tick_on();
	return sa;
}

static void app_free(struct sched_app *sa)
{
	if (sa->app)
		sa->app->sched = NULL;
	list_del(&sa->all);
	list_del(&sa->idle);
	crash_forget(sa);
	free(sa);
}

/* --- choosing and waiting ------------------------------------------------------------------------- */

/* The least busy one that has room. */
static struct sched_instance *pick(const struct sched_app *sa, unsigned limit)
{
	struct sched_instance *best = NULL;

	for (struct instance *i = sa->dynos; i; i = i->next) {
		if (i->state != DYNO_UP || !dyno_of(i)->web || dyno_of(i)->lost ||
		    (limit && i->in_flight >= limit))
			continue;
		if (!best || i->in_flight < best->i.in_flight)
			best = dyno_of(i);
	}
	return best;
}

static void take(struct sched_instance *d)
{
	d->i.in_flight++;
	d->sa->in_flight++;
	list_del(&d->sa->idle);
}

static void answer(struct sched_wait *w, struct sched_instance *d, enum hcode code)
{
	struct sched_result r = {d ? &d->i : NULL, code, d && w->since_ns < d->i.listening_ns};
	sched_cb *cb = w->cb;
	void *arg = w->arg;

	list_del(&w->link);
	w->sa->n_waiters--;
	free(w);
	cb(arg, &r);
}

void sched_serve_waiters(struct sched_app *sa)
{
	while (sa->app && !list_empty(&sa->waiters)) {
		struct sched_instance *d = pick(sa, app_limits(sa->app)->in_flight);
		if (!d)
			return;
		take(d);
		answer(list_first(&sa->waiters, struct sched_wait, link), d, H_OK);
	}
}

void sched_fail_waiters(struct sched_app *sa, enum hcode code)
{
	/* those that wait now: a callback may bring others */
	for (unsigned n = sa->n_waiters; n && !list_empty(&sa->waiters); n--)
		answer(list_first(&sa->waiters, struct sched_wait, link), NULL, code);
}

static struct sched_wait *refuse(sched_cb *cb, void *arg, enum hcode code)
{
	struct sched_result r = {NULL, code, false};

	cb(arg, &r);
	return NULL;
}

/* As many in flight as its dynos should have: one more, if its limits allow. */
static void scale_out(struct sched_app *sa)
{
	const struct limits *l = app_limits(sa->app);
	unsigned n = sa->n_up + sa->n_starting;

	if (!l->scale_at || sa->in_flight + sa->n_waiters < l->scale_at * n)
		return;
	sa->busy_ns = now_ns();
	if (sa->n_starting || n >= l->max_web || n >= l->max_processes)
		return;
	sa->web_more++;
	formation_reconcile(sa);
}

/* It must wait; what it waits for is started. */
static struct sched_wait *wait_for(struct sched_app *sa, sched_cb *cb, void *arg)
{
	const struct limits *l = app_limits(sa->app);
	const struct crash *c = crash_of(sa, "web", false);
	unsigned n = sa->n_up + sa->n_starting;
	/* those that are still to come up take as many at once as they may have in flight */
	uint64_t room =
		(uint64_t)l->backlog * (n ? n : 1) + (uint64_t)l->in_flight * (n ? sa->n_starting : 1);

	sa->used_ns = now_ns();
	if (!n && c && c->n && sa->used_ns < c->retry_ns)
		return refuse(cb, arg, H10);
	if (sa->n_waiters >= room)
		return refuse(cb, arg, H11);
	struct sched_wait *w = xcalloc(1, sizeof(*w));
	w->sa = sa;
	w->cb = cb;
	w->arg = arg;
	w->since_ns = sa->used_ns;
	list_add_tail(&sa->waiters, &w->link);
	sa->n_waiters++;
	list_del(&sa->idle);
	if (!n) {
		sa->awake = true;
		formation_reconcile(sa);
	} else {
		scale_out(sa);
	}
	return w;
}

struct sched_wait *sched_acquire(struct app *a, sched_cb *cb, void *arg)
{
	struct sched_app *sa = a->sched;

	if (sa && sa->n_up && list_empty(&sa->waiters) && !a->maintenance) {
		struct sched_instance *d = pick(sa, app_limits(a)->in_flight);
		if (d) {
			struct sched_result r = {&d->i, H_OK, false};
			take(d);
			scale_out(sa);
			cb(arg, &r);
			return NULL;
		}
	}
	if (a->maintenance)
		return refuse(cb, arg, H80);
	if (!a->release.image)
		return refuse(cb, arg, H81);
	const struct formation *f = model_formation(a, "web");
	if (!f || !f->quantity)
		return refuse(cb, arg, H14);
	if (sched_stopping)
		return refuse(cb, arg, H99);
	return wait_for(sched_app_of(a), cb, arg);
}

void sched_cancel(struct sched_wait *w)
{
	struct sched_app *sa = w->sa;

	list_del(&w->link);
	sa->n_waiters--;
	free(w);
	if (!sa->n_waiters && !sa->n_up && config.idle_ns)
		formation_unwake(sa);
	sched_idle_update(sa);
}

/* Is nobody there any more? A process that is ending has closed its socket before we hear of its end. */
static bool refuses(const struct instance *i)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", i->socket_path);
	bool no = s >= 0 && connect(s, (struct sockaddr *)&a, sizeof(a)) < 0 &&
		  (errno == ECONNREFUSED || errno == ENOENT);
	if (s >= 0)
		close(s);
	return no;
}

void sched_release(struct instance *inst, bool bad)
{
	struct sched_instance *d = dyno_of(inst);
	struct sched_app *sa = d->sa;

	inst->in_flight--;
	if (bad && inst->state == DYNO_UP && !d->lost && refuses(inst))
		dyno_lost(d);
	if (sa) {
		sa->in_flight--;
		if (!list_empty(&sa->waiters))
			sched_serve_waiters(sa);
		else if (!sa->in_flight)
			sched_idle_update(sa);
	}
	if (inst->in_flight)
		return;
	if (inst->state == DYNO_GONE)
		dyno_free_if_unused(d);
	else if (inst->state == DYNO_DRAINING && !d->termed)
		dyno_term(d);
}

/* --- idleness --------------------------------------------------------------------------------------- */

void sched_idle_update(struct sched_app *sa)
{
	bool idle =
		sa->app && sa->n_up && !sa->in_flight && !sa->n_waiters && !sa->n_oneoffs && !sa->n_starting;

	list_del(&sa->idle);
	if (!idle)
		return;
	sa->used_ns = now_ns();
	list_add_tail(&sched_idle, &sa->idle);
}

static void sleep_idle(uint64_t now)
{
	while (config.idle_ns && !list_empty(&sched_idle)) {
		struct sched_app *sa = list_first(&sched_idle, struct sched_app, idle);
		if (now - sa->used_ns < config.idle_ns)
			return;
		formation_sleep(sa, false);
	}
}

/* Those who have waited too long, the oldest first. */
static void expire_waiters(struct sched_app *sa, uint64_t now)
{
	const struct limits *l = app_limits(sa->app);

	while (!list_empty(&sa->waiters)) {
		struct sched_wait *w = list_first(&sa->waiters, struct sched_wait, link);
		uint64_t limit = sa->n_up ? l->first_byte_ns : l->boot_ns;
		if (!limit || now - w->since_ns < limit)
			return;
		answer(w, NULL, sa->n_up ? H12 : H20);
	}
}

/* Nothing runs and nothing is to be remembered. */
static bool is_over(const struct sched_app *sa, uint64_t now)
{
	if (sa->dynos || sa->n_waiters || sa->n_oneoffs)
		return false;
	for (const struct crash *c = sa->crashes; c; c = c->next)
		if (c->stopped || now - c->last_ns < KEEP_CRASHES)
			return false;
	return true;
}

static void on_tick(uv_timer_t *t)
{
	uint64_t now = now_ns();

	sleep_idle(now);
	list_for_each_safe (l, &sched_apps) {
		struct sched_app *sa = list_entry(l, struct sched_app, all);
		if (sa->app) {
			expire_waiters(sa, now);
			formation_tick(sa, now);
		}
		if (is_over(sa, now))
			app_free(sa);
	}
	budget_tick();
	if (list_empty(&sched_apps))
		uv_timer_stop(t);
}

void sched_tick_on(void)
{
	uint64_t ms = config.idle_ns / 8 / MS_NS;

	if (uv_is_active((uv_handle_t *)&tick))
		return;
	ms = !ms || ms > TICK_MAX_MS ? TICK_MAX_MS : ms < TICK_MIN_MS ? TICK_MIN_MS : ms;
	uv_timer_start(&tick, on_tick, ms, ms);
}

/* --- begin and end ------------------------------------------------------------------------------------ */

void sched_open(void)
{
	size_t n;
	struct app **apps = model_apps(NULL, &n);
	int r = instances_open();

	if (r)
		plog("error", NULL, "the directory of sockets cannot be made: %s", strerror(-r));
	const char *cert, *key;
	tls_self_files(
		&cert,
		&key); /* of attached runs: there before the first one, so that clients can be told of it */
	uv_timer_init(loop, &tick);
	budget_open();
	standby_open();
	for (size_t k = 0; k < n; k++)
		sched_update(apps[k]);
	free(apps);
}

void sched_app_gone(struct app *a)
{
	struct sched_app *sa = a->sched;

	standby_app_gone(a);
	if (!sa)
		return;
	sched_fail_waiters(sa, H81);
	crash_forget(sa);
	list_del(&sa->idle);
	sa->app = NULL;
	a->sched = NULL;
	for (struct instance *i = sa->dynos, *next; i; i = next) {
		next = i->next;
		i->app = NULL;
		if (i->state == DYNO_CRASHED) {
			dyno_bury(dyno_of(i));
			continue;
		}
		dyno_of(i)->evicted = true; /* a short time for its end */
		dyno_drain(dyno_of(i));
	}
}

static unsigned n_live(void)
{
	unsigned n = standby_count();

	list_for_each (l, &sched_apps)
		for (struct instance *i = list_entry(l, struct sched_app, all)->dynos; i; i = i->next)
			n += i->state != DYNO_CRASHED;
	return n;
}

void sched_ended_one(void)
{
	if (!sched_stopping || !stopped_cb || n_live())
		return;
	void (*cb)(void) = stopped_cb;
	stopped_cb = NULL;
	uv_timer_stop(&tick);
	cb();
}

void sched_drain_all(void (*cb)(void))
{
	sched_stopping = true;
	stopped_cb = cb;
	standby_end_all();
	list_for_each_safe (l, &sched_apps) {
		struct sched_app *sa = list_entry(l, struct sched_app, all);
		sched_fail_waiters(sa, H99);
		for (struct instance *i = sa->dynos, *next; i; i = next) {
			next = i->next;
			if (i->state != DYNO_CRASHED)
				dyno_drain(dyno_of(i));
		}
	}
	sched_ended_one();
}

/* --- questions ------------------------------------------------------------------------------------------ */

struct instance *sched_instances(struct app *a)
{
	return a->sched ? a->sched->dynos : NULL;
}

const char *sched_state_name(const struct instance *i)
{
	static const char *const names[] = {[DYNO_STARTING] = "starting",
					    [DYNO_UP] = "up",
					    [DYNO_DRAINING] = "stopping",
					    [DYNO_CRASHED] = "crashed",
					    [DYNO_GONE] = "down"};

	return names[i->state];
}
