/* SPDX-License-Identifier: ISC */
/*
 * /proc/PID and /proc/PID/task/TID: one table for both. Memory is shown by
 * proc_pid_mem.c, files by proc_pid_fd.c, the rest here. What is not counted
 * (block I/O, page cache, memory control groups) is shown as zero or left out,
 * never invented.
 *
 * A zombie is shown by what it keeps: its ids, name and usage. Process 1 is the
 * library OS: it has no threads and no memory, and looks like a kernel thread.
 */
#include <linux/capability.h>

#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/proc/tty.h"
#include "guest/vfs/pseudo.h"

enum { USER_HZ = 100, SCORE_MAX = 1000 };

/* The thread that an entry is about; NULL: a zombie's, or the library OS's. */
static struct thread *thread_of(const struct pid_of *o, struct process *p)
{
	struct thread *t = o->num ? thread_by_tid(o->num) : NULL;

	if (t && t->proc == p)
		return t;
	return list_empty(&p->threads) ? NULL : list_first(&p->threads, struct thread, process_node);
}

static const char *comm_of(const struct process *p, const struct thread *t)
{
	return t ? t->comm : p->comm;
}

static u64 ticks(u64 ns)
{
	return ns / (NS_PER_SEC / USER_HZ);
}

/* A process whose first thread has ended counts as dead, though others of its threads go on. */
static char state_letter(const struct pid_of *o, const struct process *p, const struct thread *t)
{
	if (!t)
		return p->zombie ? 'Z' : 'S';
	if (!o->num && t->tid != p->pid)
		return 'Z';
	if (t->stopped && p->stop_sig)
		return 'T';
	switch (t->state) {
	case THREAD_DEAD:
		return 'Z';
	case THREAD_SLEEPING:
	case THREAD_SLEEPING_KILL:
		return t == current ? 'R' : 'D';
	case THREAD_SLEEPING_INTR:
		return t == current ? 'R' : 'S';
	default:
		return 'R';
	}
}

/* --- stat ----------------------------------------------------------------------------- */

static void signal_sets(const struct process *p, u64 *ignored, u64 *caught)
{
	*ignored = *caught = 0;
	for (int i = 1; p->action && i <= N_SIGNALS; i++) {
		if (p->action[i].handler == SIG_IGN)
			*ignored |= SIGBIT(i);
		else if (p->action[i].handler != SIG_DFL)
			*caught |= SIGBIT(i);
	}
}

static void usage_of(const struct pid_of *o, struct process *p, struct thread *th, struct usage *u)
{
	process_usage(p, u);
	if (o->num && th) {
		u64 ns = thread_cpu_ns(th);

		u->sys_ns = MIN(th->sys_ns, ns);
		u->user_ns = ns - u->sys_ns;
	}
}

static void show_stat(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);
	struct thread *th = p ? thread_of(o, p) : NULL;
	struct aspace *as = p ? p->as : NULL;
	u64 ign, cat, low = 0x7fffffff;
	struct usage u, *c;
	struct tty *tty;

	if (!p)
		return;
	c = &p->child;
	usage_of(o, p, th, &u);
	signal_sets(p, &ign, &cat);
	tty = tty_of(p);
	if (!process_may_inspect(p, true))
		as = NULL; /* addresses are nobody's business */
	text_add(t, "%d (%s) %c %d %d %d %u %d %u ", o->num && th ? th->tid : p->pid, comm_of(p, th),
		 state_letter(o, p, th), p->ppid, p->pgid, p->sid, tty ? (u32)tty->rdev : 0,
		 tty ? tty->pgrp : -1, p->did_exec ? 4194304 : 4194368);
	text_add(t, "%lu %lu %lu %lu %lu %lu %lu %lu %d %d %u 0 %lu ", (unsigned long)u.minflt,
		 (unsigned long)c->minflt, (unsigned long)u.majflt, (unsigned long)c->majflt,
		 (unsigned long)ticks(u.user_ns), (unsigned long)ticks(u.sys_ns),
		 (unsigned long)ticks(c->user_ns), (unsigned long)ticks(c->sys_ns), 20 + (th ? th->nice : 0),
		 th ? th->nice : 0, p->n_threads ? p->n_threads : 1,
		 (unsigned long)ticks(th ? th->start_ns : p->start_ns));
	text_add(t, "%lu %lu %lu ", (unsigned long)(p->as ? p->as->total_vm_pages * PAGE_SIZE : 0),
		 (unsigned long)(p->as ? p->as->rss_pages : 0), (unsigned long)p->rlim[RLIMIT_RSS].rlim_cur);
	text_add(t, "%lu %lu %lu 0 0 ", (unsigned long)(as ? as->start_code : 0),
		 (unsigned long)(as ? as->end_code : 0), (unsigned long)(as ? as->start_stack : 0));
	text_add(t, "%lu %lu %lu %lu 0 0 0 %d %u %d %d 0 0 0 ",
		 (unsigned long)(th ? th->pending.set & low : 0), (unsigned long)(th ? th->blocked & low : 0),
		 (unsigned long)(ign & low), (unsigned long)(cat & low),
		 p->exit_signal ? p->exit_signal : SIGCHLD, th && th->home ? th->home - 1 : 0,
		 th ? th->rt_priority : 0, th ? th->policy : 0);
	text_add(t, "%lu %lu %lu %lu %lu %lu %lu %d\n", (unsigned long)(as ? as->start_data : 0),
		 (unsigned long)(as ? as->end_data : 0), (unsigned long)(as ? as->brk_start : 0),
		 (unsigned long)(as ? as->arg_start : 0), (unsigned long)(as ? as->arg_end : 0),
		 (unsigned long)(as ? as->env_start : 0), (unsigned long)(as ? as->env_end : 0),
		 as || p->zombie ? p->exit_status : 0);
}

