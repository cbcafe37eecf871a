/* SPDX-License-Identifier: ISC */
/*
 * mmap, munmap, mprotect, mremap, brk with Linux's semantics and errors.
 *
 * Each works on whole VMAs: the ends of the range are made VMA (and 2 MiB
 * leaf) boundaries first, which is the only step that can lack memory, then
 * the change is applied to every VMA inside and neighbours are merged again.
 *
 * Address choice: the highest free range, from a random top. Anonymous
 * mappings of 2 MiB and more are aligned to 2 MiB, and mappings of the image
 * lie so that they are congruent to where the image is in guest-physical
 * memory, so that both can use 2 MiB pages.
 */
#include <linux/elf.h>
#include <linux/resource.h>

#include "guest/mm/frame.h"
#include "guest/mm/pt.h"
#include "guest/mm/vma.h"
#include "guest/vfs/vfs.h"

#define KEPT_FLAGS                                                                                           \
	(MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_NORESERVE | MAP_LOCKED | MAP_STACK)
#define LEGACY_FLAGS                                                                                         \
	(MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_32BIT | MAP_GROWSDOWN | MAP_DENYWRITE |  \
	 MAP_EXECUTABLE | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK |             \
	 MAP_HUGETLB | (u32)MAP_HUGE_MASK << MAP_HUGE_SHIFT | MAP_FIXED_NOREPLACE)
#define LOW_TOP	   0x80000000ull /* MAP_32BIT: [0x40000000, 0x80000000) as Linux */
#define LOW_BOTTOM 0x40000000ull

/* --- choosing an address ------------------------------------------------------------ */

static u64 choose_address(struct aspace *as, u64 hint, u64 len, u32 flags, struct file *file, u64 off)
{
	u64 low = as->mmap_bottom, high = as->mmap_top, align = PAGE_SIZE, at_off = 0, at;

	hint = PAGE_UP(hint);
	if (hint >= MMAP_MIN_ADDR && hint <= BOOT_TASK_SIZE - len && vma_range_free(as, hint, hint + len) &&
	    !(flags & MAP_32BIT && hint + len > LOW_TOP)) {
		struct vma *next = vma_find(as, hint);

		if (!next || !(next->flags & MAP_GROWSDOWN) || next->start - (hint + len) >= STACK_GUARD_GAP)
			return hint;
	}
	if (flags & MAP_32BIT) {
		low = LOW_BOTTOM;
		high = LOW_TOP;
	}
	if (len >= HUGE_SIZE) {
		align = HUGE_SIZE;
		if (file) {
			gpa_t g = mm_image_gpa(file->inode, off >> PAGE_SHIFT);

			at_off = g.v == GPA_NONE.v ? 0 : g.v & (HUGE_SIZE - 1);
		}
	}
	at = vma_find_gap(as, len, low, high, align, at_off);
	if (!at && align > PAGE_SIZE)
		at = vma_find_gap(as, len, low, high, PAGE_SIZE, 0);
	/* Above the mmap area is the stack; a full area overflows into what is left there. */
	if (!at && !(flags & MAP_32BIT))
		at = vma_find_gap(as, len, MMAP_MIN_ADDR, BOOT_TASK_SIZE - STACK_GUARD_GAP, PAGE_SIZE, 0);
	return at;
}

/* --- mmap ------------------------------------------------------------------------------ */

static s64 check_file(struct file *file, u32 prot, u32 flags)
{
	u32 acc = file->flags & O_ACCMODE;

	if (file->flags & O_PATH)
		return -EBADF;
	if (acc == O_WRONLY)
		return -EACCES;
	if ((flags & MAP_TYPE) != MAP_PRIVATE && prot & PROT_WRITE && acc != O_RDWR)
		return -EACCES;
	if (flags & (MAP_GROWSDOWN))
		return -EINVAL;
	if (!file->ops->mmap && (!file->inode || !S_ISREG(file->inode->mode)))
		return -ENODEV;
	return 0;
}

