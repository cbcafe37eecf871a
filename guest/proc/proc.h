/* SPDX-License-Identifier: ISC */
/*
 * Processes, threads, signals. A process owns an address space, descriptors,
 * signal handlers and credentials; a thread owns a kernel stack and registers.
 *
 * pid 1 is the library OS itself: it adopts and reaps orphans. The program is pid 2
 * (init_process); when it ends, all others are killed and the instance ends.
 */
#ifndef COWBELL_GUEST_PROC_H
#define COWBELL_GUEST_PROC_H

#include <asm/siginfo.h>
#include <asm/signal.h>
#include <linux/resource.h>

#include "guest/arch/x86_64/regs.h"
#include "guest/base.h"
#include "guest/proc/waitq.h"

struct aspace;
struct fdtable;
struct fs_context;
struct file;
struct process;

#define N_SIGNALS 64
typedef u64 sigmask_t; /* bit n-1: signal n */
#define SIGBIT(n) (1ull << ((n)-1))

struct sigqueue {
	struct list node;
	struct process *proc; /* whose it counts as */
	siginfo_t info;
};

struct sigpending {
	sigmask_t set;
	struct list queue; /* struct sigqueue */
};

struct ksigaction {
	void *handler; /* SIG_DFL, SIG_IGN or address */
	u64 flags;
	void *restorer;
	sigmask_t mask;
};

/* What several processes share that were made with CLONE_SIGHAND; process.action points to its action. */
struct sighand {
	u32 refs;
	struct ksigaction action[N_SIGNALS + 1];
};

/*
 * SLEEPING_INTR ends by any signal to be delivered, SLEEPING_KILL by one that ends the process, SLEEPING by neither.
 * thread_sleeps() asks for all of them.
 */
enum thread_state {
	THREAD_RUNNABLE,
	THREAD_SLEEPING,
	THREAD_SLEEPING_INTR,
	THREAD_SLEEPING_KILL,
	THREAD_DEAD,
};

struct thread {
	/* what every switch and system call touches, in one cache line */
	u64 kstack_top; /* struct regs lies just below */
	u64 kstack_sp; /* saved while not running */
	u64 fs_base;
	void *xstate; /* XSAVE area, 64-byte aligned */
	u64 xstate_saved; /* 1: registers are in xstate and must be loaded before return */
	u64 pad_[3];

	struct list run_node, process_node, all_node;
	enum thread_state state;
	struct process *proc;
	s32 tid;
	char comm[16];
	int nice;
	u32 on_cpu; /* 1 + CPU that runs it; 0: none */
	u32 home; /* 1 + CPU that ran it last; 0: none */
	int brief; /* sched.c: how surely it sleeps soon after it woke somebody */
	u64 woke_tsc,
		woken_tsc; /* when it woke another thread, and was woken; 0: since it slept, and by none */
	const struct thread *waker; /* only to be compared */
	u64 affinity; /* CPUs that may run it */
	u64 vruntime_ns; /* CPU time weighted by nice: the run queue's order (sched.c) */
	u64 user_ns, sys_ns, start_ns, last_ns;
	u64 preempted_ns; /* when it last took the CPU from its waker */
	u64 nvcsw, nivcsw;

	sigmask_t blocked, saved_mask; /* saved_mask: restored after sigsuspend, ppoll... */
	bool restore_mask;
	struct sigpending pending;
	bool signal_pending; /* recalculated by signal.c: something deliverable, or exit */
	stack_t altstack;

