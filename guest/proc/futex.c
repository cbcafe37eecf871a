/* SPDX-License-Identifier: ISC */
/*
 * Futexes: who waits on which word of memory.
 *
 * A waiter lies on its own kernel stack and in the bucket of its key. One CPU at a time
 * is in the library OS, and none is preempted there: whoever stores to the word and then wakes finds who compared it
 * before, queued. A waiter that is taken out of its bucket has been woken; requeue only changes
 * its key and bucket.
 *
 * Without the lock (syscalls.tbl: free) two things can be decided. A wait for a word that has another value already is over. A wake
 * finds nobody if nobody has a claim on the bucket: a claim is made, with a barrier, before the word is read, and is kept until the
 * waiter is gone; whoever wakes has stored to the word before, and has a barrier before it looks for claims. So one of
 * them sees the other, as with the lock.
 *
 * The table is allocated at the first wait: a single-threaded program has none.
 * Those with priority inheritance are futex_pi.c's; their waiters lie in the same table, and what is for the
 * other kind is EINVAL to them.
 */
#include <linux/futex.h>
#include <linux/time.h>

#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/futex.h"
#include "guest/proc/smp.h"

#define BUCKETS	   256u
#define ROBUST_MAX 2048 /* entries of a robust list that are followed */
#define ANY_BITS   FUTEX_BITSET_MATCH_ANY

static struct list *table;

static u32 claims[BUCKETS];

static u32 bucket_of(const u64 key[2])
{
	u64 h = (key[0] ^ (key[1] >> 2)) * 0x9e3779b97f4a7c15ull;

	return (u32)(h >> 40) % BUCKETS;
}

struct list *futex_bucket(const u64 key[2])
{
	return &table[bucket_of(key)];
}

void futex_claim(const u64 key[2])
{
	__atomic_add_fetch(&claims[bucket_of(key)], 1, __ATOMIC_SEQ_CST);
}

void futex_unclaim(const u64 key[2])
{
	__atomic_sub_fetch(&claims[bucket_of(key)], 1, __ATOMIC_SEQ_CST);
}

int futex_table_ready(void)
{
	if (table)
		return 0;
	table = kmalloc(BUCKETS * sizeof(*table));
	if (!table)
		return -ENOMEM;
	for (unsigned i = 0; i < BUCKETS; i++)
		list_init(&table[i]);
	return 0;
}

int futex_key(u64 uaddr, bool private, u64 key[2])
{
	if (uaddr & 3)
		return -EINVAL;
	return mm_futex_key(current->proc->as, uaddr, private, key);
}

void futex_wake_waiter(struct futex_waiter *w)
{
	list_del(&w->node);
	w->woken = true;
	thread_wake(w->thread);
}

static s64 wake_key(const u64 key[2], unsigned n, u32 bits)
{
	s64 woken = 0;

	if (!table)
		return 0;
	list_for_each_safe (it, futex_bucket(key)) {
		struct futex_waiter *w = list_entry(it, struct futex_waiter, node);

		if (!futex_same_key(w->key, key) || !(w->bits & bits))
			continue;
		if (w->pi || w->moves)
			return -EINVAL;
		if ((u64)woken >= n)
			break;
		futex_wake_waiter(w);
		woken++;
	}
	return woken;
}

/* For the library OS's own wake-ups (a thread's tid word). */
void futex_wake_addr(u64 uaddr, unsigned n, bool private)
{
	u64 key[2];

	/* Whoever waits may have said private or shared: the word of an anonymous page has two names. */
	if (!futex_key(uaddr, true, key))
		wake_key(key, n, ANY_BITS);
	if (!private && !futex_key(uaddr, false, key))
		wake_key(key, n, ANY_BITS);
}

/* --- wait -------------------------------------------------------------------------- */

static s64 wait_restart(struct thread *t);

