/* SPDX-License-Identifier: ISC */
/*
 * Starts that apps share: `prefix snapshots`. docs/snapshots.md says what they are, guest/vfs/prefix.c how an instance gets there.
 *
 *   CACHE/prefix/KEY.snap      a snapshot; whole or not there. At most MAX_FILES and MAX_BYTES, the longest unused go; while
 *                              all of them are in use no more are made
 *   CACHE/prefix/.KEY.used     when it was used last
 *   CACHE/prefix/.KEY.making   locked by who makes it
 *   CACHE/prefix/.seen         keys that were wanted once, SEEN_SLOTS of them: only what is wanted again is made, so that what is in
 *                              the environment of one app alone does not go to disk; and those of which there can be none
 *
 * The key is a hash of all that the start depends on: this build, the CPU, the monitor asked for, the digests of the layers below
 * the app's, what is seen of the app's from outside, program, arguments, environment, user, directory, names, memory, ports,
 * whether it may dial out, what kinds of files its streams are.
 *
 * It is made by an instance of its own, in the background, that has no app: nothing of any app can be in it, whatever that app
 * does. What it has of the host is nothing but streams of the same kinds, which lead nowhere; if it reads, writes or makes a socket before its
 * first look at the app, there will be no prefix, for that would not happen again in those who go on from it.
 *
 * A prefix that turns out to be damaged is removed, and the start is a boot.
 */
#include "cli/prefix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "abi/standby.h"
#include "cli/cli.h"
#include "lib/host/say.h"
#include "monitor/snapshot.h"

#define FORMAT	   "prefix 1"
#define SEEN_SLOTS 1024u
#define SEEN_BYTES 32u
#define MAX_FILES  128u
#define MAX_BYTES  (2ull << 30)
#define USED_S	   300 /* how exact that is */
#define IDLE_S	   1800 /* so long unused: another may take its place */
#define MAKE_NS	   20000000000ull
#define SUFFIX	   ".snap"

/* --- the key ------------------------------------------------------------------------------ */

static void add(struct sha256_ctx *s, const void *p, size_t n)
{
	uint64_t len = n;

	sha256_update(s, sizeof(len), (const uint8_t *)&len);
	sha256_update(s, n, p);
}

static void add_text(struct sha256_ctx *s, const char *text)
{
	add(s, text ? text : "", text ? strlen(text) : 0);
}

static void add_list(struct sha256_ctx *s, char *const *v)
{
	uint64_t n = 0;

	while (v && v[n])
		add_text(s, v[n++]);
	add(s, &n, sizeof(n));
}

static uint32_t kind_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_mode & S_IFMT;
}

