/* SPDX-License-Identifier: ISC */
/*
 * UDP, both ways at once: one receive queue, fed by sockets of the guest through
 * loopback and by the host through a ring handle that is opened when it is first
 * needed (a destination outside, or a forwarded port).
 *
 * Receiving from the host uses slots, each with a buffer for the largest datagram,
 * posted ahead; a datagram is copied out at its size and the slot is posted again
 * unless the queue is full. Slots are added while datagrams come in bursts.
 *
 * A queued message carries a struct sender in front of the payload.
 *
 * UDP-Lite is UDP with a checksum that may cover less. On the way through memory nothing is lost, so inside the guest the two differ
 * in their ports only; the ring does not know it, so there is none to the outside.
 */
#include "guest/net/sock.h"
#include "guest/restored.h"

#define DGRAM_MAX    65507u
#define SLOT_BUF     65536u
#define SLOTS_MAX    8
#define BURST_NS     200000ull
#define BURST_N	     4
#define LOCAL_PEERS  64u
#define SKB_OVERHEAD 256u /* charged per message, so that empty ones count */

struct sender {
	struct inaddr addr;
	u16 ttl, tos; /* as in struct msginfo */
};

struct hudp;
struct slot {
	struct ring_req req;
	struct hudp *h;
	u8 *buf;
	union saddr addr;
	bool posted;
};

struct hudp {
	struct sock *s;
	u32 handle;
	u16 domain;
	bool forwarded; /* it is the forwarded port's */
	u32 n_slots, burst;
	u64 last_ns;
	u32 tx_bytes;
	struct slot *slots[SLOTS_MAX];
	/* senders outside whose address would mean the guest itself in here: clients on the host's loopback */
	u32 n_peers;
	struct inaddr peers[LOCAL_PEERS];
};

struct udptx {
	struct ring_req req;
	struct sock *s;
	union saddr addr;
	u32 len;
	u8 data[];
};

static bool is_lite(const struct sock *s)
{
	return s->protocol == IPPROTO_UDPLITE;
}

static enum port_table port_table(const struct sock *s)
{
	return is_lite(s) ? PORTS_UDPLITE : PORTS_UDP;
}

/* --- receiving ------------------------------------------------------------------------ */

static void slot_done(struct ring_req *req, const struct ring_cqe *cqe);

static bool queue_full(struct sock *s)
{
	return s->rx_bytes >= s->rcvbuf;
}

static void deliver(struct sock *s, struct skb *b)
{
	list_add_tail(&s->rxq, &b->node);
	s->rx_bytes += b->len + SKB_OVERHEAD;
	waitq_wake(&s->wq, POLLIN | POLLRDNORM);
}

static void slot_post(struct slot *sl)
{
	struct hudp *h = sl->h;
	if (sl->posted || h->s->closed || h->handle == RING_NO_HANDLE || queue_full(h->s))
		return;
	sl->req.done = slot_done;
	sl->req.sqe = (struct ring_sqe){.op = RING_OP_RECV,
					.handle = h->handle,
					.addr = ring_buf_gpa(sl->buf).v,
					.len = SLOT_BUF,
					.addr2 = ring_buf_gpa(&sl->addr).v,
					.len2 = sizeof(sl->addr)};
	sl->posted = true;
	sock_get(h->s);
	ring_submit(&sl->req);
}

static void add_slot(struct hudp *h)
{
	struct slot *sl = h->n_slots < SLOTS_MAX ? kzalloc(sizeof(*sl)) : NULL;
	if (!sl)
		return;
	sl->buf = kmalloc(SLOT_BUF);
	if (!sl->buf) {
		kfree(sl);
		return;
	}
	sl->h = h;
	h->slots[h->n_slots++] = sl;
	slot_post(sl);
}

/* Did this address send to us from the host lately? Then that is where it is. */
static bool from_host(const struct hudp *h, const struct inaddr *a)
{
	for (u32 i = 0; h && i < h->n_peers && i < LOCAL_PEERS; i++)
		if (h->peers[i].port == a->port && !memcmp(h->peers[i].ip, a->ip, 16))
			return true;
	return false;
}

