/* SPDX-License-Identifier: ISC */
/*
 * madvise, msync, mincore, mlock: what an app says or asks about ranges that
 * are mapped already; truncation of a mapped file; keys of shared futexes.
 *
 * Advice that changes a VMA's flags splits and merges VMAs as Linux does.
 * MADV_FREE drops at once, as the kernel may; MADV_COLD and PAGEOUT have
 * nothing to do where nothing is swapped.
 */
#include <linux/resource.h>

#include "guest/mm/frame.h"
#include "guest/mm/pt.h"
#include "guest/mm/vma.h"
#include "guest/vfs/vfs.h"

/* --- madvise ------------------------------------------------------------------------ */

/* The flags of VMAs that an advice sets and clears; false if it is another kind. */
static bool advice_flags(int advice, u32 *set, u32 *clear)
{
	*set = *clear = 0;
	switch (advice) {
	case MADV_NORMAL:
	case MADV_SEQUENTIAL:
		*clear = VMA_RANDOM;
		return true;
	case MADV_RANDOM:
		*set = VMA_RANDOM;
		return true;
	case MADV_WIPEONFORK:
		*set = VMA_WIPEONFORK;
		return true;
	case MADV_KEEPONFORK:
		*clear = VMA_WIPEONFORK;
		return true;
	case MADV_DONTFORK:
		*set = VMA_DONTFORK;
		return true;
	case MADV_DOFORK:
		*clear = VMA_DONTFORK;
		return true;
	case MADV_DONTDUMP:
		*set = VMA_DONTDUMP;
		return true;
	case MADV_DODUMP:
		*clear = VMA_DONTDUMP;
		return true;
	case MADV_HUGEPAGE:
		*set = VMA_HUGE;
		*clear = VMA_NOHUGE;
		return true;
	case MADV_NOHUGEPAGE:
		*set = VMA_NOHUGE;
		*clear = VMA_HUGE;
		return true;
	}
	return false;
}

static bool advice_known(int advice)
{
	u32 set, clear;

	switch (advice) {
	case MADV_WILLNEED:
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
	case MADV_FREE:
	case MADV_REMOVE:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
	case MADV_COLLAPSE:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
		return true;
	}
	return advice_flags(advice, &set, &clear);
}

/* Punch the range out of a shared file mapping, memory and all. */
static s64 advise_remove(struct vma *v, u64 start, u64 end)
{
	struct file *f = v->file;

	if (v->flags & MAP_LOCKED || !f || !f->inode)
		return -EINVAL;
	if (!vma_shared(v) || (!(v->flags & MAP_ANONYMOUS) && (f->flags & O_ACCMODE) != O_RDWR))
		return -EACCES;
	if (!f->ops->fallocate)
		return -EOPNOTSUPP;
	return f->ops->fallocate(f, 3 /* FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE */,
				 v->off + (start - v->start), end - start);
}

static s64 advise_populate(struct vma *v, u64 start, u64 end, bool write)
{
	if (!(v->prot & (write ? PROT_WRITE : PROT_RWX)))
		return -EINVAL;
	return mm_populate_vma(v, start, end, write, true);
}

/* One VMA's part [start, end) of the range. */
static s64 advise_part(struct vma *v, u64 start, u64 end, int advice)
{
	switch (advice) {
	case MADV_DONTNEED:
		if (v->flags & MAP_LOCKED)
			return -EINVAL;
		/* fallthrough */
	case MADV_DONTNEED_LOCKED:
		if (v->flags & VMA_SPECIAL)
			return -EINVAL;
		pt_unmap(v->as, start, end);
		return 0;
	case MADV_FREE:
		if (!vma_anon(v) || v->flags & MAP_LOCKED)
			return -EINVAL;
		pt_unmap(v->as, start, end);
		return 0;
	case MADV_REMOVE:
		return advise_remove(v, start, end);
	case MADV_POPULATE_READ:
		return advise_populate(v, start, end, false);
	case MADV_POPULATE_WRITE:
		return advise_populate(v, start, end, true);
	case MADV_WILLNEED:
		if (v->file && v->prot & PROT_RWX)
			mm_populate_new(v, start, end);
		return 0;
	case MADV_COLD:
	case MADV_PAGEOUT:
		return v->flags & (MAP_LOCKED | VMA_SPECIAL) ? -EINVAL : 0;
	case MADV_COLLAPSE:
		return 0;
	}
	return 0;
}

static s64 change_flags(struct vma *v, u32 set, u32 clear)
{
	if (set & VMA_WIPEONFORK && (!vma_anon(v) || vma_shared(v)))
		return -EINVAL;
	if ((set | clear) & VMA_DONTDUMP && v->flags & VMA_SPECIAL)
		return -EINVAL;
	v->flags = (v->flags & ~clear) | set;
	return 0;
}

