/* SPDX-License-Identifier: ISC */
/*
 * See hist.h. Values below 8 have a bucket each; then value v with its highest bit at b >= 3 is in bucket
 * (b - 2) * 8 + the next three bits.
 */
#include "platform/hist.h"

unsigned hist_bucket(uint64_t us)
{
	unsigned b, i;

	if (us < HIST_SUB)
		return (unsigned)us;
	b = 63 - (unsigned)__builtin_clzll(us);
	i = (b - 2) * HIST_SUB + ((us >> (b - 3)) & (HIST_SUB - 1));
	return i < HIST_BUCKETS ? i : HIST_BUCKETS - 1;
}

static uint64_t lowest(unsigned i)
{
	if (i < HIST_SUB)
		return i;
	return (uint64_t)(HIST_SUB + i % HIST_SUB) << (i / HIST_SUB - 1);
}

uint64_t hist_above(unsigned i)
{
	return lowest(i + 1);
}

void hist_add(struct hist *h, uint64_t us)
{
	uint32_t *n = &h->n[hist_bucket(us)];

	if (*n != UINT32_MAX)
		++*n;
}

void hist_merge(struct hist *to, const struct hist *from)
{
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		if (__builtin_add_overflow(to->n[i], from->n[i], &to->n[i]))
			to->n[i] = UINT32_MAX;
}

uint64_t hist_count(const struct hist *h)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		sum += h->n[i];
	return sum;
}

double hist_quantile(const struct hist *h, double q)
{
	uint64_t all = hist_count(h), before = 0, rank = (uint64_t)(q * (double)all + 0.999999);

	if (rank < 1)
		rank = 1;
	if (rank > all)
		rank = all;
	for (unsigned i = 0; i < HIST_BUCKETS && all; i++) {
		if (before + h->n[i] >= rank) {
			double part = ((double)(rank - before) - 0.5) / h->n[i];
			double low = (double)lowest(i), high = (double)hist_above(i);
			return low + (high - low) * part;
		}
		before += h->n[i];
	}
	return 0;
}
