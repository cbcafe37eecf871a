/* SPDX-License-Identifier: ISC */
/*
 * Futexes with priority inheritance: locks whose word holds the owner's thread id.
 *
 *	word = owner's tid, 0: free | FUTEX_WAITERS | FUTEX_OWNER_DIED
 *
 * The app takes and gives a lock that nobody waits for by itself, by changing the word. Who finds it taken comes here
 * (LOCK_PI), marks the word with FUTEX_WAITERS and sleeps; so that the owner comes here too (UNLOCK_PI), which
 * passes the lock on: the word names the first waiter before that one runs. FUTEX_WAITERS then stays, even if nobody
 * else waits, as on Linux.
 *
 * Waiters of one word stand in its bucket by priority, the oldest first among equals, all name the same owner, and are
 * in that thread's list pi_owned. A thread waits for one word at most (pi_wait), so owners form chains without a
 * circle: what would close one is EDEADLK.
 *
 * An owner that ends passes on what others wait for, with FUTEX_OWNER_DIED; that is not the robust list's business
 * (futex.c), which marks what nobody waits for, too.
 *
 * Inheritance. Real-time priorities only order the waiters. What the scheduler knows are nice values: an owner runs
 * with the best one of those who wait for it, and for whom it waits in turn (sched_boost).
 *
 * Words are changed by compare-and-exchange, since the app on another CPU may be at it; that in the
 * word of somebody else's address space through the direct map.
 */
#include <linux/futex.h>
#include <linux/sched.h>

#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/futex.h"

/* --- the word ------------------------------------------------------------------------ */

