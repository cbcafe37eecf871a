/* SPDX-License-Identifier: ISC */
/*
 * Pseudo terminals: /dev/ptmx makes one, /dev/pts/N is its slave side.
 *
 * What is written to the master goes through the line discipline into the
 * slave's input queue; what the slave writes goes through output processing
 * into the master's. The input queue holds one u16 per character: the byte and
 * marks. In canonical mode a reader sees only complete lines (a mark LINE_END
 * on the last character; END_OF_FILE is the VEOF character, which is not
 * delivered). Signals go to the foreground process group; who may read and
 * change modes from the background is proc/tty.c's to say.
 *
 * In packet mode (TIOCPKT) each read of the master begins with a byte: 0 and then output, or what
 * happened to the slave's queues and flow control, alone.
 *
 * A pty lives until its master and all its slaves are closed; its number is
 * then free again.
 */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <asm/termios.h>
#include <linux/magic.h>

#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/proc/tty.h"
#include "guest/vfs/internal.h"

enum { MAX_PTYS = 256, IN_SIZE = 4096, OUT_SIZE = 16384 };
enum { LINE_END = 0x100, END_OF_FILE = 0x200 };

struct pty {
	struct inode inode; /* of the slave; holds the pty's memory */
	u32 index;
	u32 uid, gid; /* of the slave: who opened the master, and tty */
	bool master_open, locked, slave_was_open;
	bool halted; /* by Ctrl-S */
	u32 slaves;
	struct termios tio;
	struct winsize ws;
	struct tty tty;
	u32 column;
	/* to the slave */
	u16 *in;
	u32 in_head, in_used, in_lines; /* complete lines in the queue */
	struct waitq in_wq;
	/* to the master */
	u8 *out;
	u32 out_head, out_used;
	bool packet; /* TIOCPKT */
	u8 events; /* TIOCPKT_*: to be told by the next read in packet mode */
	struct waitq out_wq; /* master's readers, and slave's writers */
};

static struct pty *ptys[MAX_PTYS];
static struct superblock *pts_sb;
static const struct inode_ops pts_slave_ops, pts_root_ops;
static const struct file_ops master_fops, slave_fops;

static bool lflag(const struct pty *p, u32 f)
{
	return p->tio.c_lflag & f;
}

/* --- towards the master -------------------------------------------------------- */

static bool out_byte(struct pty *p, u8 c)
{
	if (p->out_used == OUT_SIZE)
		return false;
	p->out[(p->out_head + p->out_used++) % OUT_SIZE] = c;
	return true;
}

/* Output processing; false: no room, nothing done. */
static bool out_processed(struct pty *p, u8 c)
{
	if (p->tio.c_oflag & OPOST) {
		if (c == '\n' && p->tio.c_oflag & ONLCR) {
			if (p->out_used + 2 > OUT_SIZE)
				return false;
			p->column = 0;
			out_byte(p, '\r');
			return out_byte(p, '\n');
		}
		if (c == '\r' && p->tio.c_oflag & OCRNL)
			c = '\n';
		else if (c == '\r' && p->tio.c_oflag & ONOCR && !p->column)
			return true;
	}
	if (!out_byte(p, c))
		return false;
	p->column = c == '\r' ? 0 : c == '\b' ? p->column - (p->column > 0) : p->column + (c >= ' ');
	return true;
}

static void echo(struct pty *p, u8 c)
{
	if (lflag(p, ECHOCTL) && c < ' ' && c != '\t' && c != '\n') {
		out_processed(p, '^');
		out_processed(p, c + '@');
	} else {
		out_processed(p, c);
	}
}

/* --- towards the slave ------------------------------------------------------------- */

static void in_flush(struct pty *p)
{
	p->in_head = p->in_used = p->in_lines = 0;
}

static void in_put(struct pty *p, u16 v)
{
	/* the last place is kept for the end of a line */
	if (p->in_used >= IN_SIZE - !(v & (LINE_END | END_OF_FILE)))
		return;
	p->in[(p->in_head + p->in_used++) % IN_SIZE] = v;
	if (v & (LINE_END | END_OF_FILE))
		p->in_lines++;
}

