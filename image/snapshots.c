/* SPDX-License-Identifier: ISC */
/*
 * What snapshots need of images: a place beside the store, and their layers again.
 *
 *   STORE/snapshots/NAME.snap    written elsewhere in the directory, then renamed (cli/snapshot.c)
 *
 * A snapshot calls a layer by the path that it had. The file is a stranger's: the path is not opened, or a
 * snapshot could bring any file of the user's into its guest. Only its last part is read, a digest, and looked up in
 * the store and in the cache.
 *
 * A memo "snapshot" DIGEST -> "DEV INODE SIZE MTIME CTIME" (times in ns) says that every page of the file had its
 * checksum. As long as all of these are the same, so are the bytes; see oci/blobs.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/collect.h"
#include "image/image.h"
#include "image/store/store.h"
#include "lib/host/say.h"

int image_snapshot_dir(void)
{
	struct store *s = store_open();

	if (!s)
		return -1;
	char *path = textf("%s/snapshots", store_dir(s));
	int fd = -1;

	if (mkdir(path, 0700) && errno != EEXIST)
		say("%s: %s", path, strerror(errno));
	else if ((fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		say("%s: %s", path, strerror(errno));
	free(path);
	store_close(s);
	return fd;
}

int image_layer_by_id(const char *id, uint64_t *size)
{
	const char *slash = strrchr(id, '/'), *word = slash ? slash + 1 : id;
	char hex[65] = "";
	size_t n = strspn(word, "0123456789abcdef");
	int fd = -ENOENT;

	if (n != 64)
		return -EINVAL;
	memcpy(hex, word, 64);
	if (!strcmp(word + n, ".erofs")) {
		struct cache *c = cache_open();
		fd = c ? cache_layer(c, hex, size) : -ENOENT;
		cache_close(c);
	} else if (!word[n] && store_is_there()) {
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
	snprintf(now, size, "%llx %llx %llx %llx %llx", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino,
		 (unsigned long long)st->st_size, (unsigned long long)ns_of(st->st_mtim),
		 (unsigned long long)ns_of(st->st_ctim));
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