/* --- status ------------------------------------------------------------------------------ */

static void status_identity(struct text *t, const struct pid_of *o, struct process *p, struct thread *th)
{
	static const char *const states[] = {"R (running)", "S (sleeping)", "D (disk sleep)", "T (stopped)",
					     "Z (zombie)"};
	char c = state_letter(o, p, th);
	int fds = 0, n = 0;
	s32 id = o->num && th ? th->tid : p->pid;

	while (states[n][0] != c && n < 4)
		n++;
	text_add(t, "Name:\t%s\n", comm_of(p, th));
	if (p->fs)
		text_add(t, "Umask:\t%04o\n", p->fs->umask);
	text_add(t, "State:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t0\n", states[n],
		 p->pid, id, p->ppid);
	text_add(t, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n", p->uid, p->euid, p->suid, p->fsuid,
		 p->gid, p->egid, p->sgid, p->fsgid);
	for (int fd = p->fds ? fdtable_next(p->fds, 0) : -1; fd >= 0; fd = fdtable_next(p->fds, fd + 1))
		fds = fd + 1;
	text_add(t, "FDSize:\t%d\nGroups:\t", p->fds ? MAX(64, fds) : 0);
	for (u32 i = 0; i < p->n_groups; i++)
		text_add(t, "%u ", p->groups[i]);
	text_add(t, "\nNStgid:\t%d\nNSpid:\t%d\nNSpgid:\t%d\nNSsid:\t%d\n", p->pid, id, p->pgid, p->sid);
}

static void status_memory(struct text *t, struct aspace *as)
{
	u64 peak = MAX(as->peak_rss_pages, as->rss_pages);

	text_add(t, "VmPeak:\t%8lu kB\nVmSize:\t%8lu kB\n", (unsigned long)as->total_vm_pages * 4,
		 (unsigned long)as->total_vm_pages * 4);
	text_add(t, "VmLck:\t%8lu kB\nVmPin:\t       0 kB\nVmHWM:\t%8lu kB\nVmRSS:\t%8lu kB\n",
		 (unsigned long)as->locked_pages * 4, (unsigned long)peak * 4,
		 (unsigned long)as->rss_pages * 4);
	text_add(t, "VmData:\t%8lu kB\nVmExe:\t%8lu kB\nVmSwap:\t       0 kB\n",
		 (unsigned long)as->total_vm_pages * 4,
		 (unsigned long)PAGE_UP(as->end_code - as->start_code) / 1024);
}

