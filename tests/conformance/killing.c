/* SPDX-License-Identifier: ISC */
/* Signals between processes: kill in all forms, who may, queues, signalfd and sigtimedwait across fork, SIGIO, PDEATHSIG. */
#include "child.h"
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#define NOBODY 65534
static volatile sig_atomic_t got, n_got, code, from, value, fd_seen, band;
static void on(int s, siginfo_t *si, void *u)
{
	(void)u;
	got = s;
	n_got++;
	code = si->si_code;
	from = si->si_pid;
	value = si->si_value.sival_int;
}
static void on_io(int s, siginfo_t *si, void *u)
{
	(void)u;
	got = s;
	n_got++;
	code = si->si_code;
	fd_seen = si->si_fd;
	band = si->si_band;
}
static void handle(int sig, void (*f)(int, siginfo_t *, void *))
{
	struct sigaction sa = {.sa_sigaction = f, .sa_flags = SA_SIGINFO};
	sigaction(sig, &sa, NULL);
}
static int status_of(pid_t p)
{
	int st;
	return waitpid(p, &st, 0) == p ? st : -1;
}
static int end(pid_t p)
{
	kill(p, SIGKILL);
	return status_of(p);
}

static void forms(void)
{
	int st;
	CHECK_ERR("bad_signal", kill(getpid(), 65), EINVAL);
	CHECK_ERR("bad_signal_negative", kill(getpid(), -1), EINVAL);
	CHECK_ERR("nobody", kill(99999999, SIGTERM), ESRCH);
	CHECK_ERR("no_group", kill(-99999999, SIGTERM), ESRCH);
	pid_t a = child_pauses();
	CHECK("kill_0", kill(a, 0) == 0);
	kill(a, SIGUSR1);
	st = status_of(a);
	CHECK("killed", WIFSIGNALED(st) && WTERMSIG(st) == SIGUSR1);
	/* a whole group, the sender's own */
	a = fork();
	if (!a) {
		setpgid(0, 0);
		signal(SIGUSR2, SIG_IGN);
		pid_t k[3];
		for (int i = 0; i < 3; i++) {
			k[i] = fork();
			if (!k[i]) {
				signal(SIGUSR2, SIG_DFL);
				kill(getpid(), SIGSTOP);
				pause();
				_exit(0);
			}
			waitpid(k[i], &st, WUNTRACED);
			kill(k[i], SIGCONT);
		}
		setpgid(k[2], k[2]);
		kill(0, SIGUSR2);
		int hit = 0;
		for (int i = 0; i < 2; i++)
			hit += WTERMSIG(status_of(k[i])) == SIGUSR2;
		bool alive = waitpid(k[2], &st, WNOHANG) == 0;
		end(k[2]);
		_exit(hit == 2 && alive ? 0 : 1);
	}
	CHECK("kill_own_group", status_of(a) == 0);
	/* the id of a thread is good for kill, not for tgkill of another process */
	handle(SIGUSR1, on);
	got = 0;
	CHECK("tgkill_self", syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1) == 0 &&
				     got == SIGUSR1 && code == SI_TKILL && from == getpid());
	a = child_pauses();
	CHECK_ERR("tgkill_wrong_group", syscall(SYS_tgkill, getpid(), a, SIGUSR1), ESRCH);
	CHECK_ERR("tgkill_zero", syscall(SYS_tgkill, 0, a, SIGUSR1), EINVAL);
	CHECK_ERR("tkill_negative", syscall(SYS_tkill, -1, SIGUSR1), EINVAL);
	CHECK("tgkill_other", syscall(SYS_tgkill, a, a, SIGUSR2) == 0);
	CHECK("tgkill_ended_it", WTERMSIG(status_of(a)) == SIGUSR2);
	CHECK_ERR("tgkill_gone", syscall(SYS_tgkill, a, a, SIGUSR2), ESRCH);
	/* process 1 takes nothing that it does not want; 0 asks */
	CHECK("kill_1_0", kill(1, 0) == (geteuid() ? -1 : 0));
}

