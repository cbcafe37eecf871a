/* SPDX-License-Identifier: ISC */
/*
 * /proc/PID and /proc/PID/task/TID: one table for both. What is not counted
 * here (block I/O, page cache, memory control groups) is shown as zero or
 * left out, never invented.
 */
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/proc/tty.h"
#include "guest/vfs/pseudo.h"

enum { USER_HZ = 100 };

static struct thread *thread_of(const struct pid_of *o, struct process *p)
{
	struct thread *t = o->num ? thread_by_tid(o->num) : NULL;

	if (t && t->proc == p)
		return t;
	return list_empty(&p->threads) ? NULL : list_first(&p->threads, struct thread, process_node);
}

static u64 ticks(u64 ns)
{
	return ns / (NS_PER_SEC / USER_HZ);
}

static char state_letter(struct thread *t)
{
	if (!t || t->state == THREAD_DEAD)
		return 'Z';
	return t == current || t->state == THREAD_RUNNABLE ? 'R' : t->state == THREAD_SLEEPING ? 'D' : 'S';
}

/* --- memory of the process -------------------------------------------------------- */

/* The app's memory at va into buf; only for the current address space. */
static bool user_bytes(struct process *p, struct text *t, u64 from, u64 to)
{
	char buf[256];

	if (p != current->proc || to < from || to - from > (1 << 20))
		return false;
	while (from < to) {
		size_t n = MIN(to - from, sizeof(buf));
		if (copy_in(buf, (const void *)from, n))
			return false;
		text_bytes(t, buf, n);
		from += n;
	}
	return true;
}

static void show_cmdline(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p && p->as)
		user_bytes(p, t, p->as->arg_start, p->as->arg_end);
}

static void show_environ(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p && p->as)
		user_bytes(p, t, p->as->env_start, p->as->env_end);
}

static void show_auxv(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);
	u32 n = 0;

	if (!p || !p->as)
		return;
	while (n + 2 <= ARRAY_SIZE(p->as->auxv) && p->as->auxv[n])
		n += 2;
	text_bytes(t, p->as->auxv, MIN(n + 2, (u32)ARRAY_SIZE(p->as->auxv)) * sizeof(u64));
}

static void map_line(struct text *t, struct vma *v)
{
	struct kstat st = {0};
	size_t start = t->len;

	if (v->file)
		vfs_stat_file(v->file, &st);
	text_add(t, "%08lx-%08lx %c%c%c%c %08lx %02x:%02x %lu ", (unsigned long)v->start,
		 (unsigned long)v->end, v->prot & PROT_READ ? 'r' : '-', v->prot & PROT_WRITE ? 'w' : '-',
		 v->prot & PROT_EXEC ? 'x' : '-', v->flags & MAP_SHARED ? 's' : 'p',
		 (unsigned long)(v->file ? v->off : 0), (u32)DEV_MAJOR(st.dev), (u32)DEV_MINOR(st.dev),
		 (unsigned long)st.ino);
	if (v->file || v->name) {
		while (t->len - start < 73)
			text_add(t, " ");
		char *path = v->file ? kmalloc(PATH_MAX) : NULL;
		if (path && vfs_file_path(v->file, path, PATH_MAX) > 0)
			text_add(t, "%s", path);
		else if (v->name)
			text_add(t, "%s", v->name);
		kfree(path);
	}
	text_add(t, "\n");
}

static bool one_map(struct vma *v, void *t)
{
	map_line(t, v);
	return true;
}

static void show_maps(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p && p->as)
		mm_for_each_vma(p->as, one_map, t);
}

/* Resident sizes are known for the address space as a whole only, so per mapping just its size is given. */
static bool one_smap(struct vma *v, void *arg)
{
	struct text *t = arg;

	map_line(t, v);
	text_add(t, "Size:           %8lu kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n",
		 (unsigned long)(v->end - v->start) / 1024);
	text_add(t, "VmFlags:%s%s%s%s\n", v->prot & PROT_READ ? " rd" : "", v->prot & PROT_WRITE ? " wr" : "",
		 v->prot & PROT_EXEC ? " ex" : "", v->flags & MAP_SHARED ? " sh" : "");
	return true;
}

static void show_smaps(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p && p->as)
		mm_for_each_vma(p->as, one_smap, t);
}

