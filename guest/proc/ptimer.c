/* SPDX-License-Identifier: ISC */
/*
 * Timers that send signals: POSIX timers, the three interval timers, and the
 * CPU time limit.
 *
 * Wall-clock timers are kernel timers. CPU timers are looked at on ticks: one
 * that is armed asks for ticks (sched_update_tick), so its error is one tick.
 *
 * A POSIX timer has at most one signal outstanding. Expiries meanwhile count
 * as overrun; when the signal is taken (posix_timer_taken) the count goes into
 * its siginfo. Both follow timer_getoverrun(2).
 */
#include <linux/signal.h>
#include <linux/time.h>

#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"

#define MAX_TIMERS    1024
#define OVERRUN_MAX   0x7fffffff
#define TIMER_ABS     1
#define NOTIFY_SIGNAL 0
#define NOTIFY_NONE   1
#define NOTIFY_THREAD 2
#define NOTIFY_TID    4

/* struct sigevent, as the app passes it. */
struct user_sigevent {
	u64 value;
	s32 signo, notify, tid;
	s32 pad[11];
};
_Static_assert(sizeof(struct user_sigevent) == 64, "abi");

struct posix_timer {
	struct list node;
	struct list cpu_node; /* armed on a CPU clock */
	struct ktimer t; /* armed on a wall clock */
	struct process *proc;
	s32 id, clock, target_tid;
	int signo, notify;
	u64 value, interval_ns;
	u64 cpu_deadline_ns; /* CPU clocks; 0: disarmed */
	u64 overrun, last_overrun;
	bool outstanding, cpu_target_dead;
};

struct timers {
	struct list list;
	s32 next_id, count;
	struct {
		u64 deadline, interval;
	} virt, prof; /* ITIMER_VIRTUAL, ITIMER_PROF: CPU time; 0: off */
};

static struct list cpu_timers = LIST_INIT(cpu_timers);
static u32 n_cpu_itimers, n_cpu_limits; /* armed; processes with a limit */

bool cpu_timers_armed(void)
{
	return !list_empty(&cpu_timers) || n_cpu_itimers || n_cpu_limits;
}

void cpu_limit_note(u64 old, u64 new)
{
	n_cpu_limits -= old != RLIM64_INFINITY;
	n_cpu_limits += new != RLIM64_INFINITY;
}

static struct timers *timers_of(struct process *p)
{
	struct timers *ts = p->posix_timers;

	if (ts)
		return ts;
	ts = kzalloc(sizeof(*ts));
	if (ts)
		list_init(&ts->list);
	p->posix_timers = ts;
	return ts;
}

static bool is_cpu_clock(s32 clock)
{
	return clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
}

static struct posix_timer *find(s32 id)
{
	struct timers *ts = current->proc->posix_timers;

	if (ts) {
		list_for_each (it, &ts->list) {
			struct posix_timer *t = list_entry(it, struct posix_timer, node);

			if (t->id == id)
				return t;
		}
	}
	return NULL;
}

/* --- expiry ------------------------------------------------------------------------- */

static void send(struct posix_timer *t)
{
	siginfo_t info;
	struct thread *target;

	if (t->notify == NOTIFY_NONE)
		return;
	if (t->outstanding) {
		t->overrun++;
		return;
	}
	memset(&info, 0, sizeof(info));
	info.si_signo = t->signo;
	info.si_code = SI_TIMER;
	info.si_tid = t->id;
	info._sifields._timer._sigval.sival_ptr = (void *)t->value;
	t->outstanding = true;
	if (t->notify & NOTIFY_TID) {
		target = thread_by_tid(t->target_tid);
		if (!target || target->proc != t->proc || signal_thread(target, t->signo, &info))
			t->outstanding = false;
	} else if (signal_process(t->proc, t->signo, &info)) {
		t->outstanding = false;
	}
	if (signal_ignored(t->proc, t->signo))
		t->outstanding = false; /* nobody will take it */
}

/* Periods that passed up to `now` beyond the first; *next becomes the first after it. */
static u64 skip_periods(u64 *next, u64 interval, u64 now)
{
	u64 n = now > *next ? (now - *next) / interval : 0;

	*next += (n + 1) * interval;
	return n;
}

