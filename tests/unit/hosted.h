/* SPDX-License-Identifier: ISC */
/*
 * Include first in tests and fakes of guest code: the guest runs as an ordinary
 * program here, so there is no per-CPU block behind %gs and `current` is a variable.
 */
#ifndef COWBELL_TESTS_HOSTED_H
#define COWBELL_TESTS_HOSTED_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A test replays with the seed that it printed: COWBELL_TEST_SEED=n. */
static inline uint64_t test_seed(void)
{
	const char *s = getenv("COWBELL_TEST_SEED");
	struct timespec ts;

	if (s)
		return strtoull(s, NULL, 0);
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_nsec ^ ((uint64_t)ts.tv_sec << 20);
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
