/* SPDX-License-Identifier: ISC */
/*
 * The little of libc that tests of guest code need. They are built with the
 * kernel's headers only, as the guest is, and libc's own would clash with those.
 */
#ifndef COWBELL_TESTS_LIBC_STDIO_H
#define COWBELL_TESTS_LIBC_STDIO_H

#include <stdarg.h>
#include <stddef.h>

typedef struct test_file FILE;
extern FILE *stdout, *stderr;
int printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int vprintf(const char *fmt, va_list ap);
int fprintf(FILE *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int vfprintf(FILE *f, const char *fmt, va_list ap);
int fflush(FILE *f);

#endif
