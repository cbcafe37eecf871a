/* SPDX-License-Identifier: ISC */
/*
 * What the guest's network looks like to a program that asks: NETLINK_ROUTE
 * dumps and the SIOCGIF* calls.
 *
 * There is `lo` (127.0.0.1, ::1) and, when the monitor lets the guest talk to
 * anyone, `eth0` with the guest's own address and a default route. There are no
 * devices behind these; nothing can be changed (EPERM).
 */
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/net/net.h"
#include "guest/net/sock.h"

enum { ARPHRD_ETHER = 1, ARPHRD_LOOPBACK = 772 };
enum {
	IF_UP = 1,
	IF_BROADCAST = 2,
	IF_LOOPBACK = 8,
	IF_RUNNING = 0x40,
	IF_MULTICAST = 0x1000,
	IF_LOWER_UP = 0x10000
};

struct netif {
	const char *name;
	u32 index, flags, mtu;
	u16 arp_type;
	u8 mac[6], addr[4], bcast[4], prefix;
};

static const struct netif netifs[] = {
	{"lo",
	 1,
	 IF_UP | IF_LOOPBACK | IF_RUNNING | IF_LOWER_UP,
	 65536,
	 ARPHRD_LOOPBACK,
	 {0},
	 {127, 0, 0, 1},
	 {0},
	 8},
	{"eth0",
	 2,
	 IF_UP | IF_BROADCAST | IF_RUNNING | IF_MULTICAST | IF_LOWER_UP,
	 1500,
	 ARPHRD_ETHER,
	 {0x02, 0, 0, 0, 2, 15},
	 {10, 0, 2, 15},
	 {10, 0, 2, 255},
	 24},
};

static u32 n_netifs(void)
{
	return inet_has_link() ? 2 : 1;
}

/* --- messages ------------------------------------------------------------------------- */

/* A dump under construction: one block, cut into messages by the reader. */
struct dump {
	u8 *p;
	u32 len, cap;
	u32 seq, pid;
};

#define DUMP_MAX 4096u

static struct nlmsghdr *msg_begin(struct dump *d, u16 type, u16 flags, const void *body, u32 n)
{
	struct nlmsghdr *h = (struct nlmsghdr *)(d->p + d->len);
	*h = (struct nlmsghdr){
		.nlmsg_type = type, .nlmsg_flags = flags, .nlmsg_seq = d->seq, .nlmsg_pid = d->pid};
	memcpy(h + 1, body, n);
	d->len += sizeof(*h) + (u32)NLMSG_ALIGN(n);
	return h;
}

static void attr(struct dump *d, u16 type, const void *v, u32 n)
{
	struct rtattr *a = (struct rtattr *)(d->p + d->len);
	a->rta_type = type;
	a->rta_len = (u16)(sizeof(*a) + n);
	memcpy(a + 1, v, n);
	d->len += (u32)RTA_ALIGN(a->rta_len);
}

static void msg_end(struct dump *d, struct nlmsghdr *h)
{
	h->nlmsg_len = (u32)(d->p + d->len - (u8 *)h);
}

