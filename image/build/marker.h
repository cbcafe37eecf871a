/* SPDX-License-Identifier: ISC */
/* Environment markers of Python requirements: see marker.c. */
#ifndef COWBELL_IMAGE_BUILD_MARKER_H
#define COWBELL_IMAGE_BUILD_MARKER_H

#include <stdbool.h>

/* Does the marker (what follows ';') say that the requirement is not for CPython 3.`minor` on Linux, x86-64? */
bool marker_excludes(const char *marker, int minor);

#endif
