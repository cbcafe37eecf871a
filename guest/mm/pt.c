/* SPDX-License-Identifier: ISC */
/*
 * Page tables: see pt.h for the format and the rules.
 *
 * Every change goes through here, stores the entries and tells the platform:
 * once per contiguous run for what is new, once per operation for a flush
 * (plat->flush), or per run where the platform mirrors mappings elsewhere.
 * Tables are frames of their own and are reached through the direct map.
 * Frames are dropped before the flush; nothing allocates in between.
 */
#include "guest/mm/pt.h"

#include <asm-generic/errno.h>
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/mm/frame.h"
#include "guest/plat/plat.h"

static u64 *table_ptr(gpa_t g)
{
	return (u64 *)(boot->physmap_va + g.v);
}

static u64 *table_of(u64 e)
{
	return table_ptr(pte_gpa(e));
}

static unsigned level_shift(unsigned level)
{
	return PAGE_SHIFT + 9 * level;
}

static unsigned index_at(u64 va, unsigned level)
{
	return (va >> level_shift(level)) & 511;
}

static bool is_leaf(u64 e, unsigned level)
{
	return level == 0 || (level == 1 && e & PTE_PS);
}

static u64 prot_bits(u32 prot, bool writable)
{
	u64 e = prot & (PROT_READ | PROT_WRITE | PROT_EXEC) ? PTE_LEAF : (PTE_U | PTE_A | PTE_D | PTE_NONE);

	if (writable && prot & PROT_WRITE)
		e |= PTE_W;
	if (!(prot & PROT_EXEC))
		e |= PTE_NX;
	return prot & PT_FILE ? e | PTE_FILE : e;
}

static int plat_prot(u64 e)
{
	return PLAT_R | (e & PTE_W ? PLAT_W : 0) | (e & PTE_NX ? 0 : PLAT_X);
}

/* Entry of va at `level`. Without `alloc`, or stopped by a 2 MiB leaf: NULL. */
static u64 *entry_at(gpa_t root, u64 va, unsigned level, bool alloc)
{
	u64 *t = table_ptr(root);

	for (unsigned l = 3;; l--) {
		u64 *e = &t[index_at(va, l)];

		if (l == level)
			return e;
		if (!*e) {
			gpa_t g;

			if (!alloc)
				return NULL;
			g = frame_alloc_table();
			if (g.v == GPA_NONE.v)
				return NULL;
			*e = g.v | PTE_TABLE;
		} else if (is_leaf(*e, l)) {
			return NULL;
		}
		t = table_of(*e);
	}
}

u64 pt_lookup(gpa_t root, u64 va)
{
	u64 *t = table_ptr(root);

	for (unsigned l = 3;; l--) {
		u64 e = t[index_at(va, l)];

		if (!e || l == 0)
			return e;
		if (is_leaf(e, l))
			return (e & ~(PTE_PS | (HUGE_SIZE - PAGE_SIZE))) + (va & (HUGE_SIZE - PAGE_SIZE));
		t = table_of(e);
	}
}

bool pt_next(struct aspace *as, u64 va, u64 end, struct pt_leaf *leaf)
{
	while (va < end) {
		u64 *t = table_ptr(as->root);
		unsigned l;

		for (l = 3;; l--) {
			u64 e = t[index_at(va, l)];

			if (!e)
				break;
			if (is_leaf(e, l)) {
				leaf->pages = l ? 512 : 1;
				leaf->va = va & ~((1ull << level_shift(l)) - 1);
				leaf->entry = l ? e & ~PTE_PS : e;
				return true;
			}
			t = table_of(e);
		}
		va = (va | ((1ull << level_shift(l)) - 1)) + 1;
	}
	return false;
}

/* --- runs told to the platform ----------------------------------------------------- */

/* Changed pages, gathered into runs that are contiguous in va, gpa and protection. */
struct runs {
	struct aspace *as;
	u64 va, gpa, len, bits;
	bool fresh, same_page; /* was not present; keeps its memory */
	u64 flush_lo, flush_hi; /* what the CPU may have cached */
};

static void runs_emit(struct runs *r)
{
	if (!r->len)
		return;
	if (!(r->bits & PTE_P)) {
		if (!plat->flush)
			plat->unmap(r->as, r->va, r->len);
	} else if (r->fresh) {
		plat->map(r->as, r->va, GPA(r->gpa), r->len, plat_prot(r->bits), true);
	} else if (!plat->flush) {
		if (r->same_page && plat->protect)
			plat->protect(r->as, r->va, r->len, plat_prot(r->bits));
		else
			plat->map(r->as, r->va, GPA(r->gpa), r->len, plat_prot(r->bits), false);
	}
	r->len = 0;
}

