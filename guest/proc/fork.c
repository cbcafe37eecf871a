/* SPDX-License-Identifier: ISC */
/*
 * Birth of threads and processes: clone in all its forms, fork and vfork.
 *
 * process_clone() makes either a thread of the current process (CLONE_THREAD) or a child process.
 * Everything that can fail is done first, on objects that nobody else sees yet, and undone when it does;
 * from the point where the child gets its turn on nothing fails. Nothing here sleeps before that point,
 * so no signal or timer comes between: what is pending for the parent is not the child's.
 *
 *	address space	CLONE_VM: shared, by reference; else a copy-on-write copy (aspace_fork)
 *	descriptors	CLONE_FILES: shared; else a copy that refers to the same open files
 *	cwd, umask	CLONE_FS
 *	handlers	CLONE_SIGHAND; CLONE_CLEAR_SIGHAND: default ones, but what is ignored stays so
 *	not inherited	pending signals, timers, record and memory locks, robust list, CPU time, pdeathsig
 *
 * CLONE_VFORK: the parent's thread sleeps until the child execs or ends; only a fatal signal wakes it earlier.
 *
 * Limits: RLIMIT_NPROC as on Linux (threads of one user; root is exempt), PROCESSES_MAX and THREADS_MAX for
 * the instance: EAGAIN. Too little memory for what parents and children will need at once (aspace.c): ENOMEM. Namespaces and control groups do not exist: EINVAL.
 */
#include <linux/sched.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/vfs/vfs.h"

#define THREAD_FLAGS  (CLONE_VM | CLONE_THREAD | CLONE_SIGHAND)
#define THREAD_SHARED (CLONE_FS | CLONE_FILES)
#define NAMESPACES                                                                                           \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |        \
	 CLONE_NEWNET | CLONE_INTO_CGROUP)
#define PROCESSES_MAX 4096u
#define THREADS_MAX   32768u

/* --- a thread ---------------------------------------------------------------- */

static void thread_enter(void *arg)
{
	struct thread *t = arg;

	thread_reap();
	if (t->set_child_tid)
		put_user(t->tid, (s32 *)t->set_child_tid);
	t->set_child_tid = 0;
	arch_return_to_user((struct regs *)t->kstack_top - 1);
}

/* Registers and what else a new thread has of the one that made it. */
static void inherit_thread(struct thread *t, const struct clone_req *q)
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
	t->policy = parent->policy;
	t->rt_priority = parent->rt_priority;
	t->blocked = parent->blocked;
	t->timer_slack_ns = parent->timer_slack_ns;
	if ((q->flags & (CLONE_VM | CLONE_VFORK)) != CLONE_VM)
		t->altstack = parent->altstack; /* the same stack for both, unless they run on it at once */
	if (q->flags & CLONE_CHILD_CLEARTID)
		t->clear_child_tid = q->ctid;
	if (q->flags & CLONE_CHILD_SETTID)
		t->set_child_tid = q->ctid;
}

static void thread_go(struct thread *t)
{
	arch_thread_setup(t, thread_enter, t);
	sched_new_thread(t);
}

static s64 clone_thread(const struct clone_req *q)
{
	struct thread *t = thread_new(current->proc);
	s32 tid;

	if (!t)
		return -EAGAIN;
	tid = t->tid;
	inherit_thread(t, q);
	if (current->own_fs)
		fs_context_get(t->own_fs = current->own_fs);
	if (current->own_fds)
		fdtable_get(t->own_fds = current->own_fds);
	if (q->flags & CLONE_PARENT_SETTID)
		put_user(tid, (s32 *)q->ptid);
	thread_go(t);
	return tid;
}

/* --- a process ----------------------------------------------------------------- */

/* What is copied by value. */
static void inherit_values(struct process *c, const struct process *p)
{
	c->pgid = p->pgid;
	c->sid = p->sid;
	c->no_tty = p->no_tty;
	c->uid = p->uid, c->euid = p->euid, c->suid = p->suid, c->fsuid = p->fsuid;
	c->gid = p->gid, c->egid = p->egid, c->sgid = p->sgid, c->fsgid = p->fsgid;
	memcpy(c->groups, p->groups, sizeof(c->groups));
	c->n_groups = p->n_groups;
	c->cap_effective = p->cap_effective;
	c->cap_permitted = p->cap_permitted;
	c->cap_inheritable = p->cap_inheritable;
	c->cap_bounding = p->cap_bounding;
	c->cap_ambient = p->cap_ambient;
	memcpy(c->rlim, p->rlim, sizeof(c->rlim));
	cpu_limit_note(RLIM64_INFINITY, c->rlim[RLIMIT_CPU].rlim_cur);
	c->dumpable = p->dumpable;
	c->no_new_privs = p->no_new_privs;
	c->personality = p->personality;
	c->securebits = p->securebits;
	c->keepcaps = p->keepcaps;
	c->oom_score_adj = p->oom_score_adj;
	memcpy(c->comm, p->comm, sizeof(c->comm));
}