s64 mm_madvise(struct aspace *as, u64 addr, u64 len, int advice)
{
	u64 end, at = addr;
	u32 set, clear;
	bool flags = advice_flags(advice, &set, &clear), hole = false;
	s64 err = 0;

	if (addr & (PAGE_SIZE - 1) || !advice_known(advice) || (len && !PAGE_UP(len)))
		return -EINVAL;
	len = PAGE_UP(len);
	end = addr + len;
	if (end < addr)
		return -EINVAL;
	if (!len)
		return 0;
	if (end > BOOT_TASK_SIZE)
		return -ENOMEM;
	if (advice == MADV_MERGEABLE || advice == MADV_UNMERGEABLE)
		return -EINVAL; /* as a kernel without KSM */
	if (flags)
		err = vma_isolate(as, addr, end);
	else if (!(err = pt_split_at(as, addr)))
		err = pt_split_at(as, end);
	if (err)
		return err;
	while (at < end) {
		struct vma *v = vma_find(as, at);
		u64 stop;

		if (!v || v->start >= end) {
			hole = true;
			break;
		}
		hole |= v->start > at;
		at = MAX(at, v->start);
		stop = MIN(v->end, end);
		if (hole && (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE))
			break;
		err = flags ? change_flags(v, set, clear) : advise_part(v, at, stop, advice);
		if (err)
			break;
		at = stop;
	}
	if (flags)
		vma_merge_range(as, addr, end);
	else
		reclaim_hint();
	return err ? err : hole ? -ENOMEM : 0;
}

/* --- msync, mincore, mlock -------------------------------------------------------------- */

s64 mm_msync(struct aspace *as, u64 addr, u64 len, int flags)
{
	u64 end = addr + PAGE_UP(len), at = addr;
	bool hole = false;

	if (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) || addr & (PAGE_SIZE - 1) ||
	    (flags & MS_ASYNC && flags & MS_SYNC))
		return -EINVAL;
	if (end < addr)
		return -ENOMEM;
	while (at < end) {
		struct vma *v = vma_find(as, at);
		u64 stop;
		s64 err = 0;

		if (!v || v->start >= end)
			return -ENOMEM;
		hole |= v->start > at;
		stop = MIN(v->end, end);
		if (flags & MS_INVALIDATE && v->flags & MAP_LOCKED)
			return -EBUSY;
		if (flags & MS_SYNC && vma_shared(v) && v->file && v->file->ops->fsync) {
			struct file *f = v->file;

			file_get(f);
			err = f->ops->fsync(f, true); /* may sleep: v may be gone afterwards */
			file_put(f);
		}
		if (err)
			return err;
		at = stop;
	}
	return hole ? -ENOMEM : 0;
}

s64 mm_mincore(struct aspace *as, u64 addr, u64 len, u8 *user_vec)
{
	u64 end = addr + PAGE_UP(len), at = addr;
	u8 buf[256];

	if (addr & (PAGE_SIZE - 1))
		return -EINVAL;
	if (end < addr || end > BOOT_TASK_SIZE)
		return -ENOMEM;
	if (!vma_range_mapped(as, addr, end) && len)
		return -ENOMEM;
	while (at < end) {
		u32 n = 0;

		for (; n < sizeof(buf) && at < end; at += PAGE_SIZE)
			buf[n++] = pt_lookup(as->root, at) != 0;
		if (copy_out(user_vec, buf, n))
			return -EFAULT;
		user_vec += n;
	}
	return 0;
}

bool mm_lock_exceeds(struct aspace *as, u64 n)
{
	u64 limit = mm_rlimit(as, RLIMIT_MEMLOCK);

	return limit != RLIM64_INFINITY && as->locked_pages + n > limit >> PAGE_SHIFT;
}

/* As errors of mlock(2) go. */
static s64 fill(struct vma *v, u64 start, u64 end, bool must)
{
	s64 err = mm_populate_vma(v, start, end, v->prot & PROT_WRITE && !vma_shared(v), must);

	return err == -EFAULT ? -ENOMEM : err == -ENOMEM ? -EAGAIN : err;
}

void mm_fill_locked(struct aspace *as, u64 start, u64 end)
{
	for (struct vma *v = vma_find(as, start); v && v->start < end; v = vma_next(v))
		if (vma_filled(v))
			fill(v, MAX(v->start, start), MIN(v->end, end), false);
}

static void set_locks(struct vma *v, u32 lock)
{
	if (v->flags & VMA_SPECIAL)
		return;
	v->as->locked_pages += (lock ? vma_pages(v) : 0) - (v->flags & MAP_LOCKED ? vma_pages(v) : 0);
	v->flags = (v->flags & ~VMA_LOCKS) | lock;
}

static u64 locked_in(struct aspace *as, u64 start, u64 end)
{
	u64 n = 0;

	for (struct vma *v = vma_find(as, start); v && v->start < end; v = vma_next(v))
		if (v->flags & MAP_LOCKED)
			n += (MIN(v->end, end) - MAX(v->start, start)) >> PAGE_SHIFT;
	return n;
}

