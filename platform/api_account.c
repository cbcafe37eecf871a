// SPDX-License-Identifier: ISC
/*
 * Users: their account, tokens ("authorizations"), public keys, and who works with them on an app.
 *
 * Accounts are made by an admin (POST /users, our own). A token is told once, when it is made; the store has its hash only.
 * An id of another user's token or key finds nothing, since each statement names the user.
 */
#include "platform/api_util.h"
#include "platform/store.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX 1000 /* of a user */
#define KEYS_MAX   100
#define KEY_BYTES  16384

static void account(struct call *c)
{
	api_reply(c, 200, json_user(c->user));
}

static void rename_user(struct call *c, struct user *u)
{
	bool ok = true;
	const char *email = body_string(c, "email", &ok), *name = ok ? body_string(c, "name", &ok) : NULL;
	struct fault f = FAULT_NONE;

	if (!ok)
		return;
	/* An address is what others share their apps with: nobody takes one by himself. */
	if (email && strcmp(email, u->email) && !c->user->admin)
		f = fault_of(422, "invalid_params", "Only an admin can change an address.");
	else if (email || name)
		f = model_user_rename(u, email, name);
	if (f.status)
		api_fault(c, &f);
	else
		api_reply(c, 200, json_user(u));
}

static void account_change(struct call *c)
{
	rename_user(c, c->user);
}

/* --- users --------------------------------------------------------------------------------------- */

/* "~" is the caller; others are there for admins only. NULL: answered. */
static struct user *named_user(struct call *c)
{
	struct user *u = strcmp(c->param[0], "~") ? model_user(c->param[0]) : c->user;

	if (u && (u == c->user || c->user->admin))
		return u;
	api_error(c, 404, "not_found", "Couldn't find that user.");
	return NULL;
}

static void user_info(struct call *c)
{
	struct user *u = named_user(c);

	if (u)
		api_reply(c, 200, json_user(u));
}

static void user_change(struct call *c)
{
	struct user *u = named_user(c);

	if (u)
		rename_user(c, u);
}

static void user_list(struct call *c)
{
	json_t *all = json_array();

	for (const struct user *u = model_users(); u; u = u->next)
		json_array_append_new(all, json_user(u));
	api_reply_list(c, all, "email");
}

static void user_create(struct call *c)
{
	bool ok = true;
	const char *email = body_string(c, "email", &ok), *name = ok ? body_string(c, "name", &ok) : NULL;
	int admin = ok ? body_bool(c, "admin", &ok) : -1;
	struct user *u;
	struct fault f;
	char token[65];
	json_t *v;

	if (!ok)
		return;
	if (!email) {
		api_error(c, API_INVALID, "Parameter email is missing.");
		return;
	}
	f = model_user_create(email, name ? name : "", admin == 1, &u, token);
	if (f.status) {
		api_fault(c, &f);
		return;
	}
	v = json_user(u);
	json_object_set_new(v, "token", json_string(token));
	api_reply(c, 201, v);
}

static void take_count(void *arg, sqlite3_stmt *st)
{
	*(int64_t *)arg = sqlite3_column_int64(st, 0);
}

static void user_remove(struct call *c)
{
	struct user *u = model_user(c->param[0]);
	int64_t builds = 0;
	struct fault f;
	json_t *was;

	if (!u) {
		api_error(c, 404, "not_found", "Couldn't find that user.");
		return;
	}
	if (u == c->user) {
		api_error(c, API_INVALID, "You cannot remove yourself.");
		return;
	}
	store_exec("SELECT count(*) FROM builds WHERE user_id = ? AND status = 'pending'", take_count,
		   &builds, "s", u->id);
	if (builds || api_user_is_busy(u)) {
		api_error(c, 409, "conflict", "That user has a build or a call in flight. Try again later.");
		return;
	}
	was = json_user(u);
	f = model_user_destroy(u);
	if (f.status) {
		json_decref(was);
		api_fault(c, &f);
	} else {
		api_reply(c, 200, was);
	}
}

/* --- authorizations -------------------------------------------------------------------------------- */

