/* SPDX-License-Identifier: ISC */
/*
 * The scheduler: one run queue, equal shares.
 *
 * A thread is in the run queue while it is runnable and not current. It gives
 * the CPU up in schedule(), from a sleep or, on its way back to the app, when
 * its slice is over. With one CPU there is no idle thread: whoever called schedule() last
 * waits in the ring on its own stack until somebody is runnable, often itself. With several (smp.c) each
 * CPU has one, because a thread that waits may be the next that another CPU runs.
 *
 *	          thread_wake                    schedule
 *	SLEEPING ------------> RUNNABLE (queued) --------> current
 *	    ^                                                 |
 *	    +---- thread_prepare_sleep, thread_sleep ---------+----> DEAD (thread_exit)
 *
 * The queue is sorted by virtual run time: CPU time, weighted by the nice
 * value. Whoever had least goes first. A thread that wakes is put at most
 * WAKE_CREDIT before the others, so that it answers soon but has saved up nothing, and gets the CPU at once
 * when who runs has had more by WAKE_LEAD_NS: what its waker did last still holds then, and a waker that never sleeps
 * cannot take it back each time before anybody saw it. No more often than every WAKE_EACH_NS, since who writes many small
 * pieces would be interrupted by their reader for each.
 * Two that compute alternate, since the one that runs falls behind.
 *
 * Ticks cost an exit each. They are asked for (boot_vcpu.want_tick) only while
 * another thread is runnable, a timer is armed or a request waits for the
 * doorbell. A lone computing thread is not disturbed; for its sleeping
 * companions the monitor looks after I/O by itself and kicks when there is some. Of several CPUs CPU 0 is the one that
 * waits for I/O: if it computes while others idle, it gives what it runs to one of them at the next tick.
 */
#include "abi/boot.h"
#include "guest/linux/table.h"
#include "guest/mm/mm.h"
#include "guest/plat/ring.h"
#include "guest/proc/chaos.h"
#include "guest/proc/internal.h"
#include "guest/proc/smp.h"

#define SLICE_NS      10000000ull /* between ticks */
#define LEAD_NS	      4000000ull /* virtual time that the running thread may be ahead of the next one */
#define WAKE_CREDIT   3000000ull
#define WAKE_LEAD_NS  1000000ull /* that the running thread may be ahead of one that wakes */
#define WAKE_EACH_NS  1000000ull /* so often a thread may take the CPU by waking */
#define TICK_MIN_NS   1000000ull
#define AWAIT_US      30 /* that a thread waits for the CPU that ran it last, which has been told */
#define BRIEF_US      20 /* between waking another and sleeping */
#define BRIEF_SURE    8 /* times in a row */
#define BRIEF_WRONG   (-64)
#define YIELD_POLL_NS 200000ull /* a thread that only yields still lets I/O complete this often */

struct list all_threads = LIST_INIT(all_threads);
static struct list run_queue = LIST_INIT(run_queue);
static u64 min_vruntime; /* has only grown: where a thread that wakes joins */
static u64 last_poll_ns;
static u64 busy_ns; /* CPU time of all threads, dead ones too */
static u32 n_sleeping; /* threads of programs that sleep */
static u32 n_blocked; /* those of them that only their death may interrupt, if anything */
static u32 n_queued;
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
	t->affinity = ~0ull;
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
	stats->processes = stats->processes_peak = 1;
	boot_thread_init();
	strace_on = boot->flags & BOOT_F_STRACE;
	chaos_init();
}

u64 sched_slice_ns(const struct thread *t)
{
	return SLICE_NS;
}

/* A step of nice is worth a quarter more or less, as on Linux. */
static u64 weigh(u64 ns, int nice)
{
	for (; nice > 0; nice--)
		ns += ns / 4;
	for (; nice < 0; nice++)
		ns -= ns / 5;
	return ns;
}

u64 sched_busy_ns(void)
{
	sched_account(current);
	return busy_ns;
}

void sched_account(struct thread *t)
{
	u64 now = mono_ns();

	if (now > t->last_ns) {
		t->user_ns += now - t->last_ns;
		busy_ns += now - t->last_ns;
		t->vruntime_ns += weigh(now - t->last_ns, thread_nice(t));
		if (smp() && t->on_cpu)
			cpus[t->on_cpu - 1]->busy_ns += now - t->last_ns;
	}
	t->last_ns = now;
}

u64 thread_cpu_ns(struct thread *t)
{
	if (t == current || t->on_cpu)
		sched_account(t);
	return t->user_ns + t->sys_ns;
}

static struct thread *first_queued(void)
{
	return list_first(&run_queue, struct thread, run_node);
}

/* --- several CPUs -------------------------------------------------------------- */

