/* SPDX-License-Identifier: ISC */
/* Tell the service manager how we are, if there is one. */
#ifndef COWBELL_PLATFORM_NOTIFY_H
#define COWBELL_PLATFORM_NOTIFY_H

/* state: "READY=1", "STOPPING=1\nSTATUS=..."; lines of sd_notify(3). */
void notify_supervisor(const char *state);
/* If a watchdog waits (WatchdogSec=): tell it from the loop, twice in its time, that the loop turns. */
void notify_watchdog(void);

#endif
