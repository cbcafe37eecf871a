/* SPDX-License-Identifier: ISC */
/*
 * The configuration: defaults, then the file of --config, then options; each later one wins. The table of settings.c says all that there
 * is. The file is TOML, read strictly: a key that is not known is an error with its line and, if one is near, the key that was meant.
 *
 * It is read once; strings live as long as the process.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "lib/host/strings.h"
#include "lib/host/toml.h"
#include "platform/settings.h"

#define MAX_FILE_BYTES (1 << 20)

struct config config;

static bool new_admin_token;

bool config_new_admin_token(void)
{
	return new_admin_token;
}

static void take_defaults(void)
{
	char why[160];

	for (const struct setting *s = config_settings; s->key; s++)
		if (!setting_parse(s, &config, s->def, why))
			abort();
	for (const struct setting *s = limits_settings; s->key; s++)
		if (!setting_parse(s, &config.limits, s->def, why))
			abort();
}

/* --- the file ------------------------------------------------------------------------------------------- */

static int unknown(const char *file, const struct toml_entry *e, const struct setting *table, const char *key)
{
	const char *like = setting_like(table, key);

	if (like)
		return say_fail(EXIT_OURS, "serve: %s, line %d: there is no setting '%s'; did you mean '%s'?",
				file, e->line, key, like);
	return say_fail(EXIT_OURS,
			"serve: %s, line %d: there is no setting '%s' (all are told by: cowbell serve "
			"--print-config)",
			file, e->line, key);
}

/* Is this how such a setting is written in TOML? What is wrong, or NULL. */
static const char *wrong_type(const struct setting *s, enum toml_type t)
{
	if (s->type == SET_BOOL)
		return t == TOML_BOOL ? NULL : "must be true or false, without quotes";
	if (s->type == SET_COUNT)
		return t == TOML_INTEGER ? NULL : "must be a whole number, without quotes";
	if (s->type == SET_SIZE || s->type == SET_TIME)
		return t == TOML_INTEGER || t == TOML_STRING
			       ? NULL
			       : "must be a number or a text such as \"30s\" or \"512M\"";
	return t == TOML_STRING ? NULL : "must be a text in quotes";
}

/* A relative path in the file is meant from where the file is. */
static char *beside(const char *file, const char *value)
{
	const char *slash = strrchr(file, '/');

	if (!*value || *value == '/' || !slash)
		return xstrdup(value);
	return textf("%.*s/%s", (int)(slash - file), file, value);
}

static int take_entry(const char *file, const struct toml_entry *e)
{
	bool in_limits = !strncmp(e->path, "limits\x1f", 7);
	const struct setting *table = in_limits ? limits_settings : config_settings;
	const char *key = in_limits ? e->path + 7 : e->path, *wrong;
	const struct setting *s = setting_find(table, key);
	char why[160], *value;

	if (e->type == TOML_TABLE && !strcmp(e->path, "limits"))
		return 0;
	if (!s)
		return unknown(file, e, table, key);
	wrong = wrong_type(s, e->type);
	if (wrong)
		return say_fail(EXIT_OURS, "serve: %s, line %d: %s %s", file, e->line, key, wrong);
	value = s->type == SET_PATH ? beside(file, e->value) : xstrdup(e->value);
	bool good = setting_parse(s, in_limits ? (void *)&config.limits : (void *)&config, value, why);
	free(value);
	return good ? 0 : say_fail(EXIT_OURS, "serve: %s, line %d: %s %s", file, e->line, key, why);
}

