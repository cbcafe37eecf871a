/* SPDX-License-Identifier: ISC */
/*
 * Ports that are forwarded since a restore and were not when the snapshot was taken.
 *
 * A socket gets its port's host socket when it begins to listen, or is bound (UDP). One that did so while nobody
 * forwarded the port is reached through loopback only: "hidden". After a restore with other ports those that are
 * hidden get their host sockets late, in a thread, for the ring calls sleep. Who waits for a connection
 * (accept, poll, epoll) need not know: connections arrive in the queue that it waits for.
 *
 * The monitor lets clients of all forwarded ports wait until it hears that this is done (RING_OP_LISTEN
 * without a handle). A socket may be closed and another bound meanwhile, so we look again until nothing is left.
 *
 * Limits: a datagram socket that is connected stays inside.
 */
#include "guest/net/sock.h"
#include "guest/restored.h"

#include "abi/boot.h"

#define PASSES	3
#define AT_ONCE 64

static struct sock *hidden[AT_ONCE];
static u32 n_hidden;

static void keep(struct sock *s)
{
	if (n_hidden == AT_ONCE)
		return;
	sock_get(s);
	hidden[n_hidden++] = s;
}

static void keep_stream(struct sock *s)
{
	if (inet_is_hidden(s))
		keep(s);
}

static void keep_datagram(struct sock *s)
{
	if (udp_is_hidden(s))
		keep(s);
}

static bool find_hidden(void)
{
	n_hidden = 0;
	inet_each(PORTS_TCP, keep_stream);
	inet_each(PORTS_UDP, keep_datagram);
	return n_hidden;
}

static void forward(struct sock *s)
{
	if (s->type == SOCK_DGRAM && udp_is_hidden(s))
		udp_forward(s);
	else if (s->type == SOCK_STREAM && inet_is_hidden(s))
		host_listen(s); /* refused: it stays inside the guest */
}

static void settle(void)
{
	struct ring_sqe sqe = {.op = RING_OP_LISTEN, .handle = RING_NO_HANDLE};

	host_fire(&sqe, NULL, 0);
}

static void forward_hidden(void *arg)
{
	bool found = true;

	for (int pass = 0; pass < PASSES && found; pass++) {
		for (u32 i = 0; i < n_hidden; i++) {
			forward(hidden[i]);
			sock_put(hidden[i]);
		}
		found = find_hidden();
	}
	for (u32 i = 0; i < n_hidden; i++)
		sock_put(hidden[i]);
	n_hidden = 0;
	settle();
}

void ports_restored(void)
{
	if (!boot->ports_count)
		return;
	if (n_hidden) /* the snapshot was taken in the midst of it: the thread goes on */
		return;
	if (!find_hidden() || !kthread_start(forward_hidden, NULL, "ports"))
		settle();
}
