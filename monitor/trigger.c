/* SPDX-License-Identifier: ISC */
/*
 * What starts a snapshot. There is one at a time (snapshot_begin() sees to that); its result goes back to the
 * connection that asked (by its ticket), or to cfg.snapshot_taken.
 *
 *   waiting --(ready, listening, timer, signal)--> due --(snapshot_begin)--> fired --(taken)--> told
 *
 * ready and listening are looked at after each turn; a timer or a signal sets `due` and makes a turn return. If
 * one of a control connection is under way, the next look tries again.
 */
#include "monitor/trigger.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "monitor/control.h"
#include "monitor/handover.h"
#include "monitor/instance.h"
#include "monitor/ring_server.h"
#include "monitor/snapshot.h"

static struct {
	struct instance *in;
	volatile sig_atomic_t due;
	bool fired;
	int ticket; /* of the request under way */
	bool stop;
} the_trigger;

/* --- the control socket -------------------------------------------------------------- */

static void answer_request(void *arg, int err, const char *why, const struct snapshot_result *result)
{
	struct instance *in = arg;
	struct ctl_snapshot out = {0};

	if (!err) {
		out.bytes = result->bytes;
		out.paused_ns = result->pause_ns;
	}
	if (!err && in->snap.hold) { /* before the answer: its asker may be gone, and that ends the hold */
		handover_hold(in);
		control_hold(in->control, the_trigger.ticket);
	}
	in->snap.hold = in->snap.bare = false;
	control_answer(in->control, the_trigger.ticket, err, why ? why : "", &out);
	if (!err && the_trigger.stop)
		in->killed = true;
}

int trigger_request(void *arg, int ticket, int fd, uint32_t flags)
{
	struct instance *in = arg;

	if (!in->cfg->snapshots)
		return -EOPNOTSUPP;
	if (in->snap.done)
		return -EBUSY;
	if (flags & CTL_SNAP_HOLD && !in->cfg->detached)
		return -EPERM;
	the_trigger.ticket = ticket;
	the_trigger.stop = flags & CTL_SNAP_STOP;
	in->snap.hold = flags & CTL_SNAP_HOLD;
	in->snap.bare = flags & CTL_SNAP_BARE;
	in->snap.full = flags & CTL_SNAP_FULL;
	in->snap.still = the_trigger.stop;
	in->snap.now = false;
	int r = snapshot_begin(in, fd, answer_request, in);
	if (r)
		in->snap.hold = in->snap.bare = false;
	return r;
}

/* --- by itself --------------------------------------------------------------------------- */

static void on_due(int sig)
{
	struct instance *in = the_trigger.in;

	(void)sig;
	the_trigger.due = 1;
	if (in->ctx)
		in->backend->interrupt(in->ctx);
	if (in->rs)
		ring_server_interrupt(in->rs);
}

void trigger_init(struct instance *in)
{
	const struct monitor_config *cfg = in->cfg;
	struct sigaction sa = {.sa_handler = on_due, .sa_flags = SA_RESTART};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
	struct itimerspec its = {.it_value = {.tv_sec = (time_t)(cfg->snapshot_at_ns / 1000000000ull),
					      .tv_nsec = (long)(cfg->snapshot_at_ns % 1000000000ull)}};
	timer_t timer;

	the_trigger.in = in;
	sigfillset(&sa.sa_mask);
	switch (cfg->snapshot_at) {
	case SNAPSHOT_AT_READY:
		snapshot_watch_ready(in, true);
		break;
	case SNAPSHOT_AT_TIME:
		sigaction(ev.sigev_signo, &sa, NULL);
		if (!timer_create(CLOCK_MONOTONIC, &ev, &timer))
			timer_settime(timer, 0, &its, NULL);
		break;
	case SNAPSHOT_AT_SIGNAL:
		sigaction(cfg->snapshot_at_signal, &sa, NULL);
		break;
	default:
		break;
	}
}

static void tell_taken(void *arg, int err, const char *why, const struct snapshot_result *result)
{
	struct instance *in = arg;
	const struct monitor_config *cfg = in->cfg;

	cfg->snapshot_taken(cfg->started_arg, err, why ? why : "", err ? 0 : result->bytes,
			    err ? 0 : result->pause_ns);
	if (!err && cfg->snapshot_stop)
		in->killed = true;
}

void trigger_look(struct instance *in)
{
	const struct monitor_config *cfg = in->cfg;
	bool due = the_trigger.due;

	snapshot_step(in);
	if (!cfg->snapshot_at || the_trigger.fired)
		return;
	if (cfg->snapshot_at == SNAPSHOT_AT_READY)
		due = snapshot_is_ready(in);
	else if (cfg->snapshot_at == SNAPSHOT_AT_LISTEN)
		due = __atomic_load_n(&in->stats->first_listen_tsc, __ATOMIC_RELAXED) != 0;
	else if (cfg->snapshot_at == SNAPSHOT_AT_PREFIX) {
		bool spoilt;

		due = ring_server_prefix(in->rs, &spoilt);
		in->killed |= spoilt; /* it will never be one */
	}
	if (!due || in->snap.done || in->killed)
		return;
	the_trigger.fired = true;
	in->snap.full = cfg->snapshot_full;
	in->snap.still = cfg->snapshot_stop;
	in->snap.now = cfg->snapshot_at == SNAPSHOT_AT_READY || cfg->snapshot_at == SNAPSHOT_AT_LISTEN ||
		       cfg->snapshot_at == SNAPSHOT_AT_PREFIX;
	snapshot_watch_ready(in, false);
	int r = snapshot_begin(in, cfg->snapshot_fd, tell_taken, in);
	if (r)
		tell_taken(in, r, strerror(-r), &(struct snapshot_result){0});
}
