/* SPDX-License-Identifier: ISC */
/*
 * File locks: flock(2), POSIX record locks, open-file-description locks.
 *
 * A lock is a record on its inode's list: a range, a type, an owner. The owner
 * is the open file for flock and OFD locks, the process's table of descriptors for POSIX
 * locks: a fork has its own, an exec keeps it, who shares it shares its locks. flock
 * and record locks do not see each other, as on Linux. Records of one owner
 * never overlap. Whoever must wait sleeps on inode->lock_wait and tries
 * again from the start; a removal wakes all.
 *
 * On volumes others may lock, too: what the instance holds of a file, taken
 * together, is held on the host (ops->lock). A lock is asked of the host after
 * it was found free here and before it is recorded, without a sleep between;
 * what is given up here is given up there unless another owner needs it.
 * Nobody tells when the host's lock becomes free: a waiter asks again and again.
 *
 * Whoever waits for a POSIX lock stands in `blocked`. Before it sleeps the chain of
 * owners that wait for one another is followed; one that comes back to the
 * beginning is a deadlock, and the call fails (EDEADLK) instead.
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
	struct list node; /* in with_locks */
	const struct inode *ino;
};
static struct list with_locks = LIST_INIT(with_locks);

static struct lockset *lockset_of(struct inode *ino)
{
	struct lockset *s = ino->locks;

	if (!s && (s = kmalloc(sizeof(*s)))) {
		list_init(&s->locks);
		s->ino = ino;
		list_add_tail(&with_locks, &s->node);
		ino->locks = s;
	}
	return s;
}

