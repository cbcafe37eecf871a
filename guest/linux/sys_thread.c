/* SPDX-License-Identifier: ISC */
/*
 * System calls: threads and their scheduling.
 *
 * clone makes threads (CLONE_VM|CLONE_THREAD|CLONE_SIGHAND, sharing files and
 * file-system context); anything else would be a process: ENOSYS. Scheduling
 * policies are kept and shown; the scheduler itself knows nice values only.
 */
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/sched.h>
#include <linux/sched/types.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/vfs/vfs.h"

#define THREAD_FLAGS   (CLONE_VM | CLONE_THREAD | CLONE_SIGHAND)
#define THREAD_SHARED  (CLONE_FS | CLONE_FILES)
#define CLONE_MAX_ARGS PAGE_SIZE

struct clone_req {
	u64 flags, stack, ptid, ctid, tls;
};

static void thread_enter(void *arg)
{
	struct thread *t = arg;

	thread_reap();
	arch_return_to_user((struct regs *)t->kstack_top - 1);
}

/* What the new thread inherits. */
static void inherit(struct thread *t, const struct clone_req *q)
{
	struct thread *parent = current;
	struct regs *r = (struct regs *)t->kstack_top - 1;

	*r = *current_regs();
	r->rax = 0;
	r->orig_rax = ~0ull;
	if (q->stack)
		r->rsp = q->stack;
	arch_xstate_save(parent);
	memcpy(t->xstate, parent->xstate, boot->xstate_size);
	t->xstate_saved = 1;
	if (q->flags & CLONE_SETTLS)
		t->fs_base = q->tls;
	else
		__asm__ volatile("rdfsbase %0" : "=r"(t->fs_base));
	memcpy(t->comm, parent->comm, sizeof(t->comm));
	t->nice = parent->nice;
	t->blocked = parent->blocked;
	t->timer_slack_ns = parent->timer_slack_ns;
	if (q->flags & CLONE_CHILD_CLEARTID)
		t->clear_child_tid = q->ctid;
}

static s64 clone_thread(const struct clone_req *q)
{
	struct process *p = current->proc;
	struct thread *t;

	if (q->flags & CLONE_SETTLS && q->tls >= BOOT_TASK_SIZE)
		return -EPERM;
	if (p->n_threads >= p->rlim[RLIMIT_NPROC].rlim_cur)
		return -EAGAIN;
	t = thread_new(p);
	if (!t)
		return -EAGAIN;
	inherit(t, q);
	if (q->flags & CLONE_PARENT_SETTID && put_user(t->tid, (s32 *)q->ptid)) {
		thread_free(t);
		return -EFAULT;
	}
	if (q->flags & CLONE_CHILD_SETTID)
		put_user(t->tid, (s32 *)q->ctid);
	arch_thread_setup(t, thread_enter, t);
	sched_new_thread(t);
	return t->tid;
}

/* A new process is asked for: not yet, and the log says so once. */
s64 no_processes(const char *call);
s64 no_processes(const char *call)
{
	static bool told;

	if (!told)
		log_line(LOG_WARN, "%s: new processes are not supported: ENOSYS", call);
	told = true;
	return -ENOSYS;
}

static s64 do_clone_req(const struct clone_req *q)
{
	u64 f = q->flags;

	if ((f & CLONE_SIGHAND && !(f & CLONE_VM)) || (f & CLONE_THREAD && !(f & CLONE_SIGHAND)))
		return -EINVAL;
	if ((f & THREAD_FLAGS) != THREAD_FLAGS)
		return no_processes("clone");
	if ((f & THREAD_SHARED) != THREAD_SHARED || f & (CLONE_PIDFD | CLONE_VFORK))
		return -EINVAL;
	if (f & (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
		 CLONE_NEWNET))
		return -EINVAL;
	return clone_thread(q);
}

SYSCALL5(clone, u64, flags, u64, stack, u64, ptid, u64, ctid, u64, tls)
{
	struct clone_req q = {flags & ~(u64)CSIGNAL, stack, ptid, ctid, tls};

	return do_clone_req(&q);
}