/* Sleep until woken; deadline on the monotonic clock. restart: a signal makes it go on by restart_syscall. */
static s64 futex_wait(u64 uaddr, u32 expect, u32 bits, u64 deadline, bool private, bool restart)
{
	struct futex_waiter w = {.bits = bits, .thread = current};
	u32 val;
	int err;

	if (!bits)
		return -EINVAL;
	err = futex_table_ready();
	if (!err)
		err = futex_key(uaddr, private, w.key);
	if (err)
		return err;
	futex_claim(w.key);
	err = user_load32((u32 *)uaddr, &val);
	if (!err && val != expect)
		err = -EAGAIN;
	if (err) {
		futex_unclaim(w.key);
		return err;
	}
	list_add_tail(futex_bucket(w.key), &w.node);
	thread_prepare_sleep(true);
	err = thread_sleep(deadline);
	thread_finish_sleep();
	list_del(&w.node);
	futex_unclaim(w.key); /* it may have been moved: where it is now */
	if (w.woken)
		return 0;
	if (!err)
		return -ERESTARTSYS; /* woken for nothing that we know: look again */
	if (err == -ERESTARTSYS && restart && deadline != NO_DEADLINE) {
		struct thread *t = current;

		t->restart.fn = wait_restart;
		t->restart.arg[0] = uaddr;
		t->restart.arg[1] = expect;
		t->restart.arg[2] = bits;
		t->restart.arg[3] = deadline;
		t->restart.arg[4] = private;
		return -ERESTART_RESTARTBLOCK;
	}
	return err;
}

static s64 wait_restart(struct thread *t)
{
	return futex_wait(t->restart.arg[0], (u32)t->restart.arg[1], (u32)t->restart.arg[2],
			  t->restart.arg[3], t->restart.arg[4], true);
}

/* --- requeue, wake_op ------------------------------------------------------------------ */

static s64 requeue(const u64 k1[2], const u64 k2[2], unsigned n_wake, unsigned n_move)
{
	s64 n = 0;

	list_for_each_safe (it, futex_bucket(k1)) {
		struct futex_waiter *w = list_entry(it, struct futex_waiter, node);

		if (!futex_same_key(w->key, k1))
			continue;
		if (w->pi || w->moves)
			return -EINVAL;
		if ((u64)n < n_wake) {
			futex_wake_waiter(w);
		} else if ((u64)n - n_wake < n_move) {
			if (!futex_same_key(k1, k2)) {
				/* Who finds it gone from the first word finds its claim on the second. */
				futex_claim(k2);
				list_del(&w->node);
				futex_unclaim(k1);
				w->key[0] = k2[0];
				w->key[1] = k2[1];
				list_add_tail(futex_bucket(k2), &w->node);
			}
		} else {
			break;
		}
		n++;
	}
	return n;
}

static s64 futex_requeue(u64 from, u64 to, unsigned n_wake, unsigned n_move, bool private, const u32 *expect)
{
	u64 k1[2], k2[2];
	u32 val;
	s64 res = 0;
	int err = futex_key(from, private, k1);

	if (!err)
		err = futex_key(to, private, k2);
	if (err)
		return err;
	if ((s32)n_wake < 0 || (s32)n_move < 0)
		return -EINVAL;
	futex_claim(k2); /* who comes there has it before the word is read */
	if (expect) {
		res = user_load32((u32 *)from, &val);
		if (!res && val != *expect)
			res = -EAGAIN;
	}
	if (!res && table)
		res = requeue(k1, k2, n_wake, n_move);
	futex_unclaim(k2);
	return res;
}

static bool op_true(int cmp, u32 old, u32 arg)
{
	switch (cmp) {
	case FUTEX_OP_CMP_EQ:
		return old == arg;
	case FUTEX_OP_CMP_NE:
		return old != arg;
	case FUTEX_OP_CMP_LT:
		return (s32)old < (s32)arg;
	case FUTEX_OP_CMP_GE:
		return (s32)old >= (s32)arg;
	case FUTEX_OP_CMP_LE:
		return (s32)old <= (s32)arg;
	default:
		return (s32)old > (s32)arg;
	}
}

static s64 futex_wake_op(u64 a1, u64 a2, unsigned n1, unsigned n2, bool private, u32 enc)
{
	u32 op = enc >> 28, cmp = (enc >> 24) & 15, old;
	s32 oparg = (s32)(enc << 8) >> 20, cmparg = (s32)(enc << 20) >> 20;
	u64 k1[2], k2[2];
	s64 n;
	int err = futex_key(a1, private, k1);

	if (!err)
		err = futex_key(a2, private, k2);
	if (err)
		return err;
	if (op & FUTEX_OP_OPARG_SHIFT) {
		oparg = 1 << (oparg & 31);
		op &= ~(u32)FUTEX_OP_OPARG_SHIFT;
	}
	if (op > FUTEX_OP_XOR || cmp > FUTEX_OP_CMP_GT)
		return -ENOSYS;
	err = user_fetch_op32((u32 *)a2, (int)op, (u32)oparg, &old);
	if (err)
		return err;
	n = wake_key(k1, n1, ANY_BITS);
	if (op_true((int)cmp, old, (u32)cmparg))
		n += wake_key(k2, n2, ANY_BITS);
	return n;
}

