/* SPDX-License-Identifier: ISC */
/*
 * Memory: frames, address spaces, VMAs, copy-on-write, user access.
 *
 * A frame is 4 KiB of guest RAM with a reference count (struct frame array).
 * Image pages (gpa >= BOOT_IMAGE_GPA) have no count and are never written.
 * An address space owns a page table (hardware format, slot 255 shared) and a
 * tree of VMAs. Fork is: share every writable private page read-only, copy on
 * the first write; nothing in here assumes that there is only one.
 */
#ifndef COWBELL_GUEST_MM_H
#define COWBELL_GUEST_MM_H

#include "guest/base.h"
#include "lib/tree.h"

struct file;
struct inode;
struct regs;

/* --- frames (frame.c): buddy allocator over RAM, grows by RING_OP_MEM_GROW ---- */
/* 2^order contiguous frames, one reference each; zeroed if asked. GPA_NONE: out of memory. */
gpa_t frame_alloc(unsigned order, bool zero);
void frame_free(gpa_t g, unsigned order); /* drops one reference of each frame */
void frame_get(gpa_t g); /* one more reference; no-op for image pages */
void frame_put(gpa_t g);
u32 frame_refs(gpa_t g);
bool frame_is_ram(gpa_t g);
void *frame_ptr(gpa_t g); /* direct map or image window; valid for the frame's page (RAM: contiguous) */
gpa_t frame_gpa(const void *p); /* inverse of frame_ptr */
u64 frames_free(void); /* frames that could still be allocated, counting growth to the limit */
u64 frames_total(void); /* limit in frames */
void frames_init(void);

/* Stack with a guard page below, in the vmap area; returns the top. */
void *kstack_alloc(size_t size);
void kstack_free(void *top, size_t size);

/* --- address spaces (aspace.c, vma.c) ----------------------------------------- */
struct vma {
	struct list node; /* sorted by address */
	u64 start, end;
	u32 prot; /* PROT_* */
	u32 flags; /* MAP_SHARED/PRIVATE/ANONYMOUS/GROWSDOWN/NORESERVE/LOCKED | VMA_* */
	struct file *file; /* referenced; NULL for anonymous private */
	u64 off; /* file offset of start */
	const char *name; /* "[heap]", "[stack]", "[vdso]" or NULL */
	struct aspace *as;
	/* mm/ only, from here on */
	struct tree_node tree; /* in aspace.vma_tree */
	u64 gap, max_gap; /* free bytes just below start; largest of the subtree */
	struct list mapping; /* in inode.mappings, when file has an inode */
	u64 fault_next; /* where the next copy-on-write or shared store fault of a sequential user would be */
	u8 fault_order; /* log2 of the pages that it would bring in */
};
enum {
	VMA_SPECIAL = 0x08000000, /* fixed guest-physical range: off is the gpa of start */
	VMA_WIPEONFORK = 0x10000000,
	VMA_DONTFORK = 0x20000000,
	VMA_DONTDUMP = 0x40000000,
	VMA_NOHUGE = 0x00800000,
	VMA_HUGE = 0x00400000, /* MADV_HUGEPAGE: 2 MiB pages from the first touch */
	VMA_RANDOM = 0x00200000,
	VMA_LOCKONFAULT = 0x01000000, /* with MAP_LOCKED: pages are not brought in for that */
	VMA_SEALED = 0x00080000, /* shared, of a file that nobody may write to: can never become writable */
};

struct aspace {
	gpa_t root; /* PML4 */
	struct list vmas; /* struct vma by address */
	struct tree vma_tree; /* the same, as a tree: vma.c's business */
	u64 n_vmas, total_vm_pages, rss_pages, peak_rss_pages, locked_pages;
	u64 mmap_top,
		mmap_bottom; /* addresses are chosen in [bottom, top), from the top; random from aspace_new() on */
	u64 brk_start, brk;
	u64 start_code, end_code, start_data, end_data, start_stack, arg_start, arg_end, env_start, env_end;
	u64 auxv[64]; /* for /proc/self/auxv */
	u64 main_entry; /* true entry, where AT_ENTRY is the vDSO's mark of it; else 0 */
	u32 refs;
	u32 small_faults; /* answered by the smallest window so far */
	u32 promised; /* pages that a fork left free for it and that it has not taken yet (aspace.c) */
	u32 lock_future; /* mlockall(MCL_FUTURE): flags of new mappings, MAP_LOCKED and VMA_LOCKONFAULT */
	bool emptied; /* mm_empty() was here */
	void *plat; /* platform's own */
};

struct aspace *aspace_new(void); /* one reference; NULL: no memory */
/* Make `as` the current one (through plat->aspace_switch). Use this and not the platform's own. */
void aspace_switch(struct aspace *as);
/*
 * Address space layout randomisation, for exec.c: where a position independent
 * program goes (span: its size), the end of the main stack, the start of the
 * heap of a program whose bss ends at `end`. Page aligned.
 */
u64 aspace_random_pie(struct aspace *as, u64 span);
u64 aspace_random_stack_top(struct aspace *as);
u64 aspace_random_brk(struct aspace *as, u64 end);
void aspace_get(struct aspace *as);
void aspace_put(struct aspace *as);
struct aspace *
aspace_fork(struct aspace *as); /* copy-on-write copy; NULL: not enough memory for both to go on */
/* Is there room for one more process beside what forks have promised? */
bool aspace_fork_room(void);
/* Pages that only `as` holds, with their tables: what its end would free. Looks at all of them. */
u64 aspace_private_pages(struct aspace *as);
/* The last user ends: all mappings go, the page table itself stays until aspace_put(). May sleep. */
void aspace_empty(struct aspace *as);
struct vma *vma_find(struct aspace *as, u64 va); /* first with end > va, or NULL */