/* What the receiver learns of the sender. */
static void details(void)
{
	int fds[2], st;
	char c;
	siginfo_t si;
	sigset_t m;
	pipe(fds);
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	sigaddset(&m, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &m, NULL);
	pid_t me = getpid(), a = fork();
	if (!a) {
		union sigval v = {.sival_int = 1};
		kill(me, SIGUSR1);
		for (int i = 1; i <= 3; i++) {
			v.sival_int = i;
			sigqueue(me, SIGRTMIN, v);
		}
		_exit(0);
	}
	status_of(a);
	struct timespec ts = {5, 0};
	CHECK("kill_details", sigtimedwait(&m, &si, &ts) == SIGUSR1 && si.si_code == SI_USER &&
				      si.si_pid == a && si.si_uid == getuid());
	bool order = true;
	for (int i = 1; i <= 3; i++)
		order &= sigtimedwait(&m, &si, &ts) == SIGRTMIN && si.si_code == SI_QUEUE && si.si_pid == a &&
			 si.si_int == i;
	CHECK("queued_in_order", order);
	ts.tv_sec = 0;
	CHECK_ERR("no_more", sigtimedwait(&m, &si, &ts), EAGAIN);
	/* what only a kernel may say */
	a = child_pauses();
	memset(&si, 0, sizeof(si));
	si.si_signo = SIGUSR2;
	si.si_code = SI_USER;
	CHECK_ERR("forged_code", syscall(SYS_rt_sigqueueinfo, a, SIGUSR2, &si), EPERM);
	si.si_code = SI_TKILL;
	CHECK_ERR("forged_tkill", syscall(SYS_rt_sigqueueinfo, a, SIGUSR2, &si), EPERM);
	si.si_code = SI_MESGQ;
	CHECK("queueinfo", syscall(SYS_rt_sigqueueinfo, a, 0, &si) == 0);
	CHECK_ERR("queueinfo_nobody", syscall(SYS_rt_sigqueueinfo, 99999999, SIGUSR2, &si), ESRCH);
	CHECK("tgqueueinfo",
	      syscall(SYS_rt_tgsigqueueinfo, a, a, SIGUSR2, &si) == 0 && WTERMSIG(status_of(a)) == SIGUSR2);
	/* sigtimedwait wakes for another process */
	a = fork();
	if (!a) {
		ms(50);
		kill(me, SIGUSR1);
		_exit(0);
	}
	ts.tv_sec = 10;
	CHECK("sigtimedwait_wakes", sigtimedwait(&m, &si, &ts) == SIGUSR1 && si.si_pid == a);
	status_of(a);
	/* pending ones are not inherited, the mask is */
	raise(SIGUSR1);
	a = fork();
	if (!a) {
		sigset_t p, b;
		sigpending(&p);
		sigprocmask(SIG_BLOCK, NULL, &b);
		_exit(!sigismember(&p, SIGUSR1) && sigismember(&b, SIGUSR1) ? 0 : 1);
	}
	CHECK("child_has_none_pending", status_of(a) == 0);
	sigtimedwait(&m, &si, &ts);
	/* a signalfd shows what its reader has pending */
	int sfd = signalfd(-1, &m, SFD_NONBLOCK);
	a = fork();
	if (!a) {
		struct signalfd_siginfo fi;
		raise(SIGUSR1);
		bool ok = read(sfd, &fi, sizeof(fi)) == sizeof(fi) && fi.ssi_signo == SIGUSR1 &&
			  (pid_t)fi.ssi_pid == getpid();
		kill(me, SIGRTMIN);
		ok = ok && read(sfd, &fi, sizeof(fi)) == -1 && errno == EAGAIN;
		_exit(ok ? 0 : 1);
	}
	CHECK("signalfd_of_child", status_of(a) == 0);
	struct signalfd_siginfo fi;
	struct pollfd pf = {sfd, POLLIN, 0};
	CHECK("signalfd_of_parent", poll(&pf, 1, 5000) == 1 && read(sfd, &fi, sizeof(fi)) == sizeof(fi) &&
					    fi.ssi_signo == (uint32_t)SIGRTMIN && (pid_t)fi.ssi_pid == a);
	close(sfd);
	sigprocmask(SIG_UNBLOCK, &m, NULL);
	(void)c, (void)st;
}

