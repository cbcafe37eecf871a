// SPDX-License-Identifier: ISC
/*
 * The way of a call of the API: exchange -> token -> route -> role -> body -> the family's function -> disk -> answer.
 *
 * Nothing of a body is read before the token is good. A body is at most 1 MiB and is JSON, an object, without
 * repeated keys and nested 64 deep at most. An app that the caller may not see is not there (404); one that he may see
 * but not change so is forbidden (403).
 *
 * Life of a pending call: api_serve() makes it; the family's function gets its struct call; api_reply() and its
 * sisters take the answer; after a change they wait for store_barrier(); then it is sent and freed. If the client goes
 * before, call.x is NULL from then on, the function's work goes on, and its answer is dropped. All calls whose
 * function has begun are in a list, so that those of a destroyed app can be told (call.app becomes NULL).
 */
#include "platform/api_util.h"
#include "platform/store.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX  ((size_t)1 << 20)
#define DEPTH_MAX 64
/* Of a body that is too large so much is read and thrown away, so that the client comes to read our answer. */
#define SWALLOW_MAX ((size_t)16 << 20)
#define TOKEN_MAX   256
#define ERRORS_URL  "https://devcenter.heroku.com/articles/platform-api-reference#errors"

struct pending {
	struct call call; /* the first: a call is its pending */
	struct api_match match;
	char *body;
	size_t len, cap; /* of a body that is too large, len alone goes on */
	char as[37]; /* who it is, if the dashboard said so; else "", and his token says it */
	bool begun, answered;
	bool streaming; /* the route takes the body itself, and it has not ended */
	int status;
	char *text; /* the answer */
	char next[640]; /* Next-Range of it */
	long remaining; /* of the rate limit; -1: unlimited */
	struct pending *prev, *next_call;
};

static struct pending *in_flight;
static struct user *serving_as; /* during api_serve_as() only */

static struct pending *pending_of(struct call *c)
{
	return (struct pending *)c;
}

static void pending_free(struct pending *p)
{
	if (p->begun) {
		if (p->prev)
			p->prev->next_call = p->next_call;
		else
			in_flight = p->next_call;
		if (p->next_call)
			p->next_call->prev = p->prev;
	}
	json_decref(p->call.body);
	free(p->match.text);
	free(p->body);
	free(p->text);
	free(p);
}

void api_app_gone(struct app *a)
{
	for (struct pending *p = in_flight; p; p = p->next_call)
		if (p->call.app == a)
			p->call.app = NULL;
}

bool api_user_is_busy(const struct user *u)
{
	for (struct pending *p = in_flight; p; p = p->next_call)
		if (p->call.user == u)
			return true;
	return false;
}

#define UNLIMITED_SAYS 4500 /* what RateLimit-Remaining says if there is no limit: Heroku's own */
long api_remaining(struct call *c)
{
	return pending_of(c)->remaining < 0 ? UNLIMITED_SAYS : pending_of(c)->remaining;
}

/* --- answers -------------------------------------------------------------------------------------- */

static uint64_t hash_text(const char *s)
{
	uint64_t h = 0xcbf29ce484222325;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3;
	return h;
}

static struct str str_of(const char *s)
{
	return (struct str){s, strlen(s)};
}

/* The answer is complete, and what it says is on disk. */
static void send_answer(struct pending *p)
{
	struct exchange *x = p->call.x;
	struct header h[10];
	char etag[24], remaining[16];
	unsigned n = 0;
	int status = p->status;
	size_t len = p->text ? strlen(p->text) : 0;

	if (!x) {
		pending_free(p);
		return;
	}
	snprintf(remaining, sizeof(remaining), "%ld", api_remaining(&p->call));
	h[n++] = (struct header){STR("Content-Type"), STR("application/json")};
	h[n++] = (struct header){STR("Request-Id"), str_of(x->request_id)};
	h[n++] = (struct header){STR("RateLimit-Remaining"), str_of(remaining)};
	h[n++] = (struct header){STR("Cache-Control"), STR("private, no-cache")};
	h[n++] = (struct header){STR("X-Content-Type-Options"), STR("nosniff")};
	if (status == 401)
		h[n++] = (struct header){STR("WWW-Authenticate"), STR("Basic realm=\"cowbell\"")};
	if (status == 405 && p->match.allow[0])
		h[n++] = (struct header){STR("Allow"), str_of(p->match.allow)};
	if (p->next[0])
		h[n++] = (struct header){STR("Next-Range"), str_of(p->next)};
	if (status == 200 && (str_eq(x->method, "GET") || str_eq(x->method, "HEAD"))) {
		struct str match = exchange_header(x, "If-None-Match");
		snprintf(etag, sizeof(etag), "\"%016llx\"",
			 (unsigned long long)hash_text(p->text ? p->text : ""));
		h[n++] = (struct header){STR("ETag"), str_of(etag)};
		if (match.p && memmem(match.p, match.n, etag, strlen(etag))) {
			status = 304;
			len = 0;
		}
	}
	p->call.x = NULL;
	x->user = NULL;
	exchange_respond(x, status, h, n, (int64_t)len);
	if (len)
		exchange_write(x, p->text, len);
	exchange_end(x);
	pending_free(p);
}

