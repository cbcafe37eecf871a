/* SPDX-License-Identifier: ISC */
/*
 * `cowbell clone`: copies of a running instance.
 *
 * The original stands still while its memory is copied, once for all copies, into a file that has no name and goes
 * with the last of them. Everything else a copy gets from the original's own descriptors (twin.c): layers, and volumes
 * if the user says so. Two programs that write to the same files without knowing of one another are nobody's default:
 * the user says `--volumes share`, `--volumes read-only`, or other directories with -v.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/host/ctl.h"
#include "lib/host/say.h"

#define SNAPSHOT_MS 120000
#define MAX_CLONES  10000

enum { OPT_HELP = 1, OPT_COUNT, OPT_JSON, OPT_NAME, OPT_PUBLISH, OPT_VOLUME, OPT_VOLUMES, OPT_MONITOR };

static const struct option_def clone_options[] = {
	{OPT_COUNT, 'n', "count", "COUNT", "how many copies (1)"},
	{OPT_NAME, 0, "name", "NAME", "their unique name; of several: NAME-1, NAME-2, ..."},
	{OPT_PUBLISH, 'p', "publish", "[ADDR:]HOST:PORT",
	 "host port for a port of theirs, of several copies the first\none's; the others get HOST+1, ... "
	 "(free ones)"},
	{OPT_VOLUME, 'v', "volume", "HOSTDIR:GUESTDIR[:ro]", "give them this directory there"},
	{OPT_VOLUMES, 0, "volumes", "share|read-only",
	 "give them the original's directories, to write to or not,\nwhere no -v says another"},
	{OPT_MONITOR, 0, "monitor", "auto|kvm|process", "what they run under (what the original does)"},
	{OPT_JSON, 0, "json", NULL, "as a JSON list"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

/* What the options say, for all copies. */
struct clone {
	struct twin twin;
	struct monitor_config cfg;
	char *guest_dir[MONITOR_MAX_VOLUMES]; /* of -v */
	struct monitor_volume volume[MONITOR_MAX_VOLUMES];
	int n_volumes;
	bool share, read_only;
	const char *name;
	long count;
	int snap;
};

/* --- options --------------------------------------------------------------------------- */

static int take_volume(struct clone *cl, const char *v)
{
	struct monitor_volume *to = &cl->volume[cl->n_volumes];
	const char *why;
	char *host, *guest;

	if (cl->n_volumes == MONITOR_MAX_VOLUMES)
		return say_fail(EXIT_OURS, "-v %s: more than %d volumes", v, MONITOR_MAX_VOLUMES);
	if (!parse_volume(v, &host, &guest, &to->ro, &why))
		return say_fail(EXIT_OURS, "-v %s: %s", v, why);
	to->guest_dir = guest;
	cl->n_volumes++;
	return open_volume(host, &to->dirfd);
}

/* Any free one, of the same address; in place of a socket file, which is the original's, one of this host only. */
static void free_port(struct monitor_port *p)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	if (p->host.ss_family == AF_UNIX)
		memcpy(&p->host, &here, sizeof(here));
	((struct sockaddr_in *)&p->host)->sin_port = 0;
}

static int take_port(struct clone *cl, const char *v)
{
	struct monitor_config *cfg = &cl->cfg;
	struct monitor_port p;
	const char *why;
	int i = 0;

	if (!parse_port(v, &p, &why))
		return say_fail(EXIT_OURS, "-p %s: %s", v, why);
	while (i < cfg->n_ports && cfg->ports[i].guest != p.guest)
		i++;
	if (i == MONITOR_MAX_PORTS)
		return say_fail(EXIT_OURS, "-p %s: more than %d ports", v, MONITOR_MAX_PORTS);
	cfg->ports[i] = p; /* one more, if the original does not forward it */
	if (i == cfg->n_ports)
		cfg->n_ports++;
	return 0;
}

