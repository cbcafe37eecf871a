/* SPDX-License-Identifier: ISC */
/*
 * Pointer chasing over 512 MiB: one cycle through all cache lines in random
 * order (Sattolo's shuffle), so that each access misses caches and TLB.
 * Prints nanoseconds an access.
 */
#include <sys/mman.h>

#include "bench.h"

#define SIZE (512ull << 20)
#define LINE 64

int main(int argc, char **argv)
{
	uint64_t n = SIZE / LINE, steps = bench_arg(argc, argv, 10000000), x = 88172645463325252ull;
	uint32_t *next = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (next == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
#define AT(i) next[(i) * (LINE / sizeof(*next))]
	for (uint64_t i = 0; i < n; i++)
		AT(i) = (uint32_t)i;
	for (uint64_t i = n - 1; i > 0; i--) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		uint64_t j = x % i;
		uint32_t tmp = AT(i);
		AT(i) = AT(j);
		AT(j) = tmp;
	}
	uint32_t at = 0;
	double t = bench_now_s();
	for (uint64_t i = 0; i < steps; i++)
		at = AT(at);
	BENCH_USE(at);
	printf("%.3f\n", (bench_now_s() - t) * 1e9 / (double)steps);
	return 0;
}
