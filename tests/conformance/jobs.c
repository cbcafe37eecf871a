/* SPDX-License-Identifier: ISC */
/* Process groups; stopping and continuing of whole processes: wait status, SIGCHLD, threads, what stops and what does not. */
#include "child.h"

static volatile sig_atomic_t n_chld, last_code, last_status, last_pid, n_cont, got;

static void on_chld(int s, siginfo_t *si, void *u)
{
	(void)s, (void)u;
	n_chld++;
	last_code = si->si_code;
	last_status = si->si_status;
	last_pid = si->si_pid;
}
static void on_cont(int s)
{
	(void)s;
	n_cont++;
}
static void on_sig(int s)
{
	got = s;
}
static void handle(int sig, int flags)
{
	struct sigaction sa = {.sa_sigaction = on_chld, .sa_flags = SA_SIGINFO | flags};
	sigaction(sig, &sa, NULL);
}
/* A child that only waits. */
static pid_t sleeper(void)
{
	pid_t p = fork();
	if (!p) {
		signal(SIGCHLD, SIG_DFL);
		for (;;)
			pause();
	}
	return p;
}
static void end(pid_t p)
{
	kill(p, SIGKILL);
	waitpid(p, NULL, 0);
}

static void groups(void)
{
	int st;
	CHECK("getpgid_self", getpgid(0) == getpgrp() && getpgid(getpid()) == getpgrp());
	CHECK_ERR("getpgid_nobody", getpgid(99999999), ESRCH);
	CHECK_ERR("getsid_nobody", getsid(99999999), ESRCH);
	CHECK_ERR("setpgid_negative", setpgid(0, -1), EINVAL);
	CHECK_ERR("setpgid_nobody", setpgid(99999999, 0), ESRCH);
	pid_t a = sleeper(), b = sleeper();
	CHECK("inherited", getpgid(a) == getpgrp() && getsid(a) == getsid(0));
	CHECK("setpgid_child", setpgid(a, a) == 0 && getpgid(a) == a);
	CHECK("setpgid_join", setpgid(b, a) == 0 && getpgid(b) == a);
	CHECK("setpgid_0_0_is_own", setpgid(b, 0) == 0 && getpgid(b) == b);
	CHECK_ERR("setpgid_no_such_group", setpgid(b, 99999999), EPERM);
	CHECK("setpgid_join_again", setpgid(b, a) == 0);
	CHECK("kill_group_0", kill(-a, 0) == 0);
	CHECK_ERR("kill_no_group", kill(-99999999, SIGTERM), ESRCH);
	CHECK("killpg", killpg(a, SIGTERM) == 0);
	CHECK("wait_group", waitpid(-a, &st, 0) > 0 && WIFSIGNALED(st) && WTERMSIG(st) == SIGTERM);
	CHECK("wait_group_2", waitpid(-a, &st, 0) > 0 && WIFSIGNALED(st) && WTERMSIG(st) == SIGTERM);
	CHECK_ERR("wait_group_empty", waitpid(-a, &st, 0), ECHILD);
	CHECK_ERR("kill_empty_group", kill(-a, 0), ESRCH);

	/* a group lives on without its leader, and its number is not a new group */
	a = sleeper();
	b = sleeper();
	setpgid(a, a);
	setpgid(b, a);
	end(a);
	CHECK("group_without_leader", getpgid(b) == a && kill(-a, 0) == 0);
	pid_t c = sleeper();
	CHECK("join_group_without_leader", setpgid(c, a) == 0);
	end(b);
	end(c);

	/* after exec a parent may not */
	int fds[2];
	pipe(fds);
	a = fork();
	if (!a) {
		dup2(fds[1], 1);
		execl("/proc/self/exe", "jobs", "wait", NULL);
		_exit(1);
	}
	char ch;
	read(fds[0], &ch, 1);
	CHECK_ERR("setpgid_after_exec", setpgid(a, a), EACCES);
	end(a);
	close(fds[0]);
	close(fds[1]);
	/* others' processes: not a child */
	CHECK_ERR("setpgid_parent", setpgid(getppid(), 0), ESRCH);
	/* a zombie still counts */
	a = fork();
	if (!a)
		_exit(0);
	siginfo_t si;
	waitid(P_PID, a, &si, WEXITED | WNOWAIT);
	CHECK("zombie_kill_0", kill(a, 0) == 0);
	CHECK("zombie_kill_term", kill(a, SIGTERM) == 0);
	CHECK("zombie_getpgid", getpgid(a) == getpgrp());
	CHECK("zombie_state", state_of(a) == 'Z');
	CHECK("zombie_setpgid", setpgid(a, a) == 0 && kill(-a, 0) == 0);
	CHECK("zombie_reaped", waitpid(a, &st, 0) == a && WIFEXITED(st));
	CHECK_ERR("gone", kill(a, 0), ESRCH);
}

