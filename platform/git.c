/* SPDX-License-Identifier: ISC */
/*
 * git over HTTP: `git push` builds and releases, `git clone` gives back what was pushed.
 *
 *   GET  /NAME.git/info/refs?service=git-receive-pack | git-upload-pack
 *   POST /NAME.git/git-receive-pack, /NAME.git/git-upload-pack                the smart protocol; the dumb one is refused
 *
 * Each request is one child, `git receive-pack --stateless-rpc DIR` or its sister: an argument array, no shell, an environment of ours alone,
 * and a directory of ours whose name is the app's id: nothing that a client says is part of a command. Body and answer are passed through, both
 * with back-pressure. The child is a session of its own and ends with its client.
 *
 * What makes a push a deploy is the pre-receive hook: core.hooksPath is a directory with one link there, to the `cowbell` command, which knows
 * itself by that name (cli/githook.c). It inherits descriptor 3, a socket pair to us: so it needs no address and no secret, and speaks for
 * this push alone. Before anything is visible in the repository it exports the pushed commit as a tar (git archive) and says so; we
 * build, and it prints what comes; only if the release is made it lets git go on (git_push.c).
 *
 * Repositories: git_repo.c. An app is never made by a push.
 */
#include "platform/git.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/api.h"

#define PIPE_MAX    (1u << 20) /* bytes that wait for the child */
#define MAX_AT_ONCE 32 /* children */
#define MAX_OF_USER 8 /* of them */
#define MEMORY_MAX                                                                                           \
	(768ull << 20) /* of a child's address space: a small pack can say that it is a large object */
#define KILL_MS 5000
#define NAME_AT 1 /* of the path */

static unsigned n_children;
static struct git *gits; /* those with a child */

/* --- the child -------------------------------------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
	struct git *g = h->data;

	if (--g->open_handles)
		return;
	n_children--;
	struct git **at = &gits;
	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	if (g->inflating)
		inflateEnd(&g->z);
	free(g->packed);
	free(g);
}

static void close_handle(void *h)
{
	if (!uv_is_closing(h))
		uv_close(h, on_closed);
}

/* The child has ended and its output was read: the answer ends, and all of it goes. */
static void maybe_done(struct git *g)
{
	if (!g->exited || !g->drained || g->done)
		return;
	g->done = true;
	struct exchange *x = g->x;
	g->x = NULL;
	if (x) {
		x->user = NULL;
		if (g->status && !g->answered_bytes)
			exchange_abort(x);
		else
			exchange_end(x);
	}
	git_push_over(g);
	close_handle(&g->in);
	close_handle(&g->out);
	close_handle(&g->timer);
	close_handle(&g->process);
}

static void on_child_exit(uv_process_t *p, int64_t status, int signal)
{
	struct git *g = p->data;

	kill(-p->pid, SIGKILL); /* what it left in its group */
	g->exited = true;
	g->status = signal ? 128 + signal : (int)status;
	uv_timer_stop(&g->timer);
	maybe_done(g);
}

static void on_kill(uv_timer_t *t)
{
	struct git *g = t->data;

	if (!g->exited)
		kill(-g->process.pid, SIGKILL);
}

void git_kill(struct git *g)
{
	if (g->exited || g->killed)
		return;
	g->killed = true;
	kill(-g->process.pid, SIGTERM); /* git removes what it has begun */
	uv_timer_start(&g->timer, on_kill, KILL_MS, 0);
}

static void on_out_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	static char room[65536];

	(void)h, (void)suggested;
	*buf = uv_buf_init(room, sizeof(room));
}

static void on_out(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct git *g = s->data;

	if (n < 0) {
		uv_read_stop(s);
		g->drained = true;
		maybe_done(g);
		return;
	}
	g->answered_bytes += (uint64_t)n;
	if (g->x && !exchange_write(g->x, buf->base, (size_t)n))
		uv_read_stop(s);
}

static void on_drained(struct exchange *x)
{
	struct git *g = x->user;

	if (g && !g->drained)
		uv_read_start((uv_stream_t *)&g->out, on_out_alloc, on_out);
}