static void slot_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct slot *sl = container_of(req, struct slot, req);
	struct hudp *h = sl->h;
	struct sock *s = h->s;
	sl->posted = false;
	if (s->closed)
		goto out;
	if (cqe->res == -ECANCELED) {
		/* the handle was closed; there may be a new one */
	} else if (cqe->res < 0) {
		sock_fail(s, -cqe->res, POLLIN | POLLRDNORM);
		if (cqe->res != -ECONNREFUSED && cqe->res != -EHOSTUNREACH && cqe->res != -ENETUNREACH)
			goto out; /* the handle is of no more use */
	} else {
		struct sock as = {.family = sl->addr.family, .type = SOCK_DGRAM};
		struct inaddr from;
		u32 n = MIN((u32)cqe->res, SLOT_BUF);
		if (inet_parse(&as, &sl->addr, (u32)MIN(cqe->val, sizeof(sl->addr)), &from))
			from = s->remote;
		if (inet_is_local(&from) && !from_host(h, &from))
			h->peers[h->n_peers++ % LOCAL_PEERS] = from;
		struct sender head = {.addr = from};
		struct skb *b = skb_new(n, &head, sizeof(head));
		if (b) {
			memcpy(skb_payload(b), sl->buf, n);
			b->len = n;
			deliver(s, b);
		}
		u64 now = mono_ns();
		h->burst = now - h->last_ns < BURST_NS ? h->burst + 1 : 0;
		h->last_ns = now;
		if (h->burst >= BURST_N) {
			h->burst = 0;
			add_slot(h);
		}
	}
	slot_post(sl);
out:
	sock_put(s);
}

static s64 udp_recv(struct sock *s, struct uio *u, struct msginfo *m)
{
	int r = sock_wait(s, !list_empty(&s->rxq) || s->err || s->shut_rd, m->nonblock, s->rcvtimeo);
	if (r)
		return r;
	if (s->err)
		return sock_error(s);
	if (list_empty(&s->rxq))
		return 0;
	struct skb *b = list_first(&s->rxq, struct skb, node);
	u64 want = MIN((u64)b->len, u->left), n = uio_put(u, skb_payload(b), want);
	s64 ret = m->flags & MSG_TRUNC ? (s64)b->len : (s64)want;
	if (want < b->len)
		m->out_flags |= MSG_TRUNC;
	struct sender head;
	memcpy(&head, b->data, sizeof(head));
	struct inaddr from = head.addr;
	m->ttl = head.ttl;
	m->tos = head.tos;
	if (m->from)
		m->from_len = inet_format(s->family, &from, m->from);
	if (s->pktinfo) {
		m->local = s->local;
		if (inet_is_any(&m->local)) {
			if (inet_is_loopback(&from))
				memcpy(m->local.ip, from.ip, 16);
			else
				inet_own_addr(inet_is_v4(&from) ? AF_INET : AF_INET6, &m->local);
		}
	}
	if (!(m->flags & MSG_PEEK)) {
		list_del(&b->node);
		s->rx_bytes -= b->len + SKB_OVERHEAD;
		skb_free(b);
		struct hudp *h = s->host;
		for (u32 i = 0; h && i < h->n_slots; i++)
			slot_post(h->slots[i]);
	}
	return n < want ? -EFAULT : ret;
}

/* --- the host's side ---------------------------------------------------------------------- */

/* The handle becomes the forwarded port's. Refused: it stays inside the guest. Sleeps. */
static void bind_host(struct sock *s)
{
	struct hudp *h = s->host;
	struct inaddr any = {.port = s->local.port};
	u32 handle = h->handle;
	union saddr *a = kzalloc(sizeof(*a));
	if (!a)
		return;
	struct ring_sqe sqe = {.op = RING_OP_BIND,
			       .handle = handle,
			       .addr2 = ring_buf_gpa(a).v,
			       .len2 = inet_format(h->domain, &any, a)};
	bool done = ring_call(&sqe, NULL, NULL) >= 0;
	h->forwarded = done && h->handle == handle;
	kfree(a);
}