/* Take back the last character of the unfinished line; false: there is none. */
static bool in_erase(struct pty *p)
{
	if (!p->in_used)
		return false;
	u16 v = p->in[(p->in_head + p->in_used - 1) % IN_SIZE];
	if (v & (LINE_END | END_OF_FILE))
		return false;
	p->in_used--;
	if (lflag(p, ECHO) && lflag(p, ECHOE))
		for (int i = lflag(p, ECHOCTL) && (u8)v < ' ' ? 2 : 1; i > 0; i--) {
			out_byte(p, '\b');
			out_byte(p, ' ');
			out_byte(p, '\b');
		}
	return true;
}

static bool in_last_is_space(struct pty *p)
{
	u16 v = p->in_used ? p->in[(p->in_head + p->in_used - 1) % IN_SIZE] : 0;

	return (u8)v == ' ' || (u8)v == '\t';
}

static bool is_cc(const struct pty *p, u8 c, int which)
{
	return p->tio.c_cc[which] && p->tio.c_cc[which] == c;
}

/* Signal characters; true if c was one. */
static bool in_signal(struct pty *p, u8 c)
{
	int sig = is_cc(p, c, VINTR)   ? SIGINT
		  : is_cc(p, c, VQUIT) ? SIGQUIT
		  : is_cc(p, c, VSUSP) ? SIGTSTP
				       : 0;

	if (!sig)
		return false;
	if (!lflag(p, NOFLSH))
		in_flush(p);
	if (lflag(p, ECHO))
		echo(p, c);
	tty_signal(&p->tty, sig);
	return true;
}

/* Editing of a line; true if c was an editing character. */
static bool in_edit(struct pty *p, u8 c)
{
	if (is_cc(p, c, VERASE)) {
		in_erase(p);
	} else if (is_cc(p, c, VKILL)) {
		while (in_erase(p))
			;
		if (lflag(p, ECHO) && lflag(p, ECHOK) && !lflag(p, ECHOE))
			out_processed(p, '\n');
	} else if (is_cc(p, c, VWERASE) && lflag(p, IEXTEN)) {
		while (in_last_is_space(p) && in_erase(p))
			;
		while (p->in_used && !in_last_is_space(p) && in_erase(p))
			;
	} else if (is_cc(p, c, VEOF)) {
		in_put(p, c | END_OF_FILE);
	} else {
		return false;
	}
	return true;
}

static void tell(struct pty *p, u8 what);

/* Output of the slave goes on. */
static void start_output(struct pty *p)
{
	if (!p->halted)
		return;
	p->halted = false;
	tell(p, TIOCPKT_START);
	waitq_wake_all(&p->out_wq, POLLOUT | POLLWRNORM);
}

static void stop_output(struct pty *p)
{
	if (p->halted)
		return;
	p->halted = true;
	tell(p, TIOCPKT_STOP);
}

/* Ctrl-S and Ctrl-Q; true if c was one. */
static bool in_flow(struct pty *p, u8 c)
{
	if (!(p->tio.c_iflag & IXON))
		return false;
	if (is_cc(p, c, VSTART)) {
		start_output(p);
		return true;
	}
	if (is_cc(p, c, VSTOP)) {
		stop_output(p);
		return true;
	}
	return false;
}

static void in_char(struct pty *p, u8 c)
{
	u32 iflag = p->tio.c_iflag;

	if (iflag & ISTRIP)
		c &= 0x7f;
	if (in_flow(p, c))
		return;
	if (iflag & IXON && iflag & IXANY)
		start_output(p);
	if (c == '\r') {
		if (iflag & IGNCR)
			return;
		if (iflag & ICRNL)
			c = '\n';
	} else if (c == '\n' && iflag & INLCR) {
		c = '\r';
	}
	if (lflag(p, ISIG) && in_signal(p, c)) {
		if (iflag & IXON)
			start_output(p);
		return;
	}
	bool canon = lflag(p, ICANON);
	if (canon && in_edit(p, c))
		return;
	if (lflag(p, ECHO) || (canon && c == '\n' && lflag(p, ECHONL)))
		echo(p, c);
	bool end = canon && (c == '\n' || is_cc(p, c, VEOL) || is_cc(p, c, VEOL2));
	in_put(p, c | (end ? LINE_END : 0));
}

