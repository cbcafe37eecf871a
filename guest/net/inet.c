/* SPDX-License-Identifier: ISC */
/*
 * AF_INET and AF_INET6: addresses, ports, TCP before it is connected.
 *
 * Inside, an address is always 16 bytes (IPv4 as v4-mapped); sockaddrs exist at
 * the edges only. The guest has 127.0.0.0/8, ::1 and, if the host lets it talk to
 * anyone, one address of its own (OWN_IPV4, the way a container behind a
 * translating gateway has one). What is local never leaves the guest. All else
 * goes to the host's sockets, where the monitor's policy decides.
 *
 * The port tables hold sockets bound by name, so they are short lists. A listener
 * is always reachable through loopback; if its port is forwarded (boot->ports)
 * and nobody has it yet, the host's connections arrive in the same queue.
 */
#include "guest/net/sock.h"

#include "abi/boot.h"

#define EPHEMERAL_FIRST 32768u
#define EPHEMERAL_N	28232u
#define BACKLOG_MAX	4096
static const u8 OWN_IPV4[4] = {10, 0, 2, 15};

static struct list ports[3] = {LIST_INIT(ports[0]), LIST_INIT(ports[1]), LIST_INIT(ports[2])};

/* --- addresses --------------------------------------------------------------------- */

static const u8 v4_prefix[12] = {[10] = 0xff, [11] = 0xff};
static const u8 zero16[16];

bool inet_is_v4(const struct inaddr *a)
{
	return !memcmp(a->ip, v4_prefix, 12);
}

bool inet_is_any(const struct inaddr *a)
{
	return !memcmp(a->ip, zero16, 16) || (inet_is_v4(a) && !memcmp(a->ip + 12, zero16, 4));
}

bool inet_is_loopback(const struct inaddr *a)
{
	if (inet_is_v4(a))
		return a->ip[12] == 127;
	return !memcmp(a->ip, zero16, 15) && a->ip[15] == 1;
}

bool inet_has_link(void)
{
	return !(boot->flags & BOOT_F_EGRESS_NONE) || boot->ports_count;
}

static bool is_own(const struct inaddr *a)
{
	return inet_has_link() && inet_is_v4(a) && !memcmp(a->ip + 12, OWN_IPV4, 4);
}

bool inet_is_local(const struct inaddr *a)
{
	return inet_is_loopback(a) || inet_is_any(a) || is_own(a);
}

static void set_v4(struct inaddr *a, const u8 ip[4])
{
	memcpy(a->ip, v4_prefix, 12);
	memcpy(a->ip + 12, ip, 4);
}

static void set_loopback(int family, struct inaddr *a)
{
	if (family == AF_INET) {
		set_v4(a, (const u8[4]){127, 0, 0, 1});
	} else {
		memset(a->ip, 0, 16);
		a->ip[15] = 1;
	}
}

void inet_own_addr(int family, struct inaddr *a)
{
	if (family == AF_INET && inet_has_link())
		set_v4(a, OWN_IPV4);
	else
		set_loopback(family, a);
}

int inet_parse(struct sock *s, const union saddr *a, u32 len, struct inaddr *out)
{
	memset(out, 0, sizeof(*out));
	if (len < sizeof(a->family))
		return -EINVAL;
	if (s->family == AF_INET) {
		if (len < sizeof(a->in))
			return -EINVAL;
		if (a->family != AF_INET && !(a->family == AF_UNSPEC && !a->in.sin_addr.s_addr))
			return -EAFNOSUPPORT;
		set_v4(out, (const u8 *)&a->in.sin_addr);
		out->port = __builtin_bswap16(a->in.sin_port);
		return 0;
	}
	if (a->family == AF_INET && s->type == SOCK_DGRAM && len >= sizeof(a->in)) {
		set_v4(out, (const u8 *)&a->in.sin_addr);
		out->port = __builtin_bswap16(a->in.sin_port);
		return 0;
	}
	if (len < 24)
		return -EINVAL;
	if (a->family != AF_INET6)
		return -EAFNOSUPPORT;
	memcpy(out->ip, &a->in6.sin6_addr, 16);
	out->port = __builtin_bswap16(a->in6.sin6_port);
	return 0;
}

u32 inet_format(int family, const struct inaddr *a, union saddr *out)
{
	memset(out, 0, sizeof(*out));
	if (family == AF_INET) {
		out->in.sin_family = AF_INET;
		out->in.sin_port = __builtin_bswap16(a->port);
		memcpy(&out->in.sin_addr, a->ip + 12, 4);
		return sizeof(out->in);
	}
	out->in6.sin6_family = AF_INET6;
	out->in6.sin6_port = __builtin_bswap16(a->port);
	if (!inet_is_any(a))
		memcpy(&out->in6.sin6_addr, a->ip, 16);
	return sizeof(out->in6);
}

