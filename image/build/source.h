/* SPDX-License-Identifier: ISC */
/* Sources that a platform's clients send: inside of image/build/worker.c. */
#ifndef COWBELL_IMAGE_BUILD_SOURCE_H
#define COWBELL_IMAGE_BUILD_SOURCE_H

#include "image/build/assemble.h"

/* unpack.c: into an empty directory. 0, or an exit status after out_fail(). */
int source_unpack(const char *tar, int dir, const struct limits *lim);
/* If all of it is in one directory at the top: `path`, which `dir` is, becomes that one's. */
void source_top(int dir, char *path, size_t size);

/*
 * download.c: a URL of a stranger's choice to the file `to`, at most max_bytes. Only http and https, and never to this machine or a private
 * network. 0, or an exit status after out_fail().
 */
int source_download(const char *url, const char *to, uint64_t max_bytes);
/* "SHA256:HEX" as Heroku's API has it, or HEX alone. */
int source_check(const char *tar, const char *checksum);

#endif
