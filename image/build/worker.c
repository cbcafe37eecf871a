/* SPDX-License-Identifier: ISC */
/*
 * `cowbell build --worker`: a builder that a platform keeps, one for each build that may run at a time.
 *
 * It reads requests from standard input, one JSON object a line, and answers on standard output with the lines of `cowbell build --json` and,
 * last, an end. One request at a time; the next is read when the one before has ended.
 *
 *   {"op":"build","tag":"slug-1","tar":"/data/tmp/a","strip":true,"max_bytes":N,"max_entries":N,"step_timeout":S,"lazy":true}
 *                       "tree" in place of "tar": a directory. "url" besides "tar": it is fetched into that file first. "checksum".
 *   {"op":"remove","names":["slug-1"]}        names that are not there are none to remove
 *   {"op":"names","begin":"slug-"}            {"event":"name","name":...} for each that begins so
 *   {"op":"prune"}
 *   {"event":"end","status":0}
 *
 * Each request is worked on by a child that is forked from here, where the program is loaded and relocated already: a leak or a crash ends one
 * build, and what a build leaves running is killed before the end is told: we are the subreaper of all of it. Who wants a build
 * ended kills our process group.
 *
 * lazy: small blobs and the name are not waited for (store_sync_later()). Whoever asked for that does a syncfs(2) of the store's file system
 * before it tells anybody that the build is done; many builds share one.
 *
 * The platform is trusted, the tar, the tree and the URL are not.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image/build/source.h"
#include "lib/host/say.h"

#define REQUEST_MAX (256u << 10)
#define BUILD_NICE  5 /* instances that serve go first */

/* --- one build, in its own process -------------------------------------------------------------------------------- */

static uint64_t number(const json_t *q, const char *key, uint64_t otherwise)
{
	json_int_t v = json_integer_value(json_object_get(q, key));

	return v > 0 ? (uint64_t)v : otherwise;
}

static const char *text(const json_t *q, const char *key)
{
	return json_string_value(json_object_get(q, key));
}

static void limit_files(uint64_t bytes)
{
	struct rlimit r = {bytes, bytes};

	if (setrlimit(RLIMIT_FSIZE, &r))
		say("a limit of the size of files cannot be set: %s", strerror(errno));
}

static int build_dir(const json_t *q, const struct limits *lim, const char *dir)
{
	struct image_build b = {.dir = dir,
				.tag = text(q, "tag"),
				.timeout_ns = lim->timeout_ns,
				.max_bytes = lim->max_bytes,
				.max_entries = lim->max_entries,
				.json = true};

	return image_build(&b);
}

static int build_tar(struct store *s, const json_t *q, const struct limits *lim)
{
	const char *tar = text(q, "tar"), *url = text(q, "url"), *sum = text(q, "checksum");
	char dir[4096], top[4096];
	int status = url ? source_download(url, tar, lim->max_bytes) : 0;

	if (!status && sum)
		status = source_check(tar, sum);
	if (status)
		return status;
	int err = store_scratch(s, dir, sizeof(dir));
	int fd = err ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return out_fail(EXIT_OURS, "The source cannot be unpacked: %s",
				say_errno(err ? -err : errno));
	status = source_unpack(tar, fd, lim);
	strcpy(top, dir);
	if (!status && json_is_true(json_object_get(q, "strip")))
		source_top(fd, top, sizeof(top));
	close(fd);
	if (!status)
		status = chdir(top) ? out_fail(EXIT_OURS, "The source cannot be read: %s", say_errno(errno))
				    : build_dir(q, lim,
						"."); /* its path here means nothing to who reads messages */
	if (chdir("/"))
		say("/: %s", strerror(errno));
	store_rmtree(dir);
	return status;
}

static int build(const json_t *q)
{
	struct limits lim = {.max_bytes = number(q, "max_bytes", 1ull << 30),
			     .max_entries = number(q, "max_entries", 10000),
			     .timeout_ns = number(q, "step_timeout", 900) * 1000000000u};
	const char *tree = text(q, "tree");

	out_json(true);
	out_hold_back();
	if (!text(q, "tag") || (!text(q, "tar") && !tree))
		return out_fail(EXIT_OURS, "build --worker: not a request");
	setpriority(PRIO_PROCESS, 0, BUILD_NICE);
	limit_files(lim.max_bytes > 1ull << 33 ? lim.max_bytes
					       : 1ull << 33); /* a runtime's layer may be large */
	if (json_is_true(json_object_get(q, "lazy")))
		store_sync_later();
	if (tree)
		return build_dir(q, &lim, tree);
	struct store *s = store_open();
	int status = s ? build_tar(s, q, &lim) : EXIT_OURS;
	store_close(s);
	return status;
}

