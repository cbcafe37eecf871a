/* SPDX-License-Identifier: ISC */
/*
 * Page faults, and mapping ahead of them.
 *
 * A fault costs up to tens of microseconds (an exit, or a signal), a page table
 * entry nanoseconds, and a clean frame nothing until it is touched. So as much
 * as makes sense is mapped before anyone faults:
 *
 * - image pages at mmap time, in place, in runs as long as the file is contiguous;
 * - private writable mappings of the image (data segments) copied at mmap time, unless they
 *   are large: most of their pages are stored to, by relocation if by nothing else;
 * - anonymous memory in a window around the fault that doubles while memory is
 *   filled in order, up to whole 2 MiB pages;
 * - tiny anonymous mappings at once.
 *
 * New pages are filled through the app's own mapping where that is the current
 * address space and writable, because the app will touch them there next.
 * Nothing in here sleeps.
 */
#include <asm/siginfo.h>
#include <asm/signal.h>

#include "guest/mm/frame.h"
#include "guest/mm/pt.h"
#include "guest/mm/vma.h"
#include "guest/plat/plat.h"
#include "guest/proc/smp.h"
#include "guest/vfs/vfs.h"

/*
 * Pages of the first window of anonymous memory, where a fault comes as a signal of the host, and where the CPU
 * reads our page tables (the host may back clean frames by huge pages). A clean frame costs nothing else until it
 * is touched; of others FIRST_DIRTY are zeroed at once. FIRST_SHORT: when memory is short.
 */
#define FIRST	    32u
#define FIRST_CPU   16u
#define FIRST_DIRTY 8u
#define FIRST_SHORT 4u
#define FIRST_MAX   256u
#define PATIENCE    64u /* faults after which the smallest window of an address space doubles */
/* Anonymous mappings up to this size are filled at once, in the first two cases. */
#define EAGER_ANON	 (64ul << 10)
#define EAGER_ANON_CLEAN (256ul << 10)
#define EAGER_COPY	 (2ul << 20)
#define EAGER_IMAGE	 (64ul << 20)
#define FILE_WINDOW	 16u /* pages */
/* Log2 of pages: the first copies, where a fault comes as the host's signal and where the CPU reads our tables; the most. */
#define COW_FIRST     1u
#define COW_FIRST_CPU 2u
#define COW_ORDER     7u

size_t user_copy(void *dst, const void *src, size_t n);
size_t user_clear(void *dst, size_t n);

static unsigned log2_floor(u64 n)
{
	return 63u - (unsigned)__builtin_clzll(n);
}

/* --- filling new pages ------------------------------------------------------------ */

static bool fill_in_place(const struct vma *v)
{
	return v->as == aspace_active && v->prot & PROT_WRITE;
}

static void fill_zero(const struct vma *v, u64 va, gpa_t g, u64 pages)
{
	if (fill_in_place(v))
		user_clear((void *)va, pages << PAGE_SHIFT);
	else
		memset(frame_ptr(g), 0, pages << PAGE_SHIFT);
}

/*
 * With several CPUs a page must be filled before it is mapped: another thread of the app may look at it at
 * once. With one, filling it where the app will touch it is cheaper.
 */
static bool fill_early(void)
{
	return smp();
}

static void fill_copy(const struct vma *v, u64 va, gpa_t g, gpa_t from, u64 pages)
{
	if (fill_in_place(v))
		user_copy((void *)va, frame_ptr(from), pages << PAGE_SHIFT);
	else
		memcpy(frame_ptr(g), frame_ptr(from), pages << PAGE_SHIFT);
}

/* Map new frames of one chunk; what finds no table is given back. Pages mapped. */
static u64 map_chunk(struct vma *v, u64 va, gpa_t g, u64 pages, bool touch)
{
	u64 done = pt_map(v->as, va, g, pages, v->prot | (touch ? PT_TOUCH : 0), true);

	if (done < pages)
		frame_put_run(GPA(g.v + (done << PAGE_SHIFT)), pages - done);
	aspace_took(v->as, done);
	return done;
}

