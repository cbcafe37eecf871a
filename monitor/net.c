// SPDX-License-Identifier: ISC
/*
 * Sockets of the guest, and what it may do with them.
 *
 * A guest's socket is a host socket of the same family and type, non-blocking.
 *
 * Listening: each port that -p forwards has a TCP and a UDP host socket, bound
 * when the server is made (so that a port in use is known before the program
 * starts). BIND of the guest's port to the wildcard address swaps the handle's
 * socket for that one; every other BIND is -EADDRNOTAVAIL, which the guest
 * reads as "keep it inside". The host socket listens only while the guest
 * does: before, and after the guest closed it, clients are refused as by any
 * host where nothing listens.
 *
 * Dialling: each destination is compared with the egress rules (the last rule
 * that matches decides, none: denied). IPv4-mapped IPv6 is IPv4. The host's
 * own loopback and the unspecified address (which Linux takes for loopback)
 * are reached only if a rule names them; a rule for everything does not. A
 * denied destination is -EACCES. A forwarded UDP port may always answer those
 * who sent to it lately.
 *
 * The guest's family and the host socket's may differ on a forwarded port (a
 * guest that listens on [::] behind 0.0.0.0): addresses are translated between
 * IPv4 and v4-mapped on their way to the guest.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "monitor/ring_internal.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(net, socket);
HOST_SYSCALL(net, connect);
HOST_SYSCALL(net, listen);
HOST_SYSCALL(net, accept4);
HOST_SYSCALL(net, shutdown);
HOST_SYSCALL(net, setsockopt);
HOST_SYSCALL(net, getsockopt);
HOST_SYSCALL(net, getsockname);

#define MAX_BACKLOG 4096
#define OPT_MAX	    256u

/* --- addresses ------------------------------------------------------------------ */

static socklen_t addr_len(const union rs_addr *a)
{
	return a->sa.sa_family == AF_INET ? sizeof(a->in) : a->sa.sa_family == AF_INET6 ? sizeof(a->in6) : 0;
}

/* Copy a socket address of the guest. 0 or -errno. */
static int addr_read(struct ring_server *rs, const struct ring_sqe *sqe, union rs_addr *a)
{
	uint8_t buf[sizeof(*a)] = {0};
	uint32_t len = sqe->len2 < sizeof(buf) ? sqe->len2 : sizeof(buf);

	if (!gpa_read(rs->mem, (gpa_t){sqe->addr2}, buf, len)) {
		rs_broken(rs, sqe, "address outside guest memory");
		return -EFAULT;
	}
	memcpy(a, buf, sizeof(buf));
	if (len < sizeof(sa_family_t))
		return -EINVAL;
	if (a->sa.sa_family != AF_UNSPEC && !addr_len(a))
		return -EAFNOSUPPORT;
	return len < addr_len(a) ? -EINVAL : 0;
}

/* As the guest's family has it. */
static void addr_to_guest(const struct handle *h, const union rs_addr *from, union rs_addr *to)
{
	*to = *from;
	if (h->family == AF_INET6 && from->sa.sa_family == AF_INET) {
		memset(to, 0, sizeof(*to));
		to->in6.sin6_family = AF_INET6;
		to->in6.sin6_port = from->in.sin_port;
		to->in6.sin6_addr.s6_addr[10] = to->in6.sin6_addr.s6_addr[11] = 0xff;
		memcpy(&to->in6.sin6_addr.s6_addr[12], &from->in.sin_addr, 4);
	} else if (h->family == AF_INET && from->sa.sa_family == AF_INET6) {
		memset(to, 0, sizeof(*to));
		to->in.sin_family = AF_INET;
		to->in.sin_port = from->in6.sin6_port;
		if (IN6_IS_ADDR_V4MAPPED(&from->in6.sin6_addr))
			memcpy(&to->in.sin_addr, &from->in6.sin6_addr.s6_addr[12], 4);
	}
}