	/* unshare() of one thread among several; NULL: its process's */
	struct fs_context *own_fs;
	struct fdtable *own_fds;
	u64 clear_child_tid; /* user address */
	u64 set_child_tid; /* CLONE_CHILD_SETTID: stored by the new thread itself, in its own memory; 0: no */
	u64 robust_list, robust_len;
	struct list pi_owned; /* futex_pi.c: who wait for words that it owns; next NULL: never one */
	struct futex_waiter *pi_wait; /* it waits for such a word itself */
	int pi_boost; /* NICE_NONE - the nice value that it runs with on their behalf; 0: none */
	bool pi_gone; /* it ends, and owns none any more */
	struct ktimer sleep_timer;
	bool timed_out;
	struct { /* ERESTART_RESTARTBLOCK */
		s64 (*fn)(struct thread *);
		u64 arg[6];
	} restart;
	bool exiting;
	bool stopped; /* stands still in job_stop_here() */
	int pdeathsig; /* of the process's first thread counts; sent when the thread proc->maker_tid of the parent ends */
	void (*kfn)(void *); /* a thread of the library OS itself: entry and argument */
	void *karg;
	u64 trap_no, trap_err, trap_addr; /* of the last fault, for sigcontext */
	sigmask_t real_blocked; /* sigtimedwait: wanted signals that were blocked before it */
	u64 timer_slack_ns;
	int policy, rt_priority; /* as set by sched_setscheduler; shown, not acted upon */
	void *strace_buf;
	struct aspace
		*drop_as; /* of a dead thread: emptied, and freed when another address space is current */
};

#define NICE_NONE 20 /* worse than any */

/* What the scheduler goes by. */
static inline int thread_nice(const struct thread *t)
{
	return MIN(t->nice, NICE_NONE - t->pi_boost);
}

static inline bool thread_sleeps(const struct thread *t)
{
	return t->state >= THREAD_SLEEPING && t->state <= THREAD_SLEEPING_KILL;
}

/* What was used up, as in getrusage(2). */
struct usage {
	u64 user_ns, sys_ns, nvcsw, nivcsw, minflt, majflt, maxrss_kb;
};

/*
 * The life of a process:
 *
 *	 process_clone()          last thread ends               wait, or nobody is interested
 *	---------------> running ------------------> zombie ------------------------------> gone
 *	                                 process_end             process_reap
 *
 * running: as, fds, fs and threads are there. zombie: all of them are NULL or empty; it keeps its ids,
 * exit_status and usage, is found by process_by_pid() and takes signals without effect. gone: out of all
 * lists; the memory stays until the last reference (process_get) goes. Whoever sleeps while using a process
 * of which current is no thread takes a reference, and looks at `zombie` and the pointers again afterwards.
 */
struct process {
	s32 pid, ppid, pgid, sid;
	s32 shown_pid; /* getpid's answer to libraries that ask whether they are a copy (restored.c); both name the process */
	struct process *parent; /* NULL: the library OS, pid 1 */
	struct list children, sibling,
		all_node; /* sibling: in parent->children, zombies too; empty without a parent */
	u32 refs;
	bool zombie, reaped;
	int exit_signal; /* what the parent gets at the end; 0: nothing; SIGCHLD after an exec */
	s32 maker_tid; /* thread of the parent that made it: pdeathsig, __WNOTHREAD */
	/* Job control's news for wait (wait.c takes them): the signal that stopped it; that it goes on. Set both
	 * through child_report(), which also tells the parent. */
	u8 stop_report;
	bool cont_report;
	bool vfork_done; /* what the parent of a CLONE_VFORK child sleeps for, on vfork_wait: it exec'ed or ended */
	struct waitq vfork_wait;
	struct waitq thread_wait; /* a thread ended: exec, in process_become_single() */
	struct waitq exit_wait; /* it became a zombie: pidfds */
	struct usage child; /* of children that were waited for, and of theirs */
	u64 maxrss_kb; /* of earlier address spaces */
	struct list threads;
	u32 n_threads;
	struct aspace *as;
	struct fdtable *fds;
	struct fs_context *fs; /* cwd, root, umask (vfs) */
	struct sighand *sighand; /* counted */
	struct ksigaction *action; /* sighand->action */
	struct sigpending pending;
	u32 uid, euid, suid, fsuid, gid, egid, sgid, fsgid;
	u32 groups[32], n_groups;
	u64 cap_effective, cap_permitted, cap_inheritable, cap_bounding, cap_ambient;
	struct rlimit64 rlim[16];
	struct file *exe;
	char *exe_path;
	bool group_exit, dumpable, no_new_privs;
	bool did_exec; /* since it was forked */
	int exit_status; /* as in wait(2) */
	/* job control (jobs.c, tty.c) */
	bool stopped; /* all threads stand still */
	bool no_tty; /* gave up its session's terminal for itself; a child inherits that */
	int stop_sig; /* the signal of a stop that is wanted or in effect; 0: none */
	u32 n_stopped; /* threads that stand still for it */
	s32 old_tty_pgrp; /* a session leader whose terminal hung up: who was in the foreground */
	u64 io_read, io_written, io_reads, io_writes; /* bytes and calls, as /proc/PID/io has them */
	u32 n_sigqueued; /* entries of its and its threads' queues */
	struct waitq child_wait, signal_wait; /* its threads in wait4; signalfd and sigtimedwait */
	struct {
		struct ktimer t;
		u64 interval_ns;
	} itimer_real;
	void *posix_timers;
	u64 dead_nvcsw, dead_nivcsw;
	u64 dead_user_ns, dead_sys_ns, start_ns, minflt, majflt;
	u32 personality, securebits, keepcaps, child_subreaper;
	s32 oom_score_adj; /* who is ended first when memory is short (oom.c) */
	char comm[16];
};