static bool may_run(const struct thread *t, const struct cpu *c)
{
	u64 cpu_mask = t->affinity & ((1ull << n_cpus) - 1); /* of a restored instance: maybe none is here */

	return !cpu_mask || cpu_mask >> c->id & 1;
}

/* The CPU that ran t last, if it may run it again; or NULL. */
static struct cpu *home_of(const struct thread *t)
{
	struct cpu *c = t->home && t->home <= n_cpus ? cpus[t->home - 1] : NULL;

	return c && may_run(t, c) ? c : NULL;
}

static u64 tsc_us(u64 us)
{
	return us * ((const struct boot_time *)boot->time_va)->tsc_khz / 1000;
}

/* Another CPU is about to come for it, one that has its address space. */
static bool is_awaited(const struct thread *t, const struct cpu *by)
{
	const struct cpu *home = home_of(t);

	return home && home != by && home->coming &&
	       __builtin_ia32_rdtsc() - home->told_tsc < tsc_us(AWAIT_US);
}

/* The first thread of the queue that c may run, or NULL. */
static struct thread *first_for(const struct cpu *c)
{
	struct thread *first = NULL;

	list_for_each (n, &run_queue) {
		struct thread *t = list_entry(n, struct thread, run_node);

		if (!may_run(t, c) || is_awaited(t, c))
			continue;
		first = first ? first : t;
		if (likely(!chaos_on) || !chaos_skip())
			return t;
	}
	return first;
}

/* An idle CPU for t: where it ran last, or else not CPU 0 if there is another; NULL: none. */
static struct cpu *idle_for(const struct thread *t)
{
	struct cpu *me = this_cpu(), *home = home_of(t);

	if (home && home->idling && home != me)
		return home;
	for (u32 i = n_cpus; i-- > 0;)
		if (cpus[i]->idling && cpus[i] != me && may_run(t, cpus[i]))
			return cpus[i];
	return NULL;
}

static bool any_idle(void)
{
	for (u32 i = 0; i < n_cpus; i++)
		if (cpus[i]->idling)
			return true;
	return false;
}

/* current wakes t, or made it. */
static void note_waking(struct thread *t)
{
	t->waker = current;
	t->woken_tsc = current->woke_tsc = __builtin_ia32_rdtsc();
}

/* t gives its CPU up: was it right to expect that? */
static void note_sleep(struct thread *t)
{
	if (!t->woke_tsc)
		return;
	if (__builtin_ia32_rdtsc() - t->woke_tsc > tsc_us(BRIEF_US))
		t->brief = BRIEF_WRONG;
	else if (t->brief < BRIEF_SURE)
		t->brief++;
	t->woke_tsc = 0;
}

/*
 * Two threads that talk to each other, as over a pipe, have no use for two CPUs: while one runs the other waits. If current
 * always sleeps soon after it woke somebody, this CPU will have t in a moment. If not, a tick finds that out.
 */
static bool soon_here(const struct thread *t)
{
	const struct thread *me = current;

	if (me->brief < BRIEF_SURE || !me->woke_tsc || t->waker != me || !may_run(t, this_cpu()) ||
	    __builtin_ia32_rdtsc() - t->woken_tsc > tsc_us(BRIEF_US))
		return false;
	if (!this_cpu()->shared->want_tick) {
		this_cpu()->shared->tick_ns = TICK_MIN_NS;
		this_cpu()->shared->want_tick = 1;
	}
	return true;
}

u32 sched_wake_mask(void)
{
	u32 mask = 0;

	if (likely(list_empty(&run_queue)) || !any_idle())
		return 0;
	list_for_each (n, &run_queue) {
		const struct thread *t = list_entry(n, struct thread, run_node);
		struct cpu *c = idle_for(t);

		/* Not where that would be a change of the address space and its CPU is still looking out. */
		if (c && (t->proc == current->proc || !c->polling) && soon_here(t))
			continue;
		if (c) {
			c->idling = false; /* the next one needs another */
			mask |= 1u << c->id;
		}
	}
	return mask;
}

/* Somebody waits: who computes must look at the queue now and then. */
static void tick_all(void)
{
	for (u32 i = 0; i < n_cpus; i++) {
		struct boot_vcpu *v = cpus[i]->shared;

		if (!v->want_tick) {
			v->tick_ns = SLICE_NS;
			v->want_tick = 1;
		}
	}
}

static bool others_idle(void)
{
	for (u32 i = 1; i < n_cpus; i++)
		if (cpus[i]->idling)
			return true;
	return false;
}

bool sched_idle_now(void)
{
	return !first_for(this_cpu());
}

/* --- ticks ------------------------------------------------------------------- */

