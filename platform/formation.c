/* SPDX-License-Identifier: ISC */
/*
 * What should run, and what has to be done for it.
 *
 * formation_reconcile() compares and gives orders; whoever changes something calls it, and calling it once too often does nothing.
 *
 *   web      asleep: none. Awake: the formation's quantity, and web_more for the load.
 *   others   the formation's quantity, always
 *
 * A place (web.1) is taken by a dyno that is not outdated, be it starting, up, or crashed and not to be tried again yet.
 *
 * A release or a restart marks dynos as outdated. Of web dynos the fresh one starts beside the old one, which goes on serving until
 * the fresh one answers (probe.c), and then drains; if it does not come up, the old one stays (failed_version). Two workers at a time could
 * do the same work twice, so there the old one ends first.
 */
#include <stdlib.h>
#include <string.h>

#include "platform/logs.h"
#include "platform/sched_inside.h"

#define CALM_NS (30 * S_NS) /* one dyno less after so long with less load */

static bool is_live(const struct instance *i)
{
	return i->state == DYNO_STARTING || i->state == DYNO_UP;
}

unsigned formation_web_wanted(const struct sched_app *sa)
{
	const struct formation *f = model_formation(sa->app, "web");
	unsigned n = f ? f->quantity : 0;

	return n && sa->awake && sa->app->release.image ? n + sa->web_more : 0;
}

static unsigned wanted(const struct sched_app *sa, const struct formation *f)
{
	if (!strcmp(f->type, "web"))
		return formation_web_wanted(sa);
	if (!strcmp(f->type, "release") || !strcmp(f->type, "run"))
		return 0;
	return sa->app->release.image ? f->quantity : 0;
}

static unsigned n_processes(const struct sched_app *sa)
{
	unsigned n = 0;

	for (const struct instance *i = sa->dynos; i; i = i->next)
		n += is_live(i) && !dyno_of((struct instance *)i)->outdated;
	return n;
}

/* Does a dyno hold this place? Crashed ones that may be tried again give it up. */
static bool place_taken(struct sched_app *sa, const char *type, unsigned number, uint64_t now)
{
	const struct crash *c = crash_of(sa, type, false);
	bool web = !strcmp(type, "web");

	for (struct instance *i = sa->dynos, *next; i; i = next) {
		next = i->next;
		struct sched_instance *d = dyno_of(i);
		if (d->oneoff || i->number != number || strcmp(i->type, type))
			continue;
		if (i->state == DYNO_DRAINING) {
			if (!web)
				return true;
			continue;
		}
		if (i->state != DYNO_CRASHED) {
			if (!d->outdated || !web)
				return true;
			continue;
		}
		if (c && (c->stopped || now < c->retry_ns))
			return true;
		dyno_bury(d);
	}
	return c && (c->stopped || (c->n && now < c->retry_ns));
}

/* Those that are too many, and outdated ones that need not wait for their successor. */
static void drain_surplus(struct sched_app *sa, const struct formation *f, unsigned want)
{
	bool web = !strcmp(f->type, "web");

	for (struct instance *i = sa->dynos, *next; i; i = next) {
		next = i->next;
		struct sched_instance *d = dyno_of(i);
		if (d->oneoff || strcmp(i->type, f->type))
			continue;
		if (i->number > want && i->state == DYNO_CRASHED && f->quantity < i->number)
			dyno_bury(d);
		else if (is_live(i) && (i->number > want || (d->outdated && !web)))
			dyno_drain(d);
	}
}

static bool old_ones_serve(const struct sched_app *sa)
{
	for (struct instance *i = sa->dynos; i; i = i->next)
		if (i->state == DYNO_UP && dyno_of(i)->web && dyno_of(i)->outdated)
			return true;
	return false;
}

static void reconcile_type(struct sched_app *sa, const struct formation *f)
{
	unsigned want = wanted(sa, f);
	bool web = !strcmp(f->type, "web"), beside = web && old_ones_serve(sa);
	uint64_t now = now_ns();

	if (strlen(f->type) >= sizeof(sa->dynos->type)) { /* its dynos could not be told from others */
		plog("error", sa->app->name, "a process type with a name of %zu bytes is not started",
		     strlen(f->type));
		return;
	}
	drain_surplus(sa, f, want);
	if (beside && sa->failed_version == sa->app->release.version)
		return;
	for (unsigned n = 1; n <= want; n++) {
		if (place_taken(sa, f->type, n, now))
			continue;
		if (n_processes(sa) >= app_limits(sa->app)->max_processes)
			return;
		struct sched_instance *d = dyno_new(sa, f->type, n, false);
		d->probed = beside;
		dyno_queue(d);
	}
}

/* Types that the new release does not have. */
static void drain_unknown(struct sched_app *sa)
{
	for (struct instance *i = sa->dynos, *next; i; i = next) {
		next = i->next;
		if (dyno_of(i)->oneoff || model_formation(sa->app, i->type))
			continue;
		if (i->state == DYNO_CRASHED)
			dyno_bury(dyno_of(i));
		else if (is_live(i))
			dyno_drain(dyno_of(i));
	}
}

void formation_reconcile(struct sched_app *sa)
{
	if (!sa->app || sched_stopping)
		return;
	drain_unknown(sa);
	for (unsigned k = 0; sa->app && k < sa->app->n_formation; k++)
		reconcile_type(sa, &sa->app->formation[k]);
	if (sa->app && sa->n_waiters && !formation_web_wanted(sa))
		sched_fail_waiters(sa, H14); /* scaled to nothing while they waited */
	budget_pump();
}