extern struct process *init_process; /* the program */

/* Per-virtual-CPU block, addressed by %gs; first fields are fixed for assembly. */
struct cpu {
	struct cpu *self; /* gs:0 */
	struct thread *thread; /* gs:8, current */
	u64 syscall_entry; /* gs:16, where patched sites jump: jmp *%gs:16 */
	u64 user_rsp; /* gs:24 scratch */
	u64 exc_stack_top; /* gs:32 */
	u64 stack_guard; /* gs:40, stack protector canary: the same on all, threads go from one to another */
	u32 id; /* gs:48, read by the vDSO's getcpu */
	bool smp; /* one of several: entries take the lock, see smp.c */
	u64 scratch[8];
	struct boot_vcpu *shared;
	bool need_resched;
	struct thread *idle; /* runs when nothing else does; only with several CPUs */
	struct aspace *as; /* current address space (aspace_active) */
	u64 cr3; /* kvm.c */
	u64 handover[9]; /* process.S: struct arch_frozen of the switch that is under way */
	u64 forget_va, forget_len; /* what the next host process unmaps before it loads that */
	u32 host; /* process_hosts.c: the number of the host process that this CPU is in */
	u64 signal_stack_top; /* process_hosts.c: of CPUs > 0, and of CPU 0 where a CPU > 0 made the host process */
	u64 free_syscalls; /* done without the lock, not yet in stats */
	u64 busy_ns; /* counted only with several CPUs */
	/* smp.c */
	u32 in_user; /* runs the app, or is on its way there without the lock */
	bool idling; /* sleeps, or is about to: a poke is needed and enough, or less if it is */
	u32 polling; /* looking out for work without sleeping: whoever clears this need not poke */
	bool coming; /* was polling and has been told, at told_tsc: it takes the lock at once, if the host lets it */
	u64 told_tsc;
	u8 poll_penalty, poll_skip; /* how often it shall not poll since that was in vain */
	bool gives; /* CPU 0: another CPU shall have what it runs */
	bool flush; /* has old translations: drops them when it next takes the lock */
	u32 parked; /* at rest for a snapshot */
	struct thread *left; /* what it ran when it parked */
};

static inline struct cpu *cpu_block(void)
{
	struct cpu *c;
	__asm__ volatile("mov %%gs:0, %0" : "=r"(c));
	return c;
}
static inline struct thread *current_thread(void)
{
	struct thread *t;
	__asm__ volatile("mov %%gs:8, %0" : "=r"(t));
	return t;
}
#ifndef current
#define current	   current_thread()
#define this_cpu() cpu_block()
#endif
#define current_regs() ((struct regs *)(current->kstack_top) - 1)

/* --- scheduling (sched.c) -------------------------------------------------- */
void sched_init(void);
void schedule(void); /* pick the next runnable thread; sleeps in the ring if none */
bool thread_yields_alone(void); /* nothing would come of it; may be asked without the lock */
void thread_yield(void);
/* A library OS thread; may sleep, has no user half. NULL: no memory. */
struct thread *kthread_start(void (*fn)(void *), void *arg, const char *name);
struct thread *thread_by_tid(s32 tid);
struct process *process_by_pid(s32 pid);
u64 thread_cpu_ns(struct thread *t);
u64 process_cpu_ns(struct process *p);

