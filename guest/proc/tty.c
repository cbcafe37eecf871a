/* SPDX-License-Identifier: ISC */
/*
 * Controlling terminals: which session has which, who is in the foreground,
 * and what happens to those who are not. The rules are Linux's:
 *
 *	          TIOCSCTTY, or open by a leader without one
 *	free ---------------------------------------------------> controls a session
 *	  ^                                                            |
 *	  +--- TIOCNOTTY by the leader, its end, or a hangup ----------+
 *
 * A background process that reads gets SIGTTIN for its whole group, one that
 * changes modes SIGTTOU; if it ignores or blocks that, reading is EIO and
 * changing is allowed; in an orphaned group nobody could continue it, so both
 * are EIO.
 */
#include <asm-generic/errno.h>
#include <asm/ioctls.h>
#include <linux/capability.h>
#include <linux/fcntl.h>

#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/proc/tty.h"
#include "guest/vfs/vfs.h"

static struct list all_ttys = LIST_INIT(all_ttys);

void tty_init(struct tty *t, const struct tty_ops *ops, u64 rdev)
{
	t->ops = ops;
	t->rdev = rdev;
	t->session = t->pgrp = 0;
	list_add_tail(&all_ttys, &t->node);
}

static bool is_there(struct tty *t)
{
	return !t->ops->there || t->ops->there(t);
}

struct tty *tty_by_session(s32 sid)
{
	list_for_each (it, &all_ttys) {
		struct tty *t = list_entry(it, struct tty, node);

		if (sid && t->session == sid && is_there(t))
			return t;
	}
	return NULL;
}

struct tty *tty_of(const struct process *p)
{
	return p->no_tty ? NULL : tty_by_session(p->sid);
}

bool tty_uses_id(s32 id)
{
	list_for_each (it, &all_ttys) {
		struct tty *t = list_entry(it, struct tty, node);

		if (t->session == id || t->pgrp == id)
			return true;
	}
	return false;
}

static bool leads(const struct process *p)
{
	return p->sid == p->pid;
}

static void to_group(s32 pgid, int sig)
{
	if (pgid)
		signal_pgrp(pgid, sig, NULL);
}

void tty_signal(struct tty *t, int sig)
{
	to_group(t->pgrp, sig);
}

static void set_free(struct tty *t)
{
	t->session = t->pgrp = 0;
}

void tty_hangup(struct tty *t)
{
	struct process *leader = t->session ? process_by_pid(t->session) : NULL;

	if (leader && leads(leader)) {
		leader->old_tty_pgrp = t->pgrp;
		signal_process(leader, SIGHUP, NULL);
		signal_process(leader, SIGCONT, NULL);
	}
	set_free(t);
	list_del(&t->node);
}

void tty_leader_gone(s32 sid)
{
	struct process *leader = process_by_pid(sid);
	struct tty *t = tty_by_session(sid);

	if (t) {
		to_group(t->pgrp, SIGHUP);
		set_free(t);
	} else if (leader && leader->old_tty_pgrp) {
		/* The terminal went first; whoever was in front of it is told now. */
		to_group(leader->old_tty_pgrp, SIGHUP);
		to_group(leader->old_tty_pgrp, SIGCONT);
	}
}

static void take(struct tty *t, struct process *leader)
{
	t->session = leader->sid;
	t->pgrp = leader->pgid;
	leader->no_tty = false;
	leader->old_tty_pgrp = 0;
}

void tty_opened(struct tty *t, struct file *f)
{
	struct process *p = current->proc;

	if (!(f->flags & O_NOCTTY) && (f->flags & O_ACCMODE) != O_WRONLY && leads(p) && !tty_of(p) &&
	    !t->session)
		take(t, p);
}

/* --- foreground and background ------------------------------------------------- */

static bool is_ignored(int sig)
{
	const struct thread *t = current;

	return (t->blocked & SIGBIT(sig)) || t->proc->action[sig].handler == SIG_IGN;
}

static int check(struct tty *t, int sig)
{
	struct process *p = current->proc;

	if (!t->pgrp || p->pgid == t->pgrp || tty_of(p) != t)
		return 0;
	if (is_ignored(sig))
		return sig == SIGTTIN ? -EIO : 0;
	if (pgrp_orphaned(p->pgid, NULL))
		return -EIO;
	signal_pgrp(p->pgid, sig, NULL);
	current->signal_pending = true;
	return -ERESTARTSYS;
}

int tty_check_read(struct tty *t)
{
	return check(t, SIGTTIN);
}

int tty_check_change(struct tty *t)
{
	return check(t, SIGTTOU);
}

/* --- ioctls ----------------------------------------------------------------------- */

static s64 set_pgrp(struct tty *t, u64 arg)
{
	struct process *p = current->proc;
	s32 pgid, sid;
	int err = tty_check_change(t);

	if (err)
		return err == -EIO ? -ENOTTY : err;
	if (tty_of(p) != t)
		return -ENOTTY;
	if (get_user(pgid, (s32 *)arg))
		return -EFAULT;
	if (pgid < 0)
		return -EINVAL;
	sid = pgrp_session(pgid);
	if (!sid)
		return process_by_pid(pgid) ? -EPERM : -ESRCH;
	if (sid != p->sid)
		return -EPERM;
	t->pgrp = pgid;
	return 0;
}

static s64 set_controlling(struct tty *t, struct file *f, u64 arg)
{
	struct process *p = current->proc;
	bool admin = p->cap_effective >> CAP_SYS_ADMIN & 1;

	if (leads(p) && t->session == p->sid)
		return 0;
	if (!leads(p) || tty_of(p))
		return -EPERM;
	if (t->session && !(arg == 1 && admin))
		return -EPERM;
	if ((f->flags & O_ACCMODE) == O_WRONLY && !admin)
		return -EPERM;
	take(t, p);
	return 0;
}

static s64 give_up(struct tty *t)
{
	struct process *p = current->proc;

	if (tty_of(p) != t)
		return -ENOTTY;
	if (leads(p)) {
		s32 pgrp = t->pgrp;

		set_free(t);
		to_group(pgrp, SIGHUP);
		to_group(pgrp, SIGCONT);
	} else {
		p->no_tty = true;
	}
	return 0;
}

s64 tty_job_ioctl(struct tty *t, struct file *f, u32 cmd, u64 arg, bool master)
{
	bool mine = master || tty_of(current->proc) == t;

	switch (cmd) {
	case TIOCGPGRP:
		return mine ? put_user(t->pgrp, (s32 *)arg) : -ENOTTY;
	case TIOCGSID:
		return mine && t->session ? put_user(t->session, (s32 *)arg) : -ENOTTY;
	case TIOCSPGRP:
		return set_pgrp(t, arg);
	case TIOCSCTTY:
		return set_controlling(t, f, arg);
	case TIOCNOTTY:
		return give_up(t);
	default:
		return -ENOTTY;
	}
}
