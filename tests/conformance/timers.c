/* SPDX-License-Identifier: ISC */
/* clocks, sleeps, timerfd, POSIX timers, interval timers. */
#include "conf.h"
#include <poll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/times.h>

static volatile sig_atomic_t hits;
static void h(int s, siginfo_t *si, void *u)
{
	(void)s, (void)u;
	hits += si->si_code == SI_TIMER && si->si_value.sival_int == 99;
}
static bool about(uint64_t ns, uint64_t want_ms)
{
	return ns >= want_ms * 1000000ull && ns < (want_ms + 200) * 1000000ull;
}

int main(void)
{
	struct timespec a, b, r;
	CHECK("realtime", clock_gettime(CLOCK_REALTIME, &a) == 0 && a.tv_sec > 1600000000);
	CHECK("time_agrees", llabs((long long)time(NULL) - a.tv_sec) <= 1);
	clockid_t ids[] = {CLOCK_MONOTONIC,	   CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
			   CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME,	CLOCK_PROCESS_CPUTIME_ID,
			   CLOCK_THREAD_CPUTIME_ID};
	for (unsigned i = 0; i < sizeof(ids) / sizeof(*ids); i++)
		CHECK("clock", clock_gettime(ids[i], &b) == 0 && clock_getres(ids[i], &r) == 0);
	CHECK_ERR("clock_bad", clock_gettime(77, &a), EINVAL);
	bool mono = true;
	uint64_t last = conf_now_ns();
	for (int i = 0; i < 200000; i++) {
		uint64_t n = conf_now_ns();
		mono &= n >= last;
		last = n;
	}
	CHECK("monotonic", mono);
	/* the vDSO and the system call tell the same time */
	struct timespec s;
	clock_gettime(CLOCK_MONOTONIC, &a);
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &s);
	clock_gettime(CLOCK_MONOTONIC, &b);
	uint64_t na = (uint64_t)a.tv_sec * 1000000000u + (uint64_t)a.tv_nsec,
		 ns = (uint64_t)s.tv_sec * 1000000000u + (uint64_t)s.tv_nsec,
		 nb = (uint64_t)b.tv_sec * 1000000000u + (uint64_t)b.tv_nsec;
	CHECK("vdso_agrees", na <= ns && ns <= nb);
	uint64_t t0 = conf_now_ns();
	a = (struct timespec){0, 20000000};
	CHECK("nanosleep", nanosleep(&a, NULL) == 0 && about(conf_now_ns() - t0, 20));
	clock_gettime(CLOCK_MONOTONIC, &a);
	a.tv_nsec += 30000000;
	if (a.tv_nsec >= 1000000000)
		a.tv_sec++, a.tv_nsec -= 1000000000;
	t0 = conf_now_ns();
	CHECK("clock_nanosleep_abs", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &a, NULL) == 0 &&
					     conf_now_ns() - t0 >= 29000000);
	a = (struct timespec){0, 2000000000};
	CHECK_ERR("nanosleep_inval", nanosleep(&a, NULL), EINVAL);
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	uint64_t n;
	CHECK_ERR("timerfd_unarmed", read(fd, &n, 8), EAGAIN);
	struct itimerspec it = {{0, 10000000}, {0, 10000000}}, cur;
	CHECK("timerfd_settime", timerfd_settime(fd, 0, &it, NULL) == 0);
	struct pollfd pf = {fd, POLLIN, 0};
	CHECK("timerfd_poll", poll(&pf, 1, 1000) == 1 && pf.revents == POLLIN);
	CHECK("timerfd_read", read(fd, &n, 8) == 8 && n >= 1);
	a = (struct timespec){0, 55000000};
	nanosleep(&a, NULL);
	CHECK("timerfd_expirations", read(fd, &n, 8) == 8 && n >= 4);
	CHECK("timerfd_gettime", timerfd_gettime(fd, &cur) == 0 && cur.it_interval.tv_nsec == 10000000 &&
					 cur.it_value.tv_nsec <= 10000000);
	CHECK_ERR("timerfd_small_read", read(fd, &n, 4), EINVAL);
	clock_gettime(CLOCK_REALTIME, &a);
	int rfd = timerfd_create(CLOCK_REALTIME, 0);
	it = (struct itimerspec){{0, 0}, {a.tv_sec, a.tv_nsec}};
	CHECK("timerfd_abs_past",
	      timerfd_settime(rfd, TFD_TIMER_ABSTIME, &it, NULL) == 0 && read(rfd, &n, 8) == 8 && n == 1);
	struct sigaction sa = {.sa_sigaction = h, .sa_flags = SA_SIGINFO};
	sigaction(SIGRTMIN, &sa, NULL);
	struct sigevent ev = {
		.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 99};
	timer_t tm;
	CHECK("timer_create", timer_create(CLOCK_MONOTONIC, &ev, &tm) == 0);
	it = (struct itimerspec){{0, 5000000}, {0, 5000000}};
	CHECK("timer_settime", timer_settime(tm, 0, &it, NULL) == 0);
	t0 = conf_now_ns();
	while (hits < 3 && conf_now_ns() - t0 < 2000000000ull)
		pause();
	CHECK("timer_hits", hits >= 3);
	CHECK("timer_delete", timer_delete(tm) == 0);
	struct tms tms;
	CHECK("times", times(&tms) != (clock_t)-1);
	/* CPU time, not wall time: other programs may share the CPU */
	struct rusage ru;
	t0 = conf_now_ns();
	do
		getrusage(RUSAGE_SELF, &ru);
	while (ru.ru_utime.tv_sec * 1000000 + ru.ru_utime.tv_usec + ru.ru_stime.tv_sec * 1000000 +
			       ru.ru_stime.tv_usec <
		       40000 &&
	       conf_now_ns() - t0 < 5000000000ull);
	CHECK("getrusage", getrusage(RUSAGE_SELF, &ru) == 0 &&
				   ru.ru_utime.tv_sec * 1000000 + ru.ru_utime.tv_usec +
						   ru.ru_stime.tv_sec * 1000000 + ru.ru_stime.tv_usec >=
					   40000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	CHECK("cputime", a.tv_sec * 1000 + a.tv_nsec / 1000000 >= 30);
	t0 = conf_now_ns();
	CHECK("poll_timeout", poll(NULL, 0, 25) == 0 && about(conf_now_ns() - t0, 25));
	return conf_done();
}
