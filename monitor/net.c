// SPDX-License-Identifier: ISC
/*
 * Sockets of the guest: making them, connections, data.
 *
 * A guest's socket is a host socket of the same family and type, non-blocking.
 * net_port.c: forwarded ports, net_policy.c: whom it may talk to, net_option.c:
 * options, net_addr.c: addresses.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "monitor/net.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(net, socket);
HOST_SYSCALL(net, connect);
HOST_SYSCALL(net, accept4);
HOST_SYSCALL(net, shutdown);
HOST_SYSCALL(net, getsockopt);
HOST_SYSCALL(net, getsockname);

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

static void op_connect(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	union rs_addr a;
	int r = net_addr_read(rs, sqe, &a);
	bool disconnect = !r && a.sa.sa_family == AF_UNSPEC && h->dgram;

	if (!r && h->connecting)
		r = -EALREADY;
	else if (!r && !h->dgram && (h->listening || h->port >= 0 || h->peer.sa.sa_family))
		r = h->peer.sa.sa_family ? -EISCONN : -EOPNOTSUPP;
	else if (!r && !disconnect)
		r = h->dgram ? net_answer_check(rs, h, &a) : net_dial_check(rs, h, &a);
	if (!r)
		r = connect(h->fd, &a.sa, disconnect ? sizeof(a.sa) : net_addr_len(&a)) ? -errno : 0;
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

		/* or the next one would only tell that this one failed */
		(void)connect(h->fd, &none.sa, sizeof(none.sa));
		memset(&h->peer, 0, sizeof(h->peer));
		h->readable = h->err = h->hup = h->rdhup = false; /* it may connect again */
	}
	req_done(rs, r, -err, 0, 0);
	return true;
}

/* --- accept --------------------------------------------------------------------------- */

static void note_first(const struct ring_server *rs, uint64_t *at)
{
	struct timespec t;

	if (*at || rs->cfg->stats == STATS_NONE)
		return;
	clock_gettime(CLOCK_MONOTONIC, &t);
	*at = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void ring_server_firsts(const struct ring_server *rs, uint64_t *accept_ns, uint64_t *answer_ns)
{
	*accept_ns = rs->accept_ns;
	*answer_ns = rs->answer_ns;
}

/* One connection: 0, or -errno. */
static int accept_one(struct ring_server *rs, struct handle *h, struct handle **out)
{
	union rs_addr peer;
	socklen_t len = sizeof(peer);
	struct handle *n;
	int fd;

	memset(&peer, 0, sizeof(peer));
	fd = accept4(h->fd, h->is_unix ? NULL : &peer.sa, h->is_unix ? NULL : &len,
		     SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = handle_new(rs, H_SOCKET, fd);
	if (!n) {
		close(fd);
		return -ENFILE;
	}
	n->family = h->family;
	n->guest_port = h->guest_port;
	n->is_unix = h->is_unix;
	if (h->is_unix)
		net_unix_peer(rs, h, &peer);
	n->peer = peer;
	rs->had_peer = true;
	note_first(rs, &rs->accept_ns);
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
		if (err || !n) {
			req_done(rs, r, err, 0, 0);
			return true;
		}
		if (many) {
			rs_complete(rs, &r->sqe, 0, RING_CQE_MORE, n->id, net_addr_pack(&n->peer));
		} else {
			uint32_t len = r->sqe.len2 ? net_addr_write(rs, &r->sqe, h, &n->peer) : 0;

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
		if (h->port >= 0) {
			rs->had_peer = true;
			net_peer_seen(&rs->ports[h->port], &from);
		}
		if (r->sqe.len2)
			val = net_addr_write(rs, &r->sqe, h, &from);
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
		int err = net_addr_read(rs, &r->sqe, &to);

		if (!err)
			err = net_answer_check(rs, h, &to);
		if (err) {
			req_done(rs, r, err, 0, 0);
			return true;
		}
		m.msg_name = &to;
		m.msg_namelen = net_addr_len(&to);
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
	if (!h->dgram && h->guest_port) { /* on a connection that was accepted */
		rs->answered = true;
		note_first(rs, &rs->answer_ns);
	}
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
	} else if (h->is_unix) {
		net_unix_name(h, &a);
	} else if (getsockname(h->fd, &a.sa, &len)) {
		rs_complete(rs, sqe, -errno, 0, 0, 0);
		return;
	} else if (h->guest_port) { /* behind a forwarded port: the guest's own number */
		if (a.sa.sa_family == AF_INET)
			a.in.sin_port = htons(h->guest_port);
		else
			a.in6.sin6_port = htons(h->guest_port);
	}
	n = net_addr_write(rs, sqe, h, &a);
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
	if (!h) { /* RING_OP_SOCKET, which alone needs none */
		op_socket(rs, sqe);
		return;
	}
	if (h->dead && !(sqe->op == RING_OP_GETNAME && sqe->arg == 1)) {
		rs_complete(rs, sqe, sqe->op == RING_OP_CONNECT ? -ECONNRESET : -ENOTCONN, 0, 0, 0);
		return;
	}
	switch (sqe->op) {
	case RING_OP_BIND:
		net_bind(rs, h, sqe);
		break;
	case RING_OP_LISTEN:
		net_listen(rs, h, sqe);
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
		net_setsockopt(rs, h, sqe);
		break;
	case RING_OP_GETSOCKOPT:
		net_getsockopt(rs, h, sqe);
		break;
	case RING_OP_GETNAME:
		op_getname(rs, h, sqe);
		break;
	default:
		rs_complete(rs, sqe, -EINVAL, 0, 0, 0);
	}
}
