/* SPDX-License-Identifier: ISC */
/* Price of reading the clock through the vDSO. Prints nanoseconds a call. */
#include "bench.h"

int main(int argc, char **argv)
{
	uint64_t n = bench_arg(argc, argv, 5000000);
	struct timespec ts;

	double t = bench_now_s();
	for (uint64_t i = 0; i < n; i++) {
		clock_gettime(CLOCK_MONOTONIC, &ts);
		BENCH_USE(ts.tv_nsec);
	}
	printf("%.3f\n", (bench_now_s() - t) * 1e9 / (double)n);
	return 0;
}
