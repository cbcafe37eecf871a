/* SPDX-License-Identifier: ISC */
/*
 * Pipes and FIFOs: a ring of bytes between readers and writers.
 *
 * The buffer starts at 4 KiB and doubles up to the pipe's capacity (64 KiB
 * unless F_SETPIPE_SZ said otherwise), so idle pipes cost little; it goes when
 * the last end closes. A write of up to PIPE_BUF bytes is never split. In
 * packet mode (O_DIRECT) each write of up to PIPE_BUF bytes is stored behind
 * its length and read as a whole, the rest of a packet is lost.
 *
 * Anonymous pipes have an inode too (on the hidden tmpfs), so that stat and
 * /proc/self/fd treat both kinds alike; inode->special is the struct pipe.
 */
#include <asm/ioctls.h>
#include <linux/inotify.h>

#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

enum { PIPE_ATOMIC = 4096, PIPE_DEFAULT = 65536, PIPE_MAX = 1 << 20 };

struct pipe {
	u8 *buf;
	u32 alloc; /* bytes of buf, power of two, or 0 */
	u32 capacity; /* power of two */
	u32 head, used;
	u32 readers, writers;
	u32 reader_opens, writer_opens; /* ever: FIFO opens wait for a change */
	bool anonymous; /* made by pipe(2) */
	bool packets;
	struct waitq rq, wq;
};

static const struct file_ops pipe_fops;

static struct pipe *pipe_of(struct inode *ino)
{
	struct pipe *p = ino->special;

	if (p)
		return p;
	p = kzalloc(sizeof(*p));
	if (!p)
		return NULL;
	p->capacity = PIPE_DEFAULT;
	waitq_init(&p->rq);
	waitq_init(&p->wq);
	ino->special = p;
	return p;
}

void fifo_inode_gone(struct inode *ino)
{
	struct pipe *p = ino->special;

	if (p)
		kfree(p->buf);
	kfree(p);
}

/* Room for n more bytes without sleeping; grows the buffer if the capacity allows it. */
static bool reserve(struct pipe *p, u32 n)
{
	if (pipe_room(p) < n)
		return false;
	if (p->alloc - p->used >= n)
		return true;
	u32 size = MAX(p->alloc, 4096u);
	while (size < p->used + n)
		size *= 2;
	u8 *buf = kmalloc(size);
	if (!buf)
		return false;
	pipe_peek(p, buf, p->used);
	kfree(p->buf);
	p->buf = buf;
	p->alloc = size;
	p->head = 0;
	return true;
}

u64 pipe_peek(struct pipe *p, void *buf, u64 n)
{
	n = MIN(n, p->used);
	u64 first = MIN(n, p->alloc - p->head);
	if (n) {
		memcpy(buf, p->buf + p->head, first);
		memcpy((u8 *)buf + first, p->buf, n - first);
	}
	return n;
}

void pipe_consume(struct pipe *p, u64 n)
{
	n = MIN(n, p->used);
	p->used -= (u32)n;
	p->head = p->used ? (p->head + (u32)n) & (p->alloc - 1) : 0;
	waitq_wake(&p->wq, POLLOUT | POLLWRNORM);
}

/* Move bytes to the reader; stops short at a fault. */
static u64 take(struct pipe *p, struct uio *u, u64 n)
{
	u64 done = 0;

	n = MIN(n, MIN(u->left, p->used));
	while (done < n) {
		u64 part = MIN(n - done, p->alloc - p->head);
		u64 got = uio_put(u, p->buf + p->head, part);
		p->head = (p->head + (u32)got) & (p->alloc - 1);
		p->used -= (u32)got;
		done += got;
		if (got < part)
			break;
	}
	if (!p->used)
		p->head = 0;
	return done;
}

/* Append n bytes, for which there is room. */
static u64 put(struct pipe *p, struct uio *u, u64 n)
{
	u64 done = 0;

	while (done < n) {
		u32 tail = (p->head + p->used) & (p->alloc - 1);
		u64 part = MIN(n - done, p->alloc - tail);
		u64 got = uio_get(u, p->buf + tail, part);
		p->used += (u32)got;
		done += got;
		if (got < part)
			break;
	}
	return done;
}

