// SPDX-License-Identifier: ISC
/*
 * Socket addresses on their way between guest and host.
 *
 * The guest's family and the host socket's may differ on a forwarded port (a
 * guest that listens on [::] behind 0.0.0.0): addresses are translated between
 * IPv4 and v4-mapped on their way to the guest.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "monitor/net.h"
#include "monitor/seccomp.h"

socklen_t net_addr_len(const union rs_addr *a)
{
	return a->sa.sa_family == AF_INET ? sizeof(a->in) : a->sa.sa_family == AF_INET6 ? sizeof(a->in6) : 0;
}

/* Copy a socket address of the guest. 0 or -errno. */
int net_addr_read(struct ring_server *rs, const struct ring_sqe *sqe, union rs_addr *a)
{
	uint8_t buf[sizeof(*a)] = {0};
	uint32_t len = sqe->len2 < sizeof(buf) ? sqe->len2 : sizeof(buf);

	if (!gpa_read(rs->mem, (gpa_t){sqe->addr2}, buf, len)) {
		rs_broken(rs, sqe, "address outside guest memory");
		return -EFAULT;
	}
	memcpy(a, buf, sizeof(buf));
	if (len < sizeof(sa_family_t))
		return -EINVAL;
	if (a->sa.sa_family != AF_UNSPEC && !net_addr_len(a))
		return -EAFNOSUPPORT;
	return len < net_addr_len(a) ? -EINVAL : 0;
}

/* As the guest's family has it. */
void net_addr_to_guest(const struct handle *h, const union rs_addr *from, union rs_addr *to)
{
	*to = *from;
	if (h->family == AF_INET6 && from->sa.sa_family == AF_INET) {
		memset(to, 0, sizeof(*to));
		to->in6.sin6_family = AF_INET6;
		to->in6.sin6_port = from->in.sin_port;
		to->in6.sin6_addr.s6_addr[10] = to->in6.sin6_addr.s6_addr[11] = 0xff;
		memcpy(&to->in6.sin6_addr.s6_addr[12], &from->in.sin_addr, 4);
	} else if (h->family == AF_INET && from->sa.sa_family == AF_INET6) {
		memset(to, 0, sizeof(*to));
		to->in.sin_family = AF_INET;
		to->in.sin_port = from->in6.sin6_port;
		if (IN6_IS_ADDR_V4MAPPED(&from->in6.sin6_addr))
			memcpy(&to->in.sin_addr, &from->in6.sin6_addr.s6_addr[12], 4);
	}
}

/* Write an address to the guest; its length, or 0 when the guest's memory is not there. */
uint32_t net_addr_write(struct ring_server *rs, const struct ring_sqe *sqe, const struct handle *h,
			const union rs_addr *a)
{
	union rs_addr g;
	uint32_t len;

	net_addr_to_guest(h, a, &g);
	len = net_addr_len(&g);
	if (!gpa_write(rs->mem, (gpa_t){sqe->addr2}, &g, len < sqe->len2 ? len : sqe->len2))
		rs_broken(rs, sqe, "address outside guest memory");
	return len;
}

/* val2 of a multi-shot accept. */
uint64_t net_addr_pack(const union rs_addr *a)
{
	uint32_t ip;

	if (a->sa.sa_family == AF_INET)
		return RING_PEER_IPV4 | (uint64_t)ntohl(a->in.sin_addr.s_addr) << 16 | ntohs(a->in.sin_port);
	if (a->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
		return 0;
	memcpy(&ip, &a->in6.sin6_addr.s6_addr[12], 4);
	return RING_PEER_IPV4 | (uint64_t)ntohl(ip) << 16 | ntohs(a->in6.sin6_port);
}

/* The address as 128 bits with IPv4 mapped, and its port. */
uint16_t net_addr_normal(const union rs_addr *a, uint8_t out[16])
{
	if (a->sa.sa_family == AF_INET6) {
		memcpy(out, &a->in6.sin6_addr, 16);
		return ntohs(a->in6.sin6_port);
	}
	memset(out, 0, 10);
	out[10] = out[11] = 0xff;
	memcpy(out + 12, &a->in.sin_addr, 4);
	return ntohs(a->in.sin_port);
}
