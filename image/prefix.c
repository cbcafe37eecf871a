/* SPDX-License-Identifier: ISC */
/*
 * Images as starts that apps share see them (docs/snapshots.md, guest/vfs/prefix.c): the layers of the runtime below, and on
 * top one layer with /app. Of that layer a program sees, before it looks into /app, that /app is there, and what the layer has
 * elsewhere: directories and links, which are few. All of that is hashed, and so is part of a start's key: whoever has the same
 * hash can take over. The skeleton is a layer with just that and an empty /app, made from what was hashed and from nothing else,
 * so that there is nothing of any app in an instance that is started with it.
 *
 * An image does not suit if its layer has files in odd places (extended attributes, devices, tables of system call sites, more
 * than MAX_OUTSIDE names), or in /app one of the names that are taken for absent.
 */
#include "image/prefix.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi/boot.h"
#include "abi/image.h"
#include "image/toplayer.h"
#include "lib/erofs.h"
#include "lib/host/strings.h"

#define MAX_OUTSIDE 64
#define MAX_DEPTH   16
#define APP_DIR	    "/app"

static const char *const absent[] = {BOOT_PREFIX_ABSENT};
static const uint64_t windows[] = {4ull << 20, 32ull << 20, 256ull << 20, 2ull << 30};

struct look {
	struct erofs fs;
	struct sha256_ctx hash;
	struct tree *skeleton; /* or NULL: only hashed */
	int n, depth;
	bool has_app;
};

static void note(struct look *l, const char *path, const struct erofs_inode *i, const char *target)
{
	char line[160];
	int n = snprintf(line, sizeof(line), "%o %u %u %lld.%u %llu", i->mode, i->uid, i->gid,
			 (long long)i->mtime, i->mtime_nsec,
			 S_ISDIR(i->mode) && strcmp(path, APP_DIR) ? (unsigned long long)i->size : 0);

	sha256_update(&l->hash, strlen(path) + 1, (const uint8_t *)path);
	sha256_update(&l->hash, (size_t)n + 1, (const uint8_t *)line);
	sha256_update(&l->hash, strlen(target) + 1, (const uint8_t *)target);
}

static bool put(struct look *l, const char *path, const struct erofs_inode *i, const char *target)
{
	struct node *n = !l->skeleton	      ? NULL
			 : !strcmp(path, "/") ? l->skeleton->root
			 : S_ISDIR(i->mode)   ? tree_put_dir(l->skeleton, path, i->mode & 07777)
			 : S_ISLNK(i->mode)   ? tree_put_link(l->skeleton, path, target)
					      : tree_put_file(l->skeleton, path, i->mode & 07777, "", 0);

	if (!n)
		return !l->skeleton;
	n->mode = i->mode;
	n->uid = i->uid;
	n->gid = i->gid;
	n->mtime = i->mtime;
	n->mtime_nsec = i->mtime_nsec;
	return true;
}

/* None of the names that are not looked for. */
static bool app_suits(const struct look *l, const struct erofs_inode *dir)
{
	struct erofs_dirent de;

	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
		if (erofs_lookup(&l->fs, dir, absent[i], strlen(absent[i]), &de) != -ENOENT)
			return false;
	return true;
}

static bool visit(struct look *l, const char *path, uint64_t nid);

static bool children(struct look *l, const char *path, const struct erofs_inode *dir)
{
	struct erofs_dirent de;
	uint64_t pos = 0;
	int r;

	while ((r = erofs_readdir(&l->fs, dir, pos, &de)) == 1) {
		pos = de.next_pos;
		if (de.name[0] == '.' && (de.len == 1 || (de.len == 2 && de.name[1] == '.')))
			continue;
		if (de.len >= 4 && !memcmp(de.name, ".wh.", 4))
			return false;
		char *child = textf("%s/%.*s", path[1] ? path : "", (int)de.len, de.name);
		bool good = strcmp(child, SITES_DIR) && visit(l, child, de.nid);
		free(child);
		if (!good)
			return false;
	}
	return !r;
}

static bool visit(struct look *l, const char *path, uint64_t nid)
{
	struct erofs_inode i;
	char target[4096] = "";
	bool good;

	if (++l->n > MAX_OUTSIDE || l->depth == MAX_DEPTH || erofs_inode(&l->fs, nid, &i) || i.xattr_size)
		return false;
	if (S_ISLNK(i.mode)) {
		uint64_t n = 0;
		const void *p = erofs_data(&l->fs, &i, 0, &n);
		if (!p || n != i.size || n >= sizeof(target))
			return false;
		memcpy(target, p, n);
	} else if (!S_ISDIR(i.mode) && !S_ISREG(i.mode)) {
		return false;
	}
	note(l, path, &i, target);
	if (!put(l, path, &i, target))
		return false;
	if (!strcmp(path, APP_DIR)) {
		l->has_app = S_ISDIR(i.mode);
		return l->has_app && app_suits(l, &i);
	}
	l->depth++;
	good = !S_ISDIR(i.mode) || children(l, path, &i);
	l->depth--;
	return good;
}

/* Over an app's layer. */
static bool look_at(int fd, uint64_t size, struct tree *skeleton, char hex[65])
{
	void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	struct look l = {.skeleton = skeleton};
	uint8_t sum[SHA256_DIGEST_SIZE];
	bool good;

	if (p == MAP_FAILED)
		return false;
	sha256_init(&l.hash);
	good = !erofs_open(&l.fs, p, size) && visit(&l, "/", l.fs.root_nid) && l.has_app;
	munmap(p, size);
	sha256_digest(&l.hash, sizeof(sum), sum);
	for (size_t i = 0; hex && i < sizeof(sum); i++)
		sprintf(hex + 2 * i, "%02x", sum[i]);
	return good;
}

void prefix_describe(struct image_set *set)
{
	int at = set->n - 1;

	if (at < 1 || !look_at(set->fd[at], set->size[at], NULL, set->app.outside))
		return;
	for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]) && !set->app.window; i++)
		if (set->size[at] <= windows[i])
			set->app.window = windows[i];
	if (set->app.window)
		set->app.layer = at + 1;
}

bool image_app_suits(int fd, uint64_t size, const char outside[65])
{
	char hex[65];

	return look_at(fd, size, NULL, hex) && !strcmp(hex, outside);
}

int prefix_skeleton(struct image_set *set)
{
	struct tree *t = tree_new("/");
	struct image_set one = {0};
	int r;

	if (!t)
		return -ENOMEM;
	if (!look_at(set->fd[set->app.layer - 1], set->size[set->app.layer - 1], t, NULL)) {
		tree_free(t);
		return -EINVAL;
	}
	r = toplayer_put(&one, t);
	set->app.skeleton_fd = one.fd[0];
	set->app.skeleton_size = one.size[0];
	return r;
}
