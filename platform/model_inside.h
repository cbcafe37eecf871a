/* SPDX-License-Identifier: ISC */
/* What the model's files share: the tables, and making objects out of rows. Nobody else includes it. */
#ifndef COWBELL_PLATFORM_MODEL_INSIDE_H
#define COWBELL_PLATFORM_MODEL_INSIDE_H

#include "platform/model.h"
#include "platform/store.h"
#include "platform/table.h"

struct token {
	uint8_t hash[32];
	char id[37];
	struct user *user;
	int64_t expires_us; /* 0: never */
};

extern struct model {
	struct table apps_by_id, apps_by_name, domains, users_by_id, users_by_email, tokens;
	struct user *users;
} model;

/* Begin a change; then either finish_change() with the first error of the statements. */
struct fault finish_change(int rc);

/* Objects of rows, linked into the tables. Strings are copied. */
struct app *app_new(const char *id, const char *name, struct user *owner);
void app_free(struct app *a); /* takes it out of the tables, with its domains */
struct formation *formation_new(struct app *a, const char *type);
void formation_remove(struct app *a, struct formation *f);
struct domain *domain_new(struct app *a, const char *id, const char *hostname);
void domain_free(struct domain *d);
void collaborator_new(struct app *a, const char *id, struct user *u, int64_t created_us);
struct user *user_new(const char *id, const char *email, const char *name);
void user_free(struct user *u);
struct token *token_new(struct user *u, const char *id, const uint8_t hash[32], int64_t expires_us);

void set_text(char **at, const char *text); /* an interned one */
void token_hash(const char *token, size_t n, uint8_t hash[32]);
void hex_of(const uint8_t *p, size_t n, char *out);
bool bytes_of(const char *hex, uint8_t *out, size_t n);

#define MAX_TYPES 64 /* of processes, of an app */
struct plan { /* what becomes of a formation: written first, then done in memory */
	json_t *types; /* NULL: nothing */
	struct formation add[MAX_TYPES]; /* their texts are those of types */
	unsigned n_add;
};
int plan_formation(struct app *a, json_t *types, struct plan *p, int64_t now);
void do_formation(struct app *a, const struct plan *p, int64_t now);

/* Those that are not the configuration's: what is stored, so that a changed configuration counts for the others. */
json_t *limits_differing(const struct limits *l);

/* names.c: "quiet-meadow-1234". */
void make_app_name(char out[APP_NAME_MAX]);

#endif
