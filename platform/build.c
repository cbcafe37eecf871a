/* SPDX-License-Identifier: ISC */
/*
 * Builds: from a source to a release.
 *
 *   build_start() ──▶ QUEUED ──▶ RUNNING ──▶ SYNCING ──▶ RELEASING ──▶ ENDED
 *                       │        a builder's   the image     slug, release,
 *                       │        (builder.c)   to the disk   release phase (build_release.c)
 *                       └── build_cancel(), build_app_gone(), a failure ──────▶ ENDED, and the old release goes on
 *
 * At most config.max_builds run, and one of an app at a time, since releases come in the order of pushes. Among those that wait the oldest
 * goes first whose user has the fewest running, so nobody's many builds keep others waiting.
 *
 * SYNCING: builders do not wait for the disk (see worker.c); here one syncfs(2), by the pool, is done for all builds that have ended
 * since the last one began. Only then the release is written: a release never names an image that a power failure could take.
 *
 * Output is kept whole in memory (OUTPUT_MAX) while the build is in flight, for whoever comes later, and its last part in the store from the
 * end. What it says comes from hostile code, and is text: builders have made control characters harmless.
 *
 * What waits is in the store, too: a build that was accepted and whose source is a file is begun again after a crash.
 */
#include "platform/build.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/build_inside.h"
#include "platform/git.h"
#include "platform/metrics.h"
#include "platform/sched.h"
#include "platform/store.h"

#define WAITING_MAX	4000
#define WAITING_APP_MAX 10
#define MOMENT_NS	500000000ull

struct build *builds;
static struct build **last = &builds;
static bool stopping;
static unsigned n_waiting;
static uint64_t ended_ns; /* when the last one did */

struct build *build_find(const char *id)
{
	for (struct build *b = builds; b; b = b->next)
		if (!strcmp(b->id, id))
			return b;
	return NULL;
}

/* --- output --------------------------------------------------------------------------------------------------------------- */

void build_say_text(struct build *b, const char *data, size_t n)
{
	size_t room = OUTPUT_MAX - b->n_output, keep = n < room ? n : room;

	if (keep) {
		size_t cap = b->n_output ? 1 : 0;
		while (cap && cap < b->n_output)
			cap *= 2;
		if (!cap || b->n_output + keep > (cap < 1024 ? 1024 : cap)) {
			size_t want = 1024;
			while (want < b->n_output + keep)
				want *= 2;
			b->output = xrealloc(b->output, want);
		}
		memcpy(b->output + b->n_output, data, keep);
		b->n_output += keep;
	}
	b->output_cut += n - keep;
	for (struct watcher *w = b->watchers, *next; w; w = next) {
		next = w->next;
		if (w->w.output)
			w->w.output(w->w.arg, data, n);
	}
}

void build_say(struct build *b, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0)
		build_say_text(b, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

void build_step(struct build *b, const char *text)
{
	build_say(b, "-----> %s\n", text);
}

void build_fail_text(struct build *b, const char *text)
{
	if (!b->why[0])
		snprintf(b->why, sizeof(b->why), "%s", text);
	while (*text) {
		size_t n = strcspn(text, "\n");
		build_say(b, " !     %.*s\n", (int)(n > 1900 ? 1900 : n), text);
		text += n + (text[n] == '\n');
	}
}

void builder_line(struct build *b, json_t *line)
{
	const char *event = json_string_value(json_object_get(line, "event"));
	const char *text = json_string_value(json_object_get(line, "text"));

	if (!strcmp(event, "image")) {
		json_decref(b->image);
		b->image = json_incref(line);
	} else if (!text) {
		return;
	} else if (!strcmp(event, "step")) {
		build_step(b, text);
	} else if (!strcmp(event, "error")) {
		build_fail_text(b, text);
	} else {
		build_say_text(b, "       ", 7);
		build_say_text(b, text, strlen(text));
		build_say_text(b, "\n", 1);
	}
}

/* --- watchers -------------------------------------------------------------------------------------------------------------- */

void build_watch_add(struct build *b, const struct build_watch *w)
{
	struct watcher *n = xcalloc(1, sizeof(*n)), **at = &b->watchers;

	n->w = *w;
	while (*at)
		at = &(*at)->next;
	*at = n;
}

void build_unwatch(const char *build_id, void *arg)
{
	struct build *b = build_find(build_id);

	for (struct watcher **at = b ? &b->watchers : NULL; at && *at;) {
		struct watcher *w = *at;
		if (w->w.arg == arg) {
			*at = w->next;
			free(w);
		} else {
			at = &w->next;
		}
	}
}

/* --- the end ------------------------------------------------------------------------------------------------------------------ */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type, (void)where;
	if (remove(path))
		errno = 0; /* what is left in sources/ goes at the next start */
	return 0;
}

