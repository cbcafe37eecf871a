/* SPDX-License-Identifier: ISC */
/*
 * TCP over ring handles: the host's sockets, reached through the monitor.
 *
 *   IDLE --host_connect--> CONNECTING --connect_done--> CONNECTED --host_close--> closing --close_done--> freed
 *   listener --accept_done--> child, CONNECTED
 *
 * Receiving. One buffer per connection, posted ahead with RECV. While it is
 * posted it belongs to the monitor; when the completion has come the app reads
 * out of it, and the read that takes the last byte posts it again (a queued
 * submission, no exit). It starts small, doubles when it was filled and shrinks
 * when it was mostly empty, so an idle connection holds BUF_MIN bytes.
 *
 * Sending. A write copies into the last unsent chunk. Chunks become SEND requests
 * only just before a doorbell (ring_defer), so what the app writes in one turn of
 * its loop leaves as one request per connection. `tx_bytes` counts what was
 * written and has not been taken by the host yet, bounded by SO_SNDBUF. SENDs are
 * QUIET while the socket stays writable: nobody can be waiting for them then.
 *
 * Errors come with completions and are kept in s->err, as TCP's are.
 *
 * Closing sends everything first: chunks, then CLOSE with RING_CLOSE_DRAIN, all
 * in one doorbell. net_drain() waits for these before the instance ends.
 *
 * Every outstanding request holds one reference of the socket.
 */
#include "guest/net/sock.h"

#include "guest/net/net.h"

#define BUF_MIN	  2048u
#define BUF_MAX	  (128u << 10)
#define CHUNK_MIN 1024u
#define CHUNK_MAX (128u << 10)

struct txbuf {
	struct list node;
	struct ring_req req;
	struct sock *s;
	u32 len, cap;
	u8 data[];
};

struct hconn {
	struct sock *s;
	u32 handle;
	bool rx_posted, rx_eof, tx_broken, shut_wanted, no_remote;
	struct ring_req rx, ctl;
	u8 *buf;
	u32 cap, want, len, off; /* buffer: size, size to post next, received, consumed */
	struct list txq; /* chunks not submitted yet */
	u32 tx_bytes;
	struct ring_deferred defer;
	union saddr addr;
};

struct hlisten {
	struct sock *s;
	u32 handle;
	struct ring_req accept;
	bool armed, cancelled, dead;
	struct ktimer retry; /* the host was out of descriptors or memory */
};
#define ACCEPT_RETRY_NS 100000000ull

static u32 n_closing;
static struct waitq *closing_wq;

/* --- requests that nobody waits for -------------------------------------------- */

struct fire {
	struct ring_req req;
	u8 data[32];
};

static void fire_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	if (!(cqe->flags & RING_CQE_MORE))
		kfree(container_of(req, struct fire, req));
}

bool host_fire(const struct ring_sqe *sqe, const void *data, u32 n)
{
	struct fire *f = kzalloc(sizeof(*f));
	if (!f)
		return false;
	f->req.done = fire_done;
	f->req.sqe = *sqe;
	f->req.sqe.flags |= RING_SQE_QUIET;
	if (n) {
		memcpy(f->data, data, n);
		f->req.sqe.addr = ring_buf_gpa(f->data).v;
		f->req.sqe.len = n;
	}
	ring_submit(&f->req);
	return true;
}

void host_close_handle(u32 handle)
{
	struct ring_sqe sqe = {.op = RING_OP_CLOSE, .handle = handle};
	if (!host_fire(&sqe, NULL, 0))
		log_line(LOG_WARN, "no memory to close a host socket");
}

static void set_host_option(u32 handle, int level, int name, const void *val, u32 n)
{
	struct ring_sqe sqe = {
		.op = RING_OP_SETSOCKOPT, .handle = handle, .arg = (u32)level, .arg2 = (u32)name};
	host_fire(&sqe, val, n);
}

