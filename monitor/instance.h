/* SPDX-License-Identifier: ISC */
/* The running instance, shared by instance.c and stats.c. */
#ifndef COWBELL_MONITOR_INSTANCE_H
#define COWBELL_MONITOR_INSTANCE_H

#include <signal.h>

#include "monitor/backend/backend.h"
#include "monitor/monitor.h"
#include "monitor/snapshot.h"

struct control;
struct ring_server;

struct snap_file;
struct snap_job;

/* What a snapshot says about the layers and this build. */
struct snap_source {
	bool embed[MONITOR_MAX_LAYERS]; /* the file has no name: it has to be in the snapshot */
	char id[MONITOR_MAX_LAYERS][512];
	bool hashed;
	uint8_t libos[32], print[MONITOR_MAX_LAYERS][32];
};

struct instance {
	const struct monitor_config *cfg;
	const struct backend *backend;
	struct backend_ctx *ctx;
	struct guest_mem mem;
	struct load_plan plan;
	struct ring_server *rs;
	struct control *control;
	uint8_t id[16]; /* as told to the guest; its copy is its own */
	uint64_t started_ns, started_mono_ns; /* CLOCK_REALTIME, CLOCK_MONOTONIC */
	uint64_t here_mono_ns; /* since when it is in this process */
	bool killed; /* SIGKILL came by the control socket */
	enum { MOVE_NONE, MOVE_HELD, MOVE_REFUSED, MOVE_DONE } move; /* handover.c */
	struct boot_vcpu *vcpu; /* the guest's own, as are the next two: hostile */
	struct boot_time *time;
	struct boot_stats *stats;
	struct boot_stats stats_before; /* of a restored instance: what the snapshot had; else zeros */
	uint64_t kicks_before;
	pid_t pid;
	int n_host_calls; /* that the monitor's filter allows */
	uint64_t signals; /* bit n: signal n arrived */
	uint64_t typed; /* bit n: made by a key at the terminal */
	volatile sig_atomic_t timer_armed, timed_out;
	uint64_t timer_at_ns; /* when it fires, if armed */
	bool nudged; /* by another CPU */
	bool timer_is_retry; /* armed to repeat a kick, not to tick */
	int unheard; /* a signal that should end the program; the guest took no kick since. 0: none */
	uint64_t unheard_ns; /* for how long the guest ran since */
	uint64_t unheard_at_ns;
	struct {
		struct snap_source *src; /* NULL: no snapshots */
		snapshot_done_fn *done; /* not NULL: one is under way */
		void *arg;
		bool hold; /* of a move: stay at rest when it is written; all is done before done() is called */
		bool bare; /* no layers are embedded, nothing is synced, it stands alone */
		bool full; /* it stands alone, whatever we come from */
		bool still; /* the instance ends with it: rest until it is written */
		bool now; /* nobody is served yet: ask for rest at once, prepare in the loop */
		struct snap_job *job;
		struct snap_file *under; /* the snapshot that we come from: its flat list and header only */
		int pagemap_fd; /* kvm: which pages of RAM are ours; or -1 */
		uint8_t *
			dropped; /* of a restored instance: one bit a page that the guest gave back; or NULL */
	} snap;
	struct snap_file *restored; /* while it is assembled */
	struct monitor_config restored_cfg;
};

/* snapshot.c: while files may still be looked at (0 or -errno), and at rest (TURN_FROZEN). */
int snapshot_prepare(struct instance *in);
void snapshot_take(struct instance *in);
/* One under way goes on; after each turn. */
void snapshot_step(struct instance *in);
/* The instance is at its end: what was copied is written before we are gone. */
void snapshot_end(struct instance *in);
/* The guest gave memory back. */
void snapshot_dropped(struct instance *in, uint64_t gpa, uint64_t len);

/* --stats: what the instance did, to standard error. */
void stats_print(struct instance *in);

#endif
