/* SPDX-License-Identifier: ISC */
/*
 * The standard streams: host handles 0, 1, 2 through the ring.
 *
 * Output to a file or a device (boot->host_file_mask) is done when write
 * returns, with the host's own result: one doorbell each. Output to a pipe, a
 * terminal or a socket is copied into a request and submitted; requests on a
 * handle are written in order, and before an EXIT submitted after them. More
 * than OUT_LIMIT bytes under way make a writer wait. A write that follows none
 * for EAGER_NS rings the doorbell, so that somebody who writes now and then
 * learns at once that his reader has gone; who writes much learns it at the
 * next write. What fails after the last write is said on the log.
 *
 * Input: the host is asked for what the program asks for and no more, since
 * what it does not read belongs to whoever shares the stream. One READ is
 * under way at a time; a reader that gives up cancels it, and what it brought
 * nevertheless is kept for the next. poll asks by POLL, whose answer holds
 * until the next read. Only FIONREAD reads ahead: it must count.
 *
 * All streams that are terminals are taken for the same one: they share the
 * input of the first of them. A stream that is no terminal looks like a pipe.
 */
#include "guest/vfs/console.h"

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"

enum { N_STREAMS = 3, OUT_LIMIT = 65536, IN_LIMIT = 65536 };
#define EAGER_NS 500000u

struct out_req {
	struct ring_req req;
	struct stream *s;
	u32 len;
	u8 data[];
};

static struct stream streams[N_STREAMS];
static const struct inode_ops console_ops;
static const struct file_ops console_fops;

bool console_is_tty(int stream)
{
	return stream >= 0 && stream < N_STREAMS && boot->host_tty_mask >> stream & 1;
}

static struct stream *stream_get(int n)
{
	struct stream *s = &streams[n];

	if (s->ready)
		return s;
	s->ready = true;
	s->handle = n;
	waitq_init(&s->out_wq);
	waitq_init(&s->in_wq);
	list_init(&s->read.node);
	list_init(&s->poll.node);
	inode_init(&s->inode, root_sb, &console_ops, console_is_tty(n) ? S_IFCHR | 0620 : S_IFIFO | 0600,
		   3 + (u64)n);
	return s;
}

/* --- output -------------------------------------------------------------------- */

static void out_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct out_req *o = container_of(req, struct out_req, req);
	struct stream *s = o->s;
	u32 through = cqe->res > 0 ? (u32)cqe->res : 0;

	if (through < o->len) {
		s->out_err = cqe->res < 0 ? cqe->res : cqe->val ? -(int)cqe->val : -EIO;
		s->out_told = false;
		s->out_lost += o->len - through;
	}
	s->out_bytes -= o->len;
	kfree(o);
	waitq_wake(&s->out_wq, POLLOUT | POLLWRNORM);
}

/* The error of an earlier write, or 0. That a reader has gone stays true. */
static int take_out_err(struct stream *s)
{
	int err = s->out_err;

	s->out_told = true;
	s->out_lost = 0;
	if (err == -EPIPE)
		signal_thread(current, SIGPIPE, NULL);
	else
		s->out_err = 0;
	return err;
}

static struct out_req *out_new(struct stream *s, struct uio *u, int *err)
{
	u32 n = (u32)MIN(u->left, (u64)OUT_LIMIT - s->out_bytes);
	struct out_req *o = kmalloc(sizeof(*o) + n);

	*err = -ENOMEM;
	if (!o)
		return NULL;
	*o = (struct out_req){.s = s};
	o->len = (u32)uio_get(u, o->data, n);
	if (!o->len) {
		*err = -EFAULT;
		kfree(o);
		return NULL;
	}
	o->req.done = out_done;
	o->req.sqe = (struct ring_sqe){.op = RING_OP_WRITE,
				       .handle = (u32)s->handle,
				       .addr = ring_buf_gpa(o->data).v,
				       .len = o->len};
	return o;
}

/* To a file: done when this returns. */
static s64 write_through(struct stream *s, struct uio *u)
{
	s64 done = 0;
	int err;

	while (u->left) {
		struct out_req *o = out_new(s, u, &err);
		if (!o)
			return done ? done : err;
		u32 len = o->len;
		s64 r = ring_call_nosleep(&o->req.sqe, NULL, NULL);
		kfree(o);
		if (r < 0)
			return done ? done : r; /* the next write meets it again */
		done += r;
		if (r < (s64)len)
			break;
	}
	return done;
}

/* After a while without output: let the host have it now. Bytes of the `done` just queued that got lost. */
static u64 write_eagerly(struct stream *s, u64 done)
{
	u64 now = mono_ns();

	if (s->out_bytes != done || now - s->out_ns < EAGER_NS)
		return 0;
	s->out_ns = now;
	ring_flush();
	return s->out_err ? MIN(s->out_lost, done) : 0;
}

