/* SPDX-License-Identifier: ISC */
/* The client of a platform: where it is, requests to its API, and what the verbs (platform_*.c) share. */
#ifndef COWBELL_CLI_CLIENT_H
#define COWBELL_CLI_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/cli.h"

/* The platform said no, or could not be asked; 125 stays for what is wrong on our side. As with Heroku's client. */
#define EXIT_API 2

/* --- where (client_where.c) ----------------------------------------------------------------------------------- */
struct where {
	char *url; /* without a slash at its end */
	char *token; /* NULL: none is known */
	char *ca_file; /* NULL: the system's certificates */
	bool plain; /* http to another machine is allowed */
	const char *from; /* for messages: "COWBELL_URL", "cowbell login", "the platform of this user" */
};

/* Environment, then login, then a platform of this user on this machine. 0, or an exit status after one line. */
int where_find(struct where *w);
void where_free(struct where *w);
/* What `cowbell login` keeps; NULL forgets. 0, or an exit status after one line. */
int where_store(const struct where *w);
/* A URL as a user types it, completed and checked (malloc), or NULL after one line. */
char *where_url(const char *word);
bool where_is_local(const char *url);

/* The app that is meant: -a, environment, .cowbell/app, a git remote. malloc; NULL: nothing says one. dir NULL: the
 * working directory and those above it; else in this one alone. */
char *where_app(const char *option, const char *remote, const char *dir, const struct where *w);
/* The same without looking at directories: does the command line or the environment name one? */
bool where_app_said(void);
/* Remember it for this directory (dir NULL: the working directory); failing is no error. */
void where_remember(const char *dir, const char *app);
void where_forget(const char *app);
bool where_app_name(const char *s);

/* --- requests (client.c) --------------------------------------------------------------------------------------- */
struct client;

/* 0, or an exit status after one line. */
int client_open(struct client **out, const struct where *w);
void client_close(struct client *c);
const struct where *client_where(const struct client *c);

/*
 * One request with a JSON body (borrowed, or NULL) and a JSON answer (*out, the caller's; out may be NULL). 0, or EXIT_API after one line.
 */
int client_call(struct client *c, const char *method, const char *path, const json_t *body, json_t **out);
/* The same, but an answer with this status is not an error: *out is NULL then, and the return value 0. */
int client_try(struct client *c, const char *method, const char *path, const json_t *body, long accept,
	       json_t **out);
/* All of a list, however many pages it has. */
int client_list(struct client *c, const char *path, json_t **out);

/* Pieces of a body as they come; false ends the transfer, which is then a success. */
typedef bool client_sink(void *arg, const char *data, size_t n);
/* GET a URL that the platform gave us (log session, build output); no token goes along. */
int client_stream(struct client *c, const char *url, const char *accept, client_sink *sink, void *arg);
/* Pieces of a body to send: bytes, 0 at the end, -1: failed, a line was said. */
typedef ssize_t client_source(void *arg, char *buf, size_t n);
int client_put(struct client *c, const char *url, client_source *source, void *arg);

/* TLS to HOST:PORT, for an attached run: bytes both ways. -1 after one line. */
struct client_tls;
struct client_tls *client_tls_open(struct client *c, const char *host_port);
int client_tls_fd(const struct client_tls *t);
ssize_t client_tls_read(struct client_tls *t, void *buf, size_t n); /* -EAGAIN, 0 at the end, -EIO */
int client_tls_write(struct client_tls *t, const void *buf, size_t n); /* all of it; 0 or -EIO */
void client_tls_close(struct client_tls *t);

/* A part of a path, escaped: malloc. */
char *client_escape(const char *text);

