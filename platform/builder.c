/* SPDX-License-Identifier: ISC */
/*
 * The builders: `cowbell build --worker` processes (image/build/worker.c describes what they are told and what they tell), one for each
 * build that may run at a time. They are started when first needed and stay.
 *
 *   idle ── builder_start() ──▶ busy ── {"event":"end"} ──▶ builder_ended() ──▶ idle
 *                                    └─ it dies, or is killed: cancelled, or out of time ──▶ builder_ended(-1) ──▶ started anew when needed
 *
 * A builder is a session and process group of its own, so that killing it takes all that it started; sandboxes of build steps die
 * with it. It dies with us (PR_SET_PDEATHSIG). Lines that it tells are bounded; one that tells garbage is killed.
 *
 * Idle builders also remove the images of old slugs, and, when nothing was built for a while, free what no image needs (prune).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/build_inside.h"

#define LINE_LIMIT     (1u << 20)
#define BUILDERS_MAX   64
#define QUIET_MS       20000 /* nothing was built for so long: time for housekeeping */
#define PRUNE_AT       64 /* images that went since the last prune */
#define PRUNE_EVERY_NS (600 * 1000000000ull) /* or so long ago, if any went */
#define REMOVE_AT_ONE  256

struct builder {
	uv_process_t process;
	uv_pipe_t in, out;
	uv_timer_t timer;
	uv_write_t write;
	char *request; /* being written */
	unsigned open_handles; /* of these four, until all are closed */
	bool alive, busy, too_late;
	struct build *build; /* NULL: housekeeping, or nothing */
	char *line;
	size_t n_line, cap;
};

static struct builder *builders[BUILDERS_MAX];
static uv_timer_t quiet;
static json_t *to_remove; /* names of images */
static unsigned removed;
static bool stopping, housekeeping, swept;
static uint64_t pruned_ns;

static unsigned max_builders(void)
{
	unsigned n = config.max_builds ? config.max_builds : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > BUILDERS_MAX ? BUILDERS_MAX : n;
}

/* --- end of one ---------------------------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
	struct builder *b = h->data;

	if (--b->open_handles)
		return;
	for (unsigned i = 0; i < BUILDERS_MAX; i++)
		if (builders[i] == b)
			builders[i] = NULL;
	free(b->request);
	free(b->line);
	free(b);
}

static void end_work(struct builder *b, int status)
{
	struct build *build = b->build;

	uv_timer_stop(&b->timer);
	b->busy = false;
	b->build = NULL;
	if (!build) {
		housekeeping = false;
		return;
	}
	build->builder = NULL;
	if (b->too_late) {
		char text[128];
		snprintf(text, sizeof(text), "The build took longer than %llu seconds and was ended",
			 (unsigned long long)(config.build_timeout_ns / 1000000000u));
		build_fail_text(build, text);
	} else if (status < 0 && !build->cancelled) {
		build_fail_text(build, "The builder died");
	}
	builder_ended(build, status);
}

static void bury(struct builder *b)
{
	if (!b->alive)
		return;
	b->alive = false;
	uv_handle_t *const all[] = {(uv_handle_t *)&b->process, (uv_handle_t *)&b->in, (uv_handle_t *)&b->out,
				    (uv_handle_t *)&b->timer};
	for (size_t i = 0; i < 4; i++)
		if (!uv_is_closing(all[i]))
			uv_close(all[i], on_closed);
	for (unsigned i = 0; i < BUILDERS_MAX; i++)
		if (builders[i] == b)
			builders[i] = NULL; /* its place is free already */
	if (b->busy)
		end_work(b, -1);
}

static void kill_all(struct builder *b)
{
	if (b->process.pid > 0)
		kill(-b->process.pid, SIGKILL);
}

static void on_ended(uv_process_t *p, int64_t status, int signal)
{
	struct builder *b = p->data;

	if (b->alive && !b->busy && !stopping)
		plog("warn", NULL, "a builder ended by itself (status %lld, signal %d)", (long long)status,
		     signal);
	kill(-p->pid, SIGKILL); /* what it left in its group */
	p->pid = 0;
	bury(b);
}

/* --- what it tells ---------------------------------------------------------------------------------------------------------- */