/* Flags, type and file as mmap(2) checks them. */
static s64 check_request(u32 prot, u32 flags, struct file *file)
{
	u32 type = flags & MAP_TYPE;

	if (type != MAP_SHARED && type != MAP_PRIVATE && type != MAP_SHARED_VALIDATE)
		return -EINVAL;
	if (type == MAP_SHARED_VALIDATE && (flags & ~(u32)LEGACY_FLAGS))
		return -EOPNOTSUPP;
	if (flags & MAP_HUGETLB)
		return -ENOMEM; /* no huge page pool, as on a system with none reserved */
	return file ? check_file(file, prot, flags) : 0;
}

/* Room for len more bytes under the limits? */
static s64 check_limits(struct aspace *as, u64 len, u32 prot, u32 flags, u64 replaced)
{
	u64 pages = len >> PAGE_SHIFT, limit = mm_rlimit(as, RLIMIT_AS);

	if (limit != RLIM64_INFINITY && as->total_vm_pages + pages - replaced > limit >> PAGE_SHIFT)
		return -ENOMEM;
	if (as->n_vmas >= MAX_VMAS)
		return -ENOMEM;
	/* Heuristic overcommit: only what can never fit is refused. */
	if (prot & PROT_WRITE && !(flags & MAP_NORESERVE) && (flags & MAP_TYPE) == MAP_PRIVATE &&
	    pages > frames_total())
		return -ENOMEM;
	return flags & MAP_LOCKED && mm_lock_exceeds(as, pages) ? -EAGAIN : 0;
}

static u64 pages_in(struct aspace *as, u64 start, u64 end)
{
	struct vma *v = vma_find(as, start);
	u64 n = 0;

	for (; v && v->start < end; v = vma_next(v))
		n += MIN(v->end, end) - MAX(v->start, start);
	return n >> PAGE_SHIFT;
}

/* Let the file's driver have its say: it may replace v->file (taking its own reference) or clear it. */
static s64 call_driver(struct vma *tmpl)
{
	struct file *f = tmpl->file;

	if (!f || !f->ops->mmap)
		return 0;
	return f->ops->mmap(f, tmpl);
}

static s64 place(struct aspace *as, struct vma *tmpl)
{
	u64 start = tmpl->start, end = tmpl->end;
	struct file *given = tmpl->file;
	struct vma *v;
	s64 err;

	if (!vma_range_free(as, start, end)) {
		err = vma_isolate(as, start, end);
		if (err)
			return err;
		vma_unmap_range(as, start, end);
	}
	tmpl->as = as;
	err = call_driver(tmpl);
	if (err)
		return err;
	v = vma_insert(as, tmpl);
	if (tmpl->file && tmpl->file != given)
		file_put(tmpl->file);
	if (!v)
		return -ENOMEM;
	return 0;
}

/*
 * A dynamic linker maps a library whole, to have its addresses, and then all segments but the first over
 * that. More than the first is not worth mapping ahead: it would only have to be flushed.
 */
static u64 first_segment_end(const struct vma *v, u64 start, u64 end)
{
	gpa_t g = v->file && !v->off && start == v->start ? mm_image_gpa(vma_inode(v), 0) : GPA_NONE;
	const Elf64_Ehdr *eh;
	const Elf64_Phdr *ph;

	if (g.v == GPA_NONE.v)
		return end;
	eh = frame_ptr(g);
	if (memcmp(eh->e_ident, ELFMAG, SELFMAG) || eh->e_phoff > PAGE_SIZE || eh->e_phoff % 8)
		return end;
	ph = (const void *)((const char *)eh + eh->e_phoff);
	for (unsigned i = 0; i < eh->e_phnum && eh->e_phoff + (i + 1) * sizeof(*ph) <= PAGE_SIZE; i++)
		if (ph[i].p_type == PT_LOAD && !ph[i].p_offset)
			return MIN(end, start + PAGE_UP(MIN(ph[i].p_filesz, end - start)));
	return end;
}

