/* SPDX-License-Identifier: ISC */
/*
 * cowbell.toml, what an app says of its build, and Aptfile, the Debian packages it needs. All of cowbell.toml:
 *
 *   name = "shop"                         description = "..."
 *   ports = [8080, "53/udp"]              replaces 8080/tcp of a web process
 *   [build]
 *   language = "python"                   instead of detection
 *   runtime = "python3"                   package(s) of the runtime layer, instead of the language's own
 *   packages = ["python3-flask"]          Debian packages, as in Aptfile
 *   include = ["app.py", "static"]        only these paths go into the image
 *   exclude = ["docs/", "*.psd"]          as lines of .slugignore
 *   [env]                                 K = "value", defaults of the image
 *   [processes]                           web = "python3 app.py"; the Procfile's lines win over these
 *
 * A key that is not known is an error with its line: a misspelt one would be silence otherwise.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/detect.h"
#include "lib/host/ignore.h"
#include "lib/host/say.h"
#include "lib/host/toml.h"

#define FILE_NAME    "cowbell.toml"
#define MAX_PACKAGES 500 /* of an app; what they depend on comes on top */

bool valid_package(const char *s)
{
	size_t n = strlen(s);

	if (n < 2 || n > 100 || !isalnum((unsigned char)*s))
		return false;
	return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == n;
}

static int add_package(struct strings *out, const char *file, int line, const char *name)
{
	if (!valid_package(name))
		return out_fail(EXIT_OURS, "%s, line %d: '%s' is no name of a Debian package", file, line,
				name);
	if (out->n == MAX_PACKAGES)
		return out_fail(EXIT_OURS, "%s, line %d: more than %d packages", file, line, MAX_PACKAGES);
	strings_add_once(out, name);
	return 0;
}

static int wrong(const struct toml_entry *e, const char *what)
{
	return out_fail(EXIT_OURS, FILE_NAME ", line %d: %s", e->line, what);
}

/* The strings of an array, or one string. */
static int list(const struct toml *t, const char *path, struct strings *out)
{
	const struct toml_entry *e = toml_find(t, path), *x;
	const char *key;
	size_t at = 0;

	if (!e)
		return 0;
	if (e->type == TOML_STRING) {
		strings_add(out, e->value);
		return 0;
	}
	if (e->type != TOML_ARRAY)
		return wrong(e, "must be a list of strings");
	while ((x = toml_next(t, path, &at, &key))) {
		if (x->type != TOML_STRING)
			return wrong(x, "must be a string");
		strings_add(out, x->value);
	}
	return 0;
}

static int text(const struct toml *t, const char *path, char **out)
{
	const struct toml_entry *e = toml_find(t, path);

	if (!e)
		return 0;
	if (e->type != TOML_STRING)
		return wrong(e, "must be a string in quotes");
	free(*out);
	*out = textf("%s", e->value);
	return 0;
}

static int packages(const struct toml *t, const char *path, struct strings *out)
{
	struct strings names = {0};
	int status = list(t, path, &names);

	for (size_t i = 0; !status && i < names.n; i++)
		status = add_package(out, FILE_NAME, toml_find(t, path)->line, names.v[i]);
	strings_free(&names);
	return status;
}

static int env(struct app *a, const struct toml *t)
{
	const struct toml_entry *e;
	const char *key;
	size_t at = 0;

	while ((e = toml_next(t, "env", &at, &key))) {
		if (!valid_env_name(key, strlen(key)))
			return wrong(e, "no name of an environment variable");
		if (e->type == TOML_TABLE || e->type == TOML_ARRAY)
			return wrong(e, "an environment variable must be a string");
		char *kv = textf("%s=%s", key, e->value);
		app_env(a, kv);
		free(kv);
	}
	return 0;
}

static int processes(struct app *a, const struct toml *t)
{
	const struct toml_entry *e;
	const char *key;
	size_t at = 0;

	while ((e = toml_next(t, "processes", &at, &key))) {
		if (!valid_process_type(key, strlen(key)))
			return wrong(e, "a process type is made of letters, digits, - and _");
		if (e->type != TOML_STRING || !e->value[0] || strchr(e->value, '\n'))
			return wrong(e, "a command must be a string of one line");
		if (!strings_env(&a->plan->processes, key))
			strings_addf(&a->plan->processes, "%s=%s", key, e->value);
		a->said_processes = true;
	}
	return 0;
}