static void inherit_handlers(struct process *c, struct process *p, u64 flags)
{
	if (flags & CLONE_SIGHAND) {
		sighand_put(c->sighand);
		c->sighand = p->sighand;
		c->action = c->sighand->action;
		c->sighand->refs++;
		return;
	}
	for (int sig = 1; sig <= N_SIGNALS; sig++) {
		struct ksigaction ka = p->action[sig];

		if (flags & CLONE_CLEAR_SIGHAND && ka.handler != SIG_IGN)
			ka = (struct ksigaction){.handler = SIG_DFL};
		c->action[sig] = ka;
	}
}

static bool inherit_files(struct process *c, struct process *p, u64 flags)
{
	struct fs_context *fs = current->own_fs ? current->own_fs : p->fs;

	if (flags & CLONE_FILES)
		fdtable_get(c->fds = fdtable_current());
	else
		c->fds = fdtable_fork(fdtable_current());
	if (flags & CLONE_FS)
		fs_context_get(c->fs = fs);
	else
		c->fs = fs_context_fork(fs);
	if (p->exe)
		file_get(c->exe = p->exe);
	if (p->exe_path)
		c->exe_path = kstrdup(p->exe_path);
	return c->fds && c->fs && (c->exe_path || !p->exe_path);
}

static bool inherit_memory(struct process *c, struct process *p, u64 flags)
{
	if (flags & CLONE_VM)
		aspace_get(c->as = p->as);
	else
		c->as = aspace_fork(p->as);
	return c->as;
}

/* Nobody has seen it: undo what there is. */
static void unborn(struct process *c, struct thread *t)
{
	if (t)
		thread_free(t);
	if (c->as)
		aspace_put(c->as);
	if (c->fds)
		fdtable_put(c->fds);
	if (c->fs)
		fs_context_put(c->fs);
	if (c->exe)
		file_put(c->exe);
	kfree(c->exe_path);
	itimers_free(c);
	process_reap(c);
}

static struct process *process_copy(const struct clone_req *q, struct thread **first)
{
	struct process *p = current->proc, *c = process_new();

	*first = NULL;
	if (!c)
		return NULL;
	inherit_values(c, p);
	inherit_handlers(c, p, q->flags);
	if (inherit_files(c, p, q->flags) && inherit_memory(c, p, q->flags))
		*first = thread_new(c);
	if (*first)
		return c;
	unborn(c, NULL);
	return NULL;
}

/* Its place among the others. */
static void join_family(struct process *c, const struct clone_req *q)
{
	struct process *me = current->proc, *parent = me;

	c->exit_signal = q->exit_signal;
	c->maker_tid = current->tid;
	if (q->flags & CLONE_PARENT) {
		parent = me->parent;
		c->exit_signal = me->exit_signal;
		c->maker_tid = me->maker_tid;
	}
	c->parent = parent;
	c->ppid = parent ? parent->pid : 1;
	if (parent)
		list_add_tail(&parent->children, &c->sibling);
}

static s64 clone_process(const struct clone_req *q)
{
	struct thread *t;
	struct process *c = process_copy(q, &t);
	s32 pid, fd;

	if (!c)
		return -ENOMEM;
	pid = c->pid;
	inherit_thread(t, q);
	if (q->flags & CLONE_PIDFD) {
		fd = pidfd_install(c, 0);
		if (fd < 0 || put_user(fd, (s32 *)q->pidfd)) {
			if (fd >= 0)
				fd_close(fd);
			unborn(c, t);
			return fd < 0 ? fd : -EFAULT;
		}
	}
	if (q->flags & CLONE_PARENT_SETTID)
		put_user(pid, (s32 *)q->ptid);
	join_family(c, q);
	process_lives(true);
	process_get(c);
	thread_go(t);
	if (q->flags & CLONE_VFORK)
		wait_event_killable(&c->vfork_wait, c->vfork_done);
	process_put(c);
	return pid;
}

/* --- what is allowed -------------------------------------------------------------- */

static bool flags_ok(u64 f)
{
	if ((f & CLONE_SIGHAND && !(f & CLONE_VM)) || (f & CLONE_THREAD && !(f & CLONE_SIGHAND)))
		return false;
	if (f & CLONE_SIGHAND && f & CLONE_CLEAR_SIGHAND)
		return false;
	if (f & CLONE_THREAD && ((f & THREAD_SHARED) != THREAD_SHARED || f & (CLONE_PIDFD | CLONE_VFORK)))
		return false;
	return !(f & NAMESPACES);
}

static bool room_for_one(u64 flags)
{
	struct process *me = current->proc;
	u64 limit = me->rlim[RLIMIT_NPROC].rlim_cur, all = 0, mine = 0;

	list_for_each (it, &all_threads) {
		struct thread *t = list_entry(it, struct thread, all_node);

		all++;
		mine += !t->kfn && t->proc->uid == me->uid;
	}
	if (all >= THREADS_MAX || (!(flags & CLONE_THREAD) && n_processes >= PROCESSES_MAX))
		return false;
	return mine < limit || !me->euid;
}

s64 process_clone(const struct clone_req *q)
{
	if (!flags_ok(q->flags))
		return -EINVAL;
	if (q->flags & CLONE_SETTLS && q->tls >= BOOT_TASK_SIZE)
		return -EPERM;
	if (!room_for_one(q->flags))
		return -EAGAIN;
	if (!(q->flags & CLONE_THREAD) && !aspace_fork_room())
		return -ENOMEM;
	return q->flags & CLONE_THREAD ? clone_thread(q) : clone_process(q);
}
