/* SPDX-License-Identifier: ISC */
/*
 * Several virtual CPUs: a host thread for each but the first, which is the loop's own (instance.c).
 *
 *   smp_prepare -> waits for BOOT_CALL_START -> runs the guest <-> sleeps (BOOT_CALL_IDLE)
 *
 * These threads do little: they run the guest, sleep, wake others and keep a timer for ticks. Everything
 * else is done by the main thread, so that all that it owns has one owner. If a CPU needs the ring served it asks
 * (smp_serve_ring()) and waits until the loop did that, in between two runs of CPU 0 or in the midst of its wait.
 *
 * A poke sets `nudged` and `poked` first and then looks where the CPU is: in the guest, a signal makes it leave; asleep, a futex
 * wakes it. The CPU says where it goes and then looks: at `nudged` before it runs the guest, which then comes back at once, and at
 * `poked` before it sleeps. So one of them sees the other, and no poke is lost. The guest may be on its way
 * to sleep when it is poked: that is why running does not clear `poked`. At worst one sleep too many is left out.
 *
 * Under the process monitor the other CPUs are threads of the guest, and the backend serves them without threads of ours
 * (process_cpus.c): in run(), or from the ring's wait by smp_serve(). Then this file only passes on what they want.
 *
 * Signals: only SIG_POKE reaches these threads. All of the guest's words are hostile: they can disturb this instance, no more.
 */
#include "monitor/smp.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "monitor/instance.h"
#include "monitor/ring_server.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(smp, futex);
HOST_SYSCALL(smp, tgkill);
HOST_SYSCALL(smp, timer_settime);
HOST_SYSCALL(smp, sched_yield);
HOST_SYSCALL(smp, poll);
HOST_SYSCALL(smp, restart_syscall);

#define SIG_POKE     (SIGRTMIN + 3)
#define STACK	     (64u << 10)
#define LOOK_NS	     10000000ull /* as in instance.c */
#define RETRY_NS     1000000ull
#define TICK_MIN_NS  1000000ull
#define RING_WAIT_MS 1
#define NS	     1000000000ull

enum where { WHERE_GUEST, WHERE_ASLEEP };

struct smp_cpu {
	struct instance *in;
	struct backend_ctx *
		ctx; /* CPU n > 0, once it runs; the instance's own goes when that ends, which these threads outlive */
	int n;
	pid_t tid;
	uint32_t where; /* enum where; CPU 0: asleep is a turn of the ring */
	uint32_t poked; /* futex */
	uint32_t nudged;
	uint32_t started; /* futex */
	volatile sig_atomic_t timer_armed;
	timer_t timer;
	struct boot_vcpu *shared;
	struct run_info info;
};

static struct {
	struct instance *in;
	int n;
	bool alone; /* without threads: the backend serves the other CPUs when it is told to */
	struct smp_cpu cpu[BOOT_MAX_VCPUS];
	uint32_t asked, served; /* turns of the ring; futex: served */
	uint32_t died; /* number of a CPU */
	sem_t ready;
} smp = {.n = 1};

static _Thread_local struct smp_cpu *mine;

static void futex_wait(uint32_t *word, uint32_t value, uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / NS), (long)(ns % NS)};

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, ns == UINT64_MAX ? NULL : &ts, NULL, 0);
}

static void futex_wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* --- pokes --------------------------------------------------------------------- */

/* Poke, or the timer: the guest is left, or not entered. */
static void on_poke(int sig, siginfo_t *info, void *context)
{
	struct smp_cpu *c = mine;

	(void)sig, (void)context;
	if (!c)
		return;
	if (info->si_code == SI_TIMER)
		c->timer_armed = 0;
	if (c->n && c->ctx)
		c->in->backend->cpu_interrupt(c->ctx, c->n);
	else if (!c->n && c->in->ctx)
		c->in->backend->interrupt(c->in->ctx);
}

static void wake(struct smp_cpu *c)
{
	if (__atomic_load_n(&c->where, __ATOMIC_SEQ_CST) == WHERE_GUEST)
		syscall(SYS_tgkill, c->in->pid, c->tid, SIG_POKE);
	else if (c->n)
		futex_wake(&c->poked);
	else
		ring_server_interrupt(c->in->rs);
}

static void poke(uint64_t mask)
{
	for (int i = 0; i < smp.n; i++) {
		if (!(mask >> i & 1))
			continue;
		__atomic_store_n(&smp.cpu[i].nudged, 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&smp.cpu[i].poked, 1, __ATOMIC_SEQ_CST);
		wake(&smp.cpu[i]);
	}
}

static void goes(struct smp_cpu *c, enum where where)
{
	__atomic_store_n(&c->where, where, __ATOMIC_SEQ_CST);
}

static bool take(uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST) && __atomic_exchange_n(word, 0, __ATOMIC_SEQ_CST);
}

/* --- calls ---------------------------------------------------------------------- */