static void on_line(struct builder *b, const char *text, size_t n)
{
	json_t *line = json_loadb(text, n, 0, NULL);
	const char *event = json_string_value(json_object_get(line, "event"));

	if (!event) {
		json_decref(line);
		return;
	}
	if (!strcmp(event, "end"))
		end_work(b, (int)json_integer_value(json_object_get(line, "status")));
	else if (b->build)
		builder_line(b->build, line);
	else if (!strcmp(event, "name"))
		rows_sweep_name(json_string_value(json_object_get(line, "name")));
	json_decref(line);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	static char room[65536];

	(void)h, (void)suggested;
	*buf = uv_buf_init(room, sizeof(room));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct builder *b = s->data;

	if (n < 0) {
		uv_read_stop(s);
		kill_all(b); /* on_ended() does the rest */
		return;
	}
	if (b->n_line + (size_t)n > b->cap) {
		b->cap = b->n_line + (size_t)n + 4096;
		b->line = xrealloc(b->line, b->cap);
	}
	memcpy(b->line + b->n_line, buf->base, (size_t)n);
	b->n_line += (size_t)n;
	size_t at = 0;
	for (char *nl; b->alive && (nl = memchr(b->line + at, '\n', b->n_line - at));) {
		size_t end = (size_t)(nl - b->line);
		on_line(b, b->line + at, end - at);
		at = end + 1;
	}
	memmove(b->line, b->line + at, b->n_line - at);
	b->n_line -= at;
	if (b->n_line > LINE_LIMIT)
		kill_all(b);
}

/* --- start ------------------------------------------------------------------------------------------------------------------ */

/* The environment is ours: proxies and the like count for npm. Our own secrets are not in it; sandboxes do not see it. */
static char **environment(void)
{
	static char *env[512];
	static char data[4200], cache[4200];
	unsigned n = 0;

	snprintf(data, sizeof(data), "XDG_DATA_HOME=%s/share", config.data_dir);
	snprintf(cache, sizeof(cache), "XDG_CACHE_HOME=%s/cache", config.data_dir);
	for (char **e = environ; *e && n < 500; e++)
		if (strncmp(*e, "XDG_", 4) && strncmp(*e, "LISTEN_", 7) && strncmp(*e, "NOTIFY_", 7) &&
		    strncmp(*e, "COWBELL_", 8))
			env[n++] = *e;
	env[n++] = data;
	env[n++] = cache;
	env[n] = NULL;
	return env;
}

static struct builder *start_one(unsigned place)
{
	struct builder *b = xcalloc(1, sizeof(*b));
	char *args[] = {(char *)config.self, (char *)"build", (char *)"--worker", NULL};
	uv_stdio_container_t io[3] = {
		{.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&b->in},
		{.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&b->out},
		{.flags = config.verbose ? UV_INHERIT_FD : UV_IGNORE, .data.fd = 2},
	};
	uv_process_options_t o = {.file = config.self,
				  .args = args,
				  .env = environment(),
				  .stdio = io,
				  .stdio_count = 3,
				  .flags = UV_PROCESS_DETACHED,
				  .exit_cb = on_ended};

	uv_pipe_init(loop, &b->in, 0);
	uv_pipe_init(loop, &b->out, 0);
	uv_timer_init(loop, &b->timer);
	b->process.data = b->in.data = b->out.data = b->timer.data = b;
	b->open_handles = 4;
	b->alive = true;
	int r = uv_spawn(loop, &b->process, &o);
	if (r) {
		plog("error", NULL, "a builder cannot be started: %s", uv_strerror(r));
		b->process.pid = 0;
		bury(b);
		return NULL;
	}
	uv_read_start((uv_stream_t *)&b->out, on_alloc, on_read);
	uv_unref((uv_handle_t *)&b->process);
	uv_unref((uv_handle_t *)&b->out);
	return builders[place] = b;
}

static struct builder *idle_one(void)
{
	unsigned n = max_builders();

	for (unsigned i = 0; i < n; i++)
		if (builders[i] && !builders[i]->busy && builders[i]->alive)
			return builders[i];
	for (unsigned i = 0; i < n; i++)
		if (!builders[i])
			return start_one(i);
	return NULL;
}

static void on_request_written(uv_write_t *w, int status)
{
	(void)w, (void)status; /* if it died, on_ended() says so */
}

static void on_timeout(uv_timer_t *t)
{
	struct builder *b = t->data;

	b->too_late = true;
	kill_all(b);
}

