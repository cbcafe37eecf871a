/* SPDX-License-Identifier: ISC */
/*
 * After the end: zombies, waiting for children, orphans.
 *
 * A process that ended stays in its parent's list of children until somebody
 * waits for it (process_wait), or at once when nobody will: the parent is the
 * library OS, or ignores SIGCHLD, or said SA_NOCLDWAIT. Stops and continuations
 * are reported by job control through child_report(); each is told once.
 *
 * Orphans go to the nearest ancestor that is a subreaper (prctl), else to the
 * library OS. What was used up is added to the parent that waited, as Linux
 * does: what nobody waits for is counted nowhere.
 */
#include <linux/wait.h>

#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/proc/wait.h"
#include "guest/vfs/vfs.h"

#define TICK_NS (NS_PER_SEC / 100) /* of si_utime */

/* --- news for the parent ------------------------------------------------------ */

/* A wait status as siginfo has it: CLD_*, and the exit status or the signal. */
static int exit_code(int wait_status, int *status)
{
	if (wait_status & 0x7f) {
		*status = wait_status & 0x7f;
		return wait_status & 0x80 ? CLD_DUMPED : CLD_KILLED;
	}
	*status = wait_status >> 8 & 0xff;
	return CLD_EXITED;
}

static void send_news(struct process *p, int sig, int code, int status)
{
	struct usage u;
	siginfo_t info;

	process_usage(p, &u);
	memset(&info, 0, sizeof(info));
	info.si_signo = sig;
	info.si_code = code;
	info.si_pid = p->pid;
	info.si_uid = p->uid;
	info.si_status = status;
	info.si_utime = (__kernel_clock_t)(u.user_ns / TICK_NS);
	info.si_stime = (__kernel_clock_t)(u.sys_ns / TICK_NS);
	signal_process(p->parent, sig, &info);
}

void child_report(struct process *p, int code, int status)
{
	struct process *parent = p->parent;

	p->stop_report = code == CLD_STOPPED ? (u8)status : 0;
	p->cont_report = code == CLD_CONTINUED;
	if (!parent)
		return;
	if (parent->action[SIGCHLD].handler != SIG_IGN && !(parent->action[SIGCHLD].flags & SA_NOCLDSTOP))
		send_news(p, SIGCHLD, code, status);
	waitq_wake_all(&parent->child_wait, 0);
}

void child_ended(struct process *p)
{
	struct process *parent = p->parent;
	int sig = p->exit_signal, status, code = exit_code(p->exit_status, &status);
	bool unwanted = !parent;

	p->stop_report = 0;
	p->cont_report = false;
	waitq_wake_all(&p->exit_wait, POLLIN);
	if (parent) {
		const struct ksigaction *ka = &parent->action[SIGCHLD];
		bool ignored = ka->handler == SIG_IGN;

		if (sig == SIGCHLD)
			unwanted = ignored || ka->flags & SA_NOCLDWAIT;
		if (sig >= 1 && sig <= N_SIGNALS && !(sig == SIGCHLD && ignored))
			send_news(p, sig, code, status);
		waitq_wake_all(&parent->child_wait, 0);
	}
	if (unwanted)
		process_reap(p);
}

/* --- orphans ---------------------------------------------------------------------- */

static struct process *find_subreaper(const struct process *p)
{
	for (struct process *a = p->parent; a; a = a->parent)
		if (a->child_subreaper && !a->zombie && !a->group_exit)
			return a;
	return NULL;
}

static void send_pdeathsig(struct process *c)
{
	list_for_each_safe (it, &c->threads) {
		struct thread *t = list_entry(it, struct thread, process_node);

		if (t->pdeathsig)
			signal_process(c, t->pdeathsig, NULL);
	}
}

