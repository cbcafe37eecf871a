/* SPDX-License-Identifier: ISC */
/*
 * Signals: who has which one pending, who is to take it, what happens then.
 *
 * A signal for a thread waits in thread.pending, one for a process in
 * process.pending; both are a set of bits and a queue of siginfo. A bit
 * without a queue entry is a signal whose details did not fit: it is still
 * delivered. Standard signals are queued once, realtime ones each time.
 *
 * thread.signal_pending tells the way out (return_to_user_work) and every
 * interruptible sleep that there is something to look at. It may be true for
 * nothing, it is never false while a deliverable signal waits for this thread.
 * For a process signal one thread that does not block it is chosen; when that
 * one blocks it or ends first, signal_retarget() chooses again.
 *
 * The way out handles one signal after the other: a handler's frame is pushed
 * (sigframe.c) and the next one on top of it, as Linux does.
 */
#include <asm/poll.h>

#include <linux/signal.h>

#include "abi/boot.h"
#include "abi/ring.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/plat/ring.h"
#include "guest/proc/internal.h"
#include "guest/proc/smp.h"
#include "guest/proc/tty.h"

#define STOP_SIGNALS	   (SIGBIT(SIGSTOP) | SIGBIT(SIGTSTP) | SIGBIT(SIGTTIN) | SIGBIT(SIGTTOU))
#define IGNORED_BY_DEFAULT (SIGBIT(SIGCHLD) | SIGBIT(SIGURG) | SIGBIT(SIGWINCH) | SIGBIT(SIGCONT))
#define SYNCHRONOUS                                                                                          \
	(SIGBIT(SIGSEGV) | SIGBIT(SIGBUS) | SIGBIT(SIGILL) | SIGBIT(SIGTRAP) | SIGBIT(SIGFPE) |              \
	 SIGBIT(SIGSYS))
#define MAX_QUEUED 65536 /* of all processes; each has RLIMIT_SIGPENDING besides */

static u32 n_queued;

void sigpending_init(struct sigpending *p)
{
	p->set = 0;
	list_init(&p->queue);
}

static void drop_entry(struct sigqueue *q)
{
	list_del(&q->node);
	q->proc->n_sigqueued--;
	kfree(q);
	n_queued--;
}

void signal_flush(struct sigpending *p, sigmask_t which)
{
	p->set &= ~which;
	list_for_each_safe (it, &p->queue) {
		struct sigqueue *q = list_entry(it, struct sigqueue, node);

		if (which & SIGBIT(q->info.si_signo))
			drop_entry(q);
	}
}

/* --- who takes it ------------------------------------------------------------------- */

void signal_recalc(struct thread *t)
{
	sigmask_t set = t->pending.set;

	if (!list_empty(&t->process_node))
		set |= t->proc->pending.set;
	t->signal_pending = t->exiting || (set & ~t->blocked) || (t->proc->stop_sig && !t->kfn);
}

bool signal_is_fatal(struct thread *t)
{
	struct process *p = t->proc;
	sigmask_t set =
		(t->pending.set | p->pending.set) & ~t->blocked & ~(IGNORED_BY_DEFAULT | STOP_SIGNALS);

	for (; set; set &= set - 1)
		if (p->action[__builtin_ctzll(set) + 1].handler == SIG_DFL)
			return true;
	return t->exiting;
}

bool signal_is_pending(void)
{
	if (current->signal_pending)
		signal_recalc(current);
	return current->signal_pending;
}

void signal_kick(struct thread *t)
{
	t->signal_pending = true;
	if (t->state == THREAD_SLEEPING_INTR || (t->state == THREAD_SLEEPING_KILL && signal_is_fatal(t)) ||
	    (t->stopped && (t->exiting || !t->proc->stop_sig)))
		thread_wake(t);
	smp_poke_thread(t);
}

/* Choose a thread for what the process has pending: the current one, the first, any. */
static void notify_process(struct process *p, sigmask_t set)
{
	struct thread *chosen = NULL;

	if (current->proc == p && !list_empty(&current->process_node) && (set & ~current->blocked)) {
		signal_kick(current);
		return;
	}
	list_for_each (it, &p->threads) {
		struct thread *t = list_entry(it, struct thread, process_node);

		if (!(set & ~t->blocked) || t->exiting)
			continue;
		if (!chosen || (chosen->signal_pending && !t->signal_pending))
			chosen = t;
	}
	if (chosen)
		signal_kick(chosen);
}

