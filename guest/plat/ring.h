/* SPDX-License-Identifier: ISC */
/*
 * The guest's end of the ring: requests with a completion callback, or a call
 * that sleeps until it is done.
 *
 * Requests are queued; the monitor sees them at the next doorbell. The
 * scheduler rings it (with wait) when nothing is runnable, and ring_flush()
 * rings it at once. Completions run their callback from ring_poll(), which
 * runs after each doorbell, in library OS context: callbacks must not sleep.
 */
#ifndef COWBELL_GUEST_RING_H
#define COWBELL_GUEST_RING_H

#include "abi/ring.h"
#include "guest/base.h"

struct ring_req;
typedef void ring_done_fn(struct ring_req *req, const struct ring_cqe *cqe);

/* Embedded in the owner; must live until its last completion (no RING_CQE_MORE). */
struct ring_req {
	ring_done_fn *done;
	struct list node; /* overflow queue when the ring is full */
	struct ring_sqe sqe; /* filled by the caller but for user_data */
	bool queued, active;
};

void ring_init(void);
/* Queue `req`; never fails, never sleeps. */
void ring_submit(struct ring_req *req);
/* Ask the monitor to end `req`; its completion (-ECANCELED or a real result) still comes. */
void ring_cancel(struct ring_req *req);
/* Submit and sleep until complete, not interruptible. Returns res; *val and *val2 if wanted. */
s64 ring_call(struct ring_sqe *sqe, u64 *val, u64 *val2);
/* Ring the doorbell now without waiting, and run completions. */
void ring_flush(void);
/* Nothing runnable: doorbell with wait until `deadline_ns` (NO_DEADLINE = for ever), then completions. */
void ring_wait(u64 deadline_ns);
/* The same for an idle CPU 0 of several. */
void ring_idle(u64 deadline_ns);
/* Are there submissions that the monitor has not seen, deferred work, or answers that were set aside? */
bool ring_pending(void);

/* Somebody polls for what only the monitor knows: the poller's next net_turn() asks without delay. */
void ring_hurry(void);
bool ring_hurried(void); /* since the last doorbell, or an answer has come and was not looked at */

/*
 * Work that is best turned into submissions as late as possible (net/ gathers
 * small sends): `run` is called once, just before the next doorbell of any
 * kind, and may submit. Queueing it again while it is queued is harmless.
 */
struct ring_deferred {
	struct list node; /* list_init()ed by the owner */
	void (*run)(struct ring_deferred *d);
};
void ring_defer(struct ring_deferred *d);
/* Synchronous, for contexts that must not sleep (fault on a volume page, panic): spins doorbells. */
s64 ring_call_nosleep(struct ring_sqe *sqe, u64 *val, u64 *val2);
/* Everything submitted was taken, everything completed was looked at: nothing but what the monitor keeps is on its way. */
bool ring_quiet(void);
/* RING_EV_SNAPSHOT again, at the next chance. */
void ring_freeze_later(void);
/* Unasked events: implemented in proc/signal.c. */
void proc_ring_event(u64 event, u64 detail);

/*
 * Bounce buffer: contiguous in gpa, for data on its way to or from the monitor.
 * n <= RING_MAX_IO. ring_buf_gpa(p) of kmalloc'ed or frame memory: any pointer into the direct map.
 */
gpa_t ring_buf_gpa(const void *p);

#endif