/* --- processes: process.c, fork.c, wait.c --------------------------------------- */
void process_get(struct process *p);
void process_put(struct process *p);
/* What p used so far (a zombie: all its life), without its children. */
void process_usage(struct process *p, struct usage *u);
void usage_add(struct usage *sum, const struct usage *u); /* maxrss: the larger one */
/* clone, clone3, fork, vfork after decoding. */
struct clone_req {
	u64 flags, stack, ptid, ctid, tls;
	u64 pidfd; /* user address, with CLONE_PIDFD */
	int exit_signal;
};
s64 process_clone(
	const struct clone_req *q); /* id of the new thread or process, or -errno; in the child: never */
/*
 * p has news for its parent: code CLD_STOPPED, CLD_CONTINUED (status: the signal) or, from process_end only, CLD_EXITED and so
 * on. Sends SIGCHLD (stops: unless SA_NOCLDSTOP), wakes who waits.
 */
void child_report(struct process *p, int code, int status);

/* --- what the system says it is (linux/sys_misc.c); /proc shows the same ----- */
#define SYSTEM_RELEASE "6.1.0-cowbell"
#define SYSTEM_VERSION "#1 SMP PREEMPT_DYNAMIC Cowbell"
const char *system_hostname(void);

/* --- from arch/ (entry.S, trap.c) into proc/ ------------------------------- */
/* Each runs on the current thread's kernel stack, regs at its top, may sleep. */
void syscall_dispatch(struct regs *r); /* linux/dispatch.c: result in r->rax */
bool syscall_try_free(struct regs *r);
void trap_from_user(struct regs *r, int vector, u64 error, u64 addr); /* proc/trap.c */
/* Before every return to the app: signals, rescheduling. entry.S calls it when thread->signal_pending
 * or cpu->need_resched or vcpu->kick is set. */
void return_to_user_work(struct regs *r);

/* --- signals (signal.c) ---------------------------------------------------- */
int signal_thread(struct thread *t, int sig, const siginfo_t *info); /* info NULL: SI_KERNEL */
int signal_process(struct process *p, int sig, const siginfo_t *info);
int signal_pgrp(s32 pgid, int sig, const siginfo_t *info);
void signal_force(int sig, int code, u64 addr); /* to current; cannot be ignored or blocked */
/* May current send it (credentials, as kill(2))? */
bool signal_permitted(const struct process *to, int sig);
/* May current look into p: its memory, descriptors, environment (as for ptrace)? */
bool process_may_inspect(const struct process *p, bool by_fs_ids);
bool signal_is_pending(void); /* current has something to deliver */
void signal_recalc(struct thread *t);
/* ppoll, pselect6, epoll_pwait: wait under another mask. size must be 8. uset NULL: nothing changes.
 * The old mask comes back after the handler when the call is interrupted; else on restore. */
int signal_user_mask(const void *uset, u64 size);
void signal_user_mask_restore(bool interrupted);
_Noreturn void process_exit(int wait_status); /* exit_group; status as in wait(2) */
/* End p with this wait status as soon as its threads come by; they are woken. For SIGKILL, and the end of the instance. */
void process_kill(struct process *p, int wait_status);
_Noreturn void thread_exit(void);

/*
 * There is no frame left for `as` (oom.c). End the process with the most memory, which frees that at once. False: it
 * is one that uses `as`; SIGKILL is on its way. Never sleeps.
 */
bool oom_kill(struct aspace *as);

/* --- program start (exec.c) ------------------------------------------------ */
/* Load path into a fresh address space and set current's registers; -errno if it cannot. */
/* The dynamic linker is done: note the time for --stats. Returns the program's entry. */
s64 exec_note_main(void);
int exec_program(const char *path, char *const argv[], char *const envp[]);

/* --- arch (switch.S) -------------------------------------------------------- */
void arch_switch(struct thread *prev, struct thread *next); /* kernel stacks, fs base, xstate, gs:8 */
void arch_thread_setup(struct thread *t, void (*fn)(void *), void *arg); /* first switch calls fn(arg) */
_Noreturn void arch_return_to_user(struct regs *r); /* full restore, also of xstate */
/* XSAVE image of the current thread's state at the moment of entry (for signal frames), and back. */
void arch_xstate_save(struct thread *t); /* live registers -> t->xstate, sets xstate_saved */

#endif
