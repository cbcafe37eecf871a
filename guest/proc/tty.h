/* SPDX-License-Identifier: ISC */
/*
 * What a terminal means to sessions and process groups, whatever moves its
 * data: embedded in a pty and in the console.
 *
 * A session has at most one controlling terminal and a terminal controls at
 * most one session, so the terminal's `session` alone says it: a process has
 * the terminal whose session is its own, unless it gave it up (no_tty). Nobody
 * holds a pointer to a terminal but its owner.
 */
#ifndef COWBELL_GUEST_TTY_H
#define COWBELL_GUEST_TTY_H

#include "guest/base.h"

struct file;
struct process;
struct tty;

struct tty_ops {
	int (*open)(struct tty *t, struct file *f); /* for /dev/tty: sets f->ops, f->priv; 0 or -errno */
	bool (*there)(struct tty *t); /* NULL: yes. The console is one only while the host's stream is one */
};

struct tty {
	struct list node;
	const struct tty_ops *ops;
	s32 session, pgrp; /* what it controls, and who is in the foreground; 0: none */
	u64 rdev; /* as /proc shows it */
};

void tty_init(struct tty *t, const struct tty_ops *ops, u64 rdev);
/* Nobody can use it any more (its master is closed, it is freed): its session loses it. The session's
 * leader gets SIGHUP and SIGCONT. */
void tty_hangup(struct tty *t);
struct tty *tty_of(const struct process *p); /* controlling terminal, or NULL */
struct tty *tty_by_session(s32 sid);
/* Opened by current without O_NOCTTY, for reading: a session leader without a terminal gets it. */
void tty_opened(struct tty *t, struct file *f);
/* May current read from it / change it (modes, and output with TOSTOP)? 0, -EIO, or -ERESTARTSYS: SIGTTIN or
 * SIGTTOU went to its group. */
int tty_check_read(struct tty *t);
int tty_check_change(struct tty *t);
/* TIOCGPGRP, TIOCSPGRP, TIOCGSID, TIOCSCTTY, TIOCNOTTY. master: asked from the other side of a pty. */
s64 tty_job_ioctl(struct tty *t, struct file *f, u32 cmd, u64 arg, bool master);
/* A key or a new size: to the foreground group. */
void tty_signal(struct tty *t, int sig);
/* The leader of session sid ends: its terminal is free; the foreground group hears of it. */
void tty_leader_gone(s32 sid);
bool tty_uses_id(s32 id); /* as its session or group */

#endif
