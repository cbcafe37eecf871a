/* SPDX-License-Identifier: ISC */
/* Inside of the build: from a plan to layers and a manifest. See app_layer.c, steps.c, build.c. */
#ifndef COWBELL_IMAGE_BUILD_ASSEMBLE_H
#define COWBELL_IMAGE_BUILD_ASSEMBLE_H

#include <stdbool.h>

#include "image/build/build.h"

#define APP_UID 1000 /* whom apps run as, and who owns /app */

struct limits {
	uint64_t max_bytes, max_entries, timeout_ns;
};

/* What goes into the app's image of a directory, by the plan. For tree_from_dir() and the scratch copy. */
struct selection {
	const struct plan *plan;
	bool source; /* what goes into the build: take and drop are about what comes out of it, and do not count */
	bool built; /* what came out: ignore files spoke of the source, so that node_modules in them is no loss */
	unsigned env_files; /* .env files that were left out */
};
bool selection_skips(void *selection, const char *rel, bool is_dir);

/*
 * The app layer of directory `dir`, the app's own or, `built`, what the steps left. 0, or an exit status after out_fail().
 * *files: how many.
 */
int app_layer(struct store *s, const char *dir, bool built, const struct plan *p, const struct limits *lim,
	      struct layer *out, size_t *files);
/* A message for a tree that could not be read. */
int app_tree_failed(const char *dir, int err, const struct limits *lim);

/*
 * steps.c: run the plan's steps on a copy of `dir`, or remember what they made of the same input before. Fills in
 * what only the result tells (plan_built()) and the app layer.
 */
int built_layer(struct store *s, const char *dir, struct plan *p, const struct limits *lim, struct layer *out,
		size_t *files);

#endif