static void runs_add(struct runs *r, u64 va, u64 pages, u64 old, u64 new)
{
	u64 len = pages << PAGE_SHIFT, bits = new &(PTE_P | PTE_W | PTE_NX);
	bool fresh = !(old & PTE_P), same = pte_gpa(old).v == pte_gpa(new).v;

	if (fresh && !(new &PTE_P))
		return;
	if (!fresh) {
		if (!r->flush_hi || va < r->flush_lo)
			r->flush_lo = va;
		r->flush_hi = MAX(r->flush_hi, va + len);
	}
	if (r->len && (r->va + r->len != va || r->bits != bits || r->fresh != fresh || r->same_page != same ||
		       (bits & PTE_P && r->gpa + r->len != pte_gpa(new).v && !(same && plat->protect))))
		runs_emit(r);
	if (!r->len) {
		r->va = va;
		r->gpa = pte_gpa(new).v;
		r->bits = bits;
		r->fresh = fresh;
		r->same_page = same;
	}
	r->len += len;
}

static void runs_end(struct runs *r)
{
	runs_emit(r);
	if (r->flush_hi && plat->flush)
		plat->flush(r->as, r->flush_lo, r->flush_hi - r->flush_lo);
}

/* --- the library OS's slot --------------------------------------------------------------- */

int kpt_map(u64 va, gpa_t g, u64 pages, u64 bits)
{
	gpa_t root = GPA(boot->cr3_gpa);

	for (u64 i = 0; i < pages;) {
		u64 at = va + (i << PAGE_SHIFT), from = g.v + (i << PAGE_SHIFT);
		bool huge = !((at | from) & (HUGE_SIZE - 1)) && pages - i >= 512;
		u64 *e = entry_at(root, at, huge, true);

		if (!e)
			return -ENOMEM;
		*e = from | PTE_LEAF | bits | (huge ? PTE_PS : 0);
		i += huge ? 512 : 1;
	}
	plat->map(NULL, va, g, pages << PAGE_SHIFT, plat_prot(bits), true);
	return 0;
}

void kpt_unmap(u64 va, u64 pages)
{
	for (u64 i = 0; i < pages; i++) {
		u64 *e = entry_at(GPA(boot->cr3_gpa), va + (i << PAGE_SHIFT), 0, false);

		if (e)
			*e = 0;
	}
	plat->unmap(NULL, va, pages << PAGE_SHIFT);
}

gpa_t kpt_supervisor(u64 va)
{
	u64 *e = entry_at(GPA(boot->cr3_gpa), va, 0, false);
	gpa_t g = pte_gpa(*e);

	*e = g.v | PTE_P | PTE_A | PTE_D;
	if (plat->flush)
		plat->flush(NULL, va, PAGE_SIZE);
	return g;
}

gpa_t pt_new_root(void)
{
	gpa_t g = frame_alloc(0, true);

	if (g.v != GPA_NONE.v)
		table_ptr(g)[PT_SLOT_LIBOS] = table_ptr(GPA(boot->cr3_gpa))[PT_SLOT_LIBOS];
	return g;
}

void pt_free_root(struct aspace *as)
{
	pt_prune(as, 0, BOOT_TASK_SIZE);
	frame_put(as->root);
	as->root = GPA_NONE;
}

/* --- mapping ------------------------------------------------------------------------------- */

static bool table_empty(const u64 *t)
{
	for (int i = 0; i < 512; i++)
		if (t[i])
			return false;
	return true;
}

/* Level 1 entry of va if a 2 MiB leaf may go there; an empty table in the way is freed. */
static u64 *huge_slot(struct aspace *as, u64 va)
{
	u64 *e = entry_at(as->root, va, 1, true), old;

	if (!e || !*e)
		return e;
	if (*e & PTE_PS || !table_empty(table_of(*e)))
		return NULL;
	old = *e;
	*e = 0;
	/* The CPU may remember the table that it found empty. */
	if (plat->flush)
		plat->flush(as, va, HUGE_SIZE);
	frame_put(pte_gpa(old));
	return e;
}

bool pt_huge_empty(struct aspace *as, u64 va)
{
	u64 *e = entry_at(as->root, va, 1, false);

	return !e || !*e || (!(*e & PTE_PS) && table_empty(table_of(*e)));
}

