/* SPDX-License-Identifier: ISC */
/* execve in a world of several processes: what it keeps, what it ends, what it stops sharing. */
#include "child.h"
#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

static char self[4096];
static char stack[262144] __attribute__((aligned(16)));

static void again(const char *how)
{
	execl(self, "execfork", how, (char *)NULL);
	_exit(126);
}

static pid_t first;

static void *exec_here(void *a)
{
	char b[32];
	snprintf(b, sizeof(b), "%d", first);
	execl(self, "execfork", "pid", b, (char *)NULL);
	_exit(126);
}

static void *reads_for_ever(void *a)
{
	char c;
	read(*(int *)a, &c, 1);
	return NULL;
}

static void *spins(void *a)
{
	for (;;)
		;
	return NULL;
}

static void *ends_leader_then_exec(void *a)
{
	usleep(20000); /* the leader has gone by then */
	return exec_here(NULL);
}

static void threads(void)
{
	CHECK("exec_from_thread", CHILD({
					  pthread_t t;
					  int q[2];
					  pipe(q);
					  first = getpid();
					  pthread_create(&t, NULL, reads_for_ever, &q[0]);
					  pthread_create(&t, NULL, spins, NULL);
					  pthread_create(&t, NULL, exec_here, NULL);
					  pause();
				  }) == 0);
	CHECK("exec_after_leaders_end", CHILD({
						pthread_t t;
						first = getpid();
						pthread_create(&t, NULL, ends_leader_then_exec, NULL);
						syscall(SYS_exit, 0);
					}) == 0);
	CHECK("two_exec_at_once", CHILD({
					  pthread_t t;
					  first = getpid();
					  pthread_create(&t, NULL, exec_here, NULL);
					  exec_here(NULL);
				  }) == 0);
	CHECK("children_survive_exec", CHILD({
					       if (!fork()) {
						       usleep(30000);
						       _exit(71);
					       }
					       again("waits");
				       }) == 0);
}

/* --- what stays ------------------------------------------------------------------ */

static void stays(void)
{
	CHECK("pending_kept", CHILD({
				      sigset_t m;
				      sigemptyset(&m);
				      sigaddset(&m, SIGUSR1);
				      sigprocmask(SIG_BLOCK, &m, NULL);
				      kill(getpid(), SIGUSR1);
				      again("pending");
			      }) == 0);
	CHECK("alarm_kept", CHILD({
				    alarm(50);
				    again("alarm");
			    }) == 0);
	CHECK("timers_gone", CHILD({
				     timer_t t;
				     struct itimerspec ts = {{0}, {0, 700000000}};
				     timer_create(CLOCK_MONOTONIC, NULL, &t);
				     timer_settime(t, 0, &ts, NULL);
				     again("survives");
			     }) == 0);
	CHECK("limits_kept", CHILD({
				     struct rlimit l = {99, 99};
				     setrlimit(RLIMIT_NOFILE, &l);
				     again("limits");
			     }) == 0);
	CHECK("attributes_kept", CHILD({
					 nice(4);
					 umask(031);
					 prctl(PR_SET_CHILD_SUBREAPER, 1);
					 prctl(PR_SET_PDEATHSIG, SIGHUP);
					 prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
					 setpgid(0, 0);
					 chdir("/");
					 again("attributes");
				 }) == 0);
	CHECK("cpu_time_kept", CHILD({
				       struct timespec t;
				       do
					       clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
				       while (t.tv_nsec < 60000000);
				       again("cpu");
			       }) == 0);
	CHECK("name_of_program", CHILD({
					 prctl(PR_SET_NAME, "other");
					 again("name");
				 }) == 0);
}

/* --- what is not shared any more --------------------------------------------------- */

static int exec_shared(void *a)
{
	again("close9");
	return 1;
}

static void ends_sharing(void)
{
	int s = -1;
	struct sigaction sa = {.sa_handler = SIG_IGN}, got;

	dup2(1, 9);
	fcntl(9, F_SETFD, FD_CLOEXEC);
	sigaction(SIGUSR2, &(struct sigaction){.sa_handler = (void (*)(int))(void *)again}, NULL);
	pid_t p = clone(exec_shared, stack + sizeof(stack),
			CLONE_VM | CLONE_FILES | CLONE_SIGHAND | CLONE_VFORK | SIGCHLD, NULL);
	CHECK("shared_exec", p > 0 && waitpid(p, &s, 0) == p && s == 0);
	CHECK("descriptors_unshared", fcntl(9, F_GETFD) == FD_CLOEXEC);
	sigaction(SIGUSR2, NULL, &got);
	CHECK("handlers_unshared", got.sa_handler == (void (*)(int))(void *)again);
	signal(SIGUSR2, SIG_DFL);
	close(9);
	/* An exec makes it an ordinary child. */
	p = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
	if (!p)
		again("survives");
	usleep(10000);
	while (waitpid(p, &s, WNOHANG) == -1 && errno == ECHILD)
		usleep(1000);
	if (kill(p, 0) == 0)
		waitpid(p, &s, 0);
	CHECK("exit_signal_after_exec", s == 0);
}