/* --- the call ---------------------------------------------------------------------------- */

/* Deadline of a wait: relative for FUTEX_WAIT, absolute on one of two clocks for the others. */
static int wait_deadline(const void *utime, int cmd, bool realtime, u64 *deadline)
{
	u64 t;
	int err;

	*deadline = NO_DEADLINE;
	if (!utime)
		return 0;
	err = timespec_in(utime, &t);
	if (err)
		return err;
	return clock_deadline(cmd != FUTEX_WAIT && realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC,
			      cmd != FUTEX_WAIT, t, deadline);
}

/* What can be decided without the lock. */
static s64 futex_free(u64 uaddr, int op, u32 val, u64 utime)
{
	int cmd = op & FUTEX_CMD_MASK;
	u64 key[2];
	u32 now;
	s64 err;

	/* A time limit must be looked at first; other clocks have no part in these. */
	if (!(op & FUTEX_PRIVATE_FLAG) || op & FUTEX_CLOCK_REALTIME ||
	    !(cmd == FUTEX_WAKE || (cmd == FUTEX_WAIT && !utime)))
		return -ENEEDLOCK;
	err = futex_key(uaddr, true, key);
	if (err)
		return err;
	if (cmd == FUTEX_WAIT) {
		err = user_load32((u32 *)uaddr, &now);
		return err ? err : now != val ? -EAGAIN : -ENEEDLOCK;
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(&claims[bucket_of(key)], __ATOMIC_RELAXED) ? -ENEEDLOCK : 0;
}

SYSCALL6(futex, u64, uaddr, int, op, u32, val, u64, utime, u64, uaddr2, u32, val3)
{
	int cmd = op & FUTEX_CMD_MASK;
	bool private = op & FUTEX_PRIVATE_FLAG, realtime = op & FUTEX_CLOCK_REALTIME;
	u64 key[2], deadline;
	int err;

	if (without_lock())
		return futex_free(uaddr, op, val, utime);
	if (realtime && cmd != FUTEX_WAIT && cmd != FUTEX_WAIT_BITSET && cmd != FUTEX_WAIT_REQUEUE_PI &&
	    cmd != FUTEX_LOCK_PI2)
		return -ENOSYS;
	switch (cmd) {
	case FUTEX_WAIT:
		val3 = ANY_BITS;
		/* fall through */
	case FUTEX_WAIT_BITSET:
		err = wait_deadline((void *)utime, cmd, realtime, &deadline);
		return err ? err : futex_wait(uaddr, val, val3, deadline, private, true);
	case FUTEX_WAKE:
		val3 = ANY_BITS;
		/* fall through */
	case FUTEX_WAKE_BITSET:
		if (!val3)
			return -EINVAL;
		err = futex_key(uaddr, private, key);
		return err ? err : wake_key(key, val, val3);
	case FUTEX_REQUEUE:
		return futex_requeue(uaddr, uaddr2, val, (u32)utime, private, NULL);
	case FUTEX_CMP_REQUEUE:
		return futex_requeue(uaddr, uaddr2, val, (u32)utime, private, &val3);
	case FUTEX_WAKE_OP:
		return futex_wake_op(uaddr, uaddr2, val, (u32)utime, private, val3);
	case FUTEX_LOCK_PI:
	case FUTEX_LOCK_PI2:
		err = wait_deadline((void *)utime, cmd, realtime || cmd == FUTEX_LOCK_PI, &deadline);
		return err ? err : futex_lock_pi(uaddr, deadline, private, false);
	case FUTEX_TRYLOCK_PI:
		return futex_lock_pi(uaddr, NO_DEADLINE, private, true);
	case FUTEX_UNLOCK_PI:
		return futex_unlock_pi(uaddr, private);
	case FUTEX_WAIT_REQUEUE_PI:
		err = wait_deadline((void *)utime, cmd, realtime, &deadline);
		return err ? err : futex_wait_requeue_pi(uaddr, val, ANY_BITS, deadline, private, uaddr2);
	case FUTEX_CMP_REQUEUE_PI:
		return futex_cmp_requeue_pi(uaddr, uaddr2, val, (u32)utime, private, val3);
	default:
		return -ENOSYS;
	}
}

/* --- waiting for several ------------------------------------------------------------------- */

#define WAITV_MAX 32 /* Linux has 128; this many lie on the kernel stack */

SYSCALL5(futex_waitv, const struct futex_waitv *, uwaiters, u32, n, u32, flags, u64, utime, int, clock)
{
	struct futex_waiter w[WAITV_MAX];
	struct futex_waitv uw;
	u64 deadline = NO_DEADLINE, t;
	s64 res = -EAGAIN;
	u32 i, val;
	int err;

	if (flags || !n || n > 128 || !uwaiters)
		return -EINVAL;
	if (n > WAITV_MAX)
		return -ENOMEM;
	if (utime) {
		if (clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME)
			return -EINVAL;
		err = timespec_in((void *)utime, &t);
		if (!err)
			err = clock_deadline(clock, true, t, &deadline);
		if (err)
			return err;
	}
	err = futex_table_ready();
	if (err)
		return err;
	for (i = 0; i < n; i++) {
		w[i] = (struct futex_waiter){.bits = ANY_BITS, .thread = current};
		res = -EINVAL;
		if (get_user(uw, &uwaiters[i]))
			res = -EFAULT;
		else if (!(uw.flags & ~(u32)(FUTEX_32 | FUTEX_PRIVATE_FLAG)) && (uw.flags & 3) == FUTEX_32 &&
			 !uw.__reserved)
			res = futex_key(uw.uaddr, uw.flags & FUTEX_PRIVATE_FLAG, w[i].key);
		if (res)
			break;
		futex_claim(w[i].key);
		res = user_load32((u32 *)uw.uaddr, &val);
		if (!res && val != (u32)uw.val)
			res = -EAGAIN;
		if (res) {
			futex_unclaim(w[i].key);
			break;
		}
		list_add_tail(futex_bucket(w[i].key), &w[i].node);
	}
	if (i == n) {
		thread_prepare_sleep(true);
		res = thread_sleep(deadline);
		thread_finish_sleep();
	}
	while (i-- > 0) {
		list_del(&w[i].node);
		futex_unclaim(w[i].key);
		if (w[i].woken)
			res = i;
	}
	return res;
}

/* --- robust lists ---------------------------------------------------------------------------- */

/* The owner of a lock died: say so in its word and wake one who waits for it. */
static int robust_death(struct thread *t, u64 uaddr, bool pi)
{
	u32 val, old;
	u64 key[2];

	if ((uaddr & 3) || user_load32((u32 *)uaddr, &val))
		return -EFAULT;
	while ((val & FUTEX_TID_MASK) == (u32)t->tid) {
		if (user_cmpxchg32((u32 *)uaddr, val, (val & FUTEX_WAITERS) | FUTEX_OWNER_DIED, &old))
			return -EFAULT;
		if (old != val) {
			val = old;
			continue;
		}
		if (!pi && (val & FUTEX_WAITERS)) {
			if (!futex_key(uaddr, true, key))
				wake_key(key, 1, ANY_BITS);
			if (!futex_key(uaddr, false, key))
				wake_key(key, 1, ANY_BITS);
		}
		break;
	}
	return 0;
}

void futex_exit_robust(struct thread *t)
{
	struct robust_list_head head;
	u64 entry, next, pending;

	if (!t->robust_list || get_user(head, (void *)t->robust_list))
		goto out;
	entry = (u64)head.list.next;
	pending = (u64)head.list_op_pending;
	for (unsigned i = 0; (entry & ~1ull) != t->robust_list && i < ROBUST_MAX; i++) {
		bool pi = entry & 1;

		entry &= ~1ull;
		/* Read on before the lock is given away: its memory may go at once. */
		if (get_user(next, (u64 *)entry))
			break;
		if (entry != (pending & ~1ull) && robust_death(t, entry + (u64)head.futex_offset, pi))
			break;
		entry = next;
	}
	if (pending)
		robust_death(t, (pending & ~1ull) + (u64)head.futex_offset, pending & 1);
out:
	t->robust_list = 0;
	futex_pi_owner_gone(t);
}
