/* SPDX-License-Identifier: ISC */
/*
 * Inside of the scheduler. Its files, and what each decides:
 *
 *   sched.c      which request goes to which dyno; waiting; when an app is idle
 *   formation.c  what should run: from formation, release, load and idleness to orders of starting and draining
 *   dyno.c       the life of one dyno; crashes and how long to wait after them
 *   budget.c     when a start may go ahead: memory, number, starts at one time; who goes to sleep for it
 *   oneoff.c     one-off processes          probe.c   does a new release answer?
 *   standby.c    instances prepared before anybody asks
 *
 * Nothing here is kept for an app that sleeps: a->sched is NULL then. What is kept of a crash lives until it is forgiven.
 */
#ifndef COWBELL_PLATFORM_SCHED_INSIDE_H
#define COWBELL_PLATFORM_SCHED_INSIDE_H

#include "lib/list.h"
#include "platform/sched.h"

#define MS_NS	      1000000ull
#define S_NS	      1000000000ull
#define DRAIN_NS      (30 * S_NS) /* for requests that run when their dyno is to stop */
#define TERM_NS	      (30 * S_NS) /* from SIGTERM to SIGKILL (R12) */
#define TERM_EVICT_NS (2 * S_NS) /* the same for a sleeper whose memory is wanted */
#define FORGIVE_NS    (60 * S_NS) /* up for so long: its crashes before that are forgotten */

/* Crashes of one process type of an app. */
struct crash {
	struct crash *next;
	char type[72];
	unsigned n; /* in a row */
	uint64_t last_ns, retry_ns; /* not started again before */
	bool stopped; /* by its owner; until the next restart, release or scaling */
};

struct sched_app {
	struct app *app; /* NULL: destroyed; this lives until its dynos have ended */
	struct instance *dynos;
	struct list all; /* in sched_apps */
	struct list
		idle; /* in sched_idle, least recently used first, while its web dynos may sleep; else alone */
	struct list waiters;
	unsigned n_waiters;
	unsigned n_up, n_starting; /* web dynos that serve; that may soon */
	unsigned in_flight; /* of all web dynos */
	unsigned n_oneoffs;
	unsigned web_more; /* web dynos beyond the formation's, for the load */
	unsigned failed_version; /* this release did not come up, and an older one goes on */
	bool awake; /* web dynos should run */
	uint64_t used_ns; /* when a request last came or ended */
	uint64_t busy_ns; /* when as many web dynos as there are were last needed */
	struct crash *crashes;
};

enum timer_for { TIMER_NONE, TIMER_SLOT, TIMER_BOOT, TIMER_DRAIN, TIMER_KILL };
struct probe;
struct standby;
struct instance_events;

struct sched_instance {
	struct instance i;
	struct sched_app *sa;
	uv_timer_t timer;
	enum timer_for timer_for;
	struct list queue; /* of those that wait for their start; else alone */
	bool web, oneoff;
	bool outdated; /* a fresh one is to take its place */
	bool probed; /* must answer before it counts as up: another one serves meanwhile */
	bool booting; /* holds one of the places for starts */
	bool termed, evicted;
	bool lost; /* takes no more connections: it is about to end */
	uint64_t memory; /* as last measured, or guessed */
	uint64_t limits_key; /* of the limits that a running process cannot change */
	uint64_t decided_ns; /* to start it */
	struct probe *probe;
	struct standby *standby; /* was asked to be its process, and has not answered yet */
	uint64_t start_signature; /* standby.c's own */
	/* what it runs; of one-offs kept here, of others taken from app and release at its start */
	char *image, *process, *command;
	json_t *env;
	int stdio[3];
	bool tty;
	uint64_t time_limit_ns;
	void (*ended)(void *arg, struct instance *inst, int exit_status);
	void *arg;
};

static inline struct sched_instance *dyno_of(struct instance *i)
{
	return i->priv;
}

extern struct list sched_apps, sched_idle;
extern bool sched_stopping;

/* --- sched.c */
struct sched_app *sched_app_of(struct app *a); /* made if there is none */
void sched_serve_waiters(struct sched_app *sa);
void sched_fail_waiters(struct sched_app *sa, enum hcode code);
/* In or out of the list of the idle ones. */
void sched_idle_update(struct sched_app *sa);
void sched_tick_on(void);
void sched_ended_one(void); /* a dyno has gone: perhaps we wait for the last */

/* --- formation.c */
void formation_reconcile(struct sched_app *sa);
void formation_up(struct sched_instance *fresh); /* it serves: those whose place it takes may go */
void formation_unwake(struct sched_app *sa); /* nobody waits any more: starts that have not begun need not */
void formation_sleep(struct sched_app *sa, bool evict);
unsigned formation_web_wanted(const struct sched_app *sa);
void formation_tick(struct sched_app *sa, uint64_t now);

/* --- dyno.c */
struct sched_instance *dyno_new(struct sched_app *sa, const char *type, unsigned number, bool oneoff);
void dyno_queue(struct sched_instance *d); /* to be started as soon as there is room */
void dyno_spawn(struct sched_instance *d); /* budget.c: now */
void dyno_spawn_again(struct sched_instance *d); /* standby.c: by itself, nothing prepared was of use */
json_t *dyno_env(const struct sched_instance *d); /* its whole environment; caller's reference */
extern const struct instance_events dyno_events;
void dyno_set_up(struct sched_instance *d);
void dyno_lost(struct sched_instance *d);
void dyno_probe_failed(struct sched_instance *d, const char *why);
void dyno_drain(struct sched_instance *d); /* no new requests; SIGTERM when the others are through */
void dyno_term(struct sched_instance *d);
void dyno_bury(struct sched_instance *d); /* out of its app; freed when nobody uses it */
void dyno_free_if_unused(struct sched_instance *d);
void dyno_log(const struct sched_instance *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t dyno_limits_key(const struct limits *l);
struct crash *crash_of(struct sched_app *sa, const char *type, bool make);
void crash_forget(struct sched_app *sa);

/* --- budget.c */
void budget_open(void); /* once */
void budget_queue(struct sched_instance *d);
void budget_pump(void);
void budget_slot_back(struct sched_instance *d);
void budget_started(struct sched_instance *d), budget_leaving(struct sched_instance *d),
	budget_ended(struct sched_instance *d);
bool budget_is_calm(uint64_t bytes); /* no start waits, few are going on, and there is room for so much */
void budget_standby(int64_t bytes); /* more, or less, is used by instances of no app */
void budget_measure(struct sched_instance *d);
void budget_tick(void);

/* --- probe.c */
void probe_start(struct sched_instance *d);
void probe_stop(struct sched_instance *d);

#endif
