/* SPDX-License-Identifier: ISC */
/* The end of processes: wait4, waitid, zombies, SIGCHLD, who adopts orphans, what was used up. */
#include "child.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/times.h>

static volatile int got_sig, n_sig;
static siginfo_t got;

static void note(int sig, siginfo_t *i, void *u)
{
	got_sig = sig;
	n_sig++;
	got = *i;
}

static pid_t child_exits(int status)
{
	pid_t p = fork();
	if (!p)
		_exit(status);
	return p;
}

static void statuses(void)
{
	int s = -1;
	pid_t p = child_exits(0);

	CHECK("status_0", waitpid(p, &s, 0) == p && s == 0);
	p = child_exits(255);
	CHECK("status_255", wait(&s) == p && WIFEXITED(s) && WEXITSTATUS(s) == 255);
	p = child_exits(0x1234);
	CHECK("status_low_byte", waitpid(-1, &s, 0) == p && s == 0x3400);
	static const int sigs[] = {SIGKILL, SIGTERM, SIGHUP, SIGUSR1, SIGALRM, SIGPIPE, 40};
	for (unsigned i = 0; i < sizeof(sigs) / sizeof(*sigs); i++) {
		p = child_pauses();
		kill(p, sigs[i]);
		waitpid(p, &s, 0);
		char name[32];
		snprintf(name, sizeof(name), "killed_by_%d", sigs[i]);
		CHECK(name, WIFSIGNALED(s) && WTERMSIG(s) == sigs[i]);
	}
	struct rlimit none = {0, 0};
	setrlimit(RLIMIT_CORE, &none);
	p = fork();
	if (!p)
		*(volatile int *)8 = 1;
	CHECK("segv", waitpid(p, &s, 0) == p && (s & 0xff) == SIGSEGV);
	p = fork();
	if (!p)
		abort();
	CHECK("abort", waitpid(p, &s, 0) == p && (s & 0xff) == SIGABRT);
	p = fork();
	if (!p)
		__builtin_trap();
	CHECK("ill", waitpid(p, &s, 0) == p && (s & 0xff) == SIGILL);
}

static void choices(void)
{
	int s = -1;
	CHECK_ERR("no_child", wait(&s), ECHILD);
	CHECK_ERR("no_child_nohang", waitpid(-1, &s, WNOHANG), ECHILD);
	CHECK_ERR("not_a_child", waitpid(getppid(), &s, 0), ECHILD);
	CHECK_ERR("not_a_child_1", waitpid(1, &s, 0), ECHILD);
	CHECK_ERR("bad_options", waitpid(-1, &s, 0x10000000), EINVAL);
	CHECK_ERR("int_min", waitpid(INT32_MIN, &s, 0), ESRCH);
	pid_t p = child_pauses(), q = child_exits(3);
	CHECK("one_of_two", waitpid(q, &s, 0) == q && s == 0x300);
	CHECK("nohang", waitpid(p, &s, WNOHANG) == 0);
	CHECK("nohang_any", waitpid(-1, &s, WNOHANG) == 0);
	CHECK("nohang_own_group", waitpid(0, &s, WNOHANG) == 0);
	CHECK_ERR("other_group", waitpid(-p, &s, WNOHANG), ECHILD);
	setpgid(p, p);
	CHECK("group", waitpid(-p, &s, WNOHANG) == 0);
	CHECK_ERR("own_group_none", waitpid(0, &s, WNOHANG), ECHILD);
	kill(p, SIGKILL);
	CHECK("group_waited", waitpid(-p, &s, 0) == p && s == SIGKILL);
	p = child_exits(1);
	CHECK("bad_pointer", waitpid(p, (int *)8, 0) == -1 && errno == EFAULT);
	CHECK_ERR("taken_all_the_same", waitpid(p, &s, 0), ECHILD);
	p = child_exits(7);
	CHECK("null_status", waitpid(p, NULL, 0) == p);
	p = child_exits(7);
	struct timespec t = {0, 20000000};
	nanosleep(&t, NULL);
	CHECK("zombie_exists", kill(p, 0) == 0);
	CHECK("zombie_takes_signals", kill(p, SIGKILL) == 0);
	CHECK("zombie_group", getpgid(p) == getpgrp());
	CHECK("zombie_status_stays", waitpid(p, &s, 0) == p && s == 0x700);
	CHECK_ERR("reaped", kill(p, 0), ESRCH);
	p = child_pauses();
	CHECK_ERR("wclone_none", waitpid(p, &s, __WCLONE | WNOHANG), ECHILD);
	CHECK("wall", waitpid(p, &s, __WALL | WNOHANG) == 0);
	kill(p, SIGKILL);
	waitpid(p, &s, 0);
}

