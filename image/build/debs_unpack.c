/* SPDX-License-Identifier: ISC */
/*
 * Packages that were fetched: the files of a .deb go into the tree without
 * being installed anywhere.
 *
 * dpkg-deb unpacks in a process of its own; what it gives is a tar stream,
 * which libarchive reads here. Contents are appended to one spool file that
 * is mapped when all is read, so the tree's nodes point into it. Maintainer
 * scripts are never run; the one that follows an installation is read for
 * the alternatives that it would register (debs_config.c).
 *
 * The archive is signed for by apt's lists, yet not trusted: a path may not
 * leave the tree or pass through a link, entries and bytes have limits, and
 * devices are left out.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image/build/debs.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define MAX_BYTES   (8ull << 30)
#define MAX_ENTRIES 400000u
#define MAX_SCRIPT  (1u << 20)

struct spooled {
	struct node *n;
	uint64_t at;
};

struct unpack {
	struct debs *d;
	struct tree *t;
	const struct deb *deb;
	int spool;
	uint64_t at; /* bytes in the spool */
	unsigned entries;
	struct spooled *v;
	size_t n, cap;
};

/* --- dpkg-deb ------------------------------------------------------------------------------ */

/* Start dpkg-deb on a blob; a descriptor with its output, or -errno. */
static int start_tar(struct debs *d, const struct deb *p, const char *what, pid_t *pid)
{
	const char *const argv[] = {"dpkg-deb", what, "/dev/stdin", NULL};
	posix_spawn_file_actions_t fa;
	uint64_t size;
	int pipefd[2], fd = store_blob(d->s, p->sha256, &size);

	*pid = 0;
	if (fd < 0)
		return fd;
	if (pipe2(pipefd, O_CLOEXEC)) {
		close(fd);
		return -errno;
	}
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, fd, 0);
	posix_spawn_file_actions_adddup2(&fa, pipefd[1], 1);
	int r = posix_spawnp(pid, argv[0], &fa, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(fd);
	close(pipefd[1]);
	if (!r)
		return pipefd[0];
	close(pipefd[0]);
	return -r;
}

static int end_tar(int fd, pid_t pid, int r)
{
	int status;

	close(fd);
	if (r && pid > 0)
		kill(pid, SIGTERM); /* it is ours, and nobody reads it any more */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return r ? r : WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EBADMSG;
}

/* --- entries -------------------------------------------------------------------------------- */

/* "./usr/bin/x" as "/usr/bin/x"; false for what is no path below the root. */
static bool entry_path(const char *name, char *buf, size_t size)
{
	char path[PATH_MAX];

	if (!name)
		return false;
	name += strspn(name, "./") == 1 && *name == '.' ? 1 : 0;
	if (!strncmp(name, "./", 2))
		name++;
	if (snprintf(path, sizeof(path), "%s%s", *name == '/' ? "" : "/", name) >= (int)sizeof(path))
		return false;
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		path[--n] = 0;
	if (n < 2 || strstr(path, "//"))
		return false;
	for (const char *p = path; (p = strstr(p, "/.")); p++)
		if (p[2] == '/' || !p[2] || (p[2] == '.' && (p[3] == '/' || !p[3])))
			return false;
	return merged_path(path, buf, size);
}

/* Are all directories on the way directories, or missing? */
static bool way_is_straight(const struct tree *t, const char *path)
{
	char dir[PATH_MAX];

	for (const char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		snprintf(dir, sizeof(dir), "%.*s", (int)(p - path), path);
		const struct node *n = tree_find(t, dir);
		if (!n)
			return true;
		if (!S_ISDIR(n->mode))
			return false;
	}
	return true;
}

static int remember(struct unpack *u, struct node *n, uint64_t at)
{
	if (u->n == u->cap) {
		size_t cap = u->cap ? u->cap * 2 : 1024;
		struct spooled *v = realloc(u->v, cap * sizeof(*v));
		if (!v)
			return -ENOMEM;
		u->v = v;
		u->cap = cap;
	}
	u->v[u->n++] = (struct spooled){n, at};
	return 0;
}

static int spool_data(struct unpack *u, struct archive *a, uint64_t *size)
{
	static char buf[1 << 16];
	uint64_t begin = u->at;
	ssize_t n;

	while ((n = archive_read_data(a, buf, sizeof(buf))) > 0) {
		for (ssize_t done = 0; done < n;) {
			ssize_t w = write(u->spool, buf + done, (size_t)(n - done));
			if (w < 0 && errno != EINTR)
				return -errno;
			done += w > 0 ? w : 0;
		}
		u->at += (uint64_t)n;
		if (u->at > MAX_BYTES)
			return -EFBIG;
	}
	*size = u->at - begin;
	return n < 0 ? -EBADMSG : 0;
}

