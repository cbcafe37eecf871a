/* SPDX-License-Identifier: ISC */
/* Sockets inside the guest, the host's over a ring played by hand, epoll, poll; nothing may leak. */
/* unit-sources: guest/net/epoll.c guest/net/host.c guest/net/inet.c guest/net/inetopt.c guest/net/local.c guest/net/netlink.c guest/net/poll.c guest/net/scm.c guest/net/socket.c guest/net/udp.c guest/net/unix.c guest/proc/waitq.c guest/vfs/uio.c tests/unit/fake_net.c */
#include "tests/unit/hosted.h"

#include <linux/eventpoll.h>

#include "tests/unit/fake_net.h"
#include "tests/unit/tap.h"

static union saddr in4(u32 ip, u16 port)
{
	union saddr a = {.in = {.sin_family = AF_INET, .sin_port = __builtin_bswap16(port)}};

	a.in.sin_addr.s_addr = __builtin_bswap32(ip);
	return a;
}
#define LOOP	0x7f000001u
#define OUTSIDE 0x08080808u

static int do_bind(int fd, u32 ip, u16 port)
{
	union saddr a = in4(ip, port);
	return t_sock(fd)->ops->bind(t_sock(fd), &a, sizeof(a.in));
}

static int do_connect(int fd, u32 ip, u16 port, bool nonblock)
{
	union saddr a = in4(ip, port);
	return t_sock(fd)->ops->connect(t_sock(fd), &a, sizeof(a.in), nonblock);
}

static int do_listen(int fd)
{
	return t_sock(fd)->ops->listen(t_sock(fd), 8);
}

static void test_loopback_tcp(void)
{
	int l = t_socket(AF_INET, SOCK_STREAM), c = t_socket(AF_INET, SOCK_STREAM), d, s;
	char buf[64];

	is(do_bind(l, 0, 9000), 0, "bind to a port");
	is(do_listen(l), 0, "listen");
	d = t_socket(AF_INET, SOCK_STREAM);
	is(do_bind(d, LOOP, 9000), -EADDRINUSE, "a specific address clashes with the wildcard");
	fd_close(d);
	is(t_poll(l) & POLLIN, 0, "nothing to accept");
	is(do_connect(c, LOOP, 9000, true), -EINPROGRESS, "nonblocking connect is in progress");
	is(do_connect(c, LOOP, 9000, true), 0, "then done");
	is(do_connect(c, LOOP, 9000, true), -EISCONN, "then connected");
	ok(t_poll(l) & POLLIN, "listener is readable");
	s = t_accept(l);
	ok(s >= 0, "accept");
	is(t_send(c, "hello", 5, 0), 5, "send");
	is(t_send(c, " you", 4, 0), 4, "send more");
	is(t_recv(s, buf, 3, MSG_PEEK), 3, "peek");
	is(t_recv(s, buf, sizeof(buf), 0), 9, "both writes in one read");
	ok(!memcmp(buf, "hello you", 9), "the bytes");
	t_nonblock(s);
	is(t_recv(s, buf, 1, 0), -EAGAIN, "then EAGAIN");
	t_sock(c)->ops->shutdown(t_sock(c), SHUT_WR);
	is(t_recv(s, buf, 1, 0), 0, "end of stream");
	ok((t_poll(s) & (POLLIN | POLLRDHUP | POLLHUP)) == (POLLIN | POLLRDHUP), "RDHUP without HUP");
	is(t_send(s, "x", 1, 0), 1, "the other half still works");
	is(t_send(c, "x", 1, MSG_NOSIGNAL), -EPIPE, "EPIPE after shutdown");
	fd_close(c);
	is(t_recv(s, buf, 1, 0), -ECONNRESET, "closed with unread data: reset");
	fd_close(s);
	c = t_socket(AF_INET, SOCK_STREAM);
	is(do_connect(c, LOOP, 9001, false), -ECONNREFUSED, "nobody listens");
	is(do_connect(c, LOOP, 9000, false), 0, "but it can try again");
	fd_close(c);
	fd_close(l);
}

static void test_stream_limits(void)
{
	static char big[600000], back[600000];
	int p[2];
	long n;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7);
	t_pair(SOCK_STREAM, p);
	n = t_send(p[0], big, sizeof(big), 0);
	ok(n > 100000 && n < (long)sizeof(big), "send stops at the buffer's size");
	is(t_send(p[0], big, 1, 0), -EAGAIN, "full");
	is(t_poll(p[0]) & POLLOUT, 0, "not writable");
	is(t_recv(p[1], back, sizeof(back), 0), n, "read all");
	ok(!memcmp(big, back, (size_t)n), "intact");
	ok(t_poll(p[0]) & POLLOUT, "writable again");
	fd_close(p[1]);
	fake_sigpipes = 0;
	is(t_send(p[0], big, 1, 0), -EPIPE, "other end closed");
	is(fake_sigpipes, 1, "with SIGPIPE");
	ok(t_poll(p[0]) & POLLHUP, "HUP");
	fd_close(p[0]);
}

