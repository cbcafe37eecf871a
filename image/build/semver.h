/* SPDX-License-Identifier: ISC */
/* Version ranges as npm writes them. See semver.c. */
#ifndef COWBELL_IMAGE_BUILD_SEMVER_H
#define COWBELL_IMAGE_BUILD_SEMVER_H

#include <stdbool.h>

/*
 * Is the version ("20.11.1", also Debian's "1:18.19.0+dfsg-6") in the range (">=18 <21", "^18.2 || 20.x", "16 - 20")?
 * What is no range ("latest", "lts") is taken as any.
 */
bool semver_in_range(const char *version, const char *range);

#endif