/* A handle of the right family, bound if our port is forwarded. Sleeps. */
static int open_host(struct sock *s, bool v4)
{
	struct hudp *h = s->host;
	u16 domain = v4 ? AF_INET : AF_INET6;
	if (h && h->handle != RING_NO_HANDLE)
		return h->domain == domain ? 0 : -ENETUNREACH;
	if (!h) {
		h = kzalloc(sizeof(*h));
		if (!h)
			return -ENOMEM;
		h->s = s;
		h->handle = RING_NO_HANDLE;
		s->host = h;
	}
	struct ring_sqe sqe = {
		.op = RING_OP_SOCKET, .handle = RING_NO_HANDLE, .arg = domain, .arg2 = SOCK_DGRAM};
	u64 handle;
	s64 r = ring_call(&sqe, &handle, NULL);
	if (r < 0)
		return (int)r;
	if (h->handle != RING_NO_HANDLE) { /* another thread was faster */
		host_close_handle((u32)handle);
		return 0;
	}
	h->handle = (u32)handle;
	h->domain = domain;
	host_push_options(s, h->handle);
	h->forwarded = false;
	if (s->bound && inet_port_forwarded(s->local.port))
		bind_host(s);
	if (h->n_slots) {
		for (u32 i = 0; i < h->n_slots; i++)
			slot_post(h->slots[i]);
	} else {
		add_slot(h);
	}
	return h->n_slots ? 0 : -ENOBUFS;
}

static void close_host(struct sock *s)
{
	struct hudp *h = s->host;
	if (!h || h->handle == RING_NO_HANDLE)
		return;
	struct ring_sqe sqe = {.op = RING_OP_CLOSE, .handle = h->handle, .arg = RING_CLOSE_DRAIN};
	host_fire(&sqe, NULL, 0);
	h->handle = RING_NO_HANDLE;
	h->forwarded = false;
}

static void tx_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct udptx *t = container_of(req, struct udptx, req);
	struct sock *s = t->s;
	struct hudp *h = s->host;
	bool was_full = h->tx_bytes >= s->sndbuf;
	h->tx_bytes -= t->len + SKB_OVERHEAD;
	kfree(t);
	if (cqe->res < 0 && cqe->res != -ECANCELED && !s->closed &&
	    (cqe->res != -ECONNREFUSED || s->state == S_CONNECTED))
		sock_fail(s, -cqe->res, POLLIN | POLLOUT);
	if (was_full && h->tx_bytes < s->sndbuf)
		waitq_wake_all(&s->wq, POLLOUT | POLLWRNORM);
	sock_put(s);
}

static s64 send_host(struct sock *s, struct uio *u, const struct inaddr *to, bool connected,
		     struct msginfo *m)
{
	int r = open_host(s, inet_is_v4(to));
	if (r)
		return r;
	struct hudp *h = s->host;
	r = sock_wait(s, h->tx_bytes < s->sndbuf || s->err, m->nonblock, s->sndtimeo);
	if (r)
		return r;
	u32 len = (u32)u->left;
	struct udptx *t = kmalloc(sizeof(*t) + len);
	if (!t)
		return -ENOBUFS;
	memset(t, 0, sizeof(*t));
	if (uio_get(u, t->data, len) < len) {
		kfree(t);
		return -EFAULT;
	}
	t->s = s;
	t->len = len;
	t->req.done = tx_done;
	h->tx_bytes += len + SKB_OVERHEAD;
	t->req.sqe = (struct ring_sqe){.op = RING_OP_SEND,
				       .flags = h->tx_bytes < s->sndbuf ? RING_SQE_QUIET : 0,
				       .handle = h->handle,
				       .addr = ring_buf_gpa(t->data).v,
				       .len = len};
	if (!connected) {
		t->req.sqe.addr2 = ring_buf_gpa(&t->addr).v;
		t->req.sqe.len2 = inet_format(h->domain, to, &t->addr);
	}
	sock_get(s);
	ring_submit(&t->req);
	return len;
}

/* --- loopback, sending --------------------------------------------------------------------- */

