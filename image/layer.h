/* SPDX-License-Identifier: ISC */
/* Trees of host files as layers in the store. */
#ifndef COWBELL_IMAGE_LAYER_H
#define COWBELL_IMAGE_LAYER_H

#include "image/store/store.h"
#include "image/tree.h"

/* A layer in the store, with what is known of it. */
struct layer {
	char hex[65];
	uint64_t size;
	char sbom_hex[65]; /* CycloneDX document of what is in it, or "" */
	uint64_t sbom_size;
	char title[128]; /* "python3 3.11.2-6+deb12u6", "app" */
};

/*
 * The time of everything in a layer that we make: 1980-01-01 00:00:01 UTC. Neither 0 nor earlier, since zip files begin there.
 * Python's .pyc files that go into such a layer must have it as their source's time, or no time (unchecked-hash).
 */
#define LAYER_MTIME 315532801

/*
 * A tree of the directory `hostdir`, placed at `prefix` ("/app") in the layer. Normalised so that equal contents give equal
 * bytes wherever they are built: owner root, modification times one fixed second, modes 0755 or 0644 (special bits gone).
 * skip(arg, path relative to hostdir, is_dir): leave it out. Links stay as they are; sockets and devices are left out; hard links
 * become one file. Nothing is followed out of hostdir. lim: max_bytes, max_nodes and skip are looked at.
 * NULL with *err: -E2BIG (a limit), -EACCES (something that may not be read), -ESTALE (it changes meanwhile), ...
 */
struct tree *tree_from_dir(const char *hostdir, const char *prefix,
			   bool (*skip)(void *arg, const char *rel, bool is_dir), void *arg,
			   const struct walk_limit *lim, int *err);

/* Write a tree as an EROFS layer with its table of system call sites. Equal trees give equal bytes. -ESTALE: a file changed meanwhile. */
int layer_from_tree(struct store *s, struct tree *t, char hex[65], uint64_t *size);

#endif
