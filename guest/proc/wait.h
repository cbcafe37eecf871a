/* SPDX-License-Identifier: ISC */
/* Waiting for children: between the system calls and wait.c. */
#ifndef COWBELL_GUEST_WAIT_H
#define COWBELL_GUEST_WAIT_H

#include "guest/proc/proc.h"

struct wait_req {
	int which; /* P_ALL, P_PID, P_PGID, P_PIDFD */
	s32 id; /* P_PID, P_PGID */
	struct process *target; /* P_PIDFD; the caller holds a reference */
	int options; /* WEXITED, WSTOPPED, WCONTINUED, WNOHANG, WNOWAIT, __W* */
	/* Results, when something was found: */
	s32 pid;
	u32 uid;
	int status; /* as wait4 tells it */
	int code, detail; /* as waitid does: si_code, si_status */
	struct usage usage; /* with that of its own children */
};

/* The child's pid; 0: WNOHANG and no news; -ECHILD, -ERESTARTSYS. May sleep. */
s64 process_wait(struct wait_req *w);

#endif
