/* SPDX-License-Identifier: ISC */
/*
 * `cowbell serve`: execute the platform, which is a program of its own that this one carries (platform_blob.S).
 *
 * It is one program to install, and yet a `cowbell run` does not pay for the libraries of a server. The copy is
 * executed from memory: nothing is unpacked to a disk, and nothing is left.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/host/say.h"

extern const char platform_blob_start[], platform_blob_end[];

/* A descriptor of the program, or -1 after one line. */
static int unpack(void)
{
	int fd = memfd_create("cowbell-platform", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	const char *p = platform_blob_start;

	while (fd >= 0 && p < platform_blob_end) {
		ssize_t n = write(fd, p, (size_t)(platform_blob_end - p));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return say_fail(-1, "serve: no memory for the platform: %s", strerror(errno));
		p += n;
	}
	if (fd < 0)
		say("serve: no memory for the platform: %s", strerror(errno));
	return fd;
}

int cmd_serve(int argc, char **argv)
{
	char **args = calloc((size_t)argc + 3, sizeof(char *)), *self = realpath("/proc/self/exe", NULL);
	int fd = unpack(), status = EXIT_OURS;

	if (args && self && fd >= 0) {
		args[0] = (char *)"cowbell-serve";
		args[1] = (char *)"--self";
		args[2] = self;
		memcpy(args + 3, argv + 1, (size_t)(argc - 1) * sizeof(char *));
		fexecve(fd, args, environ);
		status = say_fail(EXIT_OURS,
				  "serve: the platform cannot be started: %s (it needs the libraries libuv1, "
				  "libssl3, libsqlite3-0, libnghttp2-14 and libjansson4)",
				  strerror(errno));
	} else if (fd >= 0) {
		status = say_fail(EXIT_OURS, "serve: %s", strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	free(args);
	free(self);
	return status;
}