/* Options that change what the host does. Others stay in the guest. */
void host_option_async(struct sock *s, u32 handle, int level, int name)
{
	int v;
	if (level == SOL_SOCKET && name == SO_KEEPALIVE)
		v = s->keepalive;
	else if (level == SOL_SOCKET && name == SO_BROADCAST)
		v = s->broadcast;
	else if (level == SOL_TCP && name == TCP_NODELAY)
		v = s->nodelay;
	else if (level == SOL_TCP && name == TCP_KEEPIDLE)
		v = (int)s->keepidle;
	else if (level == SOL_TCP && name == TCP_KEEPINTVL)
		v = (int)s->keepintvl;
	else if (level == SOL_TCP && name == TCP_KEEPCNT)
		v = (int)s->keepcnt;
	else if (level == SOL_TCP && name == TCP_USER_TIMEOUT)
		v = (int)s->user_timeout;
	else if (level == SOL_IP && name == IP_TOS)
		v = s->tos;
	else
		return;
	set_host_option(handle, level, name, &v, sizeof(v));
}

void host_push_options(struct sock *s, u32 handle)
{
	if (s->keepalive)
		host_option_async(s, handle, SOL_SOCKET, SO_KEEPALIVE);
	if (s->broadcast)
		host_option_async(s, handle, SOL_SOCKET, SO_BROADCAST);
	if (s->nodelay)
		host_option_async(s, handle, SOL_TCP, TCP_NODELAY);
	if (s->keepidle)
		host_option_async(s, handle, SOL_TCP, TCP_KEEPIDLE);
	if (s->keepintvl)
		host_option_async(s, handle, SOL_TCP, TCP_KEEPINTVL);
	if (s->keepcnt)
		host_option_async(s, handle, SOL_TCP, TCP_KEEPCNT);
	if (s->user_timeout)
		host_option_async(s, handle, SOL_TCP, TCP_USER_TIMEOUT);
	if (s->tos)
		host_option_async(s, handle, SOL_IP, IP_TOS);
}

/* --- receiving -------------------------------------------------------------------- */

static void rx_done(struct ring_req *req, const struct ring_cqe *cqe);
static void tx_run(struct ring_deferred *d);

static struct hconn *conn_new(struct sock *s)
{
	struct hconn *h = kzalloc(sizeof(*h));
	if (!h)
		return NULL;
	h->s = s;
	h->handle = RING_NO_HANDLE;
	h->want = BUF_MIN;
	h->rx.done = rx_done;
	list_init(&h->txq);
	list_init(&h->defer.node);
	h->defer.run = tx_run;
	s->host = h;
	return h;
}

/* Mostly empty: as small as twice what came, so that a connection that is idle after a burst holds little. */
static u32 shrink(u32 cap, u32 len)
{
	while (cap > BUF_MIN && cap > len * 4)
		cap /= 2;
	return cap;
}

/* Give the (empty) buffer to the monitor. */
static void rx_post(struct hconn *h)
{
	struct sock *s = h->s;
	if (h->rx_posted || h->rx_eof || s->closed || s->shut_rd)
		return;
	if (h->cap != h->want) {
		u8 *b = kmalloc(h->want);
		if (!b && !h->buf)
			return; /* the next read tries again */
		if (b) {
			kfree(h->buf);
			h->buf = b;
			h->cap = h->want;
		}
		h->want = h->cap;
	}
	h->len = h->off = 0;
	h->rx.sqe = (struct ring_sqe){
		.op = RING_OP_RECV, .handle = h->handle, .addr = ring_buf_gpa(h->buf).v, .len = h->cap};
	h->rx_posted = true;
	sock_get(s);
	ring_submit(&h->rx);
}

static void rx_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct hconn *h = container_of(req, struct hconn, rx);
	struct sock *s = h->s;
	h->rx_posted = false;
	if (s->closed) {
		sock_put(s);
		return;
	}
	if (cqe->res > 0) {
		h->len = MIN((u32)cqe->res, h->cap);
		if (h->len == h->cap)
			h->want = MIN(h->cap * 2, BUF_MAX);
		else if (h->len < h->cap / 4)
			h->want = shrink(h->cap, h->len);
		waitq_wake(&s->wq, POLLIN | POLLRDNORM);
	} else {
		h->rx_eof = true;
		if (cqe->res < 0 && cqe->res != -ECANCELED) {
			s->err = -cqe->res;
			h->tx_broken = true;
		}
		waitq_wake_all(&s->wq, POLLIN | POLLRDNORM | POLLRDHUP |
					       (s->err	     ? POLLERR | POLLHUP | POLLOUT
						: s->shut_wr ? POLLHUP
							     : 0));
	}
	sock_put(s);
}

