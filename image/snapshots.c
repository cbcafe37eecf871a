/* SPDX-License-Identifier: ISC */
/*
 * What snapshots need of images: a place beside the store, and their layers again.
 *
 *   STORE/snapshots/NAME.snap    written elsewhere in the directory, then renamed (cli/snapshot.c)
 *
 * A snapshot calls a layer by the path that it had. The file is a stranger's: the path is not opened, or a
 * snapshot could bring any file of the user's into its guest. Only its last part is read, a digest, and looked up in
 * the store and in the cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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
