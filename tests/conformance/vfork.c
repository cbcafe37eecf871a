/* SPDX-License-Identifier: ISC */
/* vfork: the child runs in the parent's memory while the parent sleeps; posix_spawn, system and popen stand on it. */
#include "conf.h"
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static volatile int word;
static char self[4096];

static double since(uint64_t t)
{
	return (double)(conf_now_ns() - t) / 1e6;
}

static int run_self(const char *arg)
{
	execl(self, "vfork", arg, (char *)NULL);
	return 127;
}

static void basics(void)
{
	int s = -1;
	volatile int local = 1;
	uint64_t t = conf_now_ns();
	pid_t p = vfork();

	if (!p) {
		word = 5;
		local = 2;
		usleep(50000);
		_exit(3);
	}
	CHECK("parent_slept", since(t) >= 49);
	CHECK("same_memory", word == 5 && local == 2);
	CHECK("status", waitpid(p, &s, 0) == p && WEXITSTATUS(s) == 3);
	t = conf_now_ns();
	p = vfork();
	if (!p)
		_exit(run_self("sleep"));
	CHECK("exec_wakes_parent", waitpid(p, &s, WNOHANG) == 0);
	CHECK("exec_status", waitpid(p, &s, 0) == p && WEXITSTATUS(s) == 44);
	p = vfork();
	if (!p) {
		word = execl("/nonexistent/program", "x", (char *)NULL) == -1 ? errno : 0;
		_exit(127);
	}
	CHECK("failed_exec_seen", word == ENOENT && waitpid(p, &s, 0) == p && WEXITSTATUS(s) == 127);
	p = vfork();
	if (!p) {
		kill(getpid(), SIGKILL);
		_exit(0);
	}
	CHECK("killed", waitpid(p, &s, 0) == p && s == SIGKILL);
	int fd = dup(1);
	p = vfork();
	if (!p) {
		close(fd);
		_exit(0);
	}
	waitpid(p, &s, 0);
	CHECK("descriptors_are_copied", fcntl(fd, F_GETFD) == 0);
	close(fd);
	p = vfork();
	if (!p)
		_exit(getppid() == getpid());
	CHECK("own_pid", waitpid(p, &s, 0) == p && s == 0);
	/* CLONE_VFORK without CLONE_VM: the parent sleeps, memory is copied. */
	word = 1;
	t = conf_now_ns();
	p = (pid_t)syscall(SYS_clone, CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, 0);
	if (!p) {
		word = 2;
		usleep(30000);
		_exit(0);
	}
	CHECK("vfork_copy", word == 1 && since(t) >= 29);
	waitpid(p, &s, 0);
}

static void *other(void *a)
{
	for (;;) {
		word++;
		usleep(1000);
	}
	return NULL;
}

/* Only the thread that forks sleeps. */
static void with_threads(void)
{
	pthread_t t;
	int s = -1;

	word = 0;
	pthread_create(&t, NULL, other, NULL);
	pid_t p = vfork();
	if (!p) {
		for (int i = 0; i < 10000 && word < 3; i++)
			usleep(1000);
		_exit(word < 3);
	}
	CHECK("other_threads_go_on", waitpid(p, &s, 0) == p && s == 0);
	pthread_cancel(t);
	pthread_join(t, NULL);
}

/* The parent sleeps for its child and is killed; the child lives on. */
static void killed_parent(void)
{
	int q[2], go[2], s = -1;
	char c = 0;

	pipe(q);
	pipe(go);
	pid_t p = fork();
	if (!p) {
		close(q[0]);
		if (!vfork()) {
			write(q[1], "a", 1);
			read(go[0], &c, 1);
			write(q[1], "b", 1);
			_exit(0);
		}
		_exit(1);
	}
	close(q[1]);
	read(q[0], &c, 1);
	usleep(10000);
	kill(p, SIGTERM);
	CHECK("parent_killed", waitpid(p, &s, 0) == p && WIFSIGNALED(s) && WTERMSIG(s) == SIGTERM);
	write(go[1], "g", 1);
	CHECK("child_lives_on", read(q[0], &c, 1) == 1 && c == 'b');
	CHECK("and_ends", read(q[0], &c, 1) == 0);
	close(q[0]);
	close(go[0]);
	close(go[1]);
}

/* A handler of the parent runs only after the child has gone its way. */
static volatile int handled;

static void on_usr1(int sig)
{
	handled++;
}

