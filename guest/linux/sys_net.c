/* SPDX-License-Identifier: ISC */
/*
 * Socket system calls: they check and copy addresses, vectors and control
 * messages; net/ does the work.
 */
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/net/sock.h"

#define IOV_MAX	    1024
#define IOV_FAST    8
#define CONTROL_MAX 4096u
#define MMSG_MAX    1024u

struct user_msghdr {
	void *name;
	s32 namelen, pad0;
	const struct iovec *iov;
	u64 iovlen;
	void *control;
	u64 controllen;
	u32 flags, pad1;
};

struct user_mmsghdr {
	struct user_msghdr hdr;
	u32 len, pad;
};

struct cmsg {
	u64 len;
	s32 level, type;
};
#define CMSG_ALIGN(n) (((n) + 7) & ~7ull)

/* The socket of fd; *f is referenced and the caller's to put. */
static struct sock *get_sock(int fd, struct file **f, s64 *err)
{
	*f = fd_get(fd);
	if (!*f) {
		*err = -EBADF;
		return NULL;
	}
	struct sock *s = sock_of(*f);
	if (!s) {
		file_put(*f);
		*err = -ENOTSOCK;
	}
	return s;
}

static int addr_in(union saddr *a, const void *uaddr, int len)
{
	if (len < 0 || len > (int)sizeof(*a))
		return -EINVAL;
	memset(a, 0, sizeof(*a));
	return len && copy_in(a, uaddr, (size_t)len) ? -EFAULT : 0;
}

/* Store an address as accept() does: cut at *ulen, which becomes the full length. */
static int addr_out(const union saddr *a, u32 len, void *uaddr, s32 *ulen)
{
	s32 room;
	if (get_user(room, ulen))
		return -EFAULT;
	if (room < 0)
		return -EINVAL;
	if (copy_out(uaddr, a, MIN((u32)room, len)))
		return -EFAULT;
	return put_user(len, (u32 *)ulen);
}

static s64 install(struct sock *s, int flags)
{
	struct file *f = sock_file(s, flags & SOCK_NONBLOCK ? O_NONBLOCK : 0);
	if (!f)
		return -ENOMEM;
	int fd = fd_install(f, flags & SOCK_CLOEXEC, 0);
	if (fd < 0)
		file_put(f);
	return fd;
}

SYSCALL3(socket, int, family, int, type, int, protocol)
{
	struct sock *s;
	if (type & ~(SOCK_TYPE_MASK | SOCK_CLOEXEC | SOCK_NONBLOCK))
		return -EINVAL;
	int r = sock_create(family, type & SOCK_TYPE_MASK, protocol, &s);
	return r ? r : install(s, type);
}

SYSCALL4(socketpair, int, family, int, type, int, protocol, int *, ufds)
{
	struct sock *s[2];
	int fds[2];
	if (type & ~(SOCK_TYPE_MASK | SOCK_CLOEXEC | SOCK_NONBLOCK))
		return -EINVAL;
	if (family != AF_UNIX)
		return family == AF_INET || family == AF_INET6 ? -EOPNOTSUPP : -EAFNOSUPPORT;
	if (protocol && protocol != AF_UNIX)
		return -EPROTONOSUPPORT;
	int r = unix_socketpair(type & SOCK_TYPE_MASK, s);
	if (r)
		return r;
	fds[0] = (int)install(s[0], type);
	fds[1] = (int)install(s[1], type);
	if (fds[0] < 0 || fds[1] < 0 || copy_out(ufds, fds, sizeof(fds))) {
		r = fds[0] < 0 ? fds[0] : fds[1] < 0 ? fds[1] : -EFAULT;
		for (int i = 0; i < 2; i++)
			if (fds[i] >= 0)
				fd_close(fds[i]);
	}
	return r;
}