void children_reparent(struct process *p)
{
	struct process *to = find_subreaper(p);

	while (!list_empty(&p->children)) {
		struct process *c = list_first(&p->children, struct process, sibling);

		list_del(&c->sibling);
		send_pdeathsig(c);
		c->parent = to;
		c->ppid = to ? to->pid : 1;
		c->maker_tid = c->ppid;
		c->exit_signal = SIGCHLD;
		if (to)
			list_add_tail(&to->children, &c->sibling);
		if (c->zombie)
			child_ended(c);
		else
			jobs_reparented(c, p);
	}
}

void parent_thread_died(struct thread *dead)
{
	struct process *p = dead->proc;
	s32 heir = p->pid;

	list_for_each (it, &p->threads) {
		struct thread *t = list_entry(it, struct thread, process_node);

		if (t != dead && !t->exiting)
			heir = t->tid;
	}
	list_for_each (it, &p->children) {
		struct process *c = list_entry(it, struct process, sibling);

		if (c->maker_tid != dead->tid)
			continue;
		c->maker_tid = heir;
		send_pdeathsig(c);
	}
}

void children_renamed(struct process *p, s32 old_tid, s32 new_tid)
{
	list_for_each (it, &p->children) {
		struct process *c = list_entry(it, struct process, sibling);

		if (c->maker_tid == old_tid)
			c->maker_tid = new_tid;
	}
}

/* --- waiting ---------------------------------------------------------------------- */

static bool wanted(const struct wait_req *w, const struct process *c)
{
	switch (w->which) {
	case P_PID:
		if (c->pid != w->id)
			return false;
		break;
	case P_PGID:
		if (c->pgid != w->id)
			return false;
		break;
	case P_PIDFD:
		if (c != w->target)
			return false;
		break;
	default:
		break;
	}
	if (w->options & __WNOTHREAD && c->maker_tid != current->tid)
		return false;
	/* __WCLONE: those that do not say SIGCHLD at their end, instead of those that do. */
	return w->options & __WALL || !(w->options & __WCLONE) == (c->exit_signal == SIGCHLD);
}

static bool take_zombie(struct wait_req *w, struct process *c)
{
	if (!c->zombie || !(w->options & WEXITED))
		return false;
	w->status = c->exit_status;
	w->code = exit_code(c->exit_status, &w->detail);
	process_usage(c, &w->usage);
	usage_add(&w->usage, &c->child);
	if (!(w->options & WNOWAIT)) {
		usage_add(&current->proc->child, &w->usage);
		process_reap(c);
	}
	return true;
}

static bool take_stop(struct wait_req *w, struct process *c)
{
	if (c->stop_report && w->options & WSTOPPED) {
		w->status = c->stop_report << 8 | 0x7f;
		w->code = CLD_STOPPED;
		w->detail = c->stop_report;
		if (!(w->options & WNOWAIT))
			c->stop_report = 0;
	} else if (c->cont_report && w->options & WCONTINUED) {
		w->status = 0xffff;
		w->code = CLD_CONTINUED;
		w->detail = SIGCONT;
		if (!(w->options & WNOWAIT))
			c->cont_report = false;
	} else {
		return false;
	}
	process_usage(c, &w->usage);
	usage_add(&w->usage, &c->child);
	return true;
}

/* 1: news were taken; 0: there may be some later; -ECHILD. */
static int look(struct wait_req *w)
{
	bool any = false;

	list_for_each (it, &current->proc->children) {
		struct process *c = list_entry(it, struct process, sibling);
		s32 pid = c->pid;
		u32 uid = c->uid;

		if (!wanted(w, c))
			continue;
		any = true;
		if (take_zombie(w, c) || take_stop(w, c)) {
			w->pid = pid;
			w->uid = uid;
			return 1;
		}
	}
	return any ? 0 : -ECHILD;
}

s64 process_wait(struct wait_req *w)
{
	int res = look(w), err;

	if (!res && !(w->options & WNOHANG)) {
		err = wait_event(&current->proc->child_wait, (res = look(w)) != 0, NO_DEADLINE, true);
		if (err)
			return err;
	}
	return res == 1 ? w->pid : res;
}
