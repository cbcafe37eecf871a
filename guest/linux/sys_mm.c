/* SPDX-License-Identifier: ISC */
/*
 * System calls of memory: mappings, protection, advice, locks. Thin: they
 * take the descriptor to a file and call mm/, which has the semantics.
 */
#include <linux/mman.h>
#include <linux/resource.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/mm/vma.h"
#include "guest/proc/proc.h"
#include "guest/vfs/vfs.h"

u64 mm_rlimit(struct aspace *as, int resource)
{
	struct process *p = current ? current->proc : NULL;

	return p && p->as == as ? p->rlim[resource].rlim_cur : RLIM64_INFINITY;
}

SYSCALL6(mmap, u64, addr, u64, len, u32, prot, u32, flags, int, fd, u64, off)
{
	struct file *f = NULL;
	s64 r;

	if (off & (PAGE_SIZE - 1))
		return -EINVAL;
	if (!(flags & MAP_ANONYMOUS)) {
		f = fd_get(fd);
		if (!f)
			return -EBADF;
	}
	r = mm_mmap(current->proc->as, addr, len, prot, flags, f, off);
	if (f)
		file_put(f);
	return r;
}

SYSCALL2(munmap, u64, addr, u64, len)
{
	return mm_munmap(current->proc->as, addr, len);
}

SYSCALL3(mprotect, u64, addr, u64, len, u32, prot)
{
	return mm_mprotect(current->proc->as, addr, len, prot);
}

SYSCALL1(brk, u64, addr)
{
	return mm_brk(current->proc->as, addr);
}

SYSCALL5(mremap, u64, old, u64, old_len, u64, new_len, u32, flags, u64, to)
{
	return mm_mremap(current->proc->as, old, old_len, new_len, flags, to);
}

SYSCALL3(madvise, u64, addr, u64, len, int, advice)
{
	return mm_madvise(current->proc->as, addr, len, advice);
}

SYSCALL3(msync, u64, addr, u64, len, int, flags)
{
	return mm_msync(current->proc->as, addr, len, flags);
}

SYSCALL3(mincore, u64, addr, u64, len, u8 *, vec)
{
	return mm_mincore(current->proc->as, addr, len, vec);
}

/* --- locks: nothing is ever swapped; the effect is that the pages are brought in -------- */

static bool may_lock(void)
{
	return current->proc->cap_effective >> 14 & 1 /* CAP_IPC_LOCK */ ||
	       current->proc->rlim[RLIMIT_MEMLOCK].rlim_cur;
}

SYSCALL2(mlock, u64, addr, u64, len)
{
	return may_lock() ? mm_mlock(current->proc->as, addr, len, true) : -EPERM;
}

SYSCALL3(mlock2, u64, addr, u64, len, u32, flags)
{
	if (flags & ~(u32)MLOCK_ONFAULT)
		return -EINVAL;
	return may_lock() ? mm_mlock(current->proc->as, addr, len, true) : -EPERM;
}

SYSCALL2(munlock, u64, addr, u64, len)
{
	return mm_mlock(current->proc->as, addr, len, false);
}

static s64 lock_all(bool lock)
{
	struct aspace *as = current->proc->as;
	u64 at = 0;
	struct vma *v;

	while ((v = vma_find(as, at))) {
		s64 err = 0;

		at = v->end;
		if (v->prot & PROT_RWX || !lock)
			err = mm_mlock(as, v->start, v->end - v->start, lock);
		if (err)
			return err;
	}
	return 0;
}

SYSCALL1(mlockall, u32, flags)
{
	if (!flags || flags & ~(u32)(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) || flags == MCL_ONFAULT)
		return -EINVAL;
	if (!may_lock())
		return -EPERM;
	return flags & MCL_CURRENT && !(flags & MCL_ONFAULT) ? lock_all(true) : 0;
}

SYSCALL0(munlockall)
{
	return lock_all(false);
}

/* --- memory protection keys: a CPU without them ------------------------------------------- */

SYSCALL4(pkey_mprotect, u64, addr, u64, len, u32, prot, int, pkey)
{
	return pkey == -1 ? mm_mprotect(current->proc->as, addr, len, prot) : -EINVAL;
}

SYSCALL2(pkey_alloc, u32, flags, u32, rights)
{
	return flags || rights & ~3u ? -EINVAL : -ENOSPC;
}

SYSCALL1(pkey_free, int, pkey)
{
	return -EINVAL;
}
