// SPDX-License-Identifier: ISC
/* unit-sources: monitor/ring_server.c monitor/ready.c monitor/handles.c monitor/net.c monitor/net_addr.c monitor/net_option.c monitor/net_policy.c monitor/net_port.c monitor/net_unix.c monitor/notify.c monitor/console.c monitor/volume.c monitor/gpa.c lib/host/say.c tests/unit/fake_restore.c */
/*
 * The ring server alone: this program plays the guest. Real sockets on
 * loopback, a real directory as volume, and requests that no library OS makes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "monitor/ring_server.h"
#include "tests/unit/tap.h"

#define RAM	   (8u << 20)
#define RING_GPA   0x1000u
#define BUF	   0x100000u /* gpa of the buffers */
#define GUEST_PORT 8080

static struct guest_mem mem;
static struct ring_page *ring;
static struct ring_server *rs;
static struct monitor_config cfg;
static uint64_t serial = 1;
static int wait_status;
static const char *why;

static int grow(void *arg, uint64_t size)
{
	mem.ram_size = size;
	return 0;
}

static uint64_t mono(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t submit(struct ring_sqe s)
{
	s.user_data = serial;
	ring->sq[ring->ctl.sq_tail++ % RING_ENTRIES] = s;
	return serial++;
}

static enum turn_result turn(int wait_ms)
{
	ring->ctl.wait = wait_ms != 0;
	ring->ctl.wait_until_ns = mono() + (uint64_t)wait_ms * 1000000u;
	why = NULL;
	return ring_server_turn(rs, &wait_status, &why);
}

static bool reap(struct ring_cqe *c)
{
	if (ring->ctl.cq_head == ring->ctl.cq_tail)
		return false;
	*c = ring->cq[ring->ctl.cq_head++ % RING_ENTRIES];
	return true;
}

static unsigned pending(void)
{
	return ring->ctl.cq_tail - ring->ctl.cq_head;
}

/* One request to its end; other completions on the way are dropped. */
static int call(struct ring_sqe s, uint64_t *val)
{
	uint64_t ud = submit(s), end = mono() + 3000000000u;
	struct ring_cqe c;

	do {
		if (turn(100) != TURN_RUN)
			return -9999;
		while (reap(&c))
			if (c.user_data == ud) {
				if (val)
					*val = c.val;
				return c.res;
			}
	} while (mono() < end);
	return -8888;
}

static void *at(uint64_t gpa)
{
	return mem.ram + gpa;
}

static void new_server(void)
{
	static const struct ring_server_hooks hooks = {.grow = grow};

	ring_server_free(rs);
	memset(mem.ram, 0, RAM);
	mem.ram_size = RAM / 2;
	rs = ring_server_new(&cfg, &mem, (gpa_t){RING_GPA}, &hooks);
	if (!rs) {
		printf("Bail out! no ring server\n");
		exit(1);
	}
}

/* --- hostile rings ------------------------------------------------------------- */

static void test_hostile(void)
{
	uint64_t val;

	new_server();
	ring->ctl.sq_tail = RING_ENTRIES + 1;
	is(turn(0), TURN_BROKEN, "a submission tail beyond the ring ends the instance");
	ok(why && strstr(why, "submission index"), "with the reason: %s", why ? why : "none");

	new_server();
	ring->ctl.cq_head = 1;
	is(turn(0), TURN_BROKEN, "a completion head beyond the tail ends the instance");

	new_server();
	submit((struct ring_sqe){.op = RING_OP_WRITE, .handle = 1, .addr = RAM - 1, .len = 2});
	is(turn(0), TURN_BROKEN, "data outside RAM ends the instance");
	new_server();
	submit((struct ring_sqe){.op = RING_OP_WRITE, .handle = 1, .addr = UINT64_MAX - 1, .len = 4});
	is(turn(0), TURN_BROKEN, "so does an address that wraps");
	new_server();
	submit((struct ring_sqe){.op = RING_OP_MEM_RELEASE, .off = 4096, .addr2 = UINT64_MAX - 4095});
	is(turn(0), TURN_BROKEN, "so does a range to release that wraps");

	new_server();
	is(call((struct ring_sqe){.op = 999}, NULL), -EINVAL, "an unknown operation is refused");
	is(call((struct ring_sqe){.op = RING_OP_NOP, .flags = 0x8000}, NULL), -EINVAL,
	   "an unknown flag is refused");
	is(call((struct ring_sqe){.op = RING_OP_READ, .handle = 77, .addr = BUF, .len = 1}, NULL), -EBADF,
	   "a handle that is not open is refused");
	is(call((struct ring_sqe){.op = RING_OP_RECV, .handle = RING_NO_HANDLE, .addr = BUF, .len = 1}, NULL),
	   -EBADF, "no handle is no handle");
	is(call((struct ring_sqe){.op = RING_OP_WRITE, .handle = 1, .addr = BUF, .len = RING_MAX_IO + 1},
		NULL),
	   -EINVAL, "a transfer that is too long is refused");
	is(call((struct ring_sqe){.op = RING_OP_MEM_GROW, .off = RAM}, &val), 0, "memory grows");
	is(val, RAM, "to what was asked");
	is(call((struct ring_sqe){.op = RING_OP_MEM_GROW, .off = RAM + 4096}, &val), -ENOMEM,
	   "but not above the limit");
}

static void test_full_queue(void)
{
	unsigned got = 0, rounds = 0;
	struct ring_cqe c;

	new_server();
	for (int r = 0; r < 4; r++) {
		for (unsigned i = 0; i < RING_ENTRIES; i++)
			submit((struct ring_sqe){.op = RING_OP_NOP});
		turn(0);
	}
	is(ring->ctl.more, 3 * RING_ENTRIES, "completions that do not fit wait in the monitor");
	do {
		while (reap(&c))
			got++;
		turn(0);
	} while (pending() && ++rounds < 10);
	is(got, 4 * RING_ENTRIES, "and none is lost");
}

/* --- sockets --------------------------------------------------------------------- */

static int dial(uint16_t port)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		int e = errno;
		close(fd);
		return -e;
	}
	return fd;
}

