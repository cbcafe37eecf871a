/* SPDX-License-Identifier: ISC */
/*
 * Builds, sources and slugs of the API, and the output of a build as a stream.
 *
 *   POST   /sources, /apps/X/sources      {source_blob:{get_url, put_url}}: see source.c
 *   POST   /apps/X/builds                 {source_blob:{url, version, checksum}}: 201 at once, with output_stream_url
 *   POST   /apps/X/builds                 with a tar as its body (application/x-tar, application/gzip): the source in the same request. Its
 *                                         version, checksum and description may be in the query.
 *          ...?wait=1                     (both) answers when the build has ended: 201 with the build, or 422 {id:"build_failed", message,
 *                                         build, output}. One request from a directory to a URL.
 *   GET    /apps/X/builds, .../ID, .../ID/result
 *   DELETE /apps/X/builds/ID              cancels
 *   GET    /apps/X/slugs/ID
 *   POST   /apps/X/slugs                  not served: slugs are made by builds
 *   GET    /builds/ID/output?key=K        text, until the end of the build; the key is in output_stream_url
 *
 * The URL of a source is one of ours, or http(s) of a public address (the builder fetches it, see image/build/download.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "platform/api.h"
#include "platform/api_util.h"
#include "platform/build_inside.h"

/* --- answers --------------------------------------------------------------------------------------------------------------- */

static json_t *build_json(struct call *c, const char *id)
{
	char *base = c->x ? api_base_url(c->x) : xstrdup("");
	json_t *o = c->app ? rows_build(c->app, id, base) : NULL;

	free(base);
	return o;
}

static char *query_text(struct call *c, const char *name)
{
	char *v = c->x ? api_query(c->x, name) : NULL;

	if (v && !*v) {
		free(v);
		return NULL;
	}
	return v;
}

/* --- waiting for the end ----------------------------------------------------------------------------------------------------- */

struct waiter {
	struct call *call;
	char id[37];
};

static void waited(void *arg, bool ok, unsigned version, const char *why)
{
	struct waiter *w = arg;
	struct call *c = w->call;
	json_t *o = build_json(c, w->id);
	size_t n;

	(void)version;
	if (!o) {
		api_error(c, 404, "not_found", "The app is gone.");
	} else if (ok) {
		api_reply(c, 201, o);
	} else {
		char *output = rows_output(w->id, &n);
		api_reply(c, 422,
			  json_pack("{s:s, s:s, s:o, s:s?}", "id", "build_failed", "message", why, "build", o,
				    "output", output));
		free(output);
	}
	free(w);
}

/* Takes the strings of src. */
static void begin(struct call *c, struct build_source *src)
{
	char *wait = query_text(c, "wait");
	struct waiter *w = wait && !strcmp(wait, "1") ? xcalloc(1, sizeof(*w)) : NULL;
	struct build_watch watch = {.ended = waited, .arg = w};
	struct build *b = NULL;

	free(wait);
	if (src->version && strlen(src->version) > 200)
		src->version[200] = 0;
	struct fault f = build_enqueue(c->app, c->user, src, NULL, &b);
	if (f.status) {
		free(w);
		api_fault(c, &f);
	} else if (w) {
		w->call = c;
		memcpy(w->id, b->id, 37);
		build_watch_add(b, &watch);
	} else {
		api_reply(c, 201, build_json(c, b->id));
	}
}

/* --- the source in the request itself ------------------------------------------------------------------------------------------ */

struct upload {
	struct call *call; /* NULL: the client has gone */
	struct spool *spool;
	char *version, *checksum, *description;
};

static void upload_free(struct upload *u)
{
	free(u->version);
	free(u->checksum);
	free(u->description);
	free(u);
}

static void upload_room(void *arg)
{
	struct upload *u = arg;

	if (u->call && u->call->x)
		exchange_resume(u->call->x);
}

static void refuse_upload(struct call *c, int err)
{
	if (err == -EFBIG)
		api_error(c, 413, "request_entity_too_large", "The source is larger than this server takes.");
	else
		api_error(c, err == -ENOSPC ? 507 : 500, "storage_failed",
			  "The source could not be written: %s", strerror(-err));
}

static void upload_done(void *arg, char *path, int err)
{
	struct upload *u = arg;
	struct call *c = u->call;

	if (!c->app && path) {
		unlink(path);
		free(path);
		api_error(c, 404, "not_found", "The app is gone.");
	} else if (path) {
		struct build_source src = {.tar = path,
					   .version = u->version,
					   .checksum = u->checksum,
					   .description = u->description,
					   .strip = true};
		u->version = u->checksum = u->description = NULL;
		begin(c, &src);
	} else {
		refuse_upload(c, err);
	}
	upload_free(u);
}

static void upload_piece(struct call *c, const char *data, size_t n)
{
	struct upload *u = c->arg;

	if (!spool_write(u->spool, data, n))
		exchange_pause(c->x);
	int err = spool_error(u->spool);
	if (err) { /* no need to take the rest */
		spool_abort(u->spool);
		upload_free(u);
		refuse_upload(c, err);
	}
}

static void upload_end(struct call *c)
{
	struct upload *u = c->arg;

	spool_finish(u->spool);
}

