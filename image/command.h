/* SPDX-License-Identifier: ISC */
/* Command lines of process types: words where that is enough, a shell elsewhere. See command.c. */
#ifndef COWBELL_IMAGE_COMMAND_H
#define COWBELL_IMAGE_COMMAND_H

#include "lib/host/strings.h"

struct command {
	struct strings argv;
	struct strings set; /* NAME=VALUE before the command, for its environment */
};

/*
 * Split a line into the words that /bin/sh would start with this environment (K=V). NULL, or a phrase for what in it takes a
 * shell, such as "a pipe"; then `out` is empty. An empty line gives no words.
 */
const char *command_split(const char *line, const struct strings *env, struct command *out);
/* The words that have the shell run the line: /bin/sh -c LINE. */
void command_by_shell(const char *line, struct command *out);
void command_free(struct command *c);

#endif
