/* SPDX-License-Identifier: ISC */
/*
 * From a source to a release. A source is a tar(.gz) that was PUT to a source URL or is fetched, or a tree of a git push. Builds
 * run in child processes (`cowbell build`, confined there), at most config.max_builds at a time, the rest waits its turn; output goes
 * to whoever follows it. When an image is there: slug and release are written, a release phase runs if the Procfile has one, then sched_update().
 */
#ifndef COWBELL_PLATFORM_BUILD_H
#define COWBELL_PLATFORM_BUILD_H

#include "platform/http.h"
#include "platform/model.h"

struct build; /* in flight */
struct build_request {
	struct app *app;
	struct user *user;
	const char *tar; /* path of a tar, plain or gzip, that the build may remove afterwards; or NULL */
	const char *tree; /* a directory that the build may remove afterwards; or NULL */
	const char *version; /* commit or what the client says; for the description; or NULL */
	const char *description; /* or NULL: "Deploy VERSION" */
};
/* Pieces of output as they come; then ended once. ok: the release is made, `version` is its number. Callbacks may be NULL. */
struct build_watch {
	void (*output)(void *arg, const char *data, size_t n);
	void (*ended)(void *arg, bool ok, unsigned version, const char *why);
	void *arg;
};
int build_open(void);
struct fault build_start(const struct build_request *r, const struct build_watch *w, char build_id[37]);
void build_unwatch(const char *build_id, void *arg); /* the watcher goes away; the build goes on */
bool build_cancel(const char *build_id);
void build_app_gone(struct app *a);
/* Has it its image still? Those that the last ten releases do not need go. */
bool build_slug_is_kept(const char *slug_id);
bool build_any(void); /* is there one that has not ended, or was there one a moment ago? */
void build_stop(void); /* our own end: those that run are cancelled */

/* Endpoints, take the exchange: PUT/GET /sources/TOKEN, GET /builds/ID/output (streams), /NAME.git/... */
void source_serve(struct exchange *x);
void build_output_serve(struct exchange *x);
void git_serve(struct exchange *x);

#endif