static void expired(struct ktimer *k)
{
	struct posix_timer *t = container_of(k, struct posix_timer, t);
	u64 next = k->deadline_ns;

	send(t);
	if (!t->interval_ns)
		return;
	t->overrun += skip_periods(&next, t->interval_ns, mono_ns());
	ktimer_arm(k, next);
}

void posix_timer_taken(siginfo_t *info)
{
	struct posix_timer *t = find(info->si_tid);

	if (!t)
		return;
	info->si_overrun = (int)MIN(t->overrun, OVERRUN_MAX);
	t->last_overrun = t->overrun;
	t->overrun = 0;
	t->outstanding = false;
}

static void itimer_expired(struct ktimer *k)
{
	struct process *p = container_of(k, struct process, itimer_real.t);
	u64 next = k->deadline_ns;
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_code = SI_KERNEL;
	signal_process(p, SIGALRM, &info);
	if (p->itimer_real.interval_ns) {
		skip_periods(&next, p->itimer_real.interval_ns, mono_ns());
		ktimer_arm(k, next);
	}
}

/* --- CPU time, on ticks ---------------------------------------------------------------- */

static void itimer_cpu_tick(struct process *p, u64 *deadline, u64 interval, int sig, u64 now)
{
	if (!*deadline || now < *deadline)
		return;
	signal_process(p, sig, NULL);
	if (interval) {
		skip_periods(deadline, interval, now);
	} else {
		*deadline = 0;
		n_cpu_itimers--;
	}
}

static void cpu_limit_tick(struct process *p, u64 now)
{
	struct rlimit64 *l = &p->rlim[RLIMIT_CPU];

	if (l->rlim_cur == RLIM64_INFINITY || now / NS_PER_SEC < l->rlim_cur)
		return;
	if (now / NS_PER_SEC >= l->rlim_max) {
		signal_process(p, SIGKILL, NULL);
		return;
	}
	signal_process(p, SIGXCPU, NULL);
	l->rlim_cur++; /* again in a second */
}

void cpu_timers_tick(void)
{
	struct process *p = current->proc;
	struct timers *ts;
	u64 now;

	if (!cpu_timers_armed() || !p)
		return;
	now = process_cpu_ns(p);
	cpu_limit_tick(p, now);
	ts = p->posix_timers;
	if (ts) {
		itimer_cpu_tick(p, &ts->virt.deadline, ts->virt.interval, SIGVTALRM, now);
		itimer_cpu_tick(p, &ts->prof.deadline, ts->prof.interval, SIGPROF, now);
	}
	list_for_each_safe (it, &cpu_timers) {
		struct posix_timer *t = list_entry(it, struct posix_timer, cpu_node);
		u64 ns;

		if (t->proc != p || clock_read_id(t->clock, &ns) || ns < t->cpu_deadline_ns)
			continue;
		send(t);
		if (t->interval_ns) {
			t->overrun += skip_periods(&t->cpu_deadline_ns, t->interval_ns, ns);
		} else {
			t->cpu_deadline_ns = 0;
			list_del(&t->cpu_node);
		}
	}
}

/* --- POSIX timers -------------------------------------------------------------------------- */

static void disarm(struct posix_timer *t)
{
	ktimer_cancel(&t->t);
	list_del(&t->cpu_node);
	t->cpu_deadline_ns = 0;
}

static void destroy(struct posix_timer *t)
{
	struct timers *ts = t->proc->posix_timers;

	disarm(t);
	list_del(&t->node);
	ts->count--;
	kfree(t);
}

void posix_timers_free(struct process *p)
{
	struct timers *ts = p->posix_timers;

	if (!ts)
		return;
	list_for_each_safe (it, &ts->list)
		destroy(list_entry(it, struct posix_timer, node));
}

/* The process ends: its interval timers and its CPU time limit are no longer looked at. */
void itimers_free(struct process *p)
{
	struct timers *ts = p->posix_timers;

	ktimer_cancel(&p->itimer_real.t);
	if (ts) {
		n_cpu_itimers -= !!ts->virt.deadline + !!ts->prof.deadline;
		ts->virt.deadline = ts->prof.deadline = 0;
	}
	cpu_limit_note(p->rlim[RLIMIT_CPU].rlim_cur, RLIM64_INFINITY);
	p->rlim[RLIMIT_CPU].rlim_cur = RLIM64_INFINITY;
}

