/* SPDX-License-Identifier: ISC */
/*
 * The host processes of one guest.
 *
 * Under the process monitor an address space of the guest is a host process. All of them map the same RAM, have the same
 * filter and are our children. One has the CPU; the others wait in a doorbell of their own that is answered when it
 * is their turn, so a handover needs no call but the doorbell, and we know whom to kick.
 *
 *   clone     the library OS asks for another one by clone(PROCESS_CLONE_FLAGS), which the guest's filter turns into a
 *             notification. We count, and let the host go on with it or answer -EAGAIN.
 *   prctl     its first call: to die with us, as a child forgets its parent's wish to. We note its pid, and let
 *             it go on. From here on it is known.
 *   WAIT      its second call: it waits for its turn for the first time
 *   SWITCH j  whoever has the CPU gives it to j, and waits
 *
 * With several CPUs each host process has a thread for each of them, its seat, which it makes by clone(PROCESS_SEAT_FLAGS) before its
 * first wait; a seat is known by its first WAIT, which says for which CPU it is. Turns are given for each CPU by itself.
 *
 *      clone             prctl              WAIT            SWITCH to it
 *   --------> awaited ----------> (mortal) ------> waiting <------------> running
 *
 * Nothing here trusts the guest: indices are checked, a process is known by the pid that the host tells, there are at
 * most PROCESS_MAX births in an instance's life, and one at a time: while a child has not reported there is no other,
 * and one that does not report for BIRTH_MS ends the instance. A guest that switches wrongly hangs itself.
 * The clone may fail at the host although we agreed; the guest says so (PROCESS_STILLBORN), and is believed if the
 * host's list of our children has nobody that we do not know, or if there is no such list and it never asks again.
 *
 * None of them is reaped before the end, so no pid is used twice and a pid in a notification is whose it was. All are in
 * the session that the first one made, which the filter does not let them leave: who has not reported ends with the group.
 */
#include "monitor/backend/process_group.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "monitor/seccomp.h"

HOST_SYSCALL(process, epoll_ctl);
HOST_SYSCALL(process, ioctl);
HOST_SYSCALL(process, kill);
HOST_SYSCALL(process, pidfd_open);
HOST_SYSCALL(process, pidfd_send_signal);
HOST_SYSCALL(process, pread64);
HOST_SYSCALL(process, waitid);
HOST_SYSCALL(smp, tgkill);

#define HEARD_NS      200000000ull
#define BIRTH_MS      10000
#define THREAD_MS     100 /* that we wait with kicks for a thread to take its seat */
#define SPARE_THREADS 4
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int watch(struct process_group *g, int pidfd)
{
	struct epoll_event e = {.events = EPOLLIN};

	return epoll_ctl(g->deaths_fd, EPOLL_CTL_ADD, pidfd, &e) ? -errno : 0;
}

int group_init(struct process_group *g, pid_t pid, int pidfd, uint32_t n_cpus, struct boot_vcpu *shared)
{
	*g = (struct process_group){
		.n = 1, .n_cpus = n_cpus, .p[0] = {.pid = pid, .pidfd = pidfd, .seat[0].tid = pid}};
	for (uint32_t i = 0; i < n_cpus; i++)
		g->cpu[i] = (struct guest_cpu){.wanted = -1, .shared = shared + i};
	/* Of this thread: the host keeps them by thread. */
	g->children_fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
	g->deaths_fd = epoll_create1(EPOLL_CLOEXEC);
	return g->deaths_fd < 0 ? -errno : watch(g, pidfd);
}

