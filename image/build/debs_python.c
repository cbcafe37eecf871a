/* SPDX-License-Identifier: ISC */
/*
 * Compiled modules of fetched Python packages. When a package is installed its
 * scripts compile its .py files; here a scratch directory gets these files
 * and this machine's python3 compiles them, which parses but never runs
 * them. Without the .pyc files each start of an instance would compile anew,
 * since the image cannot be written to.
 *
 * Only where this machine's python3 is the layer's (the same 3.x); else, and
 * where a file is no Python 3, the module is compiled when it is used.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/build/debs.h"
#include "lib/host/progress.h"

#define MAX_PYC (32u << 20)

struct compile {
	struct debs *d;
	struct tree *t;
	char dir[PATH_MAX]; /* scratch */
	size_t n; /* files in it */
};

static bool is_fetched_py(const struct node *n)
{
	return S_ISREG(n->mode) && n->data && !n->ino && n->mtime && n->name_len > 3 &&
	       !strcmp(n->name + n->name_len - 3, ".py");
}

static bool make_parents(char *path)
{
	for (char *p = path + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		int r = mkdir(path, 0700);
		*p = '/';
		if (r && errno != EEXIST)
			return false;
	}
	return true;
}

/* With the time that the layer's file has, which the .pyc repeats. */
static bool put_source(struct compile *c, const struct node *n)
{
	const struct timespec times[2] = {{.tv_sec = n->mtime}, {.tv_sec = n->mtime}};
	char path[PATH_MAX], full[PATH_MAX];

	if (!tree_path(n, path, sizeof(path)) ||
	    snprintf(full, sizeof(full), "%s%s", c->dir, path) >= (int)sizeof(full) || !make_parents(full))
		return false;
	int fd = open(full, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool ok = fd >= 0 && write(fd, n->data, n->size) == (ssize_t)n->size && !futimens(fd, times);
	if (fd >= 0)
		close(fd);
	c->n += ok;
	return ok;
}

static bool put_sources(struct compile *c, const struct node *dir)
{
	bool ok = true;

	for (const struct node *n = dir ? dir->child : NULL; n && ok; n = n->sibling)
		ok = S_ISDIR(n->mode) ? put_sources(c, n) : !is_fetched_py(n) || put_source(c, n);
	return ok;
}

/* Every .pyc below `path` of the scratch directory goes to the same path of the tree. */
static void take_compiled(struct compile *c, const char *path)
{
	char full[PATH_MAX], sub[PATH_MAX];
	struct dirent *e;
	size_t size;

	snprintf(full, sizeof(full), "%s%s", c->dir, path);
	DIR *d = opendir(full);
	while (d && (e = readdir(d))) {
		size_t n = strlen(e->d_name);
		if (e->d_name[0] == '.' ||
		    snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name) >= (int)sizeof(sub))
			continue;
		if (e->d_type == DT_DIR) {
			take_compiled(c, sub);
		} else if (n > 4 && !strcmp(e->d_name + n - 4, ".pyc") &&
			   snprintf(full, sizeof(full), "%s%s", c->dir, sub) < (int)sizeof(full)) {
			char *data = dpkg_slurp(full, &size);
			if (data && size < MAX_PYC)
				tree_put_file(c->t, sub, 0644, data, size);
			free(data);
		}
	}
	if (d)
		closedir(d);
}

void python_compile(struct debs *d, struct tree *t, const char *tag)
{
	struct compile c = {.d = d, .t = t};
	char interpreter[64], *out;
	size_t n;

	/* "cpython-311" is python3.11, of this layer or of the one below */
	snprintf(interpreter, sizeof(interpreter), "python3.%s", strlen(tag) > 9 ? tag + 9 : "");
	const struct deb *p = control_find(d->db, interpreter, strlen(interpreter));
	if (!p || p->mark == DEB_NO || store_scratch(d->s, c.dir, sizeof(c.dir)))
		return;
	if (put_sources(&c, tree_find(t, "/usr/lib/python3")) &&
	    put_sources(&c, tree_find(t, "/usr/share")) && c.n) {
		const char *const argv[] = {"/usr/bin/python3",
					    "-I",
					    "-S",
					    "-m",
					    "compileall",
					    "-q",
					    "-s",
					    c.dir,
					    "-p",
					    "/",
					    c.dir,
					    NULL};
		progress_begin("compiling Python modules", 0, false);
		fetch_run(argv, c.dir, -1, &out, &n, NULL); /* what does not compile is left as it is */
		progress_end();
		free(out);
		take_compiled(&c, "");
	}
	store_rmtree(c.dir);
}
