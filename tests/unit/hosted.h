/* SPDX-License-Identifier: ISC */
/*
 * Include first in tests and fakes of guest code: the guest runs as an ordinary
 * program here, so there is no per-CPU block behind %gs: it and `current` are variables.
 */
#ifndef COWBELL_TESTS_HOSTED_H
#define COWBELL_TESTS_HOSTED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if __STDC_HOSTED__
#include <time.h>
#include <unistd.h>
#else
struct thread;
extern struct thread *test_current;
#define current	   test_current
struct cpu;
extern struct cpu test_cpu;
#define this_cpu() (&test_cpu)
#endif

/* A test replays with the seed that it printed: COWBELL_TEST_SEED=n. */
static inline uint64_t test_seed(void)
{
	const char *s = getenv("COWBELL_TEST_SEED");

	return s ? strtoull(s, NULL, 0) : ((uint64_t)time(NULL) << 20 ^ (uint64_t)getpid()) | 1;
}

/* xorshift64*: the same sequence everywhere. */
static inline uint64_t test_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

#endif
