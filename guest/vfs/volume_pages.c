/* SPDX-License-Identifier: ISC */
/*
 * The page cache of volumes: pages from the host, write-back, mappings.
 *
 * A page is in the tree only when its contents are whole (no "loading" state):
 * a read from the host goes into frames of its own and is entered when it is
 * done, unless the file changed meanwhile (vnode.gen). So a fault, which must
 * not sleep, never waits for another thread's read.
 *
 *   absent --fill--> clean --write, shared mapping--> dirty --send--> clean
 *
 * A dirty page is sent whole (up to the end of file). While a PWRITE is on its
 * way it holds a reference on its frames; it may be dirtied and sent again:
 * the ring keeps the order. A page that is mapped for writing stays dirty when
 * it is sent, since stores to it are not seen.
 *
 * The cache is bounded to a quarter of RAM: above that, clean unmapped pages
 * go, those of the file that came in first before the others'.
 */
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/volume.h"

enum { PG_PRESENT = 1, PG_DIRTY = 2, PG_STORES = 4 /* mapped for writing */ };

static struct list with_pages = LIST_INIT(with_pages); /* vnode.cached, oldest first */
static u64 n_pages; /* in all trees */

/* --- the cache ------------------------------------------------------------------ */

static void forget_page(struct vnode *v, u64 index, u64 entry)
{
	pagetree_set(&v->pages, index, 0);
	n_pages--;
	if (entry & PG_DIRTY)
		v->n_dirty--;
	frame_put(VOLUME_GPA(entry));
}

/* No pages, no place on the list and no reference by it. May free v. */
static void uncache_if_empty(struct vnode *v)
{
	if (v->pages.count || list_empty(&v->cached))
		return;
	list_del(&v->cached);
	inode_put(&v->i);
}

static void drop_clean_pages(struct vnode *v)
{
	for (u64 i = pagetree_next(&v->pages, 0); i != ~0ull; i = pagetree_next(&v->pages, i + 1)) {
		u64 e = pagetree_get(&v->pages, i);

		if (!(e & PG_DIRTY) && frame_refs(VOLUME_GPA(e)) == 1)
			forget_page(v, i, e);
	}
}

void volume_drop_clean(struct vnode *v)
{
	drop_clean_pages(v);
	/* the list's reference stays until the next shrink(): our caller is using v */
}

static void shrink(void)
{
	u64 limit = frames_total() / 4;
	u32 rounds = 0;

	if (n_pages < limit && frames_free() > frames_total() / 16)
		return;
	list_for_each_safe (it, &with_pages) {
		struct vnode *v = list_entry(it, struct vnode, cached);

		drop_clean_pages(v);
		uncache_if_empty(v);
		if (n_pages < limit - limit / 4 || ++rounds > 1000)
			return;
	}
}

static bool enter_page(struct vnode *v, u64 index, gpa_t g, u64 flags)
{
	if (!pagetree_set(&v->pages, index, g.v | PG_PRESENT | flags))
		return false;
	n_pages++;
	if (list_empty(&v->cached)) {
		inode_get(&v->i);
		list_add_tail(&with_pages, &v->cached);
	}
	return true;
}

static void free_entry(u64 entry, void *arg)
{
	struct vnode *v = arg;

	n_pages--;
	if (entry & PG_DIRTY)
		v->n_dirty--;
	frame_put(VOLUME_GPA(entry));
}

/* At eviction: nothing is dirty any more, and the list holds no reference. */
void volume_free_pages(struct vnode *v)
{
	pagetree_remove(&v->pages, 0, ~0ull, free_entry, v);
	list_del(&v->cached);
}

void volume_set_dirty(struct vnode *v, u64 index, u64 entry, u64 flags)
{
	v->gen++;
	v->wrote = true;
	v->dirty_lo = MIN(v->dirty_lo, index);
	v->dirty_hi = MAX(v->dirty_hi, index);
	if (!(entry & PG_DIRTY))
		v->n_dirty++;
	if ((entry | PG_DIRTY | flags) != entry)
		pagetree_set(&v->pages, index, entry | PG_DIRTY | flags);
}

void volume_drop_from(struct vnode *v, u64 index)
{
	pagetree_remove(&v->pages, index, ~0ull, free_entry, v);
}

/* --- from the host ------------------------------------------------------------------ */

/* Frames for n pages, or fewer. */
static gpa_t alloc_run(u32 *n, bool zero)
{
	u32 order = 0;

	while (1u << order < *n && order < VOLUME_MAX_ORDER)
		order++;
	for (;; order--) {
		gpa_t g = frame_alloc(order, zero);
		if (g.v != GPA_NONE.v || !order) {
			*n = 1u << order;
			return g;
		}
	}
}

/*
 * Bring in the page at index, and up to n-1 that follow if they are missing.
 * 0, or -errno; a file that ends before the page leaves it zero-filled only if
 * it is below the size that the program sees.
 */
