/* SPDX-License-Identifier: ISC */
/*
 * The load average: how many threads run, want to run or sleep where no signal reaches them, averaged over 1, 5 and
 * 15 minutes with exponential decay, one sample each 5 seconds, as Linux has it.
 *
 * There is no timer for it. The scheduler says when the number changes (load_note): samples that came due since it
 * did so last take what it said then. So an idle instance is not woken, and a lone thread that computes not disturbed.
 * Time that a restored instance spent as a snapshot is in no average.
 */
#include "guest/proc/internal.h"
#include "guest/restored.h"

#define SAMPLE_NS   (5 * NS_PER_SEC)
#define SAMPLES_MAX 4096u /* after so many nothing changes any more: more than five hours */

static const u32 decay[3] = {1884, 2014, 2037}; /* of LOAD_ONE: exp(-5/60), exp(-5/300), exp(-5/900) */
static u32 average[3];
static u32 noted;
static u64 due_ns;

static void sample(void)
{
	u64 active = (u64)noted * LOAD_ONE;

	for (unsigned i = 0; i < 3; i++) {
		u64 sum = (u64)average[i] * decay[i] + active * (LOAD_ONE - decay[i]);

		average[i] = (u32)((sum + (active >= average[i] ? LOAD_ONE - 1 : 0)) / LOAD_ONE);
	}
}

void load_note(u64 now_ns, u32 n)
{
	if (unlikely(now_ns >= due_ns)) {
		for (u32 i = 0; due_ns && due_ns <= now_ns && i < SAMPLES_MAX; i++, due_ns += SAMPLE_NS)
			sample();
		due_ns = due_ns > now_ns ? due_ns : now_ns + SAMPLE_NS;
	}
	noted = n;
}

void load_averages(u32 out[3])
{
	load_note(mono_ns(), noted);
	memcpy(out, average, sizeof(average));
}

void load_restored(void)
{
	due_ns = mono_ns() + SAMPLE_NS;
}