static uint32_t new_socket(int family, int type)
{
	uint64_t h = 0;

	return call((struct ring_sqe){.op = RING_OP_SOCKET, .arg = (uint32_t)family, .arg2 = (uint32_t)type},
		    &h)
		       ? 0
		       : (uint32_t)h;
}

static int bind_to(uint32_t h, uint32_t ip, uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)};

	memcpy(at(BUF), &a, sizeof(a));
	return call((struct ring_sqe){.op = RING_OP_BIND, .handle = h, .addr2 = BUF, .len2 = sizeof(a)},
		    NULL);
}

static int connect_to(uint32_t h, const char *ip, uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

	inet_pton(AF_INET, ip, &a.sin_addr);
	memcpy(at(BUF), &a, sizeof(a));
	return call((struct ring_sqe){.op = RING_OP_CONNECT, .handle = h, .addr2 = BUF, .len2 = sizeof(a)},
		    NULL);
}

static void test_server(void)
{
	struct ring_cqe c;
	uint16_t port;
	uint64_t ud;
	uint32_t l, s;
	char buf[16];
	int fd, n = 0;

	new_server();
	port = ring_server_host_port(rs, 0);
	ok(port != 0, "host port 0 gives a free port");
	is(dial(port), -ECONNREFUSED, "nothing listens before the guest does");
	l = new_socket(AF_INET, SOCK_STREAM);
	is(bind_to(l, INADDR_ANY, 81), -EADDRNOTAVAIL, "a port that is not forwarded stays inside");
	is(bind_to(l, INADDR_LOOPBACK, GUEST_PORT), -EADDRNOTAVAIL, "loopback stays inside");
	is(bind_to(l, INADDR_ANY, GUEST_PORT), 0, "the forwarded port binds");
	is(call((struct ring_sqe){.op = RING_OP_LISTEN, .handle = l, .arg = 16}, NULL), 0, "and listens");
	ud = submit((struct ring_sqe){.op = RING_OP_ACCEPT, .flags = RING_SQE_MORE, .handle = l});
	turn(0);
	fd = dial(port);
	ok(fd >= 0, "a client connects");
	turn(1000);
	ok(reap(&c) && c.user_data == ud && c.flags == RING_CQE_MORE,
	   "a multi-shot accept completes and stays armed");
	is(c.val2 & ~0xffffull, RING_PEER_IPV4 | (uint64_t)INADDR_LOOPBACK << 16, "with the peer's address");
	s = (uint32_t)c.val;
	ud = submit((struct ring_sqe){.op = RING_OP_RECV, .handle = s, .addr = BUF, .len = 100});
	turn(0);
	is(pending(), 0, "a receive waits");
	is(write(fd, "hello", 5), 5, "the client sends");
	turn(1000);
	ok(reap(&c) && c.user_data == ud && c.res == 5 && !memcmp(at(BUF), "hello", 5), "and it completes");
	submit((struct ring_sqe){
		.op = RING_OP_SEND, .flags = RING_SQE_QUIET, .handle = s, .addr = BUF, .len = 5});
	uint64_t t = mono();
	turn(50);
	ok(mono() - t > 40000000u, "a quiet send does not end the wait");
	ok(pending() == 1, "but has its completion");
	reap(&c);
	ok(read(fd, buf, sizeof(buf)) == 5, "the client gets it");
	struct ring_sqe close_sqe = {.op = RING_OP_CLOSE, .handle = s, .arg = RING_CLOSE_DRAIN};
	static char big[4 << 20];
	for (int i = 0; i < 4; i++)
		submit((struct ring_sqe){.op = RING_OP_SEND, .handle = s, .addr = BUF, .len = RING_MAX_IO});
	ud = submit(close_sqe);
	turn(0);
	is(call((struct ring_sqe){.op = RING_OP_SEND, .handle = s, .addr = BUF, .len = 1}, NULL), -EBADF,
	   "a closing handle accepts nothing more");
	bool closed = false;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 20000 && n < (int)sizeof(big); i++) {
		ssize_t r = read(fd, big, sizeof(big));
		n += r > 0 ? (int)r : 0;
		turn(r > 0 ? 0 : 1);
		while (reap(&c))
			closed |= c.user_data == ud && c.res == 0;
	}
	is(n, 4 * RING_MAX_IO, "a draining close sends all that was queued");
	ok(closed, "and then completes");
	close(fd);
	is(call((struct ring_sqe){.op = RING_OP_CLOSE, .handle = l}, NULL), 0, "the listener closes");
	is(dial(port), -ECONNREFUSED, "and clients are refused again");
	l = new_socket(AF_INET6, SOCK_STREAM);
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(GUEST_PORT)};
	memcpy(at(BUF), &a6, sizeof(a6));
	is(call((struct ring_sqe){.op = RING_OP_BIND, .handle = l, .addr2 = BUF, .len2 = sizeof(a6)}, NULL),
	   0, "[::] binds the same port");
	is(call((struct ring_sqe){.op = RING_OP_LISTEN, .handle = l, .arg = 16}, NULL), 0,
	   "and listens again");
	submit((struct ring_sqe){.op = RING_OP_ACCEPT, .handle = l, .addr2 = BUF, .len2 = 128});
	fd = dial(port);
	turn(1000);
	ok(reap(&c) && !c.res && c.val2 == sizeof(a6) &&
		   !memcmp((char *)at(BUF) + 18, "\xff\xff\x7f\0\0\1", 6),
	   "the peer is shown v4-mapped");
	close(fd);
}