static bool in_ready(struct pty *p)
{
	return lflag(p, ICANON) ? p->in_lines
				: p->in_used >= MAX(p->tio.c_cc[VTIME] ? 1 : p->tio.c_cc[VMIN], 1);
}

/* --- the master --------------------------------------------------------------------------- */

static s64 master_write(struct file *f, struct uio *u, u64 *pos)
{
	struct pty *p = f->priv;
	s64 done = 0;
	u8 buf[128];

	while (u->left) {
		u64 n = uio_get(u, buf, MIN(u->left, sizeof(buf)));
		if (!n)
			return done ? done : -EFAULT;
		for (u64 i = 0; i < n; i++)
			in_char(p, buf[i]);
		done += (s64)n;
	}
	waitq_wake(&p->in_wq, POLLIN | POLLRDNORM);
	if (p->out_used)
		waitq_wake(&p->out_wq, POLLIN | POLLRDNORM);
	return done;
}

/* For the reader in packet mode: a queue was emptied, or ^S and ^Q changed their meaning. */
static void tell(struct pty *p, u8 event)
{
	if (!p->packet)
		return;
	p->events |= event;
	waitq_wake(&p->out_wq, POLLIN | POLLRDNORM | POLLPRI);
}

static s64 master_read(struct file *f, struct uio *u, u64 *pos)
{
	struct pty *p = f->priv;
	s64 done = 0;

	while (!p->out_used && !p->events) {
		if (!p->slaves && p->slave_was_open)
			return -EIO;
		if (f->flags & O_NONBLOCK)
			return -EAGAIN;
		int r = wait_event(&p->out_wq, p->out_used || p->events || (!p->slaves && p->slave_was_open),
				   NO_DEADLINE, true);
		if (r)
			return r;
	}
	if (p->packet && u->left) {
		u8 head = p->events;
		if (uio_put(u, &head, 1) != 1)
			return -EFAULT;
		p->events = 0;
		if (head)
			return 1;
		done = 1;
	}
	while (p->out_used && u->left) {
		u64 n = MIN(p->out_used, OUT_SIZE - p->out_head);
		u64 got = uio_put(u, p->out + p->out_head, MIN(n, u->left));
		if (!got)
			return done ? done : -EFAULT;
		p->out_head = (p->out_head + (u32)got) % OUT_SIZE;
		p->out_used -= (u32)got;
		done += (s64)got;
	}
	waitq_wake(&p->out_wq, POLLOUT | POLLWRNORM);
	return done;
}

static u32 master_poll(struct file *f, struct poll_table *pt)
{
	struct pty *p = f->priv;

	poll_on(pt, &p->out_wq);
	return (p->out_used || p->events ? POLLIN | POLLRDNORM : 0) | (p->events ? POLLPRI : 0) | POLLOUT |
	       POLLWRNORM | (!p->slaves && p->slave_was_open ? POLLHUP : 0);
}

/* --- the slave -------------------------------------------------------------------------------- */

static s64 take_input(struct pty *p, struct uio *u)
{
	s64 done = 0;

	while (p->in_used && u->left) {
		u16 v = p->in[p->in_head];
		u8 c = (u8)v;
		if (!(v & END_OF_FILE) && uio_put(u, &c, 1) != 1)
			return done ? done : -EFAULT;
		p->in_head = (p->in_head + 1) % IN_SIZE;
		p->in_used--;
		if (v & (LINE_END | END_OF_FILE))
			p->in_lines--;
		if (v & END_OF_FILE)
			break;
		done++;
		if (v & LINE_END)
			break;
	}
	return done;
}