void signal_retarget(struct process *p)
{
	if (p->pending.set)
		notify_process(p, p->pending.set);
}

void signal_set_blocked(sigmask_t m)
{
	struct thread *t = current;
	sigmask_t newly = m & ~t->blocked & t->proc->pending.set;

	t->blocked = m & ~SIG_KERNEL_ONLY;
	signal_recalc(t);
	if (newly)
		notify_process(t->proc, newly);
}

int signal_user_mask(const void *uset, u64 size)
{
	sigmask_t m;

	if (!uset)
		return 0;
	if (size != sizeof(m))
		return -EINVAL;
	if (get_user(m, uset))
		return -EFAULT;
	current->saved_mask = current->blocked;
	current->restore_mask = true;
	signal_set_blocked(m);
	return 0;
}

void signal_user_mask_restore(bool interrupted)
{
	struct thread *t = current;

	if (!t->restore_mask)
		return;
	if (interrupted && signal_is_pending())
		return; /* the way out restores it, after the handler saw the wait's own mask */
	t->restore_mask = false;
	signal_set_blocked(t->saved_mask);
}

/* --- sending --------------------------------------------------------------------------- */

bool signal_ignored(struct process *p, int sig)
{
	void *h = p->action[sig].handler;

	return h == SIG_IGN || (h == SIG_DFL && (SIGBIT(sig) & IGNORED_BY_DEFAULT));
}

/* A stop signal and SIGCONT cancel one another; SIGCONT continues even where it is blocked or ignored. */
static void cancel_opposite(struct process *p, int sig)
{
	sigmask_t gone = 0;

	if (sig == SIGCONT || sig == SIGKILL)
		job_continue(p, sig == SIGCONT);

	if (sig == SIGCONT)
		gone = STOP_SIGNALS;
	else if (SIGBIT(sig) & STOP_SIGNALS)
		gone = SIGBIT(SIGCONT);
	if (!gone)
		return;
	signal_flush(&p->pending, gone);
	list_for_each (it, &p->threads)
		signal_flush(&list_entry(it, struct thread, process_node)->pending, gone);
}

/* Put it into the set and, if it fits, into the queue. -EAGAIN: a realtime signal's details are lost. */
static int enqueue(struct process *p, struct sigpending *pend, int sig, const siginfo_t *info)
{
	struct sigqueue *q = NULL;

	if (sig < SIGRTMIN && (pend->set & SIGBIT(sig)))
		return 0;
	if (!info) {
		pend->set |= SIGBIT(sig);
		return 0;
	}
	if (n_queued < MAX_QUEUED && p->n_sigqueued < p->rlim[RLIMIT_SIGPENDING].rlim_cur)
		q = kmalloc(sizeof(*q));
	if (!q) {
		if (sig >= SIGRTMIN && info->si_code != SI_USER)
			return -EAGAIN;
		pend->set |= SIGBIT(sig);
		return 0;
	}
	n_queued++;
	p->n_sigqueued++;
	q->proc = p;
	q->info = *info;
	q->info.si_signo = sig;
	list_add_tail(&pend->queue, &q->node);
	pend->set |= SIGBIT(sig);
	return 0;
}

int signal_thread(struct thread *t, int sig, const siginfo_t *info)
{
	struct process *p = t->proc;
	int err;

	if (sig < 1 || sig > N_SIGNALS)
		return -EINVAL;
	cancel_opposite(p, sig);
	if (signal_ignored(p, sig) && !((t->blocked | t->real_blocked) & SIGBIT(sig)))
		return 0;
	err = enqueue(p, &t->pending, sig, info);
	if (err)
		return err;
	if (!(t->blocked & SIGBIT(sig)))
		signal_kick(t);
	waitq_wake_all(&p->signal_wait, POLLIN);
	return 0;
}

/* Is it blocked everywhere, so that an ignored signal must still be kept for sigwait? */
static bool blocked_somewhere(struct process *p, int sig)
{
	list_for_each (it, &p->threads) {
		struct thread *t = list_entry(it, struct thread, process_node);

		if ((t->blocked | t->real_blocked) & SIGBIT(sig))
			return true;
	}
	return false;
}

int signal_process(struct process *p, int sig, const siginfo_t *info)
{
	int err;

	if (sig < 1 || sig > N_SIGNALS)
		return -EINVAL;
	if (p->zombie)
		return 0;
	cancel_opposite(p, sig);
	if (signal_ignored(p, sig) && !blocked_somewhere(p, sig))
		return 0;
	err = enqueue(p, &p->pending, sig, info);
	if (err)
		return err;
	notify_process(p, SIGBIT(sig));
	waitq_wake_all(&p->signal_wait, POLLIN);
	return 0;
}