static void ids(void)
{
	siginfo_t i;
	int s = -1;
	pid_t p = child_exits(5);

	memset(&i, 0xff, sizeof(i));
	CHECK("waitid_nowait", waitid(P_PID, p, &i, WEXITED | WNOWAIT) == 0);
	CHECK("waitid_info", i.si_signo == SIGCHLD && i.si_code == CLD_EXITED && i.si_pid == p &&
				     i.si_status == 5 && i.si_uid == getuid() && i.si_errno == 0);
	memset(&i, 0xff, sizeof(i));
	CHECK("waitid_again", waitid(P_ALL, 0, &i, WEXITED) == 0 && i.si_pid == p);
	CHECK_ERR("waitid_gone", waitid(P_PID, p, &i, WEXITED), ECHILD);
	p = child_pauses();
	memset(&i, 0xff, sizeof(i));
	CHECK("waitid_nohang",
	      waitid(P_PID, p, &i, WEXITED | WNOHANG) == 0 && i.si_pid == 0 && i.si_signo == 0);
	CHECK_ERR("waitid_nothing", waitid(P_PID, p, &i, WNOHANG), EINVAL);
	CHECK_ERR("waitid_options", waitid(P_PID, p, &i, WEXITED | 0x40000), EINVAL);
	CHECK_ERR("waitid_type", waitid(9, p, &i, WEXITED), EINVAL);
	CHECK_ERR("waitid_pid_0", waitid(P_PID, 0, &i, WEXITED), EINVAL);
	CHECK_ERR("waitid_group_none", waitid(P_PGID, p, &i, WEXITED | WNOHANG), ECHILD);
	CHECK("waitid_own_group", waitid(P_PGID, 0, &i, WEXITED | WNOHANG) == 0);
	kill(p, SIGTERM);
	CHECK("waitid_killed",
	      waitid(P_PID, p, &i, WEXITED) == 0 && i.si_code == CLD_KILLED && i.si_status == SIGTERM);
	p = child_exits(1);
	CHECK("waitid_no_info", waitid(P_PID, p, NULL, WEXITED) == 0);
	CHECK_ERR("waitid_none", waitid(P_ALL, 0, &i, WEXITED), ECHILD);
}

/* --- stops ------------------------------------------------------------------------ */

static void stops(void)
{
	siginfo_t i;
	int s = -1;
	pid_t p = child_pauses();

	kill(p, SIGSTOP);
	CHECK("stopped", waitpid(p, &s, WUNTRACED) == p && WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP);
	CHECK("told_once", waitpid(p, &s, WUNTRACED | WNOHANG) == 0);
	kill(p, SIGCONT);
	CHECK("continued", waitpid(p, &s, WCONTINUED) == p && WIFCONTINUED(s));
	CHECK("continued_once", waitpid(p, &s, WCONTINUED | WNOHANG) == 0);
	kill(p, SIGTSTP);
	CHECK("waitid_stopped", waitid(P_PID, p, &i, WSTOPPED | WNOWAIT) == 0 && i.si_code == CLD_STOPPED &&
					i.si_status == SIGTSTP);
	CHECK("waitid_stopped_again",
	      waitid(P_PID, p, &i, WSTOPPED) == 0 && i.si_code == CLD_STOPPED && i.si_pid == p);
	kill(p, SIGCONT);
	CHECK("waitid_continued",
	      waitid(P_PID, p, &i, WCONTINUED) == 0 && i.si_code == CLD_CONTINUED && i.si_status == SIGCONT);
	kill(p, SIGSTOP);
	waitpid(p, &s, WUNTRACED);
	kill(p, SIGKILL);
	CHECK("killed_while_stopped", waitpid(p, &s, 0) == p && WTERMSIG(s) == SIGKILL);
}

/* --- SIGCHLD -------------------------------------------------------------------------- */