static void stops(void)
{
	int st;
	siginfo_t si;
	sigset_t chld, old;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	handle(SIGCHLD, SA_RESTART);
	pid_t a = sleeper();
	n_chld = 0;
	sigprocmask(SIG_BLOCK, &chld, &old);
	kill(a, SIGSTOP);
	CHECK("wuntraced", waitpid(a, &st, WUNTRACED) == a && WIFSTOPPED(st) && WSTOPSIG(st) == SIGSTOP);
	sigprocmask(SIG_SETMASK, &old, NULL);
	CHECK("sigchld_stopped",
	      n_chld == 1 && last_code == CLD_STOPPED && last_status == SIGSTOP && last_pid == a);
	CHECK("state_T", state_of(a) == 'T');
	CHECK("told_once", waitpid(a, &st, WUNTRACED | WNOHANG) == 0);
	CHECK("no_wuntraced", waitpid(a, &st, WNOHANG) == 0);
	kill(a, SIGSTOP);
	CHECK("stopped_again_is_no_news", waitpid(a, &st, WUNTRACED | WNOHANG) == 0);
	n_chld = 0;
	sigprocmask(SIG_BLOCK, &chld, &old);
	kill(a, SIGCONT);
	CHECK("wcontinued", waitpid(a, &st, WCONTINUED) == a && WIFCONTINUED(st));
	SHOW("continued_status", "%04x", st);
	sigprocmask(SIG_SETMASK, &old, NULL);
	for (int i = 0; i < 400 && !n_chld; i++)
		ms(5); /* it is sent when the child runs again */
	CHECK("sigchld_continued", n_chld == 1 && last_code == CLD_CONTINUED && last_status == SIGCONT);
	CHECK("state_S", becomes(a, 'S'));
	kill(a, SIGCONT);
	CHECK("cont_of_running_is_no_news", waitpid(a, &st, WCONTINUED | WUNTRACED | WNOHANG) == 0);
	/* waitid */
	kill(a, SIGTSTP);
	memset(&si, 0, sizeof(si));
	CHECK("waitid_stopped_nowait", waitid(P_PID, a, &si, WSTOPPED | WNOWAIT) == 0 &&
					       si.si_code == CLD_STOPPED && si.si_status == SIGTSTP &&
					       si.si_pid == a && si.si_signo == SIGCHLD);
	CHECK("waitid_stopped", waitid(P_PID, a, &si, WSTOPPED) == 0 && si.si_code == CLD_STOPPED);
	si.si_pid = 1;
	CHECK("waitid_nohang",
	      waitid(P_PID, a, &si, WSTOPPED | WCONTINUED | WEXITED | WNOHANG) == 0 && si.si_pid == 0);
	kill(a, SIGCONT);
	CHECK("waitid_continued", waitid(P_PID, a, &si, WCONTINUED) == 0 && si.si_code == CLD_CONTINUED &&
					  si.si_status == SIGCONT);
	/* a stop that is continued before anybody asked */
	kill(a, SIGSTOP);
	becomes(a, 'T');
	kill(a, SIGCONT);
	CHECK("stop_forgotten", waitpid(a, &st, WUNTRACED | WNOHANG) == 0);
	CHECK("but_continued", waitpid(a, &st, WCONTINUED | WNOHANG) == a && WIFCONTINUED(st));
	/* kill ends a stopped one; TERM waits */
	kill(a, SIGSTOP);
	waitpid(a, &st, WUNTRACED);
	kill(a, SIGTERM);
	ms(20);
	CHECK("term_waits", state_of(a) == 'T');
	kill(a, SIGCONT);
	CHECK("then_ends", waitpid(a, &st, 0) == a && WIFSIGNALED(st) && WTERMSIG(st) == SIGTERM);
	a = sleeper();
	kill(a, SIGSTOP);
	waitpid(a, &st, WUNTRACED);
	kill(a, SIGKILL);
	CHECK("kill_of_stopped", waitpid(a, &st, 0) == a && WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);

	handle(SIGCHLD, SA_NOCLDSTOP | SA_RESTART);
	a = sleeper();
	n_chld = 0;
	kill(a, SIGSTOP);
	waitpid(a, &st, WUNTRACED);
	kill(a, SIGCONT);
	waitpid(a, &st, WCONTINUED);
	CHECK("nocldstop", n_chld == 0);
	sigprocmask(SIG_BLOCK, &chld, &old);
	kill(a, SIGKILL);
	waitpid(a, &st, 0);
	sigprocmask(SIG_SETMASK, &old, NULL);
	CHECK("nocldstop_end", n_chld == 1 && last_code == CLD_KILLED && last_status == SIGKILL);
	signal(SIGCHLD, SIG_DFL);
}

