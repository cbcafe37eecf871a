/* SPDX-License-Identifier: ISC */
/* pidfd: a descriptor for a process. */
#include "child.h"
#include <linux/sched.h>
#include <poll.h>
#include <sys/epoll.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static long pidfd_open_(pid_t p, unsigned flags)
{
	return syscall(SYS_pidfd_open, p, flags);
}

static long send_(int fd, int sig, siginfo_t *i, unsigned flags)
{
	return syscall(SYS_pidfd_send_signal, fd, sig, i, flags);
}

static bool readable(int fd, int ms)
{
	struct pollfd p = {fd, POLLIN, 0};
	return poll(&p, 1, ms) == 1 && p.revents & POLLIN;
}

static volatile int hits;
static void on_signal(int sig)
{
	hits++;
}

static void *a_thread(void *a)
{
	*(pid_t *)a = (pid_t)syscall(SYS_gettid);
	for (;;)
		pause();
	return NULL;
}

static void opens(void)
{
	pthread_t t;
	volatile pid_t tid = 0;

	int fd = (int)pidfd_open_(getpid(), 0);
	CHECK("open_self", fd >= 0);
	CHECK("cloexec", fcntl(fd, F_GETFD) == FD_CLOEXEC);
	CHECK("not_readable", !readable(fd, 0));
	char c;
	CHECK_ERR("read", read(fd, &c, 1), EINVAL);
	CHECK_ERR("write", write(fd, &c, 1), EINVAL);
	signal(SIGUSR1, on_signal);
	CHECK("send_to_self", send_(fd, SIGUSR1, NULL, 0) == 0 && hits == 1);
	CHECK("send_0", send_(fd, 0, NULL, 0) == 0);
	CHECK_ERR("send_flags", send_(fd, 0, NULL, 0x100), EINVAL);
	CHECK_ERR("send_bad_signal", send_(fd, 99, NULL, 0), EINVAL);
	close(fd);
	CHECK_ERR("open_0", pidfd_open_(0, 0), EINVAL);
	CHECK_ERR("open_negative", pidfd_open_(-1, 0), EINVAL);
	CHECK_ERR("open_flags", pidfd_open_(getpid(), 1), EINVAL);
	CHECK_ERR("open_none", pidfd_open_(4194303, 0), ESRCH);
	CHECK_ERR("send_bad_fd", send_(777, 0, NULL, 0), EBADF);
	CHECK_ERR("send_no_pidfd", send_(1, 0, NULL, 0), EBADF);
	pthread_create(&t, NULL, a_thread, (void *)&tid);
	while (!tid)
		usleep(1000);
	CHECK("open_thread", pidfd_open_(tid, 0) == -1 && (errno == EINVAL || errno == ENOENT));
	pthread_cancel(t);
	pthread_join(t, NULL);
}

static void ends(void)
{
	pid_t p = child_pauses();
	int fd = (int)pidfd_open_(p, 0), ep = epoll_create1(0), nb = (int)pidfd_open_(p, O_NONBLOCK);
	struct epoll_event e = {EPOLLIN, {.u32 = 5}}, got;
	siginfo_t i;

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
	CHECK("running", !readable(fd, 10) && epoll_wait(ep, &got, 1, 0) == 0);
	CHECK("nonblocking_flag", fcntl(nb, F_GETFL) & O_NONBLOCK);
	CHECK_ERR("waitid_nonblocking", waitid(P_PIDFD, nb, &i, WEXITED), EAGAIN);
	CHECK("waitid_nohang",
	      (i.si_pid = 1, waitid(P_PIDFD, fd, &i, WEXITED | WNOHANG)) == 0 && i.si_pid == 0);
	CHECK("kill_by_pidfd", send_(fd, SIGKILL, NULL, 0) == 0);
	CHECK("ended", readable(fd, 2000) && epoll_wait(ep, &got, 1, 2000) == 1 && got.data.u32 == 5);
	CHECK("zombie_takes_signals", send_(fd, SIGTERM, NULL, 0) == 0);
	CHECK("waitid", waitid(P_PIDFD, fd, &i, WEXITED) == 0 && i.si_pid == p && i.si_code == CLD_KILLED &&
				i.si_status == SIGKILL);
	CHECK_ERR("reaped", send_(fd, 0, NULL, 0), ESRCH);
	CHECK("still_readable", readable(fd, 0));
	CHECK_ERR("waitid_reaped", waitid(P_PIDFD, fd, &i, WEXITED), ECHILD);
	CHECK_ERR("waitid_no_pidfd", waitid(P_PIDFD, 1, &i, WEXITED), EBADF);
	CHECK_ERR("waitid_bad_fd", waitid(P_PIDFD, 888, &i, WEXITED), EBADF);
	close(fd);
	close(nb);
	close(ep);
	int own = (int)pidfd_open_(getpid(), 0);
	CHECK_ERR("waitid_self", waitid(P_PIDFD, own, &i, WEXITED), ECHILD);
	close(own);
}

