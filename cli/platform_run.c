/* SPDX-License-Identifier: ISC */
/*
 * `cowbell run -a APP COMMAND`: a process of an app's image and config vars, on the platform.
 *
 * Attached, the platform answers with rendezvous://HOST:PORT/SECRET: TLS to there, the secret and CRLF, an answer line, then bytes
 * both ways. Our terminal is raw meanwhile and given back whatever happens. The end of standard input is Ctrl-D, as Heroku's
 * client sends it. The exit status of the command comes as the marker that the API's clients ask for: the command gets
 * ` ; echo "U+FFFF heroku-command-exit-status: $?"` behind it, and that line is taken out of the output.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli/client.h"
#include "lib/host/say.h"

#define MARKER	     "\xef\xbf\xbf heroku-command-exit-status: "
#define MARKER_BEGIN 0xef

static const struct option_def run_options[] = {
	PLATFORM_APP,
	{P_DETACH, 'd', "detach", NULL, "do not wait: its output goes to the app's log"},
	{P_ENV, 'e', "env", "K=V", "one more variable for it"},
	{P_SIZE, 's', "size", "SIZE", "size of the process"},
	{P_NO_TTY, 0, "no-tty", NULL, "no terminal, although there is one here"},
	{P_EXIT_CODE, 'x', "exit-code", NULL, "as Heroku's; its exit status is ours in any case"},
	PLATFORM_JSON,
	PLATFORM_HELP,
	PLATFORM_END};

static struct termios before;
static bool raw;

static void restore(void)
{
	if (raw)
		tcsetattr(0, TCSADRAIN, &before);
	raw = false;
}

static void on_signal(int sig)
{
	restore();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void make_raw(void)
{
	struct termios t;

	if (tcgetattr(0, &before))
		return;
	t = before;
	cfmakeraw(&t);
	raw = !tcsetattr(0, TCSADRAIN, &t);
	atexit(restore);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
}

/* --- the bytes ------------------------------------------------------------------------------------------------------ */

struct session {
	struct client_tls *tls;
	bool greeted, in_open;
	char held[sizeof(MARKER) + 16]; /* a tail that may be the marker's beginning */
	size_t n_held;
	int status; /* -1: not told */
};

static void out(const char *p, size_t n)
{
	while (n) {
		ssize_t k = write(1, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return;
		p += k;
		n -= (size_t)k;
	}
}

/* One byte of output, the marker filtered out. What is held is always a beginning of the marker, or marker and digits. */
static void filter(struct session *s, char ch)
{
	const size_t len = sizeof(MARKER) - 1;

	if (s->n_held < len ? ch == MARKER[s->n_held] : ch >= '0' && ch <= '9' && s->n_held < len + 4) {
		s->held[s->n_held++] = ch;
		return;
	}
	if (s->n_held > len && (ch == '\r' || ch == '\n')) {
		s->held[s->n_held] = 0;
		s->status = atoi(s->held + len) & 255;
		if (ch == '\n')
			s->n_held = 0;
		return;
	}
	out(s->held, s->n_held);
	s->n_held = 0;
	if ((unsigned char)ch == MARKER_BEGIN)
		s->held[s->n_held++] = ch;
	else
		out(&ch, 1);
}

static void show(struct session *s, const char *p, size_t n)
{
	if (!s->greeted) { /* "rendezvous" and its line's end */
		const char *nl = memchr(p, '\n', n);
		if (!nl)
			return;
		s->greeted = true;
		n -= (size_t)(nl + 1 - p);
		p = nl + 1;
	}
	while (n) {
		const char *mark = s->n_held ? p : memchr(p, MARKER_BEGIN, n);
		size_t plain = mark ? (size_t)(mark - p) : n;
		out(p, plain);
		p += plain;
		n -= plain;
		for (; n && (s->n_held || (unsigned char)*p == MARKER_BEGIN); p++, n--)
			filter(s, *p);
	}
}

/* false: the other side has ended. */
static bool from_platform(struct session *s)
{
	char buf[16384];

	for (;;) {
		ssize_t n = client_tls_read(s->tls, buf, sizeof(buf));
		if (n == -EAGAIN)
			return true;
		if (n <= 0)
			return false;
		show(s, buf, (size_t)n);
	}
}

static bool from_user(struct session *s)
{
	char buf[16384];
	ssize_t n = read(0, buf, sizeof(buf));

	if (n < 0 && errno == EINTR)
		return true;
	if (n > 0)
		return !client_tls_write(s->tls, buf, (size_t)n);
	s->in_open = false;
	return !client_tls_write(s->tls, "\x04", 1);
}

static void talk(struct session *s)
{
	bool going = from_platform(s);

	while (going) {
		struct pollfd p[2] = {{.fd = client_tls_fd(s->tls), .events = POLLIN},
				      {.fd = s->in_open && s->greeted ? 0 : -1, .events = POLLIN}};
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[0].revents)
			going = from_platform(s);
		if (going && p[1].revents)
			going = from_user(s);
	}
	out(s->held, s->status < 0 ? s->n_held : 0);
}

