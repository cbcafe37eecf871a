/* SPDX-License-Identifier: ISC */
/*
 * The process platform: the guest is a host process that maps guest memory.
 *
 * Memory. mm/ keeps page tables in the hardware's format; the host's mappings
 * of this process are a cache of them, as a TLB is. map/unmap/protect mirror
 * every change by a host call through the gate. A mirror may also miss (the
 * host ran out of mappings and all were dropped, another address space became
 * current): then the access traps, and mirror_miss() maps what the page table
 * says. So losing a mapping is never an error, only keeping a stale one would be.
 * Each address space has a host process of its own, or shares one (process_hosts.c). Changes are made to
 * the current one; what another one has is noted to be stale, and dropped when it runs next. The library OS's half is
 * the same in all; what is new in one of them comes to the others by misses, too.
 *
 * Lazy RAM. In a restored instance the monitor fills the app's pages when they are written. lazy_frames has a bit for
 * each frame that is not filled yet; none of these is mapped from RAM anywhere, neither for the app nor in the direct
 * map, so that whoever touches one comes to a miss. Who writes makes the miss ask the monitor first; for an app that
 * reads, the page is mapped from the snapshot's file (`pieces` says where it is), which nobody can write to and all
 * instances share. Asking is a doorbell of its own that touches no ring, so it may happen wherever memory is touched.
 * A bit may be set although the monitor has filled the page for its own sake, never the other way round; then file
 * and RAM hold the same, because nobody writes to a frame whose bit is set: the monitor writes into frames that
 * the library OS allocated for that, and the allocator gives out none with its bit set (lazy_take).
 *
 * When a frame is filled, no mapping of the file may be left of it. `runs` knows those that were made since the app's
 * mappings were dropped last, also some that are gone: then something else may be unmapped, which is no error.
 *
 * Traps. The host delivers SIGSEGV and friends on the exception stack.
 * process_signal() turns the host's frame into what entry.S builds on kvm: for the
 * app a struct regs at the top of the thread's kernel stack, for the library OS
 * itself a struct regs beside the frame. The host has reset the live vector
 * registers; the app's are in the frame and are copied to thread->xstate.
 *
 * Several CPUs: what the handler does itself it does without the library OS's lock, or, if it interrupted the library OS,
 * perhaps with it. So the app's misses are handled in process_trap(), and others map one page of the library OS's own (`alone`).
 *
 * SIGSYS is an unpatched system call of the app: the filter lets calls pass
 * only from the gate. The kick signal finds either the app, and diverts it, or
 * the library OS, which will see vcpu.kick on its way out.
 */
#include <asm-generic/errno.h>
#include <asm/sigcontext.h>
#include <asm/signal.h>
#include <asm/ucontext.h>
#include <asm/unistd.h>
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/arch/x86_64/arch.h"
#include "guest/mm/census.h"
#include "guest/mm/pt.h"
#include "guest/plat/plat.h"
#include "guest/plat/process.h"
#include "guest/proc/proc.h"
#include "guest/proc/smp.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Mappings up to this size are filled at once; larger ones page by page, as the host sees fit. */
#define POPULATE_MAX  (64 * PAGE_SIZE)
#define HUGE_FAILURES 16
#define STRETCH_MIN   4 /* pages: shorter ones come by misses */
#define FORK_STRETCH_MIN                                                                                     \
	16 /* the same in a host process that is new to an address space: many of these end soon */
#define MIRROR_AROUND 16 /* pages mapped by one miss, at most */
#define FILL_AHEAD    8 /* pages filled by one miss, at most */
#define WRITE_AHEAD   4 /* the same where only who writes has them filled */
#define FILE_AROUND   64 /* pages mapped from the file by one miss, to either side */
#define MAX_PIECES    2048
#define MAX_RUNS      1024
#define FLAGS_TF      0x100ull

void process_signal(int sig, siginfo_t *info, struct ucontext *uc);
void process_trap(struct regs *r, int vector, u64 error, u64 addr);
_Noreturn void process_continue(struct regs *r, int vector, u64 error, u64 addr);

/* --- mirroring --------------------------------------------------------------- */

