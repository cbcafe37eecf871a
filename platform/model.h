/* SPDX-License-Identifier: ISC */
/*
 * What lasts: users, apps, releases, formations, domains. The objects live in memory, one copy, loaded at start; each function
 * that changes one writes it to the store in the same step (store.h), so that both say the same. A change is acknowledged to a client
 * only after store_barrier(). 34,000 apps must fit into some hundred megabytes: what is rarely asked for (old releases,
 * builds, slugs, drains, certificates) is in the store only and read from there.
 */
#ifndef COWBELL_PLATFORM_MODEL_H
#define COWBELL_PLATFORM_MODEL_H

#include <jansson.h>

#include "platform/platform.h"

#define APP_NAME_MAX 31 /* ^[a-z][a-z0-9-]{1,28}[a-z0-9]$ and its NUL */

struct user {
	char id[37];
	char *email, *name;
	bool admin;
	int64_t created_us;
	struct user *next;
};

/* One process type of an app's formation. */
struct formation {
	char id[37];
	char *type; /* "web", "worker" */
	char *command; /* as the Procfile says it; for display */
	unsigned quantity;
	char size[24]; /* "Basic": told back as it was said; its memory limit is limits.memory */
	int64_t created_us, updated_us;
};

/* The release that is current. All of them are in the store. */
struct release {
	char id[37], slug_id[37]; /* slug_id "": nothing was ever pushed */
	unsigned version; /* v3 */
	char *image; /* name in the image store, or NULL */
	char *config; /* config vars as a JSON object; never NULL */
	int64_t created_us;
	uint64_t image_bytes;
};

struct domain {
	char id[37];
	char *hostname; /* lower case; "*.example.org" allowed */
	struct app *app;
	char cert_id[37]; /* sni endpoint, or "" */
	int64_t created_us;
	struct domain *next; /* of the app */
};

struct collaborator {
	char id[37];
	struct user *user;
	int64_t created_us;
};

struct sched_app; /* sched.c's own */
struct log_app; /* logs.c's own */
struct metrics_app; /* metrics.c's own */
struct start_memo; /* standby.c's own */

struct app {
	char id[37];
	char name[APP_NAME_MAX];
	struct user *owner;
	bool maintenance, locked;
	struct release release; /* version 0: none */
	unsigned n_formation;
	struct formation *formation;
	struct limits *limits; /* NULL: the configuration's */
	struct domain *domains;
	unsigned last_release; /* the highest number that was given */
	unsigned n_collaborators;
	struct collaborator *collaborators; /* an array */
	int64_t created_us, updated_us, released_us;
	struct sched_app *sched; /* NULL while it sleeps and nobody waits */
	struct log_app *logs; /* NULL while there are none */
	struct metrics_app *metrics; /* NULL before its first request */
	struct start_memo *start; /* NULL while nothing is known of its starts */
};

const struct limits *app_limits(const struct app *a);

/* Load everything; the first start makes the admin and data_dir/admin-token. 0, or an exit status after one line. */
int model_open(void);
int model_new_admin_token(void); /* and write it into that file */

/* --- look up; NULL if there is none ----------------------------------------------------------------- */
struct app *model_app(const char *id_or_name); /* of any owner: callers check may_use() */
struct app *model_app_by_host(
	const char *host,
	size_t len); /* host of a request, without port, any case: NAME.domain, a custom domain, a wildcard */
struct user *model_user(const char *id_or_email);
struct user *model_user_by_token(const char *token, size_t len); /* by hash, in constant time */
size_t model_n_apps(void);
/* Every app that the user may see (NULL: all), sorted by name. malloc'ed array. */
struct app **model_apps(const struct user *u, size_t *n);

enum role { ROLE_NONE, ROLE_COLLABORATOR, ROLE_OWNER };
enum role model_role(const struct user *u, const struct app *a); /* admin: owner of all */

/* --- changes. They return an error for the client, or NULL; *err text is static. ------------------------- */
struct fault { /* becomes {"id":..., "message":...} with this status */
	int status; /* 0: no error */
	const char *id; /* "invalid_params" */
	char message[256];
};
#define FAULT_NONE ((struct fault){0})

bool valid_app_name(const char *name);

/* name NULL: one is made ("quiet-meadow-1234"). Names of deleted apps belong to their last owner for 30 days. */
struct fault model_app_create(struct user *owner, const char *name, struct app **out);
struct fault model_app_rename(struct app *a, const char *name);
struct fault
model_app_destroy(struct app *a); /* frees a; sched, router, logs and metrics were told before: see model.c */
struct fault model_app_maintenance(struct app *a, bool on);
struct fault model_app_limits(struct app *a, const struct limits *l);
struct fault model_app_transfer(struct app *a, struct user *to);

/* A new release: `image` NULL keeps the current slug; `config` NULL keeps the vars. Becomes current at once unless
 * `pending` (a release phase runs first: model_release_done()). user may be NULL. Formation types that are new appear:
 * web with quantity 1 at the first slug, others with 0; `types` is {"web":"command"} of the new image, or NULL. */
struct new_release {
	const char *description; /* "Deploy 1a2b3c4", "Set K config vars", "Rollback to v3" */
	struct user *user;
	const char *image, *slug_id; /* malloc'ed by nobody: copied */
	uint64_t image_bytes;
	json_t *config; /* borrowed */
	json_t *types; /* borrowed */
	bool pending;
};
struct fault model_release_create(struct app *a, const struct new_release *r, unsigned *version);
struct fault model_release_done(struct app *a, unsigned version, bool succeeded);
/* A release as the store has it, as Heroku's JSON plus "image", "config", "types": caller's reference; NULL none. version 0: current. */
json_t *model_release(struct app *a, unsigned version);

struct formation *model_formation(struct app *a, const char *type);
struct fault model_scale(struct app *a, const char *type, unsigned quantity, const char *size);

struct fault model_domain_add(struct app *a, const char *hostname, struct domain **out);
struct fault model_domain_remove(struct app *a, struct domain *d);

/* cert_id "": none of its own. */
struct fault model_domain_cert(struct domain *d, const char *cert_id);

struct fault model_collaborator_add(struct app *a, struct user *u);
struct fault model_collaborator_remove(struct app *a, struct user *u); /* 404 if there is none */

/* A user with a first token. */
struct fault model_user_create(const char *email, const char *name, bool admin, struct user **out,
			       char token[65]);
struct fault model_user_rename(struct user *u, const char *email, const char *name); /* NULL: as it is */
/* Frees u; 422 while apps belong to it. Its tokens go with it. */
struct fault model_user_destroy(struct user *u);
struct user *model_users(void); /* all, by ->next */

/* Tokens of a user. expires_us 0: never. `id` and the token itself, which is told this once. The list is the table `tokens`. */
struct fault model_token_create(struct user *u, const char *description, int64_t expires_us, char id[37],
				char token[65]);
struct fault model_token_remove(struct user *u, const char *id); /* 404 if u has none of this id */

/* Limits as JSON, {"memory":"512M","in_flight":50,...}: all of an app's; those that `changes` names, over `*l`. null: the default again. */
json_t *limits_json(const struct limits *l);
struct fault limits_apply(struct limits *l, json_t *changes);
/* Nothing of `l` goes beyond `most`: what an owner may set without an admin. */
bool limits_within(const struct limits *l, const struct limits *most);

/* What failed in the store as a fault: 507 insufficient_storage when the disk is full, else 503. */
struct fault store_fault(int sqlite_error);
struct fault fault_of(int status, const char *id, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
