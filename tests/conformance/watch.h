/* SPDX-License-Identifier: ISC */
/* Waiting until another process has come where it is expected, however loaded the machine is. */
#ifndef COWBELL_TESTS_WATCH_H
#define COWBELL_TESTS_WATCH_H

#include "conf.h"

static inline void ms(long n)
{
	struct timespec ts = {n / 1000, n % 1000 * 1000000};
	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* As /proc tells it: 'S' is asleep, 'T' stopped, 'Z' dead; '?': there is none. */
static inline char state_of(pid_t p)
{
	char path[64], buf[512];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)p);
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof(buf) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return '?';
	buf[n] = 0;
	char *c = strrchr(buf, ')');
	return c ? c[2] : '?';
}

/* Process or thread p comes to that state, within 10 s. */
static inline bool becomes(pid_t p, char want)
{
	for (int i = 0; i < 5000 && state_of(p) != want; i++)
		ms(2);
	return state_of(p) == want;
}

/* A signal handler leaves its signal's number in *got: has it come, within 10 s? */
static inline bool comes(const volatile sig_atomic_t *got, int sig)
{
	for (int i = 0; i < 2000 && *got != sig; i++)
		ms(5);
	return *got == sig;
}

#endif
