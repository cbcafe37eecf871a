/* SPDX-License-Identifier: ISC */
/*
 * Birth and death of threads, and the death of processes; their birth is in fork.c.
 *
 * The library OS is pid 1: it adopts what loses its parent and is the parent
 * of the program, which is pid 2. (Programs behave differently as pid 1, and a
 * parent of 1 tells a daemon that it need not fork.) Later processes count on.
 *
 * A thread's memory is one kernel stack: the vector state lies at its top,
 * struct regs below it, then the stack proper. An ended thread still stands on
 * its stack, in its page tables, until the next one runs, which frees both (thread_reap).
 *
 * A process ends when its last thread does: that thread gives everything away
 * in its own context, where it may sleep (process_end), and becomes a zombie
 * (wait.c). References: the lists hold one until process_reap(), each thread
 * object one, a pidfd one.
 *
 * The end of the program is the end of the instance: all other processes are
 * killed, and nothing is torn down but open files, whose peers must see them closed.
 */
#include <asm/mman.h>
#include <linux/capability.h>
#include <linux/resource.h>
#include <linux/signal.h>

#include "abi/boot.h"
#include "abi/ring.h"
#include "guest/arch/x86_64/arch.h"
#include "guest/ipc/ipc.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/net/net.h"
#include "guest/plat/ring.h"
#include "guest/proc/internal.h"
#include "guest/proc/smp.h"
#include "guest/proc/tty.h"
#include "guest/vfs/vfs.h"

#define KSTACK_SIZE 16384ul
#define TID_MAX	    4194304

struct list all_processes = LIST_INIT(all_processes);
u32 n_processes, n_living;
static struct waitq last_wait; /* the end of the instance waits for the others */
struct process *init_process;
static struct list dead_threads = LIST_INIT(dead_threads);
static s32 last_tid = 1;

/* --- processes ------------------------------------------------------------------ */

/* A number that names a thread, process, group or session cannot be given away again. */
static bool id_in_use(s32 id)
{
	list_for_each (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);

		if (p->pid == id || p->shown_pid == id || p->pgid == id || p->sid == id)
			return true;
	}
	return thread_by_tid(id) || tty_uses_id(id);
}

static s32 tid_new(void)
{
	do {
		if (++last_tid > TID_MAX)
			last_tid = 300; /* as Linux: low numbers are not used again */
	} while (id_in_use(last_tid));
	return last_tid;
}

s32 last_pid(void)
{
	return last_tid;
}

static void default_limits(struct process *p)
{
	for (unsigned i = 0; i < ARRAY_SIZE(p->rlim); i++)
		p->rlim[i] = (struct rlimit64){RLIM64_INFINITY, RLIM64_INFINITY};
	p->rlim[RLIMIT_STACK].rlim_cur = 8 << 20;
	p->rlim[RLIMIT_CORE].rlim_cur = 0;
	p->rlim[RLIMIT_NOFILE] = (struct rlimit64){1024, 1048576};
	p->rlim[RLIMIT_NPROC] = (struct rlimit64){4096, 4096};
	p->rlim[RLIMIT_MEMLOCK] = (struct rlimit64){8 << 20, 8 << 20};
	p->rlim[RLIMIT_SIGPENDING] = (struct rlimit64){4096, 4096};
	p->rlim[RLIMIT_MSGQUEUE] = (struct rlimit64){819200, 819200};
	p->rlim[RLIMIT_NICE] = (struct rlimit64){0, 0};
	p->rlim[RLIMIT_RTPRIO] = (struct rlimit64){0, 0};
}

/* Identity of the program; root has every capability in its own instance, as in a container. */
static void default_identity(struct process *p)
{
	u64 all = (1ull << (CAP_LAST_CAP + 1)) - 1;

	p->uid = p->euid = p->suid = p->fsuid = boot->uid;
	p->gid = p->egid = p->sgid = p->fsgid = boot->gid;
	for (u32 i = 0; i < boot->n_groups && i < ARRAY_SIZE(p->groups); i++)
		p->groups[p->n_groups++] = boot->groups[i];
	p->cap_bounding = all;
	if (!p->uid)
		p->cap_effective = p->cap_permitted = all;
}

struct process *process_new(void)
{
	struct process *p = kzalloc(sizeof(*p));

