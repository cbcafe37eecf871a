/* SPDX-License-Identifier: ISC */
/*
 * Byte streams between two sockets of the guest: AF_UNIX streams and TCP over
 * loopback.
 *
 * Each socket owns its receive queue; a sender appends straight to the queue of
 * its `peer`. Pieces are glued while they have room, but never across passed
 * descriptors or different senders. A closed end stays allocated while the other
 * end still names it (`peer` is counted), marked `closed` and with nothing queued.
 *
 * TCP knows what AF_UNIX does not: urgent data (MSG_OOB). Its last byte is kept beside the queue, and a mark says how many
 * bytes come before it; a read ends at the mark. With SO_OOBINLINE the byte stays in the queue, at the mark. And the first write to
 * a peer that is gone succeeds, since its answer, a reset, is still to come.
 *
 * The sender's SO_SNDBUF bounds what lies in the other end's queue; it becomes
 * writable again when half of it is free, so that a wake-up is worth its switch.
 */
#include "guest/net/sock.h"

#define PIECE_MAX 32768u
#define PIECE_MIN 432u /* small pieces leave room for the next write */

void local_pair(struct sock *a, struct sock *b)
{
	sock_get(a);
	sock_get(b);
	a->peer = b;
	b->peer = a;
	a->ops = b->ops = &local_stream_ops;
	a->state = b->state = S_CONNECTED;
}

static bool peer_gone(struct sock *s)
{
	return !s->peer || s->peer->closed;
}

static bool read_ended(struct sock *s)
{
	return s->shut_rd || peer_gone(s) || s->peer->shut_wr;
}

static bool write_ended(struct sock *s)
{
	return s->shut_wr || peer_gone(s) || (s->family == AF_UNIX && s->peer->shut_rd);
}

static bool has_room(struct sock *s)
{
	return s->peer->rx_bytes < s->sndbuf;
}

/* Append at most `n` bytes; returns bytes taken, 0 on a bad address, -ENOMEM. */
static s64 append(struct sock *s, struct uio *u, u64 n, struct msginfo *m)
{
	struct sock *p = s->peer;
	struct skb *b = list_empty(&p->rxq) ? NULL : list_last(&p->rxq, struct skb, node);
	bool fresh = false;
	u32 room = b ? b->cap - b->off - b->len : 0;
	if (!b || !room || b->fds || m->fds || b->pid != m->cred.pid || b->uid != m->cred.uid ||
	    b->gid != m->cred.gid) {
		room = (u32)MAX(MIN(n, PIECE_MAX), PIECE_MIN);
		b = skb_new(room, NULL, 0);
		if (!b)
			return -ENOMEM;
		b->pid = m->cred.pid;
		b->uid = m->cred.uid;
		b->gid = m->cred.gid;
		fresh = true;
	}
	u64 got = uio_get(u, b->data + b->off + b->len, MIN(n, room));
	if (!got) {
		if (fresh)
			skb_free(b);
		return 0;
	}
	b->len += (u32)got;
	p->rx_bytes += (u32)got;
	if (fresh) {
		if (m->fds) {
			b->fds = m->fds;
			m->fds = NULL;
			scm_queued(b->fds, p);
		}
		list_add_tail(&p->rxq, &b->node);
	}
	return (s64)got;
}

/* The last byte of p's queue is urgent from now on; the one before it loses that. */
static void mark_urgent(struct sock *p)
{
	struct skb *b = list_last(&p->rxq, struct skb, node);

	p->urgent_byte = skb_payload(b)[b->len - 1];
	p->urgent = URGENT_VALID;
	p->urgent_after = p->rx_bytes - 1;
	if (!p->oobinline) {
		p->rx_bytes--;
		if (!--b->len) {
			list_del(&b->node);
			skb_free(b);
		}
	}
	if (p->file && p->file->owner > 0) {
		struct process *owner = process_by_pid(p->file->owner);
		if (owner)
			signal_process(owner, SIGURG, NULL);
	} else if (p->file && p->file->owner < 0) {
		signal_pgrp(-p->file->owner, SIGURG, NULL);
	}
	waitq_wake_all(&p->wq, POLLPRI | POLLRDBAND);
}