static void show_status(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);
	struct thread *th = p ? thread_of(o, p) : NULL;
	u64 ign, cat;

	if (!p)
		return;
	signal_sets(p, &ign, &cat);
	status_identity(t, o, p, th);
	if (p->as)
		status_memory(t, p->as);
	text_add(t, "Threads:\t%u\nSigQ:\t%u/%lu\n", MAX(p->n_threads, 1u), p->n_sigqueued,
		 (unsigned long)p->rlim[RLIMIT_SIGPENDING].rlim_cur);
	text_add(t, "SigPnd:\t%016lx\nShdPnd:\t%016lx\nSigBlk:\t%016lx\nSigIgn:\t%016lx\nSigCgt:\t%016lx\n",
		 (unsigned long)(th ? th->pending.set : 0), (unsigned long)p->pending.set,
		 (unsigned long)(th ? th->blocked : 0), (unsigned long)ign, (unsigned long)cat);
	text_add(t, "CapInh:\t%016lx\nCapPrm:\t%016lx\nCapEff:\t%016lx\nCapBnd:\t%016lx\nCapAmb:\t%016lx\n",
		 (unsigned long)p->cap_inheritable, (unsigned long)p->cap_permitted,
		 (unsigned long)p->cap_effective, (unsigned long)p->cap_bounding,
		 (unsigned long)p->cap_ambient);
	text_add(t, "NoNewPrivs:\t%d\nSeccomp:\t0\nSeccomp_filters:\t0\n", p->no_new_privs);
	proc_cpus_allowed(t, th ? th->affinity : ~0ull);
	text_add(t, "voluntary_ctxt_switches:\t%lu\nnonvoluntary_ctxt_switches:\t%lu\n",
		 (unsigned long)(th ? th->nvcsw : 0), (unsigned long)(th ? th->nivcsw : 0));
}

/* --- name, limits -------------------------------------------------------------------------- */

static void show_comm(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p)
		text_add(t, "%s\n", comm_of(p, thread_of(o, p)));
}

static s64 write_comm(const struct pid_of *o, char *buf, size_t n)
{
	struct process *p = pseudo_process(o);
	struct thread *th = p ? thread_of(o, p) : NULL;

	if (!th)
		return -ESRCH;
	if (p != current->proc)
		return -EINVAL;
	if (n && buf[n - 1] == '\n')
		buf[n - 1] = 0;
	n = strnlen(buf, sizeof(th->comm) - 1);
	memset(th->comm, 0, sizeof(th->comm));
	memcpy(th->comm, buf, n);
	return 0;
}

static void show_limits(struct text *t, const struct pid_of *o)
{
	static const struct {
		const char *name, *unit;
	} names[16] = {
		{"Max cpu time", "seconds"},	 {"Max file size", "bytes"},
		{"Max data size", "bytes"},	 {"Max stack size", "bytes"},
		{"Max core file size", "bytes"}, {"Max resident set", "bytes"},
		{"Max processes", "processes"},	 {"Max open files", "files"},
		{"Max locked memory", "bytes"},	 {"Max address space", "bytes"},
		{"Max file locks", "locks"},	 {"Max pending signals", "signals"},
		{"Max msgqueue size", "bytes"},	 {"Max nice priority", ""},
		{"Max realtime priority", ""},	 {"Max realtime timeout", "us"},
	};
	struct process *p = pseudo_process(o);

	if (!p)
		return;
	text_add(t, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
	for (int i = 0; i < 16; i++) {
		u64 v[2] = {p->rlim[i].rlim_cur, p->rlim[i].rlim_max};
		text_add(t, "%-25s ", names[i].name);
		for (int k = 0; k < 2; k++) {
			if (v[k] == RLIM64_INFINITY)
				text_add(t, "%-20s ", "unlimited");
			else
				text_add(t, "%-20lu ", (unsigned long)v[k]);
		}
		text_add(t, "%-10s\n", names[i].unit);
	}
}

/* --- threads and children ------------------------------------------------------------------ */

static int task_lookup(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out)
{
	s32 tid = pseudo_number(name, len);
	struct thread *t = tid > 0 ? thread_by_tid(tid) : NULL;
	struct process *p = pseudo_process(dir);

	if (!p || (t ? t->proc != p : tid != p->pid || p->n_threads))
		return -ENOENT;
	out->ent = &proc_task_dir;
	out->num = tid;
	return 0;
}

static s64 task_next(const struct pid_of *dir, u64 from, struct pid_of *out)
{
	struct process *p = pseudo_process(dir);
	s64 best = -1;

	if (!p)
		return -1;
	if (!p->n_threads && from <= (u64)p->pid)
		best = p->pid; /* a zombie keeps its first thread's entry */
	list_for_each (it, &p->threads) {
		struct thread *t = list_entry(it, struct thread, process_node);

		if (t->state != THREAD_DEAD && (u64)t->tid >= from && (best < 0 || t->tid < best))
			best = t->tid;
	}
	out->ent = &proc_task_dir;
	out->num = (s32)best;
	return best;
}

/* Of the thread that made them, as Linux. Those of the library OS are the orphans and the program. */
static void show_children(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (!p)
		return;
	list_for_each (it, &all_processes) {
		struct process *c = list_entry(it, struct process, all_node);

		if (c->ppid == p->pid && (!o->num || c->maker_tid == o->num || p->pid == 1))
			text_add(t, "%d ", c->pid);
	}
}

static void show_cgroup(struct text *t, const struct pid_of *o)
{
	text_add(t, "0::/\n");
}

static void show_oom_score_adj(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p)
		text_add(t, "%d\n", p->oom_score_adj);
}

