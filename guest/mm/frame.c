/* SPDX-License-Identifier: ISC */
/*
 * Frames: a buddy allocator over guest RAM.
 *
 * Data. An array of one 8-byte struct frame per frame of present RAM, in the
 * vmap area. The array's own pages come from the RAM that they describe, 1 of
 * 512, so it grows with RAM and nothing is ever copied; entries of RAM that
 * nobody used yet are zero pages that the host has not even made.
 *
 * Two kinds of free memory. CLEAN reads as zero and the host need not back it:
 * never used, or released. DIRTY was used; it is hot and must be zeroed before
 * it is shown to the app. Blocks of the two kinds do not merge, except when an
 * allocation would fail otherwise (merge_kinds).
 *
 * Placement. An allocation takes the smallest block that is large enough,
 * dirty before clean, so what is used stays compact and the host is asked for
 * no page while there is a used one. Small orders split off the low end and
 * 2 MiB and more the high end, so that they stay out of each other's way.
 *
 * Growth. When nothing fits, the monitor is asked for more RAM, up to ram_max.
 * Fresh RAM costs nothing until it is touched, so steps are generous.
 *
 * The last RESERVE frames are for the library OS: the app meets the end of
 * memory first and there is still room to kill it.
 */
#include "guest/mm/frame.h"

#include "abi/boot.h"
#include "guest/mm/census.h"
#include "guest/mm/pt.h"
#include "guest/plat/plat.h"
#include "guest/plat/ring.h"

#define RESERVE	 64u
#define GROW_MIN (32ull << 20)
#define N_SPARE	 4u
/* Up to here RAM stays in small host pages, so that a small instance stays small (kvm: the monitor's SMALL_PAGES). */
#define SMALL_RAM (16ull << 20)

static struct frame *frames;
static u64 ram_size;
static bool grow_failed, growing;
static u32 heads[2][FRAME_MAX_ORDER + 1]; /* [kind - FRAME_CLEAN]: first block, 0 = none */
static u32 masks[2]; /* bit per order: list not empty */
static u64 n_free[2];
static u64 dirty_low;
/* Fresh RAM that tables may take before the allocator knows it, and a few frames kept for that. */
static u64 early, early_end;
static u32 spare[N_SPARE], n_spare;

static u32 pfn_of(gpa_t g)
{
	return (u32)(g.v >> PAGE_SHIFT);
}

static void *pfn_ptr(u32 pfn)
{
	return (void *)(boot->physmap_va + ((u64)pfn << PAGE_SHIFT));
}

struct frame *frame_of(gpa_t g)
{
	return &frames[pfn_of(g)];
}

bool frame_is_ram(gpa_t g)
{
	return g.v < ram_size;
}

static const struct boot_region *region_of_gpa(u64 gpa)
{
	for (u32 i = 0; i < boot->n_regions; i++)
		if (gpa - boot->regions[i].gpa < boot->regions[i].size)
			return &boot->regions[i];
	return NULL;
}

void *frame_ptr(gpa_t g)
{
	const struct boot_region *r;

	if (likely(g.v < ram_size))
		return (void *)(boot->physmap_va + g.v);
	r = region_of_gpa(g.v);
	if (!r)
		panic("no memory at guest-physical %llx", (unsigned long long)g.v);
	return (void *)(r->va + (g.v - r->gpa));
}

gpa_t frame_gpa(const void *p)
{
	u64 va = (u64)p, e;

	if (likely(va - boot->physmap_va < ram_size))
		return GPA(va - boot->physmap_va);
	for (u32 i = 0; i < boot->n_regions; i++)
		if (va - boot->regions[i].va < boot->regions[i].size)
			return GPA(boot->regions[i].gpa + (va - boot->regions[i].va));
	/* Stacks and the library OS's own data: ask the page table. */
	e = pt_lookup(GPA(boot->cr3_gpa), va);
	if (!(e & PTE_P))
		panic("no memory behind address %llx", (unsigned long long)va);
	return GPA(pte_gpa(e).v + (va & (PAGE_SIZE - 1)));
}

/* --- free lists ------------------------------------------------------------------ */