	if (!p)
		return NULL;
	p->sighand = kzalloc(sizeof(*p->sighand));
	if (!p->sighand) {
		kfree(p);
		return NULL;
	}
	p->sighand->refs = 1;
	p->action = p->sighand->action;
	p->refs = 1;
	p->pid = p->shown_pid = tid_new();
	p->ppid = 1;
	p->pgid = p->sid = p->pid;
	list_init(&p->children);
	list_init(&p->sibling);
	list_init(&p->threads);
	sigpending_init(&p->pending);
	waitq_init(&p->child_wait);
	waitq_init(&p->thread_wait);
	waitq_init(&p->vfork_wait);
	waitq_init(&p->exit_wait);
	waitq_init(&p->signal_wait);
	p->dumpable = true;
	p->start_ns = mono_ns();
	default_limits(p);
	default_identity(p);
	list_add_tail(&all_processes, &p->all_node);
	n_processes++;
	return p;
}

void process_lives(bool yes)
{
	n_living += yes ? 1 : -1u;
	stats->processes = n_living + 1;
	stats->processes_peak = MAX(stats->processes_peak, stats->processes);
	stats->processes_made += yes;
}

void process_get(struct process *p)
{
	p->refs++;
}

void process_put(struct process *p)
{
	if (--p->refs)
		return;
	signal_flush(&p->pending, ~0ull);
	waitq_detach(&p->child_wait);
	waitq_detach(&p->signal_wait);
	waitq_detach(&p->exit_wait);
	sighand_put(p->sighand);
	kfree(p);
}

void sighand_put(struct sighand *h)
{
	if (!--h->refs)
		kfree(h);
}

void process_reap(struct process *p)
{
	ASSERT(!p->reaped);
	p->reaped = true;
	list_del(&p->sibling);
	list_del(&p->all_node);
	n_processes--;
	process_put(p);
}

struct process *process_by_pid(s32 pid)
{
	list_for_each (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);

		if (p->pid == pid || p->shown_pid == pid)
			return p;
	}
	return NULL;
}

struct thread *thread_by_tid(s32 tid)
{
	list_for_each (it, &all_threads) {
		struct thread *t = list_entry(it, struct thread, all_node);

		if (t->tid == tid && t->state != THREAD_DEAD)
			return t;
	}
	return NULL;
}

u64 process_cpu_ns(struct process *p)
{
	u64 ns = p->dead_user_ns + p->dead_sys_ns;

	list_for_each (it, &p->threads)
		ns += thread_cpu_ns(list_entry(it, struct thread, process_node));
	return ns;
}

void usage_add(struct usage *sum, const struct usage *u)
{
	sum->user_ns += u->user_ns;
	sum->sys_ns += u->sys_ns;
	sum->nvcsw += u->nvcsw;
	sum->nivcsw += u->nivcsw;
	sum->minflt += u->minflt;
	sum->majflt += u->majflt;
	sum->maxrss_kb = MAX(sum->maxrss_kb, u->maxrss_kb);
}

static u64 peak_kb(const struct aspace *as)
{
	return as ? MAX(as->peak_rss_pages, as->rss_pages) * (PAGE_SIZE / 1024) : 0;
}

void process_usage(struct process *p, struct usage *u)
{
	*u = (struct usage){.user_ns = p->dead_user_ns,
			    .sys_ns = p->dead_sys_ns,
			    .nvcsw = p->dead_nvcsw,
			    .nivcsw = p->dead_nivcsw,
			    .minflt = p->minflt,
			    .majflt = p->majflt,
			    .maxrss_kb = MAX(p->maxrss_kb, peak_kb(p->as))};
	list_for_each (it, &p->threads) {
		struct thread *t = list_entry(it, struct thread, process_node);

		thread_cpu_ns(t);
		u->user_ns += t->user_ns;
		u->sys_ns += t->sys_ns;
		u->nvcsw += t->nvcsw;
		u->nivcsw += t->nivcsw;
	}
}

/* --- threads ---------------------------------------------------------------------- */

/* Vector registers as a new program finds them, at the next return to the app. */
void xstate_reset(struct thread *t)
{
	arch_xstate_init(t->xstate);
	t->xstate_saved = 1;
}

static u64 kstack_size(void)
{
	return KSTACK_SIZE + (arch_xstate_size() > PAGE_SIZE ? PAGE_UP(arch_xstate_size()) : 0);
}

struct thread *thread_new(struct process *p)
{
	struct thread *t = kzalloc(sizeof(*t));
	u64 top;