static s64 host_recv(struct sock *s, struct uio *u, struct msginfo *m)
{
	struct hconn *h = s->host;
	u64 done = 0;
	int r = 0;
	if (s->state == S_CONNECTING) {
		r = sock_wait(s, s->state != S_CONNECTING, m->nonblock, s->rcvtimeo);
		if (r)
			return r;
		if (s->state != S_CONNECTED)
			return s->err ? sock_error(s) : -ENOTCONN;
	}
	while (u->left) {
		u32 avail = h->len - h->off;
		if (avail) {
			u64 n = MIN((u64)avail, u->left), put = n;
			if (m->flags & MSG_TRUNC)
				uio_skip(u, n);
			else
				put = uio_put(u, h->buf + h->off, n);
			if (!put)
				return done ? (s64)done : -EFAULT;
			done += put;
			if (m->flags & MSG_PEEK)
				break;
			h->off += (u32)put;
			if (h->off == h->len)
				rx_post(h);
			if (put < n || !(m->flags & MSG_WAITALL))
				break;
			continue;
		}
		if (s->err) {
			r = done ? 0 : sock_error(s);
			break;
		}
		if (h->rx_eof || s->shut_rd)
			break;
		rx_post(h);
		r = sock_wait(s, h->len != h->off || s->err || h->rx_eof || s->shut_rd, m->nonblock,
			      s->rcvtimeo);
		if (r)
			break;
	}
	return done ? (s64)done : r;
}

/* --- sending ------------------------------------------------------------------------ */

static bool tx_writable(struct hconn *h)
{
	return (u64)h->tx_bytes * 3 <= (u64)h->s->sndbuf * 2;
}

static void tx_drop(struct hconn *h)
{
	while (!list_empty(&h->txq)) {
		struct txbuf *t = list_first(&h->txq, struct txbuf, node);
		list_del(&t->node);
		h->tx_bytes -= t->len;
		kfree(t);
	}
}

static void tx_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct txbuf *t = container_of(req, struct txbuf, req);
	struct sock *s = t->s;
	struct hconn *h = s->host;
	bool was = tx_writable(h);
	h->tx_bytes -= t->len;
	kfree(t);
	if (cqe->res < 0 && !h->tx_broken && cqe->res != -ECANCELED) {
		h->tx_broken = true;
		tx_drop(h);
		if (!s->closed)
			sock_fail(s, -cqe->res, POLLOUT | POLLHUP);
	} else if (!was && tx_writable(h)) {
		waitq_wake_all(&s->wq, POLLOUT | POLLWRNORM);
	} else if (s->closed && !h->tx_bytes) {
		waitq_wake_all(&s->wq, 0); /* SO_LINGER */
	}
	sock_put(s);
}

/* Just before a doorbell: what was gathered becomes requests. */
static void tx_run(struct ring_deferred *d)
{
	struct hconn *h = container_of(d, struct hconn, defer);
	struct sock *s = h->s;
	u16 flags = tx_writable(h) && !(s->closed && s->linger) ? RING_SQE_QUIET : 0;
	while (!list_empty(&h->txq)) {
		struct txbuf *t = list_first(&h->txq, struct txbuf, node);
		list_del(&t->node);
		t->req.done = tx_done;
		t->req.sqe = (struct ring_sqe){.op = RING_OP_SEND,
					       .flags = flags,
					       .handle = h->handle,
					       .addr = ring_buf_gpa(t->data).v,
					       .len = t->len};
		sock_get(s);
		ring_submit(&t->req);
	}
	if (h->shut_wanted) {
		h->shut_wanted = false;
		struct ring_sqe sqe = {.op = RING_OP_SHUTDOWN, .handle = h->handle, .arg = SHUT_WR};
		host_fire(&sqe, NULL, 0);
	}
}

/* A chunk with room for some of the next n bytes. */
static struct txbuf *tx_chunk(struct hconn *h, u64 n)
{
	if (!list_empty(&h->txq)) {
		struct txbuf *t = list_last(&h->txq, struct txbuf, node);
		if (t->len < t->cap)
			return t;
	}
	u64 size = CHUNK_MIN;
	while (size < CHUNK_MAX && size < n + sizeof(struct txbuf))
		size *= 2;
	struct txbuf *t = NULL;
	for (; !t && size >= CHUNK_MIN; size /= 2) {
		t = kmalloc(size);
		if (t) {
			memset(t, 0, sizeof(*t));
			t->cap = (u32)(size - sizeof(*t));
		}
	}
	if (t) {
		t->s = h->s;
		list_add_tail(&h->txq, &t->node);
	}
	return t;
}

