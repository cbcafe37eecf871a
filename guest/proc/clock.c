/* SPDX-License-Identifier: ISC */
/*
 * Clocks, from the time-stamp counter and the parameters in struct boot_time,
 * which the monitor may change at any moment (a restore, a correction of
 * realtime): they are read under its sequence count.
 *
 * The guest cannot set a clock. CLOCK_BOOTTIME is CLOCK_MONOTONIC, which goes
 * on over a suspension; CLOCK_MONOTONIC_RAW is not corrected separately.
 */
#include <linux/time.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/proc/smp.h"

static inline u64 rdtsc(void)
{
	u32 lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi)::"memory");
	return (u64)hi << 32 | lo;
}

/* Both clocks at one moment; either pointer may be NULL. */
static void clock_read(u64 *mono, u64 *real)
{
	const volatile struct boot_time *bt = (void *)boot->time_va;
	u64 ns;
	s64 off;
	u32 seq;

	do {
		while ((seq = bt->seq) & 1)
			__builtin_ia32_pause();
		__asm__ volatile("" ::: "memory");
		s64 delta = (s64)(rdtsc() - bt->base_tsc);

		if (unlikely(delta < 0))
			delta = 0; /* just corrected on another host CPU */
		ns = bt->base_ns + (u64)(((unsigned __int128)(u64)delta * bt->mult) >> BOOT_TIME_SHIFT);
		off = bt->real_off_ns;
		__asm__ volatile("" ::: "memory");
	} while (bt->seq != seq);
	if (mono)
		*mono = ns;
	if (real)
		*real = ns + (u64)off;
}

u64 mono_ns(void)
{
	u64 ns;

	clock_read(&ns, NULL);
	return ns;
}

u64 real_ns(void)
{
	u64 ns;

	clock_read(NULL, &ns);
	return ns;
}

u64 real_to_mono(u64 real)
{
	u64 mono, now;

	clock_read(&mono, &now);
	if (real >= now)
		return real - now > NO_DEADLINE - mono ? NO_DEADLINE : mono + (real - now);
	return now - real > mono ? 0 : mono - (now - real);
}

/* A CPU clock names a process or a thread: Linux packs it into the id. */
static int cpu_clock_ns(s32 id, u64 *ns)
{
	s32 pid = ~(id >> 3);
	struct thread *t;
	struct process *p;

	if ((id & 3) > 2)
		return -EINVAL;
	if (id & 4) {
		t = pid ? thread_by_tid(pid) : current;
		if (!t || t->proc != current->proc)
			return -EINVAL;
		*ns = thread_cpu_ns(t);
		return 0;
	}
	p = pid ? process_by_pid(pid) : current->proc;
	if (!p)
		return -EINVAL;
	*ns = process_cpu_ns(p);
	return 0;
}

int clock_read_id(s32 id, u64 *ns)
{
	switch (id) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_REALTIME_ALARM:
	case CLOCK_TAI:
		*ns = real_ns();
		return 0;
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		*ns = mono_ns();
		return 0;
	default:
		break;
	}
	if (without_lock())
		return -ENEEDLOCK;
	switch (id) {
	case CLOCK_PROCESS_CPUTIME_ID:
		*ns = process_cpu_ns(current->proc);
		return 0;
	case CLOCK_THREAD_CPUTIME_ID:
		*ns = thread_cpu_ns(current);
		return 0;
	default:
		return id < 0 ? cpu_clock_ns(id, ns) : -EINVAL;
	}
}

int clock_deadline(s32 id, bool absolute, u64 t, u64 *deadline)
{
	u64 now;

	switch (id) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_ALARM:
	case CLOCK_TAI:
		if (absolute) {
			*deadline = real_to_mono(t);
			return 0;
		}
		break;
	case CLOCK_MONOTONIC:
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		if (absolute) {
			*deadline = t;
			return 0;
		}
		break;
	default:
		return -EINVAL;
	}
	now = mono_ns();
	*deadline = t > NO_DEADLINE - 1 - now ? NO_DEADLINE : now + t;
	return 0;
}

int timespec_in(const void *user, u64 *ns)
{
	struct __kernel_timespec ts;

	if (get_user(ts, user))
		return -EFAULT;
	if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= (s64)NS_PER_SEC)
		return -EINVAL;
	/* 292 years are for ever. */
	*ns = (u64)ts.tv_sec >= (u64)INT64_MAX / NS_PER_SEC ? (u64)INT64_MAX
							    : (u64)ts.tv_sec * NS_PER_SEC + (u64)ts.tv_nsec;
	return 0;
}

int timespec_out(void *user, u64 ns)
{
	struct __kernel_timespec ts = {.tv_sec = (s64)(ns / NS_PER_SEC), .tv_nsec = (s64)(ns % NS_PER_SEC)};

	return put_user(ts, user);
}
