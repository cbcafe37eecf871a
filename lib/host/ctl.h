/* SPDX-License-Identifier: ISC */
/* The control socket of running instances: abi/control.h, the client's side. */
#ifndef COWBELL_LIB_HOST_CTL_H
#define COWBELL_LIB_HOST_CTL_H

#include <sys/types.h>

#include "abi/control.h"
#include "lib/host/strings.h"

/* A connection, whose other end is a monitor of this user or of root's. */
struct ctl {
	int fd;
	pid_t pid; /* of the monitor, by the kernel's word; 0: not of our PID namespace */
	uid_t uid; /* its user's */
};

/* "UID/i/ID" of every instance of this user; for root: of every user. */
void ctl_list(struct strings *out);
/* To "UID/i/ID" or "UID/n/NAME". 0 or -errno: -ECONNREFUSED there is none, -EPERM somebody else's socket. */
int ctl_open(const char *path, struct ctl *c);
/* To an instance of this user by its ID. */
int ctl_open_id(const char *id, struct ctl *c);
void ctl_close(struct ctl *c);

/*
 * One request and its answer. fd: -1 or one to hand over. out gets at most `size` bytes, the rest of it zeros.
 * 0; -errno of the instance, with a phrase in why[CTL_WHY_MAX]; -ETIMEDOUT, -ECONNRESET, -EPROTO if there is no
 * good answer (why empty). timeout_ms -1: wait.
 */
int ctl_call(struct ctl *c, enum ctl_op op, uint32_t arg, int fd, void *out, size_t size, char *why,
	     int timeout_ms);
/* CTL_FDS from the `from`-th on: out->count descriptors, ours to close. 0 or -errno. */
int ctl_fds(struct ctl *c, uint32_t from, struct ctl_fds *out, int fds[CTL_FDS_MAX], int timeout_ms);
/* CTL_STATUS; the strings in it are made printable and end. */
int ctl_status(struct ctl *c, struct ctl_status *st, int timeout_ms);
/* Wait for the instance's end: 0, -ETIMEDOUT. */
int ctl_wait_end(struct ctl *c, int timeout_ms);

/*
 * The running instance that a user means: a name given with --name, an ID or the beginning of one, or a name that
 * only one has. 0, -ENOENT, -EEXIST (several; *ids names them).
 */
int ctl_find(const char *word, struct ctl *c, struct ctl_status *st, struct strings *ids);

#endif
