/* SPDX-License-Identifier: ISC */
/* Where programs make system calls, for the guest to rewrite. See abi/image.h for the file it makes. */
#ifndef COWBELL_IMAGE_SITES_H
#define COWBELL_IMAGE_SITES_H

#include <stddef.h>
#include <stdint.h>

#include "abi/image.h"
#include "image/tree.h"

/* What one ELF file has: pages in order, with first_site counting from 0 in `sites`. */
struct sites_found {
	struct sites_page *pages;
	struct sites_site *sites;
	uint32_t n_pages, n_sites;
	uint32_t seen; /* `syscall` instructions in all, also those that no way fits */
	uint64_t file_size;
};

/* Scan an open file. 0 (also when it is no ELF file of ours: nothing found), or -errno. */
int sites_scan(int fd, struct sites_found *out);
void sites_found_free(struct sites_found *f);

/*
 * Scan every program and library of a tree and put SITES_DIR/SITES_PREFIX<name> into it, if there is anything to say.
 * `name`: a few characters that no other layer uses, such as the beginning of its digest. 0 or -errno; a file that
 * cannot be read is skipped.
 */
int sites_add_to_tree(struct tree *t, const char *name);

#endif