static void blocks(void)
{
	pid_t p = fork();
	siginfo_t i;

	if (!p) {
		usleep(40000);
		_exit(12);
	}
	int fd = (int)pidfd_open_(p, 0);
	CHECK("poll_wakes", readable(fd, 5000));
	CHECK("waitid_status", waitid(P_PIDFD, fd, &i, WEXITED) == 0 && i.si_status == 12);
	close(fd);
}

static void clones(void)
{
	struct clone_args a;
	int fd = -1, s = -1;
	siginfo_t i;

	memset(&a, 0, sizeof(a));
	a.flags = CLONE_PIDFD;
	a.pidfd = (uintptr_t)&fd;
	a.exit_signal = SIGCHLD;
	pid_t p = (pid_t)syscall(SYS_clone3, &a, sizeof(a));
	if (!p)
		_exit(13);
	CHECK("clone3_pidfd", p > 0 && fd > 2 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	CHECK("clone3_wait", waitid(P_PIDFD, fd, &i, WEXITED) == 0 && i.si_pid == p && i.si_status == 13);
	close(fd);
	fd = -1;
	p = (pid_t)syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, &fd, NULL, 0);
	if (!p)
		_exit(14);
	CHECK("clone_pidfd", fd > 2 && waitid(P_PIDFD, fd, &i, WEXITED) == 0 && i.si_status == 14);
	close(fd);
	a.pidfd = 8;
	CHECK_ERR("clone3_bad_pointer", syscall(SYS_clone3, &a, sizeof(a)), EFAULT);
	CHECK_ERR("no_child_was_made", waitpid(-1, &s, WNOHANG), ECHILD);
}

static void getfds(void)
{
	int q[2], r[2];
	char c = 0;

	pipe(q);
	pipe(r);
	pid_t p = fork();
	if (!p) {
		int t[2];
		pipe(t);
		write(t[1], "z", 1);
		dup2(t[0], 150);
		write(q[1], "x", 1);
		read(r[0], &c, 1);
		_exit(0);
	}
	read(q[0], &c, 1);
	int fd = (int)pidfd_open_(p, 0);
	int got = (int)syscall(SYS_pidfd_getfd, fd, 150, 0);
	CHECK("getfd", got >= 0 && read(got, &c, 1) == 1 && c == 'z');
	CHECK("getfd_cloexec", fcntl(got, F_GETFD) == FD_CLOEXEC);
	CHECK_ERR("getfd_none", syscall(SYS_pidfd_getfd, fd, 151, 0), EBADF);
	CHECK_ERR("getfd_flags", syscall(SYS_pidfd_getfd, fd, 150, 1), EINVAL);
	CHECK_ERR("getfd_no_pidfd", syscall(SYS_pidfd_getfd, 1, 150, 0), EBADF);
	write(r[1], "x", 1);
	waitpid(p, NULL, 0);
	CHECK_ERR("getfd_gone", syscall(SYS_pidfd_getfd, fd, 150, 0), ESRCH);
	close(fd);
}

static void permissions(void)
{
	int s = -1;
	pid_t me = getpid(), p = fork();

	if (!p) {
		int fd = (int)pidfd_open_(me, 0);
		setgid(1234);
		setuid(1234);
		_exit(!(fd >= 0 && send_(fd, 0, NULL, 0) == -1 && errno == EPERM));
	}
	CHECK("not_allowed", waitpid(p, &s, 0) == p && s == 0);
	/* Passed on by fork, it means the same process. */
	pid_t k = child_pauses();
	int fd = (int)pidfd_open_(k, 0);
	p = fork();
	if (!p)
		_exit(send_(fd, SIGTERM, NULL, 0) != 0);
	waitpid(p, &s, 0);
	CHECK("inherited", s == 0 && waitpid(k, &s, 0) == k && WTERMSIG(s) == SIGTERM);
	close(fd);
}

int main(void)
{
	opens();
	ends();
	blocks();
	clones();
	getfds();
	permissions();
	return conf_done();
}
