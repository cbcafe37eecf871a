/* SPDX-License-Identifier: ISC */
/*
 * Hash tables for what the model looks up at each request: open addressing, linear probing, at most 3/4 full. Removal moves what
 * follows, so there are no tombstones and a table does not degrade.
 *
 * Keys (names of apps, host names) are chosen by tenants, so the hash is keyed with random bytes of this process: nobody can
 * make a long probe on purpose. It mixes eight bytes at a time by a 64 x 64 -> 128 bit multiplication.
 */
#include "platform/table.h"

#include <stdlib.h>
#include <string.h>

#include "platform/platform.h"

static uint64_t secret[2];

static uint64_t mix(uint64_t a, uint64_t b)
{
	__uint128_t p = (__uint128_t)a * b;

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint32_t hash_of(const void *key, size_t n)
{
	const uint8_t *p = key;
	uint64_t h, w;

	if (!secret[0])
		random_bytes(secret, sizeof(secret));
	secret[1] |= 1;
	for (h = secret[0] ^ n; n; p += n < 8 ? n : 8, n -= n < 8 ? n : 8) {
		w = 0;
		memcpy(&w, p, n < 8 ? n : 8);
		h = mix(h ^ w, secret[1] ^ 0x9e3779b97f4a7c15u);
	}
	h = mix(h ^ secret[1], secret[0] | 1);
	return (uint32_t)(h ^ (h >> 32));
}

static const void *key_of(const struct table *t, const void *item, size_t *n)
{
	const char *at = (const char *)item + t->key_at;

	if (t->key_size == TABLE_POINTER)
		at = *(const char *const *)at;
	*n = t->key_size && t->key_size != TABLE_POINTER ? t->key_size : strlen(at);
	return at;
}

static bool same(const struct table *t, const struct table_slot *s, uint32_t hash, const void *key, size_t n)
{
	size_t m;

	if (s->hash != hash)
		return false;
	const void *k = key_of(t, s->item, &m);
	return m == n && !memcmp(k, key, n);
}

void *table_get(const struct table *t, const void *key, size_t n)
{
	if (!t->cap)
		return NULL;
	uint32_t hash = hash_of(key, n);
	for (size_t i = hash & (t->cap - 1); t->slots[i].item; i = (i + 1) & (t->cap - 1))
		if (same(t, &t->slots[i], hash, key, n))
			return t->slots[i].item;
	return NULL;
}

static void place(struct table *t, struct table_slot s)
{
	size_t i = s.hash & (t->cap - 1);

	while (t->slots[i].item)
		i = (i + 1) & (t->cap - 1);
	t->slots[i] = s;
}

static void grow(struct table *t)
{
	struct table_slot *old = t->slots;
	size_t n = t->cap;

	t->cap = n ? n * 2 : 16;
	t->slots = xcalloc(t->cap, sizeof(*t->slots));
	for (size_t i = 0; i < n; i++)
		if (old[i].item)
			place(t, old[i]);
	free(old);
}

void table_put(struct table *t, void *item)
{
	size_t n;

	if ((t->n + 1) * 4 > t->cap * 3)
		grow(t);
	const void *key = key_of(t, item, &n);
	place(t, (struct table_slot){hash_of(key, n), item});
	t->n++;
}

void table_remove(struct table *t, void *item)
{
	size_t n, mask = t->cap - 1;
	const void *key = key_of(t, item, &n);
	size_t hole = hash_of(key, n) & mask;

	if (!t->cap)
		return;
	while (t->slots[hole].item != item) {
		if (!t->slots[hole].item)
			return;
		hole = (hole + 1) & mask;
	}
	t->n--;
	/* Whoever follows without a gap and may sit in the hole moves there; then his place is the hole. */
	for (size_t i = (hole + 1) & mask; t->slots[i].item; i = (i + 1) & mask) {
		size_t home = t->slots[i].hash & mask;
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		t->slots[hole] = t->slots[i];
		hole = i;
	}
	t->slots[hole] = (struct table_slot){0, NULL};
}

void *table_next(const struct table *t, size_t *at)
{
	while (*at < t->cap) {
		void *item = t->slots[(*at)++].item;
		if (item)
			return item;
	}
	return NULL;
}

/* --- texts in common ------------------------------------------------------------------------------------ */

struct shared_text {
	unsigned refs;
	char text[];
};
static struct table texts = {.key_at = offsetof(struct shared_text, text)};

char *intern(const char *text)
{
	if (!text)
		return NULL;
	size_t n = strlen(text);
	struct shared_text *s = table_get(&texts, text, n);
	if (!s) {
		s = xcalloc(1, sizeof(*s) + n + 1);
		memcpy(s->text, text, n + 1);
		table_put(&texts, s);
	}
	s->refs++;
	return s->text;
}

void intern_free(char *text)
{
	if (!text)
		return;
	struct shared_text *s = (struct shared_text *)(text - offsetof(struct shared_text, text));
	if (--s->refs)
		return;
	table_remove(&texts, s);
	free(s);
}