static s64 host_send(struct sock *s, struct uio *u, struct msginfo *m)
{
	struct hconn *h = s->host;
	u64 done = 0;
	int r = 0;
	if (s->state == S_CONNECTING) {
		r = sock_wait(s, s->state != S_CONNECTING, m->nonblock, s->sndtimeo);
		if (r)
			return r;
		if (s->state != S_CONNECTED)
			return s->err ? sock_error(s) : -EPIPE;
	}
	while (u->left) {
		if (s->err) {
			r = done ? 0 : sock_error(s); /* the next call tells */
			break;
		}
		if (h->tx_broken || s->shut_wr) {
			r = -EPIPE;
			break;
		}
		if (h->tx_bytes >= s->sndbuf) {
			r = sock_wait(s, h->tx_bytes < s->sndbuf || s->err || h->tx_broken || s->shut_wr,
				      m->nonblock, s->sndtimeo);
			if (r)
				break;
			continue;
		}
		u64 n = MIN(u->left, (u64)(s->sndbuf - h->tx_bytes));
		struct txbuf *t = tx_chunk(h, n);
		if (!t) {
			r = -ENOBUFS;
			break;
		}
		n = uio_get(u, t->data + t->len, MIN(n, (u64)(t->cap - t->len)));
		t->len += (u32)n;
		h->tx_bytes += (u32)n;
		if (!t->len) {
			list_del(&t->node);
			kfree(t);
		}
		if (!n) {
			r = -EFAULT;
			break;
		}
		done += n;
		ring_defer(&h->defer);
	}
	return done ? (s64)done : r;
}

/* --- readiness, shutdown, close -------------------------------------------------------- */

static u32 host_poll(struct sock *s)
{
	struct hconn *h = s->host;
	u32 mask = 0;
	if (s->state == S_CONNECTING)
		return 0;
	bool eof = h->rx_eof || s->shut_rd;
	if (s->err)
		mask |= POLLERR;
	if ((eof && s->shut_wr) || h->tx_broken)
		mask |= POLLHUP;
	if (eof)
		mask |= POLLIN | POLLRDNORM | POLLRDHUP;
	if (h->len != h->off)
		mask |= POLLIN | POLLRDNORM;
	if (tx_writable(h) || s->shut_wr || h->tx_broken)
		mask |= POLLOUT | POLLWRNORM;
	return mask;
}

static int host_shutdown(struct sock *s, int how)
{
	struct hconn *h = s->host;
	if (s->state != S_CONNECTED)
		return -ENOTCONN;
	if (how != SHUT_WR && !s->shut_rd) {
		s->shut_rd = true;
		struct ring_sqe sqe = {.op = RING_OP_SHUTDOWN, .handle = h->handle, .arg = SHUT_RD};
		host_fire(&sqe, NULL, 0);
	}
	if (how != SHUT_RD && !s->shut_wr) {
		s->shut_wr = true;
		h->shut_wanted = true;
		ring_defer(&h->defer);
	}
	waitq_wake_all(&s->wq, 0);
	return 0;
}

static void close_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct hconn *h = container_of(req, struct hconn, ctl);
	n_closing--;
	if (closing_wq)
		waitq_wake_all(closing_wq, 0);
	sock_put(h->s);
}

static void host_close(struct sock *s)
{
	struct hconn *h = s->host;
	inet_unbind(s);
	if (h->handle == RING_NO_HANDLE)
		return; /* SOCKET still outstanding: its completion sees `closed` */
	if (s->state == S_CONNECTING) {
		host_close_handle(h->handle); /* cancels CONNECT */
		h->handle = RING_NO_HANDLE;
		return;
	}
	bool abort = s->linger && !s->linger_s;
	if (abort) {
		int l[2] = {1, 0};
		tx_drop(h);
		set_host_option(h->handle, SOL_SOCKET, SO_LINGER, l, sizeof(l));
	} else {
		tx_run(&h->defer);
	}
	h->ctl.done = close_done;
	h->ctl.sqe = (struct ring_sqe){.op = RING_OP_CLOSE,
				       .flags = RING_SQE_QUIET,
				       .handle = h->handle,
				       .arg = abort ? 0 : RING_CLOSE_DRAIN};
	n_closing++;
	sock_get(s);
	ring_submit(&h->ctl);
	if (s->linger && s->linger_s && h->tx_bytes)
		wait_event(&s->wq, !h->tx_bytes, mono_ns() + s->linger_s * NS_PER_SEC, true);
}

