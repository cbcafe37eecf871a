/* SPDX-License-Identifier: ISC */
/*
 * The socket object: life, file operations, generic options, accepting.
 *
 * Life: sock_new() -> provider's operations -> the file's last reference calls
 * ops->close(), which must drop peers and queues and may sleep for SO_LINGER ->
 * the last counted reference (ring requests may outlive the file) calls
 * ops->destroy() and frees. Everything that providers share is here, nothing
 * in this file knows how bytes move.
 */
#include "guest/net/sock.h"

#include "guest/mm/mm.h"
#include "guest/net/net.h"

#define SNDBUF_DEFAULT (256u << 10)
#define RCVBUF_DEFAULT (208u << 10)
#define BUF_OPTION_MAX (4u << 20)
#define TIMEO_MAX_S    10000000000ll

struct skb *skb_new(u32 room, const void *addr, u32 addr_len)
{
	struct skb *b = kmalloc(sizeof(*b) + addr_len + room);
	if (!b)
		return NULL;
	memset(b, 0, sizeof(*b));
	list_init(&b->node);
	b->cap = room + addr_len;
	b->addr_len = addr_len;
	if (addr_len)
		memcpy(b->data, addr, addr_len);
	return b;
}

void skb_free(struct skb *b)
{
	if (b->fds)
		scm_free(b->fds);
	kfree(b);
}

struct list all_socks = LIST_INIT(all_socks);

struct sock *sock_new(int family, int type, int protocol, const struct sock_ops *ops)
{
	struct sock *s = kzalloc(sizeof(*s));
	if (!s)
		return NULL;
	s->refs = 1;
	s->family = (u16)family;
	s->type = (u8)type;
	s->protocol = (u8)protocol;
	s->ops = ops;
	s->sndbuf = SNDBUF_DEFAULT;
	s->rcvbuf = RCVBUF_DEFAULT;
	s->rcvlowat = 1;
	s->peer_cred = (struct ucred){0, ~0u, ~0u};
	s->ttl = 64;
	waitq_init(&s->wq);
	list_init(&s->rxq);
	list_init(&s->acceptq);
	list_init(&s->accept_node);
	list_init(&s->port_node);
	s->uid = current && current->proc ? current->proc->fsuid : 0;
	list_add_tail(&all_socks, &s->all_node);
	return s;
}

void sock_drop_rxq(struct sock *s)
{
	while (!list_empty(&s->rxq)) {
		struct skb *b = list_first(&s->rxq, struct skb, node);
		list_del(&b->node);
		skb_free(b);
	}
	s->rx_bytes = 0;
}

void sock_put(struct sock *s)
{
	if (--s->refs)
		return;
	sock_drop_rxq(s);
	inet_unbind(s);
	if (s->ops->destroy)
		s->ops->destroy(s);
	if (s->peer)
		sock_put(s->peer);
	list_del(&s->all_node);
	kfree(s);
}

/* The socket met an error that nobody was waiting for: report it at the next call. */
void sock_fail(struct sock *s, int err, u32 events)
{
	s->err = err;
	waitq_wake_all(&s->wq, events | POLLERR);
}

int sock_error(struct sock *s)
{
	int e = s->err;
	s->err = 0;
	return -e;
}

int sock_create(int family, int type, int protocol, struct sock **out)
{
	const struct sock_ops *ops;
	if (family < 0 || family >= AF_MAX)
		return -EAFNOSUPPORT;
	if (type <= 0 || type > 10)
		return -EINVAL;
	switch (family) {
	case AF_UNIX:
		if (protocol && protocol != AF_UNIX)
			return -EPROTONOSUPPORT;
		if (type == SOCK_RAW)
			type = SOCK_DGRAM;
		if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET)
			return -ESOCKTNOSUPPORT;
		protocol = 0;
		ops = type == SOCK_STREAM ? &unix_stream_ops : &unix_dgram_ops;
		break;
	case AF_INET:
	case AF_INET6:
		if (type == SOCK_RAW)
			return -EPERM; /* only what the host's policy can express */
		if (type != SOCK_STREAM && type != SOCK_DGRAM)
			return -ESOCKTNOSUPPORT;
		if (!protocol)
			protocol = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
		if (type == SOCK_STREAM ? protocol != IPPROTO_TCP
					: protocol != IPPROTO_UDP && protocol != IPPROTO_UDPLITE)
			return -EPROTONOSUPPORT;
		ops = type == SOCK_STREAM ? &tcp_ops : &udp_ops;
		break;
	case AF_NETLINK:
		if (type != SOCK_RAW && type != SOCK_DGRAM)
			return -ESOCKTNOSUPPORT;
		if (protocol != 0) /* NETLINK_ROUTE */
			return -EPROTONOSUPPORT;
		ops = &netlink_ops;
		break;
	default:
		return -EAFNOSUPPORT;
	}
	*out = sock_new(family, type, protocol, ops);
	return *out ? 0 : -ENOMEM;
}

