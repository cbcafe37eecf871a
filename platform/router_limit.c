/* SPDX-License-Identifier: ISC */
/*
 * Requests a second that an app may get (limits.requests_per_s): a bucket that fills at that rate and holds one second of it. The buckets are a
 * table of fixed size, found by the app's id; an app that displaces another one's gives that one a full bucket when it comes back, which
 * only ever errs towards letting requests through.
 */
#include "platform/router_inside.h"

#define BUCKETS 4096

static struct bucket {
	char id[37];
	uint64_t at; /* ns */
	uint64_t milli; /* requests, in thousandths */
} * buckets;

bool router_may(const struct app *a, unsigned per_s)
{
	if (!per_s)
		return true;
	if (!buckets)
		buckets = xcalloc(BUCKETS, sizeof(*buckets));
	unsigned h = 2166136261u;
	for (const char *p = a->id; *p; p++)
		h = (h ^ (uint8_t)*p) * 16777619u;
	struct bucket *b = &buckets[h % BUCKETS];
	uint64_t now = now_ns(), full = per_s * 1000ull;
	if (strcmp(b->id, a->id)) {
		memcpy(b->id, a->id, sizeof(b->id));
		b->milli = full;
	} else {
		uint64_t passed = now - b->at > 1000000000 ? 1000000000 : now - b->at;
		b->milli += passed * per_s / 1000000;
		if (b->milli > full)
			b->milli = full;
	}
	b->at = now;
	if (b->milli < 1000)
		return false;
	b->milli -= 1000;
	return true;
}
