/* SPDX-License-Identifier: ISC */
/*
 * The last part of a build: its image is on disk, and becomes a slug and a release.
 *
 * Without a process type "release" the release is current at once. With one it is pending while that runs, as a one-off with the new image and
 * the app's config; its output is the build's. Status 0 makes the release current, anything else makes it a failed one, and the
 * old release goes on serving.
 *
 *   build_synced_release() ── no phase ──────────────────────────▶ launch() ──▶ build_end(true)
 *                          └─ phase ──▶ ended and output read ──▶ launch() or build_end(false)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/api.h"
#include "platform/build_inside.h"
#include "platform/logs.h"
#include "platform/sched.h"

#define PHASE_TYPE "release"

struct phase {
	struct build *build; /* NULL: it has ended without us */
	uv_pipe_t out;
	struct app *app;
	char dyno[48];
	bool exited, drained, closed, line_begun;
	int status;
};

static const char *email_of(const struct build *b)
{
	const struct user *u = b->user_id[0] ? model_user(b->user_id) : NULL;

	return u ? u->email : "nobody";
}

static void launch(struct build *b)
{
	struct app *a = b->app;
	char *url = app_url(a);

	build_step(b, "Launching...");
	build_say(b, "       Released v%u\n       %s deployed\n", b->release, url);
	free(url);
	log_linef(a, "app", "api", "Release v%u created by user %s", b->release, email_of(b));
	sched_update(a);
	if (b->release > KEEP_RELEASES)
		rows_collect(a);
	build_end(b, true);
}

/* --- the release phase ------------------------------------------------------------------------------------------------------- */

static void phase_closed(uv_handle_t *h)
{
	free(h->data);
}

static void phase_over(struct phase *p)
{
	struct build *b = p->build;

	if (!p->exited || !p->drained)
		return;
	uv_close((uv_handle_t *)&p->out, phase_closed);
	if (!b)
		return;
	b->phase = NULL;
	if (p->line_begun)
		build_say_text(b, "\n", 1);
	bool ok = !p->status && !b->cancelled && b->app;
	struct fault f = b->app ? model_release_done(b->app, b->release, ok) : FAULT_NONE;
	if (!b->app) {
		build_end(b, false);
	} else if (f.status) {
		build_fail_text(b, f.message);
		build_end(b, false);
	} else if (!ok) {
		char text[96];
		snprintf(text, sizeof(text), "Release command failed with exit status %d; v%u is not used",
			 p->status, b->release);
		build_fail_text(b, text);
		build_end(b, false);
	} else {
		launch(b);
	}
}

static void phase_ended(void *arg, struct instance *inst, int exit_status)
{
	struct phase *p = arg;

	(void)inst;
	p->exited = true;
	p->status = exit_status;
	phase_over(p);
}

static void phase_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	static char room[16384];

	(void)h, (void)suggested;
	*buf = uv_buf_init(room, sizeof(room));
}

/* Each line indented; control characters are made harmless, since it is an app that writes them. */
static void phase_say(struct phase *p, char *s, size_t n)
{
	for (size_t at = 0; at < n;) {
		char *nl = memchr(s + at, '\n', n - at);
		size_t end = nl ? (size_t)(nl - s) : n;
		for (size_t i = at; i < end; i++)
			if (((unsigned char)s[i] < ' ' && s[i] != '\t') || s[i] == 127)
				s[i] = s[i] == '\r' ? ' ' : '?';
		if (!p->line_begun)
			build_say_text(p->build, "       ", 7);
		build_say_text(p->build, s + at, end - at + (nl != NULL));
		p->line_begun = !nl;
		at = end + (nl != NULL);
	}
}

static void phase_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct phase *p = s->data;

	if (n < 0) {
		uv_read_stop(s);
		p->drained = true;
		phase_over(p);
	} else if (p->build) {
		phase_say(p, buf->base, (size_t)n);
	}
}