static int attach(const struct at *at, const json_t *dyno)
{
	static const char scheme[] = "rendezvous://";
	struct session s = {.in_open = true, .status = -1};
	const char *url = jstr(dyno, "attach_url"), *slash;

	if (strncmp(url, scheme, sizeof(scheme) - 1) || !(slash = strchr(url + sizeof(scheme) - 1, '/')))
		return say_fail(EXIT_API, "run: the platform gives no address to attach to");
	char *host = textf("%.*s", (int)(slash - url - (ssize_t)sizeof(scheme) + 1),
			   url + sizeof(scheme) - 1),
	     *hello = textf("%s\r\n", slash + 1);
	s.tls = client_tls_open(at->c, host);
	free(host);
	if (!s.tls) {
		free(hello);
		return EXIT_API;
	}
	bool good = !client_tls_write(s.tls, hello, strlen(hello));
	free(hello);
	signal(SIGPIPE, SIG_IGN);
	if (good && isatty(0))
		make_raw();
	if (good)
		talk(&s);
	restore();
	client_tls_close(s.tls);
	if (s.status < 0)
		return say_fail(EXIT_API, "run: %s ended without a word about its exit status",
				jstr(dyno, "name"));
	return s.status;
}

/* --- the request ------------------------------------------------------------------------------------------------------ */

/* Words as a shell would read them back. */
static char *quoted(const char *const *words, int n)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+,=-";
	char *all = textf("%s", n == 1 ? words[0] : "");

	for (int i = 0; n > 1 && i < n; i++) {
		struct strings s = {0};
		char *w = textf("%s", "");
		bool needs = !*words[i] || strspn(words[i], plain) != strlen(words[i]);
		for (const char *p = words[i]; needs && *p; p++) {
			char *more = *p == '\'' ? textf("%s'\\''", w) : textf("%s%c", w, *p);
			free(w);
			w = more;
		}
		char *more = needs ? textf("%s%s'%s'", all, i ? " " : "", w)
				   : textf("%s%s%s", all, i ? " " : "", words[i]);
		free(all);
		free(w);
		strings_free(&s);
		all = more;
	}
	return all;
}

static int environment(const struct words *w, json_t *env, bool tty)
{
	struct winsize size;
	char number[16];

	for (size_t i = 0; i < w->all[P_ENV].n; i++) {
		const char *kv = w->all[P_ENV].v[i], *eq = strchr(kv, '=');
		if (!eq || eq == kv)
			return say_fail(EXIT_OURS, "-e %s: must be K=V", kv);
		char *key = textf("%.*s", (int)(eq - kv), kv);
		json_object_set_new(env, key, json_string(eq + 1));
		free(key);
	}
	if (!tty)
		return 0;
	const char *term = getenv("TERM");
	json_object_set_new(env, "TERM", json_string(term ? term : "xterm"));
	if (ioctl(1, TIOCGWINSZ, &size) || !size.ws_col || !size.ws_row)
		size = (struct winsize){.ws_col = 80, .ws_row = 24};
	/* without COLUMNS the platform takes it that there is no terminal */
	snprintf(number, sizeof(number), "%u", size.ws_col);
	json_object_set_new(env, "COLUMNS", json_string(number));
	snprintf(number, sizeof(number), "%u", size.ws_row);
	json_object_set_new(env, "LINES", json_string(number));
	return 0;
}

static int start(const struct at *at, const struct words *w, bool detach)
{
	bool tty = !detach && isatty(0) && isatty(1) && !w->has[P_NO_TTY];
	char *command = quoted(w->names, w->n),
	     *line = detach ? textf("%s", command) : textf("%s ; echo \"" MARKER "$?\"", command);
	json_t *env = json_object(), *dyno = NULL,
	       *body = json_pack("{s:s,s:b,s:s,s:b,s:O}", "command", line, "attach", !detach, "type", "run",
				 "force_no_tty", !tty, "env", env);
	int r = !body ? say_fail(EXIT_OURS, "run: the command is no UTF-8 text") : environment(w, env, tty);

	if (!r && w->has[P_SIZE])
		json_object_set_new(body, "size", json_string(w->value[P_SIZE]));
	if (!r) {
		action_begin("Running %s on %s", command, at->app);
		r = app_call(at, "POST", "/dynos", body, &dyno);
	}
	if (!r) {
		action_end("%s, %s", detach ? "done" : "up", jstr(dyno, "name"));
		if (detach && at->json)
			show_json(dyno);
		else if (detach)
			printf("Its output: cowbell logs -a %s --dyno-name %s\n", at->app,
			       jstr(dyno, "name"));
		else
			r = attach(at, dyno);
	}
	json_decref(dyno);
	json_decref(body);
	json_decref(env);
	free(command);
	free(line);
	return r;
}

static int run_run(const struct at *at, const struct words *w)
{
	if (at->json && !w->has[P_DETACH])
		return say_fail(EXIT_OURS,
				"run: --json goes with -d; else standard output is the command's own");
	return start(at, w, w->has[P_DETACH]);
}

static int run_detached(const struct at *at, const struct words *w)
{
	return start(at, w, true);
}

const struct verb run_verbs[] = {
	{"run", run_options,
	 "-a APP [OPTIONS] [--] COMMAND [ARG...]\n\nRuns a command with the image and config vars of an app "
	 "of the "
	 "platform, here in this terminal.\nOne word is a command line, or a process type of the Procfile; "
	 "several "
	 "are taken as they are.\nThe exit status is the command's.",
	 1, -1, APP, run_run, NULL},
	{"run detached", run_options, "-a APP COMMAND [ARG...]\n\nAs cowbell run -a APP -d.", 1, -1, APP,
	 run_detached, "do not wait for it"},
	{NULL, NULL, NULL, 0, 0, NO_SERVER, NULL, NULL},
};
