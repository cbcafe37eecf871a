/* SPDX-License-Identifier: ISC */
/* What the benchmark programs share: a clock, and a way to keep the compiler from being clever. */
#ifndef COWBELL_BENCH_H
#define COWBELL_BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double bench_now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

#define BENCH_USE(x) __asm__ volatile("" : : "r"(x) : "memory")

/* First argument as a number, or a default. */
static inline uint64_t bench_arg(int argc, char **argv, uint64_t fallback)
{
	return argc > 1 ? strtoull(argv[1], NULL, 10) : fallback;
}

#endif
