/* SPDX-License-Identifier: ISC */
/*
 * `cowbell serve`: the order in which the parts begin and end.
 *
 *   begin   configuration, data directory and its lock, store, model, builds, logs, scheduler, and the listeners last: who can
 *           connect is served
 *   end     SIGTERM, SIGINT or SIGHUP (its terminal closed): no new connections, those that are here finish; then dynos get SIGTERM and their time;
 *           builds are cancelled; the store is closed; the loop ends. A second signal ends at once; nothing acknowledged is lost by that.
 *
 * One server for each data directory: a lock of the file `lock` in it (flock), which the kernel gives back however we end.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "lib/host/strings.h"
#include "platform/api.h"
#include "platform/build.h"
#include "platform/http.h"
#include "platform/logs.h"
#include "platform/metrics.h"
#include "platform/model.h"
#include "platform/notify.h"
#include "platform/sched.h"
#include "platform/settings.h"
#include "platform/store.h"

uv_loop_t *loop;

static bool stopping;
static uv_signal_t on_end[3];

bool platform_stopping(void)
{
	return stopping;
}

/* --- begin -------------------------------------------------------------------------------------------------- */

/* Directories of the path, each only for us. Those that are there stay as they are. */
static int make_path(const char *path)
{
	char p[PATH_MAX];

	if (snprintf(p, sizeof(p), "%s", path) >= (int)sizeof(p))
		return -ENAMETOOLONG;
	for (char *slash = strchr(p + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(p, 0700) && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return mkdir(p, 0700) && errno != EEXIST ? -errno : 0;
}

/* Who has the lock, as it wrote into the file; for the message only. */
static int locked_by_another(int fd)
{
	char pid[16] = "";
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	pid[n > 0 ? strspn(pid, "0123456789") : 0] = 0;
	return say_fail(EXIT_OURS,
			"serve: another server%s%s%s is running on %s (give another --data, or end that one)",
			*pid ? ", process " : "", pid, *pid ? "," : "", config.data_dir);
}

static int lock_data(void)
{
	char *path = textf("%s/lock", config.data_dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600); /* open as long as we live */

	if (fd < 0)
		return say_fail(EXIT_OURS, "serve: %s: %s", path, strerror(errno));
	free(path);
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK
			       ? locked_by_another(fd)
			       : say_fail(EXIT_OURS, "serve: %s/lock: %s", config.data_dir, strerror(errno));
	if (ftruncate(fd, 0) || dprintf(fd, "%d\n", (int)getpid()) < 0)
		return say_fail(EXIT_OURS, "serve: %s/lock: %s", config.data_dir, say_errno(errno));
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	if (f->level)
		remove(path); /* what cannot be removed is told by whoever needs its place */
	return 0;
}

/* All that is in a directory, not the directory; links are removed, not followed. */
static void empty(const char *dir)
{
	nftw(dir, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/*
 * The data directory is ours alone, with what the parts expect in it. run/ and tmp/ are of the life of one server:
 * what an earlier one left there is garbage, and is removed.
 */
static int open_data(void)
{
	static const char *const dirs[] = {"share", "cache", "git", "run", "tmp", "certs"};
	int err = make_path(config.data_dir), status;
	struct stat st;

	if (err)
		return say_fail(EXIT_OURS, "serve: data directory %s: %s", config.data_dir, say_errno(-err));
	config.data_dir = realpath(config.data_dir, NULL);
	if (!config.data_dir || stat(config.data_dir, &st))
		return say_fail(EXIT_OURS, "serve: data directory: %s", strerror(errno));
	if (st.st_uid != geteuid())
		return say_fail(EXIT_OURS, "serve: data directory %s belongs to another user",
				config.data_dir);
	if (st.st_mode & 077 && chmod(config.data_dir, 0700))
		return say_fail(EXIT_OURS, "serve: data directory %s: %s", config.data_dir, strerror(errno));
	status = lock_data();
	for (size_t i = 0; !status && i < sizeof(dirs) / sizeof(*dirs); i++) {
		char *dir = textf("%s/%s", config.data_dir, dirs[i]);
		if (mkdir(dir, 0700) && errno != EEXIST)
			status = say_fail(EXIT_OURS, "serve: %s: %s", dir, say_errno(errno));
		else if (!strcmp(dirs[i], "run") || !strcmp(dirs[i], "tmp"))
			empty(dir);
		free(dir);
	}
	return status;
}

/* Each connection, each instance takes some: as many as we may have. */
static void raise_limits(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
	if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur < 4096)
		plog("warning", NULL,
		     "only %llu files may be open at one time (ulimit -n); connections will be refused under "
		     "load",
		     (unsigned long long)r.rlim_cur);
}

static int open_store(void)
{
	char *path = textf("%s/platform.db", config.data_dir);
	int status = store_open(path, config.sync);

	free(path);
	return status;
}

static int open_parts(void)
{
	int status = open_data();

	if (!status)
		status = open_store();
	if (!status)
		status = model_open();
	if (!status && config_new_admin_token())
		status = model_new_admin_token();
	if (!status)
		status = build_open();
	if (status)
		return status;
	logs_open();
	sched_open();
	api_certs_open();
	return front_open();
}

/* --- end ---------------------------------------------------------------------------------------------------- */

static void dynos_gone(void)
{
	build_stop();
	store_close();
	plog("info", NULL, "stopped");
	uv_stop(loop);
}

static void front_gone(void)
{
	notify_supervisor("STOPPING=1\nSTATUS=Ending the processes of apps");
	sched_drain_all(dynos_gone);
}

void platform_stop(void)
{
	if (stopping)
		return;
	stopping = true;
	plog("info", NULL, "stopping: requests in flight are finished first (once more: at once)");
	notify_supervisor("STOPPING=1\nSTATUS=Finishing requests in flight");
	logs_stop(); /* streams that would not end by themselves */
	dashboard_stop();
	front_stop(front_gone);
}

static void on_signal(uv_signal_t *s, int number)
{
	if (!stopping) {
		platform_stop();
		return;
	}
	plog("info", NULL, "stopped at once, by a second signal");
	_exit(128 + number);
}

/* --- what a human sees at the start --------------------------------------------------------------------------- */

/* For clients of this user on this machine: data_dir/url, beside the token, says where we are. */
static void tell_url(const char *url)
{
	char *path = textf("%s/url", config.data_dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || dprintf(fd, "%s\n", url) < 0)
		plog("warning", NULL, "%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	free(path);
}

static void greet(void)
{
	uint16_t port = front_port(false), tls = front_port(true);
	char *url = textf("%s://%s%s:%u", port ? "http" : "https",
			  strcmp(config.domain, "localhost") ? "api." : "", config.domain, port ? port : tls);

	char *near = port ? textf("http://localhost:%u", port) : NULL;
	tell_url(near ? near : url);
	free(near);
	if (strcmp(config.log_format, "json") && isatty(STDERR_FILENO))
		fprintf(stderr,
			"Cowbell serves apps at %s\n"
			"  token      %s/admin-token\n"
			"  log in     cowbell login %s\n"
			"  then       cowbell push        in the directory of an app\n"
			"  dashboard  %s/dashboard\n",
			url, config.data_dir, url, url);
	else
		plog("info", NULL, "serving %zu apps at %s, data in %s, the admin's token in %s/admin-token",
		     model_n_apps(), url, config.data_dir, config.data_dir);
	free(url);
}

int main(int argc, char **argv)
{
	int status = config_open(argc, argv);

	if (status >= 0)
		return status;
	umask(077);
	/* Sockets of the service manager, and what else we were started with: none of it is for our children. */
	if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC))
		plog("warn", NULL, "descriptors that were inherited go on to children: %s", strerror(errno));
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, "cowbell-serve");
	loop = uv_default_loop();
	raise_limits();
	/* Signals first: one that comes while the store is read is served when the loop begins. */
	for (int i = 0; i < 3; i++) {
		static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
		uv_signal_init(loop, &on_end[i]);
		uv_signal_start(&on_end[i], on_signal, numbers[i]);
	}
	status = open_parts();
	if (status) {
		store_close();
		return status;
	}
	greet();
	notify_supervisor("READY=1\nSTATUS=Serving");
	notify_watchdog();
	uv_run(loop, UV_RUN_DEFAULT);
	return stopping ? 0 : EXIT_OURS;
}