static void set_error(struct pending *p, int status, const char *id, const char *message)
{
	json_t *body = json_object();

	json_object_set_new(body, "id", json_string(id));
	json_t *text = json_string(message);
	json_object_set_new(body, "message", text ? text : json_string("The request is not valid."));
	json_object_set_new(body, "url", json_string(ERRORS_URL));
	p->status = status;
	free(p->text);
	p->text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
}

static void on_disk(void *arg, int err)
{
	struct pending *p = arg;

	if (err)
		set_error(p, 503, "storage_failed",
			  "The change could not be written to disk; the platform's disk may be full. Nothing "
			  "was acknowledged.");
	send_answer(p);
}

static bool is_change(const struct pending *p)
{
	return p->match.route && strcmp(p->match.route->method, "GET") != 0;
}

static void answer(struct pending *p)
{
	if (p->answered) {
		plog("error", NULL, "api: two answers to one call of %s",
		     p->match.route ? p->match.route->path : "?");
		return;
	}
	p->answered = true;
	if (p->begun && is_change(p) && p->status < 400)
		store_barrier(on_disk, p);
	else
		send_answer(p);
}

void api_reply(struct call *c, int status, json_t *body)
{
	struct pending *p = pending_of(c);

	p->status = status;
	if (body && !p->answered) {
		p->text = json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY);
		if (!p->text)
			set_error(p, 500, "internal", "The answer could not be written as JSON.");
	}
	json_decref(body);
	answer(p);
}

void api_error(struct call *c, int status, const char *id, const char *fmt, ...)
{
	char message[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	if (!pending_of(c)->answered)
		set_error(pending_of(c), status, id, message);
	answer(pending_of(c));
}

void api_fault(struct call *c, const struct fault *f)
{
	api_error(c, f->status ? f->status : 500, f->id ? f->id : "internal", "%s", f->message);
}

/* --- lists ------------------------------------------------------------------------------------------ */

bool api_page(struct call *c, const char *const *keys, struct page *p)
{
	struct str range = c->x ? exchange_header(c->x, "Range") : (struct str){NULL, 0};

	if (!page_parse(range.p ? range : STR(""), p)) {
		api_error(c, 416, "requested_range_not_satisfiable",
			  "The Range header is not of the form \"id FROM..TO; order=asc, max=200\".");
		return false;
	}
	if (!p->key[0])
		snprintf(p->key, sizeof(p->key), "%s", keys[0]);
	for (; *keys; keys++)
		if (!strcmp(*keys, p->key))
			return true;
	api_error(c, 416, "requested_range_not_satisfiable", "This list cannot be sorted by %s.", p->key);
	return false;
}

void api_reply_page(struct call *c, json_t *array, const char *next)
{
	if (next)
		snprintf(pending_of(c)->next, sizeof(pending_of(c)->next), "%s", next);
	api_reply(c, next && *next ? 206 : 200, array);
}

struct item {
	const char *key;
	char number[24];
	json_t *value;
};

static int item_order(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	return page_compare(x->key ? x->key : x->number, y->key ? y->key : y->number);
}

static const char *item_key(const void *items, size_t i)
{
	const struct item *it = (const struct item *)items + i;

	return it->key ? it->key : it->number;
}

void api_reply_list(struct call *c, json_t *array, const char *key)
{
	const char *keys[] = {key,	  "id",		"name",	      "version", "type",
			      "hostname", "created_at", "updated_at", "email",	 NULL};
	size_t n = json_array_size(array), first, count;
	struct item *items;
	struct page page;
	char next[640] = "";
	json_t *out;
	bool more;

	if (!api_page(c, keys, &page)) {
		json_decref(array);
		return;
	}
	items = xcalloc(n + 1, sizeof(*items));
	for (size_t i = 0; i < n; i++) {
		json_t *v = json_object_get(json_array_get(array, i), page.key);
		items[i].value = json_array_get(array, i);
		items[i].key = json_string_value(v);
		if (json_is_integer(v))
			snprintf(items[i].number, sizeof(items[i].number), "%lld",
				 (long long)json_integer_value(v));
	}
	qsort(items, n, sizeof(*items), item_order);
	page_cut(&page, items, n, item_key, &first, &count, &more);
	out = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append(out, items[page.desc ? first - i : first + i].value);
	if (more && count)
		page_next(&page, item_key(items, page.desc ? first - count + 1 : first + count - 1), next,
			  sizeof(next));
	free(items);
	json_decref(array);
	api_reply_page(c, out, next[0] ? next : NULL);
}

/* --- requests --------------------------------------------------------------------------------------------- */

/* Brackets, outside of strings: before the parser recurses over them. */
static bool too_deep(const char *s, size_t n)
{
	unsigned depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < n; i++) {
		if (in_string) {
			if (s[i] == '\\')
				i++;
			else if (s[i] == '"')
				in_string = false;
		} else if (s[i] == '"') {
			in_string = true;
		} else if (s[i] == '{' || s[i] == '[') {
			if (++depth > DEPTH_MAX)
				return true;
		} else if ((s[i] == '}' || s[i] == ']') && depth) {
			depth--;
		}
	}
	return false;
}