static void give(struct builder *b, json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	size_t n = strlen(text);

	json_decref(request);
	free(b->request);
	b->request = xrealloc(text, n + 2);
	memcpy(b->request + n, "\n", 2);
	uv_buf_t buf = uv_buf_init(b->request, (unsigned)n + 1);
	b->busy = true;
	b->too_late = false;
	uv_write(&b->write, (uv_stream_t *)&b->in, &buf, 1, on_request_written);
	uint64_t ms = config.build_timeout_ns / 1000000u;
	uv_timer_start(&b->timer, on_timeout, ms ? ms : 900000, 0);
}

static void set_text(json_t *o, const char *key, const char *value)
{
	if (value)
		json_object_set_new(o, key, json_string(value));
}

bool builder_start(struct build *build)
{
	struct builder *b = stopping ? NULL : idle_one();
	char tag[64];

	if (!b)
		return false;
	snprintf(tag, sizeof(tag), "slug-%s", build->slug_id);
	json_t *q = json_pack("{s:s, s:s, s:I, s:I, s:I, s:b, s:b}", "op", "build", "tag", tag, "max_bytes",
			      (json_int_t)config.max_source, "max_entries", (json_int_t)config.max_entries,
			      "step_timeout", (json_int_t)(config.build_timeout_ns / 1000000000u), "lazy", 1,
			      "strip", (int)build->strip);
	set_text(q, "tar", build->tar);
	set_text(q, "tree", build->tree);
	set_text(q, "url", build->url);
	set_text(q, "checksum", build->checksum);
	b->build = build;
	build->builder = b;
	give(b, q);
	uv_timer_start(&quiet, quiet.timer_cb, QUIET_MS, 0);
	return true;
}

void builder_cancel(struct build *build)
{
	if (build->builder)
		kill_all(build->builder);
}

/* --- housekeeping -------------------------------------------------------------------------------------------------------- */

static json_t *remove_request(void)
{
	json_t *names = json_array();

	while (json_array_size(to_remove) && json_array_size(names) < REMOVE_AT_ONE) {
		size_t last = json_array_size(to_remove) - 1;
		json_array_append(names, json_array_get(to_remove, last));
		json_array_remove(to_remove, last);
		removed++;
	}
	return json_pack("{s:s, s:o}", "op", "remove", "names", names);
}

static void on_quiet(uv_timer_t *t)
{
	json_t *q = NULL;
	struct builder *b;

	for (const struct build *x = builds; x; x = x->next)
		if (x->state < BUILD_RELEASING) {
			uv_timer_start(t, on_quiet, QUIET_MS, 0);
			return;
		}
	if (housekeeping || stopping || !(b = idle_one()))
		return;
	if (!swept) { /* after a start, and after an app went: images whose slugs are gone */
		swept = true;
		q = json_pack("{s:s, s:s}", "op", "names", "begin", "slug-");
	} else if (json_array_size(to_remove)) {
		q = remove_request();
	} else if (removed >= PRUNE_AT || (removed && now_ns() - pruned_ns > PRUNE_EVERY_NS)) {
		removed = 0;
		pruned_ns = now_ns();
		q = json_pack("{s:s}", "op", "prune");
	}
	if (!q)
		return;
	housekeeping = true;
	give(b, q);
	uv_timer_start(t, on_quiet, 1000, 0);
}

void builder_remove_image(const char *image)
{
	json_array_append_new(to_remove, json_string(image));
	if (!uv_is_active((uv_handle_t *)&quiet))
		uv_timer_start(&quiet, on_quiet, QUIET_MS, 0);
}

void builders_sweep(void)
{
	swept = false;
	if (!uv_is_active((uv_handle_t *)&quiet))
		uv_timer_start(&quiet, on_quiet, QUIET_MS, 0);
}

void builders_open(void)
{
	to_remove = json_array();
	uv_timer_init(loop, &quiet);
	uv_unref((uv_handle_t *)&quiet);
	uv_timer_start(&quiet, on_quiet, QUIET_MS, 0);
}

void builders_stop(void)
{
	stopping = true;
	uv_timer_stop(&quiet);
	for (unsigned i = 0; i < BUILDERS_MAX; i++)
		if (builders[i])
			kill_all(builders[i]);
}
