/* SPDX-License-Identifier: ISC */
/* TCP and UDP over loopback, options, shutdown, nonblocking connect, sendmmsg. */
#include "conf.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int listener(struct sockaddr_in *a)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(*a);
	CHECK("bind", bind(s, (struct sockaddr *)a, sizeof(*a)) == 0);
	CHECK("listen", listen(s, 8) == 0);
	CHECK("getsockname",
	      getsockname(s, (struct sockaddr *)a, &n) == 0 && a->sin_port != 0 && n == sizeof(*a));
	return s;
}
static void *sender(void *arg)
{
	int fd = *(int *)arg;
	char *b = calloc(1, 1 << 20);
	for (int i = 0; i < (1 << 20); i++)
		b[i] = (char)(i * 7);
	size_t off = 0;
	while (off < (1 << 20)) {
		ssize_t n = send(fd, b + off, (1 << 20) - off, 0);
		if (n <= 0)
			break;
		off += (size_t)n;
	}
	shutdown(fd, SHUT_WR);
	free(b);
	return (void *)off;
}

/* A first write to a peer that has closed goes, but no more of it than has room; the next one fails. */
static void peer_has_closed(int l, struct sockaddr_in *a)
{
	size_t size = 256 << 20;
	char *b = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int c = socket(AF_INET, SOCK_STREAM, 0);

	connect(c, (struct sockaddr *)a, sizeof(*a));
	close(accept(l, NULL, NULL));
	ssize_t n = send(c, b, size, 0);
	CHECK("first_write_in_part", n > 0 && (size_t)n < size);
	CHECK_ERR("second_write", send(c, b, size, 0), EPIPE);
	close(c);
	munmap(b, size);
}

