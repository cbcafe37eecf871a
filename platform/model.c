/* SPDX-License-Identifier: ISC */
/*
 * The model: objects in memory, how they are found, and how they are made from the store at the start.
 *
 * Invariant: memory says what the store says. Each change (model_app.c, model_release.c, model_domain.c, model_user.c) is made in two
 * steps: statements in one transaction, which may fail and then have changed nothing; then memory, which cannot fail (out of
 * memory ends us, and the store is read again by the next start). Nothing of a change is to be seen between the two, since there is one thread.
 *
 * Found by: apps by id and by name, domains by host name, users by id and by e-mail, tokens by SHA-256. An app takes some 700 bytes;
 * process types, commands, config vars and names of images are texts in common (table.c).
 */
#include <ctype.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/host/say.h"
#include "platform/model_inside.h"

struct model model = {
	.apps_by_id = {.key_at = offsetof(struct app, id)},
	.apps_by_name = {.key_at = offsetof(struct app, name)},
	.domains = {.key_at = offsetof(struct domain, hostname), .key_size = TABLE_POINTER},
	.users_by_id = {.key_at = offsetof(struct user, id)},
	.users_by_email = {.key_at = offsetof(struct user, email), .key_size = TABLE_POINTER},
	.tokens = {.key_at = offsetof(struct token, hash), .key_size = 32},
};

/* --- faults ------------------------------------------------------------------------------------------------ */

struct fault fault_of(int status, const char *id, const char *fmt, ...)
{
	struct fault f = {.status = status, .id = id};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f.message, sizeof(f.message), fmt, ap);
	va_end(ap);
	return f;
}

struct fault store_fault(int rc)
{
	if (!rc)
		return FAULT_NONE;
	if ((rc & 0xff) == SQLITE_FULL)
		return fault_of(
			507, "insufficient_storage",
			"The disk of the platform is full; nothing was changed. Please try again later.");
	return fault_of(503, "store_unavailable",
			"The platform cannot write its store; nothing was changed.");
}

struct fault finish_change(int rc)
{
	if (rc)
		store_rollback();
	else
		rc = store_commit();
	return store_fault(rc);
}

/* --- objects ----------------------------------------------------------------------------------------------- */

void set_text(char **at, const char *text)
{
	char *old = *at;

	*at = intern(text);
	intern_free(old);
}

struct app *app_new(const char *id, const char *name, struct user *owner)
{
	struct app *a = xcalloc(1, sizeof(*a));

	snprintf(a->id, sizeof(a->id), "%s", id);
	snprintf(a->name, sizeof(a->name), "%s", name);
	a->owner = owner;
	a->release.config = intern("{}");
	table_put(&model.apps_by_id, a);
	table_put(&model.apps_by_name, a);
	return a;
}

void app_free(struct app *a)
{
	for (struct domain *d = a->domains, *next; d; d = next) {
		next = d->next;
		domain_free(d);
	}
	while (a->n_formation)
		formation_remove(a, a->formation);
	table_remove(&model.apps_by_id, a);
	table_remove(&model.apps_by_name, a);
	intern_free(a->release.config);
	intern_free(a->release.image);
	free(a->formation);
	free(a->collaborators);
	free(a->limits);
	free(a);
}

struct formation *formation_new(struct app *a, const char *type)
{
	a->formation = xrealloc(a->formation, (a->n_formation + 1) * sizeof(*a->formation));
	struct formation *f = &a->formation[a->n_formation++];
	*f = (struct formation){.type = intern(type), .command = intern(""), .size = "Basic"};
	return f;
}

void formation_remove(struct app *a, struct formation *f)
{
	intern_free(f->type);
	intern_free(f->command);
	a->n_formation--;
	memmove(f, f + 1, (size_t)(a->formation + a->n_formation - f) * sizeof(*f));
}

struct domain *domain_new(struct app *a, const char *id, const char *hostname)
{
	struct domain *d = xcalloc(1, sizeof(*d)), **last = &a->domains;

	snprintf(d->id, sizeof(d->id), "%s", id);
	d->hostname = xstrdup(hostname);
	d->app = a;
	while (*last)
		last = &(*last)->next;
	*last = d;
	table_put(&model.domains, d);
	return d;
}

void domain_free(struct domain *d)
{
	struct domain **at = &d->app->domains;

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	table_remove(&model.domains, d);
	free(d->hostname);
	free(d);
}

void collaborator_new(struct app *a, const char *id, struct user *u, int64_t created_us)
{
	a->collaborators = xrealloc(a->collaborators, (a->n_collaborators + 1) * sizeof(*a->collaborators));
	struct collaborator *c = &a->collaborators[a->n_collaborators++];
	snprintf(c->id, sizeof(c->id), "%s", id);
	c->user = u;
	c->created_us = created_us;
}

/* --- look up ----------------------------------------------------------------------------------------------- */

const struct limits *app_limits(const struct app *a)
{
	return a->limits ? a->limits : &config.limits;
}

