/* SPDX-License-Identifier: ISC */
/* What the files of proc/ and the thin handlers of proc's system calls share. */
#ifndef COWBELL_GUEST_PROC_INTERNAL_H
#define COWBELL_GUEST_PROC_INTERNAL_H

#include "guest/proc/proc.h"

/* --- sched.c ---------------------------------------------------------------- */
/* A slice or a timer may need ticks now: called whenever the run queue or the first timer changes. */
void sched_update_tick(void);
void sched_tick(void); /* the monitor kicked: timers, ring, end of the slice */
void sched_preempt(void); /* the current thread goes to the end of the run queue */
void sched_new_thread(struct thread *t); /* runnable for the first time */
u64 sched_busy_ns(void); /* CPU time of all, since the start */
void sched_account(struct thread *t); /* charge the time since last_ns */
u64 sched_slice_ns(const struct thread *t);
extern struct list all_threads;
/* Several CPUs (smp.c). Which idle ones are wanted for threads that are left in the run queue; they count as woken. */
u32 sched_wake_mask(void);
bool sched_idle_now(void); /* nothing for this CPU to run */
void sched_boost(struct thread *t,
		 int nice); /* it runs with that one if it is better than its own; NICE_NONE: no more */
void sched_put_back(struct thread *t); /* it ran on a CPU that came to rest */
void smp_cpu0_looks(u64 deadline); /* at timers, then */

u32 sched_blocked(void); /* threads of programs that sleep where no signal reaches them */

/* --- load.c ----------------------------------------------------------------- */
#define LOAD_ONE 2048u /* 1.0 in an average */
void load_note(u64 now_ns, u32 n); /* from now on n threads are active */
void load_averages(u32 out[3]); /* over 1, 5, 15 minutes */

/* --- process.c --------------------------------------------------------------- */
extern struct list all_processes;
extern u32 n_processes; /* in all_processes, zombies too */
extern u32 n_living; /* processes beside the program that are no zombies */
void process_lives(bool yes); /* one more, or less */
/* A process without threads: the program (parent NULL), or a child that has inherited nothing yet. NULL: no memory. */
struct process *process_new(void);
s32 last_pid(void); /* the number given last */
void process_reap(struct process *p); /* a zombie: out of all lists, its usage goes to its parent */
void process_drop_memory(
	struct process *p); /* p leaves its address space, by exec or for good: tell a vfork parent */
void sighand_put(struct sighand *h);
/* A thread of p with its own kernel stack, not yet started. NULL: no memory. */
struct thread *thread_new(struct process *p);
void thread_free(struct thread *t); /* one that never ran, or that is off its stack */
void thread_reap(void); /* free the threads that ended */
void xstate_reset(struct thread *t); /* vector registers as exec leaves them */
/* All other threads of the process end; current becomes its leader. For exec. */
int process_become_single(void);
void thread_set_comm(struct thread *t, const char *path);
/* A thread's last words in an address space that others may share: robust futexes, its tid word. */
void thread_release_user(struct thread *t);
u32 thread_user_count(const struct process *p);

/* --- clock.c ----------------------------------------------------------------- */
u64 real_to_mono(u64 real);
int clock_read_id(s32 id, u64 *ns);
/* When a wait on a clock ends, on the monotonic clock: 0, or -EINVAL for a clock that none can wait for. */
int clock_deadline(s32 id, bool absolute, u64 t, u64 *deadline);
int timespec_in(const void *user, u64 *ns); /* 0, -EFAULT, -EINVAL */
int timespec_out(void *user, u64 ns);

/* --- pidfd.c ----------------------------------------------------------------- */
int pidfd_install(struct process *p, u32 flags); /* a new descriptor of current for p; -errno */
struct process *pidfd_process(int fd,
			      u32 *flags); /* referenced; NULL: not a pidfd. flags: O_*, may be NULL */

/* --- wait.c ------------------------------------------------------------------ */
void child_ended(
	struct process *p); /* p is a zombie: tell the parent, or reap it when nobody wants to know */
void children_reparent(struct process *p); /* p ends: its children go to a subreaper or to the library OS */
void parent_thread_died(struct thread *t); /* PR_SET_PDEATHSIG of what t made */
void children_renamed(struct process *p, s32 old_tid,
		      s32 new_tid); /* one of p's threads has another number now */

