/* SPDX-License-Identifier: ISC */
/*
 * Memos: DIR/memos/KIND.KEY holds what an earlier build or import found out. May be lost at any time; is never torn.
 *
 *   short  a symbolic link to nowhere: '=' and the value, where each run of 64 hexadecimal digits (a digest is what
 *          most memos say) is byte 1 and 43 characters of base64url. Below 60 bytes it takes no block.
 *   long   a file: the SHA-256 of the value in hexadecimal, a newline, the value. It is not synced; after a power
 *          failure the digest tells whether it is whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/store/inside.h"

#define LINK_MAX_BYTES 59
#define VALUE_MAX      (16u << 20)
#define MEMO_PATH_MAX  256
#define MARK	       1

/* KIND.KEY; what cannot be a file name as it is becomes a digest. */
static void memo_path(const char *kind, const char *key, char path[MEMO_PATH_MAX])
{
	size_t k = strlen(kind), n = strlen(key);

	if (k && k <= 32 && strspn(kind, "abcdefghijklmnopqrstuvwxyz0123456789-_") == k && n && n <= 128 &&
	    strspn(key, "0123456789abcdef") == n) {
		snprintf(path, MEMO_PATH_MAX, "memos/%s.%s", kind, key);
		return;
	}
	char hex[65], *text = textf("%s\n%s", kind, key);
	sha256_hex(text, strlen(text), hex);
	free(text);
	snprintf(path, MEMO_PATH_MAX, "memos/x.%s", hex);
}

/* A run of exactly 64 hexadecimal digits begins here. */
static bool digest_at(const char *value, const char *p)
{
	static const char hex[] = "0123456789abcdef";

	return (p == value || !strchr(hex, p[-1])) && strspn(p, hex) == 64;
}

/* False: it is not for a link. */
static bool pack(const char *value, char out[LINK_MAX_BYTES + 1])
{
	size_t n = 1;

	out[0] = '=';
	for (const char *p = value; *p;) {
		bool digest = digest_at(value, p);
		if (*p == MARK || n + (digest ? 1 + DIGEST_PACKED : 1) > LINK_MAX_BYTES)
			return false;
		if (!digest) {
			out[n++] = *p++;
			continue;
		}
		out[n++] = MARK;
		digest_pack(p, out + n);
		n += DIGEST_PACKED;
		p += 64;
	}
	out[n] = 0;
	return true;
}

static char *unpack(const char *s)
{
	char *out = malloc(strlen(s) * 64 / DIGEST_PACKED + 64), *q = out;

	if (!out || *s++ != '=')
		goto bad;
	while (*s) {
		if (*s != MARK) {
			*q++ = *s++;
			continue;
		}
		if (!digest_unpack(s + 1, q))
			goto bad;
		s += 1 + DIGEST_PACKED;
		q += 64;
	}
	*q = 0;
	return out;
bad:
	free(out);
	return NULL;
}

static char *read_file(struct store *s, const char *path)
{
	struct stat st;
	char hex[65], *buf = NULL;
	int fd = openat(s->dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	size_t size = fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > VALUE_MAX + 65
			      ? 0
			      : (size_t)st.st_size;
	buf = size >= 65 ? malloc(size + 1) : NULL;
	ssize_t n = buf ? pread(fd, buf, size, 0) : -1;
	close(fd);
	if (n != (ssize_t)size || !buf) {
		free(buf);
		return NULL;
	}
	buf[size] = 0;
	sha256_hex(buf + 65, size - 65, hex);
	if (memcmp(buf, hex, 64) || strlen(buf) != size) {
		free(buf);
		return NULL;
	}
	memmove(buf, buf + 65, size - 65 + 1);
	return buf;
}

static char *get(struct store *s, const char *path)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(s->dir, path, target, sizeof(target) - 1);

	if (n < 0)
		return errno == EINVAL ? read_file(s, path) : NULL;
	target[n] = 0;
	return unpack(target);
}

char *store_memo_get(struct store *s, const char *kind, const char *key)
{
	char path[MEMO_PATH_MAX];

	memo_path(kind, key, path);
	return get(s, path);
}

char *memo_value(struct store *s, const char *file)
{
	char path[NAME_MAX + 8];

	snprintf(path, sizeof(path), "memos/%s", file);
	return get(s, path);
}

static int write_file(struct store *s, const char *tmp, const char *value)
{
	size_t n = strlen(value);
	char head[66];

	sha256_hex(value, n, head);
	head[64] = '\n';
	int fd = openat(s->dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int r = write_full(fd, head, 65);
	if (!r)
		r = write_full(fd, value, n);
	close(fd);
	return r;
}

void store_memo_set(struct store *s, const char *kind, const char *key, const char *value)
{
	char path[MEMO_PATH_MAX], tmp[TMP_NAME_MAX], packed[LINK_MAX_BYTES + 1];

	memo_path(kind, key, path);
	char *old = get(s, path);
	bool same = old && !strcmp(old, value);
	free(old);
	if (same || strlen(value) > VALUE_MAX || store_hold(s))
		return;
	tmp_name(tmp);
	int r = pack(value, packed) ? symlinkat(packed, s->dir, tmp) : write_file(s, tmp, value);
	if (r || renameat(s->dir, tmp, s->dir, path))
		unlinkat(s->dir, tmp, 0); /* forgotten: the next one looks again */
	store_release(s);
}
