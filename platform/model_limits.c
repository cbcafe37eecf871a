/* SPDX-License-Identifier: ISC */
/* Limits of an app as JSON and back, by the table that the configuration's file uses, too (settings.c). */
#include <stdio.h>
#include <string.h>

#include "platform/model_inside.h"
#include "platform/settings.h"

json_t *limits_json(const struct limits *l)
{
	json_t *j = json_object();
	char text[512];

	for (const struct setting *s = limits_settings; s->key; s++) {
		setting_format(s, l, text, sizeof(text));
		json_object_set_new(j, s->key,
				    s->type == SET_COUNT
					    ? json_integer(*(const unsigned *)((const char *)l + s->at))
					    : json_string(text));
	}
	return j;
}

json_t *limits_differing(const struct limits *l)
{
	json_t *mine = limits_json(l), *ours = limits_json(&config.limits);

	for (const struct setting *s = limits_settings; s->key; s++)
		if (json_equal(json_object_get(mine, s->key), json_object_get(ours, s->key)))
			json_object_del(mine, s->key);
	json_decref(ours);
	return mine;
}

/* A value as text: numbers are seconds or bytes, as in the file. */
static bool as_text(const struct limits *l, const struct setting *s, json_t *v, char out[512])
{
	if (json_is_null(v))
		setting_format(s, &config.limits, out, 512);
	else if (json_is_integer(v) && s->type != SET_EGRESS)
		snprintf(out, 512, "%lld", (long long)json_integer_value(v));
	else if (json_is_string(v) && json_string_length(v) < 512 &&
		 json_string_length(v) == strlen(json_string_value(v)))
		strcpy(out, json_string_value(v));
	else
		return false;
	return true;
}

struct fault limits_apply(struct limits *l, json_t *changes)
{
	struct limits copy = *l;
	const char *key;
	json_t *v;

	if (!json_is_object(changes))
		return fault_of(422, "invalid_params", "Limits must be an object.");
	json_object_foreach(changes, key, v)
	{
		const struct setting *s = setting_find(limits_settings, key);
		const char *like = s ? NULL : setting_like(limits_settings, key);
		char text[512], why[160];

		if (!s)
			return fault_of(422, "invalid_params", "There is no limit '%.60s'%s%s%s.", key,
					like ? "; did you mean '" : "", like ? like : "", like ? "'?" : "");
		if (!as_text(l, s, v, text))
			return fault_of(422, "invalid_params", "Limit '%s' must be a number or a text.", key);
		if (!setting_parse(s, &copy, text, why))
			return fault_of(422, "invalid_params", "Limit '%s' %s.", key, why);
	}
	*l = copy;
	return FAULT_NONE;
}

/* 0 is "no limit" for some; then only 0 is not within a limit that is set. */
static bool number_within(uint64_t v, uint64_t most, bool zero_is_none)
{
	if (zero_is_none && !most)
		return true;
	return zero_is_none && !v ? false : v <= most;
}

bool limits_within(const struct limits *l, const struct limits *most)
{
	return number_within(l->memory, most->memory, false) && number_within(l->cpus, most->cpus, false) &&
	       number_within(l->cpu_percent, most->cpu_percent, true) &&
	       number_within(l->in_flight, most->in_flight, false) &&
	       number_within(l->backlog, most->backlog, false) &&
	       number_within(l->max_processes, most->max_processes, false) &&
	       number_within(l->disk, most->disk, false) &&
	       number_within(l->requests_per_s, most->requests_per_s, true) &&
	       number_within(l->max_web, most->max_web, false) &&
	       number_within(l->boot_ns, most->boot_ns, false) &&
	       number_within(l->first_byte_ns, most->first_byte_ns, false) &&
	       number_within(l->connect_ns, most->connect_ns, false) &&
	       number_within(l->idle_ns, most->idle_ns, false) &&
	       (!strcmp(l->egress, "none") || !strcmp(l->egress, most->egress));
}
