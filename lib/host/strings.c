/* SPDX-License-Identifier: ISC */
/* Lists of strings. Memory that runs out ends the program: these are short-lived host commands. */
#include "lib/host/strings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/host/say.h"

static void *need(void *p)
{
	if (!p)
		exit(say_fail(EXIT_OURS, "out of memory"));
	return p;
}

static void take(struct strings *s, char *owned)
{
	if (s->n + 2 > s->cap) {
		s->cap = s->cap ? s->cap * 2 : 16;
		s->v = need(realloc(s->v, s->cap * sizeof(*s->v)));
	}
	s->v[s->n++] = owned;
	s->v[s->n] = NULL;
}

static char *format(const char *fmt, va_list ap)
{
	char *text = NULL;

	return need(vasprintf(&text, fmt, ap) < 0 ? NULL : text);
}

void strings_add(struct strings *s, const char *text)
{
	take(s, need(strdup(text)));
}

void strings_addf(struct strings *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	take(s, format(fmt, ap));
	va_end(ap);
}

bool strings_has(const struct strings *s, const char *text)
{
	for (size_t i = 0; i < s->n; i++)
		if (!strcmp(s->v[i], text))
			return true;
	return false;
}

void strings_add_once(struct strings *s, const char *text)
{
	if (!strings_has(s, text))
		strings_add(s, text);
}

/* Place of K in the list, or n. */
static size_t find_env(const struct strings *s, const char *key, size_t len)
{
	size_t i = 0;

	while (i < s->n && (strncmp(s->v[i], key, len) || s->v[i][len] != '='))
		i++;
	return i;
}

void strings_set_env(struct strings *s, const char *kv)
{
	size_t i = find_env(s, kv, strcspn(kv, "="));

	if (i == s->n) {
		strings_add(s, kv);
		return;
	}
	char *copy = need(strdup(kv));
	free(s->v[i]);
	s->v[i] = copy;
}

const char *strings_env(const struct strings *s, const char *key)
{
	size_t len = strlen(key), i = find_env(s, key, len);

	return i < s->n ? s->v[i] + len + 1 : NULL;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void strings_sort(struct strings *s)
{
	if (s->n)
		qsort(s->v, s->n, sizeof(*s->v), compare);
}

void strings_free(struct strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	memset(s, 0, sizeof(*s));
}

char *textf(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	char *text = format(fmt, ap);
	va_end(ap);
	return text;
}
