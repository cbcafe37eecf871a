/* SPDX-License-Identifier: ISC */
/* Debian's package database, read directly. See packages.c. */
#ifndef COWBELL_IMAGE_PACKAGES_H
#define COWBELL_IMAGE_PACKAGES_H

#include <stdbool.h>
#include <stddef.h>

#include "image/control.h"

#define DPKG_STATUS   "/var/lib/dpkg/status"
#define DPKG_INFO_DIR "/var/lib/dpkg/info"

struct dpkg;

/* NULL where there is no such database (not Debian), or out of memory. */
struct dpkg *dpkg_open(void);
void dpkg_close(struct dpkg *d);
/* What is installed; more may be read into it. Lives as long as `d`. */
struct control *dpkg_control(struct dpkg *d);
/* Name of the package that owns a path without links in it, or NULL. Valid until dpkg_close(). */
const char *dpkg_owner(struct dpkg *d, const char *path);
/*
 * Call `each` for every path of a package and of all it depends on, without
 * documentation and without what only makes an operating system.
 * Stops when `each` returns non-zero, and returns that.
 */
int dpkg_closure(struct dpkg *d, const char *package, int (*each)(void *arg, const char *path), void *arg);

/* The same for the tools that every Debian program may start without a dependency that says so: sh, ls, grep, awk, tar, ... */
int dpkg_tools(struct dpkg *d, int (*each)(void *arg, const char *path), void *arg);
/* Is there an installed package of that name? */
bool dpkg_has(struct dpkg *d, const char *package);

/* The paths of one installed package, without what dpkg_is_bulk() is true of. -ENOENT: no list. */
int dpkg_files(const struct deb *p, int (*each)(void *arg, const char *path), void *arg);
/* Path of the list of an installed package's files. */
bool dpkg_list_path(const struct deb *p, char *buf, size_t size);
/* Documentation and the like: what no program reads at work. Headers and archives are the contents of -dev packages, and bulk elsewhere. */
bool dpkg_is_bulk(const struct deb *p, const char *path);
/* What a running program has no use for, though packages depend on it. */
bool dpkg_is_system(const struct deb *p);
/* A whole file with a NUL after it (malloc), or NULL. */
char *dpkg_slurp(const char *path, size_t *size);

#endif