s64 mm_mlock(struct aspace *as, u64 addr, u64 len, u32 lock)
{
	u64 start = PAGE_DOWN(addr), end = PAGE_UP(addr + len);
	s64 err, hole = 0;
	struct vma *v;

	if (addr + len < addr || end < start)
		return -EINVAL;
	if (start == end)
		return 0;
	if (end > BOOT_TASK_SIZE)
		return -ENOMEM;
	if (lock && mm_lock_exceeds(as, ((end - start) >> PAGE_SHIFT) - locked_in(as, start, end)))
		return -ENOMEM;
	v = vma_find(as, start);
	if (!v || v->start > start)
		return -ENOMEM;
	err = vma_isolate(as, start, end);
	/* As Linux: what lies before a hole is locked, and nothing brought in. */
	for (v = vma_find(as, start); !err && v && v->start < end; v = vma_next(v)) {
		if (v->end < end && (!vma_next(v) || vma_next(v)->start > v->end))
			hole = -ENOMEM;
		set_locks(v, lock);
		if (hole)
			break;
	}
	/* All of it is locked; now it is brought in, as far as that goes. */
	err = err ? err : hole;
	for (v = vma_find(as, start); lock == MAP_LOCKED && !err && v && v->start < end; v = vma_next(v))
		err = v->prot & PROT_RWX ? fill(v, v->start, v->end, true) : -ENOMEM;
	vma_merge_range(as, start, end);
	return err;
}

void mm_mlockall(struct aspace *as, u32 future, bool now, u32 lock)
{
	as->lock_future = future;
	if (!now)
		return;
	list_for_each (n, &as->vmas)
		set_locks(list_entry(n, struct vma, node), lock);
	vma_merge_range(as, 0, BOOT_TASK_SIZE);
	if (lock == MAP_LOCKED)
		mm_fill_locked(as, 0, BOOT_TASK_SIZE);
}

/* --- files that shrink ------------------------------------------------------------------------ */

void mm_truncate_inode(struct inode *ino, u64 from)
{
	from = PAGE_UP(from);
	if (!ino->mappings.next)
		return;
	list_for_each (n, &ino->mappings) {
		struct vma *v = list_entry(n, struct vma, mapping);
		u64 start = from > v->off ? v->start + (from - v->off) : v->start;

		/* Lacking memory to split a 2 MiB page, more is dropped than needed: it faults in again. */
		if (start >= v->end)
			continue;
		if (pt_split_at(v->as, start))
			start = MAX(v->start, start & ~(HUGE_SIZE - 1));
		if (!pt_split_at(v->as, v->end))
			pt_unmap(v->as, start, v->end);
	}
}

/* The file's own pages in [start, end) of a private mapping; copies stay. */
static void drop_clean(struct vma *v, u64 start, u64 end)
{
	struct pt_leaf l;

	for (u64 va = start; pt_next(v->as, va, end, &l); va = l.va + (l.pages << PAGE_SHIFT))
		if (l.entry & PTE_FILE)
			pt_unmap(v->as, MAX(l.va, start), MIN(l.va + (l.pages << PAGE_SHIFT), end));
}

void mm_punch_inode(struct inode *ino, u64 from, u64 to)
{
	if (!ino->mappings.next)
		return;
	list_for_each (n, &ino->mappings) {
		struct vma *v = list_entry(n, struct vma, mapping);
		u64 len = v->end - v->start, start, end;

		if (to <= v->off || from >= v->off + len)
			continue;
		start = from > v->off ? v->start + (from - v->off) : v->start;
		end = MIN(v->end, v->start + (to - v->off));
		/* As above: what faults in again may go. */
		if (pt_split_at(v->as, start))
			start = MAX(v->start, start & ~(HUGE_SIZE - 1));
		if (pt_split_at(v->as, end))
			end = MIN(v->end, ALIGN_UP(end, HUGE_SIZE));
		if (vma_shared(v))
			pt_unmap(v->as, start, end);
		else
			drop_clean(v, start, end);
	}
}

int mm_forget_image_page(struct inode *ino, u64 pgoff, gpa_t image)
{
	u64 off = pgoff << PAGE_SHIFT;

	if (!ino->mappings.next)
		return 0;
	list_for_each (n, &ino->mappings) {
		struct vma *v = list_entry(n, struct vma, mapping);
		u64 va = v->start + (off - v->off);

		if (off < v->off || va >= v->end)
			continue;
		if (pt_split_at(v->as, va) || pt_split_at(v->as, va + PAGE_SIZE))
			return -ENOMEM;
		/* a private copy stays: only what still shows the image is taken away */
		if (pte_gpa(pt_lookup(v->as->root, va)).v == image.v)
			pt_unmap(v->as, va, va + PAGE_SIZE);
	}
	return 0;
}

/* --- futexes ------------------------------------------------------------------------------------ */

int mm_futex_key(struct aspace *as, u64 va, bool private, u64 key[2])
{
	struct vma *v;

	key[0] = (u64)as;
	key[1] = va;
	if (va >= BOOT_TASK_SIZE)
		return -EFAULT;
	if (private)
		return 0;
	v = vma_find(as, va);
	if (!v || v->start > va)
		return -EFAULT;
	if (vma_shared(v) && v->file) {
		key[0] = v->file->inode ? (u64)v->file->inode : (u64)v->file;
		key[1] = v->off + (va - v->start);
	}
	return 0;
}
