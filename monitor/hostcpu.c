/* SPDX-License-Identifier: ISC */
/*
 * The memo "cpu": CPUID leaves, good for one boot of the host, one CPU model and one /dev/kvm. Leaf 1 is read each
 * time, since a virtual machine may be moved to another CPU while it runs.
 */
#include "monitor/hostcpu.h"

#include <cpuid.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "monitor/memo.h"

#define TABLE_MAX 6400 /* 160 entries */

/* For how long the rest is true. */
struct key {
	char boot_id[40];
	uint32_t leaf1[3], pad; /* eax, ecx, edx */
};

struct memo {
	struct key key;
	uint32_t table_n, entry_size, pad;
	struct memo_stamp kvm; /* /dev/kvm: another one after its module was loaded anew */
	struct hostcpu cpu;
	uint8_t table[TABLE_MAX];
};

static struct memo memo; /* zero: nothing is known */
static bool asked;
static int memo_dir;

/* x87, SSE, AVX, AVX-512: what every host lets a plain process use without asking. */
#define XCR0_WANTED 0xe7u

static void ask(struct hostcpu *h)
{
	uint32_t *f = h->features;
	uint32_t lo = 3, hi = 0, size = 576, a, s, c, d;

	__cpuid_count(1, 0, f[0], f[1], f[2], f[3]);
	__cpuid_count(7, 0, f[4], f[5], f[6], f[7]);
	f[6] &= ~0x18u; /* protection keys are not offered */
	if (f[2] & (1u << 27)) {
		__cpuid_count(0xd, 0, f[8], f[9], f[10], f[11]);
		__cpuid_count(0xd, 1, f[12], f[13], f[14], f[15]);
		__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	}
	h->xcr0 = lo & XCR0_WANTED;
	for (int i = 2; i < 8; i++) {
		if (!(h->xcr0 & (1u << i)))
			continue;
		__cpuid_count(0xd, i, a, s, c, d);
		if (a + s > size)
			size = a + s;
	}
	h->xstate_size = size;
}

static void read_boot_id(char id[40])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, id, 39);

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		memo_dir = 0; /* no way to tell how long it is true */
}

void hostcpu_memos(int dir)
{
	memo_dir = dir;
}

const struct hostcpu *hostcpu(void)
{
	struct key now = {0};
	uint32_t b;

	if (asked)
		return &memo.cpu;
	asked = true;
	if (memo_dir > 0)
		read_boot_id(now.boot_id);
	if (memo_dir > 0 && memo_read(memo_dir, "cpu", &memo, sizeof(memo))) {
		__cpuid(1, now.leaf1[0], b, now.leaf1[1], now.leaf1[2]);
		if (!memcmp(&now, &memo.key, sizeof(now)))
			return &memo.cpu;
	}
	memset(&memo, 0, sizeof(memo));
	ask(&memo.cpu);
	memcpy(memo.key.boot_id, now.boot_id, sizeof(now.boot_id));
	memo.key.leaf1[0] = memo.cpu.features[0];
	memo.key.leaf1[1] = memo.cpu.features[2];
	memo.key.leaf1[2] = memo.cpu.features[3];
	return &memo.cpu;
}

unsigned hostcpu_table(int kvm_fd, void *table, size_t entry_size, unsigned max)
{
	struct memo_stamp kvm = memo_stamp(kvm_fd, NULL);

	hostcpu();
	if (!memo.table_n || memo.table_n > max || memo.entry_size != entry_size ||
	    memo.table_n * entry_size > TABLE_MAX || !memo_same(&kvm, &memo.kvm))
		return 0;
	memcpy(table, memo.table, memo.table_n * entry_size);
	return memo.table_n;
}

void hostcpu_keep_table(int kvm_fd, const void *table, size_t entry_size, unsigned n)
{
	hostcpu();
	if (memo_dir <= 0 || n * entry_size > TABLE_MAX)
		return;
	memo.kvm = memo_stamp(kvm_fd, NULL);
	memo.table_n = n;
	memo.entry_size = (uint32_t)entry_size;
	memcpy(memo.table, table, n * entry_size);
	memo_write(memo_dir, "cpu", &memo, sizeof(memo));
}
