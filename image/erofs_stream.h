/* SPDX-License-Identifier: ISC */
/* An EROFS image of files whose contents arrive one after the other, once. See erofs_stream.c. */
#ifndef COWBELL_IMAGE_EROFS_STREAM_H
#define COWBELL_IMAGE_EROFS_STREAM_H

#include "image/tree.h"

struct erofs_stream;

/* `fd`: an empty file. `t`: the tree that the image is of; its regular files get their contents by the calls below. */
struct erofs_stream *erofs_stream_new(struct tree *t, int fd);
/*
 * The contents of one regular file, n->size bytes: begin, any number of writes in ascending order (what is left out
 * is zeros), end. 0 or -errno; -EINVAL: bytes beyond the size, or behind those that came already.
 */
int erofs_stream_begin(struct erofs_stream *s, struct node *n);
int erofs_stream_write(struct erofs_stream *s, uint64_t off, const void *data, size_t len);
int erofs_stream_end(struct erofs_stream *s);
/* All that was written is in the file now, which is long enough to be mapped. */
int erofs_stream_flush(struct erofs_stream *s);
/* Give back the blocks of contents that no node of the tree has any more: they become holes. Before finish. */
int erofs_stream_drop_unused(struct erofs_stream *s);
/* Metadata and superblock. */
int erofs_stream_finish(struct erofs_stream *s);
void erofs_stream_free(struct erofs_stream *s);

#endif
