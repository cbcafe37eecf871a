/* SPDX-License-Identifier: ISC */
/*
 * The program's environment, as containers have it: PATH, HOME, LANG and, on a terminal, TERM; then the lines of
 * --env-file, then -e. Nothing else of the host's leaks in.
 *
 * An --env-file is what docker reads: K=V a line, the value as it stands, quotes and all; K alone takes the value it has
 * here, if any; lines that begin with # and empty ones are passed over. A file with a NUL byte in it has K=V entries that end with
 * one, as they stand, line breaks and all: for programs that start us.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/host/say.h"

#define MAX_ENV 1024

static void put(struct strings *s, const char *kv)
{
	const char *here;
	char *whole = NULL;

	if (strchr(kv, '=')) {
		strings_set_env(s, kv);
	} else if ((here = getenv(kv)) &&
		   asprintf(&whole, "%s=%s", kv, here) > 0) { /* not set here: not set there */
		strings_set_env(s, whole);
		free(whole);
	}
}

int env_option(struct env *e, const char *v)
{
	if (!*v || *v == '=')
		return say_fail(EXIT_OURS, "-e %s: must be NAME=VALUE", v);
	put(&e->option, v);
	return 0;
}

static int file_line(struct env *e, const char *file, unsigned long n, char *line)
{
	char *p = line + strspn(line, " \t");

	p[strcspn(p, "\r\n")] = 0;
	if (!*p || *p == '#')
		return 0;
	size_t name = strcspn(p, "=");
	if (!name || strcspn(p, " \t") < name)
		return say_fail(EXIT_OURS,
				"--env-file %s: line %lu: must be NAME=VALUE, and a name has no blanks", file,
				n);
	put(&e->file, p);
	return 0;
}

/* An entry that ends with NUL. */
static int file_entry(struct env *e, const char *file, unsigned long n, const char *entry)
{
	if (!*entry)
		return 0;
	if (*entry == '=' || !strchr(entry, '='))
		return say_fail(EXIT_OURS, "--env-file %s: entry %lu: must be NAME=VALUE", file, n);
	put(&e->file, entry);
	return 0;
}

/* NUL if there is one in it, else the line's end. */
static int delimiter(FILE *f)
{
	char buf[4096];
	size_t n;
	bool nul = false;

	while (!nul && (n = fread(buf, 1, sizeof(buf), f)) > 0)
		nul = memchr(buf, 0, n);
	return fseek(f, 0, SEEK_SET) || !nul ? '\n' : 0; /* of a pipe there is no second look */
}

int env_file(struct env *e, const char *file)
{
	FILE *f = fopen(file, "re");
	char *line = NULL;
	size_t cap = 0;
	int status = 0;

	if (!f)
		return say_fail(EXIT_OURS, "--env-file %s: %s", file, strerror(errno));
	struct stat st;
	int end = !fstat(fileno(f), &st) && S_ISREG(st.st_mode) ? delimiter(f) : '\n';
	for (unsigned long n = 1; !status && getdelim(&line, &cap, end, f) > 0; n++)
		status = e->file.n > MAX_ENV
				 ? say_fail(EXIT_OURS, "--env-file %s: more than %d variables", file, MAX_ENV)
			 : end ? file_line(e, file, n, line)
			       : file_entry(e, file, n, line);
	if (!status && ferror(f))
		status = say_fail(EXIT_OURS, "--env-file %s: cannot be read: %s", file, strerror(errno));
	free(line);
	fclose(f);
	return status;
}

static void add(struct strings *to, const struct strings *from)
{
	for (size_t i = 0; i < from->n; i++)
		strings_set_env(to, from->v[i]);
}

int env_finish(struct env *e)
{
	const char *term = getenv("TERM");

	strings_add(&e->all, "PATH=" GUEST_PATH);
	strings_add(&e->all, "HOME=/root");
	strings_add(&e->all, "LANG=C.UTF-8");
	if (isatty(STDIN_FILENO) && term && strlen(term) < 100)
		strings_addf(&e->all, "TERM=%s", term);
	add(&e->own, &e->file);
	add(&e->own, &e->option);
	add(&e->all, &e->own);
	if (e->own.n > MAX_ENV)
		return say_fail(EXIT_OURS, "-e %s: more than %d variables", e->own.v[MAX_ENV], MAX_ENV);
	return 0;
}

bool env_own(const struct env *e, const char *name)
{
	return strings_env(&e->own, name);
}

void env_default(struct env *e, const char *name, const char *value)
{
	char *kv = NULL;

	if (asprintf(&kv, "%s=%s", name, value) > 0)
		strings_set_env(&e->all, kv);
	free(kv);
}