static json_t *json_authorization(const struct user *u, const char *id, const char *description,
				  int64_t created, int64_t expires, const char *token)
{
	json_t *v = json_object(), *text = json_string(description), *access = json_object();
	int64_t left = expires ? (expires - real_us()) / 1000000 : 0;

	json_object_set_new(access, "id", json_string(id));
	json_object_set_new(access, "token",
			    token ? json_string(token) : json_string("(told once, when it was made)"));
	json_object_set_new(access, "expires_in", expires ? json_integer(left > 0 ? left : 0) : json_null());
	json_object_set_new(v, "access_token", access);
	json_object_set_new(v, "client", json_null());
	json_object_set_new(v, "created_at", json_time(created));
	json_object_set_new(v, "description", text ? text : json_string(""));
	json_object_set_new(v, "grant", json_null());
	json_object_set_new(v, "id", json_string(id));
	json_object_set_new(v, "refresh_token", json_null());
	json_object_set_new(v, "scope", json_pack("[s]", "global"));
	json_object_set_new(v, "session", json_null());
	json_object_set_new(v, "updated_at", json_time(created));
	json_object_set_new(v, "user", json_user_ref(u));
	return v;
}

struct authorizations {
	const struct user *user;
	json_t *array;
};

static void take_authorization(void *arg, sqlite3_stmt *st)
{
	struct authorizations *l = arg;
	const char *text = (const char *)sqlite3_column_text(st, 1);

	json_array_append_new(l->array, json_authorization(l->user, (const char *)sqlite3_column_text(st, 0),
							   text ? text : "", sqlite3_column_int64(st, 2),
							   sqlite3_column_int64(st, 3), NULL));
}

static json_t *authorizations_of(const struct user *u, const char *id)
{
	struct authorizations l = {u, json_array()};

	if (id)
		store_exec("SELECT id, description, created_us, expires_us FROM tokens WHERE user_id = ? AND "
			   "id = ?",
			   take_authorization, &l, "ss", u->id, id);
	else
		store_exec("SELECT id, description, created_us, expires_us FROM tokens WHERE user_id = ?",
			   take_authorization, &l, "s", u->id);
	return l.array;
}

static void authorization_list(struct call *c)
{
	api_reply_list(c, authorizations_of(c->user, NULL), "id");
}

/* One of the caller's. NULL: answered. */
static json_t *named_authorization(struct call *c)
{
	json_t *l = authorizations_of(c->user, c->param[0]), *v = json_incref(json_array_get(l, 0));

	json_decref(l);
	if (!v)
		api_error(c, 404, "not_found", "Couldn't find that authorization.");
	return v;
}

static void authorization_info(struct call *c)
{
	json_t *v = named_authorization(c);

	if (v)
		api_reply(c, 200, v);
}

static void make_authorization(struct call *c, struct user *u, const char *description, int64_t expires)
{
	char id[37], token[65];
	int64_t have = 0;
	struct fault f;

	store_exec("SELECT count(*) FROM tokens WHERE user_id = ?", take_count, &have, "s", u->id);
	if (have >= TOKENS_MAX) {
		api_error(c, API_INVALID, "A user has at most %d tokens. Revoke some.", TOKENS_MAX);
		return;
	}
	f = model_token_create(u, description ? description : "", expires, id, token);
	if (f.status)
		api_fault(c, &f);
	else
		api_reply(
			c, 201,
			json_authorization(u, id, description ? description : "", real_us(), expires, token));
}

static void create_for(struct call *c, struct user *u)
{
	bool ok = true;
	const char *description = body_string(c, "description", &ok);
	int64_t seconds = ok ? body_number(c, "expires_in", &ok) : -1;

	if (!ok)
		return;
	if (seconds == 0 || seconds > 100ll * 365 * 86400 || (description && strlen(description) > 1000)) {
		api_error(c, API_INVALID,
			  "expires_in is 1 second to 100 years; a description has at most 1000 bytes.");
		return;
	}
	make_authorization(c, u, description, seconds > 0 ? real_us() + seconds * 1000000 : 0);
}

static void authorization_create(struct call *c)
{
	create_for(c, c->user);
}

/* An admin gives a user a token: for one who lost his. */
static void user_token_create(struct call *c)
{
	struct user *u = model_user(c->param[0]);

	if (u)
		create_for(c, u);
	else
		api_error(c, 404, "not_found", "Couldn't find that user.");
}

