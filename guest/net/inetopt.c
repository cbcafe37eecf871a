/* SPDX-License-Identifier: ISC */
/*
 * Options of IP, IPv6, TCP and UDP.
 *
 * Values are kept in struct sock; host.c passes those on that change what the
 * host does. Options that only shape packets which the host builds anyway (MTU
 * discovery, multicast TTL, SYN count...) are accepted with their limits checked
 * and have no effect; what would change what the app sees is refused.
 */
#include "guest/net/sock.h"

static int set_tcp(struct sock *s, int name, const void *val, u32 len, int v)
{
	if (s->type != SOCK_STREAM)
		return -ENOPROTOOPT;
	switch (name) {
	case TCP_NODELAY:
		s->nodelay = v != 0;
		return 0;
	case TCP_CORK:
		s->cork = v != 0;
		return 0;
	case TCP_KEEPIDLE:
	case TCP_KEEPINTVL:
		if (v < 1 || v > 32767)
			return -EINVAL;
		*(name == TCP_KEEPIDLE ? &s->keepidle : &s->keepintvl) = (u32)v;
		return 0;
	case TCP_KEEPCNT:
		if (v < 1 || v > 127)
			return -EINVAL;
		s->keepcnt = (u32)v;
		return 0;
	case TCP_USER_TIMEOUT:
		if (v < 0)
			return -EINVAL;
		s->user_timeout = (u32)v;
		return 0;
	case TCP_DEFER_ACCEPT:
		s->defer_accept = v > 0 ? (u32)v : 0;
		return 0;
	case TCP_FASTOPEN:
		s->fastopen = (u32)v;
		return 0;
	case TCP_MAXSEG:
		return v && (v < 88 || v > 32767) ? -EINVAL : 0;
	case TCP_SYNCNT:
		return v < 1 || v > 127 ? -EINVAL : 0;
	case TCP_QUICKACK:
	case TCP_LINGER2:
	case TCP_WINDOW_CLAMP:
	case TCP_NOTSENT_LOWAT:
		return 0;
	case TCP_CONGESTION:
		return (len >= 5 && !memcmp(val, "cubic", 5)) || (len >= 4 && !memcmp(val, "reno", 4))
			       ? 0
			       : -ENOENT;
	case TCP_ULP:
		return -ENOENT;
	}
	return -ENOPROTOOPT;
}

/* IP_MULTICAST_IF: an address (in_addr, or the second one of ip_mreq and ip_mreqn), or by ip_mreqn an index. Only lo has a name here. */
static int set_multicast_if(const void *val, u32 len)
{
	struct inaddr a = {.ip = {[10] = 0xff, [11] = 0xff}};
	int index = 0;

	memcpy(a.ip + 12, (const u8 *)val + (len >= 8 ? 4 : 0), 4);
	if (len >= 12)
		memcpy(&index, (const u8 *)val + 8, 4);
	if (index)
		return index == 1 ? 0 : -ENODEV;
	return inet_is_any(&a) ? 0 : inet_is_local(&a) ? 0 : -EADDRNOTAVAIL;
}

static int set_ip(struct sock *s, int name, int v)
{
	switch (name) {
	case IP_TOS:
		s->tos = (u8)v;
		return 0;
	case IP_TTL:
		if (v != -1 && (v < 1 || v > 255))
			return -EINVAL;
		s->ttl = v == -1 ? 64 : (u8)v;
		return 0;
	case IP_MTU_DISCOVER:
		if (v < 0 || v > 5)
			return -EINVAL;
		s->mtu_discover = (u8)v;
		return 0;
	case IP_PKTINFO:
		s->pktinfo = v != 0;
		return 0;
	case IP_RECVTOS:
		s->recvtos = v != 0;
		return 0;
	case IP_RECVTTL:
		s->recvttl = v != 0;
		return 0;
	case IP_RECVERR:
		s->recverr = v != 0;
		return 0;
	case IP_FREEBIND:
		s->freebind = v != 0;
		return 0;
	case IP_MULTICAST_LOOP:
		s->mcast_loop_off = !v;
		return 0;
	case IP_MULTICAST_TTL:
	case IP_MULTICAST_ALL:
	case IP_BIND_ADDRESS_NO_PORT:
		return 0;
	case IP_ADD_MEMBERSHIP:
	case IP_DROP_MEMBERSHIP:
		return -ENODEV;
	case IP_TRANSPARENT:
	case IP_HDRINCL:
		return -EPERM;
	}
	return -ENOPROTOOPT;
}