/* The largest chunk of at most 2^order frames; GPA_NONE when there is not one frame. */
static gpa_t alloc_chunk(unsigned *order, bool *dirty)
{
	for (;; --*order) {
		gpa_t g = frame_alloc_user(*order, dirty);

		if (g.v != GPA_NONE.v || !*order)
			return g;
	}
}

/* --- anonymous ----------------------------------------------------------------------- */

/* Narrow [*lo, *hi), which holds va, to the part around va that has no pages. */
static void empty_window(struct vma *v, u64 va, u64 *lo, u64 *hi)
{
	struct pt_leaf l;

	*lo = MAX(*lo, v->start);
	*hi = MIN(*hi, v->end);
	*hi = va + (pt_empty_run(v->as, va, (*hi - va) >> PAGE_SHIFT) << PAGE_SHIFT);
	for (u64 at = *lo; pt_next(v->as, at, va, &l);)
		*lo = at = l.va + (l.pages << PAGE_SHIFT);
}

/* What one fault brings in. dense: the app has touched all before it, so it will touch this too. */
struct window {
	u64 lo, hi;
	bool huge, dense;
};

static bool anon_huge(struct vma *v, u64 va, bool dense)
{
	u64 block = va & ~(HUGE_SIZE - 1);
	bool dirty;
	gpa_t g;

	if (block < v->start || block + HUGE_SIZE > v->end || v->flags & VMA_NOHUGE ||
	    !pt_huge_empty(v->as, block))
		return false;
	g = frame_alloc_user(HUGE_ORDER, &dirty);
	if (g.v == GPA_NONE.v)
		return false;
	frame_back_huge(g);
	if (dirty && fill_early()) {
		memset(frame_ptr(g), 0, HUGE_SIZE);
		dirty = false;
	}
	if (map_chunk(v, block, g, 512, dirty || dense) == 512 && dirty)
		fill_zero(v, block, g, 512);
	return true;
}

/* Map zero pages in the window around va, which has none. 0 or -ENOMEM. */
static int anon_map(struct vma *v, u64 va, struct window w)
{
	unsigned order;
	bool dirty;
	u64 n, at;
	gpa_t g;

	if (w.huge && anon_huge(v, va, w.dense))
		return pt_lookup(v->as->root, va) ? 0 : -ENOMEM;
	empty_window(v, va, &w.lo, &w.hi);
	n = (w.hi - w.lo) >> PAGE_SHIFT;
	order = n > 1 ? log2_floor(n - 1) + 1 : 0;
	g = alloc_chunk(&order, &dirty);
	if (g.v == GPA_NONE.v)
		return -ENOMEM;
	n = MIN(n, 1ull << order);
	/* Zeroing what may never be used is not free. */
	if (dirty && !w.dense)
		n = MIN(n, (u64)FIRST_DIRTY);
	frame_unalloc(GPA(g.v + (n << PAGE_SHIFT)), (1ull << order) - n, dirty);
	at = MAX(w.lo, MIN(va, w.hi - (n << PAGE_SHIFT)));
	if (dirty && fill_early()) {
		memset(frame_ptr(g), 0, n << PAGE_SHIFT);
		dirty = false;
	}
	n = map_chunk(v, at, g, n, dirty || w.dense);
	if (dirty && n)
		fill_zero(v, at, g, n);
	return pt_lookup(v->as->root, va) ? 0 : -ENOMEM;
}

/* An app that goes on touching memory here and there is not a small one. */
static u64 first_pages(const struct aspace *as)
{
	u64 n = plat->flush ? FIRST_CPU : FIRST;

	if (frames_are_short())
		return FIRST_SHORT;
	return MIN(n << MIN(as->small_faults / PATIENCE, 5u), (u64)FIRST_MAX);
}

/*
 * How much to bring in for a fault at va. Where the pages before it are there without a gap, the
 * app fills memory in order: as much again, up to 2 MiB. Otherwise a small window,
 * one page short of its aligned end, so that a user who only touches the start
 * of each of many aligned blocks does not look like one who fills them.
 */
