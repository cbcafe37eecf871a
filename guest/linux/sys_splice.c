/* SPDX-License-Identifier: ISC */
/*
 * Moving data between files without the app: sendfile, copy_file_range,
 * splice, tee, vmsplice. All of them copy, through a buffer of the library OS
 * (or straight from the file's pages where the source is a file in memory):
 * the point is fewer calls, and that semantics are as on Linux.
 */
#include <linux/fcntl.h>

#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

enum { CHUNK = 65536 };
#define MAX_RW 0x7ffff000ull
/* not in the uapi headers */
enum { SPLICE_F_MOVE_ = 1, SPLICE_F_NONBLOCK_ = 2, SPLICE_F_MORE_ = 4, SPLICE_F_GIFT_ = 8 };

static s64 read_buf(struct file *f, void *buf, u64 n, u64 *pos)
{
	struct iovec iov;
	struct uio u;

	uio_single(&u, &iov, buf, n, true);
	return file_read(f, &u, pos);
}

static s64 write_buf(struct file *f, void *buf, u64 n, u64 *pos)
{
	struct iovec iov;
	struct uio u;

	uio_single(&u, &iov, buf, n, true);
	return file_write(f, &u, pos);
}

/* A position: the app's variable if given, else the file's own, else none (streams). */
struct place {
	struct file *f;
	u64 *pos, value;
	s64 *user;
};

static s64 place_get(struct place *p, int fd, s64 *user)
{
	*p = (struct place){.f = fd_get(fd), .user = user};
	if (!p->f)
		return -EBADF;
	if (!user) {
		p->pos = p->f->ops->lseek ? &p->f->pos : NULL;
		return 0;
	}
	if (!p->f->ops->lseek)
		return -ESPIPE;
	if (copy_in(&p->value, user, 8))
		return -EFAULT;
	p->pos = &p->value;
	return (s64)p->value < 0 ? -EINVAL : 0;
}

static s64 place_put(struct place *p, s64 r)
{
	if (p->f && p->user && r >= 0 && p->pos && copy_out(p->user, &p->value, 8))
		r = -EFAULT;
	if (p->f)
		file_put(p->f);
	return r;
}

/* Copy n bytes; stops at end of file, at a short write, or when the source would wait after something moved. */
static s64 pump(struct place *in, struct place *out, u64 n)
{
	u64 size = MIN(n, (u64)CHUNK), done = 0;
	u8 *buf = kmalloc(size ? size : 1);
	s64 r = 0;

	if (!buf)
		return -ENOMEM;
	while (done < n) {
		u64 before = in->pos ? *in->pos : 0;
		r = read_buf(in->f, buf, MIN(size, n - done), in->pos);
		if (r <= 0)
			break;
		s64 got = r;
		r = write_buf(out->f, buf, (u64)got, out->pos);
		if (r < got && in->pos) /* what was not written is not taken */
			*in->pos = before + (u64)MAX(r, 0);
		if (r > 0)
			done += (u64)r;
		if (r < got)
			break;
		if (signal_is_pending())
			break;
	}
	kfree(buf);
	return done ? (s64)done : r;
}

SYSCALL4(sendfile, int, out_fd, int, in_fd, s64 *, uoff, size_t, n)
{
	struct place in, out;
	s64 r = place_get(&in, in_fd, uoff), r2 = place_get(&out, out_fd, NULL);

	if (!r)
		r = r2;
	if (!r && (!CAN_READ(in.f) || !CAN_WRITE(out.f)))
		r = -EBADF;
	/* the source must be something with pages; a socket or a pipe as source is splice's work */
	if (!r && !in.f->ops->lseek)
		r = -EINVAL;
	if (!r && out.f->flags & O_APPEND)
		r = -EINVAL;
	if (!r)
		r = pump(&in, &out, MIN(n, MAX_RW));
	place_put(&out, 0);
	return place_put(&in, r);
}

SYSCALL6(copy_file_range, int, in_fd, s64 *, uin, int, out_fd, s64 *, uout, size_t, n, u32, flags)
{
	struct place in, out;
	s64 r = place_get(&in, in_fd, uin), r2 = place_get(&out, out_fd, uout);

	if (!r)
		r = r2;
	if (!r && flags)
		r = -EINVAL;
	if (!r && (!CAN_READ(in.f) || !CAN_WRITE(out.f) || out.f->flags & O_APPEND))
		r = -EBADF;
	if (!r && ((in.f->inode && IS_DIR(in.f->inode)) || (out.f->inode && IS_DIR(out.f->inode))))
		r = -EISDIR;
	if (!r && (!in.f->inode || !IS_REG(in.f->inode) || !out.f->inode || !IS_REG(out.f->inode)))
		r = -EINVAL;
	if (!r && in.f->inode == out.f->inode && *in.pos < *out.pos + n && *out.pos < *in.pos + n)
		r = -EINVAL;
	if (!r)
		r = pump(&in, &out, MIN(n, MAX_RW));
	r = place_put(&out, r);
	return place_put(&in, r);
}

/* --- splice: one end is a pipe ---------------------------------------------------- */

