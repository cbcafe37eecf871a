// SPDX-License-Identifier: ISC
/*
 * Forwarded ports.
 *
 * Each port that -p forwards has a TCP and a UDP host socket, bound when the
 * server is made (so that a port in use is known before the program starts).
 * BIND of the guest's port to the wildcard address swaps the handle's socket
 * for that one; every other BIND is -EADDRNOTAVAIL, which the guest reads as
 * "keep it inside". The host socket listens only while the guest does: before,
 * and after the guest closed it, clients are refused as by any host where
 * nothing listens. A port may be an AF_UNIX socket instead: net_unix.c.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "monitor/handover.h"
#include "monitor/net.h"
#include "monitor/notify.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(net, listen);
HOST_SYSCALL(net, shutdown);
HOST_SYSCALL(net, connect);
HOST_SYSCALL(net, setsockopt);
HOST_SYSCALL(core, recvmsg);

#define MAX_BACKLOG   4096
#define EARLY_BACKLOG 64 /* clients that wait for a restored program */

/*
 * SO_REUSEADDR lets a port be taken over from connections in TIME_WAIT, but it
 * also lets two sockets be bound to one port while neither listens. So a port's
 * socket has it while it binds and listens, and not while it only keeps the
 * place: another instance's claim then fails, as it should.
 */
