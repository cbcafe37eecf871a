/* SPDX-License-Identifier: ISC */
/*
 * AF_UNIX: names, connecting, datagrams and sequenced packets. Connected byte
 * streams are local.c's.
 *
 * A name is abstract (a list here) or a path (an inode of vfs/). An inode
 * outlives its socket, so it is given a small `struct unix_name` that forgets
 * the socket when it closes; the name itself stays with the inode.
 *
 * A datagram goes straight to the receiver's queue, which is bounded in messages
 * (QLEN_MAX) and bytes; senders that find it full wait on the receiver's wait
 * queue.
 */
#include "guest/net/sock.h"

#include "abi/boot.h"
#include "guest/restored.h"

#define QLEN_MAX 512u
#define PATH_OFF ((u32)offsetof(struct sockaddr_un, sun_path))

struct unix_name {
	struct sock *s;
};

struct usock {
	struct sock *s;
	struct sockaddr_un addr;
	u32 addr_len; /* 0: no name */
	struct list abstract_node;
	struct unix_name *name; /* of a path */
	struct inode *inode;
	u32 n_queued; /* datagrams in rxq */
};

static struct list abstract = LIST_INIT(abstract);
static struct sock *notify; /* BOOT_NOTIFY_SOCKET */

static struct usock *un_of(struct sock *s)
{
	if (!s->un) {
		struct usock *u = kzalloc(sizeof(*u));
		if (u) {
			list_init(&u->abstract_node);
			u->s = s;
		}
		s->un = u;
	}
	return s->un;
}

static struct ucred my_cred(void)
{
	struct process *p = current->proc;
	return (struct ucred){p->pid, p->euid, p->egid};
}

/* --- names ----------------------------------------------------------------------------- */

/* Made when somebody sends to it; nobody receives from it. */
static struct sock *notify_sock(const struct sockaddr_un *a, u32 len)
{
	static const char name[] = BOOT_NOTIFY_SOCKET;

	if (!(boot->flags & BOOT_F_NOTIFY) || len != PATH_OFF + sizeof(name) - 1 ||
	    memcmp(a->sun_path + 1, name + 1, sizeof(name) - 2))
		return NULL;
	if (!notify)
		notify = sock_new(AF_UNIX, SOCK_DGRAM, 0, &unix_dgram_ops);
	return notify;
}

static struct sock *find_abstract(const struct sockaddr_un *a, u32 len)
{
	struct sock *n = notify_sock(a, len);

	if (n)
		return n;
	list_for_each (it, &abstract) {
		struct usock *u = list_entry(it, struct usock, abstract_node);
		if (u->addr_len == len && !memcmp(u->addr.sun_path, a->sun_path, len - PATH_OFF))
			return u->s;
	}
	return NULL;
}

static int check_addr(const union saddr *a, u32 len)
{
	if (len < PATH_OFF || len > sizeof(struct sockaddr_un))
		return -EINVAL;
	return a->family == AF_UNIX ? 0 : -EINVAL;
}

/* The socket that an address names. -ECONNREFUSED, or what the path lookup said. */
static int find_named(const union saddr *a, u32 len, struct sock **out)
{
	int r = check_addr(a, len);
	if (r)
		return r;
	if (len == PATH_OFF)
		return -ECONNREFUSED;
	if (!a->un.sun_path[0]) {
		*out = find_abstract(&a->un, len);
		return *out ? 0 : -ECONNREFUSED;
	}
	char path[sizeof(a->un.sun_path) + 1];
	u32 n = (u32)strnlen(a->un.sun_path, len - PATH_OFF);
	memcpy(path, a->un.sun_path, n);
	path[n] = 0;
	struct unix_name *name = vfs_lookup_socket(path, &r);
	if (!name)
		return r ? r : -ECONNREFUSED;
	*out = name->s;
	return *out ? 0 : -ECONNREFUSED;
}

