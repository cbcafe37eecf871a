/* SPDX-License-Identifier: ISC */
/*
 * Verbs of the platform: which one is meant, what each needs before it runs.
 *
 * A verb is a row of a table (struct verb): "config set" is found by the command `config` and the first word that is
 * no option. Heroku's spelling with a colon (`config:set`) is the same; main.c splits it.
 *
 * Four names are local commands, too: push, ps, run and logs. They mean the platform's if -a/--app is there, or if COWBELL_APP or
 * HEROKU_APP is set; `push` also with a directory or with nothing, `logs` also with nothing to name. `ps -a` alone is the local one's --all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/client.h"
#include "lib/host/say.h"

static const struct verb *const families[] = {apps_verbs,    push_verbs,   dyno_verbs,
					      run_verbs,     log_verbs,	   config_verbs,
					      release_verbs, domain_verbs, account_verbs};
#define N_FAMILIES (sizeof(families) / sizeof(families[0]))

static const struct verb *find_verb(const char *name)
{
	for (size_t f = 0; f < N_FAMILIES; f++)
		for (const struct verb *v = families[f]; v->name; v++)
			if (!strcmp(v->name, name))
				return v;
	return NULL;
}

/* The n-th verb "COMMAND SUB", or NULL. */
static const struct verb *sub_verb(const char *command, size_t n)
{
	size_t len = strlen(command);

	for (size_t f = 0; f < N_FAMILIES; f++)
		for (const struct verb *v = families[f]; v->name; v++)
			if (!strncmp(v->name, command, len) && v->name[len] == ' ' && !n--)
				return v;
	return NULL;
}

/* --- running one -------------------------------------------------------------------------------------------------------- */

static const struct verb *running;

static int no_app(const struct verb *v)
{
	return say_fail(EXIT_OURS,
			"%s: which app? Say it by -a APP; this directory remembers none (cowbell create, or "
			"cowbell push, makes one and remembers it)",
			v->name);
}

static int run_verb(const struct words *w)
{
	const struct verb *v = running;
	struct where where;
	struct at at = {.json = w->has[P_JSON]};
	char *app = NULL;
	int status = where_find(&where);

	if (status)
		return status;
	if (at.json)
		action_quiet();
	if (v->needs >= MAY_APP) {
		const char *dir = v->needs != DIR_APP ? NULL : w->n ? w->names[0] : ".";
		app = where_app(w->value[P_APP], w->value[P_REMOTE], dir, &where);
		if (!app && (v->needs == APP || w->has[P_REMOTE]))
			status = w->has[P_REMOTE]
					 ? say_fail(EXIT_OURS, "%s: no git remote '%s' here names an app",
						    v->name, w->value[P_REMOTE])
					 : no_app(v);
		else if (app && !where_app_name(app) && strlen(app) != 36)
			status = say_fail(EXIT_OURS,
					  "'%s' is no name of an app: 3 to 30 lower-case letters, digits and "
					  "hyphens, a letter first",
					  app);
		at.app = app;
	}
	if (!status && v->needs != NO_SERVER)
		status = client_open(&at.c, &where);
	if (!status)
		status = v->run(&at, w);
	client_close(at.c);
	where_free(&where);
	free(app);
	return status;
}

/* Where the first operand is; 0: nowhere. */
static int first_operand(const struct option_def *defs, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];
		if (word[0] != '-' || !word[1])
			return i;
		if (!strcmp(word, "--"))
			return i + 1 < argc ? i + 1 : 0;
		for (const struct option_def *d = defs; d->id; d++)
			if (d->arg && ((word[1] == '-' && !strcmp(word + 2, d->name)) ||
				       (word[1] != '-' && word[1] == d->letter && !word[2])))
				i++;
	}
	return 0;
}

static bool wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return true;
	return false;
}

static void list_subs(const char *command)
{
	const struct verb *v;

	if (!sub_verb(command, 0))
		return;
	puts("\nCommands:");
	for (size_t i = 0; (v = sub_verb(command, i)); i++)
		printf("  %-10s %s\n", v->name + strlen(command) + 1, v->help);
}

