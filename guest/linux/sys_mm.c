/* SPDX-License-Identifier: ISC */
/*
 * System calls of memory: mappings, protection, advice, locks. Thin: they
 * take the descriptor to a file and call mm/, which has the semantics.
 */
#include <linux/capability.h>
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

	if (p && resource == RLIMIT_MEMLOCK && p->cap_effective >> CAP_IPC_LOCK & 1)
		return RLIM64_INFINITY;
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
	return mm_rlimit(current->proc->as, RLIMIT_MEMLOCK);
}

SYSCALL2(mlock, u64, addr, u64, len)
{
	return may_lock() ? mm_mlock(current->proc->as, addr, len, MAP_LOCKED) : -EPERM;
}

SYSCALL3(mlock2, u64, addr, u64, len, u32, flags)
{
	u32 lock = MAP_LOCKED | (flags & MLOCK_ONFAULT ? VMA_LOCKONFAULT : 0);

	if (flags & ~(u32)MLOCK_ONFAULT)
		return -EINVAL;
	return may_lock() ? mm_mlock(current->proc->as, addr, len, lock) : -EPERM;
}

SYSCALL2(munlock, u64, addr, u64, len)
{
	return mm_mlock(current->proc->as, addr, len, 0);
}

SYSCALL1(mlockall, u32, flags)
{
	u32 lock = MAP_LOCKED | (flags & MCL_ONFAULT ? VMA_LOCKONFAULT : 0);
	struct aspace *as = current->proc->as;
	u64 limit = mm_rlimit(as, RLIMIT_MEMLOCK);

	if (!flags || flags & ~(u32)(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) || flags == MCL_ONFAULT)
		return -EINVAL;
	if (!may_lock())
		return -EPERM;
	if (flags & MCL_CURRENT && as->total_vm_pages > limit >> PAGE_SHIFT)
		return -ENOMEM;
	mm_mlockall(as, flags & MCL_FUTURE ? lock : 0, flags & MCL_CURRENT, lock);
	return 0;
}

SYSCALL0(munlockall)
{
	mm_mlockall(current->proc->as, 0, true, 0);
	return 0;
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
