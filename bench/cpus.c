/* SPDX-License-Identifier: ISC */
/*
 * What more workers bring: N workers do the same work at once; prints the rounds of all of them in a second.
 *
 *   cpus KIND N
 *
 * Kinds: threads and processes compute; the rest are threads: faults maps, touches and unmaps 1 MiB of its own; calls makes system
 * calls that change nothing; malloc allocates and frees; lock computes and now and then takes a mutex that all share.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define WORKERS_MAX 16

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t *barrier; /* shared with child processes */
static volatile unsigned long shared;
static int rounds;

static void compute(int n)
{
	volatile unsigned long x = 1;

	for (int i = 0; i < n; i++)
		x = x * 6364136223846793005ul + 1;
}

static void faults(void)
{
	size_t size = 1 << 20;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	madvise(p, size, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < size; i += 4096)
		p[i] = 1;
	munmap(p, size);
}

static void allocate(void)
{
	void *p[64];

	for (size_t i = 0; i < 64; i++)
		p[i] = memset(malloc(16 + i * 24), 1, 16);
	for (int i = 0; i < 64; i++)
		free(p[i]);
}

static void locked(void)
{
	compute(2000);
	pthread_mutex_lock(&mutex);
	shared++;
	pthread_mutex_unlock(&mutex);
}

static void calls(void)
{
	for (int i = 0; i < 100; i++)
		syscall(SYS_getppid);
}

static void long_compute(void)
{
	compute(1000000);
}

static const struct kind {
	const char *name;
	void (*round)(void);
	int rounds;
} kinds[] =
	{
		{"threads", long_compute, 400}, {"processes", long_compute, 400}, {"faults", faults, 400},
		{"calls", calls, 4000},		{"malloc", allocate, 100000},	  {"lock", locked, 100000},
},
  *kind;

static void *work(void *unused)
{
	(void)unused;
	pthread_barrier_wait(barrier);
	for (int i = 0; i < rounds; i++)
		kind->round();
	return NULL;
}

static void start(pthread_t *t)
{
	if (strcmp(kind->name, "processes")) {
		if (pthread_create(t, NULL, work, NULL))
			abort();
	} else {
		pid_t p = fork();

		if (p < 0)
			abort();
		if (!p) {
			work(NULL);
			_exit(0);
		}
	}
}

int main(int argc, char **argv)
{
	int n = argc > 2 ? atoi(argv[2]) : 0;
	pthread_barrierattr_t a;
	pthread_t t[WORKERS_MAX];
	double from;

	for (size_t i = 0; argc > 1 && i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(kinds[i].name, argv[1]))
			kind = &kinds[i];
	if (!kind || n < 1 || n > WORKERS_MAX)
		return 2;
	rounds = kind->rounds;
	barrier = mmap(NULL, sizeof(*barrier), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_barrierattr_init(&a);
	pthread_barrierattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(barrier, &a, (unsigned)n + 1);
	for (int i = 0; i < n; i++)
		start(&t[i]);
	pthread_barrier_wait(barrier);
	from = bench_now_s();
	for (int i = 0; i < n; i++)
		if (strcmp(kind->name, "processes"))
			pthread_join(t[i], NULL);
		else
			wait(NULL);
	printf("%f\n", n * rounds / (bench_now_s() - from));
	return 0;
}
