/* SPDX-License-Identifier: ISC */
/*
 * Starts that apps share. Until a program looks at what is in its app's directory, what it does depends on the rest of
 * the image, its arguments and the like only. So the monitor starts it once without any app (an empty directory: BOOT_F_PREFIX_MAKE),
 * and here is watched for the first look. The thread that looks is put to sleep, the instance comes to rest, is written, and ends. Others go on
 * from there with an app's layer in that place (BOOT_F_PREFIX_GO): the thread wakes up and looks for the first time.
 *
 * A look is: a lookup of any name in /app, also of one that is not there; its listing, its attributes; a file, not a directory or a link, that
 * the app's layer has elsewhere; the listing of a directory in which that layer has part. Not a look are names below that many
 * runtimes try early and no app has: whoever starts an app from here has found out that it has none of them.
 *
 * What is known of the old layer when the new one comes are directories and links outside /app, and /app itself: the same
 * in both, by the host's word, but not at the same place in the layer. They are kept by their paths and found again. A host that
 * lied gets a panic of this instance.
 */
#include "guest/vfs/prefix.h"

#include <asm-generic/errno.h>

#include "abi/boot.h"
#include "abi/ring.h"
#include "guest/plat/ring.h"
#include "guest/proc/proc.h"
#include "guest/proc/waitq.h"

#define MAX_KEPT 64

/* As in image/prefix.c. */
static const char *const absent[] = {BOOT_PREFIX_ABSENT};

static struct kept {
	struct mnode *m;
	char *path; /* in the layer; kmalloc */
} kept[MAX_KEPT];
static u32 n_kept;

bool prefix_armed;
static bool asked;
static u64 generations;
static struct waitq settled;

static u32 app_layer(void)
{
	return boot->app_layer - 1;
}

void prefix_init(void)
{
	waitq_init(&settled);
	prefix_armed = boot->flags & BOOT_F_PREFIX_MAKE && boot->app_layer && app_layer() < memfs_n_layers;
}

u64 prefix_generations(void)
{
	return generations;
}

/* --- what is known of the layer -------------------------------------------------------- */

/* Place in lower->more of the app's layer; -1: it is the node's own; -2: it has no part in it. */
static s32 part(const struct mnode *m)
{
	if (!m->lower)
		return -2;
	if (m->lower->layer == app_layer())
		return -1;
	for (u32 i = 0; i < m->lower->n_more; i++)
		if (m->lower->more[i].layer == app_layer())
			return (s32)i;
	return -2;
}

static int walk(const char *path, struct erofs_inode *out)
{
	const struct erofs *fs = &memfs_layers[app_layer()].fs;
	struct erofs_dirent de;
	int err = erofs_inode(fs, fs->root_nid, out);

	while (!err) {
		size_t n = 0;

		while (*path == '/')
			path++;
		if (!*path)
			break;
		while (path[n] && path[n] != '/')
			n++;
		err = IS_DIR_MODE(out->mode) ? erofs_lookup(fs, out, path, n, &de) : -ENOTDIR;
		if (!err)
			err = erofs_inode(fs, de.nid, out);
		path += n;
	}
	return err;
}

static bool keep(struct mnode *m, void *arg)
{
	s32 at = part(m);
	struct erofs_inode ei;
	struct dentry *d;
	char *path;

	(void)arg;
	if (at == -2)
		return true;
	d = dentry_of(&m->i);
	if (!d || n_kept == MAX_KEPT || !(path = kmalloc(PATH_MAX)))
		return false;
	kept[n_kept++] = (struct kept){m, path};
	return dentry_path(d, root_sb->root, path, PATH_MAX) > 0 && !walk(path, &ei) &&
	       ei.nid == (at < 0 ? m->lower->ei.nid : m->lower->more[at].nid);
}

static void forget(void)
{
	while (n_kept)
		kfree(kept[--n_kept].path);
}

