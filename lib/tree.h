/* SPDX-License-Identifier: ISC */
/*
 * Balanced binary tree (AVL), embedded in its owner, without allocation and
 * without a comparison function: the owner descends by itself and inserts at
 * the place it found. A tree may be augmented: `update` recomputes what a node
 * knows about its subtree from its two children, and is called bottom-up
 * wherever a subtree changed.
 */
#ifndef COWBELL_LIB_TREE_H
#define COWBELL_LIB_TREE_H

#include <stdbool.h>
#include <stddef.h>

struct tree_node {
	struct tree_node *left, *right, *parent;
	int height; /* of the subtree, 1 for a leaf */
};

struct tree {
	struct tree_node *root;
	void (*update)(struct tree_node *n); /* may be NULL */
};

/* Hang `n` below `parent` (NULL: empty tree) at *link, one of parent's child pointers or &t->root. */
void tree_insert(struct tree *t, struct tree_node *n, struct tree_node *parent, struct tree_node **link);
void tree_remove(struct tree *t, struct tree_node *n);
/* What n itself contributes to the augmentation has changed. */
void tree_changed(struct tree *t, struct tree_node *n);

struct tree_node *tree_first(const struct tree *t);
struct tree_node *tree_last(const struct tree *t);
struct tree_node *tree_next(const struct tree_node *n);
struct tree_node *tree_prev(const struct tree_node *n);

#endif