int inet_getname(struct sock *s, bool peer, union saddr *out)
{
	if (peer && (s->state != S_CONNECTED || s->reset))
		return -ENOTCONN;
	return (int)inet_format(s->family, peer ? &s->remote : &s->local, out);
}

/* --- ports ---------------------------------------------------------------------------- */

/* Could a packet to some address reach both? */
static bool overlap(const struct sock *s, const struct inaddr *a, const struct sock *t)
{
	bool s_any = inet_is_any(a), t_any = inet_is_any(&t->local);
	bool s_v4 = s->family == AF_INET || (inet_is_v4(a) && !s_any);
	bool t_v4 = t->family == AF_INET || (inet_is_v4(&t->local) && !t_any);
	if (s_any && t_any)
		return s_v4 == t_v4 || !(s_v4 ? t->v6only : s->v6only);
	if (s_any)
		return s_v4 == t_v4 || (!s_v4 && !s->v6only);
	if (t_any)
		return s_v4 == t_v4 || (!t_v4 && !t->v6only);
	return !memcmp(a->ip, t->local.ip, 16);
}

static bool port_taken(struct sock *s, enum port_table tab, const struct inaddr *a, bool listening)
{
	list_for_each (it, &ports[tab]) {
		struct sock *t = list_entry(it, struct sock, port_node);
		if (t == s || t->local.port != a->port || !overlap(s, a, t))
			continue;
		if (s->reuseport && t->reuseport)
			continue;
		if (listening && t->state != S_LISTEN)
			continue;
		if (s->reuseaddr && t->reuseaddr && (tab != PORTS_TCP || t->state != S_LISTEN))
			continue;
		return true;
	}
	return false;
}

u16 inet_ephemeral(enum port_table tab)
{
	static u32 next[2];
	if (!next[tab])
		random_bytes(&next[tab], sizeof(next[tab]));
	for (u32 i = 0; i < EPHEMERAL_N; i++) {
		u16 port = (u16)(EPHEMERAL_FIRST + next[tab]++ % EPHEMERAL_N);
		bool used = false;
		list_for_each (it, &ports[tab]) {
			if (list_entry(it, struct sock, port_node)->local.port == port) {
				used = true;
				break;
			}
		}
		if (!used)
			return port;
	}
	return 0;
}

int inet_bind_port(struct sock *s, enum port_table tab, const struct inaddr *want)
{
	struct inaddr a = *want;
	if (!inet_is_local(&a))
		return -EADDRNOTAVAIL;
	if (!a.port)
		a.port = inet_ephemeral(tab);
	else if (port_taken(s, tab, &a, false))
		return -EADDRINUSE;
	if (!a.port)
		return -EADDRINUSE;
	s->local = a;
	s->bound = true;
	list_del(&s->port_node);
	list_add_tail(&ports[tab], &s->port_node);
	return 0;
}

void inet_unbind(struct sock *s)
{
	list_del(&s->port_node);
}

/* How well a socket fits a packet; 0: not at all. */
static int fit(const struct sock *t, enum port_table tab, const struct inaddr *to, const struct inaddr *from)
{
	int score = 1;

	if (t->local.port != to->port || (tab == PORTS_TCP && t->state != S_LISTEN))
		return 0;
	if (inet_is_any(&t->local)) {
		if (t->family == AF_INET ? !inet_is_v4(to) : inet_is_v4(to) && t->v6only)
			return 0;
		score += t->family == AF_INET;
	} else if (memcmp(t->local.ip, to->ip, 16)) {
		return 0;
	} else {
		score += 2;
	}
	if (tab != PORTS_TCP && t->state == S_CONNECTED) {
		if (!from || t->remote.port != from->port || memcmp(t->remote.ip, from->ip, 16))
			return 0;
		score += 4;
	}
	return score;
}

struct sock *inet_find(enum port_table tab, const struct inaddr *to, const struct inaddr *from)
{
	struct sock *best = NULL;
	int best_score = 0;

	list_for_each (it, &ports[tab]) {
		struct sock *t = list_entry(it, struct sock, port_node);
		int score = fit(t, tab, to, from);

		if (score > best_score) {
			best = t;
			best_score = score;
		}
	}
	return best && best->reuseport ? inet_group_pick(best, tab, from) : best;
}

