/* SPDX-License-Identifier: ISC */
/* What the files of the command line share: commands, option tables, parsers of values. */
#ifndef COWBELL_CLI_CLI_H
#define COWBELL_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi/control.h"
#include "lib/host/strings.h"
#include "monitor/monitor.h"

#define COWBELL_VERSION "0.1.0"

/* CLOCK_MONOTONIC as main() began. */
extern uint64_t cli_start_ns;
/* And now. */
uint64_t cli_now_ns(void);

/* --- commands (main.c) ---------------------------------------------------- */
int cmd_run(int argc, char **argv);
int cmd_build(int argc, char **argv);
int cmd_cache(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_images(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_tag(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_prune(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_push(int argc, char **argv);
int cmd_sign(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_keygen(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_clone(int argc, char **argv);
int cmd_move(int argc, char **argv);
/* The command under the name pre-receive (githook.c): not for people. */
int git_hook(void);
int cmd_completion(int argc, char **argv);
int cmd_platform(int argc, char **argv); /* platform.c */
bool platform_meant(int argc, char **argv);
void platform_hint(void);

/* All of them, for help and completion; the last one has no name. */
struct command {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the command's own name */
	const char *help;
	enum { GROUP_LOCAL, GROUP_IMAGES, GROUP_SNAPSHOTS, GROUP_PLATFORM, GROUP_OTHER } group;
	bool both; /* of the platform, too: platform_meant() decides */
};
extern const struct command commands[];

/* --- option tables (options.c) -------------------------------------------- */
struct option_def {
	int id; /* what options_next() returns; > 0 */
	char letter; /* -m, or 0 */
	const char *name; /* --memory, without dashes */
	const char *arg; /* how help calls the value, NULL: takes none; "[=...]": may be left out */
	const char *help; /* one or more lines, separated by \n */
};

struct options {
	const struct option_def *defs; /* ends with id 0 */
	const char *command; /* for messages: "run" */
	int argc, next; /* argv[next] is the first word not read yet */
	char **argv;
	int letter; /* position inside a cluster of short options, 0: none */
	const char *value; /* of the option returned last, or NULL */
};

/* The id of the next option; 0 at the first operand or after `--`; -1 after one line about what is wrong. */
int options_next(struct options *o);
/* The table as help text on standard output. */
void options_help(const struct option_def *defs);
/* The closest of n names, or NULL if none is close. */
const char *suggest(const char *word, const char *const *names, size_t n);

/* --- values (parse.c): true, or false and nothing printed ------------------ */
bool parse_size(const char *s, uint64_t *bytes); /* 64M, 1.5G, 4096, 512MiB */
bool parse_duration(const char *s, uint64_t *ns); /* 30, 1.5s, 200ms, 2m, 1h */
/* false: *why holds a phrase */
bool parse_port(const char *s, struct monitor_port *out, const char **why);
bool parse_egress(const char *s, struct monitor_config *cfg, const char **why);
/* A name for an instance: 1 to 63 letters, digits, '-', '_' or '.'. */
bool parse_name(const char *s);
bool parse_monitor(const char *s, enum monitor_kind *kind); /* auto, kvm, process */
bool parse_signal(const char *s, int *sig); /* TERM, SIGTERM, 15 */
/* Splits into host and guest (malloc) and ro; does not open anything. */
bool parse_volume(const char *s, char **host, char **guest, bool *ro, const char **why);

/* --- values of options that several commands have (options.c): 0, or an exit status after one line -------- */
/* The directory of a -v, opened. */
int open_volume(const char *host, int *fd);
int option_max_size(const char *v, uint64_t *bytes);
int option_max_entries(const char *v, uint64_t *entries);

/* --- reports (report.c): around the work of a command that has --json; the end gives back the status --------- */
void report_begin(bool json);
int report_end(bool json, int status);
/* A list as JSON, if that is wanted and there is something to tell; frees it and gives back the status. */
struct json_t;
int report_list(struct json_t *list, bool json, int status);

/* --- the program's environment (env.c) ------------------------------------- */
#define GUEST_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct env {
	struct strings file, option; /* of --env-file, of -e */
	struct strings own; /* both: what the user asked for */
	struct strings all; /* what a program of the host gets; PATH is first */
};

/* One -e; one --env-file. 0, or an exit status after one line. */
int env_option(struct env *e, const char *v);
int env_file(struct env *e, const char *file);
/* After all options: fills own and all. */
int env_finish(struct env *e);
/* Did the user ask for it? */
bool env_own(const struct env *e, const char *name);
/* Another default. */
void env_default(struct env *e, const char *name, const char *value);

/* --- commands without a program: options may also come after operands (words.c) ---- */
#define WORDS_OPTIONS 32 /* ids are less */

struct words {
	bool has[WORDS_OPTIONS];
	const char *value[WORDS_OPTIONS]; /* of the last one given */
	struct strings all[WORDS_OPTIONS]; /* of each */
	const char **names; /* operands, NULL-terminated, malloc */
	int n;
};

/* Read and check, then run. Option id 1 is --help; from..to operands (to -1: any number). */
int words_command(const struct option_def *defs, const char *name, const char *usage, int from, int to,
		  int argc, char **argv, int (*run)(const struct words *w));

/* --- running instances (instances.c) ------------------------------------------------ */
struct ctl;
/* The one that the user means, connected; else an exit status after one line. */
int instance_find(const char *command, const char *word, struct ctl *c, struct ctl_status *st);
/* The name that the user gave it; NULL: none. */
const char *instance_name(const struct ctl_status *st);
/* ADDR:HOST:GUEST,... as -p takes it, ADDR only if it is not any; malloc. */
char *instance_ports(const struct ctl_status *st);

/* --- what a running instance has (twin.c) ------------------------------------------------ */
struct twin_fd {
	struct monitor_given given;
	uint64_t off; /* of a layer: where it begins */
};

struct twin {
	struct ctl_status st;
	struct twin_fd *fd; /* sorted by kind and id */
	struct ctl_peers peers[MONITOR_MAX_PORTS]; /* of an instance that is held */
	uint32_t n;
};

/* The descriptors that it gives to this connection; held: peers, too. 0 or -errno. */
int twin_fetch(struct twin *t, struct ctl *c, bool held);
/* A configuration with the same ports, rules, layers and volumes; snap_restore() completes it. Points into *t. */
void twin_config(const struct twin *t, struct monitor_config *cfg);
/* Closes them. */
void twin_free(struct twin *t);

/* --- snapshots (snapshot.c, restore.c) ------------------------------------------------ */
/* A file that appears under its name in one step. */
struct snap_out {
	int fd, dir; /* the file, read and write; its directory */
	char name[256]; /* of the file */
	char tmp[300]; /* while it has a name that is not its own; or "" */
	bool stored, replaces; /* in the store; another one of that name */
	int layer_fd[MONITOR_MAX_LAYERS],
		n_layers; /* known descriptors of its image's layers, or -1; not ours */
};

/* file: -o FILE; or NULL: `name` in the store. 0, or an exit status after one line. */
int snap_out_open(struct snap_out *o, const char *file, const char *name);
int snap_out_commit(struct snap_out *o);
void snap_out_abort(struct snap_out *o);
/* A snapshot by file or name: a descriptor, or -1 after one line. */
int snap_open(const char *command, const char *word);
/* --snapshot: layers and what else the snapshot decides, into cfg. Layers and volumes that twin_config() has set
 * stay. 0, or an exit status after one line. */
int snap_restore(struct monitor_config *cfg, const char *word, int fd, const char *root);
/* Of the snapshot that fd is: its parents, opened, parents[SNAP_MAX_CHAIN - 1]; the checksums of all have been looked at.
 * 0, or an exit status after one line (snapchain.c). */
int snap_chain(const char *word, int fd, int *parents, int *n);
/* What a delta over it is to call it: a name of the store, or a path; static. NULL: it cannot be found again. */
const char *snap_call(const char *word, int fd);
/* The snapshot with this digest, by the name that its child has for it, or -1. dir: where the child is. */
int snap_find(const uint8_t digest[32], const char *name, int dir, bool *other);
/* The directory that a word means, if it is a file's; AT_FDCWD if it cannot be opened. */
int snap_dir_of(const char *word);
/* Is there a delta over it in the store? by: its name. */
bool snap_needed(int store, const char *name, char *by, size_t size);
/* Layers that snapshots of the store need (pins.c). pins: image_pins_lock(). */
struct snapshot_info;
/* Keep those of the snapshot that `snap` is. layer_fd[n]: where they are known; -1: to be looked for. */
void pins_keep(const char *name, int pins, int snap, const int *layer_fd, int n);
/* Let go of those that no snapshot in the directory needs. */
void pins_sweep(int pins, int store);
/* What a snapshot needs and has not got; dir: where it is. */
void pins_missing(const struct snapshot_info *info, int dir, struct strings *out);
/* --snapshot-at: a process of its own waits for the result and names the file. Before the instance starts. */
int snap_at_prepare(struct monitor_config *cfg, const char *file);
/* After the instance's end: waits for that process. Is the file there? Allowed under the filter. */
bool snap_at_finish(void);

/* --- detached instances (state.c) ----------------------------------------------------- */
struct state {
	char id[16], name[CTL_NAME_MAX], program[CTL_PROGRAM_MAX];
	long long started, ended; /* seconds, CLOCK_REALTIME; ended 0: not recorded */
	int status; /* -1: not recorded */
	bool named; /* by the user; else name is what it goes by */
};

/* Fork: -1 in the new process, which goes on with cfg; in the old one 0 and *st when the instance is ready, or an
 * exit status after its own messages. */
int state_detach(struct monitor_config *cfg, struct ctl_status *st);
/* In the process that takes over a detached instance with the record `fd`: the end will be written there. */
void state_go_on(struct monitor_config *cfg, int fd);
/* What monitor_run() returned; does nothing for an instance that is not detached. Allowed under the filter. */
void state_ended(int status);
bool state_read(int dir, const char *file, struct state *s);
/* All that are kept, newest first; running ones are among them. malloc. */
struct state *state_all(int *n);
/* Its log, open, or -1. */
int state_log(const char *id);

#endif
