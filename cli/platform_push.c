/* SPDX-License-Identifier: ISC */
/*
 * `cowbell push [DIR]`: deliver a directory as an app.
 *
 *   POST /sources          where to put the tar           POST /apps/APP/builds   build it
 *   PUT  the tar            streamed (platform_tar.c)      GET  its output         as it comes; then the build's status
 *
 * Without an app one is made, named after the directory, and remembered there. The old release goes on serving until the new one answers;
 * a build that fails changes nothing, and the status is 1.
 */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/client.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

static const struct option_def push_options[] = {
	PLATFORM_APP,
	{P_VERSION, 0, "version", "TEXT", "what the release is said to be, such as a commit"},
	{P_NO_FOLLOW, 0, "no-follow", NULL, "do not wait for the build"},
	PLATFORM_JSON,
	PLATFORM_HELP,
	PLATFORM_END};

/* A name for the app of a directory: its own, made to fit. malloc, or NULL. */
static char *name_of_dir(const char *dir)
{
	char *path = realpath(dir, NULL), *slash = path ? strrchr(path, '/') : NULL, *name = calloc(1, 32);
	size_t n = 0;

	for (const char *p = slash ? slash + 1 : ""; name && *p && n < 24; p++) {
		char ch = (char)tolower((unsigned char)*p);
		if ((ch >= 'a' && ch <= 'z') || (n && ch >= '0' && ch <= '9'))
			name[n++] = ch;
		else if (n && name[n - 1] != '-')
			name[n++] = '-';
	}
	while (n && name[n - 1] == '-')
		name[--n] = 0;
	free(path);
	if (name && where_app_name(name))
		return name;
	free(name);
	return NULL;
}

/* Whether that name is free is found out by asking whether the platform has such an app; if not ours, it tells nothing. */
static int make_app(const struct at *at, const char *dir, char **app)
{
	char *name = name_of_dir(dir);
	json_t *made = NULL, *there = NULL;
	int r;

	if (name) {
		char *path = textf("/apps/%s", name);
		r = client_try(at->c, "GET", path, NULL, 404, &there);
		free(path);
		if (r) {
			free(name);
			return r;
		}
		json_t *body = json_pack("{s:s}", "name", name);
		if (!there) {
			action_begin("Creating %s", name);
			r = client_try(at->c, "POST", "/apps", body, 422, &made);
			if (!r && made) {
				action_end("done");
				app_remember(at, dir, made);
			} else if (!r) {
				action_end("that name is taken");
			}
		}
		json_decref(body);
		json_decref(there);
		if (r) {
			free(name);
			return r;
		}
	}
	r = made ? 0 : app_create(at, NULL, dir, &made);
	free(name);
	if (!r)
		*app = textf("%s", jstr(made, "name"));
	json_decref(made);
	return r;
}

/* The source, on the platform: *get is where it fetches it from. */
static int upload(const struct at *at, struct tar *t, char **get)
{
	json_t *source = NULL;
	char size[64];
	int r = client_call(at->c, "POST", "/sources", NULL, &source);

	if (r)
		return r;
	const json_t *blob = json_object_get(source, "source_blob");
	snprintf(size, sizeof(size), "%llu file%s, %s", (unsigned long long)tar_files(t),
		 tar_files(t) == 1 ? "" : "s", bytes_text(tar_bytes(t)));
	progress_begin("uploading", tar_bytes(t), true);
	r = client_put(at->c, jstr(blob, "put_url"), tar_read, t);
	progress_end();
	if (!r) {
		action_begin("Uploading %s", size);
		action_end("done");
		*get = textf("%s", jstr(blob, "get_url"));
	}
	json_decref(source);
	return r;
}

/* To standard output, or to standard error where that is for JSON. Progress bars of builders (a lone CR) pass through show_text(). */
static bool show_output(void *arg, const char *data, size_t n)
{
	const struct at *at = arg;

	if (at->json) {
		fwrite(data, 1, n, stderr);
		return true;
	}
	show_text(data, n);
	return !fflush(stdout);
}

/* Its output until its end, and what became of it: *build is replaced. */
static int follow(const struct at *at, json_t **build)
{
	const char *url = jstr(*build, "output_stream_url");
	int r = *url ? client_stream(at->c, url, "text/plain, */*", show_output, (void *)at) : 0;

	for (int i = 0; !r && i < 600; i++) { /* the output ends a moment before the release is there */
		char *rest = textf("/builds/%s", jstr(*build, "id"));
		json_t *now = NULL;
		r = app_call(at, "GET", rest, NULL, &now);
		free(rest);
		if (r)
			break;
		json_decref(*build);
		*build = now;
		if (strcmp(jstr(now, "status"), "pending"))
			break;
		usleep(i < 20 ? 20000 : 500000);
	}
	return r;
}

static int finish(const struct at *at, const json_t *build)
{
	if (at->json)
		show_json(build);
	if (strcmp(jstr(build, "status"), "succeeded"))
		return say_fail(
			1, "push: the build of %s failed%s", at->app,
			*jstr2(build, "release", "id") ? "" : "; what was released before goes on serving");
	return 0;
}

static int deliver(const struct at *at, const struct words *w, struct tar *t)
{
	char *get = NULL;
	json_t *build = NULL;
	int r = upload(at, t, &get);

	if (!r) {
		json_t *body = json_pack("{s:{s:s,s:s*}}", "source_blob", "url", get, "version",
					 w->value[P_VERSION]);
		r = app_call(at, "POST", "/builds", body, &build);
		json_decref(body);
	}
	free(get);
	if (!r && w->has[P_NO_FOLLOW]) {
		at->json ? show_json(build) : show_line(jstr(build, "id"));
	} else if (!r) {
		r = follow(at, &build);
		if (!r)
			r = finish(at, build);
	}
	json_decref(build);
	return r;
}

static int run_push(const struct at *at, const struct words *w)
{
	const char *dir = w->n ? w->names[0] : ".";
	bool local = where_is_local(client_where(at->c)->url);
	struct at here = *at;
	struct stat st;
	struct tar *t;
	char *made = NULL;
	int r;

	if (stat(dir, &st) || !S_ISDIR(st.st_mode))
		return say_fail(EXIT_OURS,
				"push: '%s' is no directory; an app is a directory with its program in it",
				dir);
	if (at->json)
		progress_off();
	r = tar_open(dir, !local, &t); /* before an app is made that nothing can be pushed to */
	if (r)
		return r;
	if (!at->app) {
		r = make_app(at, dir, &made);
		here.app = made;
	}
	if (!r)
		r = deliver(&here, w, t);
	tar_close(t);
	free(made);
	return r;
}

const struct verb push_verbs[] = {
	{"push", push_options,
	 "[DIR] [-a APP] [--version TEXT] [--json]\n\nDelivers a directory (.) as an app of the platform: "
	 "sends "
	 "it, shows the build, which tells the URL.\nWithout an app one is made, and remembered in the "
	 "directory.",
	 0, 1, DIR_APP, run_push, NULL},
	{NULL, NULL, NULL, 0, 0, NO_SERVER, NULL, NULL},
};