static void populate_after(struct aspace *as, u64 start, u64 end, u32 flags)
{
	struct vma *v = vma_find(as, start);

	if (!v || !(v->prot & PROT_RWX) || v->flags & VMA_LOCKONFAULT)
		return;
	if (!(flags & (MAP_FIXED | MAP_POPULATE | MAP_LOCKED)))
		end = first_segment_end(v, start, end);
	if ((flags & (MAP_POPULATE | MAP_NONBLOCK)) == MAP_POPULATE || flags & MAP_LOCKED)
		mm_populate_vma(v, start, end, v->prot & PROT_WRITE && !vma_shared(v), false);
	else
		mm_populate_new(v, start, end);
}

/* A shared anonymous mapping is a nameless file. */
static s64 map_shared_anon(struct aspace *as, struct vma *tmpl)
{
	struct file *f = vfs_anon_file("dev/zero", tmpl->end - tmpl->start, O_RDWR);
	s64 err;

	if (!f)
		return -ENOMEM;
	tmpl->file = f;
	tmpl->off = 0;
	err = place(as, tmpl);
	file_put(f);
	return err;
}

s64 mm_mmap(struct aspace *as, u64 addr, u64 len, u32 prot, u32 flags, struct file *file, u64 off)
{
	struct vma tmpl = {.prot = prot & PROT_RWX};
	u64 replaced = 0;
	s64 err;

	if (flags & MAP_FIXED_NOREPLACE)
		flags |= MAP_FIXED;
	if (!len)
		return -EINVAL;
	len = PAGE_UP(len);
	if (!len || len > BOOT_TASK_SIZE)
		return -ENOMEM;
	if (off & (PAGE_SIZE - 1))
		return -EINVAL;
	if (off + len < off)
		return -EOVERFLOW;
	if (flags & MAP_ANONYMOUS)
		file = NULL;
	err = check_request(prot, flags, file);
	if (err)
		return err;
	if (flags & MAP_LOCKED && !mm_rlimit(as, RLIMIT_MEMLOCK))
		return -EPERM;
	flags |= as->lock_future & MAP_LOCKED;
	if (flags & MAP_FIXED) {
		if (addr & (PAGE_SIZE - 1))
			return -EINVAL;
		if (addr > BOOT_TASK_SIZE - len)
			return -ENOMEM;
		if (addr < MMAP_MIN_ADDR)
			return -EPERM;
		if (flags & MAP_FIXED_NOREPLACE && !vma_range_free(as, addr, addr + len))
			return -EEXIST;
		replaced = pages_in(as, addr, addr + len);
	} else {
		addr = choose_address(as, addr, len, flags, file, off);
		if (!addr)
			return -ENOMEM;
	}
	err = check_limits(as, len, prot, flags, replaced);
	if (err)
		return err;
	tmpl.start = addr;
	tmpl.end = addr + len;
	tmpl.flags = (flags & KEPT_FLAGS) | (as->lock_future & VMA_LOCKONFAULT);
	if ((flags & MAP_TYPE) == MAP_SHARED_VALIDATE)
		tmpl.flags &= ~(u32)MAP_PRIVATE;
	tmpl.file = file;
	tmpl.off = file ? off : 0;
	if (!file && tmpl.flags & MAP_SHARED)
		err = map_shared_anon(as, &tmpl);
	else
		err = place(as, &tmpl);
	if (err)
		return err;
	vma_merge_range(as, addr, addr + len);
	populate_after(as, addr, addr + len, flags);
	return (s64)addr;
}

s64 mm_map_special(struct aspace *as, u64 addr, u64 len, u32 prot, gpa_t gpa, const char *name)
{
	struct vma tmpl = {.start = addr,
			   .end = addr + PAGE_UP(len),
			   .prot = prot,
			   .name = name,
			   .flags = MAP_PRIVATE | VMA_SPECIAL | VMA_DONTDUMP,
			   .off = gpa.v};
	u64 pages = PAGE_UP(len) >> PAGE_SHIFT;
	s64 err = place(as, &tmpl);

	if (err)
		return err;
	frame_get_run(gpa, pages);
	if (pt_map(as, addr, gpa, pages, prot, false) != pages) {
		frame_put_run(gpa, pages);
		vma_unmap_range(as, addr, tmpl.end);
		return -ENOMEM;
	}
	return (s64)addr;
}

