/* SPDX-License-Identifier: ISC */
/*
 * System calls that look into another process: process_vm_readv and its twin,
 * kcmp. Who may is decided as Linux decides it for ptrace, without the tracing.
 */
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <linux/limits.h>

#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/vfs/vfs.h"

#define CHUNK PAGE_SIZE

bool process_may_inspect(const struct process *p, bool by_fs_ids)
{
	const struct process *me = current->proc;
	u32 uid = by_fs_ids ? me->fsuid : me->uid, gid = by_fs_ids ? me->fsgid : me->gid;

	if (p == me || me->cap_effective >> CAP_SYS_PTRACE & 1)
		return true;
	return uid == p->uid && uid == p->euid && uid == p->suid && gid == p->gid && gid == p->egid &&
	       gid == p->sgid && p->dumpable && !(p->cap_permitted & ~me->cap_permitted);
}

struct iovs {
	struct iovec v[UIO_FASTIOV * 8];
	u32 n, at;
	u64 off;
};

static int iovs_in(struct iovs *s, const struct iovec *uiov, u64 n)
{
	if (n > ARRAY_SIZE(s->v))
		return -EINVAL;
	if (copy_in(s->v, uiov, n * sizeof(*uiov)))
		return -EFAULT;
	s->n = (u32)n;
	for (u64 i = 0; i < n; i++)
		if ((s64)s->v[i].iov_len < 0)
			return -EINVAL;
	return 0;
}

/* Bytes that can be moved at the current place; 0: the end. */
static u64 iovs_left(struct iovs *s)
{
	while (s->at < s->n && s->off == s->v[s->at].iov_len) {
		s->at++;
		s->off = 0;
	}
	return s->at < s->n ? s->v[s->at].iov_len - s->off : 0;
}

static u64 iovs_addr(const struct iovs *s)
{
	return (u64)s->v[s->at].iov_base + s->off;
}

static s64 move(struct process *p, struct iovs *local, struct iovs *remote, bool write, char *buf)
{
	u64 a, b;
	s64 done = 0;

	while ((a = iovs_left(local)) && (b = iovs_left(remote))) {
		size_t n = MIN(MIN(a, b), CHUNK - (iovs_addr(remote) & (CHUNK - 1)));
		void *here = (void *)iovs_addr(local);

		if (signal_is_pending() && done)
			break;
		if (write && copy_in(buf, here, n))
			return done ? done : -EFAULT;
		if (!p->as || mm_access(p->as, iovs_addr(remote), buf, n, write, false) != n)
			return done ? done : -EFAULT;
		if (!write && copy_out(here, buf, n))
			return done ? done : -EFAULT;
		local->off += n;
		remote->off += n;
		done += (s64)n;
	}
	return done;
}

static s64 vm_rw(s32 pid, const struct iovec *ulocal, u64 n_local, const struct iovec *uremote, u64 n_remote,
		 u64 flags, bool write)
{
	struct process *p = process_by_pid(pid);
	struct iovs *io;
	char *buf;
	s64 res;

	if (flags)
		return -EINVAL;
	io = kmalloc(2 * sizeof(*io));
	buf = kmalloc(CHUNK);
	if (!io || !buf) {
		kfree(io);
		kfree(buf);
		return -ENOMEM;
	}
	memset(io, 0, 2 * sizeof(*io));
	res = iovs_in(&io[0], ulocal, n_local);
	if (!res)
		res = iovs_in(&io[1], uremote, n_remote);
	if (!res && (!p || !p->as))
		res = -ESRCH;
	if (!res && !process_may_inspect(p, false))
		res = -EPERM;
	if (!res) {
		process_get(p);
		res = move(p, &io[0], &io[1], write, buf);
		process_put(p);
	}
	kfree(io);
	kfree(buf);
	return res;
}

SYSCALL6(process_vm_readv, s32, pid, const struct iovec *, ulocal, u64, n_local, const struct iovec *,
	 uremote, u64, n_remote, u64, flags)
{
	return vm_rw(pid, ulocal, n_local, uremote, n_remote, flags, false);
}

SYSCALL6(process_vm_writev, s32, pid, const struct iovec *, ulocal, u64, n_local, const struct iovec *,
	 uremote, u64, n_remote, u64, flags)
{
	return vm_rw(pid, ulocal, n_local, uremote, n_remote, flags, true);
}

static s64 order(const void *a, const void *b)
{
	return a == b ? 0 : a < b ? 1 : 2;
}

SYSCALL5(kcmp, s32, pid1, s32, pid2, int, type, u64, i1, u64, i2)
{
	struct process *p = process_by_pid(pid1), *q = process_by_pid(pid2);
	struct file *f, *g;

	if (!p || !q)
		return -ESRCH;
	if (!process_may_inspect(p, false) || !process_may_inspect(q, false))
		return -EPERM;
	switch (type) {
	case KCMP_FILE:
		f = p->fds ? fdtable_file(p->fds, (int)i1) : NULL;
		g = q->fds ? fdtable_file(q->fds, (int)i2) : NULL;
		return f && g ? order(f, g) : -EBADF;
	case KCMP_VM:
		return order(p->as, q->as);
	case KCMP_FILES:
		return order(p->fds, q->fds);
	case KCMP_FS:
		return order(p->fs, q->fs);
	case KCMP_SIGHAND:
		return order(p->sighand, q->sighand);
	default:
		return -EINVAL;
	}
}