/* --- the body ----------------------------------------------------------------------------------------------------------------------- */

static bool inflate_packed(struct git *g);

struct piece {
	uv_write_t w;
	struct git *g;
	char data[];
};

static void on_piece(uv_write_t *w, int status)
{
	struct piece *p = w->data;
	struct git *g = p->g;

	(void)status; /* a child that does not read any more has ended, or will */
	free(p);
	if (!g->paused || !g->x || uv_stream_get_write_queue_size((uv_stream_t *)&g->in) >= PIPE_MAX / 2)
		return;
	g->paused = false;
	if (g->inflate_on && !inflate_packed(g))
		git_kill(g);
	if (!g->paused)
		exchange_resume(g->x);
}

static void to_child(struct git *g, const char *data, size_t n)
{
	struct piece *p;
	uv_buf_t buf;

	if (!n || uv_is_closing((uv_handle_t *)&g->in))
		return;
	p = xcalloc(1, sizeof(*p) + n);
	p->g = g;
	p->w.data = p;
	memcpy(p->data, data, n);
	buf = uv_buf_init(p->data, (unsigned)n);
	if (uv_write(&p->w, (uv_stream_t *)&g->in, &buf, 1, on_piece)) {
		free(p);
		return;
	}
	if (!g->paused && g->x && uv_stream_get_write_queue_size((uv_stream_t *)&g->in) > PIPE_MAX) {
		g->paused = true;
		exchange_pause(g->x);
	}
}

/*
 * gzip of the request: clients compress long negotiations. What comes out is bounded like what comes in, and made only as the child takes
 * it: what is left of the input stays in `packed`, with the client paused. False: it is no gzip, or too much.
 */
static bool inflate_to_child(struct git *g)
{
	char out[32768];

	do {
		g->z.next_out = (unsigned char *)out;
		g->z.avail_out = sizeof(out);
		int r = inflate(&g->z, Z_NO_FLUSH);
		if (r == Z_BUF_ERROR)
			return true; /* it has said everything that this input means */
		if (r != Z_OK && r != Z_STREAM_END)
			return false;
		size_t made = sizeof(out) - g->z.avail_out;
		g->body_bytes += made;
		if (g->body_bytes > g->body_max)
			return false;
		to_child(g, out, made);
		g->inflated = r == Z_STREAM_END;
		if (g->inflated)
			return g->z.avail_in == 0;
		g->inflate_on = g->z.avail_in || !g->z.avail_out;
	} while (g->inflate_on && !g->paused);
	return true;
}

/* What waited, from where it was. */
static bool inflate_packed(struct git *g)
{
	char *packed = g->packed;
	size_t n = g->n_packed;
	bool good;

	g->packed = NULL;
	g->n_packed = 0;
	g->inflate_on = false;
	g->z.next_in = (unsigned char *)packed;
	g->z.avail_in = (unsigned)n;
	good = inflate_to_child(g);
	if (good && g->z.avail_in) {
		g->n_packed = g->z.avail_in;
		memmove(packed, g->z.next_in, g->n_packed);
		g->packed = packed;
		packed = NULL;
	}
	free(packed);
	return good;
}

static bool inflate_body(struct git *g, const char *data, size_t n)
{
	if (g->inflated)
		return false; /* something behind its end */
	g->packed = xrealloc(g->packed, g->n_packed + n);
	memcpy(g->packed + g->n_packed, data, n);
	g->n_packed += n;
	g->inflate_on = true;
	return g->paused || inflate_packed(g);
}

static void on_body(struct exchange *x, const char *data, size_t n)
{
	struct git *g = x->user;

	if (!g || g->killed)
		return;
	if (g->inflating) {
		if (!inflate_body(g, data, n))
			git_kill(g);
		return;
	}
	g->body_bytes += n;
	if (g->body_bytes > g->body_max)
		git_kill(g);
	else
		to_child(g, data, n);
}

