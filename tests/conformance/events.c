/* SPDX-License-Identifier: ISC */
/* epoll (level, edge, oneshot, exclusive), poll, select, eventfd, pipes. */
#include "conf.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>

static void *later_write(void *a)
{
	struct timespec t = {0, 20000000};
	nanosleep(&t, NULL);
	write(*(int *)a, "z", 1);
	return NULL;
}

int main(void)
{
	int p[2];
	char b[70000];
	CHECK("pipe2", pipe2(p, O_NONBLOCK | O_CLOEXEC) == 0);
	CHECK_ERR("pipe_empty", read(p[0], b, 1), EAGAIN);
	SHOW("pipe_size", "%d", fcntl(p[1], F_GETPIPE_SZ));
	memset(b, 1, sizeof(b));
	SHOW("pipe_fill", "%zd", write(p[1], b, 70000));
	CHECK_ERR("pipe_full", write(p[1], b, 1), EAGAIN);
	int avail;
	CHECK("fionread", ioctl(p[0], FIONREAD, &avail) == 0);
	SHOW("fionread", "%d", avail);
	SHOW("pipe_drain", "%zd", read(p[0], b, 70000));
	CHECK("setpipe_sz", fcntl(p[1], F_SETPIPE_SZ, 131072) == 131072);
	CHECK_ERR("read_write_end", read(p[1], b, 1), EBADF);
	CHECK_ERR("pipe_lseek", lseek(p[0], 0, SEEK_SET), ESPIPE);
	struct pollfd pf[3] = {{p[0], POLLIN, 77}, {p[1], POLLOUT, 77}, {-1, POLLIN, 77}};
	CHECK("poll",
	      poll(pf, 3, 0) == 1 && pf[0].revents == 0 && pf[1].revents == POLLOUT && pf[2].revents == 0);
	struct pollfd bad = {12345, POLLIN, 0};
	CHECK("poll_nval", poll(&bad, 1, 0) == 1 && bad.revents == POLLNVAL);
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 42}, out[8];
	CHECK("epoll_add", epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev) == 0);
	CHECK_ERR("epoll_add_twice", epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev), EEXIST);
	CHECK_ERR("epoll_del_missing", epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL), ENOENT);
	CHECK_ERR("epoll_self", epoll_ctl(ep, EPOLL_CTL_ADD, ep, &ev), EINVAL);
	int file = open("/tmp", O_RDONLY);
	CHECK_ERR("epoll_regular", epoll_ctl(ep, EPOLL_CTL_ADD, file, &ev), EPERM);
	CHECK("epoll_none", epoll_wait(ep, out, 8, 0) == 0);
	CHECK_ERR("epoll_max0", epoll_wait(ep, out, 0, 0), EINVAL);
	write(p[1], "a", 1);
	CHECK("level_1", epoll_wait(ep, out, 8, 0) == 1 && out[0].data.u64 == 42 && out[0].events == EPOLLIN);
	CHECK("level_2", epoll_wait(ep, out, 8, 0) == 1);
	ev.events = EPOLLIN | EPOLLET;
	CHECK("mod_edge", epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev) == 0);
	CHECK("edge_1", epoll_wait(ep, out, 8, 0) == 1);
	CHECK("edge_2", epoll_wait(ep, out, 8, 0) == 0);
	write(p[1], "b", 1);
	CHECK("edge_again", epoll_wait(ep, out, 8, 0) == 1 && epoll_wait(ep, out, 8, 0) == 0);
	ev.events = EPOLLIN | EPOLLONESHOT;
	epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev);
	CHECK("oneshot", epoll_wait(ep, out, 8, 0) == 1 && epoll_wait(ep, out, 8, 0) == 0);
	epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev);
	CHECK("oneshot_rearm", epoll_wait(ep, out, 8, 0) == 1);
	read(p[0], b, 10);
	ev.events = EPOLLIN;
	epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev);
	pthread_t t;
	pthread_create(&t, NULL, later_write, &p[1]);
	CHECK("blocking_wait", epoll_wait(ep, out, 8, 2000) == 1);
	pthread_join(t, NULL);
	read(p[0], b, 10);
	int ep2 = epoll_create1(0);
	struct epoll_event ev2 = {.events = EPOLLIN, .data.u64 = 7};
	CHECK("nested_add", epoll_ctl(ep2, EPOLL_CTL_ADD, ep, &ev2) == 0 && epoll_wait(ep2, out, 8, 0) == 0);
	CHECK_ERR("nested_loop", epoll_ctl(ep, EPOLL_CTL_ADD, ep2, &ev2), ELOOP);
	write(p[1], "c", 1);
	CHECK("nested_ready", epoll_wait(ep2, out, 8, 0) == 1 && out[0].data.u64 == 7);
	int d = dup(p[0]);
	close(p[1]);
	CHECK("hup", epoll_wait(ep, out, 8, 0) == 1 && out[0].events == (EPOLLIN | EPOLLHUP));
	close(p[0]);
	CHECK("dup_keeps_entry", epoll_wait(ep, out, 8, 0) == 1);
	close(d);
	CHECK("close_removes", epoll_wait(ep, out, 8, 0) == 0);
	/* eventfd */
	int e = eventfd(3, EFD_NONBLOCK);
	uint64_t v = 0;
	CHECK("eventfd_read", read(e, &v, 8) == 8 && v == 3);
	CHECK_ERR("eventfd_empty", read(e, &v, 8), EAGAIN);
	v = UINT64_MAX - 1;
	CHECK("eventfd_max", write(e, &v, 8) == 8);
	v = 1;
	CHECK_ERR("eventfd_over", write(e, &v, 8), EAGAIN);
	v = UINT64_MAX;
	CHECK_ERR("eventfd_inval", write(e, &v, 8), EINVAL);
	pf[0] = (struct pollfd){e, POLLIN | POLLOUT, 0};
	CHECK("eventfd_poll", poll(pf, 1, 0) == 1 && pf[0].revents == POLLIN);
	int es = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
	CHECK("eventfd_sem", read(es, &v, 8) == 8 && v == 1 && read(es, &v, 8) == 8 && v == 1);
	CHECK_ERR("eventfd_sem_empty", read(es, &v, 8), EAGAIN);
	/* select */
	int q[2];
	pipe(q);
	fd_set r, w;
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(q[0], &r);
	FD_SET(q[1], &w);
	struct timeval tv = {0, 0};
	CHECK("select",
	      select(q[1] + 1, &r, &w, NULL, &tv) == 1 && !FD_ISSET(q[0], &r) && FD_ISSET(q[1], &w));
	FD_SET(q[0], &r);
	tv = (struct timeval){0, 20000};
	CHECK("select_timeout",
	      select(q[0] + 1, &r, NULL, NULL, &tv) == 0 && tv.tv_sec == 0 && tv.tv_usec == 0);
	FD_ZERO(&r);
	close(q[0]);
	FD_SET(q[0], &r);
	CHECK_ERR("select_badf", select(q[0] + 1, &r, NULL, NULL, &tv), EBADF);
	pipe(q);
	pthread_create(&t, NULL, later_write, &q[1]);
	CHECK("blocking_read", read(q[0], b, 10) == 1 && b[0] == 'z');
	pthread_join(t, NULL);
	struct epoll_event many[64];
	int fds[50];
	for (int i = 0; i < 50; i++) {
		fds[i] = eventfd((unsigned)(i % 2), EFD_NONBLOCK);
		struct epoll_event me = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
		epoll_ctl(ep2, EPOLL_CTL_ADD, fds[i], &me);
	}
	SHOW("many_ready", "%d", epoll_wait(ep2, many, 64, 0));
	SHOW("some_ready", "%d", epoll_wait(ep2, many, 7, 0));
	return conf_done();
}
