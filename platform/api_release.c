// SPDX-License-Identifier: ISC
/*
 * Releases: listed newest or oldest first, shown by number or id, made from an older release (a rollback) or a slug.
 *
 * They are read from the store without their config vars, which are many bytes and asked for on their own. Each statement names
 * the app, so that an id of another app's release or slug finds nothing.
 */
#include "platform/api_util.h"
#include "platform/build.h"
#include "platform/logs.h"
#include "platform/sched.h"
#include "platform/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS "id, version, status, description, user_id, slug_id, created_us, updated_us"

struct rows {
	const struct app *app;
	json_t *array;
	unsigned max; /* more rows than this are only counted */
	bool more;
};

static const char *column(sqlite3_stmt *st, int i)
{
	const char *s = (const char *)sqlite3_column_text(st, i);

	return s ? s : "";
}

static json_t *json_row(const struct app *a, sqlite3_stmt *st)
{
	const char *status = column(st, 2), *slug = column(st, 5), *by = column(st, 4);
	const struct user *u = *by ? model_user(by) : NULL;
	json_int_t version = sqlite3_column_int64(st, 1);
	json_t *v = json_object(), *text = json_string(column(st, 3));

	json_object_set_new(v, "addon_plan_names", json_array());
	json_object_set_new(v, "app", json_app_ref(a));
	json_object_set_new(v, "created_at", json_time(sqlite3_column_int64(st, 6)));
	json_object_set_new(v, "current", json_boolean(version == a->release.version));
	json_object_set_new(v, "description", text ? text : json_string(""));
	json_object_set_new(v, "eligible_for_rollback", json_boolean(*slug && !strcmp(status, "succeeded")));
	json_object_set_new(v, "id", json_string(column(st, 0)));
	json_object_set_new(v, "oci_image", json_null());
	json_object_set_new(v, "output_stream_url", json_null());
	json_object_set_new(v, "slug", *slug ? json_pack("{s:s}", "id", slug) : json_null());
	json_object_set_new(v, "status", json_string(status));
	json_object_set_new(v, "updated_at", json_time(sqlite3_column_int64(st, 7)));
	json_object_set_new(v, "user", u ? json_user_ref(u) : json_pack("{s:s, s:s}", "id", by, "email", ""));
	json_object_set_new(v, "version", json_integer(version));
	return v;
}

static void take_row(void *arg, sqlite3_stmt *st)
{
	struct rows *r = arg;

	if (json_array_size(r->array) < r->max)
		json_array_append_new(r->array, json_row(r->app, st));
	else
		r->more = true;
}

/* The release that a client names: 3, "v3" or an id. NULL: none. */
static json_t *find(const struct app *a, const char *name)
{
	struct rows r = {a, json_array(), 1, false};
	const char *digits = name[0] == 'v' ? name + 1 : name;
	size_t n = strspn(digits, "0123456789");
	json_t *found;

	if (n && n < 10 && !digits[n])
		store_exec("SELECT " COLUMNS " FROM releases WHERE app_id = ? AND version = ?", take_row, &r,
			   "si", a->id, (int64_t)atoll(digits));
	else if (strlen(name) == 36)
		store_exec("SELECT " COLUMNS " FROM releases WHERE app_id = ? AND id = ?", take_row, &r, "ss",
			   a->id, name);
	found = json_incref(json_array_get(r.array, 0));
	json_decref(r.array);
	return found;
}

static void not_found(struct call *c)
{
	api_error(c, 404, "not_found", "Couldn't find that release.");
}

static int64_t bound(const char *text, int64_t otherwise)
{
	return text[0] >= '0' && text[0] <= '9' && strlen(text) < 10 ? atoll(text) : otherwise;
}

static void list(struct call *c)
{
	static const char *const keys[] = {"version", "id", NULL};
	struct rows r = {c->app, NULL, API_PAGE_MAX, false};
	int64_t low, high;
	struct page p;
	char last[24], next[640] = "";

	if (!api_page(c, keys, &p))
		return;
	r.array = json_array();
	if (!strcmp(p.key, "id")) {
		r.max = 100000;
		store_exec("SELECT " COLUMNS
			   " FROM releases WHERE app_id = ? ORDER BY version DESC LIMIT 100000",
			   take_row, &r, "s", c->app->id);
		api_reply_list(c, r.array, "id");
		return;
	}
	/* As page_cut(): "]last" is where a page begins, the upper end if it goes downwards. */
	if (p.desc && p.from_exclusive) {
		low = bound(p.to, 0);
		high = bound(p.from, INT32_MAX) - 1;
	} else {
		low = bound(p.from, 0) + (p.from_exclusive ? 1 : 0);
		high = bound(p.to, INT32_MAX);
	}
	r.max = p.max;
	store_exec(p.desc ? "SELECT " COLUMNS
			    " FROM releases WHERE app_id = ? AND version >= ? AND version <= ? "
			    "ORDER BY version DESC LIMIT ?"
			  : "SELECT " COLUMNS
			    " FROM releases WHERE app_id = ? AND version >= ? AND version <= ? "
			    "ORDER BY version LIMIT ?",
		   take_row, &r, "siii", c->app->id, low, high, (int64_t)p.max + 1);
	if (r.more) {
		json_t *v = json_array_get(r.array, json_array_size(r.array) - 1);
		snprintf(last, sizeof(last), "%lld",
			 (long long)json_integer_value(json_object_get(v, "version")));
		page_next(&p, last, next, sizeof(next));
	}
	api_reply_page(c, r.array, next[0] ? next : NULL);
}

