/* SPDX-License-Identifier: ISC */
/*
 * Contents of memory files: pages as frames, image bytes in place beneath.
 *
 * A page is, in this order: its entry in the page tree (a frame, or PG_HOLE =
 * zeros); image bytes below lower->limit; zeros. Reads of image bytes are one
 * memcpy from the window however long. A frame is made by the first write to a
 * page, by a mapping of a hole, or (PG_CLEAN) by a mapping of an image page
 * that cannot be used in place: a tail that is not page aligned, or one that
 * truncation cut.
 *
 * Copies from and to the app may fault, and the fault may call memfs_get_page()
 * on the same file: so a frame is in the tree before data is copied to it, and
 * a frame's pointer is used only while nothing can free it (no sleeping point
 * in between). mm_truncate_inode() takes pages out of mappings before they go,
 * mm_forget_image_page() an image page before a frame replaces it.
 */
#include <linux/falloc.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "guest/mm/frame.h"
#include "guest/proc/proc.h"
#include "guest/vfs/memfs.h"

#define SIZE_MAX_ (1ull << 46) /* largest file: 64 TiB */

enum { SEEK_DATA_ = 3, SEEK_HOLE_ = 4 };

static gpa_t entry_gpa(u64 e)
{
	return GPA(e & PAGE_MASK);
}

static void put_entry(u64 e, void *arg)
{
	if (e & PG_PRESENT)
		frame_put(entry_gpa(e));
}

void memfs_free_pages(struct mnode *m)
{
	pagetree_remove(&m->pages, 0, ~0ull, put_entry, NULL);
}

/* Image bytes from `off`: pointer and count below the limit; NULL if there are none. */
static const void *image_bytes(struct mnode *m, u64 off, u64 *n)
{
	struct lower *lo = m->lower;

	if (!lo || off >= lo->limit)
		return NULL;
	const void *p = erofs_data(&memfs_layers[lo->layer].fs, &lo->ei, off, n);
	if (p)
		*n = MIN(*n, lo->limit - off);
	return p;
}

/* Fill a fresh zeroed page with what the image has for it. */
static void fill_from_image(struct mnode *m, u64 pgoff, u8 *page)
{
	u64 n, done = 0;
	const void *p;

	while (done < PAGE_SIZE && (p = image_bytes(m, pgoff * PAGE_SIZE + done, &n))) {
		n = MIN(n, PAGE_SIZE - done);
		memcpy(page + done, p, n);
		done += n;
	}
}

/* The image page itself, if it can stand for the file's page; *run = how many follow. */
static bool image_page(struct mnode *m, u64 pgoff, u32 max_run, gpa_t *gpa, u32 *run)
{
	struct lower *lo = m->lower;
	u64 off = pgoff * PAGE_SIZE;

	if (!lo || off >= lo->limit || off >= lo->ei.plain || lo->ei.data_off % PAGE_SIZE)
		return false;
	const struct layer *l = &memfs_layers[lo->layer];
	u64 end = MIN(lo->ei.plain, lo->limit);
	/* a last page that ends within the file's data, or shares its block with something else, is copied */
	if (end % PAGE_SIZE && (end != lo->ei.size || l->fs.blkbits != PAGE_SHIFT))
		end = PAGE_DOWN(end);
	if (off >= end)
		return false;
	u64 n = (PAGE_UP(end) - off) / PAGE_SIZE;
	*run = (u32)MIN(n, max_run);
	if (*run > 1 && m->pages.count) {
		u64 next = pagetree_next(&m->pages, pgoff);
		if (next < pgoff + *run)
			*run = (u32)(next - pgoff);
	}
	*gpa = GPA(l->gpa + lo->ei.data_off + off);
	return true;
}

/* 2^order frames for file contents, which leave the library OS's reserve alone. */
static gpa_t page_alloc(unsigned order, bool zero)
{
	bool dirty = true;
	gpa_t g = frame_alloc_user(order, &dirty);

	if (g.v != GPA_NONE.v && zero && dirty)
		memset(frame_ptr(g), 0, PAGE_SIZE << order);
	return g;
}

