/* SPDX-License-Identifier: ISC */
/*
 * What an instance takes of the machine's memory: pages that only it has. Files that it maps (images, snapshots) are shared
 * with its neighbours and can be dropped, so they are not counted.
 *
 * Anonymous and shared-memory pages of /proc/PID/status of the monitor, and of its children where the guest is a process of its own:
 * the guest's memory is a memory file that both may map, so of that the larger count is taken.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/instance.h"

#define MAX_CHILDREN 8

static ssize_t read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = 0;
	return n;
}

static uint64_t field(const char *status, const char *name)
{
	const char *p = strstr(status, name);

	return p ? strtoull(p + strlen(name), NULL, 10) << 10 : 0;
}

static void add(long pid, uint64_t *anon, uint64_t *shmem)
{
	char path[64], buf[4096];

	snprintf(path, sizeof(path), "/proc/%ld/status", pid);
	if (read_file(path, buf, sizeof(buf)) <= 0)
		return;
	uint64_t s = field(buf, "\nRssShmem:");
	*anon += field(buf, "\nRssAnon:");
	if (s > *shmem)
		*shmem = s;
}

uint64_t instance_memory(const struct instance *i)
{
	char path[64], buf[256], *p = buf, *end;
	uint64_t anon = 0, shmem = 0;

	if (i->pid <= 0)
		return 0;
	add(i->pid, &anon, &shmem);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)i->pid, (int)i->pid);
	if (read_file(path, buf, sizeof(buf)) > 0)
		for (int k = 0; k < MAX_CHILDREN; k++, p = end) {
			long pid = strtol(p, &end, 10);
			if (end == p)
				break;
			add(pid, &anon, &shmem);
		}
	return anon + shmem;
}
