/* SPDX-License-Identifier: ISC */
/* The public face of monitor/: run one instance to its end. */
#ifndef COWBELL_MONITOR_MONITOR_H
#define COWBELL_MONITOR_MONITOR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi/snapshot.h"

struct ctl_status; /* abi/control.h, as the next */
struct ctl_peers;

enum monitor_kind { MONITOR_AUTO, MONITOR_KVM, MONITOR_PROCESS };
enum monitor_snapshot_at {
	SNAPSHOT_AT_NONE,
	SNAPSHOT_AT_READY,
	SNAPSHOT_AT_LISTEN,
	SNAPSHOT_AT_TIME,
	SNAPSHOT_AT_SIGNAL,
	SNAPSHOT_AT_PREFIX, /* before its first look at the app's layer, if it had no effect outside until then */
};
enum monitor_stats { STATS_NONE, STATS_TEXT, STATS_JSON };

#define MONITOR_MAX_CPUS    16
#define MONITOR_MAX_PORTS   64
#define MONITOR_MAX_VOLUMES 16
#define MONITOR_MAX_EGRESS  64
#define MONITOR_MAX_LAYERS  16
#define MONITOR_MAX_GROUPS  32

/* -p [ADDR:]HOST:PORT; TCP and UDP alike. Host port 0: any free one (printed). A struct sockaddr_un: -p unix:PATH:PORT. */
struct monitor_port {
	struct sockaddr_storage host; /* address and port to listen on */
	uint16_t guest;
};

/* -v HOSTDIR:GUESTDIR[:ro] */
struct monitor_volume {
	int dirfd; /* O_PATH|O_DIRECTORY, opened by the caller */
	const char *guest_dir;
	bool ro;
};

/* One allowed destination. */
struct monitor_egress {
	uint8_t addr[16]; /* IPv4 as v4-mapped IPv6 */
	uint8_t prefix; /* of the 128 bits */
	uint16_t port; /* 0: any */
	bool deny; /* later rules win over earlier ones */
};

/* A descriptor that a moved instance brings along from the monitor that it had: abi/control.h, enum ctl_fd_kind. */
struct monitor_given {
	uint32_t kind, id;
	int fd;
};

#define MONITOR_MOVED (-1) /* monitor_run(): the instance runs on in another process */

