// SPDX-License-Identifier: ISC
/*
 * Socket options: a list of those that reach the host's socket; all others are -ENOPROTOOPT.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "monitor/net.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(net, setsockopt);
HOST_SYSCALL(net, getsockopt);

#define OPT_MAX 256u

enum { OPT_SET = 1, OPT_GET = 2, OPT_CARRY = 4, OPT_IGNORE = 8 };
/* CARRY: set before bind, it moves to the forwarded port's socket. IGNORE: without meaning for the host's socket. */
static const struct {
	int level, name, how;
} options[] = {
	{SOL_SOCKET, SO_REUSEADDR, OPT_IGNORE},
	{SOL_SOCKET, SO_REUSEPORT, OPT_IGNORE},
	{SOL_SOCKET, SO_KEEPALIVE, OPT_SET | OPT_GET | OPT_CARRY},
	{SOL_SOCKET, SO_OOBINLINE, OPT_SET | OPT_GET},
	{SOL_SOCKET, SO_LINGER, OPT_SET | OPT_GET},
	{SOL_SOCKET, SO_BROADCAST, OPT_SET | OPT_GET},
	{SOL_SOCKET, SO_SNDBUF, OPT_SET | OPT_GET},
	{SOL_SOCKET, SO_RCVBUF, OPT_SET | OPT_GET},
	{SOL_SOCKET, SO_ERROR, OPT_GET},
	{IPPROTO_TCP, TCP_NODELAY, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_CORK, OPT_SET | OPT_GET},
	{IPPROTO_TCP, TCP_QUICKACK, OPT_SET | OPT_GET},
	{IPPROTO_TCP, TCP_KEEPIDLE, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_KEEPINTVL, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_KEEPCNT, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_USER_TIMEOUT, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_SYNCNT, OPT_SET | OPT_GET},
	{IPPROTO_TCP, TCP_LINGER2, OPT_SET | OPT_GET},
	{IPPROTO_TCP, TCP_DEFER_ACCEPT, OPT_SET | OPT_GET | OPT_CARRY},
	{IPPROTO_TCP, TCP_NOTSENT_LOWAT, OPT_SET | OPT_GET},
	{IPPROTO_TCP, TCP_MAXSEG, OPT_GET},
	{IPPROTO_TCP, TCP_INFO, OPT_GET},
	{IPPROTO_IP, IP_TOS, OPT_SET | OPT_GET},
	{IPPROTO_IP, IP_TTL, OPT_SET | OPT_GET},
	{IPPROTO_IP, IP_MTU_DISCOVER, OPT_SET | OPT_GET},
	{IPPROTO_IPV6, IPV6_V6ONLY, OPT_SET | OPT_GET},
	{IPPROTO_IPV6, IPV6_TCLASS, OPT_SET | OPT_GET},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS, OPT_SET | OPT_GET},
	{IPPROTO_IPV6, IPV6_MTU_DISCOVER, OPT_SET | OPT_GET},
};

static int option_how(uint32_t level, uint32_t name)
{
	for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if ((uint32_t)options[i].level == level && (uint32_t)options[i].name == name)
			return options[i].how;
	return 0;
}

void net_setsockopt(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	uint8_t val[OPT_MAX];
	int how = option_how(sqe->arg, sqe->arg2), r = -ENOPROTOOPT;

	if (sqe->len > OPT_MAX) {
		rs_complete(rs, sqe, -EINVAL, 0, 0, 0);
		return;
	}
	if (!gpa_read(rs->mem, (gpa_t){sqe->addr}, val, sqe->len)) {
		rs_broken(rs, sqe, "address outside guest memory");
		return;
	}
	if (sqe->arg == IPPROTO_IPV6 && sqe->arg2 == IPV6_V6ONLY && sqe->len >= 4)
		h->v6only = val[0] | val[1] | val[2] | val[3];
	if (how & OPT_IGNORE)
		r = 0;
	else if (how & OPT_SET && h->is_unix && (r = net_unix_setsockopt(h, sqe->arg, sqe->len)) <= 0)
		;
	else if (how & OPT_SET)
		r = setsockopt(h->fd, (int)sqe->arg, (int)sqe->arg2, val, sqe->len) ? -errno : 0;
	rs_complete(rs, sqe, r, 0, 0, 0);
}

void net_getsockopt(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	uint8_t val[OPT_MAX] = {0};
	socklen_t len = sqe->len < OPT_MAX ? sqe->len : OPT_MAX;
	int r = -ENOPROTOOPT;

	if (option_how(sqe->arg, sqe->arg2) & OPT_GET && h->is_unix &&
	    (r = net_unix_getsockopt(h, sqe->arg, sqe->arg2, val, &len)) <= 0)
		;
	else if (option_how(sqe->arg, sqe->arg2) & OPT_GET)
		r = getsockopt(h->fd, (int)sqe->arg, (int)sqe->arg2, val, &len) ? -errno : 0;
	if (!r && !gpa_write(rs->mem, (gpa_t){sqe->addr}, val, len)) {
		rs_broken(rs, sqe, "address outside guest memory");
		return;
	}
	rs_complete(rs, sqe, r, 0, r ? 0 : len, 0);
}

void net_carry_options(int from, int to)
{
	for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		int a = 0, b = 0;
		socklen_t la = sizeof(a), lb = sizeof(b);

		if (!(options[i].how & OPT_CARRY))
			continue;
		if (!getsockopt(from, options[i].level, options[i].name, &a, &la) &&
		    !getsockopt(to, options[i].level, options[i].name, &b, &lb) && a != b)
			setsockopt(to, options[i].level, options[i].name, &a, sizeof(a));
	}
}
