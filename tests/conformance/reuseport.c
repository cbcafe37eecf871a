// SPDX-License-Identifier: ISC
/* SO_REUSEPORT: sockets with one address share what comes, TCP by connection and UDP by peer; who stays takes all. */
#include "conf.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#define N 3

static struct sockaddr_in addr = {.sin_family = AF_INET};

static int shared_socket(int type)
{
	int on = 1, fd = socket(AF_INET, type, 0);
	socklen_t len = sizeof(addr);

	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return -1;
	getsockname(fd, (struct sockaddr *)&addr, &len);
	if (type == SOCK_STREAM)
		listen(fd, 128);
	return fd;
}

static bool has_input(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return fd >= 0 && poll(&p, 1, 0) == 1;
}

/* Connect n times; how many came to each. */
static void connect_times(int n, int fds[N], int got[N])
{
	memset(got, 0, N * sizeof(*got));
	for (int i = 0; i < n; i++) {
		int c = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(c, (struct sockaddr *)&addr, sizeof(addr)) == 0)
			for (int k = 0; k < N; k++)
				if (has_input(fds[k])) {
					close(accept(fds[k], NULL, NULL));
					got[k]++;
				}
		close(c);
	}
}

static void streams(void)
{
	int fds[N], got[N];

	addr.sin_port = 0;
	for (int i = 0; i < N; i++)
		fds[i] = shared_socket(SOCK_STREAM);
	CHECK("three listeners on one port", fds[0] >= 0 && fds[1] >= 0 && fds[2] >= 0);
	connect_times(200, fds, got);
	CHECK("each gets some connections", got[0] > 10 && got[1] > 10 && got[2] > 10);
	CHECK("none is lost", got[0] + got[1] + got[2] == 200);
	close(fds[0]);
	fds[0] = -1;
	connect_times(100, fds, got);
	CHECK("one is closed: the others get all", got[1] + got[2] == 100 && got[1] && got[2]);
	close(fds[2]);
	fds[2] = -1;
	connect_times(20, fds, got);
	CHECK("the last one gets all", got[1] == 20);
	int plain = socket(AF_INET, SOCK_STREAM, 0);
	CHECK_ERR("who has not the option is refused", bind(plain, (struct sockaddr *)&addr, sizeof(addr)),
		  EADDRINUSE);
	close(plain);
	close(fds[1]);
}

static void datagrams(void)
{
	int fds[N], got[N] = {0}, same = 0;

	addr.sin_port = 0;
	for (int i = 0; i < N; i++)
		fds[i] = shared_socket(SOCK_DGRAM);
	for (int i = 0; i < 100; i++) {
		int c = socket(AF_INET, SOCK_DGRAM, 0), hit = 0;
		char b[8];

		for (int k = 0; k < 3; k++)
			sendto(c, "x", 1, 0, (struct sockaddr *)&addr, sizeof(addr));
		for (int k = 0; k < N; k++) {
			int n = 0;

			while (has_input(fds[k]) && recv(fds[k], b, sizeof(b), 0) == 1)
				n++;
			hit += n != 0;
			same += n == 3;
			got[k] += n;
		}
		close(c);
	}
	CHECK("each gets some datagrams", got[0] > 10 && got[1] > 10 && got[2] > 10);
	CHECK("those of one peer come to one", same == 100);
}

int main(void)
{
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	streams();
	datagrams();
	return conf_done();
}