static s64 write_oom_score_adj(const struct pid_of *o, char *buf, size_t n)
{
	struct process *p = pseudo_process(o);
	bool negative = n && buf[0] == '-';
	size_t i = negative;
	s32 v = 0;

	if (!p)
		return -ESRCH;
	if (n && buf[n - 1] == '\n')
		n--;
	if (i == n)
		return -EINVAL;
	for (; i < n; i++) {
		if (buf[i] < '0' || buf[i] > '9' || v > 1000)
			return -EINVAL;
		v = v * 10 + (buf[i] - '0');
	}
	v = negative ? -v : v;
	if (v > 1000 || v < -1000)
		return -EINVAL;
	if (v < p->oom_score_adj && !(current->proc->cap_effective >> CAP_SYS_RESOURCE & 1))
		return -EACCES;
	p->oom_score_adj = v;
	return 0;
}

static void show_loginuid(struct text *t, const struct pid_of *o)
{
	text_add(t, "4294967295");
}

static void show_personality(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	text_add(t, "%08x\n", p ? p->personality : 0);
}

static void show_schedstat(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);
	struct thread *th = p ? thread_of(o, p) : NULL;

	if (th)
		text_add(t, "%lu 0 %lu\n", (unsigned long)thread_cpu_ns(th),
			 (unsigned long)(th->nvcsw + th->nivcsw));
}

static void show_id_map(struct text *t, const struct pid_of *o)
{
	text_add(t, "%10u %10u %10u\n", 0u, 0u, ~0u);
}

static void show_wchan(struct text *t, const struct pid_of *o)
{
	text_add(t, "0");
}

/* Linux's formula: the share of memory that it takes, and its adjustment, as 0 to 2/3 of 2000. */
static void show_oom_score(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);
	u64 total = frames_total();
	s64 score;

	if (!p)
		return;
	score = SCORE_MAX + p->oom_score_adj;
	if (p->oom_score_adj == -SCORE_MAX)
		score = 0;
	else if (p->as && total)
		score += (s64)(p->as->rss_pages * SCORE_MAX / total);
	text_add(t, "%ld\n", (long)(MAX(score, 0) * 2 / 3));
}

/* The system calls of reading and writing; block devices do not exist. */
static void show_io(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p)
		text_add(t,
			 "rchar: %lu\nwchar: %lu\nsyscr: %lu\nsyscw: %lu\nread_bytes: 0\nwrite_bytes: 0\n"
			 "cancelled_write_bytes: 0\n",
			 (unsigned long)p->io_read, (unsigned long)p->io_written, (unsigned long)p->io_reads,
			 (unsigned long)p->io_writes);
}

static void show_timerslack(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);
	struct thread *th = p ? thread_of(o, p) : NULL;

	text_add(t, "%lu\n", (unsigned long)(th && th->timer_slack_ns ? th->timer_slack_ns : 50000));
}

/* --- the tables ------------------------------------------------------------------------------- */

/* G_: what only who may look into the process sees. */
#define G_FILE(n, m, f)                                                                                      \
	{                                                                                                    \
		.name = (n), .mode = S_IFREG | (m), .show = (f), .guard = true                               \
	}
#define G_LINK(n, s, f)                                                                                      \
	{                                                                                                    \
		.name = (n), .mode = S_IFLNK | 0777, .show = (s), .follow = (f), .guard = true               \
	}
