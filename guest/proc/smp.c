/* SPDX-License-Identifier: ISC */
/*
 * Several virtual CPUs.
 *
 * One lock for the whole library OS: every entry from the app takes it (entry.S), every way back to the app gives it up, and
 * so does an idle CPU while it sleeps in the monitor. It goes with the CPU through schedule() and arch_switch(), so
 * that all code between sees what it would see on one CPU: nothing changes but where it sleeps. What scales is
 * what the app computes.
 *
 *          smp_enter                       schedule: nothing to run
 *   APP ---------------> LIBRARY OS (lock) ------------------------> IDLE (no lock, in the monitor)
 *       <--------------- one CPU at a time <------------------------
 *          smp_leave                       poked, or its time is over
 *
 * A few calls that touch nothing but the caller's own are tried without the lock (syscalls.tbl: free). The CPU counts as in the
 * app then, and what holds for the app holds for them: nothing that it may touch goes before it came in.
 *
 * Each CPU n > 0 has a page of its own for %gs, an exception stack, a ring-0 stub page for kvm, an idle thread. They are
 * made when they are first needed and kept. There is one run queue; a CPU that gives the lock up wakes as many
 * idle ones as there are threads left for them (sched_wake_mask). CPU 0 does the waiting in the ring; another CPU that
 * has submissions has them taken by a doorbell of its own.
 *
 * Pokes. A CPU that runs the app (in_user) is brought in by bit 1 of its kick and a poke by the monitor; it then waits
 * for the lock. in_user is set under the lock, so that whoever holds the lock and sees it clear knows that this CPU
 * cannot be in the app before the lock is free.
 *
 * Translations. After an entry was taken away each CPU with that address space has `flush` set and, if in_user,
 * is brought in; all drop what they remember when they next get the lock.
 *
 * Rest for a snapshot. CPU 0 keeps the lock. A CPU that waits for the lock and sees `resting` puts its thread aside as
 * arch_switch() does, goes to its idle thread's stack and sleeps; CPU 0 puts these threads into the run queue. So nothing
 * is left that a restored instance would need of them, and it may have another number of CPUs.
 *
 * The lock is taken by whoever comes first: a queue would hand it to CPUs that the host does not run at the moment. One that
 * spins for long lets the host run others. Handing it over for each call would cost more than most calls do: who has it may come
 * back for STREAK_US before a waiting one goes first, and who waits looks ever less often.
 */
#include "guest/proc/smp.h"

#include "guest/arch/x86_64/arch.h"
#include "guest/mm/frame.h"
#include "guest/mm/mm.h"
#include "guest/mm/pt.h"
#include "guest/plat/plat.h"
#include "guest/plat/ring.h"
#include "guest/proc/chaos.h"
#include "guest/proc/internal.h"

#define SMP_STACK_SIZE (16u << 10)
#define KICK_GUEST     2u /* bit of boot_vcpu.kick: another CPU wants this one in the library OS */
#define SPIN_US	       50
#define STREAK_US      10 /* that one CPU may have the lock again and again while another waits */
#define BACKOFF_MAX    16u /* spins between two looks at the lock */
#define POLITE_SPINS   64 /* that who had it for so long gives the others: longer than they look away */
#define POLL_US	       50 /* that an idle CPU looks out for work before it sleeps */
#define POLL_SKIP_MAX  127

struct cpu *cpus[BOOT_MAX_VCPUS];
u32 n_cpus = 1;

static u32 lock; /* 0: free, else 1 + the CPU that has it */
static u32 last_owner;
static u64 streak_tsc; /* since when last_owner has been that */
static u32 n_waiting;
static bool resting;

extern char smp_cpu_entry[], syscall_entry[];
void smp_cpu_main(void);
static void idle_loop(void *arg);

static inline void relax(void)
{
	__builtin_ia32_pause();
}

static void call(enum boot_call what, u64 arg)
{
	plat->cpu_call(what, arg);
}

/* --- the lock ----------------------------------------------------------------- */

