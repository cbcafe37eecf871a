/* SPDX-License-Identifier: ISC */
/*
 * Which language an app is in, and with that the plan of its build. Heroku's manner:
 *
 *   1. cowbell.toml and app.json are read (env, packages, name, ports), then the Procfile: it always wins the command.
 *   2. The first language of the table below that finds its file in the app's directory is the one. Where several match it is
 *      the one whose interpreter the Procfile's command starts, else the order decides: it is Heroku's for the languages that Heroku has, but Python, PHP and Java come after Ruby and Node as there, and
 *      compiled languages before C, whose Makefile many others have, too. cowbell.toml's [build] language overrules it.
 *   3. Nothing found: the command of the Procfile tells (python3 x.py, or a program in the tree), else a static site by
 *      its index.html, else an error with all that was looked for.
 *   4. The language fills in its packages, steps and default process.
 *
 * The directory is hostile: names are opened below it only (openat2, RESOLVE_BENEATH), FIFOs do not block, sizes are bounded.
 */
#include "image/build/detect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "image/elf.h"
#include "lib/host/ignore.h"
#include "lib/host/say.h"

static const struct language *const languages[] = {
	&lang_ruby,    &lang_node, &lang_python, &lang_java,	&lang_php,
	&lang_perl,    &lang_lua,  &lang_go,	 &lang_rust,	&lang_ocaml,
	&lang_haskell, &lang_c,	   &lang_shell,	 &lang_program, &lang_static,
};
#define MAX_LISTED  10000
#define MAX_NEEDS   2000
#define N_LANGUAGES (sizeof(languages) / sizeof(languages[0]))

/* --- the app's files ------------------------------------------------------------------------------------------ */

static int open_below(const struct app *a, const char *rel, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC |
				    (flags & O_PATH ? 0 : O_NONBLOCK)), /* openat2 refuses both */
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};

	return (int)syscall(SYS_openat2, a->fd, rel, &how, sizeof(how));
}

static bool kind_is(const struct app *a, const char *rel, mode_t kind)
{
	struct stat st;
	/* most names are not there: one call that fails is all they cost */
	if (fstatat(a->fd, rel, &st, AT_SYMLINK_NOFOLLOW))
		return false;
	if ((st.st_mode & S_IFMT) == kind && !strchr(rel, '/'))
		return true;
	int fd = open_below(a, rel, O_PATH);
	bool good = fd >= 0 && !fstat(fd, &st) && (st.st_mode & S_IFMT) == kind;

	if (fd >= 0)
		close(fd);
	return good;
}

bool app_has(const struct app *a, const char *rel)
{
	return kind_is(a, rel, S_IFREG);
}

bool app_has_dir(const struct app *a, const char *rel)
{
	return kind_is(a, rel, S_IFDIR);
}

const char *app_first(const struct app *a, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (app_has(a, names[i]))
			return names[i];
	return NULL;
}

char *app_read(const struct app *a, const char *rel, size_t *n)
{
	struct stat st;
	int fd = open_below(a, rel, O_RDONLY);
	char *text = NULL;
	size_t have = 0;

	if (fd < 0)
		return NULL;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size <= APP_MAX_FILE)
		text = malloc((size_t)st.st_size + 1);
	while (text && have < (size_t)st.st_size) {
		ssize_t r = read(fd, text + have, (size_t)st.st_size - have);
		if (r <= 0)
			break;
		have += (size_t)r;
	}
	if (text)
		text[have] = 0;
	if (n)
		*n = have;
	close(fd);
	return text;
}

json_t *app_json(const struct app *a, const char *rel, int *status)
{
	json_error_t e;
	size_t n;
	char *text = app_read(a, rel, &n);

	*status = 0;
	if (!text) {
		if (app_has(a, rel))
			*status = out_fail(EXIT_OURS, "%s cannot be read, or is larger than 16 MiB", rel);
		return NULL;
	}
	json_t *o = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
	free(text);
	if (!o) {
		*status = out_fail(EXIT_OURS, "%s, line %d: not JSON: %s", rel, e.line, e.text);
	} else if (!json_is_object(o)) {
		json_decref(o);
		o = NULL;
		*status = out_fail(EXIT_OURS, "%s: not a JSON object", rel);
	}
	return o;
}

