/* SPDX-License-Identifier: ISC */
/*
 * Detached instances: `cowbell run -d`, and what is kept of them when they are gone.
 *
 *   DIR/ID.log     what the instance printed on both streams, and our own messages about it
 *   DIR/ID.state   lines "word value": name, program, started (seconds), and at the end: status, ended
 *
 * DIR is $XDG_STATE_HOME/cowbell, else ~/.local/state/cowbell, for root /var/log/cowbell; private to the user. A
 * state without `status` whose instance is not running was killed. What is older than a week goes when the next
 * detached instance starts, unless it still runs. Nothing here decides what runs: only the control sockets tell.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/host/ctl.h"
#include "lib/host/say.h"

#define KEEP_S (7 * 86400)

static int state_fd = -1, started_pipe = -1, dir_fd = -1;
static char tmp_log[64];

static bool choose_dir(char *out, size_t size)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n;

	if (xdg && *xdg == '/')
		n = snprintf(out, size, "%s/cowbell", xdg);
	else if (geteuid() && home && *home == '/')
		n = snprintf(out, size, "%s/.local/state/cowbell", home);
	else
		n = snprintf(out, size, "/var/log/cowbell");
	return n < (int)size;
}

/* mkdir -p; then it must be a directory of ours that nobody else can write to. A descriptor, or -1. */
static int open_dir(bool make)
{
	char path[PATH_MAX];
	struct stat st;

	if (!choose_dir(path, sizeof(path)))
		return -1;
	for (char *p = path; make && (p = strchr(p + 1, '/'));) {
		*p = 0;
		mkdir(path, 0755);
		*p = '/';
	}
	if (make)
		mkdir(path, 0700);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && (fstat(fd, &st) || st.st_uid != geteuid() || (st.st_mode & 022))) {
		close(fd);
		fd = -1;
		errno = EPERM;
	}
	if (fd < 0 && make)
		say("%s: cannot hold logs of detached instances: %s; set XDG_STATE_HOME", path,
		    strerror(errno));
	return fd;
}

/* --- records -------------------------------------------------------------------- */