int signal_pgrp(s32 pgid, int sig, const siginfo_t *info)
{
	int res = -ESRCH;

	list_for_each_safe (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);

		if (p->pgid != pgid)
			continue;
		res = sig ? signal_process(p, sig, info) : 0;
	}
	return res;
}

void signal_force(int sig, int code, u64 addr)
{
	struct thread *t = current;
	struct ksigaction *ka = &t->proc->action[sig];
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = sig;
	info.si_code = code;
	info.si_addr = (void *)addr;
	if (sig == SIGSEGV && code == SEGV_BNDERR)
		info.si_code = SEGV_MAPERR;
	if (ka->handler == SIG_IGN || (t->blocked & SIGBIT(sig)))
		ka->handler = SIG_DFL; /* it cannot be put off: the instruction would only fault again */
	t->blocked &= ~SIGBIT(sig);
	enqueue(t->proc, &t->pending, sig, &info);
	t->signal_pending = true;
}

/* --- events from outside ---------------------------------------------------------------- */

/* The terminal that the host's streams are, if the program's session has it. */
static struct tty *host_tty(void)
{
	return tty_by_session(init_process->sid);
}

/*
 * The monitor received a signal. What the host's terminal made of a key goes where a terminal sends it; all
 * else goes to the program, as to the first process of a container. To be continued is meant for whoever is
 * in front, too: the host's shell knows only one job.
 */
static void host_signal(int sig, bool typed)
{
	siginfo_t info = {.si_code = SI_USER}; /* somebody outside: uid and pid 0 */
	struct tty *t = host_tty();

	if (typed && t && t->pgrp && sig != SIGHUP) {
		tty_signal(t, sig);
		return;
	}
	if (sig == SIGCONT && t && t->pgrp && t->pgrp != init_process->pgid)
		tty_signal(t, SIGCONT);
	if (sig == SIGCONT && init_process->n_threads)
		signal_pgrp(init_process->pgid, sig, &info);
	else
		signal_process(init_process, sig, &info);
}

void proc_ring_event(u64 event, u64 detail)
{
	u64 sig = detail & ~(u64)RING_SIGNAL_TYPED;

	switch (event) {
	case RING_EV_SIGNAL:
		if (sig >= 1 && sig <= N_SIGNALS)
			host_signal((int)sig, detail & RING_SIGNAL_TYPED);
		break;
	case RING_EV_WINCH:
		host_signal(SIGWINCH, true);
		break;
	case RING_EV_RESTORED: /* who cares reads /proc/cowbell/generation; others ignore it by default */
		signal_process(init_process, SIGCONT, NULL);
		break;
	default:
		break;
	}
}

/* --- taking -------------------------------------------------------------------------------- */

/* Details of the first queued entry of sig; the bit goes with the last entry. */
static void take(struct sigpending *pend, int sig, siginfo_t *info)
{
	struct sigqueue *found = NULL;
	bool more = false;

	list_for_each (it, &pend->queue) {
		struct sigqueue *q = list_entry(it, struct sigqueue, node);

		if (q->info.si_signo != sig)
			continue;
		if (found) {
			more = true;
			break;
		}
		found = q;
	}
	if (!more)
		pend->set &= ~SIGBIT(sig);
	if (found) {
		*info = found->info;
		drop_entry(found);
		return;
	}
	memset(info, 0, sizeof(*info));
	info->si_signo = sig;
	info->si_code = SI_KERNEL;
}

/* Faults first, then by number. */
static int first_signal(sigmask_t set)
{
	if (set & SYNCHRONOUS)
		set &= SYNCHRONOUS;
	return set ? __builtin_ctzll(set) + 1 : 0;
}

int signal_dequeue(sigmask_t wanted, siginfo_t *info)
{
	struct thread *t = current;
	int sig = first_signal(t->pending.set & wanted);

	if (sig) {
		take(&t->pending, sig, info);
	} else {
		sig = first_signal(t->proc->pending.set & wanted);
		if (!sig)
			return 0;
		take(&t->proc->pending, sig, info);
	}
	if (info->si_code == SI_TIMER)
		posix_timer_taken(info);
	signal_recalc(t);
	return sig;
}

