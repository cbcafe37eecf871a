/* SPDX-License-Identifier: ISC */
/*
 * AVL tree. Invariant: the heights of the two subtrees of every node differ by
 * at most one, so a tree of n nodes is at most 1.44 log2(n) high. Insertion
 * and removal change one leaf position; from there one walk to the root
 * restores heights, balance and the owner's augmentation. The walk never stops
 * early: it is at most a few dozen steps, and an augmentation may have changed
 * where the heights have not.
 */
#include "lib/tree.h"

static int height(const struct tree_node *n)
{
	return n ? n->height : 0;
}

static void refresh(struct tree *t, struct tree_node *n)
{
	int l = height(n->left), r = height(n->right);

	n->height = (l > r ? l : r) + 1;
	if (t->update)
		t->update(n);
}

/* The pointer that leads to n. */
static struct tree_node **link_of(struct tree *t, struct tree_node *n)
{
	if (!n->parent)
		return &t->root;
	return n->parent->left == n ? &n->parent->left : &n->parent->right;
}

/* n's right child takes n's place; n becomes its left child. */
static struct tree_node *rotate_left(struct tree *t, struct tree_node *n)
{
	struct tree_node *r = n->right, **link = link_of(t, n);

	n->right = r->left;
	if (r->left)
		r->left->parent = n;
	r->left = n;
	r->parent = n->parent;
	n->parent = r;
	*link = r;
	refresh(t, n);
	return r;
}

static struct tree_node *rotate_right(struct tree *t, struct tree_node *n)
{
	struct tree_node *l = n->left, **link = link_of(t, n);

	n->left = l->right;
	if (l->right)
		l->right->parent = n;
	l->right = n;
	l->parent = n->parent;
	n->parent = l;
	*link = l;
	refresh(t, n);
	return l;
}

static void rebalance_up(struct tree *t, struct tree_node *n)
{
	for (; n; n = n->parent) {
		int lean = height(n->left) - height(n->right);

		if (lean > 1) {
			if (height(n->left->left) < height(n->left->right))
				rotate_left(t, n->left);
			n = rotate_right(t, n);
		} else if (lean < -1) {
			if (height(n->right->right) < height(n->right->left))
				rotate_right(t, n->right);
			n = rotate_left(t, n);
		}
		refresh(t, n);
	}
}

void tree_insert(struct tree *t, struct tree_node *n, struct tree_node *parent, struct tree_node **link)
{
	n->left = n->right = NULL;
	n->parent = parent;
	*link = n;
	rebalance_up(t, n);
}

/* Put `with` (may be NULL) where n hangs. */
static void replace(struct tree *t, struct tree_node *n, struct tree_node *with)
{
	*link_of(t, n) = with;
	if (with)
		with->parent = n->parent;
}

void tree_remove(struct tree *t, struct tree_node *n)
{
	struct tree_node *from, *next;

	if (!n->left || !n->right) {
		from = n->parent;
		replace(t, n, n->left ? n->left : n->right);
		rebalance_up(t, from);
		return;
	}
	/* Two children: the successor, which has no left child, takes n's place. */
	next = n->right;
	while (next->left)
		next = next->left;
	from = next->parent == n ? next : next->parent;
	if (next != n->right) {
		replace(t, next, next->right);
		next->right = n->right;
		n->right->parent = next;
	}
	next->left = n->left;
	n->left->parent = next;
	replace(t, n, next);
	rebalance_up(t, from);
}

void tree_changed(struct tree *t, struct tree_node *n)
{
	if (!t->update)
		return;
	for (; n; n = n->parent)
		t->update(n);
}

struct tree_node *tree_first(const struct tree *t)
{
	struct tree_node *n = t->root;

	while (n && n->left)
		n = n->left;
	return n;
}

struct tree_node *tree_last(const struct tree *t)
{
	struct tree_node *n = t->root;

	while (n && n->right)
		n = n->right;
	return n;
}

struct tree_node *tree_next(const struct tree_node *n)
{
	const struct tree_node *p;

	if (n->right) {
		n = n->right;
		while (n->left)
			n = n->left;
		return (struct tree_node *)n;
	}
	for (p = n->parent; p && p->right == n; p = p->parent)
		n = p;
	return (struct tree_node *)p;
}

struct tree_node *tree_prev(const struct tree_node *n)
{
	const struct tree_node *p;

	if (n->left) {
		n = n->left;
		while (n->right)
			n = n->right;
		return (struct tree_node *)n;
	}
	for (p = n->parent; p && p->left == n; p = p->parent)
		n = p;
	return (struct tree_node *)p;
}