static int set_ipv6(struct sock *s, int name, int v)
{
	switch (name) {
	case IPV6_V6ONLY:
		if (s->bound)
			return -EINVAL;
		s->v6only = v != 0;
		return 0;
	case IPV6_TCLASS:
		s->tos = v < 0 ? 0 : (u8)v;
		return 0;
	case IPV6_UNICAST_HOPS:
		s->ttl = v < 0 ? 64 : (u8)v;
		return 0;
	case IPV6_MTU_DISCOVER:
		s->mtu_discover = (u8)v;
		return 0;
	case IPV6_RECVPKTINFO:
		s->pktinfo = v != 0;
		return 0;
	case IPV6_RECVTCLASS:
		s->recvtos = v != 0;
		return 0;
	case IPV6_RECVHOPLIMIT:
		s->recvttl = v != 0;
		return 0;
	case IPV6_RECVERR:
		s->recverr = v != 0;
		return 0;
	case IPV6_MULTICAST_LOOP:
	case IPV6_MULTICAST_HOPS:
	case IPV6_MULTICAST_ALL:
	case IPV6_AUTOFLOWLABEL:
	case IPV6_DONTFRAG:
	case IPV6_ADDR_PREFERENCES:
		return 0;
	case IPV6_MTU:
		return v && v < 1280 ? -EINVAL : 0;
	case IPV6_ADD_MEMBERSHIP:
	case IPV6_DROP_MEMBERSHIP:
		return -ENODEV;
	case IPV6_MULTICAST_IF:
		return v == 0 || v == 1 ? 0 : -ENODEV;
	}
	return -ENOPROTOOPT;
}

/* UDPLITE_SEND_CSCOV and UDPLITE_RECV_CSCOV. */
static int set_coverage(struct sock *s, int name, int v)
{
	if (s->protocol != IPPROTO_UDPLITE || (name != 10 && name != 11))
		return -ENOPROTOOPT;
	s->coverage[name - 10] = v < 0 ? 0 : v && v < 8 ? 8 : (u16)MIN(v, 65535);
	return 0;
}

int inet_setopt(struct sock *s, int level, int name, const void *val, u32 len)
{
	int v = 0;
	if (len >= 4)
		memcpy(&v, val, 4);
	else if (len && level == SOL_IP)
		v = *(const u8 *)val;
	else if (!(level == SOL_TCP && name == TCP_CONGESTION))
		return -EINVAL;
	switch (level) {
	case SOL_TCP:
		return set_tcp(s, name, val, len, v);
	case SOL_IP:
		if (name == IP_MULTICAST_IF)
			return len < 4 ? -EINVAL : set_multicast_if(val, len);
		return set_ip(s, name, v);
	case IPPROTO_UDPLITE:
		return set_coverage(s, name, v);
	case SOL_IPV6:
		return s->family == AF_INET6 ? set_ipv6(s, name, v) : -ENOPROTOOPT;
	}
	return -ENOPROTOOPT;
}

static void tcp_info(struct sock *s, struct tcp_info *ti)
{
	static const u8 state[] = {7 /* CLOSE */, 10 /* LISTEN */, 2 /* SYN_SENT */, 1 /* ESTABLISHED */, 7};
	memset(ti, 0, sizeof(*ti));
	ti->tcpi_state = state[s->state];
	if (s->state == S_CONNECTED)
		ti->tcpi_state = s->shut_wr ? 5 /* FIN_WAIT2 */ : 1;
	/* round trips, windows, counters: the host's TCP has them, and we have not asked: 0 */
	if (s->state == S_LISTEN) {
		ti->tcpi_unacked = s->n_accept;
		ti->tcpi_sacked = s->backlog;
	}
}