void app_list(const struct app *a, const char *rel, const char *pattern, bool fold, struct strings *out)
{
	int fd = open_below(a, rel, O_RDONLY | O_DIRECTORY);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d)) && out->n < MAX_LISTED;)
		if (!fnmatch(pattern, e->d_name, FNM_PERIOD | (fold ? FNM_CASEFOLD : 0)))
			strings_add(out, e->d_name);
	closedir(d);
	strings_sort(out);
}

char *app_glob(const struct app *a, const char *rel, const char *pattern, bool fold)
{
	struct strings names = {0};

	app_list(a, rel, pattern, fold, &names);
	char *first = names.n ? textf("%s", names.v[0]) : NULL;
	strings_free(&names);
	return first;
}

bool app_is_elf(const struct app *a, const char *rel)
{
	int fd = open_below(a, rel, O_RDONLY);
	struct stat st;
	bool good = fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && elf_magic(fd);

	if (fd >= 0)
		close(fd);
	return good;
}

/* --- the plan ------------------------------------------------------------------------------------------------- */

void app_process(struct app *a, const char *type, const char *command)
{
	if (!a->said_processes && !strings_env(&a->plan->processes, type))
		strings_addf(&a->plan->processes, "%s=%s", type, command);
}

struct need *app_need(struct app *a, const char *file, const char *name, const char *advice)
{
	struct need *n = calloc(1, sizeof(*n));

	if (!n)
		exit(say_fail(EXIT_OURS, "out of memory"));
	if (++a->n_needs > MAX_NEEDS)
		exit(out_fail(EXIT_OURS, "%s: more than %d requirements that the app does not bring", file,
			      MAX_NEEDS));
	n->file = textf("%s", file);
	n->name = textf("%s", name);
	n->advice = textf("%s", advice);
	*(a->last_need ? &a->last_need->next : &a->plan->needs) = n;
	return a->last_need = n;
}

void need_path(struct need *n, const char *fmt, ...)
{
	va_list ap;
	char *path = NULL;

	va_start(ap, fmt);
	if (vasprintf(&path, fmt, ap) < 0)
		exit(say_fail(EXIT_OURS, "out of memory"));
	va_end(ap);
	strings_add(&n->paths, path);
	free(path);
}

void app_env(struct app *a, const char *kv)
{
	char *name = textf("%.*s", (int)strcspn(kv, "="), kv);

	if (!strings_env(&a->plan->env, name))
		strings_add(&a->plan->env, kv);
	free(name);
}

void app_runtime(struct app *a, const char *package)
{
	strings_add_once(&a->plan->runtime_packages, package);
}

const char *app_pick_package(const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *v = debs_version(names[i]);
		free(v);
		if (v)
			return names[i];
	}
	return names[n - 1];
}

void app_link(struct app *a, const char *names_paths)
{
	strings_add_once(&a->plan->links, names_paths);
}

bool command_word(const char *p, char *buf, size_t size)
{
	for (;;) {
		p += strspn(p, " \t");
		size_t n = strcspn(p, " \t");
		if (!n || n >= size)
			return false;
		memcpy(buf, p, n);
		buf[n] = 0;
		char *eq = strchr(buf, '=');
		bool assignment = eq && valid_env_name(buf, (size_t)(eq - buf));
		if (!assignment && strpbrk(buf, "|&;<>()`$'\"\\*?[]{}~!#"))
			return false;
		if (!assignment && strcmp(buf, "exec") && strcmp(buf, "env"))
			return true;
		p += n;
	}
}

/* --- which language -------------------------------------------------------------------------------------------- */

static const struct language *by_word(const char *word)
{
	for (size_t i = 0; i < N_LANGUAGES; i++)
		if (!strcmp(languages[i]->word, word))
			return languages[i];
	return NULL;
}

