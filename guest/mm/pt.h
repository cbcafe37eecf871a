/* SPDX-License-Identifier: ISC */
/*
 * Page tables: 4 levels in the hardware's format, for every platform.
 *
 * A leaf entry is empty (0), present, or parked: PTE_NONE set and PTE_P clear,
 * which keeps the page of a PROT_NONE range without mapping it. Accessed and
 * dirty bits are preset, because a CPU that has to set them traps on some hosts.
 * 2 MiB leaves exist at level 1 only. Every RAM page mapped in an app's slot
 * holds one reference of its frame.
 */
#ifndef COWBELL_GUEST_MM_PT_H
#define COWBELL_GUEST_MM_PT_H

#include "guest/mm/mm.h"

#define PTE_P	 1ull
#define PTE_W	 2ull
#define PTE_U	 4ull
#define PTE_A	 0x20ull
#define PTE_D	 0x40ull
#define PTE_PS	 0x80ull
#define PTE_NONE 0x200ull /* software: holds a page that may not be accessed */
#define PTE_FILE                                                                                             \
	0x400ull /* software: the file's own page, in a private mapping too; a write to the file shows */
#define PTE_NX	      (1ull << 63)
#define PTE_ADDR      0x000ffffffffff000ull
#define PTE_TABLE     (PTE_P | PTE_W | PTE_U | PTE_A)
#define PTE_LEAF      (PTE_P | PTE_U | PTE_A | PTE_D)

#define PT_SLOT_LIBOS 255

static inline gpa_t pte_gpa(u64 e)
{
	return GPA(e & PTE_ADDR);
}

/* Leaf entry of the page at va in the form of a 4 KiB page (address adjusted, no PTE_PS), or 0. */
u64 pt_lookup(gpa_t root, u64 va);

/* The library OS's slot, shared by every address space. bits: PTE_W, PTE_NX. Not present before. 0 or -ENOMEM. */
int kpt_map(u64 va, gpa_t g, u64 pages, u64 bits);
void kpt_unmap(u64 va, u64 pages); /* the frames stay whose they are */
/* The page at va is for ring 0 only from now on, and executable there. Where it is. */
gpa_t kpt_supervisor(u64 va);

#define PT_TOUCH 0x100u /* in pt_map's prot: all of it will be touched right away (PLAT_TOUCH) */
#define PT_FILE	 0x200u /* the same: PTE_FILE */
/*
 * Map pages at va, contiguous in gpa, nothing of it mapped before. The caller's references of
 * RAM frames pass to the page table. Uses 2 MiB leaves where both sides allow. Returns the
 * number of pages mapped, fewer than asked only for lack of memory.
 */
u64 pt_map(struct aspace *as, u64 va, gpa_t g, u64 pages, u32 prot, bool writable);
/*
 * Copy-on-write: put g.. where the n pages at va are, all there, of one table and none by a 2 MiB leaf. The old pages'
 * references are dropped; where it is the old page it keeps its own.
 */
void pt_replace(struct aspace *as, u64 va, gpa_t g, u64 n, u32 prot, bool writable);
/* Make private pages from va on writable, below end and in va's 2 MiB, that nobody else holds any more; how many are. */
u64 pt_own(struct aspace *as, u64 va, u64 end);
/* Pages from va on, at most max and in va's 2 MiB, that are there, not writable, and held by others too; the
 * first may be a file's own page, the others are not. */
u64 pt_shared_run(struct aspace *as, u64 va, u64 max);
/* Does nobody but this entry hold its page(s)? */
bool pt_exclusive(u64 entry, u64 pages);
/* The CPU or its mirror disagrees with the entry at va: tell the platform again. */
void pt_refresh(struct aspace *as, u64 va);
/* Is there a 2 MiB leaf boundary in the way of a change at va? Split it. 0 or -ENOMEM. */
int pt_split_at(struct aspace *as, u64 va);
/* Drop every page of [start, end), whose ends are split already. */
void pt_unmap(struct aspace *as, u64 start, u64 end);
/* Free tables without entries in [start, end), a range that no VMA uses. */
void pt_prune(struct aspace *as, u64 start, u64 end);
/* Apply a VMA's new protection to the pages that are there. */
void pt_protect(struct aspace *as, u64 start, u64 end, u32 prot, bool shared);
/* Move pages (mremap): target range empty, ends split. 0, or -ENOMEM with part of it moved. */
int pt_move(struct aspace *as, u64 from, u64 to, u64 len);
/* Copy-on-write copy of a range into a new child; the parent is flushed by pt_fork_done() after the last. 0 or -ENOMEM. */
int pt_fork(struct aspace *parent, struct aspace *child, u64 start, u64 end, bool shared);
void pt_fork_done(struct aspace *parent);
/* Pages from va on, at most max, with nothing mapped or parked. */
u64 pt_empty_run(struct aspace *as, u64 va, u64 max);
/* Pages without a gap, at most max, that end just below va (down) or begin just above the page at va. */
u64 pt_filled_run(struct aspace *as, u64 va, u64 max, bool down);
/* Can a 2 MiB leaf be put at va (no page in the block)? */
bool pt_huge_empty(struct aspace *as, u64 va);
/* Free the root and what hangs under it; the app's part is unmapped already. */
void pt_free_root(struct aspace *as);
gpa_t pt_new_root(void);

/* Next leaf (present or parked) at or after va, below end. */
struct pt_leaf {
	u64 va, pages; /* 1 or 512 */
	u64 entry; /* without PTE_PS */
};
bool pt_next(struct aspace *as, u64 va, u64 end, struct pt_leaf *leaf);

#endif
