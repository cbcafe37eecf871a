/* SPDX-License-Identifier: ISC */
/*
 * Running a build step where it can hurt nobody: bubblewrap makes the namespaces (sandbox_view.c says what is in them),
 * this file starts it, watches it and is sure that it has ended.
 *
 * The step is hostile. What is relied on:
 *
 *   - As root the sandbox runs as SANDBOX_UID, a user that owns nothing on the host but the build directory, which is given to
 *     it. Bubblewrap alone would leave it root's files, /proc/sys among them. Since such a user cannot walk to
 *     the directory (store and home are closed to it), a mount namespace of ours shows it in /tmp first. As an ordinary user the sandbox has
 *     that user's id in a user namespace.
 *   - Bubblewrap waits (--block-fd) until we hold a pidfd of the sandbox's first process. When the step ends, times out or writes
 *     too much, that process is killed and the kernel ends the whole pid namespace; the pidfd becomes readable after the last of them is gone.
 *     Only then sandbox_run() returns: nothing can change the build directory while it is collected.
 *   - Output comes through one pipe and is counted; beyond MAX_OUTPUT it is read and thrown away.
 *   - Disk: every file is limited, the directory is measured while the step runs, and the step ends when the disk is nearly full
 *     (files without names are not seen by measuring).
 *
 * If we are killed, --die-with-parent ends the sandbox.
 */
#include "image/build/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/host/progress.h"
#include "lib/host/say.h"

#define SANDBOX_UID  1131378530u /* nobody's: far from users, services and the ranges of containers */
#define OVERFLOW_UID 65534u /* where that one is not mapped, in a container */
#define MAX_OUTPUT   (4ull << 20)
#define MAX_DISK     (4ull << 30)
#define LEAST_FREE   (64ull << 20)
#define SECOND_NS    1000000000ull
#define CHECK_NS     (SECOND_NS / 2)
#define HOUR_NS	     (3600 * SECOND_NS)
#define GRACE_NS     (10 * SECOND_NS)

static const char *const not_possible =
	"The build's own code only runs in a sandbox, and bubblewrap could not make one here.\n"
	"It needs user namespaces: sysctl kernel.unprivileged_userns_clone=1 and user.max_user_namespaces > "
	"0;\n"
	"on Ubuntu 24.04 and later also kernel.apparmor_restrict_unprivileged_userns=0. In a container, "
	"allow\n"
	"unshare(2) and mount(2). Or run `cowbell build` as root.";

struct box {
	const struct sandbox *sb;
	int app, cache; /* O_PATH; cache or -1 */
	char *tool; /* or NULL */
	char *app_path, *cache_path; /* without links, absolute */
	bool other_user; /* we are root: run as `uid` */
	uid_t uid;
	pid_t pid; /* bubblewrap */
	int bwrap; /* pidfd of it */
	int first; /* pidfd of the sandbox's first process, -1 until it is known */
	int out, status, go; /* our ends of its pipes */
	char text[1024]; /* of the status pipe */
	size_t n_text;
	uint64_t output; /* bytes so far */
	uint64_t deadline, next_check;
	const char *killed; /* why, or NULL */
	bool progress; /* shown: a step that fetches says nothing of its own */
	uint64_t seen; /* bytes in the build directory so far */
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* --- whose files the sandbox's are ------------------------------------------------------------------------------- */
/* Root with what it takes to become somebody else and to mount. */
static bool full_root(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{0}, {0}};
	unsigned need = 1u << CAP_SYS_ADMIN | 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_CHOWN;

	return !geteuid() && !syscall(SYS_capget, &h, d) && (d[0].effective & need) == need;
}

static uid_t give_uid;

static int give_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	return lchown(path, give_uid, give_uid) ? -1 : 0;
}