static s64 slave_read(struct file *f, struct uio *u, u64 *pos)
{
	struct pty *p = f->priv;

	if (!u->left || !p->master_open)
		return 0;
	int bg = tty_check_read(&p->tty);
	if (bg)
		return bg;
	while (!in_ready(p)) {
		if (!p->master_open)
			return 0;
		bool raw = !lflag(p, ICANON);
		if (raw && !p->tio.c_cc[VMIN] && !p->tio.c_cc[VTIME])
			return 0;
		if (f->flags & O_NONBLOCK)
			return -EAGAIN;
		/* VTIME without VMIN: a time-out; with VMIN it would start at the first byte, which is close enough */
		u64 deadline = raw && p->tio.c_cc[VTIME] && !p->tio.c_cc[VMIN]
				       ? mono_ns() + p->tio.c_cc[VTIME] * 100000000ull
				       : NO_DEADLINE;
		int r = wait_event(&p->in_wq, in_ready(p) || !p->master_open, deadline, true);
		if (r)
			return r == -ETIMEDOUT ? 0 : r;
	}
	return take_input(p, u);
}

/* Can the slave write a character, which may become two? */
static bool has_room(const struct pty *p)
{
	return !p->halted && p->out_used + 2 <= OUT_SIZE;
}

static s64 slave_write(struct file *f, struct uio *u, u64 *pos)
{
	struct pty *p = f->priv;
	s64 done = 0;
	int bg = lflag(p, TOSTOP) && p->master_open ? tty_check_change(&p->tty) : 0;

	if (bg)
		return bg;
	while (u->left) {
		u8 c;
		if (!p->master_open)
			return done ? done : -EIO;
		if (!has_room(p)) {
			if (f->flags & O_NONBLOCK)
				return done ? done : -EAGAIN;
			waitq_wake(&p->out_wq, POLLIN | POLLRDNORM);
			int r = wait_event(&p->out_wq, has_room(p) || !p->master_open, NO_DEADLINE, true);
			if (r)
				return done ? done : r;
			continue;
		}
		if (uio_get(u, &c, 1) != 1)
			return done ? done : -EFAULT;
		out_processed(p, c);
		done++;
	}
	waitq_wake(&p->out_wq, POLLIN | POLLRDNORM);
	return done;
}

static u32 slave_poll(struct file *f, struct poll_table *pt)
{
	struct pty *p = f->priv;

	poll_on(pt, &p->in_wq);
	poll_on(pt, &p->out_wq);
	return (in_ready(p) ? POLLIN | POLLRDNORM : 0) | (has_room(p) ? POLLOUT | POLLWRNORM : 0) |
	       (!p->master_open ? POLLHUP | POLLIN : 0);
}

/* --- ioctls, the same on both sides but for a few ---------------------------------------------- */

static s64 set_modes(struct pty *p, u64 arg, bool flush)
{
	struct termios t;
	bool was_canon = lflag(p, ICANON);

	if (get_user(t, (struct termios *)arg))
		return -EFAULT;
	if ((p->tio.c_iflag ^ t.c_iflag) & IXON)
		tell(p, t.c_iflag & IXON ? TIOCPKT_DOSTOP : TIOCPKT_NOSTOP);
	p->tio = t;
	if (!(t.c_iflag & IXON))
		start_output(p);
	if (flush) {
		in_flush(p);
		tell(p, TIOCPKT_FLUSHREAD);
	}
	/* what was typed so far becomes readable, or a line again */
	if (was_canon != (bool)lflag(p, ICANON)) {
		p->in_lines = 0;
		for (u32 i = 0; i < p->in_used; i++) {
			u16 *v = &p->in[(p->in_head + i) % IN_SIZE];
			*v &= 0xff;
			if (!was_canon && (*v == '\n' || i == p->in_used - 1)) {
				*v |= LINE_END;
				p->in_lines++;
			}
		}
	}
	waitq_wake(&p->in_wq, POLLIN);
	return 0;
}