SYSCALL2(clone3, const void *, uargs, u64, size)
{
	struct clone_args a;
	struct clone_req q;
	u8 extra;

	if (size > CLONE_MAX_ARGS)
		return -E2BIG;
	if (size < CLONE_ARGS_SIZE_VER0)
		return -EINVAL;
	memset(&a, 0, sizeof(a));
	if (copy_in(&a, uargs, MIN(size, sizeof(a))))
		return -EFAULT;
	for (u64 i = sizeof(a); i < size; i++) {
		if (get_user(extra, (const u8 *)uargs + i))
			return -EFAULT;
		if (extra)
			return -E2BIG;
	}
	if (a.flags & (CLONE_DETACHED | CSIGNAL) || a.exit_signal > N_SIGNALS ||
	    (a.flags & (CLONE_THREAD | CLONE_PARENT) && a.exit_signal))
		return -EINVAL;
	if (!a.stack != !a.stack_size || a.set_tid_size)
		return -EINVAL;
	q = (struct clone_req){a.flags, a.stack ? a.stack + a.stack_size : 0, a.parent_tid, a.child_tid,
			       a.tls};
	return do_clone_req(&q);
}

SYSCALL1(set_tid_address, u64, addr)
{
	current->clear_child_tid = addr;
	return current->tid;
}

SYSCALL2(set_robust_list, u64, head, u64, len)
{
	if (len != sizeof(struct robust_list_head))
		return -EINVAL;
	current->robust_list = head;
	current->robust_len = len;
	return 0;
}

SYSCALL3(get_robust_list, s32, tid, u64 *, uhead, u64 *, ulen)
{
	struct thread *t = tid ? thread_by_tid(tid) : current;
	u64 len = sizeof(struct robust_list_head);

	if (!t)
		return -ESRCH;
	return put_user(len, ulen) || put_user(t->robust_list, uhead) ? -EFAULT : 0;
}

/* Restartable sequences speed up what one CPU need not do; glibc goes on without. */
SYSCALL4(rseq, void *, area, u32, len, int, flags, u32, sig)
{
	return -ENOSYS;
}

SYSCALL0(gettid)
{
	return current->tid;
}

/*
 * One CPU: whatever another thread of this process does next sees everything
 * that came before, so each of these barriers is a fact.
 */
SYSCALL3(membarrier, int, cmd, u32, flags, int, cpu)
{
	const int supported = MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_GLOBAL_EXPEDITED |
			      MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED | MEMBARRIER_CMD_PRIVATE_EXPEDITED |
			      MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED |
			      MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE |
			      MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE;

	if (flags)
		return -EINVAL;
	if (cmd == MEMBARRIER_CMD_QUERY)
		return supported;
	return cmd > 0 && !(cmd & (cmd - 1)) && (cmd & supported) ? 0 : -EINVAL;
}

/* --- scheduling ------------------------------------------------------------------------ */

SYSCALL0(sched_yield)
{
	thread_yield();
	return 0;
}

static struct thread *find(s32 tid)
{
	struct thread *t = tid ? thread_by_tid(tid) : current;

	return t && !t->kfn ? t : NULL;
}

SYSCALL3(sched_setaffinity, s32, tid, u64, len, const u8 *, umask)
{
	u8 first = 0;

	if (len && get_user(first, umask))
		return -EFAULT;
	if (!find(tid))
		return -ESRCH;
	return first & 1 ? 0 : -EINVAL;
}

SYSCALL3(sched_getaffinity, s32, tid, u64, len, u64 *, umask)
{
	u64 mask = 1;

	if (len < sizeof(mask) || len & 7)
		return -EINVAL;
	if (!find(tid))
		return -ESRCH;
	return put_user(mask, umask) ? -EFAULT : (s64)sizeof(mask);
}

static bool policy_ok(int policy, int priority)
{
	switch (policy & ~SCHED_RESET_ON_FORK) {
	case SCHED_NORMAL:
	case SCHED_BATCH:
	case SCHED_IDLE:
		return priority == 0;
	case SCHED_FIFO:
	case SCHED_RR:
		return priority >= 1 && priority <= 99;
	default:
		return false;
	}
}

static s64 set_policy(s32 tid, int policy, int priority)
{
	struct thread *t = find(tid);

	if (!t)
		return -ESRCH;
	if (policy < 0)
		policy = t->policy;
	if (!policy_ok(policy, priority))
		return -EINVAL;
	if (priority && current->proc->euid && (u64)priority > current->proc->rlim[RLIMIT_RTPRIO].rlim_cur)
		return -EPERM;
	t->policy = policy & ~SCHED_RESET_ON_FORK;
	t->rt_priority = priority;
	return 0;
}

SYSCALL3(sched_setscheduler, s32, tid, int, policy, const int *, uparam)
{
	int priority;

	if (tid < 0 || policy < 0 || !uparam)
		return -EINVAL;
	return get_user(priority, uparam) ? -EFAULT : set_policy(tid, policy, priority);
}