/* --- accepting -------------------------------------------------------------------- */

bool sock_acceptq_push(struct sock *l, struct sock *child, bool force)
{
	if (l->closed || l->state != S_LISTEN || (!force && l->n_accept > l->backlog))
		return false;
	sock_get(child);
	list_add_tail(&l->acceptq, &child->accept_node);
	l->n_accept++;
	waitq_wake(&l->wq, POLLIN | POLLRDNORM);
	return true;
}

int sock_accept(struct sock *s, bool nonblock, struct sock **out)
{
	if (s->type == SOCK_DGRAM || s->family == AF_NETLINK)
		return -EOPNOTSUPP;
	if (s->state != S_LISTEN)
		return -EINVAL;
	int r = sock_wait(s, !list_empty(&s->acceptq) || s->state != S_LISTEN, nonblock, s->rcvtimeo);
	if (r)
		return r;
	if (s->state != S_LISTEN)
		return -EINVAL;
	struct sock *c = list_first(&s->acceptq, struct sock, accept_node);
	list_del(&c->accept_node);
	s->n_accept--;
	if (s->family != AF_UNIX)
		host_accept_more(s);
	else
		waitq_wake(&s->wq, POLLOUT); /* connect() waits there for room */
	*out = c;
	return 0;
}

/* --- file operations ----------------------------------------------------------------- */

struct sock *sock_of(struct file *f)
{
	return f->ops == &sock_fops ? f->priv : NULL;
}

struct file *sock_file(struct sock *s, u32 flags)
{
	struct file *f = file_new(&sock_fops, O_RDWR | flags, s);
	if (!f) {
		s->closed = true;
		s->ops->close(s);
		sock_put(s);
		return NULL;
	}
	s->file = f;
	return f;
}

void sock_set_cred(struct sock *s, struct msginfo *m)
{
	struct process *p = current->proc;
	if (s->family == AF_UNIX)
		m->cred = (struct ucred){p->pid, p->euid, p->egid};
}

s64 sock_send(struct sock *s, struct uio *u, struct msginfo *m)
{
	/* the ring has no urgent data */
	if (m->flags & MSG_OOB && (s->ops != &local_stream_ops || s->family == AF_UNIX))
		return -EOPNOTSUPP;
	if (m->flags & MSG_DONTWAIT)
		m->nonblock = true;
	s64 r = s->ops->send(s, u, m);
	if (r == -EPIPE && s->type != SOCK_DGRAM && !(m->flags & MSG_NOSIGNAL))
		signal_thread(current, SIGPIPE, NULL);
	return r;
}

s64 sock_recv(struct sock *s, struct uio *u, struct msginfo *m)
{
	if (m->flags & MSG_OOB)
		return s->type != SOCK_STREAM || s->family == AF_UNIX ? -EOPNOTSUPP
		       : s->ops == &local_stream_ops		      ? local_recv_urgent(s, u, m)
								      : -EINVAL;
	if (m->flags & MSG_ERRQUEUE)
		return -EAGAIN; /* never anything in it */
	if (m->flags & MSG_DONTWAIT)
		m->nonblock = true;
	return s->ops->recv(s, u, m);
}

static s64 sock_read(struct file *f, struct uio *u, u64 *pos)
{
	struct sock *s = f->priv;
	struct msginfo m = {.nonblock = f->flags & O_NONBLOCK};
	if (!u->left && s->type == SOCK_STREAM)
		return 0;
	s64 r = s->ops->recv(s, u, &m);
	if (unlikely(m.fds))
		scm_free(m.fds); /* read() cannot take them */
	return r;
}

static s64 sock_write(struct file *f, struct uio *u, u64 *pos)
{
	struct msginfo m = {.nonblock = f->flags & O_NONBLOCK};
	sock_set_cred(f->priv, &m);
	return sock_send(f->priv, u, &m);
}

static u32 sock_poll(struct file *f, struct poll_table *pt)
{
	struct sock *s = f->priv;
	poll_on(pt, &s->wq);
	if (pt && s->family == AF_UNIX && s->type == SOCK_DGRAM && s->peer)
		poll_on(pt, &s->peer->wq); /* room in its queue */
	if (s->state == S_LISTEN)
		return list_empty(&s->acceptq) ? 0 : POLLIN | POLLRDNORM;
	return s->ops->poll(s);
}

