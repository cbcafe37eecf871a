/* SPDX-License-Identifier: ISC */
/*
 * What snapshots need of images: a place beside the store, and their layers again.
 *
 *   STORE/snapshots/NAME.snap    written elsewhere in the directory, then renamed (cli/snapfile.c)
 *   STORE/snapshots/layers/DIGEST[.erofs]    layers that they need: second names of blobs and cached layers, or
 *                                copies where there can be none. So prune, rm and the cache's bound take only the
 *                                first name away. Its flock is held while snapshots of the store come and go
 *
 * A snapshot calls a layer by the path that it had. The file is a stranger's: the path is not opened, or a
 * snapshot could bring any file of the user's into its guest. Only its last part is read, a digest, and looked up in
 * the store and in the cache.
 *
 * A memo "snapshot" DIGEST -> "DEV INODE SIZE MTIME CTIME" (times in ns) says that every page of the file had its
 * checksum. As long as all of these are the same, so are the bytes; see oci/blobs.c.
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
#include "image/image.h"
#include "image/store/store.h"
#include "lib/host/copy.h"
#include "lib/host/say.h"

int image_snapshot_dir(void)
{
	struct store *s = store_open();

	if (!s)
		return -1;
	char *path = textf("%s/snapshots", store_dir(s));
	int fd = -1;

	if (!mkdir(path, 0700) || errno == EEXIST)
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		say("%s: %s", path, strerror(errno));
	free(path);
	store_close(s);
	return fd;
}

/* DIGEST or DIGEST.erofs at the end of an id, or NULL. */
static const char *digest_word(const char *id)
{
	const char *slash = strrchr(id, '/'), *word = slash ? slash + 1 : id;
	size_t n = strspn(word, "0123456789abcdef");

	return n == 64 && (!word[n] || !strcmp(word + n, ".erofs")) ? word : NULL;
}

/* --- layers that are kept for snapshots ----------------------------------------------------- */

static int open_pins(bool make)
{
	struct store *s = make || store_is_there() ? store_open() : NULL;
	char *path = s ? textf("%s/snapshots", store_dir(s)) : NULL,
	     *layers = s ? textf("%s/layers", path) : NULL;
	int fd = -ENOENT;

	if (!s)
		return fd;
	if (make) {
		mkdir(path, 0700);
		mkdir(layers, 0700);
	}
	fd = open(layers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = fd < 0 ? -errno : fd;
	free(layers);
	free(path);
	store_close(s);
	return fd;
}

int image_pins_lock(void)
{
	int fd = open_pins(true);

	while (fd >= 0 && flock(fd, LOCK_EX))
		if (errno != EINTR) {
			int err = errno;
			close(fd);
			return -err;
		}
	return fd;
}

static int pin_copy(int pins, const char *word, int fd)
{
	static const char tmp[] = ".tmp"; /* we hold the lock: what is there was left by one who died */
	struct stat st;
	int to, r;

	unlinkat(pins, tmp, 0);
	to = openat(pins, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	r = fstat(fd, &st) ? -errno : copy_bytes(fd, 0, (uint64_t)st.st_size, to, 0);
	if (!r && (fdatasync(to) || renameat(pins, tmp, pins, word)))
		r = -errno;
	close(to);
	if (r)
		unlinkat(pins, tmp, 0);
	return r;
}

int image_layer_pin(int pins, const char *id, int fd)
{
	const char *word = digest_word(id);
	char self[32];

	if (!word)
		return -EINVAL;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (!linkat(AT_FDCWD, self, pins, word, AT_SYMLINK_FOLLOW) || errno == EEXIST)
		return 0;
	return pin_copy(pins, word, fd); /* another file system, another owner, no name any more */
}

void image_pins_keep(int pins, const struct strings *ids)
{
	int copy = openat(pins, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		bool needed = !digest_word(e->d_name);

		for (size_t i = 0; i < ids->n && !needed; i++) {
			const char *word = digest_word(ids->v[i]);
			needed = word && !strcmp(word, e->d_name);
		}
		if (!needed)
			unlinkat(pins, e->d_name, 0);
	}
	if (d)
		closedir(d);
}

static int pinned(const char *word, uint64_t *size)
{
	int pins = open_pins(false),
	    fd = pins < 0 ? -1 : openat(pins, word, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (pins >= 0)
		close(pins);
	if (fd < 0 || fstat(fd, &st)) {
		if (fd >= 0)
			close(fd);
		return -ENOENT;
	}
	*size = (uint64_t)st.st_size;
	return fd;
}

int image_layer_by_id(const char *id, uint64_t *size)
{
	const char *word = digest_word(id);
	char hex[65] = "";
	int fd;

	if (!word)
		return -EINVAL;
	fd = pinned(word, size);
	if (fd >= 0)
		return fd;
	memcpy(hex, word, 64);
	if (word[64]) {
		struct cache *c = cache_open();
		fd = c ? cache_layer(c, hex, size) : -ENOENT;
		cache_close(c);
	} else if (store_is_there()) {
		struct store *s = store_open();
		fd = s ? store_blob(s, hex, size) : -ENOENT;
		store_close(s);
	}
	return fd;
}

/* --- checked before ----------------------------------------------------------------------- */

#define KIND	  "snapshot"
#define SETTLE_NS 2000000000ll /* two changes within one tick of the file system's clock have one ctime */

static long long ns_of(struct timespec t)
{
	return (long long)t.tv_sec * 1000000000ll + t.tv_nsec;
}

static bool describe(int fd, const uint8_t digest[32], struct stat *st, char hex[65], char *now, size_t size)
{
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	if (fstat(fd, st))
		return false;
	snprintf(now, size, "%llx %llx %llx %llx %llx", (unsigned long long)st->st_dev,
		 (unsigned long long)st->st_ino, (unsigned long long)st->st_size,
		 (unsigned long long)ns_of(st->st_mtim), (unsigned long long)ns_of(st->st_ctim));
	return true;
}

bool image_snapshot_checked(int fd, const uint8_t digest[32])
{
	char hex[65], now[128], *memo;
	struct stat st;
	struct store *s;
	bool same;

	if (!describe(fd, digest, &st, hex, now, sizeof(now)) || !store_is_there() || !(s = store_open()))
		return false;
	memo = store_memo_get(s, KIND, hex);
	same = memo && !strcmp(memo, now);
	free(memo);
	store_close(s);
	return same;
}

void image_snapshot_mark(int fd, const uint8_t digest[32], bool fresh)
{
	char hex[65], now[128];
	struct timespec clock;
	struct stat st;
	struct store *s;

	if (!describe(fd, digest, &st, hex, now, sizeof(now)))
		return;
	clock_gettime(CLOCK_REALTIME, &clock);
	if ((!fresh && ns_of(clock) - ns_of(st.st_ctim) <= SETTLE_NS) || !(s = store_open()))
		return;
	store_memo_set(s, KIND, hex, now);
	store_close(s);
}