/* Give the page a frame of its own with its present contents, for writing if `write`. -ENOMEM. */
static int own_page(struct mnode *m, u64 pgoff, bool write, bool keep, u64 *entry)
{
	u64 e = pagetree_get(&m->pages, pgoff);

	if (e & PG_PRESENT) {
		if (write && e & PG_CLEAN) {
			e &= ~(u64)PG_CLEAN;
			pagetree_set(&m->pages, pgoff, e);
		}
		*entry = e;
		return 0;
	}
	gpa_t g = page_alloc(0, keep);
	if (g.v == GPA_NONE.v)
		return -ENOMEM;
	bool image = m->lower && !(e & PG_HOLE) && pgoff * PAGE_SIZE < m->lower->limit;
	gpa_t place;
	u32 run;
	if (image && write && !list_empty(&m->i.mappings) && image_page(m, pgoff, 1, &place, &run) &&
	    mm_forget_image_page(&m->i, pgoff, place)) {
		frame_put(g);
		return -ENOMEM;
	}
	if (image && keep)
		fill_from_image(m, pgoff, frame_ptr(g));
	e = g.v | PG_PRESENT | (image && !write ? PG_CLEAN : 0);
	if (!pagetree_set(&m->pages, pgoff, e)) {
		frame_put(g);
		return -ENOMEM;
	}
	*entry = e;
	return 0;
}

/*
 * A hole that is mapped for writing: fill as much of it as was asked for with
 * contiguous frames, so that it is mapped in one piece. Pages done (0: none).
 */
static u32 fill_hole(struct mnode *m, u64 pgoff, u32 max_run, gpa_t *gpa)
{
	u64 next = m->pages.count ? pagetree_next(&m->pages, pgoff) : ~0ull;
	u64 n = MIN(MIN((u64)max_run, PAGE_UP(m->size) / PAGE_SIZE - pgoff), MIN(next - pgoff, 512ull));
	unsigned order = 63 - (unsigned)__builtin_clzll(n | 1);

	while (order && (gpa->v = page_alloc(order, true).v) == GPA_NONE.v)
		order--;
	if (!order)
		return 0;
	for (u32 i = 0; i < 1u << order; i++) {
		if (!pagetree_set(&m->pages, pgoff + i, (gpa->v + i * PAGE_SIZE) | PG_PRESENT)) {
			frame_put_run(GPA(gpa->v + i * PAGE_SIZE), (1u << order) - i);
			return i;
		}
	}
	return 1u << order;
}

int memfs_get_page(struct inode *ino, u64 pgoff, bool write, u32 max_run, gpa_t *gpa, u32 *run)
{
	struct mnode *m = mnode(ino);
	u64 e;

	if (pgoff >= PAGE_UP(m->size) / PAGE_SIZE)
		return -ENXIO;
	if (!m->pages.count && !write && image_page(m, pgoff, max_run, gpa, run))
		return 0;
	e = m->pages.count ? pagetree_get(&m->pages, pgoff) : 0;
	if (!e && !write && image_page(m, pgoff, max_run, gpa, run))
		return 0;
	if (!e && write && max_run > 1 && (!m->lower || pgoff * PAGE_SIZE >= m->lower->limit)) {
		u32 n = fill_hole(m, pgoff, max_run, gpa);
		if (n) {
			memfs_dirty(m);
			frame_get_run(*gpa, n);
			*run = n;
			return 0;
		}
	}
	int err = own_page(m, pgoff, write, true, &e);
	if (err)
		return err;
	if (write)
		memfs_dirty(m);
	*gpa = entry_gpa(e);
	*run = 1;
	frame_get(*gpa);
	/* neighbours that happen to be contiguous */
	while (*run < max_run) {
		u64 next = pagetree_get(&m->pages, pgoff + *run);
		if (!(next & PG_PRESENT) || entry_gpa(next).v != gpa->v + *run * PAGE_SIZE ||
		    (write && next & PG_CLEAN))
			break;
		frame_get(entry_gpa(next));
		++*run;
	}
	return 0;
}

/* --- read and write ---------------------------------------------------------------- */

static s64 memfs_read(struct file *f, struct uio *u, u64 *pos)
{
	struct mnode *m = mnode(f->inode);
	u64 off = *pos, done = 0;

	while (u->left && off < m->size) {
		u64 want = MIN(u->left, m->size - off), n, got;
		u64 in_page = MIN(want, PAGE_SIZE - off % PAGE_SIZE);
		u64 e = m->pages.count ? pagetree_get(&m->pages, off / PAGE_SIZE) : 0;
		const u8 *p;
		if (e & PG_PRESENT) {
			want = in_page;
			got = uio_put(u, (u8 *)frame_ptr(entry_gpa(e)) + off % PAGE_SIZE, want);
		} else if (!e && (p = image_bytes(m, off, &n))) {
			want = MIN(want, n);
			if (m->pages.count) {
				u64 next = pagetree_next(&m->pages, off / PAGE_SIZE);
				if (next != ~0ull && next * PAGE_SIZE - off < want)
					want = next * PAGE_SIZE - off;
			}
			got = uio_put(u, p, want);
		} else {
			want = in_page;
			got = uio_zero(u, want);
		}
		done += got;
		off += got;
		if (got < want) {
			if (!done)
				return -EFAULT;
			break;
		}
	}
	*pos = off;
	return (s64)done;
}

