/* SPDX-License-Identifier: ISC */
/*
 * The set of files that a layer will hold: a tree of nodes, each a name with
 * metadata and the host file that it comes from. See tree.c.
 */
#ifndef COWBELL_IMAGE_TREE_H
#define COWBELL_IMAGE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct node {
	struct node *parent, *child, *sibling, *hash_next;
	uint32_t mode; /* S_IFMT and permissions */
	uint32_t uid, gid;
	uint32_t mtime_nsec;
	int64_t mtime;
	int64_t ctime_ns;
	uint64_t size;
	uint64_t dev, ino, rdev;
	char *data; /* symlink: its target. file made by us: its contents. else NULL: read the host's file */
	uint32_t n_children;
	bool visited; /* collector: ELF closure done, or directory walked; import: an ELF file */
	bool gone; /* import: a layer above has taken it away */
	uint8_t from; /* import: the layer that it comes from */
	/* the EROFS writers */
	struct node *
		link; /* a hard link: the node whose inode it shares, in the tree or not; that one's `link` is NULL */
	const char *content; /* of a small file, to be stored inline; NULL: it has blocks */
	uint64_t nid, dir_size;
	uint32_t block, nlink;
	size_t name_len;
	char name[];
};

struct tree {
	int root_fd; /* "/" of the host, or the directory of --root */
	struct node *root;
	struct node **buckets;
	size_t n_buckets, n_nodes;
	uint64_t bytes; /* of regular files */
	int64_t newest_ns; /* newest change time of anything in it */
	uint32_t own_uid; /* files of this uid become root's; UINT32_MAX: nobody's do */
	struct chunk *chunks;
	struct mount *mounts; /* host directories that stand at a path of their own */
	void (*on_file)(void *arg, struct tree *t, struct node *n); /* each regular file added, may be NULL */
	void *on_file_arg;
	/* In walks, what cannot be read or goes away is an error (-EACCES, -ESTALE), not missing; devices are left out. */
	bool strict;
	/* In walks: leave it out, and all below it? rel: path below the directory of the walk. May be NULL. */
	bool (*leave_out)(void *arg, const char *rel, bool is_dir);
	void *leave_out_arg;
};

struct walk_limit {
	uint64_t max_bytes;
	size_t max_nodes;
	const char *const *skip; /* names never taken, NULL-terminated, may be NULL */
	uint64_t dev; /* stay on this device, 0: any */
};

/* An empty tree of files below the host's directory `root`. NULL: no memory, or no such directory. */
struct tree *tree_new(const char *root);
void tree_free(struct tree *t);

/*
 * The directory `path` of the tree (made as 0755 if it is missing) is `hostdir` of the host, and so is all below it.
 * NULL with errno.
 */
struct node *tree_mount(struct tree *t, const char *path, const char *hostdir);

/*
 * Add one path and all that leads to it: directories, and every symbolic link
 * on the way with its target. The last component's link is followed, too.
 * The node that was reached, or NULL with errno.
 */
struct node *tree_add(struct tree *t, const char *path);
/* The same without following a link in the last place. */
struct node *tree_add_nofollow(struct tree *t, const char *path);
/* Everything below a directory node, without Cowbell's cache and store (dirs.h). 0, or -errno; -E2BIG when a limit is passed. Unreadable parts are skipped. */
int tree_walk(struct tree *t, struct node *dir, const struct walk_limit *lim);
/* A file or directory of our own making; replaces what is there. */
struct node *tree_put_file(struct tree *t, const char *path, uint32_t mode, const void *data, size_t n);
struct node *tree_put_dir(struct tree *t, const char *path, uint32_t mode);
struct node *tree_put_link(struct tree *t, const char *path, const char *target);
/* Look up without adding; links are not followed. */
struct node *tree_find(const struct tree *t, const char *path);
/* One step of that, and a new, zeroed child where there is none yet. */
struct node *tree_child(const struct tree *t, const struct node *dir, const char *name, size_t len);
struct node *tree_add_child(struct tree *t, struct node *dir, const char *name, size_t len);
/* Path of a node, absolute, into buf; false if it does not fit. */
bool tree_path(const struct node *n, char *buf, size_t size);
/* Open a node's host file for reading without following any link, or -errno. */
int tree_open(const struct tree *t, const struct node *n);
/* Memory that lives as long as the tree; NULL: none left. */
void *tree_alloc(struct tree *t, size_t n);
/* Drop nodes of `t` that `lower` holds with the same metadata. */
void tree_subtract(struct tree *t, const struct tree *lower);
/* Names, metadata and contents of our own files, as a hex digest. Sorts the children of every directory. */
void tree_digest(struct tree *t, char hex[65]);
/* Sort every directory's children by name, bytewise. */
void tree_sort(struct tree *t);

/* erofs.c: write the tree as an EROFS image. 0 or -errno; -ESTALE if a source changed meanwhile; *bytes = its size. */
int erofs_write(struct tree *t, int fd, uint64_t *bytes);

#endif
