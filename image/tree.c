/* SPDX-License-Identifier: ISC */
/*
 * The set of files that a layer will hold.
 *
 * Paths are added as a program would reach them: each symbolic link on the way
 * becomes a node and is then followed, so that the image holds every path
 * under each name that leads to it (/lib -> usr/lib, /etc/alternatives/...).
 * A node's own position never passes through a link. Links are resolved
 * against the tree's root, so a --root tree cannot point out of itself.
 *
 * A node's host file lies at the same path below the tree's root, unless one
 * of the directories above it is a mount: then it lies below that host
 * directory (tree_mount(); an app's directory stands at /app). Files are
 * opened without following any link, so a directory that turns into a link
 * while we look leads nowhere.
 *
 * Nodes live in chunks and are freed together. A hash over (parent, name)
 * makes lookups cheap; children hang in a list until tree_sort().
 */
#include "image/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi/image.h"
#include "image/dirs.h"

#define CHUNK_SIZE   (256u << 10)
#define MAX_LINKS    40
#define MAX_DEPTH    128
#define LAYER_FORMAT "layer 3" /* change it when the same tree gives other bytes */

struct mount {
	struct mount *next;
	const struct node *at;
	int fd;
};

struct chunk {
	struct chunk *next;
	size_t used, size;
	_Alignas(16) char mem[];
};

void *tree_alloc(struct tree *t, size_t n)
{
	n = (n + 15) & ~(size_t)15;
	if (!t->chunks || t->chunks->used + n > t->chunks->size) {
		size_t size = n > CHUNK_SIZE ? n : CHUNK_SIZE;
		struct chunk *c = malloc(sizeof(*c) + size);
		if (!c)
			return NULL;
		c->next = t->chunks;
		c->used = 0;
		c->size = size;
		t->chunks = c;
	}
	void *p = t->chunks->mem + t->chunks->used;
	t->chunks->used += n;
	return p;
}

static size_t hash_of(const struct node *parent, const char *name, size_t len)
{
	uint64_t h = (uintptr_t)parent * 0x9e3779b97f4a7c15ull;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * 0x100000001b3ull;
	return (size_t)(h ^ h >> 29);
}

static struct node *find_child(const struct tree *t, const struct node *parent, const char *name, size_t len)
{
	struct node *n = t->buckets[hash_of(parent, name, len) & (t->n_buckets - 1)];

	while (n && (n->parent != parent || n->name_len != len || memcmp(n->name, name, len)))
		n = n->hash_next;
	return n;
}

/* Twice the buckets, once there are more nodes than buckets. */
static void grow_hash(struct tree *t)
{
	size_t n = t->n_buckets * 2;
	struct node **b = calloc(n, sizeof(*b));

	if (!b)
		return; /* slower, still right */
	for (size_t i = 0; i < t->n_buckets; i++)
		for (struct node *x = t->buckets[i], *next; x; x = next) {
			size_t h = hash_of(x->parent, x->name, x->name_len) & (n - 1);
			next = x->hash_next;
			x->hash_next = b[h];
			b[h] = x;
		}
	free(t->buckets);
	t->buckets = b;
	t->n_buckets = n;
}

static struct node *new_node(struct tree *t, struct node *parent, const char *name, size_t len)
{
	struct node *n = tree_alloc(t, sizeof(*n) + len + 1);

	if (!n)
		return NULL;
	memset(n, 0, sizeof(*n));
	memcpy(n->name, name, len);
	n->name[len] = 0;
	n->name_len = len;
	n->parent = parent;
	if (!parent)
		return n;
	if (t->n_nodes >= t->n_buckets)
		grow_hash(t);
	size_t h = hash_of(parent, name, len) & (t->n_buckets - 1);
	n->hash_next = t->buckets[h];
	t->buckets[h] = n;
	n->sibling = parent->child;
	parent->child = n;
	parent->n_children++;
	t->n_nodes++;
	return n;
}