static void sleep_idle(struct smp_cpu *c, uint64_t ns)
{
	goes(c, WHERE_ASLEEP);
	if (!__atomic_load_n(&c->poked, __ATOMIC_SEQ_CST))
		futex_wait(&c->poked, 0, ns);
	take(&c->poked);
}

/* The loop does a turn for this CPU. */
static void serve_ring(struct smp_cpu *c)
{
	uint32_t mine_is = __atomic_add_fetch(&smp.asked, 1, __ATOMIC_SEQ_CST), seen;

	goes(c, WHERE_ASLEEP);
	wake(&smp.cpu[0]);
	while ((int32_t)((seen = __atomic_load_n(&smp.served, __ATOMIC_ACQUIRE)) - mine_is) < 0)
		futex_wait(&smp.served, seen, UINT64_MAX);
}

static bool has_completions(const struct instance *in)
{
	return ring_server_has_completions(in->rs);
}

static void call_ring(struct smp_cpu *c, bool wait)
{
	struct pollfd p = {.fd = ring_server_poll_fd(c->in->rs), .events = POLLIN};

	serve_ring(c);
	if (!wait || has_completions(c->in))
		return;
	poll(&p, 1, RING_WAIT_MS);
	serve_ring(c);
}

static void start(const struct smp_cpu *by, uint64_t n)
{
	if (by->n || n == 0 || n >= (uint64_t)smp.n)
		return;
	__atomic_store_n(&smp.cpu[n].started, 1, __ATOMIC_RELEASE);
	futex_wake(&smp.cpu[n].started);
}

static void act(struct smp_cpu *c, uint32_t what, uint64_t arg)
{
	switch (what) {
	case BOOT_CALL_START:
		start(c, arg);
		break;
	case BOOT_CALL_IDLE:
		if (c->n)
			sleep_idle(c, arg);
		break;
	case BOOT_CALL_POKE:
		poke(arg);
		break;
	case BOOT_CALL_RING:
		if (c->n)
			call_ring(c, arg);
		break;
	default:
		sched_yield();
		break;
	}
}

/* --- CPU n > 0 --------------------------------------------------------------------- */

static void arm_timer(struct smp_cpu *c, bool retry)
{
	struct itimerspec its = {0};
	uint64_t ns = LOOK_NS, tick;

	if (c->timer_armed && !retry)
		return;
	if (retry) {
		ns = RETRY_NS;
	} else if (__atomic_load_n(&c->shared->want_tick, __ATOMIC_RELAXED)) {
		tick = __atomic_load_n(&c->shared->tick_ns, __ATOMIC_RELAXED);
		if (tick < ns)
			ns = tick < TICK_MIN_NS ? TICK_MIN_NS : tick;
	}
	its.it_value.tv_nsec = (long)ns;
	c->timer_armed = 1;
	timer_settime(c->timer, 0, &its, NULL);
}

/* Before the guest runs again: what it should hear of, and when we look next. */
static void look(struct smp_cpu *c, bool ticked)
{
	const struct backend *b = c->in->backend;
	bool kick;

	if (ticked && __atomic_load_n(&c->shared->want_tick, __ATOMIC_RELAXED))
		__atomic_or_fetch(&c->shared->kick, 1, __ATOMIC_RELAXED);
	kick = __atomic_load_n(&c->shared->kick, __ATOMIC_SEQ_CST);
	if (kick)
		b->cpu_divert(c->ctx, c->n);
	arm_timer(c, kick);
}

static void run_loop(struct smp_cpu *c)
{
	const struct backend *b = c->in->backend;

	for (bool was_armed = false;;) {
		uint32_t what;

		goes(c, WHERE_GUEST);
		if (take(&c->nudged))
			b->cpu_interrupt(c->ctx, c->n); /* it returns at once, with registers to look at */
		look(c, was_armed && !c->timer_armed);
		was_armed = true;
		switch (b->cpu_run(c->ctx, c->n, &c->info)) {
		case RUN_DOORBELL:
			what = __atomic_load_n(&c->shared->call, __ATOMIC_RELAXED);
			__atomic_store_n(&c->shared->call, BOOT_CALL_NONE, __ATOMIC_RELAXED);
			act(c, what, __atomic_load_n(&c->shared->arg, __ATOMIC_RELAXED));
			break;
		case RUN_KICKED:
			break;
		case RUN_DIED:
			return;
		}
	}
}

static void *cpu_thread(void *arg)
{
	struct smp_cpu *c = arg;
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIG_POKE};
	int r;

	mine = c;
	c->tid = (pid_t)syscall(SYS_gettid);
	ev._sigev_un._tid = c->tid;
	r = timer_create(CLOCK_MONOTONIC, &ev, &c->timer);
	if (!r)
		r = seccomp_prepare_thread();
	sem_post(&smp.ready);
	while (r || !__atomic_load_n(&c->started, __ATOMIC_ACQUIRE))
		futex_wait(&c->started, 0, UINT64_MAX);
	c->ctx = c->in->ctx;
	r = c->in->backend->cpu_start(c->ctx, c->n);
	if (r)
		snprintf(c->info.why, sizeof(c->info.why), "CPU %d cannot start: %s", c->n, strerror(-r));
	else
		run_loop(c);
	__atomic_store_n(&smp.died, (uint32_t)c->n, __ATOMIC_RELEASE);
	poke(1);
	for (;;)
		futex_wait(&c->started, 1, UINT64_MAX);
	return NULL;
}

