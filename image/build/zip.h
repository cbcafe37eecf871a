/* SPDX-License-Identifier: ISC */
/* One small file out of a zip archive: see zip.c. */
#ifndef COWBELL_IMAGE_BUILD_ZIP_H
#define COWBELL_IMAGE_BUILD_ZIP_H

#include <stddef.h>

/* The contents of member `name`, NUL-terminated, malloc; NULL: not there, not a zip, damaged, or more than `max` bytes. */
char *zip_member(int fd, const char *name, size_t max, size_t *n);

#endif
