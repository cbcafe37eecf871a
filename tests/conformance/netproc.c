// SPDX-License-Identifier: ISC
/* /proc/net: a program finds its own sockets there, by address, state and inode. */
#include "conf.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

static unsigned long inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

/* State in the line of this socket; -1: there is none. Its ports, too. */
static int state_of(const char *table, int fd, unsigned *port, unsigned *remote)
{
	FILE *f = fopen(table, "r");
	char line[512], local[40], peer[40];
	unsigned long ino;
	unsigned st;
	int found = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d: %32[0-9A-F]:%x %32[0-9A-F]:%x %x %*s %*s %*s %*d %*d %lu", local, port,
			   peer, remote, &st, &ino) == 6 &&
		    ino == inode_of(fd)) {
			found = (int)st;
			break;
		}
	if (f)
		fclose(f);
	return found;
}

static void inet(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), u, s;
	unsigned port, remote;

	CHECK("a socket that is nowhere is not listed", state_of("/proc/net/tcp", c, &port, &remote) < 0);
	bind(l, (struct sockaddr *)&a, len);
	listen(l, 5);
	getsockname(l, (struct sockaddr *)&a, &len);
	CHECK("a listener", state_of("/proc/net/tcp", l, &port, &remote) == 10);
	CHECK("its port", port == ntohs(a.sin_port) && remote == 0);
	connect(c, (struct sockaddr *)&a, len);
	s = accept(l, NULL, NULL);
	CHECK("a connection",
	      state_of("/proc/net/tcp", c, &port, &remote) == 1 && remote == ntohs(a.sin_port));
	CHECK("its other end",
	      state_of("/proc/net/tcp", s, &port, &remote) == 1 && port == ntohs(a.sin_port));
	close(c);
	usleep(20000);
	CHECK("the peer has closed", state_of("/proc/net/tcp", s, &port, &remote) == 8);
	u = socket(AF_INET, SOCK_DGRAM, 0);
	a.sin_port = 0;
	bind(u, (struct sockaddr *)&a, len);
	CHECK("a datagram socket", state_of("/proc/net/udp", u, &port, &remote) == 7 && port);
	CHECK("not in another table", state_of("/proc/net/tcp", u, &port, &remote) < 0);
	close(l);
	CHECK("a closed one is gone", state_of("/proc/net/tcp", l, &port, &remote) < 0);
}

static void inet6(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int l = socket(AF_INET6, SOCK_STREAM, 0);
	unsigned port, remote;

	bind(l, (struct sockaddr *)&a, sizeof(a));
	listen(l, 5);
	CHECK("a listener of IPv6", state_of("/proc/net/tcp6", l, &port, &remote) == 10 && port);
	close(l);
}

static void local(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int l = socket(AF_UNIX, SOCK_STREAM, 0), hits = 0;
	char line[512], path[200];
	unsigned long ino;
	unsigned flags, type, st;
	FILE *f;

	snprintf(a.sun_path, sizeof(a.sun_path), "/tmp/conf-netproc-%d", getpid());
	unlink(a.sun_path);
	bind(l, (struct sockaddr *)&a, sizeof(a));
	listen(l, 1);
	f = fopen("/proc/net/unix", "r");
	while (f && fgets(line, sizeof(line), f))
		hits += sscanf(line, "%*x: %*x %*x %x %x %x %lu %199s", &flags, &type, &st, &ino, path) ==
				5 &&
			ino == inode_of(l) && flags == 0x10000 && type == 1 && st == 1 &&
			!strcmp(path, a.sun_path);
	if (f)
		fclose(f);
	CHECK("a listener of AF_UNIX and its path", hits == 1);
	unlink(a.sun_path);
}

int main(void)
{
	inet();
	inet6();
	local();
	return conf_done();
}
