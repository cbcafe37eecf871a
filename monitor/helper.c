/* SPDX-License-Identifier: ISC */
/* Helper threads: small stacks that go with them, or each start would keep some pages for ever; no signals. */
#include "monitor/helper.h"

#include <limits.h>
#include <signal.h>
#include <sys/mman.h>

#define STACK (64u << 10)

void helper_start(struct helper *h, void *(*work)(void *), void *arg)
{
	pthread_attr_t a;
	sigset_t all;

	sigfillset(&all);
	pthread_attr_init(&a);
	h->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	h->runs = h->stack != MAP_FAILED && !pthread_attr_setstack(&a, h->stack, STACK) &&
		  !pthread_attr_setsigmask_np(&a, &all) && !pthread_create(&h->thread, &a, work, arg);
	pthread_attr_destroy(&a);
	if (!h->runs)
		work(arg);
}

void helper_join(struct helper *h)
{
	if (!h->runs)
		return;
	pthread_join(h->thread, NULL);
	munmap(h->stack, STACK);
	h->runs = false;
}