static s64 set_size(struct pty *p, u64 arg)
{
	struct winsize ws;

	if (get_user(ws, (struct winsize *)arg))
		return -EFAULT;
	bool same = !memcmp(&ws, &p->ws, sizeof(ws));
	p->ws = ws;
	if (!same)
		tty_signal(&p->tty, SIGWINCH);
	return 0;
}

/* What a background process of the slave's session may not do unasked. */
static bool changes(u32 cmd)
{
	return cmd == TCSETS || cmd == TCSETSW || cmd == TCSETSF || cmd == TCFLSH || cmd == TCXONC ||
	       cmd == TCSBRK || cmd == TCSBRKP;
}

static s64 common_ioctl(struct file *f, u32 cmd, u64 arg, bool master)
{
	struct pty *p = f->priv;
	int v = changes(cmd) && !master ? tty_check_change(&p->tty) : 0;

	if (v)
		return v;

	switch (cmd) {
	case TCGETS:
		return put_user(p->tio, (struct termios *)arg);
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
		return set_modes(p, arg, cmd == TCSETSF);
	case TIOCGWINSZ:
		return put_user(p->ws, (struct winsize *)arg);
	case TIOCSWINSZ:
		return set_size(p, arg);
	case TIOCGPGRP:
	case TIOCSPGRP:
	case TIOCGSID:
	case TIOCSCTTY:
	case TIOCNOTTY:
		return tty_job_ioctl(&p->tty, f, cmd, arg, master);
	case TIOCOUTQ:
		v = (int)p->out_used;
		return put_user(v, (int *)arg);
	case TCFLSH:
		if (arg != TCOFLUSH)
			in_flush(p);
		if (arg != TCIFLUSH)
			p->out_head = p->out_used = 0;
		tell(p, arg == TCIFLUSH	  ? TIOCPKT_FLUSHREAD
			: arg == TCOFLUSH ? TIOCPKT_FLUSHWRITE
					  : TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE);
		return 0;
	case TCXONC:
		if (arg == TCOOFF)
			stop_output(p);
		else if (arg == TCOON)
			start_output(p);
		return arg <= TCION ? 0 : -EINVAL;
	case TCSBRK:
	case TCSBRKP:
		return 0;
	}
	return -ENOTTY;
}

static s64 slave_ioctl(struct file *f, u32 cmd, u64 arg)
{
	struct pty *p = f->priv;

	if (cmd == FIONREAD) {
		int v = (int)(lflag(p, ICANON) && !p->in_lines ? 0 : p->in_used);
		return put_user(v, (int *)arg);
	}
	if (!p->master_open)
		return -EIO;
	return common_ioctl(f, cmd, arg, false);
}

static s64 open_peer(struct pty *p, u32 flags)
{
	char path[24];
	int err;

	snprintf(path, sizeof(path), "/dev/pts/%u", p->index);
	struct file *f = vfs_open(AT_FDCWD, path, flags, 0, &err);
	if (!f)
		return err;
	s64 fd = fd_install(f, flags & O_CLOEXEC, 0);
	if (fd < 0)
		file_put(f);
	return fd;
}

static s64 master_ioctl(struct file *f, u32 cmd, u64 arg)
{
	struct pty *p = f->priv;
	int v;

	switch (cmd) {
	case TIOCGPTN:
		return put_user(p->index, (u32 *)arg);
	case TIOCSPTLCK:
		if (get_user(v, (int *)arg))
			return -EFAULT;
		p->locked = v;
		return 0;
	case TIOCGPTLCK:
		v = p->locked;
		return put_user(v, (int *)arg);
	case TIOCPKT:
		if (get_user(v, (int *)arg))
			return -EFAULT;
		p->packet = v;
		p->events = 0;
		return 0;
	case TIOCGPKT:
		v = p->packet;
		return put_user(v, (int *)arg);
	case TIOCGPTPEER:
		return open_peer(p, (u32)arg);
	case FIONREAD:
		v = (int)p->out_used;
		return put_user(v, (int *)arg);
	}
	return common_ioctl(f, cmd, arg, true);
}

