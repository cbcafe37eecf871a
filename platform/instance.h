/* SPDX-License-Identifier: ISC */
/*
 * One child process, `cowbell run`, that is an instance: its arguments, environment, descriptors, output, readiness and end.
 *
 * The child: cowbell run --monitor M -m SIZE --egress RULES -p unix:PATH:PORT --notify-fd N --env-file /dev/fd/K
 * [--process TYPE | --command LINE] image:IMAGE [ARG...]
 * with XDG_DATA_HOME and XDG_CACHE_HOME below data_dir, PR_SET_PDEATHSIG (it ends when we die), output by pipes that become log lines.
 * --notify-fd: the monitor writes lines there: "how HOW ...", "listening PORT".
 */
#ifndef COWBELL_PLATFORM_INSTANCE_H
#define COWBELL_PLATFORM_INSTANCE_H

#include "platform/sched.h"

struct instance_spec {
	const char *image; /* name in the image store */
	const char *process; /* process type, or NULL with argv */
	const char *command; /* a line in place of the image's command, read as one of a Procfile, or NULL */
	const char *const *argv; /* words in place of it, or NULL */
	json_t *env; /* all variables: config, PORT, DYNO, ...; borrowed */
	const struct limits *limits;
	int stdio[3]; /* given descriptors, closed afterwards; -1: output to the log, no input */
	bool tty;
	bool port; /* it has a PORT and a socket */
	uint64_t time_limit_ns;
	int standby; /* --standby: the child's end of a pair, which is taken; 0: none */
};
struct instance_events {
	void (*how)(struct instance *i,
		    const char *text); /* what it starts from, as the monitor says; or NULL */
	void (*listening)(struct instance *i);
	void (*lost)(
		struct instance *i); /* it is ending: its descriptors are closed already; ended() follows */
	void (*ended)(
		struct instance *i,
		int exit_status); /* of the shell's kind: 128+N; once, also when it could not be started */
};
/* Spawn, on another thread. The struct is the caller's; fields socket_path, started_ns, how are filled, pid a little later. 0 or -errno. */
int instance_start(struct instance *i, const struct instance_spec *s, const struct instance_events *ev);
void instance_signal(struct instance *i, int sig);
/* The process of `from` is that of `to` from now on, and tells its events; `from` has none. */
void instance_hand_over(struct instance *from, struct instance *to, const struct instance_events *ev);
/* Bytes of memory that it has of its own, as the kernel says (a look at /proc; microseconds); 0 if it has gone. */
uint64_t instance_memory(const struct instance *i);

#define APP_PORT 8080 /* where every app listens: each is a machine of its own */

/* Once, before the first start: the directory of sockets, limits of this process. 0 or -errno. */
int instances_open(void);

#endif