s64 pipe_wait_data(struct pipe *p, bool nonblock)
{
	while (!p->used) {
		if (!p->writers)
			return 0;
		if (nonblock)
			return -EAGAIN;
		int r = wait_event(&p->rq, p->used || !p->writers, NO_DEADLINE, true);
		if (r)
			return r;
	}
	return p->used;
}

u64 pipe_room(struct pipe *p)
{
	return p->capacity - MIN(p->used, p->capacity);
}

/* Sleep until something can be written, or nobody reads any more. */
s64 pipe_wait_room(struct pipe *p)
{
	return wait_event(&p->wq, pipe_room(p) || !p->readers, NO_DEADLINE, true);
}

static s64 pipe_read(struct file *f, struct uio *u, u64 *pos)
{
	struct pipe *p = f->priv;
	u64 n;

	if (!u->left)
		return 0;
	s64 r = pipe_wait_data(p, f->flags & O_NONBLOCK);
	if (r <= 0)
		return r;
	if (p->packets) {
		u16 len;
		struct iovec iov;
		struct uio head;
		uio_single(&head, &iov, &len, sizeof(len), true);
		take(p, &head, sizeof(len));
		n = take(p, u, len);
		if (n < len) { /* the rest of a packet is dropped */
			p->used -= len - (u32)n;
			p->head = p->used ? (p->head + len - (u32)n) & (p->alloc - 1) : 0;
		}
	} else {
		n = take(p, u, u->left);
	}
	if (pipe_room(p) >= PIPE_ATOMIC)
		waitq_wake(&p->wq, POLLOUT | POLLWRNORM);
	return n ? (s64)n : -EFAULT;
}

static s64 broken(void)
{
	signal_thread(current, SIGPIPE, NULL);
	return -EPIPE;
}

static s64 write_packets(struct pipe *p, struct uio *u, u64 n)
{
	u16 len = (u16)n;
	struct iovec iov;
	struct uio head;

	uio_single(&head, &iov, &len, sizeof(len), true);
	put(p, &head, sizeof(len));
	u64 got = put(p, u, n);
	if (got == n)
		return (s64)got;
	p->used -= (u32)(sizeof(len) + got); /* take the half packet back */
	return -EFAULT;
}

static s64 pipe_write(struct file *f, struct uio *u, u64 *pos)
{
	struct pipe *p = f->priv;
	s64 done = 0;
	int r = 0;

	while (u->left) {
		if (!p->readers)
			return done ? done : broken();
		u64 whole = p->packets ? MIN(u->left, (u64)PIPE_ATOMIC) : u->left;
		/* what must go in one piece; otherwise whatever fits */
		u64 need = p->packets ? whole + 2 : whole <= PIPE_ATOMIC && !done ? whole : 1;
		if (reserve(p, (u32)need)) {
			u64 n = whole;
			if (!p->packets) {
				n = MIN(whole, p->capacity - p->used);
				if (!reserve(p, (u32)n))
					n = p->alloc - p->used;
			}
			s64 got = p->packets ? write_packets(p, u, n) : (s64)put(p, u, n);
			if (got > 0) {
				done += got;
				waitq_wake(&p->rq, POLLIN | POLLRDNORM);
			}
			if (got < (s64)n)
				return done ? done : -EFAULT;
			continue;
		}
		if (pipe_room(p) >= need)
			return done ? done : -ENOMEM;
		if (f->flags & O_NONBLOCK)
			return done ? done : -EAGAIN;
		r = wait_event(&p->wq, !p->readers || pipe_room(p) >= need, NO_DEADLINE, true);
		if (r)
			return done ? done : r;
	}
	return done;
}

static u32 pipe_poll(struct file *f, struct poll_table *pt)
{
	struct pipe *p = f->priv;
	u32 ev = 0;

	if (CAN_READ(f)) {
		poll_on(pt, &p->rq);
		if (p->used)
			ev |= POLLIN | POLLRDNORM;
		if (!p->writers && p->writer_opens)
			ev |= POLLHUP;
	}
	if (CAN_WRITE(f)) {
		poll_on(pt, &p->wq);
		if (pipe_room(p) >= PIPE_ATOMIC)
			ev |= POLLOUT | POLLWRNORM;
		if (!p->readers)
			ev |= POLLERR;
	}
	return ev;
}

