/* SPDX-License-Identifier: ISC */
/*
 * What this CPU and this host's KVM offer. To ask costs half a millisecond where `cpuid` traps (inside another virtual
 * machine), so the answer is kept in a memo for as long as the host runs.
 */
#ifndef COWBELL_MONITOR_HOSTCPU_H
#define COWBELL_MONITOR_HOSTCPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hostcpu {
	uint32_t features[16]; /* as in boot_info */
	uint64_t xcr0, xstate_size;
};

/* Memos are in this directory; <= 0: there are none. Before anything is asked. */
void hostcpu_memos(int dir);
/* What the host's own user mode sees. */
const struct hostcpu *hostcpu(void);

/*
 * The CPUID table of guests (struct kvm_cpuid_entry2[]), as hostcpu_keep_table() got it earlier from the same KVM. How many
 * entries; 0: none is known.
 */
unsigned hostcpu_table(int kvm_fd, void *table, size_t entry_size, unsigned max);
void hostcpu_keep_table(int kvm_fd, const void *table, size_t entry_size, unsigned n);

#endif
