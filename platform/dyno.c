/* SPDX-License-Identifier: ISC */
/*
 * The life of one dyno.
 *
 *   dyno_new ─▶ STARTING ── dyno_queue ─▶ budget ─▶ dyno_spawn ── listens (web) or runs (others) ─▶ [probe] ─▶ UP
 *                  │  boot limit: R10, SIGKILL                                                               │
 *                  └────────── ends by itself ─▶ CRASHED ◀── ends by itself ────────────────────────────────┤
 *                                                   │ back-off over: formation.c starts another             │
 *               GONE ◀── its process has ended ── DRAINING (requests end, 30 s ─▶ SIGTERM, 30 s ─▶ R12, SIGKILL) ◀─┘ dyno_drain
 *
 * A dyno is freed when it is GONE and the router has given back every request: dyno_bury(), dyno_free_if_unused().
 *
 * After the n-th crash in a row a type is not started again for 0.5 s · 2^(n-1), 5 min at most; a dyno that was up dies
 * for the first time: at once. FORGIVE_NS without a crash, and counting starts anew. Until then requests get H10 at once.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/instance.h"
#include "platform/logs.h"
#include "platform/metrics.h"
#include "platform/router.h"
#include "platform/sched_inside.h"
#include "platform/standby.h"
#include "platform/store.h"

#define SLOT_NS	    (250 * MS_NS) /* a start that takes longer waits for something; others may go ahead */
#define LOST_NS	    (5 * S_NS)
#define BACKOFF_NS  (500 * MS_NS)
#define BACKOFF_MAX (300 * S_NS)

static void on_listening(struct instance *i);
static void on_lost(struct instance *i);
static void on_ended(struct instance *i, int status);
static void on_how(struct instance *i, const char *text);
const struct instance_events dyno_events = {on_how, on_listening, on_lost, on_ended};

void dyno_log(const struct sched_instance *d, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (!d->i.app)
		return;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0)
		log_line(d->i.app, "heroku", d->i.dyno, text,
			 (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

static void set_state(struct sched_instance *d, enum dyno_state s)
{
	struct sched_app *sa = d->sa;

	if (d->web) {
		sa->n_up += (s == DYNO_UP) - (d->i.state == DYNO_UP);
		sa->n_starting += (s == DYNO_STARTING) - (d->i.state == DYNO_STARTING);
	}
	d->i.state = s;
	d->i.updated_us = real_us();
}

/* --- timers ------------------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *t);

static void set_timer(struct sched_instance *d, enum timer_for what, uint64_t ns)
{
	d->timer_for = what;
	if (what == TIMER_NONE)
		uv_timer_stop(&d->timer);
	else
		uv_timer_start(&d->timer, on_timer, (ns + MS_NS - 1) / MS_NS, 0);
}

static void boot_too_long(struct sched_instance *d)
{
	dyno_log(d,
		 "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within %llu seconds of "
		 "launch",
		 (unsigned long long)(app_limits(d->i.app)->boot_ns / S_NS));
	dyno_log(d, "Stopping process with SIGKILL");
	instance_signal(&d->i, SIGKILL);
	if (!d->sa->n_up && d->sa->n_starting == 1)
		sched_fail_waiters(d->sa, H20);
}

static void on_timer(uv_timer_t *t)
{
	struct sched_instance *d = t->data;
	enum timer_for what = d->timer_for;
	uint64_t boot = d->i.app ? app_limits(d->i.app)->boot_ns : 0;

	d->timer_for = TIMER_NONE;
	switch (what) {
	case TIMER_NONE:
		break;
	case TIMER_SLOT:
		if (!d->i.proc && d->standby && d->i.state == DYNO_STARTING) {
			standby_forget(d);
			dyno_spawn_again(d);
			break;
		}
		if (!d->i.proc) { /* it could not even be started */
			on_ended(&d->i, 125);
			break;
		}
		if (d->i.state == DYNO_STARTING && d->web && boot)
			set_timer(d, TIMER_BOOT, boot > SLOT_NS ? boot - SLOT_NS : 0);
		budget_slot_back(d);
		break;
	case TIMER_BOOT:
		if (d->i.app)
			boot_too_long(d);
		break;
	case TIMER_DRAIN:
		dyno_term(d);
		break;
	case TIMER_KILL:
		if (!d->evicted && d->termed)
			dyno_log(d, "Error R12 (Exit timeout) -> At least one process failed to exit within "
				    "30 seconds of SIGTERM");
		dyno_log(d, "Stopping remaining processes with SIGKILL");
		instance_signal(&d->i, SIGKILL);
		break;
	}
}

/* --- begin and end of the struct ----------------------------------------------------------------------- */