SYSCALL3(bind, int, fd, const void *, uaddr, int, len)
{
	struct file *f;
	union saddr a;
	s64 r;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	r = addr_in(&a, uaddr, len);
	if (!r)
		r = s->ops->bind(s, &a, (u32)len);
	file_put(f);
	return r;
}

SYSCALL3(connect, int, fd, const void *, uaddr, int, len)
{
	struct file *f;
	union saddr a;
	s64 r;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	r = addr_in(&a, uaddr, len);
	if (!r)
		r = s->ops->connect(s, &a, (u32)len, f->flags & O_NONBLOCK);
	file_put(f);
	return r;
}

SYSCALL2(listen, int, fd, int, backlog)
{
	struct file *f;
	s64 r;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	r = s->ops->listen(s, backlog);
	file_put(f);
	return r;
}

static s64 accept_from(int fd, void *uaddr, s32 *ulen, int flags)
{
	struct file *f;
	struct sock *c;
	s64 r;
	if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK))
		return -EINVAL;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	r = sock_accept(s, f->flags & O_NONBLOCK, &c);
	file_put(f);
	if (r)
		return r;
	struct file *cf = sock_file(c, flags & SOCK_NONBLOCK ? O_NONBLOCK : 0);
	if (!cf)
		return -ENOMEM;
	if (uaddr) {
		union saddr a;
		int n = c->ops->getname(c, true, &a);
		if (n < 0)
			n = (int)inet_format(c->family, &c->remote, &a); /* gone already: whoever it was */
		r = addr_out(&a, (u32)n, uaddr, ulen);
	}
	if (!r)
		r = fd_install(cf, flags & SOCK_CLOEXEC, 0);
	if (r < 0)
		file_put(cf);
	return r;
}

SYSCALL3(accept, int, fd, void *, uaddr, s32 *, ulen)
{
	return accept_from(fd, uaddr, ulen, 0);
}

SYSCALL4(accept4, int, fd, void *, uaddr, s32 *, ulen, int, flags)
{
	return accept_from(fd, uaddr, ulen, flags);
}

static s64 name_of(int fd, bool peer, void *uaddr, s32 *ulen)
{
	struct file *f;
	union saddr a;
	s64 r;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	r = s->ops->getname(s, peer, &a);
	file_put(f);
	return r < 0 ? r : addr_out(&a, (u32)r, uaddr, ulen);
}

SYSCALL3(getsockname, int, fd, void *, uaddr, s32 *, ulen)
{
	return name_of(fd, false, uaddr, ulen);
}

SYSCALL3(getpeername, int, fd, void *, uaddr, s32 *, ulen)
{
	return name_of(fd, true, uaddr, ulen);
}

SYSCALL2(shutdown, int, fd, int, how)
{
	struct file *f;
	s64 r;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	r = how < SHUT_RD || how > SHUT_RDWR ? -EINVAL : s->ops->shutdown(s, how);
	file_put(f);
	return r;
}

SYSCALL5(setsockopt, int, fd, int, level, int, name, const void *, val, u32, len)
{
	struct file *f;
	s64 r;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	r = sock_setsockopt(s, level, name, val, len);
	file_put(f);
	return r;
}

SYSCALL5(getsockopt, int, fd, int, level, int, name, void *, val, u32 *, len)
{
	struct file *f;
	s64 r;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	r = sock_getsockopt(s, level, name, val, len);
	file_put(f);
	return r;
}

/* --- one buffer ------------------------------------------------------------------------ */

SYSCALL6(sendto, int, fd, const void *, buf, u64, len, u32, flags, const void *, uaddr, int, alen)
{
	struct file *f;
	union saddr a;
	struct iovec iov;
	struct uio u;
	s64 r;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	struct msginfo m = {.flags = flags, .nonblock = f->flags & O_NONBLOCK};
	r = 0;
	if (uaddr) {
		r = addr_in(&a, uaddr, alen);
		m.to = &a;
		m.to_len = (u32)alen;
	}
	if (!r) {
		sock_set_cred(s, &m);
		uio_single(&u, &iov, (void *)buf, MIN(len, 0x7ffff000ull), false);
		r = sock_send(s, &u, &m);
	}
	file_put(f);
	return r;
}

