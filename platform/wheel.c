/* SPDX-License-Identifier: ISC */
/*
 * Time-outs: see wheel.h.
 *
 * A timer stands in the slot of `look`. When the loop comes to that slot, a timer whose deadline was moved since goes into the slot of
 * its deadline, the others fire. A deadline beyond the wheel stands in its last slot and moves on from there. One uv_timer
 * wakes the loop for the next slot in which something stands; an idle platform with no connections never wakes.
 * A bit that is set for a slot that was emptied since costs one wake-up, no more.
 */
#include "platform/wheel.h"

#define SLOTS 1024

static struct list slot[SLOTS];
static uint64_t used[SLOTS / 64];
static uv_timer_t timer;
static bool ready;
static uint64_t done_tick; /* all slots up to this tick were looked at */
static uint64_t armed_tick; /* when the uv_timer comes; 0: it does not */

static void tick(uv_timer_t *t);

static void start(void)
{
	for (unsigned i = 0; i < SLOTS; i++)
		list_init(&slot[i]);
	uv_timer_init(loop, &timer);
	uv_unref((uv_handle_t *)&timer);
	done_tick = uv_now(loop) / WHEEL_MS;
	ready = true;
}

static void arm(uint64_t at_tick)
{
	if (armed_tick && armed_tick <= at_tick)
		return;
	armed_tick = at_tick;
	uint64_t now = uv_now(loop), at = at_tick * WHEEL_MS;
	uv_timer_start(&timer, tick, at > now ? at - now : 0, 0);
}

static void insert(struct wheel_timer *t)
{
	uint64_t at = (t->deadline + WHEEL_MS - 1) / WHEEL_MS;
	if (at <= done_tick)
		at = done_tick + 1;
	if (at - done_tick >= SLOTS)
		at = done_tick + SLOTS - 1;
	t->look = at * WHEEL_MS;
	list_add_tail(&slot[at % SLOTS], &t->node);
	used[at % SLOTS / 64] |= 1ull << at % 64;
	arm(at);
}

/* The first tick after `after` whose slot is in use; 0: none is. */
static uint64_t next_used(uint64_t after)
{
	for (uint64_t i = after + 1; i < after + SLOTS;) {
		uint64_t word = used[i % SLOTS / 64] >> i % 64;
		if (word)
			return i + (uint64_t)__builtin_ctzll(word);
		i += 64 - i % 64;
	}
	return 0;
}

static void look_at(uint64_t at)
{
	struct list *l = &slot[at % SLOTS], due;
	used[at % SLOTS / 64] &= ~(1ull << at % 64);
	if (list_empty(l))
		return;
	/* onto a list of its own, since those that fire may set others */
	list_insert_between_(&due, l->prev, l);
	list_del(l);
	while (!list_empty(&due)) {
		struct wheel_timer *t = list_first(&due, struct wheel_timer, node);
		list_del(&t->node);
		if (t->deadline > uv_now(loop)) {
			insert(t);
			continue;
		}
		void (*fire)(struct wheel_timer *) = t->fire;
		t->fire = NULL;
		fire(t);
	}
}

static void tick(uv_timer_t *unused)
{
	(void)unused;
	uint64_t now = uv_now(loop) / WHEEL_MS;
	if (now - done_tick > SLOTS)
		done_tick = now - SLOTS; /* stopped for long: all slots once */
	while (done_tick < now) {
		uint64_t n = next_used(done_tick);
		if (!n || n > now)
			break;
		done_tick = n;
		look_at(n);
	}
	if (done_tick < now)
		done_tick = now;
	armed_tick =
		0; /* not before: wheel_set() by those that fired would think that the wheel stands still */
	uint64_t n = next_used(done_tick);
	if (n)
		arm(n);
}

void wheel_set(struct wheel_timer *t, uint64_t ms, void (*fire)(struct wheel_timer *t))
{
	if (!ready)
		start();
	uint64_t deadline = uv_now(loop) + ms;
	if (t->fire && deadline >= t->look) {
		t->deadline = deadline;
		t->fire = fire;
		return;
	}
	if (t->fire)
		list_del(&t->node);
	else if (!armed_tick)
		done_tick = uv_now(loop) / WHEEL_MS; /* the wheel stood still while it was empty */
	t->deadline = deadline;
	t->fire = fire;
	insert(t);
}

void wheel_clear(struct wheel_timer *t)
{
	if (!t->fire)
		return;
	list_del(&t->node);
	t->fire = NULL;
}

static struct list soon_list = LIST_INIT(soon_list);

static void run_soon(uv_prepare_t *unused)
{
	(void)unused;
	while (!list_empty(&soon_list)) {
		struct soon *s = list_first(&soon_list, struct soon, node);
		void (*run)(struct soon *) = s->run;
		list_del(&s->node);
		s->run = NULL;
		run(s);
	}
}

void soon_add(struct soon *s, void (*run)(struct soon *s))
{
	static uv_prepare_t prepare;
	static bool started;
	if (!started) {
		uv_prepare_init(loop, &prepare);
		uv_prepare_start(&prepare, run_soon);
		uv_unref((uv_handle_t *)&prepare);
		started = true;
	}
	if (!s->run)
		list_add_tail(&soon_list, &s->node);
	s->run = run;
}

void soon_drop(struct soon *s)
{
	if (s->run)
		list_del(&s->node);
	s->run = NULL;
}