struct sched_instance *dyno_new(struct sched_app *sa, const char *type, unsigned number, bool oneoff)
{
	struct sched_instance *d = xcalloc(1, sizeof(*d));

	d->i.priv = d;
	d->i.app = sa->app;
	d->sa = sa;
	make_uuid(d->i.id);
	snprintf(d->i.type, sizeof(d->i.type), "%s", type);
	snprintf(d->i.dyno, sizeof(d->i.dyno), "%s.%u", d->i.type, number);
	d->i.number = number;
	d->i.version = sa->app->release.version;
	d->i.created_us = real_us();
	d->i.how = "boot";
	d->i.state = DYNO_GONE; /* so that set_state() counts it */
	d->oneoff = oneoff;
	d->web = !oneoff && !strcmp(type, "web");
	d->stdio[0] = d->stdio[1] = d->stdio[2] = -1;
	d->decided_ns = now_ns();
	list_init(&d->queue);
	uv_timer_init(loop, &d->timer);
	d->timer.data = d;
	/* in order of age: the newest last */
	struct instance **at = &sa->dynos;
	while (*at)
		at = &(*at)->next;
	*at = &d->i;
	set_state(d, DYNO_STARTING);
	return d;
}

static void on_timer_closed(uv_handle_t *h)
{
	struct sched_instance *d = h->data;

	for (int k = 0; k < 3; k++)
		if (d->stdio[k] >= 0)
			close(d->stdio[k]);
	free(d->image);
	free(d->process);
	free(d->command);
	if (d->env)
		json_decref(d->env);
	free(d);
}

void dyno_free_if_unused(struct sched_instance *d)
{
	if (d->i.in_flight || uv_is_closing((uv_handle_t *)&d->timer))
		return;
	router_instance_gone(&d->i);
	uv_close((uv_handle_t *)&d->timer, on_timer_closed);
}

void dyno_bury(struct sched_instance *d)
{
	struct sched_app *sa = d->sa;

	list_del(&d->queue);
	standby_forget(d);
	budget_slot_back(d);
	set_timer(d, TIMER_NONE, 0);
	probe_stop(d);
	set_state(d, DYNO_GONE);
	for (struct instance **at = &sa->dynos; *at; at = &(*at)->next)
		if (*at == &d->i) {
			*at = d->i.next;
			break;
		}
	if (d->web)
		sa->in_flight -= d->i.in_flight;
	d->i.next = NULL;
	d->sa = NULL;
	router_instance_gone(&d->i);
	dyno_free_if_unused(d);
	sched_ended_one();
}

/* --- start ------------------------------------------------------------------------------------------------ */

void dyno_queue(struct sched_instance *d)
{
	budget_queue(d);
}

/* What a formation's dyno runs, as app and release have it now. */
static void fill_in(struct sched_instance *d)
{
	const struct app *a = d->i.app;
	const struct formation *f = model_formation(d->sa->app, d->i.type);

	d->i.version = a->release.version;
	d->image = xstrdup(a->release.image);
	d->env = json_loads(a->release.config, 0, NULL);
	if (f && f->command && *f->command)
		d->process = xstrdup(d->i.type);
}

static void found(void *arg, sqlite3_stmt *st)
{
	*(bool *)arg = true;
}

/* Labs: names and versions in the environment. Only who asks for it, since a start of its own is slower. */
static void add_metadata(const struct sched_instance *d, json_t *env)
{
	const struct app *a = d->i.app;
	bool on = false;
	char text[32];

	store_exec("SELECT 1 FROM features WHERE owner_id = ? AND name = 'runtime-dyno-metadata'", found, &on,
		   "s", a->id);
	if (!on)
		return;
	json_object_set_new(env, "HEROKU_APP_ID", json_string(a->id));
	json_object_set_new(env, "HEROKU_APP_NAME", json_string(a->name));
	json_object_set_new(env, "HEROKU_DYNO_ID", json_string(d->i.id));
	json_object_set_new(env, "HEROKU_RELEASE_VERSION", json_sprintf("v%u", d->i.version));
	if (d->i.version != a->release.version)
		return;
	format_time(a->release.created_us, text);
	json_object_set_new(env, "HEROKU_RELEASE_CREATED_AT", json_string(text));
	json_object_set_new(env, "HEROKU_SLUG_ID", json_string(a->release.slug_id));
}

static void add_ours(const struct sched_instance *d, json_t *env)
{
	json_object_set_new(env, "PORT", json_sprintf("%d", APP_PORT));
	json_object_set_new(env, "DYNO", json_string(d->i.dyno));
	add_metadata(d, env);
}

json_t *dyno_env(const struct sched_instance *d)
{
	json_t *env = json_loads(d->i.app->release.config, 0, NULL);

	if (!env)
		env = json_object();
	add_ours(d, env);
	return env;
}