static void test_messages(void)
{
	char b[16];
	int p[2];

	t_pair(SOCK_SEQPACKET, p);
	is(t_send(p[0], "abc", 3, 0), 3, "packet");
	is(t_send(p[0], "defg", 4, 0), 4, "another");
	is(t_recv(p[1], b, 2, MSG_TRUNC), 3, "cut, with its real length");
	is(t_recv(p[1], b, 16, 0), 4, "packets stay apart");
	fd_close(p[0]);
	is(t_recv(p[1], b, 16, 0), 0, "end");
	fd_close(p[1]);
	t_pair(SOCK_DGRAM, p);
	is(t_send(p[0], "", 0, 0), 0, "empty datagram");
	ok(t_poll(p[1]) & POLLIN, "is something");
	is(t_recv(p[1], b, 16, 0), 0, "and arrives");
	int i, r = 0;
	for (i = 0; i < 2000 && r >= 0; i++)
		r = (int)t_send(p[0], "x", 1, 0);
	is(r, -EAGAIN, "the queue is bounded");
	is(t_poll(p[0]) & POLLOUT, 0, "not writable");
	is(t_recv(p[1], b, 1, 0), 1, "one taken");
	ok(t_poll(p[0]) & POLLOUT, "writable");
	fd_close(p[1]);
	is(t_send(p[0], "x", 1, 0), -ECONNREFUSED, "nobody there");
	fd_close(p[0]);
}

static struct scm_fds *pass(int fd)
{
	struct scm_fds *f = kzalloc(sizeof(*f) + sizeof(f->file[0]));

	list_init(&f->node);
	f->n = 1;
	f->file[0] = fd_get(fd);
	return f;
}

static void send_fd(int via, int fd)
{
	struct msginfo m = {.nonblock = true, .fds = pass(fd)};
	struct iovec iov;
	struct uio u;

	uio_single(&u, &iov, (void *)"x", 1, true);
	if (sock_send(t_sock(via), &u, &m) != 1 || m.fds)
		panic("send_fd");
}

static void test_passing(void)
{
	long before = fake_allocs;
	int p[2], q[2];

	t_pair(SOCK_STREAM, p);
	t_pair(SOCK_STREAM, q);
	send_fd(p[0], q[0]);
	fd_close(q[0]);
	is(t_send(q[1], "y", 1, 0), 1, "a socket in flight is alive");
	fd_close(p[0]);
	fd_close(p[1]);
	is(t_send(q[1], "y", 1, 0), -ECONNRESET, "and goes with the queue it was in");
	fd_close(q[1]);
	is(fake_allocs, before, "nothing leaked");

	t_pair(SOCK_STREAM, p);
	send_fd(p[0], p[1]); /* p[1]'s queue holds p[1] */
	fd_close(p[1]);
	fd_close(p[0]);
	is(fake_allocs, before, "a cycle of one is collected");

	t_pair(SOCK_DGRAM, p);
	t_pair(SOCK_DGRAM, q);
	send_fd(p[0], q[1]);
	send_fd(q[0], p[1]);
	send_fd(q[0], p[0]);
	fd_close(p[0]);
	fd_close(p[1]);
	fd_close(q[0]);
	fd_close(q[1]);
	fd_close(t_socket(AF_UNIX, SOCK_STREAM));
	is(fake_allocs, before, "a cycle of two is collected when another socket closes");
	for (int i = 0; i < 3000; i++) {
		t_pair(SOCK_DGRAM, p);
		send_fd(p[0], p[0]);
		send_fd(p[1], p[1]);
		fd_close(p[0]);
		fd_close(p[1]);
	}
	ok(fake_allocs < before + 20000, "or when many are in flight");
	for (int i = 0; i < 1000; i++)
		fd_close(t_socket(AF_UNIX, SOCK_STREAM));
	is(fake_allocs, before, "all of them");

	t_pair(SOCK_STREAM, p);
	for (int i = 0; i < 20000; i++) { /* a chain: no recursion when it goes */
		t_pair(SOCK_STREAM, q);
		send_fd(q[0], p[0]);
		send_fd(q[0], p[1]);
		fd_close(p[0]);
		fd_close(p[1]);
		p[0] = q[0];
		p[1] = q[1];
	}
	fd_close(p[0]);
	fd_close(p[1]);
	is(fake_allocs, before, "a long chain is freed");
}

