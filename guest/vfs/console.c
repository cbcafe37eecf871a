/* SPDX-License-Identifier: ISC */
/*
 * The standard streams: host handles 0, 1, 2 through the ring.
 *
 * Output: a write is copied into a request and submitted, and returns; requests
 * on a handle are written in order, and before an EXIT submitted after them.
 * More than OUT_LIMIT bytes under way make a writer wait.
 *
 * Input: nothing is read before the program asks, by read or by poll. Then one
 * RING_OP_READ of IN_SIZE bytes is posted; what it brings is kept until taken.
 * All streams that are terminals are taken for the same one: they share the
 * input of the first of them.
 *
 * A terminal's modes are the host terminal's: ioctls ask the monitor. A stream
 * that is no terminal looks like a pipe.
 */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <asm/termios.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/plat/ring.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

enum { N_STREAMS = 3, OUT_LIMIT = 65536, IN_SIZE = 4096 };

struct stream {
	struct inode inode;
	int handle;
	bool ready;
	/* output */
	u32 out_bytes;
	int out_err; /* reported by the next write */
	struct waitq out_wq;
	/* input */
	u8 *in;
	u32 in_pos, in_len;
	bool posted, eof;
	int in_err;
	struct ring_req req;
	struct waitq in_wq;
};

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
	list_init(&s->req.node);
	inode_init(&s->inode, root_sb, &console_ops, console_is_tty(n) ? S_IFCHR | 0620 : S_IFIFO | 0600,
		   3 + (u64)n);
	return s;
}

/* --- output -------------------------------------------------------------------- */

static void out_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct out_req *o = container_of(req, struct out_req, req);
	struct stream *s = o->s;

	if (cqe->res < 0)
		s->out_err = cqe->res;
	s->out_bytes -= o->len;
	kfree(o);
	waitq_wake(&s->out_wq, POLLOUT | POLLWRNORM);
}

static s64 console_write(struct file *f, struct uio *u, u64 *pos)
{
	struct stream *s = f->priv;
	s64 done = 0;

	while (u->left) {
		if (s->out_err) {
			if (done)
				return done;
			int err = s->out_err;
			if (err == -EPIPE)
				signal_thread(current, SIGPIPE, NULL);
			else
				s->out_err = 0;
			return err;
		}
		if (s->out_bytes >= OUT_LIMIT) {
			if (f->flags & O_NONBLOCK)
				return done ? done : -EAGAIN;
			int r = wait_event(&s->out_wq, s->out_bytes < OUT_LIMIT || s->out_err, NO_DEADLINE,
					   true);
			if (r)
				return done ? done : r;
			continue;
		}
		u32 n = (u32)MIN(u->left, (u64)OUT_LIMIT - s->out_bytes);
		struct out_req *o = kmalloc(sizeof(*o) + n);
		if (!o)
			return done ? done : -ENOMEM;
		*o = (struct out_req){.s = s};
		u32 got = (u32)uio_get(u, o->data, n);
		if (!got) {
			kfree(o);
			return done ? done : -EFAULT;
		}
		o->len = got;
		o->req.done = out_done;
		s->out_bytes += got;
		/* the one that fills the queue must end the wait of whoever waits for room */
		u16 quiet = s->out_bytes < OUT_LIMIT ? RING_SQE_QUIET : 0;
		o->req.sqe = (struct ring_sqe){.op = RING_OP_WRITE,
					       .flags = quiet,
					       .handle = (u32)s->handle,
					       .addr = ring_buf_gpa(o->data).v,
					       .len = got};
		list_init(&o->req.node);
		done += got;
		ring_submit(&o->req);
		if (got < n)
			break;
	}
	return done;
}

/* --- input ------------------------------------------------------------------------ */

static void in_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	struct stream *s = container_of(req, struct stream, req);

	s->posted = false;
	s->in_pos = 0;
	s->in_len = cqe->res > 0 ? MIN((u32)cqe->res, (u32)IN_SIZE) : 0;
	if (cqe->res == 0)
		s->eof = true;
	else if (cqe->res < 0)
		s->in_err = cqe->res;
	waitq_wake(&s->in_wq, POLLIN | POLLRDNORM);
}

static bool in_ready(struct stream *s)
{
	return s->in_pos < s->in_len || s->eof || s->in_err;
}

static int post_read(struct stream *s)
{
	if (s->posted || in_ready(s))
		return 0;
	if (!s->in && !(s->in = kmalloc(IN_SIZE)))
		return -ENOMEM;
	s->posted = true;
	s->req.done = in_done;
	s->req.sqe = (struct ring_sqe){
		.op = RING_OP_READ, .handle = (u32)s->handle, .addr = ring_buf_gpa(s->in).v, .len = IN_SIZE};
	ring_submit(&s->req);
	return 0;
}

/* Which stream's input a file reads: terminals share. */
static struct stream *input_of(struct stream *s)
{
	if (console_is_tty(s->handle))
		return stream_get(__builtin_ctz(boot->host_tty_mask));
	return s;
}

