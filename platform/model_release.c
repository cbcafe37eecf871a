/* SPDX-License-Identifier: ISC */
/*
 * Releases: a slug and config vars under a number that only grows. One is current; all of them are in the store. With each goes the
 * formation: process types of a new slug appear (web with quantity 1, others with 0), those that it has not go.
 *
 *   pending (its release phase runs) --model_release_done(true)--> succeeded, current
 *                                    --model_release_done(false)-> failed; the old one stays current
 *
 * If another release became current while a phase ran, the pending one's vars are old: what becomes current then is a new release
 * of its slug with the vars of today.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/api.h"
#include "platform/model_inside.h"

#define MAX_CONFIG_BYTES 65536 /* of all vars of an app: keys and values */
#define MAX_RELEASES	 500 /* of an app are kept; older ones go */
#define MAX_KEY		 256

/* --- what may be in one ------------------------------------------------------------------------------------- */

static struct fault check_config(json_t *config_vars)
{
	size_t bytes = 0;
	const char *key;
	json_t *v;

	if (!json_is_object(config_vars))
		return fault_of(422, "invalid_params", "Config vars must be an object.");
	json_object_foreach(config_vars, key, v)
	{
		size_t n = strlen(key);
		if (!n || n > MAX_KEY || strchr(key, '=') || (key[0] >= '0' && key[0] <= '9'))
			return fault_of(422, "invalid_params", "Config var '%.60s' has an invalid name.",
					key);
		for (const char *p = key; *p; p++)
			if ((unsigned char)*p <= 32 || *p == 127)
				return fault_of(422, "invalid_params",
						"Names of config vars may not have blanks or control "
						"characters in them.");
		if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
			return fault_of(422, "invalid_params",
					"Config var '%.60s' must be a text without NUL.", key);
		bytes += n + json_string_length(v);
	}
	if (bytes > MAX_CONFIG_BYTES)
		return fault_of(422, "invalid_params", "Config vars take %zu bytes; %d are possible.", bytes,
				MAX_CONFIG_BYTES);
	return FAULT_NONE;
}

static struct fault check_types(json_t *types)
{
	const char *type;
	json_t *v;

	if (!json_is_object(types) || json_object_size(types) > MAX_TYPES)
		return fault_of(422, "invalid_params", "Process types must be an object of at most %d.",
				MAX_TYPES);
	json_object_foreach(types, type, v)
	{
		size_t n = strlen(type);
		if (!n || n > 31 ||
		    strspn(type, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != n)
			return fault_of(422, "invalid_params", "Process type '%.40s' is not valid.", type);
		if (!json_is_string(v) || json_string_length(v) > 16384)
			return fault_of(422, "invalid_params", "The command of process type %s is not valid.",
					type);
	}
	return FAULT_NONE;
}

/* --- releases ----------------------------------------------------------------------------------------------- */

struct row { /* a release, as it goes into the store and, if it is current, into memory */
	unsigned version;
	char id[37];
	const char *description, *user_id, *slug_id, *image, *config, *types, *status;
	uint64_t image_bytes;
	int64_t now;
};

static int insert_release(const struct app *a, const struct row *r)
{
	return store_exec("INSERT INTO releases (app_id, version, id, status, description, user_id, slug_id, "
			  "image, image_bytes, config,"
			  " types, created_us, updated_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			  NULL, NULL, "sissssssissii", a->id, (int64_t)r->version, r->id, r->status,
			  r->description, r->user_id, r->slug_id, r->image, (int64_t)r->image_bytes,
			  r->config, r->types, r->now, r->now);
}

static int point_at(const struct app *a, unsigned current, unsigned last, int64_t now)
{
	return store_exec(
		"UPDATE apps SET release = ?, last_release = ?, released_us = ?, updated_us = ? WHERE id = ?",
		NULL, NULL, "iiiis", (int64_t)current, (int64_t)last,
		current == a->release.version ? a->released_us : now, now, a->id);
}

static void become_current(struct app *a, const struct row *r)
{
	struct release *c = &a->release;

	c->version = r->version;
	strcpy(c->id, r->id);
	if (r->slug_id != c->slug_id)
		snprintf(c->slug_id, sizeof(c->slug_id), "%s", r->slug_id);
	char *image = intern(r->image), *vars = intern(r->config); /* r may point at the old ones */
	intern_free(c->image);
	intern_free(c->config);
	c->image = image;
	c->config = vars;
	c->image_bytes = r->image_bytes;
	c->created_us = a->released_us = a->updated_us = r->now;
}

/* One text column of a release; malloc'ed. */
static void take_text(void *arg, sqlite3_stmt *st)
{
	const char *s = (const char *)sqlite3_column_text(st, 0);

	free(*(char **)arg);
	*(char **)arg = xstrdup(s ? s : "{}");
}

static char *types_of(const struct app *a, unsigned version)
{
	char *text = NULL;

	if (version)
		store_exec("SELECT types FROM releases WHERE app_id = ? AND version = ?", take_text, &text,
			   "si", a->id, (int64_t)version);
	return text ? text : xstrdup("{}");
}

/* Write the release and what hangs on it, in the transaction that is open. `types` NULL: the formation stays. */
static int write_release(struct app *a, struct row *r, json_t *types, bool pending, struct plan *plan)
{
	int rc;

	make_uuid(r->id);
	r->version = a->last_release + 1;
	r->status = pending ? "pending" : "succeeded";
	rc = insert_release(a, r);
	if (!rc)
		rc = point_at(a, pending ? a->release.version : r->version, r->version, r->now);
	if (!rc && !pending)
		rc = plan_formation(a, types, plan, r->now);
	if (!rc && r->version > MAX_RELEASES)
		rc = store_exec("DELETE FROM releases WHERE app_id = ? AND version <= ? AND version <> ?",
				NULL, NULL, "sii", a->id, (int64_t)(r->version - MAX_RELEASES),
				(int64_t)(pending ? a->release.version : r->version));
	return rc;
}

/* It is written: now memory. */
static void apply_release(struct app *a, const struct row *r, bool pending, const struct plan *plan)
{
	a->last_release = r->version;
	a->updated_us = r->now;
	if (pending)
		return;
	become_current(a, r);
	do_formation(a, plan, r->now);
}

static struct fault commit_release(struct app *a, struct row *r, json_t *types, bool pending)
{
	struct plan *plan = xcalloc(1, sizeof(*plan));
	int rc = store_begin();
	struct fault f = store_fault(rc);