/* --- signal.c ---------------------------------------------------------------- */
#define SIG_KERNEL_ONLY (SIGBIT(SIGKILL) | SIGBIT(SIGSTOP))
void signal_set_blocked(sigmask_t m);
int signal_dequeue(sigmask_t wanted, siginfo_t *info); /* of current and its process; 0: none */
void signal_flush(struct sigpending *p, sigmask_t which);
void signal_exec_reset(struct process *p);
void signal_retarget(struct process *p); /* a thread that had shared signals to take is gone */
bool signal_ignored(struct process *p, int sig);
bool signal_is_fatal(
	struct thread *t); /* t has one to deliver that ends its process, or t is to end anyway */
void sigpending_init(struct sigpending *p);

void signal_kick(
	struct thread *t); /* have it look at its signals soon, from any sleep that may be cut short */

/* --- jobs.c ------------------------------------------------------------------- */
/* A signal stops the current process (its default action). Returns when it is decided: the caller goes on to
 * job_stop_here() if proc->stop_sig is set. */
void job_stop(int sig, const siginfo_t *info);
void job_stop_here(void); /* the current thread stands still until its process is continued or ends */
void job_continue(struct process *p, bool tell); /* tell: the parent may know */
void jobs_thread_count_changed(struct process *p); /* a thread of p ended: have all others stopped? */
/* Its last thread ends, its children are still its own and p->parent is still right: hang-ups. */
void jobs_process_exit(struct process *p);
/* child has its new parent: hang-up of stopped groups that lost their last tie. After jobs_process_exit(). */
void jobs_reparented(struct process *child, const struct process *old_parent);
s32 pgrp_session(s32 pgid); /* 0: no such group */
/* Nobody outside the group, but in its session, is the parent of a member. ignored: as if it had ended. */
bool pgrp_orphaned(s32 pgid, const struct process *ignored);

/* --- sigframe.c --------------------------------------------------------------- */
/* Build the handler's frame and point r at the handler; false: the stack is not usable. */
bool sigframe_push(struct regs *r, int sig, const siginfo_t *info, const struct ksigaction *ka,
		   sigmask_t old);
int sigframe_pop(struct regs *r); /* rt_sigreturn: 0, or -EFAULT */
u64 sigframe_min_size(void); /* AT_MINSIGSTKSZ */
bool sigframe_restartable(const struct regs *r);
int altstack_flags(const struct thread *t, u64 sp);

/* --- futex.c ------------------------------------------------------------------- */
void futex_wake_addr(u64 uaddr, unsigned n, bool private);
void futex_exit_robust(struct thread *t);

/* --- ptimer.c ------------------------------------------------------------------- */
void posix_timers_free(struct process *p);
void itimers_free(struct process *p);
void posix_timer_taken(siginfo_t *info); /* its signal is about to be seen: overrun, next expiry */
void cpu_timers_tick(void);
bool cpu_timers_armed(void);
void cpu_limit_note(u64 old,
		    u64 new); /* RLIMIT_CPU's soft limit of some process, which may be new or at its end */

/* --- exec.c, elf.c, vdso.c ------------------------------------------------------ */
struct elf_program {
	u64 entry, phdr, base, bias;
	u64 phent, phnum;
	u64 end, start_code, end_code, start_data, end_data;
};
struct elf_file;
struct elf_file *elf_open(struct file *f, int *err); /* takes the reference when it succeeds */
void elf_close(struct elf_file *e);
const char *elf_interp(const struct elf_file *e); /* NULL: none */
int elf_stack_prot(const struct elf_file *e);
int elf_map(struct elf_file *e, struct aspace *as, bool is_interp, struct elf_program *out);
u64 vdso_map(struct aspace *as); /* address of its ELF header, or 0 */
u64 vdso_main_mark_offset(void);

/* --- linux/sys_time.c -------------------------------------------------------------- */
void usage_show(const struct usage *u, struct rusage *ru);

/* --- linux/strace.c ------------------------------------------------------------- */
void strace_signal(int sig, const siginfo_t *info); /* a signal is taken; nothing without --strace */

#endif