static s64 memfs_write(struct file *f, struct uio *u, u64 *pos)
{
	struct mnode *m = mnode(f->inode);
	u64 off = f->flags & O_APPEND ? m->size : *pos, done = 0;
	s64 err = 0;

	if (unlikely(m->seals) && (m->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) ||
				   (m->seals & F_SEAL_GROW && off + u->left > m->size)))
		return -EPERM;
	if (off >= SIZE_MAX_)
		return u->left ? -EFBIG : 0;
	if (u->left)
		memfs_dirty(m);
	while (u->left) {
		u64 in = off % PAGE_SIZE, want = MIN(u->left, PAGE_SIZE - in), e;
		bool whole = want == PAGE_SIZE && !pagetree_get(&m->pages, off / PAGE_SIZE);
		if (own_page(m, off / PAGE_SIZE, true, !whole, &e)) {
			err = -ENOSPC;
			break;
		}
		u8 *page = frame_ptr(entry_gpa(e));
		u64 got = uio_get(u, page + in, want);
		if (whole && got < want)
			memset(page + got, 0, want - got);
		done += got;
		off += got;
		if (off > m->size)
			m->size = off;
		if (got < want) {
			err = -EFAULT;
			break;
		}
	}
	if (!done)
		return err;
	memfs_touch(m);
	/* as Linux: writing takes setuid away from who is not root */
	if (unlikely(f->inode->mode & 06000) && vfs_cred().uid)
		f->inode->mode &= ~(S_ISUID | (f->inode->mode & S_IXGRP ? S_ISGID : 0));
	*pos = off;
	return (s64)done;
}

/* --- sizes and holes ------------------------------------------------------------------ */

/* Make [from, to) within one page zero. */
static int zero_part(struct mnode *m, u64 from, u64 to)
{
	u64 pg = from / PAGE_SIZE, n, e = pagetree_get(&m->pages, pg);

	if (from >= to || (!(e & PG_PRESENT) && (e & PG_HOLE || !image_bytes(m, from, &n))))
		return 0;
	int err = own_page(m, pg, true, true, &e);
	if (err)
		return err;
	memset((u8 *)frame_ptr(entry_gpa(e)) + from % PAGE_SIZE, 0, to - from);
	return 0;
}

int memfs_truncate(struct mnode *m, u64 size)
{
	if (size > SIZE_MAX_)
		return -EFBIG;
	if (m->seals &&
	    ((m->seals & F_SEAL_SHRINK && size < m->size) || (m->seals & F_SEAL_GROW && size > m->size)))
		return -EPERM;
	if (size < m->size) {
		u64 first = PAGE_UP(size) / PAGE_SIZE;
		int err = size % PAGE_SIZE ? zero_part(m, size, PAGE_UP(size)) : 0;
		if (err)
			return err;
		m->size = size;
		mm_truncate_inode(&m->i, PAGE_UP(size));
		pagetree_remove(&m->pages, first, ~0ull, put_entry, NULL);
		if (m->lower && m->lower->limit > size)
			m->lower->limit = size;
	}
	m->size = size;
	memfs_dirty(m);
	return 0;
}

/* Whole pages [first, last) become zeros without memory. */
static int drop_pages(struct mnode *m, u64 first, u64 last)
{
	if (first >= last)
		return 0;
	mm_punch_inode(&m->i, first * PAGE_SIZE, last * PAGE_SIZE);
	pagetree_remove(&m->pages, first, last - 1, put_entry, NULL);
	u64 image_end = m->lower ? PAGE_UP(m->lower->limit) / PAGE_SIZE : 0;
	for (u64 pg = first; pg < MIN(last, image_end); pg++)
		if (!pagetree_set(&m->pages, pg, PG_HOLE))
			return -ENOMEM;
	return 0;
}

static int punch(struct mnode *m, u64 off, u64 end)
{
	u64 first = PAGE_UP(off), last = PAGE_DOWN(end);
	int err;

	if (first > last) /* inside one page */
		return zero_part(m, off, end);
	if ((err = zero_part(m, off, first)) || (err = zero_part(m, last, end)))
		return err;
	return drop_pages(m, first / PAGE_SIZE, last / PAGE_SIZE);
}

