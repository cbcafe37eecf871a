/* SPDX-License-Identifier: ISC */
/* What the files of the API share among themselves: routes, pages of lists, fields of bodies. */
#ifndef COWBELL_PLATFORM_API_UTIL_H
#define COWBELL_PLATFORM_API_UTIL_H

#include "platform/api.h"

/* --- routes (api_route.c) ------------------------------------------------------------------------- */
#define API_SEGMENTS_MAX 8
#define API_PARAMS_MAX	 3

struct api_match {
	const struct route *route; /* NULL: none */
	const char *app; /* the {app} of it, or NULL; in `text` */
	char *param[API_PARAMS_MAX]; /* in `text` */
	char allow[64]; /* methods that the path has, when none of its routes has this one */
	char *text; /* decoded segments; free() it */
};
/* Find the route of a request. False: the path is malformed (bad escapes, NUL, too long). */
bool api_route_find(struct str method, struct str path, struct api_match *m);
/* Every route of every family, for tests and documents: an array of {method, path, need}. */
json_t *api_route_list(void);

/* --- pages of lists (api_page.c) ------------------------------------------------------------------ */
#define API_PAGE_DEFAULT 200
#define API_PAGE_MAX	 1000

struct page {
	char key[24]; /* sorted by it; "" if the client did not say */
	char from[256], to[256]; /* bounds; "" is open */
	bool from_exclusive, desc;
	unsigned max;
};
/* Read a Range header: "id ]x..y; order=desc, max=10". False: malformed. p.n == 0 gives the defaults. */
bool page_parse(struct str header, struct page *p);
/*
 * Which of n objects, sorted upwards by their key, are on the page: at most p->max of [*first, *first + *count), to be told
 * from *first upwards, or downwards from *first when desc. more: there are others after these.
 */
typedef const char *page_key(const void *items, size_t i);
void page_cut(const struct page *p, const void *items, size_t n, page_key *key, size_t *first, size_t *count,
	      bool *more);
/* The order of keys: numbers by value, other texts by bytes. */
int page_compare(const char *a, const char *b);
/* "name ]last..; order=desc, max=200"; "" if `last` cannot stand in a header. */
void page_next(const struct page *p, const char *last, char *out, size_t size);

/* --- who calls (api_auth.c) ----------------------------------------------------------------------- */
/* Counts a call of u: how many remain in this hour, -1 if there is no limit, -2 if it is one too many. */
long api_take_call(const struct user *u);

/* --- calls (api.c) ---------------------------------------------------------------------------------- */
/* The page that the client asks for, sorted by one of `keys` (NULL-ended; the first is the default). False: answered with 416. */
bool api_page(struct call *c, const char *const *keys, struct page *p);
/* A page that the caller cut himself; next: of page_next(), or NULL. */
void api_reply_page(struct call *c, json_t *array, const char *next);
/* The app goes: calls that wait for something of it get NULL. */
void api_app_gone(struct app *a);
bool api_user_is_busy(const struct user *u); /* a call of his is in flight */
long api_remaining(struct call *c); /* calls that are left in this hour */

/* --- fields (api_body.c) ---------------------------------------------------------------------------- */
/*
 * Fields of the body. Each says in *ok (which they never set to true) if what is there has the wrong type, and has answered
 * the call with 422 then.
 */
const char *body_string(struct call *c, const char *key, bool *ok); /* NULL: not there, or null */
int body_bool(struct call *c, const char *key, bool *ok); /* -1: not there */
/* A number, also as a string of digits ("2"). -1: not there. */
int64_t body_number(struct call *c, const char *key, bool *ok);

/* A value of the request's query, decoded; malloc'ed, or NULL. */
char *api_query(struct exchange *x, const char *name);

/* Text that may go into messages and logs: at most 60 bytes of it, control characters as '?'. */
const char *api_shown(const char *text, char out[64]);

#define API_INVALID 422, "invalid_params"

/* --- objects (json.c) --------------------------------------------------------------------------------- */
json_t *json_user_ref(const struct user *u); /* {email,id} */
json_t *json_formation(const struct app *a, const struct formation *f);
json_t *json_domain(const struct app *a, const struct domain *d);
char *app_git_url(const struct app *a);

#define STACK_NAME  "cowbell"
#define STACK_ID    "c0bbe111-0000-4000-8000-000000000001"
#define REGION_NAME "us"
#define REGION_ID   "c0bbe111-0000-4000-8000-000000000002"

/* Sizes of dynos (api_misc.c): the name as Heroku writes it ("Standard-1X" for "standard-1x"), NULL if there is no such. */
const char *dyno_size_name(const char *said);
json_t *json_dyno_size(const char *name); /* {id,name} */

#endif
