/* SPDX-License-Identifier: ISC */
/*
 * The files of memos. One is
 *
 *   0    magic, 8 bytes
 *   8    size of what follows, 4 bytes; its CRC-32C, 4 bytes
 *   16   the words of whoever wrote it, as they lie in memory: a memo never leaves this machine
 */
#include "monitor/memo.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "monitor/snapfile.h"

#define MEMO_MAGIC 0x314f4d454d574f43ull /* "COWMEMO1" */

struct memo_head {
	uint64_t magic;
	uint32_t size, crc;
};

void memo_name(char name[MEMO_NAME], const char *kind, const uint8_t digest[32])
{
	int n = snprintf(name, MEMO_NAME - 33, "%s.", kind);

	for (int i = 0; i < 16; i++)
		n += snprintf(name + n, 3, "%02x", digest[i]);
}

bool memo_read(int dir, const char *name, void *p, size_t size)
{
	struct memo_head h = {0};
	struct iovec v[2] = {{&h, sizeof(h)}, {p, size}};
	int fd = dir > 0 ? openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
	ssize_t n = fd < 0 ? -1 : readv(fd, v, 2);

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)(sizeof(h) + size) && h.magic == MEMO_MAGIC && h.size == size &&
	       snap_crc32c(0, p, size) == h.crc;
}

void memo_write(int dir, const char *name, const void *p, size_t size)
{
	struct memo_head h = {.magic = MEMO_MAGIC, .size = (uint32_t)size, .crc = snap_crc32c(0, p, size)};
	struct iovec v[2] = {{&h, sizeof(h)}, {(void *)p, size}};
	char tmp[MEMO_NAME + 32];
	int fd;

	if (dir <= 0)
		return;
	snprintf(tmp, sizeof(tmp), ".%s.%d", name, (int)getpid());
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	bool whole = writev(fd, v, 2) == (ssize_t)(sizeof(h) + size);

	close(fd);
	if (!whole || renameat(dir, tmp, dir, name))
		unlinkat(dir, tmp, 0);
}

struct memo_stamp memo_stamp(int fd, const char *path)
{
	struct stat st;

	if (path ? stat(path, &st) : fstat(fd, &st))
		return (struct memo_stamp){0};
	return (struct memo_stamp){
		.dev = st.st_dev,
		.ino = st.st_ino,
		.size = (uint64_t)st.st_size,
		.mtime_ns = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec,
		.ctime_ns = st.st_ctim.tv_sec * 1000000000ll + st.st_ctim.tv_nsec,
	};
}

bool memo_same(const struct memo_stamp *a, const struct memo_stamp *b)
{
	return a->ino && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}