static void free_build(struct build *b)
{
	if (b->tar)
		unlink(b->tar);
	if (b->tree)
		nftw(b->tree, remove_one, 16, FTW_PHYS | FTW_DEPTH);
	free(b->tar);
	free(b->tree);
	free(b->url);
	free(b->said_url);
	free(b->checksum);
	free(b->version);
	free(b->description);
	free(b->output);
	json_decref(b->image);
	json_decref(b->types);
	while (b->watchers) {
		struct watcher *w = b->watchers;
		b->watchers = w->next;
		free(w);
	}
	free(b);
}

static void pump(void);

/* The row that says that the build is over is on disk, or will be with the next start: the source is not needed any more. */
static void forget_tar(void *arg, int err)
{
	if (!err)
		unlink(arg);
	free(arg);
}

void build_end(struct build *b, bool ok)
{
	struct build **at = &builds;
	char name[64];

	b->ok = ok;
	if (b->state == BUILD_QUEUED)
		n_waiting--;
	b->state = BUILD_ENDED;
	b->updated_us = real_us();
	ended_ns = now_ns();
	if (!ok && b->app)
		build_fail_text(b, b->cancelled ? "Build cancelled" : "Push rejected: the build failed");
	while (*at != b)
		at = &(*at)->next;
	*at = b->next;
	if (last == &b->next)
		last = at;
	if (b->app) {
		rows_build_end(b);
		metrics_build(b->app, ok, now_ns() - b->begun_ns);
	}
	if (!ok && b->image) { /* it was made, and nobody will use it */
		snprintf(name, sizeof(name), "slug-%s", b->slug_id);
		builder_remove_image(name);
	}
	while (b->watchers) {
		struct watcher *w = b->watchers;
		b->watchers = w->next;
		if (w->w.ended)
			w->w.ended(w->w.arg, ok, b->release,
				   ok	       ? NULL
				   : b->why[0] ? b->why
					       : "The build failed");
		free(w);
	}
	if (b->tar)
		store_barrier(forget_tar, b->tar);
	b->tar = NULL;
	free_build(b);
	pump();
}

/* --- to the disk ---------------------------------------------------------------------------------------------------------------- */

static uv_work_t sync_work;
static bool sync_runs;
static int sync_fd = -1, sync_error;

static void sync_images(uv_work_t *w)
{
	(void)w;
	sync_error = syncfs(sync_fd) ? errno : 0;
}

static void begin_sync(void);

static void after_sync(uv_work_t *w, int status)
{
	(void)w, (void)status;
	sync_runs = false;
	/* begin_sync() has marked those that it was for; a release can end builds, so look from the start each time */
	for (bool more = true; more;) {
		more = false;
		for (struct build *b = builds; b && !more; b = b->next) {
			if (b->state != BUILD_SYNCING || !b->in_sync)
				continue;
			more = true;
			b->in_sync = false;
			if (sync_error) {
				build_fail_text(b, strerror(sync_error));
				build_end(b, false);
			} else {
				build_synced_release(b);
			}
		}
	}
	begin_sync();
}

static void begin_sync(void)
{
	bool any = false;

	if (sync_runs)
		return;
	for (struct build *b = builds; b; b = b->next)
		if (b->state == BUILD_SYNCING)
			any = b->in_sync = true;
	if (!any)
		return;
	sync_runs = true;
	uv_queue_work(loop, &sync_work, sync_images, after_sync);
}

void builder_ended(struct build *b, int status)
{
	if (stopping) /* it is in the store as one that waits, and begins again with the next start */
		return;
	if (status || !b->image || !b->app || b->cancelled) {
		build_end(b, false);
		return;
	}
	b->state = BUILD_SYNCING;
	if (!config.sync || sync_fd < 0)
		build_synced_release(b);
	else
		begin_sync();
	pump();
}

/* --- the queue ---------------------------------------------------------------------------------------------------------------- */

static bool app_is_busy(const struct app *a)
{
	for (const struct build *b = builds; b; b = b->next)
		if (b->app == a && b->state > BUILD_QUEUED)
			return true;
	return false;
}

static unsigned running_of(const char *user_id)
{
	unsigned n = 0;

	for (const struct build *b = builds; b; b = b->next)
		n += b->state == BUILD_RUNNING && !strcmp(b->user_id, user_id);
	return n;
}

static struct build *next_waiting(void)
{
	struct build *best = NULL;
	unsigned best_running = 0;