s64 local_recv_urgent(struct sock *s, struct uio *u, struct msginfo *m)
{
	if (s->oobinline || s->urgent != URGENT_VALID)
		return s->state == S_CONNECTED ? -EINVAL : -ENOTCONN;
	if (u->left && uio_put(u, &s->urgent_byte, 1) != 1)
		return -EFAULT;
	m->out_flags |= MSG_OOB;
	if (!(m->flags & MSG_PEEK))
		s->urgent = URGENT_READ;
	return 1;
}

bool local_at_mark(struct sock *s)
{
	return s->urgent && !s->urgent_after;
}

/* TCP: to a peer that has closed a first write goes, as far as there is room, and then comes a reset. Bytes taken, or 0. */
static s64 swallow(struct sock *s, struct uio *u)
{
	u64 n = MIN(u->left, (u64)s->sndbuf);

	if (s->family == AF_UNIX || s->shut_wr || s->reset || !peer_gone(s))
		return 0;
	s->reset = true;
	s->err = EPIPE;
	uio_skip(u, n);
	return (s64)n;
}

static s64 local_send(struct sock *s, struct uio *u, struct msginfo *m)
{
	s64 done = 0, lost;
	int r = 0;
	if (m->to && s->family == AF_UNIX)
		return -EISCONN;
	while (u->left) {
		if (s->err) {
			r = sock_error(s);
			break;
		}
		if (!done && (lost = swallow(s, u)))
			return lost;
		if (write_ended(s)) {
			r = -EPIPE;
			break;
		}
		if (!has_room(s)) {
			r = sock_wait(s, s->err || write_ended(s) || has_room(s), m->nonblock, s->sndtimeo);
			if (r)
				break;
			continue;
		}
		s64 n = append(s, u, MIN(u->left, (u64)(s->sndbuf - s->peer->rx_bytes)), m);
		if (n <= 0) {
			r = n ? (int)n : -EFAULT;
			break;
		}
		done += n;
		waitq_wake(&s->peer->wq, POLLIN | POLLRDNORM);
	}
	if (done && !u->left && m->flags & MSG_OOB && !peer_gone(s))
		mark_urgent(s->peer);
	return done ? done : r;
}

/* After bytes left s's queue: the writer may go on. */
static void drained(struct sock *s, u32 before)
{
	struct sock *p = s->peer;
	if (p && before * 2 > p->sndbuf && s->rx_bytes * 2 <= p->sndbuf)
		waitq_wake_all(&p->wq, POLLOUT | POLLWRNORM | POLLWRBAND);
}

/* Take what is queued, up to a boundary. Returns bytes, or -EFAULT if none could be stored. */
static s64 take(struct sock *s, struct uio *u, struct msginfo *m, s64 done, bool *stop)
{
	u32 before = s->rx_bytes, mark = s->urgent ? s->urgent_after : ~0u;
	bool peek = m->flags & MSG_PEEK, passed = false;
	s64 total = 0;
	for (struct list *it = s->rxq.next; it != &s->rxq && u->left;) {
		struct skb *b = list_entry(it, struct skb, node);
		it = it->next;
		if (b->fds && (done + total || m->fds)) {
			*stop = true;
			break;
		}
		if (m->has_cred && s->passcred && b->pid != m->cred.pid) {
			*stop = true;
			break;
		}
		if (!mark && !passed && done + total) {
			*stop = true; /* at the urgent byte */
			break;
		}
		passed = !mark;
		u64 want = MIN(MIN((u64)b->len, u->left), (u64)(passed ? ~0u : mark)), n = want;
		if (m->flags & MSG_TRUNC && s->family != AF_UNIX)
			uio_skip(u, want);
		else
			n = uio_put(u, skb_payload(b), want);
		if (!n) {
			*stop = true;
			return total ? total : -EFAULT;
		}
		m->cred = (struct ucred){b->pid, b->uid, b->gid};
		m->has_cred = true;
		total += (s64)n;
		if (!passed && mark != ~0u)
			mark -= (u32)n;
		bool had_fds = b->fds;
		if (b->fds) {
			m->fds = peek ? scm_dup(b->fds) : b->fds;
			if (!peek) {
				scm_unqueued(b->fds);
				b->fds = NULL;
			}
			*stop = true;
		}
		if (!peek) {
			b->off += (u32)n;
			b->len -= (u32)n;
			s->rx_bytes -= (u32)n;
			if (!b->len) {
				list_del(&b->node);
				skb_free(b);
			}
		}
		if (had_fds || n < want)
			break;
	}
	if (!peek && s->urgent) {
		s->urgent_after = mark;
		if (passed)
			s->urgent = URGENT_NONE;
	}
	if (!peek)
		drained(s, before);
	return total;
}

