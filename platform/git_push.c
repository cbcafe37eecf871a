/* SPDX-License-Identifier: ISC */
/*
 * One `git push`, from its pre-receive hook's word to its end. The hook is at the other end of a socket pair, see git.c and cli/githook.c:
 *
 *   hook ──▶ us    "deploy COMMIT\n"     40 hexadecimal digits; the tree is in the file that we named (COWBELL_PUSH_TAR)
 *   us ──▶ hook    frames: 'o' or 'e', four bytes of length (little endian), bytes. 'o': text for the client. 'e', "0": go on; "1": refuse
 *
 * One push of an app at a time: a second one is refused with a line, since git checks what it replaces only at the end, after the
 * release. A client that goes away ends its push: the build is cancelled, and nothing changes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/api.h"
#include "platform/git.h"
#include "platform/store.h"

#define LINE_LIMIT 128

struct push {
	uv_pipe_t hook;
	struct git *g; /* NULL: the child has ended */
	struct app *app; /* NULL: destroyed */
	char *tar;
	char build_id[37]; /* "": none runs */
	char line[LINE_LIMIT];
	size_t n_line;
	bool asked, closing, waits_for_disk;
	struct push *next;
};

static struct push *pushes;

static bool app_pushes(const struct push *but)
{
	for (const struct push *p = pushes; p; p = p->next)
		if (p != but && p->app == but->app && p->asked)
			return true;
	return false;
}

static void free_push(struct push *p)
{
	if (p->tar) {
		unlink(p->tar);
		free(p->tar);
	}
	free(p);
}

static void on_closed(uv_handle_t *h)
{
	struct push *p = h->data;

	p->closing = true;
	if (!p->waits_for_disk)
		free_push(p);
}

/* --- to the hook ------------------------------------------------------------------------------------------------------------- */

struct frame {
	uv_write_t w;
	char data[];
};

static void on_sent(uv_write_t *w, int status)
{
	(void)status; /* a hook that is gone has ended its push */
	free(w->data);
}

static void send_frame(struct push *p, char type, const char *text, size_t n)
{
	struct frame *f;

	if (!p->g || uv_is_closing((uv_handle_t *)&p->hook) || n > OUTPUT_MAX)
		return;
	f = xcalloc(1, sizeof(*f) + n + 5);
	f->w.data = f;
	f->data[0] = type;
	for (int i = 0; i < 4; i++)
		f->data[1 + i] = (char)(n >> (8 * i) & 0xff);
	memcpy(f->data + 5, text, n);
	uv_buf_t buf = uv_buf_init(f->data, (unsigned)n + 5);
	if (uv_write(&f->w, (uv_stream_t *)&p->hook, &buf, 1, on_sent))
		free(f);
}

static void say(struct push *p, const char *text)
{
	send_frame(p, 'o', text, strlen(text));
}

/* --- the build ----------------------------------------------------------------------------------------------------------------- */

/* Of a client that does not read: the rest is in the store. */
static void on_output(void *arg, const char *data, size_t n)
{
	struct push *p = arg;

	if (uv_stream_get_write_queue_size((uv_stream_t *)&p->hook) <= OUTPUT_MAX)
		send_frame(p, 'o', data, n);
}

static void on_disk(void *arg, int err)
{
	struct push *p = arg;

	p->waits_for_disk = false;
	if (p->closing) {
		free_push(p);
		return;
	}
	if (err)
		say(p, " !     The release could not be written to disk\n");
	send_frame(p, 'e', err ? "1" : "0", 1);
}

static void on_end(void *arg, bool ok, unsigned version, const char *why)
{
	struct push *p = arg;

	(void)version, (void)why; /* told by the output already */
	p->build_id[0] = 0;
	if (!ok) {
		send_frame(p, 'e', "1", 1);
		return;
	}
	p->waits_for_disk = true;
	store_barrier(on_disk, p);
}

static void deploy(struct push *p, const char *commit)
{
	struct user *u = model_user(p->g->user_id);
	struct build_request r = {.app = p->app, .user = u, .tar = p->tar, .version = commit};
	struct build_watch w = {on_output, on_end, p};
	const char *why = NULL;

	if (!p->app)
		why = " !     The app was destroyed\n";
	else if (!u ||
		 model_role(u, p->app) < ROLE_COLLABORATOR) /* much may have happened since the head came */
		why = " !     You have no access to this app any more\n";
	else if (app_pushes(p))
		why = " !     Another push to this app is being built; wait for its end\n";
	if (why) {
		say(p, why);
		send_frame(p, 'e', "1", 1);
		return;
	}
	p->asked = true;
	say(p, "-----> Building on Cowbell\n");
	struct fault f = build_start(&r, &w, p->build_id);
	free(p->tar);
	p->tar = NULL; /* the build's now */
	if (f.status) {
		say(p, " !     ");
		say(p, f.message);
		say(p, "\n");
		send_frame(p, 'e', "1", 1);
	}
}

/* --- from the hook ----------------------------------------------------------------------------------------------------------------- */

static void on_line(struct push *p)
{
	const char *commit = p->line + 7;
	size_t n = strspn(p->line + (strlen(p->line) > 7 ? 7 : 0), "0123456789abcdef");

	if (strncmp(p->line, "deploy ", 7) || (n != 40 && n != 64) || commit[n] || p->asked)
		send_frame(p, 'e', "1", 1);
	else
		deploy(p, commit);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	static char room[512];

	(void)h, (void)suggested;
	*buf = uv_buf_init(room, sizeof(room));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct push *p = s->data;

	if (n < 0) {
		uv_read_stop(s);
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (buf->base[i] == '\n') {
			p->line[p->n_line] = 0;
			p->n_line = 0;
			on_line(p);
		} else if (p->n_line < LINE_LIMIT - 1) {
			p->line[p->n_line++] = buf->base[i];
		}
	}
}

/* --- life -------------------------------------------------------------------------------------------------------------------------- */

void git_push_begin(struct git *g)
{
	struct push *p = xcalloc(1, sizeof(*p));

	uv_pipe_init(loop, &p->hook, 0);
	p->hook.data = p;
	p->g = g;
	p->app = g->app;
	p->tar = xstrdup(g->tar);
	p->next = pushes;
	pushes = p;
	g->push = p;
}

uv_stream_t *git_push_stream(struct git *g)
{
	return (uv_stream_t *)&g->push->hook;
}

void git_push_read(struct git *g)
{
	uv_read_start((uv_stream_t *)&g->push->hook, on_alloc, on_read);
}

static void drop_build(struct push *p)
{
	char id[37];

	if (!p->build_id[0])
		return;
	memcpy(id, p->build_id, sizeof(id));
	p->build_id[0] = 0;
	build_unwatch(id, p);
	build_cancel(id);
}

void git_push_client_gone(struct git *g)
{
	if (g->push)
		drop_build(g->push);
}

void git_push_over(struct git *g)
{
	struct push *p = g->push, **at = &pushes;

	if (!p)
		return;
	g->push = NULL;
	drop_build(p); /* the hook cannot have let it go on */
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	p->g = NULL;
	uv_close((uv_handle_t *)&p->hook, on_closed);
}

/* --- an app that goes --- */

void git_app_gone(struct app *a)
{
	char path[4200];

	for (struct push *p = pushes; p; p = p->next)
		if (p->app == a) {
			p->app = NULL;
			if (p->g)
				git_kill(p->g);
		}
	git_dir(a, path, sizeof(path));
	git_remove(path);
}
