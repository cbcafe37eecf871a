/* SPDX-License-Identifier: ISC */
/*
 * Inside of the sandbox: what a step sees (sandbox_view.c), may call (sandbox_filter.c) and is built with (sandbox_tools.c), for who
 * starts and watches it (sandbox.c).
 */
#ifndef COWBELL_IMAGE_BUILD_SANDBOX_H
#define COWBELL_IMAGE_BUILD_SANDBOX_H

#include <sys/types.h>

#include "image/build/build.h"

#define BWRAP		"/usr/bin/bwrap"
#define PRLIMIT		"/usr/bin/prlimit"
#define SANDBOX_MAX_FDS 16

/* Where bubblewrap finds the directories that it binds: the real paths, or places that were staged for it. */
struct sandbox_sources {
	const char *app, *cache, *tool; /* cache, tool: or NULL */
};

/* Descriptors that bubblewrap inherits; owned by who called view_arguments(). */
struct sandbox_fds {
	int fd[SANDBOX_MAX_FDS];
	int n;
};

/*
 * All of bubblewrap's arguments, as a descriptor for its --args. status_fd and block_fd are its --json-status-fd and
 * --block-fd. tool: path of a vendor's toolchain inside, or NULL. -errno on failure.
 */
int view_arguments(const struct sandbox *sb, const struct sandbox_sources *src, const char *tool,
		   int status_fd, int block_fd, struct sandbox_fds *fds);
/* The seccomp filter as a file for --seccomp, or -errno. network: without AF_UNIX, since abstract names are the host's then. */
int view_filter(bool network);
/* The whole command line: bubblewrap, its arguments' descriptor, limits, the step's command. */
void view_command(const struct sandbox *sb, int arguments_fd, struct strings *argv);
/*
 * The directory of a toolchain outside of /usr whose program the step starts, such as /opt/go for /opt/go/bin/go: malloc.
 * NULL: it is in /usr, or nowhere, or where a home directory would have to be shown.
 */
char *view_tool_prefix(const char *program);
/* Bytes on disk below a directory, in *bytes, and how many files. False: more than `max` or 1,000,000 files. */
bool view_disk_use(int dirfd, uint64_t max, uint64_t *bytes);

#endif
