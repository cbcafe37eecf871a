/* SPDX-License-Identifier: ISC */
/* What a restored instance sees renewed, part by part; and how a program says that it is ready to be snapshotted. */
#ifndef COWBELL_GUEST_RESTORED_H
#define COWBELL_GUEST_RESTORED_H

#include "guest/base.h"

/* All of it, before any code of the app runs. Nothing in it sleeps. copy: false if it was moved and is no other instance. */
void restored_renew(bool copy);
/* getpid(), which libraries with random numbers of their own see change. */
s64 restored_getpid(void);

/* The parts. */
bool hostname_restored(char old[65]); /* linux/sys_misc.c: is it another one now? */
void load_restored(void); /* proc/load.c */
void timerfds_restored(void); /* vfs/timerfd.c */
void udp_restored(void); /* net/udp.c */
void ports_restored(void); /* net/forward.c */
void volumes_restored(void); /* vfs/volume.c */

/* net/unix.c: RING_OP_READY. now false: the program will tell. */
void ready_tell(bool now);
bool ready_is_told(void);

#endif
