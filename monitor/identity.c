/* SPDX-License-Identifier: ISC */
/* What must be the same for a snapshot of one start to do for another, on this host: this program, and what the CPU can do. */
#include <string.h>

#include "monitor/hostcpu.h"
#include "monitor/memo.h"
#include "monitor/monitor.h"

_Static_assert(sizeof(struct memo_stamp) + sizeof(struct hostcpu) <= MONITOR_IDENTITY_MAX, "room");

size_t monitor_identity(int memo_dir, uint8_t out[MONITOR_IDENTITY_MAX])
{
	struct memo_stamp exe = memo_stamp(-1, "/proc/self/exe");
	struct hostcpu cpu;

	hostcpu_memos(memo_dir);
	cpu = *hostcpu();
	/* the CPU's number and momentary state are among the rest; as in restore.c */
	for (int i = 0; i < 16; i++)
		if (i < 2 || i == 4 || (i >= 8 && i != 12))
			cpu.features[i] = 0;
	memcpy(out, &exe, sizeof(exe));
	memcpy(out + sizeof(exe), &cpu, sizeof(cpu));
	return sizeof(exe) + sizeof(cpu);
}
