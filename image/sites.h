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
/* The same for a file that lies at `off`, a multiple of 4096, within one that nobody else changes. */
int sites_scan_at(int fd, uint64_t off, uint64_t size, struct sites_found *out);
void sites_found_free(struct sites_found *f);

/*
 * Scan every program and library of a tree and put SITES_DIR/SITES_PREFIX... into it, if there is anything to say.
 * The file's name is made of its contents. 0 or -errno; a file that cannot be read is skipped.
 */
int sites_add_to_tree(struct tree *t);

/* A file within an image: its path there, and where its bytes are (off: a multiple of 4096). */
struct sites_ref {
	const char *path;
	uint64_t off, size;
};
#define SITES_NAME (sizeof(SITES_PREFIX) + 16) /* of a table's file, with its NUL */

/* The table of files of an image: *block (malloc; NULL: there is nothing to say) and the name of its file. 0 or -errno. */
int sites_of_image(int fd, const struct sites_ref *v, size_t n, void **block, size_t *size,
		   char name[SITES_NAME]);

#endif