u64 pt_map(struct aspace *as, u64 va, gpa_t g, u64 pages, u32 prot, bool writable)
{
	u64 bits = prot_bits(prot, writable), done = 0;

	while (done < pages) {
		u64 at = va + (done << PAGE_SHIFT), from = g.v + (done << PAGE_SHIFT), n;
		u64 *e;

		if (!((at | from) & (HUGE_SIZE - 1)) && pages - done >= 512 && (e = huge_slot(as, at))) {
			*e = from | bits | PTE_PS;
			done += 512;
			continue;
		}
		e = entry_at(as->root, at, 0, true);
		if (!e)
			break;
		n = MIN(pages - done, 512 - index_at(at, 0));
		for (u64 i = 0; i < n; i++)
			e[i] = (from + (i << PAGE_SHIFT)) | bits;
		done += n;
	}
	as->rss_pages += done;
	as->peak_rss_pages = MAX(as->peak_rss_pages, as->rss_pages);
	if (done && bits & PTE_P)
		plat->map(as, va, g, done << PAGE_SHIFT, plat_prot(bits) | (prot & PT_TOUCH ? PLAT_TOUCH : 0),
			  true);
	return done;
}

void pt_replace(struct aspace *as, u64 va, gpa_t g, u64 n, u32 prot, bool writable)
{
	u64 *e = entry_at(as->root, va, 0, false), bits = prot_bits(prot, writable);
	struct runs r = {.as = as};

	ASSERT(e && n <= 512 - index_at(va, 0));
	for (u64 i = 0; i < n; i++) {
		u64 old = e[i], new = (g.v + (i << PAGE_SHIFT)) | bits;

		ASSERT(old);
		e[i] = new;
		runs_add(&r, va + (i << PAGE_SHIFT), 1, old, new);
		if (pte_gpa(old).v != pte_gpa(new).v)
			frame_put(pte_gpa(old));
	}
	runs_end(&r);
}

u64 pt_own(struct aspace *as, u64 va, u64 end)
{
	u64 *e = entry_at(as->root, va, 1, false), n = 0;
	struct runs r = {.as = as};

	if (!e || !*e)
		return 0;
	if (*e & PTE_PS) {
		u64 block = va & ~(HUGE_SIZE - 1), old = *e & ~PTE_PS;

		if (!pt_exclusive(old, 512))
			return 0;
		*e |= PTE_W;
		runs_add(&r, block, 512, old, old | PTE_W);
		n = 512;
	} else {
		u64 max = MIN((end - va) >> PAGE_SHIFT, 512 - index_at(va, 0));

		for (e = table_of(*e) + index_at(va, 0); n < max; n++, e++) {
			if ((*e & (PTE_P | PTE_W)) != PTE_P || !pt_exclusive(*e, 1))
				break;
			*e |= PTE_W;
			runs_add(&r, va + (n << PAGE_SHIFT), 1, *e & ~PTE_W, *e);
		}
	}
	runs_end(&r);
	return n;
}

u64 pt_shared_run(struct aspace *as, u64 va, u64 max)
{
	const u64 *e = entry_at(as->root, va, 0, false);
	u64 n = 0;

	max = MIN(max, 512 - index_at(va, 0));
	while (e && n < max && (e[n] & (PTE_P | PTE_W)) == PTE_P && !pt_exclusive(e[n], 1) &&
	       (!n || !(e[n] & PTE_FILE)))
		n++;
	return n;
}

void pt_refresh(struct aspace *as, u64 va)
{
	u64 e = pt_lookup(as->root, va);

	if (!(e & PTE_P))
		return;
	if (plat->flush_page) /* what other CPUs know is their affair: they come here too */
		plat->flush_page(as, PAGE_DOWN(va));
	else
		plat->map(as, PAGE_DOWN(va), pte_gpa(e), PAGE_SIZE, plat_prot(e), false);
}

int pt_split_at(struct aspace *as, u64 va)
{
	u64 *e, *t, old;
	gpa_t g;

	if (!(va & (HUGE_SIZE - 1)))
		return 0;
	e = entry_at(as->root, va, 1, false);
	if (!e || !(*e & PTE_PS))
		return 0;
	g = frame_alloc(0, false);
	if (g.v == GPA_NONE.v)
		return -ENOMEM;
	old = *e & ~PTE_PS;
	t = table_ptr(g);
	for (u64 i = 0; i < 512; i++)
		t[i] = old + (i << PAGE_SHIFT);
	*e = g.v | PTE_TABLE;
	return 0;
}

/* --- unmapping ------------------------------------------------------------------------------ */

struct unmap {
	struct aspace *as;
	u64 lo, hi; /* what was present */
	u64 run_gpa, run_n; /* frames to drop, contiguous */
};

static void unmap_flush_run(struct unmap *u)
{
	if (u->run_n)
		frame_put_run(GPA(u->run_gpa), u->run_n);
	u->run_n = 0;
}