static s64 sock_ioctl(struct file *f, u32 cmd, u64 arg)
{
	struct sock *s = f->priv;
	int v;
	switch (cmd) {
	case FIONREAD:
		if (s->state == S_LISTEN)
			return -EINVAL;
		v = (int)s->ops->inq(s);
		return put_user(v, (int *)arg);
	case TIOCOUTQ:
		if (s->state == S_LISTEN)
			return -EINVAL;
		v = (int)s->ops->outq(s);
		return put_user(v, (int *)arg);
	case FIONBIO:
		if (get_user(v, (int *)arg))
			return -EFAULT;
		f->flags = v ? f->flags | O_NONBLOCK : f->flags & ~(u32)O_NONBLOCK;
		return 0;
	case 0x8905: /* SIOCATMARK */
		v = s->ops == &local_stream_ops && local_at_mark(s);
		return put_user(v, (int *)arg);
	}
	if (cmd >= 0x8910 && cmd <= 0x8970)
		return netif_ioctl(cmd, arg);
	return -ENOTTY;
}

static void sock_release(struct file *f)
{
	struct sock *s = f->priv;
	s->closed = true;
	s->file = NULL;
	/* children that nobody accepted */
	while (!list_empty(&s->acceptq)) {
		struct sock *c = list_first(&s->acceptq, struct sock, accept_node);
		list_del(&c->accept_node);
		c->closed = true;
		c->ops->close(c);
		sock_put(c);
	}
	s->n_accept = 0;
	s->ops->close(s);
	sock_put(s);
}

const struct file_ops sock_fops = {
	.kind = "socket",
	.read = sock_read,
	.write = sock_write,
	.poll = sock_poll,
	.ioctl = sock_ioctl,
	.release = sock_release,
};

/* --- options -------------------------------------------------------------------------- */

static int get_timeo(const void *val, u32 len, u64 *out)
{
	s64 tv[2];
	if (len < sizeof(tv))
		return -EINVAL;
	memcpy(tv, val, sizeof(tv));
	if (tv[1] < 0 || tv[1] >= 1000000)
		return -EDOM;
	if (tv[0] < 0 || tv[0] > TIMEO_MAX_S)
		tv[0] = tv[1] = 0;
	*out = (u64)tv[0] * NS_PER_SEC + (u64)tv[1] * 1000;
	return 0;
}

static int set_socket_level(struct sock *s, int name, const void *val, u32 len, int v)
{
	bool on = v != 0;
	switch (name) {
	case SO_REUSEADDR:
		s->reuseaddr = on;
		return 0;
	case SO_REUSEPORT:
		s->reuseport = on;
		return 0;
	case SO_KEEPALIVE:
		s->keepalive = on;
		return 0;
	case SO_BROADCAST:
		s->broadcast = on;
		return 0;
	case SO_DONTROUTE:
		s->dontroute = on;
		return 0;
	case SO_OOBINLINE:
		s->oobinline = on;
		return 0;
	case SO_PRIORITY:
		if (v < 0 || v > 6)
			return -EPERM;
		s->priority = (u8)v;
		return 0;
	case SO_PASSCRED:
		if (s->family != AF_UNIX && s->family != AF_NETLINK)
			return -EOPNOTSUPP;
		s->passcred = on;
		return 0;
	case SO_RCVLOWAT:
		s->rcvlowat = v > 0 ? (u32)v : 1;
		return 0;
	case SO_SNDBUFFORCE:
	case SO_SNDBUF:
		s->sndbuf = MAX(MIN((u32)MAX(v, 0), BUF_OPTION_MAX / 2) * 2, 4608u);
		waitq_wake_all(&s->wq, POLLOUT | POLLWRNORM);
		return 0;
	case SO_RCVBUFFORCE:
	case SO_RCVBUF:
		s->rcvbuf = MAX(MIN((u32)MAX(v, 0), BUF_OPTION_MAX / 2) * 2, 2304u);
		return 0;
	case SO_LINGER: {
		int l[2];
		if (len < sizeof(l))
			return -EINVAL;
		memcpy(l, val, sizeof(l));
		s->linger = l[0] != 0;
		s->linger_s = l[0] ? (u32)l[1] : 0;
		return 0;
	}
	case SO_RCVTIMEO:
		return get_timeo(val, len, &s->rcvtimeo);
	case SO_SNDTIMEO:
		return get_timeo(val, len, &s->sndtimeo);
	case SO_BINDTODEVICE:
	case SO_MARK:
		return -EPERM;
	}
	return -ENOPROTOOPT;
}