static struct window anon_window(struct vma *v, u64 va)
{
	u64 first = first_pages(v->as);
	u64 below = MIN((va - v->start) >> PAGE_SHIFT, 512),
	    above = MIN((v->end - va) >> PAGE_SHIFT, 512) - 1;
	u64 block = va & ~(HUGE_SIZE - 1), run;
	struct window w = {.lo = va, .hi = va + PAGE_SIZE, .huge = v->flags & VMA_HUGE};

	if (first > FIRST_SHORT && !(v->flags & VMA_RANDOM)) {
		run = pt_filled_run(v->as, va, below, true);
		if (run) {
			w.hi = MIN(va + (MAX(run, first) << PAGE_SHIFT), block + HUGE_SIZE);
			w.dense = run >= first - 1;
			w.huge |= va == block && run >= 512;
			return w;
		}
		/* Downwards, as stacks grow; these do not grow much. */
		if (pt_filled_run(v->as, va, MIN(above, 1), false)) {
			w.lo = MAX(w.hi - MIN(w.hi, first << PAGE_SHIFT), block);
			return w;
		}
	}
	v->as->small_faults++;
	w.lo = va & ~((first << PAGE_SHIFT) - 1);
	w.hi = MAX(w.hi, w.lo + ((first - 1) << PAGE_SHIFT));
	return w;
}

/* --- files --------------------------------------------------------------------------------- */

static u64 vma_pgoff(const struct vma *v, u64 va)
{
	return (v->off + (va - v->start)) >> PAGE_SHIFT;
}

gpa_t mm_image_gpa(struct inode *ino, u64 pgoff)
{
	gpa_t g;
	u32 run;

	if (!ino || inode_get_page(ino, pgoff, false, 1, &g, &run))
		return GPA_NONE;
	if (g.v >= BOOT_IMAGE_GPA)
		return g;
	frame_put(g);
	return GPA_NONE;
}

/* Map the file's own pages over [va, end), none mapped yet. Pages done, or -errno when not even the first. */
static s64 file_map(struct vma *v, u64 va, u64 end, bool write, bool image_only)
{
	u64 start = va;

	while (va < end) {
		u32 want = (u32)MIN((end - va) >> PAGE_SHIFT, 1u << 20), run = 0;
		u64 n, done;
		gpa_t g;
		int err;

		err = inode_get_page(vma_inode(v), vma_pgoff(v, va), write, want, &g, &run);
		if (err)
			return va > start ? (s64)((va - start) >> PAGE_SHIFT) : err;
		n = MIN(run, want);
		done = pt_map(v->as, va, g, n, v->prot | PT_FILE, write && vma_shared(v));
		if (done < n) {
			frame_put_run(GPA(g.v + (done << PAGE_SHIFT)), n - done);
			return va > start || done ? (s64)((va - start) >> PAGE_SHIFT) + (s64)done : -ENOMEM;
		}
		va += n << PAGE_SHIFT;
		if (image_only && g.v < BOOT_IMAGE_GPA)
			break;
	}
	return (s64)((va - start) >> PAGE_SHIFT);
}

/* Private copies of the file's pages over [va, end), none mapped yet. */
static s64 file_copy(struct vma *v, u64 va, u64 end)
{
	u64 start = va;

	while (va < end) {
		u32 run = 0;
		unsigned order;
		bool dirty;
		gpa_t from, g;
		u64 n, done;
		int err = inode_get_page(vma_inode(v), vma_pgoff(v, va), false,
					 (u32)((end - va) >> PAGE_SHIFT), &from, &run);

		if (err)
			return va > start ? (s64)((va - start) >> PAGE_SHIFT) : err;
		n = MIN(run, (end - va) >> PAGE_SHIFT);
		order = log2_floor(n);
		g = alloc_chunk(&order, &dirty);
		done = 0;
		if (g.v != GPA_NONE.v && fill_early())
			memcpy(frame_ptr(g), frame_ptr(from), PAGE_SIZE << order);
		if (g.v != GPA_NONE.v)
			done = map_chunk(v, va, g, 1ull << order, true);
		if (done && !fill_early())
			fill_copy(v, va, g, from, done);
		frame_put_run(from, n);
		if (!done)
			return va > start ? (s64)((va - start) >> PAGE_SHIFT) : -ENOMEM;
		va += done << PAGE_SHIFT;
	}
	return (s64)((va - start) >> PAGE_SHIFT);
}