	for (struct build *b = builds; b; b = b->next) {
		if (b->state != BUILD_QUEUED || app_is_busy(b->app))
			continue;
		unsigned n = running_of(b->user_id);
		if (!n)
			return b;
		if (!best || n < best_running) {
			best = b;
			best_running = n;
		}
	}
	return best;
}

static void pump(void)
{
	static bool inside;

	if (inside || stopping)
		return;
	inside = true;
	for (struct build *b; n_waiting && (b = next_waiting());) {
		b->begun_ns = now_ns();
		if (!builder_start(b))
			break;
		n_waiting--;
		b->state = BUILD_RUNNING;
	}
	inside = false;
}

static struct fault fault(int status, const char *id, const char *text)
{
	struct fault f = {status, id, ""};

	snprintf(f.message, sizeof(f.message), "%s", text);
	return f;
}

static unsigned waiting_of(const struct app *a)
{
	unsigned n = 0;

	for (const struct build *b = builds; b; b = b->next)
		n += b->app == a;
	return n;
}

static void enqueue(struct build *b)
{
	b->state = BUILD_QUEUED;
	n_waiting++;
	b->next = NULL;
	*last = b;
	last = &b->next;
}

struct fault build_enqueue(struct app *a, struct user *u, struct build_source *src,
			   const struct build_watch *w, struct build **out)
{
	struct build *b = xcalloc(1, sizeof(*b));

	b->tar = src->tar;
	b->tree = src->tree;
	b->url = src->url;
	b->checksum = src->checksum;
	b->version = src->version;
	b->description = src->description;
	b->said_url = src->said_url;
	b->strip = src->strip;
	b->once = src->once;
	b->app = a;
	snprintf(b->user_id, sizeof(b->user_id), "%s", u ? u->id : "");
	make_uuid(b->id);
	make_uuid(b->slug_id);
	b->created_us = b->updated_us = real_us();
	if (stopping || n_waiting >= WAITING_MAX || waiting_of(a) >= WAITING_APP_MAX) {
		free_build(b);
		return stopping ? fault(503, "stopping", "The server is being stopped.")
				: fault(429, "rate_limit", "Too many builds are waiting; try again later.");
	}
	if (rows_build_new(b)) {
		free_build(b);
		return fault(507, "storage_failed",
			     "The build could not be written: the server's disk may be full.");
	}
	if (w)
		build_watch_add(b, w);
	if (out)
		*out = b;
	enqueue(b);
	pump();
	return FAULT_NONE;
}

struct fault build_start(const struct build_request *r, const struct build_watch *w, char build_id[37])
{
	struct build_source src = {.once = true,
				   .tar = r->tar ? xstrdup(r->tar) : NULL,
				   .tree = r->tree ? xstrdup(r->tree) : NULL,
				   .version = r->version ? xstrdup(r->version) : NULL,
				   .description = r->description ? xstrdup(r->description) : NULL};
	struct build *b = NULL;
	struct fault f = build_enqueue(r->app, r->user, &src, w, &b);

	if (b)
		memcpy(build_id, b->id, 37);
	return f;
}

/* --- orders --------------------------------------------------------------------------------------------------------------------- */

static void cancel(struct build *b)
{
	b->cancelled = true;
	if (b->state == BUILD_QUEUED)
		build_end(b, false);
	else if (b->state == BUILD_RUNNING)
		builder_cancel(b);
	else if (b->state == BUILD_RELEASING)
		build_phase_cancel(b);
	/* SYNCING: build_synced_release() sees it in a moment */
}

bool build_cancel(const char *build_id)
{
	struct build *b = build_find(build_id);

	if (b)
		cancel(b);
	return b != NULL;
}

void build_app_gone(struct app *a)
{
	for (struct build *b = builds, *next; b; b = next) {
		next = b->next;
		if (b->app != a)
			continue;
		snprintf(b->why, sizeof(b->why), "The app was destroyed");
		b->app = NULL;
		cancel(b);
		next = builds; /* an end may have changed the list: those of a are fewer now */
	}
	git_app_gone(a);
	builders_sweep();
}

bool build_any(void)
{
	return builds || (ended_ns && now_ns() - ended_ns < MOMENT_NS);
}

void build_stop(void)
{
	stopping = true;
	builders_stop();
	/* what waits is in the store and begins again at the next start; those that run do, too */
}

int build_open(void)
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/share", config.data_dir);
	sync_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (sync_fd < 0)
		sync_fd = open(config.data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (source_open())
		return 1;
	builders_open();
	rows_recover();
	git_open();
	return 0;
}