uint64_t dyno_limits_key(const struct limits *l)
{
	uint64_t h = l->memory * 0x9e3779b97f4a7c15u ^ l->cpu_percent ^ (uint64_t)l->cpus << 32;

	for (const char *p = l->egress; *p; p++)
		h = (h ^ (unsigned char)*p) * 0x100000001b3u;
	return h;
}

static const char *shown_command(const struct sched_instance *d)
{
	const struct formation *f = model_formation(d->sa->app, d->process ? d->process : d->i.type);

	return d->command ? d->command : f && f->command ? f->command : d->process ? d->process : "";
}

/* By a standby if that may be and one is there; or by itself. */
static void start(struct sched_instance *d, bool prepared)
{
	struct instance_spec s = {.image = d->image,
				  .process = d->process,
				  .command = d->command,
				  .env = d->env,
				  .limits = app_limits(d->i.app),
				  .tty = d->tty,
				  .port = d->web,
				  .time_limit_ns = d->time_limit_ns};

	memcpy(s.stdio, d->stdio, sizeof(s.stdio));
	d->stdio[0] = d->stdio[1] = d->stdio[2] = -1;
	d->limits_key = dyno_limits_key(s.limits);
	int r = prepared && standby_take(d, &s) ? 0 : instance_start(&d->i, &s, &dyno_events);
	json_decref(d->env); /* secrets live no longer than needed */
	d->env = NULL;
	if (r) {
		plog("error", d->i.app->name, "%s cannot be started: %s", d->i.dyno, strerror(-r));
		dyno_log(d, "Process could not be started");
		set_timer(d, TIMER_SLOT,
			  0); /* not from here: whoever called us is in the middle of something */
		return;
	}
	set_timer(d, TIMER_SLOT, SLOT_NS);
}

void dyno_spawn(struct sched_instance *d)
{
	if (!d->oneoff)
		fill_in(d);
	if (!d->env)
		d->env = json_object();
	add_ours(d, d->env);
	dyno_log(d, "Starting process with command `%s`", shown_command(d));
	budget_started(d);
	start(d, true);
	if (d->i.proc && !d->web)
		dyno_set_up(d);
}

/* Only dynos of formations get here. */
void dyno_spawn_again(struct sched_instance *d)
{
	if (d->i.state != DYNO_STARTING || !d->i.app) /* its timer does the rest */
		return;
	free(d->image);
	free(d->process);
	d->process = NULL;
	fill_in(d);
	add_ours(d, d->env ? d->env : (d->env = json_object()));
	start(d, false);
}

void dyno_set_up(struct sched_instance *d)
{
	struct sched_app *sa = d->sa;

	if (d->web)
		set_timer(d, TIMER_NONE, 0);
	dyno_log(d, "State changed from starting to up");
	set_state(d, DYNO_UP);
	if (!d->web)
		return;
	metrics_start(sa->app, d->i.how, d->i.listening_ns - d->decided_ns);
	formation_up(d);
	sched_serve_waiters(sa);
	if (!sa->in_flight)
		sched_idle_update(sa);
}

static void on_listening(struct instance *i)
{
	struct sched_instance *d = dyno_of(i);

	if (!d->web || i->state != DYNO_STARTING)
		return;
	budget_slot_back(d);
	if (d->probed)
		probe_start(d);
	else
		dyno_set_up(d);
	budget_pump();
}

/*
 * Between the moment when its sockets close and the one when it has ended lie milliseconds, in which its memory
 * goes back. Requests of that time wait for what comes after it.
 */
void dyno_lost(struct sched_instance *d)
{
	if (d->lost)
		return;
	d->lost = true;
	if (d->i.state == DYNO_UP || d->i.state == DYNO_STARTING)
		set_timer(d, TIMER_KILL, LOST_NS);
}

static void on_how(struct instance *i, const char *text)
{
	standby_learn(dyno_of(i), text);
}

static void on_lost(struct instance *i)
{
	dyno_lost(dyno_of(i));
}

void dyno_probe_failed(struct sched_instance *d, const char *why)
{
	dyno_log(d, "Health check failed: %s", why);
	dyno_log(d, "Stopping process with SIGKILL");
	instance_signal(&d->i, SIGKILL);
}

/* --- crashes ---------------------------------------------------------------------------------------------- */

struct crash *crash_of(struct sched_app *sa, const char *type, bool make)
{
	struct crash *c = sa->crashes;

	while (c && strcmp(c->type, type))
		c = c->next;
	if (c || !make)
		return c;
	c = xcalloc(1, sizeof(*c));
	snprintf(c->type, sizeof(c->type), "%s", type);
	c->next = sa->crashes;
	return sa->crashes = c;
}

