/* SPDX-License-Identifier: ISC */
/*
 * The guest computes its clocks from the TSC by parameters that we keep
 * current (abi/boot.h). A sample is one (TSC, CLOCK_MONOTONIC) pair; the rate is the slope
 * between the sample taken when this process began and the newest one, so it is
 * good to some 20 ppm at the first instruction and gets better with time.
 *
 * The guest's monotonic clock never goes back: where our line is ahead of the
 * host's we keep the value and run slower until the next update; where it is
 * behind it jumps forward. Both are microseconds.
 */
#include "monitor/clock.h"

#include <stdbool.h>
#include <time.h>
#include <x86intrin.h>

#define NS_PER_S     1000000000ull
#define INTERVAL_MAX NS_PER_S

struct sample {
	uint64_t tsc, ns;
};

static struct sample first, latest;
static double ns_per_tick;
static uint64_t next_tsc;
static int64_t offset_ns; /* host's monotonic minus the guest's */

static uint64_t now(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* The tightest of a few readings. */
static struct sample take(void)
{
	struct sample best = {0};
	uint64_t best_width = UINT64_MAX;

	for (int i = 0; i < 4; i++) {
		uint64_t a = __rdtsc(), ns = now(CLOCK_MONOTONIC), b = __rdtsc();

		if (b - a < best_width) {
			best_width = b - a;
			best = (struct sample){a + (b - a) / 2, ns};
		}
	}
	return best;
}

__attribute__((constructor)) static void clock_first_sample(void)
{
	first = take();
}

static uint64_t line(const struct boot_time *t, uint64_t tsc)
{
	return t->base_ns + (uint64_t)(((unsigned __int128)(tsc - t->base_tsc) * t->mult) >> BOOT_TIME_SHIFT);
}

static void publish(struct boot_time *t, const struct sample *s, uint64_t base_ns, double rate)
{
	uint32_t seq = t->seq & ~1u; /* odd in a snapshot: nobody else writes here */
	int64_t real_off = (int64_t)(now(CLOCK_REALTIME) - now(CLOCK_MONOTONIC)) + offset_ns;

	__atomic_store_n(&t->seq, seq + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	t->base_tsc = s->tsc;
	t->base_ns = base_ns;
	t->mult = (uint64_t)(rate * (double)(1ull << BOOT_TIME_SHIFT));
	/* Two clock readings are not one: a step of less than a microsecond is noise. */
	if (real_off - t->real_off_ns > 1000 || t->real_off_ns - real_off > 1000)
		t->real_off_ns = real_off;
	for (int i = 0; i < 2; i++) {
		uint64_t ns = i ? base_ns + (uint64_t)t->real_off_ns : base_ns;

		t->base[i].sec = ns / NS_PER_S;
		t->base[i].nsec = ns % NS_PER_S;
	}
	t->tsc_khz = (uint64_t)(1e6 / ns_per_tick);
	__atomic_store_n(&t->seq, seq + 2, __ATOMIC_RELEASE);
}

static void measure(void)
{
	uint64_t interval;

	latest = take();
	ns_per_tick = (double)(latest.ns - first.ns) / (double)(latest.tsc - first.tsc);
	interval = (latest.ns - first.ns) / 2;
	next_tsc = latest.tsc +
		   (uint64_t)((double)(interval < INTERVAL_MAX ? interval : INTERVAL_MAX) / ns_per_tick);
}

void clock_start(struct boot_time *t)
{
	do
		measure();
	while (latest.ns - first.ns < 500000); /* only a caller that was quicker than any real one waits */
	publish(t, &latest, latest.ns - (uint64_t)offset_ns, ns_per_tick);
}

void clock_set_offset(int64_t host_minus_guest_ns)
{
	offset_ns = host_minus_guest_ns;
}

void clock_guest_now(const struct boot_time *t, uint64_t *mono, uint64_t *real)
{
	*mono = line(t, __rdtsc());
	*real = now(CLOCK_REALTIME);
}

void clock_update(struct boot_time *t)
{
	uint64_t ours, theirs;
	double rate;

	if (__rdtsc() < next_tsc)
		return;
	measure();
	ours = line(t, latest.tsc);
	theirs = latest.ns - (uint64_t)offset_ns;
	rate = ns_per_tick;
	if (ours > theirs) {
		double until = (double)(next_tsc - latest.tsc) * ns_per_tick;
		double slow = 1.0 - (double)(ours - theirs) / until;

		rate *= slow > 0.5 ? slow : 0.5;
	}
	publish(t, &latest, ours > theirs ? ours : theirs, rate);
}

uint64_t clock_ns_of_tsc(uint64_t tsc)
{
	return latest.ns + (uint64_t)(int64_t)((double)(int64_t)(tsc - latest.tsc) * ns_per_tick);
}

uint64_t clock_ns_now(void)
{
	return clock_ns_of_tsc(__rdtsc());
}
