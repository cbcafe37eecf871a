/* SPDX-License-Identifier: ISC */
/*
 * `cowbell run`: from words to one running instance.
 *
 * Order of work: read and check every option; open the volumes (so that what
 * was checked is what is used); prepare the image, which may take a while the
 * first time; hand over to the monitor. Nothing is created before all options
 * are known to be good, and everything opened is closed by process exit.
 *
 * The program's environment is made in env.c. An image of the store decides about the rest of it, its
 * user and its command; options win over what the image says.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/prefix.h"
#include "image/image.h"
#include "lib/host/say.h"
#include "monitor/monitor.h"

#define DEFAULT_RAM	  (512ull << 20)
#define MIN_RAM		  (8ull << 20)
#define MAX_RAM		  (64ull << 30)
#define PROGRESS_AFTER_NS 300000000ull

enum {
	OPT_MONITOR = 1,
	OPT_MEMORY,
	OPT_CPUS,
	OPT_CHAOS,
	OPT_ENV,
	OPT_WORKDIR,
	OPT_PUBLISH,
	OPT_VOLUME,
	OPT_EGRESS,
	OPT_ROOT,
	OPT_INTERACTIVE,
	OPT_TTY,
	OPT_STRACE,
	OPT_STATS,
	OPT_TIMEOUT,
	OPT_NAME,
	OPT_VERBOSE,
	OPT_HELP,
	OPT_ENV_FILE,
	OPT_USER,
	OPT_PUBLISH_ALL,
	OPT_ENTRYPOINT,
	OPT_PROCESS,
	OPT_REQUIRE_SIGNATURE,
	OPT_MAX_SIZE,
	OPT_MAX_ENTRIES,
	OPT_DETACH,
	OPT_SNAPSHOT,
	OPT_SNAPSHOT_AT,
	OPT_SNAPSHOT_TO,
	OPT_SNAPSHOT_STOP,
	OPT_SNAPSHOT_FULL,
	OPT_NOTIFY_FD,
	OPT_NO_PREFIX,
	OPT_PREFIX_KEY,
	OPT_STANDBY,
	OPT_COMMAND,
	OPT_WITH,
};

static const struct option_def run_options[] = {
	{OPT_MONITOR, 0, "monitor", "auto|kvm|process",
	 "what runs the program: a KVM virtual machine, or a confined\n"
	 "process (weaker; needs nothing). auto: kvm where it can be used"},
	{OPT_CPUS, 0, "cpus", "N", "virtual CPUs, 1 to 16 (1)"},
	{OPT_MEMORY, 'm', "memory", "SIZE", "limit of its memory, such as 64M or 2G (512M); grows on demand"},
	{OPT_ENV, 'e', "env", "K=V", "environment variable; K alone takes the value from here"},
	{OPT_ENV_FILE, 0, "env-file", "FILE", "environment variables, one K=V a line; -e wins"},
	{OPT_USER, 'u', "user", "USER[:GROUP]", "run as this user of the image, by name or number (root)"},
	{OPT_WORKDIR, 'w', "workdir", "DIR",
	 "working directory inside (the current one, else /; an image's own)"},
	{OPT_PUBLISH, 'p', "publish", "[ADDR:]HOST:PORT",
	 "forward a host port, TCP and UDP, to one of the program's;\nHOST 0 takes any free port and prints "
	 "it. unix:PATH:PORT: a socket\nfile of the host, which only its owner may use, to a TCP port"},
	{OPT_PUBLISH_ALL, 'P', "publish-all", NULL,
	 "forward a free host port to each port that an image exposes"},
	{OPT_VOLUME, 'v', "volume", "HOSTDIR:GUESTDIR[:ro]", "give the program a directory of the host"},
	{OPT_EGRESS, 0, "egress", "RULES",
	 "where it may connect to: none, all, or [!]CIDR[:PORT],...\n(all, which excludes link-local "
	 "addresses); ! forbids, a later rule\nwins, as in all,!10.0.0.0/8"},
	{OPT_ROOT, 0, "root", "DIR|IMAGE", "use this tree or EROFS image as its file system"},
	{OPT_WITH, 0, "with", "NAME|PATH",
	 "have this there, too: a program on PATH or a package of this machine,\nwith all that it needs; or "
	 "a "
	 "file or directory; several with commas"},
	{OPT_PROCESS, 0, "process", "TYPE",
	 "which process type of an image's Procfile (web, else its only one)"},
	{OPT_ENTRYPOINT, 0, "entrypoint", "PROGRAM",
	 "start this in place of an image's entrypoint and command"},
	{OPT_REQUIRE_SIGNATURE, 0, "require-signature", "KEY.pem",
	 "start nothing that this public key has not signed"},
	{OPT_MAX_SIZE, 0, "max-size", "SIZE", "limit of a container image when it is unpacked (1G)"},
	{OPT_MAX_ENTRIES, 0, "max-entries", "N", "limit of its files and directories (100000)"},
	{OPT_INTERACTIVE, 'i', "interactive", NULL,
	 "pass standard input (always done; accepted for habit's sake)"},
	{OPT_TTY, 't', "tty", NULL, "insist on a terminal; without it one is used where there is one"},
	{OPT_STRACE, 0, "strace", NULL, "print every system call, decoded, on standard error"},
	{OPT_CHAOS, 0, "chaos", "SEED",
	 "preempt and delay where this seed says (to test programs and cowbell)"},
	{OPT_STATS, 0, "stats", "[=json]", "print times per phase, exits, faults and memory at the end"},
	{OPT_TIMEOUT, 0, "timeout", "DURATION", "end it after this time, such as 500ms, 30s, 2h; status 124"},
	{OPT_NAME, 0, "name", "NAME", "unique name of the instance, and its host name"},
	{OPT_DETACH, 'd', "detach", NULL,
	 "run it in the background and print its ID; see cowbell logs, stop"},
	{OPT_SNAPSHOT, 0, "snapshot", "FILE|NAME", "go on from this snapshot; there is no PROGRAM then"},
	{OPT_SNAPSHOT_AT, 0, "snapshot-at", "WHEN",
	 "take a snapshot when it is ready (it listens and waits for the\nfirst connection), at its first "
	 "listen, after a "
	 "time such as\n2s, or when the signal comes"},
	{OPT_SNAPSHOT_TO, 'o', "snapshot-to", "FILE",
	 "write that snapshot there, not into the store under its name"},
	{OPT_SNAPSHOT_STOP, 0, "snapshot-stop", NULL, "end it when that snapshot is taken"},
	{OPT_SNAPSHOT_FULL, 0, "snapshot-full", NULL,
	 "with --snapshot: that snapshot is not a delta over the one it starts from"},
	{OPT_COMMAND, 0, "command", "LINE",
	 "start this in an image, in place of its command: a line as in a\nProcfile"},
	{OPT_NO_PREFIX, 0, "no-prefix", NULL,
	 "neither use nor make starts that images with the same runtime share"},
	{OPT_PREFIX_KEY, 0, "prefix-key", NULL,
	 "print which shared start an image would go on from, and its app's\nlayer; start nothing"},
	{OPT_STANDBY, 0, "standby", "FD",
	 "go on from it as far as that is possible without the app, and wait\nfor one there (abi/standby.h)"},
	{OPT_NOTIFY_FD, 0, "notify-fd", "N",
	 "write lines to this open descriptor: 'how ...' when it starts,\n'listening PORT' when a forwarded "
	 "port is listened on"},
	{OPT_VERBOSE, 0, "verbose", NULL, "say what is being done; twice: more"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

/* Everything that the options say, still in words where it must be opened later. */
struct run {
	struct monitor_config cfg;
	struct image_request req;
	struct env env;
	struct strings with;
	char *vol_host[MONITOR_MAX_VOLUMES];
	const char *vol_guest[MONITOR_MAX_VOLUMES + 1];
	struct prefix prefix;
	bool publish_all, detach, no_prefix;
	const char *snapshot, *snapshot_to;
	uint64_t progress_start_ns;
	uint64_t memory; /* -m, or 0 */
};