static int bind_path(struct sock *s, struct usock *u, const union saddr *a, u32 len)
{
	u32 n = (u32)strnlen(a->un.sun_path, MIN(len - PATH_OFF, (u32)sizeof(a->un.sun_path)));
	memcpy(u->addr.sun_path, a->un.sun_path, n);
	char path[sizeof(u->addr.sun_path) + 1];
	memcpy(path, u->addr.sun_path, n);
	path[n] = 0;
	struct unix_name *name = kzalloc(sizeof(*name));
	if (!name)
		return -ENOMEM;
	name->s = s;
	int r = vfs_bind_socket(path, 0777, name, &u->inode);
	if (r) {
		kfree(name);
		return r == -EEXIST ? -EADDRINUSE : r;
	}
	u->name = name;
	u->addr_len = MIN(PATH_OFF + n + 1, (u32)sizeof(u->addr));
	return 0;
}

static int unix_bind(struct sock *s, const union saddr *a, u32 len)
{
	static u32 next_auto;
	int r = check_addr(a, len);
	if (r)
		return r;
	struct usock *u = un_of(s);
	if (!u)
		return -ENOMEM;
	if (u->addr_len)
		return -EINVAL;
	u->addr.sun_family = AF_UNIX;
	if (len > PATH_OFF && a->un.sun_path[0])
		return bind_path(s, u, a, len);
	if (len == PATH_OFF) { /* any free abstract name */
		do {
			snprintf(u->addr.sun_path + 1, 8, "%05x", next_auto++ & 0xfffff);
			len = PATH_OFF + 6;
		} while (find_abstract(&u->addr, len));
	} else {
		if (find_abstract(&a->un, len))
			return -EADDRINUSE;
		memcpy(u->addr.sun_path, a->un.sun_path, len - PATH_OFF);
	}
	u->addr_len = len;
	list_add_tail(&abstract, &u->abstract_node);
	return 0;
}

void unix_gone(struct sock *s)
{
	struct usock *u = s->un;
	if (u) {
		list_del(&u->abstract_node);
		if (u->name)
			u->name->s = NULL;
		u->name = NULL;
		if (u->inode)
			inode_put(u->inode);
		u->inode = NULL;
	}
	unix_gc();
}

void unix_destroy(struct sock *s)
{
	kfree(s->un);
	s->un = NULL;
}

int unix_getname(struct sock *s, bool peer, union saddr *out)
{
	if (peer) {
		if (!s->peer)
			return -ENOTCONN;
		s = s->peer;
	}
	struct usock *u = s->un;
	memset(out, 0, sizeof(*out));
	out->family = AF_UNIX;
	if (!u || !u->addr_len)
		return PATH_OFF;
	memcpy(out, &u->addr, u->addr_len);
	return (int)u->addr_len;
}

/* --- connections (streams and sequenced packets) ------------------------------------------ */

static void pair(struct sock *a, struct sock *b)
{
	local_pair(a, b);
	if (a->type != SOCK_STREAM)
		a->ops = b->ops = &unix_dgram_ops;
}

int unix_socketpair(int type, struct sock *out[2])
{
	int r = sock_create(AF_UNIX, type, 0, &out[0]);
	if (r)
		return r;
	r = sock_create(AF_UNIX, type, 0, &out[1]);
	if (r) {
		sock_put(out[0]);
		return r;
	}
	pair(out[0], out[1]);
	out[0]->peer_cred = out[1]->peer_cred = my_cred();
	return 0;
}

static int unix_listen(struct sock *s, int backlog)
{
	struct usock *u = s->un;
	if (s->type == SOCK_DGRAM)
		return -EOPNOTSUPP;
	if (!u || !u->addr_len || s->state == S_CONNECTED)
		return -EINVAL;
	s->backlog = (u32)(backlog < 0 || backlog > 4096 ? 4096 : backlog);
	s->state = S_LISTEN;
	s->peer_cred = my_cred();
	return 0;
}