/* The directory and all in it to the sandbox's user, once: nothing runs in it now. */
static int give_away(struct box *b)
{
	struct stat st;

	b->uid = SANDBOX_UID;
	if (fstat(b->app, &st))
		return -errno;
	if (st.st_uid != SANDBOX_UID && st.st_uid != OVERFLOW_UID) {
		give_uid = SANDBOX_UID;
		if (lchown(b->sb->dir, give_uid, give_uid) && errno == EINVAL)
			give_uid = OVERFLOW_UID; /* a container without high numbers */
		if (give_uid == OVERFLOW_UID && lchown(b->sb->dir, give_uid, give_uid) && errno == EINVAL) {
			b->other_user = false; /* a container with root alone */
			return 0;
		}
		if (nftw(b->sb->dir, give_one, 64, FTW_PHYS | FTW_MOUNT))
			return -errno;
		b->uid = give_uid;
	} else {
		b->uid = st.st_uid;
	}
	/* a cache may be in use by another build: only its top is made ours, the rest is since it was made */
	if (b->cache >= 0 && fchownat(b->cache, "", b->uid, b->uid, AT_EMPTY_PATH))
		return -errno;
	return 0;
}

/* --- the child: from fork to bubblewrap -------------------------------------------------------------------------------- */
static void fail_child(const char *what)
{
	dprintf(STDERR_FILENO, "%s: %s\n", what, strerror(errno));
	_exit(EXIT_OURS);
}

static void stage(const char *at, int fd)
{
	char from[64];

	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	if (mkdir(at, 0755) || mount(from, at, NULL, MS_BIND, NULL))
		fail_child("showing the build directory");
}

