/* SPDX-License-Identifier: ISC */
/*
 * Several CPUs under the process monitor.
 *
 * The threads that run CPUs > 0 are the guest's (process_group.c), so no thread of ours is needed for them: a CPU that sleeps is a
 * doorbell that is not answered yet. All is done by the main thread, when it waits for CPU 0 or, by way of `fd`, in the
 * midst of the ring's wait.
 *
 *           START               IDLE                          poked before: at once
 *   OFF ------------> RUNS ----------------> IDLE ---------> RUNS
 *                      |                           poke, deadline
 *                      |  RING                          served
 *                      +----------------> RING -----------------> RUNS
 *
 * One that runs is looked at now and then: for its tick, or because its kick is still set. A signal that finds the
 * library OS is lost, so it is sent again until the guest has taken the kick. CPU 0's ticks and kicks are instance.c's.
 *
 * All of the guest's words are hostile: they can disturb this instance, no more.
 */
#include "monitor/backend/process_cpus.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "monitor/backend/backend.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(smp, timerfd_settime);
HOST_SYSCALL(smp, read);

#define LOOK_NS	    10000000ull /* as in instance.c */
#define RETRY_NS    1000000ull
#define TICK_MIN_NS 1000000ull
#define NS	    1000000000ull

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static int watch(struct process_cpus *c, int fd)
{
	struct epoll_event e = {.events = EPOLLIN};

	return epoll_ctl(c->fd, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

int cpus_init(struct process_cpus *c, int n, struct process_group *g, struct boot_vcpu *shared)
{
	int r;

	*c = (struct process_cpus){.n = n, .group = g, .timer_fd = -1, .fd = -1, .doorbell_fd = -1};
	if (n == 1)
		return 0;
	c->armed_ns = UINT64_MAX;
	for (int i = 0; i < n; i++)
		c->cpu[i].shared = shared + i;
	c->cpu[0].state = PROCESS_CPU_RUNS;
	c->fd = epoll_create1(EPOLL_CLOEXEC);
	c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (c->fd < 0 || c->timer_fd < 0)
		return -errno;
	r = watch(c, c->timer_fd);
	return r ? r : watch(c, g->deaths_fd);
}

void cpus_open(struct process_cpus *c, int doorbell_fd)
{
	c->doorbell_fd = doorbell_fd;
	if (c->n > 1)
		watch(c, doorbell_fd);
}

void cpus_close(struct process_cpus *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->timer_fd >= 0)
		close(c->timer_fd);
}

/* --- time ----------------------------------------------------------------------- */

/* The timer fires at `ns` or before. */
static void arm(struct process_cpus *c, uint64_t ns)
{
	struct itimerspec its = {.it_value = {(time_t)(ns / NS), (long)(ns % NS)}};

	if (ns >= c->armed_ns)
		return;
	c->armed_ns = ns;
	timerfd_settime(c->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
}

static uint64_t tick_of(const struct process_cpu *p)
{
	uint64_t tick = __atomic_load_n(&p->shared->tick_ns, __ATOMIC_RELAXED);

	if (!__atomic_load_n(&p->shared->want_tick, __ATOMIC_RELAXED) || tick > LOOK_NS)
		return LOOK_NS;
	return tick < TICK_MIN_NS ? TICK_MIN_NS : tick;
}

static void goes_on(struct process_cpus *c, uint32_t cpu)
{
	struct process_cpu *p = &c->cpu[cpu];

	p->state = PROCESS_CPU_RUNS;
	p->until_ns = now_ns() + tick_of(p);
	group_answer(c->doorbell_fd, p->id, 0, 0);
	arm(c, p->until_ns);
}

static bool kick(struct process_cpus *c, uint32_t cpu)
{
	if (!__atomic_load_n(&c->cpu[cpu].shared->kick, __ATOMIC_SEQ_CST))
		return false;
	group_kick(c->group, cpu);
	return true;
}

static void look(struct process_cpus *c, uint32_t cpu, uint64_t now)
{
	struct process_cpu *p = &c->cpu[cpu];

	if (now >= p->until_ns && __atomic_load_n(&p->shared->want_tick, __ATOMIC_RELAXED))
		__atomic_or_fetch(&p->shared->kick, 1, __ATOMIC_SEQ_CST);
	if (kick(c, cpu))
		p->until_ns = now + RETRY_NS;
	else if (now >= p->until_ns)
		p->until_ns = now + tick_of(p);
}

void cpus_time(struct process_cpus *c)
{
	uint64_t now = now_ns(), next = UINT64_MAX, count;
	ssize_t r = read(c->timer_fd, &count, sizeof(count));

	(void)r;
	c->armed_ns = UINT64_MAX;
	for (int i = 1; i < c->n; i++) {
		struct process_cpu *p = &c->cpu[i];

		if (p->state == PROCESS_CPU_RUNS)
			look(c, (uint32_t)i, now);
		else if (p->state == PROCESS_CPU_IDLE && now >= p->until_ns)
			goes_on(c, (uint32_t)i);
		if (p->state == PROCESS_CPU_RUNS || p->state == PROCESS_CPU_IDLE)
			next = p->until_ns < next ? p->until_ns : next;
	}
	arm(c, next);
}

/* --- calls ------------------------------------------------------------------------ */

static void sleeps(struct process_cpus *c, uint32_t cpu, uint64_t id, uint64_t ns)
{
	struct process_cpu *p = &c->cpu[cpu];
	uint64_t now;

	p->id = id;
	if (p->poked || !ns) {
		p->poked = false;
		goes_on(c, cpu);
		return;
	}
	p->state = PROCESS_CPU_IDLE;
	now = now_ns();
	p->until_ns = ns < UINT64_MAX - now ? now + ns : UINT64_MAX;
	arm(c, p->until_ns);
}

static void poke(struct process_cpus *c, uint64_t mask)
{
	if (mask & 1)
		c->wants |= CPUS_POKE0;
	for (uint32_t i = 1; i < (uint32_t)c->n; i++) {
		struct process_cpu *p = &c->cpu[i];

		if (!(mask >> i & 1))
			continue;
		if (p->state == PROCESS_CPU_IDLE) {
			goes_on(c, i);
			continue;
		}
		p->poked = true;
		if (p->state == PROCESS_CPU_RUNS && kick(c, i)) {
			p->until_ns = now_ns() + RETRY_NS;
			arm(c, p->until_ns);
		}
	}
}

static int start(struct process_cpus *c, uint32_t by, uint64_t cpu, uint32_t host)
{
	struct process_cpu *p = &c->cpu[cpu < BOOT_MAX_VCPUS ? cpu : 0];

	if (by || !cpu || cpu >= (uint64_t)c->n || p->state != PROCESS_CPU_OFF)
		return -EINVAL;
	p->state = PROCESS_CPU_RUNS;
	p->until_ns = now_ns() + LOOK_NS;
	group_turn(c->group, c->doorbell_fd, (uint32_t)cpu, host);
	arm(c, p->until_ns);
	return 0;
}

void cpus_call(struct process_cpus *c, uint32_t cpu, uint32_t host, const struct seccomp_notif *notif)
{
	uint64_t what = notif->data.args[1], arg = notif->data.args[2];
	int r = 0;

	switch (what) {
	case BOOT_CALL_START:
		r = start(c, cpu, arg, host);
		break;
	case BOOT_CALL_IDLE:
		if (cpu) {
			sleeps(c, cpu, notif->id, arg);
			return;
		}
		break;
	case BOOT_CALL_POKE:
		group_answer(c->doorbell_fd, notif->id, 0, 0);
		poke(c, arg);
		return;
	case BOOT_CALL_RING:
		if (cpu) {
			c->cpu[cpu].state = PROCESS_CPU_RING;
			c->cpu[cpu].id = notif->id;
			c->wants |= CPUS_RING;
			return;
		}
		break;
	default:
		r = -EINVAL;
		break;
	}
	group_answer(c->doorbell_fd, notif->id, 0, r);
}

void cpus_served(struct process_cpus *c)
{
	for (uint32_t i = 1; i < (uint32_t)c->n; i++)
		if (c->cpu[i].state == PROCESS_CPU_RING)
			goes_on(c, i);
}