static int take_options(struct clone *cl, const struct words *w)
{
	const char *volumes = w->value[OPT_VOLUMES], *monitor = w->value[OPT_MONITOR];
	int status = 0;

	cl->share = volumes && !strcmp(volumes, "share");
	cl->read_only = volumes && !strcmp(volumes, "read-only");
	if (volumes && !cl->share && !cl->read_only)
		return say_fail(EXIT_OURS, "--volumes %s: must be share or read-only", volumes);
	if (monitor && !parse_monitor(monitor, &cl->cfg.kind))
		return say_fail(EXIT_OURS, "--monitor %s: must be auto, kvm or process", monitor);
	cl->name = w->value[OPT_NAME];
	if (cl->name && (!parse_name(cl->name) || (cl->count > 1 && strlen(cl->name) > 57)))
		return say_fail(EXIT_OURS, "--name %s: must be 1 to %d letters, digits, '-', '_' or '.'",
				cl->name, cl->count > 1 ? 57 : 63);
	for (size_t i = 0; i < w->all[OPT_PUBLISH].n && !status; i++)
		status = take_port(cl, w->all[OPT_PUBLISH].v[i]);
	for (size_t i = 0; i < w->all[OPT_VOLUME].n && !status; i++)
		status = take_volume(cl, w->all[OPT_VOLUME].v[i]);
	return status;
}

/* Whether each volume of the snapshot has a directory is snap_restore()'s to say, but for this: */
static int check_volumes(const struct clone *cl)
{
	if (!cl->twin.st.n_volumes || cl->share || cl->read_only || cl->n_volumes)
		return 0;
	return say_fail(
		EXIT_OURS,
		"clone: %s has %u volume%s; say what the copies get: --volumes share (they write to the "
		"same files), --volumes read-only, or -v HOSTDIR:GUESTDIR",
		cl->twin.st.name, cl->twin.st.n_volumes, cl->twin.st.n_volumes > 1 ? "s" : "");
}

/* --- copies ----------------------------------------------------------------------------- */

/* Of the original's directories those stay that nothing was said about. Their places in the guest are in the snapshot. */
static int choose_volumes(struct clone *cl, struct monitor_config *cfg)
{
	bool used[MONITOR_MAX_VOLUMES] = {false};

	for (int i = 0; i < cfg->n_volumes; i++) {
		int k = 0;

		while (k < cl->n_volumes && strcmp(cl->volume[k].guest_dir, cfg->volumes[i].guest_dir))
			k++;
		if (k < cl->n_volumes) {
			used[k] = true;
			cfg->volumes[i] = cl->volume[k];
		} else if (!cl->share && !cl->read_only) {
			return say_fail(EXIT_OURS,
					"clone: what do the copies get at %s? -v HOSTDIR:%s, or --volumes",
					cfg->volumes[i].guest_dir, cfg->volumes[i].guest_dir);
		}
		cfg->volumes[i].ro |= cl->read_only;
	}
	for (int k = 0; k < cl->n_volumes; k++)
		if (!used[k])
			return say_fail(EXIT_OURS, "-v: %s has no volume at %s", cl->twin.st.name,
					cl->volume[k].guest_dir);
	return 0;
}

static int shift_port(struct monitor_port *p, long by)
{
	struct sockaddr_in *a = (struct sockaddr_in *)&p->host; /* the port is at the same place in IPv6 */
	long port = ntohs(a->sin_port);

	if (port && port + by > 65535)
		return say_fail(EXIT_OURS, "clone: there is no port %ld for the copy %ld", port + by, by + 1);
	a->sin_port = htons((uint16_t)(port ? port + by : 0));
	return 0;
}

/* The i-th copy, detached. 0, an exit status, or -1 in the copy's own process, which has ended its run with *status. */
static int clone_one(struct clone *cl, long i, struct ctl_status *st, int *status)
{
	static struct monitor_config cfg;
	char file[32], *name = NULL;
	int fd, r = 0;

	cfg = cl->cfg;
	if (cl->name)
		name = cl->count > 1 ? textf("%s-%ld", cl->name, i + 1) : textf("%s", cl->name);
	if (name)
		cfg.name = cfg.unique_name = name;
	for (int k = 0; k < cfg.n_ports && !r; k++)
		r = shift_port(&cfg.ports[k], i);
	snprintf(file, sizeof(file), "/proc/self/fd/%d", cl->snap);
	fd = open(file, O_RDONLY | O_CLOEXEC); /* an offset of its own */
	if (!r && fd < 0)
		r = say_fail(EXIT_OURS, "clone: %s", strerror(errno));
	if (!r)
		r = snap_restore(&cfg, cl->twin.st.name, fd, NULL);
	if (!r)
		r = choose_volumes(cl, &cfg);
	cfg.program = cl->twin.st.program;
	if (!r)
		r = state_detach(&cfg, st);
	if (r == -1) {
		*status = monitor_run(&cfg);
		state_ended(*status);
		return -1;
	}
	if (fd >= 0)
		close(fd);
	free(name);
	return r;
}

