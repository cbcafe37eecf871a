/* SPDX-License-Identifier: ISC */
/*
 * Log sessions and log drains in the API.
 *
 *   POST   /apps/X/log-sessions {lines, tail, dyno, source}   {id, logplex_url, created_at, updated_at}
 *   GET    /apps/X/log-drains                                 a list
 *   POST   /apps/X/log-drains {url}                           the drain, with its token ("d.UUID")
 *   GET    /apps/X/log-drains/{id, token or URL}
 *   PUT    /apps/X/log-drains/{...} {url}
 *   DELETE /apps/X/log-drains/{...}
 *
 * Rows of drains are in the store only; drains.c reads them again when one changes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/api_util.h"
#include "platform/logring.h"
#include "platform/store.h"

static void sessions_create(struct call *c)
{
	char *base = c->x ? api_base_url(c->x) : NULL, *url = NULL, id[37];
	struct fault f;

	if (!base)
		return;
	f = logs_session_create(c->app, c->user, c->body, base, id, &url);
	free(base);
	if (f.status) {
		api_fault(c, &f);
		return;
	}
	json_t *now = json_time(real_us());
	api_reply(c, 201,
		  json_pack("{s:s, s:s, s:O, s:o}", "id", id, "logplex_url", url, "created_at", now,
			    "updated_at", now));
	free(url);
}

static json_t *drain_json(const char *id, const char *url, const char *token, int64_t created_us,
			  int64_t updated_us)
{
	return json_pack("{s:s, s:s, s:s, s:n, s:o, s:o}", "id", id, "url", url, "token", token, "addon",
			 "created_at", json_time(created_us), "updated_at", json_time(updated_us));
}

static void row_to_list(void *arg, sqlite3_stmt *st)
{
	json_array_append_new(arg, drain_json((const char *)sqlite3_column_text(st, 0),
					      (const char *)sqlite3_column_text(st, 1),
					      (const char *)sqlite3_column_text(st, 2),
					      sqlite3_column_int64(st, 3), sqlite3_column_int64(st, 4)));
}

static json_t *drains_of(const struct app *a)
{
	json_t *list = json_array();

	store_exec("SELECT id, url, token, created_us, updated_us FROM drains WHERE app_id = ? ORDER BY "
		   "created_us, id",
		   row_to_list, list, "s", a->id);
	return list;
}

/* The one that the client means, by its id, token or URL; NULL after an answer. A new reference. */
static json_t *drain_of(struct call *c)
{
	json_t *list = drains_of(c->app), *d, *found = NULL;
	size_t i;

	json_array_foreach(list, i, d)
	{
		if (!strcmp(json_string_value(json_object_get(d, "id")), c->param[0]) ||
		    !strcmp(json_string_value(json_object_get(d, "token")), c->param[0]) ||
		    !strcmp(json_string_value(json_object_get(d, "url")), c->param[0])) {
			found = json_incref(d);
			break;
		}
	}
	json_decref(list);
	if (!found)
		api_error(c, 404, "not_found", "Couldn't find that log drain.");
	return found;
}

static void drains_list(struct call *c)
{
	api_reply_list(c, drains_of(c->app), "id");
}

/* The URL of the body if it may be one of a drain of this app; else NULL after an answer. */
static const char *url_of(struct call *c, const json_t *list)
{
	bool ok = true;
	const char *url = body_string(c, "url", &ok), *why;
	json_t *d;
	size_t i;

	if (!ok)
		return NULL;
	why = url ? drain_url_fault(url) : "is required";
	if (why) {
		api_error(c, API_INVALID, "URL %s.", why);
		return NULL;
	}
	json_array_foreach((json_t *)list, i, d)
	{
		if (!strcmp(json_string_value(json_object_get(d, "url")), url)) {
			api_error(c, API_INVALID, "Url has already been taken");
			return NULL;
		}
	}
	return url;
}

static void drains_create(struct call *c)
{
	json_t *list = drains_of(c->app);
	const char *url = url_of(c, list);
	size_t n = json_array_size(list);
	char id[37], uuid[37], token[48];
	int64_t now = real_us();
	int rc;

	json_decref(list);
	if (!url)
		return;
	if (n >= DRAINS_MAX) {
		api_error(c, API_INVALID, "An app may have %d log drains.", DRAINS_MAX);
		return;
	}
	make_uuid(id);
	make_uuid(uuid);
	snprintf(token, sizeof(token), "d.%s", uuid);
	rc = store_exec("INSERT INTO drains (id, app_id, url, token, created_us, updated_us) VALUES (?, ?, "
			"?, ?, ?, ?)",
			NULL, NULL, "ssssii", id, c->app->id, url, token, now, now);
	if (rc) {
		struct fault f = store_fault(rc);
		api_fault(c, &f);
		return;
	}
	logs_drains_changed(c->app);
	api_reply(c, 201, drain_json(id, url, token, now, now));
}

static void drains_show(struct call *c)
{
	json_t *d = drain_of(c);

	if (d)
		api_reply(c, 200, d);
}

/* Was the change of a drain stored? If not, that was answered, and d is gone. */
static bool stored(struct call *c, int rc, json_t *d)
{
	struct fault f;

	if (!rc)
		return true;
	f = store_fault(rc);
	json_decref(d);
	api_fault(c, &f);
	return false;
}

static void drains_update(struct call *c)
{
	json_t *d = drain_of(c), *list;
	const char *url;
	int64_t now = real_us();
	int rc;

	if (!d)
		return;
	list = drains_of(c->app);
	url = url_of(c, list);
	json_decref(list);
	if (!url) {
		json_decref(d);
		return;
	}
	rc = store_exec("UPDATE drains SET url = ?, updated_us = ? WHERE id = ?", NULL, NULL, "sis", url, now,
			json_string_value(json_object_get(d, "id")));
	if (!stored(c, rc, d))
		return;
	json_object_set_new(d, "url", json_string(url));
	json_object_set_new(d, "updated_at", json_time(now));
	logs_drains_changed(c->app);
	api_reply(c, 200, d);
}

static void drains_delete(struct call *c)
{
	json_t *d = drain_of(c);
	int rc;

	if (!d)
		return;
	rc = store_exec("DELETE FROM drains WHERE id = ?", NULL, NULL, "s",
			json_string_value(json_object_get(d, "id")));
	if (!stored(c, rc, d))
		return;
	logs_drains_changed(c->app);
	api_reply(c, 200, d);
}

const struct route api_log_routes[] = {
	{"POST", "/apps/{app}/log-sessions", NEED_COLLABORATOR, sessions_create, NULL},
	{"GET", "/apps/{app}/log-drains", NEED_COLLABORATOR, drains_list, NULL},
	{"POST", "/apps/{app}/log-drains", NEED_COLLABORATOR, drains_create, NULL},
	{"GET", "/apps/{app}/log-drains/{}", NEED_COLLABORATOR, drains_show, NULL},
	{"PUT", "/apps/{app}/log-drains/{}", NEED_COLLABORATOR, drains_update, NULL},
	{"DELETE", "/apps/{app}/log-drains/{}", NEED_COLLABORATOR, drains_delete, NULL},
	{NULL, NULL, NEED_NOTHING, NULL, NULL},
};
