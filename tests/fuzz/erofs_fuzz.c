// SPDX-License-Identifier: ISC
/* libFuzzer target: paths looked up in an EROFS image that somebody brings (image/overlay.c, image/erofs_path.c, lib/erofs.c). */
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/overlay.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void count(void *arg, const char *dir, const struct erofs_inode *i)
{
	*(unsigned *)arg += dir[0] == '/' && (!i || S_ISDIR(i->mode));
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static const char *const paths[] = {"/",
					    "/bin/hello",
					    "bin/../bin/./hello",
					    "/link",
					    "/lib/x86_64-linux-gnu/libc.so.6",
					    "/no/such/thing"};
	static int fd = -1;
	struct overlay o;
	int two[2], bad;

	if (fd < 0)
		fd = memfd_create("erofs", 0);
	if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
		return 0;
	two[0] = two[1] = fd; /* on top of itself: the rules of layers have something to do */
	if (overlay_open(&o, two, 2, &bad))
		return 0;
	for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		overlay_mode(&o, paths[i]);
	unsigned dirs = 0;
	overlay_dirs(&o, "/link/../no/./such/dir", count, &dirs);
	overlay_close(&o);
	return 0;
}