static void set_reuse(int fd, int on)
{
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

static void stop_listening(struct ring_server *rs, struct rs_port *p)
{
	if (p->is_unix) {
		net_unix_refuse(rs, p);
		return;
	}
	shutdown(p->tcp, SHUT_RDWR);
	set_reuse(p->tcp, 0);
}

static bool is_wildcard(const union rs_addr *a)
{
	return a->sa.sa_family == AF_INET ? a->in.sin_addr.s_addr == htonl(INADDR_ANY)
					  : IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

static int find_port(struct ring_server *rs, const struct handle *h, uint16_t guest, bool v6only)
{
	for (int i = 0; i < rs->cfg->n_ports; i++) {
		struct rs_port *p = &rs->ports[i];

		if (p->guest != guest || (h->dgram ? p->udp < 0 || p->udp_taken : p->tcp < 0 || p->tcp_taken))
			continue;
		if (h->family == AF_INET6 && v6only && p->family == AF_INET && !p->is_unix)
			continue;
		return i;
	}
	return -1;
}

/* Datagrams that came before anybody was bound are not the guest's. */
static void drop_datagrams(int fd)
{
	uint8_t b;
	struct iovec iov = {&b, 1};

	for (int i = 0; i < 1000; i++) {
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

		if (recvmsg(fd, &m, MSG_DONTWAIT) < 0)
			return;
	}
}

/* The handle's socket becomes that of forwarded port i. */
static void take_port(struct ring_server *rs, struct handle *h, int i)
{
	struct rs_port *p = &rs->ports[i];

	if (h->fd >= 0) {
		if (h->pollable)
			epoll_ctl(rs->epfd, EPOLL_CTL_DEL, h->fd, NULL);
		net_carry_options(h->fd, h->dgram ? p->udp : p->tcp);
		close(h->fd);
	}
	h->fd = h->dgram ? p->udp : p->tcp;
	*(h->dgram ? &p->udp_taken : &p->tcp_taken) = true;
	h->port = (int8_t)i;
	h->is_unix = p->is_unix;
	h->guest_port = p->guest;
	h->pollable = false;
	if (h->dgram) {
		if (!rs->cfg->given)
			drop_datagrams(h->fd);
		handle_watch(rs, h);
		h->writable = true;
	}
}

int net_take_port(struct ring_server *rs, struct handle *h, uint16_t guest, bool v6only)
{
	int i = find_port(rs, h, guest, v6only);

	if (i < 0)
		return -EADDRNOTAVAIL;
	take_port(rs, h, i);
	return 0;
}

/* The host's socket listens for the guest: whoever waits for that is told. */
static int listen_port(struct ring_server *rs, struct handle *h, uint32_t backlog)
{
	struct rs_port *p = &rs->ports[h->port];

	h->backlog = backlog > MAX_BACKLOG ? MAX_BACKLOG : backlog;
	if (p->is_unix) {
		int r = net_unix_listen(rs, p, (int)h->backlog);
		if (r)
			return r;
	} else {
		set_reuse(h->fd, 1);
		if (listen(h->fd, (int)h->backlog))
			return -errno;
	}
	notify_listening(rs->cfg, p->guest);
	return 0;
}

int net_relisten(struct ring_server *rs, struct handle *h, uint32_t backlog)
{
	int r = listen_port(rs, h, backlog);

	if (r)
		return r;
	h->listening = true;
	handle_watch(rs, h);
	return 0;
}

void net_bind(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	union rs_addr a;
	int i, r = net_addr_read(rs, sqe, &a);
	uint16_t port;

	if (!r && (a.sa.sa_family != h->family || h->port >= 0 || h->connecting || h->peer.sa.sa_family))
		r = -EINVAL;
	if (r) {
		rs_complete(rs, sqe, r, 0, 0, 0);
		return;
	}
	port = ntohs(h->family == AF_INET ? a.in.sin_port : a.in6.sin6_port);
	i = is_wildcard(&a) && port ? find_port(rs, h, port, h->v6only) : -1;
	if (i < 0) {
		rs_complete(rs, sqe, -EADDRNOTAVAIL, 0, 0, 0);
		return;
	}
	take_port(rs, h, i);
	rs_complete(rs, sqe, 0, 0, port, 0);
}

void net_listen(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	int r;

	if (h->dgram || h->port < 0)
		r = h->dgram ? -EOPNOTSUPP : -EADDRNOTAVAIL;
	else
		r = listen_port(rs, h, sqe->arg);
	if (!r && !h->listening) {
		h->listening = true;
		handle_watch(rs, h);
	}
	rs_complete(rs, sqe, r, 0, 0, 0);
}

/* A forwarded port's socket goes back to its place; nobody listens on it until the guest binds again. */
void net_close(struct ring_server *rs, struct handle *h)
{
	struct rs_port *p;

	if (h->port < 0)
		return;
	p = &rs->ports[h->port];
	if (h->pollable)
		epoll_ctl(rs->epfd, EPOLL_CTL_DEL, h->fd, NULL);
	if (h->listening)
		stop_listening(rs, p);
	if (h->dgram && h->peer.sa.sa_family) {
		union rs_addr none = {.sa.sa_family = AF_UNSPEC};

		(void)connect(h->fd, &none.sa, sizeof(none.sa)); /* forget the peer */
	}
	*(h->dgram ? &p->udp_taken : &p->tcp_taken) = false;
	h->port = -1;
	h->fd = -1;
	h->pollable = false;
}

/* --- start ------------------------------------------------------------------------------- */

static int open_port_socket(const struct sockaddr_storage *ss, int type)
{
	int zero = 0, err;
	socklen_t len = ss->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	int fd = socket(ss->ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (type == SOCK_STREAM)
		set_reuse(fd, 1);
	if (ss->ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, (const struct sockaddr *)ss, len)) {
		err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

static void addr_text(const struct sockaddr_storage *ss, char *buf, size_t size)
{
	const union rs_addr *a = (const union rs_addr *)ss;
	char ip[INET6_ADDRSTRLEN] = "?";
	bool v6 = a->sa.sa_family == AF_INET6;

	inet_ntop(a->sa.sa_family, v6 ? (const void *)&a->in6.sin6_addr : &a->in.sin_addr, ip, sizeof(ip));
	snprintf(buf, size, v6 ? "[%s]:%u" : "%s:%u", ip, ntohs(v6 ? a->in6.sin6_port : a->in.sin_port));
}

/*
 * restored: its program listens already, in all likelihood, and early clients wait for it here. Where it had no
 * host socket for that yet, the library OS makes one; then it says so, and net_settle() looks after the rest.
 */
static int claim(struct ring_server *rs, struct rs_port *p, bool restored)
{
	if (listen(p->tcp, restored ? EARLY_BACKLOG : 1))
		return -errno;
	if (!restored)
		stop_listening(rs, p);
	return 0;
}

void net_settle(struct ring_server *rs)
{
	bool listens[MONITOR_MAX_PORTS] = {false};

	for (uint32_t i = 0; i < rs->handles_fresh; i++) {
		const struct handle *h = &rs->handles[i];

		if (h->kind == H_SOCKET && h->listening && h->port >= 0)
			listens[h->port] = true;
	}
	for (int i = 0; i < rs->cfg->n_ports; i++)
		if (!listens[i] && rs->ports[i].tcp >= 0 && !rs->ports[i].is_unix)
			stop_listening(rs, &rs->ports[i]);
}

/* The sockets of a moved instance: bound, and listening if they did. */
static int given_port(struct ring_server *rs, int i)
{
	struct rs_port *p = &rs->ports[i];
	const union rs_addr *a = (const union rs_addr *)&rs->cfg->ports[i].host;

	p->guest = rs->cfg->ports[i].guest;
	p->is_unix = a->sa.sa_family == AF_UNIX;
	p->family = p->is_unix ? AF_INET : a->sa.sa_family;
	p->tcp = handover_given(rs->cfg, CTL_FD_TCP, (uint32_t)i);
	p->udp = handover_given(rs->cfg, CTL_FD_UDP, (uint32_t)i);
	p->host = p->is_unix ? 0 : ntohs(a->in.sin_port);
	p->peers = rs->cfg->given_peers[i];
	return p->tcp < 0 ? say_fail(-1, "port %u was not handed over", p->guest) : 0;
}

static int open_port(struct ring_server *rs, int i)
{
	struct rs_port *p = &rs->ports[i];
	struct sockaddr_storage ss = rs->cfg->ports[i].host;
	socklen_t len = sizeof(ss);
	union rs_addr *a = (union rs_addr *)&ss;
	bool any = !a->in.sin_port;
	char text[64];
	int err;

	p->guest = rs->cfg->ports[i].guest;
	if (ss.ss_family == AF_UNIX) {
		p->family = AF_INET;
		p->is_unix = true;
		p->tcp = net_unix_open(rs, &ss);
		return p->tcp < 0 ? -1 : 0;
	}
	p->family = ss.ss_family;
	p->tcp = open_port_socket(&ss, SOCK_STREAM);
	if (any && p->tcp >= 0) {
		/* a port that the kernel chose is lost when a socket stops listening: take it by its number */
		getsockname(p->tcp, &a->sa, &len);
		close(p->tcp);
		p->tcp = open_port_socket(&ss, SOCK_STREAM);
	}
	err = p->tcp < 0 ? p->tcp : claim(rs, p, rs->cfg->restore_fd > 0 && !rs->cfg->prefix);
	if (err) {
		addr_text(&ss, text, sizeof(text));
		say("cannot listen on %s: %s", text, strerror(-err));
		return -1;
	}
	p->host = ntohs(a->in.sin_port); /* the same place in an IPv6 address */
	p->udp = open_port_socket(&ss, SOCK_DGRAM);
	if (p->udp < 0 && rs->cfg->verbose) {
		addr_text(&ss, text, sizeof(text));
		say("UDP port %s is not forwarded: %s", text, strerror(-p->udp));
	}
	return 0;
}

int net_init(struct ring_server *rs)
{
	signal(SIGPIPE, SIG_IGN); /* streams are written by write() */
	for (int i = 0; i < rs->cfg->n_ports; i++)
		rs->ports[i].tcp = rs->ports[i].udp = -1;
	for (int i = 0; i < rs->cfg->n_ports; i++) {
		for (int j = 0; j < i; j++) {
			if (rs->cfg->ports[i].guest == rs->cfg->ports[j].guest) {
				say("port %u of the program is forwarded twice", rs->cfg->ports[i].guest);
				return -1;
			}
		}
		if (rs->cfg->given ? given_port(rs, i) : open_port(rs, i))
			return -1;
	}
	return 0;
}

void net_free(struct ring_server *rs)
{
	for (int i = 0; i < rs->cfg->n_ports; i++) {
		if (rs->ports[i].tcp > 2)
			close(rs->ports[i].tcp);
		if (rs->ports[i].udp > 2)
			close(rs->ports[i].udp);
	}
}