static void permitted(void)
{
	if (geteuid()) {
		SHOW("permitted", "%s", "not root");
		return;
	}
	int st, fds[2];
	char c;
	pipe(fds);
	pid_t root = child_pauses(), own = child_pauses();
	fflush(stdout);
	pid_t k = fork();
	if (!k) {
		conf_failures = 0;
		pid_t mine = fork();
		if (!mine) {
			setgid(NOBODY);
			setuid(NOBODY);
			write(fds[1], "x", 1);
			for (;;)
				pause();
		}
		read(fds[0], &c, 1);
		setgid(NOBODY);
		setuid(NOBODY);
		CHECK_ERR("root_is_not_ours", kill(root, SIGTERM), EPERM);
		CHECK_ERR("not_even_0", kill(root, 0), EPERM);
		CHECK_ERR("tgkill_of_root", syscall(SYS_tgkill, root, root, SIGTERM), EPERM);
		CHECK_ERR("process_1", kill(1, 0), EPERM);
		CHECK("cont_in_the_session", kill(root, SIGCONT) == 0);
		CHECK("same_user", kill(mine, 0) == 0);
		int fd = syscall(SYS_pidfd_open, root, 0);
		CHECK_ERR("pidfd_of_root", syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0), EPERM);
		CHECK("own_pidfd", (fd = syscall(SYS_pidfd_open, mine, 0)) >= 0 &&
					   syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) == 0);
		waitpid(mine, &st, 0);
		CHECK("own_ended", WTERMSIG(st) == SIGTERM);
		CHECK_ERR("ended_pidfd", syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0), ESRCH);
		setsid();
		CHECK_ERR("cont_outside_the_session", kill(root, SIGCONT), EPERM);
		_exit(conf_failures ? 1 : 0);
	}
	CHECK("child_is_well", status_of(k) == 0);
	CHECK("still_there", kill(root, 0) == 0 && kill(own, 0) == 0);
	/* real and saved ids count */
	k = fork();
	if (!k) {
		setresuid(NOBODY, 0, 0);
		write(fds[1], "x", 1);
		for (;;)
			pause();
	}
	read(fds[0], &c, 1);
	pid_t s = fork();
	if (!s) {
		setuid(NOBODY);
		_exit(kill(k, 0) == 0 ? 0 : 1);
	}
	CHECK("real_id_of_the_target", status_of(s) == 0);
	end(k);
	end(root);
	end(own);
	/* everybody: only those of one's own user are ended. In a child, as it spares the sender. */
	pid_t a = child_pauses();
	k = fork();
	if (!k) {
		setgid(60123);
		setuid(60123);
		CHECK("all_of_nobody_else", kill(-1, 0) == 0 || errno == EPERM);
		pid_t m1 = fork();
		if (!m1)
			for (;;)
				pause();
		pid_t m2 = fork();
		if (!m2)
			for (;;)
				pause();
		bool ok = kill(-1, SIGTERM) == 0;
		ok = ok && WTERMSIG(status_of(m1)) == SIGTERM && WTERMSIG(status_of(m2)) == SIGTERM;
		_exit(ok ? 0 : 1);
	}
	CHECK("kill_all_of_one_user", status_of(k) == 0);
	CHECK("spares_others", kill(a, 0) == 0);
	end(a);
}

