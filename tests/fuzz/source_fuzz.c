/* SPDX-License-Identifier: ISC */
/*
 * Sources of strangers (image/build/unpack.c): whatever a tar says, what is there afterwards are files, directories and links in the one
 * directory, no link leads out of it, and there is no more of it than may be.
 */
#include <assert.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fcntl.h>

#include "image/build/source.h"

#define MAX_BYTES   65536
#define MAX_ENTRIES 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char top[64];
static uint64_t bytes, entries;

static int look(const char *path, const struct stat *st, int type, struct FTW *where)
{
	char real[PATH_MAX];

	(void)where;
	if (type == FTW_D)
		return 0;
	entries++;
	assert(S_ISREG(st->st_mode) || S_ISLNK(st->st_mode));
	assert(!(st->st_mode & 07000) || S_ISLNK(st->st_mode));
	if (S_ISREG(st->st_mode) && st->st_nlink == 1)
		bytes += (uint64_t)st->st_size;
	if (S_ISLNK(st->st_mode) && realpath(path, real)) {
		size_t len = strlen(top);
		assert(!strncmp(real, top, len) && (!real[len] || real[len] == '/'));
	}
	return 0;
}

static int wipe(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type;
	return where->level ? remove(path) : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct limits lim = {.max_bytes = MAX_BYTES, .max_entries = MAX_ENTRIES};
	static int dir = -1, tar;
	char path[32];

	if (dir < 0) {
		strcpy(top, "/dev/shm/source-fuzz-XXXXXX");
		if (!mkdtemp(top) || (dir = open(top, O_RDONLY | O_DIRECTORY)) < 0)
			abort();
		tar = memfd_create("tar", 0);
		if (!freopen("/dev/null", "w", stdout))
			abort();
	}
	if (ftruncate(tar, 0) || pwrite(tar, data, n, 0) != (ssize_t)n)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", tar);
	source_unpack(path, dir, &lim);
	bytes = entries = 0;
	nftw(top, look, 16, FTW_PHYS);
	assert(bytes <= MAX_BYTES);
	nftw(top, wipe, 16, FTW_PHYS | FTW_DEPTH);
	return 0;
}