/* The host's descriptor and offset of guest-physical memory, at least len bytes of it; false: nothing is there. */
static bool host_file(gpa_t g, u64 len, u64 *fd, u64 *off)
{
	if (g.v < BOOT_IMAGE_GPA) {
		*fd = boot->ram_fd;
		*off = g.v;
		return true;
	}
	for (u32 i = 0; i < boot->n_regions; i++) {
		const struct boot_region *r = &boot->regions[i];

		if (g.v - r->gpa < r->size && len <= r->size - (g.v - r->gpa)) {
			*fd = r->fd;
			*off = r->file_off + (g.v - r->gpa);
			return true;
		}
	}
	return false;
}

/*
 * Whole 2 MiB blocks of writable RAM: ask the host for huge pages. A fault for each 4 KiB costs it ten times as
 * much. The host collapses a block only if at least one page of it is there. False: it has none to give.
 */
static bool host_huge(u64 va, u64 len)
{
	static u32 failures; /* in a row */

	for (u64 at = va; at < va + len; at += HUGE_SIZE) {
		s64 r = failures < HUGE_FAILURES ? 0 : -ENOMEM;

		if (!r)
			r = process_gate(__NR_madvise, at, PAGE_SIZE, MADV_POPULATE_WRITE, 0, 0, 0);
		if (!r)
			r = process_gate(__NR_madvise, at, HUGE_SIZE, MADV_COLLAPSE, 0, 0, 0);
		failures = r ? failures + 1 : 0;
		if (r)
			return false;
	}
	return true;
}

/*
 * Filling RAM that was never used would cost memory before it is needed; of the image's pages the host has most
 * anyway, and takes a few around each fault.
 */
static bool worth_filling(gpa_t g, u64 len, int prot, bool fresh)
{
	if (prot & PLAT_TOUCH)
		return true;
	return g.v < BOOT_IMAGE_GPA ? !fresh : len <= POPULATE_MAX;
}

static s64 host_mmap(u64 va, gpa_t g, u64 len, int prot, bool fresh)
{
	u64 flags = MAP_SHARED | MAP_FIXED, fd, off;
	bool fill = worth_filling(g, len, prot, fresh), blocks;
	s64 r;

	if (!host_file(g, len, &fd, &off))
		panic("process: nothing at guest-physical %#lx+%#lx", g.v, len);
	blocks = prot & PLAT_W && fd == boot->ram_fd && !((va | off | len) & (HUGE_SIZE - 1));
	r = process_gate(__NR_mmap, va, len, prot & ~PLAT_TOUCH, flags | (fill && !blocks ? MAP_POPULATE : 0),
			 fd, off);
	if (r < 0 && r > -4096)
		return r;
	if (blocks && !host_huge(va, len) && fill)
		process_gate(__NR_madvise, va, len, MADV_POPULATE_WRITE, 0, 0, 0);
	return 0;
}

/* --- frames that the monitor has yet to fill ---------------------------------- */

static u64 n_missing; /* at the restore; 0: nothing of this matters */
static struct process_piece pieces[MAX_PIECES]; /* by gpa */
static u32 n_pieces;
static struct run {
	struct host *host;
	u64 va, pfn, n;
} runs[MAX_RUNS];
static u32 n_runs;

/* The first frame of [pfn, end) that is missing, or is not (`missing` false); or end. */
static u64 next_frame(u64 pfn, u64 end, bool missing)
{
	while (pfn < end) {
		u64 w = pfn < lazy_frames.n ? lazy_frames.bits[pfn / 64] : 0;

		w = (missing ? w : ~w) >> (pfn % 64);
		if (w) {
			pfn += (u64)__builtin_ctzll(w);
			break;
		}
		pfn = (pfn | 63) + 1;
	}
	return MIN(pfn, end);
}

static s64 map_stretches(struct aspace *as, u64 va, u64 end, u64 min_pages);

static bool any_missing(gpa_t g, u64 len)
{
	u64 pfn = g.v >> PAGE_SHIFT, end = pfn + (PAGE_UP(len) >> PAGE_SHIFT);

	return unlikely(n_missing) && g.v < BOOT_IMAGE_GPA && next_frame(pfn, end, true) < end;
}

static void clear_bits(u64 pfn, u64 n)
{
	for (; n && pfn < lazy_frames.n; pfn++, n--)
		lazy_frames.bits[pfn / 64] &= ~(1ull << (pfn % 64));
}

