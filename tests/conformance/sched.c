/* SPDX-License-Identifier: ISC */
/*
 * Who gets the CPU, when there is one for two threads: who was woken and has had less, at once; who has just been
 * made or has slept for long, no more than its share. The machine may be busy: most rounds must show it, not each.
 */
#include "conf.h"
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>

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
	return conf_done();
}