/* --- munmap, mprotect ---------------------------------------------------------------------- */

s64 mm_munmap(struct aspace *as, u64 addr, u64 len)
{
	s64 err;

	if (addr & (PAGE_SIZE - 1) || !len || addr > BOOT_TASK_SIZE || len > BOOT_TASK_SIZE - addr)
		return -EINVAL;
	len = PAGE_UP(len);
	if (vma_range_free(as, addr, addr + len))
		return 0;
	err = vma_isolate(as, addr, addr + len);
	if (err)
		return err;
	vma_unmap_range(as, addr, addr + len);
	reclaim_hint();
	return 0;
}

/* May v get prot? Shared mappings of a file that was not opened for writing may not become writable. */
static s64 may_protect(const struct vma *v, u32 prot)
{
	if (v->flags & (VMA_SPECIAL | VMA_SEALED) && prot & PROT_WRITE)
		return -EACCES;
	if (vma_shared(v) && v->file && prot & PROT_WRITE && !(v->flags & MAP_ANONYMOUS) &&
	    (v->file->flags & O_ACCMODE) != O_RDWR)
		return -EACCES;
	return 0;
}

s64 mm_mprotect(struct aspace *as, u64 addr, u64 len, u32 prot)
{
	u32 grow = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
	struct vma *v;
	u64 end, at;
	s64 err;

	if (addr & (PAGE_SIZE - 1) || grow == (PROT_GROWSDOWN | PROT_GROWSUP))
		return -EINVAL;
	if (prot & ~(u32)(PROT_RWX | PROT_SEM | PROT_GROWSDOWN | PROT_GROWSUP))
		return -EINVAL;
	if (!len)
		return 0;
	len = PAGE_UP(len);
	if (!len || addr > BOOT_TASK_SIZE || len > BOOT_TASK_SIZE - addr)
		return -ENOMEM;
	end = addr + len;
	v = vma_find(as, addr);
	if (grow & PROT_GROWSUP)
		return -EINVAL;
	if (grow & PROT_GROWSDOWN) {
		if (!v || v->start >= end)
			return -ENOMEM;
		if (!(v->flags & MAP_GROWSDOWN))
			return -EINVAL;
		addr = v->start;
	}
	prot &= PROT_RWX;
	if (!v || v->start > addr)
		return -ENOMEM;
	err = vma_isolate(as, addr, end);
	/* As Linux: what lies before a hole or a refusal is changed. */
	for (at = addr; !err && at < end; at = v->end) {
		v = vma_find(as, at);
		if (!v || v->start > at) {
			err = -ENOMEM;
			break;
		}
		err = may_protect(v, prot);
		if (err)
			break;
		if (v->prot == prot)
			continue;
		v->prot = prot;
		pt_protect(as, v->start, v->end, prot, vma_shared(v));
		if (prot & PROT_WRITE && vma_filled(v) && !vma_shared(v))
			mm_fill_locked(as, v->start, v->end);
		/* An allocator's arena that grows into its reservation. */
		else if (!(v->flags & MAP_LOCKED) && vma_anon(v) && prot & PROT_WRITE)
			mm_populate_new(v, v->start, v->end);
	}
	vma_merge_range(as, addr, end);
	return err;
}

/* --- mremap --------------------------------------------------------------------------------- */

