/* SPDX-License-Identifier: ISC */
/*
 * The scheduler: one CPU, one run queue, round robin.
 *
 * A thread is in the run queue while it is runnable and not current. It gives
 * the CPU up in schedule(), from a sleep or, on its way back to the app, when
 * its slice is over. There is no idle thread: whoever called schedule() last
 * waits in the ring on its own stack until somebody is runnable, often itself.
 *
 *	          thread_wake                    schedule
 *	SLEEPING ------------> RUNNABLE (queued) --------> current
 *	    ^                                                 |
 *	    +---- thread_prepare_sleep, thread_sleep ---------+----> DEAD (thread_exit)
 *
 * Ticks cost an exit each. They are asked for (boot_vcpu.want_tick) only while
 * somebody else could use the CPU or wants to hear of an event: another thread
 * is runnable or asleep, or a timer is armed. A lone computing thread is never
 * disturbed.
 *
 * A nice value scales the slice; it does not reorder the queue.
 */
#include "abi/boot.h"
#include "guest/linux/table.h"
#include "guest/mm/mm.h"
#include "guest/plat/ring.h"
#include "guest/proc/internal.h"

#define SLICE_NS      10000000ull /* nice 0 */
#define TICK_MIN_NS   1000000ull
#define YIELD_POLL_NS 200000ull /* a thread that only yields still lets I/O complete this often */

struct list all_threads = LIST_INIT(all_threads);
static struct list run_queue = LIST_INIT(run_queue);
static u64 last_poll_ns;
static u32 n_sleeping; /* threads of programs that sleep */
static bool idling; /* current waits in the ring, in pick_next() */
static struct thread boot_thread; /* the context that starts the library OS */

static void boot_thread_init(void)
{
	struct thread *t = &boot_thread;

	t->proc = init_process;
	t->state = THREAD_RUNNABLE;
	t->start_ns = t->last_ns = mono_ns();
	list_init(&t->run_node);
	list_init(&t->process_node);
	list_init(&t->all_node);
	sigpending_init(&t->pending);
	t->blocked = ~0ull;
	memcpy(t->comm, "boot", 5);
	this_cpu()->thread = t;
}

/* From the boot code, with this_cpu() and memory ready: afterwards code may sleep. */
void sched_init(void)
{
	struct cpu *c = this_cpu();

	if (!c->shared)
		c->shared = (struct boot_vcpu *)boot->vcpu_va;
	init_process = process_new();
	if (!init_process)
		panic("no memory for the first process");
	boot_thread_init();
	strace_on = boot->flags & BOOT_F_STRACE;
}

u64 sched_slice_ns(const struct thread *t)
{
	u64 ns = SLICE_NS * (u64)(20 - t->nice) / 20;

	return MAX(ns, TICK_MIN_NS);
}

void sched_account(struct thread *t)
{
	u64 now = mono_ns();

	if (now > t->last_ns)
		t->user_ns += now - t->last_ns;
	t->last_ns = now;
}

u64 thread_cpu_ns(struct thread *t)
{
	if (t == current)
		sched_account(t);
	return t->user_ns + t->sys_ns;
}

/* --- ticks ------------------------------------------------------------------- */

void sched_update_tick(void)
{
	struct boot_vcpu *v = this_cpu()->shared;
	u64 deadline = ktimer_next(), tick = SLICE_NS, now;

	if (list_empty(&run_queue) && !n_sleeping && deadline == NO_DEADLINE && !cpu_timers_armed()) {
		v->want_tick = 0;
		return;
	}
	if (deadline != NO_DEADLINE) {
		now = mono_ns();
		tick = deadline <= now ? TICK_MIN_NS : MIN(tick, deadline - now);
		tick = MAX(tick, TICK_MIN_NS);
	}
	v->tick_ns = tick;
	v->want_tick = 1;
}

void sched_tick(void)
{
	struct cpu *c = this_cpu();
	struct thread *t = c->thread;
	u64 now;

	c->shared->kick = 0;
	ktimers_run();
	ring_flush();
	cpu_timers_tick();
	now = last_poll_ns = mono_ns();
	if (!list_empty(&run_queue) && now >= t->slice_end_ns)
		c->need_resched = true;
	sched_update_tick();
}

/* --- switching ------------------------------------------------------------------ */

static void enqueue(struct thread *t)
{
	list_add_tail(&run_queue, &t->run_node);
}