struct app *model_app(const char *id_or_name)
{
	size_t n = strlen(id_or_name);
	struct app *a = table_get(&model.apps_by_name, id_or_name, n);

	return a || n != 36 ? a : table_get(&model.apps_by_id, id_or_name, n);
}

/* The app whose name is the first label of a host below our domain. */
static struct app *app_of_label(const char *host, size_t n)
{
	size_t label = strcspn(host, "."), domain = strlen(config.domain);

	if (label >= APP_NAME_MAX || n != label + 1 + domain ||
	    memcmp(host + label + 1, config.domain, domain))
		return NULL;
	return table_get(&model.apps_by_name, host, label);
}

struct app *model_app_by_host(const char *given, size_t n)
{
	char host[256];
	struct domain *d;

	if (n && given[n - 1] == '.') /* the root, said explicitly */
		n--;
	if (!n || n > 253)
		return NULL;
	for (size_t i = 0; i < n; i++)
		host[i] = (char)tolower((unsigned char)given[i]);
	host[n] = 0;
	struct app *a = app_of_label(host, n);
	if (a || !model.domains.n)
		return a;
	d = table_get(&model.domains, host, n);
	size_t label = strcspn(host, ".");
	if (!d && label && label < n) { /* "*.example.org" */
		host[label - 1] = '*';
		d = table_get(&model.domains, host + label - 1, n - label + 1);
	}
	return d ? d->app : NULL;
}

struct user *model_user(const char *id_or_email)
{
	size_t n = strlen(id_or_email);
	struct user *u = table_get(&model.users_by_id, id_or_email, n);
	char email[256];

	if (u || n >= sizeof(email))
		return u;
	for (size_t i = 0; i < n; i++)
		email[i] = (char)tolower((unsigned char)id_or_email[i]);
	return table_get(&model.users_by_email, email, n);
}

struct user *model_users(void)
{
	return model.users;
}

void token_hash(const char *token, size_t n, uint8_t hash[32])
{
	SHA256((const unsigned char *)token, n, hash);
}

/* What is compared are hashes: how long it takes tells nothing of a token. */
struct user *model_user_by_token(const char *token, size_t len)
{
	uint8_t hash[32];

	token_hash(token, len, hash);
	struct token *t = table_get(&model.tokens, hash, sizeof(hash));
	if (!t || CRYPTO_memcmp(t->hash, hash, sizeof(hash)) || (t->expires_us && t->expires_us <= real_us()))
		return NULL;
	return t->user;
}

size_t model_n_apps(void)
{
	return model.apps_by_id.n;
}

enum role model_role(const struct user *u, const struct app *a)
{
	if (!u)
		return ROLE_NONE;
	if (u->admin || a->owner == u)
		return ROLE_OWNER;
	for (unsigned i = 0; i < a->n_collaborators; i++)
		if (a->collaborators[i].user == u)
			return ROLE_COLLABORATOR;
	return ROLE_NONE;
}

static int by_name(const void *x, const void *y)
{
	return strcmp((*(struct app *const *)x)->name, (*(struct app *const *)y)->name);
}

struct app **model_apps(const struct user *u, size_t *n)
{
	struct app **v = xcalloc(model.apps_by_id.n, sizeof(*v)), *a;
	size_t at = 0;

	*n = 0;
	while ((a = table_next(&model.apps_by_id, &at)))
		if (!u || model_role(u, a) != ROLE_NONE)
			v[(*n)++] = a;
	qsort(v, *n, sizeof(*v), by_name);
	return v;
}

struct formation *model_formation(struct app *a, const char *type)
{
	for (unsigned i = 0; i < a->n_formation; i++)
		if (!strcmp(a->formation[i].type, type))
			return &a->formation[i];
	return NULL;
}

/* --- the start --------------------------------------------------------------------------------------------- */

static const char *text_at(sqlite3_stmt *st, int i)
{
	const char *s = (const char *)sqlite3_column_text(st, i);

	return s ? s : "";
}

static void load_user(void *arg, sqlite3_stmt *st)
{
	struct user *u = user_new(text_at(st, 0), text_at(st, 1), text_at(st, 2));

	u->admin = sqlite3_column_int(st, 3);
	u->created_us = sqlite3_column_int64(st, 4);
}

static void load_token(void *arg, sqlite3_stmt *st)
{
	struct user *u = model_user(text_at(st, 1));
	uint8_t hash[32];

	if (u && bytes_of(text_at(st, 2), hash, sizeof(hash)))
		token_new(u, text_at(st, 0), hash, sqlite3_column_int64(st, 3));
}

static void load_limits(struct app *a, const char *text)
{
	struct limits l = config.limits;
	json_t *j = json_loads(text, 0, NULL);
	struct fault f = limits_apply(&l, j);

	json_decref(j);
	if (f.status) {
		plog("error", a->name,
		     "its limits in the store are not understood, those of the configuration count: %s",
		     f.message);
		return;
	}
	a->limits = xcalloc(1, sizeof(l));
	*a->limits = l;
}