static bool clock_has_timers(s32 clock)
{
	u64 ns;

	if (is_cpu_clock(clock))
		return !clock_read_id(clock, &ns);
	return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
	       clock == CLOCK_TAI;
}

static int read_event(struct posix_timer *t, const void *uevent)
{
	struct user_sigevent ev = {.value = (u64)t->id, .signo = SIGALRM};
	struct thread *target;

	if (uevent && get_user(ev, uevent))
		return -EFAULT;
	t->notify = ev.notify;
	t->signo = ev.signo;
	t->value = ev.value;
	if (ev.notify == NOTIFY_NONE)
		return 0;
	if (ev.notify != NOTIFY_SIGNAL && ev.notify != NOTIFY_THREAD && ev.notify != NOTIFY_TID)
		return -EINVAL;
	if (ev.signo < 1 || ev.signo > N_SIGNALS)
		return -EINVAL;
	if (ev.notify & NOTIFY_TID) {
		target = thread_by_tid(ev.tid);
		if (!target || target->proc != current->proc)
			return -EINVAL;
		t->target_tid = ev.tid;
	}
	return 0;
}

SYSCALL3(timer_create, s32, clock, const void *, uevent, s32 *, uid)
{
	struct timers *ts = timers_of(current->proc);
	struct posix_timer *t;
	int err;

	if (!clock_has_timers(clock))
		return -EINVAL;
	if (!ts || ts->count >= MAX_TIMERS)
		return -EAGAIN;
	t = kzalloc(sizeof(*t));
	if (!t)
		return -EAGAIN;
	list_init(&t->cpu_node);
	ktimer_init(&t->t, expired);
	t->proc = current->proc;
	t->clock = clock;
	t->id = ts->next_id;
	err = read_event(t, uevent);
	if (!err && put_user(t->id, uid))
		err = -EFAULT;
	if (err) {
		kfree(t);
		return err;
	}
	ts->next_id = (ts->next_id + 1) & 0x7fffffff;
	ts->count++;
	list_add_tail(&ts->list, &t->node);
	return 0;
}

static void get_setting(struct posix_timer *t, u64 *left, u64 *interval)
{
	u64 now;

	*interval = t->interval_ns;
	*left = 0;
	if (t->t.armed) {
		now = mono_ns();
		*left = t->t.deadline_ns > now ? t->t.deadline_ns - now : 1;
	} else if (t->cpu_deadline_ns && !clock_read_id(t->clock, &now)) {
		*left = t->cpu_deadline_ns > now ? t->cpu_deadline_ns - now : 1;
	}
}

static int out_itimerspec(void *user, u64 left, u64 interval)
{
	if (timespec_out(user, interval) || timespec_out((char *)user + 16, left))
		return -EFAULT;
	return 0;
}

SYSCALL4(timer_settime, s32, id, int, flags, const char *, unew, char *, uold)
{
	struct posix_timer *t = find(id);
	u64 value, interval, old_left, old_interval, deadline, now;
	int err;

	if (!unew)
		return -EINVAL;
	err = timespec_in(unew, &interval);
	if (!err)
		err = timespec_in(unew + 16, &value);
	if (err)
		return err;
	if (!t)
		return -EINVAL;
	get_setting(t, &old_left, &old_interval);
	disarm(t);
	t->overrun = t->last_overrun = 0;
	t->outstanding = false;
	t->interval_ns = value ? interval : 0;
	if (value && is_cpu_clock(t->clock)) {
		err = clock_read_id(t->clock, &now);
		if (err)
			return err;
		t->cpu_deadline_ns = flags & TIMER_ABS ? value : now + value;
		list_add_tail(&cpu_timers, &t->cpu_node);
		sched_update_tick();
	} else if (value) {
		err = clock_deadline(t->clock, flags & TIMER_ABS, value, &deadline);
		if (err)
			return err;
		ktimer_arm(&t->t, deadline);
	}
	return uold ? out_itimerspec(uold, old_left, old_interval) : 0;
}

SYSCALL2(timer_gettime, s32, id, char *, ucur)
{
	struct posix_timer *t = find(id);
	u64 left, interval;

	if (!t)
		return -EINVAL;
	get_setting(t, &left, &interval);
	return out_itimerspec(ucur, left, interval);
}