/* --- life ------------------------------------------------------------------------------------------ */

/* The number is free when nobody has it open; memory goes with the inode's last reference. */
static void unlist(struct pty *p)
{
	if (p->master_open || p->slaves || ptys[p->index] != p)
		return;
	ptys[p->index] = NULL;
	inode_put(&p->inode);
}

static void pts_evict(struct inode *ino)
{
	struct pty *p = container_of(ino, struct pty, inode);

	kfree(p->in);
	kfree(p->out);
	kfree(p);
}

static void master_release(struct file *f)
{
	struct pty *p = f->priv;

	p->master_open = false;
	tty_hangup(&p->tty);
	waitq_wake_all(&p->in_wq, POLLHUP | POLLIN);
	waitq_wake_all(&p->out_wq, POLLHUP | POLLOUT);
	unlist(p);
	inode_put(&p->inode);
}

static void slave_release(struct file *f)
{
	struct pty *p = f->priv;

	p->slaves--;
	waitq_wake_all(&p->out_wq, POLLHUP | POLLIN);
	unlist(p);
}

static const struct file_ops master_fops = {
	.kind = "pty",
	.read = master_read,
	.write = master_write,
	.poll = master_poll,
	.ioctl = master_ioctl,
	.release = master_release,
};

static void slave_by_tty_release(struct file *f)
{
	struct pty *p = f->priv;

	slave_release(f);
	inode_put(&p->inode);
}

static const struct file_ops slave_by_tty_fops = {
	.kind = "pty",
	.read = slave_read,
	.write = slave_write,
	.poll = slave_poll,
	.ioctl = slave_ioctl,
	.release = slave_by_tty_release,
};

static const struct file_ops slave_fops = {
	.kind = "pty",
	.read = slave_read,
	.write = slave_write,
	.poll = slave_poll,
	.ioctl = slave_ioctl,
	.release = slave_release,
};

static void slave_attach(struct pty *p, struct file *f)
{
	p->slaves++;
	p->slave_was_open = true;
	f->ops = &slave_fops;
	f->priv = p;
}

static int slave_open(struct inode *ino, struct file *f)
{
	struct pty *p = container_of(ino, struct pty, inode);

	if (p->locked || !p->master_open)
		return -EIO;
	slave_attach(p, f);
	tty_opened(&p->tty, f);
	return 0;
}

/* Opened as /dev/tty: that file has another inode, so the pty is held by itself. */
static int pty_tty_open(struct tty *t, struct file *f)
{
	struct pty *p = container_of(t, struct pty, tty);

	slave_attach(p, f);
	f->ops = &slave_by_tty_fops;
	inode_get(&p->inode);
	return 0;
}

static const struct tty_ops pty_tty_ops = {.open = pty_tty_open};

int ptmx_open(struct inode *ino, struct file *f)
{
	static const struct termios fresh = {
		.c_iflag = ICRNL | IXON,
		.c_oflag = OPOST | ONLCR,
		.c_cflag = B38400 | CS8 | CREAD,
		.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
		.c_cc = {[VINTR] = 3,
			 [VQUIT] = 28,
			 [VERASE] = 127,
			 [VKILL] = 21,
			 [VEOF] = 4,
			 [VMIN] = 1,
			 [VSTART] = 17,
			 [VSTOP] = 19,
			 [VSUSP] = 26,
			 [VREPRINT] = 18,
			 [VDISCARD] = 15,
			 [VWERASE] = 23,
			 [VLNEXT] = 22},
	};
	u32 n = 0;

	while (n < MAX_PTYS && ptys[n])
		n++;
	if (n == MAX_PTYS)
		return -ENOSPC;
	struct pty *p = kzalloc(sizeof(*p));
	if (!p)
		return -ENOMEM;
	inode_init(&p->inode, pts_sb, &pts_slave_ops, S_IFCHR | 0620, n + 3);
	p->in = kmalloc(IN_SIZE * sizeof(u16));
	p->out = kmalloc(OUT_SIZE);
	if (!p->in || !p->out) {
		inode_put(&p->inode);
		return -ENOMEM;
	}
	p->index = n;
	p->uid = current->proc->euid;
	p->gid = 5;
	tty_init(&p->tty, &pty_tty_ops, MKDEV(136, n));
	p->master_open = p->locked = true;
	p->tio = fresh;
	waitq_init(&p->in_wq);
	waitq_init(&p->out_wq);
	ptys[n] = p;
	inode_get(&p->inode); /* the master's */
	f->ops = &master_fops;
	f->priv = p;
	return 0;
}