static s64 memfs_fallocate(struct file *f, int mode, u64 off, u64 len)
{
	struct mnode *m = mnode(f->inode);
	u64 end = off + len, e;
	int err = 0;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (mode & FALLOC_FL_PUNCH_HOLE && (!(mode & FALLOC_FL_KEEP_SIZE) || mode & FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (end > SIZE_MAX_)
		return -EFBIG;
	if (m->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) && mode & ~FALLOC_FL_KEEP_SIZE)
		return -EPERM;
	if (m->seals & F_SEAL_GROW && end > m->size && !(mode & FALLOC_FL_KEEP_SIZE))
		return -EPERM;
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		err = punch(m, off, MIN(end, PAGE_UP(m->size)) > off ? MIN(end, PAGE_UP(m->size)) : off);
	if (!err && !(mode & FALLOC_FL_PUNCH_HOLE)) {
		if (len / PAGE_SIZE > frames_free())
			return -ENOSPC;
		for (u64 pg = off / PAGE_SIZE; pg < PAGE_UP(end) / PAGE_SIZE && !err; pg++)
			if (own_page(m, pg, true, true, &e))
				err = -ENOSPC;
		if (!err && !(mode & FALLOC_FL_KEEP_SIZE) && end > m->size)
			m->size = end;
	}
	memfs_dirty(m);
	memfs_touch(m);
	return err;
}

/* First byte >= off that is data (or a hole); -ENXIO beyond the end. Granularity: a page. */
s64 memfs_seek_data(struct inode *ino, u64 off, bool hole)
{
	struct mnode *m = mnode(ino);

	if (off >= m->size)
		return -ENXIO;
	u64 pg = off / PAGE_SIZE, end = PAGE_UP(m->size) / PAGE_SIZE;
	u64 image_end = m->lower ? PAGE_UP(m->lower->limit) / PAGE_SIZE : 0;
	for (; pg < end; pg++) {
		u64 e = pagetree_get(&m->pages, pg);
		bool data = e & PG_PRESENT || (!e && pg < image_end);
		if (data != hole)
			return (s64)MAX(off, pg * PAGE_SIZE);
		if (!e && pg >= image_end && !hole) { /* jump over a wide hole */
			u64 next = pagetree_next(&m->pages, pg);
			if (next == ~0ull)
				break;
			pg = next - 1;
		}
	}
	return hole ? (s64)m->size : -ENXIO;
}

static s64 memfs_lseek(struct file *f, s64 off, int whence)
{
	if (whence != SEEK_DATA_ && whence != SEEK_HOLE_)
		return generic_lseek(f, off, whence);
	if (off < 0)
		return -ENXIO;
	s64 r = memfs_seek_data(f->inode, (u64)off, whence == SEEK_HOLE_);
	if (r >= 0)
		f->pos = (u64)r;
	return r;
}

static int memfs_fsync(struct file *f, bool data_only)
{
	return 0; /* memory is all that there is */
}

/* A sealed file is not mapped for writing. */
static int memfs_mmap(struct file *f, struct vma *v)
{
	if (!(mnode(f->inode)->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) || !(v->flags & MAP_SHARED))
		return 0;
	if (v->prot & PROT_WRITE)
		return -EPERM;
	v->flags |= VMA_SEALED;
	return 0;
}

const struct file_ops memfs_fops = {
	.mmap = memfs_mmap,
	.read = memfs_read,
	.write = memfs_write,
	.lseek = memfs_lseek,
	.fallocate = memfs_fallocate,
	.fsync = memfs_fsync,
};

/* --- memfd seals --------------------------------------------------------------------------- */

u32 memfs_seals(struct inode *ino)
{
	return mnode(ino)->seals;
}

int memfs_add_seals(struct inode *ino, u32 seals)
{
	struct mnode *m = mnode(ino);

	if (seals & ~(u32)(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EINVAL;
	if (m->seals & F_SEAL_SEAL)
		return -EPERM;
	if (seals & F_SEAL_WRITE)
		list_for_each (it, &ino->mappings) {
			struct vma *v = list_entry(it, struct vma, mapping);
			if (v->flags & MAP_SHARED && !(v->flags & VMA_SEALED) && v->file &&
			    CAN_WRITE(v->file))
				return -EBUSY;
		}
	m->seals |= seals;
	return 0;
}
