/* SPDX-License-Identifier: ISC */
/*
 * The guest's end of the ring.
 *
 * A request goes: ring_submit() -> submission ring (or `overflow` while that is
 * full) -> doorbell -> completion ring -> its callback. user_data is the
 * request's address; the monitor is trusted by the guest, so it is believed.
 *
 * Three ways to ring the doorbell, all through doorbell():
 *   ring_wait    the scheduler, when nothing is runnable: the monitor may sleep
 *   ring_flush   now, without sleeping
 *   call_nosleep sleeps in the monitor until its own request is done; foreign
 *                completions that arrive meanwhile are put on `stash` and run
 *                later, because the caller may be in the midst of anything
 *                (a page fault inside copy_out)
 *
 * Before each doorbell the deferred callbacks run (they may submit), but not
 * for call_nosleep, for the same reason.
 */
#include "guest/plat/ring.h"

#include <asm-generic/errno.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/plat/plat.h"
#include "guest/proc/smp.h"

#define PENDING_TICK_NS 1000000ull

static struct ring_page *ring;
static u32 sq_tail, cq_head; /* ours */
static struct list overflow = LIST_INIT(overflow);
static struct list deferred = LIST_INIT(deferred);
static bool hurried;
static bool running; /* ring_poll() is on the stack */
static bool freeze_wanted; /* RING_EV_SNAPSHOT came */

/* Completions taken off the ring but not run yet: [stash_head, stash_tail). */
static struct ring_cqe *stash;
static u32 stash_head, stash_tail, stash_size;

void ring_init(void)
{
	ring = (struct ring_page *)boot->ring_va;
	sq_tail = __atomic_load_n(&ring->ctl.sq_head, __ATOMIC_ACQUIRE);
	cq_head = __atomic_load_n(&ring->ctl.cq_tail, __ATOMIC_ACQUIRE);
	ring->ctl.sq_tail = sq_tail;
	ring->ctl.cq_head = cq_head;
}

gpa_t ring_buf_gpa(const void *p)
{
	return frame_gpa(p);
}

/* --- submissions ------------------------------------------------------------ */

static bool sq_put(struct ring_req *req)
{
	u32 used = sq_tail - __atomic_load_n(&ring->ctl.sq_head, __ATOMIC_ACQUIRE);

	if (used >= RING_ENTRIES) {
		if (used > RING_ENTRIES) /* somebody else wrote to our ring: it will never have room */
			panic("the library OS's ring is damaged: submissions");
		return false;
	}
	ring->sq[sq_tail % RING_ENTRIES] = req->sqe;
	sq_tail++;
	__atomic_store_n(&ring->ctl.sq_tail, sq_tail, __ATOMIC_RELEASE);
	req->queued = false;
	return true;
}

/* A program that computes on and never sleeps: a tick will ring the doorbell for what it left here. */
static void want_tick(void)
{
	struct boot_vcpu *v = this_cpu()->shared;

	if (unlikely(v && !v->want_tick)) {
		v->tick_ns = PENDING_TICK_NS;
		v->want_tick = 1;
	}
}

void ring_submit(struct ring_req *req)
{
	ASSERT(!req->active);
	want_tick();
	req->active = true;
	req->sqe.user_data = (u64)req;
	list_init(&req->node);
	if (!list_empty(&overflow) || !sq_put(req)) {
		req->queued = true;
		list_add_tail(&overflow, &req->node);
	}
}

static void submit_overflow(void)
{
	while (!list_empty(&overflow)) {
		struct ring_req *req = list_first(&overflow, struct ring_req, node);

		if (!sq_put(req))
			return;
		list_del(&req->node);
	}
}

void ring_defer(struct ring_deferred *d)
{
	want_tick();
	if (list_empty(&d->node))
		list_add_tail(&deferred, &d->node);
}

static void run_deferred(void)
{
	while (!list_empty(&deferred)) {
		struct ring_deferred *d = list_first(&deferred, struct ring_deferred, node);

		list_del(&d->node);
		d->run(d);
	}
}

/* Answers that somebody who may not sleep has set aside. That may have been any CPU, while CPU 0 sleeps on in the ring. */
static bool stashed(void)
{
	return stash_head != stash_tail;
}

static bool sq_unseen(void)
{
	return sq_tail != __atomic_load_n(&ring->ctl.sq_head, __ATOMIC_RELAXED) || !list_empty(&overflow);
}

bool ring_pending(void)
{
	return sq_unseen() || !list_empty(&deferred) || stashed();
}

void ring_hurry(void)
{
	hurried = true;
}

/* --- completions -------------------------------------------------------------- */

static bool cq_take(struct ring_cqe *c)
{
	u32 there = __atomic_load_n(&ring->ctl.cq_tail, __ATOMIC_ACQUIRE) - cq_head;

	if (!there)
		return false;
	if (there > RING_ENTRIES)
		panic("the library OS's ring is damaged: completions");
	*c = ring->cq[cq_head % RING_ENTRIES];
	cq_head++;
	__atomic_store_n(&ring->ctl.cq_head, cq_head, __ATOMIC_RELEASE);
	return true;
}

static bool cqe_next(struct ring_cqe *c)
{
	if (stashed()) {
		*c = stash[stash_head++];
		if (stash_head == stash_tail)
			stash_head = stash_tail = 0;
		return true;
	}
	return cq_take(c);
}

static void stash_put(const struct ring_cqe *c)
{
	if (stash_tail == stash_size) {
		u32 size = stash_size ? stash_size * 2 : 64;
		struct ring_cqe *n = krealloc(stash, size * sizeof(*n));

		if (!n)
			panic("ring: out of memory for completions");
		stash = n;
		stash_size = size;
	}
	stash[stash_tail++] = *c;
}

