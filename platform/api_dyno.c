/* SPDX-License-Identifier: ISC */
/*
 * Dynos by Heroku's API: list, run (detached and attached), restart, stop.
 *
 * A sleeping app has no dynos, but people want to see that it is there: its web dynos are told as "idle", under the id of their
 * formation. `heroku ps:wait` waits until each dyno in the list is up, which a sleeper would never be, since it needs no
 * waiting: it asks with "version=3" where `heroku ps` asks with "version=3.sdk", and gets the list without sleepers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/host/strings.h"
#include "platform/api_util.h"
#include "platform/rendezvous.h"
#include "platform/sched_inside.h"

#define MAX_TYPE   30
#define MARKER_END "echo \"\xef\xbf\xbf heroku-command-exit-status: $?\""

static const char *command_of(const struct instance *i)
{
	const struct sched_instance *d = i->priv;
	const struct formation *f = model_formation(i->app, d->process ? d->process : i->type);

	return d->command ? d->command : f && f->command ? f->command : d->process ? d->process : "";
}

static json_t *json_dyno(const struct app *a, const char *id, const char *type, const char *name,
			 const char *state, const char *command, unsigned version, int64_t created_us,
			 int64_t updated_us)
{
	const struct formation *f = model_formation((struct app *)a, type);
	const char *release_id = version == a->release.version ? a->release.id : "";

	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:n,s:o,s:o,s:o,s:s,s:{s:s,s:i}}", "id", id, "type", type,
			 "name", name, "state", state, "command", command, "attach_url", "created_at",
			 json_time(created_us), "updated_at", json_time(updated_us), "app", json_app_ref(a),
			 "size", f && *f->size ? f->size : "Basic", "release", "id", release_id, "version",
			 (int)version);
}

static json_t *json_instance(const struct instance *i)
{
	return json_dyno(i->app, i->id, i->type, i->dyno, sched_state_name(i), command_of(i), i->version,
			 i->created_us, i->updated_us);
}

/* --- list ------------------------------------------------------------------------------------------------ */

/* Those that are on their way out have successors, or were not wanted any more. */
static bool is_shown(const struct instance *i)
{
	return i->state != DYNO_DRAINING && i->state != DYNO_GONE;
}

static bool wants_sleepers(struct exchange *x)
{
	struct str agent = exchange_header(x, "User-Agent"), accept = exchange_header(x, "Accept");

	if (!agent.p || !memmem(agent.p, agent.n, "heroku-cli", 10))
		return true;
	return accept.p && memmem(accept.p, accept.n, "3.sdk", 5);
}

static void add_sleepers(struct app *a, json_t *list)
{
	const struct formation *f = model_formation(a, "web");
	char name[48];

	if (!f || !a->release.image)
		return;
	for (unsigned n = 1; n <= f->quantity; n++) {
		snprintf(name, sizeof(name), "web.%u", n);
		json_array_append_new(list,
				      json_dyno(a, f->id, "web", name, "idle", f->command ? f->command : "",
						a->release.version, f->created_us, a->updated_us));
	}
}

static json_t *dyno_list(struct app *a, bool sleepers)
{
	json_t *list = json_array();
	bool web = false;

	for (struct instance *i = sched_instances(a); i; i = i->next) {
		if (!is_shown(i))
			continue;
		web |= !strcmp(i->type, "web");
		json_array_append_new(list, json_instance(i));
	}
	if (!web && sleepers)
		add_sleepers(a, list);
	return list;
}

static void get_list(struct call *c)
{
	api_reply_list(c, dyno_list(c->app, wants_sleepers(c->x)), "name");
}

static void no_such(struct call *c)
{
	api_error(c, 404, "not_found", "Couldn't find that dyno.");
}

/* By name or id, from the list: so a sleeper is found, too. */
static void get_one(struct call *c)
{
	json_t *list = dyno_list(c->app, true), *d, *found = NULL;
	size_t k;

	json_array_foreach(list, k, d)
	{
		const char *name = json_string_value(json_object_get(d, "name")),
			   *id = json_string_value(json_object_get(d, "id"));
		if (!found && (!strcmp(name, c->param[0]) || !strcmp(id, c->param[0])))
			found = json_incref(d);
	}
	json_decref(list);
	if (found)
		api_reply(c, 200, found);
	else
		no_such(c);
}

