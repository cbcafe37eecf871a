/* SPDX-License-Identifier: ISC */
/* Sessions and their controlling terminal: setsid, TIOCSCTTY, TIOCNOTTY, tcsetpgrp, /dev/tty, hang-ups. */
#include "child.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile sig_atomic_t n_hup, n_cont, n_term;
static void on_hup(int s)
{
	(void)s;
	n_hup++;
}
static void on_cont(int s)
{
	(void)s;
	n_cont++;
}
static int new_pty(char *name)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY);
	grantpt(m);
	unlockpt(m);
	strcpy(name, ptsname(m));
	return m;
}
/* Run fn in a child and pass its checks on; its exit status tells how many failed. */
static void in_child(void (*fn)(void))
{
	int st;
	fflush(stdout);
	pid_t p = fork();
	if (!p) {
		conf_failures = 0;
		fn();
		fflush(stdout);
		_exit(conf_failures ? 1 : 0);
	}
	waitpid(p, &st, 0);
	if (st)
		conf_failures++;
	CHECK("child_is_well", WIFEXITED(st) && WEXITSTATUS(st) == 0);
}

static void plain(void)
{
	pid_t before = getsid(0);
	CHECK("setsid", setsid() == getpid());
	CHECK("leader", getsid(0) == getpid() && getpgrp() == getpid() && before != getpid());
	CHECK_ERR("setsid_twice", setsid(), EPERM);
	CHECK_ERR("leader_setpgid", setpgid(0, 0), EPERM);
	CHECK_ERR("no_dev_tty", open("/dev/tty", O_RDWR), ENXIO);
	int st;
	pid_t k = fork();
	if (!k) {
		setpgid(0, 0);
		_exit(setsid() == -1 && errno == EPERM ? 0 : 1);
	}
	waitpid(k, &st, 0);
	CHECK("group_leader_cannot_setsid", st == 0);
	k = fork();
	if (!k)
		_exit(getsid(0) == getppid() && setsid() == getpid() ? 0 : 1);
	waitpid(k, &st, 0);
	CHECK("child_can", st == 0);
	/* into another session's group: no */
	k = fork();
	if (!k) {
		setsid();
		pause();
	}
	while (getsid(k) != k)
		ms(1);
	pid_t j = fork();
	if (!j)
		pause();
	CHECK_ERR("join_other_session", setpgid(j, k), EPERM);
	CHECK_ERR("child_in_other_session", setpgid(k, getpgrp()), EPERM);
	kill(j, SIGKILL);
	kill(k, SIGKILL);
	waitpid(j, NULL, 0);
	waitpid(k, NULL, 0);
	/* a group of that number exists: the leader is gone, a member stays */
	int fds[2];
	pipe(fds);
	k = fork();
	if (!k) {
		setpgid(0, 0);
		j = fork();
		if (!j) {
			pause();
			_exit(0);
		}
		write(fds[1], &j, sizeof(j));
		setpgid(0, getppid());
		_exit(setsid() == -1 && errno == EPERM ? 0 : 1);
	}
	waitpid(k, &st, 0);
	CHECK("setsid_with_a_group_of_that_number", st == 0);
	read(fds[0], &j, sizeof(j));
	kill(j, SIGKILL);
}

