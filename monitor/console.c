// SPDX-License-Identifier: ISC
/*
 * The standard streams and the terminal.
 *
 * A standard stream is a file description shared with the user's shell and
 * with other programs, so it must never be made non-blocking. What each kind
 * of file gets:
 *
 *   pipe, terminal   opened once more through /proc/self/fd: a description of
 *                    our own that may be non-blocking, waited for in epoll
 *   socket           the description itself, with MSG_DONTWAIT
 *   file, /dev/null  the description itself (it owns the offset); never blocks
 *   a pipe or terminal that cannot be opened again (another user's): the
 *                    description itself; a call is made only after epoll said
 *                    ready, and writes go in pieces of PIPE_BUF
 *
 * Standard input is read only when the guest asks: what the program does not
 * read stays for whoever comes next.
 *
 * The terminal keeps its own line discipline; the guest's termios calls set
 * the host terminal's. Its settings at the start are put back when the server
 * goes, and by ring_server_restore_tty(), which is safe in a signal handler;
 * while the program is stopped, too, since not every shell sees to that.
 * Only SIGKILL of the monitor can leave a terminal in the program's mode.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "monitor/ring_internal.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(core, read);
HOST_SYSCALL(core, recvmsg);
HOST_SYSCALL(core, sendmsg);
HOST_SYSCALL(tty, ioctl);

#define LOG_MAX 1000u

/* The kernel's struct termios: glibc's is another. */
struct ktermios {
	uint32_t iflag, oflag, cflag, lflag;
	uint8_t line, cc[19];
};
_Static_assert(sizeof(struct ktermios) == 36, "kernel abi");
_Static_assert(sizeof(struct ring_tty) == 52, "abi");

/* For the signal handlers that restore it: one terminal per process. */
static struct {
	int fd; /* -1: nothing to restore */
	pid_t pgrp;
	bool changed;
	bool suspended; /* the program's settings are in `program` while it is stopped */
	struct ktermios saved, program;
} tty = {.fd = -1};

/* Changed by us, and in the background the terminal is somebody else's. */
static bool tty_is_ours(void)
{
	pid_t fg;

	return tty.fd >= 0 && tty.changed && !ioctl(tty.fd, TIOCGPGRP, &fg) && fg == tty.pgrp;
}

void ring_server_restore_tty(void)
{
	if (!tty_is_ours())
		return;
	ioctl(tty.fd, TCSETS, &tty.saved);
	tty.changed = false;
}

void ring_server_suspend_tty(void)
{
	if (!tty_is_ours() || ioctl(tty.fd, TCGETS, &tty.program))
		return;
	ioctl(tty.fd, TCSETS, &tty.saved);
	tty.suspended = true;
}

void ring_server_resume_tty(void)
{
	if (!tty.suspended || !tty_is_ours())
		return;
	ioctl(tty.fd, TCSETS, &tty.program);
	tty.suspended = false;
}

/* A crash of ours must not leave a raw terminal either. SA_RESETHAND: then it goes on as it would have. */
static void on_crash(int sig)
{
	(void)sig;
	ring_server_restore_tty();
}