struct monitor_config {
	enum monitor_kind kind;
	uint64_t ram_max;
	uint64_t chaos; /* boot_info.chaos */
	int n_cpus; /* virtual CPUs; 0: one. At most MONITOR_MAX_CPUS */
	int n_layers;
	int layer_fd[MONITOR_MAX_LAYERS];
	uint64_t layer_size[MONITOR_MAX_LAYERS];
	/* 0, or what it takes in the guest, if that is more: so that another layer fits into its place later */
	uint64_t layer_window[MONITOR_MAX_LAYERS];
	int app_layer; /* number of the app's own layer, from 1 on; 0: nobody needs to know */
	int standby_fd; /* not 0: it waits there for its app (abi/standby.h); layer app_layer is a file for it, */
	int standby_rw; /* which this one can write */
	/* May this layer take that place? With started_arg; under the filter. */
	bool (*standby_suits)(void *arg, int fd, uint64_t size);
	bool prefix; /* restore_fd was taken by SNAPSHOT_AT_PREFIX: a start, with the app's layer of ours */
	uint64_t layer_off[MONITOR_MAX_LAYERS]; /* where in its file a layer begins; page aligned */
	const char *layer_id
		[MONITOR_MAX_LAYERS]; /* what a snapshot calls it, so that it is found again; NULL: its path */
	int restore_fd; /* not 0: a snapshot (monitor/snapshot.h) to go on from. Layers: as snapshot_info() lists
			 * them, descriptor -1 for an embedded one; exe, argv, envp, cwd, ram_max, uid, gid are not
			 * looked at; ports, volumes, egress, streams are ours and must offer what it has */
	/* of a delta: its parents in order, opened by the caller, who trusts none of them */
	int n_restore_parents, restore_parent_fd[SNAP_MAX_CHAIN - 1];
	const char *
		restore_name; /* what a delta over it calls it, so that it is found again; NULL: none can be taken */
	int memo_dir; /* not 0: a directory of the user's where restores leave what they found out (memo.h) */
	bool snapshots; /* snapshot_begin() will be called */
	bool snapshot_full; /* cfg.snapshot_at: stands alone, whatever we come from */
	const char *exe; /* guest path */
	const char *const *argv; /* NULL-terminated */
	const char *const *envp;
	const char *cwd;
	const char *hostname;
	const char *name;
	const char *unique_name; /* --name: no other instance of this user may have it; or NULL */
	const char *program; /* image or program, as the user said it: for lists of instances */
	bool detached;
	uint32_t uid, gid; /* identity inside the guest */
	int n_groups; /* supplementary groups */
	uint32_t groups[MONITOR_MAX_GROUPS];
	int stop_signal; /* what the program gets when we get SIGTERM; 0: the same */
	int n_ports, n_volumes, n_egress;
	struct monitor_port ports[MONITOR_MAX_PORTS];
	struct monitor_volume volumes[MONITOR_MAX_VOLUMES];
	struct monitor_egress egress[MONITOR_MAX_EGRESS]; /* none matching: denied */
	bool tty, interactive; /* -t, -i */
	bool strace;
	int verbose;
	enum monitor_stats stats;
	uint64_t timeout_ns; /* 0: none */
	uint64_t start_ns; /* CLOCK_MONOTONIC when `cowbell` was executed, for --stats */
	uint64_t image_ns; /* the same when its layers were open */
	/* all is ready and the program is about to start; may be NULL */
	void (*started)(void *arg, const struct ctl_status *st);
	void *started_arg;
	/*
	 * A move: restore_fd is what the old monitor wrote, and these are its descriptors, sorted by kind and id; ours
	 * from now on. The instance keeps ID, generation, connections and open files. take_over is called when all is
	 * ready, and asks the old monitor to end: not 0, after a message: it does not, nothing of ours may run.
	 */
	const struct monitor_given *given; /* NULL: no move */
	uint32_t n_given;
	const struct ctl_peers *given_peers; /* [n_ports] */
	uint64_t started_ns; /* CLOCK_REALTIME when it was started; 0: now */
	int (*take_over)(void *arg); /* with started_arg */
	int notify_fd; /* not 0: lines for whoever watches this instance (notify.c) */
	const int *record_fd; /* a descriptor of the caller's that goes along when we are moved; or NULL */
	enum monitor_snapshot_at snapshot_at;
	uint64_t snapshot_at_ns;
	int snapshot_at_signal; /* is then not the program's */
	int snapshot_fd; /* where to */
	bool snapshot_stop; /* end the instance when it is taken; status 137 */
	/* it was taken, or not: err, why; with started_arg. Runs under the monitor's filter: write(2) and close(2) only */
	void (*snapshot_taken)(void *arg, int err, const char *why, uint64_t bytes, uint64_t paused_ns);
};

/*
 * Run it. Returns the exit status for the shell: the program's own, 128+N for a
 * signal, 124 on --timeout, 125 when the monitor itself failed (one line said why), or MONITOR_MOVED.
 */
int monitor_run(const struct monitor_config *cfg);

/* One line, with its '\n', to cfg->notify_fd; does nothing without it. See notify.c. */
void notify_line(const struct monitor_config *cfg, const char *line);

/*
 * Bytes that tell this build of cowbell and this CPU's features from others, for the key of what is kept on this host; how many.
 * memo_dir: as in the configuration.
 */
#define MONITOR_IDENTITY_MAX 256
size_t monitor_identity(int memo_dir, uint8_t out[MONITOR_IDENTITY_MAX]);

/* Can /dev/kvm be used here? 0, or -errno; *why gets a phrase. */
int monitor_kvm_usable(const char **why);

#endif
