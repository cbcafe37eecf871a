/* SPDX-License-Identifier: ISC */
/*
 * Injected scheduling, for tests: `cowbell run --chaos SEED`.
 *
 * At some places a generator decides whether the current thread loses its CPU, another than the next one runs, or some
 * microseconds pass. The places are those where a wake-up could be lost: system calls, the choice of the next thread, and
 * between the steps of giving the lock up, falling asleep and entering (smp.c). Each CPU has a sequence of its own, which
 * the seed fixes; so a run replays as far as it depends on the library OS. When the host runs which CPU it does not fix.
 */
#include "guest/proc/chaos.h"

#include "abi/boot.h"
#include "guest/linux/table.h"
#include "guest/proc/smp.h"

#define DELAY_MAX_US 40

bool chaos_on;
static u64 state[BOOT_MAX_VCPUS];

void chaos_init(void)
{
	chaos_on = boot->chaos;
	dispatch_watched = chaos_on || boot->flags & BOOT_F_STRACE;
	for (u32 i = 0; i < BOOT_MAX_VCPUS; i++)
		state[i] = ((boot->chaos + i) * 0x9e3779b97f4a7c15ull) | 1;
}

/* xorshift64* */
static u32 next(u32 below)
{
	u64 *s = &state[this_cpu()->id];

	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return (u32)((*s * 0x2545f4914f6cdd1dull) >> 33) % below;
}

static void delay(void)
{
	u64 end = __builtin_ia32_rdtsc() +
		  ((const struct boot_time *)boot->time_va)->tsc_khz * next(DELAY_MAX_US) / 1000;

	while (__builtin_ia32_rdtsc() < end)
		__builtin_ia32_pause();
}

void chaos_syscall(void)
{
	u32 what = next(32);

	if (what < 6)
		this_cpu()->need_resched = true; /* on its way out, or in the next sleep */
	else if (what < 8)
		delay();
}

bool chaos_skip(void)
{
	return !next(4);
}

void chaos_window(void)
{
	if (!next(8))
		delay();
}