static void load_app(void *arg, sqlite3_stmt *st)
{
	struct user *owner = model_user(text_at(st, 2));

	if (!owner)
		return; /* cannot be: a foreign key */
	struct app *a = app_new(text_at(st, 0), text_at(st, 1), owner);
	a->maintenance = sqlite3_column_int(st, 3);
	a->locked = sqlite3_column_int(st, 4);
	if (sqlite3_column_type(st, 5) != SQLITE_NULL)
		load_limits(a, text_at(st, 5));
	a->last_release = (unsigned)sqlite3_column_int64(st, 6);
	a->created_us = sqlite3_column_int64(st, 7);
	a->updated_us = sqlite3_column_int64(st, 8);
	a->released_us = sqlite3_column_int64(st, 9);
	if (sqlite3_column_type(st, 10) == SQLITE_NULL)
		return;
	struct release *r = &a->release;
	r->version = (unsigned)sqlite3_column_int64(st, 10);
	snprintf(r->id, sizeof(r->id), "%s", text_at(st, 11));
	snprintf(r->slug_id, sizeof(r->slug_id), "%s", text_at(st, 12));
	set_text(&r->image, (const char *)sqlite3_column_text(st, 13));
	r->image_bytes = (uint64_t)sqlite3_column_int64(st, 14);
	set_text(&r->config, text_at(st, 15));
	r->created_us = sqlite3_column_int64(st, 16);
}

static void load_formation(void *arg, sqlite3_stmt *st)
{
	struct app *a = model_app(text_at(st, 0));
	struct formation *f;

	if (!a)
		return;
	f = formation_new(a, text_at(st, 1));
	snprintf(f->id, sizeof(f->id), "%s", text_at(st, 2));
	set_text(&f->command, text_at(st, 3));
	f->quantity = (unsigned)sqlite3_column_int64(st, 4);
	snprintf(f->size, sizeof(f->size), "%s", text_at(st, 5));
	f->created_us = sqlite3_column_int64(st, 6);
	f->updated_us = sqlite3_column_int64(st, 7);
}

static void load_domain(void *arg, sqlite3_stmt *st)
{
	struct app *a = model_app(text_at(st, 1));
	struct domain *d;

	if (!a)
		return;
	d = domain_new(a, text_at(st, 0), text_at(st, 2));
	snprintf(d->cert_id, sizeof(d->cert_id), "%s", text_at(st, 3));
	d->created_us = sqlite3_column_int64(st, 4);
}

static void load_collaborator(void *arg, sqlite3_stmt *st)
{
	struct app *a = model_app(text_at(st, 0));
	struct user *u = model_user(text_at(st, 1));

	if (a && u)
		collaborator_new(a, text_at(st, 2), u, sqlite3_column_int64(st, 3));
}

static const struct {
	const char *sql;
	store_row *row;
} loads[] = {
	{"SELECT id, email, name, admin, created_us FROM users ORDER BY created_us DESC", load_user},
	{"SELECT id, user_id, hash, expires_us FROM tokens", load_token},
	{"SELECT a.id, a.name, a.owner_id, a.maintenance, a.locked, a.limits, a.last_release, a.created_us, "
	 "a.updated_us,"
	 " a.released_us, r.version, r.id, r.slug_id, r.image, r.image_bytes, r.config, r.created_us"
	 " FROM apps a LEFT JOIN releases r ON r.app_id = a.id AND r.version = a.release",
	 load_app},
	{"SELECT app_id, type, id, command, quantity, size, created_us, updated_us FROM formation",
	 load_formation},
	{"SELECT id, app_id, hostname, cert_id, created_us FROM domains ORDER BY created_us", load_domain},
	{"SELECT app_id, user_id, id, created_us FROM collaborators ORDER BY created_us", load_collaborator},
};

/* Releases whose phase ran when we ended did not succeed; names of long ago are free again. */
static int tidy(void)
{
	int64_t now = real_us();
	int rc = store_exec("UPDATE releases SET status = 'failed', updated_us = ? WHERE status = 'pending'",
			    NULL, NULL, "i", now);

	if (!rc)
		rc = store_exec("DELETE FROM tombstones WHERE until_us < ?", NULL, NULL, "i", now);
	return rc;
}

int model_open(void)
{
	uint64_t start = now_ns();
	int rc = tidy();

	for (size_t i = 0; !rc && i < sizeof(loads) / sizeof(*loads); i++)
		rc = store_exec(loads[i].sql, loads[i].row, NULL, NULL);
	if (rc)
		return say_fail(EXIT_OURS, "serve: %s/platform.db cannot be read: %s", config.data_dir,
				sqlite3_errstr(rc));
	plog("debug", NULL, "%zu apps were read in %.0f ms", model_n_apps(),
	     (double)(now_ns() - start) / 1e6);
	return model.users ? 0 : model_new_admin_token();
}