static void show_statm(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (!p || !p->as) {
		text_add(t, "0 0 0 0 0 0 0\n");
		return;
	}
	struct aspace *as = p->as;
	text_add(t, "%lu %lu 0 %lu 0 %lu 0\n", (unsigned long)as->total_vm_pages,
		 (unsigned long)as->rss_pages,
		 (unsigned long)(PAGE_UP(as->end_code - as->start_code) >> PAGE_SHIFT),
		 (unsigned long)as->total_vm_pages);
}

/* --- state --------------------------------------------------------------------------- */

static void show_stat(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);
	struct thread *th = p ? thread_of(o, p) : NULL;

	if (!p || !th)
		return;
	u64 ut = 0, st = 0, n = 0, sigcatch = 0, sigign = 0;
	list_for_each (it, &p->threads) {
		struct thread *x = list_entry(it, struct thread, process_node);
		n++;
		if (!o->num || x == th) {
			u64 ns = thread_cpu_ns(x); /* with what runs now, which is not divided yet */
			st += MIN(x->sys_ns, ns);
			ut += ns - MIN(x->sys_ns, ns);
		}
	}
	if (!o->num) {
		ut += p->dead_user_ns;
		st += p->dead_sys_ns;
	}
	for (int i = 1; i < 32; i++) {
		if (p->action[i].handler == SIG_IGN)
			sigign |= SIGBIT(i);
		else if (p->action[i].handler != SIG_DFL)
			sigcatch |= SIGBIT(i);
	}
	struct aspace *as = p->as;
	struct tty *tty = tty_of(p);
	text_add(t, "%d (%s) %c %d %d %d %u %d 4194304 ", o->num ? th->tid : p->pid, th->comm,
		 state_letter(th), p->ppid, p->pgid, p->sid, tty ? (u32)tty->rdev : 0, tty ? tty->pgrp : -1);
	text_add(t, "%lu 0 %lu 0 %lu %lu 0 0 %d %d %lu 0 %lu ", (unsigned long)p->minflt,
		 (unsigned long)p->majflt, (unsigned long)ticks(ut), (unsigned long)ticks(st), 20 + th->nice,
		 th->nice, (unsigned long)n, (unsigned long)ticks(th->start_ns));
	text_add(t, "%lu %lu %lu ", (unsigned long)(as ? as->total_vm_pages * PAGE_SIZE : 0),
		 (unsigned long)(as ? as->rss_pages : 0), (unsigned long)p->rlim[RLIMIT_RSS].rlim_cur);
	text_add(t, "%lu %lu %lu 0 0 ", (unsigned long)(as ? as->start_code : 0),
		 (unsigned long)(as ? as->end_code : 0), (unsigned long)(as ? as->start_stack : 0));
	text_add(t, "%lu %lu %lu %lu 0 0 0 17 0 0 0 0 0 0 ", (unsigned long)(th->pending.set & 0x7fffffff),
		 (unsigned long)(th->blocked & 0x7fffffff), (unsigned long)sigign, (unsigned long)sigcatch);
	text_add(t, "%lu %lu %lu %lu %lu %lu %lu %d\n", (unsigned long)(as ? as->start_data : 0),
		 (unsigned long)(as ? as->end_data : 0), (unsigned long)(as ? as->brk_start : 0),
		 (unsigned long)(as ? as->arg_start : 0), (unsigned long)(as ? as->arg_end : 0),
		 (unsigned long)(as ? as->env_start : 0), (unsigned long)(as ? as->env_end : 0),
		 p->exit_status);
}

static void status_memory(struct text *t, struct aspace *as)
{
	text_add(t, "VmPeak:\t%8lu kB\nVmSize:\t%8lu kB\n", (unsigned long)as->total_vm_pages * 4,
		 (unsigned long)as->total_vm_pages * 4);
	text_add(t, "VmLck:\t%8lu kB\nVmHWM:\t%8lu kB\nVmRSS:\t%8lu kB\n",
		 (unsigned long)as->locked_pages * 4, (unsigned long)as->peak_rss_pages * 4,
		 (unsigned long)as->rss_pages * 4);
	text_add(t, "VmData:\t%8lu kB\nVmSwap:\t       0 kB\n", (unsigned long)as->total_vm_pages * 4);
}

