/* SPDX-License-Identifier: ISC */
/*
 * The control socket: lets the instance's user, and root, ask how it is, stop it and snapshot it.
 *
 * Owns one or two listening sockets (by ID; by the user's name) and at most MAX_CONNS connections, all in an epoll
 * set of its own. That set's descriptor is all that the rest of the monitor sees: it sits in the ring
 * server's set, so a sleeping instance wakes for it, and the look at a computing one finds it.
 *
 * Names are in the abstract namespace: nothing to create, to own or to remove. It costs a start four system
 * calls and no file. The price: anybody can bind a name first or connect, so both sides check credentials.
 *
 * A client is trusted as its user is, yet every packet is copied once and validated, and nothing here waits:
 * a client that does not read loses its connection. A busy loop of clients slows only its own user's instance.
 */
#include "monitor/control.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/host/ctl.h"
#include "lib/host/say.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(control, accept4);
HOST_SYSCALL(control, getsockopt);
HOST_SYSCALL(control, recvmsg);
HOST_SYSCALL(control, sendmsg);
HOST_SYSCALL(control, epoll_ctl);
HOST_SYSCALL(control, epoll_pwait2);
HOST_SYSCALL(control, close);

#define MAX_CONNS 16
#define BATCH	  8 /* requests served before the guest gets the CPU again */

struct control {
	struct control_hooks hooks;
	char id[CTL_ID_LEN + 1];
	uid_t uid;
	int epfd;
	int listen_fd[2]; /* by ID, by name; -1: none */
	int conn[MAX_CONNS]; /* -1: none */
	int snap_fd[MAX_CONNS]; /* of a snapshot under way, else -1; then the connection is not in the set */
	int holder; /* the connection that the instance is held for, -1: none */
};

void control_id(char out[CTL_ID_LEN + 1], const uint8_t instance_id[16])
{
	for (int i = 0; i < CTL_ID_LEN / 2; i++)
		snprintf(out + 2 * i, 3, "%02x", instance_id[i]);
}

int control_fd(const struct control *c)
{
	return c->epfd;
}

void control_listeners(const struct control *c, int out[2])
{
	out[0] = c->listen_fd[0];
	out[1] = c->listen_fd[1];
}

void control_hold(struct control *c, int ticket)
{
	c->holder = ticket;
}

/* --- listening ---------------------------------------------------------------- */

static int watch(struct control *c, int fd, uint64_t tag)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = tag};

	return epoll_ctl(c->epfd, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

/* A socket that listens on a name, or -errno. */
static int listen_on(uid_t uid, char kind, const char *word)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int n = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, CTL_PREFIX "%u/%c/%s", uid, kind, word), err;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (n >= (int)sizeof(a.sun_path) - 1) {
		close(fd);
		return -ENAMETOOLONG;
	}
	if (bind(fd, (struct sockaddr *)&a,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) ||
	    listen(fd, MAX_CONNS)) {
		err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

/* Who has the name: the instance itself says it. */
static void say_taken(const char *name)
{
	struct ctl c;
	struct ctl_status st;
	char *path = textf("%u/n/%s", geteuid(), name);
	int r = ctl_open(path, &c);

	if (!r) {
		r = ctl_status(&c, &st, 1000);
		ctl_close(&c);
	}
	free(path);
	if (!r)
		say("--name %s: instance %s, which is running, has this name; to end it: cowbell stop %s",
		    name, st.id, name);
	else if (r == -EPERM)
		say("--name %s: the name is held by a process of another user", name);
	else
		say("--name %s: an instance with this name is running; to end it: cowbell stop %s", name,
		    name);
}

/* One that came from another process: who connects from now on is to see our credentials. */
static int listen_again(int fd)
{
	return listen(fd, MAX_CONNS) ? -errno : fd;
}

struct control *control_open(const char id[CTL_ID_LEN + 1], const char *name, const int given[2],
			     const struct control_hooks *hooks)
{
	struct control *c = malloc(sizeof(*c));
	int r = 0;

	if (!c) {
		say("out of memory");
		return NULL;
	}
	*c = (struct control){.hooks = *hooks, .uid = geteuid(), .listen_fd = {-1, -1}, .holder = -1};
	memcpy(c->id, id, sizeof(c->id));
	for (int i = 0; i < MAX_CONNS; i++)
		c->conn[i] = c->snap_fd[i] = -1;
	c->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (c->epfd < 0)
		r = -errno;
	for (int i = 0; i < 2 && !r; i++) {
		if (i && !name)
			break;
		c->listen_fd[i] = given[i] >= 0 ? listen_again(given[i])
						: listen_on(c->uid, i ? 'n' : 'i', i ? name : id);
		r = c->listen_fd[i] < 0 ? c->listen_fd[i] : watch(c, c->listen_fd[i], (uint64_t)i);
	}
	if (!r)
		return c;
	if (r == -EADDRINUSE && name)
		say_taken(name);
	else
		say("cannot make the control socket: %s", strerror(-r));
	control_close(c);
	return NULL;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	for (int i = 0; i < MAX_CONNS; i++) {
		if (c->conn[i] >= 0)
			close(c->conn[i]);
		if (c->snap_fd[i] >= 0)
			close(c->snap_fd[i]);
	}
	for (int i = 0; i < 2; i++)
		if (c->listen_fd[i] >= 0)
			close(c->listen_fd[i]);
	if (c->epfd >= 0)
		close(c->epfd);
	free(c);
}

static bool peer_may(const struct control *c, int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) && (who.uid == c->uid || who.uid == 0);
}

