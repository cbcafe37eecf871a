/* SPDX-License-Identifier: ISC */
/* AF_UNIX: stream, dgram, seqpacket, names, abstract names, descriptor passing, credentials. */
#include "conf.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t name(struct sockaddr_un *u, const char *p, bool abstract)
{
	memset(u, 0, sizeof(*u));
	u->sun_family = AF_UNIX;
	strcpy(u->sun_path + abstract, p);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(p) + 1);
}
static int send_fd(int s, int fd)
{
	char c = 'F', cb[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {&c, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = sizeof(cb)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(int));
	return (int)sendmsg(s, &m, 0);
}
static int recv_fd(int s, int flags)
{
	char c, cb[CMSG_SPACE(sizeof(int) * 4)];
	struct iovec iov = {&c, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = sizeof(cb)};
	if (recvmsg(s, &m, flags) != 1)
		return -1;
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	int fd = -1;
	if (h && h->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(h), sizeof(int));
	return fd;
}

int main(void)
{
	conf_dir();
	signal(SIGPIPE, SIG_IGN);
	char b[200];
	int p[2];
	CHECK("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	CHECK("stream", write(p[0], "abc", 3) == 3 && write(p[0], "def", 3) == 3 && read(p[1], b, 100) == 6);
	int pipefd[2];
	pipe(pipefd);
	CHECK("send_fd", send_fd(p[0], pipefd[0]) == 1);
	int got = recv_fd(p[1], MSG_CMSG_CLOEXEC);
	CHECK("recv_fd", got >= 0 && got != pipefd[0] && fcntl(got, F_GETFD) == FD_CLOEXEC);
	write(pipefd[1], "through", 7);
	CHECK("fd_works", read(got, b, 100) == 7 && !memcmp(b, "through", 7));
	CHECK_ERR("send_bad_fd", send_fd(p[0], 4321), EBADF);
	struct ucred uc;
	socklen_t n = sizeof(uc);
	CHECK("peercred", getsockopt(p[0], SOL_SOCKET, SO_PEERCRED, &uc, &n) == 0 && uc.pid == getpid() &&
				  uc.uid == getuid());
	shutdown(p[0], SHUT_WR);
	CHECK("eof", read(p[1], b, 10) == 0);
	CHECK("other_way", write(p[1], "x", 1) == 1 && read(p[0], b, 10) == 1);
	close(p[1]);
	CHECK_ERR("epipe", write(p[0], "x", 1), EPIPE);
	CHECK("dgram_pair", socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, p) == 0);
	write(p[0], "12345", 5);
	write(p[0], "678", 3);
	CHECK("dgram_bounds", read(p[1], b, 3) == 3 && read(p[1], b, 100) == 3 && b[0] == '6');
	CHECK_ERR("dgram_again", read(p[1], b, 3), EAGAIN);
	CHECK("seqpacket_pair", socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p) == 0);
	write(p[0], "12345", 5);
	write(p[0], "678", 3);
	CHECK("seqpacket_bounds", read(p[1], b, 100) == 5 && read(p[1], b, 100) == 3);
	close(p[0]);
	CHECK("seqpacket_eof", read(p[1], b, 100) == 0);
	/* names */
	struct sockaddr_un u, v;
	socklen_t un = name(&u, "sock", false);
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_ERR("connect_noent", connect(c, (struct sockaddr *)&u, un), ENOENT);
	CHECK("bind", bind(l, (struct sockaddr *)&u, un) == 0);
	struct stat st;
	CHECK("is_socket", stat("sock", &st) == 0 && S_ISSOCK(st.st_mode));
	CHECK_ERR("open_socket", open("sock", O_RDWR), ENXIO);
	CHECK_ERR("connect_not_listening", connect(c, (struct sockaddr *)&u, un), ECONNREFUSED);
	listen(l, 4);
	CHECK("connect", connect(c, (struct sockaddr *)&u, un) == 0);
	CHECK("early_write", write(c, "early", 5) == 5);
	n = sizeof(v);
	int s = accept(l, (struct sockaddr *)&v, &n);
	SHOW("accept_peer_len", "%u", n);
	CHECK("early_read", read(s, b, 100) == 5);
	n = sizeof(v);
	CHECK("getsockname",
	      getsockname(s, (struct sockaddr *)&v, &n) == 0 && !strcmp(v.sun_path, "sock") && n == un);
	int l2 = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_ERR("bind_in_use", bind(l2, (struct sockaddr *)&u, un), EADDRINUSE);
	un = name(&u, "abstract-cowbell-test", true);
	CHECK("abstract", bind(l2, (struct sockaddr *)&u, un) == 0 && listen(l2, 1) == 0);
	int c2 = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK("abstract_connect", connect(c2, (struct sockaddr *)&u, un) == 0);
	close(l2);
	int c3 = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_ERR("abstract_gone", connect(c3, (struct sockaddr *)&u, un), ECONNREFUSED);
	struct pollfd pf = {c, POLLIN, 0};
	close(s);
	CHECK("hup", poll(&pf, 1, 100) == 1 && (pf.revents & POLLHUP));
	/* dgram names */
	un = name(&u, "dg", false);
	int d1 = socket(AF_UNIX, SOCK_DGRAM, 0), d2 = socket(AF_UNIX, SOCK_DGRAM, 0);
	bind(d1, (struct sockaddr *)&u, un);
	CHECK("dgram_sendto", sendto(d2, "hey", 3, 0, (struct sockaddr *)&u, un) == 3);
	n = sizeof(v);
	CHECK("dgram_recvfrom", recvfrom(d1, b, 100, 0, (struct sockaddr *)&v, &n) == 3);
	SHOW("dgram_from_len", "%u", n);
	unlink("sock");
	unlink("dg");
	rmdir(conf_dir());
	return conf_done();
}