static int run_help(void)
{
	puts("Usage: cowbell run [OPTIONS] [--] PROGRAM|IMAGE [ARG...]\n"
	     "       cowbell run [OPTIONS] --snapshot FILE|NAME\n\n"
	     "Runs PROGRAM, a path or a name on PATH: an x86-64 ELF or a #! script. What it\n"
	     "needs is collected into a cached image, unless --root names a file system.\n"
	     "Or PROGRAM is an image: image:NAME[:TAG] of the store, oci:DIR[:REF],\n"
	     "oci-archive:FILE, docker-archive:FILE; ARGs then replace its command.\n"
	     "\nOptions:");
	options_help(run_options);
	puts("\nExit status: the program's own, or 128+N if signal N ended it; 124 after --timeout,\n"
	     "125 if cowbell itself failed, 126 if PROGRAM cannot be executed, 127 if it was not found.");
	return 0;
}

static int set_monitor(struct run *r, const char *v)
{
	if (parse_monitor(v, &r->cfg.kind))
		return 0;
	return say_fail(EXIT_OURS, "--monitor %s: must be auto, kvm or process", v);
}

static int set_memory(struct run *r, const char *v)
{
	uint64_t n;

	if (!parse_size(v, &n))
		return say_fail(EXIT_OURS, "-m %s: must be a size such as 64M or 2G", v);
	if (n < MIN_RAM || n > MAX_RAM)
		return say_fail(EXIT_OURS, "-m %s: must be between 8M and 64G", v);
	r->memory = r->cfg.ram_max = (n + 4095) & ~4095ull;
	return 0;
}

