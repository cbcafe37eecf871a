/* SPDX-License-Identifier: ISC */
/*
 * Blobs: bytes whose name is their SHA-256. Layout and promises: store.c.
 *
 *   blob_new ── blob_write/blob_fd ──▶ blob_commit: hash, then
 *        there already and whole ──▶ nothing is written
 *        otherwise fdatasync, read-only, link to its name (or rename over a damaged one)
 *
 * While it is written a blob is a file without a name where the file system can do that (O_TMPFILE), so a killed
 * writer leaves nothing. A small blob that is found is looked into, so that writing it again mends a damaged one;
 * of a large one only the size is compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/store/inside.h"

#define FLUSH_EVERY (8u << 20)
#define BUFFER	    (256u << 10)

struct blob {
	struct store *s;
	int fd;
	int error; /* the first one; commit gives it back */
	bool random; /* blob_fd(): hashed at the end */
	char tmp[TMP_NAME_MAX]; /* its name while it is written, or "" */
	struct sha256_ctx hash;
	uint64_t size, flushed;
};

/* --- digests ------------------------------------------------------------------------------------ */

static void finish(struct sha256_ctx *ctx, char hex[65])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t d[SHA256_DIGEST_SIZE];

	sha256_digest(ctx, sizeof(d), d);
	for (size_t i = 0; i < sizeof(d); i++) {
		hex[2 * i] = digits[d[i] >> 4];
		hex[2 * i + 1] = digits[d[i] & 15];
	}
	hex[64] = 0;
}

void sha256_hex(const void *data, size_t n, char hex[65])
{
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, n, data);
	finish(&ctx, hex);
}

int sha256_fd(int fd, char hex[65])
{
	uint8_t *buf = malloc(BUFFER);
	struct sha256_ctx ctx;
	off_t at = 0;
	ssize_t n = 0;

	if (!buf)
		return -ENOMEM;
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	sha256_init(&ctx);
	while ((n = pread(fd, buf, BUFFER, at)) > 0 || (n < 0 && errno == EINTR))
		if (n > 0) {
			sha256_update(&ctx, (size_t)n, buf);
			at += n;
		}
	int r = n < 0 ? -errno : 0;
	free(buf);
	finish(&ctx, hex);
	return r;
}

bool is_digest(const char *hex)
{
	return strspn(hex, "0123456789abcdef") == 64 && !hex[64];
}

/* --- reading ---------------------------------------------------------------------------------------- */

bool blob_path(char buf[BLOB_PATH_MAX], const char *hex)
{
	if (!is_digest(hex))
		return false;
	snprintf(buf, BLOB_PATH_MAX, BLOBS "/%s", hex);
	return true;
}

int store_blob(struct store *s, const char *hex, uint64_t *size)
{
	char path[BLOB_PATH_MAX];
	struct stat st;

	if (!blob_path(path, hex))
		return -EINVAL;
	int fd = pending_open(s, hex);
	if (fd == -ENOENT) {
		fd = openat(s->dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		fd = fd < 0 ? -errno : fd;
	}
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EBADMSG;
	}
	if (size)
		*size = (uint64_t)st.st_size;
	return fd;
}

static int read_full(int fd, char *buf, size_t n)
{
	size_t at = 0;

	while (at < n) {
		ssize_t r = pread(fd, buf + at, n - at, (off_t)at);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r ? -errno : -EBADMSG;
		at += (size_t)r;
	}
	return 0;
}

int store_get(struct store *s, const char *hex, size_t max, char **data, size_t *n)
{
	char found[65];
	uint64_t size;
	int fd = store_blob(s, hex, &size);

	*data = NULL;
	*n = 0;
	if (fd < 0)
		return fd;
	char *buf = size > max ? NULL : malloc((size_t)size + 1);
	int r = size > max ? -EFBIG : buf ? read_full(fd, buf, (size_t)size) : -ENOMEM;
	close(fd);
	if (!r) {
		sha256_hex(buf, (size_t)size, found);
		r = strcmp(found, hex) ? -EBADMSG : 0;
	}
	if (r) {
		free(buf);
		return r;
	}
	buf[size] = 0;
	*data = buf;
	*n = (size_t)size;
	return 0;
}

bool store_has(struct store *s, const char *hex)
{
	char path[BLOB_PATH_MAX];
	struct stat st;

	return blob_path(path, hex) && !fstatat(s->dir, path, &st, AT_SYMLINK_NOFOLLOW) &&
	       S_ISREG(st.st_mode);
}

