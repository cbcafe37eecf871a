/* SPDX-License-Identifier: ISC */
/*
 * What a stored image starts: which command, and which file of it.
 *
 * The command, by the first rule that fits:
 *   process types (LABEL_PROCESSES) and no words of the user   the command line of one of them, see command.c
 *   process types, and words                                   the words: a one-off command
 *   --entrypoint E                                              E and the words; the image's Cmd is dropped
 *   words                                                       Entrypoint and the words, which replace Cmd
 *   none                                                        Entrypoint and Cmd
 *
 * The program is looked up through all layers on the PATH that it will have, and checked down to the ELF file and its dynamic
 * linker, so that what is wrong with an image is said in words, before anything is started. The guest looks again
 * and has the last word. What lies on a volume of the host cannot be seen here and is left to the guest.
 */
#include "image/entry.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image/command.h"
#include "image/elf.h"
#include "lib/host/say.h"

#define DEFAULT_PATH	 "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define MAX_SCRIPT_DEPTH 5
#define MAX_PATH_DIRS	 256

/* --- which command ------------------------------------------------------------------------------ */

#define MAX_TOLD 20 /* process types in a message */

/* The command line of "TYPE=COMMAND", or NULL. */
static const char *process_command(const struct strings *types, const char *type)
{
	return strings_env(types, type);
}

static char *list_types(const struct strings *types)
{
	char *all = textf("%s", "");

	for (size_t i = 0; i < types->n && i <= MAX_TOLD; i++) {
		int n = (int)strcspn(types->v[i], "=");
		char *more = i == MAX_TOLD
				     ? textf("%s, ...", all)
				     : textf("%s%s%.*s", all, *all ? ", " : "", n < 64 ? n : 64, types->v[i]);
		free(all);
		all = more;
	}
	return all;
}

/* web; else the only one, besides `release`, which is for before the start. */
static const char *default_type(const struct strings *types, char *buf, size_t size)
{
	int n = 0;

	if (process_command(types, "web"))
		return "web";
	for (size_t i = 0; i < types->n; i++) {
		if (types->n > 1 && !strncmp(types->v[i], "release=", 8))
			continue;
		n++;
		snprintf(buf, size, "%.*s", (int)strcspn(types->v[i], "="), types->v[i]);
	}
	return n == 1 ? buf : NULL;
}

static int no_such_type(const struct entry *e, const struct strings *types, const char *type)
{
	char *all = list_types(types);
	int status = type ? say_fail(EXIT_OURS, "%s: no process type %s; it has: %s", e->image, type, all)
			  : say_fail(EXIT_OURS, "%s: say which with --process: %s", e->image, all);

	free(all);
	return status;
}

static bool is_executable(const struct entry *e, const char *path)
{
	int mode = overlay_mode(e->files, path);

	return mode >= 0 && S_ISREG(mode) && mode & 0111;
}

/* -p HOST:GUEST of a web process is where it is to listen, unless the user said PORT himself. */
static void set_port(struct entry *e)
{
	char kv[16];
	struct strings own = {.v = (char **)e->req->own_env};

	while (own.v && own.v[own.n])
		own.n++;
	if (!e->req->port || strings_env(&own, "PORT"))
		return;
	snprintf(kv, sizeof(kv), "PORT=%u", e->req->port);
	strings_set_env(e->env, kv);
}

static int take_line(struct entry *e, const char *type, const char *line)
{
	struct command c;
	const char *why = command_split(line, e->env, &c);

	if (why && !is_executable(e, "/bin/sh"))
		return say_fail(EXIT_NOT_FOUND,
				"%s: its %s command has %s, which takes a shell, and it has no /bin/sh: %s",
				e->image, type, why, line);
	if (why)
		command_by_shell(line, &c);
	if (!c.argv.n) {
		command_free(&c);
		return say_fail(EXIT_OURS, "%s: its %s command is empty", e->image, type);
	}
	if (e->req->verbose)
		say("%s: process type %s%s%s: %s", e->image, type, why ? ", by the shell for " : "",
		    why ? why : "", line);
	for (size_t i = 0; i < c.set.n; i++)
		strings_set_env(e->env, c.set.v[i]);
	e->argv = c.argv;
	strings_free(&c.set);
	return 0;
}

