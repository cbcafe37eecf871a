/* SPDX-License-Identifier: ISC */
/*
 * limits.cpu_percent by cgroup v2, where the cgroup that we are in has been given to us (systemd: Delegate=cpu). There
 *
 *   OURS/cowbell-serve     we ourselves: a cgroup with members may have no children with controllers
 *   OURS/cowbell-ID        one for each instance that has a limit, with cpu.max
 *
 * Where that cannot be done, one line says so, and instances run without that limit: the kernel shares the CPU evenly.
 */
#include "platform/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/platform.h"

#define PERIOD_US 100000u

static char base[512]; /* of ours; "" while not known or not usable */

static bool put(const char *dir, const char *file, const char *text)
{
	char path[700];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* The line "0::/path" of /proc/self/cgroup. */
static bool own_path(char *out, size_t size)
{
	char line[512];
	bool found = false;
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f && !found && fgets(line, sizeof(line), f))
		if (!strncmp(line, "0::/", 4)) {
			line[strcspn(line, "\n")] = 0;
			snprintf(out, size, "/sys/fs/cgroup%s", line + 3);
			found = true;
		}
	if (f)
		fclose(f);
	return found && !access(out, W_OK);
}

static bool prepare(void)
{
	char self[700];

	if (!own_path(base, sizeof(base)))
		return false;
	snprintf(self, sizeof(self), "%s/cowbell-serve", base);
	if (mkdir(self, 0755) < 0 && errno != EEXIST)
		return false;
	return put(self, "cgroup.procs", "0") && put(base, "cgroup.subtree_control", "+cpu");
}

int cgroup_make(const char *id, unsigned cpu_percent)
{
	static bool tried;
	char dir[600], path[700], quota[64];

	if (!cpu_percent)
		return -1;
	if (!tried && !prepare()) {
		plog("warning", NULL,
		     "limits of CPU shares are not kept: no cgroup v2 with the cpu controller was given to "
		     "us");
		*base = 0;
	}
	tried = true;
	if (!*base)
		return -1;
	snprintf(dir, sizeof(dir), "%s/cowbell-%s", base, id);
	snprintf(quota, sizeof(quota), "%u %u", PERIOD_US / 100 * cpu_percent, PERIOD_US);
	if (mkdir(dir, 0755) < 0 || !put(dir, "cpu.max", quota))
		return -1;
	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	return open(path, O_WRONLY | O_CLOEXEC);
}

void cgroup_remove(const char *id)
{
	char dir[600];

	if (!*base)
		return;
	snprintf(dir, sizeof(dir), "%s/cowbell-%s", base, id);
	rmdir(dir);
}