static void authorization_change(struct call *c)
{
	bool ok = true;
	const char *description = body_string(c, "description", &ok);
	json_t *v = ok ? named_authorization(c) : NULL;
	int err;

	if (!v)
		return;
	json_decref(v);
	if (description && (err = store_exec("UPDATE tokens SET description = ? WHERE user_id = ? AND id = ?",
					     NULL, NULL, "sss", description, c->user->id, c->param[0]))) {
		struct fault f = store_fault(err);
		api_fault(c, &f);
		return;
	}
	authorization_info(c);
}

static void authorization_remove(struct call *c)
{
	json_t *v = named_authorization(c);
	struct fault f;

	if (!v)
		return;
	f = model_token_remove(c->user, c->param[0]);
	if (f.status) {
		json_decref(v);
		api_fault(c, &f);
	} else {
		api_reply(c, 200, v);
	}
}

/* The old token ends, a new one with its description is made. */
static void authorization_rotate(struct call *c)
{
	json_t *v = named_authorization(c), *left;
	char *description;
	struct fault f;
	int64_t expires = 0;

	if (!v)
		return;
	description = xstrdup(json_string_value(json_object_get(v, "description")));
	left = json_object_get(json_object_get(v, "access_token"), "expires_in");
	if (json_is_integer(left))
		expires = real_us() + json_integer_value(left) * 1000000;
	json_decref(v);
	f = model_token_remove(c->user, c->param[0]);
	if (f.status)
		api_fault(c, &f);
	else
		make_authorization(c, c->user, description, expires);
	free(description);
}

/* --- public keys -------------------------------------------------------------------------------------- */

static void take_key(void *arg, sqlite3_stmt *st)
{
	struct authorizations *l = arg;
	json_t *v = json_object();
	static const char *const names[] = {"id", "fingerprint", "comment", "public_key"};

	for (int i = 0; i < 4; i++) {
		const char *s = (const char *)sqlite3_column_text(st, i);
		json_t *text = s ? json_string(s) : NULL;
		json_object_set_new(v, names[i], text ? text : json_string(""));
	}
	json_object_set_new(v, "email", json_string(l->user->email));
	json_object_set_new(v, "created_at", json_time(sqlite3_column_int64(st, 4)));
	json_object_set_new(v, "updated_at", json_time(sqlite3_column_int64(st, 4)));
	json_array_append_new(l->array, v);
}

/* Of the caller; by id or fingerprint, NULL: all. */
static json_t *keys_of(const struct user *u, const char *which)
{
	struct authorizations l = {u, json_array()};

	if (which)
		store_exec("SELECT id, fingerprint, comment, public_key, created_us FROM keys "
			   "WHERE user_id = ? AND (id = ? OR fingerprint = ?)",
			   take_key, &l, "sss", u->id, which, which);
	else
		store_exec(
			"SELECT id, fingerprint, comment, public_key, created_us FROM keys WHERE user_id = ?",
			take_key, &l, "s", u->id);
	return l.array;
}

static void key_list(struct call *c)
{
	api_reply_list(c, keys_of(c->user, NULL), "id");
}

static json_t *named_key(struct call *c)
{
	json_t *l = keys_of(c->user, c->param[0]), *v = json_incref(json_array_get(l, 0));

	json_decref(l);
	if (!v)
		api_error(c, 404, "not_found", "Couldn't find that key.");
	return v;
}

static void key_info(struct call *c)
{
	json_t *v = named_key(c);

	if (v)
		api_reply(c, 200, v);
}

/* "TYPE BASE64 [COMMENT]": the fingerprint as ssh-keygen tells it, and the comment. False: it is no key. */
static bool read_key(const char *text, char fingerprint[64], char comment[128])
{
	static const char *const types[] = {"ssh-rsa ", "ssh-ed25519 ", "ecdsa-sha2-nistp", "sk-ssh-ed25519",
					    "sk-ecdsa-sha2"};
	unsigned char raw[KEY_BYTES], hash[32], out[64];
	const char *blob = NULL;
	size_t n;
	int len;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (!strncmp(text, types[i], strlen(types[i])))
			blob = strchr(text, ' ');
	if (!blob)
		return false;
	blob++;
	n = strcspn(blob, " \r\n");
	if (n < 40 || n % 4 || n > KEY_BYTES)
		return false;
	len = EVP_DecodeBlock(raw, (const unsigned char *)blob, (int)n);
	if (len < 0)
		return false;
	for (size_t i = n; i && blob[i - 1] == '='; i--)
		len--;
	SHA256(raw, (size_t)len, hash);
	EVP_EncodeBlock(out, hash, 32);
	out[43] = '\0';
	snprintf(fingerprint, 64, "SHA256:%s", (char *)out);
	blob += n;
	blob += strspn(blob, " ");
	snprintf(comment, 128, "%.*s", (int)strcspn(blob, "\r\n"), blob);
	return true;
}

