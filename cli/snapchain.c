/* SPDX-License-Identifier: ISC */
/*
 * Parents of snapshots, and whether a snapshot's pages are what was written.
 *
 * A delta says how its parent was called and which digest it has. The digest decides; the name is only the first
 * place to look. Looked at are, in this order: the store, by that name; the delta's own directory; the path, if the
 * name is one; every snapshot of the store. Nothing of a file is used but its digest until that is the right one, so
 * what a hostile delta names is at worst opened, if it is a file.
 *
 * Before a start the checksum of every page of all files is looked at. What was found good is remembered with the
 * digest, device, inode, size and times of the file (image/snapshots.c), so that only the first start of a file pays for it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "image/image.h"
#include "lib/host/say.h"
#include "monitor/snapshot.h"

/* --- finding a snapshot by its digest ------------------------------------------------------ */

/* The file if it is a snapshot with this digest, else -1. *other: there is another file of this name. */
static int open_if(int dir, const char *name, const uint8_t digest[32], bool *other)
{
	struct snapshot_ids ids;
	struct stat st;
	int fd;

	if (fstatat(dir, name, &st, 0) || !S_ISREG(st.st_mode))
		return -1;
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -1;
	if (!snapshot_ids(fd, &ids) && !memcmp(ids.digest, digest, 32))
		return fd;
	close(fd);
	*other = true;
	return -1;
}

static int search(int store, const uint8_t digest[32])
{
	int copy = store < 0 ? -1 : openat(store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;
	bool other;

	while (d && fd < 0 && (e = readdir(d))) {
		const char *dot = strrchr(e->d_name, '.');

		if (e->d_name[0] != '.' && dot && !strcmp(dot, ".snap"))
			fd = open_if(store, e->d_name, digest, &other);
	}
	if (d)
		closedir(d);
	return fd;
}

int snap_find(const uint8_t digest[32], const char *name, int dir, bool *other)
{
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
	int store = image_snapshot_dir(), fd = -1;

	*other = false;
	if (!slash && *name && store >= 0) {
		char *file = textf("%s.snap", name);
		fd = open_if(store, file, digest, other);
		free(file);
	}
	if (fd < 0 && *base)
		fd = open_if(dir, base, digest, other);
	if (fd < 0 && *name == '/')
		fd = open_if(AT_FDCWD, name, digest, other);
	if (fd < 0)
		fd = search(store, digest);
	if (store >= 0)
		close(store);
	return fd;
}

int snap_dir_of(const char *word)
{
	const char *slash = strrchr(word, '/');
	char *path = slash ? textf("%.*s", (int)(slash - word + 1), word) : textf(".");
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	free(path);
	return fd < 0 ? AT_FDCWD : fd;
}

/* --- are the pages good? ---------------------------------------------------------------------- */

/* 0, or an exit status after one line. */
static int check(const char *word, int fd, const uint8_t digest[32])
{
	const char *why = "";
	int r;

	if (image_snapshot_checked(fd, digest))
		return 0;
	r = snapshot_verify(fd, &why);
	if (r)
		return say_fail(EXIT_OURS, "--snapshot %s: %s", word, *why ? why : strerror(-r));
	image_snapshot_mark(fd, digest, false);
	return 0;
}

/* --- the chain ------------------------------------------------------------------------------------ */

static int complain(const char *word, const char *parent, bool other)
{
	if (other)
		return say_fail(EXIT_OURS,
				"--snapshot %s: it needs the snapshot %s as it was when it was taken; "
				"what is there now is another one",
				word, parent);
	return say_fail(EXIT_OURS, "--snapshot %s: it needs the snapshot %s, which is not here any more",
			word, parent);
}

int snap_chain(const char *word, int fd, int *parents, int *n)
{
	static struct snapshot_info si; /* large */
	struct snapshot_ids ids;
	const char *why = "", *name = word;
	int dir = snap_dir_of(word), status = 0;
	bool other;

	*n = 0;
	while (!status && !snapshot_ids(fd, &ids) && !(status = check(name, fd, ids.digest)) && ids.delta) {
		if (snapshot_info(fd, &si, &why))
			break; /* whoever restores it says so */
		if (*n == SNAP_MAX_CHAIN - 1) {
			status = say_fail(EXIT_OURS, "--snapshot %s: more than %d snapshots under it", word,
					  *n);
			break;
		}
		name = si.parent;
		fd = snap_find(si.parent_digest, name, dir, &other);
		if (fd < 0)
			status = complain(word, name, other);
		else
			parents[(*n)++] = fd;
	}
	if (dir >= 0)
		close(dir);
	return status;
}

const char *snap_call(const char *word, int fd)
{
	static char path[PATH_MAX];
	int store = image_snapshot_dir();
	struct stat st, named;
	char *file = textf("%s.snap", word);
	bool stored = !strchr(word, '/') && store >= 0 && !fstatat(store, file, &named, 0) &&
		      !fstat(fd, &st) && st.st_dev == named.st_dev && st.st_ino == named.st_ino;

	free(file);
	if (store >= 0)
		close(store);
	return stored ? word : realpath(word, path);
}

/* --- who needs it? ----------------------------------------------------------------------------------- */

bool snap_needed(int store, const char *name, char *by, size_t size)
{
	char *file = textf("%s.snap", name);
	int fd = openat(store, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW), copy;
	struct snapshot_ids me, ids;
	bool needed = false, known = fd >= 0 && !snapshot_ids(fd, &me);
	struct dirent *e;

	if (fd >= 0)
		close(fd);
	copy = known ? openat(store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	while (d && !needed && (e = readdir(d))) {
		const char *dot = strrchr(e->d_name, '.');

		if (e->d_name[0] == '.' || !dot || strcmp(dot, ".snap") || !strcmp(e->d_name, file))
			continue;
		fd = openat(store, e->d_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
		needed =
			fd >= 0 && !snapshot_ids(fd, &ids) && ids.delta && !memcmp(ids.parent, me.digest, 32);
		if (needed)
			snprintf(by, size, "%.*s", (int)(dot - e->d_name), e->d_name);
		if (fd >= 0)
			close(fd);
	}
	if (d)
		closedir(d);
	free(file);
	return needed;
}