static void show_status(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);
	struct thread *th = p ? thread_of(o, p) : NULL;
	static const char *const states[] = {"R (running)", "S (sleeping)", "D (disk sleep)", "Z (zombie)"};

	if (!p || !th)
		return;
	char c = state_letter(th);
	u64 ign = 0, cat = 0;
	for (int i = 1; i <= N_SIGNALS; i++) {
		if (p->action[i].handler == SIG_IGN)
			ign |= SIGBIT(i);
		else if (p->action[i].handler != SIG_DFL)
			cat |= SIGBIT(i);
	}
	text_add(t,
		 "Name:\t%s\nUmask:\t%04o\nState:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:"
		 "\t0\n",
		 th->comm, p->fs ? p->fs->umask : 0,
		 states[c == 'R'   ? 0
			: c == 'S' ? 1
			: c == 'D' ? 2
				   : 3],
		 p->pid, o->num ? th->tid : p->pid, p->ppid);
	text_add(t, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n", p->uid, p->euid, p->suid, p->fsuid,
		 p->gid, p->egid, p->sgid, p->fsgid);
	int fds = 0;
	for (int fd = fdtable_next(p->fds, 0); fd >= 0; fd = fdtable_next(p->fds, fd + 1))
		fds = fd + 1;
	text_add(t, "FDSize:\t%d\nGroups:\t", MAX(64, fds));
	for (u32 i = 0; i < p->n_groups; i++)
		text_add(t, "%u ", p->groups[i]);
	text_add(t, "\n");
	if (p->as)
		status_memory(t, p->as);
	text_add(t, "Threads:\t%u\nSigQ:\t0/%lu\n", thread_user_count(p),
		 (unsigned long)p->rlim[RLIMIT_SIGPENDING].rlim_cur);
	text_add(t, "SigPnd:\t%016lx\nShdPnd:\t%016lx\nSigBlk:\t%016lx\nSigIgn:\t%016lx\nSigCgt:\t%016lx\n",
		 (unsigned long)th->pending.set, (unsigned long)p->pending.set, (unsigned long)th->blocked,
		 (unsigned long)ign, (unsigned long)cat);
	text_add(t, "CapInh:\t%016lx\nCapPrm:\t%016lx\nCapEff:\t%016lx\nCapBnd:\t%016lx\nCapAmb:\t%016lx\n",
		 (unsigned long)p->cap_inheritable, (unsigned long)p->cap_permitted,
		 (unsigned long)p->cap_effective, (unsigned long)p->cap_bounding,
		 (unsigned long)p->cap_ambient);
	text_add(t, "NoNewPrivs:\t%d\nSeccomp:\t0\nSeccomp_filters:\t0\n", p->no_new_privs);
	text_add(t, "Cpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed:\t1\nMems_allowed_list:\t0\n");
	text_add(t, "voluntary_ctxt_switches:\t%lu\nnonvoluntary_ctxt_switches:\t%lu\n",
		 (unsigned long)th->nvcsw, (unsigned long)th->nivcsw);
}

static void show_comm(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);
	struct thread *th = p ? thread_of(o, p) : NULL;

	if (th)
		text_add(t, "%s\n", th->comm);
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

/* --- mounts ------------------------------------------------------------------------------ */

static bool mount_path(struct superblock *sb, char *path)
{
	return dentry_path(sb->root, current->proc->fs ? current_fs()->root : root_sb->root, path, PATH_MAX) >
	       0;
}

void proc_mounts(struct text *t, const struct pid_of *o)
{
	char *path = kmalloc(PATH_MAX);

	list_for_each (it, &vfs_mounts) {
		struct superblock *sb = list_entry(it, struct superblock, node);
		if (!path || !mount_path(sb, path))
			continue;
		text_path(t, sb->source);
		text_add(t, " ");
		text_path(t, path);
		text_add(t, " %s %s%s 0 0\n", sb->type, sb->flags & SB_RDONLY ? "ro" : "rw",
			 sb->options ? sb->options : "");
	}
	kfree(path);
}

static void show_mountinfo(struct text *t, const struct pid_of *o)
{
	char *path = kmalloc(PATH_MAX);

	list_for_each (it, &vfs_mounts) {
		struct superblock *sb = list_entry(it, struct superblock, node);
		if (!path || !mount_path(sb, path))
			continue;
		const char *rw = sb->flags & SB_RDONLY ? "ro" : "rw";
		text_add(t, "%d %d %u:%u / ", sb->mnt_id, sb->mountpoint ? sb->mountpoint->sb->mnt_id : 1,
			 (u32)DEV_MAJOR(sb->dev), (u32)DEV_MINOR(sb->dev));
		text_path(t, path);
		text_add(t, " %s%s - %s ", rw, sb->options ? sb->options : "", sb->type);
		text_path(t, sb->source);
		text_add(t, " %s\n", rw);
	}
	kfree(path);
}

