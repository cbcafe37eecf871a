/* SPDX-License-Identifier: ISC */
/* System calls: process groups and sessions. proc/jobs.c and proc/tty.c have the mechanism. */
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"

/* A process by the id of any of its threads; 0 is the caller's. */
static struct process *find(s32 pid)
{
	struct process *p;
	struct thread *t;

	if (!pid)
		return current->proc;
	p = process_by_pid(pid);
	if (p)
		return p;
	t = thread_by_tid(pid);
	return t && !t->kfn ? t->proc : NULL;
}

SYSCALL1(getpgid, s32, pid)
{
	struct process *p = find(pid);

	return p ? p->pgid : -ESRCH;
}

SYSCALL0(getpgrp)
{
	return current->proc->pgid;
}

SYSCALL1(getsid, s32, pid)
{
	struct process *p = find(pid);

	return p ? p->sid : -ESRCH;
}

SYSCALL2(setpgid, s32, pid, s32, pgid)
{
	struct process *me = current->proc, *p = find(pid);

	if (!pgid)
		pgid = pid ? pid : me->pid;
	if (pgid < 0)
		return -EINVAL;
	if (!p)
		return -ESRCH;
	if (pid && p->pid != pid && p->shown_pid != pid)
		return -EINVAL; /* a thread that is not the first of its process */
	if (p->parent == me && p != me) {
		if (p->sid != me->sid)
			return -EPERM;
		if (p->did_exec)
			return -EACCES;
	} else if (p != me) {
		return -ESRCH;
	}
	if (p->sid == p->pid)
		return -EPERM; /* a session's leader stays in its group */
	if (pgid != p->pid && pgrp_session(pgid) != me->sid)
		return -EPERM;
	p->pgid = pgid;
	return 0;
}

SYSCALL0(setsid)
{
	struct process *p = current->proc;

	if (p->sid == p->pid || pgrp_session(p->pid))
		return -EPERM; /* it, or what is left of its job, is a group of that number */
	p->sid = p->pgid = p->pid;
	p->no_tty = false;
	p->old_tty_pgrp = 0;
	return p->sid;
}