static void close_stdin(uv_shutdown_t *s, int status)
{
	struct git *g = s->data;

	(void)status;
	close_handle(&g->in);
}

static void on_body_end(struct exchange *x)
{
	struct git *g = x->user;

	if (!g || uv_is_closing((uv_handle_t *)&g->in))
		return;
	g->shutdown.data = g;
	if (uv_shutdown(&g->shutdown, (uv_stream_t *)&g->in, close_stdin))
		close_handle(&g->in);
}

static void on_client_gone(struct exchange *x)
{
	struct git *g = x->user;

	if (!g)
		return;
	g->x = NULL;
	git_push_client_gone(g);
	if (!g->drained) /* it may wait for room that never comes */
		uv_read_start((uv_stream_t *)&g->out, on_out_alloc, on_out);
	git_kill(g);
}

static const struct exchange_handler handler = {on_body, on_body_end, on_drained, on_client_gone};

/* --- start ---------------------------------------------------------------------------------------------------------------------------- */

/* Configuration that counts whatever is in any file: there is none but the repository's own, which we wrote. */
static unsigned add_settings(char **args, unsigned n)
{
	static char hooks[4200], input[64];
	static const char *const settings[] = {
		"safe.directory=*",
		"core.attributesFile=/dev/null",
		"core.fsmonitor=false",
		"core.bigFileThreshold=16m",
		"core.packedGitWindowSize=16m",
		"core.packedGitLimit=128m",
		"gc.auto=0",
		"maintenance.auto=false",
		"receive.autogc=false",
		"receive.fsckObjects=true",
		"receive.fsck.zeroPaddedFilemode=ignore",
		"receive.fsck.missingSpaceBeforeDate=ignore",
		"receive.fsck.badTimezone=ignore",
		"receive.advertisePushOptions=false",
		"receive.denyDeletes=true",
		"uploadpack.allowFilter=false",
		"transfer.hideRefs=refs/internal",
		"pack.threads=1",
		"pack.windowMemory=64m",
	};

	snprintf(hooks, sizeof(hooks), "core.hooksPath=%s", git_hooks_dir());
	snprintf(input, sizeof(input), "receive.maxInputSize=%llu", (unsigned long long)config.max_source);
	args[n++] = (char *)"-c";
	args[n++] = hooks;
	args[n++] = (char *)"-c";
	args[n++] = input;
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		args[n++] = (char *)"-c";
		args[n++] = (char *)settings[i];
	}
	return n;
}

static char **environment(struct git *g, char env[8][4200])
{
	static char *list[16];
	unsigned n = 0;
	const char *path = getenv("PATH");

	snprintf(env[0], 4200, "PATH=%s", path ? path : "/usr/local/bin:/usr/bin:/bin");
	snprintf(env[1], 4200, "HOME=%s/git", config.data_dir);
	snprintf(env[2], 4200, "COWBELL_PUSH_TAR=%s", g->tar);
	snprintf(env[3], 4200, "COWBELL_PUSH_MAX=%llu", (unsigned long long)config.max_source);
	for (unsigned i = 0; i < 4; i++)
		list[n++] = env[i];
	list[n++] = (char *)"GIT_CONFIG_NOSYSTEM=1";
	list[n++] = (char *)"GIT_CONFIG_GLOBAL=/dev/null";
	list[n++] = (char *)"GIT_ATTR_NOSYSTEM=1";
	list[n++] = (char *)"GIT_TERMINAL_PROMPT=0";
	list[n++] = (char *)"LC_ALL=C.UTF-8";
	if (g->version2)
		list[n++] = (char *)"GIT_PROTOCOL=version=2";
	list[n] = NULL;
	return list;
}