/* --- restart and stop --------------------------------------------------------------------------------------- */

/* Name of a dyno that the API may name by its id. */
static const char *name_of(struct app *a, const char *word)
{
	for (struct instance *i = sched_instances(a); i; i = i->next)
		if (is_shown(i) && (!strcmp(i->id, word) || !strcmp(i->dyno, word)))
			return i->dyno;
	return NULL;
}

/* "web.2" of an app that sleeps: there is nothing to be done, and that is no error. */
static bool is_sleeper(struct app *a, const char *word)
{
	const struct formation *f = model_formation(a, "web");
	unsigned n;
	char end;

	return f && (!strcmp(f->id, word) || !strcmp("web", word) ||
		     (sscanf(word, "web.%u%c", &n, &end) == 1 && n && n <= f->quantity));
}

static void restart_all(struct call *c)
{
	sched_restart(c->app, NULL);
	api_reply(c, 202, json_object());
}

static void restart_one(struct call *c)
{
	const char *name = name_of(c->app, c->param[0]);

	if (!name && !is_sleeper(c->app, c->param[0])) {
		no_such(c);
		return;
	}
	if (name && strncmp(name, "run.", 4))
		sched_restart(c->app, name);
	else if (name) /* nobody could take the place of a one-off process: its restart is its end */
		sched_stop(c->app, name);
	api_reply(c, 202, json_object());
}

static void stop_one(struct call *c)
{
	const char *name = name_of(c->app, c->param[0]);

	if (!(name && sched_stop(c->app, name)) && !is_sleeper(c->app, c->param[0]))
		no_such(c);
	else
		api_reply(c, 202, json_object());
}

static const char *type_of(struct call *c)
{
	const char *word = c->param[0];

	for (unsigned k = 0; k < c->app->n_formation; k++)
		if (!strcmp(c->app->formation[k].type, word) || !strcmp(c->app->formation[k].id, word))
			return c->app->formation[k].type;
	for (struct instance *i = sched_instances(c->app); i; i = i->next)
		if (!strcmp(i->type, word))
			return i->type;
	return NULL;
}

static void restart_type(struct call *c)
{
	const char *type = type_of(c);

	if (!type) {
		api_error(c, 404, "not_found", "Couldn't find that process type.");
		return;
	}
	sched_restart(c->app, type);
	api_reply(c, 202, json_object());
}

static void stop_type(struct call *c)
{
	const char *type = type_of(c);

	if (!type) {
		api_error(c, 404, "not_found", "Couldn't find that process type.");
		return;
	}
	sched_stop(c->app, type);
	api_reply(c, 202, json_object());
}

/* --- run ------------------------------------------------------------------------------------------------------- */

/* `heroku run --exit-code` has a shell print the status after the command; here we do. The rest is the command. */
static char *take_marker(const char *command, bool *marker)
{
	size_t n = strlen(command), m = sizeof(MARKER_END) - 1;

	*marker = n > m && !strcmp(command + n - m, MARKER_END);
	if (*marker) {
		n -= m;
		while (n && strchr(" \t;", command[n - 1]))
			n--;
	}
	return xstrndup(command, n);
}

static bool valid_type(const char *t)
{
	size_t n = strlen(t);

	return n && n <= MAX_TYPE && *t >= 'a' && *t <= 'z' &&
	       strspn(t, "abcdefghijklmnopqrstuvwxyz0123456789-_") == n;
}

/* The client's variables: strings and numbers; what names nothing is left out. NULL: malformed. */
static json_t *run_env(json_t *from)
{
	json_t *env = json_object(), *v;
	const char *key;

	if (from && !json_is_null(from) && !json_is_object(from)) {
		json_decref(env);
		return NULL;
	}
	json_object_foreach(from, key, v)
	{
		if (!*key || strchr(key, '='))
			continue;
		if (json_is_string(v))
			json_object_set(env, key, v);
		else if (json_is_integer(v))
			json_object_set_new(env, key, json_sprintf("%lld", (long long)json_integer_value(v)));
	}
	return env;
}

static unsigned env_number(json_t *env, const char *key)
{
	const char *s = json_string_value(json_object_get(env, key));

	return s ? (unsigned)strtoul(s, NULL, 10) : 0;
}

