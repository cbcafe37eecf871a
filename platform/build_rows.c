/* SPDX-License-Identifier: ISC */
/*
 * Builds and slugs in the store, and as Heroku's JSON.
 *
 * A row of `builds` is written when a build is accepted, and again at its end. `source` is JSON: what the client said ("url", "version",
 * "checksum"), and while it is pending where its tar is ("tar", "fetch", "strip", "description"), so that a build that was accepted is
 * begun again when we were killed. A git push is not: its client has gone.
 *
 * A slug's image is called slug-ID, whatever happens to the app's name. The images of the last KEEP_RELEASES releases stay; older slugs
 * lose their row here and their image by builder_remove_image(), in this order: a crash between the two leaves an image that no slug
 * has, which the sweep after a start finds. Rows of an app that is destroyed go with it (CASCADE); a sweep finds its images, too.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/api.h"
#include "platform/build_inside.h"
#include "platform/store.h"

#define KEEP_BUILDS 20
#define STACK	    "cowbell"
#define STACK_ID    "c0bbe111-0000-4000-8000-000000000001"

static const char *column(sqlite3_stmt *st, int i)
{
	return (const char *)sqlite3_column_text(st, i);
}

static void set_text(json_t *o, const char *key, const char *value)
{
	if (value)
		json_object_set_new(o, key, json_string(value));
}

/* --- writing --------------------------------------------------------------------------------------------------------------- */

static char *source_json(const struct build *b, bool pending)
{
	json_t *o = json_object();

	set_text(o, "url", b->said_url);
	set_text(o, "checksum", b->checksum);
	if (pending && !b->once) {
		set_text(o, "tar", b->tar);
		set_text(o, "fetch", b->url);
		set_text(o, "description", b->description);
		if (b->strip)
			json_object_set_new(o, "strip", json_true());
	}
	char *text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text;
}

int rows_build_new(const struct build *b)
{
	char *source = source_json(b, true);
	int r = store_exec(
		"INSERT INTO builds (id, app_id, user_id, status, source, version, created_us, updated_us)"
		" VALUES (?, ?, ?, 'pending', ?, ?, ?, ?)",
		NULL, NULL, "sssssii", b->id, b->app->id, b->user_id[0] ? b->user_id : NULL, source,
		b->version, b->created_us, b->updated_us);

	free(source);
	return r;
}

/* The end of it is what says why it failed. Cut between lines. */
static char *kept_output(const struct build *b)
{
	static const char cut[] = "[...]\n";
	size_t from = b->n_output > OUTPUT_KEPT ? b->n_output - OUTPUT_KEPT : 0;

	while (from && from < b->n_output && b->output[from - 1] != '\n')
		from++;
	char *text = xcalloc(1, sizeof(cut) + b->n_output - from);
	if (from)
		strcpy(text, cut);
	memcpy(text + strlen(text), b->output ? b->output + from : "", b->n_output - from);
	return text;
}

void rows_build_end(const struct build *b)
{
	char *source = source_json(b, false), *output = kept_output(b);

	store_exec("UPDATE builds SET status = ?, source = ?, slug_id = ?, release = ?, why = ?, output = ?, "
		   "updated_us = ?"
		   " WHERE id = ?",
		   NULL, NULL, "sssissis", b->ok ? "succeeded" : "failed", source,
		   b->release ? b->slug_id : "", (int64_t)b->release, b->ok || !b->why[0] ? NULL : b->why,
		   output, b->updated_us, b->id);
	free(source);
	free(output);
}

int rows_slug_new(const struct build *b)
{
	char image[64], *types = json_dumps(b->types, JSON_COMPACT);
	const char *digest = json_string_value(json_object_get(b->image, "digest"));
	int64_t now = real_us();

	snprintf(image, sizeof(image), "slug-%s", b->slug_id);
	int r = store_exec("INSERT INTO slugs (id, app_id, image, bytes, types, \"commit\", description, "
			   "checksum, created_us,"
			   " updated_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			   NULL, NULL, "sssissssii", b->slug_id, b->app->id, image,
			   (int64_t)json_integer_value(json_object_get(b->image, "size")),
			   types ? types : "{}", b->version,
			   json_string_value(json_object_get(b->image, "language")), digest, now, now);
	free(types);
	return r;
}

/* --- forgetting ---------------------------------------------------------------------------------------------------------------- */

static void take_id(void *arg, sqlite3_stmt *st)
{
	json_array_append_new(arg, json_string(column(st, 0)));
}

static void remove_slugs(json_t *ids)
{
	char image[64];
	json_t *id;
	size_t i;

	json_array_foreach(ids, i, id)
	{
		store_exec("DELETE FROM slugs WHERE id = ?", NULL, NULL, "s", json_string_value(id));
		snprintf(image, sizeof(image), "slug-%.40s", json_string_value(id));
		builder_remove_image(image);
	}
}

