/* SPDX-License-Identifier: ISC */
/* Price of a system call that does nothing: getppid() through libc. Prints nanoseconds a call. */
#include <unistd.h>

#include "bench.h"

int main(int argc, char **argv)
{
	uint64_t n = bench_arg(argc, argv, 2000000);

	for (int i = 0; i < 1000; i++)
		getppid(); /* the first trap rewrites the site */
	double t = bench_now_s();
	for (uint64_t i = 0; i < n; i++)
		BENCH_USE(getppid());
	printf("%.3f\n", (bench_now_s() - t) * 1e9 / (double)n);
	return 0;
}