static void sigchld(void)
{
	struct sigaction sa = {.sa_sigaction = note, .sa_flags = SA_SIGINFO}, old;
	int s = -1;
	pid_t p;

	sigaction(SIGCHLD, &sa, &old);
	n_sig = 0;
	p = child_exits(9);
	while (waitpid(p, &s, 0) != p)
		;
	CHECK("sigchld", n_sig == 1 && got_sig == SIGCHLD);
	CHECK("sigchld_info",
	      got.si_code == CLD_EXITED && got.si_pid == p && got.si_status == 9 && got.si_uid == getuid());
	p = child_pauses();
	kill(p, SIGINT);
	while (waitpid(p, &s, 0) != p)
		;
	CHECK("sigchld_killed", got.si_code == CLD_KILLED && got.si_pid == p && got.si_status == SIGINT);
	sa.sa_flags = SA_SIGINFO | SA_NOCLDWAIT;
	sigaction(SIGCHLD, &sa, NULL);
	n_sig = 0;
	p = child_exits(1);
	int r;
	while ((r = waitpid(p, &s, 0)) == -1 && errno == EINTR)
		;
	CHECK("nocldwait", r == -1 && errno == ECHILD && n_sig == 1);
	signal(SIGCHLD, SIG_IGN);
	p = child_exits(1);
	pid_t q = child_exits(2);
	CHECK_ERR("ignored_waits_for_all", wait(&s), ECHILD);
	CHECK("ignored_both_gone", kill(p, 0) == -1 && kill(q, 0) == -1);
	signal(SIGCHLD, SIG_DFL);
	/* One that ended before it was ignored stays. */
	p = child_exits(6);
	waitid(P_PID, p, &got, WEXITED | WNOWAIT);
	signal(SIGCHLD, SIG_IGN);
	CHECK("zombie_before_ignoring", waitpid(p, &s, 0) == p && s == 0x600);
	sigaction(SIGCHLD, &old, NULL);
	/* Blocked: one is kept. */
	sigset_t m, o;
	sigemptyset(&m);
	sigaddset(&m, SIGCHLD);
	sigprocmask(SIG_BLOCK, &m, &o);
	p = child_exits(1);
	waitpid(p, &s, 0);
	struct timespec t = {1, 0};
	CHECK("sigtimedwait_chld",
	      sigtimedwait(&m, &got, &t) == SIGCHLD && got.si_pid == p && got.si_status == 1);
	sigprocmask(SIG_SETMASK, &o, NULL);
}

static void sigchld_of_stops(void)
{
	struct sigaction sa = {.sa_sigaction = note, .sa_flags = SA_SIGINFO}, old;
	int s = -1;
	pid_t p;

	sigaction(SIGCHLD, &sa, &old);
	p = child_pauses();
	n_sig = 0;
	kill(p, SIGSTOP);
	while (waitpid(p, &s, WUNTRACED) != p)
		;
	CHECK("sigchld_stopped", n_sig == 1 && got.si_code == CLD_STOPPED && got.si_status == SIGSTOP);
	kill(p, SIGCONT);
	while (waitpid(p, &s, WCONTINUED) != p)
		;
	for (int k = 0; k < 1000 && n_sig < 2; k++) /* the signal may come after the wait's answer */
		usleep(1000);
	CHECK("sigchld_continued", n_sig == 2 && got.si_code == CLD_CONTINUED && got.si_status == SIGCONT);
	sa.sa_flags |= SA_NOCLDSTOP;
	sigaction(SIGCHLD, &sa, NULL);
	n_sig = 0;
	kill(p, SIGSTOP);
	waitpid(p, &s, WUNTRACED);
	kill(p, SIGCONT);
	waitpid(p, &s, WCONTINUED);
	usleep(20000);
	CHECK("nocldstop", n_sig == 0);
	kill(p, SIGKILL);
	while (waitpid(p, &s, 0) != p)
		;
	CHECK("nocldstop_end", n_sig == 1);
	sigaction(SIGCHLD, &old, NULL);
}

static void interrupted(void)
{
	struct sigaction sa = {.sa_sigaction = note, .sa_flags = SA_SIGINFO}, old;
	int s = -1;
	pid_t p = child_pauses(), me = getpid();

	sigaction(SIGALRM, &sa, &old);
	alarm(1);
	CHECK_ERR("wait_eintr", waitpid(p, &s, 0), EINTR);
	sa.sa_flags |= SA_RESTART;
	sigaction(SIGUSR1, &sa, NULL);
	pid_t k = fork();
	if (!k) {
		usleep(30000);
		kill(me, SIGUSR1);
		usleep(30000);
		kill(p, SIGTERM);
		_exit(0);
	}
	CHECK("wait_restarts", waitpid(p, &s, 0) == p && WTERMSIG(s) == SIGTERM);
	waitpid(k, &s, 0);
	sigaction(SIGALRM, &old, NULL);
}

