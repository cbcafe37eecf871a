/* SPDX-License-Identifier: ISC */
/* What the three kinds of System V objects share (ipc.c). */
#ifndef COWBELL_GUEST_IPC_INTERNAL_H
#define COWBELL_GUEST_IPC_INTERNAL_H

#include <asm-generic/errno.h>
#include <linux/ipc.h>
#include <linux/stat.h>

#include <asm/ipcbuf.h>

#include "guest/ipc/ipc.h"

/*
 * One object. Whoever sleeps while it uses one, or keeps a pointer, holds a
 * reference; `gone` says that it is in no table any more.
 */
struct ipc_object {
	struct ipc64_perm perm; /* also the key and the sequence number */
	s32 id;
	u32 refs; /* the table's is one */
	bool gone;
};

struct ipc_kind {
	u32 max; /* objects */
	void (*free)(struct ipc_object *o); /* the last reference is gone */
	/* table: by index, the low bits of an id */
	struct ipc_object **slot;
	u32 cap, used;
	u32 last; /* behind the index that was used last */
	u16 seq;
};

/*
 * The object of a key, as the *get calls find it: a new one from make(arg) if there is none and flags
 * permit that; check(o, arg) says whether an existing one will do. An id or -errno.
 */
s64 ipc_find_or_make(struct ipc_kind *k, s32 key, u32 flags, struct ipc_object *(*make)(void *arg, int *err),
		     int (*check)(struct ipc_object *o, void *arg), void *arg);
struct ipc_object *ipc_by_id(struct ipc_kind *k, s32 id); /* NULL: EINVAL. No reference */
/* By id, or for the *_STAT commands by index. */
struct ipc_object *ipc_for_stat(struct ipc_kind *k, s32 id, bool by_index);
void ipc_remove(struct ipc_kind *k, struct ipc_object *o); /* out of the table */
void ipc_get_object(struct ipc_object *o);
void ipc_put_object(struct ipc_kind *k, struct ipc_object *o);
/* Mode bits as in open(2), of owner, group and others at once. 0 or -EACCES. */
int ipc_permission(const struct ipc_object *o, u32 want);
/* May current change or remove it? 0 or -EPERM. */
int ipc_owner(const struct ipc_object *o);
/* IPC_SET: new owner and mode. */
void ipc_set_perm(struct ipc_object *o, const struct ipc64_perm *p);
s64 ipc_highest(const struct ipc_kind *k); /* index of the last object; 0 if there is none */
bool ipc_capable(u32 cap);
s64 ipc_now(void); /* seconds of the wall clock */

/* for (u32 i = 0; (o = ipc_next(k, &i));) */
struct ipc_object *ipc_next(const struct ipc_kind *k, u32 *i);

#endif