static void others(void)
{
	int q[2], r[2], s = -1;
	char c;

	pipe(q);
	pipe(r);
	pid_t p = fork();
	if (!p) {
		dup2(q[1], 1);
		dup2(r[0], 0);
		close(q[0]);
		close(q[1]);
		close(r[1]);
		again("tells");
	}
	close(q[1]);
	close(r[0]);
	read(q[0], &c, 1);
	CHECK_ERR("setpgid_after_exec", setpgid(p, p), EACCES);
	close(r[1]);
	CHECK("tells", waitpid(p, &s, 0) == p && s == 0);
	close(q[0]);
	char *big = malloc(300000);
	memset(big, 'a', 299999);
	big[299999] = 0;
	CHECK_ERR("long_argument", execl(self, "x", big, (char *)NULL), E2BIG);
	big[100000] = 0;
	CHECK("big_argument", CHILD(execl(self, "x", "len", big, (char *)NULL)) == 0);
	free(big);
	int fd = open(self, O_RDONLY | O_CLOEXEC);
	CHECK("fexecve", CHILD({
				 char *av[] = {"x", "survives", NULL}, *ev[] = {NULL};
				 fexecve(fd, av, ev);
			 }) == 0);
	close(fd);
	CHECK_ERR("execveat_bad_fd", syscall(SYS_execveat, 77, "", NULL, NULL, AT_EMPTY_PATH), EBADF);
	CHECK_ERR("not_executable", execl("/etc/passwd", "x", (char *)NULL), EACCES);
	CHECK_ERR("directory", execl("/", "x", (char *)NULL), EACCES);
	/* A chain of programs, each a child of the one before. */
	CHECK("chain", CHILD(again("chain5")) == 0);
}

static int child_main(const char *how, const char *arg)
{
	sigset_t m;
	int s = -1, v = 0;
	char name[16];
	struct rlimit l;

	if (!strcmp(how, "pid"))
		return getpid() != atoi(arg) || (pid_t)syscall(SYS_gettid) != getpid();
	if (!strcmp(how, "waits"))
		return !(wait(&s) > 0 && WEXITSTATUS(s) == 71);
	if (!strcmp(how, "pending"))
		return !(sigpending(&m) == 0 && sigismember(&m, SIGUSR1));
	if (!strcmp(how, "alarm"))
		return alarm(0) < 40;
	if (!strcmp(how, "survives"))
		return usleep(800000); /* longer than the timer that is gone */
	if (!strcmp(how, "limits"))
		return !(getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur == 99);
	if (!strcmp(how, "attributes"))
		return !(getpriority(PRIO_PROCESS, 0) == 4 && umask(0) == 031 &&
			 prctl(PR_GET_CHILD_SUBREAPER, &v) == 0 && v == 1 &&
			 prctl(PR_GET_PDEATHSIG, &v) == 0 && v == SIGHUP &&
			 prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && getpgrp() == getpid() &&
			 access("proc/self", F_OK) == 0);
	if (!strcmp(how, "cpu")) {
		struct timespec t;
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
		return t.tv_nsec < 60000000;
	}
	if (!strcmp(how, "name"))
		return prctl(PR_GET_NAME, name) || strcmp(name, "execfork");
	if (!strcmp(how, "close9"))
		return fcntl(9, F_GETFD) != -1;
	if (!strcmp(how, "tells"))
		return !(write(1, "x", 1) == 1 && read(0, name, 1) == 0);
	if (!strcmp(how, "len"))
		return strlen(arg) != 100000;
	if (!strncmp(how, "chain", 5)) {
		char next[8] = "chain0";
		next[5] = (char)(how[5] - 1);
		return how[5] == '0' ? 0 : CHILD(again(next));
	}
	return 1;
}

int main(int argc, char **argv)
{
	readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (argc > 1)
		return child_main(argv[1], argc > 2 ? argv[2] : NULL);
	threads();
	stays();
	ends_sharing();
	others();
	return conf_done();
}