int main(void)
{
	struct sockaddr_in a, peer;
	int l = listener(&a), v;
	socklen_t n;
	signal(SIGPIPE, SIG_IGN);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK("connect", connect(c, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK_ERR("connect_twice", connect(c, (struct sockaddr *)&a, sizeof(a)), EISCONN);
	n = sizeof(peer);
	int s = accept4(l, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
	CHECK("accept4", s >= 0 && n == sizeof(peer) && peer.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	CHECK("accept_flags", (fcntl(s, F_GETFL) & O_NONBLOCK) && fcntl(s, F_GETFD) == FD_CLOEXEC);
	struct sockaddr_in me;
	n = sizeof(me);
	getsockname(c, (struct sockaddr *)&me, &n);
	CHECK("peer_is_client", me.sin_port == peer.sin_port);
	char b[1000];
	CHECK_ERR("recv_again", recv(s, b, 10, 0), EAGAIN);
	CHECK("send", send(c, "hello", 5, 0) == 5);
	struct pollfd pf = {s, POLLIN | POLLOUT, 0};
	CHECK("poll_in", poll(&pf, 1, 1000) == 1 && (pf.revents & POLLIN));
	CHECK("peek", recv(s, b, 10, MSG_PEEK) == 5 && recv(s, b, 10, MSG_PEEK) == 5);
	CHECK("fionread", ioctl(s, FIONREAD, &v) == 0 && v == 5);
	CHECK("recv", recv(s, b, 2, 0) == 2 && recv(s, b, 10, 0) == 3 && !memcmp(b, "llo", 3));
	struct iovec iov[2] = {{"ab", 2}, {"cd", 2}};
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = 2};
	CHECK("sendmsg", sendmsg(c, &mh, MSG_NOSIGNAL) == 4);
	poll(&pf, 1, 1000);
	CHECK("recv4", recv(s, b, 100, 0) == 4);
	v = 1;
	n = sizeof(v);
	CHECK("nodelay", setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, n) == 0 &&
				 (v = 0, getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, &n)) == 0 && v);
	CHECK("so_type", getsockopt(c, SOL_SOCKET, SO_TYPE, &v, &n) == 0 && v == SOCK_STREAM);
	CHECK("so_domain", getsockopt(c, SOL_SOCKET, SO_DOMAIN, &v, &n) == 0 && v == AF_INET);
	CHECK("so_acceptconn", getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &v, &n) == 0 && v == 1);
	CHECK("so_error", getsockopt(c, SOL_SOCKET, SO_ERROR, &v, &n) == 0 && v == 0);
	CHECK_ERR("opt_bad", setsockopt(c, SOL_SOCKET, 9999, &v, n), ENOPROTOOPT);
	CHECK_ERR("opt_short", setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, 1), EINVAL);
	struct timeval tv = {0, 20000};
	setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	CHECK_ERR("rcvtimeo", recv(c, b, 1, 0), EAGAIN);
	/* bulk */
	pthread_t t;
	fcntl(s, F_SETFL, 0);
	pthread_create(&t, NULL, sender, &c);
	size_t got = 0;
	bool same = true;
	for (;;) {
		ssize_t k = recv(s, b, sizeof(b), 0);
		if (k <= 0)
			break;
		for (ssize_t i = 0; i < k; i++)
			same &= b[i] == (char)((got + (size_t)i) * 7);
		got += (size_t)k;
	}
	void *sent;
	pthread_join(t, &sent);
	SHOW("bulk", "%zu %ld %d", got, (long)sent, same);
	CHECK("eof", recv(s, b, 10, 0) == 0);
	pf = (struct pollfd){s, POLLIN | POLLRDHUP, 0};
	CHECK("rdhup", poll(&pf, 1, 0) == 1 && (pf.revents & POLLRDHUP));
	CHECK("half_open_send", send(s, "back", 4, 0) == 4);
	struct pollfd pc = {c, POLLIN, 0};
	poll(&pc, 1, 1000);
	CHECK("half_open_recv", recv(c, b, 10, 0) == 4);
	CHECK_ERR("send_after_shutdown", send(c, "x", 1, 0), EPIPE);
	close(s);
	close(c);
	/* refused, nonblocking */
	close(l);
	c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK_ERR("refused", connect(c, (struct sockaddr *)&a, sizeof(a)), ECONNREFUSED);
	close(c);
	l = listener(&a);
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int r = connect(c, (struct sockaddr *)&a, sizeof(a));
	CHECK("nonblock_connect", r == 0 || errno == EINPROGRESS);
	pf = (struct pollfd){c, POLLOUT, 0};
	n = sizeof(v);
	CHECK("connect_pollout", poll(&pf, 1, 1000) == 1 && (pf.revents & POLLOUT) &&
					 getsockopt(c, SOL_SOCKET, SO_ERROR, &v, &n) == 0 && v == 0);
	int dup_l = socket(AF_INET, SOCK_STREAM, 0);
	CHECK_ERR("addrinuse", bind(dup_l, (struct sockaddr *)&a, sizeof(a)), EADDRINUSE);
	CHECK_ERR("recv_notconn", recv(dup_l, b, 1, 0), ENOTCONN);
	n = sizeof(peer);
	CHECK_ERR("getpeername_notconn", getpeername(dup_l, (struct sockaddr *)&peer, &n), ENOTCONN);
	CHECK_ERR("accept_notlisten", accept(dup_l, NULL, NULL), EINVAL);
	CHECK_ERR("notsock", listen(0 + open("/dev/null", O_RDONLY), 1), ENOTSOCK);
	CHECK_ERR("family", socket(77, SOCK_STREAM, 0), EAFNOSUPPORT);
	CHECK_ERR("proto", socket(AF_INET, SOCK_STREAM, 77), EPROTONOSUPPORT);
	/* reset: close with unread data */
	s = accept(l, NULL, NULL);
	fcntl(c, F_SETFL, 0);
	send(c, "unread", 6, 0);
	pf = (struct pollfd){s, POLLIN, 0};
	poll(&pf, 1, 1000);
	close(s);
	CHECK_ERR("reset", recv(c, b, 1, 0), ECONNRESET);
	close(c);
	/* UDP */
	int u1 = socket(AF_INET, SOCK_DGRAM, 0), u2 = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	struct sockaddr_in ua = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CHECK("udp_bind", bind(u1, (struct sockaddr *)&ua, sizeof(ua)) == 0);
	n = sizeof(ua);
	getsockname(u1, (struct sockaddr *)&ua, &n);
	CHECK("sendto", sendto(u2, "dgram-one", 9, 0, (struct sockaddr *)&ua, sizeof(ua)) == 9);
	CHECK("sendto_empty", sendto(u2, "", 0, 0, (struct sockaddr *)&ua, sizeof(ua)) == 0);
	n = sizeof(peer);
	CHECK("recvfrom_trunc",
	      recvfrom(u1, b, 5, MSG_TRUNC, (struct sockaddr *)&peer, &n) == 9 && !memcmp(b, "dgram", 5));
	CHECK("recv_empty", recv(u1, b, 5, 0) == 0);
	CHECK_ERR("udp_again", recv(u2, b, 5, 0), EAGAIN);
	CHECK("reply", sendto(u1, "r", 1, 0, (struct sockaddr *)&peer, n) == 1);
	pf = (struct pollfd){u2, POLLIN, 0};
	CHECK("udp_poll", poll(&pf, 1, 1000) == 1 && recv(u2, b, 5, 0) == 1);
	CHECK_ERR("udp_send_noaddr", send(u1, "x", 1, 0), EDESTADDRREQ);
	CHECK("udp_connect",
	      connect(u2, (struct sockaddr *)&ua, sizeof(ua)) == 0 && send(u2, "c", 1, 0) == 1);
	struct mmsghdr mm[3];
	struct iovec mi[3] = {{"1", 1}, {"22", 2}, {"333", 3}};
	memset(mm, 0, sizeof(mm));
	for (int i = 0; i < 3; i++)
		mm[i].msg_hdr = (struct msghdr){.msg_iov = &mi[i], .msg_iovlen = 1};
	CHECK("sendmmsg", sendmmsg(u2, mm, 3, 0) == 3 && mm[2].msg_len == 3);
	recv(u1, b, 5, 0);
	char rb[3][8];
	for (int i = 0; i < 3; i++)
		mi[i] = (struct iovec){rb[i], 8};
	CHECK("recvmmsg", recvmmsg(u1, mm, 3, MSG_DONTWAIT, NULL) == 3 && mm[1].msg_len == 2);
	int s6 = socket(AF_INET6, SOCK_STREAM, 0);
	CHECK("inet6", s6 >= 0);
	peer_has_closed(l, &a);
	return conf_done();
}
