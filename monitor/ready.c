/* SPDX-License-Identifier: ISC */
/*
 * --snapshot-at ready: when is a program initialised? It may say so (RING_OP_READY: sd_notify or /proc/cowbell/ready); if it
 * does not, what it waits for tells.
 *
 *   sleeps, and all that it waits for is ...                                          it is ready
 *   a first connection on every forwarded port (or datagram), or a time that is far   at once
 *   a first connection on some port, with timers that are near, or with answers
 *     of somebody whom it called itself                                               after QUIET_NS of that
 *   anything else, or a connection came already                                       no
 *
 * Quiet is a time in which nothing but timers woke it and in which it slept for the most part. Connections that it
 * has dialled do not live on in a restored instance; a program that has some is taken for one that can dial again.
 *
 * A program that never listens, and one that says that it will tell (RING_OP_READY with 0), is never taken for ready.
 */
#include "monitor/ring_internal.h"

#include <time.h>

#define IDLE_NS	 20000000ull /* a guest that sleeps longer is taken for idle */
#define QUIET_NS 500000000ull

enum look { BUSY, PERHAPS, WAITS };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool is_armed(const struct handle *h)
{
	return !list_empty(&h->in) && (h->listening || (h->dgram && h->port >= 0));
}

static bool all_ports_served(const struct ring_server *rs)
{
	uint64_t served = 0;

	for (uint32_t i = 0; i < rs->handles_fresh; i++) {
		const struct handle *h = &rs->handles[i];

		if (h->kind == H_SOCKET && h->port >= 0 && h->port < 64 && is_armed(h))
			served |= 1ull << h->port;
	}
	for (int i = 0; i < rs->cfg->n_ports; i++)
		if (!(served & 1ull << i))
			return false;
	return rs->cfg->n_ports > 0;
}

static enum look look(const struct ring_server *rs, uint64_t deadline)
{
	/* without forwarded ports a listener is the guest's own affair; it notes the time of the first */
	bool listens = !rs->cfg->n_ports && rs->listened && __atomic_load_n(rs->listened, __ATOMIC_RELAXED);
	bool dialled = false;

	for (uint32_t i = 0; i < rs->handles_fresh; i++) {
		const struct handle *h = &rs->handles[i];

		if (h->kind == H_FREE || h->kind == H_FILE)
			continue;
		if (!list_empty(&h->out) || (h->listening && list_empty(&h->in)))
			return BUSY;
		listens |= is_armed(h);
		dialled |= h->kind == H_SOCKET && !list_empty(&h->in) && !is_armed(h);
	}
	if (!listens)
		return BUSY;
	return dialled || !all_ports_served(rs) || (deadline != UINT64_MAX && deadline < now_ns() + IDLE_NS)
		       ? PERHAPS
		       : WAITS;
}

uint64_t ready_before_sleep(struct ring_server *rs, uint64_t deadline)
{
	struct rs_ready *r = &rs->ready;
	uint64_t now, until;
	enum look l;

	if (!r->watch || r->is)
		return r->is ? 0 : deadline;
	l = r->marker || rs->had_peer || rs->late_head != rs->late_tail ? BUSY : look(rs, deadline);
	if (l == BUSY) {
		r->since_ns = 0;
		return deadline;
	}
	now = now_ns();
	if (!r->since_ns) {
		r->since_ns = now;
		r->slept_ns = 0;
	}
	until = r->since_ns + QUIET_NS;
	if (l == WAITS || (now >= until && r->slept_ns > (now - r->since_ns) / 4 * 3)) {
		r->is = true;
		return 0; /* one look whether the first connection is there already */
	}
	if (now >= until) { /* it computes more than it sleeps: a new period */
		r->since_ns = now;
		r->slept_ns = 0;
		until = now + QUIET_NS;
	}
	r->sleeps_ns = now;
	return deadline < until ? deadline : until;
}

void ready_after_sleep(struct ring_server *rs)
{
	struct rs_ready *r = &rs->ready;

	if (r->sleeps_ns)
		r->slept_ns += now_ns() - r->sleeps_ns;
	r->sleeps_ns = 0;
	if (r->is && !r->told && (rs->n_done || rs->had_peer))
		r->is = false; /* something came in the last moment */
}

void ready_activity(struct ring_server *rs, const struct handle *h)
{
	if (h->kind == H_SOCKET)
		rs->ready.since_ns = 0;
}

void ready_told(struct ring_server *rs, bool now)
{
	rs->ready.marker = true;
	if (now && rs->ready.watch)
		rs->ready.is = rs->ready.told = true;
}

void ring_server_watch_ready(struct ring_server *rs, bool on, const uint64_t *listened)
{
	rs->ready = (struct rs_ready){.watch = on};
	rs->listened = listened;
}

bool ring_server_is_ready(const struct ring_server *rs)
{
	return rs->ready.told || (rs->ready.is && !rs->had_peer);
}