static int unix_connect(struct sock *s, const union saddr *a, u32 len, bool nonblock)
{
	struct sock *l;
	if (s->state == S_CONNECTED)
		return -EISCONN;
	if (s->state == S_LISTEN)
		return -EINVAL;
	int r = find_named(a, len, &l);
	if (r)
		return r;
	if (l->type != s->type)
		return -EPROTOTYPE;
	sock_get(l);
	r = l->state != S_LISTEN || l->closed ? -ECONNREFUSED : 0;
	if (!r)
		r = sock_wait(l, l->n_accept <= l->backlog || l->closed, nonblock, s->sndtimeo);
	if (!r && l->closed)
		r = -ECONNREFUSED;
	struct sock *c = r ? NULL : sock_new(AF_UNIX, s->type, 0, &unix_stream_ops);
	struct usock *cu = c ? un_of(c) : NULL, *lu = l->un;
	if (!r && !cu) {
		r = -ENOMEM;
		if (c)
			sock_put(c);
	}
	if (!r) {
		cu->addr = lu->addr; /* an accepted socket shows the listener's name */
		cu->addr_len = lu->addr_len;
		c->passcred = l->passcred;
		c->peer_cred = my_cred();
		s->peer_cred = l->peer_cred;
		pair(s, c);
		sock_acceptq_push(l, c, true);
		sock_put(c);
	}
	sock_put(l);
	return r;
}

static s64 idle_send(struct sock *s, struct uio *u, struct msginfo *m)
{
	return m->to ? -EOPNOTSUPP : -ENOTCONN;
}

static s64 idle_recv(struct sock *s, struct uio *u, struct msginfo *m)
{
	return -EINVAL;
}

static u32 idle_poll(struct sock *s)
{
	return POLLOUT | POLLWRNORM | POLLWRBAND | POLLHUP |
	       (s->shut_rd ? POLLIN | POLLRDNORM | POLLRDHUP : 0);
}

static int unix_shutdown(struct sock *s, int how)
{
	if (how != SHUT_WR)
		s->shut_rd = true;
	if (how != SHUT_RD)
		s->shut_wr = true;
	waitq_wake_all(&s->wq, 0);
	if (s->peer)
		waitq_wake_all(&s->peer->wq, 0);
	return 0;
}

static u32 idle_count(struct sock *s)
{
	return 0;
}

static void idle_close(struct sock *s)
{
	unix_gone(s);
	waitq_wake_all(&s->wq, 0); /* who waits to connect */
}

const struct sock_ops unix_stream_ops = {
	.bind = unix_bind,
	.connect = unix_connect,
	.listen = unix_listen,
	.getname = unix_getname,
	.send = idle_send,
	.recv = idle_recv,
	.poll = idle_poll,
	.shutdown = unix_shutdown,
	.inq = idle_count,
	.outq = idle_count,
	.close = idle_close,
	.destroy = unix_destroy,
};

/* --- readiness ------------------------------------------------------------------------------- */

static bool told_ready;

bool ready_is_told(void)
{
	return told_ready;
}

void ready_tell(bool now)
{
	struct ring_sqe sqe = {.op = RING_OP_READY, .handle = RING_NO_HANDLE, .arg = now};

	told_ready |= now;
	host_fire(&sqe, NULL, 0);
}

/* sd_notify(3): lines NAME=VALUE, of which one counts here. */
static void notified(const struct skb *b)
{
	static const char ready[] = "READY=1";
	const u8 *p = b->data + b->addr_len;
	u32 len = b->len, at = 0;
	bool now = false;

	while (at < len) {
		u32 end = at;

		while (end < len && p[end] != '\n')
			end++;
		now |= end - at == sizeof(ready) - 1 && !memcmp(p + at, ready, end - at);
		at = end + 1;
	}
	if (now || !told_ready)
		ready_tell(now);
}

/* --- messages ---------------------------------------------------------------------------------- */

static bool seqpacket(struct sock *s)
{
	return s->type == SOCK_SEQPACKET;
}

