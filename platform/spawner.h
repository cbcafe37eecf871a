/* SPDX-License-Identifier: ISC */
/* Children started beside the loop. See spawner.c. */
#ifndef COWBELL_PLATFORM_SPAWNER_H
#define COWBELL_PLATFORM_SPAWNER_H

#include "platform/spawn.h"

struct spawn_job {
	struct spawn spawn; /* all that it points to stays until done() */
	void (*done)(struct spawn_job *j); /* on the loop */
	int result; /* of spawn() */
	pid_t pid;
	int pidfd;
	struct spawn_job *next;
};
int spawner_open(void); /* once; 0 or -errno */
void spawner_start(struct spawn_job *j);

#endif
