/* SPDX-License-Identifier: ISC */
/*
 * The listeners: where clients come in. They are opened from the configuration, or taken over from systemd (LISTEN_FDS; the names "http" and
 * "https" of FileDescriptorName= say which is which, else the first is HTTP, the second TLS). Connections themselves are in conn.c.
 *
 * Life: front_open() -> connections are accepted -> front_stop(): the listeners close, idle connections go, those with a request in
 * flight end after their answer, at the latest after STOP_MS -> cb.
 */
#include "platform/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/host/say.h"

#define BACKLOG 4096

static struct listener {
	uv_tcp_t tcp;
	bool open, tls;
	uint16_t port;
} listener[2]; /* HTTP, TLS */

static void incoming(uv_stream_t *server, int status)
{
	struct listener *l = server->data;
	if (status) {
		plog("warn", NULL, "accept: %s", uv_strerror(status));
		return;
	}
	conn_accept(server, l->tls);
}

/* "5080", "127.0.0.1:5080", "[::]:5080", "*:5080" */
static bool parse_address(const char *text, struct sockaddr_storage *a)
{
	char host[64] = "127.0.0.1";
	const char *port = strrchr(text, ':');
	if (port) {
		size_t n = (size_t)(port - text);
		if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
			text++;
			n -= 2;
		}
		if (!n || n >= sizeof(host))
			return false;
		memcpy(host, text, n);
		host[n] = 0;
		port++;
	} else {
		port = text;
	}
	char *end;
	long number = strtol(port, &end, 10);
	if (end == port || *end || number < 0 || number > 65535)
		return false;
	const char *name = !strcmp(host, "*") ? "0.0.0.0" : !strcmp(host, "localhost") ? "127.0.0.1" : host;
	memset(a, 0, sizeof(*a));
	if (!uv_ip4_addr(name, (int)number, (struct sockaddr_in *)a))
		return true;
	return !uv_ip6_addr(name, (int)number, (struct sockaddr_in6 *)a);
}

static int fail(const char *what, const char *address, int err)
{
	return say_fail(1, "serve: %s %s: %s", what, address, uv_strerror(err));
}

static void note_port(struct listener *l)
{
	struct sockaddr_storage a;
	int len = sizeof(a);
	if (uv_tcp_getsockname(&l->tcp, (struct sockaddr *)&a, &len))
		return;
	l->port = ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
						: ((struct sockaddr_in *)&a)->sin_port);
}

/* fd: from systemd, or -1. */
static int open_listener(struct listener *l, const char *address, bool tls, int fd)
{
	uv_tcp_init(loop, &l->tcp);
	l->tcp.data = l;
	l->tls = tls;
	int err;
	if (fd >= 0) {
		err = uv_tcp_open(&l->tcp, fd);
	} else {
		struct sockaddr_storage a;
		if (!parse_address(address, &a))
			return say_fail(2, "serve: bad address '%s': [ADDRESS:]PORT is expected", address);
		err = uv_tcp_bind(&l->tcp, (struct sockaddr *)&a, 0);
	}
	if (!err)
		err = uv_listen((uv_stream_t *)&l->tcp, BACKLOG, incoming);
	if (err)
		return fail("cannot listen on", address, err);
	l->open = true;
	note_port(l);
	return 0;
}

/* Descriptors that systemd passed: fds[0] HTTP, fds[1] TLS, -1: none. */
static void from_systemd(int fds[2])
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"),
		   *names = getenv("LISTEN_FDNAMES");
	fds[0] = fds[1] = -1;
	if (pid && count && strtol(pid, NULL, 10) == (long)getpid()) {
		long n = strtol(count, NULL, 10);
		const char *name = names ? names : "";
		for (int fd = 3; fd < 3 + n && fd < 5; fd++) {
			size_t len = strcspn(name, ":");
			bool tls = len == 5 && !strncmp(name, "https", 5);
			bool plain = len == 4 && !strncmp(name, "http", 4);
			int k = tls ? 1 : plain ? 0 : fd - 3;
			if (fds[k] < 0)
				fds[k] = fd;
			name += len;
			name += *name == ':';
		}
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

/* Half of the descriptors may be clients', the other half are the router's own connections, instances and files. */
static void set_limit(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r))
		getrlimit(RLIMIT_NOFILE, &r);
	conns_max = r.rlim_cur > 1 << 20 ? 1 << 19 : (size_t)r.rlim_cur / 2;
}

int front_open(void)
{
	int fds[2];
	from_systemd(fds);
	set_limit();
	if (config.listen || fds[0] >= 0) {
		int st = open_listener(&listener[0], config.listen ? config.listen : "socket of systemd",
				       false, fds[0]);
		if (st)
			return st;
	}
	if (!config.listen_tls && fds[1] < 0)
		return 0;
	const char *why = tls_open();
	if (why)
		return say_fail(1, "serve: TLS: %s", why);
	return open_listener(&listener[1], config.listen_tls ? config.listen_tls : "socket of systemd", true,
			     fds[1]);
}

void front_stop(void (*cb)(void))
{
	for (int i = 0; i < 2; i++) {
		if (listener[i].open && !uv_is_closing((uv_handle_t *)&listener[i].tcp))
			uv_close((uv_handle_t *)&listener[i].tcp, NULL);
	}
	conns_stop(cb);
}

uint16_t front_port(bool tls)
{
	return listener[tls].open ? listener[tls].port : 0;
}