static void push(u32 kind, unsigned order, u32 pfn)
{
	u32 *head = &heads[kind - FRAME_CLEAN][order];

	frames[pfn] = (struct frame){.kind = kind, .order = order, .link = *head};
	if (*head)
		frames[*head].b = pfn;
	*head = pfn;
	masks[kind - FRAME_CLEAN] |= 1u << order;
	n_free[kind - FRAME_CLEAN] += 1ull << order;
}

static void unlink_block(u32 pfn)
{
	struct frame *f = &frames[pfn];
	unsigned k = f->kind - FRAME_CLEAN, order = f->order;

	if (f->link)
		frames[f->link].b = f->b;
	if (f->b)
		frames[f->b].link = f->link;
	else
		heads[k][order] = f->link;
	if (!heads[k][order])
		masks[k] &= ~(1u << order);
	n_free[k] -= 1ull << order;
	*f = (struct frame){0};
}

/* Make [pfn, pfn + 2^order) free, merged with free buddies of the same kind. Entries inside are zero already. */
static void free_block(u32 pfn, unsigned order, u32 kind)
{
	while (order < FRAME_MAX_ORDER) {
		u32 buddy = pfn ^ (1u << order);
		struct frame *f = &frames[buddy];

		if ((u64)(buddy + (1u << order)) << PAGE_SHIFT > ram_size || f->kind != kind ||
		    f->order != order)
			break;
		unlink_block(buddy);
		pfn &= ~(1u << order);
		order++;
	}
	push(kind, order, pfn);
}

/* The same for any range of frames. */
static void free_range(u32 pfn, u32 n, u32 kind)
{
	while (n) {
		unsigned order = pfn ? (unsigned)__builtin_ctz(pfn) : FRAME_MAX_ORDER;

		order = MIN(order, 31u - (unsigned)__builtin_clz(n));
		order = MIN(order, (unsigned)FRAME_MAX_ORDER);
		free_block(pfn, order, kind);
		pfn += 1u << order;
		n -= 1u << order;
	}
}

/* Take a block out of the lists, split to size. 0: none. */
static u32 take(unsigned order, bool *dirty)
{
	u32 clean = masks[0] >> order << order, used = masks[1] >> order << order;
	u32 kind, pfn;
	unsigned o;

	if (!(clean | used))
		return 0;
	kind = used && (!clean || __builtin_ctz(used) <= __builtin_ctz(clean)) ? FRAME_DIRTY : FRAME_CLEAN;
	o = (unsigned)__builtin_ctz(kind == FRAME_DIRTY ? used : clean);
	pfn = heads[kind - FRAME_CLEAN][o];
	unlink_block(pfn);
	while (o > order) {
		o--;
		if (order >= HUGE_ORDER) {
			push(kind, o, pfn);
			pfn += 1u << o;
		} else {
			push(kind, o, pfn + (1u << o));
		}
	}
	*dirty = kind == FRAME_DIRTY;
	dirty_low = MIN(dirty_low, n_free[1]);
	if (unlikely(lazy_frames.some))
		lazy_take(GPA((u64)pfn << PAGE_SHIFT), 1ull << order);
	return pfn;
}

/* Merge clean blocks with dirty buddies into dirty ones: loses cleanness, gains size. */
static bool merge_kinds(unsigned order)
{
	for (unsigned o = 0; o < order; o++) {
		u32 pfn = heads[0][o], next;

		for (; pfn; pfn = next) {
			u32 buddy = pfn ^ (1u << o);

			next = frames[pfn].link;
			if ((u64)(buddy + (1u << o)) << PAGE_SHIFT > ram_size ||
			    frames[buddy].kind != FRAME_DIRTY || frames[buddy].order != o)
				continue;
			unlink_block(pfn);
			free_block(pfn, o, FRAME_DIRTY);
		}
		/* Free dirty blocks above may have been joined: the next order sees them. */
	}
	return (masks[0] | masks[1]) >> order;
}

/* --- growth --------------------------------------------------------------------------- */

