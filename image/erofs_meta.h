/* SPDX-License-Identifier: ISC */
/* Metadata of an EROFS image that is being written: inodes, directories, the superblock. See erofs_meta.c. */
#ifndef COWBELL_IMAGE_EROFS_META_H
#define COWBELL_IMAGE_EROFS_META_H

#include "image/tree.h"

#define EROFS_BLOCK	 4096u
#define EROFS_META_START 1152u /* behind the superblock, where the metadata is in block 0 */
/*
 * A file up to this size lies behind its inode instead of in a block of its own, unless it is an ELF file. Such a file
 * is read as fast as any other, but a page of it that is mapped is copied by the guest first, so programs and libraries, and
 * whatever is large enough to be worth mapping, keep pages of their own. Beyond three quarters of a block next to
 * nothing is saved.
 */
#define EROFS_MAX_INLINE 3072u

/* A block of metadata with room left. */
struct erofs_room {
	uint64_t at; /* offset of its first free byte in the metadata */
	uint32_t left;
};

#define EROFS_ROOMS 16

struct erofs_meta {
	struct tree *t;
	uint64_t base; /* offset of the metadata in the image: a whole block */
	uint8_t *mem; /* all of it, once erofs_meta_layout() is done */
	uint64_t end; /* its size so far */
	uint64_t inos;
	uint64_t next_block; /* the first that nothing uses */
	struct erofs_room room[EROFS_ROOMS];
	unsigned n_rooms;
};

/* Can these contents of a file lie inline? */
bool erofs_fits_inline(const void *data, uint64_t size);
/*
 * Give every node its inode (nid), in the order of the tree. Before: `t` is sorted; hard links are resolved (node.link),
 * node.content is set where a file is to be inline; base and end say where inodes begin.
 */
int erofs_meta_layout(struct erofs_meta *m);
/* Blocks for a directory that is not inline, from next_block on. */
void erofs_place_dir(struct erofs_meta *m, struct node *dir);
/* Write metadata, directories and superblock; all blocks are placed now. Makes the file next_block long. 0 or -errno. */
int erofs_meta_write(struct erofs_meta *m, int fd);
/* pwrite(2), all of it. */
int erofs_write_all(int fd, const void *p, size_t n, uint64_t off);

#endif
