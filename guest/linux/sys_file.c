/* SPDX-License-Identifier: ISC */
/* System calls that move bytes: read, write and their relatives; positions, sizes, syncing. */
#include <linux/fadvise.h>
#include <linux/fs.h>

#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

#define MAX_RW 0x7ffff000ull

static inline u64 *pos_of(struct file *f)
{
	return f->ops->lseek ? &f->pos : NULL;
}

SYSCALL3(read, int, fd, void *, buf, size_t, n)
{
	struct file *f = fd_get(fd);
	struct iovec iov;
	struct uio u;

	if (unlikely(!f))
		return -EBADF;
	uio_single(&u, &iov, buf, MIN(n, MAX_RW), false);
	s64 r = file_read(f, &u, pos_of(f));
	file_put(f);
	return r;
}

SYSCALL3(write, int, fd, const void *, buf, size_t, n)
{
	struct file *f = fd_get(fd);
	struct iovec iov;
	struct uio u;

	if (unlikely(!f))
		return -EBADF;
	uio_single(&u, &iov, (void *)buf, MIN(n, MAX_RW), false);
	s64 r = file_write(f, &u, pos_of(f));
	file_put(f);
	return r;
}

static s64 do_prw(int fd, void *buf, size_t n, s64 off, bool write)
{
	struct file *f = fd_get(fd);
	struct iovec iov;
	struct uio u;
	u64 pos = (u64)off;
	s64 r;

	if (off < 0) {
		if (f)
			file_put(f);
		return f ? -EINVAL : -EBADF;
	}
	if (!f)
		return -EBADF;
	uio_single(&u, &iov, buf, MIN(n, MAX_RW), false);
	if (!f->ops->lseek)
		r = f->flags & O_PATH ? -EBADF : -ESPIPE;
	else
		r = write ? file_write(f, &u, &pos) : file_read(f, &u, &pos);
	file_put(f);
	return r;
}

SYSCALL4(pread64, int, fd, void *, buf, size_t, n, s64, off)
{
	return do_prw(fd, buf, n, off, false);
}

SYSCALL4(pwrite64, int, fd, const void *, buf, size_t, n, s64, off)
{
	return do_prw(fd, (void *)buf, n, off, true);
}

/* --- vectors -------------------------------------------------------------------- */

enum { IOV_FAST = 8, IOV_MAX = 1024 };

/* Copy the vector in; *heap to be freed. Cuts the total at MAX_RW. */
static int import_iov(struct uio *u, struct iovec *fast, struct iovec **heap, const struct iovec *user, u64 n)
{
	struct iovec *v = fast;
	u64 total = 0;

	*heap = NULL;
	if (n > IOV_MAX)
		return -EINVAL;
	if (n > IOV_FAST && !(v = *heap = kmalloc(n * sizeof(*v))))
		return -ENOMEM;
	if (copy_in(v, user, n * sizeof(*v))) {
		kfree(*heap);
		return -EFAULT;
	}
	for (u64 i = 0; i < n; i++) {
		if ((s64)v[i].iov_len < 0) {
			kfree(*heap);
			return -EINVAL;
		}
		v[i].iov_len = MIN(v[i].iov_len, MAX_RW - total);
		total += v[i].iov_len;
	}
	*u = (struct uio){.iov = v, .n_iov = (u32)n, .left = total};
	return 0;
}

/* off -1: the file's own position. flags: RWF_*. */
static s64 do_rwv(int fd, const struct iovec *user, u64 n, s64 off, u32 rwf, bool write)
{
	struct file *f = fd_get(fd);
	struct iovec fast[IOV_FAST], *heap;
	struct uio u;
	u64 pos = (u64)off;

	if (!f)
		return -EBADF;
	s64 r = import_iov(&u, fast, &heap, user, n);
	if (r) {
		file_put(f);
		return r;
	}
	u32 keep = f->flags;
	if (rwf & RWF_APPEND && write)
		f->flags |= O_APPEND;
	if (rwf & RWF_NOWAIT)
		f->flags |= O_NONBLOCK;
	u64 *p = off == -1 ? pos_of(f) : &pos;
	if (off != -1 && !f->ops->lseek)
		r = f->flags & O_PATH ? -EBADF : -ESPIPE;
	else
		r = write ? file_write(f, &u, p) : file_read(f, &u, p);
	if (rwf & (RWF_APPEND | RWF_NOWAIT))
		f->flags = (f->flags & ~(u32)(O_APPEND | O_NONBLOCK)) | (keep & (O_APPEND | O_NONBLOCK));
	if (r >= 0 && write && rwf & (RWF_SYNC | RWF_DSYNC) && f->ops->fsync)
		f->ops->fsync(f, !(rwf & RWF_SYNC));
	kfree(heap);
	file_put(f);
	return r;
}

SYSCALL3(readv, int, fd, const struct iovec *, v, u64, n)
{
	return do_rwv(fd, v, n, -1, 0, false);
}

