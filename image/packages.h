/* SPDX-License-Identifier: ISC */
/* Debian's package database, read directly. See packages.c. */
#ifndef COWBELL_IMAGE_PACKAGES_H
#define COWBELL_IMAGE_PACKAGES_H

#include <stdbool.h>
#include <stddef.h>

#define DPKG_STATUS "/var/lib/dpkg/status"

struct dpkg;

/* NULL where there is no such database (not Debian), or out of memory. */
struct dpkg *dpkg_open(void);
void dpkg_close(struct dpkg *d);
/* Name of the package that owns a path without links in it, or NULL. Valid until dpkg_close(). */
const char *dpkg_owner(struct dpkg *d, const char *path);
/*
 * Call `each` for every path of a package and of all it depends on, without
 * documentation and without what only makes an operating system.
 * Stops when `each` returns non-zero, and returns that.
 */
int dpkg_closure(struct dpkg *d, const char *package, int (*each)(void *arg, const char *path), void *arg);

#endif