/* In the memory of t, which need not be the current one's. 0 or -EFAULT. */
static int word_cmpxchg(struct thread *t, u64 uaddr, u32 expect, u32 want, u32 *old)
{
	struct aspace *as = t->proc->as;
	gpa_t g;
	u32 *p;

	if (as == current->proc->as)
		return user_cmpxchg32((u32 *)uaddr, expect, want, old);
	if (!as || as->emptied || mm_user_page(as, PAGE_DOWN(uaddr), true, &g))
		return -EFAULT;
	p = (u32 *)((char *)frame_ptr(g) + (uaddr & (PAGE_SIZE - 1)));
	*old = expect;
	__atomic_compare_exchange_n(p, old, want, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	return 0;
}

/* The word becomes bits | a part of what it is now. 0 or -EFAULT. */
static int word_set(struct thread *t, u64 uaddr, u32 keep, u32 bits)
{
	u32 val = 0, old;
	int err;

	for (;;) {
		err = word_cmpxchg(t, uaddr, val, (val & keep) | bits, &old);
		if (err || old == val)
			return err;
		val = old;
	}
}

/* --- waiters ------------------------------------------------------------------------- */

static int priority(const struct thread *t)
{
	return t->policy == SCHED_FIFO || t->policy == SCHED_RR ? t->rt_priority : 0;
}

/* The first that waits at the word, in whatever way; NULL: none. */
static struct futex_waiter *first_waiter(const u64 key[2])
{
	list_for_each (it, futex_bucket(key)) {
		struct futex_waiter *w = list_entry(it, struct futex_waiter, node);

		if (futex_same_key(w->key, key))
			return w;
	}
	return NULL;
}

static int best_nice(const struct thread *o)
{
	int best = NICE_NONE;

	list_for_each (it, &o->pi_owned) {
		const struct thread *t = list_entry(it, struct futex_waiter, owned)->thread;

		best = MIN(best, thread_nice(t));
	}
	return best;
}

/* Who waits for o has changed: so may what it, and whom it waits for, inherits. */
static void inherit(struct thread *o)
{
	while (o && o->pi_owned.next) {
		int nice = best_nice(o);

		if (nice == NICE_NONE - o->pi_boost)
			break;
		sched_boost(o, nice);
		o = o->pi_wait ? o->pi_wait->owner : NULL;
	}
}

static void set_owner(struct futex_waiter *w, struct thread *owner)
{
	if (w->owner)
		list_del(&w->owned);
	w->owner = owner;
	if (!owner)
		return;
	if (!owner->pi_owned.next)
		list_init(&owner->pi_owned);
	list_add_tail(&owner->pi_owned, &w->owned);
}

static void queue_waiter(struct futex_waiter *w, struct thread *owner)
{
	struct list *b = futex_bucket(w->key), *before = b;

	list_for_each (it, b) {
		struct futex_waiter *o = list_entry(it, struct futex_waiter, node);

		if (futex_same_key(o->key, w->key) && priority(o->thread) < priority(w->thread)) {
			before = it;
			break;
		}
	}
	futex_claim(w->key);
	list_add_tail(before, &w->node);
	set_owner(w, owner);
	w->thread->pi_wait = w;
	inherit(owner);
}

/* w waits no more: it gave up, or owns the word. */
static void unqueue_waiter(struct futex_waiter *w)
{
	struct thread *owner = w->owner;

	list_del(&w->node);
	futex_unclaim(w->key);
	set_owner(w, NULL);
	w->thread->pi_wait = NULL;
	inherit(owner);
}

/* The word names w's thread already. */
static void pass_to(struct futex_waiter *w)
{
	struct thread *from = w->owner, *to = w->thread;

	unqueue_waiter(w);
	list_for_each (it, futex_bucket(w->key)) {
		struct futex_waiter *o = list_entry(it, struct futex_waiter, node);

		if (o->pi && futex_same_key(o->key, w->key))
			set_owner(o, to);
	}
	inherit(from);
	inherit(to);
	futex_wake_waiter(w);
}

/* --- taking ---------------------------------------------------------------------------- */

/* The thread that the word names; NULL, and why, if there is none that could ever pass it on. */
static struct thread *owner_of(u32 val, int *err)
{
	struct thread *o = thread_by_tid((s32)(val & FUTEX_TID_MASK));

	*err = o && o->kfn ? -EPERM : -ESRCH;
	return o && !o->kfn && !o->pi_gone ? o : NULL;
}

/*
 * One look at the word, for t, at uaddr of the current process. 0: it is t's now. 1: it is *owner's, and marked. -EAGAIN: it
 * changed meanwhile.
 */
static s64 take_once(const u64 key[2], u64 uaddr, struct thread *t, u32 mark, struct thread **owner)
{
	struct futex_waiter *top = first_waiter(key);
	u32 val, old, want;
	int err;

	if (user_load32((u32 *)uaddr, &val))
		return -EFAULT;
	if ((val & FUTEX_TID_MASK) == (u32)t->tid)
		return -EDEADLK;
	*owner = NULL;
	if (top && (!top->pi || (val & FUTEX_TID_MASK) != (u32)top->owner->tid))
		return -EINVAL;
	if (top)
		*owner = top->owner;
	else if (val & FUTEX_TID_MASK)
		*owner = owner_of(val, &err);
	if (!*owner && val & FUTEX_TID_MASK) {
		if (user_load32((u32 *)uaddr, &old))
			return -EFAULT;
		return old == val ? err : -EAGAIN;
	}
	want = *owner ? val | FUTEX_WAITERS : (val & FUTEX_OWNER_DIED) | mark | (u32)t->tid;
	if (user_cmpxchg32((u32 *)uaddr, val, want, &old))
		return -EFAULT;
	return old != val ? -EAGAIN : *owner != NULL;
}

static s64 take(const u64 key[2], u64 uaddr, struct thread *t, u32 mark, struct thread **owner)
{
	s64 r;

	do
		r = take_once(key, uaddr, t, mark, owner);
	while (r == -EAGAIN);
	return r;
}

/* 0: w is woken, or why not: a signal, the deadline. */
static s64 sleep_until_woken(const struct futex_waiter *w, u64 deadline)
{
	s64 r;

	do {
		thread_prepare_sleep(true);
		r = thread_sleep(deadline);
		thread_finish_sleep();
	} while (!r && !w->woken);
	return r;
}

/* Would t wait, by way of others, for itself? */
static bool closes_circle(const struct thread *t, const struct thread *owner)
{
	while (owner != t && owner->pi_wait)
		owner = owner->pi_wait->owner;
	return owner == t;
}

s64 futex_lock_pi(u64 uaddr, u64 deadline, bool private, bool try)
{
	struct futex_waiter w = {
		.pi = true, .thread = current, .uaddr = uaddr, .bits = FUTEX_BITSET_MATCH_ANY};
	struct thread *owner;
	s64 r = futex_table_ready();

	if (!r)
		r = futex_key(uaddr, private, w.key);
	if (!r)
		r = take(w.key, uaddr, current, 0, &owner);
	if (r <= 0)
		return r;
	if (try)
		return -EAGAIN;
	if (closes_circle(current, owner))
		return -EDEADLK;
	queue_waiter(&w, owner);
	r = sleep_until_woken(&w, deadline);
	if (w.woken)
		return 0;
	unqueue_waiter(&w);
	return r == -ERESTARTSYS ? -ERESTARTNOINTR : r;
}

/* --- giving ---------------------------------------------------------------------------- */

s64 futex_unlock_pi(u64 uaddr, bool private)
{
	u32 val, old, me = (u32)current->tid;
	struct futex_waiter *top;
	u64 key[2];
	int err;

	for (;;) {
		if (user_load32((u32 *)uaddr, &val))
			return -EFAULT;
		if ((val & FUTEX_TID_MASK) != me)
			return -EPERM;
		err = futex_table_ready();
		if (!err)
			err = futex_key(uaddr, private, key);
		if (err)
			return err;
		top = first_waiter(key);
		if (top && (!top->pi || top->owner != current))
			return -EINVAL;
		if (user_cmpxchg32((u32 *)uaddr, val, top ? FUTEX_WAITERS | (u32)top->thread->tid : 0, &old))
			return -EFAULT;
		if (old != val)
			continue;
		if (top)
			pass_to(top);
		return 0;
	}
}

/* Of those who wait for the same as w, the one with the best right. */
static struct futex_waiter *best_of(struct futex_waiter *w)
{
	list_for_each (it, futex_bucket(w->key)) {
		struct futex_waiter *o = list_entry(it, struct futex_waiter, node);

		if (o->pi && futex_same_key(o->key, w->key))
			return o;
	}
	return w;
}

void futex_pi_owner_gone(struct thread *t)
{
	while (t->pi_owned.next && !list_empty(&t->pi_owned)) {
		struct futex_waiter *w = best_of(list_first(&t->pi_owned, struct futex_waiter, owned));

		word_set(w->thread, w->uaddr, FUTEX_OWNER_DIED,
			 FUTEX_OWNER_DIED | FUTEX_WAITERS | (u32)w->thread->tid);
		pass_to(w);
	}
}

/* --- conditions -------------------------------------------------------------------------- */

s64 futex_wait_requeue_pi(u64 uaddr, u32 expect, u32 bits, u64 deadline, bool private, u64 uaddr2)
{
	struct futex_waiter w = {.moves = true, .thread = current, .uaddr = uaddr2, .bits = bits};
	u32 val;
	s64 r;

	if (uaddr == uaddr2 || !bits)
		return -EINVAL;
	r = futex_table_ready();
	if (!r)
		r = futex_key(uaddr2, private, w.target);
	if (!r)
		r = futex_key(uaddr, private, w.key);
	if (r)
		return r;
	futex_claim(w.key);
	r = user_load32((u32 *)uaddr, &val);
	if (!r && val != expect)
		r = -EAGAIN;
	if (!r && futex_same_key(w.key, w.target))
		r = -EINVAL;
	if (r) {
		futex_unclaim(w.key);
		return r;
	}
	list_add_tail(futex_bucket(w.key), &w.node);
	r = sleep_until_woken(&w, deadline);
	if (w.woken)
		return 0;
	if (w.pi) {
		unqueue_waiter(&w);
		return r == -ERESTARTSYS ? -EAGAIN
					 : r; /* the condition came true: it cannot be waited for again */
	}
	list_del(&w.node);
	futex_unclaim(w.key);
	return r == -ERESTARTSYS ? -ERESTARTNOINTR : r;
}

/* w goes to the word that it asked for: it owns that, or waits for it. mark: others will come after it. */
static s64 move_waiter(struct futex_waiter *w, u64 uaddr2, u32 mark)
{
	struct thread *owner;
	s64 r = take(w->target, uaddr2, w->thread, mark, &owner);

	if (r < 0)
		return r;
	if (r && closes_circle(w->thread, owner))
		return -EDEADLK;
	list_del(&w->node);
	futex_unclaim(w->key);
	memcpy(w->key, w->target, sizeof(w->key));
	w->pi = true;
	if (r)
		queue_waiter(w, owner);
	else
		futex_wake_waiter(w);
	return 0;
}

s64 futex_cmp_requeue_pi(u64 uaddr, u64 uaddr2, u32 n_wake, u32 n_move, bool private, u32 expect)
{
	u64 k1[2], k2[2], n = 0, max = (u64)n_wake + n_move;
	u32 val;
	s64 r;

	if ((s32)n_wake < 0 || (s32)n_move < 0 || uaddr == uaddr2 || n_wake != 1)
		return -EINVAL;
	r = futex_table_ready();
	if (!r)
		r = futex_key(uaddr, private, k1);
	if (!r)
		r = futex_key(uaddr2, private, k2);
	if (!r && futex_same_key(k1, k2))
		r = -EINVAL;
	if (!r)
		r = user_load32((u32 *)uaddr, &val);
	if (r)
		return r;
	if (val != expect)
		return -EAGAIN;
	list_for_each_safe (it, futex_bucket(k1)) {
		struct futex_waiter *w = list_entry(it, struct futex_waiter, node);

		if (!futex_same_key(w->key, k1))
			continue;
		if (n == max)
			break;
		if (!w->moves || w->pi || !futex_same_key(w->target, k2))
			r = -EINVAL;
		else
			r = move_waiter(w, uaddr2, n_move ? FUTEX_WAITERS : 0);
		if (r)
			return n ? (s64)n : r;
		n++;
	}
	return (s64)n;
}
