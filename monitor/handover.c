/* SPDX-License-Identifier: ISC */
/*
 * Moving an instance to another monitor without losing a byte of any connection.
 *
 *   running --freeze--> at rest --written--> held --HANDOVER 1--> the process ends; the other one runs the guest
 *                                             | \
 *                                             |  HANDOVER 0, hangup of the holder, CTL_HOLD_MS --> running
 *                                             +-- CTL_FDS: descriptors
 *
 * What makes it whole is that nothing has to be made again: listening sockets, connections, files of volumes and
 * standard streams are open file descriptions of the kernel, which go to the new process as they are. Bytes that
 * arrive in the meantime wait in their buffers, new clients in the backlog. The requests that waited on them are in
 * the snapshot. So no client has to be told, and nothing is drained.
 *
 * At any moment exactly one process may let the guest run: this one until it reads HANDOVER 1, after which it
 * touches nothing that was given and ends.
 */
#include "monitor/handover.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "monitor/clock.h"
#include "monitor/control.h"
#include "monitor/instance.h"
#include "monitor/ring_internal.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(control, poll);

/* --- giving ----------------------------------------------------------------------- */

/* One more; those that were fetched before are skipped, those that find no room are only counted. */
static void add(uint32_t *skip, uint32_t *total, struct ctl_fds *out, int *fds, enum ctl_fd_kind kind,
		uint32_t id, uint64_t off, int fd)
{
	if (fd < 0)
		return;
	(*total)++;
	if (*skip) {
		(*skip)--;
		return;
	}
	if (out->count == CTL_FDS_MAX)
		return;
	fds[out->count] = fd;
	out->fd[out->count++] = (struct ctl_fd){kind, id, off};
}

void ring_server_give(struct ring_server *rs, uint32_t *skip, uint32_t *total, struct ctl_fds *out, int *fds)
{
	for (int i = 0; i < rs->cfg->n_ports; i++)
		add(skip, total, out, fds, CTL_FD_TCP, (uint32_t)i, 0, rs->ports[i].tcp);
	for (int i = 0; i < rs->cfg->n_ports; i++)
		add(skip, total, out, fds, CTL_FD_UDP, (uint32_t)i, 0, rs->ports[i].udp);
	for (uint32_t i = 0; i < rs->handles_fresh; i++) {
		const struct handle *h = &rs->handles[i];

		if (h->kind == H_FILE || (h->kind == H_SOCKET && h->port < 0))
			add(skip, total, out, fds, CTL_FD_HANDLE, i, 0, h->fd);
	}
}

void ring_server_peers(struct ring_server *rs, uint32_t i, struct ctl_peers *out)
{
	if (i < (uint32_t)rs->cfg->n_ports)
		*out = rs->ports[i].peers;
}

void handover_peers(void *arg, uint32_t i, struct ctl_peers *out)
{
	struct instance *in = arg;

	ring_server_peers(in->rs, i, out);
}

void handover_give(void *arg, uint32_t first, bool all, struct ctl_fds *out, int fds[CTL_FDS_MAX])
{
	struct instance *in = arg;
	const struct monitor_config *cfg = in->cfg;
	uint32_t skip = first, *total = &out->total;
	int control[2];

	for (int i = 0; i < cfg->n_layers; i++)
		add(&skip, total, out, fds, CTL_FD_LAYER, (uint32_t)i, cfg->layer_off[i], cfg->layer_fd[i]);
	for (int i = 0; i < cfg->n_volumes; i++)
		add(&skip, total, out, fds, CTL_FD_VOLUME, (uint32_t)i, 0, cfg->volumes[i].dirfd);
	if (!all)
		return;
	for (int i = 0; i < 3; i++)
		add(&skip, total, out, fds, CTL_FD_STREAM, (uint32_t)i, 0, i);
	if (cfg->record_fd)
		add(&skip, total, out, fds, CTL_FD_STREAM, 3, 0, *cfg->record_fd);
	control_listeners(in->control, control);
	for (int i = 0; i < 2; i++)
		add(&skip, total, out, fds, CTL_FD_CONTROL, (uint32_t)i, 0, control[i]);
	ring_server_give(in->rs, &skip, total, out, fds);
}

void handover_hold(struct instance *in)
{
	in->move = MOVE_HELD;
}

int handover_end(void *arg, bool took)
{
	struct instance *in = arg;

	if (in->move != MOVE_HELD)
		return -ESTALE;
	in->move = took ? MOVE_DONE : MOVE_REFUSED;
	return 0;
}

void handover_wait(struct instance *in)
{
	uint64_t end = clock_ns_now() + CTL_HOLD_MS * 1000000ull;

	while (in->move == MOVE_HELD && !in->killed) {
		struct pollfd p = {.fd = control_fd(in->control), .events = POLLIN};
		uint64_t now = clock_ns_now();

		if (now >= end)
			in->move = MOVE_REFUSED;
		else if (poll(&p, 1, (int)((end - now) / 1000000) + 1) > 0)
			control_serve(in->control);
	}
	if (in->move == MOVE_REFUSED) {
		in->move = MOVE_NONE;
		ring_server_thaw(in->rs, 0);
	}
}

/* --- taking ----------------------------------------------------------------------- */

static int by_kind(const void *key, const void *entry)
{
	const struct monitor_given *a = key, *b = entry;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

int handover_given(const struct monitor_config *cfg, enum ctl_fd_kind kind, uint32_t id)
{
	struct monitor_given key = {.kind = kind, .id = id};
	const struct monitor_given *g =
		cfg->given ? bsearch(&key, cfg->given, cfg->n_given, sizeof(key), by_kind) : NULL;

	return g ? g->fd : -1;
}