/* --- links ---------------------------------------------------------------------------------- */

static void show_file(struct text *t, struct file *f)
{
	char *path = f ? kmalloc(PATH_MAX) : NULL;
	int n = path ? vfs_file_path(f, path, PATH_MAX) : -1;

	if (n > 0)
		text_bytes(t, path, (size_t)n);
	kfree(path);
}

/* The dentry of a file; for one without, a nameless dentry of its inode. */
static int follow_file(struct file *f, struct dentry **out)
{
	if (!f)
		return -ENOENT;
	if (f->dentry) {
		dentry_get(f->dentry);
		*out = f->dentry;
		return 0;
	}
	if (!f->inode)
		return -ENXIO;
	*out = dentry_new_anon(f->inode, f->ops->kind ? f->ops->kind : "file");
	return *out ? 0 : -ENOMEM;
}

static void show_exe(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p && p->exe)
		show_file(t, p->exe);
	else if (p && p->exe_path)
		text_add(t, "%s", p->exe_path);
}

static int follow_exe(const struct pid_of *o, struct dentry **out)
{
	struct process *p = pseudo_process(o);

	return p ? follow_file(p->exe, out) : -ESRCH;
}

static void show_place(struct text *t, struct dentry *d)
{
	char *path = kmalloc(PATH_MAX);

	if (path && dentry_path(d, current_fs()->root, path, PATH_MAX) > 0)
		text_bytes(t, path, strlen(path));
	if (path && d->flags & D_DELETED)
		text_add(t, " (deleted)");
	kfree(path);
}

static void show_cwd(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p && p->fs)
		show_place(t, p->fs->cwd);
}

static void show_root(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p && p->fs)
		show_place(t, p->fs->root);
}

static int follow_place(const struct pid_of *o, struct dentry **out, bool root)
{
	struct process *p = pseudo_process(o);

	if (!p || !p->fs)
		return -ENOENT;
	*out = root ? p->fs->root : p->fs->cwd;
	dentry_get(*out);
	return 0;
}

static int follow_cwd(const struct pid_of *o, struct dentry **out)
{
	return follow_place(o, out, false);
}

static int follow_root(const struct pid_of *o, struct dentry **out)
{
	return follow_place(o, out, true);
}

/* --- descriptors -------------------------------------------------------------------------------- */

static struct file *fd_file(const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	return p ? fdtable_file(p->fds, o->num) : NULL;
}

static void show_fd(struct text *t, const struct pid_of *o)
{
	show_file(t, fd_file(o));
}

static int follow_fd(const struct pid_of *o, struct dentry **out)
{
	return follow_file(fd_file(o), out);
}

static void show_fdinfo(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);
	struct file *f = fd_file(o);
	char more[400];

	if (!f)
		return;
	u32 flags = f->flags | (fdtable_cloexec(p->fds, o->num) ? O_CLOEXEC : 0);
	text_add(t, "pos:\t%lu\nflags:\t0%o\nmnt_id:\t%d\nino:\t%lu\n", (unsigned long)f->pos, flags,
		 f->inode && f->inode->sb ? f->inode->sb->mnt_id : 14,
		 (unsigned long)(f->inode ? f->inode->ino : f->ino_anon));
	if (f->ops->fdinfo && f->ops->fdinfo(f, more, sizeof(more)) > 0)
		text_add(t, "%s", more);
}

static const struct pent fd_link = {
	.name = "fd", .mode = S_IFLNK | 0700, .show = show_fd, .follow = follow_fd};
static const struct pent fdinfo_file = P_FILE("fdinfo", 0444, show_fdinfo);

static int fds_lookup(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out,
		      const struct pent *e)
{
	s32 fd = pseudo_number(name, len);

	out->ent = e;
	out->num = fd;
	return fd >= 0 && fd_file(out) ? 0 : -ENOENT;
}

static bool fds_nth(const struct pid_of *dir, u64 n, char name[16], struct pid_of *out, const struct pent *e)
{
	struct process *p = pseudo_process(dir);
	int fd = p ? fdtable_next(p->fds, 0) : -1;

	while (fd >= 0 && n--)
		fd = fdtable_next(p->fds, fd + 1);
	if (fd < 0)
		return false;
	snprintf(name, 16, "%d", fd);
	out->ent = e;
	out->num = fd;
	return true;
}