/* --- output (client_out.c) ------------------------------------------------------------------------------------- */
/* "Setting K... done, v3" on standard error; a spinner where that is a terminal. */
void action_begin(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void action_end(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void action_fail(void); /* ends the line, if one is open */
void action_turn(void); /* the spinner */
void action_quiet(void); /* --json */

/* Text of others on a terminal: control characters become '?'. Elsewhere as it is. */
void show_text(const char *s, size_t n);
void show_line(const char *s);
/* "=== demo Config Vars", and an empty line. */
void show_title(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void show_json(const json_t *j); /* indented, with a newline */
/* "2026/11/23 01:20:00 +0000 (~ 3s ago)" of an API's time; "" of NULL. Static, four at a time. */
const char *time_text(const char *iso);
const char *bytes_text(uint64_t n); /* "12.3 MB"; static, four at a time */

/* Rows whose columns are aligned. */
struct table {
	struct strings cells;
	size_t columns;
};
void table_row(struct table *t, size_t columns, ...); /* const char *; NULL is "" */
void table_print(struct table *t); /* and frees it */

const char *jstr(const json_t *o, const char *key); /* "" if there is none */
const char *jstr2(const json_t *o, const char *key, const char *key2);
json_int_t jint(const json_t *o, const char *key);

/* --- verbs (platform.c) ------------------------------------------------------------------------------------------ */
enum {
	P_HELP = 1,
	P_JSON,
	P_APP,
	P_REMOTE,
	P_CONFIRM,
	P_TAIL,
	P_NUM,
	P_SOURCE,
	P_DYNO,
	P_SHELL,
	P_DETACH,
	P_EXIT_CODE,
	P_ENV,
	P_NO_TTY,
	P_SIZE,
	P_CA_FILE,
	P_PLAIN_HTTP,
	P_TOKEN_STDIN,
	P_QUIET,
	P_VERSION,
	P_CREATE,
	P_NO_FOLLOW,
	P_WAIT,
	P_EXPIRES,
	P_TYPE,
};

#define PLATFORM_HELP                                                                                        \
	{                                                                                                    \
		P_HELP, 'h', "help", NULL, "print this help"                                                 \
	}
#define PLATFORM_JSON                                                                                        \
	{                                                                                                    \
		P_JSON, 0, "json", NULL, "as JSON"                                                           \
	}
#define PLATFORM_APP                                                                                         \
	{P_APP, 'a', "app", "APP", "the app (COWBELL_APP, or what this directory remembers)"},               \
	{                                                                                                    \
		P_REMOTE, 'r', "remote", "NAME", "the app that this git remote names"                        \
	}
#define PLATFORM_END                                                                                         \
	{                                                                                                    \
		0, 0, NULL, NULL, NULL                                                                       \
	}

/* What a verb is run with. */
struct at {
	struct client *c;
	const char *app; /* NULL for verbs that need none and were told none */
	bool json;
};

struct verb {
	const char *name; /* "config", "config set" */
	const struct option_def *defs;
	const char *usage; /* as words_command() wants it */
	int from, to;
	enum {
		NO_SERVER,
		NO_APP,
		MAY_APP,
		DIR_APP /* as MAY_APP; the operand is its directory */,
		APP
	} needs;
	int (*run)(const struct at *at, const struct words *w);
	const char *help; /* one line for the list of a command's subcommands */
};
/* Each family has its table; name NULL ends it. */
extern const struct verb apps_verbs[], config_verbs[], dyno_verbs[], release_verbs[], domain_verbs[],
	account_verbs[], push_verbs[], log_verbs[], run_verbs[];

/* --- what verbs share (platform_shared.c) ------------------------------------------------------------------------ */
/* -a, -r, --json, --help; the same without an app. */
extern const struct option_def app_options[], plain_options[];

/* GET, PATCH, ... "/apps/APP" + rest; of a verb without an app just rest. */
int app_call(const struct at *at, const char *method, const char *rest, const json_t *body, json_t **out);
int app_items(const struct at *at, const char *rest, json_t **out);

/* A list of the API as a table, or with --json as it is. */
struct listing {
	const char *path; /* as app_items() has it */
	const char *title; /* "Access": "=== demo Access"; NULL: none */
	const char *none, *add; /* "drains", "drains add URL": what is said of an empty list; NULL: nothing */
	void (*heads)(struct table *t); /* NULL: none */
	void (*row)(struct table *t, const json_t *item);
};
int show_listing(const struct at *at, const struct listing *l);

/* One request that changes something: "Adding x to demo... done", and with --json its answer. fmt: "Adding x to demo". */
struct change {
	const char *method, *rest; /* as app_call() has it */
	const char *word,
		*tail; /* behind rest: a word, which is escaped, and what follows it; NULL: nothing */
	json_t *body; /* taken; may be NULL */
	json_t **out; /* the caller ends the line and gets the answer, which is NULL unless all went well */
};
int make_change(const struct at *at, const struct change *c, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* As Heroku asks: --confirm APP, or the name typed on a terminal. 0, or an exit status after one line. */
int confirm(const struct at *at, const struct words *w, const char *what);
/* Of the newest release: "v3"; malloc. */
char *current_release(const struct at *at);
/* Make an app; name may be NULL. Remembers it for dir. The answer is in *out. */
int app_create(const struct at *at, const char *name, const char *dir, json_t **out);

/* .cowbell/app, and in a git repository a remote. */
void app_remember(const struct at *at, const char *dir, const json_t *app);

/* A tar of a directory, as a source of bytes (platform_tar.c). tar_open: 0, or an exit status after one line. */
struct tar;
int tar_open(const char *dir, bool gzip, struct tar **out);
ssize_t tar_read(void *tar, char *buf, size_t n); /* a client_source */
uint64_t tar_files(const struct tar *t);
uint64_t tar_bytes(const struct tar *t); /* of the files in it */
void tar_close(struct tar *t);

/* Does this command line mean the platform's verb of that name, not the local one? */
bool platform_meant(int argc, char **argv);
/* After a local `ps` in the directory of an app, to somebody at a terminal: how its processes are listed. */
void platform_hint(void);
/* One that only the platform has, or that platform_meant() says is its. argv[0] is the name. */
int cmd_platform(int argc, char **argv);

#endif