void rows_collect(struct app *a)
{
	json_t *ids = json_array();
	int64_t oldest = (int64_t)a->release.version - KEEP_RELEASES;

	store_exec("SELECT id FROM slugs WHERE app_id = ?1 AND id <> ?2 AND NOT EXISTS (SELECT 1 FROM "
		   "releases r WHERE"
		   " r.app_id = ?1 AND r.slug_id = slugs.id AND (r.version > ?3 OR r.status = 'pending'))",
		   take_id, ids, "ssi", a->id, a->release.slug_id, oldest);
	remove_slugs(ids);
	json_decref(ids);
	store_exec("DELETE FROM builds WHERE app_id = ?1 AND status <> 'pending' AND id NOT IN (SELECT id "
		   "FROM builds WHERE"
		   " app_id = ?1 ORDER BY created_us DESC LIMIT ?2)",
		   NULL, NULL, "si", a->id, (int64_t)KEEP_BUILDS);
}

static void count_one(void *arg, sqlite3_stmt *st)
{
	(void)st;
	++*(unsigned *)arg;
}

bool build_slug_is_kept(const char *slug_id)
{
	unsigned n = 0;

	return !store_exec("SELECT 1 FROM slugs WHERE id = ?", count_one, &n, "s", slug_id) && n;
}

void rows_sweep_name(const char *image)
{
	if (!image || strncmp(image, "slug-", 5) || strlen(image) != 41)
		return;
	for (const struct build *b = builds; b; b = b->next)
		if (!strcmp(b->slug_id, image + 5))
			return;
	if (!build_slug_is_kept(image + 5))
		builder_remove_image(image);
}

/* --- after a start ------------------------------------------------------------------------------------------------------------- */

struct pending_row {
	char *id, *app, *user, *source, *version;
	struct pending_row *next;
};

