/* SPDX-License-Identifier: ISC */
/* What the files of builds share among themselves: build.c, builder.c, build_release.c, build_rows.c, source.c, git*.c, api_build.c. */
#ifndef COWBELL_PLATFORM_BUILD_INSIDE_H
#define COWBELL_PLATFORM_BUILD_INSIDE_H

#include <jansson.h>

#include "platform/build.h"

#define OUTPUT_MAX    (1u << 20) /* of one build, while it is in memory */
#define OUTPUT_KEPT   (64u << 10) /* in the store, from its end */
#define KEEP_RELEASES 10 /* whose images stay */

/* --- spool.c: a body of unknown length into a file below data_dir/sources, with a limit and back-pressure ---------------- */
struct spool;
struct spool_events {
	void (*room)(void *arg); /* after spool_write() said false */
	/* After spool_finish(), once: path is the file, which is the taker's now (malloc'ed); or NULL, and err is -errno: -EFBIG is too large. */
	void (*done)(void *arg, char *path, int err);
};
/* NULL: the file cannot be made. name: of the file in data_dir/sources. */
struct spool *spool_open(const char *name, uint64_t max, const struct spool_events *ev, void *arg);
bool spool_write(struct spool *s, const char *data, size_t n);
int spool_error(const struct spool *s); /* what spool_finish() would tell by now, or 0 */
void spool_finish(struct spool *s);
void spool_abort(struct spool *s); /* no event comes any more, and the file goes */

/* --- source.c ---------------------------------------------------------------------------------------------------------- */
int source_open(void);
/* May clients write something large? Not when the disk is nearly full: the store needs the rest of it. */
bool source_disk_room(void);
/* A pair of URLs for one source of this user; malloc'ed. base: of api_base_url(). */
void source_make(const char *base, const struct user *u, char **put_url, char **get_url);
/* If url is one of ours whose source came: its file, which is the caller's from now on. NULL: `ours` says whether it looks like one of ours. */
char *source_take(const char *url, bool *ours);
/* A keyed digest of our own: 32 hexadecimal digits over two texts. For URLs that are permissions. */
void source_mac(const char *what, const char *text, char out[33]);

/* --- build.c --------------------------------------------------------------------------------------------------------- */
enum build_state { BUILD_QUEUED, BUILD_RUNNING, BUILD_SYNCING, BUILD_RELEASING, BUILD_ENDED };

struct watcher {
	struct build_watch w;
	struct watcher *next;
};

struct build {
	char id[37], slug_id[37];
	char user_id[37]; /* or "" */
	struct app *app; /* NULL once it was destroyed */
	enum build_state state;
	bool ok, cancelled, strip, once;
	bool in_sync; /* BUILD_SYNCING: the sync that runs is for it */
	char *tar, *tree, *url, *checksum, *version, *description, *said_url;
	char *output; /* from its beginning; output_cut bytes did not fit */
	size_t n_output, output_cut;
	char why[256]; /* the first error; "" */
	int64_t created_us, updated_us;
	uint64_t begun_ns;
	json_t *image; /* what the builder told of it */
	json_t *types;
	unsigned release;
	struct builder *builder; /* while BUILD_RUNNING */
	struct phase *phase; /* while its release phase runs */
	struct watcher *watchers;
	struct build *next; /* in the order in which they came */
};

extern struct build *builds; /* all that have not ended, oldest first */
struct build *build_find(const char *id);
/* A new one in the queue; strings are taken over (malloc'ed, or NULL). Same results as build_start(). */
struct build_source {
	char *tar, *tree, *url, *checksum, *version, *description;
	char *said_url; /* as the client gave it; what clients see */
	bool strip; /* a single directory at the top is the app */
	bool once; /* not to be begun again after a crash: its client waits, and goes with us */
};
struct fault build_enqueue(struct app *a, struct user *u, struct build_source *src,
			   const struct build_watch *w, struct build **out);
void build_say(struct build *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void build_say_text(struct build *b, const char *data, size_t n);
void build_step(struct build *b, const char *text);
/* " !     " lines; the first of a build is its reason. */
void build_fail_text(struct build *b, const char *text);
/* The end, in every case: rows, watchers, files; frees it. */
void build_end(struct build *b, bool ok);
void build_watch_add(struct build *b, const struct build_watch *w);

/* --- builder.c: the worker processes ------------------------------------------------------------------------------------ */
void builders_open(void);
bool builder_start(struct build *b); /* false: all are busy */
void builder_cancel(struct build *b); /* its end comes by builder_ended() */
/* Called by builder.c; status is the worker's, -1: it died. */
void builder_ended(struct build *b, int status);
void builder_line(struct build *b, json_t *line);
/* Images that no slug has any more: removed when a builder is idle. */
void builder_remove_image(const char *image);
void builders_sweep(void); /* when nothing is built, look for images that no slug has */
void builders_stop(void);

/* --- build_release.c: an image that is there becomes a release; ends the build ------------------------------------------- */
void build_synced_release(struct build *b); /* after the image is on disk */
void build_phase_cancel(struct build *b);

/* --- build_rows.c: builds and slugs in the store ---------------------------------------------------------------------------- */
int rows_build_new(const struct build *b);
void rows_build_end(const struct build *b);
int rows_slug_new(const struct build *b);
/* Forget slugs and builds that the last releases do not need; their images go. */
void rows_collect(struct app *a);
/* After a start: builds that were running are begun again if their source is there, else failed. Leftovers in sources/ go. */
void rows_recover(void);
void rows_sweep_name(const char *image); /* is it of a slug? else it goes */
/* Heroku's JSON; NULL: none of this app. slug: its image in `image` (malloc'ed) if that is not NULL. */
json_t *rows_build(struct app *a, const char *id, const char *base);
json_t *rows_builds(struct app *a, const char *base);
json_t *rows_slug(struct app *a, const char *id);
/* Output of one that has ended; malloc'ed; NULL: no such. */
char *rows_output(const char *id, size_t *n);

#endif