static u32 n_queued(struct sock *s)
{
	struct usock *u = s->un;
	return u ? u->n_queued : 0;
}

static bool has_room(struct sock *t, u64 len)
{
	return t->closed || t->shut_rd || !n_queued(t) ||
	       (n_queued(t) < QLEN_MAX && t->rx_bytes + len <= t->rcvbuf);
}

static int dgram_connect(struct sock *s, const union saddr *a, u32 len, bool nonblock)
{
	struct sock *t;
	if (seqpacket(s))
		return unix_connect(s, a, len, nonblock);
	if (len >= 2 && a->family == AF_UNSPEC) {
		t = s->peer;
		s->peer = NULL;
		s->state = S_IDLE;
		if (t)
			sock_put(t);
		return 0;
	}
	int r = find_named(a, len, &t);
	if (r)
		return r;
	if (t->type != s->type)
		return -EPROTOTYPE;
	if (t->peer && t->peer != s)
		return -EPERM;
	sock_get(t);
	struct sock *old = s->peer;
	s->peer = t;
	s->state = S_CONNECTED;
	if (old)
		sock_put(old);
	return 0;
}

/* The receiver of a message, referenced. */
static int dgram_target(struct sock *s, struct msginfo *m, struct sock **out)
{
	struct sock *t = s->peer;
	if (seqpacket(s)) {
		if (m->to)
			return s->state == S_CONNECTED ? -EISCONN : -EOPNOTSUPP;
		if (s->state != S_CONNECTED)
			return -ENOTCONN;
		if (!t || t->closed || t->shut_rd)
			return -EPIPE;
	} else if (m->to) {
		int r = find_named(m->to, m->to_len, &t);
		if (r)
			return r;
		if (t->type != SOCK_DGRAM)
			return -EPROTOTYPE;
	} else if (!t) {
		return -ENOTCONN;
	}
	if (t->closed)
		return -ECONNREFUSED;
	if (!seqpacket(s) && t->peer && t->peer != s)
		return -EPERM;
	if (t->shut_rd)
		return -EPIPE;
	sock_get(t);
	*out = t;
	return 0;
}

static s64 dgram_send(struct sock *s, struct uio *u, struct msginfo *m)
{
	struct sock *t;
	u64 len = u->left;
	if (s->shut_wr)
		return -EPIPE;
	if (s->err)
		return sock_error(s);
	if (len > s->sndbuf - 32)
		return -EMSGSIZE;
	int r = dgram_target(s, m, &t);
	if (r)
		return r;
	struct usock *tu = un_of(t), *su = s->un;
	if (!tu)
		r = -ENOMEM;
	if (!r)
		r = sock_wait(t, has_room(t, len), m->nonblock, s->sndtimeo);
	if (!r && (t->closed || t->shut_rd))
		r = seqpacket(s) || t->shut_rd ? -EPIPE : -ECONNREFUSED;
	struct skb *b = r ? NULL : skb_new((u32)len, su ? &su->addr : NULL, su ? su->addr_len : 0);
	if (!r && !b)
		r = -ENOBUFS;
	if (!r && uio_get(u, skb_payload(b), len) < len) {
		skb_free(b);
		r = -EFAULT;
	}
	if (!r) {
		b->len = (u32)len;
		b->pid = m->cred.pid;
		b->uid = m->cred.uid;
		b->gid = m->cred.gid;
		b->fds = m->fds;
		m->fds = NULL;
		if (t == notify) {
			notified(b);
			skb_free(b);
			sock_put(t);
			return (s64)len;
		}
		if (b->fds)
			scm_queued(b->fds, t);
		list_add_tail(&t->rxq, &b->node);
		t->rx_bytes += b->len;
		tu->n_queued++;
		waitq_wake(&t->wq, POLLIN | POLLRDNORM);
	}
	sock_put(t);
	return r ? r : (s64)len;
}

static bool seq_ended(struct sock *s)
{
	return s->shut_rd || (seqpacket(s) && (!s->peer || s->peer->closed || s->peer->shut_wr));
}