static bool same_group(const struct sock *s, const struct sock *t)
{
	return t->reuseport && !t->closed && t->state == s->state && t->family == s->family &&
	       !memcmp(&t->local, &s->local, sizeof(t->local));
}

struct sock *inet_group_next(const struct sock *s, enum port_table tab)
{
	list_for_each (it, &ports[tab]) {
		struct sock *t = list_entry(it, struct sock, port_node);

		if (t != s && same_group(s, t))
			return t;
	}
	return NULL;
}

/* FNV-1a: the same peer always comes to the same one, as on Linux. */
static u32 peer_hash(const struct inaddr *a)
{
	u32 h = 2166136261u;

	for (u32 i = 0; i < 16; i++)
		h = (h ^ a->ip[i]) * 16777619u;
	h = (h ^ (a->port & 0xff)) * 16777619u;
	h = (h ^ a->port >> 8) * 16777619u;
	return h ^ h >> 16;
}

struct sock *inet_group_pick(struct sock *s, enum port_table tab, const struct inaddr *from)
{
	static u32 turn;
	u32 n = 0, i;

	list_for_each (it, &ports[tab])
		n += same_group(s, list_entry(it, struct sock, port_node));
	if (n < 2 || s->state == S_CONNECTED)
		return s;
	i = (from ? peer_hash(from) : turn++) % n;
	list_for_each (it, &ports[tab]) {
		struct sock *t = list_entry(it, struct sock, port_node);

		if (same_group(s, t) && !i--)
			return t;
	}
	return s;
}

bool inet_port_forwarded(u16 port)
{
	for (u32 i = 0; i < boot->ports_count && i < ARRAY_SIZE(boot->ports); i++)
		if (boot->ports[i] == port)
			return true;
	return false;
}

void inet_each(enum port_table tab, void (*fn)(struct sock *))
{
	list_for_each (it, &ports[tab])
		fn(list_entry(it, struct sock, port_node));
}

/* --- TCP before it is connected --------------------------------------------------------- */

static int tcp_bind(struct sock *s, const union saddr *a, u32 len)
{
	struct inaddr in;
	int r = inet_parse(s, a, len, &in);
	if (r)
		return r;
	if (s->bound || s->state != S_IDLE)
		return -EINVAL;
	return inet_bind_port(s, PORTS_TCP, &in);
}

void net_note_listen(void)
{
	u32 lo, hi;
	if (stats->first_listen_tsc)
		return;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	stats->first_listen_tsc = (u64)hi << 32 | lo;
}

static bool forward_taken(const struct sock *s)
{
	list_for_each (it, &ports[PORTS_TCP]) {
		struct sock *t = list_entry(it, struct sock, port_node);
		if (t != s && t->state == S_LISTEN && t->local.port == s->local.port && t->host)
			return true;
	}
	return false;
}

bool inet_is_hidden(const struct sock *s)
{
	return s->state == S_LISTEN && !s->closed && !s->host && inet_port_forwarded(s->local.port) &&
	       !forward_taken(s);
}

static int tcp_listen(struct sock *s, int backlog)
{
	s->backlog = (u32)(backlog < 0 || backlog > BACKLOG_MAX ? BACKLOG_MAX : backlog);
	if (s->state == S_LISTEN)
		return 0;
	if (s->state != S_IDLE)
		return -EINVAL;
	if (!s->bound) {
		struct inaddr any = {.port = 0};
		if (s->family == AF_INET)
			memcpy(any.ip, v4_prefix, 12);
		int r = inet_bind_port(s, PORTS_TCP, &any);
		if (r)
			return r;
	}
	if (port_taken(s, PORTS_TCP, &s->local, true))
		return -EADDRINUSE;
	host_free(s); /* of an earlier connect that failed */
	s->state = S_LISTEN;
	if (inet_is_hidden(s)) {
		int r = host_listen(s);
		if (r && r != -EADDRNOTAVAIL && r != -EADDRINUSE)
			log_line(LOG_WARN, "port %u is not reachable from the host: error %d", s->local.port,
				 -r);
	}
	net_note_listen();
	waitq_wake_all(&s->wq, 0);
	return 0;
}

