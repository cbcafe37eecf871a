// SPDX-License-Identifier: ISC
/*
 * The formation: how many processes of each type an app has. A change of several types is checked as a whole first, then made.
 */
#include "platform/api_util.h"
#include "platform/logs.h"
#include "platform/sched.h"
#include "platform/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UPDATES_MAX 64

static void list(struct call *c)
{
	json_t *all = json_array();

	for (unsigned i = 0; i < c->app->n_formation; i++)
		json_array_append_new(all, json_formation(c->app, &c->app->formation[i]));
	api_reply_list(c, all, "type");
}

static struct formation *find(const struct app *a, const char *name)
{
	for (unsigned i = 0; i < a->n_formation; i++)
		if (!strcmp(a->formation[i].type, name) || !strcmp(a->formation[i].id, name))
			return &a->formation[i];
	return NULL;
}

static void no_type(struct call *c, const char *name)
{
	char shown[64];

	api_error(c, 404, "not_found", "Couldn't find that process type (%s).", api_shown(name, shown));
}

static void info(struct call *c)
{
	struct formation *f = find(c->app, c->param[0]);

	if (f)
		api_reply(c, 200, json_formation(c->app, f));
	else
		no_type(c, c->param[0]);
}

/* Autoscaling by a monitor of Heroku's: there are none; an app's limits scale_at and max_web do that here. */
static void monitors(struct call *c)
{
	if (find(c->app, c->param[0]))
		api_reply_list(c, json_array(), "id");
	else
		no_type(c, c->param[0]);
}

struct change {
	struct formation *f;
	unsigned quantity;
	const char *size; /* NULL: as it is */
};

/* 2, "2", "+1", "-1". False: answered. */
static bool read_quantity(struct call *c, json_t *v, struct change *ch)
{
	const char *s = json_string_value(v);
	long long n;

	ch->quantity = ch->f->quantity;
	if (!v || json_is_null(v))
		return true;
	if (json_is_integer(v)) {
		n = json_integer_value(v);
	} else {
		size_t sign = s && (*s == '+' || *s == '-'), len = s ? strspn(s + sign, "0123456789") : 0;
		if (!s || !len || len > 9 || s[sign + len]) {
			api_error(c, API_INVALID, "The quantity of %s must be a whole number.", ch->f->type);
			return false;
		}
		n = atoll(s + sign);
		if (sign)
			n = *s == '+' ? (long long)ch->f->quantity + n : (long long)ch->f->quantity - n;
	}
	if (n < 0 || n > 1000000) {
		api_error(c, API_INVALID, "The quantity of %s cannot be %lld.", ch->f->type, n);
		return false;
	}
	ch->quantity = (unsigned)n;
	return true;
}

/* One update. False: answered. */
static bool read_change(struct call *c, const char *type, json_t *u, struct change *ch)
{
	json_t *size = json_object_get(u, "size");
	char shown[64];

	ch->f = find(c->app, type);
	if (!ch->f) {
		no_type(c, type);
		return false;
	}
	if (json_is_object(json_object_get(u, "dyno_size")) && !size)
		size = json_object_get(json_object_get(u, "dyno_size"), "name");
	if (size && !json_is_null(size)) {
		ch->size = json_is_string(size) ? dyno_size_name(json_string_value(size)) : NULL;
		if (!ch->size) {
			api_error(c, API_INVALID, "No such type as %s.",
				  json_is_string(size) ? api_shown(json_string_value(size), shown) : "that");
			return false;
		}
	}
	return read_quantity(c, json_object_get(u, "quantity"), ch);
}

/* All of them together within the app's limit? */
static bool within_limit(struct call *c, const struct change *changes, size_t n)
{
	uint64_t before = 0, after = 0;
	unsigned max = app_limits(c->app)->max_processes;

	for (unsigned i = 0; i < c->app->n_formation; i++) {
		unsigned q = c->app->formation[i].quantity;
		before += q;
		for (size_t k = 0; k < n; k++)
			if (changes[k].f == &c->app->formation[i])
				q = changes[k].quantity;
		after += q;
	}
	if (after <= max || after <= before)
		return true;
	api_error(c, API_INVALID,
		  "Cannot run more than %u processes of this app together; %llu were asked for.", max,
		  (unsigned long long)after);
	return false;
}

static struct fault make(struct call *c, const struct change *changes, size_t n)
{
	struct fault f = FAULT_NONE;
	int err = store_begin();

	if (err)
		return store_fault(err);
	for (size_t i = 0; !f.status && i < n; i++)
		f = model_scale(c->app, changes[i].f->type, changes[i].quantity, changes[i].size);
	if (f.status) {
		store_rollback();
		return f;
	}
	err = store_commit();
	return err ? store_fault(err) : FAULT_NONE;
}

/* Checked, made, logged, and the scheduler told. False: answered. */
static bool apply(struct call *c, struct change *changes, size_t n)
{
	struct fault f;

	if (!within_limit(c, changes, n))
		return false;
	f = make(c, changes, n);
	if (f.status) {
		api_fault(c, &f);
		return false;
	}
	for (size_t i = 0; i < n; i++)
		log_linef(c->app, "app", "api", "Scaled to %s@%u:%s by user %s", changes[i].f->type,
			  changes[i].f->quantity, changes[i].f->size, c->user->email);
	sched_update(c->app);
	return true;
}

static void change_one(struct call *c)
{
	struct change ch = {0};

	if (read_change(c, c->param[0], c->body, &ch) && apply(c, &ch, 1))
		api_reply(c, 200, json_formation(c->app, ch.f));
}

static void change_many(struct call *c)
{
	json_t *updates = json_object_get(c->body, "updates"), *u, *out;
	struct change changes[UPDATES_MAX] = {{0}};
	size_t i, n = 0;

	if (!json_is_array(updates) || json_array_size(updates) > UPDATES_MAX) {
		api_error(c, API_INVALID, "Parameter updates must be an array of at most %d.", UPDATES_MAX);
		return;
	}
	json_array_foreach(updates, i, u)
	{
		const char *type = json_string_value(json_object_get(u, "type"));
		if (!type)
			type = json_string_value(json_object_get(u, "id"));
		if (!type) {
			api_error(c, API_INVALID, "Each update needs a type.");
			return;
		}
		if (!read_change(c, type, u, &changes[n++]))
			return;
	}
	if (!apply(c, changes, n))
		return;
	out = json_array();
	for (unsigned k = 0; k < c->app->n_formation; k++)
		json_array_append_new(out, json_formation(c->app, &c->app->formation[k]));
	api_reply(c, 200, out);
}

const struct route api_formation_routes[] = {
	{"GET", "/apps/{app}/formation", NEED_COLLABORATOR, list, NULL},
	{"PATCH", "/apps/{app}/formation", NEED_COLLABORATOR, change_many, NULL},
	{"GET", "/apps/{app}/formation/{}", NEED_COLLABORATOR, info, NULL},
	{"PATCH", "/apps/{app}/formation/{}", NEED_COLLABORATOR, change_one, NULL},
	{"GET", "/apps/{app}/formation/{}/monitors", NEED_COLLABORATOR, monitors, NULL},
	{0},
};
