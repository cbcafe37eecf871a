/* SPDX-License-Identifier: ISC */
/*
 * Job control: process groups, sessions, and processes that stand still.
 *
 * A stop belongs to a whole process. The thread that takes the stop signal
 * sets stop_sig; every thread of the process then stops on its way back to the
 * app (job_stop_here), and with the last one the process is `stopped` and its
 * parent hears of it. SIGCONT ends it when it is sent, whatever is blocked or
 * handled; so does SIGKILL.
 *
 *	        stop signal taken            last thread stands
 *	running ------------------> stopping -------------------> stopped
 *	   ^                           |                             |
 *	   +---------------------------+--- SIGCONT, SIGKILL sent ---+
 *
 * The parent hears of it through child_report() (wait.c).
 *
 * The program's own parent is not in the instance: it is the host's shell. So
 * its group counts as looked after, and when it stops, the monitor does too
 * and comes back when it is continued. Only a SIGSTOP from another process of
 * the instance stops the program alone, for that process can continue it.
 */
#include "abi/ring.h"
#include "guest/linux/linux.h"
#include "guest/plat/ring.h"
#include "guest/proc/internal.h"
#include "guest/proc/tty.h"

#define LIBOS_PID 1

static bool is_dead(const struct process *p)
{
	return p->zombie;
}

/* --- groups and sessions --------------------------------------------------------- */

s32 pgrp_session(s32 pgid)
{
	list_for_each (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);

		if (p->pgid == pgid)
			return p->sid;
	}
	return 0;
}

bool pgrp_orphaned(s32 pgid, const struct process *ignored)
{
	list_for_each (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node), *q = p->parent;

		if (p->pgid != pgid || p == ignored || is_dead(p))
			continue;
		if (p == init_process)
			return false; /* the host looks after it */
		if (q && q->pid != LIBOS_PID && q->pgid != pgid && q->sid == p->sid)
			return false;
	}
	return true;
}

static bool has_stopped(s32 pgid)
{
	list_for_each (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);

		if (p->pgid == pgid && p->stopped)
			return true;
	}
	return false;
}

/* The tie of p's group to the rest of its session, through `parent`, is cut: was it the last one? */
static void group_lost(struct process *p, const struct process *parent, const struct process *ignored)
{
	s32 pgid = p->pgid;

	if (!parent || parent->pgid == pgid || parent->sid != p->sid)
		return;
	if (!pgrp_orphaned(pgid, ignored) || !has_stopped(pgid))
		return;
	signal_pgrp(pgid, SIGHUP, NULL);
	signal_pgrp(pgid, SIGCONT, NULL);
}

void jobs_process_exit(struct process *p)
{
	if (p->sid == p->pid)
		tty_leader_gone(p->sid);
	group_lost(p, p->parent, p);
}

void jobs_reparented(struct process *child, const struct process *old_parent)
{
	group_lost(child, old_parent, NULL);
}

/* --- stopping ------------------------------------------------------------------------ */

void jobs_thread_count_changed(struct process *p)
{
	if (!p->stop_sig || p->stopped || !p->n_threads || p->n_stopped < p->n_threads)
		return;
	p->stopped = true;
	child_report(p, CLD_STOPPED, p->stop_sig);
}

/* The program stopped itself: the monitor stops too and comes back when it is continued; its SIGCONT is ours. */
static void stop_instance(int sig)
{
	struct ring_sqe sqe = {.op = RING_OP_STOP, .handle = RING_NO_HANDLE, .arg = (u32)sig};

	ring_call(&sqe, NULL, NULL);
	/* Either that SIGCONT is on its way or the host saw no reason to stop: nobody else would continue these. */
	list_for_each (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);

		if (p->pgid == init_process->pgid)
			job_continue(p, true);
	}
}

/* Is the sender one who can take it back? */
static bool by_another(const siginfo_t *info)
{
	struct process *p;

	if (info->si_code > 0 || !info->si_pid || info->si_pid == init_process->pid)
		return false;
	p = process_by_pid(info->si_pid);
	return p && !is_dead(p);
}

void job_stop(int sig, const siginfo_t *info)
{
	struct process *p = current->proc;

	if (sig != SIGSTOP && pgrp_orphaned(p->pgid, NULL))
		return;
	if (p == init_process && !(sig == SIGSTOP && by_another(info))) {
		stop_instance(sig);
		return;
	}
	p->stop_sig = sig;
	p->cont_report = false;
	list_for_each (it, &p->threads)
		signal_kick(list_entry(it, struct thread, process_node));
}

void job_stop_here(void)
{
	struct thread *t = current;
	struct process *p = t->proc;

	t->stopped = true;
	p->n_stopped++;
	jobs_thread_count_changed(p);
	while (p->stop_sig && !t->exiting) {
		thread_prepare_sleep(false);
		thread_sleep(NO_DEADLINE);
	}
	thread_finish_sleep();
	t->stopped = false;
	p->n_stopped--;
}

void job_continue(struct process *p, bool tell)
{
	bool was_stopped = p->stopped;

	if (!p->stop_sig)
		return;
	p->stop_sig = p->stop_report = 0;
	p->stopped = false;
	list_for_each (it, &p->threads) {
		struct thread *t = list_entry(it, struct thread, process_node);

		if (t->stopped)
			thread_wake(t);
	}
	if (was_stopped && tell)
		child_report(p, CLD_CONTINUED, SIGCONT);
}
