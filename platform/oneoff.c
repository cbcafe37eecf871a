/* SPDX-License-Identifier: ISC */
/*
 * One-off processes: `run`, the release phase, jobs.
 *
 * A command is a line in Procfile syntax, without a shell where none is needed (cowbell run --command). If its first word
 * is a process type of the app, that type's command stands for it, as with Heroku; the release phase names its type before
 * the formation knows it.
 *
 * They count among the app's processes (limits.max_processes) and keep its web dynos awake while they run.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/host/strings.h"
#include "platform/sched_inside.h"

#define DAY_NS	    (86400 * S_NS)
#define MAX_COMMAND (64u << 10)

static struct fault fault(int status, const char *id, const char *text)
{
	struct fault f = {.status = status, .id = id};

	strncat(f.message, text, sizeof(f.message) - 1);
	return f;
}

static unsigned n_dynos(const struct app *a)
{
	unsigned n = 0;

	for (const struct instance *i = a->sched ? a->sched->dynos : NULL; i; i = i->next)
		n += i->state == DYNO_STARTING || i->state == DYNO_UP;
	return n;
}

/* run.1234: a number that none has. */
static unsigned free_number(const struct app *a)
{
	for (;;) {
		uint16_t r;
		bool taken = false;
		random_bytes(&r, sizeof(r));
		unsigned n = 1000 + r % 9000;
		for (const struct instance *i = a->sched ? a->sched->dynos : NULL; i; i = i->next)
			taken |= i->number == n;
		if (!taken)
			return n;
	}
}

/* A line's first word, if it is a process type: its command and the rest of the line. */
static void take_command(struct sched_instance *d, struct app *a, const struct oneoff *o)
{
	const char *line = o->command + strspn(o->command, " \t\r\n");
	size_t n = strcspn(line, " \t\r\n"), end = strlen(line);
	char type[32] = "";

	while (end && isspace((unsigned char)line[end - 1]))
		end--;
	if (n < sizeof(type))
		memcpy(type, line, n);
	const struct formation *f = *type ? model_formation(a, type) : NULL;
	if (end == n && *type && ((f && f->command && *f->command) || !strcmp(type, o->type)))
		d->process = xstrdup(type);
	else if (f && f->command && *f->command)
		d->command = textf("%s%.*s", f->command, (int)(end - n), line + n);
	else
		d->command = xstrndup(line, end);
}

/* Image and variables of the release that it is to run. */
static struct fault take_release(struct sched_instance *d, struct app *a, unsigned version)
{
	json_t *r = version && version != a->release.version ? model_release(a, version) : NULL;

	if (version && version != a->release.version && !r)
		return fault(404, "not_found", "Couldn't find that release.");
	const char *image = r ? json_string_value(json_object_get(r, "image")) : a->release.image;
	if (!image || !*image) {
		json_decref(r);
		return fault(422, "invalid_params", "There is no code to run: push the app first.");
	}
	d->image = xstrdup(image);
	json_t *env = r ? json_object_get(r, "config") : NULL;
	if (r && json_is_string(env))
		d->env = json_loads(json_string_value(env), 0, NULL);
	else
		d->env = r ? json_deep_copy(env) : json_loads(a->release.config, 0, NULL);
	d->i.version = version ? version : a->release.version;
	json_decref(r);
	return FAULT_NONE;
}

static void close_stdio(const struct oneoff *o)
{
	for (int k = 0; k < 3; k++)
		if (o->stdio[k] >= 0)
			close(o->stdio[k]);
}

static struct fault check(struct app *a, const struct oneoff *o)
{
	if (sched_stopping)
		return fault(503, "unavailable", "The platform is stopping.");
	if (!o->command || !o->command[strspn(o->command, " \t\r\n")])
		return fault(422, "invalid_params", "command is required");
	if (strlen(o->command) > MAX_COMMAND)
		return fault(422, "invalid_params", "command is too long");
	if (n_dynos(a) >= app_limits(a)->max_processes)
		return fault(422, "invalid_params", "The app runs as many processes as its limits allow.");
	return FAULT_NONE;
}

struct fault sched_oneoff(struct app *a, const struct oneoff *o, struct instance **out)
{
	struct fault f = check(a, o);
	const char *key;
	json_t *v;

	if (f.status) {
		close_stdio(o);
		return f;
	}
	struct sched_app *sa = sched_app_of(a);
	struct sched_instance *d = dyno_new(sa, o->type, free_number(a), true);
	f = take_release(d, a, o->version);
	if (f.status) {
		close_stdio(o);
		dyno_bury(d);
		return f;
	}
	if (!d->env)
		d->env = json_object();
	json_object_foreach(o->env, key, v)
	{
		json_object_set(d->env, key, v);
	}
	take_command(d, a, o);
	memcpy(d->stdio, o->stdio, sizeof(d->stdio));
	d->tty = o->tty;
	d->time_limit_ns = o->time_limit_ns ? o->time_limit_ns : DAY_NS;
	d->ended = o->ended;
	d->arg = o->arg;
	sa->n_oneoffs++;
	list_del(&sa->idle);
	dyno_queue(d);
	*out = &d->i;
	return FAULT_NONE;
}