void crash_forget(struct sched_app *sa)
{
	for (struct crash *c = sa->crashes, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	sa->crashes = NULL;
}

/* A crash counts; how long to wait after it. */
static void count_crash(struct sched_instance *d, bool was_up)
{
	struct crash *c = crash_of(d->sa, d->i.type, true);
	uint64_t now = now_ns(), delay = BACKOFF_NS;

	if ((was_up && now - d->i.started_ns > FORGIVE_NS) || now > c->retry_ns + FORGIVE_NS)
		c->n = 0;
	c->n++;
	for (unsigned k = 1; k < c->n && delay < BACKOFF_MAX; k++)
		delay *= 2;
	if (delay > BACKOFF_MAX)
		delay = BACKOFF_MAX;
	if (was_up && c->n == 1)
		delay = 0;
	c->last_ns = now;
	c->retry_ns = now + delay;
}

static bool another_serves(const struct sched_app *sa)
{
	return sa->n_up > 0;
}

static void crashed(struct sched_instance *d)
{
	struct sched_app *sa = d->sa;
	bool was_up = d->i.state == DYNO_UP;

	dyno_log(d, "State changed from %s to crashed", sched_state_name(&d->i));
	if (d->web && d->probed && !was_up && another_serves(sa)) {
		sa->failed_version = d->i.version;
		dyno_log(d, "Release v%u did not come up; the dynos of the release before it go on serving",
			 d->i.version);
		for (struct instance *i = sa->dynos; i; i = i->next)
			if (dyno_of(i)->web && i->state == DYNO_UP && i->version == d->i.version)
				dyno_of(i)->outdated = false; /* of a restart: the old ones stay for good */
		dyno_bury(d);
		formation_reconcile(sa);
		sched_idle_update(sa);
		return;
	}
	count_crash(d, was_up);
	set_state(d, DYNO_CRASHED);
	router_instance_gone(&d->i);
	const struct crash *c = crash_of(sa, d->i.type, false);
	if (d->web && !sa->n_up && !sa->n_starting && now_ns() < c->retry_ns)
		sched_fail_waiters(sa, H10);
	formation_reconcile(sa);
}

/* --- end ---------------------------------------------------------------------------------------------------- */

static void oneoff_ended(struct sched_instance *d, int status)
{
	struct sched_app *sa = d->sa;

	dyno_log(d, "State changed from %s to complete", d->i.state == DYNO_STARTING ? "starting" : "up");
	sa->n_oneoffs--;
	if (d->ended)
		d->ended(d->arg, &d->i, status);
	dyno_bury(d);
	sched_idle_update(sa);
}

static void on_ended(struct instance *i, int status)
{
	struct sched_instance *d = dyno_of(i);
	struct sched_app *sa = d->sa;
	bool web = d->web;

	set_timer(d, TIMER_NONE, 0);
	probe_stop(d);
	budget_ended(d);
	if (i->out_of_memory && i->app)
		dyno_log(d, "Error R15 (Memory quota vastly exceeded): it has used all of its %llu MiB",
			 (unsigned long long)(app_limits(i->app)->memory >> 20));
	dyno_log(d, "Process exited with status %d", status);
	if (d->oneoff) {
		oneoff_ended(d, status);
	} else if (i->state == DYNO_DRAINING || !sa->app) {
		dyno_bury(d);
		if (!web || sa->n_waiters)
			formation_reconcile(sa);
	} else {
		crashed(d);
	}
	budget_pump();
}

void dyno_drain(struct sched_instance *d)
{
	if (d->i.state != DYNO_STARTING && d->i.state != DYNO_UP)
		return;
	if (!list_empty(&d->queue)) { /* nothing was started yet */
		if (d->oneoff) {
			list_del(&d->queue);
			oneoff_ended(d, 143);
		} else {
			dyno_bury(d);
		}
		return;
	}
	if (!d->oneoff)
		dyno_log(d, "State changed from %s to down", sched_state_name(&d->i));
	set_state(d, DYNO_DRAINING);
	probe_stop(d);
	if (d->i.in_flight)
		set_timer(d, TIMER_DRAIN, DRAIN_NS);
	else
		dyno_term(d);
}

void dyno_term(struct sched_instance *d)
{
	d->termed = true;
	budget_slot_back(d);
	router_instance_gone(&d->i); /* connections of the past would keep a graceful program from ending */
	dyno_log(d, "Stopping all processes with SIGTERM");
	instance_signal(&d->i, SIGTERM);
	budget_leaving(d);
	if (d->i.proc)
		set_timer(d, TIMER_KILL, d->evicted ? TERM_EVICT_NS : TERM_NS);
	else
		set_timer(d, TIMER_SLOT, 0); /* it could not be started, and its end was to come */
}