/* The piece that stores the frame, or NULL. */
static const struct process_piece *piece_of(u64 pfn)
{
	u32 lo = 0, hi = n_pieces;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (pieces[mid].gpa >> PAGE_SHIFT <= pfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo && pfn - (pieces[lo - 1].gpa >> PAGE_SHIFT) < pieces[lo - 1].pages ? &pieces[lo - 1] : NULL;
}

/* Frames [pfn, pfn+n), which are in p, from the file to va, for reading. False: the host will not. */
static bool map_file(u64 va, const struct process_piece *p, u64 pfn, u64 n, int prot)
{
	u64 off = p->off + (pfn << PAGE_SHIFT) - p->gpa;

	if (n_runs == MAX_RUNS || process_gate(__NR_mmap, va, n << PAGE_SHIFT, prot & ~(PLAT_W | PLAT_TOUCH),
					       MAP_SHARED | MAP_FIXED, p->fd, off) != (s64)va)
		return false;
	runs[n_runs++] = (struct run){here, va, pfn, n};
	return true;
}

static void drop_app_mappings(void)
{
	u32 kept = 0;

	process_gate(__NR_munmap, 0, BOOT_TASK_SIZE, 0, 0, 0, 0);
	for (u32 i = 0; i < n_runs; i++)
		if (runs[i].host != here)
			runs[kept++] = runs[i];
	n_runs = kept;
}

/* Frames [pfn, pfn+n) are filled: away with the file's, but for those at va, where the caller maps them anew. */
static void forget_file(u64 pfn, u64 n, u64 va)
{
	for (u32 i = 0; i < n_runs; i++) {
		const struct run *r = &runs[i];
		u64 from = MAX(pfn, r->pfn), to = MIN(pfn + n, r->pfn + r->n);

		u64 at = r->va + ((from - r->pfn) << PAGE_SHIFT), len;

		if (from >= to)
			continue;
		len = (to - from) << PAGE_SHIFT;
		if (r->host != here) {
			host_stale(r->host, at, len);
			continue;
		}
		if (r->va - (r->pfn << PAGE_SHIFT) == va - (pfn << PAGE_SHIFT))
			continue;
		if (process_gate(__NR_munmap, at, len, 0, 0, 0, 0)) {
			drop_app_mappings(); /* which forgets its runs: look again */
			i = ~0u;
		}
	}
}

/* Have n frames filled, to be mapped at va (0: nowhere); how many are, from g on. 0: the monitor cannot. */
static u64 fill_frames(gpa_t g, u64 n, u64 va)
{
	u64 pfn = g.v >> PAGE_SHIFT;
	s64 r;

	if (!any_missing(g, n << PAGE_SHIFT))
		return n;
	r = process_gate(PROCESS_DOORBELL_NR, PROCESS_FILL, g.v, n, 0, 0, 0);
	if (r <= 0 || (u64)r > n)
		return 0;
	clear_bits(pfn, (u64)r);
	forget_file(pfn, (u64)r, va);
	return (u64)r;
}

/* The library OS's own mappings are never missed: all of it now. */
static bool fill_all(gpa_t g, u64 pages)
{
	u64 pfn = g.v >> PAGE_SHIFT, end = pfn + pages;

	while (any_missing(g, pages << PAGE_SHIFT)) {
		pfn = next_frame(pfn, end, true);
		if (!fill_frames(GPA(pfn << PAGE_SHIFT), next_frame(pfn, end, false) - pfn, 0))
			return false;
	}
	return true;
}

void lazy_take(gpa_t g, u64 n)
{
	if (!fill_all(g, n))
		panic("process: the monitor cannot read the snapshot");
}

/* Is a change of `as` to be made now? If not and another host process has what was there, it will drop it. */
static bool is_mirrored(const struct aspace *as, u64 va, u64 len, bool fresh)
{
	struct host *h;

	if (!as || as == here->as)
		return true;
	h = fresh ? NULL : host_of(as);
	if (h)
		host_stale(h, va, len);
	return false;
}

static void process_map(struct aspace *as, u64 va, gpa_t g, u64 len, int prot, bool fresh)
{
	s64 r;

	if (!is_mirrored(as, va, len, fresh))
		return;
	if (as && any_missing(g, len)) { /* misses fill them, and map */
		process_gate(__NR_munmap, va, len, 0, 0, 0, 0);
		return;
	}
	if (!as && !fill_all(g, len >> PAGE_SHIFT))
		panic("process: the monitor cannot read the snapshot");
	r = host_mmap(va, g, len, prot, fresh);
	if (!r)
		return;
	if (!as || r != -ENOMEM)
		panic("process: the host refuses a mapping of %#lx bytes at %#lx (error %ld)", len, va, r);
	/* Too many mappings for the host: start again, misses bring back what is in use. */
	drop_app_mappings();
}

static void process_unmap(struct aspace *as, u64 va, u64 len)
{
	if (!is_mirrored(as, va, len, false))
		return;
	if (process_gate(__NR_munmap, va, len, 0, 0, 0, 0))
		drop_app_mappings();
	if (!as)
		hosts_gone(va, len);
}

static void process_protect(struct aspace *as, u64 va, u64 len, int prot)
{
	if (is_mirrored(as, va, len, false) && process_gate(__NR_mprotect, va, len, prot, 0, 0, 0))
		process_unmap(as, va, len); /* part of it was not mirrored */
}

static int process_aspace_init(struct aspace *as)
{
	static bool stub_gone;

	(void)as;
	if (!stub_gone)
		process_gate(__NR_munmap, PROCESS_STUB_VA, PROCESS_STUB_SIZE, 0, 0, 0, 0);
	stub_gone = true;
	return 0;
}

/* What h holds that is not true any more, of the app's half. h is the current one. */
static void drop_stale(struct host *h)
{
	struct range r = h->stale;

	h->stale = (struct range){0};
	if (r.hi &&
	    (r.hi - r.lo >= BOOT_TASK_SIZE || process_gate(__NR_munmap, r.lo, r.hi - r.lo, 0, 0, 0, 0)))
		drop_app_mappings();
}

static void process_aspace_free(struct aspace *as)
{
	host_free_aspace(as);
	if (!here->as)
		drop_stale(here); /* at once, since the library OS may go on here for long */
}

static void process_aspace_switch(struct aspace *as)
{
	bool fresh;

	host_switch(host_for(as, &fresh));
	drop_stale(here);
	if (fresh && map_stretches(as, 0, BOOT_TASK_SIZE, FORK_STRETCH_MIN))
		drop_app_mappings();
}

static void process_doorbell(void)
{
	process_gate(PROCESS_DOORBELL_NR, PROCESS_RING, 0, 0, 0, 0, 0);
}

static void process_die(void)
{
	process_gate(__NR_exit_group, 1, 0, 0, 0, 0, 0);
}

/* Others changed what this CPU's host process maps. */
static void process_flush_all(void)
{
	host_forget_gone();
	drop_stale(here);
}

static void process_cpu_call(u32 what, u64 arg)
{
	if (what == BOOT_CALL_YIELD) {
		process_gate(__NR_sched_yield, 0, 0, 0, 0, 0, 0);
		return;
	}
	if (what == BOOT_CALL_START)
		host_start_cpu(cpus[arg]);
	process_gate(PROCESS_DOORBELL_NR, PROCESS_CPU, what, arg, 0, 0, 0);
}

static void process_cpu_forget(struct cpu *c)
{
	c->host = 0;
}

/* --- restored ------------------------------------------------------------------- */

/* Neighbours in the page table that one host mapping covers. */
struct stretch {
	u64 va, entry, pages;
};

static bool stretch_add(struct stretch *s, const struct pt_leaf *l)
{
	if (s->pages &&
	    (l->va != s->va + s->pages * PAGE_SIZE || l->entry != s->entry + s->pages * PAGE_SIZE))
		return false;
	if (!s->pages)
		*s = (struct stretch){l->va, l->entry, 0};
	s->pages += l->pages;
	return true;
}

/*
 * Frames from pfn on, to be seen at va: some that are all in one piece of the snapshot, or in none. Those of a piece are mapped
 * from the file, and over them from RAM what was filled ahead, because it will be written. The others are zero, or copied
 * when they are missed. Returns where it came to.
 */
static u64 map_stored(u64 va, u64 pfn, u64 end, int prot, u64 min_pages, s64 *r)
{
	const struct process_piece *p = piece_of(pfn);
	u64 to = pfn + 1, at, from = pfn;

	while (!p && to < end && !piece_of(to))
		to++;
	if (p)
		to = MIN(end, (p->gpa >> PAGE_SHIFT) + p->pages);
	else if (to - pfn < min_pages)
		return to;
	if (p && to - pfn >= min_pages && next_frame(pfn, to, true) < to &&
	    !map_file(va, p, pfn, to - pfn, prot))
		return to;
	for (; !*r && (pfn = next_frame(pfn, to, false)) < to; pfn = at) {
		at = next_frame(pfn, to, true);
		*r = host_mmap(va + ((pfn - from) << PAGE_SHIFT), GPA(pfn << PAGE_SHIFT),
			       (at - pfn) << PAGE_SHIFT, prot, !p && min_pages);
	}
	return to;
}

static s64 stretch_map(const struct stretch *s, u64 min_pages)
{
	int prot = PLAT_R | (s->entry & PTE_W ? PLAT_W : 0) | (s->entry & PTE_NX ? 0 : PLAT_X);
	u64 g = pte_gpa(s->entry).v, pfn = g >> PAGE_SHIFT, end = pfn + s->pages, to;
	s64 r = 0;

	if (!(s->entry & PTE_P))
		return 0;
	if (!min_pages && !fill_all(GPA(g), s->pages))
		return -EIO;
	if (!n_missing || g >= BOOT_IMAGE_GPA)
		return s->pages < min_pages ? 0
					    : host_mmap(s->va, GPA(g), s->pages << PAGE_SHIFT, prot, true);
	for (; !r && pfn < end; pfn = to) {
		u64 va = s->va + (pfn << PAGE_SHIFT) - g;

		to = map_stored(va, pfn, end, prot, min_pages, &r);
	}
	return r;
}

/* Map what the tables say of [va, end), stretches of at least min_pages that are filled; 0: all of it, and fill it. */
static s64 map_stretches(struct aspace *as, u64 va, u64 end, u64 min_pages)
{
	struct stretch s = {0};
	struct pt_leaf l;
	s64 r = 0;

	for (; !r && pt_next(as, va, end, &l) && l.va < end; va = l.va + l.pages * PAGE_SIZE) {
		if (stretch_add(&s, &l))
			continue;
		r = stretch_map(&s, min_pages);
		s.pages = 0;
		stretch_add(&s, &l);
	}
	return r ? r : stretch_map(&s, min_pages);
}

/* The array itself is there whatever it says: the monitor wrote to it. */
static u64 ask_missing(bool all)
{
	gpa_t g = frame_gpa(lazy_frames.bits);
	s64 r = process_gate(PROCESS_DOORBELL_NR, PROCESS_MISSING, g.v, lazy_frames.n, all, 0, 0);

	clear_bits(g.v >> PAGE_SHIFT, PAGE_UP((lazy_frames.n + 63) / 64 * sizeof(u64)) >> PAGE_SHIFT);
	return r > 0 ? (u64)r : 0;
}

/*
 * Ask what is to be filled later, and take it out of the direct map. So is what was filled of the app's early: the
 * library OS hardly ever touches it, and without these islands there is much less to unmap.
 */
static void find_missing(void)
{
	u64 pfn = 0, to;

	n_runs = n_pieces = 0;
	n_missing = lazy_frames.n ? ask_missing(true) : 0;
	for (; n_missing && (pfn = next_frame(pfn, lazy_frames.n, true)) < lazy_frames.n; pfn = to) {
		to = next_frame(pfn, lazy_frames.n, false);
		process_gate(__NR_munmap, boot->physmap_va + (pfn << PAGE_SHIFT), (to - pfn) << PAGE_SHIFT, 0,
			     0, 0, 0);
	}
	if (n_missing) {
		s64 r;

		ask_missing(false);
		r = process_gate(PROCESS_DOORBELL_NR, PROCESS_PIECES, frame_gpa(pieces).v, MAX_PIECES, 0, 0,
				 0);
		n_pieces = r > 0 ? (u32)MIN(r, (s64)MAX_PIECES) : 0;
	}
	lazy_frames.some = n_missing;
}

/*
 * The loader mapped what it knows; stacks and the frame array are in the vmap area, and must be there before one of
 * them is used. Of the app's mappings only those that save many misses.
 */
static void process_restored(struct aspace *as)
{
	struct aspace boot_as = {.root = GPA(boot->cr3_gpa)};
	bool fresh;

	process_gate(__NR_munmap, PROCESS_STUB_VA, PROCESS_STUB_SIZE, 0, 0, 0, 0);
	this_cpu()->host = 0;
	find_missing();
	if (map_stretches(&boot_as, boot->vmap_va, boot->vmap_va + boot->vmap_size, 0))
		process_gate(__NR_exit_group, 1, 0, 0, 0, 0, 0);
	hosts_restored();
	if (as)
		host_for(as, &fresh);
	drop_stale(here);
	if (as && map_stretches(as, 0, BOOT_TASK_SIZE, STRETCH_MIN))
		drop_app_mappings();
}

const struct plat plat_process = {
	.name = "process",
	.map = process_map,
	.unmap = process_unmap,
	.protect = process_protect,
	.aspace_init = process_aspace_init,
	.aspace_free = process_aspace_free,
	.aspace_switch = process_aspace_switch,
	.doorbell = process_doorbell,
	.restored = process_restored,
	.die = process_die,
	.flush_all = process_flush_all,
	.cpu_call = process_cpu_call,
	.cpu_forget = process_cpu_forget,
	.cpus_prepare = hosts_prepare,
};

/* --- misses --------------------------------------------------------------------- */

static bool entry_allows(u64 e, u64 error)
{
	return e & PTE_P && (!(error & PF_WRITE) || e & PTE_W) && (!(error & PF_EXEC) || !(e & PTE_NX));
}

/* The direct map: only frames that were not filled at the start are not there. */
static bool physmap_miss(u64 addr, bool alone)
{
	u64 pfn = (addr - boot->physmap_va) >> PAGE_SHIFT, n;

	if (!n_missing || pfn >= lazy_frames.n)
		return false;
	/* Alone: the library OS's own, which nobody has to fill. */
	n = fill_frames(GPA(pfn << PAGE_SHIFT), alone ? 1 : MIRROR_AROUND - pfn % MIRROR_AROUND, 0);
	if (!n)
		panic("process: the monitor cannot read the snapshot");
	if (host_mmap(boot->physmap_va + (pfn << PAGE_SHIFT), GPA(pfn << PAGE_SHIFT), n << PAGE_SHIFT,
		      PLAT_R | PLAT_W, false))
		panic("process: the host has no more room for mappings");
	return true;
}

/*
 * The pages that one mapping can cover: around va, up to an aligned block of MIRROR_AROUND, as far as they are filled.
 * If the page at va is missing, from it on, at most FILL_AHEAD: whether they are needed is a guess, and costs memory.
 */
static u64 neighbours(struct aspace *as, u64 *va, u64 e)
{
	u64 at = *va, n = 1, block = at & ~(MIRROR_AROUND * PAGE_SIZE - 1),
	    max = MIRROR_AROUND - (at - block) / PAGE_SIZE;
	bool missing = any_missing(pte_gpa(e), PAGE_SIZE);

	if (missing)
		max = n_pieces ? WRITE_AHEAD : FILL_AHEAD;
	while (n < max && pt_lookup(as->root, at + n * PAGE_SIZE) == e + n * PAGE_SIZE &&
	       (missing || !any_missing(GPA(pte_gpa(e).v + n * PAGE_SIZE), PAGE_SIZE)))
		n++;
	while (!missing && *va > block &&
	       pt_lookup(as->root, *va - PAGE_SIZE) == e - (at - *va + PAGE_SIZE) &&
	       !any_missing(GPA(pte_gpa(e).v - (at - *va + PAGE_SIZE)), PAGE_SIZE)) {
		*va -= PAGE_SIZE;
		n++;
	}
	return n;
}

/* The app reads the page at va, which is not filled: map it from the file, and what lies around it there. */
static bool file_miss(struct aspace *as, u64 va, u64 e)
{
	u64 pfn = pte_gpa(e).v >> PAGE_SHIFT, from = pfn, to = pfn + 1, first, last;
	const struct process_piece *p = piece_of(pfn);
	int prot = PLAT_R | (e & PTE_NX ? 0 : PLAT_X);

	if (!p)
		return false;
	first = p->gpa >> PAGE_SHIFT;
	last = first + p->pages;
	while (to < last && to - pfn < FILE_AROUND && any_missing(GPA(to << PAGE_SHIFT), PAGE_SIZE) &&
	       pt_lookup(as->root, va + ((to - pfn) << PAGE_SHIFT)) == e + ((to - pfn) << PAGE_SHIFT))
		to++;
	while (from > first && pfn - from < FILE_AROUND && (pfn - from) << PAGE_SHIFT < va &&
	       any_missing(GPA((from - 1) << PAGE_SHIFT), PAGE_SIZE) &&
	       pt_lookup(as->root, va - ((pfn - from + 1) << PAGE_SHIFT)) ==
		       e - ((pfn - from + 1) << PAGE_SHIFT))
		from--;
	if (n_runs == MAX_RUNS)
		drop_app_mappings();
	return map_file(va - ((pfn - from) << PAGE_SHIFT), p, from, to - from, prot);
}

/*
 * A page fault of the host at addr. True: the page table allows the access, and now the host does too.
 * False: it is mm's; *error gets PF_PRESENT as hardware walking the page table would have set it.
 * `alone`: this CPU does not have the lock, it is on its way from or to the app. All it touches there is the stack of its thread,
 * whose entry nobody changes; neighbours may be about to go.
 */
static bool mirror_miss(u64 addr, u64 *error, bool alone)
{
	struct aspace libos = {.root = GPA(boot->cr3_gpa)}, *as = here->as;
	u64 va = PAGE_DOWN(addr), at = va, e, n;
	int prot;

	if (addr - boot->physmap_va < boot->ram_max)
		return physmap_miss(addr, alone);
	if (addr - boot->vmap_va < boot->vmap_size)
		as = &libos;
	else if (alone || !as || addr >= BOOT_TASK_SIZE)
		return false;
	e = pt_lookup(as->root, va);
	*error = (*error & ~(u64)PF_PRESENT) | (e & PTE_P ? PF_PRESENT : 0);
	if (!entry_allows(e, *error))
		return false;
	if (!alone && !(*error & PF_WRITE) && any_missing(pte_gpa(e), PAGE_SIZE) && file_miss(as, va, e))
		return true;
	n = alone ? 1 : neighbours(as, &at, e);
	e -= va - at;
	n = fill_frames(pte_gpa(e), n, at);
	if (!n)
		panic("process: the monitor cannot read the snapshot");
	prot = PLAT_R | (e & PTE_W ? PLAT_W : 0) | (e & PTE_NX ? 0 : PLAT_X);
	if (host_mmap(at, pte_gpa(e), n * PAGE_SIZE, prot, false)) {
		if (alone) /* and whoever has the lock may be busy with what was mapped of files: it is no error if that is gone */
			process_gate(__NR_munmap, 0, BOOT_TASK_SIZE, 0, 0, 0, 0);
		else
			drop_app_mappings();
		if (host_mmap(at, pte_gpa(e), n * PAGE_SIZE, prot, false))
			panic("process: the host has no more room for mappings");
	}
	return true;
}

/* --- from the host's signal frame into the library OS ------------------------------ */

static void regs_from_frame(struct regs *r, const struct sigcontext *sc)
{
	r->r15 = sc->r15, r->r14 = sc->r14, r->r13 = sc->r13, r->r12 = sc->r12;
	r->rbp = sc->rbp, r->rbx = sc->rbx, r->r11 = sc->r11, r->r10 = sc->r10;
	r->r9 = sc->r9, r->r8 = sc->r8, r->rax = sc->rax, r->rcx = sc->rcx;
	r->rdx = sc->rdx, r->rsi = sc->rsi, r->rdi = sc->rdi;
	r->orig_rax = ~0ull;
	r->rip = sc->rip, r->cs = sc->cs, r->rflags = sc->eflags, r->rsp = sc->rsp, r->ss = sc->ss;
}

/* The app's vector registers: XSAVE standard format, its size in the software-reserved bytes. */
static void xstate_from_frame(struct thread *t, const struct sigcontext *sc)
{
	const u8 *fp = (const u8 *)sc->fpstate;
	const struct _fpx_sw_bytes *sw = (const void *)(fp + 464);
	u64 *header = (u64 *)((u8 *)t->xstate + 512);

	if (!fp) {
		arch_xstate_init(t->xstate);
	} else if (sw->magic1 != FP_XSTATE_MAGIC1 || sw->xstate_size < 576) {
		memcpy(t->xstate, fp, 512);
		memset(header, 0, 64);
		header[0] = 3;
	} else {
		memcpy(t->xstate, fp, MIN((size_t)sw->xstate_size, arch_xstate_size()));
		header[0] &= xstate_mask;
	}
	t->xstate_saved = 1;
}

/* Go on in the library OS, on the kernel stack of the thread that was interrupted. */
static _Noreturn void leave_for_thread(const struct sigcontext *sc, int vector, u64 error, u64 addr)
{
	struct thread *t = current;
	struct regs *r = (struct regs *)t->kstack_top - 1;

	regs_from_frame(r, sc);
	xstate_from_frame(t, sc);
	if (vector == TRAP_SYSCALL) {
		r->orig_rax = r->rax;
		r->rax = (u64)-ENOSYS;
	}
	process_continue(r, vector, error, addr);
}

void process_trap(struct regs *r, int vector, u64 error, u64 addr)
{
	if (this_cpu()->smp) {
		smp_enter(); /* where it may have come to rest for a snapshot, and be restored on another platform */
		if (vector == TRAP_PF && plat == &plat_process && mirror_miss(addr, &error, false))
			return;
	}
	if (vector == TRAP_SYSCALL)
		syscall_trapped(r);
	else
		trap_from_user(r, vector, error, addr);
}

static void trap_in_libos(struct sigcontext *sc, int vector, u64 error, u64 addr)
{
	struct regs r;

	if (vector == TRAP_DB) { /* an app that single-steps itself came here by a patched call */
		sc->eflags &= ~FLAGS_TF;
		return;
	}
	regs_from_frame(&r, sc);
	exception_in_libos(&r, vector, error, addr);
	sc->rip = r.rip;
}

/* Is %gs what it was? An app can change it, and what is there. Nothing else in here looks at it unasked. */
static bool cpu_is_sound(void)
{
	const struct cpu *base;

	__asm__ volatile("rdgsbase %0" : "=r"(base));
	for (u32 i = 0; i < n_cpus; i++)
		if (!cpus[i] || (cpus[i] == base && base->self == base))
			return true;
	return false;
}

static void cpu_is_lost(void)
{
	static bool before;

	if (smp() || before)
		process_die();
	before = true;
	panic("process: what a CPU knows of itself is damaged");
}

/* Called by process_signal_entry on the exception stack. Returning resumes the frame. */
void process_signal(int sig, siginfo_t *info, struct ucontext *uc)
{
	struct sigcontext *sc = &uc->uc_mcontext;
	bool libos = in_libos_text(sc->rip);
	int vector = (int)sc->trapno;
	u64 error = sc->err, addr = 0;

	if (unlikely(!cpu_is_sound()))
		cpu_is_lost();
	if (sig == PROCESS_KICK_SIGNAL) {
		if (this_cpu()->shared)
			__atomic_store_n(&this_cpu()->shared->kick_heard, 1, __ATOMIC_RELAXED);
		if (sc->rip >= BOOT_TASK_SIZE || !current || !current->xstate)
			return; /* the library OS, or the stub before it, will see vcpu.kick */
		leave_for_thread(sc, TRAP_KICK, 0, 0);
	}
	if (sig == SIGSYS) {
		if (libos)
			panic("process: the host's filter refused call %d", (int)sc->rax);
		leave_for_thread(sc, TRAP_SYSCALL, 0, 0);
	}
	if (sig == SIGBUS && vector == TRAP_PF)
		panic("process: the host has no memory behind %#lx (rip %#lx)", (u64)info->si_addr,
		      (u64)sc->rip);
	if (vector == TRAP_PF) {
		addr = sc->cr2;
		/* Of several CPUs the app's misses need the lock, and are handled behind it. */
		if ((libos || !this_cpu()->smp) &&
		    mirror_miss(addr, &error, this_cpu()->smp && !smp_locked()))
			return;
	}
	if (libos)
		trap_in_libos(sc, vector, error, addr);
	else if (!current || !current->xstate)
		panic("process: trap %d outside the library OS and the app (rip %#lx, address %#lx)", vector,
		      (u64)sc->rip, addr);
	else
		leave_for_thread(sc, vector, error, addr);
}