static void controlling(void)
{
	char name[64], other[64];
	int m = new_pty(name), m2 = new_pty(other), st;
	int s = open(name, O_RDWR | O_NOCTTY);
	CHECK("open_noctty", s >= 0);
	CHECK_ERR("tcgetpgrp_foreign", tcgetpgrp(s), ENOTTY);
	CHECK_ERR("tcgetsid_foreign", tcgetsid(s), ENOTTY);
	CHECK_ERR("not_a_leader_sctty", ioctl(s, TIOCSCTTY, 0), EPERM);
	setsid();
	CHECK_ERR("notty_without", ioctl(s, TIOCNOTTY), ENOTTY);
	CHECK_ERR("tcsetpgrp_without", tcsetpgrp(s, getpgrp()), ENOTTY);
	CHECK("sctty", ioctl(s, TIOCSCTTY, 0) == 0);
	CHECK("sctty_twice", ioctl(s, TIOCSCTTY, 0) == 0);
	CHECK("tcgetsid", tcgetsid(s) == getpid());
	CHECK("tcgetpgrp", tcgetpgrp(s) == getpid());
	CHECK("master_tcgetpgrp", tcgetpgrp(m) == getpid());
	CHECK("master_tcgetsid", tcgetsid(m) == getpid());
	int t = open("/dev/tty", O_RDWR);
	CHECK("dev_tty", t >= 0 && isatty(t) && tcgetpgrp(t) == getpid());
	write(t, "over tty\n", 9);
	char buf[64] = "";
	CHECK("dev_tty_writes", read(m, buf, sizeof(buf)) == 10 && !memcmp(buf, "over tty\r\n", 10));
	int s2 = open(other, O_RDWR);
	CHECK("second_is_not_taken", s2 >= 0);
	CHECK_ERR("second_sctty", ioctl(s2, TIOCSCTTY, 0), EPERM);
	CHECK_ERR("second_tcgetpgrp", tcgetpgrp(s2), ENOTTY);
	/* foreground groups */
	CHECK_ERR("tcsetpgrp_nobody", tcsetpgrp(s, 99999999), ESRCH);
	CHECK_ERR("tcsetpgrp_negative", tcsetpgrp(s, -5), EINVAL);
	CHECK_ERR("tcsetpgrp_other_session", tcsetpgrp(s, getpgid(getppid())), EPERM);
	pid_t k = fork();
	if (!k) {
		setpgid(0, 0);
		pause();
	}
	setpgid(k, k);
	CHECK("tcsetpgrp", tcsetpgrp(s, k) == 0 && tcgetpgrp(s) == k);
	signal(SIGTTOU, SIG_IGN);
	CHECK("tcsetpgrp_back", tcsetpgrp(s, getpid()) == 0 && tcgetpgrp(s) == getpid());
	kill(k, SIGKILL);
	waitpid(k, NULL, 0);
	CHECK_ERR("tcsetpgrp_gone", tcsetpgrp(s, k), ESRCH);
	/* a child gives it up for itself only */
	k = fork();
	if (!k) {
		bool ok = ioctl(s, TIOCNOTTY) == 0 && open("/dev/tty", O_RDWR) == -1 && errno == ENXIO;
		ok = ok && tcgetpgrp(s) == -1 && errno == ENOTTY && ioctl(s, TIOCSCTTY, 0) == -1 &&
		     errno == EPERM;
		_exit(ok ? 0 : 1);
	}
	waitpid(k, &st, 0);
	CHECK("child_notty", st == 0);
	CHECK("parent_keeps", tcgetpgrp(s) == getpid());
	/* the leader gives it up for all */
	signal(SIGHUP, on_hup);
	signal(SIGCONT, on_cont);
	CHECK("leader_notty", ioctl(t, TIOCNOTTY) == 0);
	CHECK("leader_notty_signals", n_hup == 1 && n_cont == 1);
	CHECK_ERR("then_no_dev_tty", open("/dev/tty", O_RDWR), ENXIO);
	CHECK_ERR("master_no_session", tcgetsid(m), ENOTTY);
	SHOW("master_no_pgrp", "%d", (int)tcgetpgrp(m));
	CHECK("sctty_other_now", ioctl(s2, TIOCSCTTY, 0) == 0 && tcgetsid(s2) == getpid());
}

static void by_open(void)
{
	char name[64];
	int m = new_pty(name), st;
	(void)m;
	setsid();
	int s = open(name, O_WRONLY);
	CHECK_ERR("open_for_writing_only", tcgetsid(s), ENOTTY);
	close(s);
	s = open(name, O_RDWR);
	CHECK("open_takes", s >= 0 && tcgetsid(s) == getpid() && tcgetpgrp(s) == getpid());
	pid_t k = fork();
	if (!k) {
		setsid();
		int e = open("/dev/tty", O_RDWR), x = errno;
		int s2 = open(name, O_RDWR);
		_exit(e == -1 && x == ENXIO && tcgetsid(s2) == -1 && ioctl(s2, TIOCSCTTY, 0) == -1 &&
				      errno == EPERM
			      ? 0
			      : 1);
	}
	waitpid(k, &st, 0);
	CHECK("new_session_has_none", st == 0);
	k = fork();
	if (!k)
		_exit(tcgetsid(s) == getppid() && open("/dev/tty", O_RDWR) >= 0 ? 0 : 1);
	waitpid(k, &st, 0);
	CHECK("child_has_it", st == 0);
	char stat[512] = "";
	int fd = open("/proc/self/stat", O_RDONLY);
	read(fd, stat, sizeof(stat) - 1);
	int pgrp, sess, tty, tpgid;
	struct stat sb;
	fstat(s, &sb);
	sscanf(strrchr(stat, ')') + 2, "%*c %*d %d %d %d %d", &pgrp, &sess, &tty, &tpgid);
	CHECK("proc_stat",
	      pgrp == getpid() && sess == getpid() && tpgid == getpid() && (dev_t)tty == sb.st_rdev);
}

