/* SPDX-License-Identifier: ISC */
/* Instances that wait for their app: abi/standby.h. */
#ifndef COWBELL_MONITOR_STANDBY_H
#define COWBELL_MONITOR_STANDBY_H

struct instance;

/* The guest asks for its app's layer (RING_READY_APP). 0 when it is there; -errno: the instance ends. */
int standby_wait(struct instance *in);

#endif
