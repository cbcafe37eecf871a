/* SPDX-License-Identifier: ISC */
/*
 * Time-outs of connections: many, set anew with each request, and seldom reached. A wheel of slots: to set one later than it was costs two
 * stores. Resolution is WHEEL_MS; never early, at most that much late.
 */
#ifndef COWBELL_PLATFORM_WHEEL_H
#define COWBELL_PLATFORM_WHEEL_H

#include "lib/list.h"
#include "platform/platform.h"

#define WHEEL_MS 32

struct wheel_timer {
	struct list node;
	uint64_t deadline,
		look; /* in ms of the loop's clock; look: when its slot is looked at, <= deadline */
	void (*fire)(struct wheel_timer *t); /* NULL: not in the wheel */
};

void wheel_set(struct wheel_timer *t, uint64_t ms_from_now, void (*fire)(struct wheel_timer *t));
void wheel_clear(struct wheel_timer *t);

/* What is to be done before the loop sleeps: once, however often it is asked for. */
struct soon {
	struct list node;
	void (*run)(struct soon *s); /* NULL: nothing is asked for */
};
void soon_add(struct soon *s, void (*run)(struct soon *s));
void soon_drop(struct soon *s);

#endif