/* Where this client can reach us: the name that it used itself. */
static char *attach_url(struct exchange *x, const struct rendezvous *r)
{
	bool v6 = memchr(x->host.p, ':', x->host.n) && *x->host.p != '[';

	return textf("rendezvous://%s%.*s%s:%u/%s", v6 ? "[" : "", (int)x->host.n, x->host.p, v6 ? "]" : "",
		     rendezvous_port(), rendezvous_secret(r));
}

struct run {
	const char *type;
	char *command;
	json_t *env;
	bool attach, tty, marker;
	uint64_t limit_ns;
};

static void start(struct call *c, const struct run *run)
{
	struct rendezvous *r = NULL;
	struct instance *i;
	struct oneoff o = {.type = run->type,
			   .command = run->command,
			   .env = run->env,
			   .stdio = {-1, -1, -1},
			   .time_limit_ns = run->limit_ns,
			   .tty = run->tty};

	if (run->attach) {
		int err = rendezvous_port()
				  ? rendezvous_new(run->tty, env_number(run->env, "COLUMNS"),
						   env_number(run->env, "LINES"), run->marker, o.stdio, &r)
				  : -ENOTSUP;
		if (err) {
			api_error(c, 503, "unavailable", "An attached run cannot be started now.");
			return;
		}
		o.ended = rendezvous_ended;
		o.arg = r;
	}
	struct fault f = sched_oneoff(c->app, &o, &i);
	if (r)
		rendezvous_runs(r, f.status ? NULL : i);
	if (f.status) {
		api_fault(c, &f);
		return;
	}
	json_t *v = json_instance(i);
	if (r && c->x) {
		char *url = attach_url(c->x, r);
		json_object_set_new(v, "attach_url", json_string(url));
		free(url);
	}
	api_reply(c, 201, v);
}

static void run(struct call *c)
{
	bool ok = true;
	const char *command = body_string(c, "command", &ok), *type = ok ? body_string(c, "type", &ok) : NULL;
	int attach = ok ? body_bool(c, "attach", &ok) : 0,
	    no_tty = ok ? body_bool(c, "force_no_tty", &ok) : 0;
	int64_t limit = ok ? body_number(c, "time_to_live", &ok) : -1;

	if (!ok)
		return;
	if (type && !valid_type(type)) {
		api_error(c, API_INVALID, "type must be lower case letters, digits, '-' and '_', at most %d",
			  MAX_TYPE);
		return;
	}
	struct run r = {.type = type ? type : "run",
			.attach = attach == 1,
			.limit_ns = limit > 0 && limit <= 86400 ? (uint64_t)limit * S_NS : 0};
	r.env = run_env(json_object_get(c->body, "env"));
	if (!r.env) {
		api_error(c, API_INVALID, "env must be an object of strings");
		return;
	}
	r.command = take_marker(command ? command : "", &r.marker);
	/* a client whose output is no terminal says no size; a terminal would then only change its bytes */
	r.tty = r.attach && no_tty != 1 && env_number(r.env, "COLUMNS");
	start(c, &r);
	free(r.command);
	json_decref(r.env);
}

static void run_inside(struct call *c)
{
	api_error(c, 422, "invalid_params",
		  "A dyno here is a machine with one program and nothing else: a second one cannot be run "
		  "inside it.");
}

const struct route api_dyno_routes[] = {
	{"GET", "/apps/{app}/dynos", NEED_COLLABORATOR, get_list, false},
	{"POST", "/apps/{app}/dynos", NEED_COLLABORATOR, run, false},
	{"DELETE", "/apps/{app}/dynos", NEED_COLLABORATOR, restart_all, false},
	{"GET", "/apps/{app}/dynos/{}", NEED_COLLABORATOR, get_one, false},
	{"POST", "/apps/{app}/dynos/{}", NEED_COLLABORATOR, run_inside, false},
	{"DELETE", "/apps/{app}/dynos/{}", NEED_COLLABORATOR, restart_one, false},
	{"POST", "/apps/{app}/dynos/{}/actions/stop", NEED_COLLABORATOR, stop_one, false},
	{"DELETE", "/apps/{app}/formations/{}", NEED_COLLABORATOR, restart_type, false},
	{"POST", "/apps/{app}/formations/{}/actions/stop", NEED_COLLABORATOR, stop_type, false},
	{NULL, NULL, NEED_NOTHING, NULL, false},
};
