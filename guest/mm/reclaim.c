/* SPDX-License-Identifier: ISC */
/*
 * Giving memory back to the host, late enough that it is not asked for again
 * at once.
 *
 * What was freed stays backed and is reused first (frame.c). While there is a
 * noticeable amount of it, a timer runs: what lay unused during a whole period
 * is released; what a busy app frees and takes again within a period never is.
 * Before that, only an amount that is large for this instance is cut back at
 * once.
 */
#include "guest/mm/frame.h"
#include "guest/proc/waitq.h"

#define PERIOD_NS (NS_PER_SEC)
#define SLACK	  128u /* pages that stay: 512 KiB */

static struct ktimer timer;
static bool ready;

static void tick(struct ktimer *t)
{
	u64 unused = frames_dirty_low();

	if (unused > SLACK)
		frames_trim(frames_dirty() - (unused - SLACK));
	frames_dirty_low();
	if (frames_dirty() > 2 * SLACK)
		ktimer_arm(&timer, mono_ns() + PERIOD_NS);
}

void reclaim_hint(void)
{
	u64 dirty = frames_dirty(), most = MAX(frames_total() / 2, (u64)64 << (20 - PAGE_SHIFT));

	if (dirty <= 2 * SLACK)
		return;
	if (dirty > most)
		frames_trim(most / 2);
	if (!ready)
		ktimer_init(&timer, tick);
	ready = true;
	if (!timer.armed) {
		frames_dirty_low();
		ktimer_arm(&timer, mono_ns() + PERIOD_NS);
	}
}
