// SPDX-License-Identifier: ISC
/* libFuzzer target: paths looked up in an EROFS image that somebody brings (image/erofs_read.c). */
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/erofs_read.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static const char *const paths[] = {"/",
					    "/bin/hello",
					    "bin/../bin/./hello",
					    "/link",
					    "/lib/x86_64-linux-gnu/libc.so.6",
					    "/no/such/thing"};
	static int fd = -1;
	struct erofs_image im;

	if (fd < 0)
		fd = memfd_create("erofs", 0);
	if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
		return 0;
	if (!erofs_fd_open(&im, fd))
		for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
			erofs_fd_lookup(&im, paths[i]);
	return 0;
}
