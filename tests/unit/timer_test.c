/* SPDX-License-Identifier: ISC */
/* unit-sources: guest/proc/timer.c guest/proc/waitq.c */
/* Kernel timers against a sorted model, wait queues with waiters that remove one another. */
#include "tests/unit/hosted.h"

#include "guest/proc/internal.h"
#include "tests/unit/tap.h"

#define N     200u
#define STEPS 40000u

struct thread *test_current;
static u64 now, rng = 0x1234567;

u64 mono_ns(void)
{
	return now;
}

void sched_update_tick(void)
{
}

void thread_wake(struct thread *t)
{
	t->state = THREAD_RUNNABLE;
}

/* --- timers ------------------------------------------------------------------- */

struct item {
	struct ktimer t;
	u64 want; /* the model: deadline, or 0 when not armed */
	unsigned fired;
	u64 again; /* re-arm from the callback this much later */
};
static struct item item[N];
static u64 last_fired;
static bool in_order = true;

static void fired(struct ktimer *t)
{
	struct item *i = container_of(t, struct item, t);

	i->fired++;
	if (i->want < last_fired)
		in_order = false;
	last_fired = i->want;
	i->want = 0;
	if (i->again) {
		i->want = now + i->again;
		ktimer_arm(t, i->want);
	}
}

static u64 model_next(void)
{
	u64 min = NO_DEADLINE;

	for (unsigned i = 0; i < N; i++)
		if (item[i].want && item[i].want < min)
			min = item[i].want;
	return min;
}

static bool model_agrees(void)
{
	for (unsigned i = 0; i < N; i++)
		if (item[i].t.armed != (item[i].want != 0))
			return false;
	return ktimer_next() == model_next();
}

static void timers(void)
{
	bool good = true, none_late = true;

	now = 1000;
	for (unsigned i = 0; i < N; i++)
		ktimer_init(&item[i].t, fired);
	for (unsigned s = 0; s < STEPS; s++) {
		struct item *i = &item[test_random(&rng) % N];

		switch (test_random(&rng) % 4) {
		case 0:
		case 1:
			i->want = now + 1 + test_random(&rng) % 500;
			i->again = test_random(&rng) % 8 ? 0 : 1 + test_random(&rng) % 50;
			ktimer_arm(&i->t, i->want);
			break;
		case 2:
			i->want = 0;
			ktimer_cancel(&i->t);
			break;
		default:
			now += test_random(&rng) % 40;
			last_fired = 0;
			ktimers_run();
			none_late = none_late && ktimer_next() > now;
		}
		good = good && model_agrees();
	}
	ok(good, "%u random steps agree with the model", STEPS);
	ok(in_order, "what is due runs in the order of its deadlines");
	ok(none_late, "nothing that is due is left");
	for (unsigned i = 0; i < N; i++)
		ktimer_cancel(&item[i].t);
	ok(ktimer_next() == NO_DEADLINE, "all cancelled");
}

static void hungry(struct ktimer *t)
{
	container_of(t, struct item, t)->fired++;
	ktimer_arm(t, now); /* already due */
}

static void greedy_timer(void)
{
	struct item i = {.fired = 0};

	ktimer_init(&i.t, hungry);
	ktimer_arm(&i.t, now);
	ktimers_run();
	ok(i.fired >= 1 && i.fired <= 1000, "a timer that arms itself for now does not hold the CPU (%u)",
	   i.fired);
	ktimer_cancel(&i.t);
}

/* --- wait queues ----------------------------------------------------------------- */

struct wt {
	struct waiter w;
	struct wt *kills; /* its callback removes this one */
	unsigned calls;
	bool refuses; /* an exclusive one that does not take the wake-up */
};

static bool called(struct waiter *w, u32 events)
{
	struct wt *t = container_of(w, struct wt, w);

	t->calls++;
	if (t->kills)
		waitq_remove(&t->kills->w);
	return !t->refuses;
}

static void wait_queues(void)
{
	static struct waitq q; /* zeroed memory is an empty queue */
	struct wt t[6] = {0};

	waitq_wake_all(&q, 0);
	ok(true, "waking a zeroed queue");
	for (unsigned i = 0; i < 6; i++) {
		list_init(&t[i].w.node);
		t[i].w.fn = called;
		t[i].w.exclusive = i >= 2;
		waitq_add(&q, &t[i].w);
	}
	waitq_wake(&q, 0);
	ok(t[0].calls == 1 && t[1].calls == 1, "every ordinary waiter is called");
	ok(t[2].calls == 1 && !t[3].calls, "one exclusive waiter, the first");
	t[2].refuses = true;
	waitq_wake(&q, 0);
	ok(t[2].calls == 2 && t[3].calls == 1 && !t[4].calls, "a wake-up that is refused goes to the next");
	t[1].kills = &t[1];
	t[0].kills = &t[2];
	t[3].kills = &t[4];
	waitq_wake_all(&q, 0);
	ok(t[1].calls == 3 && t[2].calls == 2 && t[4].calls == 0 && t[5].calls == 1,
	   "callbacks that remove themselves and others");
	waitq_remove(&t[1].w);
	ok(true, "removing twice is harmless");
	for (unsigned i = 0; i < 6; i++)
		waitq_remove(&t[i].w);
	ok(list_empty(&q.waiters), "the queue is empty again");
}

int main(void)
{
	timers();
	greedy_timer();
	wait_queues();
	return done();
}
