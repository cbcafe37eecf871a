/* SPDX-License-Identifier: ISC */
/*
 * Pages below a delta: reading them in order, and changes of some words of a page (abi/snapshot.h, SNAP_E_PATCH).
 * Patches come from a file: hostile.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "monitor/snapfile.h"

#define PG    SNAP_PAGE
#define WORDS (PG / 8)

/* --- reading ------------------------------------------------------------------------ */

void snap_reader_start(struct snap_reader *r, const struct snap_flat *v, uint32_t n)
{
	r->v = v;
	r->n = n;
	r->at = 0;
	r->have = r->n_have = 0;
	r->ahead = SNAP_READ_PAGES;
	r->err = 0;
}

bool snap_reader_has(const struct snap_reader *r, uint64_t gpa)
{
	return gpa >= r->have && gpa - r->have < r->n_have * PG;
}

const uint8_t *snap_reader_page(struct snap_reader *r, uint64_t gpa)
{
	const struct snap_flat *f;
	uint64_t left, len;

	if (snap_reader_has(r, gpa))
		return r->buf + (gpa - r->have);
	while (r->at < r->n && r->v[r->at].gpa + (uint64_t)r->v[r->at].pages * PG <= gpa)
		r->at++;
	if (r->at == r->n || r->v[r->at].gpa > gpa || r->err)
		return NULL;
	f = &r->v[r->at];
	left = f->pages - (gpa - f->gpa) / PG;
	len = (left < r->ahead ? left : r->ahead) * PG;
	ssize_t got = pread(f->fd, r->buf, len, (off_t)(f->off + (gpa - f->gpa)));
	if (got != (ssize_t)len) {
		r->n_have = 0;
		r->err = got < 0 ? -errno : -EIO;
		return NULL;
	}
	r->have = gpa;
	r->n_have = len / PG;
	return r->buf;
}

/* --- patches ------------------------------------------------------------------------- */

static uint64_t word(const uint8_t *page, unsigned i)
{
	uint64_t v = 0;

	if (page)
		memcpy(&v, page + i * 8, 8);
	return v;
}

static uint32_t head_bytes(unsigned n)
{
	return (uint32_t)(sizeof(uint16_t) + n * sizeof(struct snap_change) + 7) & ~7u;
}

uint32_t snap_patch_make(const uint8_t *below, const uint8_t *now, uint8_t *out)
{
	struct snap_change c[WORDS / 2 + 1], *last = NULL;
	unsigned words = 0;
	uint16_t n = 0;

	for (unsigned i = 0; i < WORDS; i++) {
		if (word(below, i) == word(now, i))
			continue;
		if (last && last->first + last->count == i) {
			last->count++;
		} else {
			last = &c[n++];
			*last = (struct snap_change){(uint16_t)i, 1};
		}
		words++;
	}
	if (!out)
		return head_bytes(n) + words * 8;
	memset(out, 0, head_bytes(n));
	memcpy(out, &n, sizeof(n));
	memcpy(out + sizeof(n), c, n * sizeof(c[0]));
	out += head_bytes(n);
	for (unsigned k = 0; k < n; k++) {
		memcpy(out, now + c[k].first * 8, c[k].count * 8ul);
		out += c[k].count * 8ul;
	}
	return head_bytes(n) + words * 8;
}

uint32_t snap_patch_apply(uint8_t *page, const uint8_t *p, uint64_t size)
{
	uint64_t at;
	uint16_t n;

	if (size < 8)
		return 0;
	memcpy(&n, p, sizeof(n));
	at = head_bytes(n);
	if (n > WORDS || at > size)
		return 0;
	for (unsigned k = 0; k < n; k++) {
		struct snap_change c;

		memcpy(&c, p + sizeof(n) + k * sizeof(c), sizeof(c));
		if (c.first + c.count > (int)WORDS || c.count * 8ul > size - at)
			return 0;
		memcpy(page + c.first * 8, p + at, c.count * 8ul);
		at += c.count * 8ul;
	}
	return (uint32_t)at;
}