/* The image has process types. */
static int take_process(struct entry *e, const struct strings *types)
{
	const char *type = e->req->process, *line;
	char only[128];

	if (!type)
		type = default_type(types, only, sizeof(only));
	line = type ? process_command(types, type) : NULL;
	if (!line)
		return no_such_type(e, types, type);
	if (!strcmp(type, "web"))
		set_port(e);
	return take_line(e, type, line);
}

static void add_all(struct strings *to, const struct strings *from)
{
	for (size_t i = 0; i < from->n; i++)
		strings_add(to, from->v[i]);
}

int entry_command(struct entry *e)
{
	const struct image_request *req = e->req;
	const char *const *words = req->argv + 1;
	struct strings types = {0};
	int status = 0;

	oci_config_processes(e->config, &types);
	if (req->command) {
		strings_free(&types);
		if (*words || req->entrypoint || req->process)
			return say_fail(EXIT_OURS, "--command, --process, --entrypoint and words after the "
						   "image exclude each other");
		return take_line(e, "--command", req->command);
	}
	if (req->process && !types.n)
		status = say_fail(EXIT_OURS, "--process %s: %s has no process types", req->process, e->image);
	else if (req->process && (*words || req->entrypoint))
		status = say_fail(EXIT_OURS, "--process %s and a command exclude each other", req->process);
	else if (types.n && !*words && !req->entrypoint)
		status = take_process(e, &types);
	else {
		if (req->entrypoint && *req->entrypoint)
			strings_add(&e->argv, req->entrypoint);
		else if (!req->entrypoint && !types.n)
			add_all(&e->argv, &e->config->entrypoint);
		for (const char *const *w = words; *w; w++)
			strings_add(&e->argv, *w);
		if (!*words && !req->entrypoint)
			add_all(&e->argv, &e->config->cmd);
	}
	strings_free(&types);
	if (!status && (!e->argv.n || !*e->argv.v[0]))
		status =
			say_fail(EXIT_OURS, "%s: has no command of its own; give one: cowbell run %s COMMAND",
				 e->image, req->program);
	return status;
}

void entry_free(struct entry *e)
{
	strings_free(&e->argv);
	free(e->exe);
	e->exe = NULL;
}

/* --- which file ------------------------------------------------------------------------------------- */

/* Does the path lie on a directory of the host? */
static bool on_volume(const struct entry *e, const char *path)
{
	for (const char *const *v = e->req->volumes; v && *v; v++) {
		size_t n = strlen(*v);
		if (!strncmp(*v, path, n) && path[n] == '/')
			return true;
	}
	return false;
}

static char *absolute(const struct entry *e, const char *path)
{
	bool root = !e->workdir[1];

	return *path == '/' ? textf("%s", path) : textf("%s/%s", root ? "" : e->workdir, path);
}

static bool may_execute(const struct entry *e, const struct erofs_inode *i)
{
	const struct image_user *u = e->user;

	if (!u->uid)
		return i->mode & 0111;
	if (i->uid == u->uid)
		return i->mode & 0100;
	if (i->gid == u->gid)
		return i->mode & 0010;
	for (int g = 0; g < u->n_groups; g++)
		if (u->groups[g] == i->gid)
			return i->mode & 0010;
	return i->mode & 0001;
}

static int64_t read_part(void *arg, void *buf, uint64_t n, uint64_t off)
{
	void **a = arg;

	return overlay_read(a[0], a[1], buf, n, off);
}

/* The file of a path, if it can be executed. shown: what to call it. */
static int executable(const struct entry *e, const char *shown, const char *path, struct overlay_file *f)
{
	int err = overlay_lookup(e->files, path, f);

	if (err == -ENOENT || err == -ENOTDIR)
		return say_fail(EXIT_NOT_FOUND, "%s: %s: no such file in the image", e->image, shown);
	if (err)
		return say_fail(EXIT_CANNOT_EXEC, "%s: %s: %s", e->image, shown,
				err == -ELOOP ? "its links lead in a circle" : "the image is damaged there");
	if (S_ISDIR(f->i.mode))
		return say_fail(EXIT_CANNOT_EXEC, "%s: %s: is a directory", e->image, shown);
	if (!S_ISREG(f->i.mode) || !(f->i.mode & 0111))
		return say_fail(EXIT_CANNOT_EXEC, "%s: %s: is not an executable file", e->image, shown);
	if (!may_execute(e, &f->i))
		return say_fail(EXIT_CANNOT_EXEC, "%s: %s: user %u may not execute it", e->image, shown,
				e->user->uid);
	return 0;
}

