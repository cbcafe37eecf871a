/* SPDX-License-Identifier: ISC */
/* Which files of an app stay out of its image: see ignore.c. */
#ifndef COWBELL_LIB_HOST_IGNORE_H
#define COWBELL_LIB_HOST_IGNORE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/host/strings.h"

/* Add the lines of an ignore file to a list of rules: each entry is kind ('s' slug, 'd' docker) and pattern. */
void ignore_parse(struct strings *rules, char kind, const char *text);
/* Does a rule leave this path (relative, no leading slash) out? A directory is left out only if nothing below it can come back. */
bool ignore_match(const struct strings *rules, const char *rel, bool is_dir);
/* Never in an image: version control, secrets in .env files. */
bool ignore_always(const char *rel, bool is_dir);
bool ignore_is_env(const char *name); /* .env, .env.local, ... but not .env.example */
/* fnmatch(3) with **: `*` and `?` do not cross '/', `**` does. Public for the tests. */
bool ignore_glob(const char *pattern, const char *path);

#endif