static void put_link(struct dump *d, const struct netif *n)
{
	static const u8 any6[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	struct ifinfomsg m = {.ifi_type = n->arp_type, .ifi_index = (int)n->index, .ifi_flags = n->flags};
	struct nlmsghdr *h = msg_begin(d, RTM_NEWLINK, NLM_F_MULTI, &m, sizeof(m));
	u32 qlen = 1000;
	u8 oper = n->index == 1 ? 0 : 6;
	attr(d, IFLA_IFNAME, n->name, (u32)strlen(n->name) + 1);
	attr(d, IFLA_TXQLEN, &qlen, 4);
	attr(d, IFLA_OPERSTATE, &oper, 1);
	attr(d, IFLA_MTU, &n->mtu, 4);
	attr(d, IFLA_ADDRESS, n->mac, 6);
	attr(d, IFLA_BROADCAST, n->index == 1 ? n->mac : any6, 6);
	msg_end(d, h);
}

static void put_addr(struct dump *d, const struct netif *n)
{
	struct ifaddrmsg m = {.ifa_family = AF_INET,
			      .ifa_prefixlen = n->prefix,
			      .ifa_flags = IFA_F_PERMANENT,
			      .ifa_scope = n->index == 1 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE,
			      .ifa_index = n->index};
	struct nlmsghdr *h = msg_begin(d, RTM_NEWADDR, NLM_F_MULTI, &m, sizeof(m));
	attr(d, IFA_ADDRESS, n->addr, 4);
	attr(d, IFA_LOCAL, n->addr, 4);
	if (n->bcast[0])
		attr(d, IFA_BROADCAST, n->bcast, 4);
	attr(d, IFA_LABEL, n->name, (u32)strlen(n->name) + 1);
	msg_end(d, h);
}

static void put_addr6(struct dump *d)
{
	static const u8 loop6[16] = {[15] = 1};
	struct ifaddrmsg m = {.ifa_family = AF_INET6,
			      .ifa_prefixlen = 128,
			      .ifa_flags = IFA_F_PERMANENT,
			      .ifa_scope = RT_SCOPE_HOST,
			      .ifa_index = 1};
	struct nlmsghdr *h = msg_begin(d, RTM_NEWADDR, NLM_F_MULTI, &m, sizeof(m));
	attr(d, IFA_ADDRESS, loop6, 16);
	msg_end(d, h);
}

static void put_route(struct dump *d, bool def)
{
	static const u8 net[4] = {10, 0, 2, 0}, gw[4] = {10, 0, 2, 2};
	struct rtmsg m = {.rtm_family = AF_INET,
			  .rtm_dst_len = def ? 0 : 24,
			  .rtm_table = RT_TABLE_MAIN,
			  .rtm_protocol = def ? RTPROT_BOOT : RTPROT_KERNEL,
			  .rtm_scope = def ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
			  .rtm_type = RTN_UNICAST};
	struct nlmsghdr *h = msg_begin(d, RTM_NEWROUTE, NLM_F_MULTI, &m, sizeof(m));
	u32 table = RT_TABLE_MAIN, oif = 2;
	attr(d, RTA_TABLE, &table, 4);
	if (def)
		attr(d, RTA_GATEWAY, gw, 4);
	else
		attr(d, RTA_DST, net, 4);
	attr(d, RTA_OIF, &oif, 4);
	attr(d, RTA_PREFSRC, netifs[1].addr, 4);
	msg_end(d, h);
}

static int queue_reply(struct sock *s, const u8 *p, u32 n)
{
	struct sockaddr_nl from = {.nl_family = AF_NETLINK};
	struct skb *b = skb_new(n, &from, sizeof(from));
	if (!b)
		return -ENOBUFS;
	memcpy(skb_payload(b), p, n);
	b->len = n;
	list_add_tail(&s->rxq, &b->node);
	s->rx_bytes += n;
	waitq_wake(&s->wq, POLLIN | POLLRDNORM);
	return 0;
}

bool netlink_is_socket(struct file *f)
{
	struct sock *s = sock_of(f);

	return s && s->family == AF_NETLINK;
}

void netlink_deliver(struct file *f, const void *p, u32 n)
{
	struct sock *s = sock_of(f);

	if (s->rx_bytes < DUMP_MAX)
		queue_reply(s, p, n);
}

static int reply_error(struct sock *s, const struct nlmsghdr *q, int err)
{
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
	} m = {.h = {.nlmsg_len = sizeof(m),
		     .nlmsg_type = NLMSG_ERROR,
		     .nlmsg_seq = q->nlmsg_seq,
		     .nlmsg_pid = s->gc_refs},
	       .e = {.error = err, .msg = *q}};
	return queue_reply(s, (u8 *)&m, sizeof(m));
}

