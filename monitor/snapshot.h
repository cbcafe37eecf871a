/* SPDX-License-Identifier: ISC */
/*
 * Snapshots, as the rest of monitor/ and the commands see them. The file: abi/snapshot.h.
 *
 * Taking one: snapshot_begin() asks the guest to hold still; it does so within milliseconds, also while
 * it computes. The file is then written to the descriptor (seekable, empty, the caller's) and fdatasync()ed,
 * and `done` is called from the loop, after which the instance goes on. Temporary names and renames are the caller's.
 */
#ifndef COWBELL_MONITOR_SNAPSHOT_H
#define COWBELL_MONITOR_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "monitor/monitor.h"

struct instance;

/*
 * A move: in->snap.hold is set before snapshot_begin(). Then everything is written when `done` is called, and the
 * guest is not thawed unless it failed; handover.c lets it go on. in->snap.bare: layers are not embedded, nothing is
 * synced. The callers of snapshot_begin() reset both.
 */

struct snapshot_result {
	uint64_t bytes; /* size of the file */
	uint64_t pages; /* of RAM that are in it */
	uint64_t pause_ns; /* how long the instance stood still */
};

/* err 0 or -errno; why: a phrase when it failed. Runs in the loop, under the monitor's filter. */
typedef void snapshot_done_fn(void *arg, int err, const char *why, const struct snapshot_result *result);

/*
 * Call it from the loop (not from a signal handler). -EBUSY: one is under way. The descriptor must stay open until `done`.
 * The monitor's filter must have been made with HOST_snapshot.
 */
int snapshot_begin(struct instance *in, int fd, snapshot_done_fn *done, void *arg);

/*
 * --snapshot-at ready: the program said so, or the guest sleeps in its doorbell, listens, and never had a
 * connection (ready.c). True once and from then on until one comes.
 * To be asked after each turn; costs nothing when it is not true.
 */
void snapshot_watch_ready(struct instance *in, bool on); /* look for it from now on */
bool snapshot_is_ready(const struct instance *in);

/* --- files: no instance is needed ----------------------------------------------- */

struct snapshot_layer_info {
	uint64_t size;
	bool embedded; /* in the snapshot itself: nothing to open */
	char id[512]; /* cfg.layer_id of the instance that was taken; else its path then; else empty */
};

struct snapshot_info {
	uint32_t version, plat; /* enum boot_plat */
	uint64_t file_size, ram_size, ram_max, stored_bytes, generation;
	uint64_t real_ns; /* when it was taken, CLOCK_REALTIME */
	char name[256], exe[1024], hostname[128];
	uint8_t digest[32], instance_id[16];
	int n_layers;
	struct snapshot_layer_info layers[MONITOR_MAX_LAYERS];
	int n_ports;
	uint16_t ports[MONITOR_MAX_PORTS]; /* of the guest */
	int n_volumes;
	struct {
		char dir[1024];
		bool ro;
	} volumes[MONITOR_MAX_VOLUMES];
	bool egress, tty;
	uint32_t uid, gid;
	unsigned n_handles, n_connections; /* open; of them connections that will be dead */
	bool delta; /* it needs its parent: */
	char parent[1024]; /* how it was called */
	uint8_t parent_digest[32];
};

struct snapshot_ids {
	uint8_t digest[32], parent[32];
	bool delta;
};

/* Header and tables, all checked. 0 or -errno with a phrase. */
int snapshot_info(int fd, struct snapshot_info *si, const char **why);
/* What the header says of these; nothing is checked but that it is one. 0 or -errno. */
int snapshot_ids(int fd, struct snapshot_ids *ids);
/* As snapshot_info() and every page's checksum; of this file, not of its parents. */
int snapshot_verify(int fd, const char **why);

#endif