static s64 console_read(struct file *f, struct uio *u, u64 *pos)
{
	struct stream *s = input_of(f->priv);

	if (!u->left)
		return 0;
	int r = post_read(s);
	if (!r && !in_ready(s) && f->flags & O_NONBLOCK) {
		ring_flush(); /* what the host has already should be seen */
		if (!in_ready(s))
			return -EAGAIN;
	}
	if (!r && !in_ready(s))
		r = wait_event(&s->in_wq, in_ready(s), NO_DEADLINE, true);
	if (r)
		return r;
	if (s->in_pos < s->in_len) {
		u64 n = uio_put(u, s->in + s->in_pos, s->in_len - s->in_pos);
		s->in_pos += (u32)n;
		return n ? (s64)n : -EFAULT;
	}
	r = s->in_err;
	s->in_err = 0;
	if (console_is_tty(s->handle))
		s->eof = false; /* Ctrl-D: the next read asks again */
	return r;
}

static u32 console_poll(struct file *f, struct poll_table *pt)
{
	struct stream *s = f->priv, *in = input_of(s);
	u32 ev = 0;

	if (CAN_READ(f)) {
		poll_on(pt, &in->in_wq);
		post_read(in);
		if (in->in_pos < in->in_len || in->eof || in->in_err)
			ev |= POLLIN | POLLRDNORM;
		if (in->eof && !console_is_tty(in->handle))
			ev |= POLLHUP;
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

/* --- terminal modes -------------------------------------------------------------------- */

static s64 tty_call(struct stream *s, u32 op, u32 arg, struct ring_tty *t)
{
	struct ring_sqe sqe = {.op = (u16)op,
			       .handle = (u32)s->handle,
			       .addr = ring_buf_gpa(t).v,
			       .len = sizeof(*t),
			       .arg = arg};

	return ring_call(&sqe, NULL, NULL);
}

static s64 tty_get_modes(struct ring_tty *t, u64 arg)
{
	struct termios k = {.c_iflag = t->iflag,
			    .c_oflag = t->oflag,
			    .c_cflag = t->cflag,
			    .c_lflag = t->lflag,
			    .c_line = t->line};

	memcpy(k.c_cc, t->cc, MIN(sizeof(k.c_cc), sizeof(t->cc)));
	return put_user(k, (struct termios *)arg);
}

static s64 tty_set_modes(struct stream *s, struct ring_tty *t, u32 action, u64 arg)
{
	struct termios k;

	if (get_user(k, (const struct termios *)arg))
		return -EFAULT;
	t->iflag = k.c_iflag;
	t->oflag = k.c_oflag;
	t->cflag = k.c_cflag;
	t->lflag = k.c_lflag;
	t->line = k.c_line;
	memcpy(t->cc, k.c_cc, MIN(sizeof(k.c_cc), sizeof(t->cc)));
	return tty_call(s, RING_OP_TTY_SET, action, t);
}

static s64 tty_modes_ioctl(struct stream *s, u32 cmd, u64 arg)
{
	struct ring_tty *t = kzalloc(sizeof(*t));
	struct winsize ws;
	s64 r;

	if (!t)
		return -ENOMEM;
	r = tty_call(s, RING_OP_TTY_GET, 0, t);
	if (r >= 0) {
		switch (cmd) {
		case TCGETS:
			r = tty_get_modes(t, arg);
			break;
		case TIOCGWINSZ:
			ws = (struct winsize){t->rows, t->cols, t->xpix, t->ypix};
			r = put_user(ws, (struct winsize *)arg);
			break;
		case TIOCSWINSZ:
			r = 0; /* the host's terminal decides its size */
			break;
		default:
			r = tty_set_modes(s, t, cmd - TCSETS, arg);
		}
	}
	kfree(t);
	return r;
}

static s64 console_ioctl(struct file *f, u32 cmd, u64 arg)
{
	struct stream *s = f->priv, *in = input_of(s);
	int v;

	if (cmd == FIONREAD) {
		post_read(in);
		if (!in_ready(in))
			ring_flush();
		v = (int)(in->in_len - in->in_pos);
		return put_user(v, (int *)arg);
	}
	if (!console_is_tty(s->handle))
		return -ENOTTY;
	switch (cmd) {
	case TCGETS:
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
	case TIOCGWINSZ:
	case TIOCSWINSZ:
		return tty_modes_ioctl(s, cmd, arg);
	case TIOCGPGRP:
		v = current->proc->pgid;
		return put_user(v, (int *)arg);
	case TIOCGSID:
		v = current->proc->sid;
		return put_user(v, (int *)arg);
	case TIOCOUTQ:
		v = (int)s->out_bytes;
		return put_user(v, (int *)arg);
	case TIOCSPGRP:
	case TIOCSCTTY:
	case TIOCNOTTY:
	case TCXONC:
		return 0;
	case TCFLSH:
		if (arg != TCOFLUSH)
			in->in_pos = in->in_len = 0;
		return 0;
	case TCSBRK:
	case TCSBRKP: {
		ring_flush();
		int r = wait_event(&s->out_wq, s->out_bytes == 0, NO_DEADLINE, true);
		return r;
	}
	}
	return -ENOTTY;
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