static s64 local_recv(struct sock *s, struct uio *u, struct msginfo *m)
{
	s64 done = 0;
	bool stop = false;
	int r = 0;
	while (u->left && !stop) {
		if (!list_empty(&s->rxq)) {
			s64 n = take(s, u, m, done, &stop);
			if (n < 0)
				return done ? done : n;
			done += n;
			if (!(m->flags & MSG_WAITALL) || m->flags & MSG_PEEK)
				break;
			continue;
		}
		if (done && !(m->flags & MSG_WAITALL))
			break;
		if (s->err &&
		    !(s->reset && s->err == EPIPE)) { /* after an orderly end that is a writer's error */
			r = done ? 0 : sock_error(s);
			break;
		}
		if (read_ended(s))
			break;
		r = sock_wait(s, !list_empty(&s->rxq) || s->err || read_ended(s), m->nonblock, s->rcvtimeo);
		if (r)
			break;
	}
	return done ? done : r;
}

static u32 local_poll(struct sock *s)
{
	u32 mask = 0;
	bool un = s->family == AF_UNIX, end = read_ended(s);
	if (s->err)
		mask |= POLLERR;
	if (un ? end && write_ended(s) : (end && s->shut_wr) || s->err)
		mask |= POLLHUP;
	if (end)
		mask |= POLLIN | POLLRDNORM | POLLRDHUP;
	if (!list_empty(&s->rxq))
		mask |= POLLIN | POLLRDNORM;
	if (s->urgent == URGENT_VALID)
		mask |= POLLPRI;
	if (write_ended(s) || s->peer->rx_bytes * 2 <= s->sndbuf)
		mask |= POLLOUT | POLLWRNORM | (un ? POLLWRBAND : 0);
	return mask;
}

static int local_shutdown(struct sock *s, int how)
{
	if (how != SHUT_WR)
		s->shut_rd = true;
	if (how != SHUT_RD)
		s->shut_wr = true;
	waitq_wake_all(&s->wq, 0);
	if (!peer_gone(s))
		waitq_wake_all(&s->peer->wq,
			       POLLIN | POLLRDNORM | POLLRDHUP | POLLOUT | (s->shut_rd ? POLLHUP : 0));
	return 0;
}

static void local_close(struct sock *s)
{
	struct sock *p = s->peer;
	bool unread = !list_empty(&s->rxq);
	s->peer = NULL;
	sock_drop_rxq(s);
	if (p) {
		if (!p->closed) {
			if (unread || (s->linger && !s->linger_s && s->family != AF_UNIX))
				p->err = ECONNRESET, p->reset = s->family != AF_UNIX;
			waitq_wake_all(&p->wq, POLLIN | POLLRDNORM | POLLRDHUP | POLLHUP | POLLOUT |
						       (p->err ? POLLERR : 0));
		}
		sock_put(p);
	}
	if (s->family == AF_UNIX)
		unix_gone(s);
	else
		inet_unbind(s);
}

static int local_bind(struct sock *s, const union saddr *a, u32 len)
{
	return -EINVAL;
}

static int local_connect(struct sock *s, const union saddr *a, u32 len, bool nonblock)
{
	if (s->family != AF_UNIX && !s->connect_reported) {
		s->connect_reported = true;
		return 0;
	}
	return -EISCONN;
}

static int local_listen(struct sock *s, int backlog)
{
	return -EINVAL;
}

static int local_getname(struct sock *s, bool peer, union saddr *out)
{
	return s->family == AF_UNIX ? unix_getname(s, peer, out) : inet_getname(s, peer, out);
}

static u32 local_inq(struct sock *s)
{
	return s->rx_bytes;
}

static u32 local_outq(struct sock *s)
{
	return s->peer ? s->peer->rx_bytes : 0;
}

static void local_destroy(struct sock *s)
{
	if (s->family == AF_UNIX)
		unix_destroy(s);
}

const struct sock_ops local_stream_ops = {
	.bind = local_bind,
	.connect = local_connect,
	.listen = local_listen,
	.getname = local_getname,
	.send = local_send,
	.recv = local_recv,
	.poll = local_poll,
	.shutdown = local_shutdown,
	.inq = local_inq,
	.outq = local_outq,
	.close = local_close,
	.destroy = local_destroy,
};