/* Move [old, old+len), isolated, to the free range at `to`, whose VMA becomes `size` long. */
static s64 move_vma(struct vma *v, u64 to, u64 size, bool keep_old)
{
	struct aspace *as = v->as;
	u64 old = v->start, len = MIN(v->end - v->start, size);
	struct vma tmpl = *v;
	s64 err;

	tmpl.start = to;
	tmpl.end = to + size;
	if (!vma_insert(as, &tmpl))
		return -ENOMEM;
	err = pt_move(as, old, to, len);
	if (err) {
		/* Back again; the tables there exist. */
		pt_move(as, to, old, len);
		vma_unmap_range(as, to, to + size);
		return err;
	}
	if (!keep_old) {
		vma_unmap_range(as, old, v->end);
	} else if (v->flags & MAP_LOCKED) {
		v->flags &= ~VMA_LOCKS;
		as->locked_pages -= vma_pages(v);
	}
	return (s64)to;
}

static s64 mremap_grow(struct vma *v, u64 old, u64 old_len, u64 new_len, u32 flags)
{
	struct aspace *as = v->as;
	u64 extra = new_len - old_len, to;
	s64 err = check_limits(as, extra, v->prot, v->flags & ~(u32)MAP_LOCKED, 0);

	if (err)
		return err;
	if (old + old_len == v->end && old <= BOOT_TASK_SIZE - new_len &&
	    vma_range_free(as, old + old_len, old + new_len)) {
		vma_resize(v, v->start, old + new_len);
		vma_merge_range(as, old, old + new_len);
		return (s64)old;
	}
	if (!(flags & MREMAP_MAYMOVE))
		return -ENOMEM;
	to = choose_address(as, 0, new_len, 0, v->file, v->off + (old - v->start));
	if (!to)
		return -ENOMEM;
	err = vma_isolate(as, old, old + old_len);
	if (err)
		return err;
	err = move_vma(vma_find(as, old), to, new_len, false);
	if (err > 0)
		vma_merge_range(as, to, to + new_len);
	return err;
}

static s64 mremap_fixed(struct aspace *as, u64 old, u64 old_len, u64 new_len, u32 flags, u64 to)
{
	bool keep = flags & MREMAP_DONTUNMAP;
	s64 err;

	if (flags & MREMAP_FIXED) {
		err = mm_munmap(as, to, new_len);
		if (err)
			return err;
	} else {
		to = choose_address(as, to, new_len, 0, NULL, 0);
		if (!to)
			return -ENOMEM;
	}
	if (new_len < old_len) {
		err = mm_munmap(as, old + new_len, old_len - new_len);
		if (err)
			return err;
		old_len = new_len;
	}
	err = vma_isolate(as, old, old + old_len);
	if (!err)
		err = move_vma(vma_find(as, old), to, new_len, keep);
	if (err > 0)
		vma_merge_range(as, to, to + new_len);
	return err;
}

/* mremap(old_len = 0): a second view of a shared mapping. */
static s64 mremap_duplicate(struct vma *v, u64 old, u64 new_len, u32 flags, u64 to)
{
	u32 how = v->flags | (flags & MREMAP_FIXED ? MAP_FIXED : 0);

	if (!vma_shared(v) || !v->file)
		return -EINVAL;
	if (!(flags & MREMAP_MAYMOVE))
		return -ENOMEM;
	return mm_mmap(v->as, to, new_len, v->prot, how & ~(u32)(MAP_ANONYMOUS | MAP_LOCKED), v->file,
		       v->off + (old - v->start));
}