/* --- threads ------------------------------------------------------------------------------ */

static pid_t made;

static void *maker(void *a)
{
	made = child_exits(11);
	return NULL;
}

static void *waiter(void *a)
{
	int s = -1;
	return (void *)(long)(waitpid(made, &s, 0) == made && s == 0xb00);
}

static void *leaves_later(void *a)
{
	usleep(30000);
	_exit(0); /* the group's */
}

static void *ends_later(void *a)
{
	usleep(30000);
	syscall(SYS_exit, 9);
	return NULL;
}

static void *ends_when_told(void *a)
{
	char c;
	read(*(int *)a, &c, 1);
	syscall(SYS_exit, 9);
	return NULL;
}

static void threads(void)
{
	pthread_t t;
	void *r = NULL;
	int s = -1;

	pthread_create(&t, NULL, maker, NULL);
	pthread_join(t, NULL);
	pthread_create(&t, NULL, waiter, NULL);
	pthread_join(t, &r);
	CHECK("wait_for_another_threads_child", r == (void *)1);
	int go[2];
	pipe(go);
	pid_t p = fork();
	if (!p) {
		pthread_create(&t, NULL, ends_when_told, go);
		syscall(SYS_exit, 6); /* only this thread */
	}
	CHECK("leader_gone", becomes(p, 'Z'));
	CHECK("leader_gone_not_over", waitpid(p, &s, WNOHANG) == 0);
	write(go[1], "g", 1);
	close(go[0]);
	close(go[1]);
	CHECK("last_threads_status", waitpid(p, &s, 0) == p && WEXITSTATUS(s) == 9);
	p = fork();
	if (!p) {
		pthread_create(&t, NULL, leaves_later, NULL);
		for (;;)
			pause();
	}
	CHECK("exit_group_of_thread", waitpid(p, &s, 0) == p && s == 0);
	p = fork();
	if (!p) {
		for (int i = 0; i < 5; i++)
			pthread_create(&t, NULL, ends_later, NULL);
		int e[2];
		char c;
		pipe(e);
		read(e[0], &c, 1);
	}
	becomes(p, 'S');
	kill(p, SIGKILL);
	CHECK("kill_all_threads", waitpid(p, &s, 0) == p && s == SIGKILL);
	p = child_exits(0);
	CHECK("wnothread", waitpid(p, &s, __WNOTHREAD) == p);
}

/* --- orphans ------------------------------------------------------------------------------------ */