/* The direct map must reach new RAM before anything touches it. */
static void extend_physmap(u64 from, u64 to)
{
	u64 start = from;

	while (start < to && pt_lookup(GPA(boot->cr3_gpa), boot->physmap_va + start) & PTE_P)
		start += HUGE_SIZE;
	if (start < to)
		ASSERT(kpt_map(boot->physmap_va + start, GPA(start), (to - start) >> PAGE_SHIFT,
			       PTE_W | PTE_NX) == 0);
}

/* [from, to) is new RAM, zero, whole 2 MiB blocks. Its first frames hold its part of the array. */
static void add_ram(u64 from, u64 to)
{
	u64 table_from = (u64)frames + (from >> PAGE_SHIFT) * sizeof(struct frame);
	u64 n = ((to - from) >> PAGE_SHIFT) * sizeof(struct frame); /* whole pages: 2 MiB blocks */

	early = from + n;
	early_end = to;
	ASSERT(kpt_map(table_from, GPA(from), n >> PAGE_SHIFT, PTE_W | PTE_NX) == 0);
	ram_size = to;
	from = early;
	early = early_end = 0;
	free_range((u32)(from >> PAGE_SHIFT), (u32)((to - from) >> PAGE_SHIFT), FRAME_CLEAN);
}

static void fill_spare(void)
{
	bool dirty;

	while (n_spare < N_SPARE) {
		u32 pfn = take(0, &dirty);

		if (!pfn)
			return;
		frames[pfn] = (struct frame){.kind = FRAME_USED, .b = 1};
		if (dirty)
			memset(pfn_ptr(pfn), 0, PAGE_SIZE);
		spare[n_spare++] = pfn;
	}
}

/* Ask the monitor for RAM that holds a block of 2^order. */
static bool grow(unsigned order)
{
	u64 need = MAX(GROW_MIN, 2 * (PAGE_SIZE << order)), now = 0;
	u64 want = MIN(ram_size + MAX(need, ram_size), boot->ram_max);
	struct ring_sqe sqe = {.op = RING_OP_MEM_GROW, .handle = RING_NO_HANDLE, .off = want};

	if (grow_failed || growing || want <= ram_size)
		return false;
	growing = true;
	if (ring_call_nosleep(&sqe, &now, NULL) < 0 || (now &= ~(HUGE_SIZE - 1)) <= ram_size) {
		grow_failed = true;
	} else {
		now = MIN(now, boot->ram_max);
		extend_physmap(ram_size, now);
		add_ram(ram_size, now);
		fill_spare();
	}
	growing = false;
	return !grow_failed;
}

/* --- allocation ------------------------------------------------------------------------ */

static void account(s64 pages)
{
	stats->pages_used += (u64)pages;
	if (stats->pages_used > stats->pages_peak)
		stats->pages_peak = stats->pages_used;
}

static gpa_t alloc(unsigned order, bool *dirty)
{
	u32 pfn = take(order, dirty);

	if (!pfn && (grow(order) || merge_kinds(order)))
		pfn = take(order, dirty);
	if (!pfn)
		return GPA_NONE;
	for (u32 i = 0; i < 1u << order; i++)
		frames[pfn + i] = (struct frame){.kind = FRAME_USED, .b = 1};
	account(1ll << order);
	return GPA((u64)pfn << PAGE_SHIFT);
}

gpa_t frame_alloc(unsigned order, bool zero)
{
	bool dirty;
	gpa_t g = alloc(order, &dirty);

	if (g.v != GPA_NONE.v && zero && dirty)
		memset(frame_ptr(g), 0, PAGE_SIZE << order);
	return g;
}

gpa_t frame_alloc_user(unsigned order, bool *dirty)
{
	gpa_t g;

	if (frames_free() < RESERVE + (1ull << order))
		return GPA_NONE;
	g = alloc(order, dirty);
	if (g.v != GPA_NONE.v && g.v >= SMALL_RAM && !*dirty)
		frame_back_huge(GPA(g.v & ~(HUGE_SIZE - 1)));
	return g;
}