SYSCALL6(recvfrom, int, fd, void *, buf, u64, len, u32, flags, void *, uaddr, s32 *, ulen)
{
	struct file *f;
	union saddr a;
	struct iovec iov;
	struct uio u;
	s64 r;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	struct msginfo m = {.flags = flags, .nonblock = f->flags & O_NONBLOCK, .from = uaddr ? &a : NULL};
	uio_single(&u, &iov, buf, MIN(len, 0x7ffff000ull), false);
	r = sock_recv(s, &u, &m);
	file_put(f);
	if (m.fds)
		scm_free(m.fds);
	if (r >= 0 && uaddr && ulen) {
		int e = addr_out(&a, m.from_len, uaddr, ulen);
		if (e)
			return e;
	}
	return r;
}

/* --- messages ----------------------------------------------------------------------------- */

/* Copy a vector in; `fast` or kmalloc'ed. -errno or 0. */
static int iov_in(const struct user_msghdr *h, struct iovec *fast, struct iovec **out, struct uio *u)
{
	struct iovec *v = fast;
	if (h->iovlen > IOV_MAX)
		return -EMSGSIZE;
	if (h->iovlen > IOV_FAST && !(v = kmalloc(h->iovlen * sizeof(*v))))
		return -ENOMEM;
	if (h->iovlen && copy_in(v, h->iov, h->iovlen * sizeof(*v))) {
		if (v != fast)
			kfree(v);
		return -EFAULT;
	}
	u64 total = 0;
	for (u64 i = 0; i < h->iovlen; i++) {
		if ((s64)v[i].iov_len < 0) {
			if (v != fast)
				kfree(v);
			return -EINVAL;
		}
		v[i].iov_len = MIN(v[i].iov_len, 0x7ffff000ull - total);
		total += v[i].iov_len;
	}
	*out = v;
	*u = (struct uio){.iov = v, .n_iov = (u32)h->iovlen, .left = total};
	return 0;
}

static int rights_in(const u8 *p, u64 n, struct msginfo *m)
{
	u32 count = (u32)(n / sizeof(int));
	u32 before = m->fds ? m->fds->n : 0; /* of earlier control messages of the same send */
	if (count > SCM_MAX_FDS - before)
		return -EINVAL;
	if (!count)
		return 0;
	struct scm_fds *f = kzalloc(sizeof(*f) + (before + count) * sizeof(f->file[0]));
	if (!f)
		return -ENOMEM;
	list_init(&f->node);
	if (before) {
		memcpy(f->file, m->fds->file, before * sizeof(f->file[0]));
		f->n = before;
		kfree(m->fds); /* its references are f's now */
		m->fds = NULL;
	}
	for (; f->n < before + count; f->n++) {
		int fd;
		memcpy(&fd, p + (f->n - before) * sizeof(int), sizeof(fd));
		f->file[f->n] = fd_get(fd);
		if (!f->file[f->n]) {
			scm_free(f);
			return -EBADF;
		}
	}
	m->fds = f;
	return 0;
}

static int creds_in(const u8 *p, u64 n, struct msginfo *m)
{
	struct process *self = current->proc;
	struct ucred c;
	if (n != sizeof(c))
		return -EINVAL;
	memcpy(&c, p, sizeof(c));
	if (self->euid && (c.pid != self->pid || (c.uid != self->uid && c.uid != self->euid) ||
			   (c.gid != self->gid && c.gid != self->egid)))
		return -EPERM;
	m->cred = c;
	return 0;
}