static void unmap_leaf(struct unmap *u, u64 va, u64 e, u64 pages)
{
	u64 g = pte_gpa(e).v;

	if (e & PTE_P) {
		if (!u->hi)
			u->lo = va;
		u->hi = va + (pages << PAGE_SHIFT);
	}
	u->as->rss_pages -= pages;
	if (u->run_n && u->run_gpa + (u->run_n << PAGE_SHIFT) == g) {
		u->run_n += pages;
		return;
	}
	unmap_flush_run(u);
	u->run_gpa = g;
	u->run_n = pages;
}

/* base: address of t[0]. Tables that lie inside the range whole are freed. */
static void unmap_table(struct unmap *u, u64 *t, unsigned level, u64 base, u64 start, u64 end)
{
	u64 span = 1ull << level_shift(level);
	u64 from = MAX(start, base), to = MIN(end, base + 512 * span);

	for (u64 va = from & ~(span - 1); va < to; va += span) {
		u64 *e = &t[index_at(va, level)], old = *e;

		if (!old)
			continue;
		if (is_leaf(old, level)) {
			*e = 0;
			unmap_leaf(u, va, level ? old & ~PTE_PS : old, 1ull << (9 * level));
			continue;
		}
		unmap_table(u, table_of(old), level - 1, va, start, end);
		if (va >= start && va + span <= end) {
			*e = 0;
			frame_put(pte_gpa(old));
		}
	}
}

void pt_unmap(struct aspace *as, u64 start, u64 end)
{
	struct unmap u = {.as = as};

	unmap_table(&u, table_ptr(as->root), 3, 0, start, end);
	unmap_flush_run(&u);
	if (u.hi)
		plat->unmap(as, u.lo, u.hi - u.lo);
}

static bool prune_table(u64 *t, unsigned level, u64 base, u64 start, u64 end)
{
	u64 span = 1ull << level_shift(level);
	u64 from = MAX(start, base), to = MIN(end, base + 512 * span);
	bool freed = false;

	for (u64 va = from & ~(span - 1); va < to; va += span) {
		u64 *e = &t[index_at(va, level)];

		if (!*e || is_leaf(*e, level))
			continue;
		if (level > 1)
			freed |= prune_table(table_of(*e), level - 1, va, start, end);
		if (va >= start && va + span <= end && table_empty(table_of(*e))) {
			frame_put(pte_gpa(*e));
			*e = 0;
			freed = true;
		}
	}
	return freed;
}

void pt_prune(struct aspace *as, u64 start, u64 end)
{
	if (prune_table(table_ptr(as->root), 3, 0, start, end) && plat->flush)
		plat->flush(as, start, end - start);
}

/* --- protection ------------------------------------------------------------------------------ */

bool pt_exclusive(u64 e, u64 pages)
{
	gpa_t g = pte_gpa(e);
	const struct frame *f;

	if (!frame_is_ram(g))
		return false;
	for (f = frame_of(g); pages--; f++)
		if (f->b != 1)
			return false;
	return true;
}

void pt_protect(struct aspace *as, u64 start, u64 end, u32 prot, bool shared)
{
	struct runs r = {.as = as};
	struct pt_leaf l;

	for (u64 va = start; pt_next(as, va, end, &l); va = l.va + (l.pages << PAGE_SHIFT)) {
		bool w = prot & PROT_WRITE && (shared ? !!(l.entry & PTE_W) : pt_exclusive(l.entry, l.pages));
		u64 new = pte_gpa(l.entry).v | prot_bits(prot, w) | (l.entry & PTE_FILE);

		if (new == l.entry)
			continue;
		*entry_at(as->root, l.va, l.pages > 1, false) = new | (l.pages > 1 ? PTE_PS : 0);
		runs_add(&r, l.va, l.pages, l.entry, new);
	}
	runs_end(&r);
}

/* --- moving and copying ------------------------------------------------------------------------- */

static int move_leaf(struct aspace *as, const struct pt_leaf *l, u64 to, struct runs *r)
{
	u64 *dst, *src;

	if (l->pages > 1 && !(to & (HUGE_SIZE - 1)) && (dst = huge_slot(as, to))) {
		src = entry_at(as->root, l->va, 1, false);
		*dst = *src;
		*src = 0;
		runs_add(r, to, 512, 0, l->entry);
		return 512;
	}
	if (l->pages > 1 && pt_split_at(as, l->va + PAGE_SIZE))
		return -ENOMEM;
	dst = entry_at(as->root, to, 0, true);
	src = entry_at(as->root, l->va, 0, false);
	if (!dst)
		return -ENOMEM;
	*dst = *src;
	*src = 0;
	runs_add(r, to, 1, 0, *dst);
	return 1;
}