static int fd_lookup(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out)
{
	return fds_lookup(dir, name, len, out, &fd_link);
}

static bool fd_nth(const struct pid_of *dir, u64 n, char name[16], struct pid_of *out)
{
	return fds_nth(dir, n, name, out, &fd_link);
}

static int fdinfo_lookup(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out)
{
	return fds_lookup(dir, name, len, out, &fdinfo_file);
}

static bool fdinfo_nth(const struct pid_of *dir, u64 n, char name[16], struct pid_of *out)
{
	return fds_nth(dir, n, name, out, &fdinfo_file);
}

/* --- threads --------------------------------------------------------------------------------------- */

static int task_lookup(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out)
{
	s32 tid = pseudo_number(name, len);
	struct thread *t = tid > 0 ? thread_by_tid(tid) : NULL;

	if (!t || !t->proc || t->proc->pid != dir->pid)
		return -ENOENT;
	out->ent = &proc_task_dir;
	out->num = tid;
	return 0;
}

static bool task_nth(const struct pid_of *dir, u64 n, char name[16], struct pid_of *out)
{
	struct process *p = pseudo_process(dir);

	if (!p)
		return false;
	list_for_each (it, &p->threads) {
		struct thread *t = list_entry(it, struct thread, process_node);
		if (t->state == THREAD_DEAD || n--)
			continue;
		snprintf(name, 16, "%d", t->tid);
		out->ent = &proc_task_dir;
		out->num = t->tid;
		return true;
	}
	return false;
}

/* --- odds and ends -------------------------------------------------------------------------------------- */

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
	if (v > 1000)
		return -EINVAL;
	p->oom_score_adj = negative ? -v : v;
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

#define COMMON                                                                                               \
	P_FILE("auxv", 0400, show_auxv), P_FILE("cgroup", 0444, show_cgroup),                                \
		P_FILE("cmdline", 0444, show_cmdline),                                                       \
		{.name = "comm", .mode = S_IFREG | 0644, .show = show_comm, .write = write_comm},            \
		{.name = "cwd", .mode = S_IFLNK | 0777, .show = show_cwd, .follow = follow_cwd},             \
		P_FILE("environ", 0400, show_environ),                                                       \
		{.name = "exe", .mode = S_IFLNK | 0777, .show = show_exe, .follow = follow_exe},             \
		{.name = "fd", .mode = S_IFDIR | 0500, .lookup = fd_lookup, .nth = fd_nth},                  \
		{.name = "fdinfo", .mode = S_IFDIR | 0555, .lookup = fdinfo_lookup, .nth = fdinfo_nth},      \
		P_FILE("gid_map", 0644, show_id_map), P_FILE("limits", 0444, show_limits),                   \
		P_FILE("loginuid", 0644, show_loginuid), P_FILE("maps", 0444, show_maps),                    \
		P_FILE("mountinfo", 0444, show_mountinfo), P_FILE("mounts", 0444, proc_mounts),              \
		{.name = "oom_score_adj",                                                                    \
		 .mode = S_IFREG | 0644,                                                                     \
		 .show = show_oom_score_adj,                                                                 \
		 .write = write_oom_score_adj},                                                              \
		P_FILE("personality", 0400, show_personality),                                               \
		{.name = "root", .mode = S_IFLNK | 0777, .show = show_root, .follow = follow_root},          \
		P_FILE("schedstat", 0444, show_schedstat), P_FILE("smaps", 0444, show_smaps),                \
		P_FILE("stat", 0444, show_stat), P_FILE("statm", 0444, show_statm),                          \
		P_FILE("status", 0444, show_status), P_FILE("uid_map", 0644, show_id_map),                   \
		P_FILE("wchan", 0444, show_wchan)

static const struct pent task_entries[] = {COMMON};
static const struct pent pid_entries[] = {
	COMMON,
	{.name = "net", .mode = S_IFDIR | 0555, .sub = proc_net_entries, .n_sub = PROC_N_NET},
	{.name = "task", .mode = S_IFDIR | 0555, .lookup = task_lookup, .nth = task_nth},
};

const struct pent proc_pid_dir = P_DIR("pid", pid_entries);
const struct pent proc_task_dir = P_DIR("task", task_entries);
