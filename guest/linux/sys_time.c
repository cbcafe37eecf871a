/* SPDX-License-Identifier: ISC */
/* System calls: clocks and sleeping. Timers that send signals are proc/ptimer.c's. */
#include <linux/resource.h>
#include <linux/time.h>
#include <linux/times.h>
#include <linux/timex.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"

#define HZ_USER	  100
#define COARSE_NS 4000000 /* what Linux says of the coarse clocks; ours are finer */
#define TIMER_ABS 1

SYSCALL2(clock_gettime, s32, clock, void *, uts)
{
	u64 ns;
	int err = clock_read_id(clock, &ns);

	return err ? err : timespec_out(uts, ns);
}

SYSCALL2(clock_getres, s32, clock, void *, uts)
{
	bool coarse = clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE;
	u64 ns;
	int err = clock_read_id(clock, &ns);

	if (err || !uts)
		return err;
	return timespec_out(uts, coarse ? COARSE_NS : 1);
}

/* The guest's clocks are the monitor's: nobody in here may set them. */
SYSCALL2(clock_settime, s32, clock, const void *, uts)
{
	u64 ns;
	int err = timespec_in(uts, &ns);

	if (err)
		return err;
	return clock == CLOCK_REALTIME ? -EPERM : -EINVAL;
}

SYSCALL2(gettimeofday, void *, utv, void *, utz)
{
	struct {
		s64 sec, usec;
	} tv;
	struct {
		s32 west, dst;
	} tz = {0, 0};
	u64 ns = real_ns();

	tv.sec = (s64)(ns / NS_PER_SEC);
	tv.usec = (s64)(ns % NS_PER_SEC / 1000);
	if (utv && put_user(tv, utv))
		return -EFAULT;
	return utz && put_user(tz, utz) ? -EFAULT : 0;
}

SYSCALL2(settimeofday, const void *, utv, const void *, utz)
{
	return -EPERM;
}

SYSCALL1(time, s64 *, ut)
{
	s64 t = (s64)(real_ns() / NS_PER_SEC);

	return ut && put_user(t, ut) ? -EFAULT : t;
}

/* Reading is allowed; a call that would change something is not. */
static s64 adjtime_read(struct __kernel_timex *utx)
{
	struct __kernel_timex tx;
	u64 now = real_ns();

	if (get_user(tx, utx))
		return -EFAULT;
	if (tx.modes)
		return -EPERM;
	memset(&tx, 0, sizeof(tx));
	tx.maxerror = tx.esterror = 16000000;
	tx.status = STA_UNSYNC;
	tx.constant = 2;
	tx.precision = 1;
	tx.tolerance = 32768000;
	tx.tick = 10000;
	tx.time.tv_sec = (s64)(now / NS_PER_SEC);
	tx.time.tv_usec = (s64)(now % NS_PER_SEC / 1000);
	return put_user(tx, utx) ? -EFAULT : TIME_ERROR;
}

SYSCALL1(adjtimex, struct __kernel_timex *, utx)
{
	return adjtime_read(utx);
}

SYSCALL2(clock_adjtime, s32, clock, struct __kernel_timex *, utx)
{
	return clock == CLOCK_REALTIME ? adjtime_read(utx) : -EOPNOTSUPP;
}

/* --- sleeping ---------------------------------------------------------------------- */

static s64 sleep_restart(struct thread *t);

/* Until `deadline` (monotonic). A relative sleep that is interrupted says what is left and can go on. */
static s64 sleep_until(u64 deadline, bool relative, void *urem)
{
	struct thread *t = current;
	u64 now;
	int err;

	do {
		thread_prepare_sleep(true);
		err = thread_sleep(deadline);
		thread_finish_sleep();
	} while (!err);
	if (err == -ETIMEDOUT)
		return 0;
	if (!relative)
		return -ERESTARTNOHAND;
	now = mono_ns();
	if (now >= deadline)
		return 0;
	if (urem && timespec_out(urem, deadline - now))
		return -EFAULT;
	t->restart.fn = sleep_restart;
	t->restart.arg[0] = deadline;
	t->restart.arg[1] = (u64)urem;
	return -ERESTART_RESTARTBLOCK;
}

