/* SPDX-License-Identifier: ISC */
/*
 * Locks on volumes: what lock.c decided, told to the host.
 *
 * All locks of a file are on one host handle (vnode.lh): locks of two handles
 * would exclude each other. It is opened for writing if that is permitted,
 * since an exclusive record lock needs it, and goes with the last close.
 *
 * A lock is where programs expect to see each other's writes. Before one is
 * given up, what was written is sent, in the ring's order. When one is got, the
 * cached pages go unless mtime, ctime and size are what they were, and old
 * enough that a change since could not have left them the same.
 */
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/volume.h"

#define FLOCK_SHARED	1
#define FLOCK_EXCLUSIVE 2
#define FLOCK_UNLOCK	8
#define STAMP_GRAIN_NS	((s64)NS_PER_SEC)

static s64 open_by_path(struct vnode *v, u32 flags, struct statx *sx, u64 *handle)
{
	struct vpath p;
	int err = volume_path(v, NULL, 0, &p);

	if (err)
		return err;
	struct ring_sqe sqe = {.op = RING_OP_VOL_OPEN,
			       .handle = RING_VOL_BASE + v->vol->id,
			       .arg = flags,
			       .addr = ring_buf_gpa(p.p).v,
			       .len = p.len,
			       .addr2 = ring_buf_gpa(sx).v,
			       .len2 = sizeof(*sx)};
	s64 r = ring_call(&sqe, handle, NULL);
	kfree(p.p);
	return r;
}

int volume_lock_open(struct inode *ino)
{
	struct vnode *v = vnode(ino);
	struct statx *sx;
	u64 handle = 0;

	if (!IS_REG(ino) || v->lh != RING_NO_HANDLE)
		return 0;
	if (!(sx = kmalloc(sizeof(*sx))))
		return -ENOLCK;
	s64 r = open_by_path(v, O_RDWR, sx, &handle);
	if (r == -EACCES || r == -EROFS || r == -EPERM)
		r = open_by_path(v, O_RDONLY, sx, &handle);
	bool same = !r && sx->stx_ino == v->host_ino;
	if (!r && (!same || v->lh != RING_NO_HANDLE))
		volume_close_handle((u32)handle);
	else if (!r)
		v->lh = (u32)handle;
	kfree(sx);
	/* a file without a name is nobody else's to lock */
	return r && r != -ENOENT ? (int)r : 0;
}

/* Somebody else may have written before we got the lock. */
static void see_others_writes(struct vnode *v, const struct statx *sx)
{
	struct kstat old = v->st;
	bool ours = v->wrote;

	if (v->n_dirty || v->n_flight)
		return; /* it was ours all the time */
	volume_take_stat(v, sx, volume_clock);
	if (ours || old.mtime_ns != v->st.mtime_ns || old.ctime_ns != v->st.ctime_ns ||
	    old.size != v->st.size || (s64)real_ns() - v->st.mtime_ns < STAMP_GRAIN_NS) {
		v->gen++;
		volume_drop_clean(v);
	}
}

static void told(struct ring_req *req, const struct ring_cqe *cqe)
{
	kfree(req);
}

/* Given up, or made weaker: nobody waits for the answer. */
static void tell(const struct ring_sqe *sqe)
{
	struct ring_req *r = kzalloc(sizeof(*r));
	struct ring_sqe copy = *sqe;

	if (!r) {
		ring_call_nosleep(&copy, NULL, NULL);
		return;
	}
	r->done = told;
	r->sqe = copy;
	r->sqe.flags = RING_SQE_QUIET;
	ring_submit(r);
}

static u32 flock_op(enum host_lock type)
{
	return type == HOST_UNLOCK				     ? FLOCK_UNLOCK
	       : type == HOST_LOCK_SHARED || type == HOST_ASK_SHARED ? FLOCK_SHARED
								     : FLOCK_EXCLUSIVE;
}

int volume_lock(struct inode *ino, bool flock, enum host_lock type, u64 first, u64 last)
{
	static struct statx sx __attribute__((aligned(256))); /* nothing here sleeps */
	struct vnode *v = vnode(ino);
	bool ask = type == HOST_ASK_SHARED || type == HOST_ASK_EXCLUSIVE;
	struct ring_sqe sqe = {.op = RING_OP_VOL_LOCK,
			       .handle = v->lh,
			       .arg = flock_op(type),
			       .arg2 = flock ? RING_LOCK_FILE
				       : ask ? RING_LOCK_ASK
					     : RING_LOCK_RANGE,
			       .off = flock ? 0 : first,
			       .addr = flock ? 0 : last};
	u64 held = 0;

	if (v->lh == RING_NO_HANDLE)
		return 0;
	if (type == HOST_UNLOCK) {
		volume_send(v);
		tell(&sqe);
		return 0;
	}
	if (!ask) {
		sqe.addr2 = ring_buf_gpa(&sx).v;
		sqe.len2 = sizeof(sx);
	}
	s64 r = ring_call_nosleep(&sqe, &held, NULL);
	if (!r && !ask)
		see_others_writes(v, &sx);
	return r ? (int)r : (int)held;
}
