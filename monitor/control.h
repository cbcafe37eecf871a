/* SPDX-License-Identifier: ISC */
/* The control socket of an instance: abi/control.h, the server's side. Knows no backend and no ring. */
#ifndef COWBELL_MONITOR_CONTROL_H
#define COWBELL_MONITOR_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/control.h"

struct control;

/* What the requests do. */
struct control_hooks {
	void *arg;
	void (*status)(void *arg,
		       struct ctl_status *st); /* fill what control.c does not know; zeroed before */
	int (*signal)(void *arg, int sig); /* 0 or -errno */
	/* Begin: 0, and control_answer(c, ticket, ...) follows; or -errno. fd stays open until then, and is ours. */
	int (*snapshot)(void *arg, int ticket, int fd, uint32_t flags);
	/* handover.h */
	void (*give)(void *arg, uint32_t first, bool all, struct ctl_fds *out, int fds[CTL_FDS_MAX]);
	void (*peers)(void *arg, uint32_t port, struct ctl_peers *out); /* zeroed before */
	int (*handover)(void *arg, bool took);
};

/* Listen. name: unique one of the user, or NULL. given: sockets that listen already, or -1. NULL after one line: the
 * name is taken, ... */
struct control *control_open(const char id[CTL_ID_LEN + 1], const char *name, const int given[2],
			     const struct control_hooks *hooks);
/* The sockets that listen; -1: none. */
void control_listeners(const struct control *c, int out[2]);
/* Readable when control_serve() has something to do; for an epoll set or poll(2). */
int control_fd(const struct control *c);
/* Accept, read and answer what is there; never waits. */
void control_serve(struct control *c);
/* What became of a snapshot. */
void control_answer(struct control *c, int ticket, int error, const char *why,
		    const struct ctl_snapshot *out);
/* The instance is held for the connection of this ticket, until handover(). */
void control_hold(struct control *c, int ticket);
void control_close(struct control *c);

/* The text of an instance's ID: the first 6 bytes. */
void control_id(char out[CTL_ID_LEN + 1], const uint8_t instance_id[16]);

#endif