/* What a hang-up and the end of a leader do: tells by one letter each over `fd`. */
static void member(int fd, const char *name, bool own_group)
{
	signal(SIGHUP, on_hup);
	signal(SIGCONT, on_cont);
	if (own_group)
		setpgid(0, 0);
	dprintf(fd, "%s ready\n", name);
	for (int i = 0; i < 3000 && !n_hup; i++)
		ms(1);
	dprintf(fd, "%s hup %d\n", name, (int)n_hup);
	_exit(0);
}
static bool expect(FILE *f, const char *want)
{
	char line[100] = "";
	return fgets(line, sizeof(line), f) && !strcmp(line, want);
}

static void leader_ends(void)
{
	char name[64], buf[16];
	int m = new_pty(name), fds[2], go[2], st;
	pipe(fds);
	pipe(go);
	FILE *f = fdopen(fds[0], "r");
	pid_t k = fork();
	if (!k) {
		setsid();
		int s = open(name, O_RDWR);
		pid_t fg = fork();
		if (!fg)
			member(fds[1], "foreground", true);
		setpgid(fg, fg);
		tcsetpgrp(s, fg);
		read(go[0], buf, 1);
		_exit(0);
	}
	CHECK("fg_ready", expect(f, "foreground ready\n"));
	write(go[1], "x", 1);
	waitpid(k, &st, 0);
	CHECK("leader_end_hangs_up_foreground", expect(f, "foreground hup 1\n"));
	ms(10);
	CHECK_ERR("terminal_is_free", tcgetsid(m), ENOTTY);
	/* and another session can have it */
	k = fork();
	if (!k) {
		setsid();
		int s = open(name, O_RDWR);
		_exit(s >= 0 && tcgetsid(s) == getpid() ? 0 : 1);
	}
	waitpid(k, &st, 0);
	CHECK("next_session_takes_it", st == 0);
}

static void master_closes(void)
{
	char name[64];
	int m = new_pty(name), fds[2], st;
	pipe(fds);
	FILE *f = fdopen(fds[0], "r");
	pid_t k = fork();
	if (!k) {
		close(m);
		setsid();
		int s = open(name, O_RDWR);
		signal(SIGHUP, on_hup);
		signal(SIGCONT, on_cont);
		dprintf(fds[1], "leader ready\n");
		char b[8];
		ssize_t r = read(s, b, 1);
		if (r == -1 && errno == EINTR)
			r = read(s, b, 1);
		dprintf(fds[1], "read %d\n", r == 0 || (r == -1 && errno == EIO));
		while (!n_hup || !n_cont)
			ms(1);
		dprintf(fds[1], "leader hup %d cont %d\n", (int)n_hup, (int)n_cont);
		dprintf(fds[1], "end %d\n", (int)read(s, b, 1));
		errno = 0;
		ssize_t w = write(s, "x", 1);
		dprintf(fds[1], "write %d %d\n", (int)w, w < 0 && errno == EIO);
		struct termios tio;
		dprintf(fds[1], "modes %d\n", tcgetattr(s, &tio) == -1 && errno == EIO);
		struct pollfd p = {s, POLLIN | POLLOUT, 0};
		poll(&p, 1, 0);
		dprintf(fds[1], "poll %d\n", (p.revents & (POLLHUP | POLLIN)) == (POLLHUP | POLLIN));
		dprintf(fds[1], "tty %d\n", open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
		dprintf(fds[1], "again %d\n",
			open(name, O_RDWR | O_NOCTTY) == -1 && (errno == ENOENT || errno == EIO));
		_exit(0);
	}
	CHECK("hup_ready", expect(f, "leader ready\n"));
	becomes(k, 'S');
	close(m);
	CHECK("hup_ends_the_read", expect(f, "read 1\n"));
	CHECK("hup_signals", expect(f, "leader hup 1 cont 1\n"));
	CHECK("hup_reads_end_now", expect(f, "end 0\n"));
	CHECK("hup_write", expect(f, "write -1 1\n"));
	CHECK("hup_modes", expect(f, "modes 1\n"));
	CHECK("hup_poll", expect(f, "poll 1\n"));
	CHECK("hup_no_tty", expect(f, "tty 1\n"));
	CHECK("hup_name_is_gone", expect(f, "again 1\n"));
	waitpid(k, &st, 0);
	CHECK("hup_end", st == 0);
}

int main(void)
{
	in_child(plain);
	in_child(controlling);
	in_child(by_open);
	in_child(leader_ends);
	in_child(master_closes);
	return conf_done();
}
