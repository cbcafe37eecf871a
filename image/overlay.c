/* SPDX-License-Identifier: ISC */
/*
 * Path look-up through the layers of an image, on the host: is the program there, who is its user, what directories
 * are missing. The rules are those of guest/vfs/memfs_dir.c, which has the last word:
 *
 *   the highest layer that has a name decides what it is; directories merge with those below, until a layer has
 *   a file of that name, a whiteout (".wh.NAME", or a character device 0:0), or an opaque directory
 *
 * Only what is asked for is read. The layers come from anybody: erofs_path.c checks what it reads, every
 * loop is bounded, and what does not make sense is an error to the caller.
 */
#include "image/overlay.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_LINKS 40
#define MAX_TRAIL 256

/* One name: the highest layer's inode, and for a directory all that merge in it, highest first. */
struct merged {
	int n;
	struct {
		int layer;
		uint64_t nid;
	} part[OVERLAY_MAX_LAYERS];
};

/* Where a walk is: from the root to the node reached last. */
struct walk {
	const struct overlay *o;
	int depth, links;
	bool missing_ok; /* go on through names that are not there, as directories without parts */
	struct merged trail[MAX_TRAIL];
	uint16_t end[MAX_TRAIL]; /* of its part of `path` */
	char path[PATH_MAX];
};

const char *overlay_open(struct overlay *o, const int *fd, int n, int *bad)
{
	o->n = 0;
	for (int i = 0; i < n && i < OVERLAY_MAX_LAYERS; i++) {
		const char *why = erofs_image_open(&o->layer[i], fd[i]);
		if (why) {
			*bad = i;
			overlay_close(o);
			return why;
		}
		o->n++;
	}
	return NULL;
}

void overlay_close(struct overlay *o)
{
	while (o->n)
		erofs_image_close(&o->layer[--o->n]);
}

static bool is_whiteout(const struct erofs_inode *i)
{
	return S_ISCHR(i->mode) && !i->rdev;
}

static bool has_whiteout_file(const struct erofs_image *im, const struct erofs_inode *dir, const char *name,
			      size_t len)
{
	char wh[4 + NAME_MAX] = ".wh.";
	struct erofs_inode i;

	if (len > NAME_MAX - 4)
		return false;
	memcpy(wh + 4, name, len);
	return !erofs_image_find(im, dir, wh, len + 4, &i);
}

static int inode_of(const struct overlay *o, const struct merged *m, int part, struct erofs_inode *i)
{
	return erofs_image_inode(&o->layer[m->part[part].layer], m->part[part].nid, i);
}

/* A name in a merged directory; *out is empty before. */
static int find_child(const struct overlay *o, const struct merged *dir, const char *name, size_t len,
		      struct merged *out)
{
	if (len >= 4 && !memcmp(name, ".wh.", 4))
		return -ENOENT;
	for (int p = 0; p < dir->n; p++) {
		const struct erofs_image *im = &o->layer[dir->part[p].layer];
		struct erofs_inode di, i;
		int err = inode_of(o, dir, p, &di);
		bool last = p + 1 == dir->n;

		if (!err)
			err = erofs_image_find(im, &di, name, len, &i);
		if (err == -ENOENT) {
			if (!last && has_whiteout_file(im, &di, name, len))
				break;
			continue;
		}
		if (err)
			return -EIO;
		if (is_whiteout(&i) || (out->n && !S_ISDIR(i.mode)))
			break;
		out->part[out->n].layer = dir->part[p].layer;
		out->part[out->n++].nid = i.nid;
		if (!S_ISDIR(i.mode) || (!last && erofs_image_opaque(im, &i)))
			break;
	}
	return out->n ? 0 : -ENOENT;
}

static int go(struct walk *w, const char *path);

static int go_link(struct walk *w, int layer, const struct erofs_inode *link)
{
	char target[PATH_MAX];

	if (++w->links > MAX_LINKS)
		return -ELOOP;
	if (!link->size || link->size >= sizeof(target))
		return -EIO;
	int64_t n = erofs_image_read(&w->o->layer[layer], link, target, link->size, 0);
	if (n != (int64_t)link->size)
		return -EIO;
	target[n] = 0;
	return go(w, target);
}

