/* SPDX-License-Identifier: ISC */
/*
 * Test Anything Protocol, just enough of it. A program calls plan(n) first, or
 * done() last with as many results as it gave; ok() and is() print one result.
 * diag() explains, on standard error's behalf, as a comment.
 */
#ifndef COWBELL_TESTS_TAP_H
#define COWBELL_TESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int tap_count, tap_failed, tap_planned;

static inline void plan(int n)
{
	tap_planned = n;
	printf("1..%d\n", n);
}

__attribute__((format(printf, 1, 2))) static inline void diag(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("# ");
	vprintf(fmt, ap);
	printf("\n");
	fflush(stdout);
	va_end(ap);
}

__attribute__((format(printf, 2, 3))) static inline bool ok(bool good, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("%sok %d - ", good ? "" : "not ", ++tap_count);
	vprintf(fmt, ap);
	printf("\n");
	fflush(stdout);
	va_end(ap);
	tap_failed += !good;
	return good;
}

/* Two integers (or pointers) are the same. */
#define is(got, want, name)                                                                                  \
	do {                                                                                                 \
		long long g_ = (long long)(got), w_ = (long long)(want);                                     \
		if (!ok(g_ == w_, "%s", name))                                                               \
			diag("%s:%d: got %lld, want %lld", __FILE__, __LINE__, g_, w_);                      \
	} while (0)

__attribute__((unused)) static inline void skip_all(const char *why)
{
	printf("1..0 # SKIP %s\n", why);
	exit(0);
}

static inline int done(void)
{
	if (!tap_planned)
		printf("1..%d\n", tap_count);
	else if (tap_planned != tap_count)
		tap_failed++;
	return tap_failed ? 1 : 0;
}

#endif
