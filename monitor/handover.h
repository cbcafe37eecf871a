/* SPDX-License-Identifier: ISC */
/* Moving an instance to another monitor: both sides. abi/control.h says how it goes. */
#ifndef COWBELL_MONITOR_HANDOVER_H
#define COWBELL_MONITOR_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/control.h"
#include "monitor/monitor.h"

struct instance;
struct ring_server;

/* --- the monitor that gives --- */
/* Hooks of the control socket. give: fills from the `first`-th on, fds[] too; all: not only layers and volumes. */
void handover_give(void *arg, uint32_t first, bool all, struct ctl_fds *out, int fds[CTL_FDS_MAX]);
/* The holder's word, or its end (took false): 0, or -ESTALE if nothing is held. */
int handover_end(void *arg, bool took);
/* The snapshot of a move is written: from now on until handover_end() the instance rests. */
void handover_hold(struct instance *in);
/* Waits for that and serves the control socket. */
void handover_wait(struct instance *in);
/* Whom its i-th port may answer by UDP. */
void ring_server_peers(struct ring_server *rs, uint32_t i, struct ctl_peers *out);
void handover_peers(void *arg, uint32_t i, struct ctl_peers *out);
/* Sockets and files of the ring server, from the *skip-th on, which is counted down; *total counts all. */
void ring_server_give(struct ring_server *rs, uint32_t *skip, uint32_t *total, struct ctl_fds *out, int *fds);

/* --- the monitor that takes --- */
/* Descriptor that came along, or -1. */
int handover_given(const struct monitor_config *cfg, enum ctl_fd_kind kind, uint32_t id);

#endif
