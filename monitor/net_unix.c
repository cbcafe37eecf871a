/* SPDX-License-Identifier: ISC */
/*
 * Forwarded ports that are AF_UNIX stream sockets of the host: -p unix:PATH:PORT.
 *
 * The guest sees TCP: whoever connects comes from 127.0.0.1 (::1 on a socket for IPv6 only), from a port that is made up; options that
 * TCP has and AF_UNIX has not are taken and do nothing. Connections and data need no code of their own: read, write, shutdown, epoll are
 * the same for both.
 *
 * The file. Bound before the program starts, mode 0600, so that only our own user connects. A file that is there is
 * replaced if it is a socket and nobody listens on it; else the start fails. A monitor under its filter cannot remove
 * files, so a process of a few pages waits for our end, or that of whoever got the socket by a move, and removes it, if it is
 * still ours then. With --notify-fd there is
 * somebody who watches us, and there is no such process: the watcher removes the file.
 *
 * Refusal. Until the guest listens the socket is bound only, and clients get ECONNREFUSED. A listening AF_UNIX socket cannot
 * be made to refuse and later to listen again: when the guest stops to listen, who comes is accepted and closed at once, until
 * it listens again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "monitor/net.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(net, listen);
HOST_SYSCALL(net, accept4);
HOST_SYSCALL(core, epoll_ctl);
HOST_SYSCALL(core, close);

#define FIRST_PORT 32768u /* of clients, as Linux chooses them */
#define N_PORTS	   28232u

/* --- the file --------------------------------------------------------------------------- */

/* Does some process still have a socket of this name? One that was moved is another's. */
static bool is_bound(const char *path)
{
	FILE *f = fopen("/proc/net/unix", "re");
	char line[256];
	size_t n = strlen(path);
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		size_t len = strcspn(line, "\n");

		found = len > n && line[len - n - 1] == ' ' && !memcmp(line + len - n, path, n);
	}
	if (f)
		fclose(f);
	return found;
}

/* In a process of its own, which ends after us. */
static void remove_at_end(const char *path, int fd)
{
	struct stat mine, now;
	char c;

	setsid();
	for (int sig = 1; sig < 32; sig++)
		signal(sig, SIG_IGN);
	if (dup2(fd, 0) < 0 || lstat(path, &mine))
		_exit(1);
	close_range(1, ~0u, 0);
	while (read(0, &c, 1) < 0 && errno == EINTR)
		;
	for (int i = 0; is_bound(path); i++)
		usleep(i < 20 ? 5000 : 1000000); /* its last moments; or it was moved */
	if (!lstat(path, &now) && now.st_dev == mine.st_dev && now.st_ino == mine.st_ino)
		unlink(path);
	_exit(0);
}

static void watch_end(const char *path)
{
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC))
		return;
	pid = fork();
	if (!pid) {
		close(p[1]);
		if (!fork())
			remove_at_end(path, p[0]);
		_exit(0);
	}
	if (pid > 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	close(p[0]); /* p[1] stays open until our end, whatever that is */
}

/* A socket file on which nobody listens. */
static bool is_stale(const struct sockaddr_un *un)
{
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool stale = fd >= 0 && !lstat(un->sun_path, &st) && S_ISSOCK(st.st_mode) &&
		     connect(fd, (const struct sockaddr *)un, sizeof(*un)) && errno == ECONNREFUSED;

	if (fd >= 0)
		close(fd);
	return stale;
}

int net_unix_open(struct ring_server *rs, const struct sockaddr_storage *ss)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)ss;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r, err;

	if (fd < 0 || fchmod(fd, 0600)) {
		say("-p unix:%s: %s", un->sun_path, strerror(errno));
		return -errno;
	}
	r = bind(fd, (const struct sockaddr *)un, sizeof(*un));
	if (r && errno == EADDRINUSE && is_stale(un) && !unlink(un->sun_path))
		r = bind(fd, (const struct sockaddr *)un, sizeof(*un));
	if (r) {
		err = errno;
		say("cannot listen on %s: %s", un->sun_path,
		    err == EADDRINUSE ? "somebody else does, or it is no socket" : strerror(err));
		close(fd);
		return -err;
	}
	if (!rs->cfg->notify_fd)
		watch_end(un->sun_path);
	return fd;
}

