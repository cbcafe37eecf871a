/* SPDX-License-Identifier: ISC */
/* Hash table of objects by a key that is within them: see table.c. Zeroed memory is an empty table. */
#ifndef COWBELL_PLATFORM_TABLE_H
#define COWBELL_PLATFORM_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_slot {
	uint32_t hash;
	void *item; /* NULL: free */
};
struct table {
	size_t key_at; /* offset of the key in the object */
	size_t key_size; /* bytes of a binary key; 0: a text in place; TABLE_POINTER: a char * to it */
	size_t n, cap;
	struct table_slot *slots;
};
#define TABLE_POINTER ((size_t)-1)

void *table_get(const struct table *t, const void *key, size_t n);
/* No object of the same key may be there. */
void table_put(struct table *t, void *item);
/* Before its key changes or it is freed. */
void table_remove(struct table *t, void *item);
/* Any order; *at begins at 0. NULL: no more. */
void *table_next(const struct table *t, size_t *at);

/* Texts that many objects have in common, counted: a process type, a command, "{}". NULL stays NULL. */
char *intern(const char *text);
void intern_free(char *text);

#endif