static void test_udp_server(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int u = socket(AF_INET, SOCK_DGRAM, 0);
	uint32_t h;
	uint64_t val;
	char b[8];

	new_server();
	h = new_socket(AF_INET, SOCK_DGRAM);
	is(bind_to(h, INADDR_ANY, GUEST_PORT), 0, "UDP: the forwarded port binds");
	bind(u, (struct sockaddr *)&a, sizeof(a));
	getsockname(u, (struct sockaddr *)&a, &len);
	struct ring_sqe reply = {.op = RING_OP_SEND,
				 .handle = h,
				 .addr = BUF + 4096,
				 .len = 4,
				 .addr2 = BUF,
				 .len2 = sizeof(a)};
	memcpy(at(BUF), &a, sizeof(a));
	is(call(reply, NULL), -EACCES, "UDP: nobody is sent to unasked");
	a.sin_port = htons(ring_server_host_port(rs, 0));
	sendto(u, "ping", 4, 0, (struct sockaddr *)&a, sizeof(a));
	is(call((struct ring_sqe){.op = RING_OP_RECV,
				  .handle = h,
				  .addr = BUF + 4096,
				  .len = 4,
				  .addr2 = BUF,
				  .len2 = 128},
		&val),
	   4, "UDP: a datagram comes in");
	is(call(reply, NULL), 4, "UDP: and may be answered without an egress rule");
	is(recv(u, b, sizeof(b), MSG_DONTWAIT), 4, "UDP: the answer arrives");
	close(u);
}

