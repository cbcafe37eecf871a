/* SPDX-License-Identifier: ISC */
/* poll and select: asking many files at once. */
#ifndef COWBELL_GUEST_POLL_H
#define COWBELL_GUEST_POLL_H

#include "guest/vfs/vfs.h"

struct poll_ent {
	struct file *file; /* referenced by the caller; NULL: ignored */
	bool bad; /* not an open descriptor */
	u32 events, revents; /* events: also POLLERR and POLLHUP where they count */
};

/*
 * Number of entries with revents set, 0 at the deadline, -ERESTARTSYS or -ENOMEM.
 * poll_only: do not sleep. May sleep otherwise.
 */
int poll_files(struct poll_ent *e, u32 n, u64 deadline, bool poll_only);

#endif