void host_free(struct sock *s)
{
	struct hconn *h = s->host;
	if (!h)
		return;
	tx_drop(h);
	list_del(&h->defer.node);
	kfree(h->buf);
	kfree(h);
	s->host = NULL;
}

void net_drain(u64 timeout_ns)
{
	struct waitq q;
	u64 end = mono_ns() + timeout_ns;
	if (ring_pending())
		ring_flush();
	if (!n_closing)
		return;
	waitq_init(&q);
	closing_wq = &q;
	wait_event(&q, !n_closing, end, false);
	closing_wq = NULL;
}

/* --- connecting ------------------------------------------------------------------------ */

static void connect_failed(struct sock *s, int err)
{
	struct hconn *h = s->host;
	if (h->handle != RING_NO_HANDLE)
		host_close_handle(h->handle);
	h->handle = RING_NO_HANDLE;
	s->state = S_IDLE;
	s->ops = &tcp_ops;
	s->err = err;
	waitq_wake_all(&s->wq, POLLIN | POLLOUT | POLLERR | POLLHUP);
}

static void connect_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct hconn *h = container_of(req, struct hconn, ctl);
	struct sock *s = h->s;
	if (s->closed) {
		/* host_close() closed the handle */
	} else if (cqe->res < 0) {
		connect_failed(s, -cqe->res);
	} else {
		s->state = S_CONNECTED;
		rx_post(h);
		waitq_wake_all(&s->wq, POLLOUT | POLLWRNORM);
	}
	sock_put(s);
}

static void socket_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct hconn *h = container_of(req, struct hconn, ctl);
	struct sock *s = h->s;
	if (cqe->res >= 0 && s->closed) {
		host_close_handle((u32)cqe->val);
	} else if (cqe->res < 0) {
		if (!s->closed)
			connect_failed(s, -cqe->res);
	} else {
		h->handle = (u32)cqe->val;
		host_push_options(s, h->handle);
		h->ctl.done = connect_done;
		h->ctl.sqe =
			(struct ring_sqe){.op = RING_OP_CONNECT,
					  .handle = h->handle,
					  .addr2 = ring_buf_gpa(&h->addr).v,
					  .len2 = inet_format(inet_is_v4(&s->remote) ? AF_INET : AF_INET6,
							      &s->remote, &h->addr)};
		ring_submit(&h->ctl);
		return; /* the reference goes on with CONNECT */
	}
	sock_put(s);
}

int host_connect(struct sock *s)
{
	struct hconn *h = s->host;
	if (!h)
		h = conn_new(s);
	if (!h)
		return -ENOMEM;
	s->ops = &host_stream_ops;
	s->state = S_CONNECTING;
	s->shut_rd = s->shut_wr = false;
	h->rx_eof = h->tx_broken = false;
	h->ctl.done = socket_done;
	h->ctl.sqe = (struct ring_sqe){.op = RING_OP_SOCKET,
				       .handle = RING_NO_HANDLE,
				       .arg = inet_is_v4(&s->remote) ? AF_INET : AF_INET6,
				       .arg2 = SOCK_STREAM,
				       .off = 0};
	sock_get(s);
	ring_submit(&h->ctl);
	return 0;
}

static int host_connect_again(struct sock *s, const union saddr *a, u32 len, bool nonblock)
{
	if (s->state == S_CONNECTING) {
		if (nonblock)
			return -EALREADY;
		int r = sock_wait(s, s->state != S_CONNECTING, false, s->sndtimeo);
		if (r)
			return r == -EAGAIN ? -EINPROGRESS : r;
		if (s->state != S_CONNECTED)
			return s->err ? sock_error(s) : -ECONNABORTED;
	}
	if (!s->connect_reported) {
		s->connect_reported = true;
		return 0;
	}
	return -EISCONN;
}