static void set_meta(struct tree *t, struct node *n, const struct stat *st)
{
	n->mode = st->st_mode;
	n->uid = st->st_uid == t->own_uid ? 0 : st->st_uid;
	n->gid = st->st_uid == t->own_uid ? 0 : st->st_gid;
	n->mtime = st->st_mtim.tv_sec;
	n->mtime_nsec = (uint32_t)st->st_mtim.tv_nsec;
	n->ctime_ns = st->st_ctim.tv_sec * 1000000000ll + st->st_ctim.tv_nsec;
	n->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	n->dev = st->st_dev;
	n->ino = st->st_ino;
	n->rdev = st->st_rdev;
	if (S_ISREG(n->mode)) {
		t->bytes += n->size;
		if (n->ctime_ns > t->newest_ns)
			t->newest_ns = n->ctime_ns;
	}
}

struct tree *tree_new(const char *root)
{
	struct tree *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	t->own_uid = UINT32_MAX;
	t->n_buckets = 1024;
	t->buckets = calloc(t->n_buckets, sizeof(*t->buckets));
	t->root = t->buckets && t->root_fd >= 0 ? new_node(t, NULL, "", 0) : NULL;
	if (!t->root) {
		tree_free(t);
		return NULL;
	}
	t->root->mode = S_IFDIR | 0755;
	return t;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	for (struct chunk *c = t->chunks, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	if (t->root_fd >= 0)
		close(t->root_fd);
	for (struct mount *m = t->mounts, *next; m; m = next) {
		next = m->next;
		close(m->fd);
		free(m);
	}
	free(t->buckets);
	free(t);
}

static struct node *put(struct tree *t, const char *path, uint32_t mode);

struct node *tree_mount(struct tree *t, const char *path, const char *hostdir)
{
	struct mount *m = malloc(sizeof(*m));
	int fd = m ? open(hostdir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	struct node *n = fd >= 0 ? put(t, path, S_IFDIR | 0755) : NULL;

	if (!n) {
		if (fd >= 0) {
			close(fd);
			errno = ENOMEM;
		}
		free(m);
		return NULL;
	}
	*m = (struct mount){t->mounts, n, fd};
	t->mounts = m;
	return n;
}

static const struct mount *mount_at(const struct tree *t, const struct node *n)
{
	const struct mount *m = t->mounts;

	while (m && m->at != n)
		m = m->next;
	return m;
}

/* Path from `top` (not included) to n, each name after a '/'; "/" for top itself. */
static bool path_from(const struct node *top, const struct node *n, char *buf, size_t size)
{
	size_t pos = size;

	if (size < 2)
		return false;
	buf[--pos] = 0;
	if (n == top)
		buf[--pos] = '/';
	for (; n != top; n = n->parent) {
		if (pos < n->name_len + 1)
			return false;
		pos -= n->name_len;
		memcpy(buf + pos, n->name, n->name_len);
		buf[--pos] = '/';
	}
	memmove(buf, buf + pos, size - pos);
	return true;
}

bool tree_path(const struct node *n, char *buf, size_t size)
{
	const struct node *top = n;

	while (top->parent)
		top = top->parent;
	return path_from(top, n, buf, size);
}

/* Where a node's host file is: a path for openat(fd, path + 1), "/" for the directory `fd` itself. -1: too long. */
static int host_path(const struct tree *t, const struct node *n, char *buf, size_t size)
{
	const struct mount *m = NULL;
	const struct node *top = n;

	for (;; top = top->parent)
		if ((t->mounts && (m = mount_at(t, top))) || !top->parent)
			break;
	return path_from(top, n, buf, size) ? m ? m->fd : t->root_fd : -1;
}

/* openat(2) that follows no link, neither in the last place nor on the way. */
static int open_straight(int fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (unsigned)flags | O_CLOEXEC | O_NOFOLLOW,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};

	return (int)syscall(SYS_openat2, fd, *path ? path : ".", &how, sizeof(how));
}

/* Read a symlink's target into the tree's memory. */
static char *read_link(struct tree *t, int dir_fd, const char *name)
{
	char buf[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, buf, sizeof(buf));

	if (n <= 0 || n == sizeof(buf))
		return NULL;
	char *s = tree_alloc(t, (size_t)n + 1);
	if (s) {
		memcpy(s, buf, (size_t)n);
		s[n] = 0;
	}
	return s;
}

/* The child `name` of a directory node, added from the host if it is not there yet. NULL with errno. */
static struct node *step(struct tree *t, struct node *dir, const char *name, size_t len)
{
	struct node *n = find_child(t, dir, name, len);
	char path[PATH_MAX];
	struct stat st;

