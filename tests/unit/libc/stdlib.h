/* SPDX-License-Identifier: ISC */
#ifndef COWBELL_TESTS_LIBC_STDLIB_H
#define COWBELL_TESTS_LIBC_STDLIB_H

#include <stddef.h>

void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
void free(void *p);
_Noreturn void abort(void);
_Noreturn void exit(int status);
char *getenv(const char *name);
unsigned long long strtoull(const char *s, char **end, int base);
int abs(int n);
long time(long *t);
int getpid(void);

#endif
