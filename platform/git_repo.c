/* SPDX-License-Identifier: ISC */
/*
 * Repositories: bare ones in data_dir/git/ID, ID being the app's, so that a name that changes moves nothing. Made by hand when first asked
 * for, as few files as git needs to see one; renamed to ID.gone and removed by the pool when the app goes.
 *
 * Hooks are not in them: data_dir/run/hooks has the one link that all use (git.c says how).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/git.h"

static int write_file(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	ssize_t n = write(fd, text, strlen(text));
	close(fd);
	return n == (ssize_t)strlen(text) ? 0 : -EIO;
}

void git_dir(const struct app *a, char *out, size_t size)
{
	snprintf(out, size, "%s/git/%s", config.data_dir, a->id);
}

/* All that git needs to see a repository. HEAD comes last: without it there is none. */
int git_make(const struct app *a)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/git", config.data_dir);
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	git_dir(a, path, sizeof(path));
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = dir < 0 ? -errno : 0;
	if (!r && mkdirat(dir, "objects", 0700) && errno != EEXIST)
		r = -errno;
	if (!r && mkdirat(dir, "refs", 0700) && errno != EEXIST)
		r = -errno;
	if (!r && mkdirat(dir, "refs/heads", 0700) && errno != EEXIST)
		r = -errno;
	if (!r)
		r = write_file(dir, "config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n");
	if (!r)
		r = write_file(dir, "HEAD", "ref: refs/heads/main\n");
	if (dir >= 0)
		close(dir);
	return r;
}

/* The directory with the hook, made once for each start of the server. */
const char *git_hooks_dir(void)
{
	static char path[4096];
	char link[4200];

	if (*path)
		return path;
	snprintf(path, sizeof(path), "%s/run", config.data_dir);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/run/hooks", config.data_dir);
	mkdir(path, 0700);
	snprintf(link, sizeof(link), "%s/pre-receive", path);
	unlink(link);
	if (symlink(config.self, link))
		plog("error", NULL, "%s: %s", link, strerror(errno));
	return path;
}

/* --- when it goes ----------------------------------------------------------------------------------------------- */

struct rubbish {
	uv_work_t w;
	char path[4200];
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type, (void)where;
	return remove(path) && errno != ENOENT;
}

static void remove_tree(uv_work_t *w)
{
	struct rubbish *r = w->data;

	nftw(r->path, remove_one, 16, FTW_PHYS | FTW_DEPTH);
}

static void removed_tree(uv_work_t *w, int status)
{
	(void)status;
	free(w->data);
}

/* Out of sight at once, gone when a thread of the pool has time. What a crash leaves is found by git_open(). */
void git_remove(const char *path)
{
	struct rubbish *r = xcalloc(1, sizeof(*r));
	size_t n = strlen(path);
	bool gone = n > 5 && !strcmp(path + n - 5, ".gone");

	snprintf(r->path, sizeof(r->path), "%s%s", path, gone ? "" : ".gone");
	r->w.data = r;
	if ((!gone && rename(path, r->path)) || uv_queue_work(loop, &r->w, remove_tree, removed_tree))
		free(r); /* mostly: nothing was ever pushed */
}

void git_open(void)
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/git", config.data_dir);
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.' || model_app(e->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/git/%s", config.data_dir, e->d_name);
		git_remove(path);
	}
	if (d)
		closedir(d);
}