static void upload_gone(struct call *c)
{
	struct upload *u = c->arg;

	spool_abort(u->spool);
	upload_free(u);
}

static const struct spool_events upload_events = {upload_room, upload_done};

static void create_from_body(struct call *c)
{
	char name[40];

	if (c->x->content_length > 0 && (uint64_t)c->x->content_length > config.max_source) {
		api_error(c, 413, "request_entity_too_large", "The source is larger than this server takes.");
		return;
	}
	if (!source_disk_room()) {
		refuse_upload(c, -ENOSPC);
		return;
	}
	struct upload *u = xcalloc(1, sizeof(*u));
	u->call = c;
	strcpy(name, "build-");
	make_token(name + 6, 24);
	u->spool = spool_open(name, config.max_source, &upload_events, u);
	if (!u->spool) {
		free(u);
		api_error(c, 507, "storage_failed",
			  "The source could not be written: the server's disk may be full.");
		return;
	}
	u->version = query_text(c, "version");
	u->checksum = query_text(c, "checksum");
	u->description = query_text(c, "description");
	c->arg = u;
	c->piece = upload_piece;
	c->end = upload_end;
	c->gone = upload_gone;
}

/* --- the usual way ------------------------------------------------------------------------------------------------------------------ */

static char *copy(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && *s ? xstrdup(s) : NULL;
}

static void free_source(struct build_source *s)
{
	if (s->tar)
		unlink(s->tar);
	free(s->tar);
	free(s->url);
	free(s->said_url);
	free(s->version);
	free(s->checksum);
}

static void create(struct call *c)
{
	const json_t *blob = json_object_get(c->body, "source_blob");
	const char *url = json_string_value(json_object_get(blob, "url"));
	struct build_source src = {.strip = true};
	bool ours = false;

	if (!url || !*url || strlen(url) > 8192) {
		api_error(c, 422, "invalid_params",
			  "source_blob.url is missing: PUT the source to a URL of POST /sources, or send a "
			  "tar as body.");
		return;
	}
	src.tar = source_take(url, &ours);
	if (ours && !src.tar) {
		api_error(c, 422, "invalid_params",
			  "Nothing was sent to this source URL, or a build took it already.");
		return;
	}
	if (!ours && strncmp(url, "https://", 8) && strncmp(url, "http://", 7)) {
		api_error(c, 422, "invalid_params", "source_blob.url must be an http or https URL.");
		return;
	}
	src.said_url = xstrdup(url);
	src.version = copy(blob, "version");
	src.checksum = copy(blob, "checksum");
	if (!ours) {
		size_t size = strlen(config.data_dir) + 48;
		src.url = xstrdup(url);
		src.tar = xcalloc(1, size);
		snprintf(src.tar, size, "%s/sources/build-", config.data_dir);
		make_token(src.tar + strlen(src.tar), 24);
	}
	if (src.checksum && strlen(src.checksum) > 80) {
		free_source(&src);
		api_error(c, 422, "invalid_params", "source_blob.checksum must be SHA256:HEX.");
		return;
	}
	begin(c, &src);
}

static void list(struct call *c)
{
	char *base = api_base_url(c->x);

	api_reply_list(c, rows_builds(c->app, base), "created_at");
	free(base);
}

static void info(struct call *c)
{
	json_t *o = build_json(c, c->param[0]);

	if (o)
		api_reply(c, 200, o);
	else
		api_error(c, 404, "not_found", "Couldn't find that build.");
}

static void result(struct call *c)
{
	json_t *o = build_json(c, c->param[0]), *lines = json_array();
	const char *status = json_string_value(json_object_get(o, "status"));
	size_t n;

	if (!o) {
		json_decref(lines);
		api_error(c, 404, "not_found", "Couldn't find that build.");
		return;
	}
	int code = !strcmp(status, "succeeded") ? 0 : 1;
	char *text = rows_output(c->param[0], &n);
	for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
		if (rest || *line) {
			json_t *l = json_sprintf("%s\n", line);
			if (l)
				json_array_append_new(lines,
						      json_pack("{s:s, s:o}", "stream", "STDOUT", "line", l));
		}
	free(text);
	api_reply(c, 200, json_pack("{s:o, s:i, s:o}", "build", o, "exit_code", code, "lines", lines));
}

static void cancel(struct call *c)
{
	json_t *o = build_json(c, c->param[0]);

	if (!o) {
		api_error(c, 404, "not_found", "Couldn't find that build.");
		return;
	}
	json_decref(o);
	build_cancel(c->param[0]);
	o = build_json(c, c->param[0]);
	api_reply(c, 200, o);
}

static void sources(struct call *c)
{
	char *base = api_base_url(c->x), *put, *get;

	source_make(base, c->user, &put, &get);
	api_reply(c, 201, json_pack("{s:{s:s, s:s}}", "source_blob", "get_url", get, "put_url", put));
	free(base);
	free(put);
	free(get);
}

static void slug(struct call *c)
{
	json_t *o = rows_slug(c->app, c->param[0]);

	if (o)
		api_reply(c, 200, o);
	else
		api_error(c, 404, "not_found", "Couldn't find that slug.");
}