/* --- listening ---------------------------------------------------------------------------- */

int net_unix_listen(struct ring_server *rs, struct rs_port *p, int backlog)
{
	if (p->refuses)
		epoll_ctl(rs->epfd, EPOLL_CTL_DEL, p->tcp, NULL);
	p->refuses = false;
	return listen(p->tcp, backlog) ? -errno : 0;
}

void net_unix_refuse(struct ring_server *rs, struct rs_port *p)
{
	struct epoll_event e = {.events = EPOLLIN,
				.data.u64 = (uint64_t)RS_TAG_PORT << 32 | (uint32_t)(p - rs->ports)};

	p->refuses = !epoll_ctl(rs->epfd, EPOLL_CTL_ADD, p->tcp, &e);
}

void net_unix_turn_away(struct rs_port *p)
{
	int fd;

	for (int i = 0; i < RS_ACCEPT_BATCH && (fd = accept4(p->tcp, NULL, NULL, SOCK_CLOEXEC)) >= 0; i++)
		close(fd);
}

void net_turn_away(struct ring_server *rs, uint32_t port)
{
	if (port < (uint32_t)rs->cfg->n_ports && rs->ports[port].refuses)
		net_unix_turn_away(&rs->ports[port]);
}

/* --- what the guest is told ------------------------------------------------------------------ */

static void address(const struct handle *h, bool any, uint16_t port, union rs_addr *a)
{
	memset(a, 0, sizeof(*a));
	if (h->family == AF_INET6 && (h->v6only || any)) {
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = htons(port);
		a->in6.sin6_addr.s6_addr[15] = !any;
	} else {
		a->in.sin_family = AF_INET;
		a->in.sin_port = htons(port);
		a->in.sin_addr.s_addr = htonl(any ? INADDR_ANY : INADDR_LOOPBACK);
	}
}

void net_unix_peer(struct ring_server *rs, const struct handle *h, union rs_addr *a)
{
	address(h, false, (uint16_t)(FIRST_PORT + rs->unix_clients++ % N_PORTS), a);
}

void net_unix_name(const struct handle *h, union rs_addr *a)
{
	address(h, h->port >= 0, h->guest_port, a);
}

int net_unix_setsockopt(const struct handle *h, uint32_t level, uint32_t len)
{
	(void)h;
	if (level == SOL_SOCKET)
		return 1;
	return len < sizeof(int) ? -EINVAL : 0;
}

/* Linux's own answer for a connection of which nothing was set, as far as programs look at it. */
int net_unix_getsockopt(const struct handle *h, uint32_t level, uint32_t name, void *val, uint32_t *len)
{
	int n = 0;

	if (level == SOL_SOCKET)
		return 1;
	if (level == IPPROTO_TCP && name == TCP_INFO) {
		uint8_t info[104] = {h->listening ? TCP_LISTEN : TCP_ESTABLISHED};

		*len = *len < sizeof(info) ? *len : sizeof(info);
		memcpy(val, info, *len);
		return 0;
	}
	if (level == IPPROTO_TCP)
		n = name == TCP_NODELAY || name == TCP_QUICKACK ? 1
		    : name == TCP_KEEPIDLE			? 7200
		    : name == TCP_KEEPINTVL			? 75
		    : name == TCP_KEEPCNT			? 9
		    : name == TCP_MAXSEG			? 65483
								: 0;
	else if (level == IPPROTO_IP)
		n = name == IP_TTL ? 64 : 0;
	else if (name == IPV6_V6ONLY)
		n = h->v6only;
	*len = *len < sizeof(n) ? *len : (uint32_t)sizeof(n);
	memcpy(val, &n, *len);
	return 0;
}