/* Linux semantics and errno results; addresses in, addresses out. May sleep only for volume files. */
s64 mm_mmap(struct aspace *as, u64 addr, u64 len, u32 prot, u32 flags, struct file *file, u64 off);
s64 mm_munmap(struct aspace *as, u64 addr, u64 len);
s64 mm_mprotect(struct aspace *as, u64 addr, u64 len, u32 prot);
s64 mm_mremap(struct aspace *as, u64 old, u64 old_len, u64 new_len, u32 flags, u64 new_addr);
s64 mm_madvise(struct aspace *as, u64 addr, u64 len, int advice);
s64 mm_msync(struct aspace *as, u64 addr, u64 len, int flags);
s64 mm_mincore(struct aspace *as, u64 addr, u64 len, u8 *user_vec);
s64 mm_brk(struct aspace *as, u64 addr);
/* lock: MAP_LOCKED, perhaps with VMA_LOCKONFAULT; 0: unlock. */
s64 mm_mlock(struct aspace *as, u64 addr, u64 len, u32 lock);
/* Mappings to come, and with `now` those that are there, have these locks. Whether that may be is the caller's to ask. */
void mm_mlockall(struct aspace *as, u32 future, bool now, u32 lock);
/*
 * Map given guest-physical memory (the vDSO, the time page) at addr; the address, or -errno.
 * It is never written through and never freed.
 */
s64 mm_map_special(struct aspace *as, u64 addr, u64 len, u32 prot, gpa_t gpa, const char *name);
/*
 * Store into [va, va+n) whatever its protection is, as a debugger would: private pages are
 * copied first. For the system call patcher. 0, -EFAULT (nothing mapped, or shared) or -ENOMEM.
 */
int mm_poke(struct aspace *as, u64 va, const void *src, size_t n);
/* Fault the page at va in; *g = where it is (without the offset in the page). 0 or -EFAULT. No reference. */
int mm_user_page(struct aspace *as, u64 va, bool write, gpa_t *g);
/*
 * Bytes at va of an address space that need not be current, into buf or with `write` from it; force: protection does
 * not count (private pages are copied first). How many were there before the first that was not.
 */
size_t mm_access(struct aspace *as, u64 va, void *buf, size_t n, bool write, bool force);
/* Restored from a snapshot, or forked: contents of MADV_WIPEONFORK ranges become zero. */
void mm_wipe_on_fork(struct aspace *as);
/* Everybody who uses `as` has got SIGKILL: its private memory is free now, and its faults end it. Never sleeps. */
void mm_empty(struct aspace *as);
/* A file shrank: drop its mapped pages from `from` on, in every address space. */
void mm_truncate_inode(struct inode *ino, u64 from);
/* [from, to) of the file, whole pages, will be zeros: its pages go from all mappings; private copies stay. */
void mm_punch_inode(struct inode *ino, u64 from, u64 to);
/* The file's page at pgoff is about to get a frame of its own instead of the image page: mappings that still
 * show the image must look again. 0 or -ENOMEM. */
int mm_forget_image_page(struct inode *ino, u64 pgoff, gpa_t image);

/*
 * A page fault at va. Returns 0 when mapped (retry), or the signal's si_code with
 * its number: -(SIGSEGV<<8 | SEGV_MAPERR) and so on. Out of memory: the largest process has got SIGKILL
 * (proc/oom.c); if it is this one, -(SIGKILL<<8 | SI_KERNEL). Never sleeps.
 */
int mm_fault(struct aspace *as, u64 va, u32 pf_error);

/* --- user access (uaccess.S/.c) ------------------------------------------------ */
/* All return 0 or -EFAULT; partial copies are possible on a fault. They may fault pages in. */
int copy_in(void *dst, const void *user_src, size_t n);
int copy_out(void *user_dst, const void *src, size_t n);
int clear_user(void *user_dst, size_t n);
/* Length without NUL, or -EFAULT, or -ENAMETOOLONG when no NUL within size. */
s64 strncpy_in(char *dst, const char *user_src, size_t size);
/* Bytes copied before a fault (for partial reads and writes). */
size_t copy_in_partial(void *dst, const void *user_src, size_t n);
size_t copy_out_partial(void *user_dst, const void *src, size_t n);
#define get_user(dst, uptr) copy_in(&(dst), (uptr), sizeof(dst))
#define put_user(src, uptr) copy_out((uptr), &(src), sizeof(src))
/* Atomic on user memory, for futexes: 0 or -EFAULT. */
int user_load32(const u32 *uaddr, u32 *val);
int user_cmpxchg32(u32 *uaddr, u32 expect, u32 desired, u32 *old);
int user_fetch_op32(u32 *uaddr, int op, u32 arg, u32 *old);

/*
 * Identity of the memory behind a user address for shared futexes:
 * private anonymous -> (aspace, va); shared -> (inode, offset).
 */
int mm_futex_key(struct aspace *as, u64 va, bool private, u64 key[2]);

/* /proc/self/maps and smaps-like users walk with this; false stops. */
void mm_for_each_vma(struct aspace *as, bool (*fn)(struct vma *v, void *arg), void *arg);

#endif