#define LINE(n, m, s)                                                                                        \
	{                                                                                                    \
		.name = (n), .mode = S_IFREG | (m), .text = (s)                                              \
	}

/* One of each kind exists; the numbers are those of a machine that has made no others. */
#define NS(n, id)                                                                                            \
	{                                                                                                    \
		.name = (n), .mode = S_IFLNK | 0777, .target = (id)                                          \
	}
static const struct pent ns_entries[] = {
	NS("cgroup", "cgroup:[4026531835]"), NS("ipc", "ipc:[4026531839]"),
	NS("mnt", "mnt:[4026531841]"),	     NS("net", "net:[4026531840]"),
	NS("pid", "pid:[4026531836]"),	     NS("pid_for_children", "pid:[4026531836]"),
	NS("time", "time:[4026531834]"),     NS("time_for_children", "time:[4026531834]"),
	NS("user", "user:[4026531837]"),     NS("uts", "uts:[4026531838]"),
};

#define COMMON                                                                                               \
	G_FILE("auxv", 0400, proc_show_auxv), P_FILE("cgroup", 0444, show_cgroup),                           \
		P_FILE("cmdline", 0444, proc_show_cmdline),                                                  \
		{.name = "comm", .mode = S_IFREG | 0644, .show = show_comm, .write = write_comm},            \
		LINE("coredump_filter", 0644, "00000033"), LINE("cpuset", 0444, "/"),                        \
		G_LINK("cwd", proc_show_cwd, proc_follow_cwd), G_FILE("environ", 0400, proc_show_environ),   \
		G_LINK("exe", proc_show_exe, proc_follow_exe),                                               \
		{.name = "fd", .mode = S_IFDIR | 0500, .lookup = proc_fd_lookup, .next = proc_fd_next},      \
		{.name = "fdinfo",                                                                           \
		 .mode = S_IFDIR | 0555,                                                                     \
		 .lookup = proc_fdinfo_lookup,                                                               \
		 .next = proc_fdinfo_next,                                                                   \
		 .guard = true},                                                                             \
		P_FILE("gid_map", 0644, show_id_map), G_FILE("io", 0400, show_io),                           \
		P_FILE("limits", 0444, show_limits), P_FILE("loginuid", 0644, show_loginuid),                \
		G_FILE("maps", 0444, proc_show_maps),                                                        \
		{.name = "mem", .mode = S_IFREG | 0600, .fops = &proc_mem_fops, .guard = true},              \
		P_FILE("mountinfo", 0444, proc_show_mountinfo), P_FILE("mounts", 0444, proc_mounts),         \
		P_DIR("ns", ns_entries), P_FILE("oom_score", 0444, show_oom_score),                          \
		{.name = "oom_score_adj",                                                                    \
		 .mode = S_IFREG | 0644,                                                                     \
		 .show = show_oom_score_adj,                                                                 \
		 .write = write_oom_score_adj},                                                              \
		G_FILE("personality", 0400, show_personality), P_FILE("projid_map", 0644, show_id_map),      \
		G_LINK("root", proc_show_root, proc_follow_root), P_FILE("schedstat", 0444, show_schedstat), \
		LINE("sessionid", 0444, "4294967295"), LINE("setgroups", 0644, "allow"),                     \
		G_FILE("smaps", 0444, proc_show_smaps),                                                      \
		G_FILE("smaps_rollup", 0444, proc_show_smaps_rollup), P_FILE("stat", 0444, show_stat),       \
		P_FILE("statm", 0444, proc_show_statm), P_FILE("status", 0444, show_status),                 \
		P_FILE("uid_map", 0644, show_id_map), P_FILE("wchan", 0444, show_wchan)

static const struct pent task_entries[] = {COMMON, P_FILE("children", 0444, show_children)};
static const struct pent pid_entries[] = {
	COMMON,
	{.name = "net", .mode = S_IFDIR | 0555, .sub = proc_net_entries, .n_sub = PROC_N_NET},
	{.name = "task", .mode = S_IFDIR | 0555, .lookup = task_lookup, .next = task_next},
	P_FILE("timerslack_ns", 0666, show_timerslack),
};

const struct pent proc_pid_dir = P_DIR("pid", pid_entries);
const struct pent proc_task_dir = P_DIR("task", task_entries);