static void test_udp(void)
{
	int a = t_socket(AF_INET, SOCK_DGRAM), b = t_socket(AF_INET, SOCK_DGRAM);
	long before = fake_allocs;
	char buf[8];

	is(do_bind(a, 0, 5353), 0, "bind");
	is(do_connect(b, LOOP, 5353, false), 0, "connect");
	is(t_send(b, "q", 1, 0), 1, "send");
	is(t_recv(a, buf, 8, 0), 1, "recv");
	is(t_send(a, "r", 1, 0), -EDESTADDRREQ, "no destination");
	fd_close(a);
	is(t_send(b, "q", 1, 0), 1, "send to nobody");
	is(t_recv(b, buf, 8, 0), -ECONNREFUSED, "is reported to a connected socket");
	fd_close(b);
	ok(fake_allocs <= before, "nothing leaked");
}

/* Let everything that was closed complete. */
static void finish_ring(void)
{
	struct ring_req *r;

	fake_doorbell();
	while ((r = fake_request(RING_OP_SEND)))
		fake_complete(r, (int)r->sqe.len, 0, 0, 0);
	while ((r = fake_request(RING_OP_RECV)))
		fake_complete(r, -ECANCELED, 0, 0, 0);
	while ((r = fake_request(RING_OP_ACCEPT)))
		fake_complete(r, -ECANCELED, 0, 0, 0);
	while ((r = fake_request(RING_OP_SETSOCKOPT)) || (r = fake_request(RING_OP_SHUTDOWN)))
		fake_complete(r, 0, 0, 0, 0);
	while ((r = fake_request(RING_OP_CLOSE)))
		fake_complete(r, 0, 0, 0, 0);
}

static void give(int n, char c)
{
	struct ring_req *r = fake_request(RING_OP_RECV);

	memset((void *)r->sqe.addr, c, (size_t)n);
	fake_complete(r, n, 0, 0, 0);
}

static void test_host_tcp(void)
{
	long before = fake_allocs;
	int c = t_socket(AF_INET, SOCK_STREAM);
	static char buf[300000];
	struct ring_req *r;

	t_nonblock(c);
	is(do_connect(c, OUTSIDE, 80, true), -EINPROGRESS, "connect outside");
	is(do_connect(c, OUTSIDE, 80, true), -EALREADY, "is under way");
	fake_complete(fake_request(RING_OP_SOCKET), 0, 0, 7, 0);
	is(t_poll(c), 0, "not yet ready for anything");
	fake_complete(fake_request(RING_OP_CONNECT), 0, 0, 0, 0);
	ok(t_poll(c) & POLLOUT, "connected: writable");
	is(t_recv(c, buf, 10, 0), -EAGAIN, "nothing received");
	ok((r = fake_request(RING_OP_RECV)) && r->sqe.len == 2048, "a small receive is posted");
	give(5, 'a');
	is(t_recv(c, buf, 3, 0), 3, "part of it");
	ok(!fake_request(RING_OP_RECV), "not posted while there are bytes left");
	is(t_recv(c, buf, 10, 0), 2, "the rest");
	ok(fake_request(RING_OP_RECV), "posted again");
	give(2048, 'b');
	is(t_recv(c, buf, 4000, 0), 2048, "a full buffer");
	is(fake_request(RING_OP_RECV)->sqe.len, 4096, "makes the next one larger");
	is(t_send(c, "GET ", 4, 0), 4, "write");
	is(t_send(c, "/\n", 2, 0), 2, "write");
	ok(!fake_request(RING_OP_SEND), "nothing sent before the doorbell");
	fake_doorbell();
	r = fake_request(RING_OP_SEND);
	ok(r->sqe.len == 6 && r->sqe.flags & RING_SQE_QUIET, "then one quiet request");
	fake_complete(r, 6, 0, 0, 0);
	long n = t_send(c, buf, sizeof(buf), 0);
	is(n, 256 << 10, "as much as the send buffer holds");
	is(t_poll(c) & POLLOUT, 0, "not writable");
	fake_doorbell();
	r = fake_request(RING_OP_SEND);
	ok(!(r->sqe.flags & RING_SQE_QUIET), "a full buffer's completion must wake");
	while ((r = fake_request(RING_OP_SEND)))
		fake_complete(r, (int)r->sqe.len, 0, 0, 0);
	ok(t_poll(c) & POLLOUT, "writable again");
	t_send(c, "bye", 3, 0);
	fd_close(c);
	ok(fake_request(RING_OP_SEND) && fake_request(RING_OP_CLOSE)->sqe.arg == RING_CLOSE_DRAIN,
	   "close sends what is left, then drains");
	finish_ring();
	is(fake_allocs, before, "nothing leaked");

	c = t_socket(AF_INET, SOCK_STREAM);
	do_connect(c, OUTSIDE, 80, true);
	fake_complete(fake_request(RING_OP_SOCKET), 0, 0, 8, 0);
	fake_complete(fake_request(RING_OP_CONNECT), -ECONNREFUSED, 0, 0, 0);
	ok((t_poll(c) & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP), "refused: ERR and HUP");
	is(sock_error(t_sock(c)), -ECONNREFUSED, "SO_ERROR");
	do_connect(c, OUTSIDE, 81, true);
	fd_close(c);
	fake_complete(fake_request(RING_OP_SOCKET), 0, 0, 9, 0);
	finish_ring();
	is(fake_allocs, before, "closed while connecting: nothing leaked");
}

