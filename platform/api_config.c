// SPDX-License-Identifier: ISC
/*
 * Config vars: the environment of an app. Each change is a release.
 *
 * A name is what every shell can hold: letters, digits, underscores. A value is any text without NUL, newlines and quotes
 * included: it goes to the app by a descriptor, never through a shell, a command line or a log. All together are at most 64 KiB.
 */
#include "platform/api_util.h"
#include "platform/logs.h"
#include "platform/sched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_MAX ((size_t)64 << 10)
#define NAME_MAX_  256

static json_t *current(const struct app *a)
{
	json_t *v = a->release.config ? json_loads(a->release.config, 0, NULL) : NULL;

	if (json_is_object(v))
		return v;
	json_decref(v);
	return json_object();
}

static bool good_name(const char *s)
{
	size_t n = strlen(s);

	if (!n || n > NAME_MAX_ || (s[0] >= '0' && s[0] <= '9'))
		return false;
	return strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

/* A value as text, or NULL: it cannot be one. */
static json_t *value_text(json_t *v)
{
	char number[32];

	if (json_is_string(v))
		return json_incref(v);
	if (json_is_boolean(v))
		return json_string(json_is_true(v) ? "true" : "false");
	if (!json_is_integer(v))
		return NULL;
	snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v));
	return json_string(number);
}

/* The names that changed, for the description of the release: "A, B", cut if they are many. */
struct names {
	char text[160];
	size_t n, cut;
};

static void add_name(struct names *l, const char *name)
{
	size_t have = strlen(l->text), len = strlen(name);

	if (have + len + 3 > sizeof(l->text)) {
		l->cut++;
		return;
	}
	snprintf(l->text + have, sizeof(l->text) - have, "%s%s", l->n ? ", " : "", name);
	l->n++;
}

/* Apply the body to vars. False: answered. */
static bool merge(struct call *c, json_t *vars, struct names *set, struct names *unset)
{
	const char *key, *name;
	json_t *v, *text;
	size_t total = 0;
	char shown[64];

	json_object_foreach(c->body, key, v)
	{
		if (json_is_null(v)) {
			if (json_object_get(vars, key)) {
				json_object_del(vars, key);
				add_name(unset, key);
			}
			continue;
		}
		if (!good_name(key)) {
			api_error(c, API_INVALID,
				  "Config var %s: a name has letters, digits and underscores only, and no "
				  "digit first.",
				  api_shown(key, shown));
			return false;
		}
		text = value_text(v);
		if (!text) {
			api_error(c, API_INVALID, "Config var %s: the value must be a string.",
				  api_shown(key, shown));
			return false;
		}
		if (json_equal(text, json_object_get(vars, key))) {
			json_decref(text);
			continue;
		}
		json_object_set_new(vars, key, text);
		add_name(set, key);
	}
	json_object_foreach(vars, name, v) total += strlen(name) + json_string_length(v);
	if (total > CONFIG_MAX) {
		api_error(c, API_INVALID, "Config vars are %zu bytes together; at most %zu are allowed.",
			  total, CONFIG_MAX);
		return false;
	}
	return true;
}

static void describe(const struct names *set, const struct names *unset, char out[256])
{
	const char *more_set = set->cut ? " and others" : "", *more_unset = unset->cut ? " and others" : "";

	if (set->n && unset->n)
		snprintf(out, 256, "Set %.90s%s, remove %.90s%s config vars", set->text, more_set,
			 unset->text, more_unset);
	else if (set->n)
		snprintf(out, 256, "Set %s%s config vars", set->text, more_set);
	else
		snprintf(out, 256, "Remove %s%s config vars", unset->text, more_unset);
}

static void show(struct call *c)
{
	api_reply(c, 200, current(c->app));
}

static void change(struct call *c)
{
	struct names set = {0}, unset = {0};
	json_t *vars = current(c->app);
	char description[256];
	unsigned version;
	struct fault f;

	if (!merge(c, vars, &set, &unset)) {
		json_decref(vars);
		return;
	}
	if (!set.n && !unset.n) {
		api_reply(c, 200, vars);
		return;
	}
	describe(&set, &unset, description);
	struct new_release r = {.description = description, .user = c->user, .config = vars};
	f = model_release_create(c->app, &r, &version);
	if (f.status) {
		json_decref(vars);
		api_fault(c, &f);
		return;
	}
	log_linef(c->app, "app", "api", "%s by user %s", description, c->user->email);
	log_linef(c->app, "app", "api", "Release v%u created by user %s", version, c->user->email);
	sched_update(c->app);
	api_reply(c, 200, vars);
}

const struct route api_config_routes[] = {
	{"GET", "/apps/{app}/config-vars", NEED_COLLABORATOR, show, NULL},
	{"PATCH", "/apps/{app}/config-vars", NEED_COLLABORATOR, change, NULL},
	{0},
};
