/* SPDX-License-Identifier: ISC */
/*
 * Processes, threads, signals. A process owns an address space, descriptors,
 * signal handlers and credentials; a thread owns a kernel stack and registers.
 * There can be several processes by design; today there is one, pid 1 is the
 * library OS itself and the program is pid 2 unless boot says otherwise.
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

enum thread_state { THREAD_RUNNABLE, THREAD_SLEEPING, THREAD_SLEEPING_INTR, THREAD_DEAD };

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
	u64 vruntime_ns; /* CPU time weighted by nice: the run queue's order (sched.c) */
	u64 user_ns, sys_ns, start_ns, last_ns;
	u64 nvcsw, nivcsw;

	sigmask_t blocked, saved_mask; /* saved_mask: restored after sigsuspend, ppoll... */
	bool restore_mask;
	struct sigpending pending;
	bool signal_pending; /* recalculated by signal.c: something deliverable, or exit */
	stack_t altstack;

	u64 clear_child_tid; /* user address */
	u64 robust_list, robust_len;
	struct ktimer sleep_timer;
	bool timed_out;
	struct { /* ERESTART_RESTARTBLOCK */
		s64 (*fn)(struct thread *);
		u64 arg[6];
	} restart;
	bool exiting;
	int pdeathsig;
	void (*kfn)(void *); /* a thread of the library OS itself: entry and argument */
	void *karg;
	u64 trap_no, trap_err, trap_addr; /* of the last fault, for sigcontext */
	sigmask_t real_blocked; /* sigtimedwait: wanted signals that were blocked before it */
	u64 timer_slack_ns;
	int policy, rt_priority; /* as set by sched_setscheduler; shown, not acted upon */
	void *strace_buf;
};

struct process {
	s32 pid, ppid, pgid, sid;
	s32 shown_pid; /* getpid's answer to libraries that ask whether they are a copy (restored.c); both name the process */
	struct process *parent;
	struct list children, sibling, all_node;
	struct list threads;
	u32 n_threads;
	struct aspace *as;
	struct fdtable *fds;
	struct fs_context *fs; /* cwd, root, umask (vfs) */
	struct ksigaction action[N_SIGNALS + 1];
	struct sigpending pending;
	u32 uid, euid, suid, fsuid, gid, egid, sgid, fsgid;
	u32 groups[32], n_groups;
	u64 cap_effective, cap_permitted, cap_inheritable, cap_bounding, cap_ambient;
	struct rlimit64 rlim[16];
	struct file *exe;
	char *exe_path;
	bool group_exit, dumpable, no_new_privs, stopped, did_exec;
	int exit_status; /* as in wait(2) */
	struct waitq child_wait, signal_wait; /* signal_wait: signalfd and sigtimedwait */
	struct file *tty;
	struct {
		struct ktimer t;
		u64 interval_ns;
	} itimer_real;
	void *posix_timers;
	u64 dead_nvcsw, dead_nivcsw;
	u64 dead_user_ns, dead_sys_ns, start_ns, minflt, majflt;
	u32 personality, securebits, keepcaps, child_subreaper;
	s32 oom_score_adj; /* kept and shown; a single program leaves nothing to choose from */
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
	u64 stack_guard; /* gs:40, stack protector canary */
	u64 scratch[8];
	struct boot_vcpu *shared;
	bool need_resched;
	struct thread *idle;
};

static inline struct cpu *this_cpu(void)
{
	struct cpu *c;
	__asm__("mov %%gs:0, %0" : "=r"(c));
	return c;
}
static inline struct thread *current_thread(void)
{
	struct thread *t;
	__asm__ volatile("mov %%gs:8, %0" : "=r"(t));
	return t;
}
#ifndef current
#define current current_thread()
#endif
#define current_regs() ((struct regs *)(current->kstack_top) - 1)

/* --- scheduling (sched.c) -------------------------------------------------- */
void sched_init(void);
void schedule(void); /* pick the next runnable thread; sleeps in the ring if none */
void thread_yield(void);
/* A library OS thread; may sleep, has no user half. NULL: no memory. */
struct thread *kthread_start(void (*fn)(void *), void *arg, const char *name);
struct thread *thread_by_tid(s32 tid);
struct process *process_by_pid(s32 pid);
u64 thread_cpu_ns(struct thread *t);
u64 process_cpu_ns(struct process *p);

/* --- what the system says it is (linux/sys_misc.c); /proc shows the same ----- */
#define SYSTEM_RELEASE "6.1.0-cowbell"
#define SYSTEM_VERSION "#1 SMP PREEMPT_DYNAMIC Cowbell"
const char *system_hostname(void);

/* --- from arch/ (entry.S, trap.c) into proc/ ------------------------------- */
/* Each runs on the current thread's kernel stack, regs at its top, may sleep. */
void syscall_dispatch(struct regs *r); /* linux/dispatch.c: result in r->rax */
void trap_from_user(struct regs *r, int vector, u64 error, u64 addr); /* proc/trap.c */
/* Before every return to the app: signals, rescheduling. entry.S calls it when thread->signal_pending
 * or cpu->need_resched or vcpu->kick is set. */
void return_to_user_work(struct regs *r);

/* --- signals (signal.c) ---------------------------------------------------- */
int signal_thread(struct thread *t, int sig, const siginfo_t *info); /* info NULL: SI_KERNEL */
int signal_process(struct process *p, int sig, const siginfo_t *info);
int signal_pgrp(s32 pgid, int sig, const siginfo_t *info);
void signal_force(int sig, int code, u64 addr); /* to current; cannot be ignored or blocked */
bool signal_is_pending(void); /* current has something to deliver */
void signal_recalc(struct thread *t);
/* ppoll, pselect6, epoll_pwait: wait under another mask. size must be 8. uset NULL: nothing changes.
 * The old mask comes back after the handler when the call is interrupted; else on restore. */
int signal_user_mask(const void *uset, u64 size);
void signal_user_mask_restore(bool interrupted);
_Noreturn void process_exit(int wait_status); /* exit_group; status as in wait(2) */
_Noreturn void thread_exit(void);

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
