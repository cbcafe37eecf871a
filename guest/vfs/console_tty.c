/* SPDX-License-Identifier: ISC */
/*
 * The terminal behind a standard stream: its modes are the host terminal's, so
 * ioctls ask the monitor. Job control is answered from here: the program has
 * the terminal for itself.
 */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <asm/termios.h>

#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/console.h"

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

s64 tty_ioctl(struct stream *s, struct stream *in, u32 cmd, u64 arg)
{
	int v;

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