/* Write an address to the guest; its length, or 0 when the guest's memory is not there. */
static uint32_t addr_write(struct ring_server *rs, const struct ring_sqe *sqe, const struct handle *h,
			   const union rs_addr *a)
{
	union rs_addr g;
	uint32_t len;

	addr_to_guest(h, a, &g);
	len = addr_len(&g);
	if (!gpa_write(rs->mem, (gpa_t){sqe->addr2}, &g, len < sqe->len2 ? len : sqe->len2))
		rs_broken(rs, sqe, "address outside guest memory");
	return len;
}

/* val2 of a multi-shot accept. */
static uint64_t addr_pack(const union rs_addr *a)
{
	uint32_t ip;

	if (a->sa.sa_family == AF_INET)
		return RING_PEER_IPV4 | (uint64_t)ntohl(a->in.sin_addr.s_addr) << 16 | ntohs(a->in.sin_port);
	if (a->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
		return 0;
	memcpy(&ip, &a->in6.sin6_addr.s6_addr[12], 4);
	return RING_PEER_IPV4 | (uint64_t)ntohl(ip) << 16 | ntohs(a->in6.sin6_port);
}

/* --- policy ------------------------------------------------------------------------ */

static bool prefix_matches(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned bytes = bits / 8;

	if (bits > 128 || memcmp(a, b, bytes))
		return false;
	return !(bits % 8) || !((a[bytes] ^ b[bytes]) >> (8 - bits % 8));
}

/* The address as 128 bits with IPv4 mapped, and its port. */
static uint16_t addr_normal(const union rs_addr *a, uint8_t out[16])
{
	if (a->sa.sa_family == AF_INET6) {
		memcpy(out, &a->in6.sin6_addr, 16);
		return ntohs(a->in6.sin6_port);
	}
	memset(out, 0, 10);
	out[10] = out[11] = 0xff;
	memcpy(out + 12, &a->in.sin_addr, 4);
	return ntohs(a->in.sin_port);
}

/* Addresses that Linux delivers to the host itself whatever its interfaces are. */
static bool is_host_local(const uint8_t a[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, zero[15];

	if (!memcmp(a, mapped, 12))
		return a[12] == 127 || a[12] == 0;
	return !memcmp(a, zero, 15) && a[15] <= 1;
}

static bool egress_allowed(const struct monitor_config *cfg, const union rs_addr *to)
{
	uint8_t a[16];
	uint16_t port = addr_normal(to, a);
	bool local = is_host_local(a), allowed = false;

	for (int i = 0; i < cfg->n_egress; i++) {
		const struct monitor_egress *e = &cfg->egress[i];

		if (e->port && e->port != port)
			continue;
		if (!prefix_matches(a, e->addr, e->prefix))
			continue;
		if (local && !e->deny && e->prefix <= 96)
			continue;
		allowed = !e->deny;
	}
	return allowed;
}

/* --- options ------------------------------------------------------------------------- */

enum { OPT_SET = 1, OPT_GET = 2, OPT_CARRY = 4, OPT_IGNORE = 8 };
/* CARRY: set before bind, it moves to the forwarded port's socket. IGNORE: without meaning for the host's socket. */
static const struct {
	int level, name, how;
} options[] = {
	{SOL_SOCKET, SO_REUSEADDR, OPT_IGNORE},
	{SOL_SOCKET, SO_REUSEPORT, OPT_IGNORE},
	{SOL_SOCKET, SO_KEEPALIVE, OPT_SET | OPT_GET | OPT_CARRY},
	{SOL_SOCKET, SO_OOBINLINE, OPT_SET | OPT_GET},
	{SOL_SOCKET, SO_LINGER, OPT_SET | OPT_GET},
	{SOL_SOCKET, SO_BROADCAST, OPT_SET | OPT_GET},
	{SOL_SOCKET, SO_SNDBUF, OPT_SET | OPT_GET},
	{SOL_SOCKET, SO_RCVBUF, OPT_SET | OPT_GET},
	{SOL_SOCKET, SO_ERROR, OPT_GET},
	{IPPROTO_TCP, TCP_NODELAY, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_CORK, OPT_SET | OPT_GET},
	{IPPROTO_TCP, TCP_QUICKACK, OPT_SET | OPT_GET},
	{IPPROTO_TCP, TCP_KEEPIDLE, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_KEEPINTVL, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_KEEPCNT, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_USER_TIMEOUT, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_SYNCNT, OPT_SET | OPT_GET},
	{IPPROTO_TCP, TCP_LINGER2, OPT_SET | OPT_GET},
	{IPPROTO_TCP, TCP_DEFER_ACCEPT, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_NOTSENT_LOWAT, OPT_SET | OPT_GET},
	{IPPROTO_TCP, TCP_MAXSEG, OPT_GET},
	{IPPROTO_TCP, TCP_INFO, OPT_GET},
	{IPPROTO_IP, IP_TOS, OPT_SET | OPT_GET},
	{IPPROTO_IP, IP_TTL, OPT_SET | OPT_GET},
	{IPPROTO_IP, IP_MTU_DISCOVER, OPT_SET | OPT_GET},
	{IPPROTO_IPV6, IPV6_V6ONLY, OPT_SET | OPT_GET},
	{IPPROTO_IPV6, IPV6_TCLASS, OPT_SET | OPT_GET},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS, OPT_SET | OPT_GET},
	{IPPROTO_IPV6, IPV6_MTU_DISCOVER, OPT_SET | OPT_GET},
};

static int option_how(uint32_t level, uint32_t name)
{
	for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if ((uint32_t)options[i].level == level && (uint32_t)options[i].name == name)
			return options[i].how;
	return 0;
}

static void op_setsockopt(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	uint8_t val[OPT_MAX];
	int how = option_how(sqe->arg, sqe->arg2), r = -ENOPROTOOPT;

	if (sqe->len > OPT_MAX) {
		rs_complete(rs, sqe, -EINVAL, 0, 0, 0);
		return;
	}
	if (!gpa_read(rs->mem, (gpa_t){sqe->addr}, val, sqe->len)) {
		rs_broken(rs, sqe, "address outside guest memory");
		return;
	}
	if (sqe->arg == IPPROTO_IPV6 && sqe->arg2 == IPV6_V6ONLY && sqe->len >= 4)
		h->v6only = val[0] | val[1] | val[2] | val[3];
	if (how & OPT_IGNORE)
		r = 0;
	else if (how & OPT_SET)
		r = setsockopt(h->fd, (int)sqe->arg, (int)sqe->arg2, val, sqe->len) ? -errno : 0;
	rs_complete(rs, sqe, r, 0, 0, 0);
}

static void op_getsockopt(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	uint8_t val[OPT_MAX] = {0};
	socklen_t len = sqe->len < OPT_MAX ? sqe->len : OPT_MAX;
	int r = -ENOPROTOOPT;

	if (option_how(sqe->arg, sqe->arg2) & OPT_GET)
		r = getsockopt(h->fd, (int)sqe->arg, (int)sqe->arg2, val, &len) ? -errno : 0;
	if (!r && !gpa_write(rs->mem, (gpa_t){sqe->addr}, val, len)) {
		rs_broken(rs, sqe, "address outside guest memory");
		return;
	}
	rs_complete(rs, sqe, r, 0, r ? 0 : len, 0);
}

static void carry_options(int from, int to)
{
	for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		int a = 0, b = 0;
		socklen_t la = sizeof(a), lb = sizeof(b);

		if (!(options[i].how & OPT_CARRY))
			continue;
		if (!getsockopt(from, options[i].level, options[i].name, &a, &la) &&
		    !getsockopt(to, options[i].level, options[i].name, &b, &lb) && a != b)
			setsockopt(to, options[i].level, options[i].name, &a, sizeof(a));
	}
}