static s64 dgram_recv(struct sock *s, struct uio *u, struct msginfo *m)
{
	if (seqpacket(s) && s->state != S_CONNECTED)
		return -ENOTCONN;
	int r = sock_wait(s, !list_empty(&s->rxq) || s->err || seq_ended(s), m->nonblock, s->rcvtimeo);
	if (r)
		return seq_ended(s) ? 0 : r;
	if (list_empty(&s->rxq))
		return s->err ? sock_error(s) : 0;
	struct skb *b = list_first(&s->rxq, struct skb, node);
	u64 want = MIN((u64)b->len, u->left), n = uio_put(u, skb_payload(b), want);
	s64 ret = m->flags & MSG_TRUNC ? (s64)b->len : (s64)want;
	if (want < b->len)
		m->out_flags |= MSG_TRUNC;
	if (m->from) {
		memset(m->from, 0, sizeof(*m->from));
		memcpy(m->from, b->data, b->addr_len);
		m->from_len = b->addr_len;
	}
	m->cred = (struct ucred){b->pid, b->uid, b->gid};
	m->has_cred = true;
	if (m->flags & MSG_PEEK) {
		if (b->fds)
			m->fds = scm_dup(b->fds);
		return n < want ? -EFAULT : ret;
	}
	if (b->fds) {
		scm_unqueued(b->fds);
		m->fds = b->fds;
		b->fds = NULL;
	}
	list_del(&b->node);
	s->rx_bytes -= b->len;
	((struct usock *)s->un)->n_queued--;
	skb_free(b);
	waitq_wake_all(&s->wq, POLLOUT | POLLWRNORM); /* senders wait here for room */
	if (s->peer && s->peer->peer == s)
		waitq_wake_all(&s->peer->wq, POLLOUT | POLLWRNORM);
	return n < want ? -EFAULT : ret;
}

static u32 dgram_poll(struct sock *s)
{
	struct sock *t = s->peer;
	u32 mask = 0;
	bool seq = seqpacket(s), end = seq_ended(s);
	if (seq && s->state == S_IDLE)
		return idle_poll(s);
	if (s->err)
		mask |= POLLERR;
	if (seq ? end && (s->shut_wr || !t || t->closed) : s->shut_rd && s->shut_wr)
		mask |= POLLHUP;
	if (end)
		mask |= POLLIN | POLLRDNORM | POLLRDHUP;
	if (!list_empty(&s->rxq))
		mask |= POLLIN | POLLRDNORM;
	if (!t || has_room(t, 0))
		mask |= POLLOUT | POLLWRNORM | POLLWRBAND;
	return mask;
}

static u32 dgram_inq(struct sock *s)
{
	return list_empty(&s->rxq) ? 0 : list_first(&s->rxq, struct skb, node)->len;
}

static u32 dgram_outq(struct sock *s)
{
	return s->peer ? s->peer->rx_bytes : 0;
}

static void dgram_close(struct sock *s)
{
	struct sock *p = s->peer;
	bool unread = !list_empty(&s->rxq);
	s->peer = NULL;
	sock_drop_rxq(s);
	if (p) {
		if (p->peer == s && !p->closed) {
			if (seqpacket(s) && unread)
				p->err = ECONNRESET;
			waitq_wake_all(&p->wq, POLLIN | POLLRDNORM | POLLRDHUP | POLLHUP | POLLOUT);
		}
		sock_put(p);
	}
	unix_gone(s);
	waitq_wake_all(&s->wq, 0);
}

const struct sock_ops unix_dgram_ops = {
	.bind = unix_bind,
	.connect = dgram_connect,
	.listen = unix_listen,
	.getname = unix_getname,
	.send = dgram_send,
	.recv = dgram_recv,
	.poll = dgram_poll,
	.shutdown = unix_shutdown,
	.inq = dgram_inq,
	.outq = dgram_outq,
	.close = dgram_close,
	.destroy = unix_destroy,
};
