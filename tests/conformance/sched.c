/* SPDX-License-Identifier: ISC */
/*
 * Who gets the CPU, when there is one for two threads: who was woken and has had less, at once; who has just been
 * made or has slept for long, no more than its share; and who is woken again and again does not take it each time. The
 * machine may be busy: most rounds must show it, not each.
 */
#include "conf.h"
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define MS     1000000ull
#define ROUNDS 40

static atomic_int word, seen, stop;

static void spin_ns(uint64_t ns)
{
	uint64_t end = conf_now_ns() + ns;
	while (conf_now_ns() < end)
		;
}

static void *sleeper(void *arg)
{
	while (!stop) {
		syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
		if (atomic_exchange(&word, 0))
			seen++;
	}
	return NULL;
}

/* The waker takes its word back soon: who is woken sees it only if it runs at once. */
static int woken_at_once(void)
{
	pthread_t t;
	int n = 0;

	pthread_create(&t, NULL, sleeper, NULL);
	usleep(20000);
	for (int i = 0; i < ROUNDS; i++) {
		int before = seen;
		spin_ns(4 * MS);
		word = 1;
		syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		spin_ns(MS / 20);
		word = 0;
		n += seen != before;
	}
	stop = word = 1;
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	pthread_join(t, NULL);
	return n;
}

static void *compute(void *arg)
{
	spin_ns(*(uint64_t *)arg);
	return NULL;
}

/* How long another thread keeps the CPU for itself, after this one has computed alone for a while. */
static uint64_t longest_gap(void)
{
	uint64_t long_time = 300 * MS, last, now, gap = 0, end;
	pthread_t t;

	spin_ns(600 * MS);
	pthread_create(&t, NULL, compute, &long_time);
	end = conf_now_ns() + long_time;
	for (last = conf_now_ns(); last < end; last = now) {
		now = conf_now_ns();
		gap = now - last > gap ? now - last : gap;
	}
	pthread_join(t, NULL);
	return gap;
}

/* How often the reader of many small pieces waited for more. */
static long waits_of_reader(int pieces)
{
	static char buf[4096];
	struct rusage ru;
	int p[2], s;
	pid_t pid;

	if (pipe(p) || (pid = fork()) < 0)
		return -1;
	if (!pid) {
		close(p[1]);
		while (read(p[0], buf, sizeof(buf)) > 0)
			;
		_exit(0);
	}
	close(p[0]);
	for (int i = 0; i < pieces; i++)
		if (write(p[1], buf, 100) != 100)
			return -1;
	close(p[1]);
	wait4(pid, &s, 0, &ru);
	return ru.ru_nvcsw;
}

int main(void)
{
	cpu_set_t one;
	int n;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	CHECK("one_cpu", sched_setaffinity(0, sizeof(one), &one) == 0);
	n = woken_at_once();
	CHECK("woken_at_once", n > ROUNDS / 2);
	if (n <= ROUNDS / 2)
		printf("%d of %d ran at once\n", n, ROUNDS);
	for (int i = 0; i < 5 && (n = longest_gap() / MS) > 100; i++)
		;
	CHECK("new_thread_takes_its_share", n <= 100);
	if (n > 100)
		printf("another had the CPU for %d ms\n", n);
	n = waits_of_reader(300000);
	CHECK("small_pieces_gather", n >= 0 && n < 60000);
	if (n >= 60000)
		printf("%d waits\n", n);
	return conf_done();
}
