/* SPDX-License-Identifier: ISC */
/*
 * Writes a tree of host files as an EROFS image: uncompressed, every regular
 * file on whole pages of its own, so that the guest maps them in place; small
 * ones behind their inode (erofs_meta.h has the rule).
 *
 *   block 0...    superblock and metadata (erofs_meta.c)
 *   next block    larger directories and files in the order of the tree
 *
 * Our own writer instead of mkfs.erofs: no staging copy of the files, no
 * process, no privilege for ownership, and the layout that we want (mkfs puts
 * the tails of all files among the inodes).
 *
 * First small files are read, then everything gets its place, then metadata
 * is built in memory and files are copied (lib/host/copy.c). The same tree
 * gives the same bytes. A file that changed since it was put into the tree
 * fails the whole with -ESTALE. Names of one host inode are one inode in the image.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/erofs_meta.h"
#include "lib/host/copy.h"

#define BLOCK EROFS_BLOCK

struct writer {
	struct erofs_meta m;
	struct tree *t;
	int fd;
	struct node **links; /* hard links: open addressing by (dev, ino) */
	size_t n_links;
};

/* The node that already has this inode, or NULL after remembering this one. */
static struct node *same_file(struct writer *w, struct node *n)
{
	size_t i = (size_t)((n->ino * 0x9e3779b97f4a7c15ull ^ n->dev) >> 20) & (w->n_links - 1);

	for (; w->links[i]; i = (i + 1) & (w->n_links - 1)) {
		const struct node *o = w->links[i];
		if (o->ino == n->ino && o->dev == n->dev)
			return o->size == n->size && o->mode == n->mode && o->uid == n->uid &&
					       o->gid == n->gid && o->mtime == n->mtime &&
					       o->mtime_nsec == n->mtime_nsec
				       ? w->links[i]
				       : NULL; /* it changes as we look: copying one of them will fail */
	}
	w->links[i] = n;
	return NULL;
}

/* Take out what this user may not read; root reads all. */
static void drop_unreadable(struct writer *w, struct node *dir)
{
	for (struct node **link = &dir->child; *link;) {
		struct node *c = *link;
		if (S_ISREG(c->mode) && !c->data && (c->mode & 0444) != 0444) {
			int fd = tree_open(w->t, c);
			if (fd == -EACCES || fd == -EPERM) {
				*link = c->sibling;
				dir->n_children--;
				continue;
			}
			if (fd >= 0)
				close(fd);
		}
		link = &c->sibling;
	}
}

/* --- contents ------------------------------------------------------------------- */

static int open_source(struct writer *w, const struct node *n)
{
	int in = tree_open(w->t, n);

	return in == -ENOENT || in == -ELOOP || in == -ENOTDIR ? -ESTALE : in;
}

/* After its contents were read: is it still the file that the tree was told of? */
static int check_source(int in, const struct node *n)
{
	struct stat st;

	if (fstat(in, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != n->size || st.st_ino != n->ino ||
	    st.st_ctim.tv_sec * 1000000000ll + st.st_ctim.tv_nsec != n->ctime_ns)
		return -ESTALE;
	return 0;
}

static int copy_file(struct writer *w, const struct node *n)
{
	int in = open_source(w, n);

	if (in < 0)
		return in;
	int r = copy_bytes(in, 0, n->size, w->fd, (uint64_t)n->block * BLOCK);
	if (!r)
		r = check_source(in, n);
	close(in);
	return r == -ENODATA ? -ESTALE : r;
}

static int write_files(struct writer *w, struct node *dir)
{
	int r = 0;

	for (struct node *c = dir->child; c && !r; c = c->sibling) {
		if (S_ISDIR(c->mode))
			r = write_files(w, c);
		else if (!S_ISREG(c->mode) || !c->size || c->link || c->content)
			continue;
		else if (c->data)
			r = erofs_write_all(w->fd, c->data, c->size, (uint64_t)c->block * BLOCK);
		else
			r = copy_file(w, c);
	}
	return r;
}

/* --- before the layout -------------------------------------------------------------- */

/* Read a file that is small enough to lie inline; those that are not meant to keep their blocks. */
static int read_small(struct writer *w, struct node *n)
{
	char buf[EROFS_MAX_INLINE];
	int in = open_source(w, n), r = 0;
	size_t got = 0;

	if (in < 0)
		return in;
	while (got < n->size && !r) {
		ssize_t k = pread(in, buf + got, n->size - got, (off_t)got);
		if (k > 0)
			got += (size_t)k;
		else if (!k)
			r = -ESTALE;
		else if (errno != EINTR)
			r = -errno;
	}
	if (!r)
		r = check_source(in, n);
	close(in);
	if (r || !erofs_fits_inline(buf, n->size))
		return r;
	char *keep = tree_alloc(w->t, n->size);
	if (!keep)
		return -ENOMEM;
	n->content = memcpy(keep, buf, n->size);
	return 0;
}

/* Hard links and small files, in the tree's order. */
static int prepare(struct writer *w, struct node *dir)
{
	int r = 0;

	drop_unreadable(w, dir);
	for (struct node *c = dir->child; c && !r; c = c->sibling) {
		c->link = NULL;
		c->content = NULL;
		if (S_ISDIR(c->mode)) {
			r = prepare(w, c);
			continue;
		}
		if (!S_ISREG(c->mode))
			continue;
		if (c->data)
			c->content = erofs_fits_inline(c->data, c->size) ? c->data : NULL;
		else if (!(c->link = same_file(w, c)) && c->size && c->size <= EROFS_MAX_INLINE)
			r = read_small(w, c);
	}
	return r;
}

/* Blocks of data, in the order of the tree: files used together lie together. */
static void place_blocks(struct writer *w, struct node *dir)
{
	erofs_place_dir(&w->m, dir);
	for (struct node *c = dir->child; c; c = c->sibling) {
		if (S_ISDIR(c->mode)) {
			place_blocks(w, c);
		} else if (S_ISREG(c->mode) && c->size && !c->link && !c->content) {
			c->block = (uint32_t)w->m.next_block;
			w->m.next_block += (c->size + BLOCK - 1) / BLOCK;
		}
	}
}

int erofs_write(struct tree *t, int fd, uint64_t *bytes)
{
	struct writer w = {.m = {.t = t, .end = EROFS_META_START}, .t = t, .fd = fd, .n_links = 64};

	while (w.n_links < t->n_nodes * 2)
		w.n_links *= 2;
	tree_sort(t);
	w.links = calloc(w.n_links, sizeof(*w.links));
	int r = w.links ? prepare(&w, t->root) : -ENOMEM;
	if (!r)
		r = erofs_meta_layout(&w.m);
	if (!r) {
		w.m.next_block = w.m.end / BLOCK;
		place_blocks(&w, t->root);
		r = erofs_meta_write(&w.m, fd);
	}
	if (!r)
		r = write_files(&w, t->root);
	*bytes = w.m.next_block * BLOCK;
	free(w.m.mem);
	free(w.links);
	return r;
}