static s64 remap(struct aspace *as, u64 old, u64 old_len, u64 new_len, u32 flags, u64 new_addr)
{
	struct vma *v;

	if (flags & ~(u32)(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) || old & (PAGE_SIZE - 1))
		return -EINVAL;
	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) && !(flags & MREMAP_MAYMOVE))
		return -EINVAL;
	old_len = PAGE_UP(old_len);
	new_len = PAGE_UP(new_len);
	if (flags & MREMAP_DONTUNMAP && old_len != new_len)
		return -EINVAL;
	if (!new_len || new_len > BOOT_TASK_SIZE)
		return -EINVAL;
	if (flags & MREMAP_FIXED) {
		if (new_addr & (PAGE_SIZE - 1) || new_addr > BOOT_TASK_SIZE - new_len)
			return -EINVAL;
		if (new_addr < old + old_len && old < new_addr + new_len)
			return -EINVAL;
		if (new_addr < MMAP_MIN_ADDR)
			return -EPERM;
	}
	v = vma_find(as, old);
	if (!v || v->start > old || old >= BOOT_TASK_SIZE)
		return -EFAULT;
	if (v->flags & VMA_SPECIAL)
		return -EINVAL;
	if (!old_len)
		return mremap_duplicate(v, old, new_len, flags, new_addr);
	if (flags & MREMAP_DONTUNMAP && (!vma_anon(v) || vma_shared(v)))
		return -EINVAL;
	if (v->flags & MAP_LOCKED && new_len > old_len && old_len <= v->end - old &&
	    mm_lock_exceeds(as, (new_len - old_len) >> PAGE_SHIFT))
		return -EAGAIN;
	if (old_len > v->end - old)
		/* Shrinking may cover several mappings; anything else must lie in one. */
		return new_len <= old_len && !(flags & MREMAP_FIXED) && vma_range_mapped(as, old, old + old_len)
			       ? (new_len == old_len ? (s64)-EFAULT : mm_munmap(as, old + new_len, old_len - new_len) ?: (s64)old)
			       : -EFAULT;
	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))
		return mremap_fixed(as, old, old_len, new_len, flags, new_addr);
	if (new_len <= old_len) {
		s64 err = new_len < old_len ? mm_munmap(as, old + new_len, old_len - new_len) : 0;

		return err ? err : (s64)old;
	}
	return mremap_grow(v, old, old_len, new_len, flags);
}

s64 mm_mremap(struct aspace *as, u64 old, u64 old_len, u64 new_len, u32 flags, u64 new_addr)
{
	s64 at = remap(as, old, old_len, new_len, flags, new_addr);

	if (at > 0 && PAGE_UP(new_len) > PAGE_UP(old_len))
		mm_fill_locked(as, (u64)at + PAGE_UP(old_len), (u64)at + PAGE_UP(new_len));
	return at;
}

/* --- brk -------------------------------------------------------------------------------------- */

static s64 brk_grow(struct aspace *as, u64 from, u64 to)
{
	struct vma tmpl = {.start = from,
			   .end = to,
			   .prot = PROT_READ | PROT_WRITE,
			   .flags = MAP_PRIVATE | MAP_ANONYMOUS | as->lock_future,
			   .name = "[heap]"};
	struct vma *next = vma_find(as, from), *heap;
	u64 limit = mm_rlimit(as, RLIMIT_DATA);
	s64 err;

	if (limit != RLIM64_INFINITY && (to - as->brk_start) + (as->end_data - as->start_data) > limit)
		return -ENOMEM;
	if (next && next->start < to + (next->flags & MAP_GROWSDOWN ? STACK_GUARD_GAP : 0))
		return -ENOMEM;
	err = check_limits(as, to - from, tmpl.prot, tmpl.flags, 0);
	if (err)
		return err;
	heap = vma_find(as, from - 1);
	if (heap && heap->end == from && heap->name == tmpl.name && heap->prot == tmpl.prot &&
	    heap->flags == tmpl.flags) {
		vma_resize(heap, heap->start, to);
	} else {
		heap = vma_insert(as, &tmpl);
		if (!heap)
			return -ENOMEM;
	}
	if (heap->flags & MAP_LOCKED)
		mm_fill_locked(as, from, to);
	else
		mm_populate_new(heap, from, to);
	return 0;
}

s64 mm_brk(struct aspace *as, u64 addr)
{
	u64 old = PAGE_UP(as->brk), new = PAGE_UP(addr);

	if (addr < as->brk_start || addr > BOOT_TASK_SIZE)
		return (s64)as->brk;
	if (new < old ? mm_munmap(as, new, old - new) : new > old ? brk_grow(as, old, new) : 0)
		return (s64)as->brk;
	as->brk = addr;
	return (s64)addr;
}
