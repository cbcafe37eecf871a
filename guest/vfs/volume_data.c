/* SPDX-License-Identifier: ISC */
/*
 * Contents of files on volumes: the page cache, reads, writes, write-back.
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
#include <linux/falloc.h>

#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/volume.h"

enum { PG_PRESENT = 1, PG_DIRTY = 2, PG_STORES = 4 /* mapped for writing */ };
#define PG_GPA(e)  GPA((e)&PAGE_MASK)
#define SEND_AT	   256u /* dirty pages that are sent without waiting for a doorbell */
#define MAX_ORDER  6u /* frames in one transfer: 256 KiB */
#define MIN_WINDOW 4u

static struct list with_pages = LIST_INIT(with_pages); /* vnode.cached, oldest first */
static u64 n_pages; /* in all trees */

/* --- the cache ------------------------------------------------------------------ */

static void forget_page(struct vnode *v, u64 index, u64 entry)
{
	pagetree_set(&v->pages, index, 0);
	n_pages--;
	if (entry & PG_DIRTY)
		v->n_dirty--;
	frame_put(PG_GPA(entry));
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

		if (!(e & PG_DIRTY) && frame_refs(PG_GPA(e)) == 1)
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
	frame_put(PG_GPA(entry));
}

/* At eviction: nothing is dirty any more, and the list holds no reference. */
void volume_free_pages(struct vnode *v)
{
	pagetree_remove(&v->pages, 0, ~0ull, free_entry, v);
	list_del(&v->cached);
}

static void set_dirty(struct vnode *v, u64 index, u64 entry, u64 flags)
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

/* --- from the host ------------------------------------------------------------------ */

static u32 read_handle(const struct vnode *v)
{
	return v->wh != RING_NO_HANDLE ? v->wh : v->rh;
}