static void test_accept_flood(void)
{
	enum { N = 600 };
	static int fds[N];
	struct ring_cqe c;
	unsigned got = 0;
	uint32_t l;

	new_server();
	l = new_socket(AF_INET, SOCK_STREAM);
	bind_to(l, INADDR_ANY, GUEST_PORT);
	call((struct ring_sqe){.op = RING_OP_LISTEN, .handle = l, .arg = 1024}, NULL);
	submit((struct ring_sqe){.op = RING_OP_ACCEPT, .flags = RING_SQE_MORE, .handle = l});
	for (int i = 0; i < N; i++)
		fds[i] = dial(ring_server_host_port(rs, 0));
	turn(0);
	turn(0);
	turn(0);
	turn(0);
	turn(0);
	is(pending() + ring->ctl.more, RING_ENTRIES, "accepts stop when the completion ring is full");
	for (int i = 0; i < 50 && got < N; i++) {
		while (reap(&c))
			got += c.res == 0;
		turn(20);
	}
	is(got, N, "and go on when there is room");
	for (int i = 0; i < N; i++)
		close(fds[i]);
}

static void test_egress(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0);
	uint32_t h;
	uint64_t val = 0;

	bind(l, (struct sockaddr *)&a, sizeof(a));
	listen(l, 5);
	getsockname(l, (struct sockaddr *)&a, &len);
	a.sin_port = a.sin_port;
	bind(u, (struct sockaddr *)&a, sizeof(a));
	uint16_t port = ntohs(a.sin_port);

	cfg.n_egress = 1; /* everything */
	memset(&cfg.egress[0], 0, sizeof(cfg.egress[0]));
	new_server();
	h = new_socket(AF_INET, SOCK_STREAM);
	is(connect_to(h, "127.0.0.1", port), -EACCES, "\"all\" does not open the host's loopback");
	is(connect_to(h, "0.0.0.0", port), -EACCES, "nor the unspecified address");
	cfg.egress[1] = (struct monitor_egress){.prefix = 128};
	memcpy(cfg.egress[1].addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1", 16);
	cfg.n_egress = 2;
	new_server();
	h = new_socket(AF_INET, SOCK_STREAM);
	is(connect_to(h, "127.0.0.1", port), 0, "a rule that names it does");
	is(call((struct ring_sqe){.op = RING_OP_GETNAME, .handle = h, .arg = 1, .addr2 = BUF, .len2 = 128},
		&val),
	   0, "the peer's name");
	is(val, sizeof(a), "is an IPv4 address");
	h = new_socket(AF_INET, SOCK_STREAM);
	is(connect_to(h, "127.0.0.1", 1), -ECONNREFUSED, "a refused connection says so");
	is(connect_to(h, "127.0.0.1", port), 0, "and the socket can connect again");
	cfg.egress[2] = cfg.egress[1];
	cfg.egress[2].deny = true;
	cfg.egress[2].port = port;
	cfg.n_egress = 3;
	h = new_socket(AF_INET, SOCK_STREAM);
	is(connect_to(h, "127.0.0.1", port), -EACCES, "a later rule wins");
	h = new_socket(AF_INET6, SOCK_STREAM);
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	memcpy(&a6.sin6_addr, cfg.egress[1].addr, 16);
	memcpy(at(BUF), &a6, sizeof(a6));
	is(call((struct ring_sqe){.op = RING_OP_CONNECT, .handle = h, .addr2 = BUF, .len2 = sizeof(a6)},
		NULL),
	   -EACCES, "a v4-mapped address is the IPv4 address");
	cfg.n_egress = 2;
	h = new_socket(AF_INET, SOCK_DGRAM);
	memcpy(at(BUF), &a, sizeof(a));
	memcpy(at(BUF + 4096), "ping", 4);
	is(call((struct ring_sqe){.op = RING_OP_SEND,
				  .handle = h,
				  .addr = BUF + 4096,
				  .len = 4,
				  .addr2 = BUF,
				  .len2 = sizeof(a)},
		NULL),
	   4, "a datagram is sent");
	char b[8];
	len = sizeof(a);
	is(recvfrom(u, b, 8, 0, (struct sockaddr *)&a, &len), 4, "and arrives");
	sendto(u, "pongpong", 8, 0, (struct sockaddr *)&a, len);
	is(call((struct ring_sqe){.op = RING_OP_RECV,
				  .handle = h,
				  .addr = BUF + 4096,
				  .len = 4,
				  .addr2 = BUF,
				  .len2 = 128},
		&val),
	   4, "the answer is cut to the buffer");
	is(val, sizeof(a), "and has a source");
	is(call((struct ring_sqe){.op = RING_OP_SOCKET, .arg = AF_PACKET, .arg2 = SOCK_RAW}, NULL),
	   -EAFNOSUPPORT, "no packet sockets");
	is(call((struct ring_sqe){.op = RING_OP_SOCKET, .arg = AF_INET, .arg2 = SOCK_RAW, .off = 1}, NULL),
	   -EPROTONOSUPPORT, "no raw sockets");
	is(call((struct ring_sqe){.op = RING_OP_SETSOCKOPT,
				  .handle = h,
				  .arg = SOL_SOCKET,
				  .arg2 = SO_MARK,
				  .addr = BUF,
				  .len = 4},
		NULL),
	   -ENOPROTOOPT, "options that are not listed are refused");
	close(l);
	close(u);
	cfg.n_egress = 0;
}

