/* SPDX-License-Identifier: ISC */
/*
 * --root: the user's own file system, a directory or an EROFS image.
 *
 * A directory becomes one layer, named by a digest of all names and metadata
 * in it, so that an unchanged tree costs one walk. An image is used as it is,
 * in place. The program is looked up inside, on the PATH that it will have,
 * with links resolved against the root.
 */
#include "image/root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/collect.h"
#include "image/elf.h"
#include "image/overlay.h"
#include "lib/host/say.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* The mode of a path in the root, or -errno. */
struct lookup {
	int (*mode)(void *arg, const char *path);
	void *arg;
};

/* Absolute guest path of the program, malloc; NULL with an exit status after one line. */
static char *find_in_root(const struct image_request *req, const struct lookup *l, int *status)
{
	const char *word = req->program, *path = env_get(req->env, "PATH"),
		   *base = req->workdir ? req->workdir : "/";
	char *full = NULL;
	int mode;

	*status = EXIT_NOT_FOUND;
	if (strchr(word, '/')) {
		if (asprintf(&full, "%s%s%s", *word == '/' ? "" : base, *word == '/' ? "" : "/", word) < 0)
			return NULL;
		mode = l->mode(l->arg, full);
		if (mode >= 0 && S_ISREG(mode) && mode & 0111)
			return full;
		if (mode < 0)
			say("%s: no such file in %s", full, req->root);
		else
			*status = say_fail(EXIT_CANNOT_EXEC, "%s: not an executable file in %s", full,
					   req->root);
		free(full);
		return NULL;
	}
	for (const char *p = path && *path ? path : DEFAULT_PATH; p;
	     p = strchr(p, ':') ? strchr(p, ':') + 1 : NULL) {
		if (asprintf(&full, "%.*s/%s", (int)strcspn(p, ":"), p, word) < 0)
			return NULL;
		mode = l->mode(l->arg, full);
		if (mode >= 0 && S_ISREG(mode) && mode & 0111)
			return full;
		free(full);
	}
	say("%s: not found on PATH in %s; give its path there", word, req->root);
	return NULL;
}

static int tree_mode(void *arg, const char *path)
{
	struct node *n = tree_add(arg, path);

	return n ? (int)n->mode : -errno;
}

static int image_mode(void *arg, const char *path)
{
	return overlay_mode(arg, path);
}

/* An ELF program must be one that we can run; a script is the guest's business. */
static int check_program(const struct image_request *req, struct tree *t, const char *path)
{
	struct elf_info e;
	struct node *n = tree_add(t, path);
	int fd = n ? tree_open(t, n) : -ENOENT, status = 0;
	const char *why;
	char head[2];

	if (fd < 0)
		return say_fail(EXIT_CANNOT_EXEC, "%s in %s: cannot be read: %s", path, req->root,
				strerror(-fd));
	if (pread(fd, head, 2, 0) == 2 && !memcmp(head, "#!", 2)) {
		close(fd);
		return 0;
	}
	why = elf_read(fd, &e);
	if (why)
		status = say_fail(EXIT_CANNOT_EXEC, "%s in %s: %s", path, req->root, why);
	else if (e.interp && !tree_add(t, e.interp))
		status = say_fail(EXIT_CANNOT_EXEC, "%s: its dynamic linker %s is not in %s", path, e.interp,
				  req->root);
	elf_free(&e);
	close(fd);
	return status;
}

static int build_dir(const struct image_request *req, struct tree *t, struct image_set *out)
{
	struct cache *c = cache_open();
	char hex[65];
	int r = EXIT_OURS;

	if (!c)
		return r;
	if (req->progress)
		req->progress(req->progress_arg, "building the image of the root");
	r = cache_build(c, t, hex);
	if (r == -ESTALE) {
		r = say_fail(EXIT_OURS, "--root %s: files in it change while they are copied", req->root);
	} else if (r) {
		r = say_fail(EXIT_OURS, "--root %s: cannot write its image to %s: %s", req->root,
			     cache_dir(c), strerror(-r));
	} else {
		out->fd[0] = cache_layer(c, hex, &out->size[0]);
		out->n = out->fd[0] >= 0;
		if (!out->n)
			r = say_fail(EXIT_OURS, "--root %s: its image was pruned from the cache; try again",
				     req->root);
	}
	cache_close(c);
	return r;
}

static int prepare_dir(const struct image_request *req, const struct stat *st, struct image_set *out)
{
	static const char *const skip[] = {NULL};
	struct walk_limit lim = {ROOT_MAX_BYTES, ROOT_MAX_NODES, skip, st->st_dev};
	struct tree *t = tree_new(req->root);
	struct lookup l = {tree_mode, t};
	int status = 0;

	if (!t)
		return say_fail(EXIT_OURS, "--root %s: %s", req->root, strerror(errno));
	t->own_uid = getuid();
	int r = tree_walk(t, t->root, &lim);
	if (r)
		status = say_fail(EXIT_OURS, "--root %s: %s", req->root,
				  r == -E2BIG ? "is larger than 64 GiB or 4,000,000 files" : strerror(-r));
	if (!status)
		out->exe = find_in_root(req, &l, &status);
	if (out->exe)
		status = check_program(req, t, out->exe);
	static const char *const mounts[] = {"/proc", "/sys", "/dev", "/tmp"};
	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++)
		if (!tree_find(t, mounts[i]))
			tree_put_dir(t, mounts[i], i == 3 ? 01777 : 0755);
	if (out->exe && !status)
		status = build_dir(req, t, out);
	tree_free(t);
	return status;
}

static int prepare_image(const struct image_request *req, int fd, struct image_set *out)
{
	struct overlay o;
	struct lookup l = {image_mode, &o};
	int status = 0, bad;
	const char *why = overlay_open(&o, &fd, 1, &bad);

	if (why)
		return say_fail(EXIT_OURS, "--root %s: %s", req->root, why);
	out->exe = find_in_root(req, &l, &status);
	out->size[0] = o.layer[0].size & ~4095ull;
	overlay_close(&o);
	if (!out->exe)
		return status;
	out->fd[0] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (out->fd[0] < 0)
		return say_fail(EXIT_OURS, "--root %s: %s", req->root, strerror(errno));
	out->n = 1;
	return 0;
}

int prepare_root(const struct image_request *req, struct image_set *out)
{
	struct stat st;
	int fd = open(req->root, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || fstat(fd, &st))
		return say_fail(EXIT_OURS, "--root %s: %s", req->root, strerror(errno));
	out->cwd = strdup("/");
	int status = S_ISDIR(st.st_mode) ? prepare_dir(req, &st, out) : prepare_image(req, fd, out);
	close(fd);
	if (!status && !out->cwd)
		status = say_fail(EXIT_OURS, "out of memory");
	return status;
}
