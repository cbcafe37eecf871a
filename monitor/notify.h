/* SPDX-License-Identifier: ISC */
/* Lines for whoever watches an instance: --notify-fd. */
#ifndef COWBELL_MONITOR_NOTIFY_H
#define COWBELL_MONITOR_NOTIFY_H

#include "monitor/monitor.h"

/* A host socket listens for the guest's port. */
void notify_listening(const struct monitor_config *cfg, uint16_t port);

#endif
