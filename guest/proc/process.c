/* SPDX-License-Identifier: ISC */
/*
 * Birth and death of threads and processes.
 *
 * The library OS is pid 1: it adopts what loses its parent and is the parent
 * of the program, which is pid 2. (Programs behave differently as pid 1, and a
 * parent of 1 tells a daemon that it need not fork.) Later processes count on.
 *
 * A thread's memory is one kernel stack: the vector state lies at its top,
 * struct regs below it, then the stack proper. An ended thread still stands on
 * its stack until the next one runs, which frees it (thread_reap).
 *
 * A process ends when its last thread does. The end of the program is the end
 * of the instance; then nothing is torn down but its open files, whose peers
 * must see them closed.
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
#include "guest/vfs/vfs.h"

#define KSTACK_SIZE 16384ul
#define TID_MAX	    4194304

struct list all_processes = LIST_INIT(all_processes);
struct process *init_process;
static struct list dead_threads = LIST_INIT(dead_threads);
static s32 last_tid = 1;

/* --- processes ------------------------------------------------------------------ */

static s32 tid_new(void)
{
	do {
		if (++last_tid > TID_MAX)
			last_tid = 300; /* as Linux: low numbers are not used again */
	} while (thread_by_tid(last_tid) || process_by_pid(last_tid));
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
	p->pid = p->shown_pid = tid_new();
	p->ppid = 1;
	p->pgid = p->sid = p->pid;
	list_init(&p->children);
	list_init(&p->sibling);
	list_init(&p->threads);
	sigpending_init(&p->pending);
	waitq_init(&p->child_wait);
	waitq_init(&p->signal_wait);
	p->dumpable = true;
	p->start_ns = mono_ns();
	default_limits(p);
	default_identity(p);
	list_add_tail(&all_processes, &p->all_node);
	return p;
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
	list_init(&t->run_node);
	list_init(&t->all_node);
	sigpending_init(&t->pending);
	t->altstack.ss_flags = SS_DISABLE;
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

/* Tell the monitor; does not come back. */
static _Noreturn void instance_exit(int wait_status)
{
	for (;;) {
		struct ring_sqe sqe = {.op = RING_OP_EXIT, .handle = RING_NO_HANDLE, .arg = (u32)wait_status};

		ring_call_nosleep(&sqe, NULL, NULL);
	}
}

static _Noreturn void process_end(struct process *p)
{
	struct fdtable *fds = p->fds;

	sem_process_gone(p);
	p->fds = NULL;
	if (fds)
		fdtable_put(fds); /* may sleep */
	if (p == init_process) {
		net_drain(DRAIN_NS);
		volumes_send();
		console_finish(p->exit_status);
		instance_exit(p->exit_status);
	}
	panic("a second process ended");
}

/* A thread's last words to the others: its tid word and its robust futexes. */
static void thread_release_user(struct thread *t)
{
	static const u32 zero;

	futex_exit_robust(t);
	if (t->clear_child_tid && t->proc->n_threads > 1) {
		if (!put_user(zero, (u32 *)t->clear_child_tid))
			futex_wake_addr(t->clear_child_tid, 1, false);
	}
	t->clear_child_tid = 0;
}

_Noreturn void thread_exit(void)
{
	struct thread *t = current;
	struct process *p = t->proc;
	bool user = !list_empty(&t->process_node);

	t->exiting = true;
	if (user) {
		thread_release_user(t);
		if (p->n_threads == 1)
			process_end(p);
		sched_account(t);
		p->dead_user_ns += t->user_ns;
		p->dead_sys_ns += t->sys_ns;
		p->dead_nvcsw += t->nvcsw;
		p->dead_nivcsw += t->nivcsw;
		list_del(&t->process_node);
		p->n_threads--;
		signal_flush(&t->pending, ~0ull);
		signal_retarget(p);
		waitq_wake_all(&p->child_wait, 0); /* exec waits for this in process_become_single() */
	}
	ktimer_cancel(&t->sleep_timer);
	t->state = THREAD_DEAD;
	if (t->xstate)
		list_add_tail(&dead_threads, &t->run_node);
	schedule();
	panic("a dead thread ran");
}

static void end_other_threads(struct process *p)
{
	list_for_each (it, &p->threads) {
		struct thread *t = list_entry(it, struct thread, process_node);

		if (t == current)
			continue;
		t->exiting = true;
		t->signal_pending = true;
		if (t->state == THREAD_SLEEPING_INTR)
			thread_wake(t);
	}
	waitq_wake_all(&p->child_wait, 0); /* two that exec at once: one of them sleeps here */
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
		process_end(p);
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
	wait_event(&p->child_wait, p->n_threads == 1 || t->exiting, NO_DEADLINE, false);
	if (t->exiting)
		return -EINTR;
	t->tid = p->pid;
	return 0;
}
