/* SPDX-License-Identifier: ISC */
/*
 * Which instances live. An app of nobody's interest has none; the first request wakes it; idleness puts it to sleep; load scales it.
 *
 * State of a dyno (struct instance): starting -> up -> draining -> gone; starting -> crashed (back-off) -> starting.
 * The router asks with sched_acquire() and gives back with sched_release(); it never looks further.
 */
#ifndef COWBELL_PLATFORM_SCHED_H
#define COWBELL_PLATFORM_SCHED_H

#include "platform/model.h"

enum dyno_state { DYNO_STARTING, DYNO_UP, DYNO_DRAINING, DYNO_CRASHED, DYNO_GONE };

struct upstream; /* the router's own: idle connections to it */

struct instance {
	char id[37];
	struct app *app; /* NULL once the app was destroyed */
	char type[72]; /* "web", "worker", "run", "release", "scheduler" */
	unsigned number; /* web.1 */
	char dyno[88]; /* "web.1" */
	enum dyno_state state;
	unsigned version; /* of the release it runs */
	char socket_path[108]; /* AF_UNIX stream socket on which its PORT is reached; "": it has none */
	unsigned in_flight; /* requests, upgraded connections too; the scheduler's count */
	int64_t created_us, updated_us;
	uint64_t started_ns, listening_ns; /* monotonic; of the breakdown of a cold start */
	const char *how; /* how it came to life: "boot", "prefix", "snapshot", "standby" */
	pid_t pid;
	int exit_status;
	bool out_of_memory; /* it ended because it had used all that its limit allows */
	struct upstream *upstream; /* router_instance_gone() is called before it is freed */
	struct sched_instance *priv; /* sched.c's own */
	struct proc *proc; /* instance.c's own; NULL when there is no process */
	struct instance *next; /* of the app */
};

/* Why there is none: Heroku's codes; 0 is success. */
enum hcode {
	H_OK = 0,
	H10 = 10,
	H11 = 11,
	H12 = 12,
	H13 = 13,
	H14 = 14,
	H15 = 15,
	H17 = 17,
	H18 = 18,
	H19 = 19,
	H20 = 20,
	H21 = 21,
	H22 = 22,
	H23 = 23,
	H24 = 24,
	H25 = 25,
	H26 = 26,
	H27 = 27,
	H28 = 28,
	H80 = 80,
	H81 = 81,
	H82 = 82,
	H83 = 83,
	H99 = 99
};

struct sched_wait;
struct sched_result {
	struct instance *inst; /* NULL: code says why */
	enum hcode code;
	bool cold; /* the request waited for a start */
};
typedef void sched_cb(void *arg, const struct sched_result *r);

/*
 * An instance with room for one more request. If one is there, cb is called before this returns, and NULL is returned.
 * Else the request waits (one start for many; H11 if the back-log is full; H20 if it does not listen in time; H14 if web is scaled to 0
 * by its owner; H10 if it crashed and backs off; H80 in maintenance; H81 nothing was pushed). Cancel with the ticket: the client has gone.
 */
struct sched_wait *sched_acquire(struct app *a, sched_cb *cb, void *arg);
void sched_cancel(struct sched_wait *w);
/* The request, or the upgraded connection, has ended. bad: the instance did not answer (connection refused, reset). */
void sched_release(struct instance *inst, bool bad);

/* --- orders of the API ---------------------------------------------------------------------------------- */
void sched_open(
	void); /* start what should run: formations of other types than web, webs that may not sleep */
/* The current release or the formation has changed: start new ones, drain old ones when the new answer. done(arg, fault) may be NULL. */
void sched_update(struct app *a);
void sched_restart(struct app *a, const char *dyno); /* NULL: all of them */
bool sched_stop(struct app *a, const char *dyno); /* "web.1" or a type; false: there is none */
void sched_app_gone(struct app *a); /* before model_app_destroy() frees it */
void sched_drain_all(void (*cb)(void)); /* our own end */
/* Its instances, for ps. The list is the scheduler's; valid until the loop turns. A sleeping app has none. */
struct instance *sched_instances(struct app *a);
const char *sched_state_name(const struct instance *i); /* "starting", "up", "crashed", "idle" */
size_t sched_n_running(void);
uint64_t sched_memory(void);

/* A one-off process (run, release phase, scheduler). */
struct oneoff {
	const char *type; /* "run", "release" */
	const char *command; /* a shell-like line, or a process type of the Procfile: see instance.h */
	json_t *env; /* more variables, or NULL */
	unsigned version; /* release whose image and config it gets; 0: the current one */
	uint64_t time_limit_ns; /* 0: 24 h */
	int stdio[3]; /* descriptors that it gets (closed here), or -1: nothing, the app's log */
	bool tty;
	unsigned columns, lines;
	void (*ended)(void *arg, struct instance *inst, int exit_status);
	void *arg;
};
struct fault sched_oneoff(struct app *a, const struct oneoff *o, struct instance **out);

#endif