static void trim(struct inode *ino)
{
	struct lockset *s = ino->locks;

	if (s && list_empty(&s->locks)) {
		list_del(&s->node);
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

/* --- the host's side ------------------------------------------------------------- */

#define ASK_AGAIN_NS (5 * 1000000ull)

/* The record that says most about position `at`: exclusive before shared. *next: where the answer changes. */
static struct lock *lock_at(struct lockset *s, bool flock, u64 at, u64 *next)
{
	struct lock *best = NULL;

	*next = RANGE_MAX;
	if (!s)
		return NULL;
	list_for_each (it, &s->locks) {
		struct lock *l = list_entry(it, struct lock, node);
		if ((l->kind == KIND_FLOCK) != flock)
			continue;
		if (l->start > at)
			*next = MIN(*next, l->start - 1);
		else if (l->end >= at) {
			*next = MIN(*next, l->end);
			if (!best || l->exclusive)
				best = l;
		}
	}
	return best;
}

/* Something in [start, end] was given up: make the host's locks what is held here. */
static void host_sync(struct inode *ino, bool flock, u64 start, u64 end)
{
	u64 last;

	if (!ino->ops->lock)
		return;
	for (u64 at = start;; at = last + 1) {
		struct lock *l = lock_at(ino->locks, flock, at, &last);

		last = MIN(last, end);
		ino->ops->lock(ino, flock,
			       !l	      ? HOST_UNLOCK
			       : l->exclusive ? HOST_LOCK_EXCLUSIVE
					      : HOST_LOCK_SHARED,
			       at, last);
		if (last >= end)
			return;
	}
}

static int host_lock(struct inode *ino, const struct lock *want)
{
	if (!ino->ops->lock)
		return 0;
	return ino->ops->lock(ino, want->kind == KIND_FLOCK,
			      want->exclusive ? HOST_LOCK_EXCLUSIVE : HOST_LOCK_SHARED, want->start,
			      want->end);
}

/* --- deadlocks ------------------------------------------------------------------------ */

#define CHAIN_MAX 64 /* owners that are followed */

/* On the stack of who waits for a POSIX lock. */
struct blocked {
	struct list node;
	struct inode *ino;
	const struct lock *want;
};
static struct list blocked = LIST_INIT(blocked);

static const struct blocked *blocked_owner(const void *owner)
{
	list_for_each (it, &blocked) {
		const struct blocked *b = list_entry(it, struct blocked, node);
		if (b->want->owner == owner)
			return b;
	}
	return NULL;
}

/* Would `want`, in the way of which is `l`, wait for itself? */
static bool deadlock(const struct lock *want, const struct lock *l)
{
	for (int i = 0; l && l->kind == KIND_POSIX && i < CHAIN_MAX; i++) {
		const struct blocked *b;

		if (l->owner == want->owner)
			return true;
		b = blocked_owner(l->owner);
		l = b && b->ino->locks ? conflict(b->ino->locks, b->want) : NULL;
		if (l && l->owner == want->owner)
			return true;
	}
	return false;
}

/* --- getting and giving up --------------------------------------------------------- */

/* Sleep until `want` may be free. */
static int wait_turn(struct inode *ino, const struct lock *want, bool host)
{
	if (!host) {
		struct blocked b = {.ino = ino, .want = want};

		if (want->kind == KIND_POSIX) {
			if (deadlock(want, conflict(ino->locks, want)))
				return -EDEADLK;
			list_add_tail(&blocked, &b.node);
		} else {
			list_init(&b.node);
		}
		int err = wait_event(&ino->lock_wait, !ino->locks || !conflict(ino->locks, want), NO_DEADLINE,
				     true);
		list_del(&b.node);
		return err;
	}
	int r = wait_event(&ino->lock_wait, false, mono_ns() + ASK_AGAIN_NS, true);
	return r == -ETIMEDOUT ? 0 : r;
}

static s64 set_lock(struct inode *ino, const struct lock *want, bool unlock, bool wait)
{
	struct lockset *s;
	s64 r = !unlock && ino->ops->lock_open ? ino->ops->lock_open(ino) : 0;

	while (!r) {
		if (!(s = lockset_of(ino)))
			return -ENOLCK;
		if (unlock)
			break;
		bool local = conflict(s, want) != NULL;
		r = local ? -EAGAIN : host_lock(ino, want);
		if (!r)
			break;
		trim(ino);
		if (r == -EAGAIN && wait)
			r = wait_turn(ino, want, !local);
	}
	if (r)
		return r;
	r = apply(s, want, unlock);
	if (r || unlock)
		host_sync(ino, want->kind == KIND_FLOCK, want->start, want->end);
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

/* Who would be in the way? */
static s64 get_lock(struct inode *ino, const struct lock *want, struct flock *fl)
{
	struct lock *l = ino->locks ? conflict(ino->locks, want) : NULL;
	struct lock other = {.start = want->start, .end = want->end, .pid = -1};

	if (!l && ino->ops->lock) {
		int r = ino->ops->lock_open(ino);
		if (!r)
			r = ino->ops->lock(ino, false, want->exclusive ? HOST_ASK_EXCLUSIVE : HOST_ASK_SHARED,
					   want->start, want->end);
		if (r < 0)
			return r;
		other.exclusive = r == 2;
		l = r ? &other : NULL; /* whose it is, the host does not say */
	}
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

s64 lock_fcntl(struct file *f, u32 cmd, struct flock *fl)
{
	bool ofd = cmd == F_OFD_GETLK || cmd == F_OFD_SETLK || cmd == F_OFD_SETLKW;
	struct lock want = {.kind = ofd ? KIND_OFD : KIND_POSIX,
			    .owner = ofd ? (void *)f : fdtable_current(),
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
	if (cmd == F_GETLK || cmd == F_OFD_GETLK)
		return get_lock(f->inode, &want, fl);
	if ((fl->l_type == F_RDLCK && !CAN_READ(f)) || (fl->l_type == F_WRLCK && !CAN_WRITE(f)))
		return -EBADF;
	s64 r = set_lock(f->inode, &want, fl->l_type == F_UNLCK, cmd == F_SETLKW || cmd == F_OFD_SETLKW);
	if (!r && ofd)
		f->locks = f;
	return r;
}

int locks_restored(struct inode *ino)
{
	for (int flock = 0; flock < 2; flock++) {
		for (u64 at = 0, last;; at = last + 1) {
			struct lock *l = lock_at(ino->locks, flock, at, &last);
			int r = l ? ino->ops->lock(ino, flock,
						   l->exclusive ? HOST_LOCK_EXCLUSIVE : HOST_LOCK_SHARED, at,
						   last)
				  : 0;

			if (r)
				return r;
			if (last >= RANGE_MAX)
				break;
		}
	}
	return 0;
}

static void drop_owned(struct inode *ino, void *owner)
{
	struct lockset *s = ino->locks;

	if (!s)
		return;
	list_for_each_safe (it, &s->locks) {
		struct lock *l = list_entry(it, struct lock, node);
		if (l->owner == owner) {
			struct lock was = *l;
			drop(l);
			host_sync(ino, was.kind == KIND_FLOCK, was.start, was.end);
		}
	}
	trim(ino);
}

void locks_file_gone(struct file *f)
{
	drop_owned(f->inode, f);
}

void locks_table_closed(struct fdtable *t, struct inode *ino)
{
	drop_owned(ino, t);
}

/* --- /proc/locks ------------------------------------------------------------------------ */

static void show_one(struct text *t, const struct inode *ino, u64 n, const struct lock *l)
{
	text_add(t, "%lu: %s  ADVISORY  %s %d %02lx:%02lx:%lu %lu ", (unsigned long)n,
		 l->kind == KIND_FLOCK ? "FLOCK"
		 : l->kind == KIND_OFD ? "OFDLCK"
				       : "POSIX",
		 l->exclusive ? "WRITE" : "READ", l->pid, (unsigned long)DEV_MAJOR(ino->dev),
		 (unsigned long)DEV_MINOR(ino->dev), (unsigned long)ino->ino, (unsigned long)l->start);
	if (l->end == RANGE_MAX)
		text_add(t, "EOF\n");
	else
		text_add(t, "%lu\n", (unsigned long)l->end);
}

void locks_show(struct text *t)
{
	u64 n = 0;

	list_for_each (it, &with_locks) {
		const struct lockset *s = list_entry(it, struct lockset, node);
		list_for_each (li, &s->locks)
			show_one(t, s->ino, ++n, list_entry(li, struct lock, node));
	}
}
