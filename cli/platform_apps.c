/* SPDX-License-Identifier: ISC */
/* Verbs about apps: create, apps, info, destroy, open, maintenance, limits. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/client.h"
#include "lib/host/say.h"

static const struct option_def apps_options[] = {
	{P_QUIET, 'q', "quiet", NULL, "names only"}, PLATFORM_JSON, PLATFORM_HELP, PLATFORM_END};
static const struct option_def destroy_options[] = {
	PLATFORM_APP,
	{P_CONFIRM, 'c', "confirm", "APP", "do not ask: this app is meant"},
	PLATFORM_JSON,
	PLATFORM_HELP,
	PLATFORM_END};

/* --- create -------------------------------------------------------------------------------------------------------- */

/* One call of git, without a shell, silent; whether it did it. */
static bool run_git(const char *const *argv)
{
	int status = 1;
	pid_t pid = fork();

	if (!pid) {
		int null = open("/dev/null", O_RDWR);
		for (int fd = 0; fd < 3; fd++)
			dup2(null, fd);
		execvp("git", (char *const *)argv);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

/*
 * In a git repository: a remote, as Heroku's client makes one, and for pushes to this platform, and to it only, a helper that gives
 * git the token (`cowbell git-credential`).
 */
static void add_remote(const struct at *at, const char *dir, const char *url)
{
	char *git = textf("%s/.git", dir), *self = realpath("/proc/self/exe", NULL);
	const char *base = client_where(at->c)->url;

	if (!access(git, F_OK) && *url &&
	    run_git((const char *[]){"git", "-C", dir, "remote", "add", "--", "cowbell", url, NULL}) &&
	    self && !strchr(self, '\'') && !strncmp(url, base, strlen(base))) {
		char *key = textf("credential.%s.helper", base),
		     *helper = textf("!'%s' git-credential", self);
		run_git((const char *[]){"git", "-C", dir, "config", "--local", key, helper, NULL});
		free(key);
		free(helper);
	}
	free(git);
	free(self);
}

void app_remember(const struct at *at, const char *dir, const json_t *app)
{
	where_remember(dir, jstr(app, "name"));
	add_remote(at, dir ? dir : ".", jstr(app, "git_url"));
}

int app_create(const struct at *at, const char *name, const char *dir, json_t **out)
{
	json_t *body = json_object();

	if (name)
		json_object_set_new(body, "name", json_string(name));
	action_begin("Creating %s", name ? name : "app");
	int r = client_call(at->c, "POST", "/apps", body, out);
	json_decref(body);
	if (r)
		return r;
	const char *made = jstr(*out, "name");
	if (!where_app_name(made)) {
		action_fail();
		json_decref(*out);
		return say_fail(EXIT_API, "the platform answers with a name that none of its apps can have");
	}
	if (name)
		action_end("done");
	else
		action_end("done, %s", made);
	app_remember(at, dir, *out);
	return 0;
}

static int run_create(const struct at *at, const struct words *w)
{
	json_t *app;
	int r = app_create(at, w->n ? w->names[0] : w->value[P_APP], NULL, &app);

	if (r)
		return r;
	if (at->json) {
		show_json(app);
	} else {
		show_text(jstr(app, "web_url"), strlen(jstr(app, "web_url")));
		fputs(" | ", stdout);
		show_line(jstr(app, "git_url"));
	}
	json_decref(app);
	return 0;
}

/* --- apps, info -------------------------------------------------------------------------------------------------------- */

static int run_apps(const struct at *at, const struct words *w)
{
	json_t *apps, *me = NULL;
	int r = client_list(at->c, "/apps", &apps);

	if (r)
		return r;
	if (at->json) {
		show_json(apps);
	} else if (w->has[P_QUIET]) {
		for (size_t i = 0; i < json_array_size(apps); i++)
			show_line(jstr(json_array_get(apps, i), "name"));
	} else if (!json_array_size(apps)) {
		puts("You have no apps. Make one: cowbell push DIRECTORY");
	} else {
		r = client_call(at->c, "GET", "/account", NULL, &me);
		show_title("%s Apps", jstr(me, "email"));
		for (size_t i = 0; i < json_array_size(apps); i++) {
			const json_t *a = json_array_get(apps, i);
			char *line = textf("%s%s", jstr(a, "name"),
					   json_is_true(json_object_get(a, "maintenance")) ? " (maintenance)"
											   : "");
			show_line(line);
			free(line);
		}
	}
	json_decref(me);
	json_decref(apps);
	return r;
}

static char *formation_text(const json_t *formation)
{
	char *text = textf("%s", "");

	for (size_t i = 0; i < json_array_size(formation); i++) {
		const json_t *f = json_array_get(formation, i);
		char *more = textf("%s%s%s: %lld", text, i ? ", " : "", jstr(f, "type"),
				   (long long)jint(f, "quantity"));
		free(text);
		text = more;
	}
	return text;
}

static int run_info(const struct at *at, const struct words *w)
{
	json_t *app, *formation = NULL, *people = NULL;
	struct table t = {0};
	int r = app_call(at, "GET", "", NULL, &app);

	(void)w;
	if (r)
		return r;
	r = app_items(at, "/formation", &formation);
	if (!r)
		r = app_items(at, "/collaborators", &people);
	if (!r && at->json) {
		json_t *all = json_pack("{s:O,s:O,s:O}", "app", app, "formation", formation, "collaborators",
					people);
		show_json(all);
		json_decref(all);
	} else if (!r) {
		char *dynos = formation_text(formation);
		show_title("%s", jstr(app, "name"));
		for (size_t i = 0; i < json_array_size(people); i++) {
			const char *email = jstr2(json_array_get(people, i), "user", "email");
			if (strcmp(email, jstr2(app, "owner", "email")))
				table_row(&t, 2, "Collaborator:", email);
		}
		table_row(&t, 2, "Created At:", time_text(jstr(app, "created_at")));
		table_row(&t, 2, "Dynos:", *dynos ? dynos : "none: nothing was pushed yet");
		table_row(&t, 2, "Git URL:", jstr(app, "git_url"));
		if (json_is_true(json_object_get(app, "maintenance")))
			table_row(&t, 2, "Maintenance:", "on");
		table_row(&t, 2, "Owner:", jstr2(app, "owner", "email"));
		table_row(&t, 2, "Slug Size:", bytes_text((uint64_t)jint(app, "slug_size")));
		table_row(&t, 2, "Web URL:", jstr(app, "web_url"));
		table_print(&t);
		free(dynos);
	}
	json_decref(app);
	json_decref(formation);
	json_decref(people);
	return r;
}

/* --- destroy, open ------------------------------------------------------------------------------------------------------ */

static int run_destroy(const struct at *at, const struct words *w)
{
	struct at meant = *at;
	int r;

	if (w->n)
		meant.app = w->names[0];
	if (!meant.app)
		return say_fail(EXIT_OURS, "destroy: which app? Say it by -a APP");
	r = confirm(&meant, w, "destroy the app with all of its releases and settings");
	if (r)
		return r;
	r = make_change(&meant, &(struct change){.method = "DELETE", .rest = ""}, "Destroying %s", meant.app);
	if (!r)
		where_forget(meant.app);
	return r;
}

static int run_open(const struct at *at, const struct words *w)
{
	json_t *app;
	int r = app_call(at, "GET", "", NULL, &app);
	const char *path = w->n ? w->names[0] : "";

	if (r)
		return r;
	const char *base = jstr(app, "web_url");
	size_t n = strlen(base);
	char *url = textf("%.*s/%s", (int)(n && base[n - 1] == '/' ? n - 1 : n), base,
			  *path == '/' ? path + 1 : path);
	if (at->json) {
		json_t *o = json_pack("{s:s}", "url", url);
		show_json(o);
		json_decref(o);
	} else {
		show_line(url);
	}
	fflush(stdout);
	if (!at->json && (getenv("DISPLAY") || getenv("WAYLAND_DISPLAY")) && !strncmp(url, "http", 4) &&
	    !fork()) {
		execlp("xdg-open", "xdg-open", url, (char *)NULL);
		_exit(127);
	}
	free(url);
	json_decref(app);
	return 0;
}

/* --- maintenance ---------------------------------------------------------------------------------------------------------- */

static int set_maintenance(const struct at *at, bool on)
{
	json_t *body = json_pack("{s:b}", "maintenance", on);

	return make_change(at, &(struct change){"PATCH", "", .body = body}, "%s maintenance mode for %s",
			   on ? "Enabling" : "Disabling", at->app);
}

static int run_maintenance_on(const struct at *at, const struct words *w)
{
	(void)w;
	return set_maintenance(at, true);
}

static int run_maintenance_off(const struct at *at, const struct words *w)
{
	(void)w;
	return set_maintenance(at, false);
}

static int run_maintenance(const struct at *at, const struct words *w)
{
	json_t *app;
	int r = app_call(at, "GET", "", NULL, &app);

	(void)w;
	if (r)
		return r;
	bool on = json_is_true(json_object_get(app, "maintenance"));
	if (at->json)
		printf("{\"maintenance\": %s}\n", on ? "true" : "false");
	else
		puts(on ? "on" : "off");
	json_decref(app);
	return 0;
}

/* --- limits ------------------------------------------------------------------------------------------------------------------ */

static int show_limits(const struct at *at, const json_t *limits)
{
	struct table t = {0};
	const char *key;
	json_t *v;

	if (at->json) {
		show_json(limits);
		return 0;
	}
	show_title("%s Limits", at->app);
	json_object_foreach((json_t *)limits, key, v)
	{
		char *text = json_is_string(v) ? textf("%s", json_string_value(v))
					       : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
		table_row(&t, 2, key, text);
		free(text);
	}
	table_print(&t);
	return 0;
}

static int run_limits(const struct at *at, const struct words *w)
{
	json_t *limits;
	int r = app_call(at, "GET", "/limits", NULL, &limits);

	(void)w;
	if (!r) {
		r = show_limits(at, limits);
		json_decref(limits);
	}
	return r;
}

/* K=V; the platform knows what each must be: it takes texts such as 512M and 30s. */
static int run_limits_set(const struct at *at, const struct words *w)
{
	json_t *body = json_object(), *limits = NULL;
	int r = 0;

	for (int i = 0; i < w->n && !r; i++) {
		const char *eq = strchr(w->names[i], '=');
		if (!eq || eq == w->names[i]) {
			r = say_fail(EXIT_OURS, "limits set: '%s' is not K=V; all limits: cowbell limits",
				     w->names[i]);
			break;
		}
		char *key = textf("%.*s", (int)(eq - w->names[i]), w->names[i]);
		json_t *v = strcmp(eq + 1, "null") ? json_string(eq + 1) : json_null();
		json_object_set_new(body, key, v);
		free(key);
	}
	if (!r)
		r = make_change(
			at, &(struct change){"PATCH", "/limits", .body = json_incref(body), .out = &limits},
			"Setting limits of %s", at->app);
	if (!r) {
		action_end("done");
		r = show_limits(at, limits);
	}
	json_decref(body);
	json_decref(limits);
	return r;
}

const struct verb apps_verbs[] = {
	{"create", app_options,
	 "[NAME] [--json]\n\nMakes an app on the platform; without NAME a name is found. This directory "
	 "remembers it.",
	 0, 1, MAY_APP, run_create, NULL},
	{"apps", apps_options, "[COMMAND] [--json]\n\nLists your apps.", 0, 0, NO_APP, run_apps, NULL},
	{"apps create", app_options, "[NAME]\n\nAs cowbell create.", 0, 1, MAY_APP, run_create,
	 "make an app"},
	{"apps info", app_options, "[-a APP]\n\nAs cowbell info.", 0, 0, APP, run_info, "show an app"},
	{"apps open", app_options, "[PATH] [-a APP]\n\nAs cowbell open.", 0, 1, APP, run_open,
	 "tell an app's URL"},
	{"apps destroy", destroy_options, "[-a APP]\n\nAs cowbell destroy.", 0, 1, MAY_APP, run_destroy,
	 "remove an app"},
	{"info", app_options, "[-a APP] [--json]\n\nShows an app: its URL, its processes, its size.", 0, 0,
	 APP, run_info, NULL},
	{"destroy", destroy_options,
	 "[APP] [--confirm APP]\n\nRemoves an app with all that belongs to it. Nothing brings it back.", 0, 1,
	 MAY_APP, run_destroy, NULL},
	{"open", app_options,
	 "[PATH] [-a APP]\n\nTells the URL of an app; where there is a display, a browser opens it.", 0, 1,
	 APP, run_open, NULL},
	{"maintenance", app_options,
	 "[on|off] [-a APP]\n\nShows or sets whether visitors see a maintenance page instead of the app.", 0,
	 0, APP, run_maintenance, NULL},
	{"maintenance on", app_options, "[-a APP]\n\nVisitors see a maintenance page.", 0, 0, APP,
	 run_maintenance_on, "show a maintenance page"},
	{"maintenance off", app_options, "[-a APP]\n\nVisitors see the app again.", 0, 0, APP,
	 run_maintenance_off, "show the app again"},
	{"limits", app_options, "[COMMAND] [-a APP] [--json]\n\nShows what each instance of an app may use.",
	 0, 0, APP, run_limits, NULL},
	{"limits set", app_options,
	 "K=V... [-a APP]\n\nSets limits of an app; K=null gives the default back.", 1, -1, APP,
	 run_limits_set, "change some"},
	{NULL, NULL, NULL, 0, 0, NO_SERVER, NULL, NULL},
};
