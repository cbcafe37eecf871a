/* SPDX-License-Identifier: ISC */
/* A growing list of strings that it owns, NULL-terminated as argv is. Zeroed memory is an empty list. */
#ifndef COWBELL_LIB_HOST_STRINGS_H
#define COWBELL_LIB_HOST_STRINGS_H

#include <stdbool.h>
#include <stddef.h>

struct strings {
	char **v; /* v[n] is NULL; v itself is NULL while nothing was ever added */
	size_t n, cap;
};

/* Append a copy. Out of memory ends the program with one line: no caller could go on. */
void strings_add(struct strings *s, const char *text);
void strings_addf(struct strings *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Append unless it is there already. */
void strings_add_once(struct strings *s, const char *text);
/* "K=V": replaces an entry with the same K. */
void strings_set_env(struct strings *s, const char *kv);
/* The value of K in a list of "K=V", or NULL. */
const char *strings_env(const struct strings *s, const char *key);
bool strings_has(const struct strings *s, const char *text);
void strings_sort(struct strings *s);
void strings_free(struct strings *s);

/* asprintf(3) that never fails. malloc'ed. */
char *textf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