static void show(const struct words *w, const struct ctl_status *st, double ms, json_t *list)
{
	char *ports = instance_ports(st);

	if (w->has[OPT_JSON])
		json_array_append_new(list, json_pack("{s:s,s:s?,s:s,s:f}", "id", st->id, "name",
						      instance_name(st), "ports", ports, "paused_ms", ms));
	else
		printf("%s%s%s\n", st->id, *ports ? " " : "", ports);
	fflush(stdout);
	free(ports);
}

static int clone_all(struct clone *cl, const struct words *w, double ms, json_t *list)
{
	struct ctl_status st;
	int status = 0, r = 0;

	for (long i = 0; i < cl->count && !status; i++) {
		status = clone_one(cl, i, &st, &r);
		if (status < 0)
			_exit(r == MONITOR_MOVED ? 0 : r);
		if (!status)
			show(w, &st, ms, list);
		else if (i)
			say("clone: %ld of %ld copies run", i, cl->count);
	}
	return status;
}

/* The original's memory, and what it has of the host. */
static int take(struct clone *cl, struct ctl *c, const char *word, struct ctl_snapshot *res)
{
	char why[CTL_WHY_MAX];
	int r;

	cl->snap = memfd_create("cowbell-clone", MFD_CLOEXEC);
	if (cl->snap < 0)
		return say_fail(EXIT_OURS, "clone: %s", strerror(errno));
	r = ctl_call(c, CTL_SNAPSHOT, CTL_SNAP_BARE, cl->snap, res, sizeof(*res), why, SNAPSHOT_MS);
	return r ? say_fail(EXIT_OURS, "clone: %s cannot be copied: %s", word, *why ? why : strerror(-r)) : 0;
}

static int run_clone(const struct words *w)
{
	static struct clone cl; /* large */
	struct ctl_snapshot res = {0};
	struct ctl c;
	json_t *list = json_array();
	char *end = NULL;
	int status, r;

	cl.count = w->has[OPT_COUNT] ? strtol(w->value[OPT_COUNT], &end, 10) : 1;
	if (cl.count < 1 || cl.count > MAX_CLONES || (end && *end))
		return say_fail(EXIT_OURS, "-n %s: must be a number from 1 to %d", w->value[OPT_COUNT],
				MAX_CLONES);
	status = instance_find("clone", w->names[0], &c, &cl.twin.st);
	if (status)
		return status;
	r = twin_fetch(&cl.twin, &c, false);
	if (r)
		return say_fail(EXIT_OURS, "clone: %s does not give its files: %s", w->names[0],
				strerror(-r));
	twin_config(&cl.twin, &cl.cfg);
	for (int i = 0; i < cl.cfg.n_ports; i++) /* free ones, of the same address */
		free_port(&cl.cfg.ports[i]);
	status = take_options(&cl, w);
	if (!status)
		status = check_volumes(&cl);
	if (!status)
		status = take(&cl, &c, w->names[0], &res);
	ctl_close(&c);
	if (!status)
		status = clone_all(&cl, w, (double)res.paused_ns / 1e6, list);
	twin_free(&cl.twin);
	return report_list(list, w->has[OPT_JSON], status);
}

int cmd_clone(int argc, char **argv)
{
	return words_command(
		clone_options, "clone",
		"NAME|ID [-n COUNT] [OPTIONS]\n\nStarts copies of a running instance, detached, each with "
		"free host ports of its own unless told,\nand prints the ID and the ports of each.",
		1, 1, argc, argv, run_clone);
}