/* Frames for n pages, or fewer. */
static gpa_t alloc_run(u32 *n, bool zero)
{
	u32 order = 0;

	while (1u << order < *n && order < MAX_ORDER)
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
			       .handle = read_handle(v),
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
static u64 page_at(struct vnode *v, u64 index, u32 window, bool may_sleep, int *err)
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

		if (!(e & PG_DIRTY) || PG_GPA(e).v != PG_GPA(entry).v + n * PAGE_SIZE)
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
		if (e & PG_STORES && frame_refs(PG_GPA(e)) > 2) {
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
			if (!send_pages(v, i, PG_GPA(e), n)) {
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
static int settle(struct vnode *v)
{
	wait_event(&v->flight_wait, !v->n_flight, NO_DEADLINE, false);
	int err = v->error;
	v->error = 0;
	return err;
}

/* close(): whoever wrote learns what became of it. */
static int volume_flush(struct file *f)
{
	struct vnode *v = vnode(f->inode);

	if (!CAN_WRITE(f) || v->wh == RING_NO_HANDLE || !(v->wrote || v->n_flight || v->error))
		return 0;
	volume_refresh(v); /* sends; and the next open knows its own mtime */
	return settle(v);
}

/* --- opening ------------------------------------------------------------------------------ */

static void release(struct file *f)
{
	struct vnode *v = vnode(f->inode);

	if (--v->n_open)
		return;
	v->n_open++; /* sending needs the handle */
	volume_send(v);
	if (v->wrote && v->wh != RING_NO_HANDLE)
		volume_refresh(v); /* so that the next open knows its own mtime */
	if (--v->n_open == 0 && !v->n_dirty)
		volume_close_handles(v);
}

int volume_open_file(struct vnode *v, struct file *f)
{
	bool write = CAN_WRITE(f);
	u32 *h = write ? &v->wh : &v->rh;

	if (*h == RING_NO_HANDLE && (write || v->wh == RING_NO_HANDLE)) {
		struct vpath p;
		u64 handle = 0;
		int err = volume_path(v, NULL, 0, &p);

		if (err)
			return err;
		struct ring_sqe sqe = {.op = RING_OP_VOL_OPEN,
				       .handle = RING_VOL_BASE + v->vol->id,
				       .arg = write ? O_RDWR : O_RDONLY,
				       .addr = ring_buf_gpa(p.p).v,
				       .len = p.len};
		s64 r = ring_call(&sqe, &handle, NULL);
		kfree(p.p);
		if (r)
			return (int)r;
		if (*h == RING_NO_HANDLE)
			*h = (u32)handle;
		else
			volume_close_handle((u32)handle); /* another thread was first */
	}
	v->n_open++;
	f->ops = &volume_fops;
	return 0;
}

/* --- reading and writing --------------------------------------------------------------------- */

/* How many pages to ask for at index: more each time reads follow one another. */
static u32 read_window(struct vnode *v, u64 index, u64 left)
{
	u32 need = (u32)MIN(PAGE_UP(left) / PAGE_SIZE + 1, 1u << MAX_ORDER);

	if (index == v->next_read)
		v->window = MIN(MAX(v->window * 2, MIN_WINDOW), 1u << MAX_ORDER);
	else
		v->window = 1;
	return MAX(v->window, need);
}

static s64 volume_read(struct file *f, struct uio *u, u64 *pos)
{
	struct vnode *v = vnode(f->inode);
	s64 done = 0;

	if (*pos + u->left > v->size && u->left && !volume_is_fresh(v) && !v->wrote)
		volume_refresh(v); /* the host may have made it longer */
	while (u->left && *pos < v->size) {
		u64 index = *pos / PAGE_SIZE, at = *pos % PAGE_SIZE;
		u64 n = MIN(MIN(PAGE_SIZE - at, u->left), v->size - *pos);
		int err = 0;
		u64 e = pagetree_get(&v->pages, index);

		if (!e)
			e = page_at(v, index, read_window(v, index, u->left), true, &err);
		if (err)
			return done ? done : err;
		/* the copy may fault and a fault may fill pages, but it evicts none */
		u64 got = uio_put(u, (u8 *)frame_ptr(PG_GPA(e)) + at, n);
		*pos += got;
		done += (s64)got;
		v->next_read = index + 1;
		if (got < n)
			return done ? done : -EFAULT;
	}
	return done;
}

/* The entry of the page that [pos, pos+n) of a write goes to. */
static u64 page_for_write(struct vnode *v, u64 pos, u64 left, int *err)
{
	u64 index = pos / PAGE_SIZE, e = pagetree_get(&v->pages, index);
	bool whole = pos % PAGE_SIZE == 0 && left >= PAGE_SIZE;

	if (e)
		return e;
	if (!whole && index * PAGE_SIZE < v->size)
		return page_at(v, index, 1, true, err);
	shrink();
	/* one block of memory for what follows, so that it is sent in one piece */
	u32 want = whole ? (u32)MIN(left / PAGE_SIZE, 1u << MAX_ORDER) : 1, have = want;
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

static int volume_fsync(struct file *f, bool data_only)
{
	struct vnode *v = vnode(f->inode);

	volume_send(v);
	struct ring_sqe sqe = {.op = RING_OP_VOL_FSYNC, .handle = read_handle(v), .arg = data_only};
	s64 r = ring_call(&sqe, NULL, NULL);
	int err = settle(v);
	return err ? err : (int)r;
}

static s64 volume_write(struct file *f, struct uio *u, u64 *pos)
{
	struct vnode *v = vnode(f->inode);
	s64 done = 0;

	if (v->error && !v->n_flight)
		return settle(v); /* of an earlier write */
	if (f->flags & O_APPEND) {
		if (!v->wrote)
			volume_refresh(v);
		*pos = v->size;
	}
	if (u->left && *pos > (u64)INT64_MAX - u->left)
		return -EFBIG;
	while (u->left) {
		u64 at = *pos % PAGE_SIZE, n = MIN(PAGE_SIZE - at, u->left);
		int err = 0;
		u64 e = page_for_write(v, *pos, u->left, &err);

		if (!e)
			return done ? done : err;
		set_dirty(v, *pos / PAGE_SIZE, e, 0); /* before the copy: it is not to be evicted */
		u64 got = uio_get(u, (u8 *)frame_ptr(PG_GPA(e)) + at, n);
		*pos += got;
		done += (s64)got;
		v->size = MAX(v->size, *pos);
		if (v->n_dirty >= SEND_AT) {
			volume_send(v);
			ring_flush();
		}
		if (got < n) { /* pages entered for the rest hold nothing */
			pagetree_remove(&v->pages, PAGE_UP(v->size) / PAGE_SIZE, ~0ull, free_entry, v);
			break;
		}
	}
	if (v->n_dirty)
		ring_defer(&v->send);
	if (done && f->flags & O_DSYNC) { /* O_SYNC contains it */
		int err = volume_fsync(f, !(f->flags & (O_SYNC & ~O_DSYNC)));
		if (err)
			return err;
	}
	return done ? done : u->left ? -EFAULT : 0;
}

/* Zero [from, to) of the pages that are cached. */
static void zero_cached(struct vnode *v, u64 from, u64 to)
{
	for (u64 i = pagetree_next(&v->pages, from / PAGE_SIZE); i != ~0ull && i * PAGE_SIZE < to;
	     i = pagetree_next(&v->pages, i + 1)) {
		u64 lo = MAX(from, i * PAGE_SIZE), hi = MIN(to, (i + 1) * PAGE_SIZE);

		memset((u8 *)frame_ptr(PG_GPA(pagetree_get(&v->pages, i))) + lo % PAGE_SIZE, 0, hi - lo);
	}
}

int volume_truncate(struct vnode *v, u64 size)
{
	u32 h = v->wh;
	u64 handle = 0;
	s64 r;

	if (!IS_REG(&v->i))
		return -EINVAL;
	if (h == RING_NO_HANDLE) { /* truncate(2) of a file that nobody has open for writing */
		struct vpath p;
		int err = volume_path(v, NULL, 0, &p);

		if (err)
			return err;
		struct ring_sqe sqe = {.op = RING_OP_VOL_OPEN,
				       .handle = RING_VOL_BASE + v->vol->id,
				       .arg = O_WRONLY,
				       .addr = ring_buf_gpa(p.p).v,
				       .len = p.len};
		r = ring_call(&sqe, &handle, NULL);
		kfree(p.p);
		if (r)
			return (int)r;
		h = (u32)handle;
	}
	volume_send(v);
	v->changed = ++volume_clock;
	struct ring_sqe sqe = {.op = RING_OP_VOL_TRUNCATE, .handle = h, .off = size};
	r = ring_call(&sqe, NULL, NULL);
	if (h != v->wh)
		volume_close_handle(h);
	if (r)
		return (int)r;
	v->gen++;
	v->wrote = true;
	if (size < v->size) {
		zero_cached(v, size, PAGE_UP(size));
		v->size = size;
		mm_truncate_inode(&v->i, size);
		pagetree_remove(&v->pages, PAGE_UP(size) / PAGE_SIZE, ~0ull, free_entry, v);
	}
	v->size = size;
	return 0;
}

static s64 volume_fallocate(struct file *f, int mode, u64 off, u64 len)
{
	struct vnode *v = vnode(f->inode);

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP; /* ranges that move would have to move in the cache */
	volume_send(v);
	v->changed = ++volume_clock;
	struct ring_sqe sqe = {
		.op = RING_OP_VOL_FALLOCATE, .handle = v->wh, .arg = (u32)mode, .off = off, .addr2 = len};
	s64 r = ring_call(&sqe, NULL, NULL);
	if (r)
		return r;
	v->gen++;
	v->wrote = true;
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		zero_cached(v, off, off + len);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		v->size = MAX(v->size, off + len);
	return 0;
}

const struct file_ops volume_fops = {
	.read = volume_read,
	.write = volume_write,
	.lseek = generic_lseek,
	.fsync = volume_fsync,
	.fallocate = volume_fallocate,
	.release = release,
	.flush = volume_flush,
};

/* --- mappings ----------------------------------------------------------------------------------- */

int volume_get_page(struct inode *ino, u64 pgoff, bool write, u32 max_run, gpa_t *gpa, u32 *run)
{
	struct vnode *v = vnode(ino);
	int err = 0;

	if (pgoff >= PAGE_UP(v->size) / PAGE_SIZE)
		return -ENXIO;
	u64 e = page_at(v, pgoff, MIN(max_run, 16u), false, &err);
	if (!e)
		return err;
	*gpa = PG_GPA(e);
	*run = 0;
	do {
		if (write)
			set_dirty(v, pgoff + *run, e, PG_STORES);
		frame_get(PG_GPA(e));
		++*run;
		e = pagetree_get(&v->pages, pgoff + *run);
	} while (*run < max_run && e && PG_GPA(e).v == gpa->v + *run * PAGE_SIZE);
	return 0;
}