static int get_tcp(struct sock *s, int name, void *val, u32 *len, int *v)
{
	if (s->type != SOCK_STREAM)
		return -ENOPROTOOPT;
	switch (name) {
	case TCP_NODELAY:
		*v = s->nodelay;
		return 0;
	case TCP_CORK:
		*v = s->cork;
		return 0;
	case TCP_KEEPIDLE:
		*v = s->keepidle ? (int)s->keepidle : 7200;
		return 0;
	case TCP_KEEPINTVL:
		*v = s->keepintvl ? (int)s->keepintvl : 75;
		return 0;
	case TCP_KEEPCNT:
		*v = s->keepcnt ? (int)s->keepcnt : 9;
		return 0;
	case TCP_USER_TIMEOUT:
		*v = (int)s->user_timeout;
		return 0;
	case TCP_DEFER_ACCEPT:
		*v = (int)s->defer_accept;
		return 0;
	case TCP_FASTOPEN:
		*v = (int)s->fastopen;
		return 0;
	case TCP_MAXSEG:
		*v = s->state == S_CONNECTED ? 1448 : 536;
		return 0;
	case TCP_SYNCNT:
		*v = 6;
		return 0;
	case TCP_QUICKACK:
		*v = 1;
		return 0;
	case TCP_LINGER2:
		*v = 60;
		return 0;
	case TCP_WINDOW_CLAMP:
		*v = 0;
		return 0;
	case TCP_NOTSENT_LOWAT:
		*v = -1;
		return 0;
	case TCP_CONGESTION:
		memset(val, 0, 16);
		memcpy(val, "cubic", 5);
		*len = 16;
		return 1;
	case TCP_INFO: {
		_Static_assert(sizeof(struct tcp_info) <= 256, "fits the caller's buffer");
		tcp_info(s, val);
		*len = sizeof(struct tcp_info);
		return 1;
	}
	}
	return -ENOPROTOOPT;
}

static int get_ip(struct sock *s, int name, u32 *len, int *v)
{
	switch (name) {
	case IP_TOS:
		*v = s->tos;
		return 0;
	case IP_TTL:
		*v = s->ttl;
		return 0;
	case IP_MTU_DISCOVER:
		*v = s->mtu_discover ? s->mtu_discover : IP_PMTUDISC_WANT;
		return 0;
	case IP_PKTINFO:
		*v = s->pktinfo;
		return 0;
	case IP_RECVTOS:
		*v = s->recvtos;
		return 0;
	case IP_RECVTTL:
		*v = s->recvttl;
		return 0;
	case IP_RECVERR:
		*v = s->recverr;
		return 0;
	case IP_FREEBIND:
		*v = s->freebind;
		return 0;
	case IP_MULTICAST_LOOP:
		*v = !s->mcast_loop_off;
		return 0;
	case IP_MULTICAST_TTL:
	case IP_MULTICAST_ALL:
		*v = 1;
		return 0;
	case IP_OPTIONS:
		*len = 0;
		return 1;
	case IP_MTU:
		if (s->state != S_CONNECTED)
			return -ENOTCONN;
		*v = inet_is_local(&s->remote) ? 65536 : 1500;
		return 0;
	}
	return -ENOPROTOOPT;
}

static int get_ipv6(struct sock *s, int name, int *v)
{
	switch (name) {
	case IPV6_V6ONLY:
		*v = s->v6only;
		return 0;
	case IPV6_TCLASS:
		*v = s->tos;
		return 0;
	case IPV6_UNICAST_HOPS:
		*v = s->ttl;
		return 0;
	case IPV6_MTU_DISCOVER:
		*v = s->mtu_discover;
		return 0;
	case IPV6_RECVPKTINFO:
		*v = s->pktinfo;
		return 0;
	case IPV6_RECVTCLASS:
		*v = s->recvtos;
		return 0;
	case IPV6_RECVHOPLIMIT:
		*v = s->recvttl;
		return 0;
	case IPV6_RECVERR:
		*v = s->recverr;
		return 0;
	case IPV6_MULTICAST_LOOP:
	case IPV6_MULTICAST_HOPS:
		*v = 1;
		return 0;
	case IPV6_MTU:
		if (s->state != S_CONNECTED)
			return -ENOTCONN;
		*v = inet_is_local(&s->remote) ? 65536 : 1500;
		return 0;
	}
	return -ENOPROTOOPT;
}

int inet_getopt(struct sock *s, int level, int name, void *val, u32 *len)
{
	int v = 0, r = -ENOPROTOOPT;
	if (level == SOL_TCP)
		r = get_tcp(s, name, val, len, &v);
	else if (level == SOL_IP)
		r = get_ip(s, name, len, &v);
	else if (level == SOL_IPV6 && s->family == AF_INET6)
		r = get_ipv6(s, name, &v);
	else if (level == IPPROTO_UDPLITE && s->protocol == IPPROTO_UDPLITE && (name == 10 || name == 11))
		v = s->coverage[name - 10], r = 0;
	if (r)
		return r > 0 ? 0 : r;
	memcpy(val, &v, *len = sizeof(v));
	return 0;
}