/*
 * A store to a shared page that is not there. It dirties what it maps, so the file is asked for one page, or,
 * while stores go on where the last ended, for twice as many each time; a file that would have to write
 * pages back gives just the one.
 */
static int file_map_store(struct vma *v, u64 va)
{
	u64 n, empty = 1, done;
	u32 want, run = 0;
	gpa_t g;
	int err;

	v->fault_order = va == v->fault_next ? (u8)MIN(v->fault_order + 1, 7) : 0;
	want = (u32)MIN((MIN(v->end, va + (PAGE_SIZE << v->fault_order)) - va) >> PAGE_SHIFT, 1u << 7);
	if (want > 1 && pt_lookup(v->as->root, va + PAGE_SIZE))
		want = 1;
	err = inode_get_page(vma_inode(v), vma_pgoff(v, va), true, want, &g, &run);
	if (err)
		return err;
	n = MIN(run, want);
	while (empty < n && !pt_lookup(v->as->root, va + (empty << PAGE_SHIFT)))
		empty++;
	done = pt_map(v->as, va, g, empty, v->prot | PT_FILE, true);
	if (done < n)
		frame_put_run(GPA(g.v + (done << PAGE_SHIFT)), n - done);
	v->fault_next = va + (done << PAGE_SHIFT);
	return done ? 0 : -ENOMEM;
}

/* A file page that is not there yet. 0, -ENXIO (beyond the end), -ENOMEM. */
static int file_fault(struct vma *v, u64 va, bool write)
{
	u64 window = FILE_WINDOW * PAGE_SIZE, lo, hi;
	s64 n;

	if (!vma_inode(v))
		return -ENXIO;
	if (write && !vma_shared(v)) {
		lo = va;
		hi = (va & ~(window - 1)) + window;
		empty_window(v, va, &lo, &hi);
		n = file_copy(v, va, hi);
	} else {
		lo = va & ~(window - 1);
		hi = lo + window;
		empty_window(v, va, &lo, &hi);
		if (write)
			return file_map_store(v, va);
		n = file_map(v, lo, hi, write, false);
		if (!write && !pt_lookup(v->as->root, va))
			n = file_map(v, va, va + PAGE_SIZE, write, false);
	}
	return n < 0 ? (int)n : 0;
}

/* --- copy-on-write ---------------------------------------------------------------------------- */

/*
 * How many pages one store copies. A fault costs more than some copies, and who stores to a page will often
 * store to the next; while stores go on where the last copy ended, twice as many each time.
 */
static u64 copy_window(struct vma *v, u64 va)
{
	unsigned first = plat->flush ? COW_FIRST_CPU : COW_FIRST;

	if (frames_are_short())
		v->fault_order = 0;
	else
		v->fault_order = va == v->fault_next ? (u8)MIN(v->fault_order + 1u, COW_ORDER) : (u8)first;
	return MIN(1ull << v->fault_order, (v->end - va) >> PAGE_SHIFT);
}

/* Copies for n pages from va on, whose entries are of one table; how many there was memory for. */
static u64 copy_pages(struct vma *v, u64 va, u64 n)
{
	unsigned order = n > 1 ? log2_floor(n - 1) + 1 : 0;
	bool dirty;
	gpa_t g = alloc_chunk(&order, &dirty);

	if (g.v == GPA_NONE.v)
		return 0;
	n = MIN(n, 1ull << order);
	frame_unalloc(GPA(g.v + (n << PAGE_SHIFT)), (1ull << order) - n, dirty);
	for (u64 i = 0; i < n; i++)
		memcpy(frame_ptr(GPA(g.v + (i << PAGE_SHIFT))),
		       frame_ptr(pte_gpa(pt_lookup(v->as->root, va + (i << PAGE_SHIFT)))), PAGE_SIZE);
	pt_replace(v->as, va, g, n, v->prot, true);
	aspace_took(v->as, n);
	return n;
}

