/* SPDX-License-Identifier: ISC */
/*
 * When a start may go ahead.
 *
 * Starts stand in one queue, first come, first served. The first goes ahead when
 *
 *   places   fewer than max_booting() are in their first 250 ms, or until they listen: more at one time would
 *            only make each of them slower
 *   number   fewer than config.max_instances run
 *   memory   what runs, and a guess for the new one, is within config.memory_budget
 *
 * Those that have been told to end count half: room is made by sending the longest idle app to sleep and going ahead at once, as long as no
 * more than an eighth of the budget is still on its way out. If all are busy, starts wait until one is not.
 *
 * The guess is a moving average of what dynos had when they were first measured. Measuring is two reads in /proc: once when a start has
 * ended, and then a few dynos at each tick.
 */
#include <stdlib.h>
#include <unistd.h>

#include "platform/instance.h"
#include "platform/logs.h"
#include "platform/sched_inside.h"
#include "platform/standby.h"

#define FIRST_GUESS	(12ull << 20)
#define MEASURE_A_TICK	64u
#define MAX_INSTANCES	2000u
#define BOOTING_PER_CPU 2u
#define BOOTING_MIN	4u

static struct list queue = LIST_INIT(queue);
static uv_idle_t pump;
static uint64_t used, leaving, guess = FIRST_GUESS;
static unsigned n_running, n_leaving, n_booting;

static uint64_t memory_budget(void)
{
	static uint64_t half;

	if (config.memory_budget)
		return config.memory_budget;
	if (!half)
		half = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
	return half;
}

static unsigned max_instances(void)
{
	return config.max_instances ? config.max_instances : MAX_INSTANCES;
}

static unsigned max_booting(void)
{
	static unsigned n;

	if (!n) {
		long cpus = sysconf(_SC_NPROCESSORS_ONLN);
		n = cpus > 0 ? (unsigned)cpus * BOOTING_PER_CPU : BOOTING_MIN;
		n = n < BOOTING_MIN ? BOOTING_MIN : n;
	}
	return n;
}

size_t sched_n_running(void)
{
	return n_running;
}

uint64_t sched_memory(void)
{
	return used;
}

/* Would one more fit, when those that end have ended? */
static bool fits(void)
{
	return !n_running ||
	       (used - leaving + guess <= memory_budget() && n_running - n_leaving < max_instances());
}

/* Does it fit now, with a little more than there should be? */
static bool fits_now(void)
{
	return !n_running || (used + guess <= memory_budget() + memory_budget() / 8 &&
			      n_running < max_instances() + max_instances() / 8 + 1);
}

static bool evict_one(void)
{
	if (!config.idle_ns || list_empty(&sched_idle))
		return false;
	formation_sleep(list_first(&sched_idle, struct sched_app, idle), true);
	return true;
}

void budget_queue(struct sched_instance *d)
{
	list_add_tail(&queue, &d->queue);
	budget_pump();
}

static void on_pump(uv_idle_t *idle)
{
	uv_idle_stop(idle);
	while (!list_empty(&queue) && n_booting < max_booting()) {
		while (!fits() && (standby_yield() || evict_one()))
			;
		if (list_empty(&queue) || !fits() ||
		    !fits_now()) /* a sleeper may have been in the queue, too */
			break;
		struct sched_instance *d = list_first(&queue, struct sched_instance, queue);
		list_del(&d->queue);
		dyno_spawn(d);
	}
}

void budget_open(void)
{
	uv_idle_init(loop, &pump);
}

/* Not now, but before the loop waits again: whoever calls is in the middle of something. */
void budget_pump(void)
{
	if (!list_empty(&queue))
		uv_idle_start(&pump, on_pump);
}

void budget_started(struct sched_instance *d)
{
	d->booting = true;
	n_booting++;
	n_running++;
	d->memory = guess;
	used += d->memory;
}

void budget_slot_back(struct sched_instance *d)
{
	if (!d->booting)
		return;
	d->booting = false;
	n_booting--;
	budget_pump();
}

void budget_leaving(struct sched_instance *d)
{
	n_leaving++;
	leaving += d->memory;
}

void budget_ended(struct sched_instance *d)
{
	if (d->booting)
		n_booting--;
	d->booting = false;
	n_running--;
	used -= d->memory;
	if (d->termed) {
		n_leaving--;
		leaving -= d->memory;
	}
	d->memory = 0;
}

bool budget_is_calm(uint64_t bytes)
{
	return list_empty(&queue) && n_booting * 4 <= max_booting() &&
	       used + bytes <= memory_budget() - memory_budget() / 8 &&
	       n_running + standby_count() < max_instances();
}

void budget_standby(int64_t bytes)
{
	used += (uint64_t)bytes;
}

void budget_measure(struct sched_instance *d)
{
	uint64_t m = d->i.proc && !d->termed ? instance_memory(&d->i) : 0;

	if (!m)
		return;
	used += m - d->memory;
	guess = (guess * 15 + m) / 16;
	d->memory = m;
}

/* A few of them each time, going round. */
static void measure_some(void)
{
	unsigned left = MEASURE_A_TICK, seen = 0;

	if (list_empty(&sched_apps))
		return;
	/* the app at the front goes to the back once it was looked at */
	struct list *end = sched_apps.prev;
	for (struct list *l = sched_apps.next, *next; left && seen < 256; l = next, seen++) {
		struct sched_app *sa = list_entry(l, struct sched_app, all);
		next = l->next;
		for (struct instance *i = sa->dynos; i && left; i = i->next)
			if (i->state == DYNO_UP) {
				budget_measure(dyno_of(i));
				left--;
			}
		list_del(l);
		list_add_tail(&sched_apps, l);
		if (l == end)
			break;
	}
}

void budget_tick(void)
{
	measure_some();
	while (used - leaving > memory_budget() && (standby_yield() || evict_one()))
		;
	budget_pump();
}
