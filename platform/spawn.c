/* SPDX-License-Identifier: ISC */
/*
 * A child process for each instance, some hundred a second.
 *
 * vfork(2): the child borrows our memory until its exec, so nothing of ours is copied however large we are, and we stand still
 * meanwhile (some 200 µs). That is why the child's part below makes system calls only and touches nothing but its own locals.
 *
 *   - all signals are blocked around it, and the child resets those that we catch before it lets them in: a
 *     handler of ours must never run on borrowed memory
 *   - it dies with us (PR_SET_PDEATHSIG; if we died before that call, it sees another parent and ends)
 *   - a session of its own: what is typed at our terminal is not for it
 *   - when memory runs out, the kernel takes it before us (oom_score_adj)
 *   - an error before exec comes back by a local of ours, and is our return value
 */
#include "platform/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define OOM_SCORE "500"

static const int caught[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD, SIGPIPE, SIGUSR1, SIGUSR2, SIGWINCH};

static void write_once(int fd, const char *text, size_t n)
{
	if (fd >= 0 && write(fd, text, n) < 0)
		errno = 0; /* best effort: it runs without */
}

/* In the child. Returns only if something failed: the errno. */
static int child(const struct spawn *s, pid_t parent)
{
	sigset_t none;

	for (unsigned i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		signal(caught[i], SIG_DFL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return ESRCH;
	setsid();
	for (int i = 0; i < 3; i++)
		if (dup2(s->stdio[i], i) < 0)
			return errno;
	if (s->tty && ioctl(0, TIOCSCTTY, 0) < 0)
		return errno;
	for (unsigned i = 0; i < s->n_keep; i++)
		if (fcntl(s->keep[i], F_SETFD, 0) < 0)
			return errno;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	write_once(fd, OOM_SCORE, sizeof(OOM_SCORE) - 1);
	write_once(s->cgroup, "0", 1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(s->path, s->argv, s->envp);
	return errno;
}

int spawn(const struct spawn *s, pid_t *pid, int *pidfd)
{
	volatile int err = 0;
	pid_t parent = getpid();
	sigset_t all, before;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t child_pid = vfork();
	if (!child_pid) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Vfork): it keeps to system calls and memory of its own */
		err = child(s, parent);
		_exit(127);
	}
	int fork_errno = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	*pid = child_pid;
	if (child_pid < 0)
		return -fork_errno;
	if (!err) {
		*pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
		if (*pidfd >= 0)
			return 0;
		err = errno;
		kill(*pid, SIGKILL);
	}
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	return -err;
}
