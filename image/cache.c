/* SPDX-License-Identifier: ISC */
/*
 * The cache of layers, and the index that finds them without looking at
 * every file again.
 *
 *   DIR/layers/DIGEST.erofs  a layer, named by the digest of its tree
 *   DIR/index/KEY            what a question (program, directory, ...) led to
 *   DIR/memos/...            what starts of instances found out (monitor/memo.h)
 *   DIR/lock                 held (flock) by whoever adds or removes layers
 *   DIR/tmp.*                being written; whoever holds the lock may remove it
 *
 * A file appears under its final name by rename(2) only, whole and synced, so
 * a crash leaves at most a tmp file. Readers take no lock: a layer that is
 * removed while it is open stays readable, and one that is gone is rebuilt.
 *
 * An index entry is text: "cowbell-index 2", "layer DIGEST"..., "cwd DIGEST",
 * then "sig INODE SIZE MTIME CTIME PATH" for the host files that decided it.
 * It holds as long as every signature does; a look-up is some dozens of
 * stat(2). Least recently used layers go once the sum passes the bound
 * (COWBELL_CACHE_MAX bytes, 4 GiB).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/collect.h"
#include "image/dirs.h"
#include "image/sites.h"
#include "image/store/store.h"
#include "lib/host/say.h"

#define INDEX_HEAD	   "cowbell-index 2\n"
#define INDEX_MAX	   (4u << 20)
#define DEFAULT_MAX	   (4ull << 30)
#define USED_GRANULARITY_S 600
#define INDEX_AGE_S	   (30 * 86400)

struct cache {
	int fd;
	char path[PATH_MAX];
};

const char *cache_dir(const struct cache *c)
{
	return c->path;
}

struct cache *cache_open(void)
{
	struct cache *c = calloc(1, sizeof(*c));

	if (!c || !dirs_cache(c->path, sizeof(c->path))) {
		free(c);
		say("no directory for the cache; set XDG_CACHE_HOME");
		return NULL;
	}
	c->fd = open(c->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (c->fd >= 0)
		return c;
	int r = dirs_make(c->path);
	if (!r) {
		c->fd = open(c->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (c->fd >= 0 && (!mkdirat(c->fd, "layers", 0700) || errno == EEXIST) &&
		    (!mkdirat(c->fd, "index", 0700) || errno == EEXIST))
			return c;
		r = -errno;
	}
	say("%s: cannot be made the cache: %s; set XDG_CACHE_HOME to a directory of yours", c->path,
	    strerror(-r));
	cache_close(c);
	return NULL;
}

void cache_close(struct cache *c)
{
	if (!c)
		return;
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

/* --- layers ------------------------------------------------------------------------- */

static void layer_name(char out[96], const char hex[65])
{
	snprintf(out, 96, "layers/%s.erofs", hex);
}

int cache_layer(struct cache *c, const char hex[65], uint64_t *size)
{
	char name[96];
	struct stat st;

	layer_name(name, hex);
	int fd = openat(c->fd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || st.st_size < 4096) {
		close(fd);
		return -ENOENT;
	}
	*size = (uint64_t)st.st_size;
	if (st.st_mtim.tv_sec + USED_GRANULARITY_S < time(NULL))
		utimensat(c->fd, name, NULL, 0); /* best effort: only the order of pruning hangs on it */
	return fd;
}

static int take_lock(struct cache *c)
{
	int fd = openat(c->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	while (fd >= 0 && flock(fd, LOCK_EX))
		if (errno != EINTR) {
			close(fd);
			return -errno;
		}
	return fd < 0 ? -errno : fd;
}

struct aged {
	char name[80];
	int64_t used;
	uint64_t bytes;
};

static int by_age(const void *a, const void *b)
{
	int64_t x = ((const struct aged *)a)->used, y = ((const struct aged *)b)->used;

	return x < y ? -1 : x > y;
}

/* Call with the lock held. Removes the least recently used layers beyond the bound. */
static void prune_layers(struct cache *c, uint64_t max)
{
	int fd = openat(c->fd, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct aged *v = NULL;
	size_t n = 0, cap = 0;
	uint64_t sum = 0;
	struct dirent *e;
	struct stat st;

	while (d && (e = readdir(d))) {
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode) ||
		    strlen(e->d_name) >= sizeof(v->name))
			continue;
		if (n == cap) {
			struct aged *nv = realloc(v, (cap = cap ? cap * 2 : 64) * sizeof(*v));
			if (!nv)
				break;
			v = nv;
		}
		strcpy(v[n].name, e->d_name);
		v[n].used = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
		v[n].bytes = (uint64_t)st.st_blocks * 512;
		sum += v[n++].bytes;
	}
	if (n)
		qsort(v, n, sizeof(*v), by_age);
	for (size_t i = 0; i + 2 < n && sum > max; i++) /* the two newest are somebody's just now */
		if (!unlinkat(dirfd(d), v[i].name, 0))
			sum -= v[i].bytes;
	free(v);
	if (d)
		closedir(d);
}