	if (!t)
		return NULL;
	top = (u64)kstack_alloc(kstack_size());
	if (!top) {
		kfree(t);
		return NULL;
	}
	t->xstate = (void *)(top - arch_xstate_size());
	t->kstack_top = (u64)t->xstate;
	xstate_reset(t);
	t->proc = p;
	process_get(p);
	t->affinity = current && !current->kfn ? current->affinity : ~0ull;
	list_init(&t->run_node);
	list_init(&t->all_node);
	sigpending_init(&t->pending);
	t->altstack.ss_flags = SS_DISABLE;
	t->signal_pending = true; /* its process may be stopping */
	list_add_tail(&p->threads, &t->process_node);
	p->n_threads++;
	t->tid = p->n_threads == 1 && !thread_by_tid(p->pid) ? p->pid : tid_new();
	return t;
}

void thread_free(struct thread *t)
{
	u64 top = (u64)t->xstate + arch_xstate_size();

	list_del(&t->all_node);
	if (!list_empty(&t->process_node)) {
		list_del(&t->process_node);
		t->proc->n_threads--;
	}
	if (t->drop_as)
		aspace_put(t->drop_as);
	kfree(t->strace_buf);
	process_put(t->proc);
	kstack_free((void *)top, kstack_size());
	kfree(t);
}

void thread_reap(void)
{
	list_for_each_safe (it, &dead_threads) {
		struct thread *t = list_entry(it, struct thread, run_node);

		if (t != current) {
			list_del(&t->run_node);
			thread_free(t);
		}
	}
}

/* As a program's name appears in comm: the last component, cut at 15 bytes. */
void thread_set_comm(struct thread *t, const char *path)
{
	const char *slash = strrchr(path, '/');

	path = slash ? slash + 1 : path;
	memset(t->comm, 0, sizeof(t->comm));
	memcpy(t->comm, path, strnlen(path, sizeof(t->comm) - 1));
}

static void kthread_entry(void *arg)
{
	struct thread *t = arg;

	thread_reap();
	t->kfn(t->karg);
	thread_exit();
}

struct thread *kthread_start(void (*fn)(void *), void *arg, const char *name)
{
	struct thread *t = thread_new(init_process);

	if (!t)
		return NULL;
	list_del(&t->process_node); /* it does nobody's work: no /proc/self/task entry, no signals */
	init_process->n_threads--;
	t->kfn = fn;
	t->karg = arg;
	t->blocked = ~0ull;
	thread_set_comm(t, name);
	arch_thread_setup(t, kthread_entry, t);
	sched_new_thread(t);
	return t;
}

/* --- the end ------------------------------------------------------------------------ */

/* How long a peer that does not read may hold up the end. */
#define DRAIN_NS (5 * NS_PER_SEC)
/* How long processes that sleep where no signal reaches may. */
#define OTHERS_NS NS_PER_SEC

/* Tell the monitor; does not come back. */
static _Noreturn void instance_exit(int wait_status)
{
	for (;;) {
		struct ring_sqe sqe = {.op = RING_OP_EXIT, .handle = RING_NO_HANDLE, .arg = (u32)wait_status};

		ring_call_nosleep(&sqe, NULL, NULL);
	}
}

/* Everybody but the program: killed, and waited for, so that what they have open is closed. */
static void end_all_others(void)
{
	u64 deadline = mono_ns() + OTHERS_NS;

	list_for_each (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);

		if (p != init_process)
			process_kill(p, SIGKILL);
	}
	wait_event(&last_wait, !n_living, deadline, false);
}

static _Noreturn void instance_end(struct process *p)
{
	struct fdtable *fds = p->fds;

	if (n_living)
		end_all_others();
	p->fds = NULL;
	if (fds)
		fdtable_put(fds); /* may sleep */
	net_drain(DRAIN_NS);
	volumes_send();
	console_finish(p->exit_status);
	instance_exit(p->exit_status);
}

void process_drop_memory(struct process *p)
{
	p->maxrss_kb = MAX(p->maxrss_kb, peak_kb(p->as));
	p->vfork_done = true;
	waitq_wake_all(&p->vfork_wait, 0);
}

/*
 * The last thread of a process that is not the program gives all away. May sleep. The page tables are
 * needed until another thread runs: thread_reap() frees them.
 */