/*
 * Make the private page at va ours and writable (if the VMA is). What nobody shares any more only needs its
 * entry changed, up to the whole 2 MiB; of a shared 2 MiB page some pages are copied, the rest stays shared.
 */
static int cow(struct vma *v, u64 va)
{
	u64 end = MIN(v->end, (va & ~(HUGE_SIZE - 1)) + HUGE_SIZE), n = 0;

	if (v->prot & PROT_WRITE && !(n = pt_own(v->as, va, end))) {
		if (pt_split_at(v->as, va) || pt_split_at(v->as, va + PAGE_SIZE))
			return -ENOMEM;
		n = pt_own(v->as, va, end);
	}
	if (!n && (n = pt_shared_run(v->as, va, copy_window(v, va))))
		n = copy_pages(v, va, n);
	if (!n)
		return -ENOMEM;
	v->fault_next = va + (n << PAGE_SHIFT);
	return 0;
}

/* First store to a shared page that was mapped for reading. */
static int make_shared_writable(struct vma *v, u64 va)
{
	u32 run;
	gpa_t g;
	int err;

	if (!vma_inode(v))
		return -ENXIO;
	err = inode_get_page(vma_inode(v), vma_pgoff(v, va), true, 1, &g, &run);
	if (err)
		return err;
	if (pt_split_at(v->as, va) || pt_split_at(v->as, va + PAGE_SIZE)) {
		frame_put(g);
		return -ENOMEM;
	}
	u64 old = pt_lookup(v->as->root, va);
	if (!old) { /* the file took the page away when it made its own copy: the retry maps that */
		frame_put(g);
		return 0;
	}
	if (pte_gpa(old).v == g.v)
		frame_put(g); /* the entry holds one already */
	pt_replace(v->as, va, g, 1, v->prot | PT_FILE, true);
	return 0;
}

/* --- the fault itself ---------------------------------------------------------------------------- */

static int sig(int signo, int code)
{
	return -(signo << 8 | (code & 0xff));
}

/* va lies below v, a stack: may it grow down to there? */
static bool grow_stack(struct vma *v, u64 va)
{
	struct vma *p = vma_prev(v);
	u64 start = PAGE_DOWN(va), want = MIN(start, v->end - MIN(v->end, 128 * PAGE_SIZE));
	u64 limit = mm_rlimit(v->as, RLIMIT_STACK), floor = MMAP_MIN_ADDR;

	if (!(v->flags & MAP_GROWSDOWN))
		return false;
	if (p && p->prot & PROT_RWX && !(p->flags & MAP_GROWSDOWN))
		floor = p->end + STACK_GUARD_GAP;
	else if (p)
		floor = p->end;
	if (limit < v->end)
		floor = MAX(floor, PAGE_UP(v->end - limit));
	if (start < floor)
		return false;
	want = MAX(MIN(want, start), floor);
	if (v->flags & MAP_LOCKED && mm_lock_exceeds(v->as, (v->start - want) >> PAGE_SHIFT))
		return false;
	vma_resize(v, want, v->end);
	return true;
}

static bool allowed(const struct vma *v, u32 err)
{
	if (err & PF_WRITE)
		return v->prot & PROT_WRITE;
	if (err & PF_EXEC)
		return v->prot & PROT_EXEC;
	return v->prot & PROT_RWX;
}

/* Bring in the page at va; 0 or -errno. */
static int resolve(struct vma *v, u64 va, bool write)
{
	u64 e = pt_lookup(v->as->root, va);

	if (e & PTE_P) {
		if (!write || e & PTE_W) {
			pt_refresh(v->as, va);
			return 0;
		}
		return vma_shared(v) ? make_shared_writable(v, va) : cow(v, va);
	}
	if (v->flags & VMA_SPECIAL)
		return pt_map(v->as, va, GPA(v->off + (va - v->start)), 1, v->prot, false) ? 0 : -ENOMEM;
	if (vma_anon(v))
		return anon_map(v, va, anon_window(v, va));
	return file_fault(v, va, write);
}

