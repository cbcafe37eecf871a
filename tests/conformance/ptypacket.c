/* SPDX-License-Identifier: ISC */
/* Packet mode of a pseudo terminal, and a pipe that is opened anew by /proc. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static void show(const char *what, int fd)
{
	unsigned char b[64];
	ssize_t n = read(fd, b, sizeof(b));

	printf("ok %s: %zd", what, n);
	for (ssize_t i = 0; i < n; i++)
		printf(" %02x", b[i]);
	printf(" %s\n", n < 0 ? strerror(errno) : "");
}

int main(void)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY), on = 1, off = 0, got = 7, p[2];
	struct termios t;

	grantpt(m);
	unlockpt(m);
	int s = open(ptsname(m), O_RDWR | O_NOCTTY);
	fcntl(m, F_SETFL, O_NONBLOCK);
	printf("ok get %d\n", ioctl(m, TIOCGPKT, &got));
	printf("ok off %d\n", got);
	printf("ok set %d %d\n", ioctl(m, TIOCPKT, &on), ioctl(m, TIOCGPKT, &got));
	printf("ok on %d\n", got);
	show("nothing", m);
	printf("ok written %zd\n", write(s, "ab", 2));
	show("data", m);
	tcgetattr(s, &t);
	t.c_iflag &= ~(tcflag_t)IXON;
	tcsetattr(s, TCSANOW, &t);
	struct pollfd pf = {m, POLLIN | POLLPRI, 0};
	poll(&pf, 1, 0);
	printf("ok poll %x\n", pf.revents);
	show("no stop", m);
	tcflush(s, TCIFLUSH);
	show("flush", m);
	t.c_iflag |= IXON;
	tcsetattr(s, TCSANOW, &t);
	show("stop", m);
	ioctl(m, TIOCPKT, &off);
	printf("ok written %zd\n", write(s, "c", 1));
	show("plain", m);
	printf("ok slave %d\n", ioctl(s, TIOCPKT, &on) < 0 ? errno : 0);

	char name[64];
	if (pipe(p))
		return 1;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", p[0]);
	printf("ok written %zd\n", write(p[1], "xyz", 3));
	close(p[1]);
	int again = open(name, O_RDONLY);
	show("again", again);
	show("end", again);
	return 0;
}
