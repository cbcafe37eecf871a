/* SPDX-License-Identifier: ISC */
/* From the copy of an instance at rest to a file. Knows no instance, and no thread but its own. */
#ifndef COWBELL_MONITOR_SNAPWRITE_H
#define COWBELL_MONITOR_SNAPWRITE_H

#include "abi/snapshot.h"
#include "monitor/monitor.h"
#include "monitor/snap_handles.h"
#include "monitor/snapcopy.h"
#include "monitor/snapfile.h"

struct snap_write {
	int fd; /* where to: seekable, empty */
	struct snap_pages pages;
	const struct snap_flat *under; /* of a restored instance: where its pages came from */
	uint32_t n_under;
	bool delta; /* store only what differs from that; h.parent and h.parent_digest are set */
	bool no_sync; /* it need not be on disk */
	struct snap_header h; /* but arrays, sizes, digest */
	struct snap_tables t;
	struct snap_map maps[SNAP_MAX_MAPS];
	struct snap_port ports[MONITOR_MAX_PORTS];
	struct snap_volume volumes[MONITOR_MAX_VOLUMES];
	struct snap_layer layers[MONITOR_MAX_LAYERS];
	uint32_t n_maps, n_ports, n_volumes, n_layers;
	struct {
		int fd; /* it is to be in the file, from here; -1: not */
		uint64_t off;
	} embed[MONITOR_MAX_LAYERS];
};

/* Write it, and wait until it is on disk. h is complete afterwards. 0 or -errno. Allocates by mmap only. */
int snap_write(struct snap_write *w);

#endif