/* --- sockets -------------------------------------------------------------------------- */

static void op_socket(struct ring_server *rs, const struct ring_sqe *sqe)
{
	uint32_t domain = sqe->arg, type = sqe->arg2 & 0xf;
	struct handle *h;
	int fd;

	if (!(rs->cfg->n_ports || rs->cfg->n_egress)) {
		rs_complete(rs, sqe, -EACCES, 0, 0, 0);
		return;
	}
	if (domain != AF_INET && domain != AF_INET6) {
		rs_complete(rs, sqe, -EAFNOSUPPORT, 0, 0, 0);
		return;
	}
	if (!((type == SOCK_STREAM && (sqe->off == 0 || sqe->off == IPPROTO_TCP)) ||
	      (type == SOCK_DGRAM && (sqe->off == 0 || sqe->off == IPPROTO_UDP)))) {
		rs_complete(rs, sqe, -EPROTONOSUPPORT, 0, 0, 0);
		return;
	}
	fd = socket((int)domain, (int)type | SOCK_CLOEXEC | SOCK_NONBLOCK, (int)sqe->off);
	if (fd < 0) {
		rs_complete(rs, sqe, -errno, 0, 0, 0);
		return;
	}
	h = handle_new(rs, H_SOCKET, fd);
	if (!h) {
		close(fd);
		rs_complete(rs, sqe, -ENFILE, 0, 0, 0);
		return;
	}
	h->family = (uint16_t)domain;
	h->dgram = type == SOCK_DGRAM;
	/* A stream joins the epoll set when it connects: before that it would only report that it is not connected. */
	if (h->dgram) {
		handle_watch(rs, h);
		h->writable = true;
	}
	rs_complete(rs, sqe, 0, 0, h->id, 0);
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
		if (h->family == AF_INET6 && v6only && p->family == AF_INET)
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

static void op_bind(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	union rs_addr a;
	struct rs_port *p;
	int i, r = addr_read(rs, sqe, &a);
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
	p = &rs->ports[i];
	if (h->pollable)
		epoll_ctl(rs->epfd, EPOLL_CTL_DEL, h->fd, NULL);
	carry_options(h->fd, h->dgram ? p->udp : p->tcp);
	close(h->fd);
	h->fd = h->dgram ? p->udp : p->tcp;
	*(h->dgram ? &p->udp_taken : &p->tcp_taken) = true;
	h->port = (int8_t)i;
	h->guest_port = port;
	h->pollable = false;
	if (h->dgram) {
		drop_datagrams(h->fd);
		handle_watch(rs, h);
		h->writable = true;
	}
	rs_complete(rs, sqe, 0, 0, port, 0);
}

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

static void op_listen(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	uint32_t backlog = sqe->arg > MAX_BACKLOG ? MAX_BACKLOG : sqe->arg;
	int r = 0;

	if (h->dgram || h->port < 0) {
		r = h->dgram ? -EOPNOTSUPP : -EADDRNOTAVAIL;
	} else {
		set_reuse(h->fd, 1);
		r = listen(h->fd, (int)backlog) ? -errno : 0;
	}
	if (!r && !h->listening) {
		h->listening = true;
		handle_watch(rs, h);
	}
	rs_complete(rs, sqe, r, 0, 0, 0);
}

/* Is a connect to `a` wanted and allowed? 0 or -errno. */
static int dial_check(struct ring_server *rs, const struct handle *h, union rs_addr *a)
{
	union rs_addr in = *a;

	if (h->dgram && h->family == AF_INET6)
		addr_to_guest(h, &in, a); /* Linux takes an IPv4 address here: getaddrinfo relies on it */
	if (a->sa.sa_family != h->family)
		return -EAFNOSUPPORT;
	return egress_allowed(rs->cfg, a) ? 0 : -EACCES;
}

/* --- who may be answered ------------------------------------------------------------ */

static bool peer_known(const struct rs_port *p, const uint8_t ip[16], uint16_t port)
{
	for (uint32_t i = 0; i < p->n_peers && i < RS_UDP_PEERS; i++)
		if (p->peers[i].port == port && !memcmp(p->peers[i].ip, ip, 16))
			return true;
	return false;
}

static void peer_seen(struct rs_port *p, const union rs_addr *from)
{
	uint8_t ip[16];
	uint16_t port = addr_normal(from, ip);

	if (peer_known(p, ip, port))
		return;
	memcpy(p->peers[p->n_peers % RS_UDP_PEERS].ip, ip, 16);
	p->peers[p->n_peers++ % RS_UDP_PEERS].port = port;
}

/* Where a datagram goes: `a` as the descriptor's family has it. 0 or -errno. */
static int answer_check(struct ring_server *rs, const struct handle *h, union rs_addr *a)
{
	const struct rs_port *p = h->port >= 0 ? &rs->ports[h->port] : NULL;
	uint8_t ip[16];
	uint16_t port = addr_normal(a, ip);

	if (!p || !peer_known(p, ip, port))
		return dial_check(rs, h, a);
	if (p->family == AF_INET && a->sa.sa_family == AF_INET6) {
		*a = (union rs_addr){.in = {.sin_family = AF_INET, .sin_port = htons(port)}};
		memcpy(&a->in.sin_addr, ip + 12, 4);
	}
	return 0;
}

static void op_connect(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	union rs_addr a;
	int r = addr_read(rs, sqe, &a);
	bool disconnect = !r && a.sa.sa_family == AF_UNSPEC && h->dgram;

	if (!r && h->connecting)
		r = -EALREADY;
	else if (!r && !h->dgram && (h->listening || h->port >= 0 || h->peer.sa.sa_family))
		r = h->peer.sa.sa_family ? -EISCONN : -EOPNOTSUPP;
	else if (!r && !disconnect)
		r = h->dgram ? answer_check(rs, h, &a) : dial_check(rs, h, &a);
	if (!r)
		r = connect(h->fd, &a.sa, disconnect ? sizeof(a.sa) : addr_len(&a)) ? -errno : 0;
	if (!r || r == -EINPROGRESS) {
		memset(&h->peer, 0, sizeof(h->peer));
		if (!disconnect)
			h->peer = a;
	}
	if (r == -EINPROGRESS) {
		h->connecting = true;
		h->writable = false;
		if (handle_queue(rs, &h->out, sqe))
			handle_watch(rs, h);
		return;
	}
	if (!r && !h->pollable) {
		handle_watch(rs, h);
		h->writable = true;
	}
	rs_complete(rs, sqe, r, 0, 0, 0);
}

static bool step_connect(struct ring_server *rs, struct handle *h, struct rs_req *r)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(h->fd, SOL_SOCKET, SO_ERROR, &err, &len))
		err = errno;
	h->connecting = false;
	if (err) {
		union rs_addr none = {.sa.sa_family = AF_UNSPEC};

		connect(h->fd, &none.sa,
			sizeof(none.sa)); /* or the next one would only tell that this one failed */
		memset(&h->peer, 0, sizeof(h->peer));
		h->readable = h->err = h->hup = h->rdhup = false; /* it may connect again */
	}
	req_done(rs, r, -err, 0, 0);
	return true;
}

