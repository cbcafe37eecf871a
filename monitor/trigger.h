/* SPDX-License-Identifier: ISC */
/* When an instance is snapshotted: on request of the control socket, or by cfg.snapshot_at. */
#ifndef COWBELL_MONITOR_TRIGGER_H
#define COWBELL_MONITOR_TRIGGER_H

#include <stdint.h>

struct instance;

/* A hook of the control socket. */
int trigger_request(void *arg, int ticket, int fd, uint32_t flags);
/* Timer or signal handler of cfg.snapshot_at; before the filter is there. */
void trigger_init(struct instance *in);
/* Between two turns: is it time? */
void trigger_look(struct instance *in);

#endif