static int ports(struct app *a, const struct toml *t)
{
	const struct toml_entry *top = toml_find(t, "ports"), *e;
	const char *key;
	size_t at = 0;

	if (top && top->type != TOML_ARRAY)
		return wrong(top, "ports must be a list such as [8080, \"53/udp\"]");
	while (top && (e = toml_next(t, "ports", &at, &key))) {
		char *end;
		unsigned long port = strtoul(e->value, &end, 10);
		bool udp = !strcmp(end, "/udp");
		if (!isdigit((unsigned char)e->value[0]) || !port || port > 65535 ||
		    (*end && strcmp(end, "/tcp") && !udp))
			return wrong(e, "a port is a number from 1 to 65535, or such a \"NUMBER/udp\"");
		char *p = textf("%lu/%s", port, udp ? "udp" : "tcp");
		strings_add_once(&a->plan->ports, p);
		free(p);
	}
	return 0;
}

static int includes(struct app *a, const struct toml *t)
{
	struct strings rules = {0}, paths = {0};
	int status = list(t, "build/exclude", &rules);

	for (size_t i = 0; !status && i < rules.n; i++)
		ignore_parse(&a->plan->skip, 's', rules.v[i]);
	if (!status)
		status = list(t, "build/include", &paths);
	for (size_t i = 0; !status && i < paths.n; i++) {
		char *p = paths.v[i];
		size_t n = strlen(p);
		while (n && p[n - 1] == '/')
			p[--n] = 0;
		if (!n || *p == '/' || strstr(p, "..") || strpbrk(p, "*?["))
			status = wrong(toml_find(t, "build/include"),
				       "include names files and directories of the app, without patterns");
		else
			strings_add(&a->plan->take, p);
	}
	strings_free(&rules);
	strings_free(&paths);
	return status;
}

static int known_keys(const struct toml *t)
{
	static const char *const top[] = {"name", "description", "ports", "build", "env", "processes"};
	static const char *const build[] = {"language", "runtime", "packages", "include", "exclude"};
	const struct toml_entry *e;
	const char *key;

	for (size_t at = 0; (e = toml_next(t, "", &at, &key));) {
		size_t i = 0;
		while (i < 6 && strcmp(top[i], key))
			i++;
		if (i == 6)
			return wrong(
				e,
				"not known; there are name, description, ports, [build], [env], [processes]");
		if (i >= 3 && e->type != TOML_TABLE)
			return wrong(e, "must be a table, such as [build]");
	}
	for (size_t at = 0; (e = toml_next(t, "build", &at, &key));) {
		size_t i = 0;
		while (i < 5 && strcmp(build[i], key))
			i++;
		if (i == 5)
			return wrong(e, "not known in [build]; there are language, runtime, packages, "
					"include, exclude");
	}
	return 0;
}

static int apply(struct app *a, const struct toml *t, char language[32])
{
	struct plan *p = a->plan;
	char *word = NULL;
	int status = known_keys(t);

	if (!status)
		status = text(t, "name", &p->name);
	if (!status)
		status = text(t, "description", &p->description);
	if (!status)
		status = text(t, "build/language", &word);
	if (word)
		snprintf(language, 32, "%s", word[0] ? word : "?");
	free(word);
	if (!status)
		status = packages(t, "build/packages", &p->packages);
	if (!status)
		status = packages(t, "build/runtime", &p->runtime_packages);
	if (!status)
		status = includes(a, t);
	if (!status)
		status = env(a, t);
	if (!status)
		status = processes(a, t);
	if (!status)
		status = ports(a, t);
	return status;
}

int read_cowbell_toml(struct app *a, char language[32])
{
	struct toml t = {0};
	size_t n;
	char *s = app_read(a, FILE_NAME, &n);

	if (!s)
		return app_has(a, FILE_NAME)
			       ? out_fail(EXIT_OURS, FILE_NAME " cannot be read, or is larger than 16 MiB")
			       : 0;
	int status = toml_parse(s, n, &t) ? apply(a, &t, language)
					  : out_fail(EXIT_OURS, FILE_NAME ", %s", t.error);
	toml_free(&t);
	free(s);
	return status;
}

int read_aptfile(struct app *a)
{
	char *s = app_read(a, "Aptfile", NULL), *rest = s;
	int line = 1,
	    status = s || !app_has(a, "Aptfile")
			     ? 0
			     : out_fail(EXIT_OURS, "Aptfile cannot be read, or is larger than 16 MiB");

	for (char *p; !status && (p = strsep(&rest, "\n")); line++) {
		p[strcspn(p, "#")] = 0;
		for (char *word; !status && (word = strsep(&p, " \t\r,"));) {
			if (!*word)
				continue;
			if (*word == ':' || strstr(word, "://"))
				status = out_fail(EXIT_OURS,
						  "Aptfile, line %d: '%s': repositories and URLs are not "
						  "taken, only names of Debian packages",
						  line, word);
			else
				status = add_package(&a->plan->packages, "Aptfile", line, word);
		}
	}
	free(s);
	return status;
}
