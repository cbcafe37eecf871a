/* SPDX-License-Identifier: ISC */
/*
 * System calls: clone, and threads and their scheduling. What clone makes is
 * decided in proc/fork.c. Scheduling policies are kept and shown; the
 * scheduler itself knows nice values only.
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
#include "guest/proc/smp.h"
#include "guest/vfs/vfs.h"

#define CLONE_MAX_ARGS PAGE_SIZE

SYSCALL5(clone, u64, flags, u64, stack, u64, ptid, u64, ctid, u64, tls)
{
	u64 f = (u32)flags & ~(u64)CSIGNAL;
	struct clone_req q = {f, stack, ptid, ctid, tls, ptid, (int)(flags & CSIGNAL)};

	/* One address cannot have both. */
	if (f & CLONE_PIDFD && f & (CLONE_PARENT_SETTID | CLONE_DETACHED))
		return -EINVAL;
	return process_clone(&q);
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
	    (a.flags & (CLONE_THREAD | CLONE_PARENT) && a.exit_signal) || a.flags >> 34)
		return -EINVAL;
	if (!a.stack != !a.stack_size || a.set_tid_size)
		return -EINVAL;
	q = (struct clone_req){a.flags,
			       a.stack ? a.stack + a.stack_size : 0,
			       a.parent_tid,
			       a.child_tid,
			       a.tls,
			       a.pidfd,
			       (int)a.exit_signal};
	return process_clone(&q);
}

SYSCALL0(fork)
{
	struct clone_req q = {.exit_signal = SIGCHLD};

	return process_clone(&q);
}

SYSCALL0(vfork)
{
	struct clone_req q = {.flags = CLONE_VFORK | CLONE_VM, .exit_signal = SIGCHLD};

	return process_clone(&q);
}

/*
 * Between processes these may have been shared by clone. One thread among several may have directories and descriptors of
 * its own, which threads and processes that it makes get.
 */
SYSCALL1(unshare, u64, flags)
{
	struct process *p = current->proc;
	const u64 alone = CLONE_THREAD | CLONE_VM | CLONE_SIGHAND; /* nothing to do for who is */
	struct fs_context *fs, **at;

	if (flags & ~(alone | CLONE_FILES | CLONE_FS | CLONE_SYSVSEM))
		return -EINVAL;
	if (flags & alone && (p->n_threads > 1 || p->as->refs > 1 || p->sighand->refs > 1))
		return -EINVAL;
	if (flags & CLONE_FS) {
		at = current->own_fs ? &current->own_fs : &p->fs;
		fs = at == &p->fs && p->n_threads > 1 ? fs_context_fork(*at) : fs_context_unshare(*at);
		if (!fs)
			return -ENOMEM;
		*(p->n_threads > 1 ? &current->own_fs : at) = fs;
	}
	return flags & CLONE_FILES ? fdtable_unshare_current() : 0;
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

/* Restartable sequences are not offered; glibc goes on without. */
SYSCALL4(rseq, void *, area, u32, len, int, flags, u32, sig)
{
	return -ENOSYS;
}

SYSCALL0(gettid)
{
	return current->tid;
}

/*
 * Every other CPU that runs the app comes into the library OS and back, which is a barrier of any kind, also for
 * instructions. With one CPU, whatever another thread does next sees everything that came before.
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
	if (cmd <= 0 || cmd & (cmd - 1) || !(cmd & supported))
		return -EINVAL;
	if (cmd & (MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_GLOBAL_EXPEDITED))
		smp_quiesce(NULL);
	else if (cmd & (MEMBARRIER_CMD_PRIVATE_EXPEDITED | MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE))
		smp_quiesce(current->proc->as);
	return 0;
}

/* --- scheduling ------------------------------------------------------------------------ */

SYSCALL0(sched_yield)
{
	if (without_lock())
		return thread_yields_alone() ? 0 : -ENEEDLOCK;
	thread_yield();
	return 0;
}

static struct thread *find(s32 tid)
{
	struct thread *t = tid ? thread_by_tid(tid) : current;

	return t && !t->kfn ? t : NULL;
}

static u64 online_cpus(void)
{
	return (1ull << n_cpus) - 1;
}

SYSCALL3(sched_setaffinity, s32, tid, u64, len, const u8 *, umask)
{
	struct thread *t = find(tid);
	u64 mask = 0;

	if (copy_in(&mask, umask, MIN(len, sizeof(mask))))
		return -EFAULT;
	if (!t)
		return -ESRCH;
	mask &= online_cpus();
	if (!mask)
		return -EINVAL;
	t->affinity = mask;
	if (t->on_cpu && !(mask >> (t->on_cpu - 1) & 1))
		smp_resched(t->on_cpu - 1);
	return 0;
}

SYSCALL3(sched_getaffinity, s32, tid, u64, len, u64 *, umask)
{
	struct thread *t = find(tid);
	u64 mask;

	if (len < sizeof(mask) || len & 7)
		return -EINVAL;
	if (!t)
		return -ESRCH;
	mask = t->affinity & online_cpus();
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

	if (tid == 1)
		return SCHED_NORMAL; /* the library OS, which has no thread */
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
	u32 zero = 0, cpu = this_cpu()->id;

	if ((ucpu && put_user(cpu, ucpu)) || (unode && put_user(zero, unode)))
		return -EFAULT;
	return 0;
}

/* --- nice values ------------------------------------------------------------------------- */

/* Apply fn to the threads that (which, who) names; the best result, or -ESRCH. */
static s64 each_target(int which, s32 who, s64 (*fn)(struct thread *t, int arg), int arg)
{
	s64 best = -ESRCH;
	bool any = false;

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
		if (!hit)
			continue;
		s64 r = fn(t, arg);
		best = any ? MAX(best, r) : r;
		any = true;
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