static s64 from_pipe(struct pipe *p, struct place *out, u64 n, bool nonblock)
{
	u64 done = 0;
	u8 *buf = kmalloc(CHUNK);
	s64 r = 0;

	if (!buf)
		return -ENOMEM;
	while (done < n) {
		r = pipe_wait_data(p, nonblock || done);
		if (r <= 0)
			break;
		u64 got = pipe_peek(p, buf, MIN((u64)CHUNK, n - done));
		r = write_buf(out->f, buf, got, out->pos);
		if (r <= 0)
			break;
		pipe_consume(p, (u64)r);
		done += (u64)r;
		if ((u64)r < got)
			break;
	}
	kfree(buf);
	return done ? (s64)done : r;
}

/* One read's worth: what the source has now goes into the pipe. */
static s64 to_pipe(struct place *in, struct place *out, u64 n, bool nonblock)
{
	struct pipe *p = file_pipe(out->f);
	u32 keep = out->f->flags;
	u64 room = pipe_room(p);

	if (!room) {
		if (nonblock || out->f->flags & O_NONBLOCK)
			return -EAGAIN;
		s64 r = pipe_wait_room(p);
		if (r)
			return r;
		room = pipe_room(p);
	}
	if (nonblock)
		out->f->flags |= O_NONBLOCK;
	s64 r = pump(in, out, MIN(n, room));
	out->f->flags = keep;
	return r;
}

SYSCALL6(splice, int, in_fd, s64 *, uin, int, out_fd, s64 *, uout, size_t, n, u32, flags)
{
	struct place in, out;

	if (flags & ~(u32)(SPLICE_F_MOVE_ | SPLICE_F_NONBLOCK_ | SPLICE_F_MORE_ | SPLICE_F_GIFT_))
		return -EINVAL;
	s64 r = place_get(&in, in_fd, uin), r2 = place_get(&out, out_fd, uout);
	if (!r)
		r = r2;
	if (!r && (!CAN_READ(in.f) || !CAN_WRITE(out.f)))
		r = -EBADF;
	bool nonblock = flags & SPLICE_F_NONBLOCK_;
	n = MIN(n, MAX_RW);
	if (!r && n) {
		struct pipe *ip = file_pipe(in.f), *op = file_pipe(out.f);
		if ((ip && uin) || (op && uout))
			r = -ESPIPE;
		else if ((!ip && !op) || (ip && ip == op))
			r = -EINVAL;
		else if (ip && !op)
			r = from_pipe(ip, &out, n, nonblock || in.f->flags & O_NONBLOCK);
		else if (ip)
			r = from_pipe(ip, &out, MIN(n, MAX(pipe_room(op), 1ull)),
				      nonblock || in.f->flags & O_NONBLOCK);
		else
			r = to_pipe(&in, &out, n, nonblock);
	}
	r = place_put(&out, r);
	return place_put(&in, r);
}

SYSCALL4(tee, int, in_fd, int, out_fd, size_t, n, u32, flags)
{
	struct place in, out;
	s64 r = place_get(&in, in_fd, NULL), r2 = place_get(&out, out_fd, NULL);

	if (!r)
		r = r2;
	struct pipe *ip = !r ? file_pipe(in.f) : NULL, *op = !r ? file_pipe(out.f) : NULL;
	if (!r && (!ip || !op || ip == op))
		r = -EINVAL;
	if (!r)
		r = pipe_wait_data(ip, flags & SPLICE_F_NONBLOCK_ || in.f->flags & O_NONBLOCK);
	if (r > 0 && n) {
		n = MIN(n, MIN((u64)CHUNK, (u64)r));
		u8 *buf = kmalloc(n);
		if (buf) {
			n = pipe_peek(ip, buf, n);
			r = write_buf(out.f, buf, n, NULL);
		} else {
			r = -ENOMEM;
		}
		kfree(buf);
	}
	place_put(&out, 0);
	return place_put(&in, r);
}

SYSCALL4(vmsplice, int, fd, const struct iovec *, uv, u64, nv, u32, flags)
{
	struct file *f = fd_get(fd);
	struct iovec v[8];
	s64 r = 0, done = 0;

	if (!f)
		return -EBADF;
	if (!file_pipe(f))
		r = -EBADF;
	/* whatever fits into one small vector; the caller goes on from a short count */
	nv = MIN(nv, ARRAY_SIZE(v));
	if (!r && copy_in(v, uv, nv * sizeof(v[0])))
		r = -EFAULT;
	u32 keep = f->flags;
	if (flags & SPLICE_F_NONBLOCK_)
		f->flags |= O_NONBLOCK;
	for (u64 i = 0; !r && i < nv; i++) {
		struct uio u;
		struct iovec one;
		uio_single(&u, &one, v[i].iov_base, MIN(v[i].iov_len, MAX_RW), false);
		s64 got = CAN_WRITE(f) ? file_write(f, &u, NULL) : file_read(f, &u, NULL);
		if (got < 0) {
			r = got;
			break;
		}
		done += got;
		if ((u64)got < v[i].iov_len)
			break;
	}
	f->flags = keep;
	file_put(f);
	return done ? done : r;
}