int sock_setsockopt(struct sock *s, int level, int name, const void *uval, u32 len)
{
	u8 buf[128] __attribute__((aligned(8))) = {0};
	int v = 0;
	if ((int)len < 0)
		return -EINVAL;
	u32 n = MIN(len, sizeof(buf));
	if (n && copy_in(buf, uval, n))
		return -EFAULT;
	if (n >= 4)
		memcpy(&v, buf, 4);
	else if (n)
		v = buf[0];
	int r;
	if (level == SOL_SOCKET) {
		if (len < 4 && name != SO_BINDTODEVICE)
			return -EINVAL;
		r = set_socket_level(s, name, buf, n, v);
	} else if (s->family == AF_INET || s->family == AF_INET6) {
		r = inet_setopt(s, level, name, buf, n);
	} else if (s->family == AF_NETLINK && level == SOL_NETLINK) {
		r = -ENOPROTOOPT;
	} else {
		r = s->family == AF_UNIX ? -EOPNOTSUPP : -ENOPROTOOPT;
	}
	if (!r && s->ops->option)
		s->ops->option(s, level, name);
	return r;
}

/* -ENOPROTOOPT, or 0 with the value in buf, *len bytes (in: room). */
static int get_socket_level(struct sock *s, int name, u8 *buf, u32 *len)
{
	int v;
	switch (name) {
	case SO_REUSEADDR:
		v = s->reuseaddr;
		break;
	case SO_REUSEPORT:
		v = s->reuseport;
		break;
	case SO_KEEPALIVE:
		v = s->keepalive;
		break;
	case SO_BROADCAST:
		v = s->broadcast;
		break;
	case SO_DONTROUTE:
		v = s->dontroute;
		break;
	case SO_OOBINLINE:
		v = s->oobinline;
		break;
	case SO_PASSCRED:
		v = s->passcred;
		break;
	case SO_PRIORITY:
		v = s->priority;
		break;
	case SO_RCVLOWAT:
		v = (int)s->rcvlowat;
		break;
	case SO_SNDLOWAT:
		v = 1;
		break;
	case SO_SNDBUF:
		v = (int)s->sndbuf;
		break;
	case SO_RCVBUF:
		v = (int)s->rcvbuf;
		break;
	case SO_TYPE:
		v = s->type;
		break;
	case SO_DOMAIN:
		v = s->family;
		break;
	case SO_PROTOCOL:
		v = s->protocol;
		break;
	case SO_ACCEPTCONN:
		v = s->state == S_LISTEN;
		break;
	case SO_ERROR:
		v = -sock_error(s);
		break;
	case SO_MARK:
	case SO_NO_CHECK:
		v = 0;
		break;
	case SO_LINGER: {
		int l[2] = {s->linger, (int)s->linger_s};
		memcpy(buf, l, *len = sizeof(l));
		return 0;
	}
	case SO_RCVTIMEO:
	case SO_SNDTIMEO: {
		u64 t = name == SO_RCVTIMEO ? s->rcvtimeo : s->sndtimeo;
		s64 tv[2] = {(s64)(t / NS_PER_SEC), (s64)(t % NS_PER_SEC / 1000)};
		memcpy(buf, tv, *len = sizeof(tv));
		return 0;
	}
	case SO_PEERCRED:
		memcpy(buf, &s->peer_cred, *len = sizeof(s->peer_cred));
		return 0;
	case SO_COOKIE: {
		u64 c = (u64)s >> 4;
		memcpy(buf, &c, *len = sizeof(c));
		return 0;
	}
	case SO_BINDTODEVICE:
		*len = 0;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
	memcpy(buf, &v, *len = sizeof(v));
	return 0;
}

int sock_getsockopt(struct sock *s, int level, int name, void *uval, u32 *ulen)
{
	u8 buf[256] __attribute__((aligned(8))) = {0};
	u32 want, len = sizeof(buf);
	int r;
	if (get_user(want, ulen))
		return -EFAULT;
	if ((int)want < 0)
		return -EINVAL;
	if (level == SOL_SOCKET)
		r = get_socket_level(s, name, buf, &len);
	else if (s->family == AF_INET || s->family == AF_INET6)
		r = inet_getopt(s, level, name, buf, &len);
	else
		r = s->family == AF_UNIX ? -EOPNOTSUPP : -ENOPROTOOPT;
	if (r)
		return r;
	len = MIN(len, want);
	if (copy_out(uval, buf, len) || put_user(len, ulen))
		return -EFAULT;
	return 0;
}

void net_init(void)
{
}