/* The whole body is there. False: answered. */
static bool read_body(struct pending *p)
{
	json_error_t err;
	size_t i = 0;

	while (i < p->len && strchr(" \t\r\n", p->body[i]) && p->body[i])
		i++;
	if (i == p->len) {
		p->call.body = json_object();
		return true;
	}
	if (too_deep(p->body, p->len)) {
		api_error(&p->call, 400, "bad_request", "The body is nested too deeply.");
		return false;
	}
	p->call.body = json_loadb(p->body, p->len, JSON_REJECT_DUPLICATES, &err);
	free(p->body);
	p->body = NULL;
	if (json_is_object(p->call.body))
		return true;
	if (p->call.body)
		api_error(&p->call, 400, "bad_request", "The body must be a JSON object.");
	else
		api_error(&p->call, 400, "bad_request", "The body is not valid JSON: line %d, column %d.",
			  err.line, err.column);
	return false;
}

static bool may(struct pending *p)
{
	struct call *c = &p->call;
	const struct route *r = p->match.route;

	if (p->match.app) {
		struct app *a = model_app(p->match.app);
		c->role = a ? model_role(c->user, a) : ROLE_NONE;
		if (c->role == ROLE_NONE) {
			api_error(c, 404, "not_found", "Couldn't find that app.");
			return false;
		}
		c->app = a;
	}
	if ((r->need == NEED_OWNER && c->role != ROLE_OWNER) || (r->need == NEED_ADMIN && !c->user->admin) ||
	    (r->need == NEED_COLLABORATOR && c->role == ROLE_NONE)) {
		api_error(c, 403, "forbidden", "You do not have access to this resource.");
		return false;
	}
	return true;
}

static void join_list(struct pending *p)
{
	p->begun = true;
	p->next_call = in_flight;
	if (in_flight)
		in_flight->prev = p;
	in_flight = p;
}

static void begin(struct pending *p)
{
	/* The token, the app or the role may have gone while the body came. */
	p->call.user = p->as[0] ? model_user(p->as) : api_user(p->call.x);
	join_list(p);
	if (!p->call.user)
		api_error(&p->call, 401, "unauthorized", "Invalid credentials provided.");
	else if (read_body(p) && may(p))
		p->match.route->run(&p->call);
}

static void too_large(struct pending *p)
{
	api_error(&p->call, 413, "request_entity_too_large", "The body is larger than 1 MiB.");
}

static void keep_piece(struct pending *p, const char *data, size_t n)
{
	if (p->len > p->cap) {
		p->cap = p->len > p->cap * 2 ? p->len : p->cap * 2;
		p->body = xrealloc(p->body, p->cap);
	}
	memcpy(p->body + p->len - n, data, n);
}

static void on_body(struct exchange *x, const char *data, size_t n)
{
	struct pending *p = x->user;

	if (p && p->streaming && !p->answered && p->call.piece) {
		p->call.piece(&p->call, data, n);
		return;
	}
	if (!p || p->begun)
		return;
	p->len += n;
	if (p->len > SWALLOW_MAX)
		too_large(p); /* and p is gone */
	else if (p->len <= BODY_MAX)
		keep_piece(p, data, n);
}

static void on_body_end(struct exchange *x)
{
	struct pending *p = x->user;

	if (p && p->streaming) {
		p->streaming = false;
		if (p->call.end && !p->answered)
			p->call.end(&p->call);
	} else if (p && !p->begun && p->len > BODY_MAX) {
		too_large(p);
	} else if (p && !p->begun) {
		begin(p);
	}
}

