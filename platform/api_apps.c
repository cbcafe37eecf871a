// SPDX-License-Identifier: ISC
/*
 * Apps: making, listing, changing, destroying, handing over; their limits and features.
 *
 * A list of apps is cut to its page before any JSON is made: 34,000 apps take no longer than one page of them.
 */
#include "platform/api_util.h"
#include "platform/logs.h"
#include "platform/sched.h"
#include "platform/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- making and listing ------------------------------------------------------------------------- */

/* What a client may say about where and on what an app runs: there is one of each. False: answered. */
static bool check_place(struct call *c)
{
	static const char *const absent[] = {"space", "team", "organization"};
	bool ok = true;
	char shown[64];
	const char *region = body_string(c, "region", &ok), *stack = ok ? body_string(c, "stack", &ok) : NULL;

	for (size_t i = 0; ok && i < sizeof(absent) / sizeof(absent[0]); i++) {
		json_t *v = json_object_get(c->body, absent[i]);
		if (v && !json_is_null(v)) {
			api_error(c, API_INVALID, "There are no teams and no spaces on this platform.");
			return false;
		}
	}
	if (ok && region && strcmp(region, REGION_NAME) && strcmp(region, REGION_ID)) {
		api_error(c, API_INVALID, "Region %s does not exist: there is one, %s.",
			  api_shown(region, shown), REGION_NAME);
		return false;
	}
	/* Heroku's own stacks are taken for ours, so that scripts that name them work; the answer says what it is. */
	if (ok && stack && strcmp(stack, STACK_NAME) && strcmp(stack, STACK_ID) &&
	    strcmp(stack, "container") && strncmp(stack, "heroku-", 7)) {
		api_error(c, API_INVALID, "Stack %s does not exist: there is one, %s.",
			  api_shown(stack, shown), STACK_NAME);
		return false;
	}
	return ok;
}

static void create(struct call *c)
{
	bool ok = true;
	const char *name = body_string(c, "name", &ok);
	struct app *a;
	struct fault f;

	if (!ok || !check_place(c))
		return;
	f = model_app_create(c->user, name && *name ? name : NULL, &a);
	if (f.status)
		api_fault(c, &f);
	else
		api_reply(c, 201, json_app(a));
}

static const char *name_key(const void *items, size_t i)
{
	return ((struct app *const *)items)[i]->name;
}

static const char *id_key(const void *items, size_t i)
{
	return ((struct app *const *)items)[i]->id;
}

static int by_id(const void *a, const void *b)
{
	return strcmp((*(struct app *const *)a)->id, (*(struct app *const *)b)->id);
}

static void list_of(struct call *c, const struct user *u)
{
	static const char *const keys[] = {"name", "id", NULL};
	size_t n, first, count;
	struct app **apps;
	struct page page;
	char next[640] = "";
	json_t *out;
	bool more;

	if (!api_page(c, keys, &page))
		return;
	apps = model_apps(u, &n);
	page_key *key = strcmp(page.key, "id") ? name_key : id_key;
	if (key == id_key && n)
		qsort(apps, n, sizeof(struct app *), by_id);
	page_cut(&page, apps, n, key, &first, &count, &more);
	out = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(out, json_app(apps[page.desc ? first - i : first + i]));
	if (more && count)
		page_next(&page, key(apps, page.desc ? first - count + 1 : first + count - 1), next,
			  sizeof(next));
	free(apps);
	api_reply_page(c, out, next[0] ? next : NULL);
}

/* What the user may see: an admin's list of all apps is /platform/apps. */
static void list(struct call *c)
{
	list_of(c, c->user);
}

static void list_of_user(struct call *c)
{
	const struct user *u = strcmp(c->param[0], "~") ? model_user(c->param[0]) : c->user;

	if (!u || (u != c->user && !c->user->admin))
		api_error(c, 404, "not_found", "Couldn't find that user.");
	else
		list_of(c, u);
}

static void list_all(struct call *c)
{
	list_of(c, NULL);
}

static void info(struct call *c)
{
	api_reply(c, 200, json_app(c->app));
}

/* --- changing ------------------------------------------------------------------------------------ */

static struct fault transfer(struct call *c, const char *to)
{
	struct user *u = model_user(to);

	if (c->role != ROLE_OWNER)
		return fault_of(403, "forbidden", "Only the owner of an app can hand it over.");
	if (!u)
		return fault_of(422, "invalid_params", "There is no such user.");
	/* Nobody gets an app that he has nothing to do with. */
	if (!c->user->admin && model_role(u, c->app) == ROLE_NONE)
		return fault_of(422, "invalid_params",
				"The new owner must be a collaborator of the app first.");
	return model_app_transfer(c->app, u);
}