	if (!rc)
		f = finish_change(write_release(a, r, types, pending, plan));
	if (!f.status)
		apply_release(a, r, pending, plan);
	free(plan);
	return f;
}

struct fault model_release_create(struct app *a, const struct new_release *n, unsigned *version)
{
	struct fault f = n->config ? check_config(n->config) : FAULT_NONE;
	char *vars = NULL, *types = NULL;

	if (!f.status && n->types)
		f = check_types(n->types);
	if (f.status)
		return f;
	vars = n->config ? json_dumps(n->config, JSON_COMPACT | JSON_SORT_KEYS) : xstrdup(a->release.config);
	types = n->types ? json_dumps(n->types, JSON_COMPACT) : types_of(a, a->release.version);
	struct row r = {
		.description = n->description ? n->description : "",
		.user_id = n->user ? n->user->id : NULL,
		.slug_id = n->image ? (n->slug_id ? n->slug_id : "") : a->release.slug_id,
		.image = n->image ? n->image : a->release.image,
		.image_bytes = n->image ? n->image_bytes : a->release.image_bytes,
		.config = vars,
		.types = types,
		.now = real_us(),
	};
	f = vars && types
		    ? commit_release(a, &r, n->types, n->pending)
		    : fault_of(422, "invalid_params", "Config vars or process types are no valid UTF-8.");
	if (!f.status && version)
		*version = r.version;
	free(vars);
	free(types);
	return f;
}

/* --- the end of a release phase ------------------------------------------------------------------------------ */

struct stored { /* a release of the store, its texts owned */
	bool found;
	char id[37], status[16], slug_id[37];
	char *description, *user_id, *image, *config, *types;
	uint64_t image_bytes;
	int64_t created_us, updated_us;
	unsigned version;
};

static char *column_copy(sqlite3_stmt *st, int i)
{
	const char *s = (const char *)sqlite3_column_text(st, i);

	return s ? xstrdup(s) : NULL;
}

static void take_release(void *arg, sqlite3_stmt *st)
{
	struct stored *s = arg;

	s->found = true;
	s->version = (unsigned)sqlite3_column_int64(st, 0);
	snprintf(s->id, sizeof(s->id), "%s", sqlite3_column_text(st, 1));
	snprintf(s->status, sizeof(s->status), "%s", sqlite3_column_text(st, 2));
	s->description = column_copy(st, 3);
	s->user_id = column_copy(st, 4);
	snprintf(s->slug_id, sizeof(s->slug_id), "%s", sqlite3_column_text(st, 5));
	s->image = column_copy(st, 6);
	s->image_bytes = (uint64_t)sqlite3_column_int64(st, 7);
	s->config = column_copy(st, 8);
	s->types = column_copy(st, 9);
	s->created_us = sqlite3_column_int64(st, 10);
	s->updated_us = sqlite3_column_int64(st, 11);
}

static void stored_free(struct stored *s)
{
	free(s->description);
	free(s->user_id);
	free(s->image);
	free(s->config);
	free(s->types);
}

static int read_release(const struct app *a, unsigned version, struct stored *s)
{
	memset(s, 0, sizeof(*s));
	return store_exec("SELECT version, id, status, description, user_id, slug_id, image, image_bytes, "
			  "config, types, created_us,"
			  " updated_us FROM releases WHERE app_id = ? AND version = ?",
			  take_release, s, "si", a->id, (int64_t)version);
}

static int set_status(const struct app *a, unsigned version, const char *status, int64_t now)
{
	return store_exec("UPDATE releases SET status = ?, updated_us = ? WHERE app_id = ? AND version = ?",
			  NULL, NULL, "sisi", status, now, a->id, (int64_t)version);
}

/* The pending release becomes current, and its types the formation. */
static struct fault promote(struct app *a, const struct stored *s, json_t *types, int64_t now)
{
	struct plan *plan = xcalloc(1, sizeof(*plan));
	struct row r = {.version = s->version,
			.slug_id = s->slug_id,
			.image = s->image,
			.config = s->config,
			.image_bytes = s->image_bytes,
			.now = now};
	int rc = store_begin();
	struct fault f = store_fault(rc);

