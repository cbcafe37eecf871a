/* SPDX-License-Identifier: ISC */
/* `cowbell releases`, `rollback`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "lib/host/say.h"

static const struct option_def list_options[] = {PLATFORM_APP,
						 {P_NUM, 'n', "num", "N", "so many, the newest (15)"},
						 PLATFORM_JSON,
						 PLATFORM_HELP,
						 PLATFORM_END};

static int newest_first(const void *a, const void *b)
{
	json_int_t x = jint(*(json_t *const *)a, "version"), y = jint(*(json_t *const *)b, "version");

	return x > y ? -1 : x < y;
}

/* All, newest first; each is borrowed from *list. malloc. */
static int sorted(const struct at *at, json_t **list, json_t ***out, size_t *n)
{
	int r = app_items(at, "/releases", list);

	if (r)
		return r;
	*n = json_array_size(*list);
	*out = calloc(*n + 1, sizeof(**out));
	if (!*out)
		return say_fail(EXIT_OURS, "out of memory");
	for (size_t i = 0; i < *n; i++)
		(*out)[i] = json_array_get(*list, i);
	qsort(*out, *n, sizeof(**out), newest_first);
	return 0;
}

static char *described(const json_t *r)
{
	const char *status = jstr(r, "status");

	return textf("%s%s", jstr(r, "description"),
		     !strcmp(status, "failed")	  ? " (release command failed)"
		     : !strcmp(status, "pending") ? " (release command is running)"
						  : "");
}

static int run_releases(const struct at *at, const struct words *w)
{
	json_t *list, **v = NULL;
	struct table t = {0};
	size_t n, most = w->has[P_NUM] ? strtoul(w->value[P_NUM], NULL, 10) : 15;
	json_int_t current = 0;
	int r = sorted(at, &list, &v, &n);

	if (r)
		return r;
	for (size_t i = 0; i < n; i++)
		if (json_is_true(json_object_get(v[i], "current")))
			current = jint(v[i], "version");
	if (at->json) {
		json_t *some = json_array();
		for (size_t i = 0; i < n && i < most; i++)
			json_array_append(some, v[i]);
		show_json(some);
		json_decref(some);
	} else if (!n) {
		printf("%s has no releases.\n", at->app);
	} else {
		show_title("%s Releases - Current: v%lld", at->app, (long long)current);
		for (size_t i = 0; i < n && i < most; i++) {
			char *version = textf("v%lld", (long long)jint(v[i], "version")),
			     *what = described(v[i]);
			table_row(&t, 4, version, what, jstr2(v[i], "user", "email"),
				  time_text(jstr(v[i], "created_at")));
			free(version);
			free(what);
		}
		table_print(&t);
	}
	free(v);
	json_decref(list);
	return 0;
}

/* "v3" or "3". */
static bool version_of(const char *s, unsigned *v)
{
	char *end;
	unsigned long n = strtoul(s + (*s == 'v'), &end, 10);

	*v = (unsigned)n;
	return !*end && n > 0 && n < 1000000000;
}

static int run_info(const struct at *at, const struct words *w)
{
	json_t *list, **v = NULL, *found = NULL;
	struct table t = {0};
	size_t n;
	unsigned version = 0;
	int r;

	if (w->n && !version_of(w->names[0], &version))
		return say_fail(EXIT_OURS, "releases info: '%s' is no release, such as v3", w->names[0]);
	r = sorted(at, &list, &v, &n);
	if (r)
		return r;
	for (size_t i = 0; i < n && !found; i++)
		if (version ? jint(v[i], "version") == version
			    : json_is_true(json_object_get(v[i], "current")) || n == 1)
			found = v[i];
	if (!found)
		r = say_fail(EXIT_API, "%s has no such release; all: cowbell releases -a %s", at->app,
			     at->app);
	else if (at->json)
		show_json(found);
	else {
		show_title("Release v%lld", (long long)jint(found, "version"));
		char *what = described(found);
		table_row(&t, 2, "By:", jstr2(found, "user", "email"));
		table_row(&t, 2, "Change:", what);
		table_row(&t, 2, "When:", time_text(jstr(found, "created_at")));
		table_print(&t);
		free(what);
	}
	free(v);
	json_decref(list);
	return r;
}

static int run_rollback(const struct at *at, const struct words *w)
{
	json_t *list, **v = NULL, *made = NULL;
	unsigned version = 0;
	size_t n;
	int r;

	if (w->n && !version_of(w->names[0], &version))
		return say_fail(EXIT_OURS, "rollback: '%s' is no release, such as v3", w->names[0]);
	r = sorted(at, &list, &v, &n);
	if (r)
		return r;
	const char *id = NULL;
	bool behind = false;
	for (size_t i = 0; i < n && !id; i++) {
		bool good = !strcmp(jstr(v[i], "status"), "succeeded") || !*jstr(v[i], "status");
		if (version ? jint(v[i], "version") == version : behind && good) {
			version = (unsigned)jint(v[i], "version");
			id = jstr(v[i], "id");
		}
		behind |= json_is_true(json_object_get(v[i], "current"));
	}
	if (!id)
		r = say_fail(EXIT_API, "%s has no %s; all: cowbell releases -a %s", at->app,
			     version ? "such release" : "earlier release", at->app);
	if (!r) {
		json_t *body = json_pack("{s:s}", "release", id);
		r = make_change(at, &(struct change){"POST", "/releases", .body = body, .out = &made},
				"Rolling back %s to v%u", at->app, version);
	}
	if (!r) {
		action_end("done, v%lld", (long long)jint(made, "version"));
		if (at->json)
			show_json(made);
	}
	json_decref(made);
	free(v);
	json_decref(list);
	return r;
}

const struct verb release_verbs[] = {
	{"releases", list_options,
	 "[COMMAND] [-a APP] [--json]\n\nLists the releases of an app, newest first.", 0, 0, APP,
	 run_releases, NULL},
	{"releases info", app_options,
	 "[VERSION] [-a APP]\n\nShows a release, the current one if none is named.", 0, 1, APP, run_info,
	 "show one"},
	{"releases rollback", app_options, "[VERSION] [-a APP]\n\nAs cowbell rollback.", 0, 1, APP,
	 run_rollback, "go back to one"},
	{"rollback", app_options,
	 "[VERSION] [-a APP]\n\nMakes an earlier release the current one again: its code and its config vars "
	 "as they\nwere; the one before the current one if none is named. That is a new release.",
	 0, 1, APP, run_rollback, NULL},
	{NULL, NULL, NULL, 0, 0, NO_SERVER, NULL, NULL},
};
