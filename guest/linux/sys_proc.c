/* SPDX-License-Identifier: ISC */
/*
 * System calls: the life of a process: exit, wait, execve, its ids and groups.
 * What they mean is in proc/; clone and fork are in sys_thread.c.
 */
#include <linux/binfmts.h>
#include <linux/fcntl.h>
#include <linux/wait.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/proc/wait.h"
#include "guest/restored.h"
#include "guest/vfs/vfs.h"

#define PATH_SIZE      4096
#define MAX_ARGS       32768u
#define MAX_ARG_BYTES  (2ul << 20)
#define WAIT_OPTIONS   (WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL)
#define WAITID_OPTIONS (WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL)

SYSCALL1(exit, int, status)
{
	/* The last thread's status is the process's, whichever it is. */
	if (current->proc->n_threads == 1)
		process_exit((status & 0xff) << 8);
	thread_exit();
}

SYSCALL1(exit_group, int, status)
{
	process_exit((status & 0xff) << 8);
}

/* --- wait ------------------------------------------------------------------------------ */

static int put_usage(const struct usage *u, struct rusage *uru)
{
	struct rusage ru;

	usage_show(u, &ru);
	return put_user(ru, uru);
}

SYSCALL4(wait4, s32, pid, int *, ustatus, int, options, struct rusage *, uru)
{
	struct wait_req w = {.which = P_ALL, .options = options | WEXITED};
	s64 res;

	if (options & ~(int)WAIT_OPTIONS)
		return -EINVAL;
	if (pid == INT32_MIN)
		return -ESRCH;
	if (pid != -1) {
		w.which = pid > 0 ? P_PID : P_PGID;
		w.id = pid > 0 ? pid : pid ? -pid : current->proc->pgid;
	}
	res = process_wait(&w);
	if (res > 0 && ustatus && put_user(w.status, ustatus))
		return -EFAULT;
	if (res > 0 && uru && put_usage(&w.usage, uru))
		return -EFAULT;
	return res;
}

/* Whom waitid means; -errno. A pidfd's process is referenced. */
static int waitid_whom(struct wait_req *w, int which, s32 id)
{
	u32 flags;

	w->which = which;
	w->id = id;
	switch (which) {
	case P_ALL:
		return 0;
	case P_PID:
		return id > 0 ? 0 : -EINVAL;
	case P_PGID:
		if (!id)
			w->id = current->proc->pgid;
		return id >= 0 ? 0 : -EINVAL;
	case P_PIDFD:
		if (id < 0)
			return -EINVAL;
		w->target = pidfd_process(id, &flags);
		if (!w->target)
			return -EBADF;
		if (flags & O_NONBLOCK)
			w->options |= WNOHANG;
		return 0;
	default:
		return -EINVAL;
	}
}

SYSCALL5(waitid, int, which, s32, id, siginfo_t *, uinfo, int, options, struct rusage *, uru)
{
	struct wait_req w = {.options = options};
	siginfo_t info;
	s64 res;

	if (options & ~(int)WAITID_OPTIONS || !(options & (WEXITED | WSTOPPED | WCONTINUED)))
		return -EINVAL;
	res = waitid_whom(&w, which, id);
	if (res)
		return res;
	res = process_wait(&w);
	if (!res && !(options & WNOHANG))
		res = -EAGAIN; /* a pidfd that does not block */
	if (w.target)
		process_put(w.target);
	if (res < 0)
		return res;
	if (res && uru && put_usage(&w.usage, uru))
		return -EFAULT;
	if (!uinfo)
		return 0;
	memset(&info, 0, sizeof(info));
	if (res) {
		info.si_signo = SIGCHLD;
		info.si_code = w.code;
		info.si_pid = w.pid;
		info.si_uid = w.uid;
		info.si_status = w.detail;
	}
	/* Only what Linux writes: the times are not. */
	return copy_out(uinfo, &info, offsetof(siginfo_t, si_utime));
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
	if (res >= 0 && *path != '/' && dirfd != AT_FDCWD && !fdtable_file(fdtable_current(), dirfd))
		res = -EBADF;
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
