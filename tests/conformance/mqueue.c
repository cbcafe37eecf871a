/* SPDX-License-Identifier: ISC */
/* POSIX message queues: names, attributes, order, waiting, notification, poll; between processes. */
#include "child.h"
#include <mqueue.h>
#include <poll.h>

static char name[64], other[64];
static mqd_t q;
static struct timespec in_ms(long ms)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += ms * 1000000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}
static int send_three(void)
{
	mqd_t m = mq_open(name, O_WRONLY);
	if (m == (mqd_t)-1)
		return 1;
	usleep(30000);
	if (mq_send(m, "low", 4, 1) || mq_send(m, "high", 5, 30) || mq_send(m, "low2", 5, 1))
		return 2;
	char b[64];
	if (mq_receive(m, b, 64, NULL) != -1 || errno != EBADF)
		return 3;
	return 0;
}
static int inherited(void)
{
	char b[64];
	unsigned prio;
	return mq_receive(q, b, 64, &prio) == 5 && !strcmp(b, "high") && prio == 30 ? 0 : 1;
}
static int wait_room(void)
{
	return mq_send(q, "waited", 7, 0);
}
static int wait_message(void)
{
	char b[64];
	return mq_receive(q, b, 64, NULL) == 5 && !strcmp(b, "four") ? 0 : 1;
}
static int exec_closed(void)
{
	char arg[16];
	snprintf(arg, sizeof(arg), "%d", q);
	execl("/proc/self/exe", "mqueue", arg, (char *)NULL);
	return 9;
}
static int send_note(void)
{
	return mq_send(q, "note", 5, 2);
}
static int register_and_leave(void)
{
	struct sigevent ev = {.sigev_notify = SIGEV_NONE};
	return mq_notify(q, &ev);
}
static int busy(void)
{
	struct sigevent ev = {.sigev_notify = SIGEV_NONE};
	return mq_notify(q, &ev) == -1 && errno == EBUSY ? 0 : 1;
}
static volatile int note_sig, note_code, note_value, note_pid, thread_value;
static void on_note(int s, siginfo_t *i, void *u)
{
	note_sig = s;
	note_code = i->si_code;
	note_value = i->si_value.sival_int;
	note_pid = i->si_pid;
}
static void on_thread(union sigval v)
{
	thread_value = v.sival_int;
}
static void on_alarm(int s)
{
}
static int interrupted(void)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	char b[64];
	sigaction(SIGALRM, &sa, NULL);
	alarm(1);
	return mq_receive(q, b, 64, NULL) == -1 && errno == EINTR ? 0 : 1;
}
static int as_nobody(void)
{
	if (setgid(65534) || setuid(65534))
		return getuid() ? 0 : 100;
	if (mq_open(name, O_RDWR) != (mqd_t)-1 || errno != EACCES)
		return 1;
	if (mq_unlink(name) != -1 || errno != EACCES)
		return 2;
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		struct mq_attr a;
		return mq_getattr(atoi(argv[1]), &a) == -1 && errno == EBADF ? 0 : 1;
	}
	char b[64];
	unsigned prio;
	struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 64}, now;
	struct timespec t;
	snprintf(name, sizeof(name), "/cowbell-conf-%d", getpid());
	snprintf(other, sizeof(other), "/cowbell-conf-%d-b", getpid());
	CHECK_ERR("open_missing", mq_open(name, O_RDWR), ENOENT);
	q = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &a);
	CHECK("open", q != (mqd_t)-1);
	CHECK_ERR("open_excl", mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &a), EEXIST);
	CHECK_ERR("open_slashes", mq_open("/a/b", O_RDWR), EACCES);
	CHECK_ERR("open_no_slash", mq_open("x", O_RDWR), EINVAL);
	struct mq_attr bad = {.mq_maxmsg = 0, .mq_msgsize = 64};
	CHECK_ERR("open_bad_attr", mq_open(other, O_CREAT | O_RDWR, 0600, &bad), EINVAL);
	CHECK("getattr", mq_getattr(q, &now) == 0 && now.mq_maxmsg == 4 && now.mq_msgsize == 64 &&
				 now.mq_curmsgs == 0 && now.mq_flags == 0);
	CHECK("cloexec", fcntl(q, F_GETFD) == FD_CLOEXEC && child(exec_closed) == 0);
	/* order */
	CHECK("send", mq_send(q, "a", 2, 5) == 0 && mq_send(q, "b", 2, 7) == 0 &&
			      mq_send(q, "c", 2, 5) == 0 && mq_send(q, "", 0, 9) == 0);
	CHECK("curmsgs", mq_getattr(q, &now) == 0 && now.mq_curmsgs == 4);
	t = in_ms(30);
	CHECK_ERR("full_timed", mq_timedsend(q, "x", 2, 0, &t), ETIMEDOUT);
	CHECK("highest_first", mq_receive(q, b, 64, &prio) == 0 && prio == 9);
	CHECK("then_next", mq_receive(q, b, 64, &prio) == 2 && !strcmp(b, "b") && prio == 7);
	CHECK("oldest_of_equals", mq_receive(q, b, 64, &prio) == 2 && !strcmp(b, "a"));
	CHECK("then_newer", mq_receive(q, b, 64, NULL) == 2 && !strcmp(b, "c"));
	t = in_ms(30);
	CHECK_ERR("empty_timed", mq_timedreceive(q, b, 64, NULL, &t), ETIMEDOUT);
	t.tv_nsec = -1;
	CHECK_ERR("bad_time", mq_timedreceive(q, b, 64, NULL, &t), EINVAL);
	CHECK_ERR("small_buffer", mq_receive(q, b, 63, NULL), EMSGSIZE);
	CHECK_ERR("long_message", mq_send(q, b, 65, 0), EMSGSIZE);
	CHECK_ERR("bad_prio", mq_send(q, b, 1, 32768), EINVAL);
	CHECK_ERR("not_a_queue", mq_send(1, b, 1, 0), EBADF);
	/* processes */
	pid_t p = run(send_three);
	CHECK("waits_for_message", mq_receive(q, b, 64, &prio) > 0 && wait_for(p) == 0);
	while (mq_getattr(q, &now) == 0 && now.mq_curmsgs)
		mq_receive(q, b, 64, NULL);
	p = run(send_three);
	CHECK("senders", wait_for(p) == 0 && child(inherited) == 0);
	CHECK("left", mq_receive(q, b, 64, &prio) == 4 && !strcmp(b, "low") &&
			      mq_receive(q, b, 64, &prio) == 5 && !strcmp(b, "low2"));
	for (int i = 0; i < 4; i++)
		mq_send(q, "fill", 5, 1);
	p = run(wait_room);
	int st;
	becomes(p, 'S');
	CHECK("waits_for_room", waitpid(p, &st, WNOHANG) == 0);
	CHECK("makes_room", mq_receive(q, b, 64, NULL) == 5 && wait_for(p) == 0);
	mq_getattr(q, &now);
	CHECK("full_again", now.mq_curmsgs == 4);
	for (int i = 0; i < 4; i++)
		mq_receive(q, b, 64, NULL);
	CHECK("last_was_waited", !strcmp(b, "waited"));
	CHECK("interrupted", child(interrupted) == 0);
	/* flags, poll */
	now.mq_flags = O_NONBLOCK;
	CHECK("setattr", mq_setattr(q, &now, &a) == 0 && a.mq_flags == 0 && mq_getattr(q, &a) == 0 &&
				 a.mq_flags == O_NONBLOCK);
	CHECK_ERR("empty_nonblock", mq_receive(q, b, 64, NULL), EAGAIN);
	struct pollfd pf = {.fd = q, .events = POLLIN | POLLOUT};
	CHECK("poll_empty", poll(&pf, 1, 0) == 1 && pf.revents == POLLOUT);
	for (int i = 0; i < 4; i++)
		mq_send(q, "fill", 5, 1);
	CHECK("poll_full", poll(&pf, 1, 0) == 1 && pf.revents == POLLIN);
	CHECK_ERR("full_nonblock", mq_send(q, b, 1, 0), EAGAIN);
	for (int i = 0; i < 4; i++)
		mq_receive(q, b, 64, NULL);
	pf.events = POLLIN;
	p = run(send_note);
	CHECK("poll_wakes", poll(&pf, 1, 5000) == 1 && pf.revents == POLLIN && wait_for(p) == 0);
	mq_receive(q, b, 64, NULL);
	now.mq_flags = 0;
	mq_setattr(q, &now, NULL);
	now.mq_flags = O_APPEND;
	CHECK_ERR("setattr_bad", mq_setattr(q, &now, NULL), EINVAL);
	/* notification */
	struct sigaction sa = {.sa_sigaction = on_note, .sa_flags = SA_SIGINFO};
	sigaction(SIGUSR1, &sa, NULL);
	struct sigevent ev = {
		.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42};
	CHECK("notify", mq_notify(q, &ev) == 0);
	CHECK_ERR("notify_busy", mq_notify(q, &ev), EBUSY);
	CHECK("notify_busy_for_others", child(busy) == 0);
	p = run(send_note);
	wait_for(p);
	CHECK("notified", note_sig == SIGUSR1 && note_code == SI_MESGQ && note_value == 42 && note_pid == p);
	note_sig = 0;
	send_note();
	CHECK("only_once", note_sig == 0);
	CHECK("notify_nonempty", mq_notify(q, &ev) == 0 && send_note() == 0 && note_sig == 0);
	for (int i = 0; i < 3; i++)
		mq_receive(q, b, 64, NULL);
	p = run(wait_message);
	becomes(p, 'S');
	mq_send(q, "four", 5, 0);
	CHECK("receiver_goes_first", wait_for(p) == 0 && note_sig == 0);
	send_note();
	CHECK("then_notified", note_sig == SIGUSR1);
	mq_receive(q, b, 64, NULL);
	CHECK("unregister", mq_notify(q, &ev) == 0 && mq_notify(q, NULL) == 0 && mq_notify(q, &ev) == 0 &&
				    mq_notify(q, NULL) == 0);
	CHECK("gone_with_process", child(register_and_leave) == 0 && mq_notify(q, &ev) == 0);
	mq_notify(q, NULL);
	struct sigevent bad_ev = {.sigev_notify = 99};
	CHECK_ERR("notify_bad", mq_notify(q, &bad_ev), EINVAL);
	struct sigevent te = {.sigev_notify = SIGEV_THREAD,
			      .sigev_notify_function = on_thread,
			      .sigev_value.sival_int = 17};
	CHECK("notify_thread", mq_notify(q, &te) == 0);
	send_note();
	for (int i = 0; i < 200 && !thread_value; i++)
		usleep(10000);
	CHECK("thread_notified", thread_value == 17);
	mq_receive(q, b, 64, NULL);
	/* names */
	CHECK("strangers", child(as_nobody) == 0);
	CHECK("unlink", mq_unlink(name) == 0);
	CHECK_ERR("unlinked", mq_unlink(name), ENOENT);
	CHECK_ERR("no_name", mq_open(name, O_RDWR), ENOENT);
	CHECK("still_works", mq_send(q, "x", 2, 0) == 0 && mq_receive(q, b, 64, NULL) == 2);
	CHECK("close", mq_close(q) == 0);
	CHECK_ERR("closed", mq_getattr(q, &now), EBADF);
	q = mq_open(other, O_CREAT | O_RDWR, 0600, NULL);
	CHECK("defaults", mq_getattr(q, &now) == 0 && now.mq_maxmsg == 10 && now.mq_msgsize == 8192);
	mq_close(q);
	mq_unlink(other);
	return conf_done();
}