/* Call with the lock held. Files of `dir` that begin with `prefix` and are older than `age`. */
static void prune_old(struct cache *c, const char *dir, const char *prefix, int64_t age)
{
	int fd = openat(c->fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat st;

	while (d && (e = readdir(d)))
		if (!strncmp(e->d_name, prefix, strlen(prefix)) &&
		    !fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode) &&
		    st.st_mtim.tv_sec + age <= time(NULL))
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
}

static uint64_t cache_max(void)
{
	const char *s = getenv("COWBELL_CACHE_MAX");
	unsigned long long v = s ? strtoull(s, NULL, 10) : 0;

	return v ? v : DEFAULT_MAX;
}

static int give_name(struct cache *c, int fd, const char *name)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, c->fd, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

/* The layer also gets the table of its system call sites (sites.c), which the digest of its files decides. */
static int write_layer(struct cache *c, struct tree *t, const char *final)
{
	char tmp[64];
	uint64_t bytes = 0;
	int r = sites_add_to_tree(t);

	if (r)
		return r;
	snprintf(tmp, sizeof(tmp), "tmp.layer.%d", (int)getpid());
	/* Without a name while it is being written, where the file system can: Ctrl-C leaves nothing then. */
	int fd = openat(c->fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	bool nameless = fd >= 0;
	if (!nameless)
		fd = openat(c->fd, tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = erofs_write(t, fd, &bytes);
	if (!r && fdatasync(fd))
		r = -errno;
	if (!r && nameless)
		r = give_name(c, fd, tmp);
	close(fd);
	if (!r && renameat(c->fd, tmp, c->fd, final))
		r = -errno;
	if (r)
		unlinkat(c->fd, tmp, 0);
	return r;
}

int cache_build(struct cache *c, struct tree *t, char hex[65])
{
	char name[96];
	int r = 0;

	tree_digest(t, hex);
	layer_name(name, hex);
	if (!utimensat(c->fd, name, NULL, 0))
		return 0; /* there, and now among the newest: the next layer's pruning spares it */
	int lock = take_lock(c);
	if (lock < 0)
		return lock;
	if (faccessat(c->fd, name, R_OK, 0)) {
		prune_old(c, ".", "tmp.layer.", 0); /* left by somebody who died: we hold the lock */
		r = write_layer(c, t, name);
		prune_layers(c, cache_max());
		prune_old(c, "index", "", INDEX_AGE_S);
		prune_old(c, "memos", "", INDEX_AGE_S);
	}
	close(lock);
	return r;
}

/* --- index ------------------------------------------------------------------------------ */

static void index_name(char out[96], const char key[65])
{
	snprintf(out, 96, "index/%.40s", key);
}

/* One line of an entry. */
static bool parse_line(char *line, struct index_entry *e)
{
	if (!strncmp(line, "layer ", 6) && strlen(line) == 70 && e->n_layers < IMAGE_MAX_LAYERS) {
		strcpy(e->layer[e->n_layers++], line + 6);
		return strspn(line + 6, "0123456789abcdef") == 64;
	}
	if (!strncmp(line, "cwd ", 4) && strlen(line) == 68) {
		strcpy(e->cwd_digest, line + 4);
		return true;
	}
	return false;
}

/* Does a "sig" line still hold? */
static bool sig_holds(char *line)
{
	struct stat st;
	char *p = line + 4;
	uint64_t ino = strtoull(p, &p, 10), size = strtoull(p, &p, 10);
	int64_t mtime = strtoll(p, &p, 10), ctime_ns = strtoll(p, &p, 10);

	if (*p != ' ' || p[1] != '/')
		return false;
	if (stat(p + 1, &st))
		return !ino;
	if (st.st_ino != ino || st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec != mtime)
		return false;
	if (S_ISDIR(st.st_mode))
		return true;
	return (uint64_t)st.st_size == size &&
	       st.st_ctim.tv_sec * 1000000000ll + st.st_ctim.tv_nsec == ctime_ns;
}

char *sigs_print(const struct sigs *sigs)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	for (size_t i = 0; f && i < sigs->n; i++) {
		const struct sig *s = &sigs->v[i];
		fprintf(f, "sig %llu %llu %lld %lld %s\n", (unsigned long long)s->ino,
			(unsigned long long)s->size, (long long)s->mtime_ns, (long long)s->ctime_ns, s->path);
	}
	if (!f || fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

bool sigs_hold(char *text)
{
	for (char *line = text; *line;) {
		char *end = strchr(line, '\n');
		if (!end || strncmp(line, "sig ", 4))
			return false;
		*end = 0;
		if (!sig_holds(line))
			return false;
		line = end + 1;
	}
	return true;
}

bool cache_lookup(struct cache *c, const char key[65], struct index_entry *e)
{
	char name[96];
	struct stat st;
	bool ok = false;

	memset(e, 0, sizeof(*e));
	index_name(name, key);
	int fd = openat(c->fd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	char *buf = !fstat(fd, &st) && st.st_size < INDEX_MAX ? malloc((size_t)st.st_size + 1) : NULL;
	ssize_t n = buf ? read(fd, buf, (size_t)st.st_size) : -1;
	close(fd);
	if (n == st.st_size && n > 0) {
		buf[n] = 0;
		ok = !strncmp(buf, INDEX_HEAD, strlen(INDEX_HEAD));
		char *line = buf + strlen(INDEX_HEAD);
		while (ok && *line) {
			char *end = strchr(line, '\n');
			ok = end != NULL;
			if (!ok)
				break;
			*end = 0;
			ok = !strncmp(line, "sig ", 4) ? sig_holds(line) : parse_line(line, e);
			line = end + 1;
		}
		ok = ok && e->n_layers;
	}
	free(buf);
	return ok;
}

void cache_store(struct cache *c, const char key[65], const struct index_entry *e)
{
	char name[96], tmp[64];

	for (size_t i = 0; i < e->sigs.n; i++)
		if (strchr(e->sigs.v[i].path, '\n'))
			return; /* the format has no room for it: such an image is found the long way */
	snprintf(tmp, sizeof(tmp), "tmp.index.%d", (int)getpid());
	int fd = openat(c->fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		if (fd >= 0)
			close(fd);
		return;
	}
	fputs(INDEX_HEAD, f);
	for (int i = 0; i < e->n_layers; i++)
		fprintf(f, "layer %s\n", e->layer[i]);
	if (e->cwd_digest[0])
		fprintf(f, "cwd %s\n", e->cwd_digest);
	char *sigs = sigs_print(&e->sigs);
	if (sigs)
		fputs(sigs, f);
	bool ok = sigs && !ferror(f);
	free(sigs);
	index_name(name, key);
	if (fclose(f) || !ok || renameat(c->fd, tmp, c->fd, name))
		unlinkat(c->fd, tmp, 0); /* no entry: the next run looks again */
}

/* --- for `cowbell cache` ------------------------------------------------------------------ */

int image_cache_info(char *path, size_t size, unsigned *layers, uint64_t *bytes)
{
	struct cache *c = cache_open();
	struct dirent *e;
	struct stat st;

	*layers = 0;
	*bytes = 0;
	if (!c)
		return EXIT_OURS;
	snprintf(path, size, "%s", c->path);
	int fd = openat(c->fd, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	while (d && (e = readdir(d)))
		if (!fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode)) {
			++*layers;
			*bytes += (uint64_t)st.st_blocks * 512;
		}
	if (d)
		closedir(d);
	cache_close(c);
	return 0;
}

int image_cache_clear(void)
{
	struct cache *c = cache_open();
	int lock = c ? take_lock(c) : -1;

	if (!c)
		return EXIT_OURS;
	if (lock >= 0) {
		prune_old(c, "layers", "", 0);
		prune_old(c, "index", "", 0);
		prune_old(c, "memos", "", 0);
		prune_old(c, ".", "tmp.", 0);
		char *npm = textf("%s/npm", c->path); /* image/build/steps.c */
		store_rmtree(npm);
		free(npm);
		close(lock);
	}
	int status = lock >= 0 ? 0 : say_fail(EXIT_OURS, "%s: %s", c->path, strerror(-lock));
	cache_close(c);
	return status;
}

int image_memo_dir(void)
{
	static const char *const parts[] = {"/layers", "/index", "/memos"};
	char path[PATH_MAX];
	size_t n;
	int fd;

	if (!dirs_cache(path, sizeof(path) - 8))
		return 0;
	n = strlen(path);
	strcpy(path + n, "/memos");
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 || errno != ENOENT)
		return fd > 0 ? fd : 0;
	path[n] = 0;
	if (dirs_make(path)) /* quietly: one can do without */
		return 0;
	for (int i = 0; i < 3; i++) {
		strcpy(path + n, parts[i]);
		mkdir(path, 0700);
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd > 0 ? fd : 0;
}

int image_prefix_dir(void)
{
	char path[PATH_MAX];
	int fd;

	if (!dirs_cache(path, sizeof(path) - 8))
		return -1;
	strcat(path, "/prefix");
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT && !dirs_make(path))
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd;
}
