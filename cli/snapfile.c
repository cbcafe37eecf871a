/* SPDX-License-Identifier: ISC */
/*
 * Files of snapshots: by name in the store's snapshots/ or anywhere by path; how they appear and how one is gone on from.
 *
 * A file is written without a name (O_TMPFILE) where the file system can, is linked under a temporary one when it is
 * whole and on disk, and renamed: kill -9 at any moment leaves the old file or the new one, and at
 * the very worst a link `.NAME.PID.tmp` of a whole one, which the next writer into that directory removes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "image/image.h"
#include "lib/host/say.h"
#include "monitor/snapshot.h"

#define SUFFIX ".snap"

static bool good_name(const char *s)
{
	size_t n = strlen(s);

	return n && n < 100 && *s != '.' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == n;
}

/* --- writing -------------------------------------------------------------------------- */

/* What a writer left that was killed. */
static void clean(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		const char *dot = strrchr(e->d_name, '.'), *num = dot;

		if (e->d_name[0] != '.' || !dot || strcmp(dot, ".tmp"))
			continue;
		while (num > e->d_name && *--num != '.')
			;
		long pid = strtol(num + 1, NULL, 10);
		if (num > e->d_name && strstr(e->d_name, SUFFIX) && pid > 0 && kill((pid_t)pid, 0) &&
		    errno == ESRCH)
			unlinkat(dir, e->d_name, 0);
	}
	if (d)
		closedir(d);
}

static int open_target_dir(struct snap_out *o, const char *file)
{
	char path[PATH_MAX];
	const char *slash = strrchr(file, '/');
	struct stat st;

	if (snprintf(path, sizeof(path), "%.*s", slash ? (int)(slash - file + 1) : 1, slash ? file : ".") >=
		    (int)sizeof(path) ||
	    snprintf(o->name, sizeof(o->name), "%s", slash ? slash + 1 : file) >= (int)sizeof(o->name) ||
	    !*o->name)
		return say_fail(EXIT_OURS, "-o %s: not a good name for a file", file);
	o->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (o->dir < 0)
		return say_fail(EXIT_OURS, "-o %s: %s: %s", file, path, strerror(errno));
	if (!fstatat(o->dir, o->name, &st, 0) && !S_ISREG(st.st_mode))
		return say_fail(EXIT_OURS, "-o %s: is there and is not a file", file);
	return 0;
}