static int check_elf(const struct entry *e, const char *shown, struct overlay_file *f)
{
	void *arg[] = {(void *)e->files, f};
	struct elf_bytes bytes = {read_part, arg, f->i.size};
	struct elf_info info;
	const char *why = elf_read_bytes(&bytes, &info);
	int status = 0;

	if (why)
		status = say_fail(EXIT_CANNOT_EXEC, "%s: %s: %s", e->image, shown, why);
	else if (info.interp && !is_executable(e, info.interp))
		status = say_fail(EXIT_CANNOT_EXEC, "%s: %s: its dynamic linker %s is not in the image",
				  e->image, shown, info.interp);
	elf_free(&info);
	return status;
}

/* The interpreter of a #! line into `interp`; false: it is no script. */
static bool shebang(const struct entry *e, const struct overlay_file *f, char *interp, size_t size)
{
	char head[256];
	int64_t n = overlay_read(e->files, f, head, sizeof(head) - 1, 0);

	if (n < 2 || head[0] != '#' || head[1] != '!')
		return false;
	head[n] = 0;
	char *p = head + 2 + strspn(head + 2, " \t");
	snprintf(interp, size, "%.*s", (int)strcspn(p, " \t\r\n"), p);
	return true;
}

/* Down the #! lines to an ELF file. */
static int check(const struct entry *e, const char *path)
{
	struct overlay_file f;
	char interp[256], *at;
	int status = executable(e, path, path, &f);

	for (int depth = 0; !status && shebang(e, &f, interp, sizeof(interp)); depth++) {
		if (depth == MAX_SCRIPT_DEPTH)
			return say_fail(EXIT_CANNOT_EXEC,
					"%s: %s: its #! lines lead from script to script for ever", e->image,
					path);
		if (!*interp)
			return say_fail(EXIT_CANNOT_EXEC, "%s: %s: its #! line names no interpreter",
					e->image, path);
		at = absolute(e, interp);
		if (on_volume(e, at)) {
			free(at);
			return 0;
		}
		if (!is_executable(e, at))
			status = say_fail(EXIT_CANNOT_EXEC, "%s: %s: its interpreter %s is not in the image",
					  e->image, path, interp);
		else
			status = executable(e, interp, at, &f);
		free(at);
	}
	return status ? status : check_elf(e, path, &f);
}

/* As execvp(3): the first file on PATH that can be executed; else tell of one that cannot. malloc, or NULL. */
static char *search(const struct entry *e, const char *word, bool *found)
{
	const char *path = strings_env(e->env, "PATH");

	*found = false;
	int dirs = 0;
	for (const char *p = path && *path ? path : DEFAULT_PATH; p && dirs++ < MAX_PATH_DIRS;
	     p = strchr(p, ':') ? strchr(p, ':') + 1 : NULL) {
		size_t n = strcspn(p, ":");
		char *full = textf("%.*s%s%s", (int)n, p, n ? "/" : "", word), *abs = absolute(e, full);
		struct overlay_file f;
		free(full);
		if (!overlay_lookup(e->files, abs, &f) && S_ISREG(f.i.mode)) {
			*found = true;
			if (may_execute(e, &f.i))
				return abs;
		}
		free(abs);
	}
	return NULL;
}

int entry_program(struct entry *e)
{
	const char *word = e->argv.v[0];
	bool found;

	if (strchr(word, '/')) {
		e->exe = absolute(e, word);
	} else {
		e->exe = search(e, word, &found);
		if (!e->exe && found)
			return say_fail(EXIT_CANNOT_EXEC,
					"%s: %s: found on the image's PATH, but not executable", e->image,
					word);
		if (!e->exe)
			return say_fail(EXIT_NOT_FOUND, "%s: %s: not found on the image's PATH", e->image,
					word);
	}
	return on_volume(e, e->exe) ? 0 : check(e, e->exe);
}