int mm_fault(struct aspace *as, u64 va, u32 pf_error)
{
	struct vma *v = vma_find(as, va);
	int err;

	stats->faults++;
	if (!v || va >= BOOT_TASK_SIZE || (v->start > va && !grow_stack(v, va)))
		return sig(SIGSEGV, SEGV_MAPERR);
	if (!allowed(v, pf_error))
		return sig(SIGSEGV, SEGV_ACCERR);
	if (unlikely(as->emptied))
		return sig(SIGKILL, SI_KERNEL);
	while (unlikely(err = resolve(v, PAGE_DOWN(va), pf_error & PF_WRITE))) {
		if (err != -ENOMEM)
			return sig(SIGBUS, BUS_ADRERR);
		if (!oom_kill(as))
			return sig(SIGKILL, SI_KERNEL);
	}
	return 0;
}

/* --- ahead of use ------------------------------------------------------------------------------------ */

static struct window fill_window(u64 va, u64 end)
{
	u64 block = va & ~(HUGE_SIZE - 1);

	return (struct window){va, MIN(end, block + HUGE_SIZE), va == block && end - va >= HUGE_SIZE, false};
}

int mm_populate_vma(struct vma *v, u64 start, u64 end, bool write, bool must)
{
	u64 va = start;

	while (va < end) {
		u64 e = pt_lookup(v->as->root, va);
		int err = 0;

		if (!e && vma_anon(v))
			err = anon_map(v, va, fill_window(va, end));
		else if (!(e & PTE_P) || (write && !(e & PTE_W)))
			err = resolve(v, va, write);
		if (err && must)
			return err == -ENOMEM ? -ENOMEM : -EFAULT;
		if (err)
			return 0;
		va += PAGE_SIZE;
	}
	return 0;
}

void mm_populate_new(struct vma *v, u64 start, u64 end)
{
	u64 len = end - start;
	bool write = v->prot & PROT_WRITE;

	if (!(v->prot & PROT_RWX) || v->flags & VMA_SPECIAL)
		return;
	if (vma_anon(v)) {
		if (write && len <= (plat->flush ? EAGER_ANON_CLEAN : EAGER_ANON) &&
		    !(v->flags & MAP_GROWSDOWN) && !frames_are_short())
			mm_populate_vma(v, start, end, true, false);
		return;
	}
	if (mm_image_gpa(vma_inode(v), vma_pgoff(v, start)).v == GPA_NONE.v)
		return;
	if (write && !vma_shared(v) && len <= EAGER_COPY && !frames_are_short())
		file_copy(v, start, end);
	else
		file_map(v, start, MIN(end, start + EAGER_IMAGE), false, true);
}

int mm_user_page(struct aspace *as, u64 va, bool write, gpa_t *g)
{
	u64 e = pt_lookup(as->root, va);

	if (!(e & PTE_P) || (write && !(e & PTE_W))) {
		if (va >= BOOT_TASK_SIZE || mm_fault(as, va, PF_USER | (write ? PF_WRITE : 0)))
			return -EFAULT;
		e = pt_lookup(as->root, va);
		if (!(e & PTE_P))
			return -EFAULT;
	}
	*g = pte_gpa(e);
	return 0;
}

int mm_poke(struct aspace *as, u64 va, const void *src, size_t n)
{
	while (n) {
		struct vma *v = vma_find(as, va);
		u64 page = PAGE_DOWN(va), e;
		size_t len = MIN(n, page + PAGE_SIZE - va);
		gpa_t g;

		if (!v || v->start > va || vma_shared(v) || v->flags & VMA_SPECIAL)
			return -EFAULT;
		if (!pt_lookup(as->root, page) && resolve(v, page, false))
			return -EFAULT;
		e = pt_lookup(as->root, page);
		if (!pt_exclusive(e, 1)) {
			if (pt_split_at(as, page) || pt_split_at(as, page + PAGE_SIZE) ||
			    !copy_pages(v, page, 1))
				return -ENOMEM;
			e = pt_lookup(as->root, page);
		}
		g = pte_gpa(e);
		memcpy((char *)frame_ptr(g) + (va - page), src, len);
		va += len;
		src = (const char *)src + len;
		n -= len;
	}
	return 0;
}