static void test_host_listen(void)
{
	long before = fake_allocs;
	int l = t_socket(AF_INET, SOCK_STREAM), c, d;
	struct ring_req *acc;
	char b[4];

	do_bind(l, 0, 8080);
	is(do_listen(l), 0, "listen on a forwarded port");
	acc = fake_request(RING_OP_ACCEPT);
	ok(acc && acc->sqe.flags & RING_SQE_MORE, "a multi-shot accept is armed");
	for (u64 i = 0; i < 3; i++)
		fake_complete(acc, 0, RING_CQE_MORE, 20 + i,
			      RING_PEER_IPV4 | 0x0a000001ull << 16 | (5000 + i));
	give(2, 'z');
	c = t_accept(l);
	union saddr a;
	is(t_sock(c)->ops->getname(t_sock(c), true, &a), sizeof(a.in), "peer's name without a ring call");
	is(__builtin_bswap16(a.in.sin_port), 5000, "its port");
	is(t_recv(c, b, 4, 0), 2, "its data was there already");
	d = t_socket(AF_INET, SOCK_STREAM);
	is(do_connect(d, LOOP, 8080, false), 0, "reachable from inside as well");
	fd_close(d);
	fd_close(c);
	fd_close(l); /* with connections that nobody accepted */
	finish_ring();
	is(fake_allocs, before, "nothing leaked");
}

static int ep_ctl(int ep, int op, int fd, u32 events, u64 data)
{
	struct epoll_event e = {.events = events, .data = data};
	return (int)epoll_control(ep, op, fd, &e);
}

static int send_later_fd;
static void send_later(void)
{
	t_send(send_later_fd, "l", 1, 0);
}

