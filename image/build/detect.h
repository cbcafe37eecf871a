/* SPDX-License-Identifier: ISC */
/* Inside of detection: what the families of languages (lang_*.c) share. See detect.c. */
#ifndef COWBELL_IMAGE_BUILD_DETECT_H
#define COWBELL_IMAGE_BUILD_DETECT_H

#include <jansson.h>

#include "image/build/build.h"

#define APP_MAX_FILE (16u << 20) /* of a file that detection reads; lock files of npm are megabytes */
#define USUAL_PATH   "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct app {
	const char *dir; /* for messages */
	int fd;
	struct plan *plan;
	struct need *last_need; /* end of the plan's list */
	size_t n_needs;
	bool said_processes; /* Procfile or cowbell.toml says what to run: defaults of a language do not count */
};

/* One language: `found` says why it is this one ("requirements.txt"), or NULL; `fill` completes the plan. */
struct language {
	const char *name; /* as Heroku writes it: "Python" */
	const char *word; /* as cowbell.toml names it: "python" */
	const char *looked_for; /* for the error when nothing matches */
	const char *
		commands; /* first words of a command that mean this language, with blanks around each, or NULL */
	const char *(*found)(const struct app *a);
	int (*fill)(struct app *a);
};

extern const struct language lang_python, lang_node, lang_ruby, lang_php, lang_perl, lang_lua, lang_java,
	lang_go, lang_rust, lang_ocaml, lang_haskell, lang_c, lang_static, lang_program, lang_shell;

/* --- files of the app: links are followed only inside of its directory ------------------------------------ */
bool app_has(const struct app *a, const char *rel); /* a regular file */
bool app_has_dir(const struct app *a, const char *rel);
/* The first of n names that is a regular file, or NULL. */
const char *app_first(const struct app *a, const char *const *names, size_t n);
/* The whole file, NUL-terminated, malloc. NULL: not there, not readable, or beyond APP_MAX_FILE. */
char *app_read(const struct app *a, const char *rel, size_t *n);
/* As JSON object; NULL after out_fail() if the file is there and is none; *status then is an exit status, else 0. */
json_t *app_json(const struct app *a, const char *rel, int *status);
/* First name in directory `rel` that matches the pattern (fnmatch, case ignored if `fold`), malloc, or NULL. The least in order of bytes. */
char *app_glob(const struct app *a, const char *rel, const char *pattern, bool fold);
/* All of them, sorted. */
void app_list(const struct app *a, const char *rel, const char *pattern, bool fold, struct strings *out);
bool app_is_elf(const struct app *a, const char *rel);

/* --- filling the plan ---------------------------------------------------------------------------------------- */
/* The language's default process, unless the user said what to run. */
void app_process(struct app *a, const char *type, const char *command);
/*
 * Something the app needs that is nowhere in its own tree. `patterns`: paths in packages, any of which is enough (fnmatch).
 * What no package of the plan has either fails the build with the advice.
 */
struct need *app_need(struct app *a, const char *file, const char *name, const char *advice);
void need_path(struct need *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* An environment variable of the language's, unless the user set it. */
void app_env(struct app *a, const char *kv);
/* A package of the language's own, in the runtime layer. */
void app_runtime(struct app *a, const char *package);
/* First of these packages that exists, or the last. */
const char *app_pick_package(const char *const *names, size_t n);
/* "NAME=PATH PATH...": /usr/local/bin/NAME becomes a link to the first of these that a package has. */
void app_link(struct app *a, const char *names_paths);
/* First command word of a process's command line, after VAR=VALUE, "exec" and "env"; false: a shell must read the line. */
bool command_word(const char *command, char *buf, size_t size);

/* --- files of the app that say how it is built (procfile.c, appjson.c, config.c) ---------------------------- */
/* Parse a Procfile: "TYPE=COMMAND" lines. NULL, or a phrase "line N: ..." in a static buffer. */
const char *procfile_parse(const char *text, size_t n, struct strings *out);
int read_procfile(struct app *a);
int read_appjson(struct app *a);
int read_cowbell_toml(struct app *a, char language[32]);
int read_aptfile(struct app *a);
bool valid_process_type(const char *s, size_t n);
bool valid_env_name(const char *s, size_t n);
bool valid_package(const char *s);

#endif