/* Hop limit and class of this one datagram. */
static int packet_in(const struct cmsg *c, const u8 *p, u64 n, struct msginfo *m)
{
	bool hops = c->level == SOL_IPV6 ? c->type == IPV6_HOPLIMIT : c->type == IP_TTL;
	bool class = c->level == SOL_IPV6 ? c->type == IPV6_TCLASS : c->type == IP_TOS;
	int v = 0;

	if (!hops && !class)
		return 0; /* IP_PKTINFO and the like ask for a source address: there is only one */
	if (n != sizeof(int) && !(c->level == SOL_IP && class && n == 1))
		return -EINVAL;
	memcpy(&v, p, n);
	if (v < -1 || v > 255 || (hops && c->level == SOL_IP && v < 1))
		return -EINVAL;
	if (v < 0)
		return 0;
	if (hops)
		m->ttl = (u16)(v + 1);
	else
		m->tos = (u16)(v + 1);
	return 0;
}

static int control_in(struct sock *s, const struct user_msghdr *h, struct msginfo *m)
{
	if (!h->controllen)
		return 0;
	if (h->controllen > CONTROL_MAX)
		return -ENOBUFS;
	u8 *buf = kmalloc(h->controllen);
	int r = !buf ? -ENOMEM : copy_in(buf, h->control, h->controllen) ? -EFAULT : 0;
	for (u64 off = 0; !r && off + sizeof(struct cmsg) <= h->controllen;) {
		struct cmsg c;
		memcpy(&c, buf + off, sizeof(c));
		if (c.len < sizeof(c) || c.len > h->controllen - off) {
			r = -EINVAL;
			break;
		}
		u8 *data = buf + off + sizeof(c);
		u64 n = c.len - sizeof(c);
		if (c.level == SOL_SOCKET && s->family == AF_UNIX)
			r = c.type == SCM_RIGHTS	? rights_in(data, n, m)
			    : c.type == SCM_CREDENTIALS ? creds_in(data, n, m)
							: -EINVAL;
		else if (c.level == SOL_SOCKET && c.type != SCM_RIGHTS && c.type != SCM_CREDENTIALS)
			r = -EINVAL;
		else if (c.level == SOL_IP || c.level == SOL_IPV6)
			r = packet_in(&c, data, n, m);
		off += CMSG_ALIGN(c.len);
	}
	kfree(buf);
	if (r && m->fds) {
		scm_free(m->fds);
		m->fds = NULL;
	}
	return r;
}

static s64 send_msg(struct file *f, struct sock *s, struct user_msghdr *h, u32 flags)
{
	struct msginfo m = {.flags = flags, .nonblock = f->flags & O_NONBLOCK};
	struct iovec fast[IOV_FAST], *v = fast;
	union saddr a;
	struct uio u;
	s64 r;
	if (h->name && h->namelen) {
		r = addr_in(&a, h->name, MIN(h->namelen, (s32)sizeof(a)));
		if (r)
			return r;
		m.to = &a;
		m.to_len = (u32)h->namelen;
	}
	sock_set_cred(s, &m);
	r = iov_in(h, fast, &v, &u);
	if (r)
		return r;
	r = control_in(s, h, &m);
	if (!r)
		r = sock_send(s, &u, &m);
	if (m.fds)
		scm_free(m.fds);
	if (v != fast)
		kfree(v);
	return r;
}

SYSCALL3(sendmsg, int, fd, const struct user_msghdr *, umsg, u32, flags)
{
	struct user_msghdr h;
	struct file *f;
	s64 r;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	r = copy_in(&h, umsg, sizeof(h)) ? -EFAULT : send_msg(f, s, &h, flags);
	file_put(f);
	return r;
}

SYSCALL4(sendmmsg, int, fd, struct user_mmsghdr *, um, u32, n, u32, flags)
{
	struct file *f;
	s64 r = 0;
	u32 done = 0;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	n = MIN(n, MMSG_MAX);
	for (r = 0; done < n; done++) {
		struct user_msghdr h;
		if (copy_in(&h, &um[done].hdr, sizeof(h)))
			r = -EFAULT;
		else
			r = send_msg(f, s, &h, flags);
		if (r < 0)
			break;
		u32 len = (u32)r;
		if (put_user(len, &um[done].len)) {
			r = -EFAULT;
			break;
		}
	}
	file_put(f);
	return done ? (s64)done : r;
}