/* Handlers do not survive exec; what was ignored stays ignored. */
void signal_exec_reset(struct process *p)
{
	for (int sig = 1; sig <= N_SIGNALS; sig++) {
		struct ksigaction *ka = &p->action[sig];

		*ka = (struct ksigaction){.handler = ka->handler == SIG_IGN ? SIG_IGN : SIG_DFL};
	}
	current->altstack = (stack_t){.ss_flags = SS_DISABLE};
}

/* --- delivery --------------------------------------------------------------------------------- */

/* The action for a signal without a handler. */
static void default_action(int sig, const siginfo_t *info)
{
	sigmask_t bit = SIGBIT(sig);

	if (bit & IGNORED_BY_DEFAULT)
		return;
	if (bit & STOP_SIGNALS) {
		job_stop(sig, info);
		return;
	}
	process_exit(sig);
}

/* How an interrupted system call ends when a handler runs. */
static void restart_with_handler(struct regs *r, const struct ksigaction *ka)
{
	switch (-(s64)r->rax) {
	case ERESTARTSYS:
	case ERESTARTNOINTR:
		if ((-(s64)r->rax == ERESTARTNOINTR || ka->flags & SA_RESTART) && sigframe_restartable(r)) {
			r->rax = r->orig_rax;
			r->rip -= 2;
			break;
		}
		/* fall through */
	case ERESTARTNOHAND:
	case ERESTART_RESTARTBLOCK:
		r->rax = (u64)-EINTR;
		break;
	default:
		break;
	}
}

static bool is_restart(const struct regs *r)
{
	return (s64)r->orig_rax >= 0 && r->rax + ERESTART_RESTARTBLOCK <= ERESTART_RESTARTBLOCK - ERESTARTSYS;
}

static void run_handler(struct regs *r, int sig, const siginfo_t *info)
{
	struct thread *t = current;
	struct ksigaction *slot = &t->proc->action[sig], ka = *slot;
	sigmask_t old = t->restore_mask ? t->saved_mask : t->blocked;

	if (ka.flags & SA_RESETHAND)
		slot->handler = SIG_DFL;
	if (is_restart(r))
		restart_with_handler(r, &ka);
	r->orig_rax = ~0ull; /* no restart for the signals on top of this one */
	t->restore_mask = false;
	if (!sigframe_push(r, sig, info, &ka, old)) {
		/* No room for the frame: SIGSEGV, which kills if it was one already. */
		if (sig == SIGSEGV)
			t->proc->action[SIGSEGV].handler = SIG_DFL;
		t->blocked = old;
		signal_force(SIGSEGV, SI_KERNEL, 0);
		return;
	}
	signal_set_blocked(t->blocked | ka.mask | (ka.flags & SA_NODEFER ? 0 : SIGBIT(sig)));
}

/* One signal. False: there was none. */
static bool deliver_one(struct regs *r)
{
	struct thread *t = current;
	siginfo_t info;
	int sig = signal_dequeue(~t->blocked, &info);
	void *h;

	if (!sig)
		return false;
	strace_signal(sig, &info);
	h = t->proc->action[sig].handler;
	if (h == SIG_IGN)
		return true;
	if (h == SIG_DFL)
		default_action(sig, &info);
	else
		run_handler(r, sig, &info);
	return true;
}

static void deliver_signals(struct regs *r)
{
	struct thread *t = current;

	while (!t->exiting) {
		if (t->proc->stop_sig)
			job_stop_here();
		else if (!deliver_one(r))
			break;
	}
	if (t->exiting) {
		if (t->proc->group_exit)
			process_exit(t->proc->exit_status);
		thread_exit();
	}
	if (t->restore_mask) {
		t->restore_mask = false;
		signal_set_blocked(t->saved_mask);
	}
	signal_recalc(t);
	if (is_restart(r)) {
		/* No handler ran: do the call again, from here. */
		if (-(s64)r->rax == ERESTART_RESTARTBLOCK)
			r->orig_rax = 219; /* restart_syscall */
		r->rax = r->orig_rax;
		syscall_dispatch(r);
	}
}

void return_to_user_work(struct regs *r)
{
	struct thread *t = current;

	for (;;) {
		struct cpu *c = this_cpu(); /* another one after each sleep */

		if (c->shared->kick)
			sched_tick();
		if (t->signal_pending)
			deliver_signals(r);
		else if (c->need_resched)
			sched_preempt();
		else
			return;
	}
}
