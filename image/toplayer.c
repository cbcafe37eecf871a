/* SPDX-License-Identifier: ISC */
/*
 * What an image cannot know before it is started: the host's name, /etc/hosts and /etc/resolv.conf; and directories that its
 * configuration promises and its layers lack. They are one small layer in memory, on top of all others, so that
 * they win over files of these names in the image, as they do in a container.
 *
 * A directory of the top layer also decides owner and mode of what it merges with, so those are taken over from below;
 * what is there already and has nothing of ours in it is not mentioned at all.
 */
#include "image/toplayer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/prefix.h"
#include "image/tree.h"
#include "lib/host/strings.h"

#define MAX_TEXT (64u << 10)

struct placing {
	struct tree *t;
	uint32_t mode, uid, gid; /* of directories that are missing */
	bool all; /* also those that are there */
	char last[PATH_MAX]; /* where it ended, without links */
	int missing;
	bool blocked; /* by a file of ours: /etc/hosts/x */
};

static void take_over(struct node *n, const struct erofs_inode *i)
{
	n->mode = i->mode;
	n->uid = i->uid;
	n->gid = i->gid;
	n->mtime = i->mtime;
	n->mtime_nsec = i->mtime_nsec;
}

static void place(void *arg, const char *dir, const struct erofs_inode *i)
{
	struct placing *p = arg;

	snprintf(p->last, sizeof(p->last), "%s", dir);
	p->missing += !i;
	struct node *n = tree_find(p->t, dir);
	if (n && !S_ISDIR(n->mode))
		p->blocked = true;
	if (n || !p->all || p->blocked)
		return;
	n = tree_put_dir(p->t, dir, i ? i->mode & 07777 : p->mode);
	if (n && i) {
		take_over(n, i);
	} else if (n) {
		n->uid = p->uid;
		n->gid = p->gid;
	}
}

/* Make a directory if it is missing. What is in the way of it stays: the guest will say what it thinks of that. */
static void make_dir(struct tree *t, const struct overlay *o, const char *dir, uint32_t uid, uint32_t gid)
{
	struct placing p = {.t = t, .mode = 0755, .uid = uid, .gid = gid};

	if (overlay_dirs(o, dir, place, &p) || !p.missing)
		return;
	p.all = true;
	overlay_dirs(o, dir, place, &p);
}

/* A small text file of the host, or "". */
static char *host_text(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *text = calloc(1, MAX_TEXT);
	ssize_t n = fd < 0 || !text ? 0 : read(fd, text, MAX_TEXT - 1);

	if (fd >= 0)
		close(fd);
	if (text)
		text[n > 0 ? n : 0] = 0;
	return text;
}

static void put_file(struct tree *t, const char *dir, const char *name, char *text)
{
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (text)
		tree_put_file(t, path, 0644, text, strlen(text));
	free(text);
}

static void put_etc(struct tree *t, const struct overlay *o, const char *hostname)
{
	struct placing p = {.t = t, .mode = 0755, .all = true};

	if (overlay_dirs(o, "/etc", place, &p))
		return; /* not a directory: an image that wants none of this */
	put_file(t, p.last, "hostname", textf("%s\n", hostname));
	put_file(t, p.last, "hosts",
		 textf("127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost ip6-localhost ip6-loopback\n",
		       hostname));
	put_file(t, p.last, "resolv.conf", host_text("/etc/resolv.conf"));
}

int toplayer_put(struct image_set *set, struct tree *t)
{
	bool room = t && set->n < IMAGE_MAX_LAYERS;
	int fd = room ? memfd_create("cowbell-top", MFD_CLOEXEC | MFD_ALLOW_SEALING) : -1,
	    r = fd < 0 ? -ENOMEM : 0;
	uint64_t bytes = 0;

	if (!r) {
		tree_sort(t);
		r = erofs_write(t, fd, &bytes);
	}
	/* Guest processes map it, and clones share it: who holds the descriptor must not be able to make that writable. */
	if (!r && fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL))
		r = -errno;
	tree_free(t);
	if (!r) {
		set->fd[set->n] = fd;
		set->size[set->n++] = bytes;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	return r;
}

static void make_dirs(struct tree *t, const struct overlay *o, const char *dir)
{
	struct placing p = {.t = t, .mode = 0755, .all = true};

	overlay_dirs(o, dir, place, &p);
}

static int add(struct image_set *set, const struct overlay *o, const struct toplayer *top, bool preload)
{
	struct tree *t = tree_new("/");
	struct overlay_file root;

	if (!t)
		return -ENOMEM;
	if (!overlay_lookup(o, "/", &root))
		take_over(t->root, &root.i);
	put_etc(t, o, top->hostname);
	make_dir(t, o, top->workdir, 0, 0);
	for (char *const *v = top->volumes; v && *v; v++)
		make_dir(t, o, *v, top->uid, top->gid);
	if (preload)
		prefix_preload(t, o, make_dirs);
	return toplayer_put(set, t);
}

int toplayer_add(struct image_set *set, const struct overlay *o, const struct toplayer *top)
{
	return add(set, o, top, false);
}

int toplayer_preload(struct image_set *set, const struct overlay *o, const struct toplayer *top)
{
	struct image_set one = {0};
	int r = add(&one, o, top, true);

	set->app.names_fd = one.fd[0];
	set->app.names_size = one.size[0];
	return r;
}
