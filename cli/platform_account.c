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

static const struct option_def app_options[] = {PLATFORM_APP, PLATFORM_JSON, PLATFORM_HELP, PLATFORM_END};
static const struct option_def json_options[] = {PLATFORM_JSON, PLATFORM_HELP, PLATFORM_END};
static const struct option_def login_options[] = {
	{P_CA_FILE, 0, "ca-file", "FILE", "PEM file of the certificates to trust, instead of the\nsystem's"},
	{P_PLAIN_HTTP, 0, "plain-http", NULL, "no TLS: anyone on the way can read the token"},
	PLATFORM_JSON,
	PLATFORM_HELP,
	PLATFORM_END};
static const struct option_def plain_options[] = {PLATFORM_HELP, PLATFORM_END};
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

static int run_tokens(const struct at *at, const struct words *w)
{
	json_t *list;
	struct table t = {0};
	int r = client_list(at->c, "/oauth/authorizations", &list);

	(void)w;
	if (r)
		return r;
	if (at->json) {
		show_json(list);
	} else {
		show_title("Tokens");
		for (size_t i = 0; i < json_array_size(list); i++) {
			const json_t *a = json_array_get(list, i);
			table_row(&t, 3, jstr(a, "id"), jstr(a, "description"),
				  time_text(jstr(a, "created_at")));
		}
		table_print(&t);
	}
	json_decref(list);
	return 0;
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
	action_begin("Creating a token");
	int r = client_call(at->c, "POST", "/oauth/authorizations", body, &made);
	json_decref(body);
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
	char *id = client_escape(w->names[0]), *path = textf("/oauth/authorizations/%s", id);
	json_t *gone = NULL;

	action_begin("Revoking token %s", w->names[0]);
	int r = client_call(at->c, "DELETE", path, NULL, &gone);
	if (!r)
		action_end("done");
	if (!r && at->json)
		show_json(gone);
	json_decref(gone);
	free(id);
	free(path);
	return r;
}

/* --- access ------------------------------------------------------------------------------------------------------------- */

static int run_access(const struct at *at, const struct words *w)
{
	json_t *list;
	struct table t = {0};
	int r = app_items(at, "/collaborators", &list);

	(void)w;
	if (r)
		return r;
	if (at->json) {
		show_json(list);
	} else {
		show_title("%s Access", at->app);
		for (size_t i = 0; i < json_array_size(list); i++) {
			const json_t *c = json_array_get(list, i);
			table_row(&t, 2, jstr2(c, "user", "email"),
				  *jstr(c, "role") ? jstr(c, "role") : "collaborator");
		}
		table_print(&t);
	}
	json_decref(list);
	return 0;
}

static int run_access_add(const struct at *at, const struct words *w)
{
	json_t *body = json_pack("{s:s}", "user", w->names[0]), *made = NULL;

	action_begin("Adding %s to %s", w->names[0], at->app);
	int r = app_call(at, "POST", "/collaborators", body, &made);
	if (!r)
		action_end("done");
	if (!r && at->json)
		show_json(made);
	json_decref(body);
	json_decref(made);
	return r;
}

static int run_access_remove(const struct at *at, const struct words *w)
{
	char *name = client_escape(w->names[0]), *rest = textf("/collaborators/%s", name);
	json_t *gone = NULL;

	action_begin("Removing %s from %s", w->names[0], at->app);
	int r = app_call(at, "DELETE", rest, NULL, &gone);
	if (!r)
		action_end("done");
	if (!r && at->json)
		show_json(gone);
	json_decref(gone);
	free(name);
	free(rest);
	return r;
}

/* --- labs ----------------------------------------------------------------------------------------------------------------- */

static int run_labs(const struct at *at, const struct words *w)
{
	json_t *list;
	struct table t = {0};
	int r = app_items(at, "/features", &list);

	(void)w;
	if (r)
		return r;
	if (at->json) {
		show_json(list);
	} else {
		show_title("%s Features", at->app);
		for (size_t i = 0; i < json_array_size(list); i++) {
			const json_t *f = json_array_get(list, i);
			table_row(&t, 3, json_is_true(json_object_get(f, "enabled")) ? "[+]" : "[ ]",
				  jstr(f, "name"), jstr(f, "description"));
		}
		table_print(&t);
	}
	json_decref(list);
	return 0;
}

static int set_lab(const struct at *at, const struct words *w, bool on)
{
	char *name = client_escape(w->names[0]), *rest = textf("/features/%s", name);
	json_t *body = json_pack("{s:b}", "enabled", on), *f = NULL;

	action_begin("%s %s for %s", on ? "Enabling" : "Disabling", w->names[0], at->app);
	int r = app_call(at, "PATCH", rest, body, &f);
	if (!r)
		action_end("done");
	if (!r && at->json)
		show_json(f);
	json_decref(f);
	json_decref(body);
	free(name);
	free(rest);
	return r;
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
	{"logout", json_options, "[--json]\n\nForgets what login remembers.", 0, 0, NO_SERVER, run_logout,
	 NULL},
	{"whoami", json_options, "[--json]\n\nTells which platform is used, and as whom.", 0, 0, NO_APP,
	 run_whoami, NULL},
	{"git-credential", plain_options,
	 "get|store|erase\n\nFor git, which calls it: gives the token for pushes to the platform.", 1, 1,
	 NO_APP, run_git_credential, NULL},
	{"tokens", json_options, "[COMMAND] [--json]\n\nLists your tokens for the API.", 0, 0, NO_APP,
	 run_tokens, NULL},
	{"tokens create", token_options,
	 "[DESCRIPTION] [--expires-in DURATION]\n\nMakes a token and prints it.", 0, 1, NO_APP,
	 run_token_create, "make one"},
	{"tokens revoke", json_options, "ID\n\nA token is good for nothing any more.", 1, 1, NO_APP,
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