/* --- other requests --------------------------------------------------------------------------------------------- */

static int remove_names(const json_t *q)
{
	struct store *s = store_open();
	size_t i;
	json_t *name;

	if (!s)
		return EXIT_OURS;
	store_sync_later(); /* a name that comes back after a power failure is removed again */
	json_array_foreach(json_object_get(q, "names"), i, name)
	{
		char *ref = textf("%s:latest", json_is_string(name) ? json_string_value(name) : "");
		int r = store_ref_remove(s, ref);
		if (r && r != -ENOENT)
			say("%s: %s", ref, say_errno(-r));
		free(ref);
	}
	store_close(s);
	return 0;
}

static int list_names(const json_t *q)
{
	struct strings names = {0};
	struct store *s = store_open();
	int r = s ? store_refs_like(s, text(q, "begin") ? text(q, "begin") : "", ":latest", &names) : -1;

	for (size_t i = 0; i < names.n; i++) /* of such characters that nothing is to be escaped */
		printf("{\"event\":\"name\",\"name\":\"%.*s\"}\n", (int)strlen(names.v[i]) - 7, names.v[i]);
	strings_free(&names);
	store_close(s);
	return r ? EXIT_OURS : 0;
}

static int work(const json_t *q)
{
	const char *op = text(q, "op");

	if (op && !strcmp(op, "build"))
		return build(q);
	if (op && !strcmp(op, "remove"))
		return remove_names(q);
	if (op && !strcmp(op, "names"))
		return list_names(q);
	setpriority(PRIO_PROCESS, 0, BUILD_NICE);
	if (op && !strcmp(op, "prune"))
		return image_prune(false, false, true);
	return say_fail(EXIT_OURS, "build --worker: not a request");
}

/* --- the worker -------------------------------------------------------------------------------------------------- */

static void kill_child(const char *name)
{
	char path[64], line[256], *close_paren;
	FILE *f;
	int ppid;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", name);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(line, sizeof(line), f) && (close_paren = strrchr(line, ')')) &&
	    sscanf(close_paren + 1, " %*c %d", &ppid) == 1 && ppid == getpid())
		kill(atoi(name), SIGKILL);
	fclose(f);
}

/* What a build left behind became our child. Usually nothing: one call says so. */
static void end_leftovers(void)
{
	siginfo_t info;

	while (!waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || errno == EINTR) {
		DIR *d = opendir("/proc");
		for (struct dirent *e; d && (e = readdir(d));)
			if (*e->d_name >= '1' && *e->d_name <= '9')
				kill_child(e->d_name);
		if (d)
			closedir(d);
		if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD)
			break;
	}
}

static int run_child(const json_t *q)
{
	int status = 0;
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		return say_fail(EXIT_OURS, "build --worker: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(EXIT_OURS);
		int null = open("/dev/null", O_RDONLY);
		if (null > 0)
			dup2(null, 0);
		status = work(q);
		fflush(stdout);
		_exit(status);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_OURS;
	end_leftovers();
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int image_build_worker(void)
{
	static char line[REQUEST_MAX];
	FILE *in = fdopen(dup(0), "r");

	if (!in)
		return say_fail(EXIT_OURS, "build --worker: %s", strerror(errno));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setvbuf(stdout, NULL, _IOFBF, 65536);
	while (fgets(line, sizeof(line), in)) {
		json_t *q = strchr(line, '\n') ? json_loads(line, 0, NULL) : NULL;
		int status = q ? run_child(q) : say_fail(EXIT_OURS, "build --worker: not a request");
		json_decref(q);
		printf("{\"event\":\"end\",\"status\":%d}\n", status);
		if (fflush(stdout))
			break;
	}
	fclose(in);
	return 0;
}
