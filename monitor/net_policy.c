// SPDX-License-Identifier: ISC
/*
 * Whom the guest may talk to.
 *
 * Dialling: each destination is compared with the egress rules (the last rule
 * that matches decides, none: denied). IPv4-mapped IPv6 is IPv4. The host's
 * own loopback and the unspecified address (which Linux takes for loopback)
 * are reached only if a rule names them; a rule for everything does not. A
 * denied destination is -EACCES. A forwarded UDP port may always answer those
 * who sent to it lately.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "monitor/net.h"
#include "monitor/seccomp.h"

static bool prefix_matches(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned bytes = bits / 8;

	if (bits > 128 || memcmp(a, b, bytes))
		return false;
	return !(bits % 8) || !((a[bytes] ^ b[bytes]) >> (8 - bits % 8));
}

/* Addresses that Linux delivers to the host itself whatever its interfaces are. */
static bool is_host_local(const uint8_t a[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, zero[15];

	if (!memcmp(a, mapped, 12))
		return a[12] == 127 || a[12] == 0;
	return !memcmp(a, zero, 15) && a[15] <= 1;
}

static bool egress_allowed(const struct monitor_config *cfg, const union rs_addr *to)
{
	uint8_t a[16];
	uint16_t port = net_addr_normal(to, a);
	bool local = is_host_local(a), allowed = false;

	for (int i = 0; i < cfg->n_egress; i++) {
		const struct monitor_egress *e = &cfg->egress[i];

		if (e->port && e->port != port)
			continue;
		if (!prefix_matches(a, e->addr, e->prefix))
			continue;
		if (local && !e->deny && e->prefix <= 96)
			continue;
		allowed = !e->deny;
	}
	return allowed;
}

/* Is a connect to `a` wanted and allowed? 0 or -errno. */
int net_dial_check(struct ring_server *rs, const struct handle *h, union rs_addr *a)
{
	union rs_addr in = *a;

	if (h->dgram && h->family == AF_INET6)
		net_addr_to_guest(h, &in, a); /* Linux takes an IPv4 address here: getaddrinfo relies on it */
	if (a->sa.sa_family != h->family)
		return -EAFNOSUPPORT;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): rs is the server that calls; it is never NULL */
	return egress_allowed(rs->cfg, a) ? 0 : -EACCES;
}

static bool peer_known(const struct rs_port *p, const uint8_t ip[16], uint16_t port)
{
	const struct ctl_peers *k = &p->peers;

	for (uint32_t i = 0; i < k->count && i < RS_UDP_PEERS; i++)
		if (k->peer[i].port == port && !memcmp(k->peer[i].ip, ip, 16))
			return true;
	return false;
}

void net_peer_seen(struct rs_port *p, const union rs_addr *from)
{
	uint8_t ip[16];
	uint16_t port = net_addr_normal(from, ip);

	if (peer_known(p, ip, port))
		return;
	memcpy(p->peers.peer[p->peers.count % RS_UDP_PEERS].ip, ip, 16);
	p->peers.peer[p->peers.count++ % RS_UDP_PEERS].port = port;
}

/* Where a datagram goes: `a` as the descriptor's family has it. 0 or -errno. */
int net_answer_check(struct ring_server *rs, const struct handle *h, union rs_addr *a)
{
	const struct rs_port *p = h->port >= 0 ? &rs->ports[h->port] : NULL;
	uint8_t ip[16];
	uint16_t port = net_addr_normal(a, ip);

	if (!p || !peer_known(p, ip, port))
		return net_dial_check(rs, h, a);
	if (p->family == AF_INET && a->sa.sa_family == AF_INET6) {
		*a = (union rs_addr){.in = {.sin_family = AF_INET, .sin_port = htons(port)}};
		memcpy(&a->in.sin_addr, ip + 12, 4);
	}
	return 0;
}