static void key_create(struct call *c)
{
	bool ok = true;
	const char *text = body_string(c, "public_key", &ok);
	char id[37], fingerprint[64], comment[128];
	json_t *have, *v;
	int err;

	if (!ok)
		return;
	if (!text || strlen(text) > KEY_BYTES || !read_key(text, fingerprint, comment)) {
		api_error(c, API_INVALID, "Parameter public_key must be a public key of SSH.");
		return;
	}
	have = keys_of(c->user, NULL);
	ok = json_array_size(have) < KEYS_MAX;
	json_decref(have);
	have = keys_of(c->user, fingerprint);
	if (ok && json_array_size(have)) {
		json_decref(have);
		api_error(c, API_INVALID, "This key is there already.");
		return;
	}
	json_decref(have);
	if (!ok) {
		api_error(c, API_INVALID, "A user has at most %d keys.", KEYS_MAX);
		return;
	}
	make_uuid(id);
	err = store_exec("INSERT INTO keys (id, user_id, fingerprint, comment, public_key, created_us) "
			 "VALUES (?, ?, ?, ?, ?, ?)",
			 NULL, NULL, "sssssi", id, c->user->id, fingerprint, comment, text, real_us());
	if (err) {
		struct fault f = store_fault(err);
		api_fault(c, &f);
		return;
	}
	have = keys_of(c->user, id);
	v = json_incref(json_array_get(have, 0));
	json_decref(have);
	api_reply(c, 201, v ? v : json_object());
}

static void key_remove(struct call *c)
{
	json_t *v = named_key(c);
	int err;

	if (!v)
		return;
	err = store_exec("DELETE FROM keys WHERE user_id = ? AND (id = ? OR fingerprint = ?)", NULL, NULL,
			 "sss", c->user->id, c->param[0], c->param[0]);
	if (err) {
		struct fault f = store_fault(err);
		json_decref(v);
		api_fault(c, &f);
	} else {
		api_reply(c, 200, v);
	}
}

/* --- collaborators -------------------------------------------------------------------------------------- */

static json_t *json_collaborator(const struct app *a, const struct user *u, const char *id, int64_t created,
				 const char *role)
{
	json_t *v = json_object();

	json_object_set_new(v, "app", json_app_ref(a));
	json_object_set_new(v, "created_at", json_time(created));
	json_object_set_new(v, "id", json_string(id));
	json_object_set_new(v, "permissions", json_array());
	json_object_set_new(v, "role", json_string(role));
	json_object_set_new(v, "updated_at", json_time(created));
	json_object_set_new(v, "user",
			    json_pack("{s:s, s:s, s:b}", "id", u->id, "email", u->email, "federated", 0));
	return v;
}

static void collaborator_list(struct call *c)
{
	struct app *a = c->app;
	json_t *all = json_array();

	json_array_append_new(all, json_collaborator(a, a->owner, a->id, a->created_us, "owner"));
	for (unsigned i = 0; i < a->n_collaborators; i++) {
		struct collaborator *k = &a->collaborators[i];
		json_array_append_new(all,
				      json_collaborator(a, k->user, k->id, k->created_us, "collaborator"));
	}
	api_reply_list(c, all, "id");
}

static struct collaborator *find_collaborator(const struct app *a, const char *name)
{
	for (unsigned i = 0; i < a->n_collaborators; i++) {
		struct collaborator *k = &a->collaborators[i];
		if (!strcmp(k->id, name) || !strcmp(k->user->id, name) || !strcasecmp(k->user->email, name))
			return k;
	}
	return NULL;
}

static void no_collaborator(struct call *c)
{
	api_error(c, 404, "not_found", "Couldn't find that collaborator.");
}

