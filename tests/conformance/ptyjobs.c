/* SPDX-License-Identifier: ISC */
/* A terminal and the jobs of its session: keys, foreground and background, SIGTTIN, SIGTTOU, EIO, sizes, hang-ups of jobs. */
#include "child.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, tty;
static char tty_name[64];
static volatile sig_atomic_t got, n_got;
static void on(int s)
{
	got = s;
	n_got++;
}
/* A job: a child in a group of its own, in front or not. It runs fn when the pipe says so; its status is fn's. */
static int gate[2];
static pid_t job(int (*fn)(void), bool front)
{
	pid_t p = fork();
	if (!p) {
		char c;
		close(master); /* nobody but the test has it */
		setpgid(0, 0);
		read(gate[0], &c, 1);
		signal(SIGTTOU, SIG_DFL);
		_exit(fn());
	}
	setpgid(p, p);
	if (front)
		tcsetpgrp(tty, p);
	write(gate[1], "g", 1);
	return p;
}
static int news(pid_t p)
{
	int st;
	return waitpid(p, &st, WUNTRACED) == p ? st : -1;
}
static void in_front(pid_t p)
{
	tcsetpgrp(tty, p);
}
static void drain(void)
{
	char b[512];
	struct pollfd p = {master, POLLIN, 0};
	while (poll(&p, 1, 20) > 0 && p.revents & POLLIN && read(master, b, sizeof(b)) > 0)
		;
}
static bool says(const char *want)
{
	char b[512] = "";
	size_t n = 0;
	struct pollfd p = {master, POLLIN, 0};
	while (n < sizeof(b) - 1 && !strstr(b, want) && poll(&p, 1, 3000) > 0) {
		ssize_t k = read(master, b + n, sizeof(b) - 1 - n);
		if (k <= 0)
			break;
		n += (size_t)k;
		b[n] = 0;
	}
	return strstr(b, want);
}

static int wait_here(void)
{
	write(tty, "up\n", 3);
	for (;;)
		pause();
	return 0;
}
static int read_one(void)
{
	char c;
	ssize_t n = read(tty, &c, 1);
	return n == 1 ? c : n == 0 ? 1 : errno == EIO ? 2 : 3;
}
static int read_ignoring(void)
{
	signal(SIGTTIN, SIG_IGN);
	return read_one();
}
static int read_blocking(void)
{
	sigset_t m;
	sigemptyset(&m);
	sigaddset(&m, SIGTTIN);
	sigprocmask(SIG_BLOCK, &m, NULL);
	return read_one();
}
static int read_catching(void)
{
	char c;
	struct sigaction sa = {.sa_handler = on};
	sigaction(SIGTTIN, &sa, NULL);
	ssize_t n = read(tty, &c, 1);
	return n == -1 && errno == EINTR && got == SIGTTIN ? 20 : 21;
}
static int write_some(void)
{
	return write(tty, "bg\n", 3) == 3 ? 30 : errno == EIO ? 2 : 3;
}
static int write_ignoring(void)
{
	signal(SIGTTOU, SIG_IGN);
	return write_some();
}
static int set_modes(void)
{
	struct termios t;
	tcgetattr(tty, &t);
	return tcsetattr(tty, TCSANOW, &t) == 0 ? 40 : errno == EIO ? 2 : 3;
}
static int set_ignoring(void)
{
	signal(SIGTTOU, SIG_IGN);
	return set_modes();
}
static int set_group(void)
{
	return tcsetpgrp(tty, getpgrp()) == 0 ? 50 : errno;
}
static int get_modes(void)
{
	struct termios t;
	struct winsize w;
	return tcgetattr(tty, &t) == 0 && ioctl(tty, TIOCGWINSZ, &w) == 0 && tcgetpgrp(tty) > 0 ? 60 : 61;
}
static int wait_winch(void)
{
	struct winsize w = {0};
	signal(SIGWINCH, on);
	write(tty, "up\n", 3);
	if (!comes(&got, SIGWINCH))
		return 1;
	ioctl(tty, TIOCGWINSZ, &w);
	return w.ws_row == 40 && w.ws_col == 132 ? 70 : 2;
}
/* A group that its parent has left alone. */
static int orphan(int (*fn)(void))
{
	int st, fds[2], r = -1;
	pipe(fds);
	pid_t p = fork();
	if (!p) {
		pid_t g = fork();
		if (!g) {
			setpgid(0, 0);
			signal(SIGTTOU, SIG_DFL);
			while (getppid() == getpid() || kill(getppid(), 0) || getppid() != 1)
				if (getsid(getppid()) != getsid(0))
					break;
				else
					ms(1);
			r = fn();
			write(fds[1], &r, sizeof(r));
			_exit(0);
		}
		_exit(0);
	}
	waitpid(p, &st, 0);
	read(fds[0], &r, sizeof(r));
	close(fds[0]);
	close(fds[1]);
	return r;
}