static int start_thread(struct smp_cpu *c)
{
	pthread_attr_t a;
	pthread_t thread;
	sigset_t set;
	void *stack =
		mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	int r;

	if (stack == MAP_FAILED)
		return -errno;
	sigfillset(&set);
	sigdelset(&set, SIG_POKE);
	sigdelset(&set, SIGSYS);
	pthread_attr_init(&a);
	pthread_attr_setstack(&a, stack, STACK);
	pthread_attr_setsigmask_np(&a, &set);
	r = -pthread_create(&thread, &a, cpu_thread, c);
	pthread_attr_destroy(&a);
	return r;
}

int smp_prepare(struct instance *in, int n_cpus)
{
	struct sigaction sa = {.sa_sigaction = on_poke, .sa_flags = SA_RESTART | SA_SIGINFO};

	smp.in = in;
	if (n_cpus <= 1)
		return 0;
	if (in->backend->cpus_serve) {
		smp.n = n_cpus;
		smp.alone = true;
		smp.cpu[0].shared = in->vcpu;
		return ring_server_watch_cpus(in->rs, in->backend->cpus_fd(in->ctx));
	}
	sigfillset(&sa.sa_mask);
	sigaction(SIG_POKE, &sa, NULL);
	sem_init(&smp.ready, 0, 0);
	smp.n = n_cpus;
	for (int i = 0; i < n_cpus; i++) {
		struct smp_cpu *c = &smp.cpu[i];
		int r;

		*c = (struct smp_cpu){.in = in, .n = i, .shared = in->vcpu + i};
		if (!i) {
			mine = c;
			c->tid = in->pid;
			c->where = WHERE_ASLEEP;
		} else if ((r = start_thread(c))) {
			return r;
		}
	}
	return 0;
}

void smp_ready(void)
{
	for (int i = 1; i < smp.n && !smp.alone; i++)
		while (sem_wait(&smp.ready))
			continue;
}

int smp_cpus(void)
{
	return smp.n;
}

/* --- for the loop --------------------------------------------------------------------- */

/* What the backend has heard from the others since. */
static bool hear(void)
{
	uint32_t wants = smp.alone ? smp.in->backend->cpus_want(smp.in->ctx) : 0;

	if (wants & CPUS_POKE0)
		smp.cpu[0].poked = smp.cpu[0].nudged = 1;
	if (wants & CPUS_RING)
		smp.asked = smp.served + 1;
	return wants;
}

bool smp_serve(void)
{
	smp.in->backend->cpus_serve(smp.in->ctx);
	return hear();
}

void smp_cpu0_runs(void)
{
	if (smp.n > 1)
		goes(&smp.cpu[0], WHERE_GUEST);
	hear();
}

void smp_cpu0_turns(void)
{
	if (smp.n > 1)
		goes(&smp.cpu[0], WHERE_ASLEEP);
	hear();
}

bool smp_cpu0_poked(void)
{
	return smp.n > 1 && take(&smp.cpu[0].poked);
}

bool smp_cpu0_nudged(void)
{
	return smp.n > 1 && take(&smp.cpu[0].nudged);
}

bool smp_wants_ring(void)
{
	return smp.n > 1 && __atomic_load_n(&smp.asked, __ATOMIC_SEQ_CST) != smp.served;
}

void smp_ring_served(void)
{
	if (smp.alone) {
		smp.served = smp.asked;
		smp.in->backend->cpus_served(smp.in->ctx);
		return;
	}
	/* Whoever asked before the turn began; a later one finds that it is not yet there. */
	__atomic_add_fetch(&smp.served, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &smp.served, FUTEX_WAKE_PRIVATE, BOOT_MAX_VCPUS, NULL, NULL, 0);
}

bool smp_call0(void)
{
	struct smp_cpu *c = &smp.cpu[0];
	uint32_t what;

	if (smp.n == 1)
		return false;
	what = smp.alone ? BOOT_CALL_NONE : __atomic_load_n(&c->shared->call, __ATOMIC_RELAXED);
	if (what == BOOT_CALL_NONE)
		return false;
	__atomic_store_n(&c->shared->call, BOOT_CALL_NONE, __ATOMIC_RELAXED);
	act(c, what, __atomic_load_n(&c->shared->arg, __ATOMIC_RELAXED));
	return true;
}

const char *smp_died(void)
{
	uint32_t n = smp.n > 1 ? __atomic_load_n(&smp.died, __ATOMIC_ACQUIRE) : 0;

	return n ? smp.cpu[n].info.why : NULL;
}
