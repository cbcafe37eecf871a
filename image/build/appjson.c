/* SPDX-License-Identifier: ISC */
/*
 * app.json, as Heroku describes an app: name, description, env. Of env a default ("value", or the string itself) goes
 * into the image; what is required and has none is asked for in one line, because it is given at `cowbell run -e`.
 * formation, addons, buildpacks, scripts and stack are for a platform and are not used here. Where cowbell.toml says
 * the same thing it wins.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/detect.h"
#include "lib/host/say.h"

bool valid_env_name(const char *s, size_t n)
{
	if (!n || n > 256 || isdigit((unsigned char)*s))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && s[i] != '_')
			return false;
	return true;
}

static int read_env(struct app *a, json_t *env, struct strings *asked)
{
	const char *key;
	json_t *v;

	json_object_foreach(env, key, v)
	{
		json_t *value = json_is_object(v) ? json_object_get(v, "value") : v;
		json_t *required = json_is_object(v) ? json_object_get(v, "required") : NULL;
		if (!valid_env_name(key, strlen(key)))
			return out_fail(EXIT_OURS,
					"app.json: env: '%s' is no name of an environment variable", key);
		if (json_is_string(value)) {
			if (!strings_env(&a->plan->env, key))
				strings_addf(&a->plan->env, "%s=%s", key, json_string_value(value));
		} else if (value && !json_is_null(value)) {
			return out_fail(EXIT_OURS, "app.json: env: the value of %s is not a string", key);
		} else if (!json_is_false(required)) {
			strings_add(asked, key);
		}
	}
	return 0;
}

static char *copy_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? textf("%s", s) : NULL;
}

int read_appjson(struct app *a)
{
	int status;
	json_t *o = app_json(a, "app.json", &status);
	struct strings asked = {0};

	if (!o)
		return status;
	if (!a->plan->name)
		a->plan->name = copy_text(o, "name");
	if (!a->plan->description)
		a->plan->description = copy_text(o, "description");
	json_t *env = json_object_get(o, "env");
	if (env && !json_is_object(env))
		status = out_fail(EXIT_OURS, "app.json: env is not an object");
	else if (env)
		status = read_env(a, env, &asked);
	for (size_t i = 0; !status && i < asked.n; i++)
		out_line("app.json requires %s: give it with --env here, or -e at cowbell run", asked.v[i]);
	strings_free(&asked);
	json_decref(o);
	return status;
}