/* The next thread: waits in the ring while there is none. */
static struct thread *pick_next(struct thread *prev)
{
	bool idle = false;

	while (list_empty(&run_queue)) {
		if (!idle && prev->state != THREAD_DEAD)
			sched_account(prev);
		idle = idling = true;
		ring_wait(ktimer_next());
		ktimers_run();
	}
	idling = false;
	if (idle) {
		last_poll_ns = prev->last_ns = mono_ns();
		this_cpu()->shared->kick = 0; /* the doorbell has just heard everything */
	}
	return list_first(&run_queue, struct thread, run_node);
}

void schedule(void)
{
	struct cpu *c = this_cpu();
	struct thread *prev = c->thread, *next;

	c->need_resched = false;
	if (prev->state == THREAD_RUNNABLE && list_empty(&prev->run_node))
		enqueue(prev);
	next = pick_next(prev);
	list_del(&next->run_node);
	if (next != prev) {
		if (prev->state != THREAD_DEAD)
			sched_account(prev);
		next->last_ns = prev->last_ns ? prev->last_ns : mono_ns();
		next->nvcsw++;
	}
	next->slice_end_ns = next->last_ns + sched_slice_ns(next);
	sched_update_tick();
	if (next == prev)
		return;
	if (next->proc && next->proc->as && next->proc != prev->proc)
		aspace_switch(next->proc->as);
	arch_switch(prev, next);
	thread_reap(); /* we are `prev` again, some time later */
}

void sched_preempt(void)
{
	current->nivcsw++;
	schedule();
}

void thread_yield(void)
{
	if (list_empty(&run_queue)) {
		u64 now;

		if (!n_sleeping && !ring_pending())
			return;
		now = mono_ns();
		if (now - last_poll_ns < YIELD_POLL_NS)
			return;
		last_poll_ns = now;
		ktimers_run();
		ring_flush();
		if (list_empty(&run_queue))
			return;
	}
	schedule();
}

void sched_new_thread(struct thread *t)
{
	t->state = THREAD_RUNNABLE;
	t->start_ns = mono_ns();
	list_add_tail(&all_threads, &t->all_node);
	enqueue(t);
	sched_update_tick();
}

/* --- sleeping ---------------------------------------------------------------------- */

void thread_prepare_sleep(bool interruptible)
{
	current->state = interruptible ? THREAD_SLEEPING_INTR : THREAD_SLEEPING;
}

void thread_wake(struct thread *t)
{
	if (t->state != THREAD_SLEEPING && t->state != THREAD_SLEEPING_INTR)
		return;
	t->state = THREAD_RUNNABLE;
	if (t == current && !idling)
		return; /* between prepare and sleep: thread_sleep() sees the state */
	enqueue(t);
	if (list_first(&run_queue, struct thread, run_node) == t)
		sched_update_tick();
}

static void sleep_timeout(struct ktimer *timer)
{
	struct thread *t = container_of(timer, struct thread, sleep_timer);

	t->timed_out = true;
	thread_wake(t);
}

static bool interrupted(struct thread *t)
{
	if (likely(!t->signal_pending))
		return false;
	signal_recalc(t);
	return t->signal_pending;
}

int thread_sleep(u64 deadline_mono_ns)
{
	struct thread *t = current;
	bool interruptible = t->state == THREAD_SLEEPING_INTR;

	if (t->state == THREAD_RUNNABLE)
		return 0;
	if (interruptible && interrupted(t)) {
		t->state = THREAD_RUNNABLE;
		return -ERESTARTSYS;
	}
	t->timed_out = false;
	if (deadline_mono_ns != NO_DEADLINE) {
		if (deadline_mono_ns <= mono_ns()) {
			t->state = THREAD_RUNNABLE;
			return -ETIMEDOUT;
		}
		t->sleep_timer.fn = sleep_timeout;
		ktimer_arm(&t->sleep_timer, deadline_mono_ns);
	}
	n_sleeping += !t->kfn;
	schedule();
	n_sleeping -= !t->kfn;
	ktimer_cancel(&t->sleep_timer);
	if (t->timed_out)
		return -ETIMEDOUT;
	return interruptible && interrupted(t) ? -ERESTARTSYS : 0;
}

void thread_finish_sleep(void)
{
	current->state = THREAD_RUNNABLE;
}