static int take_file(struct unpack *u, struct archive *a, struct archive_entry *e, const char *path)
{
	uint64_t at = u->at, size = 0;
	int r = spool_data(u, a, &size);
	struct node *n =
		r ? NULL : tree_put_file(u->t, path, archive_entry_perm(e) & 0111 ? 0755 : 0644, "", 0);

	if (r || !n)
		return r ? r : -ENOMEM;
	n->size = size;
	u->t->bytes += size;
	n->mtime = archive_entry_mtime(e);
	return remember(u, n, at);
}

/* A hard link is the same contents once more. */
static int take_hard_link(struct unpack *u, const char *path, const char *target)
{
	char to[PATH_MAX];
	struct node *old = entry_path(target, to, sizeof(to)) ? tree_find(u->t, to) : NULL;

	for (size_t i = u->n; old && i-- > 0;)
		if (u->v[i].n == old) {
			uint64_t at = u->v[i].at;
			struct node *n = tree_put_file(u->t, path, old->mode & 0777, "", 0);
			if (!n)
				return -ENOMEM;
			n->size = old->size;
			n->mtime = old->mtime;
			return remember(u, n, at);
		}
	return 0; /* to something that is left out */
}

static int take_entry(struct unpack *u, struct archive *a, struct archive_entry *e)
{
	char path[PATH_MAX];

	if (++u->entries > MAX_ENTRIES)
		return -EFBIG;
	if (!entry_path(archive_entry_pathname(e), path, sizeof(path)))
		return 0;
	if (debs_is_bulk(u->deb, path) || !way_is_straight(u->t, path) ||
	    (u->deb->mark == DEB_PART && !base_wants(u->deb->name, path)))
		return 0;
	const struct node *old = tree_find(u->t, path);
	if (old && S_ISDIR(old->mode))
		return 0;
	if (archive_entry_hardlink(e))
		return take_hard_link(u, path, archive_entry_hardlink(e));
	switch (archive_entry_filetype(e)) {
	case AE_IFREG: /* as with installed ones: what not everybody may read stays away */
		return !(archive_entry_perm(e) & 0004) ? 0 : take_file(u, a, e, path);
	case AE_IFDIR:
		return old || tree_put_dir(u->t, path, 0755) ? 0 : -ENOMEM;
	case AE_IFLNK: /* no target: a name that libarchive cannot convert */
		return !archive_entry_symlink(e) || tree_put_link(u->t, path, archive_entry_symlink(e))
			       ? 0
			       : -ENOMEM;
	default:
		return 0;
	}
}

/* The script that runs after an installation, as text for debs_config.c. */
static int take_control(struct unpack *u, struct archive *a, struct archive_entry *e)
{
	const char *name = archive_entry_pathname(e);
	int64_t size = archive_entry_size(e);

	if (!name || strcmp(name, "./postinst") || size <= 0 || size > MAX_SCRIPT)
		return 0;
	char *text = calloc(1, (size_t)size + 1);
	if (text && archive_read_data(a, text, (size_t)size) == size)
		strings_add(&u->d->scripts, text);
	free(text);
	return 0;
}

static int each_entry(struct unpack *u, const char *what,
		      int (*take)(struct unpack *, struct archive *, struct archive_entry *))
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	pid_t pid;
	int r = 0, got;

	int fd = a ? start_tar(u->d, u->deb, what, &pid) : -ENOMEM;
	if (fd < 0) {
		archive_read_free(a);
		return fd;
	}
	archive_read_support_format_tar(a);
	if (archive_read_open_fd(a, fd, 1 << 16) != ARCHIVE_OK)
		r = -EBADMSG;
	while (!r && (got = archive_read_next_header(a, &e)) != ARCHIVE_EOF)
		r = got < ARCHIVE_WARN ? -EBADMSG : take(u, a, e);
	archive_read_free(a);
	return end_tar(fd, pid, r);
}

/* Nodes learn where their contents are. The map lives as long as the debs. */
static int map_spool(struct unpack *u)
{
	if (!u->at) {
		return 0;
	}
	void *map = mmap(NULL, u->at, PROT_READ, MAP_PRIVATE, u->spool, 0);
	if (map == MAP_FAILED)
		return -errno;
	u->d->spool = map;
	u->d->spool_size = u->at;
	for (size_t i = 0; i < u->n; i++)
		u->v[i].n->data = (char *)map + (u->v[i].n->size ? u->v[i].at : 0);
	return 0;
}

int unpack_debs(struct debs *d, struct tree *t)
{
	struct unpack u = {.d = d, .t = t, .spool = -1};
	int r = 0;

	for (size_t i = 0; i < d->n && !r; i++) {
		u.deb = d->v[i];
		if (u.deb->installed)
			continue;
		if (u.spool < 0)
			u.spool = store_tmpfile(d->s);
		if (u.spool < 0)
			return u.spool;
		r = each_entry(&u, "--fsys-tarfile", take_entry);
		if (!r)
			r = each_entry(&u, "--ctrl-tarfile", take_control);
	}
	if (!r && u.n)
		r = map_spool(&u);
	if (u.spool >= 0)
		close(u.spool);
	free(u.v);
	return r;
}
