/* SPDX-License-Identifier: ISC */
/* A child process in as few system calls as it takes. See spawn.c. */
#ifndef COWBELL_PLATFORM_SPAWN_H
#define COWBELL_PLATFORM_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

struct spawn {
	const char *path;
	char *const *argv, *const *envp;
	int stdio[3]; /* descriptors of ours, above 2 */
	/* More that it gets under the numbers that they have here; all else must be close-on-exec. */
	const int *keep;
	unsigned n_keep;
	bool tty; /* stdio[0] becomes its controlling terminal */
	int cgroup; /* descriptor of cgroup.procs to be written to, or -1 */
	void *arg; /* the caller's */
};
/* 0, with *pid and *pidfd (ours to close); or -errno, and nothing runs. */
int spawn(const struct spawn *s, pid_t *pid, int *pidfd);

#endif