static int spawn(struct git *g, bool refs)
{
	static char env[8][4200];
	char dir[4096], *args[112];
	unsigned n = 0;

	git_dir(g->app, dir, sizeof(dir));
	args[n++] = (char *)"git";
	n = add_settings(args, n);
	args[n++] = (char *)(g->receive ? "receive-pack" : "upload-pack");
	args[n++] = (char *)"--stateless-rpc";
	if (!g->receive)
		args[n++] = (char *)"--strict";
	if (refs)
		args[n++] = (char *)"--http-backend-info-refs";
	args[n++] = dir;
	args[n] = NULL;
	uv_stdio_container_t io[4] = {
		{.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&g->in},
		{.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&g->out},
		{.flags = config.verbose ? UV_INHERIT_FD : UV_IGNORE, .data.fd = 2},
		{.flags = UV_IGNORE},
	};
	if (g->push)
		io[3] = (uv_stdio_container_t){.flags = UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE,
					       .data.stream = git_push_stream(g)};
	uv_process_options_t o = {.file = "git",
				  .args = args,
				  .env = environment(g, env),
				  .stdio = io,
				  .stdio_count = 4,
				  .cwd = dir,
				  .flags = UV_PROCESS_DETACHED,
				  .exit_cb = on_child_exit};
	int r = uv_spawn(loop, &g->process, &o);
	struct rlimit memory = {MEMORY_MAX, MEMORY_MAX}; /* before it has a byte of the client's */
	if (!r && prlimit(g->process.pid, RLIMIT_AS, &memory, NULL))
		plog("warn", NULL, "git: its memory cannot be limited: %s", strerror(errno));
	return r;
}