static bool keep_all(void)
{
	forget();
	return memfs_each_lower(keep, NULL);
}

static void change_layer(void)
{
	struct layer *l = &memfs_layers[app_layer()];
	int err = erofs_open(&l->fs, l->fs.base, boot->app_size);

	if (err)
		panic("the app's layer is not a usable EROFS image (%d)", err);
	for (u32 i = 0; i < n_kept; i++) {
		struct mnode *m = kept[i].m;
		struct erofs_inode ei;
		s32 at = part(m);

		if (walk(kept[i].path, &ei) || (ei.mode ^ (at < 0 ? m->lower->ei.mode : ei.mode)) & 0170000)
			panic("the app's layer has another %s than the start that it goes on from",
			      kept[i].path);
		if (at >= 0)
			m->lower->more[at].nid = ei.nid;
		else
			memfs_relocate(m, &ei);
	}
}

/* --- looks --------------------------------------------------------------------------------- */

static void look(void)
{
	struct ring_sqe sqe = {.op = RING_OP_READY, .handle = RING_NO_HANDLE, .arg = RING_READY_PREFIX};

	if (!prefix_armed || !current || current == this_cpu()->idle)
		return;
	if (!asked) {
		asked = true;
		/* a monitor that does not want it (any more) says no */
		if (ring_call(&sqe, NULL, NULL)) {
			prefix_armed = asked = false;
			waitq_wake_all(&settled, 0);
			return;
		}
	}
	wait_event(&settled, !prefix_armed, NO_DEADLINE, false);
}

static bool is_absent(const struct mnode *dir, const char *name, u32 len)
{
	struct erofs_dirent de;

	for (u32 i = 0; i < ARRAY_SIZE(absent); i++)
		if (strlen(absent[i]) == len && !memcmp(absent[i], name, len))
			return dir->lower && dir->lower->layer == app_layer() &&
			       erofs_lookup(&memfs_layers[app_layer()].fs, &dir->lower->ei, name, len, &de) ==
				       -ENOENT;
	return false;
}

static bool is_app_dir(const struct mnode *m)
{
	return m->flags & MEM_APP;
}

void prefix_lookup(struct mnode *dir, const char *name, u32 len)
{
	const struct erofs *fs = &memfs_layers[app_layer()].fs;
	struct erofs_inode ei;
	struct erofs_dirent de;
	s32 at = part(dir);

	if (is_app_dir(dir)) {
		if (!is_absent(dir, name, len))
			look();
		return;
	}
	if (at == -2)
		return;
	if (at == -1)
		ei = dir->lower->ei;
	else if (erofs_inode(fs, dir->lower->more[at].nid, &ei))
		return;
	if (!erofs_lookup(fs, &ei, name, len, &de) && !erofs_inode(fs, de.nid, &ei) &&
	    !IS_DIR_MODE(ei.mode) && !IS_LNK_MODE(ei.mode))
		look();
}

void prefix_look(struct mnode *m)
{
	if (is_app_dir(m))
		look();
}

void prefix_list(struct mnode *m)
{
	if (is_app_dir(m) || part(m) != -2)
		look();
}

static void wait_for_app(void)
{
	struct ring_sqe sqe = {.op = RING_OP_READY, .handle = RING_NO_HANDLE, .arg = RING_READY_APP};

	if (ring_call_nosleep(&sqe, NULL, NULL))
		panic("no app has come");
}

/* --- the snapshot ---------------------------------------------------------------------------- */

bool prefix_at_rest(void)
{
	return asked && keep_all();
}

void prefix_after_rest(bool restored)
{
	if (restored && boot->flags & BOOT_F_PREFIX_GO) {
		if (boot->flags & BOOT_F_STANDBY)
			wait_for_app();
		change_layer();
		generations = boot->generation - 1;
	}
	if (!asked)
		return;
	forget();
	prefix_armed = asked = false;
	waitq_wake_all(&settled, 0);
}