static s64 pipe_ioctl(struct file *f, u32 cmd, u64 arg)
{
	struct pipe *p = f->priv;

	if (cmd != FIONREAD)
		return -ENOTTY;
	int n = (int)p->used;
	return put_user(n, (int *)arg);
}

static void pipe_release(struct file *f)
{
	struct pipe *p = f->priv;

	if (CAN_READ(f))
		p->readers--;
	if (CAN_WRITE(f))
		p->writers--;
	if (!p->readers && !p->writers) {
		kfree(p->buf);
		p->buf = NULL;
		p->alloc = p->used = p->head = 0;
	}
	waitq_wake_all(&p->rq, POLLHUP | POLLIN);
	waitq_wake_all(&p->wq, POLLERR | POLLOUT);
}

static const struct file_ops pipe_fops = {
	.kind = "pipe",
	.read = pipe_read,
	.write = pipe_write,
	.poll = pipe_poll,
	.ioctl = pipe_ioctl,
	.release = pipe_release,
};

static void attach(struct file *f, struct pipe *p)
{
	f->ops = &pipe_fops;
	f->priv = p;
	if (CAN_READ(f)) {
		p->readers++;
		p->reader_opens++;
		waitq_wake_all(&p->wq, 0);
	}
	if (CAN_WRITE(f)) {
		p->writers++;
		p->writer_opens++;
		waitq_wake_all(&p->rq, 0);
	}
}

/* Opening one end of a FIFO waits for the other, unless it is there or O_NONBLOCK. A pipe(2), opened anew by /proc/PID/fd, never waits. */
int fifo_open(struct inode *ino, struct file *f)
{
	struct pipe *p = pipe_of(ino);
	int r = 0;

	if (!p)
		return -ENOMEM;
	bool nonblock = f->flags & O_NONBLOCK;
	if (O_ACCESS(f->flags) == O_WRONLY && nonblock && !p->readers && !p->anonymous)
		return -ENXIO;
	u32 r_opens = p->reader_opens, w_opens = p->writer_opens;
	attach(f, p);
	if (p->anonymous)
		return 0;
	if (O_ACCESS(f->flags) == O_RDONLY && !nonblock && !p->writers)
		r = wait_event(&p->rq, p->writer_opens != w_opens, NO_DEADLINE, true);
	else if (O_ACCESS(f->flags) == O_WRONLY && !p->readers)
		r = wait_event(&p->wq, p->reader_opens != r_opens, NO_DEADLINE, true);
	if (r)
		pipe_release(f);
	return r;
}

int pipe_new(struct file *ends[2], u32 flags)
{
	struct inode *ino = memfs_anon_inode(S_IFIFO | 0600);
	struct pipe *p = ino ? pipe_of(ino) : NULL;

	if (!p) {
		if (ino)
			inode_put(ino);
		return -ENOMEM;
	}
	p->packets = flags & O_DIRECT;
	p->anonymous = true;
	for (int i = 0; i < 2; i++) {
		u32 fl = (flags & (O_NONBLOCK | O_DIRECT)) | (i ? O_WRONLY : O_RDONLY);
		if (!(ends[i] = file_new(&pipe_fops, fl, p))) {
			if (i)
				file_put(ends[0]);
			inode_put(ino);
			return -ENOMEM;
		}
		inode_get(ino);
		ends[i]->inode = ino;
		attach(ends[i], p);
	}
	inode_put(ino);
	return 0;
}

struct pipe *file_pipe(struct file *f)
{
	return f->ops == &pipe_fops ? f->priv : NULL;
}

u64 pipe_get_size(struct pipe *p)
{
	return p->capacity;
}

s64 pipe_set_size(struct pipe *p, u64 size)
{
	u32 cap = PAGE_SIZE;

	if (size > PIPE_MAX)
		return size >> 31 ? -EINVAL : -EPERM;
	while (cap < size)
		cap *= 2;
	if (cap < p->used)
		return -EBUSY;
	p->capacity = cap;
	waitq_wake(&p->wq, POLLOUT);
	return cap;
}