	if (n)
		return n;
	int host = host_path(t, dir, path, sizeof(path) - len - 1);
	if (host < 0) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	size_t at = strlen(path);
	if (at > 1)
		path[at++] = '/';
	memcpy(path + at, name, len);
	path[at + len] = 0;
	if (fstatat(host, path + 1, &st, AT_SYMLINK_NOFOLLOW))
		return NULL;
	char *target = S_ISLNK(st.st_mode) ? read_link(t, host, path + 1) : NULL;
	if (S_ISLNK(st.st_mode) && !target) {
		errno = EIO;
		return NULL;
	}
	n = new_node(t, dir, name, len);
	if (!n)
		return NULL;
	set_meta(t, n, &st);
	n->data = target;
	if (S_ISREG(n->mode) && t->on_file)
		t->on_file(t->on_file_arg, t, n);
	return n;
}

static struct node *add_from(struct tree *t, struct node *at, const char *path, bool follow, int links)
{
	if (*path == '/')
		at = t->root;
	while (*path) {
		while (*path == '/')
			path++;
		size_t len = strcspn(path, "/");
		if (!len)
			break;
		const char *rest = path + len + strspn(path + len, "/");
		if (len > NAME_MAX) {
			errno = ENAMETOOLONG;
			return NULL;
		}
		if (len == 1 && path[0] == '.') {
			path = rest;
			continue;
		}
		if (len == 2 && path[0] == '.' && path[1] == '.') {
			at = at->parent ? at->parent : at;
			path = rest;
			continue;
		}
		if (!S_ISDIR(at->mode)) {
			errno = ENOTDIR;
			return NULL;
		}
		struct node *n = step(t, at, path, len);
		if (!n)
			return NULL;
		if (S_ISLNK(n->mode) && (*rest || follow)) {
			if (links >= MAX_LINKS) {
				errno = ELOOP;
				return NULL;
			}
			n = n->data ? add_from(t, at, n->data, true, ++links) : NULL;
			if (!n)
				return NULL;
		}
		at = n;
		path = rest;
	}
	return at;
}

struct node *tree_add(struct tree *t, const char *path)
{
	return add_from(t, t->root, path, true, 0);
}

struct node *tree_add_nofollow(struct tree *t, const char *path)
{
	return add_from(t, t->root, path, false, 0);
}

struct walk {
	struct tree *t;
	const struct walk_limit *lim;
	const struct node *top; /* where the walk began */
	struct dir_id own[DIRS_OWN]; /* the cache and the store: never entered */
	int n_own;
};

static bool is_own(const struct walk *w, const struct stat *st)
{
	for (int i = 0; i < w->n_own; i++)
		if (w->own[i].ino == st->st_ino && w->own[i].dev == st->st_dev)
			return true;
	return false;
}

static bool is_skipped(const struct walk *w, const char *name)
{
	for (const char *const *s = w->lim->skip; s && *s; s++)
		if (!strcmp(*s, name))
			return true;
	return false;
}

/* What the caller's own rules leave out; they see the path below the walk's beginning. */
static int left_out(const struct walk *w, const struct node *dir, const char *name, bool is_dir)
{
	char path[PATH_MAX];

	if (!w->t->leave_out)
		return 0;
	if (!path_from(w->top, dir, path, sizeof(path) - NAME_MAX - 1))
		return -ENAMETOOLONG;
	size_t at = strlen(path);
	if (at > 1)
		path[at++] = '/';
	strcpy(path + at, name);
	return w->t->leave_out(w->t->leave_out_arg, path + 1, is_dir);
}

static bool is_device(uint32_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode);
}

/* A new node for a directory entry. 1: made; 0: left out; -errno. */
static int take_entry(const struct walk *w, struct node *dir, int fd, const char *name, struct node **out)
{
	const struct walk_limit *lim = w->lim;
	struct tree *t = w->t;
	struct stat st;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW))
		return t->strict ? -ESTALE : 0; /* gone meanwhile */
	if (S_ISSOCK(st.st_mode) || (t->strict && is_device(st.st_mode)))
		return 0; /* means nothing inside another system */
	if (S_ISDIR(st.st_mode) && ((lim->dev && st.st_dev != lim->dev) || is_own(w, &st)))
		return 0;
	int r = left_out(w, dir, name, S_ISDIR(st.st_mode));
	if (r)
		return r < 0 ? r : 0;
	char *target = S_ISLNK(st.st_mode) ? read_link(t, fd, name) : NULL;
	if (S_ISLNK(st.st_mode) && !target)
		return t->strict ? -ESTALE : 0;
	struct node *n = new_node(t, dir, name, strlen(name));
	if (!n)
		return -ENOMEM;
	set_meta(t, n, &st);
	n->data = target;
	if (S_ISREG(n->mode) && t->on_file)
		t->on_file(t->on_file_arg, t, n);
	*out = n;
	return 1;
}