/* --- listening --------------------------------------------------------------------------- */

static void copy_options(struct sock *c, const struct sock *l)
{
	c->keepalive = l->keepalive;
	c->nodelay = l->nodelay;
	c->keepidle = l->keepidle;
	c->keepintvl = l->keepintvl;
	c->keepcnt = l->keepcnt;
	c->user_timeout = l->user_timeout;
	c->tos = l->tos;
	c->sndbuf = l->sndbuf;
	c->rcvbuf = l->rcvbuf;
	c->linger = l->linger;
	c->linger_s = l->linger_s;
	c->v6only = l->v6only;
}

/* A connection has arrived. */
static void new_child(struct sock *l, u32 handle, u64 peer)
{
	struct sock *c = sock_new(l->family, SOCK_STREAM, IPPROTO_TCP, &host_stream_ops);
	struct hconn *h = c ? conn_new(c) : NULL;
	if (!h) {
		if (c)
			list_del(&c->all_node);
		kfree(c);
		host_close_handle(handle);
		return;
	}
	copy_options(c, l);
	c->state = S_CONNECTED;
	c->connect_reported = true;
	c->local = l->local;
	if (inet_is_any(&c->local))
		inet_own_addr(AF_INET, &c->local);
	if (peer & RING_PEER_IPV4) {
		u32 ip = (u32)(peer >> 16);
		c->remote = (struct inaddr){.ip = {[10] = 0xff, [11] = 0xff, ip >> 24, ip >> 16, ip >> 8, ip},
					    .port = (u16)peer};
	} else {
		h->no_remote = true;
	}
	h->handle = handle;
	host_push_options(c, handle);
	if (l->reuseport) {
		struct sock *other = inet_group_pick(l, PORTS_TCP, h->no_remote ? NULL : &c->remote);
		if (other->n_accept < MAX(other->backlog, 64u))
			l = other;
	}
	if (sock_acceptq_push(l, c, true)) {
		rx_post(h);
	} else {
		c->closed = true;
		host_close(c);
	}
	sock_put(c);
}

static void accept_arm(struct hlisten *hl);

static void accept_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct hlisten *hl = container_of(req, struct hlisten, accept);
	struct sock *s = hl->s;
	if (cqe->res >= 0)
		new_child(s, (u32)cqe->val, cqe->val2);
	if (cqe->flags & RING_CQE_MORE) {
		if (s->n_accept >= MAX(s->backlog, 64u) && !hl->dead && !hl->cancelled) {
			hl->cancelled = true; /* the rest waits in the host's queue */
			ring_cancel(&hl->accept);
		}
		return;
	}
	hl->armed = hl->cancelled = false;
	if (hl->dead) {
		kfree(hl);
	} else if (cqe->res >= 0 || cqe->res == -ECANCELED) {
		host_accept_more(s);
	} else {
		log_line(LOG_WARN, "accepting from the host on port %u: error %d", s->local.port, -cqe->res);
		ktimer_arm(&hl->retry, mono_ns() + ACCEPT_RETRY_NS);
	}
	sock_put(s);
}

static void accept_retry(struct ktimer *t)
{
	host_accept_more(container_of(t, struct hlisten, retry)->s);
}

static void accept_arm(struct hlisten *hl)
{
	hl->accept.done = accept_done;
	hl->accept.sqe =
		(struct ring_sqe){.op = RING_OP_ACCEPT, .flags = RING_SQE_MORE, .handle = hl->handle};
	hl->armed = true;
	sock_get(hl->s);
	ring_submit(&hl->accept);
}

void host_accept_more(struct sock *s)
{
	struct hlisten *hl = s->host;
	if (hl && !hl->armed && s->state == S_LISTEN && s->n_accept <= MAX(s->backlog, 64u) / 2)
		accept_arm(hl);
}

