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
void sched_account(struct thread *t); /* charge the time since last_ns */
u64 sched_slice_ns(const struct thread *t);
extern struct list all_threads;

/* --- process.c --------------------------------------------------------------- */
extern struct list all_processes;
struct process *process_new(void);
/* A thread of p with its own kernel stack, not yet started. NULL: no memory. */
struct thread *thread_new(struct process *p);
void thread_free(struct thread *t); /* one that never ran, or that is off its stack */
void thread_reap(void); /* free the threads that ended */
void xstate_reset(struct thread *t); /* vector registers as exec leaves them */
/* All other threads of the process end; current becomes its leader. For exec. */
int process_become_single(void);
void thread_set_comm(struct thread *t, const char *path);
u32 thread_user_count(const struct process *p);

/* --- clock.c ----------------------------------------------------------------- */
u64 real_to_mono(u64 real);
int clock_read_id(s32 id, u64 *ns);
/* When a wait on a clock ends, on the monotonic clock: 0, or -EINVAL for a clock that none can wait for. */
int clock_deadline(s32 id, bool absolute, u64 t, u64 *deadline);
int timespec_in(const void *user, u64 *ns); /* 0, -EFAULT, -EINVAL */
int timespec_out(void *user, u64 ns);

/* --- signal.c ---------------------------------------------------------------- */
#define SIG_KERNEL_ONLY (SIGBIT(SIGKILL) | SIGBIT(SIGSTOP))
void signal_set_blocked(sigmask_t m);
int signal_dequeue(sigmask_t wanted, siginfo_t *info); /* of current and its process; 0: none */
void signal_flush(struct sigpending *p, sigmask_t which);
void signal_exec_reset(struct process *p);
void signal_retarget(struct process *p); /* a thread that had shared signals to take is gone */
bool signal_ignored(struct process *p, int sig);
void sigpending_init(struct sigpending *p);

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
void posix_timer_taken(siginfo_t *info); /* its signal is about to be seen: overrun, next expiry */
void cpu_timers_tick(void);
bool cpu_timers_armed(void);

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

/* --- linux/strace.c ------------------------------------------------------------- */
void strace_signal(int sig, const siginfo_t *info); /* a signal is taken; nothing without --strace */

#endif
