/* SPDX-License-Identifier: ISC */
/*
 * Files on volumes: opening, reading, writing, closing, truncating. The pages
 * and how they get to the host are volume_pages.c's.
 */
#include <linux/falloc.h>

#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/volume.h"

#define SEND_AT	   256u /* dirty pages that are sent without waiting for a doorbell */
#define MIN_WINDOW 4u

/* close(): whoever wrote learns what became of it. */
static int volume_flush(struct file *f)
{
	struct vnode *v = vnode(f->inode);

	if (!CAN_WRITE(f) || v->wh == RING_NO_HANDLE || !(v->wrote || v->n_flight || v->error))
		return 0;
	volume_refresh(v); /* sends; and the next open knows its own mtime */
	return volume_settle(v);
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
	u32 need = (u32)MIN(PAGE_UP(left) / PAGE_SIZE + 1, 1u << VOLUME_MAX_ORDER);

	if (index == v->next_read)
		v->window = MIN(MAX(v->window * 2, MIN_WINDOW), 1u << VOLUME_MAX_ORDER);
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
			e = volume_page_at(v, index, read_window(v, index, u->left), true, &err);
		if (err)
			return done ? done : err;
		/* the copy may fault and a fault may fill pages, but it evicts none */
		u64 got = uio_put(u, (u8 *)frame_ptr(VOLUME_GPA(e)) + at, n);
		*pos += got;
		done += (s64)got;
		v->next_read = index + 1;
		if (got < n)
			return done ? done : -EFAULT;
	}
	return done;
}

static int volume_fsync(struct file *f, bool data_only)
{
	struct vnode *v = vnode(f->inode);

	volume_send(v);
	struct ring_sqe sqe = {.op = RING_OP_VOL_FSYNC, .handle = volume_read_handle(v), .arg = data_only};
	s64 r = ring_call(&sqe, NULL, NULL);
	int err = volume_settle(v);
	return err ? err : (int)r;
}

static s64 volume_write(struct file *f, struct uio *u, u64 *pos)
{
	struct vnode *v = vnode(f->inode);
	s64 done = 0;

	if (v->error && !v->n_flight)
		return volume_settle(v); /* of an earlier write */
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
		u64 e = volume_page_for_write(v, *pos, u->left, &err);

		if (!e)
			return done ? done : err;
		volume_set_dirty(v, *pos / PAGE_SIZE, e, 0); /* before the copy: it is not to be evicted */
		u64 got = uio_get(u, (u8 *)frame_ptr(VOLUME_GPA(e)) + at, n);
		*pos += got;
		done += (s64)got;
		v->size = MAX(v->size, *pos);
		if (v->n_dirty >= SEND_AT) {
			volume_send(v);
			ring_flush();
		}
		if (got < n) { /* pages entered for the rest hold nothing */
			volume_drop_from(v, PAGE_UP(v->size) / PAGE_SIZE);
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
		volume_zero_cached(v, size, PAGE_UP(size));
		v->size = size;
		mm_truncate_inode(&v->i, size);
		volume_drop_from(v, PAGE_UP(size) / PAGE_SIZE);
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
		volume_zero_cached(v, off, off + len);
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