static void update(struct call *c)
{
	bool ok = true;
	const char *name = body_string(c, "name", &ok);
	int maintenance = ok ? body_bool(c, "maintenance", &ok) : -1;
	const char *owner = ok ? body_string(c, "owner", &ok) : NULL,
		   *stack = ok ? body_string(c, "build_stack", &ok) : NULL;
	struct fault f = FAULT_NONE;

	if (!ok)
		return;
	if (stack)
		json_object_set_new(c->body, "stack", json_string(stack));
	if (!check_place(c))
		return;
	if ((name || owner) && c->role != ROLE_OWNER) {
		api_error(c, 403, "forbidden", "Only the owner of an app can rename it or hand it over.");
		return;
	}
	if (name && strcmp(name, c->app->name))
		f = model_app_rename(c->app, name);
	if (!f.status && maintenance >= 0 && (maintenance != 0) != c->app->maintenance) {
		f = model_app_maintenance(c->app, maintenance);
		if (!f.status)
			log_linef(c->app, "app", "api", "Maintenance mode %s by user %s",
				  maintenance ? "enabled" : "disabled", c->user->email);
	}
	if (!f.status && owner)
		f = transfer(c, owner);
	if (f.status)
		api_fault(c, &f);
	else
		api_reply(c, 200, json_app(c->app));
}

struct cert_ids {
	char (*id)[37];
	size_t n;
};

static void take_cert_id(void *arg, sqlite3_stmt *st)
{
	struct cert_ids *ids = arg;

	ids->id = xrealloc(ids->id, (ids->n + 1) * sizeof(*ids->id));
	snprintf(ids->id[ids->n++], sizeof(*ids->id), "%s", (const char *)sqlite3_column_text(st, 0));
}

/* The model tells the parts that hold something of it; certificates and calls are our own. */
static void destroy(struct call *c)
{
	struct app *a = c->app;
	json_t *was = json_app(a);
	struct cert_ids certs = {NULL, 0};
	char id[37];
	struct fault f;

	snprintf(id, sizeof(id), "%s", a->id);
	store_exec("SELECT id FROM certs WHERE app_id = ?", take_cert_id, &certs, "s", id);
	f = model_app_destroy(a);
	if (f.status) {
		json_decref(was);
		api_fault(c, &f);
	} else {
		api_app_gone(a);
		for (size_t i = 0; i < certs.n; i++)
			tls_cert_remove(certs.id[i]);
		api_reply(c, 200, was);
	}
	free(certs.id);
}

/* POST /account/app-transfers {app, recipient}: done at once, so its state is "accepted". */
static void transfer_create(struct call *c)
{
	bool ok = true;
	const char *name = body_string(c, "app", &ok), *to = ok ? body_string(c, "recipient", &ok) : NULL;
	struct app *a;
	struct fault f;
	char id[37];

	if (!ok)
		return;
	a = name ? model_app(name) : NULL;
	c->role = a ? model_role(c->user, a) : ROLE_NONE;
	if (c->role == ROLE_NONE) {
		api_error(c, 404, "not_found", "Couldn't find that app.");
		return;
	}
	c->app = a;
	f = to ? transfer(c, to) : fault_of(422, "invalid_params", "Parameter recipient is missing.");
	if (f.status) {
		api_fault(c, &f);
		return;
	}
	make_uuid(id);
	api_reply(c, 201,
		  json_pack("{s:s, s:o, s:o, s:o, s:s, s:o, s:o}", "id", id, "app", json_app_ref(a), "owner",
			    json_user_ref(c->user), "recipient", json_user_ref(a->owner), "state", "accepted",
			    "created_at", json_time(real_us()), "updated_at", json_time(real_us())));
}

static void transfer_list(struct call *c)
{
	api_reply_list(c, json_array(), "id");
}

/* --- limits: our own ------------------------------------------------------------------------------ */

static void limits_show(struct call *c)
{
	api_reply(c, 200, limits_json(app_limits(c->app)));
}

/*
 * What costs the machine something cannot be raised above the configuration by anybody but an admin; nor can anybody
 * else choose where an app may connect to.
 */
static struct fault check_limits(const struct limits *l)
{
	const struct limits *top = &config.limits;

	if (l->memory > top->memory || l->cpus > top->cpus || l->disk > top->disk ||
	    l->max_processes > top->max_processes)
		return fault_of(422, "invalid_params",
				"Only an admin can raise memory, cpus, disk or max_processes above the "
				"platform's own limits.");
	if (top->cpu_percent && (!l->cpu_percent || l->cpu_percent > top->cpu_percent))
		return fault_of(422, "invalid_params",
				"Only an admin can raise cpu_percent above the platform's own limit.");
	if (top->requests_per_s && (!l->requests_per_s || l->requests_per_s > top->requests_per_s))
		return fault_of(422, "invalid_params",
				"Only an admin can raise requests_per_s above the platform's own limit.");
	if (l->in_flight > 10000 || l->backlog > 10000 || l->max_web > 1000)
		return fault_of(422, "invalid_params",
				"in_flight and backlog are at most 10000, max_web is at most 1000.");
	return FAULT_NONE;
}

static void limits_change(struct call *c)
{
	struct limits l = *app_limits(c->app);
	struct fault f = limits_apply(&l, c->body);

	if (!f.status && !c->user->admin) {
		f = check_limits(&l);
		if (!f.status && strcmp(l.egress, app_limits(c->app)->egress) &&
		    strcmp(l.egress, config.limits.egress))
			f = fault_of(422, "invalid_params",
				     "Only an admin can change where an app may connect to.");
	}
	if (!f.status)
		f = model_app_limits(c->app, &l);
	if (f.status) {
		api_fault(c, &f);
		return;
	}
	sched_update(c->app);
	api_reply(c, 200, limits_json(app_limits(c->app)));
}

