/* SPDX-License-Identifier: ISC */
/*
 * `cowbell images`, `inspect`, `tag`, `rm`, `prune`: options and operands; the work is done in image/.
 *
 * These commands run no program, so their options may also come after names.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "image/image.h"
#include "lib/host/say.h"

enum { OPT_ALL = 1, OPT_QUIET, OPT_JSON, OPT_SHARED, OPT_FORCE, OPT_DRY_RUN, OPT_HELP };

/* What was given: options by their id, operands in order. */
struct given {
	bool has[OPT_HELP + 1];
	const char **names; /* NULL-terminated, malloc */
	int n;
};

/* 0, or an exit status after one line (or after the help: then *done). */
static int read_words(const struct option_def *defs, const char *command, const char *usage, int argc,
		      char **argv, struct given *g, bool *done)
{
	struct options o = {.defs = defs, .command = command, .argc = argc, .next = 1, .argv = argv};

	memset(g, 0, sizeof(*g));
	*done = false;
	g->names = calloc((size_t)argc + 1, sizeof(*g->names));
	if (!g->names)
		return say_fail(EXIT_OURS, "out of memory");
	for (bool only_names = false;;) {
		int before = o.next, id = only_names ? 0 : options_next(&o);
		if (id < 0)
			return EXIT_OURS;
		if (id == OPT_HELP) {
			printf("Usage: cowbell %s %s\n\n", command, usage);
			options_help(defs);
			*done = true;
			return 0;
		}
		if (id) {
			g->has[id] = true;
			continue;
		}
		only_names = only_names || o.next > before; /* it was `--` */
		if (o.next >= argc)
			return 0;
		g->names[g->n++] = argv[o.next++];
	}
}

/* From to `to` operands (-1: any number), or one line. */
static int check_count(const struct given *g, const char *command, const char *usage, int from, int to)
{
	if (g->n >= from && (to < 0 || g->n <= to))
		return 0;
	int first_line = (int)strcspn(usage, "\n");
	if (g->n < from)
		return say_fail(EXIT_OURS, "%s: a name is missing: cowbell %s %.*s", command, command,
				first_line, usage);
	return say_fail(EXIT_OURS, "%s: '%s' is too much: cowbell %s %.*s", command, g->names[to], command,
			first_line, usage);
}

/* Read, check and run. */
static int command(const struct option_def *defs, const char *name, const char *usage, int from, int to,
		   int argc, char **argv, int (*run)(const struct given *g))
{
	struct given g;
	bool done;
	int status = read_words(defs, name, usage, argc, argv, &g, &done);

	if (!status && !done)
		status = check_count(&g, name, usage, from, to);
	report_begin(g.has[OPT_JSON]);
	if (!status && !done)
		status = run(&g);
	status = report_end(g.has[OPT_JSON], status);
	free(g.names);
	return status;
}

static const struct option_def images_options[] = {
	{OPT_ALL, 'a', "all", NULL, "signatures too; with -q whole digests"},
	{OPT_QUIET, 'q', "quiet", NULL, "digests only"},
	{OPT_JSON, 0, "json", NULL, "as one JSON object; sizes in bytes"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static int run_images(const struct given *g)
{
	return image_list(g->has[OPT_JSON], g->has[OPT_QUIET], g->has[OPT_ALL]);
}

int cmd_images(int argc, char **argv)
{
	return command(
		images_options, "images",
		"[OPTIONS]\n\nLists the images of the store: what each takes on disk, and what of that no "
		"other image shares.",
		0, 0, argc, argv, run_images);
}

static const struct option_def inspect_options[] = {
	{OPT_SHARED, 's', "shared", NULL, "all names, and what other images share; reads all of them"},
	{OPT_JSON, 0, "json", NULL, "as a JSON list, with manifest and configuration"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static int run_inspect(const struct given *g)
{
	return image_inspect(g->names, g->has[OPT_JSON], g->has[OPT_SHARED]);
}

int cmd_inspect(int argc, char **argv)
{
	return command(inspect_options, "inspect", "NAME... [--shared] [--json]", 1, -1, argc, argv,
		       run_inspect);
}

static const struct option_def tag_options[] = {
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static int run_tag(const struct given *g)
{
	return image_tag(g->names[0], g->names[1]);
}

int cmd_tag(int argc, char **argv)
{
	return command(tag_options, "tag", "NAME NEWNAME[:TAG]", 2, 2, argc, argv, run_tag);
}

static const struct option_def rm_options[] = {
	{OPT_FORCE, 'f', "force", NULL, "no error for what is not there; all names of a digest"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static int run_rm(const struct given *g)
{
	return image_remove(g->names, g->has[OPT_FORCE]);
}

int cmd_rm(int argc, char **argv)
{
	return command(rm_options, "rm", "NAME... [-f]", 1, -1, argc, argv, run_rm);
}

static const struct option_def prune_options[] = {
	{OPT_ALL, 'a', "all", NULL, "also forget what earlier builds and imports remembered"},
	{OPT_DRY_RUN, 'n', "dry-run", NULL, "only say what would be removed"},
	{OPT_JSON, 0, "json", NULL, "as one JSON object"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static int run_prune(const struct given *g)
{
	return image_prune(g->has[OPT_ALL], g->has[OPT_DRY_RUN], g->has[OPT_JSON]);
}

int cmd_prune(int argc, char **argv)
{
	return command(prune_options, "prune",
		       "[OPTIONS]\n\nRemoves from the store what no name leads to. Waits for others who use "
		       "the store.",
		       0, 0, argc, argv, run_prune);
}
