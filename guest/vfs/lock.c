/* SPDX-License-Identifier: ISC */
/*
 * File locks: flock(2), POSIX record locks, open-file-description locks.
 *
 * A lock is a record on its inode's list: a range, a type, an owner. The owner
 * is the open file for flock and OFD locks, the process for POSIX locks. flock
 * and record locks do not see each other, as on Linux. Records of one owner
 * never overlap. Whoever must wait sleeps on inode->lock_wait and tries
 * again from the start; a removal wakes all.
 *
 * A blocked F_SETLKW between processes could deadlock; with EDEADLK not yet
 * detected, a signal ends it.
 */
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

#define RANGE_MAX 0x7fffffffffffffffull

enum lock_kind { KIND_FLOCK, KIND_POSIX, KIND_OFD };

struct lock {
	struct list node;
	enum lock_kind kind;
	bool exclusive;
	void *owner;
	s32 pid;
	u64 start, end; /* inclusive */
};

struct lockset {
	struct list locks;
};

static struct lockset *lockset_of(struct inode *ino)
{
	struct lockset *s = ino->locks;

	if (!s && (s = kmalloc(sizeof(*s)))) {
		list_init(&s->locks);
		ino->locks = s;
	}
	return s;
}

static void trim(struct inode *ino)
{
	struct lockset *s = ino->locks;

	if (s && list_empty(&s->locks)) {
		kfree(s);
		ino->locks = NULL;
	}
	waitq_wake_all(&ino->lock_wait, 0);
}

static void drop(struct lock *l)
{
	list_del(&l->node);
	kfree(l);
}

static bool same_space(const struct lock *a, const struct lock *b)
{
	return (a->kind == KIND_FLOCK) == (b->kind == KIND_FLOCK);
}

static struct lock *conflict(struct lockset *s, const struct lock *want)
{
	list_for_each (it, &s->locks) {
		struct lock *l = list_entry(it, struct lock, node);
		if (same_space(l, want) && l->owner != want->owner && (l->exclusive || want->exclusive) &&
		    l->start <= want->end && want->start <= l->end)
			return l;
	}
	return NULL;
}

/*
 * Give `want`'s range to its owner, or free it (unlock). Needs up to two spare
 * records: the new one and the second half of one that is cut in the middle.
 */
static int apply(struct lockset *s, const struct lock *want, bool unlock)
{
	struct lock *fresh = kmalloc(sizeof(*fresh)), *half = kmalloc(sizeof(*half));

	if (!fresh || !half) {
		kfree(fresh);
		kfree(half);
		return -ENOLCK;
	}
	*fresh = *want;
	list_for_each_safe (it, &s->locks) {
		struct lock *l = list_entry(it, struct lock, node);
		if (!same_space(l, want) || l->owner != want->owner)
			continue;
		bool same = !unlock && l->exclusive == want->exclusive;
		/* neighbours of the same type melt together */
		u64 reach = same ? 1 : 0;
		if (l->end + reach < fresh->start ||
		    (fresh->end < RANGE_MAX && l->start > fresh->end + reach) ||
		    (!same && (l->start > want->end || l->end < want->start)))
			continue;
		if (same) {
			fresh->start = MIN(fresh->start, l->start);
			fresh->end = MAX(fresh->end, l->end);
			drop(l);
		} else if (l->start < want->start && l->end > want->end) {
			*half = *l;
			half->start = want->end + 1;
			l->end = want->start - 1;
			list_add_tail(&s->locks, &half->node);
			half = NULL;
			break;
		} else if (l->start < want->start) {
			l->end = want->start - 1;
		} else if (l->end > want->end) {
			l->start = want->end + 1;
		} else {
			drop(l);
		}
	}
	if (unlock)
		kfree(fresh);
	else
		list_add_tail(&s->locks, &fresh->node);
	kfree(half);
	return 0;
}

static s64 set_lock(struct inode *ino, const struct lock *want, bool unlock, bool wait)
{
	struct lockset *s;

	for (;;) {
		if (!(s = lockset_of(ino)))
			return -ENOLCK;
		if (unlock || !conflict(s, want))
			break;
		if (!wait) {
			trim(ino);
			return -EAGAIN;
		}
		int r = wait_event(&ino->lock_wait, !ino->locks || !conflict(ino->locks, want), NO_DEADLINE,
				   true);
		if (r)
			return r;
	}
	s64 r = apply(s, want, unlock);
	trim(ino);
	return r;
}

