/* SPDX-License-Identifier: ISC */
/* Commands that start no program: options may come before and after operands, and all is read before anything is done. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "lib/host/say.h"

/* 0, or an exit status after one line; *done after the help. */
static int read_words(const struct option_def *defs, const char *name, const char *usage, int argc,
		      char **argv, struct words *w, bool *done)
{
	struct options o = {.defs = defs, .command = name, .argc = argc, .next = 1, .argv = argv};

	w->names = calloc((size_t)argc + 1, sizeof(*w->names));
	if (!w->names)
		return say_fail(EXIT_OURS, "out of memory");
	for (bool only_names = false;;) {
		int before = o.next, id = only_names ? 0 : options_next(&o);

		if (id < 0)
			return EXIT_OURS;
		if (id == 1) {
			printf("Usage: cowbell %s %s\n\n", name, usage);
			options_help(defs);
			*done = true;
			return 0;
		}
		if (id) {
			w->has[id] = true;
			w->value[id] = o.value;
			if (o.value)
				strings_add(&w->all[id], o.value);
			continue;
		}
		only_names = only_names || o.next > before; /* it was `--` */
		if (o.next >= argc)
			return 0;
		w->names[w->n++] = argv[o.next++];
	}
}

static bool wants_json(const struct option_def *defs, const struct words *w)
{
	for (; defs->id; defs++)
		if (!strcmp(defs->name, "json"))
			return w->has[defs->id];
	return false;
}

int words_command(const struct option_def *defs, const char *name, const char *usage, int from, int to,
		  int argc, char **argv, int (*run)(const struct words *w))
{
	struct words w = {0};
	bool done = false;
	int line = (int)strcspn(usage, "\n"), status = read_words(defs, name, usage, argc, argv, &w, &done);

	if (!status && !done && w.n < from)
		status = say_fail(EXIT_OURS, "%s: a name is missing: cowbell %s %.*s", name, name, line,
				  usage);
	else if (!status && !done && to >= 0 && w.n > to)
		status = say_fail(EXIT_OURS, "%s: '%s' is too much: cowbell %s %.*s", name, w.names[to], name,
				  line, usage);
	else if (!status && !done) {
		bool json = wants_json(defs, &w);

		report_begin(json);
		status = report_end(json, run(&w));
	}
	free(w.names);
	for (int i = 0; i < WORDS_OPTIONS; i++)
		strings_free(&w.all[i]);
	if (fflush(stdout))
		status = say_fail(EXIT_OURS, "%s: cannot write the output", name);
	return status;
}