static void test_wait(void)
{
	uint64_t t;

	new_server();
	t = mono();
	turn(30);
	ok(mono() - t >= 29000000u, "a wait lasts until its deadline");
	ring_server_interrupt(rs);
	t = mono();
	turn(2000);
	ok(mono() - t < 1000000000u, "an interrupt ends a wait");
	ring_server_event(rs, RING_EV_SIGNAL, 15);
	ring_server_event(rs, RING_EV_SIGNAL, 15);
	turn(2000);
	is(pending(), 1, "events are delivered, equal ones once");
	submit((struct ring_sqe){.op = RING_OP_EXIT, .arg = 7 << 8});
	is(turn(0), TURN_EXIT, "exit");
	is(wait_status, 7 << 8, "with its status");
}

/* --- volumes ------------------------------------------------------------------------ */

static int path_op(int op, const char *path, struct ring_sqe s, uint64_t *val)
{
	strcpy(at(BUF), path);
	s.op = (uint16_t)op;
	s.handle = RING_VOL_BASE;
	s.addr = BUF;
	s.len = (uint32_t)strlen(path);
	return call(s, val);
}

static int two_op(int op, const char *a, const char *b)
{
	strcpy(at(BUF + 8192), b);
	return path_op(op, a, (struct ring_sqe){.addr2 = BUF + 8192, .len2 = (uint32_t)strlen(b)}, NULL);
}

