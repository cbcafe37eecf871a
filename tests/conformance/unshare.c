// SPDX-License-Identifier: ISC
/* unshare(CLONE_FS), unshare(CLONE_FILES): of one thread among several, and of a whole process. */
#include "conf.h"

#include <sched.h>
#include <sys/wait.h>

static bool at(const char *dir)
{
	char buf[256];

	return getcwd(buf, sizeof(buf)) && !strcmp(buf, dir);
}

static void *made_by_it(void *arg)
{
	CHECK("a thread that it makes is where it is", at("/tmp"));
	return arg;
}

static void *alone(void *arg)
{
	pthread_t t;
	int st;

	CHECK("a thread unshares its directories", !unshare(CLONE_FS));
	CHECK("it is where it was", at("/"));
	CHECK("it goes elsewhere", !chdir("/tmp") && at("/tmp"));
	umask(077);
	pthread_create(&t, NULL, made_by_it, NULL);
	pthread_join(t, NULL);
	fflush(stdout);
	if (!fork())
		_exit(at("/tmp") ? 0 : 1);
	CHECK("a child process is where the thread is", wait(&st) > 0 && !st);
	return arg;
}

static int pipe_fds[2], before;
static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void *shares_with_it(void *arg)
{
	CHECK("a thread that it makes has its descriptors", !is_open(before) && is_open(*(int *)arg));
	close(*(int *)arg);
	return arg;
}

static void *own_files(void *arg)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int mine, st;
	pthread_t t;

	CHECK("a thread unshares its descriptors", !unshare(CLONE_FILES) && is_open(before));
	close(before);
	mine = dup(pipe_fds[1]);
	CHECK("closed for it, and one opened", !is_open(before) && is_open(mine));
	pthread_create(&t, NULL, shares_with_it, &mine);
	pthread_join(t, NULL);
	CHECK("what that one closed is closed for it", !is_open(mine));
	fflush(stdout);
	if (!fork())
		_exit(is_open(before) || !is_open(pipe_fds[1]));
	CHECK("a child process has its descriptors", wait(&st) > 0 && !st);
	mine = memfd_create("locked", 0);
	if (!fork())
		_exit(0); /* its end is no close of ours */
	wait(&st);
	CHECK("a lock", !fcntl(mine, F_SETLK, &l));
	close(pipe_fds[1]);
	close_range(50, 60, CLOSE_RANGE_UNSHARE);
	fflush(stdout);
	if (arg && !fork())
		execl("/proc/self/exe", "unshare", "closed", before == 9 ? "9" : "?", (char *)NULL);
	wait(&st);
	CHECK("a program that its child starts, too", !arg || !st);
	return arg;
}

static void *exec_with_own(void *arg)
{
	unshare(CLONE_FILES);
	close(before);
	execl("/proc/self/exe", "unshare", "closed", "9", (char *)NULL);
	return arg;
}

static int stay[2];
static void *leaves_pipe(void *arg)
{
	char c;

	unshare(CLONE_FILES);
	close(pipe_fds[1]);
	read(stay[0], &c, 1);
	_exit(0);
	return arg;
}

static void files(void)
{
	pthread_t t;
	int st;
	char c;

	pipe(pipe_fds);
	before = dup2(0, 9);
	pthread_create(&t, NULL, own_files, &st);
	pthread_join(t, NULL);
	CHECK("the process has its own still", is_open(before) && is_open(pipe_fds[1]));
	fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
	CHECK_ERR("the pipe is not at its end", read(pipe_fds[0], &c, 1), EAGAIN);
	close(pipe_fds[1]);
	CHECK("with the last writer it is", read(pipe_fds[0], &c, 1) == 0);
	fflush(stdout);
	if (!fork()) {
		pthread_create(&t, NULL, exec_with_own, NULL);
		pthread_join(t, NULL);
	}
	CHECK("exec by a thread with its own", wait(&st) > 0 && !st);
	/* The first thread, the last that has the process's descriptors, ends before the others do. */
	pipe(pipe_fds);
	pipe(stay);
	fflush(stdout);
	if (!fork()) {
		close(pipe_fds[0]);
		pthread_create(&t, NULL, leaves_pipe, NULL);
		syscall(SYS_exit, 0);
	}
	close(pipe_fds[1]);
	CHECK("descriptors that no thread has any more are closed", read(pipe_fds[0], &c, 1) == 0);
	write(stay[1], "x", 1);
	wait(&st);
	close(pipe_fds[0]);
	CHECK("alone, a process unshares its descriptors", !unshare(CLONE_FILES) && is_open(before));
}

int main(int argc, char **argv)
{
	if (argc > 2)
		return is_open(atoi(argv[2]));
	pthread_t t;

	umask(022);
	CHECK("start at /", !chdir("/"));
	pthread_create(&t, NULL, alone, NULL);
	pthread_join(t, NULL);
	CHECK("the process stayed where it was", at("/"));
	CHECK("its umask, too", umask(022) == 022);
	files();
	CHECK("alone, it unshares from nobody", !unshare(CLONE_FS) && at("/"));
	return conf_done();
}