static int fill(struct vnode *v, u64 index, u32 n, bool may_sleep)
{
	u64 end = PAGE_UP(v->size) / PAGE_SIZE, gen = v->gen;
	u32 want = (u32)MIN((u64)n, end > index ? end - index : 1), have;

	for (u32 i = 1; i < want; i++)
		if (pagetree_get(&v->pages, index + i))
			want = i;
	if (may_sleep)
		shrink();
	have = want;
	gpa_t g = alloc_run(&have, false);
	if (g.v == GPA_NONE.v)
		return -ENOMEM;
	want = MIN(want, have);
	struct ring_sqe sqe = {.op = RING_OP_VOL_PREAD,
			       .handle = volume_read_handle(v),
			       .addr = g.v,
			       .len = want * (u32)PAGE_SIZE,
			       .off = index * PAGE_SIZE};
	s64 r = may_sleep ? ring_call(&sqe, NULL, NULL) : ring_call_nosleep(&sqe, NULL, NULL);
	if (r >= 0 && r < (s64)want * (s64)PAGE_SIZE)
		memset((u8 *)frame_ptr(g) + r, 0, want * PAGE_SIZE - (u64)r);
	bool stale = gen != v->gen;
	for (u32 i = 0; i < have; i++) {
		gpa_t p = GPA(g.v + i * PAGE_SIZE);

		if (r < 0 || stale || i >= want || pagetree_get(&v->pages, index + i) ||
		    !enter_page(v, index + i, p, 0))
			frame_put(p);
	}
	return r < 0 ? (int)r : 0;
}

/* The entry of a page, brought in if needed; 0 and *err. */
u64 volume_page_at(struct vnode *v, u64 index, u32 window, bool may_sleep, int *err)
{
	for (int tries = 0; tries < 100; tries++) {
		u64 e = pagetree_get(&v->pages, index);

		if (e)
			return e;
		*err = fill(v, index, window, may_sleep);
		if (*err)
			return 0;
	}
	*err = -EIO; /* somebody changes it all the time */
	return 0;
}

/* The entry of the page that [pos, pos+n) of a write goes to. */
u64 volume_page_for_write(struct vnode *v, u64 pos, u64 left, int *err)
{
	u64 index = pos / PAGE_SIZE, e = pagetree_get(&v->pages, index);
	bool whole = pos % PAGE_SIZE == 0 && left >= PAGE_SIZE;

	if (e)
		return e;
	if (!whole && index * PAGE_SIZE < v->size)
		return volume_page_at(v, index, 1, true, err);
	shrink();
	/* one block of memory for what follows, so that it is sent in one piece */
	u32 want = whole ? (u32)MIN(left / PAGE_SIZE, 1u << VOLUME_MAX_ORDER) : 1, have = want;
	gpa_t g = alloc_run(&have, true);
	if (g.v == GPA_NONE.v) {
		*err = -ENOMEM;
		return 0;
	}
	bool first = enter_page(v, index, g, 0);
	for (u32 i = 0; i < have; i++) {
		gpa_t p = GPA(g.v + i * PAGE_SIZE);

		/* pages after the first are entered only where the write is sure to fill them: beyond the end */
		if (i == 0 && first)
			continue;
		if (!first || i >= want || (index + i) * PAGE_SIZE < v->size ||
		    pagetree_get(&v->pages, index + i) || !enter_page(v, index + i, p, 0))
			frame_put(p);
	}
	*err = first ? 0 : -ENOMEM;
	return first ? pagetree_get(&v->pages, index) : 0;
}

void volume_pages_restored(struct vnode *v)
{
	v->gen++;
	drop_clean_pages(v);
	for (u64 i = pagetree_next(&v->pages, 0); i != ~0ull; i = pagetree_next(&v->pages, i + 1)) {
		u64 e = pagetree_get(&v->pages, i);
		u8 *p = frame_ptr(VOLUME_GPA(e));
		struct ring_sqe sqe = {.op = RING_OP_VOL_PREAD,
				       .handle = volume_read_handle(v),
				       .addr = VOLUME_GPA(e).v,
				       .len = (u32)PAGE_SIZE,
				       .off = i * PAGE_SIZE};
		s64 r = e & PG_DIRTY ? (s64)PAGE_SIZE : ring_call_nosleep(&sqe, NULL, NULL);

		if (r >= 0 && r < (s64)PAGE_SIZE)
			memset(p + r, 0, PAGE_SIZE - (u64)r);
	}
}

/* Zero [from, to) of the pages that are cached. */
void volume_zero_cached(struct vnode *v, u64 from, u64 to)
{
	for (u64 i = pagetree_next(&v->pages, from / PAGE_SIZE); i != ~0ull && i * PAGE_SIZE < to;
	     i = pagetree_next(&v->pages, i + 1)) {
		u64 lo = MAX(from, i * PAGE_SIZE), hi = MIN(to, (i + 1) * PAGE_SIZE);

		memset((u8 *)frame_ptr(VOLUME_GPA(pagetree_get(&v->pages, i))) + lo % PAGE_SIZE, 0, hi - lo);
	}
}

/* --- to the host ---------------------------------------------------------------------- */

struct flight {
	struct ring_req req;
	struct vnode *v; /* referenced */
	gpa_t g;
	u32 n;
};

