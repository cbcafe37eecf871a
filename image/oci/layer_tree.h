/* SPDX-License-Identifier: ISC */
/* Inside of image/oci/: the rules by which entries of tar layers become one tree. See layer_tree.c. */
#ifndef COWBELL_IMAGE_OCI_LAYER_TREE_H
#define COWBELL_IMAGE_OCI_LAYER_TREE_H

#include <limits.h>

#include "image/tree.h"

struct layering {
	struct tree *t;
	int n; /* layers in all; 1: whiteouts stay, as the files that the guest understands */
	int k; /* which one is being read, lowest 0 */
	uint64_t *entries_left; /* a directory that is only implied costs one; the caller counts entries */
};

/* A name as the tree has it: no "/" at either end, no "." components; "" is the root. NULL, or a phrase of what is wrong. */
const char *layer_clean_name(const char *raw, char out[PATH_MAX]);
/*
 * The node for an entry of this type, made with the directories above it; the caller fills in the rest. *out may be NULL
 * without an error: nothing is to be stored. NULL, or a phrase.
 */
const char *layer_place(struct layering *l, const char *name, uint32_t mode, struct node **out);
/* The same for a hard link to the earlier entry `target` (a clean name). */
const char *layer_place_link(struct layering *l, const char *name, const char *target);
/* When all layers were read: what was taken away goes, whiteouts get their final form. NULL, or a phrase. */
const char *layer_settle(struct layering *l);

#endif
