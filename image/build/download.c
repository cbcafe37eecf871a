/* SPDX-License-Identifier: ISC */
/*
 * A source from a URL that a client of the platform gave: fetched from where the platform is, which may be inside of a network that the
 * client cannot reach. So:
 *
 *   - http and https only, redirects too, at most MAX_REDIRECTS; certificates are checked; no proxy, no credentials, no netrc, no cookies
 *   - the address is looked at where the socket is made, after the name was looked up: a name that leads to this machine or to a private
 *     network now, or only the second time it is asked for, gets no connection
 *   - at most max_bytes, and a peer that goes silent or drips is left
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "image/build/source.h"
#include "lib/host/curl.h"
#include "lib/host/say.h"

#define MAX_REDIRECTS 5L
#define CONNECT_S     15L
#define STALL_S	      30L
#define MIN_RATE      512L

struct download {
	int fd;
	uint64_t n, max;
	const char *failed; /* static */
};

/* --- addresses --------------------------------------------------------------------------------------------------- */

struct net4 {
	uint32_t net;
	unsigned bits;
};

/* All of IANA's special-purpose blocks that are not globally reachable. */
static bool private4(uint32_t a)
{
	static const struct net4 nets[] = {
		{0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},	{0xa9fe0000, 16},
		{0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16},
		{0xc6120000, 15}, {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 3},
	};

	for (size_t i = 0; i < sizeof(nets) / sizeof(nets[0]); i++)
		if ((a ^ nets[i].net) >> (32 - nets[i].bits) == 0)
			return true;
	return false;
}

static bool private6(const uint8_t a[16])
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
	uint32_t v4 = (uint32_t)a[12] << 24 | (uint32_t)a[13] << 16 | (uint32_t)a[14] << 8 | a[15];

	if (!memcmp(a, mapped, 12) || !memcmp(a, nat64, 12))
		return private4(v4);
	if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
		return private4((uint32_t)a[2] << 24 | (uint32_t)a[3] << 16 | (uint32_t)a[4] << 8 | a[5]);
	if ((a[0] & 0xe0) != 0x20) /* only 2000::/3 is global */
		return true;
	/* 2001::/23 (Teredo and others), documentation */
	return a[0] == 0x20 && a[1] == 0x01 && ((a[2] & 0xfe) == 0 || (a[2] == 0x0d && a[3] == 0xb8));
}

static bool forbidden(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return private4(ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr));
	if (sa->sa_family == AF_INET6)
		return private6(((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr.s6_addr);
	return true;
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct download *d = arg;

	(void)purpose;
	if (forbidden(&a->addr)) {
		d->failed = "it is at an address of this machine or of a private network";
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* --- the transfer ------------------------------------------------------------------------------------------------- */

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
	struct download *d = arg;

	(void)one;
	if (n > d->max - d->n) {
		d->failed = "it is larger than a source may be";
		return 0;
	}
	for (size_t at = 0; at < n;) {
		ssize_t r = write(d->fd, data + at, n - at);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			d->failed = errno == ENOSPC ? "the disk is full" : "it cannot be written";
			return 0;
		}
		at += (size_t)r;
	}
	d->n += n;
	return n;
}

static void set_options(CURL *c, const char *url, struct download *d)
{
	curl_api.easy_setopt(c, CURLOPT_URL, url);
	curl_api.easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_api.easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	curl_api.easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
	curl_api.easy_setopt(c, CURLOPT_MAXREDIRS, MAX_REDIRECTS);
	curl_api.easy_setopt(c, CURLOPT_PROXY, "");
	curl_api.easy_setopt(c, CURLOPT_NETRC, 0L);
	curl_api.easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
	curl_api.easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, MIN_RATE);
	curl_api.easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALL_S);
	curl_api.easy_setopt(c, CURLOPT_FAILONERROR, 1L);
	curl_api.easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_api.easy_setopt(c, CURLOPT_OPENSOCKETDATA, d);
	curl_api.easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_api.easy_setopt(c, CURLOPT_WRITEDATA, d);
}

int source_download(const char *url, const char *to, uint64_t max_bytes)
{
	struct download d = {.max = max_bytes};
	CURL *c = curl_load() ? curl_api.easy_init() : NULL;

	if (!c)
		return out_fail(EXIT_OURS, "The source cannot be fetched: libcurl is not there");
	d.fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (d.fd < 0)
		return out_fail(EXIT_OURS, "The source cannot be fetched: %s", say_errno(errno));
	out_live();
	out_step("Fetching the source");
	out_hold_back();
	set_options(c, url, &d);
	CURLcode r = curl_api.easy_perform(c);
	curl_api.easy_cleanup(c);
	close(d.fd);
	if (r != CURLE_OK) /* the URL may have a secret in it: not said */
		return out_fail(EXIT_OURS, "The source cannot be fetched: %s",
				d.failed ? d.failed : curl_api.easy_strerror(r));
	return 0;
}

int source_check(const char *tar, const char *checksum)
{
	char hex[65];
	const char *want = !strncasecmp(checksum, "SHA256:", 7) ? checksum + 7 : checksum;
	int fd = open(tar, O_RDONLY | O_CLOEXEC), r = fd < 0 ? -errno : sha256_fd(fd, hex);

	if (fd >= 0)
		close(fd);
	if (r)
		return out_fail(EXIT_OURS, "The source cannot be read: %s", say_errno(-r));
	if (strcasecmp(want, hex))
		return out_fail(EXIT_OURS, "The source is not what its checksum says: it is SHA256:%s", hex);
	return 0;
}
