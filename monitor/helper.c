/* SPDX-License-Identifier: ISC */
/* Helper threads: small stacks, no signals. */
#include "monitor/helper.h"

#include <limits.h>
#include <signal.h>

#define STACK (64u << 10)

void helper_start(struct helper *h, void *(*work)(void *), void *arg)
{
	pthread_attr_t a;
	sigset_t all;

	sigfillset(&all);
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, STACK);
	h->runs = !pthread_attr_setsigmask_np(&a, &all) && !pthread_create(&h->thread, &a, work, arg);
	pthread_attr_destroy(&a);
	if (!h->runs)
		work(arg);
}

void helper_join(struct helper *h)
{
	if (h->runs)
		pthread_join(h->thread, NULL);
	h->runs = false;
}