/* --- features ("labs") ---------------------------------------------------------------------------- */

static const struct feature {
	const char *id, *name, *state, *description;
	bool always; /* on, and cannot be turned off */
} features[] = {
	{"c0bbe111-0000-4000-8000-000000000101", "runtime-dyno-metadata", "beta",
	 "Environment variables HEROKU_APP_NAME, HEROKU_RELEASE_VERSION and the like; each then starts an "
	 "app of its own way, "
	 "so first starts are slower",
	 false},
	{"c0bbe111-0000-4000-8000-000000000102", "preboot", "general",
	 "A new release answers before the old one stops; always so here", true},
};
#define N_FEATURES (sizeof(features) / sizeof(features[0]))

static void take_time(void *arg, sqlite3_stmt *st)
{
	*(int64_t *)arg = sqlite3_column_int64(st, 0);
}

static json_t *json_feature(const struct app *a, const struct feature *f)
{
	int64_t since = 0;
	json_t *v;

	store_exec("SELECT created_us FROM features WHERE owner_id = ? AND name = ?", take_time, &since, "ss",
		   a->id, f->name);
	v = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "id", f->id, "name", f->name, "state", f->state,
		      "description", f->description, "display_name", f->name, "doc_url",
		      "https://devcenter.heroku.com/articles/dyno-metadata");
	json_object_set_new(v, "enabled", json_boolean(f->always || since));
	json_object_set_new(v, "feedback_email", json_null());
	json_object_set_new(v, "created_at", json_time(since ? since : a->created_us));
	json_object_set_new(v, "updated_at", json_time(since ? since : a->created_us));
	return v;
}

static const struct feature *find_feature(struct call *c)
{
	char shown[64];

	for (size_t i = 0; i < N_FEATURES; i++)
		if (!strcmp(features[i].name, c->param[0]) || !strcmp(features[i].id, c->param[0]))
			return &features[i];
	api_error(c, 404, "not_found", "Couldn't find that app feature (%s).", api_shown(c->param[0], shown));
	return NULL;
}

static void feature_list(struct call *c)
{
	json_t *list_ = json_array();

	for (size_t i = 0; i < N_FEATURES; i++)
		json_array_append_new(list_, json_feature(c->app, &features[i]));
	api_reply_list(c, list_, "name");
}

static void feature_info(struct call *c)
{
	const struct feature *f = find_feature(c);

	if (f)
		api_reply(c, 200, json_feature(c->app, f));
}

static void feature_change(struct call *c)
{
	const struct feature *f = find_feature(c);
	bool ok = true;
	int on = f ? body_bool(c, "enabled", &ok) : -1, err = 0;

	if (!f || !ok)
		return;
	if (on < 0) {
		api_error(c, API_INVALID, "Parameter enabled is missing.");
		return;
	}
	if (f->always && !on) {
		api_error(c, API_INVALID, "Feature %s cannot be turned off here.", f->name);
		return;
	}
	if (on && !f->always)
		err = store_exec(
			"INSERT OR IGNORE INTO features (owner_id, name, created_us) VALUES (?, ?, ?)", NULL,
			NULL, "ssi", c->app->id, f->name, real_us());
	else if (!on)
		err = store_exec("DELETE FROM features WHERE owner_id = ? AND name = ?", NULL, NULL, "ss",
				 c->app->id, f->name);
	if (err) {
		struct fault fault = store_fault(err);
		api_fault(c, &fault);
		return;
	}
	api_reply(c, 200, json_feature(c->app, f));
}

const struct route api_apps_routes[] = {
	{"POST", "/apps", NEED_USER, create, NULL},
	{"GET", "/apps", NEED_USER, list, NULL},
	{"GET", "/users/{}/apps", NEED_USER, list_of_user, NULL},
	{"GET", "/platform/apps", NEED_ADMIN, list_all, NULL},
	{"GET", "/apps/{app}", NEED_COLLABORATOR, info, NULL},
	{"PATCH", "/apps/{app}", NEED_COLLABORATOR, update, NULL},
	{"DELETE", "/apps/{app}", NEED_OWNER, destroy, NULL},
	{"GET", "/account/app-transfers", NEED_USER, transfer_list, NULL},
	{"POST", "/account/app-transfers", NEED_USER, transfer_create, NULL},
	{"GET", "/apps/{app}/limits", NEED_COLLABORATOR, limits_show, NULL},
	{"PATCH", "/apps/{app}/limits", NEED_OWNER, limits_change, NULL},
	{"GET", "/apps/{app}/features", NEED_COLLABORATOR, feature_list, NULL},
	{"GET", "/apps/{app}/features/{}", NEED_COLLABORATOR, feature_info, NULL},
	{"PATCH", "/apps/{app}/features/{}", NEED_COLLABORATOR, feature_change, NULL},
	{0},
};
