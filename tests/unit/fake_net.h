/* SPDX-License-Identifier: ISC */
/*
 * Enough of a guest for net/ to run as an ordinary program: malloc, a small
 * descriptor table, and a ring whose requests the test completes by hand.
 * Sleeping never happens: thread_sleep() says that the time is over, or runs
 * `fake_on_sleep` first, which may make the condition true.
 */
#ifndef COWBELL_TESTS_FAKE_NET_H
#define COWBELL_TESTS_FAKE_NET_H

#include "guest/net/net.h"
#include "guest/net/poll.h"
#include "guest/net/sock.h"

extern void (*fake_on_sleep)(void);
extern int fake_sigpipes;
extern long fake_allocs; /* blocks not freed yet */

void fake_net_start(void);
/* The oldest request with this operation that is not complete; NULL: none. */
struct ring_req *fake_request(int op);
void fake_complete(struct ring_req *r, int res, uint32_t flags, uint64_t val, uint64_t val2);
int fake_doorbell(void); /* runs deferred work; number of requests that wait */

/* The usual calls, in terms of descriptors. */
int t_socket(int family, int type);
void t_pair(int type, int fd[2]);
struct sock *t_sock(int fd);
long t_send(int fd, const void *p, unsigned long n, unsigned flags);
long t_recv(int fd, void *p, unsigned long n, unsigned flags);
int t_accept(int fd);
unsigned t_poll(int fd);
void t_nonblock(int fd);

#endif
