/* SPDX-License-Identifier: ISC */
/*
 * Where the cache and the store are, and how to know them when a walk of files comes across them.
 *
 * They may lie inside a directory that becomes an image: an app's directory with XDG_CACHE_HOME below it, a home
 * directory. What is in them changes while we look, grows by what is made of it, and is none of the app's business, so
 * tree_walk() never enters them. They are told by device and inode: a path may lead there by many names.
 */
#include "image/dirs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* $XDG/cowbell, else ~/REST, else SYSTEM. */
static bool choose(const char *xdg, const char *home, const char *rest, const char *system, char *out,
		   size_t size)
{
	int n;

	if (xdg && *xdg == '/')
		n = snprintf(out, size, "%s/cowbell", xdg);
	else if (home && *home == '/')
		n = snprintf(out, size, "%s/%s", home, rest);
	else
		n = snprintf(out, size, "%s", system);
	return n < (int)size;
}

bool dirs_cache(char *out, size_t size)
{
	return choose(getenv("XDG_CACHE_HOME"), getenv("HOME"), ".cache/cowbell", "/var/cache/cowbell", out,
		      size);
}

bool dirs_store(char *out, size_t size)
{
	return choose(getenv("XDG_DATA_HOME"), geteuid() ? getenv("HOME") : NULL, ".local/share/cowbell",
		      "/var/lib/cowbell", out, size);
}

int dirs_make(char *path)
{
	int first = 0; /* why a directory on the way could not be made, in case it turns out to be missing */

	for (char *p = path + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		int r = mkdir(path, 0755) && errno != EEXIST ? -errno : 0;
		*p = '/';
		if (r && r != -EROFS && r != -EACCES)
			return first ? first : r;
		first = first ? first : r;
	}
	if (!mkdir(path, 0700) || errno == EEXIST)
		return 0;
	return errno == ENOENT && first ? first : -errno;
}

int dirs_own(struct dir_id own[DIRS_OWN])
{
	bool (*const where[DIRS_OWN])(char *, size_t) = {dirs_cache, dirs_store};
	char path[PATH_MAX];
	struct stat st;
	int n = 0;

	for (int i = 0; i < DIRS_OWN; i++)
		if (where[i](path, sizeof(path)) && !stat(path, &st) && S_ISDIR(st.st_mode))
			own[n++] = (struct dir_id){st.st_dev, st.st_ino};
	return n;
}