static void keys(void)
{
	static const struct {
		char key;
		int sig;
		const char *name, *echo;
	} k[] = {{3, SIGINT, "ctrl_c", "^C"}, {28, SIGQUIT, "ctrl_backslash", "^\\"}};
	int st;
	for (int i = 0; i < 2; i++) {
		pid_t p = job(wait_here, true);
		says("up\r\n");
		write(master, &k[i].key, 1);
		st = news(p);
		CHECK(k[i].name, WIFSIGNALED(st) && WTERMSIG(st) == k[i].sig);
		CHECK("echoed", says(k[i].echo));
		in_front(getpid());
	}
	pid_t p = job(wait_here, true), q = job(wait_here, false);
	says("up\r\nup\r\n");
	write(master, "\032", 1);
	st = news(p);
	CHECK("ctrl_z", WIFSTOPPED(st) && WSTOPSIG(st) == SIGTSTP);
	ms(20);
	CHECK("background_is_spared", waitpid(q, &st, WUNTRACED | WNOHANG) == 0);
	in_front(q);
	write(master, "\003", 1);
	st = news(q);
	CHECK("until_it_is_in_front", WIFSIGNALED(st) && WTERMSIG(st) == SIGINT);
	in_front(p);
	kill(-p, SIGCONT);
	write(master, "\003", 1);
	st = news(p);
	CHECK("fg_then_ctrl_c", WIFSIGNALED(st) && WTERMSIG(st) == SIGINT);
	in_front(getpid());
	/* keys mean nothing without ISIG */
	struct termios t, raw;
	tcgetattr(tty, &t);
	raw = t;
	raw.c_lflag &= ~(ISIG | ICANON);
	tcsetattr(tty, TCSANOW, &raw);
	p = job(read_one, true);
	write(master, "\003", 1);
	st = news(p);
	CHECK("no_isig", WIFEXITED(st) && WEXITSTATUS(st) == 3);
	in_front(getpid());
	tcsetattr(tty, TCSANOW, &t);
	/* a key throws typed input away, unless NOFLSH */
	signal(SIGINT, on);
	got = 0;
	write(master, "lost\003", 5);
	CHECK("own_ctrl_c", comes(&got, SIGINT));
	int n = -1;
	ioctl(tty, FIONREAD, &n);
	write(master, "kept\n", 5);
	char b[32] = "";
	CHECK("input_flushed", read(tty, b, sizeof(b)) == 5 && !memcmp(b, "kept\n", 5));
	signal(SIGINT, SIG_DFL);
	drain();
}

static void background(void)
{
	int st;
	pid_t p = job(read_one, false);
	st = news(p);
	CHECK("read_stops", WIFSTOPPED(st) && WSTOPSIG(st) == SIGTTIN);
	/* continued in the background it stops again */
	kill(-p, SIGCONT);
	st = news(p);
	CHECK("read_stops_again", WIFSTOPPED(st) && WSTOPSIG(st) == SIGTTIN);
	in_front(p);
	kill(-p, SIGCONT);
	write(master, "a\n", 2);
	st = news(p);
	CHECK("read_in_front", WIFEXITED(st) && WEXITSTATUS(st) == 'a');
	in_front(getpid());
	tcflush(tty, TCIFLUSH);
	st = news(job(read_ignoring, false));
	CHECK("read_ignoring_ttin_is_eio", WIFEXITED(st) && WEXITSTATUS(st) == 2);
	st = news(job(read_blocking, false));
	CHECK("read_blocking_ttin_is_eio", WIFEXITED(st) && WEXITSTATUS(st) == 2);
	st = news(job(read_catching, false));
	CHECK("read_catching_ttin", WIFEXITED(st) && WEXITSTATUS(st) == 20);
	CHECK("read_orphaned_is_eio", orphan(read_one) == 2);

	st = news(job(write_some, false));
	CHECK("write_is_free", WIFEXITED(st) && WEXITSTATUS(st) == 30 && says("bg\r\n"));
	struct termios t, stop;
	tcgetattr(tty, &t);
	stop = t;
	stop.c_lflag |= TOSTOP;
	tcsetattr(tty, TCSANOW, &stop);
	p = job(write_some, false);
	st = news(p);
	CHECK("tostop_stops", WIFSTOPPED(st) && WSTOPSIG(st) == SIGTTOU);
	in_front(p);
	kill(-p, SIGCONT);
	st = news(p);
	CHECK("and_writes_in_front", WIFEXITED(st) && WEXITSTATUS(st) == 30 && says("bg\r\n"));
	in_front(getpid());
	st = news(job(write_ignoring, false));
	CHECK("tostop_ignoring", WIFEXITED(st) && WEXITSTATUS(st) == 30 && says("bg\r\n"));
	CHECK("tostop_orphaned_is_eio", orphan(write_some) == 2);
	tcsetattr(tty, TCSANOW, &t);

	p = job(set_modes, false);
	st = news(p);
	CHECK("tcsetattr_stops", WIFSTOPPED(st) && WSTOPSIG(st) == SIGTTOU);
	kill(p, SIGKILL);
	news(p);
	st = news(job(set_ignoring, false));
	CHECK("tcsetattr_ignoring", WIFEXITED(st) && WEXITSTATUS(st) == 40);
	CHECK("tcsetattr_orphaned_is_eio", orphan(set_modes) == 2);
	p = job(set_group, false);
	st = news(p);
	CHECK("tcsetpgrp_stops", WIFSTOPPED(st) && WSTOPSIG(st) == SIGTTOU);
	kill(p, SIGKILL);
	news(p);
	CHECK("tcsetpgrp_orphaned", orphan(set_group) == ENOTTY);
	st = news(job(get_modes, false));
	CHECK("asking_is_free", WIFEXITED(st) && WEXITSTATUS(st) == 60);
	drain();
}