static int go_name(struct walk *w, const char *name, size_t len)
{
	struct merged *here = &w->trail[w->depth], *next = here + 1;
	struct erofs_inode i;

	if (len == 1 && *name == '.')
		return 0;
	if (len == 2 && !memcmp(name, "..", 2)) {
		w->depth -= w->depth > 0;
		return 0;
	}
	if (w->depth + 1 >= MAX_TRAIL || len > NAME_MAX)
		return -ENAMETOOLONG;
	*next = (struct merged){0};
	int err = find_child(w->o, here, name, len, next);
	bool missing = err == -ENOENT && w->missing_ok;
	if (!err)
		err = inode_of(w->o, next, 0, &i);
	if (err && !missing)
		return err;
	if (!missing && S_ISLNK(i.mode))
		return go_link(w, next->part[0].layer, &i);
	unsigned at = w->end[w->depth];
	if (at + 1 + len + 1 > sizeof(w->path))
		return -ENAMETOOLONG;
	w->path[at] = '/';
	memcpy(w->path + at + 1, name, len);
	w->end[++w->depth] = (uint16_t)(at + 1 + len);
	return 0;
}

static int go(struct walk *w, const char *path)
{
	struct erofs_inode i;

	if (*path == '/')
		w->depth = 0;
	for (size_t len; *(path += strspn(path, "/")); path += len) {
		len = strcspn(path, "/");
		const struct merged *here = &w->trail[w->depth];
		int err = here->n ? inode_of(w->o, here, 0, &i) : 0;
		if (!err && here->n && !S_ISDIR(i.mode))
			err = -ENOTDIR;
		if (!err)
			err = go_name(w, path, len);
		if (err)
			return err;
	}
	return 0;
}

/* At the root: the layers' roots, highest first. */
static void begin(struct walk *w, const struct overlay *o, bool missing_ok)
{
	w->o = o;
	w->depth = w->links = 0;
	w->missing_ok = missing_ok;
	w->end[0] = 0;
	w->trail[0].n = 0;
	for (int i = o->n; i-- > 0;) {
		struct erofs_inode root;
		w->trail[0].part[w->trail[0].n].layer = i;
		w->trail[0].part[w->trail[0].n++].nid = o->layer[i].fs.root_nid;
		if (i && !erofs_image_inode(&o->layer[i], o->layer[i].fs.root_nid, &root) &&
		    erofs_image_opaque(&o->layer[i], &root))
			break;
	}
}

int overlay_lookup(const struct overlay *o, const char *path, struct overlay_file *out)
{
	struct walk w; /* some 70 KiB: not zeroed */

	begin(&w, o, false);
	int err = o->n ? go(&w, path) : -ENOENT;
	if (err)
		return err;
	out->layer = w.trail[w.depth].part[0].layer;
	return inode_of(o, &w.trail[w.depth], 0, &out->i) ? -EIO : 0;
}

int overlay_dirs(const struct overlay *o, const char *path,
		 void (*each)(void *arg, const char *dir, const struct erofs_inode *i), void *arg)
{
	struct walk w;
	struct erofs_inode i;

	begin(&w, o, true);
	int err = o->n ? go(&w, path) : -ENOENT;
	const struct merged *last = &w.trail[w.depth];
	if (!err && last->n)
		err = inode_of(o, last, 0, &i) ? -EIO : S_ISDIR(i.mode) ? 0 : -ENOTDIR;
	for (int d = 1; !err && d <= w.depth; d++) {
		char dir[PATH_MAX];
		bool there = w.trail[d].n;
		if (there && inode_of(o, &w.trail[d], 0, &i))
			return -EIO;
		memcpy(dir, w.path, w.end[d]);
		dir[w.end[d]] = 0;
		each(arg, dir, there ? &i : NULL);
	}
	return err;
}

int overlay_mode(const struct overlay *o, const char *path)
{
	struct overlay_file f;
	int err = overlay_lookup(o, path, &f);

	return err ? err : (int)f.i.mode;
}

int64_t overlay_read(const struct overlay *o, const struct overlay_file *f, void *buf, uint64_t n,
		     uint64_t off)
{
	return erofs_image_read(&o->layer[f->layer], &f->i, buf, n, off);
}
