/* SPDX-License-Identifier: ISC */
/* `cowbell config`: the variables of an app. Their values are secrets: they go over the connection, and to standard output if asked. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "lib/host/say.h"

static const struct option_def show_options[] = {
	PLATFORM_APP,
	{P_SHELL, 's', "shell", NULL, "as K=V lines that a shell reads"},
	PLATFORM_JSON,
	PLATFORM_HELP,
	PLATFORM_END};

/* K='V' with what a shell would take for its own made harmless. */
static void put_shell(const char *key, const char *v)
{
	printf("%s=", key);
	if (*v && strspn(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+,-") ==
			  strlen(v)) {
		puts(v);
		return;
	}
	putchar('\'');
	for (; *v; v++)
		*v == '\'' ? fputs("'\\''", stdout) : putchar(*v);
	puts("'");
}

static int run_config(const struct at *at, const struct words *w)
{
	json_t *vars, *v;
	const char *key;
	struct table t = {0};
	int r = app_call(at, "GET", "/config-vars", NULL, &vars);

	if (r)
		return r;
	if (at->json) {
		show_json(vars);
	} else if (w->has[P_SHELL]) {
		json_object_foreach(vars, key, v)
		{
			put_shell(key, json_string_value(v) ? json_string_value(v) : "");
		}
	} else {
		show_title("%s Config Vars", at->app);
		json_object_foreach(vars, key, v)
		{
			char *name = textf("%s:", key);
			table_row(&t, 2, name, json_string_value(v));
			free(name);
		}
		table_print(&t);
	}
	json_decref(vars);
	return 0;
}

static int run_get(const struct at *at, const struct words *w)
{
	json_t *vars;
	int r = app_call(at, "GET", "/config-vars", NULL, &vars);

	if (r)
		return r;
	json_t *v = json_object_get(vars, w->names[0]);
	if (at->json)
		show_json(v ? v : json_null());
	else if (w->has[P_SHELL] && v)
		put_shell(w->names[0], json_string_value(v));
	else if (v)
		puts(json_string_value(v) ? json_string_value(v) : "");
	r = v || at->json ? 0
			  : say_fail(1, "config get: %s has no variable %s; all: cowbell config -a %s",
				     at->app, w->names[0], at->app);
	json_decref(vars);
	return r;
}

/* Send the change; names: for the line about it. */
static int change(const struct at *at, json_t *body, const char *verb, const char *names, bool show)
{
	json_t *vars = NULL, *v;
	const char *key;
	struct table t = {0};
	int r = make_change(
		at, &(struct change){"PATCH", "/config-vars", .body = json_incref(body), .out = &vars},
		"%s %s and restarting %s", verb, names, at->app);

	if (r)
		return r;
	char *release = current_release(at);
	action_end("done, %s", release);
	free(release);
	if (at->json) {
		show_json(vars);
	} else if (show) {
		json_object_foreach(body, key, v)
		{
			char *name = textf("%s:", key);
			table_row(&t, 2, name, json_string_value(json_object_get(vars, key)));
			free(name);
		}
		table_print(&t);
	}
	json_decref(vars);
	return 0;
}

static char *more_names(char *names, const char *key)
{
	char *all = textf("%s%s%s", names, *names ? ", " : "", key);

	free(names);
	return all;
}

static int run_set(const struct at *at, const struct words *w)
{
	json_t *body = json_object();
	char *names = textf("%s", "");
	int r = 0;

	for (int i = 0; i < w->n && !r; i++) {
		const char *eq = strchr(w->names[i], '=');
		if (!eq || eq == w->names[i]) {
			r = say_fail(EXIT_OURS,
				     "config set: '%s' is not K=V; such as GREETING='good morning'",
				     w->names[i]);
			break;
		}
		char *key = textf("%.*s", (int)(eq - w->names[i]), w->names[i]);
		json_t *v = json_string(eq + 1);
		if (!v)
			r = say_fail(EXIT_OURS, "config set: the value of %s is no UTF-8 text; encode it",
				     key);
		else
			json_object_set_new(body, key, v);
		names = more_names(names, key);
		free(key);
	}
	if (!r)
		r = change(at, body, "Setting", names, true);
	json_decref(body);
	free(names);
	return r;
}

static int run_unset(const struct at *at, const struct words *w)
{
	json_t *body = json_object();
	char *names = textf("%s", "");

	for (int i = 0; i < w->n; i++) {
		json_object_set_new(body, w->names[i], json_null());
		names = more_names(names, w->names[i]);
	}
	int r = change(at, body, "Unsetting", names, false);
	json_decref(body);
	free(names);
	return r;
}

const struct verb config_verbs[] = {
	{"config", show_options,
	 "[COMMAND] [-a APP] [--json]\n\nShows the variables that an app is configured by.", 0, 0, APP,
	 run_config, NULL},
	{"config set", app_options, "K=V... [-a APP]\n\nSets variables; the app is restarted with them.", 1,
	 -1, APP, run_set, "set variables: K=V ..."},
	{"config unset", app_options,
	 "K... [-a APP]\n\nRemoves variables; the app is restarted without them.", 1, -1, APP, run_unset,
	 "remove variables"},
	{"config get", show_options, "K [-a APP]\n\nPrints the value of one variable.", 1, 1, APP, run_get,
	 "print one value"},
	{NULL, NULL, NULL, 0, 0, NO_SERVER, NULL, NULL},
};
