/* SPDX-License-Identifier: ISC */
/* Verbs about processes: ps, scale, restart, and the platform's stop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "lib/host/say.h"

/* --- ps --------------------------------------------------------------------------------------------------------------- */

static void put_type(const json_t *f, const json_t *dynos)
{
	const char *type = jstr(f, "type");
	struct table t = {0};
	size_t n = 0;

	for (size_t i = 0; i < json_array_size(dynos); i++)
		n += !strcmp(jstr(json_array_get(dynos, i), "type"), type);
	if (!n && !jint(f, "quantity"))
		return;
	show_title("%s (%s): %s (%lld)", type, jstr(f, "size"), jstr(f, "command"),
		   (long long)jint(f, "quantity"));
	for (size_t i = 0; i < json_array_size(dynos); i++) {
		const json_t *d = json_array_get(dynos, i);
		if (strcmp(jstr(d, "type"), type))
			continue;
		char *name = textf("%s:", jstr(d, "name"));
		table_row(&t, 3, name, jstr(d, "state"), time_text(jstr(d, "updated_at")));
		free(name);
	}
	if (t.cells.n)
		table_print(&t);
	else
		printf("%s\n", strcmp(type, "web") ? "none is running"
						   : "asleep: the next request wakes it, in milliseconds");
	putchar('\n');
}

/* One-off processes, whose types no formation has. */
static void put_oneoffs(const json_t *formation, const json_t *dynos)
{
	bool title = false;

	for (size_t i = 0; i < json_array_size(dynos); i++) {
		const json_t *d = json_array_get(dynos, i);
		bool known = false;
		for (size_t k = 0; k < json_array_size(formation); k++)
			known |= !strcmp(jstr(json_array_get(formation, k), "type"), jstr(d, "type"));
		if (known)
			continue;
		if (!title)
			show_title("run: one-off processes");
		title = true;
		char *line = textf("%s: %s %s: %s", jstr(d, "name"), jstr(d, "state"),
				   time_text(jstr(d, "updated_at")), jstr(d, "command"));
		show_line(line);
		free(line);
	}
}

static int run_ps(const struct at *at, const struct words *w)
{
	json_t *dynos, *formation = NULL;
	int r = app_items(at, "/dynos", &dynos);

	(void)w;
	if (r)
		return r;
	if (at->json) {
		show_json(dynos);
	} else {
		r = app_items(at, "/formation", &formation);
		for (size_t i = 0; !r && i < json_array_size(formation); i++)
			put_type(json_array_get(formation, i), dynos);
		if (!r)
			put_oneoffs(formation, dynos);
		if (!r && !json_array_size(formation))
			printf("%s has no processes yet; deliver it: cowbell push -a %s\n", at->app, at->app);
	}
	json_decref(formation);
	json_decref(dynos);
	return r;
}

/* --- scale -------------------------------------------------------------------------------------------------------------- */

static void put_formation(const json_t *formation)
{
	for (size_t i = 0; i < json_array_size(formation); i++) {
		const json_t *f = json_array_get(formation, i);
		printf("%s%s=%lld:%s", i ? " " : "", jstr(f, "type"), (long long)jint(f, "quantity"),
		       jstr(f, "size"));
	}
	putchar('\n');
}

/* web=2, web=2:Basic, web+1, web-1. 0, or an exit status after one line. */
static int scale_word(const struct at *at, const char *word, json_t *updates, json_t **formation)
{
	size_t n = strcspn(word, "=+-:");
	const char *sign = word + n, *size = strchr(word, ':');
	char *end, *type = textf("%.*s", (int)n, word);
	long long v = strtoll(sign + (*sign != 0), &end, 10), now = 0;
	int r = 0;

	if (!n || !*sign || *sign == ':' || end == sign + 1 || (*end && end != size) || v < 0 || v > 10000)
		r = say_fail(EXIT_OURS, "scale: '%s' is no number of processes; such as web=2 or worker+1",
			     word);
	if (!r && *sign != '=') {
		if (!*formation)
			r = app_items(at, "/formation", formation);
		for (size_t i = 0; i < json_array_size(*formation); i++) {
			const json_t *f = json_array_get(*formation, i);
			if (!strcmp(jstr(f, "type"), type))
				now = jint(f, "quantity");
		}
		v = *sign == '+' ? now + v : now > v ? now - v : 0;
	}
	if (!r) {
		json_t *u = json_pack("{s:s,s:I}", "type", type, "quantity", (json_int_t)v);
		if (u && size && size[1])
			json_object_set_new(u, "size", json_string(size + 1));
		json_array_append_new(updates, u);
	}
	free(type);
	return r;
}