static void orphans(void)
{
	int p[2], s = -1;
	pid_t v[2], me = getpid();
	char c;

	/* A subreaper adopts. */
	CHECK("set_subreaper", prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	pipe(p);
	pid_t k = fork();
	if (!k) {
		if (!fork()) {
			for (int t = 0; t < 5000 && getppid() != me; t++)
				usleep(1000);
			v[0] = getpid();
			v[1] = getppid();
			write(p[1], v, sizeof(v));
			_exit(21);
		}
		_exit(20);
	}
	CHECK("middle", waitpid(k, &s, 0) == k && WEXITSTATUS(s) == 20);
	read(p[0], v, sizeof(v));
	CHECK("subreaper_is_parent", v[1] == getpid());
	CHECK("subreaper_waits", waitpid(v[0], &s, 0) == v[0] && WEXITSTATUS(s) == 21);
	/* A zombie that is inherited. */
	k = fork();
	if (!k) {
		pid_t z = child_exits(22);
		siginfo_t i;
		waitid(P_PID, z, &i, WEXITED | WNOWAIT);
		_exit(0);
	}
	int n = 0, seen = 0;
	while (wait(&s) > 0) {
		n++;
		seen |= WEXITSTATUS(s) == 22;
	}
	CHECK("zombie_inherited", n == 2 && seen);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	/* PR_SET_PDEATHSIG */
	pipe(p);
	k = fork();
	if (!k) {
		close(p[0]);
		int q[2];
		pipe(q);
		if (!fork()) {
			struct sigaction sa = {.sa_handler = SIG_DFL};
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			write(q[1], "x", 1);
			for (;;)
				pause();
		}
		read(q[0], &c, 1);
		_exit(0);
	}
	close(p[1]);
	waitpid(k, &s, 0);
	CHECK("pdeathsig_kills", read(p[0], &c, 1) == 0);
	close(p[0]);
	CHECK_ERR("none_left", wait(&s), ECHILD);
}

/* --- what was used up ----------------------------------------------------------------------------- */

static void burn(long ms)
{
	struct timespec a, b;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	while ((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < ms);
}

static long ms_of(struct timeval *t)
{
	return t->tv_sec * 1000 + t->tv_usec / 1000;
}

static void usage(void)
{
	struct rusage ru, ch, ch0;
	struct tms t;
	int s;

	getrusage(RUSAGE_CHILDREN, &ch0);
	pid_t p = fork();
	if (!p) {
		/* What the child waited for counts, too. */
		if (!fork()) {
			burn(60);
			_exit(0);
		}
		wait(NULL);
		volatile char *m = malloc(8 << 20);
		for (int i = 0; i < 8 << 20; i += 1024)
			m[i] = 1;
		burn(60);
		_exit(0);
	}
	CHECK("wait4", wait4(p, &s, 0, &ru) == p);
	long got_ms = ms_of(&ru.ru_utime) + ms_of(&ru.ru_stime);
	CHECK("wait4_time", got_ms >= 110 && got_ms < 6000);
	CHECK("wait4_maxrss", ru.ru_maxrss >= 8 << 10 && ru.ru_maxrss < 64 << 10);
	CHECK("wait4_faults", ru.ru_minflt > 0);
	getrusage(RUSAGE_CHILDREN, &ch);
	got_ms = ms_of(&ch.ru_utime) + ms_of(&ch.ru_stime) - ms_of(&ch0.ru_utime) - ms_of(&ch0.ru_stime);
	CHECK("children_time", got_ms >= 110 && got_ms < 6000);
	CHECK("children_maxrss", ch.ru_maxrss >= 8 << 10);
	CHECK("times", times(&t) != (clock_t)-1 && t.tms_cutime + t.tms_cstime >= 10);
	p = fork();
	if (!p) {
		burn(30);
		_exit(0);
	}
	siginfo_t i;
	memset(&ru, 0, sizeof(ru));
	CHECK("waitid_usage", syscall(SYS_waitid, P_PID, p, &i, WEXITED | WNOWAIT, &ru) == 0 &&
				      ms_of(&ru.ru_utime) + ms_of(&ru.ru_stime) >= 25);
	clockid_t c;
	struct timespec ts;
	p = (waitpid(p, &s, 0), child_pauses());
	CHECK("cpu_clock_of_child", clock_getcpuclockid(p, &c) == 0 && clock_gettime(c, &ts) == 0);
	kill(p, SIGKILL);
	waitpid(p, &s, 0);
	CHECK_ERR("cpu_clock_gone", clock_gettime(c, &ts), EINVAL);
	struct rlimit l = {1, 2};
	p = fork();
	if (!p) {
		setrlimit(RLIMIT_CPU, &l);
		for (;;)
			;
	}
	CHECK("rlimit_cpu_of_child", waitpid(p, &s, 0) == p && WTERMSIG(s) == SIGXCPU);
	p = child_pauses();
	struct rlimit o = {0};
	l = (struct rlimit){17, 18};
	CHECK("prlimit_child", prlimit(p, RLIMIT_NOFILE, &l, NULL) == 0 &&
				       prlimit(p, RLIMIT_NOFILE, NULL, &o) == 0 && o.rlim_cur == 17);
	kill(p, SIGKILL);
	waitpid(p, &s, 0);
	CHECK_ERR("prlimit_gone", prlimit(p, RLIMIT_NOFILE, NULL, &o), ESRCH);
	p = fork();
	if (!p) {
		pid_t dad = getppid();
		_exit(!(setgid(77) == 0 && setuid(77) == 0 && prlimit(dad, RLIMIT_NOFILE, NULL, &o) == -1 &&
			errno == EPERM));
	}
	CHECK("prlimit_not_mine", waitpid(p, &s, 0) == p && s == 0);
}

int main(void)
{
	statuses();
	choices();
	ids();
	sigchld();
	interrupted();
	threads();
	orphans();
	usage();
	stops();
	sigchld_of_stops();
	return conf_done();
}
