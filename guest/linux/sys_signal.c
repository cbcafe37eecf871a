/* SPDX-License-Identifier: ISC */
/* System calls: signals. Thin: proc/signal.c and proc/sigframe.c have the mechanism. */
#include <linux/capability.h>
#include <linux/signal.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"

#define LIBOS_PID	    1
#define ALTSTACK_AUTODISARM (1u << 31)
#define ACTION_FLAGS                                                                                         \
	(SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER | SA_RESETHAND |    \
	 SA_RESTORER | SA_EXPOSE_TAGBITS)

/* struct sigaction, as the call passes it. */
struct user_sigaction {
	u64 handler, flags, restorer;
	sigmask_t mask;
};

static int mask_in(const sigmask_t *user, u64 size, sigmask_t *m)
{
	if (size != sizeof(*m))
		return -EINVAL;
	return get_user(*m, user);
}

SYSCALL4(rt_sigaction, int, sig, const struct user_sigaction *, unew, struct user_sigaction *, uold, u64,
	 size)
{
	struct process *p = current->proc;
	struct user_sigaction new, old;
	struct ksigaction *ka;

	if (size != sizeof(sigmask_t) || sig < 1 || sig > N_SIGNALS)
		return -EINVAL;
	if (unew && (SIG_KERNEL_ONLY & SIGBIT(sig)))
		return -EINVAL;
	if (unew && get_user(new, unew))
		return -EFAULT;
	ka = &p->action[sig];
	old = (struct user_sigaction){(u64)ka->handler, ka->flags, (u64)ka->restorer, ka->mask};
	if (unew) {
		ka->handler = (void *)new.handler;
		ka->flags = new.flags &ACTION_FLAGS;
		ka->restorer = (void *)new.restorer;
		ka->mask = new.mask & ~SIG_KERNEL_ONLY;
		if (signal_ignored(p, sig)) {
			signal_flush(&p->pending, SIGBIT(sig));
			list_for_each (it, &p->threads)
				signal_flush(&list_entry(it, struct thread, process_node)->pending,
					     SIGBIT(sig));
		}
	}
	return uold ? put_user(old, uold) : 0;
}

SYSCALL4(rt_sigprocmask, int, how, const sigmask_t *, unew, sigmask_t *, uold, u64, size)
{
	sigmask_t old = current->blocked, m;
	int err;

	if (size != sizeof(m))
		return -EINVAL;
	if (unew) {
		err = mask_in(unew, size, &m);
		if (err)
			return err;
		switch (how) {
		case SIG_BLOCK:
			m |= old;
			break;
		case SIG_UNBLOCK:
			m = old & ~m;
			break;
		case SIG_SETMASK:
			break;
		default:
			return -EINVAL;
		}
		if (m != old)
			signal_set_blocked(m);
	}
	return uold ? put_user(old, uold) : 0;
}

SYSCALL2(rt_sigpending, sigmask_t *, uset, u64, size)
{
	struct thread *t = current;
	sigmask_t m = (t->pending.set | t->proc->pending.set) & t->blocked;

	return size > sizeof(m) ? -EINVAL : copy_out(uset, &m, size);
}

SYSCALL2(rt_sigsuspend, const sigmask_t *, uset, u64, size)
{
	struct thread *t = current;
	sigmask_t m;
	int err = mask_in(uset, size, &m);

	if (err)
		return err;
	t->saved_mask = t->blocked;
	t->restore_mask = true;
	signal_set_blocked(m);
	do {
		thread_prepare_sleep(true);
		err = thread_sleep(NO_DEADLINE);
		thread_finish_sleep();
	} while (err != -ERESTARTSYS);
	return -ERESTARTNOHAND;
}

SYSCALL0(pause)
{
	int err;

	do {
		thread_prepare_sleep(true);
		err = thread_sleep(NO_DEADLINE);
		thread_finish_sleep();
	} while (err != -ERESTARTSYS);
	return -ERESTARTNOHAND;
}

/*
 * While it waits, the wanted signals are not blocked: so a sender chooses this
 * thread and wakes it. They are taken here and never delivered.
 */
