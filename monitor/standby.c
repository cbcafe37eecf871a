/* SPDX-License-Identifier: ISC */
/*
 * The wait of a standby (abi/standby.h), and the arrival of its app. It happens in the turn in which the guest asks, so the guest stands
 * still, and so does its clock: that goes on from where it was. All that has to be opened or mapped was opened and mapped
 * before the filter: the app's layer is a memory file as large as its window, which is in the guest's memory already, and the app is copied into it.
 * Nothing but that file, its size and a name changes.
 *
 * Whoever holds the other end is our own user's. The packet is checked all the same, and so is the layer (cfg->standby_suits).
 */
#include "monitor/standby.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "abi/standby.h"
#include "monitor/clock.h"
#include "monitor/control.h"
#include "monitor/instance.h"
#include "monitor/load.h"
#include "monitor/notify.h"
#include "monitor/ring_server.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(standby, poll);
HOST_SYSCALL(standby, recvmsg);
HOST_SYSCALL(standby, write);
HOST_SYSCALL(standby, newfstatat);
HOST_SYSCALL(standby, fstat);
HOST_SYSCALL(standby, pread64);
HOST_SYSCALL(standby, pwrite64);

static char program[sizeof(((struct standby_app *)0)->program)];

static void reply(int fd, int err)
{
	struct standby_reply r = {STANDBY_MAGIC, err};
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	if (poll(&p, 1, 0) != 1 || write(fd, &r, sizeof(r)) < 0)
		return; /* its hangup tells us soon */
}

/* One packet: bytes, 0 at the end; *fd: what came along, or -1. */
static ssize_t receive(int from, struct standby_app *app, int *fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} c;
	struct iovec iov = {app, sizeof(*app)};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof(c.buf)};
	ssize_t n = recvmsg(from, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	*fd = -1;
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
	    h->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(h), sizeof(*fd));
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? -EAGAIN : n < 0 ? 0 : n;
}

static int copy_layer(int to, int from, uint64_t size)
{
	static uint8_t buf[64u << 10];

	for (uint64_t at = 0; at < size;) {
		ssize_t n = pread(from, buf, size - at < sizeof(buf) ? size - at : sizeof(buf), (off_t)at);

		if (n <= 0)
			return n ? -errno : -EIO;
		if (pwrite(to, buf, (size_t)n, (off_t)at) != n)
			return -ENOSPC;
		at += (uint64_t)n;
	}
	return 0;
}

static int take(struct instance *in, const struct standby_app *app, ssize_t n, int fd)
{
	const struct monitor_config *cfg = in->cfg;
	struct stat st;
	int r;

	if (n != sizeof(*app) || app->magic != STANDBY_MAGIC || app->version != STANDBY_VERSION || fd < 0)
		return -EINVAL;
	if (!app->size || app->size > STANDBY_MAX || app->size > cfg->layer_size[cfg->app_layer - 1] ||
	    app->size % SNAP_PAGE)
		return -EFBIG;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != app->size)
		return -ESTALE;
	if (!cfg->standby_suits(cfg->started_arg, fd, app->size))
		return -EXDEV;
	r = copy_layer(cfg->standby_rw, fd, app->size);
	if (r) /* what is there now is nobody's */
		in->killed = true;
	return r;
}

static void begin(struct instance *in, const struct standby_app *app, uint64_t mono)
{
	struct timespec ts;
	int64_t offset;

	load_boot_info(&in->mem, &in->plan)->app_size = app->size;
	snprintf(program, sizeof(program), "%s", app->program);
	in->restored_cfg.program = program;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	in->here_mono_ns = in->started_mono_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	offset = (int64_t)(in->started_mono_ns - mono);
	clock_set_offset(offset);
	ring_server_set_clock(in->rs, offset);
	clock_start(in->time);
	clock_gettime(CLOCK_REALTIME, &ts);
	in->started_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int standby_wait(struct instance *in)
{
	const struct monitor_config *cfg = in->cfg;
	struct pollfd p[2] = {{.fd = cfg->standby_fd, .events = POLLIN},
			      {.fd = in->control ? control_fd(in->control) : -1, .events = POLLIN}};
	struct standby_app app;
	uint64_t mono, real;
	ssize_t n;
	int fd, r;

	clock_guest_now(in->time, &mono, &real);
	reply(cfg->standby_fd, 0);
	for (;;) {
		if (in->killed || in->timed_out || __atomic_load_n(&in->signals, __ATOMIC_RELAXED)) {
			in->killed = true; /* there is no program yet that could want to hear of it */
			return -EINTR;
		}
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents)
			control_serve(in->control);
		if (!p[0].revents)
			continue;
		n = receive(cfg->standby_fd, &app, &fd);
		if (n == -EAGAIN)
			continue;
		if (!n) {
			in->killed = true;
			return -EPIPE;
		}
		app.program[sizeof(app.program) - 1] = 0;
		r = take(in, &app, n, fd);
		if (fd >= 0)
			close(fd);
		reply(cfg->standby_fd, r);
		if (!r)
			break;
	}
	begin(in, &app, mono);
	close(cfg->standby_fd);
	return 0;
}
