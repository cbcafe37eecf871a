/* SPDX-License-Identifier: ISC */
/*
 * System V objects: keys, ids, permissions.
 *
 * Each kind has a table. An id is the index in it and a sequence number, so that
 * the id of a removed object is not that of the next in its place. One library OS
 * is one namespace. An object is in its table from its making to its removal;
 * whoever sleeps with one holds a reference beyond that.
 */
#include "guest/ipc/internal.h"

#include <linux/capability.h>

#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

#define INDEX_BITS 15
#define INDEX_MASK ((1u << INDEX_BITS) - 1)
#define SEQ_MASK   0xffffu

bool ipc_capable(u32 cap)
{
	return current->proc->cap_effective >> cap & 1;
}

s64 ipc_now(void)
{
	return (s64)(real_ns() / NS_PER_SEC);
}

/* --- tables ----------------------------------------------------------------------- */

static int grow(struct ipc_kind *k)
{
	u32 cap = k->cap ? 2 * k->cap : 16;
	struct ipc_object **slot = kzalloc(cap * sizeof(*slot));

	if (!slot)
		return -ENOMEM;
	if (k->cap)
		memcpy(slot, k->slot, k->cap * sizeof(*slot));
	kfree(k->slot);
	k->slot = slot;
	k->cap = cap;
	return 0;
}

/* Put a new object into the lowest free slot. A slot at or below the last one used starts a new sequence. */
static int insert(struct ipc_kind *k, struct ipc_object *o)
{
	u32 i = 0;

	if (k->used >= k->max)
		return -ENOSPC;
	while (i < k->cap && k->slot[i])
		i++;
	if (i == k->cap && grow(k))
		return -ENOMEM;
	if (i < k->last)
		k->seq = (k->seq + 1) & SEQ_MASK;
	k->last = i + 1;
	k->slot[i] = o;
	k->used++;
	o->perm.seq = k->seq;
	o->id = (s32)(((u32)k->seq << INDEX_BITS | i) & 0x7fffffff);
	return 0;
}

struct ipc_object *ipc_by_id(struct ipc_kind *k, s32 id)
{
	u32 i = (u32)id & INDEX_MASK;

	return id >= 0 && i < k->cap && k->slot[i] && k->slot[i]->id == id ? k->slot[i] : NULL;
}

struct ipc_object *ipc_for_stat(struct ipc_kind *k, s32 id, bool by_index)
{
	if (!by_index)
		return ipc_by_id(k, id);
	return id >= 0 && (u32)id < k->cap ? k->slot[id] : NULL;
}

struct ipc_object *ipc_next(const struct ipc_kind *k, u32 *i)
{
	while (*i < k->cap) {
		struct ipc_object *o = k->slot[(*i)++];

		if (o)
			return o;
	}
	return NULL;
}

s64 ipc_highest(const struct ipc_kind *k)
{
	for (u32 i = k->cap; i-- > 0;)
		if (k->slot[i])
			return i;
	return 0;
}

void ipc_get_object(struct ipc_object *o)
{
	o->refs++;
}

void ipc_put_object(struct ipc_kind *k, struct ipc_object *o)
{
	if (!--o->refs)
		k->free(o);
}

void ipc_remove(struct ipc_kind *k, struct ipc_object *o)
{
	if (o->gone)
		return;
	k->slot[(u32)o->id & INDEX_MASK] = NULL;
	k->used--;
	o->gone = true;
	ipc_put_object(k, o);
}

/* --- permissions --------------------------------------------------------------------- */

static bool in_group(u32 gid)
{
	const struct process *p = current->proc;

	if (p->egid == gid)
		return true;
	for (u32 i = 0; i < p->n_groups; i++)
		if (p->groups[i] == gid)
			return true;
	return false;
}

int ipc_permission(const struct ipc_object *o, u32 want)
{
	u32 granted = o->perm.mode, euid = current->proc->euid;

	want = (want >> 6) | (want >> 3) | want;
	if (euid == o->perm.cuid || euid == o->perm.uid)
		granted >>= 6;
	else if (in_group(o->perm.cgid) || in_group(o->perm.gid))
		granted >>= 3;
	return want & ~granted & 7 && !ipc_capable(CAP_IPC_OWNER) ? -EACCES : 0;
}

int ipc_owner(const struct ipc_object *o)
{
	u32 euid = current->proc->euid;

	return euid == o->perm.cuid || euid == o->perm.uid || ipc_capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
}

void ipc_set_perm(struct ipc_object *o, const struct ipc64_perm *p)
{
	o->perm.uid = p->uid;
	o->perm.gid = p->gid;
	o->perm.mode = (o->perm.mode & ~0777u) | (p->mode & 0777);
}

/* --- the *get calls --------------------------------------------------------------------- */

static struct ipc_object *by_key(const struct ipc_kind *k, s32 key)
{
	struct ipc_object *o;

	for (u32 i = 0; (o = ipc_next(k, &i));)
		if (o->perm.key == key)
			return o;
	return NULL;
}

s64 ipc_find_or_make(struct ipc_kind *k, s32 key, u32 flags, struct ipc_object *(*make)(void *arg, int *err),
		     int (*check)(struct ipc_object *o, void *arg), void *arg)
{
	struct ipc_object *o = key == IPC_PRIVATE ? NULL : by_key(k, key);
	int err = 0;

	if (o) {
		if ((flags & (IPC_CREAT | IPC_EXCL)) == (IPC_CREAT | IPC_EXCL))
			return -EEXIST;
		err = check(o, arg);
		if (!err)
			err = ipc_permission(o, flags);
		return err ? err : o->id;
	}
	if (key != IPC_PRIVATE && !(flags & IPC_CREAT))
		return -ENOENT;
	o = make(arg, &err); /* never sleeps: the key is still free */
	if (!o)
		return err;
	o->perm.key = key;
	o->perm.uid = o->perm.cuid = current->proc->euid;
	o->perm.gid = o->perm.cgid = current->proc->egid;
	o->perm.mode = flags & 0777;
	o->refs = 1;
	err = insert(k, o);
	if (err) {
		o->gone = true;
		ipc_put_object(k, o);
		return err;
	}
	return o->id;
}