/* Append one control message, as much of it as there is room for, and note what did not fit. */
static int cmsg_out(const struct user_msghdr *h, u64 *off, int level, int type, const void *data, u64 n,
		    u32 *flags)
{
	struct cmsg c = {.len = sizeof(c) + n, .level = level, .type = type};
	if (*off + c.len > h->controllen) {
		*flags |= MSG_CTRUNC;
		if (*off + sizeof(c) > h->controllen)
			return 0;
		c.len = h->controllen - *off;
		n = c.len - sizeof(c);
	}
	u8 *p = (u8 *)h->control + *off;
	if (copy_out(p, &c, sizeof(c)) || copy_out(p + sizeof(c), data, n))
		return -EFAULT;
	*off = MIN(*off + CMSG_ALIGN(c.len), h->controllen);
	return 0;
}

/* Give passed files descriptors, as many as there is room for. */
static int rights_out(const struct user_msghdr *h, u64 *off, struct scm_fds *f, bool cloexec, u32 *flags)
{
	u64 room = h->controllen > *off + sizeof(struct cmsg)
			   ? (h->controllen - *off - sizeof(struct cmsg)) / 4
			   : 0;
	int fds[SCM_MAX_FDS], r = 0;
	u32 n = 0;
	while (n < f->n && n < room) {
		fds[n] = fd_install(f->file[n], cloexec, 0);
		if (fds[n] < 0)
			break;
		f->file[n] = NULL; /* the descriptor has it now */
		n++;
	}
	if (n < f->n)
		*flags |= MSG_CTRUNC;
	if (n)
		r = cmsg_out(h, off, SOL_SOCKET, SCM_RIGHTS, fds, n * sizeof(int), flags);
	scm_free(f);
	return r;
}

/* Hop limit and class of a received datagram, if they are wanted and known. */
static int packet_out(struct sock *s, const struct user_msghdr *h, u64 *off, struct msginfo *m)
{
	int level = s->family == AF_INET ? SOL_IP : SOL_IPV6, ttl = m->ttl - 1, tos = m->tos - 1, e = 0;
	u8 tos4 = (u8)tos;

	if (s->recvttl && m->ttl)
		e = cmsg_out(h, off, level, level == SOL_IP ? IP_TTL : IPV6_HOPLIMIT, &ttl, sizeof(ttl),
			     &m->out_flags);
	if (!e && s->recvtos && m->tos && level == SOL_IP)
		e = cmsg_out(h, off, level, IP_TOS, &tos4, sizeof(tos4), &m->out_flags);
	else if (!e && s->recvtos && m->tos)
		e = cmsg_out(h, off, level, IPV6_TCLASS, &tos, sizeof(tos), &m->out_flags);
	return e;
}

static int pktinfo_out(struct sock *s, const struct user_msghdr *h, u64 *off, const struct inaddr *a,
		       u32 *flags)
{
	u32 ifindex = inet_is_loopback(a) ? 1 : 2;
	if (s->family == AF_INET) {
		struct in_pktinfo p = {.ipi_ifindex = (int)ifindex};
		memcpy(&p.ipi_spec_dst, a->ip + 12, 4);
		memcpy(&p.ipi_addr, a->ip + 12, 4);
		return cmsg_out(h, off, SOL_IP, IP_PKTINFO, &p, sizeof(p), flags);
	}
	struct {
		u8 addr[16];
		u32 ifindex;
	} p6 = {.ifindex = ifindex};
	memcpy(p6.addr, a->ip, 16);
	return cmsg_out(h, off, SOL_IPV6, IPV6_PKTINFO, &p6, sizeof(p6), flags);
}