SYSCALL4(rt_sigtimedwait, const sigmask_t *, uset, siginfo_t *, uinfo, const void *, utime, u64, size)
{
	struct thread *t = current;
	u64 ns, deadline = NO_DEADLINE;
	sigmask_t wanted, old;
	siginfo_t info;
	int sig, err = mask_in(uset, size, &wanted);

	if (!err && utime) {
		err = timespec_in(utime, &ns);
		deadline = mono_ns() + ns;
	}
	if (err)
		return err;
	wanted &= ~SIG_KERNEL_ONLY;
	sig = signal_dequeue(wanted, &info);
	if (!sig && deadline && (!utime || ns)) {
		old = t->real_blocked = t->blocked;
		signal_set_blocked(old & ~wanted);
		thread_prepare_sleep(true);
		err = thread_sleep(deadline);
		thread_finish_sleep();
		sig = signal_dequeue(wanted, &info);
		t->real_blocked = 0;
		signal_set_blocked(old);
	}
	if (!sig)
		return err == -ERESTARTSYS ? -EINTR : -EAGAIN;
	return uinfo && put_user(info, uinfo) ? -EFAULT : sig;
}

SYSCALL2(sigaltstack, const stack_t *, unew, stack_t *, uold)
{
	struct thread *t = current;
	u64 sp = current_regs()->rsp;
	stack_t new, old = t->altstack;
	u32 mode;

	old.ss_flags = altstack_flags(t, sp) | (t->altstack.ss_flags & (int)ALTSTACK_AUTODISARM);
	if (unew) {
		if (get_user(new, unew))
			return -EFAULT;
		if (altstack_flags(t, sp) == SS_ONSTACK)
			return -EPERM;
		mode = (u32) new.ss_flags & ~ALTSTACK_AUTODISARM;
		if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0)
			return -EINVAL;
		if (mode == SS_DISABLE)
			new = (stack_t){.ss_flags = SS_DISABLE};
		else if (new.ss_size < MINSIGSTKSZ)
			return -ENOMEM;
		new.ss_flags &= (int)ALTSTACK_AUTODISARM | SS_DISABLE;
		t->altstack = new;
	}
	return uold ? put_user(old, uold) : 0;
}

SYSCALL0(rt_sigreturn)
{
	struct thread *t = current;
	struct regs *r = current_regs();

	t->restart.fn = NULL;
	if (sigframe_pop(r)) {
		r->orig_rax = ~0ull;
		signal_force(SIGSEGV, SI_KERNEL, 0);
	}
	return (s64)r->rax; /* dispatch stores it where it is */
}

SYSCALL0(restart_syscall)
{
	struct thread *t = current;
	s64 (*fn)(struct thread *) = t->restart.fn;

	t->restart.fn = NULL;
	return fn ? fn(t) : -EINTR;
}

/* --- sending -------------------------------------------------------------------------- */

static void own_info(siginfo_t *info, int sig, int code)
{
	memset(info, 0, sizeof(*info));
	info->si_signo = sig;
	info->si_code = code;
	info->si_pid = current->proc->pid;
	info->si_uid = current->proc->uid;
}

bool signal_permitted(const struct process *to, int sig)
{
	const struct process *me = current->proc;

	if (to == me || me->euid == to->suid || me->euid == to->uid || me->uid == to->suid ||
	    me->uid == to->uid)
		return true;
	return (me->cap_effective >> CAP_KILL & 1) || (sig == SIGCONT && me->sid == to->sid);
}

static int send_process(struct process *p, int sig, const siginfo_t *info)
{
	if (!signal_permitted(p, sig))
		return -EPERM;
	return sig ? signal_process(p, sig, info) : 0;
}

/* To a group, or with pgid 0 to all but the library OS and oneself. At least one must be got. */
static s64 send_many(s32 pgid, int sig, const siginfo_t *info)
{
	bool sent = false, found = false;
	int err = -ESRCH;

	list_for_each_safe (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);

		if (pgid ? p->pgid != pgid : p->pid == LIBOS_PID || p == current->proc)
			continue;
		found = true;
		err = send_process(p, sig, info);
		sent |= !err || (!pgid && err == -EPERM);
	}
	return found && sent ? 0 : err;
}

