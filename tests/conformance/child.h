/* SPDX-License-Identifier: ISC */
/* Conformance programs whose checks run in child processes: a function's result is the child's exit status. */
#ifndef COWBELL_TESTS_CHILD_H
#define COWBELL_TESTS_CHILD_H

#include "conf.h" /* first: it says what the headers define */

#include <sys/wait.h>

static inline pid_t run(int (*fn)(void))
{
	fflush(stdout);
	pid_t p = fork();
	if (!p)
		_exit(fn());
	return p;
}

static inline int wait_for(pid_t p)
{
	int st = -1;
	if (waitpid(p, &st, 0) != p)
		return 255;
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

static inline int child(int (*fn)(void))
{
	return wait_for(run(fn));
}

#endif