static void sizes(void)
{
	struct winsize w = {40, 132, 0, 0};
	signal(SIGWINCH, on);
	got = 0;
	pid_t p = job(wait_winch, true);
	says("up\r\n");
	ioctl(master, TIOCSWINSZ, &w);
	int st = news(p);
	CHECK("winch_in_front", WIFEXITED(st) && WEXITSTATUS(st) == 70);
	CHECK("winch_not_behind", got == 0);
	in_front(getpid());
	ioctl(master, TIOCSWINSZ, &w);
	ms(20);
	CHECK("same_size_is_no_news", got == 0);
	w.ws_row = 41;
	ioctl(tty, TIOCSWINSZ, &w);
	CHECK("winch_by_slave", comes(&got, SIGWINCH));
	signal(SIGWINCH, SIG_DFL);
}

/* The terminal comes to be writable, or not. */
static bool writable(bool want)
{
	struct pollfd p = {tty, POLLOUT, 0};
	for (int i = 0; i < 400 && (poll(&p, 1, 0) == 1) != want; i++)
		ms(5);
	return (poll(&p, 1, 0) == 1) == want;
}

/* Ctrl-S holds output up, Ctrl-Q lets it go. */
static void flow(void)
{
	drain();
	fcntl(tty, F_SETFL, O_NONBLOCK);
	CHECK("flows", write(tty, "a", 1) == 1 && says("a"));
	write(master, "\023", 1);
	CHECK("ctrl_s", writable(false));
	CHECK_ERR("not_writable", write(tty, "b", 1), EAGAIN);
	write(master, "\021", 1);
	CHECK("ctrl_q", writable(true) && write(tty, "c", 1) == 1 && says("c"));
	CHECK("tcflow_off", tcflow(tty, TCOOFF) == 0 && write(tty, "d", 1) == -1 && errno == EAGAIN);
	CHECK("tcflow_on", tcflow(tty, TCOON) == 0 && write(tty, "e", 1) == 1 && says("e"));
	CHECK_ERR("tcflow_bad", tcflow(tty, 9), EINVAL);
	write(master, "\023", 1);
	CHECK("ctrl_s_again", writable(false));
	signal(SIGINT, on);
	got = 0;
	write(master, "\003", 1);
	CHECK("interrupt_restarts", comes(&got, SIGINT) && writable(true) && write(tty, "f", 1) == 1);
	signal(SIGINT, SIG_DFL);
	fcntl(tty, F_SETFL, 0);
	drain();
}

/* All that a session leader and a stopped job see of the master's end. */
static int out[2];
static void hangup(void)
{
	pid_t p = job(wait_here, false);
	says("up\r\n");
	kill(p, SIGSTOP);
	news(p);
	signal(SIGHUP, on);
	signal(SIGCONT, SIG_IGN);
	got = 0;
	close(master);
	CHECK("leader_hears_of_it", comes(&got, SIGHUP));
	int st;
	ms(20);
	CHECK("stopped_job_stays", waitpid(p, &st, WUNTRACED | WNOHANG) == 0);
	dprintf(out[1], "%d\n", (int)p);
}

static void session(void)
{
	close(out[0]);
	setsid();
	tty = open(tty_name, O_RDWR);
	pipe(gate);
	CHECK("controlling", tty >= 0 && tcgetsid(tty) == getpid());
	signal(SIGTTOU, SIG_IGN);
	keys();
	background();
	sizes();
	flow();
	hangup();
	exit(conf_failures ? 1 : 0);
}

int main(void)
{
	int st;
	master = posix_openpt(O_RDWR | O_NOCTTY);
	grantpt(master);
	unlockpt(master);
	strcpy(tty_name, ptsname(master));
	pipe(out);
	pid_t p = fork();
	if (!p)
		session();
	close(master);
	close(out[1]);
	waitpid(p, &st, 0);
	CHECK("session_is_well", WIFEXITED(st) && WEXITSTATUS(st) == 0);
	/* the job that stood still is orphaned by that: SIGHUP and SIGCONT end it */
	char b[32] = "";
	read(out[0], b, sizeof(b) - 1);
	pid_t j = atoi(b);
	for (int i = 0; i < 400 && j > 0 && !kill(j, 0); i++)
		ms(5);
	CHECK("stopped_job_is_hung_up", j > 0 && kill(j, 0) == -1 && errno == ESRCH);
	return conf_done();
}
