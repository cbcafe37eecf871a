/* SPDX-License-Identifier: ISC */
/*
 * The local store of images: where it is, who may use it at the same time, what is temporary in it.
 *
 *   DIR/blobs/sha256/HEX   a blob, read-only, named by the SHA-256 of its bytes        blob.c
 *   DIR/refs/NAME,TAG      a name: a symbolic link to nowhere whose target is the      refs.c
 *                          manifest's digest in base64url ('/' of the name is '+')
 *   DIR/memos/KIND.KEY     what an earlier build or import found out                   memo.c
 *   DIR/tmp/               being written; scratch directories. Whoever excludes        store.c
 *                          all others (prune) may remove everything in it
 *   DIR/lock, DIR/gate     empty; locked                                               store.c
 *
 * What always holds, whenever a process is killed and whenever the power fails:
 *
 *   - A file in blobs/ is whole. It has no name, or one in tmp/, until its bytes are hashed and on disk (fdatasync),
 *     then gets its final one in one step (linkat or rename). So whoever finds a blob may use it, in this process
 *     or another, without a look at who wrote it and when.
 *   - A name leads to a manifest that is there. Before a name is written, the entries of blobs/ are on disk; it
 *     appears and changes in one step (rename).
 *   - What a killed process leaves are blobs that no name reaches, and entries of tmp/. Prune removes both.
 *
 * Cost of this: three or four fdatasync(2) and two fsync(2) of directories for a small image, together 1.2 ms on
 * the machine that it was measured on (0.2 ms without any), which a thousand images in a minute can pay. One syncfs(2)
 * for each name costs half of that on an idle machine, but waits for whatever all others have written to the file
 * system, and a second process could use a blob of the first before that.
 *
 * A name and a memo take no block on ext4, XFS and btrfs: a link's target of less than 60 bytes lives in the inode.
 *
 * Locks. `lock` is held shared (flock) by all who add blobs or follow names, and exclusively by prune. New holders
 * would come for ever in a busy store, so prune closes the gate for a tenth of a second at a time: holders pass through
 * it (shared) on their way to the lock. store_lock() takes a byte of `lock` by an open file description lock, at an
 * offset that is the key's hash: no file is left behind for a key.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/dirs.h"
#include "image/store/inside.h"
#include "lib/host/say.h"

/* The lock comes last: where it is, all is. */
static int make_parts(int dir)
{
	static const char *const parts[] = {"blobs", BLOBS, "refs", "memos", "tmp"};

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		if (mkdirat(dir, parts[i], 0700) && errno != EEXIST)
			return -errno;
	int fd = openat(dir, "gate", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	fd = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return fsync(dir) ? -errno : 0;
}

static int open_parts(struct store *s)
{
	struct stat st;

	s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0 && errno == ENOENT) {
		int r = dirs_make(s->path);
		if (r)
			return r;
		s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (s->dir < 0 || fstat(s->dir, &st))
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & S_IWOTH))
		return -EPERM; /* whoever can write here can give us any image */
	s->lock = openat(s->dir, "lock", O_RDWR | O_CLOEXEC);
	if (s->lock < 0 && errno == ENOENT) {
		int r = make_parts(s->dir);
		if (r)
			return r;
		s->lock = openat(s->dir, "lock", O_RDWR | O_CLOEXEC);
	}
	s->gate = s->lock < 0 ? -1 : openat(s->dir, "gate", O_RDWR | O_CLOEXEC);
	return s->gate < 0 ? -errno : 0;
}

struct store *store_open(void)
{
	struct store *s = calloc(1, sizeof(*s));

	if (!s || !dirs_store(s->path, sizeof(s->path))) {
		free(s);
		say_fail(EXIT_OURS, "no directory for the store of images; set XDG_DATA_HOME");
		return NULL;
	}
	s->dir = s->gate = s->lock = -1;
	int r = open_parts(s);
	if (!r)
		return s;
	if (r == -EPERM)
		say_fail(EXIT_OURS,
			 "%s: cannot be the store of images: others may write to it; set XDG_DATA_HOME to a "
			 "directory of "
			 "yours",
			 s->path);
	else
		say_fail(EXIT_OURS,
			 "%s: cannot be made the store of images: %s; set XDG_DATA_HOME to a directory of "
			 "yours",
			 s->path, say_errno(-r));
	store_close(s);
	return NULL;
}

bool store_is_there(void)
{
	char path[sizeof(((struct store *)0)->path)];

	return dirs_store(path, sizeof(path)) && !access(path, F_OK);
}

void store_close(struct store *s)
{
	if (!s)
		return;
	store_end(s, false);
	if (s->holds)
		flock(s->lock, LOCK_UN); /* a child that has the descriptor still must not keep it */
	if (s->lock >= 0)
		close(s->lock);
	if (s->gate >= 0)
		close(s->gate);
	if (s->dir >= 0)
		close(s->dir);
	free(s);
}

const char *store_dir(const struct store *s)
{
	return s->path;
}

/* --- locks --------------------------------------------------------------------------------- */

static int lock_whole(int fd, int how)
{
	while (flock(fd, how))
		if (errno != EINTR)
			return -errno;
	return 0;
}

int store_hold(struct store *s)
{
	if (s->holds++)
		return 0;
	int r = lock_whole(s->gate, LOCK_SH);
	if (!r)
		r = lock_whole(s->lock, LOCK_SH);
	flock(s->gate, LOCK_UN);
	if (r)
		s->holds--;
	return r;
}

void store_release(struct store *s)
{
	if (s->holds && !--s->holds)
		flock(s->lock, LOCK_UN);
}