/* --- accept --------------------------------------------------------------------------- */

/* One connection: 0, or -errno. */
static int accept_one(struct ring_server *rs, struct handle *h, struct handle **out)
{
	union rs_addr peer;
	socklen_t len = sizeof(peer);
	struct handle *n;
	int fd;

	memset(&peer, 0, sizeof(peer));
	fd = accept4(h->fd, &peer.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = handle_new(rs, H_SOCKET, fd);
	if (!n) {
		close(fd);
		return -ENFILE;
	}
	n->family = h->family;
	n->guest_port = h->guest_port;
	n->peer = peer;
	handle_watch(rs, n);
	n->writable = true;
	*out = n;
	return 0;
}

static void stall(struct ring_server *rs, struct handle *h)
{
	if (list_empty(&h->stalled))
		list_add_tail(&rs->stalled, &h->stalled);
}

static bool step_accept(struct ring_server *rs, struct handle *h, struct rs_req *r)
{
	bool many = r->sqe.flags & RING_SQE_MORE;

	for (int i = 0; i < RS_ACCEPT_BATCH && !rs_cq_full(rs); i++) {
		struct handle *n = NULL;
		int err = accept_one(rs, h, &n);

		if (err == -EAGAIN) {
			h->readable = false;
			return false;
		}
		if (err == -ECONNABORTED || err == -EINTR || err == -EPROTO)
			continue;
		if (err) {
			req_done(rs, r, err, 0, 0);
			return true;
		}
		if (many) {
			rs_complete(rs, &r->sqe, 0, RING_CQE_MORE, n->id, addr_pack(&n->peer));
		} else {
			uint32_t len = r->sqe.len2 ? addr_write(rs, &r->sqe, h, &n->peer) : 0;

			req_done(rs, r, 0, n->id, len);
			return true;
		}
	}
	stall(rs, h);
	return false;
}

/* --- data ------------------------------------------------------------------------------- */

static bool step_recv(struct ring_server *rs, struct handle *h, struct rs_req *r)
{
	struct iovec iov = {rs_data(rs, &r->sqe, r->sqe.addr, r->sqe.len), r->sqe.len};
	union rs_addr from;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	uint64_t val = 0, full = 0;
	ssize_t n;

	if (!iov.iov_base)
		return false;
	if (h->dgram) {
		memset(&from, 0, sizeof(from));
		m.msg_name = &from;
		m.msg_namelen = sizeof(from);
		n = recvmsg(h->fd, &m, MSG_DONTWAIT | MSG_TRUNC);
	} else {
		n = read(h->fd, iov.iov_base, iov.iov_len); /* the shortest way into the kernel */
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		h->readable = false;
		return false;
	}
	if (n < 0) {
		req_done(rs, r, -errno, 0, 0);
		return true;
	}
	if (h->dgram) {
		full = (uint64_t)n;
		if ((uint32_t)n > r->sqe.len)
			n = r->sqe.len;
		if (h->port >= 0)
			peer_seen(&rs->ports[h->port], &from);
		if (r->sqe.len2)
			val = addr_write(rs, &r->sqe, h, &from);
	} else if (n && (uint32_t)n < r->sqe.len && !h->rdhup && !h->hup && !h->err) {
		h->readable = false; /* drained: the next byte brings an event */
	}
	req_done(rs, r, (int32_t)n, val, full);
	return true;
}

static bool step_send(struct ring_server *rs, struct handle *h, struct rs_req *r)
{
	uint8_t *p = rs_data(rs, &r->sqe, r->sqe.addr, r->sqe.len);
	struct iovec iov;
	union rs_addr to;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (!p)
		return false;
	if (h->dgram && r->sqe.len2) {
		int err = addr_read(rs, &r->sqe, &to);

		if (!err)
			err = answer_check(rs, h, &to);
		if (err) {
			req_done(rs, r, err, 0, 0);
			return true;
		}
		m.msg_name = &to;
		m.msg_namelen = addr_len(&to);
	}
	do {
		iov = (struct iovec){p + r->done, r->sqe.len - r->done};
		n = h->dgram ? sendmsg(h->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL)
			     : write(h->fd, iov.iov_base, iov.iov_len);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			h->writable = false;
			return false;
		}
		if (n < 0) {
			req_done(rs, r, -errno, 0, 0);
			return true;
		}
		r->done += (uint32_t)n;
	} while (!h->dgram && r->done < r->sqe.len);
	req_done(rs, r, (int32_t)r->done, 0, 0);
	return true;
}