static void refuse(struct exchange *x, int status, const char *text)
{
	exchange_reply(x, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void respond(struct git *g, bool refs)
{
	static const char *const types[2][2] = {
		{"application/x-git-upload-pack-result", "application/x-git-upload-pack-advertisement"},
		{"application/x-git-receive-pack-result", "application/x-git-receive-pack-advertisement"}};
	const char *type = types[g->receive][refs];
	struct header h[] = {{STR("Content-Type"), {type, strlen(type)}},
			     {STR("Cache-Control"), STR("no-cache, max-age=0, must-revalidate")},
			     {STR("Expires"), STR("Fri, 01 Jan 1980 00:00:00 GMT")}};

	exchange_respond(g->x, 200, h, 3, -1);
	if (refs && !g->version2) { /* a packet line and a flush packet */
		const char *head = g->receive ? "001f# service=git-receive-pack\n0000"
					      : "001e# service=git-upload-pack\n0000";
		exchange_write(g->x, head, strlen(head));
	}
}

static void start(struct exchange *x, struct app *a, struct user *u, bool receive, bool refs)
{
	struct str encoding = exchange_header(x, "Content-Encoding"),
		   protocol = exchange_header(x, "Git-Protocol");
	int r = git_make(a);

	if (r) {
		plog("error", a->name, "git: the repository cannot be made: %s", strerror(-r));
		refuse(x, r == -ENOSPC ? 507 : 500, "The repository cannot be made on the server.\n");
		return;
	}
	struct git *g = xcalloc(1, sizeof(*g));
	g->x = x;
	g->app = a;
	memcpy(g->user_id, u->id, sizeof(g->user_id));
	g->receive = receive;
	g->version2 = !receive && protocol.p && memmem(protocol.p, protocol.n, "version=2", 9);
	g->body_max = receive ? config.max_source + (64u << 20) : 64u << 20;
	snprintf(g->tar, sizeof(g->tar), "%s/sources/push-", config.data_dir);
	make_token(g->tar + strlen(g->tar), 24);
	if (str_eq_nocase(encoding, "gzip") || str_eq_nocase(encoding, "x-gzip"))
		g->inflating = inflateInit2(&g->z, 15 + 16) == Z_OK;
	uv_pipe_init(loop, &g->in, 0);
	uv_pipe_init(loop, &g->out, 0);
	uv_timer_init(loop, &g->timer);
	g->in.data = g->out.data = g->timer.data = g->process.data = g;
	g->open_handles = 4;
	n_children++;
	g->next = gits;
	gits = g;
	if (receive && !refs)
		git_push_begin(g);
	x->user = g;
	x->handler = &handler;
	r = spawn(g, refs);
	if (r) {
		plog("error", a->name, "git cannot be started: %s", uv_strerror(r));
		g->exited = g->drained = g->done = true;
		x->user = NULL;
		git_push_over(g);
		close_handle(&g->in);
		close_handle(&g->out);
		close_handle(&g->timer);
		close_handle(&g->process);
		refuse(x, 500,
		       r == UV_ENOENT ? "git is not installed on the server.\n" : "git cannot be started.\n");
		return;
	}
	respond(g, refs);
	uv_read_start((uv_stream_t *)&g->out, on_out_alloc, on_out);
	if (g->push)
		git_push_read(g);
	if (refs)
		on_body_end(x);
	else
		exchange_continue(x);
}

/* --- requests ---------------------------------------------------------------------------------------------------------------------------- */

static void ask_who(struct exchange *x)
{
	static const char text[] = "Give your API token as password; the user's name does not matter.\n";
	static const struct header h[] = {{{"WWW-Authenticate", 16}, {"Basic realm=\"cowbell\"", 21}},
					  {{"Content-Type", 12}, {"text/plain; charset=utf-8", 25}}};

	exchange_respond(x, 401, h, 2, sizeof(text) - 1);
	exchange_write(x, text, sizeof(text) - 1);
	exchange_end(x);
}

static bool ends(struct str path, const char *tail)
{
	size_t n = strlen(tail);

	return path.n >= n && !memcmp(path.p + path.n - n, tail, n);
}

/* /NAME.git/...: the app, if this user may push to it. NULL: it is as if there were none. */
static struct app *app_of(struct str path, const struct user *u)
{
	const char *dot = memmem(path.p, path.n, ".git/", 5);
	size_t n = dot ? (size_t)(dot - path.p) - NAME_AT : 0;
	char name[APP_NAME_MAX];

	if (!dot || dot == path.p || !n || n >= sizeof(name) || memchr(path.p + NAME_AT, '/', n))
		return NULL;
	memcpy(name, path.p + NAME_AT, n);
	name[n] = 0;
	struct app *a = valid_app_name(name) ? model_app(name) : NULL;
	return a && model_role(u, a) >= ROLE_COLLABORATOR ? a : NULL;
}

static unsigned children_of(const struct user *u)
{
	unsigned n = 0;

	for (const struct git *g = gits; g; g = g->next)
		n += !strcmp(g->user_id, u->id);
	return n;
}

void git_serve(struct exchange *x)
{
	struct user *u = api_user(x);
	bool get = str_eq(x->method, "GET"), post = str_eq(x->method, "POST");
	bool refs = ends(x->path, ".git/info/refs");
	struct str query = x->query.p ? x->query : STR("");
	bool receive = refs ? memmem(query.p, query.n, "service=git-receive-pack", 24) != NULL
			    : ends(x->path, ".git/git-receive-pack");
	bool upload = refs ? memmem(query.p, query.n, "service=git-upload-pack", 23) != NULL
			   : ends(x->path, ".git/git-upload-pack");

	if (!u) {
		ask_who(x);
		return;
	}
	struct app *a = app_of(x->path, u);
	if (!a)
		refuse(x, 404,
		       "There is no such app, or you have no access to it. Make it first: cowbell create, or "
		       "heroku create.\n");
	else if (refs && get && !receive && !upload)
		refuse(x, 403, "Only git's smart protocol is served here: use a newer git.\n");
	else if ((refs && !get) || (!refs && !post) || (!receive && !upload))
		refuse(x, receive || upload || refs ? 405 : 404,
		       "This is a git repository: git clone, git push.\n");
	else if (platform_stopping())
		refuse(x, 503, "The server is being stopped.\n");
	else if (receive && !source_disk_room())
		refuse(x, 507, "The server's disk is nearly full: nothing can be pushed now.\n");
	else if (n_children >= MAX_AT_ONCE || children_of(u) >= MAX_OF_USER)
		refuse(x, 503, "Too many git requests at one time; try again.\n");
	else
		start(x, a, u, receive, refs);
}
