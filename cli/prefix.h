/* SPDX-License-Identifier: ISC */
/* Inside of cli/: starts that apps share. See prefix.c. */
#ifndef COWBELL_CLI_PREFIX_H
#define COWBELL_CLI_PREFIX_H

#include "image/image.h"
#include "monitor/monitor.h"

struct prefix {
	char key[65]; /* "": not for this start */
	int fd; /* of the one to go on from; 0: none */
	enum image_prefix how;
	int dir, lock; /* while one is to be made */
	int standby_fd; /* --standby, or 0 */
	bool print; /* --prefix-key */
};

/* How to start; cfg: what the options say. */
enum image_prefix prefix_choose(struct prefix *p, const struct monitor_config *cfg,
				const struct image_set *set);
/* After all of cfg is known: it goes on from p, or one is made in the background. */
void prefix_apply(struct prefix *p, struct monitor_config *cfg, const struct image_set *set);
/* How many there are, and bytes; remove them all. */
void prefix_count(unsigned *n, uint64_t *bytes);
void prefix_clear(void);

#endif