void group_answer(int doorbell_fd, uint64_t id, int64_t value, int error)
{
	struct seccomp_notif_resp r = {.id = id, .val = value, .error = error};

	ioctl(doorbell_fd, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

static void let_go_on(int doorbell_fd, uint64_t id)
{
	struct seccomp_notif_resp r = {.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

	ioctl(doorbell_fd, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

/* Who it is; g->n: nobody we know. */
static uint32_t index_of(const struct process_group *g, pid_t pid)
{
	uint32_t i = 0;

	if (g->cpu[0].running < g->n && g->p[g->cpu[0].running].pid == pid)
		return g->cpu[0].running;
	while (i < g->n && g->p[i].pid != pid)
		i++;
	return i;
}

/* Whose seat the thread is: of which host process, for which CPU. */
static bool seat_of(const struct process_group *g, pid_t tid, uint32_t *host, uint32_t *cpu)
{
	for (uint32_t c = 0; c < g->n_cpus; c++)
		if (g->cpu[c].running < g->n && g->p[g->cpu[c].running].seat[c].tid == tid) {
			*host = g->cpu[c].running;
			*cpu = c;
			return true;
		}
	for (*host = 0; *host < g->n; ++*host)
		for (*cpu = 0; *cpu < g->n_cpus; ++*cpu)
			if (g->p[*host].seat[*cpu].tid == tid)
				return true;
	return false;
}

bool group_who(const struct process_group *g, pid_t tid, uint32_t *host, uint32_t *cpu)
{
	return seat_of(g, tid, host, cpu) && g->cpu[*cpu].running == *host;
}

/* --- births ------------------------------------------------------------------------ */

static int read_children(const struct process_group *g, pid_t *pids, int max)
{
	char text[PROCESS_MAX * 24], *end, *at = text;
	ssize_t n = g->children_fd < 0 ? -1 : pread(g->children_fd, text, sizeof(text) - 1, 0);
	int found = 0;

	if (n <= 0 || n == sizeof(text) - 1)
		return -1;
	for (text[n] = 0; found < max; at = end) {
		pids[found] = (pid_t)strtol(at, &end, 10);
		if (end == at)
			return found;
		found++;
	}
	return -1;
}

/* Before the first birth: what there is but the first one is not the guest's. We make none ourselves under our filter. */
static void note_others(struct process_group *g)
{
	int n = read_children(g, g->others, PROCESS_OTHERS);

	g->n_others = n < 0 ? 0 : (uint32_t)n;
}

static bool is_other(const struct process_group *g, pid_t pid)
{
	uint32_t i = 0;

	while (i < g->n_others && g->others[i] != pid)
		i++;
	return i < g->n_others;
}

/* How many children has the host that we do not know? -1: it does not tell. */
static int unknown_children(const struct process_group *g)
{
	pid_t pids[2 * PROCESS_MAX];
	int n = read_children(g, pids, 2 * PROCESS_MAX), unknown = 0;

	for (int i = 0; i < n; i++)
		unknown += index_of(g, pids[i]) == g->n && !is_other(g, pids[i]);
	return n < 0 ? -1 : unknown;
}

/* The birth that we agreed to came to nothing. */
static void not_born(struct process_group *g)
{
	g->birth_ns = 0;
	g->births--;
}

/*
 * A thread for another CPU. The host may fail to make it, or a signal make it ask anew, so a few more are granted than there are
 * CPUs; who has no seat has nothing.
 */
static void thread_asked(struct process_group *g, int doorbell_fd, const struct seccomp_notif *notif)
{
	uint32_t who = index_of(g, (pid_t)notif->pid), cpu;

	if (who == g->n && !seat_of(g, (pid_t)notif->pid, &who, &cpu))
		who = g->n;
	if (g->n_cpus == 1 || who == g->n || g->p[who].threads_asked >= g->n_cpus - 1 + SPARE_THREADS) {
		group_answer(doorbell_fd, notif->id, 0, -EAGAIN);
		return;
	}
	g->p[who].threads_asked++;
	g->thread_ns = now_ns();
	let_go_on(doorbell_fd, notif->id);
}

static void birth_asked(struct process_group *g, int doorbell_fd, const struct seccomp_notif *notif)
{
	uint32_t host, cpu;

	if (notif->data.args[0] == PROCESS_SEAT_FLAGS) {
		thread_asked(g, doorbell_fd, notif);
		return;
	}
	if (!g->births)
		note_others(g);
	else if (g->birth_ns && unknown_children(g) == 0)
		not_born(g); /* a signal interrupted it, and the host asks anew */
	if (g->n_cpus > 1 && g->birth_ns && g->n + 1 < PROCESS_MAX) {
		group_answer(doorbell_fd, notif->id, 0, -EBUSY); /* to be asked again */
		return;
	}
	if (notif->data.args[0] != PROCESS_CLONE_FLAGS || g->birth_ns || g->births >= PROCESS_MAX - 1 ||
	    !seat_of(g, (pid_t)notif->pid, &host, &cpu)) {
		group_answer(doorbell_fd, notif->id, 0, -EAGAIN);
		return;
	}
	g->births++;
	g->birth_ns = now_ns();
	let_go_on(doorbell_fd, notif->id);
}

/* A new one is about to die with us. It waits for our answer, so its pid is its own. */
static void birth_reported(struct process_group *g, int doorbell_fd, const struct seccomp_notif *notif)
{
	struct guest_process *p = &g->p[g->n];
	bool exact = notif->data.args[0] == PR_SET_PDEATHSIG && notif->data.args[1] == SIGKILL;
	int fd = -1;

	if (exact && g->birth_ns && g->n < PROCESS_MAX && index_of(g, (pid_t)notif->pid) == g->n)
		fd = (int)syscall(SYS_pidfd_open, notif->pid, 0);
	if (fd < 0 || ioctl(doorbell_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &notif->id) || watch(g, fd)) {
		if (fd >= 0)
			close(fd);
		group_answer(doorbell_fd, notif->id, 0, -EPERM);
		return;
	}
	*p = (struct guest_process){.pid = (pid_t)notif->pid, .pidfd = fd};
	g->n++;
	g->birth_ns = 0;
	let_go_on(doorbell_fd, notif->id);
}

/* The guest says so. If the host cannot tell it is believed, once: there will be no other birth. */
static void stillborn(struct process_group *g)
{
	int unknown = unknown_children(g);

	if (!g->birth_ns || unknown > 0)
		return;
	not_born(g);
	if (unknown < 0)
		g->births = PROCESS_MAX;
}

int group_patience_ms(const struct process_group *g)
{
	uint64_t since;

	if (!g->birth_ns)
		return -1;
	since = (now_ns() - g->birth_ns) / 1000000;
	return since < BIRTH_MS ? BIRTH_MS - (int)since : 0;
}

/* --- turns --------------------------------------------------------------------------- */

void group_turn(struct process_group *g, int doorbell_fd, uint32_t cpu, uint32_t to)
{
	struct guest_seat *s = &g->p[to].seat[cpu];

	g->cpu[cpu].running = to;
	g->cpu[cpu].wanted = s->waits ? -1 : (int32_t)to; /* it may have yet to come to its wait */
	if (!s->waits)
		return;
	s->waits = false;
	group_answer(doorbell_fd, s->id, 0, 0);
}

static void begin_wait(struct guest_seat *s, uint64_t id)
{
	s->waits = true;
	s->id = id;
}

/* The host process that the thread is of; g->n: none of the guest's. It waits for our answer, so its number is its own. */
static uint32_t process_of(const struct process_group *g, pid_t tid)
{
	uint32_t i = index_of(g, tid);

	if (i < g->n || g->n_cpus == 1)
		return i;
	for (i = 0; i < g->n; i++)
		if (g->p[i].threads_asked && !syscall(SYS_tgkill, g->p[i].pid, tid, 0))
			return i;
	return g->n;
}

/* A new process, or thread, takes its seat. */
static int seat_taken(struct process_group *g, int doorbell_fd, const struct seccomp_notif *notif)
{
	const uint64_t cpu = notif->data.args[1];
	const pid_t tid = (pid_t)notif->pid;
	uint32_t who, had;
	struct guest_seat *s;

	if (cpu >= g->n_cpus)
		return -EINVAL;
	if (!seat_of(g, tid, &who, &had)) {
		who = process_of(g, tid);
		if (who == g->n || g->p[who].seat[cpu].tid ||
		    ioctl(doorbell_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &notif->id))
			return -EINVAL;
	} else if (had != cpu) {
		return -EINVAL;
	}
	s = &g->p[who].seat[cpu];
	if (!s->tid)
		g->thread_ns = 0;
	s->tid = tid;
	begin_wait(s, notif->id);
	if (g->cpu[cpu].wanted == (int32_t)who)
		group_turn(g, doorbell_fd, (uint32_t)cpu, who);
	return 0;
}

bool group_serve(struct process_group *g, int doorbell_fd, const struct seccomp_notif *notif)
{
	const uint64_t what = notif->data.args[0], to = notif->data.args[1];
	uint32_t who, cpu;
	int r;

	if (notif->data.nr == SYS_clone) {
		birth_asked(g, doorbell_fd, notif);
		return true;
	}
	if (notif->data.nr == SYS_prctl) {
		birth_reported(g, doorbell_fd, notif);
		return true;
	}
	if (what != PROCESS_SWITCH && what != PROCESS_WAIT && what != PROCESS_STILLBORN)
		return false;
	if (what == PROCESS_STILLBORN) {
		stillborn(g);
		group_answer(doorbell_fd, notif->id, 0, 0);
	} else if (what == PROCESS_WAIT) {
		r = seat_taken(g, doorbell_fd, notif);
		if (r)
			group_answer(doorbell_fd, notif->id, 0, r);
	} else if (!seat_of(g, (pid_t)notif->pid, &who, &cpu) || to >= PROCESS_MAX || to == who) {
		group_answer(doorbell_fd, notif->id, 0, -EINVAL);
	} else {
		begin_wait(&g->p[who].seat[cpu], notif->id);
		group_turn(g, doorbell_fd, cpu, (uint32_t)to);
	}
	return true;
}

/*
 * The signal sent last is still on its way. Another one would nest in it, and where signals come slowly, as under a
 * tracer, the guest's signal stack would not be deep enough for all that follow one another. `kick_heard` is the guest's word: who
 * never sets it is kicked less often.
 */
static bool kick_is_due(struct guest_cpu *c)
{
	uint64_t now = now_ns();

	if (c->kicked == c->running && now - c->kicked_ns < HEARD_NS &&
	    !__atomic_load_n(&c->shared->kick_heard, __ATOMIC_RELAXED))
		return false;
	c->kicked = c->running;
	c->kicked_ns = now;
	__atomic_store_n(&c->shared->kick_heard, 0, __ATOMIC_RELAXED);
	return true;
}

void group_kick(struct process_group *g, uint32_t cpu)
{
	const struct guest_cpu *c = &g->cpu[cpu];
	const struct guest_process *p = &g->p[c->running < g->n ? c->running : 0];
	bool seated = g->n_cpus == 1 || (p->seat[cpu].tid && !p->seat[cpu].waits);

	/* A signal would interrupt a clone. Who wants the guest's attention tries again soon. */
	if (g->cpu[cpu].running >= g->n || g->birth_ns)
		return;
	if (g->thread_ns && now_ns() - g->thread_ns < THREAD_MS * 1000000ull)
		return;
	if (!seated || !kick_is_due(&g->cpu[cpu]))
		return;
	if (g->n_cpus == 1)
		syscall(SYS_pidfd_send_signal, p->pidfd, PROCESS_KICK_SIGNAL, NULL, 0);
	else
		syscall(SYS_tgkill, p->pid, p->seat[cpu].tid, PROCESS_KICK_SIGNAL);
}

/* --- deaths ---------------------------------------------------------------------------- */

int group_dead(const struct process_group *g)
{
	for (uint32_t i = 0; i < g->n; i++) {
		siginfo_t si = {0};

		if (!waitid(P_PIDFD, (id_t)g->p[i].pidfd, &si, WEXITED | WNOWAIT | WNOHANG) && si.si_pid)
			return g->p[i].pidfd;
	}
	return g->p[0].pidfd;
}

static void reap(idtype_t type, id_t id)
{
	siginfo_t si;

	while (!waitid(type, id, &si, WEXITED) || errno == EINTR)
		;
}

void group_destroy(struct process_group *g)
{
	if (!g->n)
		return;
	/* The first is not reaped yet, so the group's number is its own. It may have died before it made the group. */
	kill(-g->p[0].pid, SIGKILL);
	for (uint32_t i = 0; i < g->n; i++)
		syscall(SYS_pidfd_send_signal, g->p[i].pidfd, SIGKILL, NULL, 0);
	for (uint32_t i = g->n; i-- > 1;)
		reap(P_PIDFD, (id_t)g->p[i].pidfd);
	reap(P_PGID, (id_t)g->p[0].pid);
	reap(P_PIDFD, (id_t)g->p[0].pidfd);
	for (uint32_t i = 0; i < g->n; i++)
		close(g->p[i].pidfd);
	close(g->deaths_fd);
	if (g->children_fd >= 0)
		close(g->children_fd);
	g->n = 0;
}