/* What a handler, a mask, SIG_IGN make of it. */
static void dispositions(void)
{
	int st, fds[2];
	char c;
	pipe(fds);
	pid_t a = fork();
	if (!a) {
		sigset_t m;
		signal(SIGTSTP, on_sig);
		signal(SIGTTIN, SIG_IGN);
		signal(SIGCONT, on_cont);
		sigemptyset(&m);
		sigaddset(&m, SIGTTOU);
		sigset_t more = m;
		sigaddset(&more, SIGTSTP);
		sigaddset(&more, SIGCONT);
		sigprocmask(SIG_BLOCK, &more, NULL);
		write(fds[1], "r", 1);
		for (;;) {
			sigsuspend(&m);
			if (got == SIGTSTP) {
				got = 0;
				write(fds[1], "t", 1);
			}
			if (n_cont) {
				sigset_t pend;
				sigpending(&pend);
				n_cont = 0;
				write(fds[1], sigismember(&pend, SIGTTOU) ? "p" : "c", 1);
			}
		}
	}
	read(fds[0], &c, 1);
	kill(a, SIGTSTP);
	CHECK("caught_tstp", read(fds[0], &c, 1) == 1 && c == 't' && state_of(a) != 'T');
	kill(a, SIGTTIN);
	ms(10);
	CHECK("ignored_ttin", state_of(a) != 'T');
	kill(a, SIGTTOU);
	ms(10);
	CHECK("blocked_ttou", state_of(a) != 'T');
	kill(a, SIGCONT); /* throws the pending stop away */
	CHECK("cont_handler_runs_unstopped_and_flushes", read(fds[0], &c, 1) == 1 && c == 'c');
	kill(a, SIGSTOP);
	CHECK("stop_cannot_be_caught", waitpid(a, &st, WUNTRACED) == a && WSTOPSIG(st) == SIGSTOP);
	kill(a, SIGCONT);
	CHECK("cont_handler_after_stop", read(fds[0], &c, 1) == 1 && c == 'c');
	waitpid(a, &st, WCONTINUED);
	end(a);

	/* SIGCONT ignored and blocked still continues */
	a = fork();
	if (!a) {
		signal(SIGCONT, SIG_IGN);
		write(fds[1], "r", 1);
		for (;;)
			pause();
	}
	read(fds[0], &c, 1);
	kill(a, SIGSTOP);
	waitpid(a, &st, WUNTRACED);
	kill(a, SIGCONT);
	CHECK("ignored_cont_continues", waitpid(a, &st, WCONTINUED) == a && WIFCONTINUED(st));
	end(a);
	a = fork();
	if (!a) {
		sigset_t all;
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, NULL);
		write(fds[1], "r", 1);
		for (;;)
			pause();
	}
	read(fds[0], &c, 1);
	kill(a, SIGSTOP);
	waitpid(a, &st, WUNTRACED);
	kill(a, SIGCONT);
	CHECK("blocked_cont_continues", waitpid(a, &st, WCONTINUED) == a && WIFCONTINUED(st));
	end(a);
	close(fds[0]);
	close(fds[1]);
}

