/* SPDX-License-Identifier: ISC */
/*
 * `cowbell cache`: where collected files are kept, how much they take, and away with them.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/prefix.h"
#include "image/image.h"
#include "lib/host/say.h"

int cmd_cache(int argc, char **argv)
{
	char path[4096];
	uint64_t bytes;
	unsigned layers;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		puts("Usage: cowbell cache [clear]\n\nShows where the files that 'cowbell run PROGRAM' "
		     "collected "
		     "are cached, and how much\nthey take; 'clear' removes them. Images of the store are not "
		     "touched.");
		return 0;
	}
	if (argc > 2 || (argc == 2 && strcmp(argv[1], "clear")))
		return say_fail(EXIT_OURS, "cache: only 'clear' may follow; cowbell cache --help tells more");
	if (argc == 2) {
		prefix_clear();
		return image_cache_clear();
	}
	int status = image_cache_info(path, sizeof(path), &layers, &bytes);
	if (!status)
		printf("%s: %u layers, %.1f MiB\n", path, layers, (double)bytes / (1 << 20));
	prefix_count(&layers, &bytes);
	if (!status && layers)
		printf("%s/prefix: %u starts of runtimes, %.1f MiB\n", path, layers,
		       (double)bytes / (1 << 20));
	return status;
}
