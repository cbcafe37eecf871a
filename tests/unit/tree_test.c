/* SPDX-License-Identifier: ISC */
/* unit-sources: lib/tree.c */
/* The balanced tree against a sorted array, with an augmentation (largest value of the subtree). */
#include "lib/tree.h"
#include "tests/unit/hosted.h"
#include "tests/unit/tap.h"

#define N 512

struct item {
	struct tree_node node;
	int key, value, max;
	bool in;
};

static struct item items[N];
static int n_in;

static struct item *item_of(struct tree_node *n)
{
	return n ? (struct item *)((char *)n - offsetof(struct item, node)) : NULL;
}

static void update(struct tree_node *n)
{
	struct item *i = item_of(n), *l = item_of(n->left), *r = item_of(n->right);

	i->max = i->value;
	if (l && l->max > i->max)
		i->max = l->max;
	if (r && r->max > i->max)
		i->max = r->max;
}

static void insert(struct tree *t, struct item *i)
{
	struct tree_node **link = &t->root, *parent = NULL;

	while (*link) {
		parent = *link;
		link = i->key < item_of(parent)->key ? &parent->left : &parent->right;
	}
	tree_insert(t, &i->node, parent, link);
	i->in = true;
	n_in++;
}

/* Heights, balance, order, parents and maxima of the subtree; -1 if anything is wrong. */
static int check(struct tree_node *n, struct tree_node *parent, int lo, int hi)
{
	struct item *i = item_of(n);
	int l, r, max;

	if (!n)
		return 0;
	l = check(n->left, n, lo, i->key);
	r = check(n->right, n, i->key, hi);
	max = i->value;
	if (n->left && item_of(n->left)->max > max)
		max = item_of(n->left)->max;
	if (n->right && item_of(n->right)->max > max)
		max = item_of(n->right)->max;
	if (l < 0 || r < 0 || abs(l - r) > 1 || n->parent != parent || i->key < lo || i->key > hi ||
	    i->max != max || n->height != (l > r ? l : r) + 1)
		return -1;
	return n->height;
}

/* Walks in both directions meet exactly what is in, in order. */
static bool walk(struct tree *t)
{
	struct tree_node *n;
	int k = 0, seen = 0;

	for (n = tree_first(t); n; n = tree_next(n), seen++) {
		if (item_of(n)->key < k || !item_of(n)->in)
			return false;
		k = item_of(n)->key;
	}
	for (n = tree_last(t); n; n = tree_prev(n))
		seen--;
	return seen == 0;
}

int main(void)
{
	uint64_t seed = test_seed() | 1, state = seed;
	struct tree t = {.update = update};
	bool good = true;

	diag("seed %llu", (unsigned long long)seed);
	ok(!tree_first(&t) && !tree_last(&t), "an empty tree has no ends");
	for (int step = 0; good && step < 20000; step++) {
		struct item *i = &items[test_random(&state) % N];

		if (!i->in) {
			i->key = (int)(test_random(&state) % 1000);
			i->value = (int)(test_random(&state) % 1000);
			insert(&t, i);
		} else if (test_random(&state) % 3) {
			tree_remove(&t, &i->node);
			i->in = false;
			n_in--;
		} else {
			i->value = (int)(test_random(&state) % 1000);
			tree_changed(&t, &i->node);
		}
		good = check(t.root, NULL, -1, 1 << 30) >= 0;
		if (step % 64 == 0)
			good = good && walk(&t);
	}
	ok(good, "20,000 random insertions, removals and changes keep it balanced, ordered and augmented");
	for (int i = 0; i < N; i++)
		if (items[i].in)
			tree_remove(&t, &items[i].node);
	ok(!t.root, "empty again");
	return done();
}
