/* SPDX-License-Identifier: ISC */
/*
 * Log-linear histograms of durations: eight buckets for each doubling of microseconds, so a quantile is right within some percent
 * from 1 us to two minutes; what is longer counts as that.
 */
#ifndef COWBELL_PLATFORM_HIST_H
#define COWBELL_PLATFORM_HIST_H

#include <stddef.h>
#include <stdint.h>

#define HIST_SUB     8
#define HIST_BUCKETS 200 /* 8 * (27 - 2) */

struct hist {
	uint32_t n[HIST_BUCKETS];
};

unsigned hist_bucket(uint64_t us);
/* The least value, in microseconds, that is above bucket i. */
uint64_t hist_above(unsigned i);
void hist_add(struct hist *h, uint64_t us);
void hist_merge(struct hist *to, const struct hist *from);
uint64_t hist_count(const struct hist *h);
/* Microseconds at quantile q (0..1), between its bucket's ends in proportion; 0 if it is empty. */
double hist_quantile(const struct hist *h, double q);

#endif
