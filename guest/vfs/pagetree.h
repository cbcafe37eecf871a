/* SPDX-License-Identifier: ISC */
/*
 * Page index -> entry (a frame's gpa with flags in its low bits; 0 = none).
 * A radix tree of 64-way nodes whose height follows the highest index; a
 * one-page file has no node at all.
 */
#ifndef COWBELL_GUEST_VFS_PAGETREE_H
#define COWBELL_GUEST_VFS_PAGETREE_H

#include "guest/base.h"

struct pagetree {
	u64 root; /* height 0: the entry of index 0; else a node pointer */
	u32 height; /* levels of nodes */
	u64 count; /* entries that are not 0 */
};

u64 pagetree_get(const struct pagetree *t, u64 index);
/* Store an entry (0 removes); false: no memory. Storing over an entry never fails. */
bool pagetree_set(struct pagetree *t, u64 index, u64 entry);
/* First index >= from with an entry, or ~0. */
u64 pagetree_next(const struct pagetree *t, u64 from);
/* Remove entries in [from, to]; fn gets each. Frees nodes that become empty. */
void pagetree_remove(struct pagetree *t, u64 from, u64 to, void (*fn)(u64 entry, void *arg), void *arg);

#endif