static void collaborator_info(struct call *c)
{
	struct app *a = c->app;
	struct collaborator *k = find_collaborator(a, c->param[0]);

	if (k)
		api_reply(c, 200, json_collaborator(a, k->user, k->id, k->created_us, "collaborator"));
	else if (!strcmp(a->owner->id, c->param[0]) || !strcasecmp(a->owner->email, c->param[0]))
		api_reply(c, 200, json_collaborator(a, a->owner, a->id, a->created_us, "owner"));
	else
		no_collaborator(c);
}

static void collaborator_create(struct call *c)
{
	json_t *said = json_object_get(c->body, "user");
	const char *name = json_string_value(said);
	struct collaborator *k;
	struct user *u;
	struct fault f;

	if (json_is_object(said)) {
		name = json_string_value(json_object_get(said, "email"));
		if (!name)
			name = json_string_value(json_object_get(said, "id"));
	}
	u = name ? model_user(name) : NULL;
	if (!u) {
		api_error(c, API_INVALID,
			  "There is no such user. An admin of the platform can make the account.");
		return;
	}
	if (model_role(u, c->app) != ROLE_NONE && (u == c->app->owner || find_collaborator(c->app, u->id))) {
		api_error(c, API_INVALID, "That user has access to this app already.");
		return;
	}
	f = model_collaborator_add(c->app, u);
	if (f.status) {
		api_fault(c, &f);
		return;
	}
	k = find_collaborator(c->app, u->id);
	if (k)
		api_reply(c, 201, json_collaborator(c->app, u, k->id, k->created_us, "collaborator"));
	else
		no_collaborator(c);
}

/* The owner removes anybody; a collaborator may leave. */
static void collaborator_remove(struct call *c)
{
	struct collaborator *k = find_collaborator(c->app, c->param[0]);
	struct fault f;
	json_t *was;

	if (!k) {
		no_collaborator(c);
		return;
	}
	if (c->role != ROLE_OWNER && k->user != c->user) {
		api_error(c, 403, "forbidden", "Only the owner of an app can remove other collaborators.");
		return;
	}
	was = json_collaborator(c->app, k->user, k->id, k->created_us, "collaborator");
	f = model_collaborator_remove(c->app, k->user);
	if (f.status) {
		json_decref(was);
		api_fault(c, &f);
	} else {
		api_reply(c, 200, was);
	}
}

const struct route api_account_routes[] = {
	{"GET", "/account", NEED_USER, account, NULL},
	{"PATCH", "/account", NEED_USER, account_change, NULL},
	{"GET", "/users", NEED_ADMIN, user_list, NULL},
	{"POST", "/users", NEED_ADMIN, user_create, NULL},
	{"GET", "/users/{}", NEED_USER, user_info, NULL},
	{"PATCH", "/users/{}", NEED_USER, user_change, NULL},
	{"DELETE", "/users/{}", NEED_ADMIN, user_remove, NULL},
	{"POST", "/users/{}/tokens", NEED_ADMIN, user_token_create, NULL},
	{"GET", "/oauth/authorizations", NEED_USER, authorization_list, NULL},
	{"POST", "/oauth/authorizations", NEED_USER, authorization_create, NULL},
	{"GET", "/oauth/authorizations/{}", NEED_USER, authorization_info, NULL},
	{"PATCH", "/oauth/authorizations/{}", NEED_USER, authorization_change, NULL},
	{"DELETE", "/oauth/authorizations/{}", NEED_USER, authorization_remove, NULL},
	{"POST", "/oauth/authorizations/{}/actions/regenerate-tokens", NEED_USER, authorization_rotate, NULL},
	{"GET", "/account/keys", NEED_USER, key_list, NULL},
	{"POST", "/account/keys", NEED_USER, key_create, NULL},
	{"GET", "/account/keys/{}", NEED_USER, key_info, NULL},
	{"DELETE", "/account/keys/{}", NEED_USER, key_remove, NULL},
	{"GET", "/users/~/keys", NEED_USER, key_list, NULL},
	{"GET", "/apps/{app}/collaborators", NEED_COLLABORATOR, collaborator_list, NULL},
	{"POST", "/apps/{app}/collaborators", NEED_OWNER, collaborator_create, NULL},
	{"GET", "/apps/{app}/collaborators/{}", NEED_COLLABORATOR, collaborator_info, NULL},
	{"DELETE", "/apps/{app}/collaborators/{}", NEED_COLLABORATOR, collaborator_remove, NULL},
	{0},
};
