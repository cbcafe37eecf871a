/* SPDX-License-Identifier: ISC */
/*
 * Names that belong to no package: /usr/bin/awk, cc, pager and the like are
 * links by way of /etc/alternatives, which an administrator may turn
 * elsewhere. Where what such a name leads to is in a tree, the name comes too,
 * so that a script finds awk by the name that it uses. A name whose program
 * was not taken stays away.
 *
 * update-alternatives keeps a file for each group: "auto" or "manual"; the
 * link; name and link of each slave; an empty line; the alternatives.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/collect.h"
#include "image/packages.h"

#define GROUPS "/var/lib/dpkg/alternatives"

static void add_if_wanted(struct tree *t, const char *link)
{
	char real[PATH_MAX];

	if (*link == '/' && realpath(link, real) && tree_find(t, real))
		tree_add(t, link);
}

static void take_group(struct tree *t, char *text)
{
	char *line = strchr(text, '\n'), *next;

	for (int i = 1; line && line[1] != '\n'; i++, line = next) {
		next = strchr(++line, '\n');
		if (!next)
			return;
		*next = 0;
		if (i % 2) /* the link; a slave's name, its link, ... */
			add_if_wanted(t, line);
	}
}

void alternatives_add(struct tree *t, struct sigs *sigs)
{
	DIR *d = opendir(GROUPS);
	char path[PATH_MAX];
	struct dirent *e;
	size_t size;

	while (d && (e = readdir(d))) {
		char *text = e->d_name[0] != '.' && snprintf(path, sizeof(path), GROUPS "/%s", e->d_name) <
							    (int)sizeof(path)
				     ? dpkg_slurp(path, &size)
				     : NULL;
		if (text)
			take_group(t, text);
		free(text);
	}
	if (d)
		closedir(d);
	sigs_add(sigs, "/etc/alternatives");
}
