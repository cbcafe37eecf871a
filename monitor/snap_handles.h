/* SPDX-License-Identifier: ISC */
/* What the ring server has to put into a snapshot, and to take out of one. */
#ifndef COWBELL_MONITOR_SNAP_HANDLES_H
#define COWBELL_MONITOR_SNAP_HANDLES_H

#include <stdbool.h>
#include <stddef.h>

#include "abi/snapshot.h"

struct ring_server;
struct snap_file;

/* Tables that are being written. */
struct snap_tables {
	struct snap_handle *handles;
	struct snap_request *requests;
	char *strings; /* the first is "" */
	uint32_t n_handles, n_requests;
	uint32_t n_strings, cap_strings; /* bytes */
	bool failed; /* no memory */
};

uint32_t snap_put_string(struct snap_tables *t, const char *s);
void snap_tables_free(struct snap_tables *t);

/* Handles, requests, ring indices, into `t` and `h`. false: no memory. */
bool ring_server_save(struct ring_server *rs, struct snap_tables *t, struct snap_header *h);
/*
 * The reverse, into a new server whose ports and volumes are open. 0, or -1 with a reason: what the snapshot needs is
 * not there, or the file is not sound.
 */
int ring_server_load(struct ring_server *rs, const struct snap_file *f, char *why, size_t size);

#endif