void sched_update_tick(void)
{
	struct boot_vcpu *v = this_cpu()->shared;
	u64 deadline = ktimer_next(), tick = SLICE_NS, now;
	bool give = smp() && !this_cpu()->id && n_sleeping;

	if (smp() && !this_cpu()->id)
		smp_cpu0_looks(deadline);
	if (list_empty(&run_queue) && deadline == NO_DEADLINE && !ring_pending() && !cpu_timers_armed() &&
	    !give) {
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
	struct thread *t = c->thread, *next;
	u32 kick = __atomic_exchange_n(&c->shared->kick, 0, __ATOMIC_RELAXED);

	if (smp() && !(kick & 1))
		return; /* brought in by another CPU, which has what it wanted */
	ktimers_run();
	if (!c->id || ring_pending())
		ring_flush();
	t->woke_tsc = 0; /* that was not its doing */
	cpu_timers_tick();
	sched_account(t);
	last_poll_ns = t->last_ns;
	next = smp() ? first_for(c) : list_empty(&run_queue) ? NULL : first_queued();
	if (next && t->vruntime_ns >= next->vruntime_ns + LEAD_NS)
		c->need_resched = true;
	if (smp() && !c->id && n_sleeping && !next && others_idle() && t->affinity & ~1ull)
		c->need_resched = c->gives = true;
	sched_update_tick();
}

/* --- switching ------------------------------------------------------------------ */

/* Behind all that had no more than t. */
static void enqueue(struct thread *t)
{
	struct list *after = run_queue.prev;

	while (after != &run_queue &&
	       list_entry(after, struct thread, run_node)->vruntime_ns > t->vruntime_ns)
		after = after->prev;
	list_add_head(after, &t->run_node);
	n_queued++;
}

static void dequeue(struct thread *t)
{
	list_del(&t->run_node);
	n_queued--;
}

u32 sched_blocked(void)
{
	return n_blocked;
}

/* CPUs that run a thread, when this one runs `mine`. */
static u32 n_running(const struct thread *mine)
{
	struct cpu *me = this_cpu();
	u32 n = mine != me->idle;

	for (u32 i = 0; smp() && i < n_cpus; i++)
		n += cpus[i] != me && cpus[i]->thread && cpus[i]->thread != cpus[i]->idle;
	return n;
}

/* For one of several CPUs: it does not wait here. */
static struct thread *pick_now(struct cpu *c, struct thread *prev)
{
	struct thread *next = first_for(c);

	if (next && next == prev && c->gives && others_idle())
		next = NULL; /* to be had by another CPU */
	c->gives = false;
	return next ? next : c->idle;
}

/* The next thread: waits in the ring while there is none. */
static struct thread *pick_next(struct thread *prev)
{
	bool idle = false;

	while (!smp() && list_empty(&run_queue)) {
		if (!idle && prev->state != THREAD_DEAD)
			sched_account(prev);
		if (!idle)
			load_note(mono_ns(), n_blocked);
		idle = idling = true;
		ring_wait(ktimer_next());
		ktimers_run();
	}
	idling = false;
	if (idle) {
		last_poll_ns = prev->last_ns = mono_ns();
		load_note(last_poll_ns, n_queued + n_blocked);
		this_cpu()->shared->kick = 0; /* the doorbell has just heard everything */
	}
	return smp()		    ? pick_now(this_cpu(), prev)
	       : unlikely(chaos_on) ? first_for(this_cpu())
				    : first_queued();
}

void schedule(void)
{
	struct cpu *c = this_cpu();
	struct thread *prev = c->thread, *next;

	c->need_resched = false;
	if (prev->state == THREAD_RUNNABLE && list_empty(&prev->run_node) && prev != c->idle) {
		sched_account(prev);
		enqueue(prev);
	}
	next = pick_next(prev);
	if (next != c->idle)
		dequeue(next);
	if (next != prev) {
		if (smp() && prev->state != THREAD_RUNNABLE)
			note_sleep(prev);
		if (prev->state != THREAD_DEAD)
			sched_account(prev);
		next->last_ns = prev->last_ns ? prev->last_ns : mono_ns();
		*(prev->state == THREAD_RUNNABLE ? &prev->nivcsw : &prev->nvcsw) += 1;
		load_note(next->last_ns, n_queued + n_running(next) + n_blocked);
	}
	min_vruntime = MAX(min_vruntime, next->vruntime_ns);
	sched_update_tick();
	if (next == prev)
		return;
	prev->on_cpu = 0;
	next->on_cpu = next->home = c->id + 1;
	/* A thread of the library OS touches no app's memory: it runs in whichever address space there is. */
	if (next->proc->as && !next->kfn)
		aspace_switch(next->proc->as);
	arch_switch(prev, next);
	thread_reap(); /* we are `prev` again, some time later */
}

void sched_preempt(void)
{
	schedule();
}

bool thread_yields_alone(void)
{
	return list_empty(&run_queue) &&
	       ((!n_sleeping && !ring_pending()) ||
		mono_ns() - __atomic_load_n(&last_poll_ns, __ATOMIC_RELAXED) < YIELD_POLL_NS);
}

void thread_yield(void)
{
	if (smp() ? !first_for(this_cpu()) : list_empty(&run_queue)) {
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
	/* Behind everybody else that is runnable now. */
	current->vruntime_ns =
		MAX(current->vruntime_ns, list_last(&run_queue, struct thread, run_node)->vruntime_ns);
	schedule();
}

/* What current has run up to now counts before another joins. */
static void min_advance(void)
{
	u64 least;

	if (idling || current == this_cpu()->idle)
		return;
	sched_account(current);
	least = current->vruntime_ns;
	if (!list_empty(&run_queue))
		least = MIN(least, first_queued()->vruntime_ns);
	min_vruntime = MAX(min_vruntime, least);
}

void sched_new_thread(struct thread *t)
{
	min_advance();
	t->state = THREAD_RUNNABLE;
	t->start_ns = mono_ns();
	t->vruntime_ns = min_vruntime;
	list_add_tail(&all_threads, &t->all_node);
	enqueue(t);
	if (smp())
		note_waking(t);
	if (smp() && !idle_for(t))
		tick_all();
	sched_update_tick();
}

/* How far it is behind others that it let go first counts by the weight that it has from now on. */
void sched_boost(struct thread *t, int nice)
{
	int old = thread_nice(t);

	if (t->on_cpu || t == current)
		sched_account(t);
	t->pi_boost = NICE_NONE - nice;
	if (thread_nice(t) >= old || t->vruntime_ns <= min_vruntime)
		return;
	t->vruntime_ns = min_vruntime + (t->vruntime_ns - min_vruntime) /
						(weigh(1024, old) / weigh(1024, thread_nice(t)) ?: 1);
	if (!list_empty(&t->run_node)) {
		dequeue(t);
		enqueue(t);
	}
}

void sched_put_back(struct thread *t)
{
	t->on_cpu = 0;
	sched_account(t);
	if (list_empty(&t->run_node))
		enqueue(t);
}

/* --- sleeping ---------------------------------------------------------------------- */

void thread_prepare_sleep(bool interruptible)
{
	current->state = interruptible ? THREAD_SLEEPING_INTR : THREAD_SLEEPING;
}

void thread_prepare_sleep_killable(void)
{
	current->state = THREAD_SLEEPING_KILL;
}

/* t has just been woken by current. */
static void preempt_for(struct thread *t)
{
	struct cpu *c = this_cpu();

	if (!may_run(t, c) || t->vruntime_ns + WAKE_LEAD_NS >= current->vruntime_ns ||
	    current->last_ns - t->preempted_ns < WAKE_EACH_NS)
		return;
	t->preempted_ns = current->last_ns;
	c->need_resched = true;
}

void thread_wake(struct thread *t)
{
	if (!thread_sleeps(t))
		return;
	t->state = THREAD_RUNNABLE;
	if (t == current && !idling)
		return; /* between prepare and sleep: thread_sleep() sees the state */
	min_advance();
	if (t->vruntime_ns + WAKE_CREDIT < min_vruntime)
		t->vruntime_ns = min_vruntime - WAKE_CREDIT;
	enqueue(t);
	if (smp()) {
		note_waking(t);
		if (!idle_for(t)) {
			tick_all();
			preempt_for(t);
		}
	} else if (idling || first_queued() != t) {
		return;
	} else {
		preempt_for(t);
	}
	sched_update_tick();
}

static void sleep_timeout(struct ktimer *timer)
{
	struct thread *t = container_of(timer, struct thread, sleep_timer);

	t->timed_out = true;
	thread_wake(t);
}

static bool interrupted(struct thread *t, enum thread_state how)
{
	if (likely(!t->signal_pending) || how == THREAD_SLEEPING)
		return false;
	signal_recalc(t);
	return t->signal_pending && (how == THREAD_SLEEPING_INTR || signal_is_fatal(t));
}

int thread_sleep(u64 deadline_mono_ns)
{
	struct thread *t = current;
	enum thread_state how = t->state;
	bool blocked = how != THREAD_SLEEPING_INTR && !t->kfn;

	if (how == THREAD_RUNNABLE)
		return 0;
	if (interrupted(t, how)) {
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
	n_blocked += blocked;
	schedule();
	n_sleeping -= !t->kfn;
	n_blocked -= blocked;
	ktimer_cancel(&t->sleep_timer);
	if (t->timed_out)
		return -ETIMEDOUT;
	return interrupted(t, how) ? -ERESTARTSYS : 0;
}

void thread_finish_sleep(void)
{
	current->state = THREAD_RUNNABLE;
}