static int set_cpus(struct run *r, const char *v)
{
	char *end;
	long n = strtol(v, &end, 10);

	if (*v < '0' || *v > '9' || *end || n < 1 || n > MONITOR_MAX_CPUS)
		return say_fail(EXIT_OURS, "--cpus %s: must be a number from 1 to %d", v, MONITOR_MAX_CPUS);
	r->cfg.n_cpus = (int)n;
	return 0;
}

/* A socket file keeps its place wherever we go. */
static int absolute_path(const char *v, struct monitor_port *p)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&p->host;
	char path[sizeof(un->sun_path)], *cwd;

	if (p->host.ss_family != AF_UNIX || *un->sun_path == '/')
		return 0;
	cwd = getcwd(NULL, 0);
	int n = cwd ? snprintf(path, sizeof(path), "%s/%s", cwd, un->sun_path) : -1;
	free(cwd);
	if (n < 0 || n >= (int)sizeof(path))
		return say_fail(
			EXIT_OURS,
			"-p %s: with its directory the path is too long for a socket: 107 bytes at most", v);
	memcpy(un->sun_path, path, sizeof(path));
	return 0;
}

static int set_descriptor(const char *option, const char *v, int *out)
{
	char *end;
	long fd = strtol(v, &end, 10);

	if (!isdigit((unsigned char)*v) || *end || fd < 1 || fd > 1 << 20 || fcntl((int)fd, F_GETFD) < 0)
		return say_fail(EXIT_OURS, "%s %s: must be the number of an open descriptor, not 0", option,
				v);
	*out = (int)fd;
	if (fd > 2)
		fcntl((int)fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

static int add_port(struct run *r, const char *v)
{
	const char *why;
	int status;

	if (r->cfg.n_ports == MONITOR_MAX_PORTS)
		return say_fail(EXIT_OURS, "-p %s: more than %d ports", v, MONITOR_MAX_PORTS);
	if (!parse_port(v, &r->cfg.ports[r->cfg.n_ports], &why))
		return say_fail(EXIT_OURS, "-p %s: %s", v, why);
	status = absolute_path(v, &r->cfg.ports[r->cfg.n_ports++]);
	return status;
}

static int add_volume(struct run *r, const char *v)
{
	const char *why;
	char *guest;
	int n = r->cfg.n_volumes;

	if (n == MONITOR_MAX_VOLUMES)
		return say_fail(EXIT_OURS, "-v %s: more than %d volumes", v, MONITOR_MAX_VOLUMES);
	if (!parse_volume(v, &r->vol_host[n], &guest, &r->cfg.volumes[n].ro, &why))
		return say_fail(EXIT_OURS, "-v %s: %s", v, why);
	for (int i = 0; i < n; i++)
		if (!strcmp(r->cfg.volumes[i].guest_dir, guest))
			return say_fail(EXIT_OURS, "-v %s: %s is given twice", v, guest);
	r->cfg.volumes[n].guest_dir = r->vol_guest[n] = guest;
	r->cfg.volumes[n].dirfd = -1;
	r->cfg.n_volumes++;
	return 0;
}

/* NAME,PATH,... */
static int add_with(struct run *r, const char *v)
{
	for (const char *p = v; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
		int n = (int)strcspn(p, ",");
		if (n >= PATH_MAX || !n)
			return say_fail(EXIT_OURS, "--with %s: must be names or paths, separated by commas",
					v);
		strings_addf(&r->with, "%.*s", n, p);
	}
	r->req.with = (const char *const *)r->with.v;
	return 0;
}

static int set_egress(struct run *r, const char *v)
{
	const char *why;

	return parse_egress(v, &r->cfg, &why) ? 0 : say_fail(EXIT_OURS, "--egress %s: %s", v, why);
}

static int set_timeout(struct run *r, const char *v)
{
	if (!parse_duration(v, &r->cfg.timeout_ns) || !r->cfg.timeout_ns)
		return say_fail(EXIT_OURS, "--timeout %s: must be a duration such as 500ms, 30s or 2h", v);
	return 0;
}

static int set_name(struct run *r, const char *v)
{
	if (!parse_name(v))
		return say_fail(EXIT_OURS, "--name %s: must be 1 to 63 letters, digits, '-', '_' or '.'", v);
	r->cfg.name = r->cfg.unique_name = v;
	return 0;
}

static int set_snapshot_at(struct run *r, const char *v)
{
	r->cfg.snapshot_at = !strcmp(v, "ready")			   ? SNAPSHOT_AT_READY
			     : !strcmp(v, "listen")			   ? SNAPSHOT_AT_LISTEN
			     : parse_duration(v, &r->cfg.snapshot_at_ns)   ? SNAPSHOT_AT_TIME
			     : parse_signal(v, &r->cfg.snapshot_at_signal) ? SNAPSHOT_AT_SIGNAL
									   : SNAPSHOT_AT_NONE;
	if (!r->cfg.snapshot_at ||
	    (r->cfg.snapshot_at == SNAPSHOT_AT_TIME ? !r->cfg.snapshot_at_ns
						    : r->cfg.snapshot_at_signal == SIGKILL))
		return say_fail(EXIT_OURS,
				"--snapshot-at %s: must be ready, listen, a time such as 2s, or a signal "
				"such as USR1",
				v);
	return 0;
}

static int set_stats(struct run *r, const char *v)
{
	if (v && strcmp(v, "json") && strcmp(v, "text"))
		return say_fail(EXIT_OURS, "--stats=%s: must be --stats or --stats=json", v);
	r->cfg.stats = v && !strcmp(v, "json") ? STATS_JSON : STATS_TEXT;
	return 0;
}

static int set_tty(struct run *r)
{
	r->cfg.tty = true;
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		return 0;
	return say_fail(EXIT_OURS, "-t: standard input and output are no terminal; leave -t out");
}

/* One option. 0, or the exit status after a line was printed. */
static int take_option(struct run *r, int id, const char *v)
{
	switch (id) {
	case OPT_MONITOR:
		return set_monitor(r, v);
	case OPT_MEMORY:
		return set_memory(r, v);
	case OPT_CHAOS:
		r->cfg.chaos = strtoull(v, NULL, 0);
		return r->cfg.chaos ? 0
				    : say_fail(EXIT_OURS, "--chaos %s: must be a number that is not 0", v);
	case OPT_CPUS:
		return set_cpus(r, v);
	case OPT_ENV:
		return env_option(&r->env, v);
	case OPT_ENV_FILE:
		return env_file(&r->env, v);
	case OPT_USER:
		r->req.user = v;
		return *v && *v != ':' ? 0 : say_fail(EXIT_OURS, "-u %s: must be USER[:GROUP]", v);
	case OPT_PUBLISH_ALL:
		r->publish_all = true;
		return 0;
	case OPT_ENTRYPOINT:
		r->req.entrypoint = v;
		return 0;
	case OPT_PROCESS:
		r->req.process = v;
		return *v ? 0 : say_fail(EXIT_OURS, "--process: needs a process type, such as web");
	case OPT_REQUIRE_SIGNATURE:
		r->req.require_signature = v;
		return *v ? 0 : say_fail(EXIT_OURS, "--require-signature: needs a file with a public key");
	case OPT_MAX_SIZE:
		return option_max_size(v, &r->req.max_bytes);
	case OPT_MAX_ENTRIES:
		return option_max_entries(v, &r->req.max_entries);
	case OPT_WITH:
		return add_with(r, v);
	case OPT_WORKDIR:
		r->req.workdir = v;
		return *v == '/' ? 0 : say_fail(EXIT_OURS, "-w %s: must be an absolute path in the guest", v);
	case OPT_PUBLISH:
		return add_port(r, v);
	case OPT_VOLUME:
		return add_volume(r, v);
	case OPT_EGRESS:
		return set_egress(r, v);
	case OPT_ROOT:
		r->req.root = v;
		return *v ? 0 : say_fail(EXIT_OURS, "--root: needs a directory or an EROFS image");
	case OPT_INTERACTIVE:
		r->cfg.interactive = true;
		return 0;
	case OPT_TTY:
		return set_tty(r);
	case OPT_STRACE:
		r->cfg.strace = true;
		return 0;
	case OPT_STATS:
		return set_stats(r, v);
	case OPT_TIMEOUT:
		return set_timeout(r, v);
	case OPT_NAME:
		return set_name(r, v);
	case OPT_DETACH:
		r->detach = true;
		return 0;
	case OPT_SNAPSHOT:
		r->snapshot = v;
		return *v ? 0 : say_fail(EXIT_OURS, "--snapshot: needs a file or the name of a snapshot");
	case OPT_SNAPSHOT_AT:
		return set_snapshot_at(r, v);
	case OPT_SNAPSHOT_TO:
		r->snapshot_to = v;
		return *v ? 0 : say_fail(EXIT_OURS, "-o: needs a file");
	case OPT_SNAPSHOT_STOP:
		r->cfg.snapshot_stop = true;
		return 0;
	case OPT_SNAPSHOT_FULL:
		r->cfg.snapshot_full = true;
		return 0;
	case OPT_PREFIX_KEY:
		r->prefix.print = true;
		return 0;
	case OPT_STANDBY:
		return set_descriptor("--standby", v, &r->prefix.standby_fd);
	case OPT_NO_PREFIX:
		r->no_prefix = true;
		return 0;
	case OPT_NOTIFY_FD:
		return set_descriptor("--notify-fd", v, &r->cfg.notify_fd);
	case OPT_COMMAND:
		r->req.command = v;
		return *v ? 0 : say_fail(EXIT_OURS, "--command: needs a command line");
	default:
		r->cfg.verbose++;
		return 0;
	}
}

static int open_volumes(struct run *r)
{
	int status = 0;

	for (int i = 0; i < r->cfg.n_volumes && !status; i++)
		status = open_volume(r->vol_host[i], &r->cfg.volumes[i].dirfd);
	return status;
}

/* Long steps, one line each, and only where somebody looks and has waited. */
static void progress(void *arg, const char *what)
{
	struct run *r = arg;

	if (r->cfg.verbose ||
	    (isatty(STDERR_FILENO) && cli_now_ns() - r->progress_start_ns > PROGRESS_AFTER_NS))
		say("%s", what);
}

/* The program's name, as far as it is fit for the name of an instance. */
static const char *default_name(const char *program)
{
	static char name[64];
	const char *slash = strrchr(program, '/'), *s = slash ? slash + 1 : program;
	size_t n = 0;

	for (; *s && n < sizeof(name) - 1; s++)
		name[n++] = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", *s)
				    ? *s
				    : '-';
	name[n] = 0;
	return n ? name : "cowbell";
}

/* A program that was found elsewhere on the host's PATH finds itself and its siblings there, too. */
static void extend_path(struct run *r, const struct image_set *set)
{
	const char *exe = set->exe;
	size_t n = (size_t)(strrchr(exe, '/') - exe);

	if (r->req.root || (strchr(r->req.program, '/') && !set->argv) ||
	    strcmp(r->env.all.v[0], "PATH=" GUEST_PATH))
		return;
	for (const char *p = GUEST_PATH; p; p = strchr(p, ':') ? strchr(p, ':') + 1 : NULL)
		if (strcspn(p, ":") == n && !strncmp(p, exe, n))
			return;
	char *kv = NULL;
	if (asprintf(&kv, "PATH=%.*s:%s", (int)n, exe, GUEST_PATH) > 0)
		strings_set_env(&r->env.all, kv);
	free(kv);
}

/* -P: each port of the image that no -p has forwarded. TCP and UDP go together. */
static int publish_all(struct run *r, const struct image_defaults *d)
{
	if (d->more_ports)
		return say_fail(EXIT_OURS,
				"-P: %s exposes more than %d ports; name those that you need with -p",
				d->name, d->n_ports);
	for (int i = 0; i < d->n_ports; i++) {
		bool have = false;
		for (int k = 0; k < r->cfg.n_ports; k++)
			have |= r->cfg.ports[k].guest == d->ports[i].port;
		if (have)
			continue;
		if (r->cfg.n_ports == MONITOR_MAX_PORTS)
			return say_fail(EXIT_OURS, "-P: more than %d ports", MONITOR_MAX_PORTS);
		struct sockaddr_in any = {.sin_family = AF_INET};
		memcpy(&r->cfg.ports[r->cfg.n_ports].host, &any, sizeof(any));
		r->cfg.ports[r->cfg.n_ports++].guest = d->ports[i].port;
	}
	return 0;
}

/* What the image of a program, or a stored one, decides about the instance. */
static int take_set(struct run *r, struct image_set *set)
{
	const struct image_defaults *d = set->defaults;
	struct monitor_config *c = &r->cfg;

	c->n_layers = set->n;
	memcpy(c->layer_fd, set->fd, sizeof(set->fd));
	memcpy(c->layer_size, set->size, sizeof(set->size));
	c->exe = set->exe;
	c->cwd = r->req.workdir ? r->req.workdir : set->cwd;
	c->argv = set->argv ? (const char *const *)set->argv : r->req.argv;
	c->uid = set->user.uid;
	c->gid = set->user.gid;
	c->n_groups = set->user.n_groups;
	memcpy(c->groups, set->user.groups, sizeof(c->groups));
	if (r->publish_all && !d)
		return say_fail(EXIT_OURS, "-P: %s is a program, which exposes no ports; name them with -p",
				r->req.program);
	if (!d) {
		extend_path(r, set);
		if (r->req.user && *set->user.home && !env_own(&r->env, "HOME"))
			env_default(&r->env, "HOME", set->user.home);
		c->envp = (const char *const *)r->env.all.v;
	} else {
		c->envp = (const char *const *)d->env;
		c->stop_signal = d->stop_signal;
	}
	c->hostname = c->name ? c->name : IMAGE_HOSTNAME;
	if (!c->name)
		c->name = default_name(d ? d->name : r->req.program);
	return r->publish_all ? publish_all(r, d) : 0;
}

/* All is known: to the background if that is wanted, and off. */
static int go(struct run *r)
{
	struct ctl_status st;
	int status = 0;

	r->cfg.snapshots = r->cfg.unique_name || r->detach || r->cfg.snapshot_at;
	if (r->detach) {
		status = state_detach(&r->cfg, &st);
		if (!status) {
			puts(st.id);
			for (uint32_t i = 0; i < st.n_ports; i++)
				if (st.ports[i].kind == CTL_PORT_IP &&
				    !((struct sockaddr_in *)&r->cfg.ports[i].host)->sin_port)
					say("port %u of the host is port %u of %s", st.ports[i].host,
					    st.ports[i].guest, st.name);
		}
		if (status >= 0)
			return fflush(stdout) ? EXIT_OURS : status;
	}
	if (r->cfg.snapshot_at)
		status = snap_at_prepare(&r->cfg, r->snapshot_to);
	else
		status = 0;
	if (!status)
		status = monitor_run(&r->cfg);
	if (status == MONITOR_MOVED)
		return 0;
	if (r->cfg.snapshot_at) {
		bool there = snap_at_finish();
		if (r->cfg.snapshot_stop) /* to take it was all that was wanted */
			status = there ? 0 : status ? status : EXIT_OURS;
	}
	state_ended(status);
	return status;
}

static enum image_prefix choose_prefix(void *arg, const struct image_set *set)
{
	struct run *r = arg;

	return prefix_choose(&r->prefix, &r->cfg, set);
}

static int start(struct run *r)
{
	struct image_set set = {0};
	const char *why;
	int status;

	if (r->cfg.kind == MONITOR_KVM && monitor_kvm_usable(&why) < 0)
		return say_fail(EXIT_OURS, "--monitor kvm: %s; --monitor process needs no /dev/kvm", why);
	status = open_volumes(r);
	if (!status)
		status = env_finish(&r->env);
	if (status)
		return status;
	r->progress_start_ns = cli_now_ns();
	r->req.progress = progress;
	r->req.progress_arg = r;
	r->req.prefix = r->no_prefix ? NULL : choose_prefix;
	r->req.prefix_arg = r;
	r->req.verbose = r->cfg.verbose;
	r->req.env = (const char *const *)r->env.all.v;
	r->req.own_env = (const char *const *)r->env.own.v;
	r->req.hostname = r->cfg.name;
	r->req.volumes = r->vol_guest;
	r->req.port = r->cfg.n_ports ? r->cfg.ports[0].guest : 0;
	status = image_prepare(&r->req, &set);
	if (status)
		return status;
	if (!set.defaults && r->req.command)
		return say_fail(EXIT_OURS, "--command: %s is a program, not an image", r->req.program);
	r->cfg.image_ns = cli_now_ns();
	if (r->prefix.print)
		return 1;
	if (r->prefix.standby_fd && r->prefix.how != IMAGE_GO_ON)
		return say_fail(EXIT_OURS, "--standby: no start of %s can be shared", r->req.program);
	status = take_set(r, &set);
	r->cfg.program = r->req.program;
	if (!status)
		prefix_apply(&r->prefix, &r->cfg, &set);
	return status ? status : go(r);
}

/* From a snapshot; what is not in it are the options that name things of the host. */
static int start_restored(struct run *r)
{
	const char *why;
	int fd, status;

	if (r->cfg.kind == MONITOR_KVM && monitor_kvm_usable(&why) < 0)
		return say_fail(EXIT_OURS, "--monitor kvm: %s; --monitor process needs no /dev/kvm", why);
	status = open_volumes(r);
	if (status)
		return status;
	fd = snap_open("--snapshot", r->snapshot);
	if (fd < 0)
		return EXIT_NOT_FOUND;
	status = snap_chain(r->snapshot, fd, r->cfg.restore_parent_fd, &r->cfg.n_restore_parents);
	if (status)
		return status;
	r->cfg.restore_name = snap_call(r->snapshot, fd);
	status = snap_restore(&r->cfg, r->snapshot, fd, r->req.root);
	if (!status && r->memory && r->cfg.ram_max > r->memory) /* the guest has been told its limit */
		status = say_fail(
			EXIT_OURS,
			"--snapshot %s: its limit of memory is %llu MiB, which is more than -m allows",
			r->snapshot, (unsigned long long)(r->cfg.ram_max >> 20));
	r->cfg.image_ns = cli_now_ns();
	notify_line(&r->cfg, "how snapshot\n");
	return status ? status : go(r);
}

/* What goes without a program. */
static int check_snapshot_options(const struct run *r, const char *program)
{
	if (r->snapshot && program)
		return say_fail(EXIT_OURS,
				"--snapshot %s: goes on with the program that is in it, and '%s' is too much",
				r->snapshot, program);
	if (r->snapshot &&
	    (r->env.option.n || r->env.file.n || r->req.user || r->req.workdir || r->req.entrypoint ||
	     r->req.process || r->req.command || r->req.with || r->publish_all))
		return say_fail(EXIT_OURS,
				"--snapshot %s: environment, user, working directory, process and -P were "
				"decided when it was "
				"taken; -p, -v, --egress, --name and --monitor can be given",
				r->snapshot);
	if ((r->snapshot_to || r->cfg.snapshot_stop || r->cfg.snapshot_full) && !r->cfg.snapshot_at)
		return say_fail(EXIT_OURS,
				"%s: when is the snapshot taken? --snapshot-at ready|listen|TIME|SIGNAL",
				r->snapshot_to	       ? "-o"
				: r->cfg.snapshot_stop ? "--snapshot-stop"
						       : "--snapshot-full");
	return 0;
}

_Static_assert(IMAGE_MAX_LAYERS == MONITOR_MAX_LAYERS, "layers are handed over as they are");
_Static_assert(IMAGE_MAX_GROUPS == MONITOR_MAX_GROUPS, "groups too");

int cmd_run(int argc, char **argv)
{
	static struct run r; /* some 6 KiB, zeroed */
	struct options o = {.defs = run_options, .command = "run", .argc = argc, .argv = argv, .next = 1};
	const char *why;
	int id, status;

	r.cfg.ram_max = DEFAULT_RAM;
	r.cfg.start_ns = cli_start_ns;
	r.cfg.interactive = true;
	r.cfg.tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	parse_egress("all", &r.cfg, &why);
	while ((id = options_next(&o)) > 0) {
		if (id == OPT_HELP)
			return run_help();
		status = take_option(&r, id, o.value);
		if (status)
			return status;
	}
	if (id < 0)
		return EXIT_OURS;
	status = check_snapshot_options(&r, o.next < argc ? argv[o.next] : NULL);
	if (status)
		return status;
	if (r.snapshot)
		return start_restored(&r);
	if (o.next >= argc)
		return say_fail(EXIT_OURS, "no program given: cowbell run [OPTIONS] PROGRAM [ARG...]");
	if (!*argv[o.next])
		return say_fail(EXIT_NOT_FOUND, "the program's name is empty; give a path or a name on PATH");
	r.req.program = argv[o.next];
	r.req.argv = (const char *const *)argv + o.next;
	return start(&r);
}
