/* SPDX-License-Identifier: ISC */
/* The load average: who computes for longer than a sample takes is in it; /proc/loadavg and sysinfo say the same. */
#include "conf.h"
#include <sys/sysinfo.h>

static double load[3];
static int running, threads, last;

static bool look(void)
{
	FILE *f = fopen("/proc/loadavg", "r");
	int n = fscanf(f, "%lf %lf %lf %d/%d %d", &load[0], &load[1], &load[2], &running, &threads, &last);
	fclose(f);
	return n == 6;
}
static void *spin(void *end)
{
	while (conf_now_ns() < *(uint64_t *)end)
		;
	return NULL;
}

int main(void)
{
	uint64_t end = conf_now_ns() + 5600000000ull;
	struct sysinfo si;
	double before, three[3];
	pthread_t t;

	CHECK("format", look() && running >= 1 && threads >= running && last >= getpid());
	before = load[0];
	pthread_create(&t, NULL, spin, &end);
	spin(&end);
	pthread_join(t, NULL);
	/* one or two samples, each with two threads at least */
	CHECK("two_compute", look() && load[0] >= 0.84 * before + 0.13);
	CHECK("longer_is_slower", load[1] > 0 || load[2] > 0);
	CHECK("getloadavg", getloadavg(three, 3) == 3);
	sysinfo(&si);
	look();
	for (int i = 0; i < 3; i++) {
		double d = si.loads[i] / 65536.0 - load[i];
		CHECK("sysinfo", d < 0.5 && d > -0.5);
	}
	CHECK("not_negative", three[0] >= 0 && load[2] >= 0);
	return conf_done();
}