static void nap_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

/* With the gate closed, those who hold the store for a moment are out of it in a moment. */
static int exclude_once(struct store *s)
{
	int r = lock_whole(s->gate, LOCK_EX);

	for (int i = 0; !r && i < 20; i++) {
		r = flock(s->lock, LOCK_EX | LOCK_NB) ? -errno : 0;
		if (r != -EWOULDBLOCK && r != -EINTR)
			break;
		if (i < 19) {
			nap_ms(5);
			r = 0;
		}
	}
	flock(s->gate, LOCK_UN);
	return r;
}

int store_exclude(struct store *s, void (*waiting)(void))
{
	for (;;) {
		int r = exclude_once(s);
		if (r != -EWOULDBLOCK && r != -EINTR) {
			s->holds += !r;
			return r;
		}
		if (waiting)
			waiting();
		waiting = NULL;
		nap_ms(200);
	}
}

void store_unexclude(struct store *s)
{
	store_release(s);
}

int store_lock(struct store *s, const char *key)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	char hex[65];

	sha256_hex(key, strlen(key), hex);
	hex[15] = 0; /* 60 bits */
	l.l_start = (off_t)strtoull(hex, NULL, 16);
	int fd = openat(s->dir, "lock", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fcntl(fd, F_OFD_SETLKW, &l))
		if (errno != EINTR) {
			int r = -errno;
			close(fd);
			return r;
		}
	return fd < 0 ? -errno : fd;
}

/* --- directories ------------------------------------------------------------------------------ */

bool store_lazy;

void store_sync_later(void)
{
	store_lazy = true;
}

int sync_dir(struct store *s, const char *name)
{
	if (store_lazy)
		return 0;
	int fd = openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	int r = fsync(fd) ? -errno : 0;
	close(fd);
	return r;
}

int each_entry(struct store *s, const char *dir, int (*fn)(void *arg, int dirfd, const char *name), void *arg)
{
	int fd = openat(s->dir, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (!r && (errno = 0, e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			r = fn(arg, dirfd(d), e->d_name);
	if (!r && errno)
		r = -errno;
	closedir(d);
	return r;
}

/* --- what is temporary --------------------------------------------------------------------------- */

void tmp_name(char buf[TMP_NAME_MAX])
{
	uint64_t r;

	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		abort(); /* cannot be for 8 bytes once the kernel is up */
	snprintf(buf, TMP_NAME_MAX, "tmp/%016llx", (unsigned long long)r);
}

int store_tmpfile(struct store *s)
{
	char name[TMP_NAME_MAX];
	int fd = openat(s->dir, "tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	tmp_name(name);
	fd = openat(s->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	unlinkat(s->dir, name, 0);
	return fd;
}

/* It holds the store until store_close(), so that no prune takes it away from under its user. */
int store_scratch(struct store *s, char *buf, size_t size)
{
	char name[TMP_NAME_MAX];
	int r = store_hold(s);

	if (r)
		return r;
	tmp_name(name);
	if (snprintf(buf, size, "%s/%s", s->path, name) >= (int)size)
		return -ENAMETOOLONG;
	return mkdirat(s->dir, name, 0700) ? -errno : 0;
}

/* --- removing a tree -------------------------------------------------------------------------------- */
/*
 * What a build step made may be of any depth and without permissions. Below DEPTH levels a directory is moved up to the
 * top and comes round again, so neither the stack nor the number of descriptors depends on the tree.
 */
#define DEPTH 40

static int open_dir(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0 || errno != EACCES)
		return fd;
	char path[32];
	int p = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (p < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p);
	int r = chmod(path, 0700);
	close(p);
	return r ? -1 : openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int empty_dir(int top, int fd, int depth, unsigned *moved);

static int remove_entry(int top, int at, const char *name, int depth, unsigned *moved)
{
	if (!unlinkat(at, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -errno;
	if (!unlinkat(at, name, AT_REMOVEDIR))
		return 0;
	int fd = open_dir(at, name);
	if (fd < 0)
		return -errno;
	if (depth >= DEPTH) {
		char up[TMP_NAME_MAX];
		tmp_name(up);
		int r = fchmod(fd, 0700) || renameat(at, name, top, strchr(up, '/') + 1) ? -errno : 0;
		close(fd);
		++*moved;
		return r;
	}
	int r = empty_dir(top, fd, depth + 1, moved);
	return r ? r : unlinkat(at, name, AT_REMOVEDIR) ? -errno : 0;
}

/* Closes fd. Goes on after an error and gives back the first. */
static int empty_dir(int top, int fd, int depth, unsigned *moved)
{
	struct stat st;
	int r = 0;

	if (!fstat(fd, &st) && (st.st_mode & 0700) != 0700)
		fchmod(fd, 0700); /* best effort: what cannot be removed is reported below */
	DIR *d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	struct dirent *e;
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		int r1 = remove_entry(top, fd, e->d_name, depth, moved);
		r = r ? r : r1;
	}
	closedir(d);
	return r;
}

int store_rmtree(const char *path)
{
	unsigned moved;
	int r = 0;

	do {
		int fd = open_dir(AT_FDCWD, path);
		if (fd < 0)
			return errno == ENOENT ? 0 : -errno;
		int top = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		moved = 0;
		r = top < 0 ? -errno : 0;
		if (top >= 0)
			r = empty_dir(top, fd, 0, &moved);
		else
			close(fd);
		close(top);
	} while (!r && moved);
	return !r && rmdir(path) && errno != ENOENT ? -errno : r;
}
