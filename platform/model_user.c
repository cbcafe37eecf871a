/* SPDX-License-Identifier: ISC */
/*
 * Users and their tokens. A token is 256 random bits as 64 hexadecimal digits; what is kept is its SHA-256 (no salt is needed for what
 * nobody can guess), so the store and its copies let nobody in.
 *
 * The first start makes the user admin@localhost and writes its token to data_dir/admin-token, before the store says that there
 * is one: a crash in between makes both anew.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "lib/host/strings.h"
#include "platform/model_inside.h"

#define MAX_TOKENS 1000 /* of a user */
#define ADMIN	   "admin@localhost"

void hex_of(const uint8_t *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool bytes_of(const char *hex, uint8_t *out, size_t n)
{
	if (strlen(hex) != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int a = digit(hex[2 * i]), b = digit(hex[2 * i + 1]);
		if (a < 0 || b < 0)
			return false;
		out[i] = (uint8_t)(a << 4 | b);
	}
	return true;
}

/* --- objects ------------------------------------------------------------------------------------------------ */

struct user *user_new(const char *id, const char *email, const char *name)
{
	struct user *u = xcalloc(1, sizeof(*u));

	snprintf(u->id, sizeof(u->id), "%s", id);
	u->email = xstrdup(email);
	u->name = xstrdup(name);
	u->next = model.users;
	model.users = u;
	table_put(&model.users_by_id, u);
	table_put(&model.users_by_email, u);
	return u;
}

static void token_free(struct token *t)
{
	table_remove(&model.tokens, t);
	free(t);
}

static void free_tokens_of(const struct user *u)
{
	struct token *t;
	size_t at = 0;

	while ((t = table_next(&model.tokens, &at)))
		if (t->user == u) {
			token_free(t);
			at = 0; /* others have moved */
		}
}

void user_free(struct user *u)
{
	struct user **at = &model.users;

	free_tokens_of(u);
	while (*at != u)
		at = &(*at)->next;
	*at = u->next;
	table_remove(&model.users_by_id, u);
	table_remove(&model.users_by_email, u);
	free(u->email);
	free(u->name);
	free(u);
}

struct token *token_new(struct user *u, const char *id, const uint8_t hash[32], int64_t expires_us)
{
	struct token *t = xcalloc(1, sizeof(*t));

	memcpy(t->hash, hash, 32);
	snprintf(t->id, sizeof(t->id), "%s", id);
	t->user = u;
	t->expires_us = expires_us;
	table_put(&model.tokens, t);
	return t;
}

/* --- changes ------------------------------------------------------------------------------------------------ */

/* An address as people have them: it is shown and compared, never mailed to, but it may not forge a line or a header. */
static struct fault check_email(const char *given, const struct user *self, char email[256])
{
	const char *at = strchr(given, '@');
	size_t n = strlen(given);

	if (n > 254 || !at || at == given || !at[1] || strchr(at + 1, '@'))
		return fault_of(422, "invalid_params", "Email is not an e-mail address.");
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)given[i];
		if (!isalnum(c) && !strchr("@.!#$%&'*+-/=?^_{|}~", c))
			return fault_of(422, "invalid_params", "Email is not an e-mail address.");
		email[i] = (char)tolower(c);
	}
	email[n] = 0;
	const struct user *u = table_get(&model.users_by_email, email, n);
	if (u && u != self)
		return fault_of(422, "invalid_params", "Email is already taken");
	return FAULT_NONE;
}

static struct fault check_person(const char *name)
{
	if (strlen(name) > 200)
		return fault_of(422, "invalid_params", "Name is too long.");
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < 32 || *p == 127)
			return fault_of(422, "invalid_params", "Name may not contain control characters.");
	return FAULT_NONE;
}

static int insert_token(const struct user *u, const char *user_id, const char *id, const uint8_t hash[32],
			const char *description, int64_t expires_us, int64_t now)
{
	char hex[65];

	hex_of(hash, 32, hex);
	if (expires_us)
		return store_exec("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?)", NULL, NULL, "ssssii", id,
				  user_id, hex, description, now, expires_us);
	return store_exec("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, NULL)", NULL, NULL, "ssssi", id, user_id,
			  hex, description, now);
}

static struct fault create_user(const char *email, const char *name, bool admin, struct user **out,
				const char *token)
{
	char address[256], id[37], token_id[37];
	int64_t now = real_us();
	uint8_t hash[32];
	struct fault f = check_email(email, NULL, address);
	int rc;

	if (!f.status)
		f = check_person(name);
	if (f.status)
		return f;
	make_uuid(id);
	make_uuid(token_id);
	token_hash(token, strlen(token), hash);
	rc = store_begin();
	if (rc)
		return store_fault(rc);
	rc = store_exec("INSERT INTO users VALUES (?, ?, ?, ?, ?)", NULL, NULL, "sssii", id, address, name,
			(int64_t)admin, now);
	if (!rc)
		rc = insert_token(NULL, id, token_id, hash, "first token", 0, now);
	f = finish_change(rc);
	if (f.status)
		return f;
	*out = user_new(id, address, name);
	(*out)->admin = admin;
	(*out)->created_us = now;
	token_new(*out, token_id, hash, 0);
	return FAULT_NONE;
}

