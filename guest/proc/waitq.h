/* SPDX-License-Identifier: ISC */
/*
 * Wait queues: who sleeps for what. A waiter is a callback on a list; a
 * sleeping thread is the common kind, epoll is another.
 */
#ifndef COWBELL_GUEST_WAITQ_H
#define COWBELL_GUEST_WAITQ_H

#include "guest/base.h"

struct thread;
struct waiter;

struct waitq {
	struct list waiters;
};

/* Called by waitq_wake with the event mask (POLLIN...; 0 = any). Returns true if it
 * consumed an exclusive wake-up. Must not sleep; may remove its own waiter. */
typedef bool waiter_fn(struct waiter *w, u32 events);

struct waiter {
	struct list node;
	waiter_fn *fn;
	struct thread *thread;
	struct waitq *wq;
	bool exclusive;
};

void waitq_init(struct waitq *q);
void waitq_add(struct waitq *q, struct waiter *w);
void waitq_remove(struct waiter *w); /* harmless if not queued */
void waitq_detach(struct waitq *q); /* the queue goes away: its waiters are queued nowhere, nobody is woken */
/* Wake all non-exclusive waiters and at most `max_exclusive` exclusive ones. */
void waitq_wake_n(struct waitq *q, u32 events, unsigned max_exclusive);
static inline void waitq_wake(struct waitq *q, u32 events)
{
	waitq_wake_n(q, events, 1);
}
static inline void waitq_wake_all(struct waitq *q, u32 events)
{
	waitq_wake_n(q, events, ~0u);
}

/* The waiter_fn of a sleeping thread: makes w->thread runnable. */
bool waiter_wake_thread(struct waiter *w, u32 events);

/*
 * Sleep until schedule() is woken. State first, then check the condition, then sleep:
 *   thread_prepare_sleep(interruptible); if (!cond) r = thread_sleep(deadline); thread_finish_sleep();
 * thread_sleep: 0 woken, -ETIMEDOUT, -ERESTARTSYS (a signal is pending and interruptible).
 */
void thread_prepare_sleep(bool interruptible);
void thread_prepare_sleep_killable(void); /* only a signal that ends the process interrupts */
int thread_sleep(u64 deadline_mono_ns);
void thread_finish_sleep(void);
void thread_wake(struct thread *t); /* make runnable if sleeping */

/* Evaluates to 0 when cond became true, -ETIMEDOUT or -ERESTARTSYS. */
#define wait_event(wq_, cond_, deadline_, interruptible_)                                                    \
	wait_event_prepared(wq_, cond_, deadline_, thread_prepare_sleep(interruptible_))
/* The same, killable and without an end. */
#define wait_event_killable(wq_, cond_)                                                                      \
	wait_event_prepared(wq_, cond_, NO_DEADLINE, thread_prepare_sleep_killable())

#define wait_event_prepared(wq_, cond_, deadline_, prepare_)                                                 \
	({                                                                                                   \
		struct waiter w_ = {.fn = waiter_wake_thread, .thread = current};                            \
		int r_ = 0;                                                                                  \
		list_init(&w_.node);                                                                         \
		waitq_add((wq_), &w_);                                                                       \
		for (;;) {                                                                                   \
			prepare_;                                                                            \
			if (cond_)                                                                           \
				break;                                                                       \
			r_ = thread_sleep(deadline_);                                                        \
			if (r_) {                                                                            \
				if (cond_)                                                                   \
					r_ = 0;                                                              \
				break;                                                                       \
			}                                                                                    \
		}                                                                                            \
		thread_finish_sleep();                                                                       \
		waitq_remove(&w_);                                                                           \
		r_;                                                                                          \
	})

/* --- kernel timers (proc/timer.c): callbacks in library OS context, must not sleep --- */
struct ktimer {
	void *node[4]; /* timer.c's business */
	u64 deadline_ns;
	void (*fn)(struct ktimer *t);
	bool armed;
};
void ktimer_init(struct ktimer *t, void (*fn)(struct ktimer *));
void ktimer_arm(struct ktimer *t, u64 deadline_mono_ns); /* re-arms if armed */
void ktimer_cancel(struct ktimer *t);
u64 ktimer_next(void); /* earliest deadline or NO_DEADLINE */
void ktimers_run(void); /* run what is due; called by the scheduler and on ticks */

#endif
