/* SPDX-License-Identifier: ISC */
/*
 * Apps come, change and go.
 *
 * A name is a label of a host name and part of paths, so it is checked strictly here, whoever calls. When an app is destroyed
 * or renamed, its old name belongs to its owner for TOMBSTONE_DAYS more: nobody else can take over a name that the world still
 * believes to be the old app's.
 */
#include <stdlib.h>
#include <string.h>

#include "platform/build.h"
#include "platform/logs.h"
#include "platform/metrics.h"
#include "platform/model_inside.h"
#include "platform/sched.h"

#define TOMBSTONE_DAYS 30
#define DAY_US	       (86400ll * 1000000)

bool valid_app_name(const char *name)
{
	size_t n = strlen(name);

	return n >= 3 && n < APP_NAME_MAX && name[0] >= 'a' && name[0] <= 'z' && name[n - 1] != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

/* Hosts below the domain that are ours, or that people would take for ours. */
static bool reserved(const char *name)
{
	static const char *const names[] = {"api",     "www",	    "git",     "admin", "dashboard",
					    "cowbell", "localhost", "metrics", "status"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static void see_tombstone(void *arg, sqlite3_stmt *st)
{
	*(bool *)arg = true;
}

/* May u's app be called so? */
static struct fault check_name(const struct user *u, const char *name)
{
	bool held = false;
	int rc;

	if (!valid_app_name(name))
		return fault_of(422, "invalid_params",
				"Name must start with a letter, end with a letter or digit and can only "
				"contain lowercase letters, "
				"digits, and dashes; 3 to 30 of them.");
	if (reserved(name))
		return fault_of(422, "invalid_params", "Name %s is reserved.", name);
	if (model_app(name))
		return fault_of(422, "invalid_params", "Name %s is already taken", name);
	rc = store_exec("SELECT 1 FROM tombstones WHERE name = ? AND owner_id <> ? AND until_us > ?",
			see_tombstone, &held, "ssi", name, u->id, real_us());
	if (held)
		return fault_of(422, "invalid_params",
				"Name %s is already taken (it was an app of somebody else not long ago)",
				name);
	return store_fault(rc);
}

static struct fault choose_name(const struct user *u, char name[APP_NAME_MAX])
{
	struct fault f = {0};

	for (int tries = 0; tries < 100; tries++) {
		make_app_name(name);
		f = check_name(u, name);
		if (f.status != 422)
			break;
	}
	return f;
}

struct fault model_app_create(struct user *owner, const char *given, struct app **out)
{
	char name[APP_NAME_MAX], id[37];
	int64_t now = real_us();
	struct fault f = given ? check_name(owner, given) : choose_name(owner, name);
	int rc;

	if (f.status)
		return f;
	if (given)
		strcpy(name, given);
	make_uuid(id);
	rc = store_begin();
	if (rc)
		return store_fault(rc);
	rc = store_exec(
		"INSERT INTO apps (id, name, owner_id, created_us, updated_us) VALUES (?, ?, ?, ?, ?)", NULL,
		NULL, "sssii", id, name, owner->id, now, now);
	if (!rc)
		rc = store_exec("DELETE FROM tombstones WHERE name = ?", NULL, NULL, "s", name);
	f = finish_change(rc);
	if (f.status)
		return f;
	*out = app_new(id, name, owner);
	(*out)->created_us = (*out)->updated_us = now;
	return FAULT_NONE;
}

static int bury_name(const struct app *a)
{
	static unsigned buried;

	if (!(++buried % 256)) /* those whose time is over go now and then, and at each start */
		store_exec("DELETE FROM tombstones WHERE until_us < ?", NULL, NULL, "i", real_us());
	return store_exec("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", NULL, NULL, "ssi", a->name,
			  a->owner->id, real_us() + TOMBSTONE_DAYS * DAY_US);
}

struct fault model_app_rename(struct app *a, const char *name)
{
	int64_t now = real_us();
	struct fault f;
	int rc;

	if (!strcmp(a->name, name))
		return FAULT_NONE;
	f = check_name(a->owner, name);
	if (f.status)
		return f;
	rc = store_begin();
	if (rc)
		return store_fault(rc);
	rc = bury_name(a);
	if (!rc)
		rc = store_exec("DELETE FROM tombstones WHERE name = ?", NULL, NULL, "s", name);
	if (!rc)
		rc = store_exec("UPDATE apps SET name = ?, updated_us = ? WHERE id = ?", NULL, NULL, "sis",
				name, now, a->id);
	f = finish_change(rc);
	if (f.status)
		return f;
	table_remove(&model.apps_by_name, a);
	strcpy(a->name, name);
	table_put(&model.apps_by_name, a);
	a->updated_us = now;
	return FAULT_NONE;
}

static struct fault delete_rows(const struct app *a)
{
	int rc = store_begin();

	if (rc)
		return store_fault(rc);
	rc = bury_name(a);
	if (!rc)
		rc = store_exec("DELETE FROM features WHERE owner_id = ?", NULL, NULL, "s", a->id);
	if (!rc)
		rc = store_exec("DELETE FROM apps WHERE id = ?", NULL, NULL, "s", a->id);
	return finish_change(rc);
}

struct fault model_app_destroy(struct app *a)
{
	struct fault f = delete_rows(a);

	/* A checkpoint that runs meanwhile may take a piece. */
	for (int tries = 0; f.status == 507 && tries < 4 && store_give_reserve(); tries++)
		f = delete_rows(a);
	if (f.status)
		return f;
	/* Now that it is decided: whoever has something of it lets go, those who use the others first. */
	sched_app_gone(a);
	build_app_gone(a);
	logs_app_gone(a);
	metrics_app_gone(a);
	app_free(a);
	return FAULT_NONE;
}

struct fault model_app_maintenance(struct app *a, bool on)
{
	int64_t now = real_us();
	int rc = store_exec("UPDATE apps SET maintenance = ?, updated_us = ? WHERE id = ?", NULL, NULL, "iis",
			    (int64_t)on, now, a->id);

	if (rc)
		return store_fault(rc);
	a->maintenance = on;
	a->updated_us = now;
	return FAULT_NONE;
}

struct fault model_app_limits(struct app *a, const struct limits *l)
{
	int64_t now = real_us();
	json_t *all = limits_differing(l);
	size_t n = json_object_size(all);
	char *text = n ? json_dumps(all, JSON_COMPACT) : NULL;
	int rc = store_exec("UPDATE apps SET limits = ?, updated_us = ? WHERE id = ?", NULL, NULL, "sis",
			    text, now, a->id);

	free(text);
	json_decref(all);
	if (rc)
		return store_fault(rc);
	struct limits *copy = n ? xcalloc(1, sizeof(*copy)) : NULL;
	if (copy)
		*copy = *l; /* l may be a->limits itself */
	free(a->limits);
	a->limits = copy;
	a->updated_us = now;
	return FAULT_NONE;
}

struct fault model_app_transfer(struct app *a, struct user *to)
{
	int64_t now = real_us();
	int rc = store_begin();
	struct fault f;

	if (rc)
		return store_fault(rc);
	rc = store_exec("UPDATE apps SET owner_id = ?, updated_us = ? WHERE id = ?", NULL, NULL, "sis",
			to->id, now, a->id);
	if (!rc)
		rc = store_exec("DELETE FROM collaborators WHERE app_id = ? AND user_id = ?", NULL, NULL,
				"ss", a->id, to->id);
	f = finish_change(rc);
	if (f.status)
		return f;
	for (unsigned i = 0; i < a->n_collaborators; i++)
		if (a->collaborators[i].user == to)
			a->collaborators[i--] = a->collaborators[--a->n_collaborators];
	a->owner = to;
	a->updated_us = now;
	return FAULT_NONE;
}

struct fault model_collaborator_add(struct app *a, struct user *u)
{
	int64_t now = real_us();
	char id[37];
	int rc;

	if (a->owner == u)
		return fault_of(422, "invalid_params", "User is the owner of this app");
	for (unsigned i = 0; i < a->n_collaborators; i++)
		if (a->collaborators[i].user == u)
			return fault_of(422, "invalid_params", "User is already a collaborator on this app");
	if (a->n_collaborators >= 500)
		return fault_of(422, "invalid_params", "An app has at most 500 collaborators");
	make_uuid(id);
	rc = store_exec("INSERT INTO collaborators VALUES (?, ?, ?, ?, ?)", NULL, NULL, "sssii", a->id, u->id,
			id, now, now);
	if (rc)
		return store_fault(rc);
	collaborator_new(a, id, u, now);
	return FAULT_NONE;
}

struct fault model_collaborator_remove(struct app *a, struct user *u)
{
	unsigned i = 0;

	while (i < a->n_collaborators && a->collaborators[i].user != u)
		i++;
	if (i == a->n_collaborators)
		return fault_of(404, "not_found", "Couldn't find that collaborator.");
	int rc = store_exec("DELETE FROM collaborators WHERE app_id = ? AND user_id = ?", NULL, NULL, "ss",
			    a->id, u->id);
	if (rc)
		return store_fault(rc);
	a->n_collaborators--;
	memmove(a->collaborators + i, a->collaborators + i + 1,
		(a->n_collaborators - i) * sizeof(*a->collaborators));
	return FAULT_NONE;
}
