/* SPDX-License-Identifier: ISC */
/*
 * What more workers bring: N workers do the same work at once, for a second; prints the rounds of all of them in a second.
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
static volatile unsigned long shared;

/* Of all workers, which may be processes. */
static struct board {
	pthread_barrier_t start;
	double end_s;
	struct {
		uint64_t rounds;
		double end_s;
	} __attribute__((aligned(128))) of[WORKERS_MAX];
} * board;

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
	compute(100000);
}

static const struct kind {
	const char *name;
	void (*round)(void);
} kinds[] =
	{
		{"threads", long_compute}, {"processes", long_compute}, {"faults", faults},
		{"calls", calls},	   {"malloc", allocate},	{"lock", locked},
},
  *kind;

static void *work(void *who)
{
	size_t i = (size_t)who;
	uint64_t n = 0;
	double now;

	pthread_barrier_wait(&board->start);
	do {
		for (int k = 0; k < 10; k++, n++)
			kind->round();
		now = bench_now_s();
	} while (now < board->end_s);
	board->of[i].rounds = n;
	board->of[i].end_s = now;
	return NULL;
}

static pthread_t start(size_t i)
{
	pthread_t t = 0;

	if (strcmp(kind->name, "processes")) {
		if (pthread_create(&t, NULL, work, (void *)i))
			abort();
	} else {
		pid_t p = fork();

		if (p < 0)
			abort();
		if (!p) {
			work((void *)i);
			_exit(0);
		}
	}
	return t;
}

static void make_board(unsigned n)
{
	pthread_barrierattr_t a;

	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		abort();
	pthread_barrierattr_init(&a);
	pthread_barrierattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&board->start, &a, n + 1);
}

int main(int argc, char **argv)
{
	int n = argc > 2 ? atoi(argv[2]) : 0;
	pthread_t t[WORKERS_MAX];
	double from, rate = 0;

	for (size_t i = 0; argc > 1 && i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(kinds[i].name, argv[1]))
			kind = &kinds[i];
	if (!kind || n < 1 || n > WORKERS_MAX)
		return 2;
	make_board((unsigned)n);
	for (int i = 0; i < n; i++)
		t[i] = start((size_t)i);
	from = bench_now_s(); /* this thread may run again only when the workers are done */
	board->end_s = from + 1;
	pthread_barrier_wait(&board->start);
	for (int i = 0; i < n; i++) {
		if (t[i])
			pthread_join(t[i], NULL);
		else
			wait(NULL);
	}
	for (int i = 0; i < n; i++)
		rate += (double)board->of[i].rounds / (board->of[i].end_s - from);
	printf("%f\n", rate);
	return 0;
}