static int walk_dir(const struct walk *w, struct node *dir, int fd, int depth);

static int walk_entry(const struct walk *w, struct node *dir, int fd, const char *name, int depth)
{
	struct node *n = find_child(w->t, dir, name, strlen(name));

	if (!n) {
		int r = take_entry(w, dir, fd, name, &n);
		if (r <= 0)
			return r;
	}
	if (w->t->bytes > w->lim->max_bytes || w->t->n_nodes > w->lim->max_nodes)
		return -E2BIG;
	if (!S_ISDIR(n->mode))
		return 0;
	if (depth >= MAX_DEPTH)
		return -E2BIG;
	int sub = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sub < 0 && w->t->strict)
		return errno == ENOTDIR || errno == ENOENT || errno == ELOOP ? -ESTALE : -errno;
	return sub < 0 ? 0 : walk_dir(w, n, sub, depth + 1); /* unreadable: an empty directory */
}

static int walk_dir(const struct walk *w, struct node *dir, int fd, int depth)
{
	DIR *d = fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while (!r && (errno = 0, e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || is_skipped(w, e->d_name))
			continue;
		r = walk_entry(w, dir, dirfd(d), e->d_name, depth);
	}
	if (!r && !e && errno && w->t->strict)
		r = -errno;
	closedir(d);
	return r;
}

int tree_walk(struct tree *t, struct node *dir, const struct walk_limit *lim)
{
	char path[PATH_MAX];
	struct walk w = {.t = t, .lim = lim, .top = dir};

	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	int host = host_path(t, dir, path, sizeof(path));
	if (host < 0)
		return -ENAMETOOLONG;
	int fd = open_straight(host, path + 1, O_RDONLY | O_DIRECTORY);
	w.n_own = dirs_own(w.own);
	return fd < 0 ? -errno : walk_dir(&w, dir, fd, 0);
}

/* A node of our own making at `path`; directories on the way are made as 0755. */
static struct node *put(struct tree *t, const char *path, uint32_t mode)
{
	struct node *at = t->root;

	while (*path) {
		path += strspn(path, "/");
		size_t len = strcspn(path, "/");
		if (!len)
			break;
		struct node *n = find_child(t, at, path, len);
		if (!n) {
			n = new_node(t, at, path, len);
			if (!n)
				return NULL;
			n->mode = S_IFDIR | 0755;
		}
		at = n;
		path += len;
	}
	at->mode = mode;
	at->uid = at->gid = 0;
	return at;
}

struct node *tree_put_file(struct tree *t, const char *path, uint32_t mode, const void *data, size_t n)
{
	struct node *f = put(t, path, S_IFREG | mode);

	if (!f)
		return NULL;
	f->data = tree_alloc(t, n + 1);
	if (!f->data)
		return NULL;
	memcpy(f->data, data, n);
	f->data[n] = 0;
	t->bytes += n - (f->size < n ? f->size : n);
	f->size = n;
	f->dev = f->ino = 0;
	return f;
}

struct node *tree_put_dir(struct tree *t, const char *path, uint32_t mode)
{
	return put(t, path, S_IFDIR | mode);
}

struct node *tree_put_link(struct tree *t, const char *path, const char *target)
{
	struct node *f = put(t, path, S_IFLNK | 0777);

	if (!f)
		return NULL;
	f->data = tree_alloc(t, strlen(target) + 1);
	if (f->data)
		strcpy(f->data, target);
	f->size = 0;
	return f->data ? f : NULL;
}

struct node *tree_find(const struct tree *t, const char *path)
{
	struct node *at = t->root;

	while (at && *path) {
		path += strspn(path, "/");
		size_t len = strcspn(path, "/");
		if (!len)
			break;
		at = find_child(t, at, path, len);
		path += len;
	}
	return at;
}