gpa_t frame_alloc_table(void)
{
	u64 g = early;

	if (early < early_end) {
		early += PAGE_SIZE;
		return GPA(g);
	}
	if (growing && n_spare)
		return GPA((u64)spare[--n_spare] << PAGE_SHIFT);
	return frame_alloc(0, true);
}

void frame_get(gpa_t g)
{
	if (frame_is_ram(g))
		frame_of(g)->b++;
}

void frame_get_run(gpa_t g, u64 n)
{
	if (frame_is_ram(g))
		for (struct frame *f = frame_of(g); n--; f++)
			f->b++;
}

void frame_put_run(gpa_t g, u64 n)
{
	u32 pfn = pfn_of(g), run = 0;

	if (!frame_is_ram(g))
		return;
	for (; n; n--, pfn++) {
		struct frame *f = &frames[pfn];

		if (unlikely(f->kind != FRAME_USED || !f->b))
			panic("frame %x freed twice", pfn);
		if (--f->b == 0) {
			*f = (struct frame){0};
			run++;
			continue;
		}
		if (run) {
			account(-(s64)run);
			free_range(pfn - run, run, FRAME_DIRTY);
		}
		run = 0;
	}
	if (run) {
		account(-(s64)run);
		free_range(pfn - run, run, FRAME_DIRTY);
	}
}

void frame_unalloc(gpa_t g, u64 n, bool dirty)
{
	if (!n)
		return;
	memset(frame_of(g), 0, n * sizeof(struct frame));
	account(-(s64)n);
	free_range(pfn_of(g), (u32)n, dirty ? FRAME_DIRTY : FRAME_CLEAN);
}

void frame_put(gpa_t g)
{
	frame_put_run(g, 1);
}

void frame_free(gpa_t g, unsigned order)
{
	frame_put_run(g, 1ull << order);
}

u32 frame_refs(gpa_t g)
{
	return frame_is_ram(g) ? frame_of(g)->b : 0;
}

u64 frames_free(void)
{
	u64 growth = grow_failed || boot->ram_max < ram_size ? 0 : boot->ram_max - ram_size;

	return n_free[0] + n_free[1] + (growth >> PAGE_SHIFT) / 512 * 511;
}

u64 frames_total(void)
{
	return MAX(boot->ram_max, ram_size) >> PAGE_SHIFT;
}

bool frames_are_short(void)
{
	return frames_free() < frames_total() / 8;
}

/* --- huge host pages ------------------------------------------------------------------------ */

/* Bit per 2 MiB block of RAM: the host was asked to back it by one page. */
static u64 *huge_backed;

/*
 * Under kvm the monitor's RAM asks for huge pages by itself. Under the process monitor RAM is a
 * file, whose blocks must be made huge one by one; a block stays so until it is released.
 */
void frame_back_huge(gpa_t g)
{
	struct ring_sqe sqe = {
		.op = RING_OP_MEM_HUGE, .handle = RING_NO_HANDLE, .off = g.v, .addr2 = HUGE_SIZE};
	u64 block = g.v / HUGE_SIZE;

	if (boot->plat != BOOT_PLAT_PROCESS)
		return;
	if (!huge_backed)
		huge_backed = kzalloc((boot->ram_max / HUGE_SIZE / 64 + 1) * sizeof(u64));
	if (!huge_backed || huge_backed[block / 64] >> (block % 64) & 1)
		return;
	huge_backed[block / 64] |= 1ull << (block % 64);
	ring_call_nosleep(&sqe, NULL, NULL);
}

static void forget_huge(u32 pfn, unsigned order)
{
	u64 block = pfn >> HUGE_ORDER;

	for (u64 n = order > HUGE_ORDER ? 1ull << (order - HUGE_ORDER) : 1; huge_backed && n--; block++)
		huge_backed[block / 64] &= ~(1ull << (block % 64));
}

/* --- back to the host -------------------------------------------------------------------- */

u64 frames_dirty(void)
{
	return n_free[1];
}

u64 frames_dirty_low(void)
{
	u64 low = dirty_low;

	dirty_low = n_free[1];
	return low;
}

#define TRIM_BATCH     16
#define TRIM_ORDER_MIN 2u