static void process_end(struct process *p)
{
	struct aspace *as = p->as;

	jobs_process_exit(p);
	itimers_free(p);
	posix_timers_free(p);
	kfree(p->posix_timers);
	p->posix_timers = NULL;
	sem_process_gone(p);
	process_drop_memory(p);
	p->as = NULL;
	if (as) {
		if (as->refs == 1)
			aspace_empty(as);
		current->drop_as = as;
	}
	fds_release(p);
	if (p->fs)
		fs_context_put(p->fs);
	p->fs = NULL;
	if (p->exe)
		file_put(p->exe);
	p->exe = NULL;
	kfree(p->exe_path);
	p->exe_path = NULL;
	children_reparent(p);
}

void thread_release_user(struct thread *t)
{
	static const u32 zero;
	struct process *p = t->proc;

	if (!p->as)
		return;
	futex_exit_robust(t);
	if (t->clear_child_tid && (p->n_threads > 1 || p->as->refs > 1)) {
		if (!put_user(zero, (u32 *)t->clear_child_tid))
			futex_wake_addr(t->clear_child_tid, 1, false);
	}
	t->clear_child_tid = 0;
}

/* The thread is none of the process's any more. */
static void leave_process(struct thread *t)
{
	struct process *p = t->proc;

	sched_account(t);
	p->dead_user_ns += t->user_ns;
	p->dead_sys_ns += t->sys_ns;
	p->dead_nvcsw += t->nvcsw;
	p->dead_nivcsw += t->nivcsw;
	if (t->tid == p->pid)
		memcpy(p->comm, t->comm, sizeof(p->comm)); /* what a zombie is shown as */
	list_del(&t->process_node);
	p->n_threads--;
	signal_flush(&t->pending, ~0ull);
}

_Noreturn void thread_exit(void)
{
	struct thread *t = current;
	struct process *p = t->proc;

	t->exiting = true;
	if (!list_empty(&t->process_node)) {
		bool last;

		thread_release_user(t);
		t->pi_gone = true;
		fdtable_leave(t); /* may sleep */
		last = p->n_threads == 1;
		if (t->own_fs)
			fs_context_put(t->own_fs);
		t->own_fs = NULL;
		if (last && p == init_process)
			instance_end(p);
		if (last)
			process_end(p); /* may sleep */
		else
			parent_thread_died(t);
		leave_process(t);
		if (last) {
			p->zombie = true;
			process_lives(false);
			waitq_wake_all(&last_wait, 0);
			child_ended(p);
		} else {
			signal_retarget(p);
			jobs_thread_count_changed(p);
			waitq_wake_all(&p->thread_wait, 0);
		}
	}
	ktimer_cancel(&t->sleep_timer);
	t->state = THREAD_DEAD;
	if (t->xstate)
		list_add_tail(&dead_threads, &t->run_node);
	schedule();
	panic("a dead thread ran");
}

static void tell_to_exit(struct thread *t)
{
	t->exiting = true;
	signal_kick(t);
}

static void end_other_threads(struct process *p)
{
	list_for_each (it, &p->threads) {
		struct thread *t = list_entry(it, struct thread, process_node);

		if (t != current)
			tell_to_exit(t);
	}
	waitq_wake_all(&p->thread_wait, 0); /* two that exec at once: one of them sleeps here */
}

void process_kill(struct process *p, int wait_status)
{
	if (p->zombie)
		return;
	if (!p->group_exit) {
		p->group_exit = true;
		p->exit_status = wait_status;
	}
	end_other_threads(p);
	if (current->proc == p)
		tell_to_exit(current);
}

_Noreturn void process_exit(int wait_status)
{
	struct process *p = current->proc;

	if (!p->group_exit) {
		p->group_exit = true;
		p->exit_status = wait_status;
		end_other_threads(p);
	}
	if (p == init_process) {
		/* Whoever sleeps in the ring need not be waited for. */
		thread_release_user(current);
		instance_end(p);
	}
	thread_exit();
}

u32 thread_user_count(const struct process *p)
{
	return p->n_threads;
}

int process_become_single(void)
{
	struct thread *t = current;
	struct process *p = t->proc;

	end_other_threads(p);
	wait_event(&p->thread_wait, p->n_threads == 1 || t->exiting, NO_DEADLINE, false);
	if (t->exiting)
		return -EINTR;
	children_renamed(p, t->tid, p->pid);
	t->tid = p->pid;
	return 0;
}