static void no_slug(struct call *c)
{
	api_error(c, 422, "invalid_params",
		  "Slugs are made by builds here: POST /apps/%s/builds takes a source; POST "
		  "/apps/%s/releases an existing slug.",
		  c->app->name, c->app->name);
}

const struct route api_build_routes[] = {
	{"POST", "/sources", NEED_USER, sources, NULL},
	{"POST", "/apps/{app}/sources", NEED_COLLABORATOR, sources, NULL},
	{"GET", "/apps/{app}/builds", NEED_COLLABORATOR, list, NULL},
	{"POST", "/apps/{app}/builds", NEED_COLLABORATOR, create, create_from_body},
	{"GET", "/apps/{app}/builds/{}", NEED_COLLABORATOR, info, NULL},
	{"GET", "/apps/{app}/builds/{}/result", NEED_COLLABORATOR, result, NULL},
	{"DELETE", "/apps/{app}/builds/{}", NEED_COLLABORATOR, cancel, NULL},
	{"GET", "/apps/{app}/slugs/{}", NEED_COLLABORATOR, slug, NULL},
	{"POST", "/apps/{app}/slugs", NEED_COLLABORATOR, no_slug, NULL},
	{0},
};

/* --- output as it comes -------------------------------------------------------------------------------------------------------------- */

#define FOLLOWERS_MAX 50 /* of one build */

struct follower {
	struct exchange *x;
	char id[37];
	size_t waiting; /* bytes that the client is behind */
	bool full;
};

static void follow_output(void *arg, const char *data, size_t n)
{
	struct follower *f = arg;

	if (f->full) { /* a client that does not read: the rest is in the store, and it may ask again */
		f->waiting += n;
		return;
	}
	f->full = !exchange_write(f->x, data, n);
}

static void follow_ended(void *arg, bool ok, unsigned version, const char *why)
{
	struct follower *f = arg;

	(void)ok, (void)version, (void)why;
	if (f->waiting)
		exchange_write(f->x, "[...]\n", 6);
	f->x->user = NULL;
	exchange_end(f->x);
	free(f);
}

static void follow_drained(struct exchange *x)
{
	struct follower *f = x->user;

	if (f && f->full) {
		f->full = false;
		if (f->waiting)
			exchange_write(x, "[...]\n", 6);
		f->waiting = 0;
	}
}

static void follow_closed(struct exchange *x)
{
	struct follower *f = x->user;

	if (!f)
		return;
	build_unwatch(f->id, f);
	free(f);
}

static void no_body(struct exchange *x, const char *data, size_t n)
{
	(void)x, (void)data, (void)n;
}

static void no_end(struct exchange *x)
{
	(void)x;
}

static const struct exchange_handler follow_handler = {no_body, no_end, follow_drained, follow_closed};

static void follow(struct exchange *x, struct build *b)
{
	static const struct header h[] = {{{"Content-Type", 12}, {"text/plain; charset=utf-8", 25}},
					  {{"Cache-Control", 13}, {"no-store", 8}},
					  {{"X-Accel-Buffering", 17}, {"no", 2}}};
	struct follower *f = xcalloc(1, sizeof(*f));
	struct build_watch w = {follow_output, follow_ended, f};

	f->x = x;
	memcpy(f->id, b->id, 37);
	x->user = f;
	x->handler = &follow_handler;
	build_watch_add(b, &w);
	exchange_respond(x, 200, h, 3, -1);
	if (b->n_output)
		f->full = !exchange_write(x, b->output, b->n_output);
}

/* Each of them may have all of the output waiting in memory. */
static bool has_enough_followers(const struct build *b)
{
	unsigned n = 0;

	for (const struct watcher *w = b->watchers; w; w = w->next)
		n += w->w.output == follow_output;
	return n >= FOLLOWERS_MAX;
}

/* /builds/ID/output?key=K */
void build_output_serve(struct exchange *x)
{
	char id[37], mac[33], *key = api_query(x, "key");
	bool shape = x->path.n == 8 + 36 + 7 && !memcmp(x->path.p, "/builds/", 8) &&
		     !memcmp(x->path.p + 44, "/output", 7);
	size_t n = 0;

	snprintf(id, sizeof(id), "%.*s", shape ? 36 : 0, shape ? x->path.p + 8 : "");
	source_mac("output", id, mac);
	bool good = shape && key && strlen(key) == 32 && !CRYPTO_memcmp(key, mac, 32);
	free(key);
	struct build *b = good ? build_find(id) : NULL;
	if (!str_eq(x->method, "GET")) {
		exchange_reply(x, 405, "text/plain", "GET it.\n", 8);
	} else if (b && has_enough_followers(b)) {
		exchange_reply(x, 429, "text/plain", "Too many follow this build.\n", 28);
	} else if (b) {
		follow(x, b);
	} else {
		char *text = good ? rows_output(id, &n) : NULL;
		if (text)
			exchange_reply(x, 200, "text/plain; charset=utf-8", text, n);
		else
			exchange_reply(x, 404, "text/plain", "There is no such build.\n", 24);
		free(text);
	}
}
