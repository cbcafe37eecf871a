/* SPDX-License-Identifier: ISC */
/* Inside of image/oci/: a tar file that carries an image, as a table of its files. See tarfile.c. */
#ifndef COWBELL_IMAGE_OCI_TARFILE_H
#define COWBELL_IMAGE_OCI_TARFILE_H

#include <stddef.h>
#include <stdint.h>

#include "image/store/store.h"

struct tarfile;
struct tar_member; /* a regular file in it */

/* NULL after one line. */
struct tarfile *tarfile_open(struct store *s, const char *file);
void tarfile_close(struct tarfile *t);
/* By its name ("blobs/sha256/..."), through links within the archive; NULL: not there, or not a regular file. */
const struct tar_member *tarfile_find(const struct tarfile *t, const char *name);
uint64_t tarfile_size(const struct tar_member *m);
/* The first bytes of it; how many were read, or -errno. */
long tarfile_peek(const struct tarfile *t, const struct tar_member *m, void *buf, size_t n);
/* A copy in a temporary file without a name, at offset 0; or -errno. */
int tarfile_fd(struct tarfile *t, const struct tar_member *m);

#endif
