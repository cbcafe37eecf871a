/* SPDX-License-Identifier: ISC */
/*
 * System calls: the life of a process. There is one process for now: making
 * another fails with ENOSYS, waiting for one with ECHILD. execve replaces the
 * program and works.
 */
#include <linux/binfmts.h>
#include <linux/fcntl.h>
#include <linux/wait.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/restored.h"
#include "guest/vfs/vfs.h"

#define PATH_SIZE     4096
#define MAX_ARGS      32768u
#define MAX_ARG_BYTES (2ul << 20)
#define WAIT_OPTIONS  (WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL)

s64 no_processes(const char *call); /* sys_thread.c */

SYSCALL0(fork)
{
	return no_processes("fork");
}

SYSCALL0(vfork)
{
	return no_processes("vfork");
}

SYSCALL1(exit, int, status)
{
	struct thread *t = current;
	struct process *p = t->proc;

	if (p->n_threads == 1)
		process_exit((status & 0xff) << 8);
	if (t->tid == p->pid)
		p->exit_status = (status & 0xff) << 8;
	thread_exit();
}

SYSCALL1(exit_group, int, status)
{
	process_exit((status & 0xff) << 8);
}

SYSCALL4(wait4, s32, pid, int *, ustatus, int, options, void *, uru)
{
	return options & ~(int)WAIT_OPTIONS ? -EINVAL : -ECHILD;
}

SYSCALL5(waitid, int, which, s32, pid, void *, uinfo, int, options, void *, uru)
{
	if (which < P_ALL || which > P_PIDFD || !(options & (WEXITED | WSTOPPED | WCONTINUED)))
		return -EINVAL;
	return -ECHILD;
}

/* --- execve ------------------------------------------------------------------------- */

static void free_strings(char **v)
{
	if (!v)
		return;
	for (u32 i = 0; v[i]; i++)
		kfree(v[i]);
	kfree(v);
}

static s64 count_pointers(u64 uvec)
{
	u64 p;

	for (u32 n = 0; n < MAX_ARGS; n++) {
		if (get_user(p, (const u64 *)uvec + n))
			return -EFAULT;
		if (!p)
			return n;
	}
	return -E2BIG;
}

/* One string of the app, allocated as long as it is; `tmp` has room for the longest. */
static int copy_string(char **out, u64 ustr, char *tmp, u64 *total)
{
	s64 len = strncpy_in(tmp, (const char *)ustr, MAX_ARG_STRLEN);

	if (len < 0)
		return len == -ENAMETOOLONG ? -E2BIG : (int)len;
	*total += (u64)len + 1;
	if (*total > MAX_ARG_BYTES)
		return -E2BIG;
	*out = kmalloc((size_t)len + 1);
	if (!*out)
		return -ENOMEM;
	memcpy(*out, tmp, (size_t)len + 1);
	return 0;
}

/* A NULL-terminated vector of the app's strings. */
static int copy_strings(char ***out, u64 uvec, char *tmp, u64 *total)
{
	s64 n = uvec ? count_pointers(uvec) : 0;
	char **v;
	u64 p;
	int err = 0;

	if (n < 0)
		return (int)n;
	v = kzalloc(((u64)n + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (u32 i = 0; !err && i < n; i++) {
		err = get_user(p, (const u64 *)uvec + i);
		if (!err)
			err = copy_string(&v[i], p, tmp, total);
	}
	if (err) {
		free_strings(v);
		return err;
	}
	*out = v;
	return 0;
}

static s64 exec_copied(const char *path, u64 uargv, u64 uenvp)
{
	char **argv = NULL, **envp = NULL, *tmp = kmalloc(MAX_ARG_STRLEN);
	u64 total = 0;
	int err;

	if (!tmp)
		return -ENOMEM;
	err = copy_strings(&argv, uargv, tmp, &total);
	if (!err)
		err = copy_strings(&envp, uenvp, tmp, &total);
	kfree(tmp);
	if (!err)
		err = exec_program(path, argv, envp);
	free_strings(argv);
	free_strings(envp);
	return err;
}

/* After success the registers are the new program's: leave with all of them. */
static s64 exec_done(s64 err)
{
	return err ? err : (s64)current_regs()->rax;
}

SYSCALL3(execve, const char *, upath, u64, uargv, u64, uenvp)
{
	char *path = kmalloc(PATH_SIZE);
	s64 res;

	if (!path)
		return -ENOMEM;
	res = strncpy_in(path, upath, PATH_SIZE);
	if (res >= 0)
		res = *path ? exec_copied(path, uargv, uenvp) : -ENOENT;
	kfree(path);
	return exec_done(res);
}

SYSCALL5(execveat, int, dirfd, const char *, upath, u64, uargv, u64, uenvp, int, flags)
{
	char *path = kmalloc(PATH_SIZE + 32);
	s64 res;

	if (!path)
		return -ENOMEM;
	if (flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) {
		kfree(path);
		return -EINVAL;
	}
	res = strncpy_in(path, upath, PATH_SIZE);
	if (res >= 0 && *path != '/' && dirfd != AT_FDCWD) {
		/* Relative to a descriptor: by its name in /proc, as scripts run this way see it. */
		size_t n = (size_t)res;
		char fd[32];
		int k = snprintf(fd, sizeof(fd), n ? "/proc/self/fd/%d/" : "/proc/self/fd/%d", dirfd);

		if (!n && !(flags & AT_EMPTY_PATH)) {
			res = -ENOENT;
		} else {
			memmove(path + k, path, n + 1);
			memcpy(path, fd, (size_t)k);
		}
	}
	if (res >= 0)
		res = *path ? exec_copied(path, uargv, uenvp) : -ENOENT;
	kfree(path);
	return exec_done(res);
}

/* --- process ids ------------------------------------------------------------------------ */

SYSCALL0(getpid)
{
	return restored_getpid();
}

SYSCALL0(getppid)
{
	return current->proc->ppid;
}

static struct process *find(s32 pid)
{
	return pid ? process_by_pid(pid) : current->proc;
}

SYSCALL1(getpgid, s32, pid)
{
	struct process *p = find(pid);

	return p ? p->pgid : -ESRCH;
}

SYSCALL0(getpgrp)
{
	return current->proc->pgid;
}

SYSCALL1(getsid, s32, pid)
{
	struct process *p = find(pid);

	return p ? p->sid : -ESRCH;
}

SYSCALL2(setpgid, s32, pid, s32, pgid)
{
	struct process *p = find(pid), *peer = NULL;

	if (pgid < 0)
		return -EINVAL;
	if (!p || (p != current->proc && p->parent != current->proc))
		return -ESRCH;
	if (p->sid == p->pid)
		return -EPERM; /* a session leader stays in its group */
	if (!pgid)
		pgid = p->pid;
	list_for_each (it, &all_processes) {
		struct process *q = list_entry(it, struct process, all_node);

		if (q->pgid == pgid && q->sid == p->sid)
			peer = q;
	}
	if (pgid != p->pid && !peer)
		return -EPERM;
	p->pgid = pgid;
	return 0;
}

SYSCALL0(setsid)
{
	struct process *p = current->proc;

	list_for_each (it, &all_processes)
		if (list_entry(it, struct process, all_node)->pgid == p->pid)
			return -EPERM; /* it leads a group */
	p->sid = p->pgid = p->pid;
	return p->sid;
}