enum { LOCK_SH_ = 1, LOCK_EX_ = 2, LOCK_NB_ = 4, LOCK_UN_ = 8 };

s64 lock_flock(struct file *f, int op)
{
	struct lock want = {.kind = KIND_FLOCK, .owner = f, .end = RANGE_MAX, .pid = current->proc->pid};
	bool wait = !(op & LOCK_NB_);

	op &= ~LOCK_NB_;
	if (op != LOCK_SH_ && op != LOCK_EX_ && op != LOCK_UN_)
		return -EINVAL;
	if (!f->inode)
		return -EBADF;
	want.exclusive = op == LOCK_EX_;
	if (op == LOCK_UN_ && !f->inode->locks)
		return 0;
	/* a conversion gives the old lock up first, as Linux does */
	if (op != LOCK_UN_ && f->locks)
		set_lock(f->inode, &want, true, false);
	s64 r = set_lock(f->inode, &want, op == LOCK_UN_, wait);
	if (!r && op != LOCK_UN_)
		f->locks = f;
	return r;
}

/* struct flock to an inclusive range. */
static int flock_range(struct file *f, const struct flock *fl, struct lock *l)
{
	s64 base = fl->l_whence == 1 ? (s64)f->pos : fl->l_whence == 2 ? (s64)inode_size(f->inode) : 0;
	s64 start, end;

	if ((u32)fl->l_whence > 2)
		return -EINVAL;
	if (__builtin_add_overflow(base, fl->l_start, &start))
		return -EOVERFLOW;
	if (start < 0)
		return -EINVAL;
	if (fl->l_len > 0) {
		if (__builtin_add_overflow(start, fl->l_len - 1, &end))
			return -EOVERFLOW;
	} else if (fl->l_len < 0) {
		end = start - 1;
		start += fl->l_len;
		if (start < 0)
			return -EINVAL;
	} else {
		end = (s64)RANGE_MAX;
	}
	l->start = (u64)start;
	l->end = (u64)end;
	return 0;
}

s64 lock_fcntl(struct file *f, u32 cmd, struct flock *fl)
{
	bool ofd = cmd == F_OFD_GETLK || cmd == F_OFD_SETLK || cmd == F_OFD_SETLKW;
	struct lock want = {.kind = ofd ? KIND_OFD : KIND_POSIX,
			    .owner = ofd ? (void *)f : current->proc,
			    .pid = ofd ? -1 : current->proc->pid,
			    .exclusive = fl->l_type == F_WRLCK};

	if (!f->inode)
		return -EBADF;
	if (ofd && fl->l_pid)
		return -EINVAL;
	int err = flock_range(f, fl, &want);
	if (err)
		return err;
	if (fl->l_type != F_RDLCK && fl->l_type != F_WRLCK && fl->l_type != F_UNLCK)
		return -EINVAL;
	if (cmd == F_GETLK || cmd == F_OFD_GETLK) {
		struct lock *l = f->inode->locks ? conflict(f->inode->locks, &want) : NULL;
		fl->l_type = F_UNLCK;
		if (l) {
			fl->l_type = l->exclusive ? F_WRLCK : F_RDLCK;
			fl->l_whence = 0;
			fl->l_start = (s64)l->start;
			fl->l_len = l->end == RANGE_MAX ? 0 : (s64)(l->end - l->start + 1);
			fl->l_pid = l->pid;
		}
		return 0;
	}
	if ((fl->l_type == F_RDLCK && !CAN_READ(f)) || (fl->l_type == F_WRLCK && !CAN_WRITE(f)))
		return -EBADF;
	s64 r = set_lock(f->inode, &want, fl->l_type == F_UNLCK, cmd == F_SETLKW || cmd == F_OFD_SETLKW);
	if (!r && ofd)
		f->locks = f;
	return r;
}

static void drop_owned(struct inode *ino, void *owner)
{
	struct lockset *s = ino->locks;

	if (!s)
		return;
	list_for_each_safe (it, &s->locks) {
		struct lock *l = list_entry(it, struct lock, node);
		if (l->owner == owner)
			drop(l);
	}
	trim(ino);
}

void locks_file_gone(struct file *f)
{
	drop_owned(f->inode, f);
}

void locks_process_closed(struct process *p, struct inode *ino)
{
	drop_owned(ino, p);
}
