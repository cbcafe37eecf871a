/* SPDX-License-Identifier: ISC */
/*
 * What the platform's verbs share: options, paths of the API, and the two shapes that most of them have. A listing asks for a list
 * and prints it as a table; a change sends one request, tells on standard error what it does, and prints nothing but what --json
 * asks for. A verb of such a shape is a row of a table (struct verb) and a few lines.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/client.h"
#include "lib/host/say.h"

const struct option_def app_options[] = {PLATFORM_APP, PLATFORM_JSON, PLATFORM_HELP, PLATFORM_END};
const struct option_def plain_options[] = {PLATFORM_JSON, PLATFORM_HELP, PLATFORM_END};

/* --- requests --------------------------------------------------------------------------------------------------------- */

/* Of verbs with an app it is the app's: "/apps/APP" + rest. malloc. */
static char *path_of(const struct at *at, const char *rest)
{
	if (!at->app)
		return textf("%s", rest);
	char *name = client_escape(at->app), *path = textf("/apps/%s%s", name, rest);

	free(name);
	return path;
}

int app_call(const struct at *at, const char *method, const char *rest, const json_t *body, json_t **out)
{
	char *path = path_of(at, rest);
	int r = client_call(at->c, method, path, body, out);

	free(path);
	return r;
}

int app_items(const struct at *at, const char *rest, json_t **out)
{
	char *path = path_of(at, rest);
	int r = client_list(at->c, path, out);

	free(path);
	return r;
}

int show_listing(const struct at *at, const struct listing *l)
{
	json_t *list;
	struct table t = {0};
	int r = app_items(at, l->path, &list);

	if (r)
		return r;
	if (at->json) {
		show_json(list);
	} else if (l->none && !json_array_size(list)) {
		printf("%s has no %s; add one: cowbell %s -a %s\n", at->app, l->none, l->add, at->app);
	} else {
		if (l->title && at->app)
			show_title("%s %s", at->app, l->title);
		else if (l->title)
			show_title("%s", l->title);
		if (l->heads)
			l->heads(&t);
		for (size_t i = 0; i < json_array_size(list); i++)
			l->row(&t, json_array_get(list, i));
		table_print(&t);
	}
	json_decref(list);
	return 0;
}

int make_change(const struct at *at, const struct change *c, const char *fmt, ...)
{
	char *word = c->word ? client_escape(c->word) : NULL,
	     *rest = textf("%s%s%s", c->rest, word ? word : "", c->tail ? c->tail : "");
	json_t *answer = NULL;
	char doing[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(doing, sizeof(doing), fmt, ap);
	va_end(ap);
	action_begin("%s", doing);
	int r = app_call(at, c->method, rest, c->body, &answer);
	if (!r && c->out) {
		*c->out = answer;
		answer = NULL;
	} else if (!r) {
		action_end("done");
		if (at->json)
			show_json(answer);
	}
	json_decref(answer);
	json_decref(c->body);
	free(rest);
	free(word);
	return r;
}

/* --- the rest ----------------------------------------------------------------------------------------------------------- */

int confirm(const struct at *at, const struct words *w, const char *what)
{
	char line[128] = "";

	if (w->has[P_CONFIRM])
		return !strcmp(w->value[P_CONFIRM], at->app)
			       ? 0
			       : say_fail(EXIT_OURS,
					  "--confirm %s is not the app's name, %s; nothing was done",
					  w->value[P_CONFIRM], at->app);
	if (!isatty(0) || !isatty(2))
		return say_fail(EXIT_OURS, "this will %s; say that you mean it: --confirm %s", what, at->app);
	fprintf(stderr, " !    This will %s.\n !    To go on, type %s: ", what, at->app);
	if (!fgets(line, sizeof(line), stdin))
		line[0] = 0;
	line[strcspn(line, "\r\n")] = 0;
	return !strcmp(line, at->app) ? 0 : say_fail(EXIT_OURS, "that is not its name; nothing was done");
}

char *current_release(const struct at *at)
{
	json_t *list = NULL;
	char *text = NULL;
	json_int_t best = 0;

	if (app_items(at, "/releases", &list))
		return textf("?");
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_int_t v = jint(json_array_get(list, i), "version");
		best = v > best ? v : best;
	}
	json_decref(list);
	text = textf("v%lld", (long long)best);
	return text;
}
