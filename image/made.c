/* SPDX-License-Identifier: ISC */
/*
 * Files that no package has, in directories that packages have: what their
 * scripts made when they were installed (graphviz's list of its plug-ins,
 * caches of modules and fonts). A program of the package looks for them, so
 * they come with it.
 *
 * Candidates are the files of those directories that are not in the tree yet;
 * most of them are other packages' and drop out, after one reading of
 * all of dpkg's lists. Only below /usr: what a script made in /var is data of
 * this machine.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image/collect.h"
#include "image/packages.h"
#include "lib/host/strings.h"

#define MAX_CANDIDATES 20000

static bool is_wanted_dir(const char *dir)
{
	static const char *const shared[] = {"/usr/lib",    "/usr/lib/x86_64-linux-gnu",
					     "/usr/bin",    "/usr/sbin",
					     "/usr/share",  "/usr/lib64",
					     "/usr/src",    "/usr/games",
					     "/usr/libexec"};

	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++)
		if (!strcmp(shared[i], dir))
			return false;
	return !strncmp(dir, "/usr/", 5) && strncmp(dir, "/usr/local", 10) != 0 && !dpkg_is_bulk(NULL, dir);
}

static void find_candidates(const struct tree *t, const char *dir, struct strings *found)
{
	char path[PATH_MAX];
	struct dirent *e;
	struct stat st;
	DIR *d = opendir(dir);

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.' || found->n >= MAX_CANDIDATES ||
		    snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= (int)sizeof(path))
			continue;
		if (!tree_find(t, path) && !lstat(path, &st) && S_ISREG(st.st_mode) && st.st_mode & 0004)
			strings_add(found, path);
	}
	if (d)
		closedir(d);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Marks the candidates that a package's list has. The list is cut up. */
static void drop_owned(char *list, const struct strings *c, bool *owned)
{
	char at[PATH_MAX];
	const char *key;

	for (char *line = list, *next; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		key = line;
		if (!strncmp(line, "/lib/", 5)) { /* a package from before /usr was merged */
			if (snprintf(at, sizeof(at), "/usr%s", line) >= (int)sizeof(at))
				continue;
			key = at;
		} else if (strncmp(line, "/usr/", 5) != 0) {
			continue;
		}
		char **hit = bsearch(&key, c->v, c->n, sizeof(*c->v), by_name);
		if (hit)
			owned[hit - c->v] = true;
	}
}

static void read_lists(const struct strings *c, bool *owned)
{
	DIR *dir = opendir(DPKG_INFO_DIR);
	struct dirent *e;
	char file[512];
	size_t size;

	while (dir && (e = readdir(dir))) {
		size_t n = strlen(e->d_name);
		if (n < 6 || strcmp(e->d_name + n - 5, ".list") ||
		    snprintf(file, sizeof(file), DPKG_INFO_DIR "/%s", e->d_name) >= (int)sizeof(file))
			continue;
		char *list = dpkg_slurp(file, &size);
		if (list)
			drop_owned(list, c, owned);
		free(list);
	}
	if (dir)
		closedir(dir);
}

void made_add(struct tree *t, struct sigs *sigs, const struct strings *dirs)
{
	struct strings c = {0};

	for (size_t i = 0; i < dirs->n; i++) /* sorted: several packages have the same directory */
		if ((!i || strcmp(dirs->v[i], dirs->v[i - 1])) && is_wanted_dir(dirs->v[i]))
			find_candidates(t, dirs->v[i], &c);
	if (!c.n)
		return;
	strings_sort(&c);
	bool *owned = calloc(c.n, sizeof(*owned));
	if (owned)
		read_lists(&c, owned);
	for (size_t i = 0; owned && i < c.n; i++)
		if (!owned[i] && tree_add(t, c.v[i]))
			sigs_add(sigs, c.v[i]);
	free(owned);
	strings_free(&c);
}