static char *read_file(const char *path, size_t *n)
{
	FILE *f = fopen(path, "re");
	struct stat st;
	char *text;

	if (!f || fstat(fileno(f), &st)) {
		say("serve: %s: %s", path, strerror(errno));
		if (f)
			fclose(f);
		return NULL;
	}
	text = xcalloc(1, MAX_FILE_BYTES);
	*n = S_ISDIR(st.st_mode) ? 0 : fread(text, 1, MAX_FILE_BYTES, f);
	if (S_ISDIR(st.st_mode) || ferror(f) || *n == MAX_FILE_BYTES) {
		say("serve: %s: %s", path,
		    S_ISDIR(st.st_mode)	   ? "is a directory"
		    : *n == MAX_FILE_BYTES ? "is too large"
					   : "cannot be read");
		free(text);
		text = NULL;
	}
	fclose(f);
	return text;
}

static int take_file(const char *path)
{
	struct toml t = {0};
	size_t n = 0;
	char *text = read_file(path, &n);
	int status = 0;

	if (!text)
		return EXIT_OURS;
	if (!toml_parse(text, n, &t))
		status = say_fail(EXIT_OURS, "serve: %s, %s", path, t.error);
	for (size_t i = 0; !status && i < t.n; i++)
		status = take_entry(path, &t.v[i]);
	toml_free(&t);
	free(text);
	return status;
}

/* --- documentation -------------------------------------------------------------------------------------- */

/* Each line of `doc` behind `prefix`. */
static void print_doc(FILE *f, const char *prefix, const char *doc)
{
	while (doc && *doc) {
		size_t n = strcspn(doc, "\n");
		fprintf(f, "%s%.*s\n", prefix, (int)n, doc);
		doc += n + (doc[n] == '\n');
	}
}

static void print_table(FILE *f, const struct setting *s)
{
	for (; s->key; s++) {
		bool bare = s->type == SET_BOOL || s->type == SET_COUNT;
		if (s->doc)
			fprintf(f, "\n");
		print_doc(f, "# ", s->doc);
		if (s->choices)
			fprintf(f, "# One of: %s\n", s->choices);
		fprintf(f, bare ? "%s = %s\n" : "%s = \"%s\"\n", s->key, s->def);
	}
}

void config_print(FILE *f)
{
	fprintf(f, "# Configuration of `cowbell serve`: all settings with their defaults.\n"
		   "#   cowbell serve --config FILE\n"
		   "# Each is an option, too: build_timeout is --build-timeout, memory of [limits] is "
		   "--limit memory=1G.\n");
	print_table(f, config_settings);
	fprintf(f, "\n# What each app may use, unless an admin gave it limits of its own (PATCH "
		   "/apps/NAME/limits).\n[limits]\n");
	print_table(f, limits_settings);
}

static void option_name(const char *key, char out[64])
{
	snprintf(out, 64, "%s", !strcmp(key, "data_dir") ? "data" : key);
	for (char *p = out; *p; p++)
		if (*p == '_')
			*p = '-';
}

static void print_help(void)
{
	static const char *const value[] = {
		[SET_STRING] = "TEXT", [SET_PATH] = "PATH", [SET_LISTEN] = "[ADDR:]PORT",
		[SET_DOMAIN] = "NAME", [SET_CHOICE] = "",   [SET_BOOL] = "",
		[SET_COUNT] = "N",     [SET_SIZE] = "SIZE", [SET_TIME] = "TIME",
		[SET_EGRESS] = "RULES"};
	char name[64];

	printf("Usage: cowbell serve [OPTIONS]\n\n"
	       "Run a platform on this machine: push an app, get a URL. An app that nobody asks for takes no "
	       "memory;\n"
	       "the API is that of Heroku (Platform API v3), so that its tools work. Ctrl-C or SIGTERM ends "
	       "it gracefully.\n\n"
	       "Options:\n"
	       "  --config FILE\n        settings of this file; options win over it. As a service of "
	       "systemd: serve.toml of its\n        ConfigurationDirectory, if it is there\n"
	       "  --print-config\n        print a file with all settings, their defaults and what they mean\n"
	       "  --check\n        read the configuration, say what is wrong with it, and end\n"
	       "  --new-admin-token\n        make a new token for the admin (data directory: admin-token)\n"
	       "  --limit KEY=VALUE\n        a default limit of apps, such as memory=1G: those of [limits] "
	       "of the file\n");
	for (const struct setting *s = config_settings; s->key; s++) {
		option_name(s->key, name);
		printf("  --%s%s%s\n", s->type == SET_BOOL && !strcmp(s->def, "true") ? "no-" : "", name,
		       s->type == SET_BOOL ? ""
		       : s->choices	   ? textf(" %s", s->choices)
					   : textf(" %s", value[s->type]));
		print_doc(stdout, "        ", s->doc);
		if (*s->def && s->type != SET_BOOL)
			printf("        (default: %s)\n", s->def);
	}
	printf("  -h, --help\n        this\n");
}

