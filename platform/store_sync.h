/* SPDX-License-Identifier: ISC */
/* When the store's log reaches the disk: see store_sync.c. Of store.c only; others call store_barrier(). */
#ifndef COWBELL_PLATFORM_STORE_SYNC_H
#define COWBELL_PLATFORM_STORE_SYNC_H

#include <stdbool.h>

/* The log file, which is there. 0, or an exit status after one line. */
int sync_open(const char *log, bool sync);
/* Something was written to the log. */
void sync_written(void);
/* A sync failed: nothing can be promised any more. */
bool sync_broken(void);
/* A last sync, and an answer to all who wait. */
void sync_close(void);

#endif