static void restore_on_crash(void)
{
	static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
	struct sigaction sa = {.sa_handler = on_crash, .sa_flags = SA_RESETHAND};

	for (unsigned i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		sigaction(crashes[i], &sa, NULL);
}

/* --- opening --------------------------------------------------------------------- */

static int reopen(int fd)
{
	char path[32];
	int flags = fcntl(fd, F_GETFL);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* A file, a device: no other process takes part in a write, so its result is final. Not /dev/null, which
 * cannot fail, unless it stands for a stream that our caller closed. */
bool ring_server_writes_at_once(int fd)
{
	struct stat st;

	if (fstat(fd, &st) || fcntl(fd, F_GETFL) & O_PATH)
		return true;
	if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || isatty(fd))
		return false;
	return !(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
}

static void open_stream(struct ring_server *rs, int fd)
{
	struct handle *h = handle_new(rs, H_CONSOLE, fd);
	struct stat st;
	int own = -1;

	if (fstat(fd, &st)) { /* closed by our caller: end of file, EBADF to writers */
		h->fd = -1;
		h->readable = h->writable = true;
		return;
	}
	h->is_sock = S_ISSOCK(st.st_mode);
	h->is_tty = isatty(fd);
	if (S_ISFIFO(st.st_mode) || h->is_tty)
		own = reopen(fd);
	if (own >= 0)
		h->fd = own;
	else
		h->shared_blocking = !h->is_sock;
	if (!handle_watch(rs, h))
		h->shared_blocking = false;
	else
		h->readable = h->writable = !h->shared_blocking;
}

int console_init(struct ring_server *rs)
{
	for (int fd = 0; fd < 3; fd++)
		open_stream(rs, fd);
	for (int fd = 0; fd < 3 && tty.fd < 0; fd++)
		if (isatty(fd) && !ioctl(fd, TCGETS, &tty.saved))
			tty.fd = fd;
	tty.pgrp = getpgrp();
	if (tty.fd >= 0)
		restore_on_crash();
	return 0;
}

/* --- data ---------------------------------------------------------------------------- */

static ssize_t stream_read(struct handle *h, void *buf, size_t len)
{
	struct iovec iov = {buf, len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (h->fd < 0)
		return -EBADF;
	do
		n = h->is_sock ? recvmsg(h->fd, &m, MSG_DONTWAIT) : read(h->fd, buf, len);
	while (n < 0 && errno == EINTR && !h->shared_blocking);
	return n < 0 ? -errno : n;
}

static ssize_t stream_write(struct handle *h, const void *buf, size_t len)
{
	struct iovec iov = {(void *)buf, len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (h->fd < 0)
		return -EBADF;
	if (h->shared_blocking && len > PIPE_BUF)
		len = PIPE_BUF;
	do
		n = h->is_sock ? sendmsg(h->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) : write(h->fd, buf, len);
	while (n < 0 && errno == EINTR && !h->shared_blocking);
	return n < 0 ? -errno : n;
}

bool console_read(struct ring_server *rs, struct handle *h, struct rs_req *r)
{
	void *buf = rs_data(rs, &r->sqe, r->sqe.addr, r->sqe.len);
	ssize_t n;

	if (!buf)
		return false;
	n = stream_read(h, buf, r->sqe.len);
	if (n == -EAGAIN || n == -EINTR) {
		h->readable = false;
		if (h->shared_blocking)
			handle_rearm(rs, h);
		return false;
	}
	if (h->shared_blocking) {
		h->readable = false;
		handle_rearm(rs, h);
	}
	req_done(rs, r, (int32_t)n, 0, 0);
	return true;
}

bool console_write(struct ring_server *rs, struct handle *h, struct rs_req *r)
{
	uint8_t *buf = rs_data(rs, &r->sqe, r->sqe.addr, r->sqe.len);
	ssize_t n;

	if (!buf)
		return false;
	while (r->done < r->sqe.len) {
		n = stream_write(h, buf + r->done, r->sqe.len - r->done);
		if (n > 0)
			r->done += (uint32_t)n;
		if (n == -EAGAIN || n == -EINTR || (n > 0 && h->shared_blocking && r->done < r->sqe.len)) {
			h->writable = false;
			if (h->shared_blocking)
				handle_rearm(rs, h);
			return false;
		}
		if (n < 0) {
			rs_lost(rs, (int)-n);
			req_done(rs, r, r->done ? (int32_t)r->done : (int32_t)n, (uint64_t)-n, 0);
			return true;
		}
	}
	if (h->shared_blocking) {
		h->writable = false;
		handle_rearm(rs, h);
	}
	req_done(rs, r, (int32_t)r->done, 0, 0);
	return true;
}

/* --- log ------------------------------------------------------------------------------- */

/* One line of the guest's log. Its text is the guest's: nothing in it may drive a terminal. */
void console_log(struct ring_server *rs, const struct ring_sqe *sqe)
{
	char line[LOG_MAX + 16] = "cowbell: ";
	bool raw = sqe->arg & RING_LOG_RAW;
	size_t head = raw ? 0 : strlen(line), len = sqe->len > LOG_MAX ? LOG_MAX : sqe->len;
	ssize_t n;

	if (!gpa_read(rs->mem, (gpa_t){sqe->addr}, line + head, len)) {
		rs_broken(rs, sqe, "address outside guest memory");
		return;
	}
	for (size_t i = head; i < head + len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = line[i] == '\t' ? ' ' : '?';
	line[head + len] = '\n';
	n = write(STDERR_FILENO, line, head + len + 1);
	(void)n; /* nobody listens */
}

/* --- terminal ---------------------------------------------------------------------------- */

static int tty_get(struct ring_server *rs, int fd, struct ring_tty *t)
{
	struct ktermios k;
	struct winsize ws;

	memset(t, 0, sizeof(*t));
	if (ioctl(fd, TCGETS, &k))
		return -errno;
	t->iflag = k.iflag;
	t->oflag = k.oflag;
	t->cflag = k.cflag;
	t->lflag = k.lflag;
	t->line = k.line;
	memcpy(t->cc, k.cc, sizeof(t->cc));
	if (!ioctl(fd, TIOCGWINSZ, &ws)) {
		t->rows = ws.ws_row;
		t->cols = ws.ws_col;
		t->xpix = ws.ws_xpixel;
		t->ypix = ws.ws_ypixel;
	}
	for (int i = 0; i < 3; i++)
		if (rs->handles[i].kind == H_CONSOLE && rs->handles[i].is_tty)
			t->is_tty |= 1u << i;
	return 0;
}

static int tty_set(int fd, const struct ring_tty *t, uint32_t action)
{
	struct ktermios k = {
		.iflag = t->iflag, .oflag = t->oflag, .cflag = t->cflag, .lflag = t->lflag, .line = t->line};

	if (action > 2)
		return -EINVAL;
	memcpy(k.cc, t->cc, sizeof(k.cc));
	/* Waiting for output to drain would hold the whole instance: a terminal that is stopped (Ctrl-S)
	 * is not worth that, so DRAIN and FLUSH discard input or nothing and never wait. */
	if (action == 2)
		ioctl(fd, TCFLSH, TCIFLUSH);
	tty.changed = true;
	tty.suspended = false;
	return ioctl(fd, TCSETS, &k) ? -errno : 0;
}

void console_tty(struct ring_server *rs, const struct ring_sqe *sqe)
{
	struct handle *h = handle_get(rs, sqe->handle);
	struct ring_tty t;
	int r;

	if (!h || h->kind != H_CONSOLE || !h->is_tty) { /* no ioctl without a terminal: it may be filtered */
		rs_complete(rs, sqe, h ? -ENOTTY : -EBADF, 0, 0, 0);
		return;
	}
	if (sqe->len < sizeof(t)) {
		rs_complete(rs, sqe, -EINVAL, 0, 0, 0);
		return;
	}
	if (sqe->op == RING_OP_TTY_GET) {
		r = tty_get(rs, h->fd, &t);
		if (!gpa_write(rs->mem, (gpa_t){sqe->addr}, &t, sizeof(t))) {
			rs_broken(rs, sqe, "address outside guest memory");
			return;
		}
	} else {
		if (!gpa_read(rs->mem, (gpa_t){sqe->addr}, &t, sizeof(t))) {
			rs_broken(rs, sqe, "address outside guest memory");
			return;
		}
		r = tty_set(h->fd, &t, sqe->arg);
	}
	rs_complete(rs, sqe, r, 0, 0, 0);
}