static void io_signals(void)
{
	int sv[2];
	char c;
	sigset_t m, old;
	socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
	handle(SIGIO, on_io);
	handle(SIGRTMIN + 1, on_io);
	CHECK("no_owner", fcntl(sv[0], F_GETOWN) == 0);
	CHECK_ERR("setown_nobody", fcntl(sv[0], F_SETOWN, 99999999), ESRCH);
	CHECK("setown", fcntl(sv[0], F_SETOWN, getpid()) == 0 && fcntl(sv[0], F_GETOWN) == getpid());
	got = 0;
	write(sv[1], "x", 1);
	ms(20);
	CHECK("not_without_async", got == 0);
	read(sv[0], &c, 1);
	fcntl(sv[0], F_SETFL, O_ASYNC);
	CHECK("getfl_async", fcntl(sv[0], F_GETFL) & O_ASYNC);
	pid_t a = fork();
	if (!a) {
		write(sv[1], "x", 1);
		_exit(0);
	}
	CHECK("sigio", comes(&got, SIGIO));
	status_of(a);
	read(sv[0], &c, 1);
	fcntl(sv[0], F_SETSIG, SIGRTMIN + 1);
	CHECK("getsig", fcntl(sv[0], F_GETSIG) == SIGRTMIN + 1);
	got = 0;
	write(sv[1], "y", 1);
	CHECK("setsig", comes(&got, SIGRTMIN + 1) && code == POLL_IN && fd_seen == sv[0] && (band & POLLIN));
	read(sv[0], &c, 1);
	fcntl(sv[0], F_SETSIG, 0);
	/* to a child, and to a group */
	int go[2];
	pipe(go);
	a = fork();
	if (!a) {
		setpgid(0, 0);
		got = 0;
		write(go[1], "r", 1);
		_exit(comes(&got, SIGIO) && (got = 0, write(go[1], "s", 1), comes(&got, SIGIO)) ? 0 : 1);
	}
	setpgid(a, a);
	read(go[0], &c, 1);
	fcntl(sv[0], F_SETOWN, a);
	got = 0;
	write(sv[1], "z", 1);
	read(go[0], &c, 1);
	fcntl(sv[0], F_SETOWN, -a);
	CHECK("getown_group", fcntl(sv[0], F_GETOWN) == -a);
	read(sv[0], &c, 1);
	write(sv[1], "z", 1);
	CHECK("child_got_both", status_of(a) == 0);
	CHECK("parent_got_none", got == 0);
	struct f_owner_ex ex = {F_OWNER_TID, (pid_t)syscall(SYS_gettid)}, back;
	CHECK("setown_ex", fcntl(sv[0], F_SETOWN_EX, &ex) == 0 && fcntl(sv[0], F_GETOWN_EX, &back) == 0 &&
				   back.type == F_OWNER_TID && back.pid == ex.pid);
	ex.type = 7;
	CHECK_ERR("setown_ex_type", fcntl(sv[0], F_SETOWN_EX, &ex), EINVAL);
	fcntl(sv[0], F_SETFL, 0);
	got = 0;
	write(sv[1], "z", 1);
	ms(20);
	CHECK("off_again", got == 0);
	close(sv[0]);
	close(sv[1]);
	(void)m, (void)old;
}

static void parent_death(void)
{
	int fds[2], set[2], sig;
	char c = 0;
	pipe(fds);
	pipe(set);
	pid_t a = fork();
	if (!a) {
		pid_t g = fork();
		if (!g) {
			handle(SIGUSR1, on);
			prctl(PR_SET_PDEATHSIG, SIGUSR1);
			prctl(PR_GET_PDEATHSIG, &sig);
			got = 0;
			write(fds[1], sig == SIGUSR1 ? "r" : "n", 1);
			write(set[1], "s", 1);
			write(fds[1], comes(&got, SIGUSR1) && getppid() != a ? "y" : "n", 1);
			_exit(0);
		}
		read(set[0], &c, 1);
		_exit(0);
	}
	read(fds[0], &c, 1);
	CHECK("pdeathsig_set", c == 'r');
	status_of(a);
	CHECK("pdeathsig", read(fds[0], &c, 1) == 1 && c == 'y');
	/* not inherited; kept over execve is another matter */
	a = fork();
	if (!a) {
		prctl(PR_SET_PDEATHSIG, SIGUSR1);
		pid_t g = fork();
		if (!g) {
			sig = -1;
			prctl(PR_GET_PDEATHSIG, &sig);
			_exit(sig);
		}
		_exit(status_of(g));
	}
	CHECK("pdeathsig_not_inherited", status_of(a) == 0);
	CHECK_ERR("pdeathsig_bad", prctl(PR_SET_PDEATHSIG, 65), EINVAL);
}

/* A handler of SIGCHLD for many at once, and none lost by wait. */
static void many(void)
{
	handle(SIGCHLD, on);
	n_got = 0;
	int ended = 0, st;
	for (int i = 0; i < 50; i++)
		if (!fork())
			_exit(i);
	long sum = 0;
	while (waitpid(-1, &st, 0) > 0 || errno == EINTR)
		if (WIFEXITED(st)) {
			sum += WEXITSTATUS(st);
			ended++;
			st = SIGKILL;
		}
	SHOW("ended", "%d %ld", ended, sum);
	CHECK("sigchld_came", n_got >= 1 && n_got <= 50 && code == CLD_EXITED);
	signal(SIGCHLD, SIG_DFL);
}

int main(void)
{
	int st;
	/* in a session of our own, so that nobody else is met by what goes to groups and sessions */
	fflush(stdout);
	pid_t p = fork();
	if (!p) {
		setsid();
		forms();
		details();
		permitted();
		io_signals();
		parent_death();
		many();
		exit(conf_done());
	}
	waitpid(p, &st, 0);
	return WIFEXITED(st) ? WEXITSTATUS(st) : 3;
}