struct node *tree_child(const struct tree *t, const struct node *dir, const char *name, size_t len)
{
	return find_child(t, dir, name, len);
}

struct node *tree_add_child(struct tree *t, struct node *dir, const char *name, size_t len)
{
	return new_node(t, dir, name, len);
}

int tree_open(const struct tree *t, const struct node *n)
{
	char path[PATH_MAX];
	int host = host_path(t, n, path, sizeof(path));

	if (host < 0)
		return -ENAMETOOLONG;
	int fd = open_straight(host, path + 1, O_RDONLY | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* True if the subtree became empty and is the same directory below. */
static bool subtract(const struct tree *lower, struct node *n, const struct node *below)
{
	if (n->mode != below->mode || n->uid != below->uid || n->gid != below->gid)
		return false;
	if (!S_ISDIR(n->mode))
		return n->ino == below->ino && n->dev == below->dev && n->size == below->size &&
		       n->ctime_ns == below->ctime_ns && !!n->data == !!below->data &&
		       (!n->data || !strcmp(n->data, below->data));
	struct node **link = &n->child;
	while (*link) {
		struct node *c = *link, *b = find_child(lower, below, c->name, c->name_len);
		if (b && subtract(lower, c, b)) {
			*link = c->sibling;
			n->n_children--;
		} else {
			link = &c->sibling;
		}
	}
	return !n->child;
}

void tree_subtract(struct tree *t, const struct tree *lower)
{
	subtract(lower, t->root, lower->root);
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct node *const *)a)->name, (*(struct node *const *)b)->name);
}

static void sort_children(struct node *dir)
{
	struct node *small[64], **v = small;
	size_t n = 0;

	if (dir->n_children > 64)
		v = malloc(dir->n_children * sizeof(*v));
	if (!v)
		abort(); /* a few hundred kilobytes are not to be had: nothing else would work either */
	for (struct node *c = dir->child; c; c = c->sibling)
		v[n++] = c;
	qsort(v, n, sizeof(*v), by_name);
	struct node **link = &dir->child;
	for (size_t i = 0; i < n; i++) {
		*link = v[i];
		link = &v[i]->sibling;
	}
	*link = NULL;
	if (v != small)
		free(v);
	for (struct node *c = dir->child; c; c = c->sibling)
		if (S_ISDIR(c->mode))
			sort_children(c);
}

void tree_sort(struct tree *t)
{
	sort_children(t->root);
}

static void digest_node(struct sha256_ctx *s, const struct node *n, int depth)
{
	/* What decides the layer's bytes; inode and change time stand for a file's contents. */
	struct {
		uint64_t size, dev, ino, rdev;
		int64_t mtime, ctime_ns;
		uint32_t mode, uid, gid, mtime_nsec, depth, has_data;
	} rec = {n->size,
		 S_ISREG(n->mode) ? n->dev : 0,
		 S_ISREG(n->mode) ? n->ino : 0,
		 n->rdev,
		 S_ISDIR(n->mode) ? 0 : n->mtime, /* a file that came and went leaves the layer as it was */
		 S_ISREG(n->mode) ? n->ctime_ns : 0,
		 n->mode,
		 n->uid,
		 n->gid,
		 S_ISDIR(n->mode) ? 0 : n->mtime_nsec,
		 (uint32_t)depth,
		 n->data != NULL};

	sha256_update(s, n->name_len + 1, (const void *)n->name);
	sha256_update(s, sizeof(rec), (const void *)&rec);
	if (n->data)
		sha256_update(s, S_ISLNK(n->mode) ? strlen(n->data) + 1 : n->size, (const void *)n->data);
	for (const struct node *c = n->child; c; c = c->sibling)
		digest_node(s, c, depth + 1);
}

void tree_digest(struct tree *t, char hex[65])
{
	struct sha256_ctx s;
	uint8_t sum[SHA256_DIGEST_SIZE];
	uint32_t version = SITES_VERSION; /* layers hold a table of that version */

	tree_sort(t);
	sha256_init(&s);
	sha256_update(&s, sizeof(LAYER_FORMAT), (const void *)LAYER_FORMAT);
	sha256_update(&s, sizeof(version), (const void *)&version);
	digest_node(&s, t->root, 0);
	sha256_digest(&s, sizeof(sum), sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		sprintf(hex + 2 * i, "%02x", sum[i]);
}
