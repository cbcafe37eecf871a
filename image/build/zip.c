/* SPDX-License-Identifier: ISC */
/*
 * One small file out of a zip archive: the manifest of a jar. libarchive would read the whole jar up to it; this
 * goes by the directory at the archive's end, as Java does.
 *
 *   end record     22 bytes and a comment, signature PK\5\6: +10 number of entries, +12 directory's size, +16 its offset
 *   directory      46 bytes an entry, PK\1\2: +10 method, +20 packed size, +24 size, +28 name's length, +30 extra's, +32 comment's,
 *                  +42 offset of the member; then name, extra, comment
 *   member         30 bytes, PK\3\4: +26 name's length, +28 extra's; then name, extra, data
 *
 * Not read: zip64, encryption, methods other than stored and deflated. The file is hostile: every offset is checked against its size.
 */
#include "image/build/zip.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define END_SIZE    22u
#define DIR_SIZE    46u
#define MEMBER_SIZE 30u
#define MAX_COMMENT 65535u
#define MAX_DIR	    (32u << 20)

static uint32_t le16(const uint8_t *p)
{
	return (uint32_t)(p[0] | p[1] << 8);
}

static uint32_t le32(const uint8_t *p)
{
	return le16(p) | le16(p + 2) << 16;
}

static bool read_at(int fd, void *buf, size_t n, uint64_t at)
{
	for (size_t have = 0; have < n;) {
		ssize_t r = pread(fd, (char *)buf + have, n - have, (off_t)(at + have));
		if (r <= 0)
			return false;
		have += (size_t)r;
	}
	return true;
}

/* The central directory, malloc. */
static uint8_t *read_directory(int fd, uint64_t size, uint32_t *n)
{
	uint32_t tail_n = size < END_SIZE + MAX_COMMENT ? (uint32_t)size : END_SIZE + MAX_COMMENT;
	uint8_t *tail = malloc(tail_n), *dir = NULL;

	if (tail && tail_n >= END_SIZE && read_at(fd, tail, tail_n, size - tail_n))
		for (uint32_t at = tail_n - END_SIZE + 1; at-- > 0;) {
			if (memcmp(tail + at, "PK\5\6", 4))
				continue;
			uint32_t len = le32(tail + at + 12), off = le32(tail + at + 16);
			if (len > MAX_DIR || (uint64_t)off + len > size)
				break;
			dir = malloc(len ? len : 1);
			if (dir && !read_at(fd, dir, len, off)) {
				free(dir);
				dir = NULL;
			}
			*n = len;
			break;
		}
	free(tail);
	return dir;
}

static bool inflate_all(uint8_t *in, uint32_t n_in, char *out, uint32_t n_out)
{
	z_stream z = {.next_in = in, .avail_in = n_in, .next_out = (Bytef *)out, .avail_out = n_out};

	if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
		return false;
	int r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return r == Z_STREAM_END && !z.avail_out;
}

/* e: the member's entry in the directory. */
static char *extract(int fd, uint64_t size, const uint8_t *e, size_t max, size_t *n)
{
	uint8_t head[MEMBER_SIZE];
	uint32_t method = le16(e + 10), packed = le32(e + 20), plain = le32(e + 24), at = le32(e + 42);

	if (plain > max || packed > max || (uint64_t)at + MEMBER_SIZE > size ||
	    !read_at(fd, head, sizeof(head), at) || memcmp(head, "PK\3\4", 4))
		return NULL;
	uint64_t data = (uint64_t)at + MEMBER_SIZE + le16(head + 26) + le16(head + 28);
	if (data + packed > size || (method && method != 8) || (!method && packed != plain))
		return NULL;
	uint8_t *in = malloc(packed + 1u);
	char *out = malloc(plain + 1u);
	bool good = in && out && read_at(fd, in, packed, data);
	if (good && method)
		good = inflate_all(in, packed, out, plain);
	else if (good)
		memcpy(out, in, plain);
	free(in);
	if (!good) {
		free(out);
		return NULL;
	}
	out[plain] = 0;
	*n = plain;
	return out;
}

char *zip_member(int fd, const char *name, size_t max, size_t *n)
{
	struct stat st;
	uint32_t len = 0, want = (uint32_t)strlen(name);
	char *out = NULL;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return NULL;
	uint8_t *dir = read_directory(fd, (uint64_t)st.st_size, &len);
	for (uint32_t at = 0; dir && at + DIR_SIZE <= len;) {
		const uint8_t *e = dir + at;
		uint32_t name_n = le16(e + 28), step = DIR_SIZE + name_n + le16(e + 30) + le16(e + 32);
		if (memcmp(e, "PK\1\2", 4) || at + step > len)
			break;
		if (name_n == want && !memcmp(e + DIR_SIZE, name, want)) {
			out = extract(fd, (uint64_t)st.st_size, e, max, n);
			break;
		}
		at += step;
	}
	free(dir);
	return out;
}