static void test_epoll(void)
{
	long before = fake_allocs;
	struct epoll_event ev[8];
	char b[64];
	int p[2], q[2], ep = (int)epoll_create_fd(false), ep2 = (int)epoll_create_fd(false);

	t_pair(SOCK_STREAM, p);
	t_pair(SOCK_STREAM, q);
	is(ep_ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN, 1), -ENOENT, "modify what is not there");
	is(ep_ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1), 0, "add");
	is(ep_ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1), -EEXIST, "twice");
	is(ep_ctl(ep, EPOLL_CTL_ADD, ep, EPOLLIN, 1), -EINVAL, "into itself");
	is(ep_ctl(ep, EPOLL_CTL_ADD, 400, EPOLLIN, 1), -EBADF, "a closed descriptor");
	is(epoll_wait_events(ep, ev, 8, 0, true), 0, "nothing");
	t_send(p[1], "x", 1, 0);
	is(epoll_wait_events(ep, ev, 8, 0, true), 1, "ready");
	is(ev[0].data, 1, "its data");
	is(epoll_wait_events(ep, ev, 8, 0, true), 1, "level: still ready");
	t_recv(p[0], b, 64, 0);
	is(epoll_wait_events(ep, ev, 8, 0, true), 0, "until it is read");

	is(ep_ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 2), 0, "edge");
	t_send(p[1], "x", 1, 0);
	is(epoll_wait_events(ep, ev, 8, 0, true), 1, "an edge");
	is(epoll_wait_events(ep, ev, 8, 0, true), 0, "once");
	t_send(p[1], "x", 1, 0);
	is(epoll_wait_events(ep, ev, 8, 0, true), 1, "and a new one");

	ep_ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 3);
	is(epoll_wait_events(ep, ev, 8, 0, true), 1, "one shot");
	t_send(p[1], "x", 1, 0);
	is(epoll_wait_events(ep, ev, 8, 0, true), 0, "is spent");
	ep_ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 3);
	is(epoll_wait_events(ep, ev, 8, 0, true), 1, "until it is armed again");
	t_recv(p[0], b, 64, 0);
	ep_ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN, 4);

	is(ep_ctl(ep2, EPOLL_CTL_ADD, ep, EPOLLIN, 9), 0, "nested");
	is(ep_ctl(ep, EPOLL_CTL_ADD, ep2, EPOLLIN, 9), -ELOOP, "no cycles");
	is(epoll_wait_events(ep2, ev, 8, 0, true), 0, "inner is not ready");
	t_send(p[1], "x", 1, 0);
	is(epoll_wait_events(ep2, ev, 8, 0, true), 1, "inner is ready");
	t_recv(p[0], b, 64, 0);

	ep_ctl(ep, EPOLL_CTL_ADD, q[0], EPOLLIN, 5);
	for (int i = 0; i < 2; i++) {
		t_send(p[1], "x", 1, 0);
		t_send(q[1], "x", 1, 0);
	}
	u64 seen = 0;
	for (int i = 0; i < 2; i++)
		if (epoll_wait_events(ep, ev, 1, 0, true) == 1)
			seen |= 1ull << ev[0].data;
	is(seen, 1 << 4 | 1 << 5, "a small array: each gets its turn");
	t_recv(p[0], b, 64, 0);
	t_recv(q[0], b, 64, 0);

	send_later_fd = q[1];
	fake_on_sleep = send_later;
	is(epoll_wait_events(ep, ev, 8, NO_DEADLINE, false), 1, "a sleeper is woken");
	t_recv(q[0], b, 64, 0);
	is(epoll_wait_events(ep, ev, 8, 5, false), 0, "a timeout");
	is(epoll_wait_events(ep, ev, 8, NO_DEADLINE, false), -EINTR, "a signal");

	t_send(q[1], "x", 1, 0);
	fd_close(q[0]);
	is(epoll_wait_events(ep, ev, 8, 0, true), 0, "a closed file is forgotten");
	fd_close(q[1]);
	fd_close(p[0]);
	fd_close(p[1]);
	fd_close(ep);
	fd_close(ep2);
	is(fake_allocs, before, "nothing leaked");
}

static void test_poll(void)
{
	struct poll_ent e[40] = {{0}};
	int p[2];

	t_pair(SOCK_STREAM, p);
	for (int i = 0; i < 40; i++)
		e[i] = (struct poll_ent){.file = fd_get(p[i & 1]), .events = POLLIN | POLLERR | POLLHUP};
	is(poll_files(e, 40, 5, false), 0, "time out with many files");
	send_later_fd = p[1];
	fake_on_sleep = send_later;
	is(poll_files(e, 40, NO_DEADLINE, false), 20, "woken, half of them");
	is(e[0].revents, POLLIN, "the right ones");
	is(e[1].revents, 0, "and not the others");
	for (int i = 0; i < 40; i++)
		file_put(e[i].file);
	fd_close(p[0]);
	fd_close(p[1]);
}

static void test_turn(void)
{
	int c = t_socket(AF_INET, SOCK_STREAM), p[2], ep = (int)epoll_create_fd(false);
	struct epoll_event ev[4];

	do_connect(c, OUTSIDE, 80, true);
	fake_complete(fake_request(RING_OP_SOCKET), 0, 0, 30, 0);
	fake_complete(fake_request(RING_OP_CONNECT), 0, 0, 0, 0);
	t_pair(SOCK_STREAM, p);
	ep_ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1);
	t_send(p[1], "x", 1, 0);
	t_send(c, "reply", 5, 0);
	ok(!fake_request(RING_OP_SEND), "a reply is waiting");
	is(epoll_wait_events(ep, ev, 4, NO_DEADLINE, false), 1, "events are ready at once");
	ok(fake_request(RING_OP_SEND), "and asking for them flushed the reply");
	fd_close(c);
	fd_close(p[0]);
	fd_close(p[1]);
	fd_close(ep);
	finish_ring();
}

int main(void)
{
	fake_net_start();
	test_loopback_tcp();
	test_stream_limits();
	test_messages();
	test_passing();
	test_udp();
	test_host_tcp();
	test_host_listen();
	test_epoll();
	test_poll();
	test_turn();
	is(fake_allocs, 0, "no memory is left over");
	return done();
}