static void take_connection(struct control *c, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), i = 0;

	if (fd < 0)
		return;
	while (i < MAX_CONNS && c->conn[i] >= 0)
		i++;
	if (i == MAX_CONNS || !peer_may(c, fd) || watch(c, fd, 2 + (uint64_t)i) < 0) {
		close(fd);
		return;
	}
	c->conn[i] = fd;
}

/* --- requests ---------------------------------------------------------------------- */

struct answer {
	struct ctl_reply head;
	union {
		struct ctl_status status;
		struct ctl_snapshot snapshot;
		struct ctl_fds fds;
		struct ctl_peers peers;
	} u;
	int fd[CTL_FDS_MAX]; /* u.fds.count of them go along */
	int n_fd;
};

/* One packet into *q; *fd gets the descriptor that came along, or -1. 1; 0: there was none; -1: the connection is
 * of no use. */
static int receive(int conn, struct ctl_request *q, int *fd)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} ctl;
	struct iovec iov = {q, sizeof(*q)};
	/* CMSG_LEN: with CMSG_SPACE's padding a second descriptor would find room */
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &ctl,
			   .msg_controllen = CMSG_LEN(sizeof(int))};
	ssize_t n = recvmsg(conn, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *h;

	*fd = -1;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	h = CMSG_FIRSTHDR(&m);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
	    h->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(h), sizeof(int));
	return n == sizeof(*q) && q->magic == CTL_MAGIC && !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ? 1 : -1;
}

static int refuse(struct answer *a, int error, const char *why)
{
	snprintf(a->head.why, sizeof(a->head.why), "%s", why);
	return error;
}

#define LATER 1 /* the answer follows; fd is kept */

static int begin_snapshot(struct control *c, int i, const struct ctl_request *q, int fd, struct answer *a)
{
	int r;

	if (fd < 0)
		return refuse(a, -EBADF, "no file came with the request");
	if (c->holder >= 0)
		return refuse(a, -EBUSY, "it is being moved");
	if (!c->hooks.snapshot)
		return refuse(a, -EOPNOTSUPP, "it cannot be snapshotted");
	c->snap_fd[i] = fd;
	epoll_ctl(c->epfd, EPOLL_CTL_DEL, c->conn[i], NULL);
	r = c->hooks.snapshot(c->hooks.arg, i, fd, q->arg);
	if (!r)
		return LATER;
	c->snap_fd[i] = -1;
	watch(c, c->conn[i], 2 + (uint64_t)i);
	return refuse(a, r,
		      r == -EBUSY	 ? "another snapshot of it is under way"
		      : r == -EPERM	 ? "only a detached one can be moved"
		      : r == -EOPNOTSUPP ? "only one that was started with --name, -d or --snapshot-at can be"
					 : "");
}

static int give(struct control *c, int i, const struct ctl_request *q, struct answer *a)
{
	c->hooks.give(c->hooks.arg, q->arg, c->holder == i, &a->u.fds, a->fd);
	a->n_fd = (int)a->u.fds.count;
	a->head.len = (uint32_t)(offsetof(struct ctl_fds, fd) + a->u.fds.count * sizeof(struct ctl_fd));
	return 0;
}

