/* SPDX-License-Identifier: ISC */
/*
 * What a new process costs. Prints microseconds, the median of some rounds.
 *
 *   forks fork MB N    fork, _exit in the child, wait, N times, by a process that has touched MB of memory;
 *                      prints two figures: that, and what storing to every page again takes the parent
 *   forks spawn N PROGRAM      posix_spawn of a program that does nothing, and wait
 */
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define ROUNDS_MAX 4096

extern char **environ;

static int smaller(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), smaller);
	return v[n / 2] * 1e6;
}

static int forks(size_t bytes, int n)
{
	static double whole[ROUNDS_MAX], again[ROUNDS_MAX];
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return 1;
	memset(p, 1, bytes);
	for (int i = 0; i < n; i++) {
		double start = bench_now_s();
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			return 1;
		whole[i] = bench_now_s() - start;
		start = bench_now_s();
		for (size_t at = 0; at < bytes; at += 4096)
			p[at]++;
		again[i] = bench_now_s() - start;
	}
	printf("%.1f %.1f\n", n ? median(whole, n) : 0, n ? median(again, n) : 0);
	return 0;
}

static int spawns(int n, char *program)
{
	static double each[ROUNDS_MAX];
	char *argv[] = {program, NULL};

	for (int i = 0; i < n; i++) {
		double start = bench_now_s();
		int st;
		pid_t pid;

		if (posix_spawn(&pid, program, NULL, NULL, argv, environ) || waitpid(pid, &st, 0) != pid ||
		    st)
			return 1;
		each[i] = bench_now_s() - start;
	}
	printf("%.1f\n", median(each, n));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "fork"))
		return forks((size_t)atoi(argv[2]) << 20,
			     atoi(argv[3]) < ROUNDS_MAX ? atoi(argv[3]) : ROUNDS_MAX);
	if (argc == 4 && !strcmp(argv[1], "spawn"))
		return spawns(atoi(argv[2]) < ROUNDS_MAX ? atoi(argv[2]) : ROUNDS_MAX, argv[3]);
	fprintf(stderr, "usage: forks fork MB N | forks spawn N PROGRAM\n");
	return 2;
}