void formation_up(struct sched_instance *fresh)
{
	for (struct instance *i = fresh->sa->dynos, *next; i; i = next) {
		next = i->next;
		struct sched_instance *d = dyno_of(i);
		if (d != fresh && d->web && d->outdated && is_live(i) &&
		    (i->number == fresh->i.number || i->state == DYNO_STARTING))
			dyno_drain(d);
	}
}

void formation_unwake(struct sched_app *sa)
{
	for (struct instance *i = sa->dynos, *next; i; i = next) {
		next = i->next;
		if (dyno_of(i)->web && !list_empty(&dyno_of(i)->queue))
			dyno_bury(dyno_of(i));
	}
	if (!sa->n_starting)
		sa->awake = false;
}

void formation_sleep(struct sched_app *sa, bool evict)
{
	sa->awake = false;
	sa->web_more = 0;
	list_del(&sa->idle);
	for (struct instance *i = sa->dynos, *next; i; i = next) {
		next = i->next;
		struct sched_instance *d = dyno_of(i);
		if (!d->web || !is_live(i))
			continue;
		dyno_log(d, "Idling");
		d->evicted = evict;
		dyno_drain(d);
	}
}

/* Less load for a while: one less. */
static void scale_in(struct sched_app *sa, uint64_t now)
{
	const struct limits *l = app_limits(sa->app);
	uint64_t calm = config.idle_ns && config.idle_ns / 2 < CALM_NS ? config.idle_ns / 2 : CALM_NS;

	if (!sa->web_more)
		return;
	if (sa->n_up < 2 || sa->in_flight + sa->n_waiters >= l->scale_at * (sa->n_up - 1))
		sa->busy_ns = now;
	if (now - sa->busy_ns < calm)
		return;
	sa->busy_ns = now;
	sa->web_more--;
	formation_reconcile(sa);
}

void formation_tick(struct sched_app *sa, uint64_t now)
{
	bool retry = false;

	scale_in(sa, now);
	/* crashed, and nobody has asked for a while: it may be left alone */
	if (sa->awake && !sa->n_up && !sa->n_starting && !sa->n_waiters && config.idle_ns &&
	    now - sa->used_ns > config.idle_ns)
		sa->awake = false;
	for (const struct crash *c = sa->crashes; c; c = c->next)
		retry |= c->n && !c->stopped && now >= c->retry_ns;
	if (retry)
		formation_reconcile(sa);
}

/* --- orders of the API ------------------------------------------------------------------------------- */

static bool needs_dynos(const struct app *a)
{
	if (!a->release.image)
		return false;
	for (unsigned k = 0; k < a->n_formation; k++) {
		const struct formation *f = &a->formation[k];
		bool web = !strcmp(f->type, "web");
		if (f->quantity && (!web || !config.idle_ns) && strcmp(f->type, "release"))
			return true;
	}
	return false;
}

/* What was held back is tried again. */
static void fresh_start(struct sched_app *sa)
{
	sa->failed_version = 0;
	crash_forget(sa);
	for (struct instance *i = sa->dynos, *next; i; i = next) {
		next = i->next;
		if (i->state == DYNO_CRASHED)
			dyno_bury(dyno_of(i));
	}
}

void sched_update(struct app *a)
{
	struct sched_app *sa = a->sched;

	if (sched_stopping || (!sa && !needs_dynos(a)))
		return;
	uint64_t key = dyno_limits_key(app_limits(a));
	sa = sched_app_of(a);
	fresh_start(sa);
	if (!config.idle_ns)
		sa->awake = true;
	for (struct instance *i = sa->dynos; i; i = i->next)
		if (!dyno_of(i)->oneoff && is_live(i) &&
		    (i->version != a->release.version || (i->proc && dyno_of(i)->limits_key != key)))
			dyno_of(i)->outdated = true;
	formation_reconcile(sa);
}

/* "web.1", a type, or NULL for all. */
static bool names(const char *word, const struct instance *i)
{
	return !word || !strcmp(word, i->dyno) || !strcmp(word, i->type);
}

void sched_restart(struct app *a, const char *dyno)
{
	struct sched_app *sa = a->sched;

	if (!sa)
		return;
	fresh_start(sa);
	for (struct instance *i = sa->dynos; i; i = i->next) {
		struct sched_instance *d = dyno_of(i);
		if (d->oneoff || !is_live(i) || !names(dyno, i))
			continue;
		d->outdated = true;
		dyno_log(d, "Restarting");
	}
	formation_reconcile(sa);
}

bool sched_stop(struct app *a, const char *dyno)
{
	struct sched_app *sa = a->sched;
	bool found = false, web_left = false;

	for (struct instance *i = sa ? sa->dynos : NULL, *next; i; i = next) {
		next = i->next;
		struct sched_instance *d = dyno_of(i);
		if (i->state == DYNO_DRAINING || !names(dyno, i)) {
			web_left |= d->web && is_live(i);
			continue;
		}
		found = true;
		if (!d->web && !d->oneoff)
			crash_of(sa, i->type, true)->stopped = true;
		if (i->state == DYNO_CRASHED)
			dyno_bury(d);
		else
			dyno_drain(d);
	}
	if (found && !web_left) /* the next request wakes it */
		sa->awake = false, sa->web_more = 0;
	return found;
}
