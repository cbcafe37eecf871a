/* SPDX-License-Identifier: ISC */
/*
 * Heroku's Platform API v3 over exchanges. api.c reads body and token, finds the route, checks the role, and calls a function of
 * one of the api_*.c files (one for each family of resources) with a struct call; that answers at once or later with api_reply().
 */
#ifndef COWBELL_PLATFORM_API_H
#define COWBELL_PLATFORM_API_H

#include "platform/http.h"
#include "platform/model.h"

struct call {
	struct exchange *x; /* NULL: the client has gone; replies are then dropped */
	struct user *user;
	struct app *app; /* of routes with {app}; the user may use it. NULL if it was destroyed since */
	char *param[3]; /* what the other {} of the route are, decoded */
	json_t *body; /* an object; never NULL for methods with one ({} if it was empty) */
	enum role role;
	void *priv; /* api.c's own */

	/* Of a route with `stream`, which sets them: pieces of the body as they come (c->x may be paused), its end, and the client's
	 * going away before the end (c->x is NULL then; piece and end do not come any more, and no reply is needed). */
	void (*piece)(struct call *c, const char *data, size_t n);
	void (*end)(struct call *c);
	void (*gone)(struct call *c);
	void *arg; /* of stream's */
};

enum need { NEED_NOTHING, NEED_USER, NEED_COLLABORATOR, NEED_OWNER, NEED_ADMIN };
struct route {
	const char *method, *path; /* "/apps/{app}/releases/{}"; segments */
	enum need need;
	void (*run)(struct call *c);
	/*
	 * Or NULL. Called in place of run, before the body is read, when its Content-Type is application/x-tar, application/gzip,
	 * application/x-gzip or application/octet-stream: a body that is no JSON and may be large. No limit of size is api.c's then.
	 */
	void (*stream)(struct call *c);
};
/* Each family gives its table, ending with an entry of NULLs. */
extern const struct route api_apps_routes[], api_config_routes[], api_release_routes[],
	api_formation_routes[], api_dyno_routes[], api_build_routes[], api_log_routes[], api_domain_routes[],
	api_account_routes[], api_misc_routes[];

/* Tell tls.c the certificates of the store: after model_open(), before front_open(). */
void api_certs_open(void);
void api_serve(struct exchange *x); /* takes it */
/* The same for a user whom the dashboard knows by its cookie. The caller has made sure that it is no forged request. */
void api_serve_as(struct exchange *x, struct user *u);
/* By its Authorization: Bearer, or Basic with the token as password; NULL: nobody. */
struct user *api_user(struct exchange *x);

/* Answer, after store_barrier() if something was changed by this call. `body` is stolen. */
void api_reply(struct call *c, int status, json_t *body);
/* A list: sorted, cut and paged as the Range header says (206, Next-Range). Array is stolen. key: what it is sorted by. */
void api_reply_list(struct call *c, json_t *array, const char *key);
void api_fault(struct call *c, const struct fault *f);
void api_error(struct call *c, int status, const char *id, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* For calls that outlive their function: keeps c alive until api_reply(). Done by default; nothing to call. */

/* JSON of the objects, as Heroku has it; new references. */
json_t *json_app(const struct app *a), *json_user(const struct user *u), *json_time(int64_t us);
json_t *json_app_ref(const struct app *a); /* {id,name} */

/* Of the server itself: "http://api.localhost:5080" as the client reached it; malloc'ed. */
char *api_base_url(struct exchange *x);
char *app_url(const struct app *a); /* "http://NAME.localhost:5080/" */

#endif