static s64 sleep_restart(struct thread *t)
{
	return sleep_until(t->restart.arg[0], true, (void *)t->restart.arg[1]);
}

SYSCALL2(nanosleep, const void *, ureq, void *, urem)
{
	u64 ns, now;
	int err = timespec_in(ureq, &ns);

	if (err)
		return err;
	now = mono_ns();
	return sleep_until(ns > NO_DEADLINE - 1 - now ? NO_DEADLINE - 1 : now + ns, true, urem);
}

/* CPU clocks: the time passes only while somebody computes, so look again on every wake-up. */
static s64 sleep_cpu_clock(s32 clock, bool absolute, u64 ns)
{
	u64 now;
	int err = clock_read_id(clock, &now);

	if (err || clock == CLOCK_THREAD_CPUTIME_ID)
		return -EINVAL;
	if (!absolute)
		ns += now;
	while (now < ns) {
		thread_prepare_sleep(true);
		err = thread_sleep(mono_ns() + (ns - now));
		thread_finish_sleep();
		if (err == -ERESTARTSYS)
			return -EINTR;
		clock_read_id(clock, &now);
	}
	return 0;
}

SYSCALL4(clock_nanosleep, s32, clock, int, flags, const void *, ureq, void *, urem)
{
	bool absolute = flags & TIMER_ABS;
	u64 ns, deadline;
	int err;

	if (clock_read_id(clock, &ns))
		return -EINVAL;
	err = timespec_in(ureq, &ns);
	if (err)
		return err;
	if (clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID)
		return sleep_cpu_clock(clock, absolute, ns);
	err = clock_deadline(clock, absolute, ns, &deadline);
	return err ? -EOPNOTSUPP : sleep_until(deadline, !absolute, urem);
}

/* --- CPU time ----------------------------------------------------------------------------- */

SYSCALL1(times, void *, utms)
{
	struct process *p = current->proc;
	struct {
		s64 utime, stime, cutime, cstime;
	} v = {0};

	v.utime = (s64)(process_cpu_ns(p) / (NS_PER_SEC / HZ_USER));
	v.cutime = (s64)(p->child.user_ns / (NS_PER_SEC / HZ_USER));
	v.cstime = (s64)(p->child.sys_ns / (NS_PER_SEC / HZ_USER));
	if (utms && put_user(v, utms))
		return -EFAULT;
	return (s64)(mono_ns() / (NS_PER_SEC / HZ_USER));
}

void usage_show(const struct usage *u, struct rusage *ru)
{
	memset(ru, 0, sizeof(*ru));
	ru->ru_utime.tv_sec = (s64)(u->user_ns / NS_PER_SEC);
	ru->ru_utime.tv_usec = (s64)(u->user_ns % NS_PER_SEC / 1000);
	ru->ru_stime.tv_sec = (s64)(u->sys_ns / NS_PER_SEC);
	ru->ru_stime.tv_usec = (s64)(u->sys_ns % NS_PER_SEC / 1000);
	ru->ru_maxrss = (s64)u->maxrss_kb;
	ru->ru_minflt = (s64)u->minflt;
	ru->ru_majflt = (s64)u->majflt;
	ru->ru_nvcsw = (s64)u->nvcsw;
	ru->ru_nivcsw = (s64)u->nivcsw;
}

/* All CPU time counts as user time: the two are not told apart on the way in and out. */
SYSCALL2(getrusage, int, who, struct rusage *, uru)
{
	struct thread *t = current;
	struct rusage ru;
	struct usage u;

	switch (who) {
	case RUSAGE_SELF:
	case RUSAGE_THREAD:
		process_usage(t->proc, &u);
		if (who == RUSAGE_SELF)
			break;
		u.user_ns = t->user_ns;
		u.sys_ns = t->sys_ns;
		u.nvcsw = t->nvcsw;
		u.nivcsw = t->nivcsw;
		break;
	case RUSAGE_CHILDREN:
		u = t->proc->child;
		break;
	default:
		return -EINVAL;
	}
	usage_show(&u, &ru);
	return put_user(ru, uru);
}
