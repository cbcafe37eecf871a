/* SPDX-License-Identifier: ISC */
/* Lines for whoever watches an instance: --notify-fd. */
#ifndef COWBELL_MONITOR_NOTIFY_H
#define COWBELL_MONITOR_NOTIFY_H

#include "monitor/monitor.h"

/* One line, with its '\n'; does nothing without notify_fd. */
void notify_line(const struct monitor_config *cfg, const char *line);
/* A host socket listens for the guest's port. */
void notify_listening(const struct monitor_config *cfg, uint16_t port);

#endif