SYSCALL1(timer_getoverrun, s32, id)
{
	struct posix_timer *t = find(id);

	return t ? (s64)MIN(t->last_overrun, OVERRUN_MAX) : -EINVAL;
}

SYSCALL1(timer_delete, s32, id)
{
	struct posix_timer *t = find(id);

	if (!t)
		return -EINVAL;
	destroy(t);
	return 0;
}

/* --- interval timers ------------------------------------------------------------------------ */

struct user_itimerval {
	struct {
		s64 sec, usec;
	} interval, value;
};

static u64 timeval_ns(s64 sec, s64 usec)
{
	return (u64)sec > INT64_MAX / NS_PER_SEC ? INT64_MAX : (u64)sec * NS_PER_SEC + (u64)usec * 1000;
}

static void get_itimer(int which, u64 *left, u64 *interval)
{
	struct process *p = current->proc;
	struct timers *ts = p->posix_timers;
	u64 deadline = 0, now;

	*left = *interval = 0;
	if (which == ITIMER_REAL) {
		deadline = p->itimer_real.t.armed ? p->itimer_real.t.deadline_ns : 0;
		*interval = p->itimer_real.interval_ns;
		now = mono_ns();
	} else {
		if (!ts)
			return;
		deadline = which == ITIMER_PROF ? ts->prof.deadline : ts->virt.deadline;
		*interval = which == ITIMER_PROF ? ts->prof.interval : ts->virt.interval;
		now = process_cpu_ns(p);
	}
	if (deadline)
		*left = deadline > now ? deadline - now : 1000;
}

static int set_itimer(int which, u64 value, u64 interval)
{
	struct process *p = current->proc;
	struct timers *ts;
	u64 *deadline;

	if (which == ITIMER_REAL) {
		p->itimer_real.t.fn = itimer_expired;
		p->itimer_real.interval_ns = interval;
		if (value)
			ktimer_arm(&p->itimer_real.t, mono_ns() + value);
		else
			ktimer_cancel(&p->itimer_real.t);
		return 0;
	}
	ts = timers_of(p);
	if (!ts)
		return -ENOMEM;
	deadline = which == ITIMER_PROF ? &ts->prof.deadline : &ts->virt.deadline;
	if (which == ITIMER_PROF)
		ts->prof.interval = interval;
	else
		ts->virt.interval = interval;
	n_cpu_itimers += (value != 0) - (*deadline != 0);
	*deadline = value ? process_cpu_ns(p) + value : 0;
	sched_update_tick();
	return 0;
}

static int out_itimerval(void *user, u64 left, u64 interval)
{
	struct user_itimerval v = {
		{(s64)(interval / NS_PER_SEC), (s64)(interval % NS_PER_SEC / 1000)},
		{(s64)(left / NS_PER_SEC), (s64)(left % NS_PER_SEC / 1000)},
	};

	return put_user(v, user);
}

SYSCALL2(getitimer, int, which, void *, ucur)
{
	u64 left, interval;

	if (which < ITIMER_REAL || which > ITIMER_PROF)
		return -EINVAL;
	get_itimer(which, &left, &interval);
	return out_itimerval(ucur, left, interval);
}

SYSCALL3(setitimer, int, which, const void *, unew, void *, uold)
{
	struct user_itimerval v = {0};
	u64 left, interval;
	int err;

	if (which < ITIMER_REAL || which > ITIMER_PROF)
		return -EINVAL;
	if (unew && get_user(v, unew))
		return -EFAULT;
	if (v.value.sec < 0 || v.interval.sec < 0 || (u64)v.value.usec >= 1000000 ||
	    (u64)v.interval.usec >= 1000000)
		return -EINVAL;
	get_itimer(which, &left, &interval);
	err = set_itimer(which, timeval_ns(v.value.sec, v.value.usec),
			 timeval_ns(v.interval.sec, v.interval.usec));
	return err ? err : uold ? out_itimerval(uold, left, interval) : 0;
}

SYSCALL1(alarm, u32, seconds)
{
	u64 left, interval;

	get_itimer(ITIMER_REAL, &left, &interval);
	set_itimer(ITIMER_REAL, (u64)seconds * NS_PER_SEC, 0);
	/* Rounded to the nearest second, but never to 0 while something was left. */
	return left ? (s64)MAX((left + NS_PER_SEC / 2) / NS_PER_SEC, 1ull) : 0;
}
