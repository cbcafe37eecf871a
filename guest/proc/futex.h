/* SPDX-License-Identifier: ISC */
/* What futex.c and futex_pi.c share. */
#ifndef COWBELL_GUEST_PROC_FUTEX_H
#define COWBELL_GUEST_PROC_FUTEX_H

#include "guest/proc/internal.h"

/* Who waits, on its kernel stack and in the bucket of its key. A woken one is in no bucket. */
struct futex_waiter {
	struct list node;
	u64 key[2];
	u32 bits;
	u32 index; /* futex_waitv: which of them */
	struct thread *thread;
	bool woken;
	/* priority inheritance: futex_pi.c */
	bool pi; /* waits to own the word; woken: it does */
	bool moves; /* FUTEX_WAIT_REQUEUE_PI: waits to be moved to `target`, and is `pi` then */
	u64 target[2];
	u64 uaddr; /* the word that it wants to own, as its own process sees it */
	struct thread *owner; /* of that word; all that wait for it say the same */
	struct list owned; /* in owner->pi_owned */
};

int futex_table_ready(void);
struct list *futex_bucket(const u64 key[2]);
int futex_key(u64 uaddr, bool private, u64 key[2]);
/* There may be a waiter in the bucket: from before its word is read until it is gone. */
void futex_claim(const u64 key[2]);
void futex_unclaim(const u64 key[2]);
void futex_wake_waiter(struct futex_waiter *w);

/* futex_pi.c: deadlines on the monotonic clock. */
s64 futex_lock_pi(u64 uaddr, u64 deadline, bool private, bool try);
s64 futex_unlock_pi(u64 uaddr, bool private);
s64 futex_wait_requeue_pi(u64 uaddr, u32 expect, u32 bits, u64 deadline, bool private, u64 uaddr2);
s64 futex_cmp_requeue_pi(u64 uaddr, u64 uaddr2, u32 n_wake, u32 n_move, bool private, u32 expect);
/* t ends, or its memory goes: what it owned, and others wait for, is theirs. */
void futex_pi_owner_gone(struct thread *t);

static inline bool futex_same_key(const u64 a[2], const u64 b[2])
{
	return a[0] == b[0] && a[1] == b[1];
}

#endif