/* The process of a pid; Linux takes any thread's id for its process. */
static struct process *target(s32 pid)
{
	struct process *p = process_by_pid(pid);
	struct thread *t = p ? NULL : thread_by_tid(pid);

	return t && !t->kfn ? t->proc : p;
}

SYSCALL2(kill, s32, pid, int, sig)
{
	struct process *p;
	siginfo_t info;

	if (sig < 0 || sig > N_SIGNALS)
		return -EINVAL;
	own_info(&info, sig, SI_USER);
	if (pid == INT32_MIN)
		return -ESRCH;
	if (pid <= 0)
		return send_many(pid == -1 ? 0 : pid ? -pid : current->proc->pgid, sig, &info);
	if (pid == LIBOS_PID) /* takes nothing, as any process 1 that has no handlers */
		return current->proc->cap_effective >> CAP_KILL & 1 ? 0 : -EPERM;
	p = target(pid);
	return p ? send_process(p, sig, &info) : -ESRCH;
}

/* A thread by its id, and if pid is not 0 of that process. */
static struct thread *target_thread(s32 pid, s32 tid)
{
	struct thread *t = tid == current->tid ? current : thread_by_tid(tid);

	if (!t || t->kfn || (pid && t->proc->pid != pid && t->proc->shown_pid != pid))
		return NULL;
	return t;
}

static s64 send_thread(s32 pid, s32 tid, int sig)
{
	struct thread *t = target_thread(pid, tid);
	siginfo_t info;

	if (sig < 0 || sig > N_SIGNALS)
		return -EINVAL;
	if (!t)
		return -ESRCH;
	if (!signal_permitted(t->proc, sig))
		return -EPERM;
	own_info(&info, sig, SI_TKILL);
	return sig ? signal_thread(t, sig, &info) : 0;
}

SYSCALL2(tkill, s32, tid, int, sig)
{
	return tid <= 0 ? -EINVAL : send_thread(0, tid, sig);
}

SYSCALL3(tgkill, s32, pid, s32, tid, int, sig)
{
	return pid <= 0 || tid <= 0 ? -EINVAL : send_thread(pid, tid, sig);
}

/* siginfo from the app: what only a kernel says is refused, but to oneself. */
static int info_in(const siginfo_t *uinfo, int sig, s32 pid, siginfo_t *info)
{
	if (get_user(*info, uinfo))
		return -EFAULT;
	info->si_signo = sig;
	if ((info->si_code >= 0 || info->si_code == SI_TKILL) && pid != current->proc->pid &&
	    pid != current->proc->shown_pid)
		return -EPERM;
	return 0;
}

SYSCALL3(rt_sigqueueinfo, s32, pid, int, sig, const siginfo_t *, uinfo)
{
	struct process *p = target(pid);
	siginfo_t info;
	int err = info_in(uinfo, sig, pid, &info);

	if (err)
		return err;
	if (sig < 0 || sig > N_SIGNALS)
		return -EINVAL;
	if (!p)
		return -ESRCH;
	return info.si_code <= 0 ? send_process(p, sig, &info) : sig ? signal_process(p, sig, &info) : 0;
}

SYSCALL4(rt_tgsigqueueinfo, s32, pid, s32, tid, int, sig, const siginfo_t *, uinfo)
{
	siginfo_t info;
	struct thread *t;
	int err;

	if (pid <= 0 || tid <= 0 || sig < 0 || sig > N_SIGNALS)
		return -EINVAL;
	err = info_in(uinfo, sig, pid, &info);
	if (err)
		return err;
	t = target_thread(pid, tid);
	if (!t)
		return -ESRCH;
	if (info.si_code <= 0 && !signal_permitted(t->proc, sig))
		return -EPERM;
	return sig ? signal_thread(t, sig, &info) : 0;
}
