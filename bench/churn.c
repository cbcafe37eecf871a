/* SPDX-License-Identifier: ISC */
/* Page churn: map 64 MiB, touch every page, unmap; as an allocator under load does. Prints nanoseconds a page. */
#include <sys/mman.h>

#include "bench.h"

#define SIZE (64ull << 20)

int main(int argc, char **argv)
{
	uint64_t rounds = bench_arg(argc, argv, 10);
	double t = 0;

	for (uint64_t r = 0; r <= rounds; r++) {
		if (r == 1)
			t = bench_now_s(); /* the first round warms up */
		char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED) {
			perror("mmap");
			return 1;
		}
		for (uint64_t i = 0; i < SIZE; i += 4096)
			p[i] = 1;
		munmap(p, SIZE);
	}
	printf("%.2f\n", (bench_now_s() - t) * 1e9 / (double)(rounds * (SIZE / 4096)));
	return 0;
}