static void info(struct call *c)
{
	json_t *v = find(c->app, c->param[0]);

	if (v)
		api_reply(c, 200, v);
	else
		not_found(c);
}

/* The release as the model keeps it, with image, config and types. */
static json_t *whole(const struct app *a, const char *name)
{
	json_t *v = find(a, name), *full = NULL;

	if (v)
		full = model_release((struct app *)a,
				     (unsigned)json_integer_value(json_object_get(v, "version")));
	json_decref(v);
	return full;
}

static void config_of(struct call *c)
{
	json_t *v = whole(c->app, c->param[0]), *vars = json_object_get(v, "config");

	if (!v)
		not_found(c);
	else
		api_reply(c, 200, json_is_object(vars) ? json_incref(vars) : json_object());
	json_decref(v);
}

/* --- making ----------------------------------------------------------------------------------------- */

static void made(struct call *c, const struct new_release *r)
{
	char name[16];
	unsigned version;
	struct fault f = model_release_create(c->app, r, &version);
	json_t *v;

	if (f.status) {
		api_fault(c, &f);
		return;
	}
	log_linef(c->app, "app", "api", "%s by user %s", r->description, c->user->email);
	log_linef(c->app, "app", "api", "Release v%u created by user %s", version, c->user->email);
	sched_update(c->app);
	snprintf(name, sizeof(name), "%u", version);
	v = find(c->app, name);
	if (v)
		api_reply(c, 201, v);
	else
		api_error(c, 500, "internal", "The release was made, but could not be read again.");
}

static void rollback(struct call *c, const char *to)
{
	json_t *v = find(c->app, to), *full;
	char description[64], slug[37];
	const char *image;

	if (!v) {
		not_found(c);
		return;
	}
	if (!json_is_true(json_object_get(v, "eligible_for_rollback"))) {
		json_decref(v);
		api_error(c, API_INVALID,
			  "That release cannot be rolled back to: it has no slug, or it failed.");
		return;
	}
	snprintf(description, sizeof(description), "Rollback to v%lld",
		 (long long)json_integer_value(json_object_get(v, "version")));
	snprintf(slug, sizeof(slug), "%s",
		 json_string_value(json_object_get(json_object_get(v, "slug"), "id")));
	full = whole(c->app, to);
	image = json_string_value(json_object_get(full, "image"));
	if (!image || !build_slug_is_kept(slug)) {
		api_error(c, API_INVALID, "The image of that release is not kept any more.");
	} else {
		struct new_release r = {
			.description = description,
			.user = c->user,
			.image = image,
			.slug_id = slug,
			.image_bytes = (uint64_t)json_integer_value(json_object_get(full, "image_bytes")),
			.config = json_object_get(full, "config"),
			.types = json_object_get(full, "types"),
		};
		made(c, &r);
	}
	json_decref(v);
	json_decref(full);
}

struct slug {
	char id[37];
	char *image, *types;
	int64_t bytes;
};

static void take_slug(void *arg, sqlite3_stmt *st)
{
	struct slug *s = arg;

	if (s->image)
		return;
	snprintf(s->id, sizeof(s->id), "%s", column(st, 0));
	s->image = xstrdup(column(st, 1));
	s->types = xstrdup(column(st, 2));
	s->bytes = sqlite3_column_int64(st, 3);
}

static void from_slug(struct call *c, const char *id, const char *description)
{
	struct slug s = {0};
	char shown[64], text[80];
	json_t *types;

	store_exec("SELECT id, image, types, bytes FROM slugs WHERE app_id = ? AND id = ?", take_slug, &s,
		   "ss", c->app->id, id);
	if (!s.image) {
		api_error(c, API_INVALID, "Couldn't find that slug.");
		return;
	}
	snprintf(text, sizeof(text), "%s",
		 description && *description ? api_shown(description, shown) : "Deploy");
	types = json_loads(s.types, 0, NULL);
	struct new_release r = {.description = text,
				.user = c->user,
				.image = s.image,
				.slug_id = s.id,
				.image_bytes = (uint64_t)s.bytes,
				.types = json_is_object(types) ? types : NULL};
	made(c, &r);
	json_decref(types);
	free(s.image);
	free(s.types);
}

static void create(struct call *c)
{
	json_t *said = json_object_get(c->body, "release");
	bool ok = true;
	const char *slug = body_string(c, "slug", &ok),
		   *description = ok ? body_string(c, "description", &ok) : NULL;
	char number[32];

	if (!ok)
		return;
	if (json_is_integer(said)) {
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(said));
		rollback(c, number);
	} else if (json_is_string(said)) {
		rollback(c, json_string_value(said));
	} else if (slug) {
		from_slug(c, slug, description);
	} else {
		api_error(c, API_INVALID, "Parameter release or slug is missing.");
	}
}

const struct route api_release_routes[] = {
	{"GET", "/apps/{app}/releases", NEED_COLLABORATOR, list, NULL},
	{"POST", "/apps/{app}/releases", NEED_COLLABORATOR, create, NULL},
	{"GET", "/apps/{app}/releases/{}", NEED_COLLABORATOR, info, NULL},
	{"GET", "/apps/{app}/releases/{}/config-vars", NEED_COLLABORATOR, config_of, NULL},
	{0},
};