/* --- /dev/pts ------------------------------------------------------------------------------------------ */

static int slave_getattr(struct inode *ino, struct kstat *st)
{
	struct pty *p = container_of(ino, struct pty, inode);

	st->ino = ino->ino;
	st->dev = ino->dev;
	st->mode = ino->mode;
	st->nlink = 1;
	st->blksize = 1024;
	st->rdev = MKDEV(136, p->index);
	st->uid = p->uid;
	st->gid = p->gid;
	st->atime_ns = st->mtime_ns = st->ctime_ns = (s64)real_ns();
	return 0;
}

static int slave_setattr(struct inode *ino, const struct iattr *a)
{
	struct pty *p = container_of(ino, struct pty, inode);

	if (a->valid & ATTR_MODE)
		ino->mode = (ino->mode & ~07777u) | (a->mode & 07777);
	if (a->valid & ATTR_UID)
		p->uid = a->uid;
	if (a->valid & ATTR_GID)
		p->gid = a->gid;
	return 0; /* a terminal's times are not kept */
}

static int root_getattr(struct inode *ino, struct kstat *st)
{
	st->ino = ino->ino;
	st->dev = ino->dev;
	st->mode = ino->mode;
	st->nlink = 2;
	st->blksize = 1024;
	return 0;
}

static int root_lookup(struct inode *dir, const char *name, u32 len, struct inode **out)
{
	u32 n = 0;

	if (len > 3 || (name[0] == '0' && len > 1))
		return -ENOENT;
	for (u32 i = 0; i < len; i++) {
		if (name[i] < '0' || name[i] > '9')
			return -ENOENT;
		n = n * 10 + (u32)(name[i] - '0');
	}
	if (n >= MAX_PTYS || !ptys[n])
		return -ENOENT;
	*out = &ptys[n]->inode;
	inode_get(*out);
	return 0;
}

static int root_readdir(struct inode *dir, struct dir_sink *s)
{
	for (u64 n = s->pos; n < MAX_PTYS; n++) {
		char name[8];
		if (!ptys[n])
			continue;
		int len = snprintf(name, sizeof(name), "%u", (u32)n);
		if (!s->emit(s, name, (u32)len, n + 3, DT_OF_MODE(S_IFCHR), n + 1))
			break;
	}
	return 0;
}

static const struct inode_ops pts_slave_ops = {
	.getattr = slave_getattr,
	.setattr = slave_setattr,
	.open = slave_open,
	.evict = pts_evict,
};

static const struct inode_ops pts_root_ops = {
	.getattr = root_getattr,
	.lookup = root_lookup,
	.readdir = root_readdir,
};

struct superblock *pts_new(struct inode **root)
{
	static struct inode dir;
	struct superblock *sb = kzalloc(sizeof(*sb));

	if (!sb)
		return NULL;
	sb->type = sb->source = "devpts";
	sb->options = ",nosuid,noexec,gid=5,mode=620,ptmxmode=666";
	sb->flags = SB_NOCACHE | SB_NOSUID | SB_NOEXEC;
	sb->magic = DEVPTS_SUPER_MAGIC;
	sb->dev = vfs_new_dev();
	inode_init(&dir, sb, &pts_root_ops, S_IFDIR | 0755, 1);
	pts_sb = sb;
	*root = &dir;
	return sb;
}
