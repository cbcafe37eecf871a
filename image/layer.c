/* SPDX-License-Identifier: ISC */
/*
 * Trees of host files as layers in the store.
 *
 * An app's directory becomes a tree whose metadata says nothing about where
 * and when it was built: owner root, one fixed time, two modes. What remains
 * are names, contents and links, so equal directories give equal bytes, and
 * with them one digest. The EROFS writer takes no time, no number of an inode
 * and no random uuid from the host either, and the table of system call sites
 * (sites.c) is named after its contents.
 *
 * The directory is hostile as far as links go: nothing in it is followed,
 * neither on the walk nor when a file's contents are read later (tree.c).
 */
#include "image/layer.h"

#include <errno.h>

#include "image/sites.h"

/* Owner, time, mode as every builder would have them. */
static void normalise(struct node *n)
{
	n->uid = n->gid = 0;
	n->mtime = LAYER_MTIME;
	n->mtime_nsec = 0;
	if (S_ISLNK(n->mode))
		n->mode = S_IFLNK | 0777;
	else
		n->mode = (n->mode & S_IFMT) | (S_ISDIR(n->mode) || n->mode & 0111 ? 0755 : 0644);
	for (struct node *c = n->child; c; c = c->sibling)
		normalise(c);
}

struct tree *tree_from_dir(const char *hostdir, const char *prefix,
			   bool (*skip)(void *arg, const char *rel, bool is_dir), void *arg,
			   const struct walk_limit *lim, int *err)
{
	struct tree *t = tree_new(hostdir);

	if (!t) {
		*err = errno ? -errno : -ENOMEM;
		return NULL;
	}
	t->strict = true;
	t->leave_out = skip;
	t->leave_out_arg = arg;
	struct node *top = tree_mount(t, prefix, hostdir);
	*err = top ? tree_walk(t, top, lim) : -errno;
	t->leave_out = NULL; /* its argument may go */
	if (*err) {
		tree_free(t);
		return NULL;
	}
	normalise(t->root);
	return t;
}

int layer_from_tree(struct store *s, struct tree *t, char hex[65], uint64_t *size)
{
	uint64_t bytes = 0;
	int r = sites_add_to_tree(t);
	struct blob *b = r ? NULL : blob_new(s);

	if (!r && !b)
		r = errno ? -errno : -ENOMEM;
	if (!r)
		r = erofs_write(t, blob_fd(b), &bytes);
	if (!r)
		return blob_commit(b, NULL, hex, size);
	if (b)
		blob_abort(b);
	return r;
}