int blob_check(struct store *s, const char *hex, uint64_t size)
{
	char found[65];
	uint64_t there;
	int fd = store_blob(s, hex, &there), r = 0;

	if (fd < 0)
		return fd;
	if (there != size)
		r = -EBADMSG;
	else if (size <= BLOB_SMALL)
		r = sha256_fd(fd, found) || strcmp(found, hex) ? -EBADMSG : 0;
	close(fd);
	return r;
}

/* --- writing ------------------------------------------------------------------------------------------ */

int write_full(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n) {
		ssize_t r = write(fd, p, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		p += r;
		n -= (size_t)r;
	}
	return 0;
}

struct blob *blob_new(struct store *s)
{
	struct blob *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->s = s;
	sha256_init(&b->hash);
	int r = store_hold(s); /* prune would take a named one away */
	b->fd = r ? -1 : openat(s->dir, "tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (b->fd < 0 && !r) {
		tmp_name(b->tmp);
		b->fd = openat(s->dir, b->tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		r = b->fd < 0 ? -errno : 0;
		if (r)
			store_release(s);
	}
	if (!r)
		return b;
	free(b);
	errno = -r;
	return NULL;
}

int blob_write(struct blob *b, const void *data, size_t n)
{
	if (b->error)
		return b->error;
	b->error = write_full(b->fd, data, n);
	if (b->error)
		return b->error;
	sha256_update(&b->hash, n, data);
	b->size += n;
	if (b->size - b->flushed >= FLUSH_EVERY) { /* on its way to the disk while the next part is made */
		sync_file_range(b->fd, (off_t)b->flushed, (off_t)(b->size - b->flushed),
				SYNC_FILE_RANGE_WRITE);
		b->flushed = b->size;
	}
	return 0;
}

int blob_fd(struct blob *b)
{
	b->random = true;
	return b->fd;
}

static void blob_free(struct blob *b)
{
	if (b->tmp[0])
		unlinkat(b->s->dir, b->tmp, 0);
	if (b->fd >= 0)
		close(b->fd);
	store_release(b->s);
	free(b);
}

void blob_abort(struct blob *b)
{
	if (b)
		blob_free(b);
}

int link_fd(struct store *s, int fd, const char *name)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!linkat(AT_FDCWD, path, s->dir, name, AT_SYMLINK_FOLLOW))
		return 0;
	if (errno != ENOENT) /* ENOENT: no /proc here */
		return -errno;
	return linkat(fd, "", s->dir, name, AT_EMPTY_PATH) ? -errno : 0;
}

/* The file is whole and on disk: its name. `replace`: what has it now is damaged. */
static int give_name(struct blob *b, const char *path, bool replace)
{
	int r;

	if (!b->tmp[0] && !replace) {
		r = link_fd(b->s, b->fd, path);
		return r == -EEXIST ? 0 : r; /* another process was faster with the same bytes */
	}
	if (!b->tmp[0]) {
		tmp_name(b->tmp);
		r = link_fd(b->s, b->fd, b->tmp);
		if (r) {
			b->tmp[0] = 0;
			return r;
		}
	}
	if (renameat(b->s->dir, b->tmp, b->s->dir, path))
		return -errno;
	b->tmp[0] = 0;
	return 0;
}

static int commit(struct blob *b, const char *expect, char hex[65], uint64_t *size)
{
	char path[BLOB_PATH_MAX];
	struct stat st;

	if (b->error)
		return b->error;
	if (fstat(b->fd, &st))
		return -errno;
	if (b->random) {
		int r = sha256_fd(b->fd, hex);
		if (r)
			return r;
	} else {
		finish(&b->hash, hex);
	}
	if (size)
		*size = (uint64_t)st.st_size;
	if (expect && strcmp(expect, hex))
		return -EBADMSG;
	int there = blob_check(b->s, hex, (uint64_t)st.st_size);
	if (!there)
		return 0;
	bool later = store_lazy && st.st_size <= BLOB_SMALL;
	if ((!later && fdatasync(b->fd)) || fchmod(b->fd, 0400) || !blob_path(path, hex))
		return -errno;
	/* Between store_begin() and store_end() its name comes with the others'. */
	if (there == -ENOENT && pending_take(b->s, hex, b->fd, b->tmp)) {
		b->fd = -1;
		b->tmp[0] = 0;
		return 0;
	}
	return give_name(b, path, there != -ENOENT);
}

int blob_commit(struct blob *b, const char *expect, char hex[65], uint64_t *size)
{
	int r = commit(b, expect, hex, size);

	blob_free(b);
	return r;
}

int store_put(struct store *s, const void *data, size_t n, char hex[65])
{
	sha256_hex(data, n, hex);
	if (!blob_check(s, hex, n))
		return 0;
	struct blob *b = blob_new(s);
	if (!b)
		return -errno;
	blob_write(b, data, n); /* its error is commit's */
	return blob_commit(b, hex, hex, NULL);
}