static int connect_local(struct sock *s, const struct inaddr *to, bool nonblock)
{
	struct sock *c, *l = inet_find(PORTS_TCP, to, &s->local);
	int err = ECONNREFUSED;
	if (!l)
		goto refused;
	c = sock_new(l->family, SOCK_STREAM, IPPROTO_TCP, &local_stream_ops);
	if (!c)
		return -ENOMEM;
	host_free(s);
	c->local = *to;
	c->remote = s->local;
	c->sndbuf = l->sndbuf;
	c->nodelay = l->nodelay;
	c->keepalive = l->keepalive;
	c->keepidle = l->keepidle;
	c->keepintvl = l->keepintvl;
	c->keepcnt = l->keepcnt;
	c->connect_reported = true;
	local_pair(s, c);
	s->remote = *to;
	if (!sock_acceptq_push(l, c, false)) {
		c->closed = true;
		c->ops->close(c);
		sock_put(c);
		s->ops = &tcp_ops;
		s->state = S_IDLE;
		s->err = 0;
		sock_put(s->peer);
		s->peer = NULL;
		goto refused;
	}
	sock_put(c);
	s->connect_reported = !nonblock;
	return nonblock ? -EINPROGRESS : 0;
refused:
	if (!nonblock)
		return -err;
	sock_fail(s, err, POLLIN | POLLOUT | POLLHUP);
	return -EINPROGRESS;
}

static int tcp_connect(struct sock *s, const union saddr *a, u32 len, bool nonblock)
{
	struct inaddr to;
	if (len >= sizeof(a->family) && a->family == AF_UNSPEC)
		return 0;
	int r = inet_parse(s, a, len, &to);
	if (r)
		return r;
	if (s->state == S_LISTEN)
		return -EISCONN;
	if (s->err)
		return sock_error(s);
	if (inet_is_any(&to))
		set_loopback(s->family == AF_INET || inet_is_v4(&to) ? AF_INET : AF_INET6, &to);
	bool local = inet_is_local(&to), v4 = inet_is_v4(&to);
	if (v4 && s->family == AF_INET6 && s->v6only)
		return -ENETUNREACH;
	if (!inet_has_link() && !local)
		return -ENETUNREACH;
	if (!s->local.port) {
		s->local.port = inet_ephemeral(PORTS_TCP);
		if (!s->local.port)
			return -EADDRNOTAVAIL;
	}
	if (inet_is_any(&s->local)) {
		if (local)
			memcpy(s->local.ip, to.ip, 16);
		else
			inet_own_addr(v4 ? AF_INET : AF_INET6, &s->local);
	}
	if (local)
		return connect_local(s, &to, nonblock);
	s->remote = to;
	r = host_connect(s);
	if (r)
		return r;
	if (nonblock) {
		s->connect_reported = false;
		return -EINPROGRESS;
	}
	r = sock_wait(s, s->state != S_CONNECTING, false, s->sndtimeo);
	if (r)
		return r == -EAGAIN ? -EINPROGRESS : r;
	if (s->state != S_CONNECTED)
		return s->err ? sock_error(s) : -ECONNABORTED;
	s->connect_reported = true;
	return 0;
}

static s64 tcp_send(struct sock *s, struct uio *u, struct msginfo *m)
{
	return s->err ? sock_error(s) : -EPIPE;
}

static s64 tcp_recv(struct sock *s, struct uio *u, struct msginfo *m)
{
	return s->err ? sock_error(s) : -ENOTCONN;
}

static u32 tcp_poll(struct sock *s)
{
	return POLLOUT | POLLWRNORM | POLLHUP | (s->err ? POLLERR | POLLIN | POLLRDNORM | POLLRDHUP : 0);
}

static int tcp_shutdown(struct sock *s, int how)
{
	if (s->state != S_LISTEN)
		return -ENOTCONN;
	if (how == SHUT_WR)
		return 0;
	/* as on Linux: it stops listening, accept() gives EINVAL, poll POLLHUP */
	host_unlisten(s);
	s->state = S_IDLE;
	waitq_wake_all(&s->wq, POLLIN | POLLHUP);
	return 0;
}

static void tcp_close(struct sock *s)
{
	if (s->state == S_LISTEN)
		host_unlisten(s);
	inet_unbind(s);
}

static void tcp_destroy(struct sock *s)
{
	if (s->state != S_LISTEN)
		host_free(s);
}

static u32 tcp_count(struct sock *s)
{
	return 0;
}

const struct sock_ops tcp_ops = {
	.bind = tcp_bind,
	.connect = tcp_connect,
	.listen = tcp_listen,
	.getname = inet_getname,
	.send = tcp_send,
	.recv = tcp_recv,
	.poll = tcp_poll,
	.shutdown = tcp_shutdown,
	.inq = tcp_count,
	.outq = tcp_count,
	.close = tcp_close,
	.destroy = tcp_destroy,
};