static void signalled_parent(void)
{
	int s = -1;

	signal(SIGUSR1, on_usr1);
	pid_t p = vfork();
	if (!p) {
		signal(SIGUSR1, SIG_DFL); /* its own table */
		kill(getppid(), SIGUSR1);
		usleep(30000);
		_exit(handled);
	}
	CHECK("handler_waits", waitpid(p, &s, 0) == p && s == 0 && handled == 1);
	CHECK("handlers_are_copied", signal(SIGUSR1, SIG_DFL) == on_usr1);
}

static int spawn_self(const char *arg, posix_spawn_file_actions_t *fa, posix_spawnattr_t *at)
{
	char *argv[] = {"vfork", (char *)arg, NULL};
	pid_t p;
	int s = -1, e = posix_spawn(&p, self, fa, at, argv, environ);

	if (e)
		return -e;
	waitpid(p, &s, 0);
	return s;
}

static void spawns(void)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t m;
	char buf[64] = {0};
	int q[2], n = 0;
	pid_t p;

	CHECK("spawn", WEXITSTATUS(spawn_self("sleep", NULL, NULL)) == 44);
	char *none[] = {"x", NULL};
	CHECK("spawn_enoent", posix_spawn(&p, "/nonexistent/program", NULL, NULL, none, environ) == ENOENT);
	CHECK("spawn_eacces", posix_spawn(&p, "/etc/passwd", NULL, NULL, none, environ) == EACCES);
	CHECK_ERR("spawn_left_no_child", waitpid(-1, NULL, WNOHANG), ECHILD);
	pipe2(q, O_CLOEXEC);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, q[1], 1);
	posix_spawn_file_actions_addclose(&fa, 0);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addchdir_np(&fa, "/");
	CHECK("spawn_actions",
	      spawn_self("cwd", &fa, NULL) == 0 && read(q[0], buf, sizeof(buf)) == 2 && !strcmp(buf, "/\n"));
	posix_spawn_file_actions_destroy(&fa);
	close(q[0]);
	close(q[1]);
	posix_spawnattr_init(&at);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setpgroup(&at, 0);
	sigemptyset(&m);
	sigaddset(&m, SIGUSR2);
	posix_spawnattr_setsigmask(&at, &m);
	sigemptyset(&m);
	sigaddset(&m, SIGHUP);
	posix_spawnattr_setsigdefault(&at, &m);
	signal(SIGHUP, SIG_IGN);
	CHECK("spawn_attributes", spawn_self("attr", NULL, &at) == 0);
	signal(SIGHUP, SIG_DFL);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSID);
	CHECK("spawn_setsid", spawn_self("sid", NULL, &at) == 0);
	posix_spawnattr_destroy(&at);
	for (int i = 0; i < 20; i++)
		n += WEXITSTATUS(spawn_self("quick", NULL, NULL)) == 45;
	CHECK("spawn_20", n == 20);
	CHECK("system", WEXITSTATUS(system("exit 6")) == 6);
	FILE *f = popen("echo one; echo two", "r");
	CHECK("popen", f && fgets(buf, sizeof(buf), f) && !strcmp(buf, "one\n") &&
			       fgets(buf, sizeof(buf), f) && !strcmp(buf, "two\n"));
	CHECK("pclose", pclose(f) == 0);
	f = popen("read x; test \"$x\" = hello", "w");
	fputs("hello\n", f);
	CHECK("popen_write", pclose(f) == 0);
}

static int as_child(const char *how)
{
	sigset_t m;

	if (!strcmp(how, "sleep")) {
		usleep(50000);
		return 44;
	}
	if (!strcmp(how, "cwd")) {
		char b[4096];
		return puts(getcwd(b, sizeof(b))) < 0;
	}
	if (!strcmp(how, "attr")) {
		sigprocmask(SIG_BLOCK, NULL, &m);
		return !(getpgrp() == getpid() && sigismember(&m, SIGUSR2) && !sigismember(&m, SIGUSR1) &&
			 signal(SIGHUP, SIG_DFL) == SIG_DFL);
	}
	if (!strcmp(how, "sid"))
		return getsid(0) != getpid();
	return 45;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return as_child(argv[1]);
	readlink("/proc/self/exe", self, sizeof(self) - 1);
	basics();
	with_threads();
	killed_parent();
	signalled_parent();
	spawns();
	return conf_done();
}
