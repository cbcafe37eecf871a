/* SPDX-License-Identifier: ISC */
/* Bytes from one file to another, by the kernel where it can. */
#ifndef COWBELL_LIB_HOST_COPY_H
#define COWBELL_LIB_HOST_COPY_H

#include <stdint.h>

/*
 * Copy n bytes at `from_at` of one file to `to_at` of another; neither's position counts or moves. 0; -ENODATA: `from` ends
 * before that; or -errno.
 */
int copy_bytes(int from, uint64_t from_at, uint64_t n, int to, uint64_t to_at);

#endif