static void cqe_run(const struct ring_cqe *c)
{
	struct ring_req *req = (struct ring_req *)c->user_data;

	if (c->user_data == RING_UD_EVENT && c->val == RING_EV_SNAPSHOT) {
		freeze_wanted = true;
		return;
	}
	if (c->user_data == RING_UD_EVENT) {
		proc_ring_event(c->val, c->val2);
		return;
	}
	if (!(c->flags & RING_CQE_MORE))
		req->active = false; /* done() may submit it again, or free it */
	req->done(req, c);
}

static void run_completions(void)
{
	struct ring_cqe c;

	if (running)
		return; /* a callback flushed: the loop below goes on with what came */
	running = true;
	while (cqe_next(&c))
		cqe_run(&c);
	running = false;
}

static bool cqe_waiting(void)
{
	return stashed() || cq_head != __atomic_load_n(&ring->ctl.cq_tail, __ATOMIC_ACQUIRE);
}

bool ring_hurried(void)
{
	return hurried || cqe_waiting();
}

/* --- doorbells -------------------------------------------------------------------- */

static void doorbell(bool wait, u64 deadline_ns)
{
	submit_overflow();
	hurried = false;
	stats->doorbells++;
	if (smp() && this_cpu()->id) { /* CPU 0 may be waiting there: what it asked for stays */
		plat->cpu_call(BOOT_CALL_RING, wait);
		return;
	}
	/* what found no room needs another doorbell soon: do not sleep on it */
	ring->ctl.wait = wait && list_empty(&overflow);
	ring->ctl.wait_until_ns = deadline_ns;
	plat->doorbell();
}

/*
 * After completions ran, which may have been in any sleep or on any way out of a system call: all
 * that the library OS does there it may also find done by a long doorbell, and a snapshot is no more than that.
 */
static void freeze_if_wanted(void)
{
	if (unlikely(freeze_wanted) && !running) {
		if (!smp_rest())
			return; /* CPU 0 will */
		freeze_wanted = false;
		snapshot_freeze();
		smp_go_on();
	}
}

void ring_flush(void)
{
	run_deferred();
	do {
		doorbell(false, 0);
		run_completions();
	} while (!list_empty(&overflow));
	freeze_if_wanted();
}

bool ring_quiet(void)
{
	return sq_tail == __atomic_load_n(&ring->ctl.sq_head, __ATOMIC_ACQUIRE) && list_empty(&overflow) &&
	       list_empty(&deferred) && !cqe_waiting();
}

void ring_freeze_later(void)
{
	freeze_wanted = true;
	want_tick();
}

void ring_wait(u64 deadline_ns)
{
	run_deferred();
	if (!cqe_waiting())
		doorbell(true, deadline_ns);
	run_completions();
	freeze_if_wanted();
}

/* ring_wait() of CPU 0 when others may run: they have the library OS while it waits. */
void ring_idle(u64 deadline_ns)
{
	run_deferred();
	if (!cqe_waiting()) {
		submit_overflow();
		ring->ctl.wait = list_empty(&overflow);
		ring->ctl.wait_until_ns = deadline_ns;
		hurried = false;
		stats->doorbells++;
		smp_unlock();
		plat->doorbell();
		smp_lock();
	}
	run_completions();
	freeze_if_wanted();
}

/* --- cancel -------------------------------------------------------------------------- */

static void cancel_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	kfree(req);
}

void ring_cancel(struct ring_req *req)
{
	struct ring_req *c;

	if (!req->active)
		return;
	if (req->queued) { /* the monitor has not seen it: it completes here, but not under the caller */
		struct ring_cqe e = {.user_data = (u64)req, .res = -ECANCELED};

		list_del(&req->node);
		req->queued = false;
		stash_put(&e);
		return;
	}
	c = kzalloc(sizeof(*c));
	if (!c)
		return; /* it stays until it completes by itself */
	c->done = cancel_done;
	c->sqe = (struct ring_sqe){
		.op = RING_OP_CANCEL, .flags = RING_SQE_QUIET, .handle = req->sqe.handle, .off = (u64)req};
	ring_submit(c);
}

/* --- calls ------------------------------------------------------------------------------ */

struct call {
	struct ring_req req;
	struct waitq wq;
	struct ring_cqe cqe;
	bool done;
};

static void call_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct call *c = container_of(req, struct call, req);

	c->cqe = *cqe;
	c->done = true;
	waitq_wake_all(&c->wq, 0);
}

static s64 call_result(const struct call *c, u64 *val, u64 *val2)
{
	if (val)
		*val = c->cqe.val;
	if (val2)
		*val2 = c->cqe.val2;
	return c->cqe.res;
}

s64 ring_call(struct ring_sqe *sqe, u64 *val, u64 *val2)
{
	struct call c = {.req = {.done = call_done, .sqe = *sqe}};

	if (!current || current == this_cpu()->idle)
		return ring_call_nosleep(sqe, val, val2);
	waitq_init(&c.wq);
	ring_submit(&c.req);
	wait_event(&c.wq, c.done, NO_DEADLINE, false);
	return call_result(&c, val, val2);
}

s64 ring_call_nosleep(struct ring_sqe *sqe, u64 *val, u64 *val2)
{
	struct call c = {.req = {.done = call_done, .sqe = *sqe}};
	struct ring_cqe e;

	ring_submit(&c.req);
	while (!c.done) {
		doorbell(true, NO_DEADLINE);
		while (cq_take(&e)) {
			if (e.user_data == (u64)&c.req) {
				c.cqe = e;
				c.done = true;
			} else {
				stash_put(&e);
			}
		}
	}
	return call_result(&c, val, val2);
}