static void on_closed(struct exchange *x)
{
	struct pending *p = x->user;

	if (!p)
		return;
	x->user = NULL;
	p->call.x = NULL;
	if (p->answered)
		return;
	if (p->streaming && p->call.gone)
		p->call.gone(&p->call);
	if (p->streaming || !p->begun)
		pending_free(p);
}

static const struct exchange_handler handler = {on_body, on_body_end, NULL, on_closed};

/* "application/vnd.heroku+json; version=3" and "version=3.anything" are ours; other versions are not. */
static bool acceptable(struct str accept)
{
	const char *vnd, *version;

	if (!accept.p)
		return true;
	vnd = memmem(accept.p, accept.n, "application/vnd.heroku+json", 27);
	if (!vnd)
		return true;
	accept.n -= (size_t)(vnd - accept.p);
	version = memmem(vnd, accept.n, "version=", 8);
	if (!version)
		return true;
	size_t left = accept.n - (size_t)(version - vnd) - 8;
	version += 8;
	if (left && *version == '"')
		version++, left--;
	return left && *version == '3' && (left == 1 || version[1] < '0' || version[1] > '9');
}

/* A body that is no JSON, for a route that takes such. */
static bool is_stream(const struct pending *p)
{
	static const char *const types[] = {"application/x-tar", "application/gzip", "application/x-gzip",
					    "application/octet-stream"};
	struct str type = exchange_header(p->call.x, "Content-Type");

	if (!p->match.route->stream || !type.p)
		return false;
	for (size_t i = 0; i < type.n; i++)
		if (type.p[i] == ';' || type.p[i] == ' ')
			type.n = i;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (str_eq_nocase(type, types[i]))
			return true;
	return false;
}

/* What the head alone decides. False: answered. */
static bool head_is_good(struct pending *p)
{
	struct exchange *x = p->call.x;
	struct call *c = &p->call;
	bool path_ok = api_route_find(x->method, x->path, &p->match);

	p->remaining = -1;
	c->user = serving_as ? serving_as : api_user(x);
	if (serving_as)
		snprintf(p->as, sizeof(p->as), "%s", serving_as->id);
	if (!c->user) {
		api_error(c, 401, "unauthorized", "Invalid credentials provided.");
		return false;
	}
	p->remaining = api_take_call(c->user);
	if (p->remaining == -2) {
		p->remaining = 0;
		api_error(c, 429, "rate_limit",
			  "Your account has reached the API rate limit. Please wait and try again.");
		return false;
	}
	if (!path_ok) {
		api_error(c, 400, "bad_request", "The path is not valid.");
		return false;
	}
	if (!p->match.route) {
		if (p->match.allow[0])
			api_error(c, 405, "method_not_allowed",
				  "This endpoint has no such method; it has %s.", p->match.allow);
		else
			api_error(c, 404, "not_found",
				  "There is no such endpoint. Its path or version may be wrong.");
		return false;
	}
	if (!acceptable(exchange_header(x, "Accept"))) {
		api_error(c, 406, "not_acceptable",
			  "Only version 3 of the API is served: "
			  "Accept: application/vnd.heroku+json; version=3");
		return false;
	}
	if (!may(p))
		return false;
	if (!is_stream(p) && x->content_length > (int64_t)(x->expect_continue ? BODY_MAX : SWALLOW_MAX)) {
		too_large(p);
		return false;
	}
	return true;
}

static bool is_waiting(const struct pending *p)
{
	for (const struct pending *q = in_flight; q; q = q->next_call)
		if (q == p)
			return !q->answered;
	return false;
}

void api_serve(struct exchange *x)
{
	struct pending *p = xcalloc(1, sizeof(*p));

	p->call.x = x;
	x->handler = &handler;
	x->user = p;
	if (!head_is_good(p))
		return;
	for (int i = 0; i < API_PARAMS_MAX; i++)
		p->call.param[i] = p->match.param[i];
	if (is_stream(p)) {
		p->call.body = json_object();
		p->streaming = true;
		join_list(p);
		p->match.route->stream(&p->call);
		if (is_waiting(p)) /* else it has answered already, and both are gone */
			exchange_continue(x);
		return;
	}
	if (x->content_length == 0) {
		begin(p);
		return;
	}
	exchange_continue(x);
}

void api_serve_as(struct exchange *x, struct user *u)
{
	serving_as = u;
	api_serve(x);
	serving_as = NULL;
}