static s64 send_local(struct sock *s, struct uio *u, const struct inaddr *to, const struct msginfo *m)
{
	struct sender from = {s->local, m->ttl ? m->ttl : (u16)(s->ttl + 1),
			      m->tos ? m->tos : (u16)(s->tos + 1)};
	u32 len = (u32)u->left;
	if (inet_is_any(&from.addr))
		memcpy(from.addr.ip, to->ip, 16);
	struct skb *b = skb_new(len, &from, sizeof(from));
	if (!b)
		return -ENOBUFS;
	b->len = len;
	if (uio_get(u, skb_payload(b), len) < len) {
		skb_free(b);
		return -EFAULT;
	}
	struct sock *t = inet_find(port_table(s), to, &from.addr);
	if (t && !queue_full(t)) {
		deliver(t, b);
		return len;
	}
	skb_free(b);
	if (!t && (s->state == S_CONNECTED || s->recverr))
		sock_fail(s, ECONNREFUSED, POLLIN);
	return len; /* a datagram that nobody takes is lost, as anywhere */
}

static int autobind(struct sock *s)
{
	if (s->bound)
		return 0;
	struct inaddr any = {.port = 0};
	if (s->family == AF_INET)
		any.ip[10] = any.ip[11] = 0xff;
	return inet_bind_port(s, port_table(s), &any);
}

/* 0.0.0.0 and :: mean this host. */
static void resolve_any(struct inaddr *to)
{
	if (inet_is_any(to) && inet_is_v4(to))
		memcpy(to->ip + 12, (const u8[4]){127, 0, 0, 1}, 4);
	else if (inet_is_any(to))
		to->ip[15] = 1;
}

/* Forget the address that connect() chose. */
static void reset_local(struct sock *s)
{
	if (s->named)
		return;
	memset(s->local.ip, 0, 16);
	if (s->family == AF_INET)
		s->local.ip[10] = s->local.ip[11] = 0xff;
}

static s64 udp_send(struct sock *s, struct uio *u, struct msginfo *m)
{
	struct inaddr to;
	int r;
	if (s->shut_wr)
		return -EPIPE;
	if (s->err)
		return sock_error(s);
	if (m->to) {
		r = inet_parse(s, m->to, m->to_len, &to);
		if (r)
			return r;
		if (!to.port)
			return -EINVAL;
		resolve_any(&to);
	} else if (s->state == S_CONNECTED) {
		to = s->remote;
	} else {
		return -EDESTADDRREQ;
	}
	if (u->left > DGRAM_MAX)
		return -EMSGSIZE;
	r = autobind(s);
	if (r)
		return r;
	if (inet_is_local(&to) && !from_host(s->host, &to))
		return send_local(s, u, &to, m);
	if (!inet_has_link() || is_lite(s))
		return -ENETUNREACH;
	return send_host(s, u, &to, !m->to && s->state == S_CONNECTED, m);
}

/* --- the rest ----------------------------------------------------------------------------------- */

static int udp_bind(struct sock *s, const union saddr *a, u32 len)
{
	struct inaddr in;
	int r = s->family == AF_INET6 && len < 24 ? -EINVAL : inet_parse(s, a, len, &in);
	if (r)
		return r;
	if (s->bound)
		return -EINVAL;
	r = inet_bind_port(s, port_table(s), &in);
	if (r)
		return r;
	s->named = !inet_is_any(&s->local);
	if (!is_lite(s) && inet_port_forwarded(s->local.port)) {
		r = open_host(s, s->family == AF_INET);
		if (r)
			log_line(LOG_WARN, "UDP port %u is not reachable from the host: error %d",
				 s->local.port, -r);
	}
	return 0;
}

static int udp_connect(struct sock *s, const union saddr *a, u32 len, bool nonblock)
{
	struct inaddr to;
	if (len < sizeof(a->family))
		return -EINVAL;
	if (a->family == AF_UNSPEC) {
		s->state = S_IDLE;
		memset(&s->remote, 0, sizeof(s->remote));
		reset_local(s);
		close_host(s); /* the next use opens a fresh one */
		return 0;
	}
	int r = inet_parse(s, a, len, &to);
	if (r)
		return r;
	resolve_any(&to);
	r = autobind(s);
	if (r)
		return r;
	bool local = inet_is_local(&to) && !from_host(s->host, &to), v4 = inet_is_v4(&to);
	if (!local) {
		if (!inet_has_link() || is_lite(s))
			return -ENETUNREACH;
		if (s->host && ((struct hudp *)s->host)->domain != (v4 ? AF_INET : AF_INET6))
			close_host(s);
		r = open_host(s, v4);
		union saddr *sa = r ? NULL : kmalloc(sizeof(*sa));
		if (!sa)
			return r ? r : -ENOMEM;
		struct ring_sqe sqe = {.op = RING_OP_CONNECT,
				       .handle = ((struct hudp *)s->host)->handle,
				       .addr2 = ring_buf_gpa(sa).v,
				       .len2 = inet_format(v4 ? AF_INET : AF_INET6, &to, sa)};
		s64 c = ring_call(&sqe, NULL, NULL);
		kfree(sa);
		if (c < 0)
			return (int)c;
	}
	reset_local(s);
	if (!s->named) {
		if (local)
			memcpy(s->local.ip, to.ip, 16);
		else
			inet_own_addr(v4 ? AF_INET : AF_INET6, &s->local);
	}
	s->remote = to;
	s->state = S_CONNECTED;
	return 0;
}

