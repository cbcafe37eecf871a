/* SPDX-License-Identifier: ISC */
/*
 * Names that belong to no package: /usr/bin/awk, cc, pager and the like are
 * links by way of /etc/alternatives, which an administrator may turn
 * elsewhere. Where what such a name leads to is in a tree, the name comes too,
 * so that a script finds awk by the name that it uses. A name whose program
 * was not taken stays away.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/collect.h"

#define ALTERNATIVES "/etc/alternatives/"

static void add_if_wanted(struct tree *t, const char *path)
{
	char target[PATH_MAX], real[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < (ssize_t)sizeof(ALTERNATIVES) - 1 ||
	    memcmp(target, ALTERNATIVES, sizeof(ALTERNATIVES) - 1) != 0)
		return;
	if (realpath(path, real) && tree_find(t, real))
		tree_add(t, path);
}

void alternatives_add(struct tree *t, struct sigs *sigs)
{
	static const char *const dirs[] = {"/usr/bin", "/usr/sbin"};
	char path[PATH_MAX];
	struct dirent *e;

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		DIR *d = opendir(dirs[i]);
		while (d && (e = readdir(d)))
			if ((e->d_type == DT_LNK || e->d_type == DT_UNKNOWN) &&
			    snprintf(path, sizeof(path), "%s/%s", dirs[i], e->d_name) < (int)sizeof(path))
				add_if_wanted(t, path);
		if (d)
			closedir(d);
	}
	sigs_add(sigs, ALTERNATIVES);
}
