/* SPDX-License-Identifier: ISC */
/*
 * Shell scripts. Found by main.sh, or by a Procfile whose command is sh, bash or make; runs with bash and the tools
 * that every Debian machine has (its essential packages, but perl). Others are named in Aptfile.
 */
#include <stdlib.h>
#include <string.h>

#include "image/build/detect.h"

static const char *found(const struct app *a)
{
	return app_has(a, "main.sh") ? "main.sh" : NULL;
}

static int fill(struct app *a)
{
	static const char *const tools[] = {"bash",	 "coreutils", "findutils",  "grep",
					    "sed",	 "mawk",      "tar",	    "gzip",
					    "diffutils", "hostname",  "util-linux", "make"};

	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++)
		app_runtime(a, tools[i]);
	a->plan->runtime = textf("shell");
	if (app_has(a, "main.sh"))
		app_process(a, "web", "bash main.sh");
	return 0;
}

const struct language lang_shell = {
	"Shell", "shell", "main.sh, or a Procfile with a command of sh, bash or make", " sh bash dash make ",
	found,	 fill};
