/* SPDX-License-Identifier: ISC */
/* The start of a program up to its first look at its app's layer, which apps share. See prefix.c. */
#ifndef COWBELL_GUEST_PREFIX_H
#define COWBELL_GUEST_PREFIX_H

#include "guest/vfs/memfs.h"

#define PREFIX_DIR "app" /* in the root: the app's directory */

extern bool prefix_armed; /* such a start is being made, and nothing was looked at yet */

/* vfs is there. */
void prefix_init(void);
/* Before a name is looked up in a directory of the image; before it is asked about; before it is listed. May sleep. */
void prefix_lookup(struct mnode *dir, const char *name, u32 len);
void prefix_look(struct mnode *m);
void prefix_list(struct mnode *m);
/* About to rest for a snapshot: is it that of the start? */
bool prefix_at_rest(void);
/* After it: in the instance that rested, or in a restored one, which may have another app's layer. */
void prefix_after_rest(bool restored);
/* Restores that were no more than a start. */
u64 prefix_generations(void);

#endif