static int do_shutdown(struct ring_server *rs, struct handle *h, uint32_t how)
{
	if (shutdown(h->fd, (int)how))
		return -errno;
	if (how != SHUT_WR)
		h->rdhup = h->readable = true; /* receives end now */
	return 0;
}

bool net_in(struct ring_server *rs, struct handle *h, struct rs_req *r)
{
	return r->sqe.op == RING_OP_ACCEPT ? step_accept(rs, h, r) : step_recv(rs, h, r);
}

bool net_out(struct ring_server *rs, struct handle *h, struct rs_req *r)
{
	switch (r->sqe.op) {
	case RING_OP_CONNECT:
		return step_connect(rs, h, r);
	case RING_OP_SHUTDOWN:
		req_done(rs, r, do_shutdown(rs, h, r->sqe.arg), 0, 0);
		return true;
	default:
		return step_send(rs, h, r);
	}
}

/* --- the rest -------------------------------------------------------------------------- */

static void op_getname(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	union rs_addr a;
	socklen_t len = sizeof(a);
	uint32_t n;

	memset(&a, 0, sizeof(a));
	if (sqe->arg == 1) {
		a = h->peer;
		if (!a.sa.sa_family) {
			rs_complete(rs, sqe, -ENOTCONN, 0, 0, 0);
			return;
		}
	} else if (getsockname(h->fd, &a.sa, &len)) {
		rs_complete(rs, sqe, -errno, 0, 0, 0);
		return;
	} else if (h->guest_port) { /* behind a forwarded port: the guest's own number */
		if (a.sa.sa_family == AF_INET)
			a.in.sin_port = htons(h->guest_port);
		else
			a.in6.sin6_port = htons(h->guest_port);
	}
	n = addr_write(rs, sqe, h, &a);
	rs_complete(rs, sqe, 0, 0, n, 0);
}

