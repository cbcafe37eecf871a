/* SPDX-License-Identifier: ISC */
/* sd_notify(3)'s datagram, sent without its library: "READY=1" and the like to the socket that NOTIFY_SOCKET names. */
#include "platform/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform/platform.h"

void notify_supervisor(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	size_t n = path ? strlen(path) : 0;

	if (!n || n >= sizeof(a.sun_path) || (*path != '/' && *path != '@'))
		return;
	memcpy(a.sun_path, path, n);
	if (*path == '@') /* an abstract one */
		a.sun_path[0] = 0;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&a,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		plog("debug", NULL, "NOTIFY_SOCKET %s is not heard", path);
	close(fd);
}

static void alive(uv_timer_t *t)
{
	notify_supervisor("WATCHDOG=1");
}

void notify_watchdog(void)
{
	static uv_timer_t timer;
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t ms = usec ? strtoull(usec, NULL, 10) / 1000 : 0;

	if (ms < 2 || (pid && strtol(pid, NULL, 10) != (long)getpid()))
		return;
	uv_timer_init(loop, &timer);
	uv_timer_start(&timer, alive, 0, ms / 2);
	uv_unref((uv_handle_t *)&timer);
}