/* Receive one; h's output fields are updated. */
static s64 recv_msg(struct file *f, struct sock *s, struct user_msghdr *h, u32 flags)
{
	struct msginfo m = {.flags = flags, .nonblock = f->flags & O_NONBLOCK};
	struct iovec fast[IOV_FAST], *v = fast;
	union saddr a;
	struct uio u;
	u64 off = 0;
	int e = 0;
	s64 r = iov_in(h, fast, &v, &u);
	if (r)
		return r;
	m.from = h->name ? &a : NULL;
	m.want_cmsg = true;
	r = sock_recv(s, &u, &m);
	if (v != fast)
		kfree(v);
	if (r < 0) {
		if (m.fds)
			scm_free(m.fds);
		return r;
	}
	if (s->passcred && m.has_cred)
		e = cmsg_out(h, &off, SOL_SOCKET, SCM_CREDENTIALS, &m.cred, sizeof(m.cred), &m.out_flags);
	if (m.fds) {
		int e2 = rights_out(h, &off, m.fds, flags & MSG_CMSG_CLOEXEC, &m.out_flags);
		e = e ? e : e2;
	}
	if (!e && s->pktinfo && m.local.port)
		e = pktinfo_out(s, h, &off, &m.local, &m.out_flags);
	if (!e && (s->recvttl || s->recvtos))
		e = packet_out(s, h, &off, &m);
	if (!e && h->name) {
		if (copy_out(h->name, &a, MIN((u32)MAX(h->namelen, 0), m.from_len)))
			e = -EFAULT;
		h->namelen = (s32)m.from_len;
	}
	h->controllen = off;
	h->flags = m.out_flags | (flags & MSG_CMSG_CLOEXEC);
	return e ? e : r;
}

static int header_out(struct user_msghdr *umsg, const struct user_msghdr *h)
{
	if ((h->name && put_user(h->namelen, &umsg->namelen)) || put_user(h->controllen, &umsg->controllen) ||
	    put_user(h->flags, &umsg->flags))
		return -EFAULT;
	return 0;
}

SYSCALL3(recvmsg, int, fd, struct user_msghdr *, umsg, u32, flags)
{
	struct user_msghdr h;
	struct file *f;
	s64 r;
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	r = copy_in(&h, umsg, sizeof(h)) ? -EFAULT : recv_msg(f, s, &h, flags);
	file_put(f);
	if (r >= 0 && header_out(umsg, &h))
		return -EFAULT;
	return r;
}

SYSCALL5(recvmmsg, int, fd, struct user_mmsghdr *, um, u32, n, u32, flags, const s64 *, uts)
{
	struct file *f;
	s64 r = 0, ts[2];
	u64 deadline = NO_DEADLINE;
	u32 done = 0;
	if (uts) {
		if (copy_in(ts, uts, sizeof(ts)))
			return -EFAULT;
		if (ts[0] < 0 || ts[1] < 0 || ts[1] >= (s64)NS_PER_SEC)
			return -EINVAL;
		deadline = mono_ns() + (u64)MIN(ts[0], 1000000000ll) * NS_PER_SEC + (u64)ts[1];
	}
	struct sock *s = get_sock(fd, &f, &r);
	if (!s)
		return r;
	n = MIN(n, MMSG_MAX);
	for (r = 0; done < n; done++) {
		struct user_msghdr h;
		if (done && mono_ns() >= deadline)
			break;
		if (copy_in(&h, &um[done].hdr, sizeof(h)))
			r = -EFAULT;
		else
			r = recv_msg(f, s, &h, flags & ~(u32)MSG_WAITFORONE);
		if (r < 0)
			break;
		u32 len = (u32)r;
		if (header_out(&um[done].hdr, &h) || put_user(len, &um[done].len)) {
			r = -EFAULT;
			break;
		}
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
	}
	file_put(f);
	return done ? (s64)done : r;
}