/* --- options -------------------------------------------------------------------------------------------- */

static int take_limit(const char *kv)
{
	const char *eq = strchr(kv, '=');
	char *key = xstrndup(kv, eq ? (size_t)(eq - kv) : strlen(kv)), why[160];
	const struct setting *s = setting_find(limits_settings, key);
	int status = -1;

	if (!eq || !s)
		status = say_fail(EXIT_OURS, "serve: --limit %s: must be KEY=VALUE with a key of [limits]",
				  kv);
	else if (!setting_parse(s, &config.limits, eq + 1, why))
		status = say_fail(EXIT_OURS, "serve: --limit %s: %s", kv, why);
	free(key);
	return status;
}

/* The setting that an option means; *no: it begins with --no-. */
static const struct setting *option_setting(const char *name, size_t n, bool *no)
{
	char key[64];
	const struct setting *s;

	if (n >= sizeof(key))
		return NULL;
	memcpy(key, name, n);
	key[n] = 0;
	for (char *p = key; *p; p++)
		*p = *p == '-' ? '_' : *p;
	if (!strcmp(key, "data"))
		strcpy(key, "data_dir");
	*no = false;
	s = setting_find(config_settings, key);
	if (!s && !strncmp(key, "no_", 3)) {
		s = setting_find(config_settings, key + 3);
		*no = s && s->type == SET_BOOL;
		return *no ? s : NULL;
	}
	return s;
}

static int unknown_option(const char *arg)
{
	char key[64];
	const char *like;

	snprintf(key, sizeof(key), "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
	for (char *p = key; *p; p++)
		*p = *p == '-' ? '_' : *p;
	like = setting_like(config_settings, key);
	if (!like)
		return say_fail(EXIT_OURS, "serve: there is no option %s (see: cowbell serve --help)", arg);
	option_name(like, key);
	return say_fail(EXIT_OURS, "serve: there is no option %s; did you mean --%s?", arg, key);
}

struct options {
	char **v;
	int n, i;
	bool file_pass; /* only --config is taken */
	bool check, config_given;
};

/* The value of the option at v[i]: behind '=', or the next word; NULL after one line. */
static const char *option_value(struct options *o)
{
	const char *eq = strchr(o->v[o->i], '=');

	if (eq)
		return eq + 1;
	if (o->i + 1 < o->n)
		return o->v[++o->i];
	say("serve: %s needs a value", o->v[o->i]);
	return NULL;
}

static bool is(const char *arg, const char *name)
{
	size_t n = strlen(name);

	return !strncmp(arg, name, n) && (!arg[n] || arg[n] == '=');
}

static int take_setting(struct options *o)
{
	const char *arg = o->v[o->i], *value;
	char why[160];
	bool no = false;
	const struct setting *s =
		!strncmp(arg, "--", 2) ? option_setting(arg + 2, strcspn(arg + 2, "="), &no) : NULL;

	if (!s)
		return strncmp(arg, "--", 2) ? say_fail(EXIT_OURS,
							"serve: what is '%s'? It takes options only (see: "
							"cowbell serve --help)",
							arg)
					     : unknown_option(arg);
	if (s->type == SET_BOOL && !strchr(arg, '='))
		value = no ? "false" : "true";
	else
		value = option_value(o);
	if (!value)
		return EXIT_OURS;
	if (o->file_pass || setting_parse(s, &config, value, why))
		return -1;
	return say_fail(EXIT_OURS, "serve: %.*s %s", (int)strcspn(arg, "="), arg, why);
}

/* One option. -1: go on. */
static int take_option(struct options *o)
{
	const char *arg = o->v[o->i], *value;

	if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
		print_help();
		return 0;
	}
	if (!strcmp(arg, "--print-config")) {
		config_print(stdout);
		return 0;
	}
	if (!strcmp(arg, "--check")) {
		o->check = true;
		return -1;
	}
	if (!strcmp(arg, "--new-admin-token")) {
		new_admin_token = true;
		return -1;
	}
	if (!is(arg, "--config") && !is(arg, "--self") && !is(arg, "--limit"))
		return take_setting(o);
	value = option_value(o);
	if (!value)
		return EXIT_OURS;
	if (is(arg, "--config") && o->file_pass) {
		o->config_given = true;
		char *path = realpath(value, NULL);
		int status =
			path ? take_file(path) : say_fail(EXIT_OURS, "serve: %s: %s", value, strerror(errno));
		free(path);
		return status ? status : -1;
	}
	if (is(arg, "--self"))
		config.self = value;
	return is(arg, "--limit") && !o->file_pass ? take_limit(value) : -1;
}

