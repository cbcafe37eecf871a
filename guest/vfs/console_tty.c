/* SPDX-License-Identifier: ISC */
/*
 * The terminal behind a standard stream: its modes are the host terminal's, so
 * ioctls ask the monitor. Job control is the instance's own: to the host's shell
 * the monitor is one job, and its terminal is ours while we are in its foreground.
 */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <asm/termios.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/console.h"

static int console_tty_open(struct tty *t, struct file *f)
{
	return console_open(f, __builtin_ctz(boot->host_tty_mask));
}

static bool console_tty_there(struct tty *t)
{
	return boot->host_tty_mask & 7;
}

static const struct tty_ops console_tty_ops = {.open = console_tty_open, .there = console_tty_there};
struct tty console_terminal;

/* The program is started as a login would start it: its session has the terminal. */
void console_terminal_init(void)
{
	struct process *p = current->proc;

	tty_init(&console_terminal, &console_tty_ops, MKDEV(5, 1));
	console_terminal.session = p->sid;
	console_terminal.pgrp = p->pgid;
}

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

int tty_check_write(struct stream *s)
{
	struct process *p = current->proc;
	struct ring_tty *t;
	bool stop;

	if (likely(p->pgid == console_terminal.pgrp || tty_of(p) != &console_terminal))
		return 0;
	t = kzalloc(sizeof(*t));
	if (!t)
		return -ENOMEM;
	stop = tty_call(s, RING_OP_TTY_GET, 0, t) >= 0 && (t->lflag & TOSTOP);
	kfree(t);
	return stop ? tty_check_change(&console_terminal) : 0;
}

s64 tty_ioctl(struct file *f, struct stream *s, struct stream *in, u32 cmd, u64 arg)
{
	int v;

	switch (cmd) {
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
	case TCXONC:
	case TCFLSH:
	case TCSBRK:
	case TCSBRKP:
		v = tty_check_change(&console_terminal);
		if (v)
			return v;
	}
	switch (cmd) {
	case TCGETS:
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
	case TIOCGWINSZ:
	case TIOCSWINSZ:
		return tty_modes_ioctl(s, cmd, arg);
	case TIOCGPGRP:
	case TIOCGSID:
	case TIOCSPGRP:
	case TIOCSCTTY:
	case TIOCNOTTY:
		return tty_job_ioctl(&console_terminal, f, cmd, arg, false);
	case TIOCOUTQ:
		v = (int)s->out_bytes;
		return put_user(v, (int *)arg);
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
