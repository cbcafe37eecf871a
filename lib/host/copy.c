/* SPDX-License-Identifier: ISC */
/*
 * Copying between files. copy_file_range(2) shares or copies blocks within a file system, but refuses (EXDEV) between two
 * of different kinds, and gives 0 bytes for files such as those of /proc: whatever it does not do is done by hand.
 */
#include "lib/host/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define BUFFER (256u << 10)

static int write_at(int fd, const char *p, size_t n, uint64_t at)
{
	while (n) {
		ssize_t r = pwrite(fd, p, n, (off_t)at);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r ? -errno : -EIO;
		p += r;
		n -= (size_t)r;
		at += (uint64_t)r;
	}
	return 0;
}

static int by_hand(int from, uint64_t from_at, uint64_t n, int to, uint64_t to_at)
{
	char *buf = malloc(BUFFER);
	int r = buf ? 0 : -ENOMEM;

	while (!r && n) {
		ssize_t got = pread(from, buf, n < BUFFER ? (size_t)n : BUFFER, (off_t)from_at);
		if (got < 0 && errno == EINTR)
			continue;
		r = got < 0 ? -errno : !got ? -ENODATA : write_at(to, buf, (size_t)got, to_at);
		if (r)
			break;
		from_at += (uint64_t)got;
		to_at += (uint64_t)got;
		n -= (uint64_t)got;
	}
	free(buf);
	return r;
}

int copy_bytes(int from, uint64_t from_at, uint64_t n, int to, uint64_t to_at)
{
	off_t in = (off_t)from_at, out = (off_t)to_at;

	while (n) {
		ssize_t r = copy_file_range(from, &in, to, &out, n < 1u << 30 ? (size_t)n : 1u << 30, 0);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return by_hand(from, (uint64_t)in, n, to, (uint64_t)out);
		n -= (uint64_t)r;
	}
	return 0;
}