/* --- what follows from it ------------------------------------------------------------------------------- */

/* What systemd made for us (StateDirectory=, ConfigurationDirectory=): the first of a list; NULL: nothing. */
static char *of_systemd(const char *variable)
{
	const char *v = getenv(variable);

	return v && *v == '/' ? xstrndup(v, strcspn(v, ":")) : NULL;
}

static int default_data_dir(void)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

	if (!config.data_dir)
		config.data_dir = of_systemd("STATE_DIRECTORY");
	if (config.data_dir)
		return -1;
	if (state && *state == '/')
		config.data_dir = textf("%s/cowbell/platform", state);
	else if (home && *home == '/')
		config.data_dir = textf("%s/.local/state/cowbell/platform", home);
	else
		return say_fail(
			EXIT_OURS,
			"serve: where is the data? Neither XDG_STATE_HOME nor HOME is set: give --data DIR");
	return -1;
}

static int check_together(void)
{
	if (!config.tls_cert != !config.tls_key)
		return say_fail(EXIT_OURS,
				"serve: tls_cert and tls_key belong together: one of them is missing");
	if (!config.listen && !config.listen_tls)
		return say_fail(EXIT_OURS, "serve: it would listen nowhere: set listen or listen_tls");
	if (!config.self)
		config.self = "/proc/self/exe";
	if (!config.memory_budget)
		config.memory_budget =
			(uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
	if (!config.max_builds)
		config.max_builds = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	return default_data_dir();
}

/* As a service without --config: the file of its configuration directory, if there is one. */
static int take_default_file(void)
{
	char *dir = of_systemd("CONFIGURATION_DIRECTORY"), *path = dir ? textf("%s/serve.toml", dir) : NULL;
	int status = path && !access(path, F_OK) ? take_file(path) : 0;

	free(dir);
	free(path);
	return status ? status : -1;
}

int config_open(int argc, char **argv)
{
	struct options o = {.v = argv, .n = argc, .file_pass = true};
	int status = -1;

	take_defaults();
	for (o.i = 1; status < 0 && o.i < argc; o.i++)
		status = take_option(&o);
	if (status < 0 && !o.config_given)
		status = take_default_file();
	o.file_pass = false;
	for (o.i = 1; status < 0 && o.i < argc; o.i++)
		status = take_option(&o);
	if (status < 0)
		status = check_together();
	if (status < 0 && o.check) {
		printf("The configuration is good.\n");
		return 0;
	}
	return status;
}
