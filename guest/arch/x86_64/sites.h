/* SPDX-License-Identifier: ISC */
/* The image's tables of system call sites (abi/image.h), read when first asked for. */
#ifndef COWBELL_GUEST_SITES_H
#define COWBELL_GUEST_SITES_H

#include "abi/image.h"
#include "guest/base.h"

struct file;

/*
 * What the tables say of one page of a file: *page, and its sites. False: nothing. The result is checked:
 * `at` and the holes lie in the page. May sleep at the first call.
 */
bool sites_lookup(struct file *f, u64 pgoff, const struct sites_page **page, const struct sites_site **sites);

/* Drop the tables; the next lookup reads them anew. */
void sites_forget(void);

#endif
