/* SPDX-License-Identifier: ISC */
/*
 * A start's helper threads: work of the host's kernel that need not wait for the rest of the start, on another CPU if one
 * is free. They end before the monitor locks itself down; from then on it has one thread.
 */
#ifndef COWBELL_MONITOR_HELPER_H
#define COWBELL_MONITOR_HELPER_H

#include <pthread.h>
#include <stdbool.h>

struct helper {
	pthread_t thread;
	void *stack;
	bool runs;
};

/* `work` must not allocate, nor print; it takes no signals. Where there can be no thread it is done at once. */
void helper_start(struct helper *h, void *(*work)(void *), void *arg);
/* Wait for it; afterwards all that it did can be seen. Does nothing when none was started. */
void helper_join(struct helper *h);

#endif
