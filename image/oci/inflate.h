/* SPDX-License-Identifier: ISC */
/* A layer's plain bytes, and the digests of both sides. See inflate.c. */
#ifndef COWBELL_IMAGE_OCI_INFLATE_H
#define COWBELL_IMAGE_OCI_INFLATE_H

#include <stddef.h>
#include <stdint.h>

struct inflate;

/*
 * Read `size` bytes from the beginning of `fd` (not closed here), as gzip, zstd or plain, and hand out at most
 * max_plain. NULL with errno.
 */
struct inflate *inflate_open(int fd, uint64_t size, uint64_t max_plain);
/* The next plain bytes, valid until the next call. 1; 0 at the end; -1: inflate_error() says why. */
int inflate_next(struct inflate *f, const void **data, size_t *n);
/* A phrase such as "is truncated". */
const char *inflate_error(const struct inflate *f);
/* After the end: digests of what was read and of what was handed out. */
void inflate_digests(struct inflate *f, char packed[65], char plain[65]);
/* Bytes read since the last call, for a progress line. */
uint64_t inflate_progress(struct inflate *f);
void inflate_close(struct inflate *f);

#endif
