/* SPDX-License-Identifier: ISC */
/* Conformance programs whose checks run in child processes: a function's result is the child's exit status. */
#ifndef COWBELL_TESTS_CHILD_H
#define COWBELL_TESTS_CHILD_H

#include "watch.h" /* first: conf.h in it says what the headers define */

#include <sys/wait.h>

/* Wait status of a child that runs the body; without _exit of its own it ends with 0. */
#define CHILD(...)                                                                                           \
	({                                                                                                   \
		pid_t p_ = fork();                                                                           \
		int s_ = -1;                                                                                 \
		if (!p_) {                                                                                   \
			__VA_ARGS__;                                                                         \
			_exit(0);                                                                            \
		}                                                                                            \
		waitpid(p_, &s_, 0);                                                                         \
		s_;                                                                                          \
	})

static inline pid_t child_pauses(void)
{
	pid_t p = fork();
	if (!p)
		for (;;)
			pause();
	return p;
}

/* Words between parent and child over pipes. */
static inline void tell(int fd)
{
	if (write(fd, "x", 1) != 1)
		_exit(90);
}

static inline void hear(int fd)
{
	char c;
	if (read(fd, &c, 1) != 1)
		_exit(91);
}

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