static int udp_listen(struct sock *s, int backlog)
{
	return -EOPNOTSUPP;
}

static u32 udp_poll(struct sock *s)
{
	struct hudp *h = s->host;
	u32 mask = 0;
	if (s->err)
		mask |= POLLERR;
	if (s->shut_rd && s->shut_wr)
		mask |= POLLHUP;
	if (!list_empty(&s->rxq) || s->shut_rd)
		mask |= POLLIN | POLLRDNORM;
	if (s->shut_rd)
		mask |= POLLRDHUP;
	if (!h || h->tx_bytes < s->sndbuf)
		mask |= POLLOUT | POLLWRNORM;
	return mask;
}

static int udp_shutdown(struct sock *s, int how)
{
	if (s->state != S_CONNECTED)
		return -ENOTCONN;
	if (how != SHUT_WR)
		s->shut_rd = true;
	if (how != SHUT_RD)
		s->shut_wr = true;
	waitq_wake_all(&s->wq, 0);
	return 0;
}

static u32 udp_inq(struct sock *s)
{
	return list_empty(&s->rxq) ? 0 : list_first(&s->rxq, struct skb, node)->len;
}

static u32 udp_outq(struct sock *s)
{
	struct hudp *h = s->host;
	return h ? h->tx_bytes : 0;
}

static void udp_option(struct sock *s, int level, int name)
{
	struct hudp *h = s->host;
	if (h && h->handle != RING_NO_HANDLE)
		host_option_async(s, h->handle, level, name);
}

static void udp_close(struct sock *s)
{
	inet_unbind(s);
	close_host(s);
}

static void udp_destroy(struct sock *s)
{
	struct hudp *h = s->host;
	for (u32 i = 0; h && i < h->n_slots; i++) {
		kfree(h->slots[i]->buf);
		kfree(h->slots[i]);
	}
	kfree(h);
}

/*
 * The host's socket is a new one: with other options, and an answer to what the old one sent does not come to it. Who
 * waits for one hears of it, as if nobody had been there, and asks again.
 */
static void renew(struct sock *s)
{
	struct hudp *h = s->host;

	if (!h || h->handle == RING_NO_HANDLE)
		return;
	h->n_peers = 0;
	host_push_options(s, h->handle);
	if (s->state == S_CONNECTED && !inet_is_local(&s->remote))
		sock_fail(s, ECONNREFUSED, POLLIN | POLLOUT);
}

void udp_restored(void)
{
	inet_each(PORTS_UDP, renew);
}

bool udp_is_hidden(struct sock *s)
{
	struct hudp *h = s->host;

	return s->bound && !s->closed && s->state != S_CONNECTED && inet_port_forwarded(s->local.port) &&
	       !(h && h->forwarded);
}

void udp_forward(struct sock *s)
{
	struct hudp *h = s->host;

	if (h && h->handle != RING_NO_HANDLE)
		bind_host(s);
	else
		open_host(s, s->family == AF_INET);
	h = s->host;
	if (s->closed && h && h->handle != RING_NO_HANDLE)
		close_host(s);
}

const struct sock_ops udp_ops = {
	.bind = udp_bind,
	.connect = udp_connect,
	.listen = udp_listen,
	.getname = inet_getname,
	.send = udp_send,
	.recv = udp_recv,
	.poll = udp_poll,
	.shutdown = udp_shutdown,
	.inq = udp_inq,
	.outq = udp_outq,
	.option = udp_option,
	.close = udp_close,
	.destroy = udp_destroy,
};
