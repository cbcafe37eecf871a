/* SPDX-License-Identifier: ISC */
/* unit-sources: lib/host/copy.c */
/* Copying between files: within a file system, between two of different kinds, from what the kernel cannot copy, and past the end. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/host/copy.h"
#include "tests/unit/tap.h"

#define SIZE (700u << 10)

static char data[SIZE], back[SIZE];

static int on_disk(void)
{
	const char *dir = getenv("TMPDIR");

	return open(dir && *dir ? dir : "/tmp", O_TMPFILE | O_RDWR, 0600);
}

static void copies(const char *what, int from, int to)
{
	bool good =
		from >= 0 && to >= 0 && pwrite(from, data, SIZE, 0) == SIZE && lseek(from, 5, SEEK_SET) == 5;

	ok(good && copy_bytes(from, 100, SIZE - 100, to, 3) == 0, "%s", what);
	ok(pread(to, back, SIZE, 3) == SIZE - 100 && !memcmp(back, data + 100, SIZE - 100), "%s: the bytes",
	   what);
	ok(lseek(from, 0, SEEK_CUR) == 5 && lseek(to, 0, SEEK_CUR) == 0, "%s: positions stay", what);
	ok(copy_bytes(from, SIZE - 10, 11, to, 0) == -ENODATA, "%s: past the end", what);
	close(from);
	close(to);
}

int main(void)
{
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (char)(i * 7 + i / 251);
	copies("on disk", on_disk(), on_disk());
	copies("from memory to disk", memfd_create("a", 0), on_disk());
	copies("from disk to memory", on_disk(), memfd_create("b", 0));

	int proc = open("/proc/self/status", O_RDONLY), to = memfd_create("c", 0);
	ok(copy_bytes(proc, 0, 5, to, 0) == 0 && pread(to, back, 5, 0) == 5 && !memcmp(back, "Name:", 5),
	   "from /proc, whose files seem to be empty");
	int ro = open("/proc/self/exe", O_RDONLY);
	ok(copy_bytes(to, 0, 5, ro, 0) == -EBADF, "to a file that is not open for writing");
	return done();
}