/* What is behind the first operand is the command's own: `--` in front of it. malloc. */
static char **end_options(const struct option_def *defs, int *argc, char **argv)
{
	int at = first_operand(defs, *argc, argv), n = 0;
	char **v = calloc((size_t)*argc + 2, sizeof(*v));

	if (!v)
		exit(say_fail(EXIT_OURS, "out of memory"));
	for (int i = 0; i < *argc; i++) {
		if (i == at && at && strcmp(argv[at - 1], "--"))
			v[n++] = (char *)"--";
		v[n++] = argv[i];
	}
	*argc = n;
	return v;
}

int cmd_platform(int argc, char **argv)
{
	const struct verb *v = find_verb(argv[0]), *first = v ? v : sub_verb(argv[0], 0);
	int at = first_operand(first->defs, argc, argv);
	char *full = at ? textf("%s %s", argv[0], argv[at]) : NULL;
	const struct verb *sub = full ? find_verb(full) : NULL;
	bool help = wants_help(argc, argv);

	free(full);
	if (sub) { /* take the word out */
		memmove(argv + at, argv + at + 1, (size_t)(argc - at) * sizeof(*argv));
		argc--;
		v = sub;
	}
	if (!v)
		return say_fail(EXIT_OURS, "%s: what about it? See: cowbell %s --help", argv[0], argv[0]);
	if (!sub && at && sub_verb(argv[0], 0) && v->to == 0) {
		const char *names[16];
		size_t n = 0;
		for (const struct verb *s; n < 16 && (s = sub_verb(argv[0], n)); n++)
			names[n] = s->name + strlen(argv[0]) + 1;
		const char *close_name = suggest(argv[at], names, n);
		return say_fail(EXIT_OURS, "%s: no command '%s'%s%s; all: cowbell %s --help", argv[0],
				argv[at], close_name ? "; did you mean: " : "", close_name ? close_name : "",
				argv[0]);
	}
	running = v;
	char **own = NULL;
	if (v->run == run_verbs->run || v->run == run_verbs[1].run)
		argv = own = end_options(v->defs, &argc, argv);
	int status = words_command(v->defs, v->name, v->usage, v->from, v->to, argc, argv, run_verb);
	if (help && !sub)
		list_subs(argv[0]);
	free(own);
	return status;
}

/* --- platform or local? ----------------------------------------------------------------------------------------------- */

/* -a NAME, -aNAME, --app NAME, --app=NAME among the first words, before a program of `run`. */
static bool app_option(int argc, char **argv, bool to_operand)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
		const char *s = argv[i];
		if (!strncmp(s, "--app", 5) && (!s[5] || s[5] == '='))
			return true;
		if (!strncmp(s, "-a", 2) && (s[2] || (i + 1 < argc && argv[i + 1][0] != '-')))
			return true;
		if (to_operand && s[0] != '-')
			return false;
	}
	return false;
}

bool platform_meant(int argc, char **argv)
{
	const char *name = argv[0];
	struct stat st;
	int at;

	if (app_option(argc, argv, !strcmp(name, "run")) || where_app_said())
		return true;
	if (wants_help(argc, argv))
		return false;
	at = first_operand(find_verb(name)->defs, argc, argv);
	if (!strcmp(name, "push"))
		return !at || !strncmp(argv[at], "./", 2) || !strncmp(argv[at], "../", 3) ||
		       *argv[at] == '/' || (!stat(argv[at], &st) && S_ISDIR(st.st_mode));
	return !strcmp(name, "logs") && !at;
}

void platform_hint(void)
{
	struct where w = {0};
	char *app = isatty(1) && isatty(2) ? where_app(NULL, NULL, NULL, &w) : NULL;

	fflush(stdout);
	if (app)
		fprintf(stderr, "Processes of the app of this directory: cowbell ps -a %s\n", app);
	free(app);
}