int host_listen(struct sock *s)
{
	struct ring_sqe sqe = {
		.op = RING_OP_SOCKET, .handle = RING_NO_HANDLE, .arg = s->family, .arg2 = SOCK_STREAM};
	struct inaddr any = {.port = s->local.port};
	u64 handle;
	struct hlisten *hl = kzalloc(sizeof(*hl));
	union saddr *a = kzalloc(sizeof(*a));
	s64 r = hl && a ? ring_call(&sqe, &handle, NULL) : -ENOMEM;
	if (r < 0)
		goto fail;
	if (s->family == AF_INET6 && s->v6only) {
		int on = 1;
		set_host_option((u32)handle, SOL_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	}
	sqe = (struct ring_sqe){.op = RING_OP_BIND,
				.handle = (u32)handle,
				.addr2 = ring_buf_gpa(a).v,
				.len2 = inet_format(s->family, &any, a)};
	r = ring_call(&sqe, NULL, NULL);
	if (r >= 0) {
		sqe = (struct ring_sqe){.op = RING_OP_LISTEN, .handle = (u32)handle, .arg = s->backlog};
		r = ring_call(&sqe, NULL, NULL);
	}
	if (r < 0) {
		host_close_handle((u32)handle);
		goto fail;
	}
	if (s->state != S_LISTEN || s->closed || s->host) { /* another thread was faster */
		host_close_handle((u32)handle);
		r = -EADDRNOTAVAIL;
		goto fail;
	}
	kfree(a);
	hl->s = s;
	hl->handle = (u32)handle;
	ktimer_init(&hl->retry, accept_retry);
	s->host = hl;
	accept_arm(hl);
	return 0;
fail:
	kfree(a);
	kfree(hl);
	return (int)r;
}

/* SO_REUSEPORT: one of a group has the host's socket for all. It goes, another one takes it over. */
static bool pass_on(struct sock *s, struct hlisten *hl)
{
	struct sock *heir = s->reuseport ? inet_group_next(s, PORTS_TCP) : NULL;
	if (!heir || heir->host)
		return false;
	hl->s = heir;
	heir->host = hl;
	if (hl->armed) {
		sock_get(heir);
		sock_put(s);
	} else {
		host_accept_more(heir);
	}
	return true;
}

/* The socket is no listener any more. */
void host_unlisten(struct sock *s)
{
	struct hlisten *hl = s->host;
	if (!hl)
		return;
	s->host = NULL;
	if (pass_on(s, hl))
		return;
	hl->dead = true;
	ktimer_cancel(&hl->retry);
	host_close_handle(hl->handle); /* cancels ACCEPT */
	if (!hl->armed)
		kfree(hl);
}

/* --- names, counts ---------------------------------------------------------------------------- */

static int host_getname(struct sock *s, bool peer, union saddr *out)
{
	struct hconn *h = s->host;
	if (peer && s->state != S_CONNECTED)
		return -ENOTCONN;
	if (peer && h->no_remote) {
		struct ring_sqe sqe = {.op = RING_OP_GETNAME,
				       .handle = h->handle,
				       .arg = 1,
				       .addr2 = ring_buf_gpa(&h->addr).v,
				       .len2 = sizeof(h->addr)};
		s64 r = ring_call(&sqe, NULL, NULL);
		if (r < 0)
			return (int)r;
		struct sock tmp = {.family = h->addr.family};
		inet_parse(&tmp, &h->addr, sizeof(h->addr), &s->remote);
		h->no_remote = false;
	}
	return inet_getname(s, peer, out);
}

static u32 host_inq(struct sock *s)
{
	struct hconn *h = s->host;
	return h->len - h->off;
}

static u32 host_outq(struct sock *s)
{
	struct hconn *h = s->host;
	return h->tx_bytes;
}

static void host_option(struct sock *s, int level, int name)
{
	struct hconn *h = s->host;
	if (h->handle != RING_NO_HANDLE)
		host_option_async(s, h->handle, level, name);
}

static int refuse_bind(struct sock *s, const union saddr *a, u32 len)
{
	return -EINVAL;
}

static int refuse_listen(struct sock *s, int backlog)
{
	return -EINVAL;
}

const struct sock_ops host_stream_ops = {
	.bind = refuse_bind,
	.connect = host_connect_again,
	.listen = refuse_listen,
	.getname = host_getname,
	.send = host_send,
	.recv = host_recv,
	.poll = host_poll,
	.shutdown = host_shutdown,
	.inq = host_inq,
	.outq = host_outq,
	.option = host_option,
	.close = host_close,
	.destroy = host_free,
};
