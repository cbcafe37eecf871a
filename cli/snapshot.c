/* SPDX-License-Identifier: ISC */
/*
 * `cowbell snapshot create|ls|inspect|rm|verify`: options and output. Files: snapfile.c.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "abi/boot.h"
#include "cli/cli.h"
#include "image/image.h"
#include "lib/host/ctl.h"
#include "lib/host/say.h"
#include "monitor/snapshot.h"

#define SNAPSHOT_MS 120000 /* a large instance on a slow disk */

enum { OPT_HELP = 1, OPT_JSON, OPT_OUTPUT, OPT_FORCE, OPT_STOP, OPT_FULL };

/* Ask the instance; 0, or an exit status after one line. */
static int ask(struct ctl *c, const char *word, int fd, uint32_t flags, struct ctl_snapshot *res)
{
	char why[CTL_WHY_MAX];
	int r = ctl_call(c, CTL_SNAPSHOT, flags, fd, res, sizeof(*res), why, SNAPSHOT_MS);

	if (!r)
		return 0;
	return say_fail(EXIT_OURS, "%s: no snapshot was taken: %s", word, *why ? why : strerror(-r));
}

/* --- create ------------------------------------------------------------------------- */

static const struct option_def create_options[] = {
	{OPT_OUTPUT, 'o', "output", "FILE", "write it there, not into the store"},
	{OPT_STOP, 0, "stop", NULL, "end the instance when it is taken"},
	{OPT_FULL, 0, "full", NULL, "all of it, although the instance comes from a snapshot"},
	{OPT_JSON, 0, "json", NULL, "as one JSON object"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

/* Would a delta in that directory find its parent again? */
static bool parent_is_there(const struct ctl_status *st, int dir)
{
	static const uint8_t none[32];
	bool other;
	int fd = memcmp(st->parent_digest, none, 32) ? snap_find(st->parent_digest, st->parent, dir, &other)
						     : -1;

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* Would it take the place of its own parent? */
static bool is_parent(const struct ctl_status *st, const struct snap_out *out)
{
	struct snapshot_ids ids;
	int fd = openat(out->dir, out->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool is = fd >= 0 && !snapshot_ids(fd, &ids) &&
		  !memcmp(ids.digest, st->parent_digest, sizeof(ids.digest));

	if (fd >= 0)
		close(fd);
	return is;
}

/* The instance's own descriptors of its layers: their names may have gone since it started. */
static void know_layers(struct twin *t, struct ctl *c, struct snap_out *out)
{
	if (!out->stored || twin_fetch(t, c, false))
		return;
	for (uint32_t i = 0; i < t->n; i++) {
		const struct monitor_given *g = &t->fd[i].given;

		if (g->kind == CTL_FD_LAYER && g->id == (uint32_t)out->n_layers && g->id < MONITOR_MAX_LAYERS)
			out->layer_fd[out->n_layers++] = t->fd[i].off ? -1 : g->fd;
	}
}

static int run_create(const struct words *w)
{
	uint32_t flags = (w->has[OPT_STOP] ? CTL_SNAP_STOP : 0) | (w->has[OPT_FULL] ? CTL_SNAP_FULL : 0);
	struct snapshot_ids ids = {0};
	struct ctl c;
	struct ctl_status st;
	struct ctl_snapshot res;
	struct snap_out out;
	static struct twin twin;
	const char *file = w->value[OPT_OUTPUT];
	int status = instance_find("snapshot create", w->names[0], &c, &st);

	if (!status)
		status = snap_out_open(&out, file, st.name);
	if (status)
		return status;
	if (!parent_is_there(&st, out.dir) || is_parent(&st, &out))
		flags |= CTL_SNAP_FULL;
	know_layers(&twin, &c, &out);
	status = ask(&c, w->names[0], out.fd, flags, &res);
	ctl_close(&c);
	if (status) {
		snap_out_abort(&out);
		return status;
	}
	snapshot_ids(out.fd, &ids);
	status = snap_out_commit(&out);
	twin_free(&twin);
	if (status)
		return status;
	if (w->has[OPT_JSON])
		printf("{\"snapshot\": \"%s\", \"bytes\": %llu, \"paused_ms\": %.3f, \"delta\": %s}\n",
		       file ? file : st.name, (unsigned long long)res.bytes, (double)res.paused_ns / 1e6,
		       ids.delta ? "true" : "false");
	else
		printf("%s: %.1f MB%s%s, paused %.1f ms\n", file ? file : st.name, (double)res.bytes / 1e6,
		       ids.delta ? " over " : "", ids.delta ? st.parent : "", (double)res.paused_ns / 1e6);
	return 0;
}

/* --- ls, inspect ------------------------------------------------------------------------ */

static const struct option_def json_options[] = {
	{OPT_JSON, 0, "json", NULL, "as JSON; sizes in bytes"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static const char *plat_name(uint32_t plat)
{
	return plat == BOOT_PLAT_KVM ? "kvm" : plat == BOOT_PLAT_PROCESS ? "process" : "?";
}

static uint64_t disk_bytes(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

static void taken_text(uint64_t real_ns, char *out, size_t size)
{
	time_t t = (time_t)(real_ns / 1000000000u);
	struct tm tm;

	strftime(out, size, "%Y-%m-%d %H:%M:%S", localtime_r(&t, &tm));
}

static void find_missing(const char *name, const struct snapshot_info *si, struct strings *out)
{
	int dir = snap_dir_of(name);

	pins_missing(si, dir, out);
	if (dir >= 0)
		close(dir);
}

static json_t *info_json(const char *name, int fd, const struct snapshot_info *si)
{
	json_t *layers = json_array(), *ports = json_array(), *volumes = json_array();
	json_t *parent = si->delta ? NULL : json_null(), *lacks = json_array();
	struct strings missing = {0};
	char hex[65], parent_hex[65], id[CTL_ID_LEN + 1];

	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", si->digest[i]);
	for (int i = 0; i < CTL_ID_LEN / 2; i++)
		snprintf(id + 2 * i, 3, "%02x", si->instance_id[i]);
	for (int i = 0; i < si->n_layers; i++)
		json_array_append_new(layers, json_pack("{s:s,s:I,s:b}", "layer", si->layers[i].id, "bytes",
							(json_int_t)si->layers[i].size, "embedded",
							si->layers[i].embedded));
	for (int i = 0; i < si->n_ports; i++)
		json_array_append_new(ports, json_integer(si->ports[i]));
	for (int i = 0; i < si->n_volumes; i++)
		json_array_append_new(volumes, json_pack("{s:s,s:b}", "directory", si->volumes[i].dir,
							 "read_only", si->volumes[i].ro));
	for (int i = 0; i < 32; i++)
		snprintf(parent_hex + 2 * i, 3, "%02x", si->parent_digest[i]);
	if (si->delta)
		parent = json_pack("{s:s,s:s}", "name", si->parent, "digest", parent_hex);
	find_missing(name, si, &missing);
	for (size_t i = 0; i < missing.n; i++)
		json_array_append_new(lacks, json_string(missing.v[i]));
	strings_free(&missing);
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:b,s:b,s:i,s:i,s:o,s:o,s:"
			 "o,s:o,s:o}",
			 "name", name, "digest", hex, "instance", id, "instance_name", si->name, "program",
			 si->exe, "monitor", plat_name(si->plat), "version", (int)si->version, "taken",
			 (double)si->real_ns / 1e9, "bytes", (json_int_t)si->file_size, "disk_bytes",
			 (json_int_t)disk_bytes(fd), "stored_bytes", (json_int_t)si->stored_bytes,
			 "memory_bytes", (json_int_t)si->ram_size, "memory_max_bytes",
			 (json_int_t)si->ram_max, "generation", (json_int_t)si->generation, "egress",
			 si->egress, "terminal", si->tty, "handles", (int)si->n_handles, "connections",
			 (int)si->n_connections, "layers", layers, "ports", ports, "volumes", volumes,
			 "parent", parent, "missing", lacks);
}

static void info_line(const char *name, int fd, const struct snapshot_info *si)
{
	char taken[32], ports[128] = "";
	struct strings missing = {0};
	size_t n = 0;

	taken_text(si->real_ns, taken, sizeof(taken));
	for (int i = 0; i < si->n_ports && n < sizeof(ports) - 8; i++)
		n += (size_t)snprintf(ports + n, sizeof(ports) - n, "%s%u", i ? "," : "", si->ports[i]);
	printf("%-20s  %8.1fM  %7.0fM  %-7s  %-19s  %-10s  %-12s  %s\n", name,
	       (double)disk_bytes(fd) / 1048576, (double)si->ram_max / 1048576, plat_name(si->plat), taken,
	       *ports ? ports : "-", si->delta ? si->parent : "-", si->exe);
	find_missing(name, si, &missing);
	for (size_t i = 0; i < missing.n; i++)
		printf("  missing: %s\n", missing.v[i]);
	strings_free(&missing);
}

static int by_word(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names of those in the store, sorted. */
static int stored_names(struct strings *out)
{
	int fd = image_snapshot_dir();
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		size_t n = strlen(e->d_name);
		if (n > 5 && e->d_name[0] != '.' && !strcmp(e->d_name + n - 5, ".snap")) {
			e->d_name[n - 5] = 0;
			strings_add(out, e->d_name);
		}
	}
	if (d)
		closedir(d);
	if (out->n)
		qsort(out->v, out->n, sizeof(*out->v), by_word);
	return d ? 0 : EXIT_OURS;
}

static int run_ls(const struct words *w)
{
	static struct snapshot_info si;
	struct strings names = {0};
	json_t *list = json_array();
	int status = stored_names(&names);

	if (!status && !w->has[OPT_JSON])
		printf("%-20s  %9s  %8s  %-7s  %-19s  %-10s  %-12s  %s\n", "NAME", "DISK", "LIMIT", "MONITOR",
		       "TAKEN", "PORTS", "OVER", "PROGRAM");
	for (size_t i = 0; i < names.n; i++) {
		const char *why = "";
		int fd = snap_open("snapshot ls", names.v[i]), r = fd < 0 ? 0 : snapshot_info(fd, &si, &why);

		if (fd < 0)
			continue; /* it has gone meanwhile */
		if (r)
			status = say_fail(EXIT_OURS, "%s: %s", names.v[i], *why ? why : strerror(-r));
		else if (w->has[OPT_JSON])
			json_array_append_new(list, info_json(names.v[i], fd, &si));
		else
			info_line(names.v[i], fd, &si);
		close(fd);
	}
	strings_free(&names);
	return report_list(list, w->has[OPT_JSON], status);
}

static void info_text(const char *name, int fd, const struct snapshot_info *si)
{
	struct strings missing = {0};
	char taken[32];

	taken_text(si->real_ns, taken, sizeof(taken));
	printf("%s\n  program      %s\n  instance     %s\n  taken        %s under %s\n"
	       "  memory       %.1f MB of %.0f MB; %.1f MB stored\n  disk         %.1f MB\n"
	       "  handles      %u, of them %u connections that will be closed\n",
	       name, si->exe, si->name, taken, plat_name(si->plat), (double)si->ram_size / 1e6,
	       (double)si->ram_max / 1e6, (double)si->stored_bytes / 1e6, (double)disk_bytes(fd) / 1e6,
	       si->n_handles, si->n_connections);
	if (si->delta)
		printf("  over         %s; stored is what differs\n", si->parent);
	for (int i = 0; i < si->n_layers; i++)
		printf("  layer        %s (%.1f MB)\n",
		       si->layers[i].embedded ? "in the snapshot" : si->layers[i].id,
		       (double)si->layers[i].size / 1e6);
	for (int i = 0; i < si->n_ports; i++)
		printf("  port         %u\n", si->ports[i]);
	for (int i = 0; i < si->n_volumes; i++)
		printf("  volume       %s%s\n", si->volumes[i].dir, si->volumes[i].ro ? " (read-only)" : "");
	find_missing(name, si, &missing);
	for (size_t i = 0; i < missing.n; i++)
		printf("  missing      %s\n", missing.v[i]);
	strings_free(&missing);
}

static int run_inspect(const struct words *w)
{
	static struct snapshot_info si;
	json_t *list = json_array();
	int status = 0;

	for (int i = 0; i < w->n; i++) {
		const char *why = "";
		int fd = snap_open("snapshot inspect", w->names[i]),
		    r = fd < 0 ? 0 : snapshot_info(fd, &si, &why);

		if (fd < 0)
			status = EXIT_NOT_FOUND;
		else if (r)
			status = say_fail(EXIT_OURS, "%s: %s", w->names[i], *why ? why : strerror(-r));
		else if (w->has[OPT_JSON])
			json_array_append_new(list, info_json(w->names[i], fd, &si));
		else
			info_text(w->names[i], fd, &si);
		if (fd >= 0)
			close(fd);
	}
	return report_list(list, w->has[OPT_JSON], status);
}

/* --- rm, verify --------------------------------------------------------------------------- */

static const struct option_def rm_options[] = {
	{OPT_FORCE, 'f', "force", NULL, "no error for what is not there; also what others lie over"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static int run_rm(const struct words *w)
{
	int dir = image_snapshot_dir(), pins = dir < 0 ? -1 : image_pins_lock(), status = 0;
	char by[256];

	for (int i = 0; dir >= 0 && i < w->n; i++) {
		char *name = textf("%s.snap", w->names[i]);
		bool bad = strchr(w->names[i], '/') || w->names[i][0] == '.';

		if (bad)
			status =
				say_fail(EXIT_OURS, "snapshot rm %s: not the name of a snapshot of the store",
					 w->names[i]);
		else if (!w->has[OPT_FORCE] && snap_needed(dir, w->names[i], by, sizeof(by)))
			status = say_fail(
				EXIT_OURS,
				"snapshot rm %s: the snapshot %s stores only what differs from it and "
				"would be lost; remove that first, or force it: -f",
				w->names[i], by);
		else if (unlinkat(dir, name, 0) && !(errno == ENOENT && w->has[OPT_FORCE]))
			status = errno == ENOENT ? say_fail(EXIT_NOT_FOUND, "snapshot rm: no snapshot '%s'",
							    w->names[i])
						 : say_fail(EXIT_OURS, "snapshot rm %s: %s", w->names[i],
							    strerror(errno));
		free(name);
	}
	if (pins >= 0) {
		pins_sweep(pins, dir);
		close(pins);
	}
	if (dir >= 0)
		close(dir);
	return dir < 0 ? EXIT_OURS : status;
}

static const struct option_def verify_options[] = {
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

/* The file's own bytes, then its parents: those that are needed, and theirs. */
static int verify_one(const char *word)
{
	static struct snapshot_info si;
	int fd = snap_open("snapshot verify", word), dir, status = 0, depth = 0;
	char *shown = textf("%s", word);
	bool other = false;

	if (fd < 0)
		return EXIT_NOT_FOUND;
	dir = snap_dir_of(word);
	while (!status && fd >= 0) {
		const char *why = "";
		int r = snapshot_verify(fd, &why);

		if (!r)
			r = snapshot_info(fd, &si, &why);
		close(fd);
		if (r) {
			status = say_fail(EXIT_OURS, "%s: %s", shown, *why ? why : strerror(-r));
			break;
		}
		if (!si.delta)
			break;
		fd = ++depth < SNAP_MAX_CHAIN ? snap_find(si.parent_digest, si.parent, dir, &other) : -1;
		if (fd < 0)
			status = say_fail(EXIT_OURS, "%s: it lies over %s, which %s", shown, si.parent,
					  depth == SNAP_MAX_CHAIN ? "is one too many"
					  : other		  ? "is another one now"
								  : "is not here any more");
		free(shown);
		shown = textf("%s", si.parent);
	}
	free(shown);
	if (dir >= 0)
		close(dir);
	if (!status)
		printf("%s: good\n", word);
	return status;
}

static int run_verify(const struct words *w)
{
	int status = 0;

	for (int i = 0; i < w->n; i++) {
		int r = verify_one(w->names[i]);

		status = r ? r : status;
	}
	return status;
}

static const struct {
	const char *name;
	const struct option_def *defs;
	const char *full, *usage;
	int from, to;
	int (*run)(const struct words *w);
} subs[] = {
	{"create", create_options, "snapshot create",
	 "NAME|ID [-o FILE]\n\nSnapshots a running instance, which then goes on.", 1, 1, run_create},
	{"ls", json_options, "snapshot ls", "[--json]\n\nLists the snapshots of the store.", 0, 0, run_ls},
	{"inspect", json_options, "snapshot inspect",
	 "FILE|NAME... [--json]\n\nShows what is in a snapshot and what it needs.", 1, -1, run_inspect},
	{"rm", rm_options, "snapshot rm", "NAME... [-f]\n\nRemoves snapshots from the store.", 1, -1, run_rm},
	{"verify", verify_options, "snapshot verify", "FILE|NAME...\n\nChecks every byte of a snapshot.", 1,
	 -1, run_verify},
};
#define N_SUBS (sizeof(subs) / sizeof(subs[0]))

static int snapshot_help(void)
{
	puts("Usage: cowbell snapshot COMMAND [OPTIONS]\n\nCommands:\n"
	     "  create     snapshot a running instance, which then goes on\n"
	     "  ls         list the snapshots of the store\n"
	     "  inspect    show what is in a snapshot and what it needs\n"
	     "  rm         remove snapshots from the store\n"
	     "  verify     check every byte of a snapshot\n\n"
	     "To go on from one: cowbell run --snapshot FILE|NAME. To take one of a program as it\n"
	     "starts: cowbell run --snapshot-at ready. 'cowbell snapshot COMMAND --help' tells more.");
	return 0;
}

int cmd_snapshot(int argc, char **argv)
{
	const char *names[N_SUBS];

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		return snapshot_help();
	if (argc < 2)
		return say_fail(EXIT_OURS,
				"snapshot: create, ls, inspect, rm or verify? See: cowbell snapshot --help");
	for (size_t i = 0; i < N_SUBS; i++) {
		names[i] = subs[i].name;
		if (!strcmp(argv[1], subs[i].name))
			return words_command(subs[i].defs, subs[i].full, subs[i].usage, subs[i].from,
					     subs[i].to, argc - 1, argv + 1, subs[i].run);
	}
	const char *close_name = suggest(argv[1], names, N_SUBS);
	return say_fail(EXIT_OURS, "snapshot: no command '%s'%s%s; all: cowbell snapshot --help", argv[1],
			close_name ? "; did you mean: snapshot " : "", close_name ? close_name : "");
}
