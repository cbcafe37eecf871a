/* SPDX-License-Identifier: ISC */
/*
 * `cowbell build`: from an app's directory, or a container image, to an image of the store.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "image/image.h"
#include "lib/host/say.h"

#define MAX_ENV 256

enum {
	OPT_TAG = 1,
	OPT_OUTPUT,
	OPT_FROM,
	OPT_ENV,
	OPT_TIMEOUT,
	OPT_MAX_SIZE,
	OPT_MAX_ENTRIES,
	OPT_JSON,
	OPT_HELP
};

static const struct option_def build_options[] = {
	{OPT_TAG, 't', "tag", "NAME[:TAG]", "name of the image (the directory's name)"},
	{OPT_OUTPUT, 'o', "output", "FILE", "write it as an OCI archive, too; without -t, only that"},
	{OPT_FROM, 0, "from", "SOURCE",
	 "take a container image instead of an app: oci:DIR[:REF],\noci-archive:FILE or docker-archive:FILE"},
	{OPT_ENV, 'e', "env", "K=V", "environment variable of the image; K alone takes the value from here"},
	{OPT_TIMEOUT, 0, "timeout", "DURATION", "end a build step after this time (1h)"},
	{OPT_MAX_SIZE, 0, "max-size", "SIZE", "limit of the app, or of the image when it is unpacked (1G)"},
	{OPT_MAX_ENTRIES, 0, "max-entries", "N", "limit of its files and directories (100000)"},
	{OPT_JSON, 0, "json", NULL, "report as JSON, one object a line; the last is the image"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static int build_help(void)
{
	puts("Usage: cowbell build [OPTIONS] [DIR]\n\n"
	     "Makes an image of the app in DIR (.): finds out its language, puts the language's\n"
	     "runtime, its Debian packages (Aptfile, cowbell.toml) and the app together, and takes\n"
	     "the commands from its Procfile. Code of the app runs in a sandbox only.\n\nOptions:");
	options_help(build_options);
	puts("\nThen: cowbell run -p 8080:8080 image:NAME. More in cowbell-build(1).");
	return 0;
}

static int add_env(const char **env, int *n, const char *kv)
{
	const char *eq = strchr(kv, '=');
	size_t len = eq ? (size_t)(eq - kv) : strlen(kv);

	if (!len || isdigit((unsigned char)*kv))
		return say_fail(EXIT_OURS, "--env %s: must be NAME=VALUE or NAME", kv);
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)kv[i]) && kv[i] != '_')
			return say_fail(EXIT_OURS, "--env %s: must be NAME=VALUE or NAME", kv);
	if (*n == MAX_ENV)
		return say_fail(EXIT_OURS, "more than %d environment variables", MAX_ENV);
	if (!eq) {
		const char *value = getenv(kv);
		char *text;
		if (!value)
			return say_fail(EXIT_OURS, "--env %s: there is no such variable here", kv);
		if (asprintf(&text, "%s=%s", kv, value) < 0)
			return say_fail(EXIT_OURS, "out of memory");
		kv = text; /* lives as long as the process */
	}
	env[(*n)++] = kv;
	return 0;
}

static int check_dir(const char *dir)
{
	struct stat st;

	if (stat(dir, &st))
		return say_fail(EXIT_OURS, "%s: %m", *dir ? dir : "the directory's name is empty");
	return S_ISDIR(st.st_mode)
		       ? 0
		       : say_fail(EXIT_OURS, "%s: not a directory; cowbell build takes an app's directory",
				  dir);
}

int cmd_build(int argc, char **argv)
{
	/* not in the help: what `cowbell serve` keeps for its builds */
	if (argc == 2 && !strcmp(argv[1], "--worker"))
		return image_build_worker();

	static const char *env[MAX_ENV + 1];
	struct image_build b = {.env = env};
	struct options o = {.defs = build_options, .command = "build", .argc = argc, .next = 1, .argv = argv};
	int n_env = 0, id, status = 0;

	/* options may also follow the directory, as people type them */
	for (;;) {
		while (!status && (id = options_next(&o)) > 0)
			switch (id) {
			case OPT_TAG:
				b.tag = o.value;
				break;
			case OPT_OUTPUT:
				b.output = o.value;
				break;
			case OPT_FROM:
				b.from = o.value;
				break;
			case OPT_ENV:
				status = add_env(env, &n_env, o.value);
				break;
			case OPT_TIMEOUT:
				if (!parse_duration(o.value, &b.timeout_ns) || !b.timeout_ns)
					status = say_fail(
						EXIT_OURS,
						"--timeout %s: must be a duration such as 30s or 10m",
						o.value);
				break;
			case OPT_MAX_SIZE:
				status = option_max_size(o.value, &b.max_bytes);
				break;
			case OPT_MAX_ENTRIES:
				status = option_max_entries(o.value, &b.max_entries);
				break;
			case OPT_JSON:
				b.json = true;
				break;
			default:
				return build_help();
			}
		if (status || id < 0)
			return EXIT_OURS;
		if (o.next >= argc)
			break;
		if (b.dir)
			return say_fail(EXIT_OURS, "build: one directory, not also '%s'", argv[o.next]);
		b.dir = argv[o.next++];
	}
	if (b.from && b.dir)
		return say_fail(EXIT_OURS, "build: a directory or --from, not both");
	if (b.from && !b.tag)
		return say_fail(EXIT_OURS, "build --from: needs a name: -t NAME[:TAG]");
	if (b.from && n_env)
		return say_fail(
			EXIT_OURS,
			"build --from: the image keeps its own environment; give --env to cowbell run");
	if (!b.from && !b.dir)
		b.dir = ".";
	status = b.dir ? check_dir(b.dir) : 0;
	return status ? status : image_build(&b);
}