static int hand_over(struct control *c, int i, const struct ctl_request *q, struct answer *a)
{
	if (c->holder != i || q->arg > 1)
		return refuse(a, -ESTALE, "it is not held for this connection");
	c->holder = -1;
	return c->hooks.handover(c->hooks.arg, q->arg);
}

static int carry_out(struct control *c, int i, const struct ctl_request *q, int fd, struct answer *a)
{
	switch (q->op) {
	case CTL_STATUS:
		memcpy(a->u.status.id, c->id, sizeof(c->id));
		c->hooks.status(c->hooks.arg, &a->u.status);
		a->head.len = sizeof(a->u.status);
		return 0;
	case CTL_SIGNAL:
		if (q->arg > 31)
			return refuse(a, -EINVAL, "no such signal");
		if (c->holder >= 0)
			return refuse(a, -EAGAIN, "it is being moved");
		return c->hooks.signal(c->hooks.arg, (int)q->arg);
	case CTL_SNAPSHOT:
		return begin_snapshot(c, i, q, fd, a);
	case CTL_FDS:
		return give(c, i, q, a);
	case CTL_PEERS:
		if (c->holder != i)
			return refuse(a, -ESTALE, "it is not held for this connection");
		c->hooks.peers(c->hooks.arg, q->arg, &a->u.peers);
		a->head.len = sizeof(a->u.peers);
		return 0;
	case CTL_HANDOVER:
		return hand_over(c, i, q, a);
	default:
		return refuse(a, -EOPNOTSUPP, "the instance's monitor does not know this request");
	}
}

static void drop(struct control *c, int i)
{
	close(c->conn[i]);
	c->conn[i] = -1;
	if (c->holder != i)
		return;
	c->holder = -1;
	c->hooks.handover(c->hooks.arg, false);
}

static void answer(struct control *c, int i, struct answer *a)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(a->fd))];
	} ctl;
	struct iovec iov = {a, sizeof(a->head) + a->head.len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (a->n_fd) {
		size_t len = (size_t)a->n_fd * sizeof(int);

		m.msg_control = &ctl;
		m.msg_controllen = CMSG_SPACE(len);
		ctl.h = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(len)};
		memcpy(CMSG_DATA(&ctl.h), a->fd, len);
	}
	if (sendmsg(c->conn[i], &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		drop(c, i);
}

static void serve_connection(struct control *c, int i)
{
	struct ctl_request q = {0};
	struct answer a = {.head = {.magic = CTL_MAGIC, .version = CTL_VERSION}};
	int fd;
	int r = receive(c->conn[i], &q, &fd);

	if (!r)
		return;
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		drop(c, i);
		return;
	}
	a.head.op = q.op;
	a.head.error = q.version == CTL_VERSION
			       ? carry_out(c, i, &q, fd, &a)
			       : refuse(&a, -EPROTONOSUPPORT, "another version of the protocol");
	if (a.head.error == LATER)
		return;
	if (fd >= 0)
		close(fd);
	answer(c, i, &a);
}

void control_answer(struct control *c, int i, int error, const char *why, const struct ctl_snapshot *out)
{
	struct answer a = {
		.head = {.magic = CTL_MAGIC, .version = CTL_VERSION, .op = CTL_SNAPSHOT, .error = error}};

	if (error) {
		refuse(&a, error, why);
	} else {
		a.u.snapshot = *out;
		a.head.len = sizeof(*out);
	}
	close(c->snap_fd[i]);
	c->snap_fd[i] = -1;
	if (watch(c, c->conn[i], 2 + (uint64_t)i) < 0)
		drop(c, i);
	else
		answer(c, i, &a);
}

void control_serve(struct control *c)
{
	struct epoll_event ev[BATCH];
	struct timespec none = {0, 0};
	int n = epoll_pwait2(c->epfd, ev, BATCH, &none, NULL);

	for (int k = 0; k < n; k++) {
		uint64_t tag = ev[k].data.u64;

		if (tag < 2)
			take_connection(c, c->listen_fd[tag]);
		else if (tag - 2 < MAX_CONNS && c->conn[tag - 2] >= 0)
			serve_connection(c, (int)tag - 2);
	}
}