static s64 write_behind(struct stream *s, struct uio *u, bool nonblock)
{
	u64 done = 0;
	int err;

	while (u->left) {
		if (s->out_err)
			return done ? (s64)done : take_out_err(s);
		if (s->out_bytes >= OUT_LIMIT) {
			if (nonblock)
				return done ? (s64)done : -EAGAIN;
			err = wait_event(&s->out_wq, s->out_bytes < OUT_LIMIT || s->out_err, NO_DEADLINE,
					 true);
			if (err)
				return done ? (s64)done : err;
			continue;
		}
		struct out_req *o = out_new(s, u, &err);
		if (!o)
			return done ? (s64)done : err;
		s->out_bytes += o->len;
		done += o->len;
		/* the one that fills the queue must end the wait of whoever waits for room */
		o->req.sqe.flags = s->out_bytes < OUT_LIMIT ? RING_SQE_QUIET : 0;
		ring_submit(&o->req);
	}
	u64 lost = write_eagerly(s, done);
	return lost && lost == done ? take_out_err(s) : (s64)(done - lost);
}

static s64 console_write(struct file *f, struct uio *u, u64 *pos)
{
	struct stream *s = f->priv;
	int bg = console_is_tty(s->handle) ? tty_check_write(s) : 0;

	if (bg)
		return bg;
	if (boot->host_file_mask >> s->handle & 1)
		return write_through(s, u);
	return write_behind(s, u, f->flags & O_NONBLOCK);
}

void console_finish(int wait_status)
{
	for (int n = 1; n < N_STREAMS; n++) {
		struct stream *s = &streams[n];

		if (s->out_err && !s->out_told && wait_status != SIGPIPE)
			log_line(LOG_ERROR, "output on stream %d was lost: error %d", n, -s->out_err);
	}
}

/* --- input ------------------------------------------------------------------------ */

/* Is there anything that a read can return now? */
static bool in_ready(const struct stream *s)
{
	return s->in_pos < s->in_len || s->eof || s->in_err;
}

static void poll_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct stream *s = container_of(req, struct stream, poll);

	if (cqe->res <= 0)
		return;
	s->revents = (u32)cqe->res;
	waitq_wake_all(&s->in_wq, POLLIN | POLLRDNORM);
}

static void post_poll(struct stream *s)
{
	if (s->poll.active || s->revents || in_ready(s))
		return;
	s->poll.done = poll_done;
	s->poll.sqe = (struct ring_sqe){.op = RING_OP_POLL, .handle = (u32)s->handle, .arg = POLLIN};
	ring_submit(&s->poll);
	ring_hurry();
}

static void in_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct stream *s = container_of(req, struct stream, read);

	s->in_pos = 0;
	s->in_len = cqe->res > 0 ? MIN((u32)cqe->res, s->in_cap) : 0;
	if (cqe->res == 0)
		s->eof = true;
	else if (cqe->res < 0 && cqe->res != -ECANCELED)
		s->in_err = cqe->res;
	waitq_wake_all(&s->in_wq, POLLIN | POLLRDNORM);
}

/* Ask for up to n bytes, if nobody has asked already. */
static int post_read(struct stream *s, u64 n)
{
	u32 len = (u32)MIN(n, (u64)IN_LIMIT);

	if (s->read.active || in_ready(s))
		return 0;
	if (len > s->in_cap) {
		u8 *p = kmalloc(len);
		if (!p)
			return -ENOMEM;
		kfree(s->in);
		s->in = p;
		s->in_cap = len;
	}
	s->revents = 0;
	s->read.done = in_done;
	s->read.sqe = (struct ring_sqe){
		.op = RING_OP_READ, .handle = (u32)s->handle, .addr = ring_buf_gpa(s->in).v, .len = len};
	ring_submit(&s->read);
	return 0;
}

/* Ask for up to n bytes; what is not there at this moment is not waited for. */
static int try_read(struct stream *s, u64 n)
{
	int r = post_read(s, n);

	if (r || in_ready(s))
		return r;
	ring_flush();
	if (!in_ready(s)) {
		ring_cancel(&s->read);
		ring_flush();
	}
	return 0;
}

/* Which stream's input a file reads: terminals share. */
static struct stream *input_of(struct stream *s)
{
	if (console_is_tty(s->handle))
		return stream_get(__builtin_ctz(boot->host_tty_mask));
	return s;
}

static s64 take_input(struct stream *s, struct uio *u)
{
	s64 r = s->in_err;

	if (s->in_pos < s->in_len) {
		u64 n = uio_put(u, s->in + s->in_pos, s->in_len - s->in_pos);
		s->in_pos += (u32)n;
		r = n ? (s64)n : -EFAULT;
	} else if (s->eof) {
		s->eof = false; /* a terminal or a file may have more later: the next read asks again */
		r = 0;
	} else {
		s->in_err = 0;
	}
	if (s->polled)
		post_poll(s); /* an edge-triggered watcher hears of what comes next */
	return r;
}

