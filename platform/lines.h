/* SPDX-License-Identifier: ISC */
/* What an instance writes, as lines of its app's log, bounded. See lines.c. */
#ifndef COWBELL_PLATFORM_LINES_H
#define COWBELL_PLATFORM_LINES_H

#include "platform/sched.h"

struct lines {
	const struct instance *i;
	char *line; /* the beginning of one; NULL: none */
	size_t n;
	uint64_t second_ns; /* when the current second began */
	size_t read_bytes, kept_bytes; /* in it */
	unsigned kept_lines, dropped;
	bool out_of_memory; /* its machine said so */
};
void lines_put(struct lines *l, const char *data, size_t n);
/* More than anybody should write in a second: stop reading for a while. */
bool lines_too_many(const struct lines *l);
bool lines_second_over(const struct lines *l);
void lines_end(struct lines *l);

#endif
