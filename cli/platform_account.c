/* SPDX-License-Identifier: ISC */
/* Who we are: login, logout, whoami, tokens; who else may use an app: access; and its labs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "cli/client.h"
#include "lib/host/say.h"

static const struct option_def login_options[] = {
	{P_CA_FILE, 0, "ca-file", "FILE", "PEM file of the certificates to trust, instead of the\nsystem's"},
	{P_PLAIN_HTTP, 0, "plain-http", NULL, "no TLS: anyone on the way can read the token"},
	PLATFORM_JSON,
	PLATFORM_HELP,
	PLATFORM_END};
static const struct option_def help_options[] = {PLATFORM_HELP, PLATFORM_END};
static const struct option_def token_options[] = {
	{P_EXPIRES, 0, "expires-in", "DURATION", "how long it is good, such as 30d (for ever)"},
	PLATFORM_JSON,
	PLATFORM_HELP,
	PLATFORM_END};

/* --- login ----------------------------------------------------------------------------------------------------------- */

/* A line from standard input; not shown where that is a terminal. */
static bool read_token(char *buf, size_t size)
{
	struct termios old, quiet;
	bool terminal = isatty(0) && !tcgetattr(0, &old);

	if (terminal) {
		fputs("Token: ", stderr);
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(0, TCSAFLUSH, &quiet);
	}
	bool got = fgets(buf, (int)size, stdin);
	if (terminal) {
		tcsetattr(0, TCSAFLUSH, &old);
		fputc('\n', stderr);
	}
	if (got)
		buf[strcspn(buf, "\r\n")] = 0;
	return got && *buf &&
	       strspn(buf, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/=") ==
		       strlen(buf);
}

/* Is it good there? */
static int check_login(const struct where *w, bool json)
{
	struct client *c;
	json_t *me = NULL;
	int r = client_open(&c, w);

	if (!r)
		r = client_call(c, "GET", "/account", NULL, &me);
	if (!r)
		r = where_store(w);
	if (!r && json)
		show_json(me);
	else if (!r)
		fprintf(stderr, "Logged in to %s as %s\n", w->url, jstr(me, "email"));
	json_decref(me);
	client_close(c);
	return r;
}

static int run_login(const struct at *at, const struct words *w)
{
	struct where known, where = {0};
	char token[300];
	int r = where_find(&known);

	if (r)
		return r;
	where.url = w->n ? where_url(w->names[0]) : textf("%s", known.url);
	where.plain = w->has[P_PLAIN_HTTP];
	if (w->has[P_CA_FILE]) {
		where.ca_file = realpath(w->value[P_CA_FILE], NULL);
		if (!where.ca_file)
			r = say_fail(EXIT_OURS, "--ca-file %s: %s", w->value[P_CA_FILE], strerror(errno));
	}
	if (!where.url)
		r = EXIT_OURS;
	if (!r && known.token && !strcmp(known.url, where.url) && strcmp(known.from, "cowbell login"))
		where.token = textf("%s", known.token); /* of the environment or of our own platform */
	else if (!r && read_token(token, sizeof(token)))
		where.token = textf("%s", token);
	else if (!r)
		r = say_fail(
			EXIT_OURS,
			"login: no token was given; the first one of a platform is in the file admin-token "
			"of its data directory, more come from: cowbell tokens create");
	if (!r)
		r = check_login(&where, at->json);
	explicit_bzero(token, sizeof(token));
	where_free(&where);
	where_free(&known);
	return r;
}

static int run_logout(const struct at *at, const struct words *w)
{
	int r = where_store(NULL);

	(void)w;
	if (!r && at->json)
		puts("{}");
	return r;
}

static int run_whoami(const struct at *at, const struct words *w)
{
	json_t *me;
	int r = client_call(at->c, "GET", "/account", NULL, &me);

	(void)w;
	if (r)
		return r;
	if (at->json) {
		show_json(me);
	} else {
		char *line = textf("%s at %s", jstr(me, "email"), client_where(at->c)->url);
		show_line(line);
		free(line);
	}
	json_decref(me);
	return 0;
}

/*
 * git asks for a password: lines protocol=... and host=... on standard input (gitcredentials(7)). The token is given for the platform
 * that it belongs to, for nothing else.
 */
static int run_git_credential(const struct at *at, const struct words *w)
{
	const struct where *where = client_where(at->c);
	char line[1024], protocol[16] = "", host[256] = "";

	while (fgets(line, sizeof(line), stdin) && *line != '\n') {
		sscanf(line, "protocol=%15[a-z]", protocol);
		sscanf(line, "host=%255[^\r\n]", host);
	}
	char *url = textf("%s://%s", protocol, host);
	if (where->token && !strcmp(w->names[0], "get") && !strcmp(url, where->url))
		printf("username=cowbell\npassword=%s\n", where->token);
	free(url);
	return 0;
}

/* --- tokens ----------------------------------------------------------------------------------------------------------- */

static void token_row(struct table *t, const json_t *a)
{
	table_row(t, 3, jstr(a, "id"), jstr(a, "description"), time_text(jstr(a, "created_at")));
}

static int run_tokens(const struct at *at, const struct words *w)
{
	return show_listing(
		at, &(struct listing){.path = "/oauth/authorizations", .title = "Tokens", .row = token_row});
}

static int run_token_create(const struct at *at, const struct words *w)
{
	json_t *body = json_pack("{s:s}", "description", w->n ? w->names[0] : "made by cowbell"),
	       *made = NULL;
	uint64_t ns;

	if (w->has[P_EXPIRES] && (!parse_duration(w->value[P_EXPIRES], &ns) || ns < 1000000000u)) {
		json_decref(body);
		return say_fail(EXIT_OURS, "--expires-in %s: must be a duration such as 12h or 30d",
				w->value[P_EXPIRES]);
	}
	if (w->has[P_EXPIRES])
		json_object_set_new(body, "expires_in", json_integer((json_int_t)(ns / 1000000000u)));
	int r = make_change(at, &(struct change){"POST", "/oauth/authorizations", .body = body, .out = &made},
			    "Creating a token");
	if (r)
		return r;
	action_end("done; it is shown this once");
	if (at->json)
		show_json(made);
	else
		show_line(jstr2(made, "access_token", "token"));
	json_decref(made);
	return 0;
}

static int run_token_revoke(const struct at *at, const struct words *w)
{
	return make_change(at, &(struct change){"DELETE", "/oauth/authorizations/", .word = w->names[0]},
			   "Revoking token %s", w->names[0]);
}

/* --- access ------------------------------------------------------------------------------------------------------------- */

static void access_row(struct table *t, const json_t *c)
{
	table_row(t, 2, jstr2(c, "user", "email"), *jstr(c, "role") ? jstr(c, "role") : "collaborator");
}

static int run_access(const struct at *at, const struct words *w)
{
	return show_listing(
		at, &(struct listing){.path = "/collaborators", .title = "Access", .row = access_row});
}

static int run_access_add(const struct at *at, const struct words *w)
{
	json_t *body = json_pack("{s:s}", "user", w->names[0]);

	return make_change(at, &(struct change){"POST", "/collaborators", .body = body}, "Adding %s to %s",
			   w->names[0], at->app);
}

static int run_access_remove(const struct at *at, const struct words *w)
{
	return make_change(at, &(struct change){"DELETE", "/collaborators/", .word = w->names[0]},
			   "Removing %s from %s", w->names[0], at->app);
}

/* --- labs ----------------------------------------------------------------------------------------------------------------- */

static void lab_row(struct table *t, const json_t *f)
{
	table_row(t, 3, json_is_true(json_object_get(f, "enabled")) ? "[+]" : "[ ]", jstr(f, "name"),
		  jstr(f, "description"));
}

static int run_labs(const struct at *at, const struct words *w)
{
	return show_listing(at, &(struct listing){.path = "/features", .title = "Features", .row = lab_row});
}

static int set_lab(const struct at *at, const struct words *w, bool on)
{
	json_t *body = json_pack("{s:b}", "enabled", on);

	return make_change(at, &(struct change){"PATCH", "/features/", .word = w->names[0], .body = body},
			   "%s %s for %s", on ? "Enabling" : "Disabling", w->names[0], at->app);
}

static int run_lab_enable(const struct at *at, const struct words *w)
{
	return set_lab(at, w, true);
}

static int run_lab_disable(const struct at *at, const struct words *w)
{
	return set_lab(at, w, false);
}

const struct verb account_verbs[] = {
	{"login", login_options,
	 "[URL] [--ca-file FILE]\n\nRemembers a platform and a token for it, which is asked for, or read "
	 "from "
	 "standard input.\nA platform of yours on this machine needs no login.",
	 0, 1, NO_SERVER, run_login, NULL},
	{"logout", plain_options, "[--json]\n\nForgets what login remembers.", 0, 0, NO_SERVER, run_logout,
	 NULL},
	{"whoami", plain_options, "[--json]\n\nTells which platform is used, and as whom.", 0, 0, NO_APP,
	 run_whoami, NULL},
	{"git-credential", help_options,
	 "get|store|erase\n\nFor git, which calls it: gives the token for pushes to the platform.", 1, 1,
	 NO_APP, run_git_credential, NULL},
	{"tokens", plain_options, "[COMMAND] [--json]\n\nLists your tokens for the API.", 0, 0, NO_APP,
	 run_tokens, NULL},
	{"tokens create", token_options,
	 "[DESCRIPTION] [--expires-in DURATION]\n\nMakes a token and prints it.", 0, 1, NO_APP,
	 run_token_create, "make one"},
	{"tokens revoke", plain_options, "ID\n\nA token is good for nothing any more.", 1, 1, NO_APP,
	 run_token_revoke, "end one"},
	{"access", app_options, "[COMMAND] [-a APP] [--json]\n\nLists who may use an app.", 0, 0, APP,
	 run_access, NULL},
	{"access add", app_options, "EMAIL [-a APP]\n\nLets another user of the platform use an app.", 1, 1,
	 APP, run_access_add, "let somebody in"},
	{"access remove", app_options, "EMAIL [-a APP]\n\nLets a user use it no more.", 1, 1, APP,
	 run_access_remove, "let somebody in no more"},
	{"labs", app_options, "[COMMAND] [-a APP] [--json]\n\nLists features that an app may turn on.", 0, 0,
	 APP, run_labs, NULL},
	{"labs enable", app_options, "FEATURE [-a APP]\n\nTurns a feature on.", 1, 1, APP, run_lab_enable,
	 "turn one on"},
	{"labs disable", app_options, "FEATURE [-a APP]\n\nTurns a feature off.", 1, 1, APP, run_lab_disable,
	 "turn one off"},
	{NULL, NULL, NULL, 0, 0, NO_SERVER, NULL, NULL},
};