int pt_move(struct aspace *as, u64 from, u64 to, u64 len)
{
	struct runs r = {.as = as};
	struct pt_leaf l;
	u64 va = from, lo = 0, hi = 0;
	int n = 0;

	while (pt_next(as, va, from + len, &l)) {
		n = move_leaf(as, &l, to + (l.va - from), &r);
		if (n < 0)
			break;
		va = l.va + ((u64)n << PAGE_SHIFT);
		if (l.entry & PTE_P) {
			lo = hi ? lo : l.va;
			hi = va;
		}
	}
	runs_end(&r);
	if (hi)
		plat->unmap(as, lo, hi - lo);
	return n < 0 ? n : 0;
}

/*
 * One VMA of a fork. The child has never been current, so no platform has a cache of it: it is told nothing. Of the
 * parent, what was writable is not any more; where the CPU reads the tables it is flushed once, by pt_fork_done().
 */
struct forking {
	struct aspace *child;
	u64 start, end, keep; /* keep: bits of an entry that both get */
	struct runs r; /* the parent's */
};

/* Tables are taken from what everybody has, and the library OS's reserve is not for this. */
static u64 *child_entry(const struct forking *f, u64 va, unsigned level)
{
	u64 *e = entry_at(f->child->root, va, level, false);

	if (e || !aspace_fork_room())
		return e;
	return entry_at(f->child->root, va, level, true);
}

static void fork_leaf(struct forking *f, u64 *from, u64 *to, u64 va, u64 pages)
{
	u64 old = *from, new = old & f->keep, ps = pages > 1 ? PTE_PS : 0;

	*to = new;
	frame_get_run(pte_gpa(old & ~ps), pages);
	f->child->rss_pages += pages;
	if (new == old)
		return;
	*from = new;
	runs_add(&f->r, va, pages, old & ~ps, new & ~ps);
}

static int fork_table(struct forking *f, u64 *t, unsigned level, u64 base)
{
	u64 span = 1ull << level_shift(level);
	u64 from = MAX(f->start, base), to = MIN(f->end, base + 512 * span), *child = NULL;
	int err = 0;

	for (u64 va = from & ~(span - 1); !err && va < to; va += span) {
		u64 *e = &t[index_at(va, level)];

		if (!*e)
			continue;
		if (!is_leaf(*e, level)) {
			err = fork_table(f, table_of(*e), level - 1, va);
			continue;
		}
		if (!child && !(child = child_entry(f, va, level)))
			return -ENOMEM;
		/* `child` is the entry of the first leaf that was found; the others are in the same table */
		child += (s64)index_at(va, level) - ((s64)((u64)child & (PAGE_SIZE - 1)) >> 3);
		fork_leaf(f, e, child, va, 1ull << (9 * level));
	}
	return err;
}

int pt_fork(struct aspace *parent, struct aspace *child, u64 start, u64 end, bool shared)
{
	struct forking f = {.child = child,
			    .start = start,
			    .end = end,
			    .keep = shared ? ~0ull : ~(u64)PTE_W,
			    .r = {.as = parent}};
	int err = fork_table(&f, table_ptr(parent->root), 3, 0);

	runs_emit(&f.r);
	child->peak_rss_pages = MAX(child->peak_rss_pages, child->rss_pages);
	return err;
}

void pt_fork_done(struct aspace *parent)
{
	if (plat->flush)
		plat->flush(parent, 0, BOOT_TASK_SIZE);
}

u64 pt_empty_run(struct aspace *as, u64 va, u64 max)
{
	struct pt_leaf l;

	if (!pt_next(as, va, va + (max << PAGE_SHIFT), &l))
		return max;
	return l.va <= va ? 0 : (l.va - va) >> PAGE_SHIFT;
}

u64 pt_filled_run(struct aspace *as, u64 va, u64 max, bool down)
{
	u64 n = 0;

	while (n < max) {
		u64 at = down ? va - ((n + 1) << PAGE_SHIFT) : va + ((n + 1) << PAGE_SHIFT);
		u64 *e = at < BOOT_TASK_SIZE ? entry_at(as->root, at, 1, false) : NULL;
		unsigned i = index_at(at, 0), left = down ? i + 1 : 512 - i;
		const u64 *t;

		if (!e || !*e)
			break;
		if (*e & PTE_PS) {
			n += left;
			continue;
		}
		for (t = table_of(*e) + i; left && *t; left--, n++)
			t += down ? -1 : 1;
		if (left)
			break;
	}
	return MIN(n, max);
}
