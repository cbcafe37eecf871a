/* SPDX-License-Identifier: ISC */
/* What the files of the command line share: commands, option tables, parsers of values. */
#ifndef COWBELL_CLI_CLI_H
#define COWBELL_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/host/strings.h"
#include "monitor/monitor.h"

#define COWBELL_VERSION "0.1.0"

/* CLOCK_MONOTONIC as main() began. */
extern uint64_t cli_start_ns;

/* --- commands (main.c) ---------------------------------------------------- */
int cmd_run(int argc, char **argv);
int cmd_build(int argc, char **argv);
int cmd_cache(int argc, char **argv);
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
/* Splits into host and guest (malloc) and ro; does not open anything. */
bool parse_volume(const char *s, char **host, char **guest, bool *ro, const char **why);

/* --- values of options that several commands have (options.c): 0, or an exit status after one line -------- */
int option_max_size(const char *v, uint64_t *bytes);
int option_max_entries(const char *v, uint64_t *entries);

/* --- reports (report.c): around the work of a command that has --json; the end gives back the status --------- */
void report_begin(bool json);
int report_end(bool json, int status);

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

#endif