static int run_scale(const struct at *at, const struct words *w)
{
	json_t *updates, *formation = NULL, *now = NULL;
	int r = 0;

	if (!w->n) {
		r = app_items(at, "/formation", &formation);
		if (!r && at->json)
			show_json(formation);
		else if (!r)
			put_formation(formation);
		json_decref(formation);
		return r;
	}
	updates = json_array();
	for (int i = 0; i < w->n && !r; i++)
		r = scale_word(at, w->names[i], updates, &formation);
	if (!r) {
		json_t *body = json_pack("{s:O}", "updates", updates);
		r = make_change(at, &(struct change){"PATCH", "/formation", .body = body, .out = &now},
				"Scaling %s", at->app);
	}
	if (!r) {
		char text[200] = "";
		for (size_t i = 0; i < json_array_size(now); i++) {
			const json_t *f = json_array_get(now, i);
			for (size_t k = 0; k < json_array_size(updates); k++)
				if (!strcmp(jstr(f, "type"), jstr(json_array_get(updates, k), "type"))) {
					size_t n = strlen(text);
					snprintf(text + n, sizeof(text) - n, "%s%s at %lld:%s", n ? ", " : "",
						 jstr(f, "type"), (long long)jint(f, "quantity"),
						 jstr(f, "size"));
				}
		}
		action_end("done, now running %s", text);
		if (at->json)
			show_json(now);
	}
	json_decref(now);
	json_decref(updates);
	json_decref(formation);
	return r;
}

/* --- restart, stop -------------------------------------------------------------------------------------------------------- */

static int run_restart(const struct at *at, const struct words *w)
{
	const char *dyno = w->n ? w->names[0] : NULL;

	return make_change(at, &(struct change){"DELETE", dyno ? "/dynos/" : "/dynos", .word = dyno},
			   "Restarting %s of %s", dyno ? dyno : "all processes", at->app);
}

static int run_stop(const struct at *at, const struct words *w)
{
	return make_change(at,
			   &(struct change){"POST", "/dynos/", .word = w->names[0], .tail = "/actions/stop"},
			   "Stopping %s of %s", w->names[0], at->app);
}

const struct verb dyno_verbs[] = {
	{"ps", app_options, "-a APP [COMMAND] [--json]\n\nLists the processes of an app of the platform.", 0,
	 0, APP, run_ps, NULL},
	{"ps scale", app_options, "TYPE=N... [-a APP]\n\nAs cowbell scale.", 0, -1, APP, run_scale,
	 "set how many run"},
	{"ps restart", app_options, "[DYNO] [-a APP]\n\nAs cowbell restart.", 0, 1, APP, run_restart,
	 "start processes anew"},
	{"ps stop", app_options,
	 "DYNO|TYPE [-a APP]\n\nStops a process, such as web.1 or run.1234; one of the formation is started "
	 "again.",
	 1, 1, APP, run_stop, "stop a process"},
	{"scale", app_options,
	 "[TYPE=N[:SIZE]...] [-a APP]\n\nShows or sets how many processes of each type run: web=2, worker+1, "
	 "worker=0.\nAn idle web process sleeps in any case, and costs nothing.",
	 0, -1, APP, run_scale, NULL},
	{"restart", app_options,
	 "[DYNO] [-a APP]\n\nStarts all processes of an app anew, or one such as web.1.", 0, 1, APP,
	 run_restart, NULL},
	{NULL, NULL, NULL, 0, 0, NO_SERVER, NULL, NULL},
};