	strcpy(r.id, s->id);
	if (!rc) {
		rc = set_status(a, s->version, "succeeded", now);
		if (!rc)
			rc = point_at(a, s->version, a->last_release, now);
		if (!rc)
			rc = plan_formation(a, types, plan, now);
		f = finish_change(rc);
	}
	if (!f.status) {
		become_current(a, &r);
		a->release.created_us = s->created_us;
		do_formation(a, plan, now);
	}
	free(plan);
	return f;
}

/* Its slug with the vars of today, under a new number. */
static struct fault renew(struct app *a, const struct stored *s, json_t *types, int64_t now)
{
	struct row r = {.description = s->description,
			.user_id = s->user_id,
			.slug_id = s->slug_id,
			.image = s->image,
			.image_bytes = s->image_bytes,
			.config = a->release.config,
			.types = s->types,
			.now = now};
	struct plan *plan = xcalloc(1, sizeof(*plan));
	int rc = store_begin();
	struct fault f = store_fault(rc);

	if (!rc) {
		rc = set_status(a, s->version, "succeeded", now);
		if (!rc)
			rc = write_release(a, &r, types, false, plan);
		f = finish_change(rc);
	}
	if (!f.status)
		apply_release(a, &r, false, plan);
	free(plan);
	return f;
}

struct fault model_release_done(struct app *a, unsigned version, bool succeeded)
{
	int64_t now = real_us();
	struct stored s;
	int rc = read_release(a, version, &s);
	struct fault f = store_fault(rc);

	if (!rc && (!s.found || strcmp(s.status, "pending")))
		f = fault_of(404, "not_found", "Couldn't find that release.");
	if (!f.status && !succeeded) {
		f = store_fault(set_status(a, version, "failed", now));
	} else if (!f.status) {
		json_t *types = json_loads(s.types ? s.types : "{}", 0, NULL);
		f = version > a->release.version ? promote(a, &s, types, now) : renew(a, &s, types, now);
		json_decref(types);
	}
	stored_free(&s);
	return f;
}

/* --- as JSON -------------------------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *s)
{
	return s ? json_string(s) : json_null();
}

static json_t *object_of(const char *text)
{
	json_t *j = text ? json_loads(text, 0, NULL) : NULL;

	return j ? j : json_object();
}

static json_t *time_text(int64_t us)
{
	char text[32];

	format_time(us, text);
	return json_string(text);
}

json_t *model_release(struct app *a, unsigned version)
{
	struct stored s;
	json_t *j = NULL;

	if (!version)
		version = a->release.version;
	if (version && !read_release(a, version, &s)) {
		const struct user *u = s.found && s.user_id ? model_user(s.user_id) : NULL;
		if (!u)
			u = a->owner;
		if (s.found)
			j = json_pack("{s:s,s:I,s:s,s:o,s:b,s:{s:s,s:s},s:o,s:{s:s,s:s},s:[],s:n,s:o,s:o,s:o,"
				      "s:I,s:o,s:o}",
				      "id", s.id, "version", (json_int_t)s.version, "status", s.status,
				      "description", text_or_null(s.description), "current",
				      s.version == a->release.version, "app", "id", a->id, "name", a->name,
				      "slug", *s.slug_id ? json_pack("{s:s}", "id", s.slug_id) : json_null(),
				      "user", "id", u->id, "email", u->email, "addon_plan_names",
				      "output_stream_url", "created_at", time_text(s.created_us),
				      "updated_at", time_text(s.updated_us), "image", text_or_null(s.image),
				      "image_bytes", (json_int_t)s.image_bytes, "config", object_of(s.config),
				      "types", object_of(s.types));
		stored_free(&s);
	}
	return j;
}