static bool phase_start(struct build *b)
{
	struct phase *p = xcalloc(1, sizeof(*p));
	struct instance *inst = NULL;
	int fd[2], second;

	uv_pipe_init(loop, &p->out, 0);
	p->out.data = p;
	p->build = b;
	if (pipe2(fd, O_CLOEXEC)) {
		uv_close((uv_handle_t *)&p->out, phase_closed);
		return false;
	}
	second = fcntl(fd[1], F_DUPFD_CLOEXEC, 3);
	uv_pipe_open(&p->out, fd[0]);
	struct oneoff o = {.type = PHASE_TYPE,
			   .command = PHASE_TYPE,
			   .version = b->release,
			   .time_limit_ns = config.build_timeout_ns,
			   .stdio = {-1, fd[1], second},
			   .ended = phase_ended,
			   .arg = p};
	build_step(b, "Release command detected, executing...");
	b->phase = p;
	p->app = b->app;
	struct fault f = sched_oneoff(b->app, &o, &inst);
	if (f.status) {
		build_fail_text(b, f.message);
		b->phase = NULL;
		uv_close((uv_handle_t *)&p->out, phase_closed);
		return false;
	}
	if (inst && !p->exited)
		snprintf(p->dyno, sizeof(p->dyno), "%s", inst->dyno);
	uv_read_start((uv_stream_t *)&p->out, phase_alloc, phase_read);
	return true;
}

void build_phase_cancel(struct build *b)
{
	if (b->phase && b->app && b->phase->dyno[0])
		sched_stop(b->app, b->phase->dyno);
	/* an app that is destroyed has its instances ended by sched_app_gone(); either way phase_ended() comes */
}

/* --- slug and release -------------------------------------------------------------------------------------------------------- */

/* Bytes of the layers that are not the shared runtime. */
static uint64_t own_bytes(const struct build *b)
{
	uint64_t n = 0;
	json_t *layer;
	size_t i;

	json_array_foreach(json_object_get(b->image, "layers"), i, layer) if (i) n +=
		(uint64_t)json_integer_value(json_object_get(layer, "size"));
	return n;
}

static char *describe(const struct build *b)
{
	size_t size = (b->version ? strlen(b->version) : 0) + 48;
	char *text = xcalloc(1, size);
	bool commit = b->version && strlen(b->version) == 40 && strspn(b->version, "0123456789abcdef") == 40;

	/* without a version: the first digits of the slug's id */
	snprintf(text, size, "Deploy %.*s", b->version && !commit ? 60 : 8,
		 b->version ? b->version : b->slug_id);
	return text;
}

static struct fault make_release(struct build *b, bool pending)
{
	char image[64], *text = b->description ? xstrdup(b->description) : describe(b);

	snprintf(image, sizeof(image), "slug-%s", b->slug_id);
	struct new_release r = {.description = text,
				.user = b->user_id[0] ? model_user(b->user_id) : NULL,
				.image = image,
				.slug_id = b->slug_id,
				.image_bytes = own_bytes(b),
				.types = b->types,
				.pending = pending};
	struct fault f = model_release_create(b->app, &r, &b->release);
	if (!f.status)
		log_linef(b->app, "app", "api", "%s by user %s", text, email_of(b));
	free(text);
	return f;
}

void build_synced_release(struct build *b)
{
	b->state = BUILD_RELEASING;
	if (!b->app || b->cancelled) {
		build_end(b, false);
		return;
	}
	uint64_t limit = app_limits(b->app)->disk, bytes = own_bytes(b);
	if (limit && bytes > limit) {
		char text[128];
		snprintf(text, sizeof(text), "The slug is too large: %llu MB, and %llu MB are allowed",
			 (unsigned long long)(bytes / 1000000), (unsigned long long)(limit / 1000000));
		build_fail_text(b, text);
		build_end(b, false);
		return;
	}
	b->types = json_incref(json_object_get(b->image, "processes"));
	bool phase = json_object_get(b->types, PHASE_TYPE) != NULL;
	if (rows_slug_new(b)) {
		build_fail_text(b, "The release could not be written: the server's disk may be full");
		build_end(b, false);
		return;
	}
	struct fault f = make_release(b, phase);
	if (f.status) {
		build_fail_text(b, f.message);
		build_end(b, false);
	} else if (!phase) {
		launch(b);
	} else if (!phase_start(b)) {
		model_release_done(b->app, b->release, false);
		build_end(b, false);
	}
}
