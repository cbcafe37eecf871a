/* SPDX-License-Identifier: ISC */
/* What the files of mm/ share about address spaces; everyone else uses mm.h. */
#ifndef COWBELL_GUEST_MM_VMA_H
#define COWBELL_GUEST_MM_VMA_H

#include <asm-generic/errno.h>
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"

#define MMAP_MIN_ADDR	0x10000ull
#define STACK_GUARD_GAP (256 * PAGE_SIZE)
#define PROT_RWX	(PROT_READ | PROT_WRITE | PROT_EXEC)
#define MAX_VMAS	65530u

/* The address space that the CPU uses now, or NULL. */
#define aspace_active (this_cpu()->as)

static inline u64 vma_pages(const struct vma *v)
{
	return (v->end - v->start) >> PAGE_SHIFT;
}
static inline bool vma_shared(const struct vma *v)
{
	return v->flags & MAP_SHARED;
}
static inline bool vma_anon(const struct vma *v)
{
	return !v->file && !(v->flags & VMA_SPECIAL);
}
#define VMA_LOCKS ((u32)MAP_LOCKED | VMA_LOCKONFAULT)
/* Is it to have all its pages, now and later? */
static inline bool vma_filled(const struct vma *v)
{
	return (v->flags & VMA_LOCKS) == MAP_LOCKED && v->prot & PROT_RWX;
}
/* The inode whose pages a VMA shows, or NULL. */
struct inode *vma_inode(const struct vma *v);

void vma_tree_update(struct tree_node *n); /* aspace.vma_tree.update */
struct vma *vma_next(struct vma *v);
struct vma *vma_prev(struct vma *v);
/* Last VMA with start <= va, or NULL. */
struct vma *vma_find_below(struct aspace *as, u64 va);
/* New VMA from a template (its file reference is taken by the copy); NULL: no memory. */
struct vma *vma_insert(struct aspace *as, const struct vma *tmpl);
void vma_remove(struct vma *v); /* unlinks, drops the file, frees; pages are gone already */
void vma_resize(struct vma *v, u64 start, u64 end);
/* Make va a boundary between VMAs. 0 or -ENOMEM. */
int vma_split_at(struct aspace *as, u64 va);
/* Both of the above and pt_split_at for both ends of a range. */
int vma_isolate(struct aspace *as, u64 start, u64 end);
/* Join [start, end)'s VMAs with each other and their neighbours where nothing differs. */
void vma_merge_range(struct aspace *as, u64 start, u64 end);
/* Highest free range of len in [low, high) with address == off modulo align; 0: none. */
u64 vma_find_gap(struct aspace *as, u64 len, u64 low, u64 high, u64 align, u64 off);
/* Is [start, end) free of VMAs / covered by VMAs without a hole? */
bool vma_range_free(struct aspace *as, u64 start, u64 end);
bool vma_range_mapped(struct aspace *as, u64 start, u64 end);
/* Drop VMAs and pages of an isolated range. */
void vma_unmap_range(struct aspace *as, u64 start, u64 end);

/* RLIMIT_* of the process that uses `as` (sys_mm.c). */
u64 mm_rlimit(struct aspace *as, int resource);
/* Would n more locked pages be too many? (madvise.c) */
bool mm_lock_exceeds(struct aspace *as, u64 n);
/* Bring in what a lock wants to be there, as far as that goes. */
void mm_fill_locked(struct aspace *as, u64 start, u64 end);

/* aspace.c: `as` has taken n pages of its own. */
void aspace_took(struct aspace *as, u64 n);

/* fault.c: bring in [start, end) of one VMA, ahead of use. Best effort unless `must`; 0 or -ENOMEM, -EFAULT. */
int mm_populate_vma(struct vma *v, u64 start, u64 end, bool write, bool must);
/* What a new mapping gets at once. */
void mm_populate_new(struct vma *v, u64 start, u64 end);
/* The mapping's first page, if the file lies in the image; GPA_NONE otherwise. Image pages are never written. */
gpa_t mm_image_gpa(struct inode *ino, u64 pgoff);

#endif