SYSCALL1(sched_getscheduler, s32, tid)
{
	struct thread *t = find(tid);

	return tid < 0 ? -EINVAL : t ? t->policy : -ESRCH;
}

SYSCALL2(sched_setparam, s32, tid, const int *, uparam)
{
	int priority;

	if (tid < 0 || !uparam)
		return -EINVAL;
	return get_user(priority, uparam) ? -EFAULT : set_policy(tid, -1, priority);
}

SYSCALL2(sched_getparam, s32, tid, int *, uparam)
{
	struct thread *t = find(tid);

	if (tid < 0 || !uparam)
		return -EINVAL;
	return t ? put_user(t->rt_priority, uparam) : -ESRCH;
}

SYSCALL1(sched_get_priority_max, int, policy)
{
	return policy_ok(policy, 0) ? 0 : policy_ok(policy, 1) ? 99 : -EINVAL;
}

SYSCALL1(sched_get_priority_min, int, policy)
{
	return policy_ok(policy, 0) ? 0 : policy_ok(policy, 1) ? 1 : -EINVAL;
}

SYSCALL2(sched_rr_get_interval, s32, tid, void *, uts)
{
	struct thread *t = find(tid);

	if (tid < 0)
		return -EINVAL;
	return t ? timespec_out(uts, sched_slice_ns(t)) : -ESRCH;
}

SYSCALL3(sched_setattr, s32, tid, const void *, uattr, u32, flags)
{
	struct sched_attr a;
	struct thread *t = find(tid);
	s64 res;
	u32 size;

	if (tid < 0 || flags || get_user(size, (const u32 *)uattr))
		return -EINVAL;
	if (size < SCHED_ATTR_SIZE_VER0)
		return -E2BIG;
	memset(&a, 0, sizeof(a));
	if (copy_in(&a, uattr, MIN(size, sizeof(a))))
		return -EFAULT;
	res = set_policy(tid, (int)a.sched_policy, (int)a.sched_priority);
	if (!res && policy_ok((int)a.sched_policy, 0))
		t->nice = MIN(MAX(a.sched_nice, -20), 19);
	return res;
}

SYSCALL4(sched_getattr, s32, tid, void *, uattr, u32, size, u32, flags)
{
	struct sched_attr a;
	struct thread *t = find(tid);

	if (tid < 0 || flags || size < SCHED_ATTR_SIZE_VER0)
		return -EINVAL;
	if (!t)
		return -ESRCH;
	memset(&a, 0, sizeof(a));
	a.size = (u32)MIN(size, sizeof(a));
	a.sched_policy = (u32)t->policy;
	a.sched_nice = t->nice;
	a.sched_priority = (u32)t->rt_priority;
	return copy_out(uattr, &a, a.size);
}

SYSCALL3(getcpu, u32 *, ucpu, u32 *, unode, void *, unused)
{
	u32 zero = 0;

	if ((ucpu && put_user(zero, ucpu)) || (unode && put_user(zero, unode)))
		return -EFAULT;
	return 0;
}

/* --- nice values ------------------------------------------------------------------------- */

/* Apply fn to the threads that (which, who) names; the best result, or -ESRCH. */
static s64 each_target(int which, s32 who, s64 (*fn)(struct thread *t, int arg), int arg)
{
	s64 best = -ESRCH;

	if (which < 0 || which > 2)
		return -EINVAL;
	list_for_each (it, &all_threads) {
		struct thread *t = list_entry(it, struct thread, all_node);
		struct process *p = t->proc;
		bool hit;

		if (t->kfn || t->state == THREAD_DEAD)
			continue;
		if (which == 0)
			hit = who ? t->tid == who : t == current;
		else if (which == 1)
			hit = p->pgid == (who ? who : current->proc->pgid);
		else
			hit = p->uid == (who ? (u32)who : current->proc->uid);
		if (hit)
			best = MAX(best, fn(t, arg));
	}
	return best;
}

static s64 get_nice(struct thread *t, int arg)
{
	return 20 - t->nice;
}

static s64 set_nice(struct thread *t, int nice)
{
	if (nice < t->nice && current->proc->euid && (u64)(20 - nice) > t->proc->rlim[RLIMIT_NICE].rlim_cur)
		return -EACCES;
	t->nice = nice;
	return 0;
}

SYSCALL2(getpriority, int, which, s32, who)
{
	return each_target(which, who, get_nice, 0);
}

SYSCALL3(setpriority, int, which, s32, who, int, nice)
{
	return each_target(which, who, set_nice, MIN(MAX(nice, -20), 19));
}