static int answer(struct sock *s, const struct nlmsghdr *q, u8 family)
{
	struct dump d = {.seq = q->nlmsg_seq, .pid = s->gc_refs, .cap = DUMP_MAX};
	switch (q->nlmsg_type) {
	case RTM_GETLINK:
	case RTM_GETADDR:
	case RTM_GETROUTE:
		break;
	case NLMSG_NOOP:
	case NLMSG_DONE:
		return 0;
	default:
		return reply_error(s, q, -EPERM);
	}
	if ((q->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP && q->nlmsg_type != RTM_GETLINK)
		return reply_error(s, q, -EOPNOTSUPP);
	d.p = kzalloc(DUMP_MAX);
	if (!d.p)
		return -ENOBUFS;
	for (u32 i = 0; i < n_netifs(); i++) {
		if (q->nlmsg_type == RTM_GETLINK)
			put_link(&d, &netifs[i]);
		else if (q->nlmsg_type == RTM_GETADDR && (family == AF_UNSPEC || family == AF_INET))
			put_addr(&d, &netifs[i]);
	}
	if (q->nlmsg_type == RTM_GETADDR && (family == AF_UNSPEC || family == AF_INET6))
		put_addr6(&d);
	if (q->nlmsg_type == RTM_GETROUTE && family != AF_INET6 && inet_has_link()) {
		put_route(&d, true);
		put_route(&d, false);
	}
	int r = d.len ? queue_reply(s, d.p, d.len) : 0;
	d.len = 0;
	int zero = 0;
	msg_end(&d, msg_begin(&d, NLMSG_DONE, NLM_F_MULTI, &zero, sizeof(zero)));
	if (!r)
		r = queue_reply(s, d.p, d.len);
	kfree(d.p);
	return r;
}

/* --- the socket. Its port id is kept in gc_refs, which only AF_UNIX uses otherwise ------- */

static u32 port_id(struct sock *s)
{
	static u32 next = 0xffffefffu;
	static bool pid_used; /* the first takes the pid, as on Linux; others anything else */
	if (!s->gc_refs) {
		s->gc_refs = pid_used ? next-- : (u32)current->proc->pid;
		pid_used = true;
	}
	return s->gc_refs;
}

static int nl_bind(struct sock *s, const union saddr *a, u32 len)
{
	const struct sockaddr_nl *nl = (const struct sockaddr_nl *)a;
	if (len < sizeof(*nl) || nl->nl_family != AF_NETLINK)
		return -EINVAL;
	if (nl->nl_pid)
		s->gc_refs = nl->nl_pid;
	port_id(s);
	return 0;
}

static int nl_connect(struct sock *s, const union saddr *a, u32 len, bool nonblock)
{
	port_id(s);
	return 0;
}

static int nl_getname(struct sock *s, bool peer, union saddr *out)
{
	struct sockaddr_nl nl = {.nl_family = AF_NETLINK, .nl_pid = peer ? 0 : s->gc_refs};
	memcpy(out, &nl, sizeof(nl));
	return sizeof(nl);
}

static s64 nl_send(struct sock *s, struct uio *u, struct msginfo *m)
{
	struct {
		struct nlmsghdr h;
		u8 body[256];
	} q = {0};
	u64 total = u->left;
	port_id(s);
	if (total > sizeof(q))
		return -EMSGSIZE;
	u64 n = uio_get(u, &q, total);
	if (n < total)
		return -EFAULT;
	if (n < sizeof(q.h) || q.h.nlmsg_len < sizeof(q.h) || q.h.nlmsg_len > n)
		return (s64)total;
	int r = answer(s, &q.h, q.h.nlmsg_len > sizeof(q.h) ? q.body[0] : 0);
	return r ? r : (s64)total;
}

static s64 nl_recv(struct sock *s, struct uio *u, struct msginfo *m)
{
	int r = sock_wait(s, !list_empty(&s->rxq), m->nonblock, s->rcvtimeo);
	if (r)
		return r;
	struct skb *b = list_first(&s->rxq, struct skb, node);
	u64 want = MIN((u64)b->len, u->left), n = uio_put(u, skb_payload(b), want);
	s64 ret = m->flags & MSG_TRUNC ? (s64)b->len : (s64)want;
	if (want < b->len)
		m->out_flags |= MSG_TRUNC;
	if (m->from) {
		memcpy(m->from, b->data, b->addr_len);
		m->from_len = b->addr_len;
	}
	if (!(m->flags & MSG_PEEK)) {
		list_del(&b->node);
		s->rx_bytes -= b->len;
		skb_free(b);
	}
	return n < want ? -EFAULT : ret;
}

static u32 nl_poll(struct sock *s)
{
	return POLLOUT | POLLWRNORM | (list_empty(&s->rxq) ? 0 : POLLIN | POLLRDNORM);
}

static int nl_refuse_int(struct sock *s, int v)
{
	return -EOPNOTSUPP;
}

static u32 nl_inq(struct sock *s)
{
	return s->rx_bytes;
}

static u32 nl_outq(struct sock *s)
{
	return 0;
}

static void nl_close(struct sock *s)
{
}

const struct sock_ops netlink_ops = {
	.bind = nl_bind,
	.connect = nl_connect,
	.listen = nl_refuse_int,
	.getname = nl_getname,
	.send = nl_send,
	.recv = nl_recv,
	.poll = nl_poll,
	.shutdown = nl_refuse_int,
	.inq = nl_inq,
	.outq = nl_outq,
	.close = nl_close,
};

/* --- ioctl ------------------------------------------------------------------------------------ */

/* struct ifreq, whose header wants a libc */
struct ifreq_abi {
	char name[16];
	union {
		struct sockaddr_in addr;
		u16 flags;
		int value;
		struct {
			u16 type;
			u8 mac[14];
		} hw;
		u8 pad[24];
	};
};

static void fill_addr(struct ifreq_abi *r, const u8 a[4])
{
	memset(&r->pad, 0, sizeof(r->pad));
	r->addr.sin_family = AF_INET;
	memcpy(&r->addr.sin_addr, a, 4);
}

static s64 if_list(u64 arg)
{
	struct {
		int len;
		struct ifreq_abi *req;
	} c;
	if (copy_in(&c, (void *)arg, sizeof(c)))
		return -EFAULT;
	u32 n = n_netifs();
	if (c.req) {
		n = MIN(n, (u32)MAX(c.len, 0) / (u32)sizeof(struct ifreq_abi));
		for (u32 i = 0; i < n; i++) {
			struct ifreq_abi r = {0};
			memcpy(r.name, netifs[i].name, strlen(netifs[i].name));
			fill_addr(&r, netifs[i].addr);
			if (copy_out(c.req + i, &r, sizeof(r)))
				return -EFAULT;
		}
	}
	c.len = (int)(n * sizeof(struct ifreq_abi));
	return copy_out((void *)arg, &c, sizeof(c));
}

s64 netif_ioctl(u32 cmd, u64 arg)
{
	struct ifreq_abi r;
	const struct netif *n = NULL;
	if (cmd == 0x8912) /* SIOCGIFCONF */
		return if_list(arg);
	if (copy_in(&r, (void *)arg, sizeof(r)))
		return -EFAULT;
	r.name[15] = 0;
	for (u32 i = 0; i < n_netifs(); i++)
		if (cmd == 0x8910 ? (int)netifs[i].index == r.value : !strcmp(netifs[i].name, r.name))
			n = &netifs[i];
	if (!n)
		return -ENODEV;
	switch (cmd) {
	case 0x8910: /* SIOCGIFNAME */
		memset(r.name, 0, sizeof(r.name));
		memcpy(r.name, n->name, strlen(n->name));
		break;
	case 0x8913:
		r.flags = (u16)n->flags;
		break; /* SIOCGIFFLAGS */
	case 0x8915:
		fill_addr(&r, n->addr);
		break; /* SIOCGIFADDR */
	case 0x8919:
		fill_addr(&r, n->bcast);
		break; /* SIOCGIFBRDADDR */
	case 0x891b: { /* SIOCGIFNETMASK */
		u32 mask = __builtin_bswap32(~0u << (32 - n->prefix));
		fill_addr(&r, (const u8 *)&mask);
		break;
	}
	case 0x891d:
		r.value = 0;
		break; /* SIOCGIFMETRIC */
	case 0x8921:
		r.value = (int)n->mtu;
		break; /* SIOCGIFMTU */
	case 0x8927: /* SIOCGIFHWADDR */
		memset(&r.pad, 0, sizeof(r.pad));
		r.hw.type = n->arp_type;
		memcpy(r.hw.mac, n->mac, 6);
		break;
	case 0x8933:
		r.value = (int)n->index;
		break; /* SIOCGIFINDEX */
	case 0x8942:
		r.value = 1000;
		break; /* SIOCGIFTXQLEN */
	case 0x8914:
	case 0x8916:
	case 0x891c:
	case 0x8922:
	case 0x8924:
		return -EPERM; /* set something */
	default:
		return -ENOTTY;
	}
	return copy_out((void *)arg, &r, sizeof(r));
}