bool state_read(int dir, const char *file, struct state *s)
{
	char buf[1024], *save = NULL;
	int fd = openat(dir, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	if (fd >= 0)
		close(fd);
	memset(s, 0, sizeof(*s));
	s->status = -1;
	if (n <= 0 || strlen(file) < CTL_ID_LEN)
		return false;
	buf[n] = 0;
	memcpy(s->id, file, CTL_ID_LEN);
	for (char *l = strtok_r(buf, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (!strncmp(l, "name ", 5))
			snprintf(s->name, sizeof(s->name), "%s", l + 5);
		else if (!strcmp(l, "named"))
			s->named = true;
		else if (!strncmp(l, "program ", 8))
			snprintf(s->program, sizeof(s->program), "%s", l + 8);
		else if (!strncmp(l, "started ", 8))
			s->started = strtoll(l + 8, NULL, 10);
		else if (!strncmp(l, "ended ", 6))
			s->ended = strtoll(l + 6, NULL, 10);
		else if (!strncmp(l, "status ", 7))
			s->status = (int)strtol(l + 7, NULL, 10);
	}
	return true;
}

static bool is_state(const char *name)
{
	return strspn(name, "0123456789abcdef") == CTL_ID_LEN && !strcmp(name + CTL_ID_LEN, ".state");
}

static int newest_first(const void *a, const void *b)
{
	const struct state *x = a, *y = b;

	return x->started > y->started ? -1 : x->started < y->started;
}

struct state *state_all(int *n)
{
	int fd = open_dir(false);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct state *v = NULL;
	struct dirent *e;

	*n = 0;
	while (d && (e = readdir(d))) {
		struct state *nv;

		if (!is_state(e->d_name) || !(nv = realloc(v, (size_t)(*n + 1) * sizeof(*v))))
			continue;
		v = nv;
		*n += state_read(dirfd(d), e->d_name, &v[*n]);
	}
	if (d)
		closedir(d);
	if (*n)
		qsort(v, (size_t)*n, sizeof(*v), newest_first);
	return v;
}

int state_log(const char *id)
{
	char name[32];
	int dir = open_dir(false), fd;

	snprintf(name, sizeof(name), "%.12s.log", id);
	fd = dir < 0 ? -1 : openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (dir >= 0)
		close(dir);
	return fd;
}

static bool runs(const char *id)
{
	struct ctl c;

	if (ctl_open_id(id, &c))
		return false;
	ctl_close(&c);
	return true;
}

static void forget_old(int dir)
{
	int n;
	struct state *v = state_all(&n);
	char name[32];

	for (int i = 0; i < n; i++) {
		if (v[i].started + KEEP_S > time(NULL) || runs(v[i].id))
			continue;
		snprintf(name, sizeof(name), "%s.log", v[i].id);
		unlinkat(dir, name, 0);
		snprintf(name, sizeof(name), "%s.state", v[i].id);
		unlinkat(dir, name, 0);
	}
	free(v);
}

/* --- going to the background -------------------------------------------------------- */

/* In the instance's process, all is ready: the files get its name, and whoever waits is told. */
static void on_started(void *arg, const struct ctl_status *st)
{
	char name[32], line[512];

	(void)arg;
	snprintf(name, sizeof(name), "%s.log", st->id);
	renameat(dir_fd, tmp_log, dir_fd, name);
	snprintf(name, sizeof(name), "%s.state", st->id);
	state_fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
	int n = snprintf(line, sizeof(line), "name %s\n%sprogram %s\nstarted %lld\n", st->name,
			 st->flags & CTL_F_NAMED ? "named\n" : "", st->program,
			 (long long)(st->started_ns / 1000000000u));
	if ((state_fd >= 0 && write(state_fd, line, (size_t)n) < 0) ||
	    write(started_pipe, st, sizeof(*st)) != sizeof(*st))
		say("%s: nobody was told of the start", st->id);
	close(started_pipe);
	close(dir_fd);
}

void state_ended(int status)
{
	char line[64];
	struct timespec ts;

	if (state_fd < 0 || status == MONITOR_MOVED)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	int n = snprintf(line, sizeof(line), "status %d\nended %lld\n", status, (long long)ts.tv_sec);
	if (write(state_fd, line, (size_t)n) < 0)
		return; /* the disk is full: it will look killed */
}

/* It ended before it was ready: what it said is for the user. */
static int failed_start(pid_t pid, int log)
{
	char buf[4096];
	int st = 0;
	ssize_t n;

	while (waitpid(pid, &st, 0) < 0 && errno == EINTR)
		;
	lseek(log, 0, SEEK_SET);
	while ((n = read(log, buf, sizeof(buf))) > 0)
		if (write(STDERR_FILENO, buf, (size_t)n) < 0)
			break;
	unlinkat(dir_fd, tmp_log, 0);
	return WIFEXITED(st) && WEXITSTATUS(st) ? WEXITSTATUS(st) : EXIT_OURS;
}

static void in_background(struct monitor_config *cfg, int log, int pipe_end)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	dup2(null, 0);
	dup2(log, 1);
	dup2(log, 2);
	close(null);
	close(log);
	started_pipe = pipe_end;
	cfg->detached = true;
	cfg->tty = cfg->interactive = false;
	cfg->started = on_started;
	cfg->record_fd = &state_fd;
}

void state_go_on(struct monitor_config *cfg, int fd)
{
	state_fd = fd;
	cfg->detached = true;
	cfg->record_fd = &state_fd;
}

int state_detach(struct monitor_config *cfg, struct ctl_status *st)
{
	int p[2], log;
	pid_t pid;

	dir_fd = open_dir(true);
	if (dir_fd < 0)
		return EXIT_OURS;
	forget_old(dir_fd);
	snprintf(tmp_log, sizeof(tmp_log), "tmp.%d.%llu.log", (int)getpid(),
		 (unsigned long long)cli_start_ns);
	log = openat(dir_fd, tmp_log, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
	if (log < 0 || pipe2(p, O_CLOEXEC))
		return say_fail(EXIT_OURS, "-d: cannot make a log: %s", strerror(errno));
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return say_fail(EXIT_OURS, "-d: cannot fork: %s", strerror(errno));
	if (!pid) {
		close(p[0]);
		in_background(cfg, log, p[1]);
		return -1;
	}
	close(p[1]);
	ssize_t n = read(p[0], st, sizeof(*st));
	close(p[0]);
	int status = n == sizeof(*st) ? 0 : failed_start(pid, log);
	close(log);
	close(dir_fd);
	return status;
}