SYSCALL3(writev, int, fd, const struct iovec *, v, u64, n)
{
	return do_rwv(fd, v, n, -1, 0, true);
}

SYSCALL4(preadv, int, fd, const struct iovec *, v, u64, n, s64, off)
{
	return off < 0 ? -EINVAL : do_rwv(fd, v, n, off, 0, false);
}

SYSCALL4(pwritev, int, fd, const struct iovec *, v, u64, n, s64, off)
{
	return off < 0 ? -EINVAL : do_rwv(fd, v, n, off, 0, true);
}

static s64 do_rwv2(int fd, const struct iovec *v, u64 n, s64 off, u32 flags, bool write)
{
	if (flags & ~(u32)(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND))
		return -EOPNOTSUPP;
	return off < -1 ? -EINVAL : do_rwv(fd, v, n, off, flags, write);
}

SYSCALL6(preadv2, int, fd, const struct iovec *, v, u64, n, s64, off, u64, hi, u32, flags)
{
	return do_rwv2(fd, v, n, off, flags, false);
}

SYSCALL6(pwritev2, int, fd, const struct iovec *, v, u64, n, s64, off, u64, hi, u32, flags)
{
	return do_rwv2(fd, v, n, off, flags, true);
}

/* --- positions and sizes ------------------------------------------------------------ */

SYSCALL3(lseek, int, fd, s64, off, int, whence)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = f->flags & O_PATH ? -EBADF : f->ops->lseek ? f->ops->lseek(f, off, whence) : -ESPIPE;
	file_put(f);
	return r;
}

SYSCALL2(ftruncate, int, fd, s64, size)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = size < 0 || !CAN_WRITE(f) || !f->inode || !IS_REG(f->inode) ? -EINVAL : 0;
	if (f->flags & O_PATH)
		r = -EBADF;
	if (!r && (u64)size > current->proc->rlim[RLIMIT_FSIZE].rlim_cur) {
		signal_thread(current, SIGXFSZ, NULL);
		r = -EFBIG;
	}
	if (!r)
		r = vfs_truncate(f->inode, (u64)size);
	if (!r)
		notify(f->dentry, 2 /* IN_MODIFY */);
	file_put(f);
	return r;
}

SYSCALL4(fallocate, int, fd, int, mode, s64, off, s64, len)
{
	struct file *f = fd_get(fd);
	s64 r, end;

	if (!f)
		return -EBADF;
	if (off < 0 || len <= 0)
		r = -EINVAL;
	else if (__builtin_add_overflow(off, len, &end))
		r = -EFBIG;
	else if (!CAN_WRITE(f))
		r = -EBADF;
	else if (!f->inode || !f->ops->fallocate)
		r = f->inode && S_IFMT_(f->inode->mode) == S_IFIFO ? -ESPIPE : f->inode ? -ENODEV : -ESPIPE;
	else
		r = f->ops->fallocate(f, mode, (u64)off, (u64)len);
	file_put(f);
	return r;
}

SYSCALL4(fadvise64, int, fd, s64, off, s64, len, int, advice)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = advice < 0 || advice > POSIX_FADV_NOREUSE || len < 0 ? -EINVAL : 0;
	if (file_pipe(f))
		r = -ESPIPE;
	file_put(f);
	return r;
}

SYSCALL3(readahead, int, fd, s64, off, size_t, n)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = !CAN_READ(f) ? -EBADF : !f->inode || !IS_REG(f->inode) ? -EINVAL : 0;
	file_put(f);
	return r;
}

/* --- to stable storage ------------------------------------------------------------------ */

static s64 do_sync_fd(int fd, bool data_only)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	s64 r = f->flags & O_PATH ? -EBADF : f->ops->fsync ? f->ops->fsync(f, data_only) : -EINVAL;
	file_put(f);
	return r;
}

SYSCALL1(fsync, int, fd)
{
	return do_sync_fd(fd, false);
}

SYSCALL1(fdatasync, int, fd)
{
	return do_sync_fd(fd, true);
}

SYSCALL4(sync_file_range, int, fd, s64, off, s64, n, u32, flags)
{
	if (flags & ~7u || off < 0 || n < 0)
		return -EINVAL;
	return do_sync_fd(fd, true);
}

SYSCALL0(sync)
{
	list_for_each (it, &vfs_mounts) {
		struct superblock *sb = list_entry(it, struct superblock, node);
		if (sb->sync)
			sb->sync(sb);
	}
	return 0;
}

SYSCALL1(syncfs, int, fd)
{
	struct file *f = fd_get(fd);

	if (!f)
		return -EBADF;
	struct superblock *sb = f->inode ? f->inode->sb : NULL;
	s64 r = f->flags & O_PATH ? -EBADF : sb && sb->sync ? sb->sync(sb) : 0;
	file_put(f);
	return r;
}
