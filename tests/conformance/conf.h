/* SPDX-License-Identifier: ISC */
/*
 * Conformance programs: each prints one line a check, "ok NAME" or "FAIL NAME: ...".
 * The same binary runs on Linux and under both monitors; tests/conformance/run.t
 * compares the outputs line by line, so a line must not contain anything that
 * differs from run to run (addresses, pids, times).
 */
#ifndef COWBELL_TESTS_CONF_H
#define COWBELL_TESTS_CONF_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int conf_failures;

static inline void conf_report(bool ok, const char *name, const char *file, int line)
{
	int e = errno;
	if (ok) {
		printf("ok %s\n", name);
	} else {
		printf("FAIL %s (%s:%d, errno %s)\n", name, file, line,
		       strerrorname_np(e) ? strerrorname_np(e) : "0");
		conf_failures++;
	}
	fflush(stdout);
	errno = 0;
}

/* One check: NAME is stable text, cond the truth. */
#define CHECK(name, cond) conf_report((cond), (name), __FILE__, __LINE__)
/* A call that must fail with one errno. */
#define CHECK_ERR(name, call, want)                                                                          \
	do {                                                                                                 \
		errno = 0;                                                                                   \
		long r_ = (long)(call);                                                                      \
		conf_report(r_ == -1 && errno == (want), (name), __FILE__, __LINE__);                        \
	} while (0)
/* Print a value that must be the same everywhere. */
#define SHOW(name, fmt, ...) (printf("value " name " " fmt "\n", __VA_ARGS__), fflush(stdout))

static inline int conf_done(void)
{
	printf("done\n");
	return conf_failures ? 1 : 0;
}

static inline uint64_t conf_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* A scratch directory of this test; the caller removes what it made. */
static inline const char *conf_dir(void)
{
	static char d[64];
	if (!d[0]) {
		snprintf(d, sizeof(d), "/tmp/cowbell-conf-XXXXXX");
		if (!mkdtemp(d)) {
			perror("mkdtemp");
			exit(2);
		}
		if (chdir(d))
			exit(2);
	}
	return d;
}

#endif