static void op_accept(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	if (!h->listening) {
		rs_complete(rs, sqe, -EINVAL, 0, 0, 0);
		return;
	}
	if (!(sqe->flags & RING_SQE_MORE) && !rs_data(rs, sqe, sqe->addr2, sqe->len2))
		return;
	if (handle_queue(rs, &h->in, sqe))
		handle_run(rs, h);
}

static void op_shutdown(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	if (sqe->arg > SHUT_RDWR) {
		rs_complete(rs, sqe, -EINVAL, 0, 0, 0);
	} else if (sqe->arg != SHUT_RD && !list_empty(&h->out)) {
		handle_queue(rs, &h->out, sqe); /* behind the data */
	} else {
		rs_complete(rs, sqe, do_shutdown(rs, h, sqe->arg), 0, 0, 0);
		handle_run(rs, h);
	}
}

void net_op(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	switch (sqe->op) {
	case RING_OP_SOCKET:
		op_socket(rs, sqe);
		break;
	case RING_OP_BIND:
		op_bind(rs, h, sqe);
		break;
	case RING_OP_LISTEN:
		op_listen(rs, h, sqe);
		break;
	case RING_OP_ACCEPT:
		op_accept(rs, h, sqe);
		break;
	case RING_OP_CONNECT:
		op_connect(rs, h, sqe);
		break;
	case RING_OP_SHUTDOWN:
		op_shutdown(rs, h, sqe);
		break;
	case RING_OP_SETSOCKOPT:
		op_setsockopt(rs, h, sqe);
		break;
	case RING_OP_GETSOCKOPT:
		op_getsockopt(rs, h, sqe);
		break;
	case RING_OP_GETNAME:
		op_getname(rs, h, sqe);
		break;
	default:
		rs_complete(rs, sqe, -EINVAL, 0, 0, 0);
	}
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
	if (h->listening) {
		shutdown(h->fd, SHUT_RDWR);
		set_reuse(h->fd, 0);
	}
	if (h->dgram && h->peer.sa.sa_family) {
		union rs_addr none = {.sa.sa_family = AF_UNSPEC};

		connect(h->fd, &none.sa, sizeof(none.sa));
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

static int claim(int fd)
{
	if (listen(fd, 1))
		return -errno;
	shutdown(fd, SHUT_RDWR);
	set_reuse(fd, 0);
	return 0;
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
	p->family = ss.ss_family;
	p->tcp = open_port_socket(&ss, SOCK_STREAM);
	if (any && p->tcp >= 0) {
		/* a port that the kernel chose is lost when a socket stops listening: take it by its number */
		getsockname(p->tcp, &a->sa, &len);
		close(p->tcp);
		p->tcp = open_port_socket(&ss, SOCK_STREAM);
	}
	err = p->tcp < 0 ? p->tcp : claim(p->tcp);
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
		if (open_port(rs, i))
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