static void test_volume(const char *dir)
{
	struct statx *sx = at(BUF + 4096);
	char outside[4096];
	uint64_t h, val;

	new_server();
	is(path_op(RING_OP_VOL_OPEN, "f",
		   (struct ring_sqe){.arg = O_RDWR | O_CREAT | O_EXCL,
				     .arg2 = 04666,
				     .addr2 = BUF + 4096,
				     .len2 = sizeof(*sx)},
		   &h),
	   0, "a file is created");
	is(sx->stx_mode, S_IFREG | 0666, "with its mode, but no set-user-ID");
	is(sx->stx_uid, 1234, "and the program's user");
	memcpy(at(BUF), "volume data", 11);
	is(call(
		   (struct ring_sqe){
			   .op = RING_OP_VOL_PWRITE, .handle = (uint32_t)h, .addr = BUF, .len = 11, .off = 5},
		   NULL),
	   11, "write");
	is(call((struct ring_sqe){.op = RING_OP_VOL_FSYNC, .handle = (uint32_t)h}, NULL), 0, "fsync");
	is(call(
		   (struct ring_sqe){
			   .op = RING_OP_VOL_PREAD, .handle = (uint32_t)h, .addr = BUF + 100, .len = 100},
		   NULL),
	   16, "read");
	ok(!memcmp((char *)at(BUF + 100) + 5, "volume data", 11), "what was written");
	is(call((struct ring_sqe){.op = RING_OP_VOL_TRUNCATE, .handle = (uint32_t)h, .off = 3}, NULL), 0,
	   "truncate");
	is(call((struct ring_sqe){.op = RING_OP_VOL_STAT,
				  .handle = (uint32_t)h,
				  .addr2 = BUF + 4096,
				  .len2 = sizeof(*sx)},
		NULL),
	   0, "stat");
	is(sx->stx_size, 3, "size");
	is(call((struct ring_sqe){.op = RING_OP_CLOSE, .handle = (uint32_t)h}, NULL), 0, "close");
	is(path_op(RING_OP_VOL_MKDIR, "d", (struct ring_sqe){.arg2 = 0755}, NULL), 0, "mkdir");
	is(two_op(RING_OP_VOL_RENAME, "f", "d/g"), 0, "rename into it");
	is(two_op(RING_OP_VOL_LINK, "d/g", "l"), 0, "link");
	is(path_op(RING_OP_VOL_UNLINK, "d", (struct ring_sqe){.arg = 0x200}, NULL), -ENOTEMPTY,
	   "a full directory stays");
	int n = path_op(RING_OP_NOP, "", (struct ring_sqe){0}, NULL);
	n = call(
		(struct ring_sqe){
			.op = RING_OP_VOL_READDIR, .handle = RING_VOL_BASE, .addr = BUF + 4096, .len = 4096},
		&val);
	ok(n > 0 && memmem(at(BUF + 4096), (size_t)n, "d", 2), "readdir");

	/* escapes */
	is(path_op(RING_OP_VOL_STAT, "../x", (struct ring_sqe){.addr2 = BUF + 4096, .len2 = sizeof(*sx)},
		   NULL),
	   -EXDEV, "no way up");
	is(path_op(RING_OP_VOL_STAT, "/etc/passwd",
		   (struct ring_sqe){.addr2 = BUF + 4096, .len2 = sizeof(*sx)}, NULL),
	   -EXDEV, "no absolute path");
	is(path_op(RING_OP_VOL_UNLINK, "d/..", (struct ring_sqe){.arg = 0x200}, NULL), -EINVAL,
	   "no .. as a name");
	is(two_op(RING_OP_VOL_SYMLINK, "s", "/etc"), 0, "a symbolic link may point anywhere");
	is(path_op(RING_OP_VOL_OPEN, "s/passwd", (struct ring_sqe){.arg = O_RDONLY}, &h), -ELOOP,
	   "but is not followed");
	is(path_op(RING_OP_VOL_OPEN, "s", (struct ring_sqe){.arg = O_RDONLY}, &h), -ELOOP, "nor opened");
	is(path_op(RING_OP_VOL_SETATTR, "s", (struct ring_sqe){.arg = RING_ATTR_MODE, .addr2 = BUF + 12288},
		   NULL),
	   -ELOOP, "nor changed");
	is(path_op(RING_OP_VOL_READLINK, "s", (struct ring_sqe){.addr2 = BUF + 4096, .len2 = 100}, &val), 0,
	   "it can be read");
	is(val, 4, "with its length");
	((struct ring_attr *)at(BUF + 12288))->mode = 04755;
	is(path_op(RING_OP_VOL_SETATTR, "l", (struct ring_sqe){.arg = RING_ATTR_MODE, .addr2 = BUF + 12288},
		   NULL),
	   -EPERM, "set-user-ID is refused");
	snprintf(outside, sizeof(outside), "%s/fifo", dir);
	mkfifo(outside, 0600);
	is(path_op(RING_OP_VOL_OPEN, "fifo", (struct ring_sqe){.arg = O_RDONLY}, &h), -ENXIO,
	   "a FIFO is not opened");
	memcpy(at(BUF), "a\0b", 3);
	is(call((struct ring_sqe){.op = RING_OP_VOL_STAT,
				  .handle = RING_VOL_BASE,
				  .addr = BUF,
				  .len = 3,
				  .addr2 = BUF + 4096,
				  .len2 = sizeof(*sx)},
		NULL),
	   -EINVAL, "no NUL in a path");
	is(call((struct ring_sqe){.op = RING_OP_VOL_STAT,
				  .handle = RING_VOL_BASE + 1,
				  .addr2 = BUF + 4096,
				  .len2 = sizeof(*sx)},
		NULL),
	   -EBADF, "no other volume");

	cfg.volumes[0].ro = true;
	is(path_op(RING_OP_VOL_OPEN, "new", (struct ring_sqe){.arg = O_RDWR | O_CREAT}, &h), -EROFS,
	   "read-only: no create");
	is(path_op(RING_OP_VOL_OPEN, "l", (struct ring_sqe){.arg = O_RDONLY | O_TRUNC}, &h), -EROFS,
	   "no truncating open");
	is(path_op(RING_OP_VOL_MKDIR, "e", (struct ring_sqe){0}, NULL), -EROFS, "no mkdir");
	is(path_op(RING_OP_VOL_UNLINK, "l", (struct ring_sqe){0}, NULL), -EROFS, "no unlink");
	is(two_op(RING_OP_VOL_RENAME, "l", "m"), -EROFS, "no rename");
	is(path_op(RING_OP_VOL_SETATTR, "l", (struct ring_sqe){.arg = RING_ATTR_MODE, .addr2 = BUF + 12288},
		   NULL),
	   -EROFS, "no chmod");
	is(path_op(RING_OP_VOL_OPEN, "l", (struct ring_sqe){.arg = O_RDONLY}, &h), 0, "reading works");
	is(call((struct ring_sqe){.op = RING_OP_VOL_TRUNCATE, .handle = (uint32_t)h}, NULL), -EROFS,
	   "no truncate");
	is(call((struct ring_sqe){.op = RING_OP_VOL_SETATTR, .handle = (uint32_t)h, .addr2 = BUF}, NULL),
	   -EROFS, "no fchmod");
	ok(call((struct ring_sqe){.op = RING_OP_VOL_PWRITE, .handle = (uint32_t)h, .addr = BUF, .len = 1},
		NULL) < 0,
	   "no write");
	cfg.volumes[0].ro = false;
}

int main(void)
{
	char dir[] = "/tmp/ring_server_test.XXXXXX", cmd[64];
	struct sockaddr_in *a = (struct sockaddr_in *)&cfg.ports[0].host;

	mem.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mem.ram_max = RAM;
	mem.ram_fd = -1;
	ring = (struct ring_page *)(mem.ram + RING_GPA);
	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	cfg.n_ports = 1;
	cfg.ports[0].guest = GUEST_PORT;
	cfg.uid = 1234;
	cfg.n_volumes = 1;
	if (!mkdtemp(dir))
		return 1;
	cfg.volumes[0] =
		(struct monitor_volume){.dirfd = open(dir, O_PATH | O_DIRECTORY), .guest_dir = "/data"};

	test_hostile();
	test_full_queue();
	test_wait();
	test_server();
	test_udp_server();
	test_accept_flood();
	test_egress();
	test_volume(dir);
	ring_server_free(rs);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd))
		diag("%s is left", dir);
	return done();
}
