/* SPDX-License-Identifier: ISC */
/* A standard stream: shared by console.c, which moves data, and console_tty.c. */
#ifndef COWBELL_GUEST_VFS_CONSOLE_H
#define COWBELL_GUEST_VFS_CONSOLE_H

#include <asm/ioctls.h>

#include "guest/plat/ring.h"
#include "guest/proc/tty.h"
#include "guest/vfs/internal.h"

struct stream {
	struct inode inode;
	int handle;
	bool ready;
	/* output */
	u32 out_bytes; /* under way */
	int out_err; /* for the next write */
	bool out_told; /* the program knows of it */
	u64 out_lost; /* bytes that it cost */
	u64 out_ns; /* last time that a write rang the doorbell */
	struct waitq out_wq;
	/* input */
	u8 *in;
	u32 in_cap, in_pos, in_len;
	bool eof, polled;
	int in_err;
	u32 revents; /* the answer of POLL; 0: not known */
	struct ring_req read, poll;
	struct waitq in_wq;
};

/* The streams that are terminals, as the controlling terminal of the program's session. */
extern struct tty console_terminal;
void console_terminal_init(void);
/* Before output by the background: does the terminal want that stopped (TOSTOP)? 0 or what write returns. */
int tty_check_write(struct stream *s);

/* ioctl of a terminal; `in` is the stream whose input it reads. */
s64 tty_ioctl(struct file *f, struct stream *s, struct stream *in, u32 cmd, u64 arg);

#endif