/* A sleeping call goes on where it was. */
static void restarts(void)
{
	int st, fds[2], go[2];
	char c;
	uint64_t took;
	pipe(fds);
	pipe(go);
	pid_t a = fork();
	if (!a) {
		uint64_t t0 = conf_now_ns();
		struct timespec ts = {0, 300000000};
		write(fds[1], "r", 1);
		int r = nanosleep(&ts, NULL);
		took = conf_now_ns() - t0;
		write(fds[1], r == 0 && took >= 300000000 ? "y" : "n", 1);
		write(fds[1], read(go[0], &c, 1) == 1 ? "y" : "n", 1);
		_exit(7);
	}
	read(fds[0], &c, 1);
	ms(30);
	kill(a, SIGSTOP);
	waitpid(a, &st, WUNTRACED);
	ms(50);
	kill(a, SIGCONT);
	CHECK("nanosleep_over_stop", read(fds[0], &c, 1) == 1 && c == 'y');
	ms(20);
	kill(a, SIGSTOP);
	waitpid(a, &st, WUNTRACED);
	kill(a, SIGCONT);
	write(go[1], "g", 1);
	CHECK("read_over_stop", read(fds[0], &c, 1) == 1 && c == 'y');
	CHECK("exit_after_stop", waitpid(a, &st, 0) == a && WIFEXITED(st) && WEXITSTATUS(st) == 7);
	close(fds[0]);
	close(fds[1]);
	close(go[0]);
	close(go[1]);
}

static volatile unsigned long *counters;
static void *count(void *arg)
{
	volatile unsigned long *c = arg;
	for (;;)
		++*c;
	return NULL;
}

/* All threads of a process stand, computing ones too. */
static void threads(void)
{
	int st;
	counters = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t a = fork();
	if (!a) {
		pthread_t t;
		for (int i = 0; i < 3; i++)
			pthread_create(&t, NULL, count, (void *)(counters + i));
		for (;;)
			pause();
	}
	uint64_t end_at = conf_now_ns() + 5000000000ull;
	while ((!counters[0] || !counters[1] || !counters[2]) && conf_now_ns() < end_at)
		ms(5);
	CHECK("threads_run", counters[0] && counters[1] && counters[2]);
	kill(a, SIGSTOP);
	CHECK("threads_stop", waitpid(a, &st, WUNTRACED) == a && WIFSTOPPED(st));
	unsigned long v[3] = {counters[0], counters[1], counters[2]};
	ms(60);
	CHECK("threads_stand", v[0] == counters[0] && v[1] == counters[1] && v[2] == counters[2]);
	kill(a, SIGCONT);
	end_at = conf_now_ns() + 5000000000ull;
	while ((v[0] == counters[0] || v[1] == counters[1] || v[2] == counters[2]) && conf_now_ns() < end_at)
		ms(5);
	CHECK("threads_go_on", v[0] != counters[0] && v[1] != counters[1] && v[2] != counters[2]);
	kill(a, SIGSTOP);
	waitpid(a, &st, WUNTRACED);
	kill(a, SIGKILL);
	CHECK("threads_killed_while_stopped", waitpid(a, &st, 0) == a && WTERMSIG(st) == SIGKILL);
}