static void flight_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct flight *f = container_of(req, struct flight, req);
	struct vnode *v = f->v;

	if (cqe->res != (s32)req->sqe.len)
		v->error = cqe->res < 0 ? cqe->res : cqe->val ? -(int)cqe->val : -EIO;
	for (u32 i = 0; i < f->n; i++)
		frame_put(GPA(f->g.v + i * PAGE_SIZE));
	kfree(f);
	v->n_flight--;
	waitq_wake_all(&v->flight_wait, 0);
	inode_put(&v->i);
}

/* Send n pages from index, contiguous in memory. false: no memory, they stay dirty. */
static bool send_pages(struct vnode *v, u64 index, gpa_t g, u32 n)
{
	struct flight *f = kzalloc(sizeof(*f));
	u64 off = index * PAGE_SIZE;

	if (!f)
		return false;
	f->v = v;
	f->g = g;
	f->n = n;
	f->req.done = flight_done;
	f->req.sqe = (struct ring_sqe){.op = RING_OP_VOL_PWRITE,
				       .flags = RING_SQE_QUIET,
				       .handle = v->wh,
				       .addr = g.v,
				       .len = (u32)MIN(n * PAGE_SIZE, v->size - off),
				       .off = off};
	inode_get(&v->i);
	v->n_flight++;
	v->changed = ++volume_clock;
	for (u32 i = 0; i < n; i++)
		frame_get(GPA(g.v + i * PAGE_SIZE));
	ring_submit(&f->req);
	return true;
}

/* The dirty page at index and those after it that lie behind it in memory; how many. */
static u32 dirty_run(struct vnode *v, u64 index, u64 entry)
{
	u32 n = 1;

	while (n < RING_MAX_IO / PAGE_SIZE && (index + n) * PAGE_SIZE < v->size) {
		u64 e = pagetree_get(&v->pages, index + n);

		if (!(e & PG_DIRTY) || VOLUME_GPA(e).v != VOLUME_GPA(entry).v + n * PAGE_SIZE)
			break;
		n++;
	}
	return n;
}

/* Sent: clean, unless stores through a mapping may follow unseen. */
static void set_sent(struct vnode *v, u64 index, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		u64 e = pagetree_get(&v->pages, index + i);

		/* two references: ours and the flight's; a third is a mapping */
		if (e & PG_STORES && frame_refs(VOLUME_GPA(e)) > 2) {
			v->dirty_lo = MIN(v->dirty_lo, index + i);
			v->dirty_hi = MAX(v->dirty_hi, index + i);
			continue;
		}
		pagetree_set(&v->pages, index + i, e & ~(u64)(PG_DIRTY | PG_STORES));
		v->n_dirty--;
	}
}

void volume_send(struct vnode *v)
{
	u64 lo = v->dirty_lo, hi = v->dirty_hi;

	list_del(&v->send.node);
	if (!v->n_dirty || v->wh == RING_NO_HANDLE)
		return;
	v->dirty_lo = ~0ull;
	v->dirty_hi = 0;
	for (u64 i = pagetree_next(&v->pages, lo); i <= hi; i = pagetree_next(&v->pages, i)) {
		u64 e = pagetree_get(&v->pages, i);
		u32 n = 1;

		if (e & PG_DIRTY && i * PAGE_SIZE < v->size) {
			n = dirty_run(v, i, e);
			if (!send_pages(v, i, VOLUME_GPA(e), n)) {
				v->dirty_lo = MIN(v->dirty_lo, i);
				v->dirty_hi = hi;
				return;
			}
			set_sent(v, i, n);
		}
		i += n;
	}
}

void volume_send_run(struct ring_deferred *d)
{
	volume_send(container_of(d, struct vnode, send));
}

void volumes_send(void)
{
	list_for_each (it, &with_pages)
		volume_send(list_entry(it, struct vnode, cached));
}

/* Wait until what was sent is with the host, and take the error of a delayed write. */
int volume_settle(struct vnode *v)
{
	wait_event(&v->flight_wait, !v->n_flight, NO_DEADLINE, false);
	int err = v->error;
	v->error = 0;
	return err;
}

/* --- mappings ----------------------------------------------------------------------------------- */

int volume_get_page(struct inode *ino, u64 pgoff, bool write, u32 max_run, gpa_t *gpa, u32 *run)
{
	struct vnode *v = vnode(ino);
	int err = 0;

	if (pgoff >= PAGE_UP(v->size) / PAGE_SIZE)
		return -ENXIO;
	u64 e = volume_page_at(v, pgoff, MIN(max_run, 16u), false, &err);
	if (!e)
		return err;
	*gpa = VOLUME_GPA(e);
	*run = 0;
	do {
		if (write)
			volume_set_dirty(v, pgoff + *run, e, PG_STORES);
		frame_get(VOLUME_GPA(e));
		++*run;
		e = pagetree_get(&v->pages, pgoff + *run);
	} while (*run < max_run && e && VOLUME_GPA(e).v == gpa->v + *run * PAGE_SIZE);
	return 0;
}