/* Show the directories where another user can walk to, then become that user. */
static void become_other(const struct box *b)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		fail_child("mount namespace");
	/* opened here: only what is mounted in our own namespace can be shown elsewhere */
	int app = open(b->app_path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int cache = b->cache >= 0 ? open(b->cache_path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	int tool = b->tool ? open(b->tool, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (mount("cowbell", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64k"))
		fail_child("tmpfs");
	stage("/tmp/app", app);
	if (b->cache >= 0)
		stage("/tmp/cache", cache);
	if (tool >= 0)
		stage("/tmp/tool", tool);
	if (setgroups(0, NULL) || setresgid(b->uid, b->uid, b->uid) || setresuid(b->uid, b->uid, b->uid))
		fail_child("changing the user");
}

static void child(const struct box *b, const struct sandbox_fds *fds, int out, int status, int go,
		  char *const *argv)
{
	char *no_environment[] = {NULL};
	sigset_t none;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		fail_child("redirecting");
	int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (oom >= 0) { /* when memory runs out, a build goes first */
		if (write(oom, "500", 3) != 3)
			errno = 0;
		close(oom);
	}
	if (b->other_user)
		become_other(b);
	umask(022); /* what is made must not depend on who builds */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close_range(3, ~0u, CLOSE_RANGE_CLOEXEC); /* what our own caller forgot to close */
	for (int i = 0; i < fds->n; i++)
		fcntl(fds->fd[i], F_SETFD, 0);
	fcntl(status, F_SETFD, 0);
	fcntl(go, F_SETFD, 0);
	if (chdir("/"))
		fail_child("/");
	execve(BWRAP, argv, no_environment);
	fail_child(BWRAP);
}

static int start(struct box *b)
{
	struct sandbox_fds fds = {.n = 0};
	struct sandbox_sources src = {.app = b->app_path, .cache = b->cache_path, .tool = b->tool};
	struct strings argv = {0};
	int out[2] = {-1, -1}, status[2] = {-1, -1}, go[2] = {-1, -1}, err = 0;

	if (b->other_user) {
		src.app = "/tmp/app";
		src.cache = src.cache ? "/tmp/cache" : NULL;
		src.tool = src.tool ? "/tmp/tool" : NULL;
	}
	if (pipe2(out, O_CLOEXEC) || pipe2(status, O_CLOEXEC) || pipe2(go, O_CLOEXEC))
		err = -errno;
	if (!err) {
		int fd = view_arguments(b->sb, &src, b->tool, status[1], go[0], &fds);
		err = fd < 0 ? fd : 0;
		view_command(b->sb, fd, &argv);
	}
	if (!err) {
		fflush(NULL);
		b->pid = fork();
		if (b->pid < 0)
			err = -errno;
		else if (!b->pid)
			child(b, &fds, out[1], status[1], go[0], argv.v);
		else
			b->bwrap = (int)syscall(SYS_pidfd_open, b->pid, 0);
	}
	for (int i = 0; i < fds.n; i++)
		close(fds.fd[i]);
	close_fd(&out[1]);
	close_fd(&status[1]);
	close_fd(&go[0]);
	b->out = out[0];
	b->status = status[0];
	b->go = go[1];
	strings_free(&argv);
	return err;
}

/* --- the watch ---------------------------------------------------------------------------------------------------------- */
static void end_box(struct box *b, const char *why)
{
	if (!b->killed)
		b->killed = why;
	if (b->first >= 0)
		syscall(SYS_pidfd_send_signal, b->first, SIGKILL, NULL, 0);
	if (b->bwrap >= 0)
		syscall(SYS_pidfd_send_signal, b->bwrap, SIGKILL, NULL, 0);
	else
		kill(b->pid, SIGKILL);
}

static void read_output(struct box *b)
{
	char data[16384];
	ssize_t n = read(b->out, data, sizeof(data));

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		close_fd(&b->out);
		return;
	}
	if (b->progress)
		progress_end();
	b->progress = false;
	bool cut = b->output > MAX_OUTPUT;
	b->output += (uint64_t)n;
	if (!cut)
		out_text(data, (size_t)n);
	if (!cut && b->output > MAX_OUTPUT)
		out_line("(there is more output; it is not shown)");
}

/* Bubblewrap tells the first process's number, and later the exit status. Let it go on once we can end it for certain. */
static void read_status(struct box *b)
{
	ssize_t n = read(b->status, b->text + b->n_text, sizeof(b->text) - 1 - b->n_text);

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		close_fd(&b->status);
		return;
	}
	b->n_text += (size_t)n;
	b->text[b->n_text] = 0;
	const char *at = strstr(b->text, "\"child-pid\":");
	if (b->first >= 0 || !at || !strchr(at, '}'))
		return;
	b->first = (int)syscall(SYS_pidfd_open, atoi(at + strlen("\"child-pid\":")), 0);
	if (b->first < 0 || write(b->go, "1", 1) != 1)
		end_box(b, "it could not be watched");
	close_fd(&b->go);
}

static void check_disk(struct box *b, uint64_t now)
{
	struct statvfs v;
	uint64_t use, cached;
	uint64_t max = b->sb->max_disk ? b->sb->max_disk : MAX_DISK;

	if (!view_disk_use(b->app, max, &use))
		end_box(b, "it wrote more than a build may (bytes, files or depth of directories)");
	else if (b->cache >= 0 && !view_disk_use(b->cache, MAX_DISK, &cached))
		end_box(b, "the cache of packages became too large; remove the directory npm in the store");
	if (b->progress && use > b->seen)
		progress_add(use - b->seen);
	b->seen = use;
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", b->app);
	if (!statvfs(path, &v) && (uint64_t)v.f_bavail * v.f_frsize < LEAST_FREE)
		end_box(b, "the disk is full");
	uint64_t end = now_ns(); /* large trees are measured less often */
	b->next_check = end + CHECK_NS + 10 * (end - now);
}

/* Until bubblewrap has ended. */
static void watch(struct box *b)
{
	bool ended = false;

	while (!ended) {
		uint64_t now = now_ns();
		if (now >= b->deadline && !b->killed)
			end_box(b, "timeout");
		else if (now >= b->next_check && !b->killed)
			check_disk(b, now);
		now = now_ns();
		uint64_t until = b->next_check < b->deadline || b->killed ? b->next_check : b->deadline;
		int wait_ms = b->killed ? 100 : until > now ? (int)((until - now) / 1000000) + 1 : 0;
		struct pollfd p[3] = {{b->out, POLLIN, 0}, {b->status, POLLIN, 0}, {b->bwrap, POLLIN, 0}};
		if (poll(p, 3, wait_ms) < 0)
			continue;
		if (p[1].revents)
			read_status(b);
		if (p[0].revents)
			read_output(b);
		ended = p[2].revents != 0;
	}
}

/* Wait until the last process of the sandbox is gone, and take the rest of the output. False: something still lives. */
static bool finish(struct box *b)
{
	uint64_t until = now_ns() + GRACE_NS;
	bool gone = b->first < 0;

	while (b->status >= 0)
		read_status(b);
	if (b->first >= 0)
		syscall(SYS_pidfd_send_signal, b->first, SIGKILL, NULL, 0);
	while (!gone || b->out >= 0) {
		uint64_t now = now_ns();
		if (now >= until)
			return false;
		struct pollfd p[2] = {{b->out, POLLIN, 0}, {gone ? -1 : b->first, POLLIN, 0}};
		if (poll(p, 2, (int)((until - now) / 1000000) + 1) < 0)
			continue;
		if (p[0].revents)
			read_output(b);
		gone = gone || p[1].revents;
	}
	return true;
}

/* What came of it. The last member of the status is there only if the command was started. */
static int verdict(struct box *b, int wait_status)
{
	const char *at = strstr(b->text, "\"exit-code\":");

	if (b->killed && !strcmp(b->killed, "timeout"))
		return out_fail(
			EXIT_OURS, "%s did not end within %llu s and was stopped", b->sb->argv->v[0],
			(unsigned long long)((b->sb->timeout_ns ? b->sb->timeout_ns : HOUR_NS) / SECOND_NS));
	if (b->killed)
		return out_fail(EXIT_OURS, "%s was stopped: %s", b->sb->argv->v[0], b->killed);
	if (!at)
		return out_fail(EXIT_OURS, "%s", not_possible);
	int code = atoi(at + strlen("\"exit-code\":"));
	if (code > 128 && code < 128 + 65)
		out_line("%s was ended by signal %d (%s)", b->sb->argv->v[0], code - 128,
			 strsignal(code - 128));
	/* our own status would mean that it was not run */
	return code == EXIT_OURS ? out_fail(code, "%s failed with status %d", b->sb->argv->v[0], code) : code;
}

static int run_box(struct box *b)
{
	int status = 0, err = b->other_user ? give_away(b) : 0;

	if (!err)
		err = start(b);
	if (err || b->bwrap < 0) {
		if (b->pid > 0) {
			kill(b->pid, SIGKILL);
			waitpid(b->pid, &status, 0);
		}
		return out_fail(EXIT_OURS, "The sandbox cannot be started: %s", strerror(err ? -err : errno));
	}
	uint64_t now = now_ns();
	b->deadline = now + (b->sb->timeout_ns ? b->sb->timeout_ns : HOUR_NS);
	b->next_check = now + CHECK_NS;
	b->progress = b->sb->network;
	if (b->progress)
		progress_begin(b->sb->argv->v[0], 0, true);
	watch(b);
	if (b->progress)
		progress_end();
	b->progress = false;
	bool gone = finish(b);
	while (waitpid(b->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!gone)
		return out_fail(EXIT_OURS, "Processes of %s cannot be ended", b->sb->argv->v[0]);
	/* once more: what was written between the last look and the end */
	if (!b->killed)
		check_disk(b, now_ns());
	return verdict(b, status);
}

int sandbox_run(const struct sandbox *sb)
{
	struct box b = {.sb = sb, .bwrap = -1, .first = -1, .out = -1, .status = -1, .go = -1, .cache = -1};

	for (const char *const *p = (const char *const[]){BWRAP, PRLIMIT, NULL}; *p; p++)
		if (access(*p, X_OK))
			return out_fail(EXIT_OURS,
					"The build's own code only runs in a sandbox, and %s is "
					"missing.\nInstall it: apt install %s",
					*p, p[0][9] == 'b' ? "bubblewrap" : "util-linux");
	b.app = open(sb->dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (b.app < 0)
		return out_fail(EXIT_OURS, "%s: %s", sb->dir, strerror(errno));
	if (sb->cache && sb->network) /* no code of the app's ever writes what other builds read */
		b.cache = open(sb->cache, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	b.app_path = realpath(sb->dir, NULL);
	b.cache_path = b.cache >= 0 ? realpath(sb->cache, NULL) : NULL;
	if (!b.app_path || (b.cache >= 0 && !b.cache_path)) {
		int status = out_fail(EXIT_OURS, "%s: %s", sb->dir, strerror(errno));
		close_fd(&b.app);
		close_fd(&b.cache);
		free(b.app_path);
		return status;
	}
	b.tool = view_tool_prefix(sb->argv->v[0]);
	b.other_user = full_root();
	int status = run_box(&b);
	close_fd(&b.app);
	close_fd(&b.cache);
	close_fd(&b.out);
	close_fd(&b.status);
	close_fd(&b.go);
	close_fd(&b.first);
	close_fd(&b.bwrap);
	free(b.tool);
	free(b.app_path);
	free(b.cache_path);
	return status;
}