static char *copy(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

static void take_pending(void *arg, sqlite3_stmt *st)
{
	struct pending_row *p = xcalloc(1, sizeof(*p)), **at = arg;

	p->id = copy(column(st, 0));
	p->app = copy(column(st, 1));
	p->user = copy(column(st, 2));
	p->source = copy(column(st, 3));
	p->version = copy(column(st, 4));
	while (*at)
		at = &(*at)->next;
	*at = p;
}

/* The same source, under a new id; the old one is told to have failed if it cannot be. */
static bool begin_again(const struct pending_row *p)
{
	json_t *o = json_loads(p->source ? p->source : "{}", 0, NULL);
	const char *tar = json_string_value(json_object_get(o, "tar"));
	const char *fetch = json_string_value(json_object_get(o, "fetch"));
	struct app *a = model_app(p->app);
	bool good = a && tar && (fetch || !access(tar, R_OK));

	if (good) {
		struct build_source src = {
			.tar = xstrdup(tar),
			.url = copy(fetch),
			.said_url = copy(json_string_value(json_object_get(o, "url"))),
			.checksum = copy(json_string_value(json_object_get(o, "checksum"))),
			.description = copy(json_string_value(json_object_get(o, "description"))),
			.version = copy(p->version),
			.strip = json_is_true(json_object_get(o, "strip"))};
		store_exec("DELETE FROM builds WHERE id = ?", NULL, NULL, "s", p->id);
		struct build *b;
		struct fault f = build_enqueue(a, p->user ? model_user(p->user) : NULL, &src, NULL, &b);
		good = !f.status;
		if (good) { /* clients know it by its first id */
			store_exec("UPDATE builds SET id = ? WHERE id = ?", NULL, NULL, "ss", p->id, b->id);
			snprintf(b->id, sizeof(b->id), "%s", p->id);
		}
	}
	json_decref(o);
	return good;
}

/* Files of sources/ that no source and no build has. */
static void clear_tmp(void)
{
	char dir[4096];

	snprintf(dir, sizeof(dir), "%s/sources", config.data_dir);
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		bool used = !strncmp(e->d_name, "source-", 7);
		for (const struct build *b = builds; b && !used; b = b->next)
			used = b->tar && !strcmp(strrchr(b->tar, '/') + 1, e->d_name);
		if (!used && (!strncmp(e->d_name, "part-", 5) || !strncmp(e->d_name, "build-", 6) ||
			      !strncmp(e->d_name, "push-", 5)))
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
}

void rows_recover(void)
{
	struct pending_row *rows = NULL;

	store_exec("SELECT id, app_id, user_id, source, version FROM builds WHERE status = 'pending' ORDER "
		   "BY created_us",
		   take_pending, &rows, "");
	while (rows) {
		struct pending_row *p = rows;
		rows = p->next;
		if (!begin_again(p))
			store_exec("UPDATE builds SET status = 'failed', why = 'The server was restarted', "
				   "updated_us = ?"
				   " WHERE id = ?",
				   NULL, NULL, "is", real_us(), p->id);
		free(p->id);
		free(p->app);
		free(p->user);
		free(p->source);
		free(p->version);
		free(p);
	}
	clear_tmp();
}

/* --- as JSON --------------------------------------------------------------------------------------------------------------------- */

struct build_row {
	struct app *app;
	const char *base;
	json_t *out; /* an array */
};

static json_t *user_ref(const char *id)
{
	const struct user *u = id ? model_user(id) : NULL;

	return u ? json_pack("{s:s, s:s}", "email", u->email, "id", u->id) : json_null();
}

static json_t *id_ref(const char *id)
{
	return id && *id ? json_pack("{s:s}", "id", id) : json_null();
}

static json_t *source_blob(const char *source, const char *version)
{
	json_t *o = json_loads(source ? source : "{}", 0, NULL);
	const char *sum = json_string_value(json_object_get(o, "checksum"));
	const char *url = json_string_value(json_object_get(o, "url"));
	json_t *blob = json_pack("{s:s?, s:s?, s:s?}", "checksum", sum, "url", url, "version", version);

	json_decref(o);
	return blob;
}

static void take_build(void *arg, sqlite3_stmt *st)
{
	struct build_row *r = arg;
	const char *id = column(st, 0), *release = column(st, 9);
	char mac[33], url[512];

	source_mac("output", id, mac);
	snprintf(url, sizeof(url), "%s/builds/%s/output?key=%s", r->base, id, mac);
	json_t *o = json_pack(
		"{s:s, s:s, s:o, s:[], s:s, s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "id", id, "status",
		column(st, 2), "app", json_pack("{s:s, s:s}", "id", r->app->id, "name", r->app->name),
		"buildpacks", "stack", STACK, "created_at", json_time(sqlite3_column_int64(st, 6)),
		"updated_at", json_time(sqlite3_column_int64(st, 7)), "user", user_ref(column(st, 1)),
		"output_stream_url", url, "slug", id_ref(column(st, 5)), "release", id_ref(release),
		"source_blob", source_blob(column(st, 3), column(st, 4)));
	if (column(st, 8))
		json_object_set_new(o, "message", json_string(column(st, 8)));
	if (sqlite3_column_int64(st, 10))
		json_object_set_new(o, "release_version", json_integer(sqlite3_column_int64(st, 10)));
	json_array_append_new(r->out, o);
}

#define BUILD_COLUMNS                                                                                        \
	"SELECT b.id, b.user_id, b.status, b.source, b.version, b.slug_id, b.created_us, b.updated_us, "     \
	"b.why, "                                                                                            \
	"r.id, b.release FROM builds b LEFT JOIN releases r ON r.app_id = b.app_id AND r.version = "         \
	"b.release "

json_t *rows_build(struct app *a, const char *id, const char *base)
{
	struct build_row r = {a, base, json_array()};

	store_exec(BUILD_COLUMNS "WHERE b.id = ? AND b.app_id = ?", take_build, &r, "ss", id, a->id);
	json_t *o = json_incref(json_array_get(r.out, 0));
	json_decref(r.out);
	return o;
}

json_t *rows_builds(struct app *a, const char *base)
{
	struct build_row r = {a, base, json_array()};

	store_exec(BUILD_COLUMNS "WHERE b.app_id = ? ORDER BY b.created_us", take_build, &r, "s", a->id);
	return r.out;
}

static void take_slug(void *arg, sqlite3_stmt *st)
{
	json_t **out = arg, *types = json_loads(column(st, 3), 0, NULL);
	const char *language = column(st, 5), *sum = column(st, 6);

	*out = json_pack("{s:s, s:s, s:I, s:o, s:s?, s:s?, s:s?, s:o, s:o, s:{s:s,s:s}}", "id", column(st, 0),
			 "image", column(st, 1), "size", (json_int_t)sqlite3_column_int64(st, 2),
			 "process_types", types ? types : json_object(), "commit", column(st, 4),
			 "buildpack_provided_description", language, "checksum", sum, "created_at",
			 json_time(sqlite3_column_int64(st, 7)), "updated_at",
			 json_time(sqlite3_column_int64(st, 8)), "stack", "id", STACK_ID, "name", STACK);
}

json_t *rows_slug(struct app *a, const char *id)
{
	json_t *o = NULL;

	store_exec("SELECT id, image, bytes, types, \"commit\", description, checksum, created_us, "
		   "updated_us FROM slugs"
		   " WHERE id = ? AND app_id = ?",
		   take_slug, &o, "ss", id, a->id);
	return o;
}

struct output {
	char *text;
	size_t n;
};

static void take_output(void *arg, sqlite3_stmt *st)
{
	struct output *o = arg;

	o->n = (size_t)sqlite3_column_bytes(st, 0);
	o->text = xcalloc(1, o->n + 1);
	if (o->n)
		memcpy(o->text, sqlite3_column_text(st, 0), o->n);
}

char *rows_output(const char *id, size_t *n)
{
	struct output o = {NULL, 0};

	store_exec("SELECT coalesce(output, why, '') FROM builds WHERE id = ?", take_output, &o, "s", id);
	*n = o.n;
	return o.text;
}
