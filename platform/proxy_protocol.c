/* SPDX-License-Identifier: ISC */
/*
 * The PROXY protocol, with which a balancer in front of us tells who its client is (config.proxy_protocol). Versions 1 and 2; each connection
 * must begin with a header, or it is refused: else a client could give itself any address.
 *
 * Version 1, at most 107 bytes:   PROXY TCP4 192.0.2.1 198.51.100.2 50000 443\r\n      PROXY TCP6 ...      PROXY UNKNOWN ...\r\n
 * Version 2:
 *   0  12  0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a
 *  12   1  version 2 in the high four bits; command in the low: 0 LOCAL (the balancer itself), 1 PROXY
 *  13   1  family: 0 unspecified, 1 IPv4, 2 IPv6, 3 unix (high); 0 unspecified, 1 stream, 2 datagram (low)
 *  14   2  length of what follows, big-endian
 *  16      addresses (12, 36 or 216 bytes), then TLVs: type 1, length 2 (big-endian), value
 * TLVs are walked over only to see that they fill the length exactly; a checksum among them (PP2_TYPE_CRC32C) is not computed.
 */
#include "platform/conn.h"

#include <arpa/inet.h>

#define V1_MAX	107
#define V2_HEAD 16
#define V2_MAX	4096 /* of what follows: more than any known use */

static const char v2_sign[12] = "\r\n\r\n\0\r\nQUIT\n";

static unsigned be16(const char *p)
{
	return (unsigned)(uint8_t)p[0] << 8 | (uint8_t)p[1];
}

/* The next word of a version 1 line, up to one space or the end. */
static bool word(const char **p, const char *end, char *to, size_t max)
{
	const char *sp = memchr(*p, ' ', (size_t)(end - *p));
	const char *stop = sp ? sp : end;
	size_t n = (size_t)(stop - *p);
	if (!n || n >= max)
		return false;
	memcpy(to, *p, n);
	to[n] = 0;
	*p = sp ? sp + 1 : end;
	return true;
}

/* 0..65535, no sign, no leading zero. */
static bool port_number(const char *s, uint16_t *port)
{
	unsigned n = 0;
	if (!*s || (*s == '0' && s[1]) || strlen(s) > 5)
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		n = n * 10 + (unsigned)(*s - '0');
	}
	*port = (uint16_t)n;
	return n <= 65535;
}

static long parse_v1(const char *p, size_t n, char peer[64], uint16_t *peer_port)
{
	const char *lf = memchr(p, '\n', n < V1_MAX ? n : V1_MAX);
	if (!lf)
		return n >= V1_MAX ? -1 : 0;
	if (lf - p < 14 || lf[-1] != '\r')
		return -1;
	const char *end = lf - 1, *at = p + 6;
	char family[16], from[64], to[64], from_port[8], to_port[8];
	uint8_t a[16];
	uint16_t port, other;
	long len = lf + 1 - p;
	if (memchr(p, 0, (size_t)len) || !word(&at, end, family, sizeof(family)))
		return -1;
	if (!strcmp(family, "UNKNOWN"))
		return len;
	int af = !strcmp(family, "TCP4") ? AF_INET : !strcmp(family, "TCP6") ? AF_INET6 : -1;
	if (af < 0 || !word(&at, end, from, sizeof(from)) || !word(&at, end, to, sizeof(to)) ||
	    !word(&at, end, from_port, sizeof(from_port)) || !word(&at, end, to_port, sizeof(to_port)) ||
	    at != end || end[-1] == ' ')
		return -1;
	if (inet_pton(af, to, a) != 1 || inet_pton(af, from, a) != 1 || !port_number(from_port, &port) ||
	    !port_number(to_port, &other))
		return -1;
	inet_ntop(af, a, peer, 64);
	*peer_port = port;
	return len;
}

static bool tlvs_fill(const char *p, size_t n)
{
	while (n) {
		if (n < 3)
			return false;
		size_t len = be16(p + 1);
		if (len > n - 3)
			return false;
		p += 3 + len;
		n -= 3 + len;
	}
	return true;
}

static long parse_v2(const char *p, size_t n, char peer[64], uint16_t *peer_port)
{
	if (n < V2_HEAD)
		return 0;
	unsigned version = (uint8_t)p[12] >> 4, command = p[12] & 15, family = (uint8_t)p[13] >> 4,
		 transport = p[13] & 15;
	size_t len = be16(p + 14);
	if (version != 2 || command > 1 || family > 3 || transport > 2 || len > V2_MAX)
		return -1;
	if (n < V2_HEAD + len)
		return 0;
	if (command == 0) /* LOCAL: the balancer's own; what follows means nothing */
		return (long)(V2_HEAD + len);
	static const size_t size[4] = {0, 12, 36, 216};
	const char *a = p + V2_HEAD;
	if (family && transport != 1)
		return -1;
	if (len < size[family])
		return -1;
	if (family && !tlvs_fill(a + size[family], len - size[family]))
		return -1;
	if (family == 1) {
		inet_ntop(AF_INET, a, peer, 64);
		*peer_port = (uint16_t)be16(a + 8);
	} else if (family == 2) {
		inet_ntop(AF_INET6, a, peer, 64);
		*peer_port = (uint16_t)be16(a + 32);
	}
	return (long)(V2_HEAD + len);
}

long proxy_parse(const char *p, size_t n, char peer[64], uint16_t *peer_port)
{
	size_t k = n < sizeof(v2_sign) ? n : sizeof(v2_sign);
	if (!memcmp(p, v2_sign, k))
		return k < sizeof(v2_sign) ? 0 : parse_v2(p, n, peer, peer_port);
	k = n < 6 ? n : 6;
	if (memcmp(p, "PROXY ", k))
		return -1;
	return k < 6 ? 0 : parse_v1(p, n, peer, peer_port);
}