static bool try_lock(const struct cpu *c)
{
	u32 free = 0;

	return __atomic_compare_exchange_n(&lock, &free, c->id + 1, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

/* Now and then while spinning: whoever has what we wait for may not be on a CPU of the host. */
static void spun(u64 *since)
{
	u64 now = __builtin_ia32_rdtsc(),
	    limit = ((const struct boot_time *)boot->time_va)->tsc_khz * SPIN_US / 1000;

	if (!*since)
		*since = now;
	if (now - *since < limit)
		return;
	call(BOOT_CALL_YIELD, 0);
	*since = 0;
}

/* Who had the lock for long gives the others a chance. */
static void be_polite(const struct cpu *c)
{
	u64 limit = ((const struct boot_time *)boot->time_va)->tsc_khz * STREAK_US / 1000;

	if (last_owner != c->id + 1 || !__atomic_load_n(&n_waiting, __ATOMIC_RELAXED) ||
	    __builtin_ia32_rdtsc() - streak_tsc < limit)
		return;
	for (int i = 0; i < POLITE_SPINS && !__atomic_load_n(&lock, __ATOMIC_RELAXED); i++)
		relax();
	last_owner = 0; /* another streak, if nobody took it */
}

/* On the idle thread's stack; nothing of the instance is touched until the rest is over. */
static void stay_parked(struct cpu *c)
{
	__atomic_store_n(&c->parked, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&resting, __ATOMIC_ACQUIRE))
		call(BOOT_CALL_IDLE, ~0ull);
	__atomic_store_n(&c->parked, 0, __ATOMIC_RELEASE);
}

static void parked_idle(void *arg)
{
	stay_parked(this_cpu());
	smp_lock();
	idle_loop(NULL);
}

/* Without the lock, which CPU 0 keeps. True: a thread that was put aside runs again, and has the lock. */
static bool park(struct cpu *c)
{
	struct thread *t = c->thread;

	if (t == c->idle) {
		stay_parked(c);
		return false;
	}
	arch_thread_setup(c->idle, parked_idle, NULL);
	c->left = t;
	arch_switch(t, c->idle);
	return true;
}

void smp_lock(void)
{
	struct cpu *c = this_cpu();
	u64 since = 0;

	be_polite(c);
	if (!try_lock(c)) {
		__atomic_add_fetch(&n_waiting, 1, __ATOMIC_RELAXED);
		for (u32 n = 1, i = 0; __atomic_load_n(&lock, __ATOMIC_RELAXED) || !try_lock(c);
		     n = MIN(n * 2, BACKOFF_MAX)) {
			for (u32 k = 0; k < n; k++)
				relax();
			i += n;
			if (i >= 64) {
				i = 0;
				spun(&since);
			}
			if (unlikely(__atomic_load_n(&resting, __ATOMIC_ACQUIRE)) && c->id) {
				__atomic_sub_fetch(&n_waiting, 1, __ATOMIC_RELAXED);
				if (park(c))
					goto have;
				__atomic_add_fetch(&n_waiting, 1, __ATOMIC_RELAXED);
			}
		}
		__atomic_sub_fetch(&n_waiting, 1, __ATOMIC_RELAXED);
	}
have:
	c = this_cpu();
	if (last_owner != c->id + 1) {
		last_owner = c->id + 1;
		streak_tsc = __builtin_ia32_rdtsc();
	}
	stats->syscalls += c->free_syscalls;
	c->free_syscalls = 0;
	if (unlikely(c->flush)) {
		c->flush = false;
		plat->flush_all();
	}
}

/* True: it was, and whoever ended that knows that it takes the lock next. */
static bool stop_polling(struct cpu *c)
{
	return __atomic_load_n(&c->polling, __ATOMIC_RELAXED) &&
	       __atomic_exchange_n(&c->polling, 0, __ATOMIC_ACQ_REL);
}

/* Give the lock up, and let idle CPUs have what is left in the run queue. */
static void unlock(struct cpu *c)
{
	u32 mask = sched_wake_mask();

	for (u32 i = 0; unlikely(mask >> i); i++)
		if (mask >> i & 1 && stop_polling(cpus[i])) {
			cpus[i]->coming = true;
			cpus[i]->told_tsc = __builtin_ia32_rdtsc();
			mask &= ~(1u << i);
		}
	if (unlikely(chaos_on))
		chaos_window();
	__atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
	if (unlikely(chaos_on))
		chaos_window();
	if (mask)
		call(BOOT_CALL_POKE, mask);
}

bool smp_locked(void)
{
	return __atomic_load_n(&lock, __ATOMIC_RELAXED) == this_cpu()->id + 1;
}

void smp_unlock(void)
{
	unlock(this_cpu());
}

void smp_enter(void)
{
	__atomic_store_n(&this_cpu()->in_user, 0, __ATOMIC_RELEASE);
	if (unlikely(chaos_on))
		chaos_window();
	smp_lock();
}

void smp_leave(void)
{
	struct cpu *c = this_cpu();

	__atomic_store_n(&c->in_user, 1, __ATOMIC_RELEASE);
	unlock(c);
}

/* --- bringing others in ------------------------------------------------------------ */

static bool in_user(const struct cpu *c)
{
	return __atomic_load_n(&c->in_user, __ATOMIC_ACQUIRE);
}

static void set_kick(struct cpu *c)
{
	__atomic_or_fetch(&c->shared->kick, KICK_GUEST, __ATOMIC_SEQ_CST);
}

static bool uses(const struct cpu *c, const struct aspace *as)
{
	return !as || c->as == as;
}

void smp_quiesce(const struct aspace *as)
{
	struct cpu *me = this_cpu();
	u32 mask = 0;
	u64 since = 0;

	if (!smp())
		return;
	for (u32 i = 0; i < n_cpus; i++) {
		if (cpus[i] == me || !uses(cpus[i], as) || !in_user(cpus[i]))
			continue;
		set_kick(cpus[i]);
		mask |= 1u << i;
	}
	if (!mask)
		return;
	call(BOOT_CALL_POKE, mask);
	for (u32 i = 0; i < n_cpus; i++)
		for (u32 n = 1; mask >> i & 1 && in_user(cpus[i]); n++) {
			relax();
			if (!(n % 64))
				spun(&since);
		}
}

void smp_flush_others(const struct aspace *as)
{
	struct cpu *me = this_cpu();

	if (!smp())
		return;
	for (u32 i = 0; i < n_cpus; i++)
		if (cpus[i] != me && uses(cpus[i], as))
			cpus[i]->flush = true;
	/* No app has business in the library OS's part: it is enough that all flush before they act for one. */
	if (as)
		smp_quiesce(as);
}

void smp_resched(u32 n)
{
	struct cpu *c = cpus[n];

	c->need_resched = true;
	if (c == this_cpu() || !in_user(c))
		return;
	set_kick(c);
	call(BOOT_CALL_POKE, 1u << n);
}

void smp_poke_thread(struct thread *t)
{
	struct cpu *c;

	if (!smp() || !t->on_cpu)
		return;
	c = cpus[t->on_cpu - 1];
	if (c == this_cpu() || !in_user(c))
		return; /* it looks on its way out */
	set_kick(c);
	call(BOOT_CALL_POKE, 1u << c->id);
}

/* --- idle ------------------------------------------------------------------------------ */

static u64 cpu0_looks_ns = NO_DEADLINE; /* when CPU 0 looks at timers, at the latest */

void smp_cpu0_looks(u64 deadline)
{
	cpu0_looks_ns = deadline;
}

/* How long may CPU n > 0 sleep? Timers that CPU 0 knows of are its affair. */
static u64 idle_ns(void)
{
	u64 deadline = ktimer_next(), now;

	if (deadline == NO_DEADLINE || deadline >= cpu0_looks_ns)
		return ~0ull;
	now = mono_ns();
	return deadline > now ? deadline - now : 0;
}

/* Without the lock. True: told by another CPU. It has to end anyway when there is a kick, since some pokes come with one. */
static bool poll_for_work(struct cpu *c, u64 ns)
{
	u64 khz = ((const struct boot_time *)boot->time_va)->tsc_khz,
	    end = __builtin_ia32_rdtsc() + khz * MIN(ns, POLL_US * 1000ull) / 1000000;

	while (__atomic_load_n(&c->polling, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&c->shared->kick, __ATOMIC_RELAXED) && __builtin_ia32_rdtsc() < end)
		relax();
	if (unlikely(chaos_on))
		chaos_window();
	return !stop_polling(c);
}

/*
 * Is it worth while? A sleep and its end cost the monitor tens of microseconds, which two threads that talk to each other would
 * pay each time; but a CPU that always looks out in vain takes the host's time from others.
 */
static bool will_poll(struct cpu *c)
{
	if (!c->poll_skip)
		return true;
	c->poll_skip--;
	return false;
}

static void polled(struct cpu *c, bool in_vain)
{
	c->poll_penalty = in_vain ? MIN(c->poll_penalty * 2 + 1, POLL_SKIP_MAX) : 0;
	c->poll_skip = c->poll_penalty;
}

static void idle_other(struct cpu *c)
{
	u64 ns = idle_ns();
	bool poll;

	if (!ns)
		return;
	poll = will_poll(c);
	c->idling = true;
	c->polling = poll;
	unlock(c);
	/* In vain: look once more, since somebody may wait in vain for another CPU; the next time is a sleep. */
	if (poll)
		polled(c, !poll_for_work(c, ns));
	else
		call(BOOT_CALL_IDLE, ns);
	smp_lock();
}

/* False: it did not come to waiting in the ring. */
static bool idle_cpu0(struct cpu *c)
{
	u64 now;

	c->idling = true;
	cpu0_looks_ns = ktimer_next();
	if (!ring_pending() && !ring_hurried() && will_poll(c)) {
		now = cpu0_looks_ns == NO_DEADLINE ? 0 : mono_ns();
		c->polling = 1;
		unlock(c);
		polled(c, !poll_for_work(c, cpu0_looks_ns > now ? cpu0_looks_ns - now : 0));
		smp_lock();
		return false;
	}
	ring_idle(cpu0_looks_ns);
	return true;
}

void smp_idle(void)
{
	struct cpu *c = this_cpu();
	bool heard = true; /* what comes with a kick */

	if (c->id && ring_pending()) {
		ring_flush();
		return;
	}
	if (c->id)
		idle_other(c);
	else
		heard = idle_cpu0(c);
	c->idling = c->coming = false;
	if (heard)
		__atomic_store_n(&c->shared->kick, 0, __ATOMIC_RELAXED);
	ktimers_run();
}

static void idle_loop(void *arg)
{
	for (;;) {
		if (!smp()) { /* restored with one CPU, which has no use for an idle thread */
			current->state = THREAD_DEAD;
			schedule();
			current->state = THREAD_RUNNABLE;
		}
		schedule();
		if (sched_idle_now())
			smp_idle();
	}
}

/* --- rest ---------------------------------------------------------------------------------- */

bool smp_rest(void)
{
	u32 mask = 0;
	u64 since = 0;

	if (!smp())
		return true;
	if (this_cpu()->id) {
		set_kick(cpus[0]);
		__atomic_or_fetch(&cpus[0]->shared->kick, 1, __ATOMIC_SEQ_CST);
		call(BOOT_CALL_POKE, 1);
		return false;
	}
	__atomic_store_n(&resting, true, __ATOMIC_SEQ_CST);
	for (u32 i = 1; i < n_cpus; i++) {
		set_kick(cpus[i]);
		mask |= 1u << i;
	}
	call(BOOT_CALL_POKE, mask);
	for (u32 i = 1; i < n_cpus; i++) {
		struct cpu *c = cpus[i];

		for (u32 n = 1; !__atomic_load_n(&c->parked, __ATOMIC_ACQUIRE); n++) {
			relax();
			if (!(n % 64))
				spun(&since);
		}
		if (c->left)
			sched_put_back(c->left);
		c->left = NULL;
	}
	return true;
}

void smp_go_on(void)
{
	u32 mask = 0;

	if (!smp())
		return;
	__atomic_store_n(&resting, false, __ATOMIC_SEQ_CST);
	for (u32 i = 1; i < n_cpus; i++)
		mask |= 1u << i;
	call(BOOT_CALL_POKE, mask);
}

/* --- starting -------------------------------------------------------------------------------- */

static struct thread *idle_new(u32 n)
{
	struct thread *t = kzalloc(sizeof(*t));
	u64 top = t ? (u64)kstack_alloc(SMP_STACK_SIZE) : 0;

	if (!top) {
		kfree(t);
		return NULL;
	}
	t->kstack_top = top;
	t->proc = init_process;
	t->state = THREAD_RUNNABLE;
	t->affinity = ~0ull;
	t->start_ns = t->last_ns = mono_ns();
	t->kfn = idle_loop;
	list_init(&t->run_node);
	list_init(&t->process_node);
	list_init(&t->all_node);
	sigpending_init(&t->pending);
	t->blocked = ~0ull;
	snprintf(t->comm, sizeof(t->comm), "idle/%u", n);
	arch_thread_setup(t, idle_loop, NULL);
	return t;
}

/* The stub page is executed in ring 0, and nobody else may look at it. */
static bool stub_new(struct boot_vcpu *v)
{
	void *top = kstack_alloc(PAGE_SIZE);

	if (!top)
		return false;
	v->stub_va = (u64)top - PAGE_SIZE;
	v->stub_gpa = kpt_supervisor(v->stub_va).v;
	return true;
}

/* Pages of CPU n, once. */
static bool cpu_new(u32 n)
{
	struct boot_vcpu *v = (struct boot_vcpu *)boot->vcpu_va + n;
	gpa_t g = frame_alloc(0, true);
	struct cpu *c;
	void *exc;

	if (g.v == GPA_NONE.v)
		return false;
	c = frame_ptr(g);
	exc = kstack_alloc(SMP_STACK_SIZE);
	c->idle = idle_new(n);
	if (!exc || !c->idle || !stub_new(v))
		return false; /* what was had is kept by nobody: memory is so short that this hardly matters */
	c->self = c;
	c->exc_stack_top = (u64)exc;
	c->syscall_entry = (u64)syscall_entry;
	c->stack_guard = cpus[0]->stack_guard;
	c->id = n;
	c->shared = v;
	v->cpu_va = (u64)c;
	v->exc_stack_top = (u64)exc;
	cpus[n] = c;
	return true;
}

/* As if it had never run. */
static void cpu_start(struct cpu *c)
{
	struct boot_vcpu *v = c->shared;

	plat->cpu_forget(c);
	c->thread = c->idle;
	c->smp = true;
	c->as = NULL;
	c->in_user = c->parked = 0;
	c->need_resched = c->idling = c->flush = c->coming = false;
	c->polling = 0;
	c->left = NULL;
	v->kick = v->want_tick = v->call = 0;
	v->rip = (u64)smp_cpu_entry;
	v->gpr[4] = c->idle->kstack_top;
	call(BOOT_CALL_START, c->id);
}

void smp_start(void)
{
	u32 n = 1, want = MIN(boot->n_vcpus, BOOT_MAX_VCPUS);

	resting = false;
	n_waiting = 0;
	cpus[0] = this_cpu();
	if (want > 1 && !cpus[0]->idle)
		cpus[0]->idle = idle_new(0);
	if (cpus[0]->idle)
		while (n < want && (cpus[n] || cpu_new(n)))
			n++;
	if (n > 1 && plat->cpus_prepare)
		n = plat->cpus_prepare(n);
	if (n < want)
		log_line(LOG_WARN, "no room for %u CPUs: there are %u", want, n);
	n_cpus = n;
	cpus[0]->smp = n > 1;
	cpus[0]->in_user = 0;
	cpus[0]->idling = cpus[0]->coming = false;
	cpus[0]->polling = 0;
	lock = n > 1 ? 1 : 0;
	for (u32 i = 1; i < n; i++)
		cpu_start(cpus[i]);
}

/* First C code of CPU n > 0. */
void smp_cpu_main(void)
{
	smp_lock();
	idle_loop(NULL);
}