static s64 console_read(struct file *f, struct uio *u, u64 *pos)
{
	struct stream *s = input_of(f->priv);
	int r = console_is_tty(s->handle) ? tty_check_read(&console_terminal) : 0;

	if (r || !u->left)
		return r;
	while (!in_ready(s)) {
		if (f->flags & O_NONBLOCK) {
			r = try_read(s, u->left);
			if (!r && !in_ready(s))
				r = -EAGAIN;
		} else if (!(r = post_read(s, u->left))) {
			r = wait_event(&s->in_wq, in_ready(s) || !s->read.active, NO_DEADLINE, true);
			if (r) {
				ring_cancel(&s->read);
				ring_flush();
			}
		}
		if (r && !in_ready(s)) {
			if (s->polled)
				post_poll(s);
			return r;
		}
	}
	return take_input(s, u);
}

static u32 console_poll(struct file *f, struct poll_table *pt)
{
	struct stream *s = f->priv, *in = input_of(s);
	u32 ev = 0;

	if (CAN_READ(f)) {
		poll_on(pt, &in->in_wq);
		in->polled = true;
		post_poll(in);
		if (in_ready(in))
			ev |= POLLIN | POLLRDNORM;
		if (in->revents & POLLIN)
			ev |= POLLIN | POLLRDNORM;
		ev |= in->revents & (POLLHUP | POLLERR);
	}
	if (CAN_WRITE(f)) {
		poll_on(pt, &s->out_wq);
		if (s->out_bytes < OUT_LIMIT || s->out_err)
			ev |= POLLOUT | POLLWRNORM;
		if (s->out_err)
			ev |= POLLERR;
	}
	return ev;
}

static s64 console_ioctl(struct file *f, u32 cmd, u64 arg)
{
	struct stream *s = f->priv, *in = input_of(s);
	int v;

	if (cmd == FIONREAD) {
		int r = in_ready(in) ? 0 : try_read(in, PAGE_SIZE);
		if (r)
			return r;
		v = (int)(in->in_len - in->in_pos);
		return put_user(v, (int *)arg);
	}
	return console_is_tty(s->handle) ? tty_ioctl(f, s, in, cmd, arg) : -ENOTTY;
}

static const struct file_ops console_fops = {
	.kind = "pipe",
	.read = console_read,
	.write = console_write,
	.poll = console_poll,
	.ioctl = console_ioctl,
};

/* --- the streams as inodes and files ------------------------------------------------------ */

static int console_getattr(struct inode *ino, struct kstat *st)
{
	st->ino = ino->ino;
	st->dev = ino->dev;
	st->mode = ino->mode;
	st->nlink = 1;
	st->blksize = PAGE_SIZE;
	st->uid = boot->uid;
	st->gid = boot->gid;
	st->rdev = S_IFMT_(ino->mode) == S_IFCHR ? MKDEV(5, 1) : 0;
	st->atime_ns = st->mtime_ns = st->ctime_ns = (s64)real_ns();
	return 0;
}

static int console_inode_open(struct inode *ino, struct file *f)
{
	return console_open(f, container_of(ino, struct stream, inode)->handle);
}

static const struct inode_ops console_ops = {
	.getattr = console_getattr,
	.open = console_inode_open,
};

int console_open(struct file *f, int stream)
{
	f->ops = &console_fops;
	f->priv = stream_get(stream);
	return 0;
}

/* One standard stream as a file. A terminal is /dev/console, so that ttyname() finds it. */
static struct file *stream_file(int n)
{
	int err;
	u32 flags = console_is_tty(n) ? O_RDWR : n ? O_WRONLY : O_RDONLY;
	struct stream *s = stream_get(n);

	if (console_is_tty(n)) {
		struct file *f = vfs_open(AT_FDCWD, "/dev/console", O_RDWR | O_NOCTTY, 0, &err);
		if (f) {
			f->priv = s;
			return f;
		}
	}
	struct file *f = file_new(&console_fops, flags, s);
	if (f) {
		inode_get(&s->inode);
		f->inode = &s->inode;
		f->ino_anon = s->inode.ino;
	}
	return f;
}

int vfs_open_console(void)
{
	console_terminal_init();
	for (int n = 0; n < N_STREAMS; n++) {
		struct file *f = stream_file(n);
		if (!f)
			return -ENOMEM;
		int fd = fd_install(f, false, 0);
		if (fd < 0) {
			file_put(f);
			return fd;
		}
	}
	return 0;
}