static void make_key(char key[65], const struct monitor_config *cfg, const struct image_set *set)
{
	uint8_t identity[MONITOR_IDENTITY_MAX];
	struct sha256_ctx s;
	uint8_t sum[SHA256_DIGEST_SIZE];
	uint64_t numbers[] = {cfg->kind,
			      cfg->ram_max,
			      cfg->n_cpus > 1 ? (uint64_t)cfg->n_cpus : 1, /* a runtime has counted them */
			      cfg->n_egress > 0,
			      cfg->stats != STATS_NONE,
			      set->user.uid,
			      set->user.gid,
			      (uint64_t)set->defaults->stop_signal,
			      set->app.window,
			      (uint64_t)set->app.layer,
			      kind_of(0),
			      kind_of(1),
			      kind_of(2)};

	sha256_init(&s);
	add_text(&s, FORMAT);
	add(&s, identity, monitor_identity(image_memo_dir(), identity));
	add(&s, numbers, sizeof(numbers));
	for (int i = 0; i < set->app.layer - 1; i++)
		add_text(&s, set->hex[i]);
	add_text(&s, set->app.outside);
	add_text(&s, set->app.names);
	add_text(&s, set->exe);
	add_text(&s, set->cwd);
	add_list(&s, set->argv);
	add_list(&s, set->defaults->env);
	add(&s, set->user.groups, sizeof(set->user.groups[0]) * (size_t)set->user.n_groups);
	for (int i = 0; i < cfg->n_ports; i++)
		add(&s, &cfg->ports[i].guest, sizeof(cfg->ports[i].guest));
	sha256_digest(&s, sizeof(sum), sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		sprintf(key + 2 * i, "%02x", sum[i]);
}

/* --- choosing --------------------------------------------------------------------------------- */

static bool suits(const struct monitor_config *cfg, const struct image_set *set)
{
	return !cfg->n_volumes && !cfg->strace && !cfg->tty && !cfg->snapshot_at && set->argv &&
	       set->defaults && strncmp(set->exe, "/app/", 5) && strncmp(set->cwd, "/app/", 5);
}

/* A descriptor, or -1; one that is no good is removed. */
static int open_prefix(int dir, const char *key)
{
	char name[80];
	struct snapshot_ids ids;
	const char *why;
	int fd;

	snprintf(name, sizeof(name), "%s" SUFFIX, key);
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -1;
	if (!snapshot_ids(fd, &ids) && !ids.delta) {
		if (image_snapshot_checked(fd, ids.digest))
			return fd;
		if (!snapshot_verify(fd, &why)) {
			image_snapshot_mark(fd, ids.digest, false);
			return fd;
		}
	}
	unlinkat(dir, name, 0);
	close(fd);
	return -1;
}

enum wanted { NEVER, BEFORE, HOPELESS };

/* Its place in the file of keys, and what says that it was wanted, or that there can be none. */
static off_t slot(const char *key, char mark[SEEN_BYTES], bool hopeless)
{
	char head[5] = {key[0], key[1], key[2], key[3], 0};

	memcpy(mark, key + 4, SEEN_BYTES);
	if (hopeless)
		mark[0] = '!';
	return (off_t)(strtoul(head, NULL, 16) % SEEN_SLOTS * SEEN_BYTES);
}

static int open_seen(int dir)
{
	return openat(dir, ".seen", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* Was it wanted before? From now on it was. Others who write meanwhile do no harm: a key is seen once more, or once less. */
static enum wanted wanted(int dir, const char *key)
{
	char have[SEEN_BYTES] = "", mark[SEEN_BYTES], no[SEEN_BYTES];
	off_t at = slot(key, mark, false);
	int fd = open_seen(dir);
	bool full = fd >= 0 && pread(fd, have, SEEN_BYTES, at) == SEEN_BYTES;
	enum wanted w = NEVER;

	slot(key, no, true);
	if (full && !memcmp(have, no, SEEN_BYTES))
		w = HOPELESS;
	else if (full && !memcmp(have, mark, SEEN_BYTES))
		w = BEFORE;
	else if (fd >= 0 && pwrite(fd, mark, SEEN_BYTES, at) < 0)
		w = NEVER;
	if (fd >= 0)
		close(fd);
	return w;
}

/* It has been tried: nobody need try again, until the key's place is taken by another. */
static void note_hopeless(int dir, const char *key)
{
	char no[SEEN_BYTES];
	off_t at = slot(key, no, true);
	int fd = open_seen(dir);

	if (fd >= 0 && pwrite(fd, no, SEEN_BYTES, at) < 0)
		errno = 0; /* it will be tried again */
	if (fd >= 0)
		close(fd);
}

/* --- which ones stay ------------------------------------------------------------------------------ */

/* A file of no length beside it, whose time says when it was used last; so exact is enough. */
static void note_use(int dir, const char *key)
{
	char name[80];
	struct stat st;
	int fd;

	snprintf(name, sizeof(name), ".%s.used", key);
	if (!fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW)) {
		if (time(NULL) - st.st_mtim.tv_sec > USED_S)
			utimensat(dir, name, NULL, AT_SYMLINK_NOFOLLOW);
		return;
	}
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		close(fd);
}

struct stock {
	unsigned n;
	uint64_t bytes;
	char oldest[65]; /* key of the longest unused one */
	time_t used;
};

static void take_stock(int dir, struct stock *s)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	char used[80];
	struct dirent *e;
	struct stat st;

	*s = (struct stock){0};
	while (d && (e = readdir(d))) {
		if (strlen(e->d_name) != 64 + strlen(SUFFIX) || strcmp(e->d_name + 64, SUFFIX) ||
		    fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		s->n++;
		s->bytes += (uint64_t)st.st_size;
		snprintf(used, sizeof(used), ".%.64s.used", e->d_name);
		fstatat(dir, used, &st, AT_SYMLINK_NOFOLLOW);
		if (!*s->oldest || st.st_mtim.tv_sec < s->used) {
			snprintf(s->oldest, sizeof(s->oldest), "%.64s", e->d_name);
			s->used = st.st_mtim.tv_sec;
		}
	}
	if (d)
		closedir(d);
}

/* If all that are there are in use, another would only drive one of them out, and that one another. */
static bool is_room(int dir)
{
	struct stock s;

	take_stock(dir, &s);
	return (s.n < MAX_FILES && s.bytes < MAX_BYTES) || time(NULL) - s.used > IDLE_S;
}

static void trim(int dir)
{
	struct stock s;
	char name[80];

	for (;;) {
		take_stock(dir, &s);
		if (!*s.oldest || (s.n <= MAX_FILES && s.bytes <= MAX_BYTES))
			return;
		snprintf(name, sizeof(name), ".%s.used", s.oldest);
		unlinkat(dir, name, 0);
		snprintf(name, sizeof(name), "%s" SUFFIX, s.oldest);
		if (unlinkat(dir, name, 0))
			return;
	}
}

/* --- choosing one ---------------------------------------------------------------------------------- */

static int lock_making(int dir, const char *key)
{
	char name[80];
	int fd;

	snprintf(name, sizeof(name), ".%s.making", key);
	fd = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

enum image_prefix prefix_choose(struct prefix *p, const struct monitor_config *cfg,
				const struct image_set *set)
{
	int fd;

	p->how = IMAGE_BOOT;
	if (!suits(cfg, set))
		return p->how;
	p->dir = image_prefix_dir();
	if (p->dir < 0)
		return p->how;
	make_key(p->key, cfg, set);
	if (p->print) {
		printf("%s %s %llu\n", p->key, set->hex[set->app.layer - 1],
		       (unsigned long long)set->size[set->app.layer - 1]);
		exit(fflush(stdout) ? EXIT_OURS : 0);
	}
	fd = open_prefix(p->dir, p->key);
	if (fd >= 0) {
		p->fd = fd;
		p->how = IMAGE_GO_ON;
		note_use(p->dir, p->key);
	} else if (p->standby_fd) {
		exit(say_fail(EXIT_OURS, "--standby: there is no such start yet"));
	} else if (wanted(p->dir, p->key) == BEFORE && is_room(p->dir)) {
		p->lock = lock_making(p->dir, p->key);
		if (p->lock >= 0)
			p->how = IMAGE_BOOT_AND_MAKE;
	}
	if (p->how != IMAGE_BOOT_AND_MAKE) {
		close(p->dir);
		p->dir = -1;
	}
	return p->how;
}

/* --- making --------------------------------------------------------------------------------------- */

/* A stream of the same kind that leads nowhere. */
static void blind_stream(int fd)
{
	uint32_t kind = kind_of(fd);
	int p[2] = {-1, -1}, blind = -1;

	if (kind == S_IFIFO && !pipe2(p, 0))
		blind = p[fd != 0];
	else if (kind == S_IFSOCK && !socketpair(AF_UNIX, SOCK_STREAM, 0, p))
		blind = p[0];
	else if (kind == S_IFREG)
		blind = memfd_create("cowbell-nothing", 0);
	else
		blind = open("/dev/null", fd ? O_WRONLY : O_RDONLY);
	if (blind >= 0)
		dup2(blind, fd);
	/* the other ends stay open, at numbers that nobody knows: an end of file would be told to the program */
	if (blind > 2 && blind != p[0] && blind != p[1])
		close(blind);
}

static void make_config(struct monitor_config *c, const struct monitor_config *cfg,
			const struct image_set *set, int out)
{
	int app = set->app.layer - 1;

	*c = *cfg;
	c->layer_fd[app] = set->app.skeleton_fd;
	c->layer_size[app] = set->app.skeleton_size;
	c->layer_fd[app + 1] = set->app.names_fd;
	c->layer_size[app + 1] = set->app.names_size;
	c->layer_window[app] = set->app.window;
	c->app_layer = set->app.layer;
	c->name = "prefix";
	c->unique_name = NULL;
	c->detached = false;
	c->started = NULL;
	c->notify_fd = 0;
	c->n_ports = 0;
	c->verbose = 0;
	c->timeout_ns = MAKE_NS;
	c->snapshots = c->snapshot_stop = c->snapshot_full = true;
	c->snapshot_at = SNAPSHOT_AT_PREFIX;
	c->snapshot_fd = out;
}

static int taken_fd = -1;

static void on_taken(void *arg, int err, const char *why, uint64_t bytes, uint64_t paused_ns)
{
	char c = err ? '-' : '+';

	(void)arg, (void)why, (void)bytes, (void)paused_ns;
	if (write(taken_fd, &c, 1) != 1)
		return;
}

/* The file gets its name: it is whole, and on disk. */
static void commit(const struct prefix *p, int out)
{
	char name[80], tmp[96], self[32];
	struct snapshot_ids ids;

	snprintf(name, sizeof(name), "%s" SUFFIX, p->key);
	snprintf(tmp, sizeof(tmp), ".%s.tmp", p->key);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", out);
	unlinkat(p->dir, tmp, 0);
	if (fdatasync(out) || snapshot_ids(out, &ids) ||
	    linkat(AT_FDCWD, self, p->dir, tmp, AT_SYMLINK_FOLLOW) || renameat(p->dir, tmp, p->dir, name)) {
		unlinkat(p->dir, tmp, 0);
		return;
	}
	image_snapshot_mark(out, ids.digest, true);
	note_use(p->dir, p->key);
	trim(p->dir);
}

static void run_maker(const struct prefix *p, const struct monitor_config *cfg, const struct image_set *set)
{
	static struct monitor_config c;
	int out = openat(p->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), result[2];
	char name[80], got = 0;
	int status = 0;
	pid_t pid;

	if (out < 0 || pipe2(result, O_CLOEXEC))
		return;
	pid = fork();
	if (!pid) {
		close(result[0]);
		taken_fd = result[1];
		make_config(&c, cfg, set, out);
		c.snapshot_taken = on_taken;
		_exit(monitor_run(&c) == 0);
	}
	close(result[1]);
	if (pid > 0 && read(result[0], &got, 1) == 1 && got == '+')
		commit(p, out);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid > 0 && got != '+' && WIFEXITED(status)) /* who was killed may do better next time */
		note_hopeless(p->dir, p->key);
	snprintf(name, sizeof(name), ".%s.making", p->key);
	unlinkat(p->dir, name, 0);
}

/* Keep what the maker needs, as descriptors above 2, close all others: somebody may wait for their end. */
static void only(const struct prefix *p, const struct monitor_config *cfg, const struct image_set *set)
{
	int max = sysconf(_SC_OPEN_MAX) < 65536 ? (int)sysconf(_SC_OPEN_MAX) : 65536;

	struct stat st;

	for (int fd = 3; fd < max && fd < 1024; fd++) {
		bool keep = fd == p->dir || fd == p->lock || fd == set->app.skeleton_fd ||
			    fd == set->app.names_fd;

		if (!fstat(fd, &st)) /* /dev/kvm is open already where it was asked for */
			keep |= S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 232);
		for (int i = 0; i < cfg->n_layers; i++)
			keep |= fd == cfg->layer_fd[i];
		if (!keep)
			close(fd);
	}
}

/* Two processes below: nobody has to wait for it. */
static void make(struct prefix *p, const struct monitor_config *cfg, const struct image_set *set)
{
	pid_t pid = fork();

	if (!pid) {
		if (fork())
			_exit(0);
		setsid();
		for (int sig = 1; sig < 32; sig++)
			signal(sig, SIG_DFL);
		only(p, cfg, set);
		for (int fd = 0; fd < 3; fd++)
			blind_stream(fd);
		setpriority(PRIO_PROCESS, 0, 5);
		run_maker(p, cfg, set);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static char standby_outside[65];

static bool app_suits(void *arg, int fd, uint64_t size)
{
	(void)arg;
	return image_app_suits(fd, size, standby_outside);
}

/* In place of the app's layer a file that an app is copied to when it comes. */
static void stand_by(const struct prefix *p, struct monitor_config *cfg, const struct image_set *set)
{
	int at = set->app.layer - 1, rw = memfd_create("cowbell-app", MFD_CLOEXEC), ro;
	char self[40];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", rw);
	ro = rw < 0 || ftruncate(rw, STANDBY_MAX) ? -1 : open(self, O_RDONLY | O_CLOEXEC);
	if (ro < 0)
		exit(say_fail(EXIT_OURS, "--standby: %s", strerror(errno)));
	if (set->app.window != STANDBY_MAX)
		exit(say_fail(EXIT_OURS, "--standby: only for apps of at most %u MiB", STANDBY_MAX >> 20));
	memcpy(standby_outside, set->app.outside, sizeof(standby_outside));
	close(cfg->layer_fd[at]);
	cfg->layer_fd[at] = ro;
	cfg->layer_size[at] = STANDBY_MAX;
	cfg->standby_fd = p->standby_fd;
	cfg->standby_rw = rw;
	cfg->standby_suits = app_suits;
	fcntl(p->standby_fd, F_SETFD, FD_CLOEXEC);
}

void prefix_apply(struct prefix *p, struct monitor_config *cfg, const struct image_set *set)
{
	char line[192];

	if (p->how == IMAGE_GO_ON) {
		cfg->restore_fd = p->fd;
		cfg->prefix = true;
		cfg->app_layer = set->app.layer;
		cfg->memo_dir = image_memo_dir();
		if (p->standby_fd)
			stand_by(p, cfg, set);
		snprintf(line, sizeof(line), "how %s %s %s %llu\n", p->standby_fd ? "standby" : "prefix",
			 p->key, set->hex[set->app.layer - 1],
			 (unsigned long long)set->size[set->app.layer - 1]);
		notify_line(cfg, line);
		return;
	}
	notify_line(cfg, "how boot\n");
	if (p->how == IMAGE_BOOT_AND_MAKE) {
		if (set->app.layer)
			make(p, cfg, set);
		close(p->dir);
		close(p->lock);
		close(set->app.skeleton_fd);
		close(set->app.names_fd);
	}
}

/* --- the cache -------------------------------------------------------------------------------------- */

static void each(void (*fn)(int dir, const char *name, void *arg), void *arg)
{
	int dir = image_prefix_dir();
	DIR *d = dir < 0 ? NULL : fdopendir(dup(dir));
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			fn(dir, e->d_name, arg);
	if (d)
		closedir(d);
	if (dir >= 0)
		close(dir);
}

struct count {
	unsigned n;
	uint64_t bytes;
};

static void count_one(int dir, const char *name, void *arg)
{
	struct count *c = arg;
	struct stat st;

	if (name[0] == '.' || fstatat(dir, name, &st, 0))
		return;
	c->n++;
	c->bytes += (uint64_t)st.st_size;
}

void prefix_count(unsigned *n, uint64_t *bytes)
{
	struct count c = {0};

	each(count_one, &c);
	*n = c.n;
	*bytes = c.bytes;
}

static void remove_one(int dir, const char *name, void *arg)
{
	(void)arg;
	unlinkat(dir, name, 0);
}

void prefix_clear(void)
{
	each(remove_one, NULL);
}
