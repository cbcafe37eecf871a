/* SPDX-License-Identifier: ISC */
/*
 * Lines for whoever watches an instance, written to the descriptor of --notify-fd:
 *
 *   how boot | how snapshot                     it starts, and from what
 *   how prefix KEY DIGEST SIZE | how standby KEY DIGEST SIZE    the same, and which file the app's layer is (abi/standby.h)
 *   listening PORT                              the host's socket of a forwarded port listens for the program; each time that begins
 *
 * The reader is trusted with nothing and owes nothing: a line that does not fit at this moment is dropped, one that
 * nobody reads any more, too (SIGPIPE is ignored by then). The description may be shared with others, so it is left as
 * it is, blocking or not; poll tells whether a line fits, since a pipe that is writable takes PIPE_BUF bytes at once.
 * Only calls that the filter has anyway.
 */
#include "monitor/notify.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "monitor/seccomp.h"

HOST_SYSCALL(core, poll);
HOST_SYSCALL(core, write);

void notify_line(const struct monitor_config *cfg, const char *line)
{
	struct pollfd p = {.fd = cfg->notify_fd, .events = POLLOUT};

	if (!cfg->notify_fd || poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT) ||
	    p.revents & (POLLERR | POLLHUP))
		return;
	if (write(cfg->notify_fd, line, strlen(line)) < 0)
		return; /* it went away this moment */
}

void notify_listening(const struct monitor_config *cfg, uint16_t port)
{
	char line[32];

	if (!cfg->notify_fd)
		return;
	snprintf(line, sizeof(line), "listening %u\n", port);
	notify_line(cfg, line);
}