struct fault model_user_create(const char *email, const char *name, bool admin, struct user **out,
			       char token[65])
{
	make_token(token, 64);
	return create_user(email, name ? name : "", admin, out, token);
}

struct fault model_user_rename(struct user *u, const char *email, const char *name)
{
	char address[256];
	struct fault f = check_email(email ? email : u->email, u, address);

	if (!f.status)
		f = check_person(name ? name : u->name);
	if (f.status)
		return f;
	int rc = store_exec("UPDATE users SET email = ?, name = ? WHERE id = ?", NULL, NULL, "sss", address,
			    name ? name : u->name, u->id);
	if (rc)
		return store_fault(rc);
	table_remove(&model.users_by_email, u);
	free(u->email);
	u->email = xstrdup(address);
	table_put(&model.users_by_email, u);
	if (name) {
		char *copy = xstrdup(name);
		free(u->name);
		u->name = copy;
	}
	return FAULT_NONE;
}

struct fault model_user_destroy(struct user *u)
{
	const struct app *a;
	struct app *b;
	size_t at = 0;

	while ((a = table_next(&model.apps_by_id, &at)))
		if (a->owner == u)
			return fault_of(422, "invalid_params",
					"App %s belongs to this user; transfer or destroy it first.",
					a->name);
	int rc = store_exec("DELETE FROM users WHERE id = ?", NULL, NULL, "s", u->id);
	if (rc)
		return store_fault(rc);
	for (at = 0; (b = table_next(&model.apps_by_id, &at));)
		for (unsigned i = 0; i < b->n_collaborators; i++)
			if (b->collaborators[i].user == u)
				b->collaborators[i--] = b->collaborators[--b->n_collaborators];
	user_free(u);
	return FAULT_NONE;
}

struct fault model_token_create(struct user *u, const char *description, int64_t expires_us, char id[37],
				char token[65])
{
	const struct token *t;
	uint8_t hash[32];
	size_t at = 0, n = 0;

	while ((t = table_next(&model.tokens, &at)))
		n += t->user == u;
	if (n >= MAX_TOKENS)
		return fault_of(422, "invalid_params", "There are %d tokens already; remove some first.",
				MAX_TOKENS);
	make_token(token, 64);
	make_uuid(id);
	token_hash(token, 64, hash);
	int rc = insert_token(u, u->id, id, hash, description ? description : "", expires_us, real_us());
	if (rc)
		return store_fault(rc);
	token_new(u, id, hash, expires_us);
	return FAULT_NONE;
}

struct fault model_token_remove(struct user *u, const char *id)
{
	struct token *t;
	size_t at = 0;

	while ((t = table_next(&model.tokens, &at)) && (t->user != u || strcmp(t->id, id)))
		continue;
	if (!t)
		return fault_of(404, "not_found", "Couldn't find that authorization.");
	int rc = store_exec("DELETE FROM tokens WHERE id = ?", NULL, NULL, "s", id);
	if (!rc)
		token_free(t);
	return store_fault(rc);
}

/* --- the admin's token --------------------------------------------------------------------------------------- */

/* Whole or not at all, on disk when this returns. */
static int write_token(const char *token)
{
	char *path = textf("%s/admin-token", config.data_dir), *new = textf("%s.new", path);
	int fd, dir = open(config.data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), status = 0;

	unlink(new);
	fd = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || dprintf(fd, "%s\n", token) != 65 || fsync(fd) || rename(new, path) || dir < 0 ||
	    fsync(dir))
		status = say_fail(EXIT_OURS, "serve: %s: %s", path, say_errno(errno));
	if (fd >= 0)
		close(fd);
	if (dir >= 0)
		close(dir);
	free(path);
	free(new);
	return status;
}

int model_new_admin_token(void)
{
	char token[65], id[37];
	struct user *u = table_get(&model.users_by_email, ADMIN, strlen(ADMIN));
	uint8_t hash[32];
	struct fault f;
	int status;

	make_token(token, 64);
	status = write_token(token);
	if (status)
		return status;
	if (u) {
		make_uuid(id);
		token_hash(token, 64, hash);
		f = store_fault(insert_token(u, u->id, id, hash, "made by --new-admin-token", 0, real_us()));
		if (!f.status)
			token_new(u, id, hash, 0);
	} else {
		f = create_user(ADMIN, "Admin", true, &u, token);
	}
	return f.status ? say_fail(EXIT_OURS, "serve: the admin's token: %s", f.message) : 0;
}