/* What the user's own command starts: `python3 bot.py` is enough to know the language. */
static const struct language *by_command(const struct app *a, const char **why)
{
	const struct language *shell = NULL; /* it starts other things: the last choice */
	char word[256], spaced[260];

	for (size_t p = 0; p < a->plan->processes.n; p++) {
		const char *command = strchr(a->plan->processes.v[p], '=') + 1;
		if (!command_word(command, word, sizeof(word)))
			continue;
		snprintf(spaced, sizeof(spaced), " %s ", word);
		for (size_t i = 0; i < N_LANGUAGES; i++)
			if (languages[i]->commands && strstr(languages[i]->commands, spaced)) {
				*why = "by the command of the Procfile";
				if (languages[i] != &lang_shell)
					return languages[i];
				shell = languages[i];
			}
	}
	return shell;
}

static const struct language *pick(const struct app *a, const char **why)
{
	const struct language *l = NULL;

	*why = "Staticfile";
	if (app_has(a, "Staticfile"))
		return &lang_static; /* somebody wrote it for this */
	l = by_command(a, why);
	if (l && (*why = l->found(a)))
		return l; /* of several that match, the one that the command is in */
	for (size_t i = 0; i < N_LANGUAGES - 2; i++)
		if ((*why = languages[i]->found(a)))
			return languages[i];
	if ((*why = lang_program.found(a)))
		return &lang_program;
	l = by_command(a, why);
	if (l)
		return l;
	*why = lang_static.found(a);
	return *why ? &lang_static : NULL;
}

static int nothing_found(const struct app *a)
{
	struct strings lines = {0};

	for (size_t i = 0; i < N_LANGUAGES; i++)
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): the table has no empty entry */
		strings_addf(&lines, "%-12s %s", languages[i]->name, languages[i]->looked_for);
	char *text = textf("No app was found in '%s'. Looked for:", a->dir);
	for (size_t i = 0; i < lines.n; i++) {
		char *more = textf("%s\n  %s", text, lines.v[i]);
		free(text);
		text = more;
	}
	int status = out_fail(
		EXIT_OURS,
		"%s\nOr say it in cowbell.toml: [build] language, runtime, packages; [processes] web", text);
	free(text);
	strings_free(&lines);
	return status;
}

/* .slugignore and .dockerignore. */
static void read_ignore(struct app *a)
{
	static const struct {
		const char *file;
		char kind;
	} files[] = {{".slugignore", 's'}, {".dockerignore", 'd'}};

	for (size_t i = 0; i < 2; i++) {
		char *text = app_read(a, files[i].file, NULL);
		if (text)
			ignore_parse(&a->plan->skip, files[i].kind, text);
		free(text);
	}
}

static int no_process(const struct app *a)
{
	return out_fail(EXIT_OURS,
			"%s app without a command: nothing says what to run.\nAdd a Procfile with a line "
			"such as 'web: COMMAND'",
			a->plan->language);
}

static int detect_in(struct app *a)
{
	char word[32] = "";
	const char *why = "cowbell.toml";
	int status = read_procfile(a);

	if (!status)
		status = read_cowbell_toml(a, word);
	if (!status)
		status = read_appjson(a);
	if (!status)
		status = read_aptfile(a);
	if (status)
		return status;
	read_ignore(a);
	const struct language *l = word[0] ? by_word(word) : pick(a, &why);
	if (!l && word[0])
		return out_fail(
			EXIT_OURS,
			"cowbell.toml: [build] language = \"%s\" is none of those known: ruby, node, python, "
			"java, php, perl, lua, go, rust, ocaml, haskell, c, shell, program, static",
			word);
	if (!l)
		return nothing_found(a);
	a->plan->language = l->name;
	out_step("%s app detected (%s)", l->name, why);
	status = l->fill(a);
	if (!status && !a->plan->processes.n && !a->plan->find_program)
		status = no_process(a);
	return status;
}

int plan_detect(const char *dir, struct plan *p)
{
	struct app a = {.dir = dir, .plan = p};

	a.fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (a.fd < 0)
		return out_fail(EXIT_OURS, "%s: %s", dir, strerror(errno));
	int status = detect_in(&a);
	close(a.fd);
	return status;
}