struct trim {
	struct ring_req req;
	u32 pfn;
	unsigned order;
	bool done;
};

static void trim_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct trim *t = container_of(req, struct trim, req);

	free_block(t->pfn, t->order, cqe->res >= 0 ? FRAME_CLEAN : FRAME_DIRTY);
	t->done = true;
	if (cqe->res < 0)
		t->order = 0;
}

/* Start the release of the largest dirty block; false when there is none worth it. */
static bool trim_start(struct trim *t, u64 excess)
{
	u32 m = masks[1] >> TRIM_ORDER_MIN << TRIM_ORDER_MIN;
	unsigned o;

	if (!m)
		return false;
	o = 31u - (unsigned)__builtin_clz(m);
	t->pfn = heads[1][o];
	unlink_block(t->pfn);
	while (o > TRIM_ORDER_MIN && 1ull << o > excess) {
		o--;
		push(FRAME_DIRTY, o, t->pfn + (1u << o));
	}
	forget_huge(t->pfn, o);
	t->order = o;
	t->done = false;
	t->req = (struct ring_req){.done = trim_done};
	t->req.sqe = (struct ring_sqe){.op = RING_OP_MEM_RELEASE,
				       .handle = RING_NO_HANDLE,
				       .off = (u64)t->pfn << PAGE_SHIFT,
				       .addr2 = PAGE_SIZE << o};
	ring_submit(&t->req);
	return true;
}

void frames_trim(u64 keep)
{
	static struct trim batch[TRIM_BATCH];
	static bool busy;
	bool failed = false;

	if (busy)
		return;
	busy = true;
	while (n_free[1] > keep && !failed) {
		unsigned n = 0, left;

		while (n < TRIM_BATCH && n_free[1] > keep && trim_start(&batch[n], n_free[1] - keep))
			n++;
		if (!n)
			break;
		do {
			ring_flush();
			left = 0;
			for (unsigned i = 0; i < n; i++)
				left += !batch[i].done;
		} while (left);
		for (unsigned i = 0; i < n; i++)
			failed |= batch[i].order == 0;
	}
	busy = false;
}

/* --- snapshots -------------------------------------------------------------------------------- */

u64 frames_present(void)
{
	return ram_size >> PAGE_SHIFT;
}

void frames_mark_free(u8 *map, u8 value)
{
	for (unsigned kind = 0; kind < 2; kind++)
		for (unsigned o = 0; o <= FRAME_MAX_ORDER; o++)
			for (u32 pfn = heads[kind][o]; pfn; pfn = frames[pfn].link)
				memset(map + pfn, value, 1ull << o);
}

void frames_restored(void)
{
	for (unsigned o = 0; o <= FRAME_MAX_ORDER; o++) {
		while (heads[1][o]) {
			u32 pfn = heads[1][o];

			unlink_block(pfn);
			free_block(pfn, o, FRAME_CLEAN);
		}
	}
	dirty_low = 0;
}

/* --- start --------------------------------------------------------------------------------- */

void frames_init(void)
{
	u64 end = boot->ram_size & ~(HUGE_SIZE - 1);
	u64 table = PAGE_UP((end >> PAGE_SHIFT) * sizeof(struct frame));

	frames = (struct frame *)boot->vmap_va;
	ASSERT(boot->ram_used + table + 64 * PAGE_SIZE <= end);
	early = boot->ram_used + table;
	early_end = end;
	ram_size = end;
	/* The array's tables come from behind the array. */
	ASSERT(kpt_map((u64)frames, GPA(boot->ram_used), table >> PAGE_SHIFT, PTE_W | PTE_NX) == 0);
	/* Boot data: in use for ever. Frame 0 is among it, so that 0 can mean "none". */
	for (u32 i = 0; i < early >> PAGE_SHIFT; i++)
		frames[i] = (struct frame){.kind = FRAME_USED, .b = 1};
	account((s64)(early >> PAGE_SHIFT));
	free_range((u32)(early >> PAGE_SHIFT), (u32)((end - early) >> PAGE_SHIFT), FRAME_CLEAN);
	early = early_end = 0;
	fill_spare();
}