/* Groups of which nobody can take care. */
static void orphans(void)
{
	int fds[2], st;
	char buf[16] = "";
	pipe(fds);
	/* A child in its own session makes a grandchild in its own group, which stops; then the child ends. */
	pid_t a = fork();
	if (!a) {
		setsid();
		pid_t g = fork();
		if (!g) {
			setpgid(0, 0);
			signal(SIGHUP, on_sig);
			signal(SIGCONT, on_cont);
			write(fds[1], "r", 1);
			raise(SIGSTOP);
			while (!got)
				ms(1);
			while (!n_cont)
				ms(1);
			write(fds[1], "h", 1);
			/* now orphaned: these do not stop it */
			raise(SIGTSTP);
			raise(SIGTTIN);
			raise(SIGTTOU);
			write(fds[1], "n", 1);
			_exit(0);
		}
		waitpid(g, &st, WUNTRACED);
		_exit(WIFSTOPPED(st) ? 0 : 1);
	}
	CHECK("orphan_parent", waitpid(a, &st, 0) == a && st == 0);
	size_t n = 0;
	while (n < 3) {
		ssize_t k = read(fds[0], buf + n, 3 - n);
		if (k <= 0)
			break;
		n += (size_t)k;
	}
	CHECK("orphaned_stopped_group_gets_hup_and_cont", n == 3 && !strcmp(buf, "rhn"));
	/* a session leader's own group is orphaned: SIGTSTP has no effect, SIGSTOP has */
	a = fork();
	if (!a) {
		setsid();
		raise(SIGTSTP);
		write(fds[1], "t", 1);
		raise(SIGSTOP);
		write(fds[1], "s", 1);
		_exit(3);
	}
	CHECK("tstp_in_orphaned_group", read(fds[0], buf, 1) == 1 && buf[0] == 't');
	CHECK("stop_in_orphaned_group",
	      waitpid(a, &st, WUNTRACED) == a && WIFSTOPPED(st) && WSTOPSIG(st) == SIGSTOP);
	kill(a, SIGCONT);
	CHECK("and_goes_on", read(fds[0], buf, 1) == 1 && buf[0] == 's');
	CHECK("and_ends", waitpid(a, &st, 0) == a && WEXITSTATUS(st) == 3);
}

/* A pipeline as a shell runs it: one group, stopped and continued as a whole. */
static void pipeline(void)
{
	int st, p1[2], stopped = 0, ended = 0;
	pipe(p1);
	pid_t k[3], g = 0;
	for (int i = 0; i < 3; i++) {
		k[i] = fork();
		if (!k[i]) {
			setpgid(0, g);
			for (;;)
				pause();
		}
		if (!i)
			g = k[0];
		setpgid(k[i], g);
	}
	CHECK("one_group", getpgid(k[0]) == g && getpgid(k[1]) == g && getpgid(k[2]) == g);
	killpg(g, SIGTSTP);
	for (int i = 0; i < 3; i++)
		stopped += waitpid(-g, &st, WUNTRACED) > 0 && WIFSTOPPED(st) && WSTOPSIG(st) == SIGTSTP;
	SHOW("stopped", "%d", stopped);
	killpg(g, SIGCONT);
	for (int i = 0; i < 3; i++)
		ended += waitpid(-g, &st, WCONTINUED) > 0 && WIFCONTINUED(st);
	SHOW("continued", "%d", ended);
	ended = 0;
	killpg(g, SIGINT);
	for (int i = 0; i < 3; i++)
		ended += waitpid(-g, &st, 0) > 0 && WIFSIGNALED(st) && WTERMSIG(st) == SIGINT;
	SHOW("interrupted", "%d", ended);
	close(p1[0]);
	close(p1[1]);
}

int main(int argc, char **argv)
{
	int st;
	if (argc > 1) {
		write(1, "x", 1);
		for (;;)
			pause();
	}
	/* A session of our own, and in it a group whose parent looks after it, wherever we are run. */
	pid_t leader = fork();
	if (!leader) {
		setsid();
		pid_t worker = fork();
		if (!worker) {
			setpgid(0, 0);
			groups();
			stops();
			dispositions();
			restarts();
			threads();
			orphans();
			pipeline();
			exit(conf_done());
		}
		waitpid(worker, &st, 0);
		_exit(WIFEXITED(st) ? WEXITSTATUS(st) : 2);
	}
	waitpid(leader, &st, 0);
	return WIFEXITED(st) ? WEXITSTATUS(st) : 3;
}