int snap_out_open(struct snap_out *o, const char *file, const char *name)
{
	char by[256];

	memset(o, 0, sizeof(*o));
	o->fd = o->dir = -1;
	if (file) {
		int status = open_target_dir(o, file);
		if (status)
			return status;
	} else {
		if (!good_name(name))
			return say_fail(EXIT_OURS,
					"'%s' cannot be the name of a snapshot; say where to: -o FILE", name);
		o->stored = true;
		snprintf(o->name, sizeof(o->name), "%s" SUFFIX, name);
		o->dir = image_snapshot_dir();
		if (o->dir < 0)
			return EXIT_OURS;
		if (snap_needed(o->dir, name, by, sizeof(by)))
			return say_fail(
				EXIT_OURS,
				"the snapshot %s stores only what differs from %s, which would be replaced; "
				"remove it first (cowbell snapshot rm %s), or write elsewhere: -o FILE",
				by, name, by);
	}
	clean(o->dir);
	o->fd = openat(o->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (o->fd < 0) {
		snprintf(o->tmp, sizeof(o->tmp), ".%s.%d.tmp", o->name, (int)getpid());
		o->fd = openat(o->dir, o->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	}
	if (o->fd < 0)
		return say_fail(EXIT_OURS, "%s: cannot be written: %s", o->name, strerror(errno));
	return 0;
}

int snap_out_commit(struct snap_out *o)
{
	struct snapshot_ids ids;
	char self[32];
	int r = fdatasync(o->fd) ? errno : 0, pins = -1;

	if (!r && o->stored) {
		pins = image_pins_lock();
		pins_keep(o->name, pins, o->fd, o->layer_fd, o->n_layers);
	}
	if (!r && !*o->tmp) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", o->fd);
		snprintf(o->tmp, sizeof(o->tmp), ".%s.%d.tmp", o->name, (int)getpid());
		unlinkat(o->dir, o->tmp, 0);
		if (linkat(AT_FDCWD, self, o->dir, o->tmp, AT_SYMLINK_FOLLOW))
			r = errno;
	}
	o->replaces = !faccessat(o->dir, o->name, F_OK, 0);
	if (!r && renameat(o->dir, o->tmp, o->dir, o->name))
		r = errno;
	if (!r && fsync(o->dir))
		r = errno;
	if (pins >= 0) {
		if (!r && o->replaces)
			pins_sweep(pins, o->dir);
		close(pins);
	}
	if (r) {
		say("%s: cannot be written: %s", o->name, strerror(r));
		snap_out_abort(o);
		return EXIT_OURS;
	}
	if (!snapshot_ids(o->fd,
			  &ids)) /* what was written this moment need not be read again at the first start */
		image_snapshot_mark(o->fd, ids.digest, true);
	close(o->fd);
	close(o->dir);
	return 0;
}

void snap_out_abort(struct snap_out *o)
{
	if (*o->tmp)
		unlinkat(o->dir, o->tmp, 0);
	if (o->fd >= 0)
		close(o->fd);
	if (o->dir >= 0)
		close(o->dir);
}

/* --- reading ---------------------------------------------------------------------------- */

int snap_open(const char *command, const char *word)
{
	int fd = -1;

	if (!strchr(word, '/') && good_name(word)) {
		int dir = image_snapshot_dir();
		char *name = textf("%s" SUFFIX, word);

		if (dir < 0)
			return -1;
		fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
		close(dir);
		free(name);
	}
	if (fd < 0)
		fd = open(word, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		say_fail(EXIT_NOT_FOUND, "%s: no snapshot '%s'%s%s; all of the store: cowbell snapshot ls",
			 command, word, errno == ENOENT ? "" : ": ", errno == ENOENT ? "" : strerror(errno));
	return fd;
}

static int find_layer(struct monitor_config *cfg, int i, const struct snapshot_layer_info *l,
		      const char *word, const char *root)
{
	int fd;

	if (l->embedded) {
		cfg->layer_fd[i] = -1;
		cfg->layer_size[i] = l->size;
		return 0;
	}
	fd = image_layer_by_id(l->id, &cfg->layer_size[i]);
	if (fd == -EINVAL && root) {
		struct stat st;
		fd = open(root, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode))
			cfg->layer_size[i] = (uint64_t)st.st_size;
	}
	if (fd == -EINVAL)
		return say_fail(
			EXIT_OURS,
			"--snapshot %s: it was taken over a file system of its own; name it: --root %s", word,
			*l->id ? l->id : "IMAGE");
	if (fd < 0)
		return say_fail(EXIT_OURS,
				"--snapshot %s: layer %d of its image is not here any more (%s); build, pull "
				"or run the "
				"image again, or take the snapshot anew",
				word, i + 1, l->id);
	if (cfg->layer_size[i] != l->size) {
		close(fd);
		return say_fail(EXIT_OURS, "--snapshot %s: layer %d of its image is another one now (%s)",
				word, i + 1, l->id);
	}
	cfg->layer_fd[i] = fd;
	cfg->layer_id[i] = strdup(l->id);
	return 0;
}

/* Ports of the snapshot that no -p forwards get free ones of this host's own address. */
static int add_ports(struct monitor_config *cfg, const struct snapshot_info *si)
{
	for (int i = 0; i < si->n_ports; i++) {
		bool have = false;

		for (int k = 0; k < cfg->n_ports; k++)
			have |= cfg->ports[k].guest == si->ports[i];
		if (have)
			continue;
		if (cfg->n_ports == MONITOR_MAX_PORTS)
			return say_fail(EXIT_OURS, "-p: more than %d ports", MONITOR_MAX_PORTS);
		struct monitor_port *p = &cfg->ports[cfg->n_ports++];
		memset(p, 0, sizeof(*p));
		struct sockaddr_in *in = (struct sockaddr_in *)&p->host;
		in->sin_family = AF_INET;
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		p->guest = si->ports[i];
	}
	return 0;
}

/* Volumes in the snapshot's order: the guest knows them by number. */
static int order_volumes(struct monitor_config *cfg, const struct snapshot_info *si, const char *word)
{
	for (int i = 0; i < si->n_volumes && i < cfg->n_volumes && !cfg->volumes[i].guest_dir; i++) {
		cfg->volumes[i].guest_dir = si->volumes[i].dir;
		cfg->volumes[i].ro = si->volumes[i].ro;
	}
	for (int i = 0; i < si->n_volumes; i++) {
		int k = i;

		while (k < cfg->n_volumes && strcmp(cfg->volumes[k].guest_dir, si->volumes[i].dir))
			k++;
		if (k == cfg->n_volumes)
			return say_fail(EXIT_OURS,
					"--snapshot %s: it has a volume at %s; give it one: -v HOSTDIR:%s%s",
					word, si->volumes[i].dir, si->volumes[i].dir,
					si->volumes[i].ro ? ":ro" : "");
		struct monitor_volume v = cfg->volumes[i];
		cfg->volumes[i] = cfg->volumes[k];
		cfg->volumes[k] = v;
	}
	if (cfg->n_volumes > si->n_volumes)
		return say_fail(EXIT_OURS, "-v: the snapshot has no volume at %s",
				cfg->volumes[si->n_volumes].guest_dir);
	return 0;
}

int snap_restore(struct monitor_config *cfg, const char *word, int fd, const char *root)
{
	static struct snapshot_info si; /* large */
	static char name[CTL_NAME_MAX];
	const char *why = "";
	int r = snapshot_info(fd, &si, &why), status;

	if (r)
		return say_fail(EXIT_OURS, "--snapshot %s: %s", word, *why ? why : strerror(-r));
	cfg->restore_fd = fd;
	cfg->memo_dir = image_memo_dir();
	if (!si.egress)
		cfg->n_egress = 0; /* it believes that there is no network: let that be so */
	bool own_layers = cfg->n_layers > 0;
	if (own_layers && cfg->n_layers != si.n_layers)
		return say_fail(EXIT_OURS, "%s: it has %d layers and gives %d", word, si.n_layers,
				cfg->n_layers);
	cfg->n_layers = si.n_layers;
	cfg->exe = si.exe;
	cfg->program = si.exe;
	cfg->ram_max = si.ram_max;
	if (!cfg->name) {
		snprintf(name, sizeof(name), "%s", si.name);
		cfg->name = *name ? name : "cowbell";
	}
	if (!cfg->hostname)
		cfg->hostname = cfg->unique_name ? cfg->unique_name : si.hostname;
	for (int i = 0; i < si.n_layers && own_layers; i++) {
		cfg->layer_size[i] = si.layers[i].size;
		cfg->layer_id[i] = si.layers[i].id;
	}
	for (int i = 0; i < si.n_layers && !own_layers; i++) {
		status = find_layer(cfg, i, &si.layers[i], word, root);
		if (status)
			return status;
	}
	status = add_ports(cfg, &si);
	return status ? status : order_volumes(cfg, &si, word);
}

/* --- --snapshot-at ------------------------------------------------------------------------ */

struct outcome {
	int32_t err, pad;
	uint64_t bytes, paused_ns;
	char why[160];
};

static int outcome_fd = -1; /* to the process that names the file */
static int named_fd = -1; /* from it: a byte when the file is there, then its end */

/* In the instance, under its filter. */
static void on_taken(void *arg, int err, const char *why, uint64_t bytes, uint64_t paused_ns)
{
	struct outcome o = {.err = err, .bytes = bytes, .paused_ns = paused_ns};

	(void)arg;
	snprintf(o.why, sizeof(o.why), "%s", why);
	if (write(outcome_fd, &o, sizeof(o)) != sizeof(o))
		say("the snapshot is lost: nobody waits for it");
	close(outcome_fd);
	outcome_fd = -1;
}

/* In the process that waits: what signals a terminal sends to all are the instance's to take. */
static void wait_and_name(struct snap_out *out, int fd, int named, const char *shown)
{
	struct outcome o;

	setpgid(0, 0);
	for (int sig = 1; sig < 32; sig++)
		if (sig != SIGTERM && sig != SIGCHLD)
			signal(sig, SIG_IGN);
	ssize_t n = read(fd, &o, sizeof(o));
	if (n != sizeof(o)) {
		say("%s: the instance ended before it was snapshotted", shown);
	} else if (o.err) {
		o.why[sizeof(o.why) - 1] = 0;
		say("%s: the snapshot failed: %s", shown, *o.why ? o.why : strerror(-o.err));
	} else if (!snap_out_commit(out)) {
		say("%s: snapshot of %.1f MB taken; the program stood still for %.1f ms", shown,
		    (double)o.bytes / 1e6, (double)o.paused_ns / 1e6);
		_exit(write(named, "+", 1) == 1 ? 0 : EXIT_OURS);
	}
	snap_out_abort(out);
	_exit(EXIT_OURS);
}

int snap_at_prepare(struct monitor_config *cfg, const char *file)
{
	struct snap_out out;
	int p[2], named[2], status = snap_out_open(&out, file, cfg->name);

	memcpy(out.layer_fd, cfg->layer_fd, sizeof(out.layer_fd));
	out.n_layers = cfg->n_layers;

	if (status)
		return status;
	if (pipe2(p, O_CLOEXEC) || pipe2(named, O_CLOEXEC))
		return say_fail(EXIT_OURS, "--snapshot-at: %s", strerror(errno));
	pid_t pid = fork();
	if (pid < 0)
		return say_fail(EXIT_OURS, "--snapshot-at: cannot fork: %s", strerror(errno));
	if (!pid) {
		close(p[1]);
		close(named[0]);
		wait_and_name(&out, p[0], named[1], file ? file : cfg->name);
	}
	close(p[0]);
	close(named[1]);
	outcome_fd = p[1];
	named_fd = named[0];
	cfg->snapshot_fd = out.fd;
	close(out.dir);
	cfg->snapshot_taken = on_taken;
	return 0;
}

bool snap_at_finish(void)
{
	char c;
	ssize_t n;

	if (named_fd < 0)
		return false;
	if (outcome_fd >= 0)
		close(outcome_fd); /* it may still wait */
	outcome_fd = -1;
	do
		n = read(named_fd, &c, 1);
	while (n < 0 && errno == EINTR);
	return n == 1;
}
