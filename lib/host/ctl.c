/* SPDX-License-Identifier: ISC */
/*
 * Talking to running instances. A server's answer is a stranger's until its credentials are checked, and
 * even then only text and numbers: it is bounded, its strings are made printable, and nothing in it is followed. The
 * process to signal is the one that the kernel names as the socket's owner, not what an answer says.
 */
#include "lib/host/ctl.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define STATUS_MS 3000

/* --- who is there ------------------------------------------------------------- */

/* The lines of sockets that listen (flag 00010000) are what bind(2) named: anybody's word. */
void ctl_list(struct strings *out)
{
	FILE *f = fopen("/proc/net/unix", "re");
	char line[256], path[128], kind[4];
	unsigned uid, flags;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %*s %*s %x %*s %*s %*s @" CTL_PREFIX "%u/%3[i]/%12[0-9a-f]", &flags,
			   &uid, kind, path) != 4 ||
		    !(flags & 0x10000) || strlen(path) != CTL_ID_LEN || kind[1])
			continue;
		if (geteuid() == 0 || geteuid() == uid) {
			char *word = textf("%u/i/%s", uid, path);
			strings_add_once(out, word);
			free(word);
		}
	}
	if (f)
		fclose(f);
}

int ctl_open(const char *path, struct ctl *c)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int n = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, CTL_PREFIX "%s", path), err;
	struct ucred who;
	socklen_t len = sizeof(who);

	if (n >= (int)sizeof(a.sun_path) - 1)
		return -ENAMETOOLONG;
	c->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	if (connect(c->fd, (struct sockaddr *)&a,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) ||
	    getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &who, &len)) {
		err = errno;
		ctl_close(c);
		return -err;
	}
	/* it must be whose name it bears, and be one that we would trust */
	if (who.uid != 0 &&
	    (who.uid != (uid_t)strtoul(path, NULL, 10) || (geteuid() && who.uid != geteuid()))) {
		ctl_close(c);
		return -EPERM;
	}
	c->pid = who.pid;
	c->uid = who.uid;
	return 0;
}

int ctl_open_id(const char *id, struct ctl *c)
{
	char path[64];

	snprintf(path, sizeof(path), "%u/i/%s", geteuid(), id);
	return ctl_open(path, c);
}

void ctl_close(struct ctl *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

/* --- requests ---------------------------------------------------------------------- */

static int send_request(struct ctl *c, const struct ctl_request *q, int fd)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} u = {0};
	struct iovec iov = {(void *)q, sizeof(*q)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		m.msg_control = &u;
		m.msg_controllen = CMSG_LEN(sizeof(int));
		u.h.cmsg_level = SOL_SOCKET;
		u.h.cmsg_type = SCM_RIGHTS;
		u.h.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&u.h), &fd, sizeof(int));
	}
	return sendmsg(c->fd, &m, MSG_NOSIGNAL) == sizeof(*q) ? 0 : -errno;
}

static int wait_readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int r;

	do
		r = poll(&p, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	return r > 0 ? 0 : r ? -errno : -ETIMEDOUT;
}

/* One packet; descriptors that came with it into fds[max], the rest is closed. The length, 0 at the end, or -errno. */
static ssize_t receive(int conn, void *buf, size_t size, int *fds, int max, int *n_fds)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(CTL_FDS_MAX * sizeof(int))];
	} u;
	struct iovec iov = {buf, size};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u.space)};
	ssize_t n = recvmsg(conn, &m, MSG_CMSG_CLOEXEC);

	*n_fds = 0;
	if (n < 0)
		return -errno;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
		int k = h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS
				? (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int))
				: 0;

		for (int i = 0; i < k; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + (size_t)i * sizeof(int), sizeof(int));
			if (*n_fds < max)
				fds[(*n_fds)++] = fd;
			else
				close(fd);
		}
	}
	return m.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EPROTO : n;
}

static int call(struct ctl *c, enum ctl_op op, uint32_t arg, int fd, void *out, size_t size, int *fds,
		int max, int *n_fds, char *why, int timeout_ms)
{
	struct ctl_request q = {.magic = CTL_MAGIC, .version = CTL_VERSION, .op = (uint16_t)op, .arg = arg};
	union {
		struct ctl_reply head;
		char bytes[CTL_PACKET_MAX];
	} a;
	int r = send_request(c, &q, fd);
	ssize_t n;

	why[0] = 0;
	if (!r)
		r = wait_readable(c->fd, timeout_ms);
	if (r)
		return r == -EPIPE ? -ECONNRESET : r;
	n = receive(c->fd, &a, sizeof(a), fds, max, n_fds);
	if (n <= 0)
		return -ECONNRESET;
	if ((size_t)n < sizeof(a.head) || a.head.magic != CTL_MAGIC || a.head.version != CTL_VERSION ||
	    a.head.op != op || a.head.len != (size_t)n - sizeof(a.head))
		return -EPROTO;
	a.head.why[CTL_WHY_MAX - 1] = 0;
	memcpy(why, a.head.why, CTL_WHY_MAX);
	if (a.head.error)
		return a.head.error < 0 && a.head.error > -4096 ? a.head.error : -EPROTO;
	if (!size)
		return 0;
	memset(out, 0, size);
	memcpy(out, a.bytes + sizeof(a.head), a.head.len < size ? a.head.len : size);
	return 0;
}

int ctl_call(struct ctl *c, enum ctl_op op, uint32_t arg, int fd, void *out, size_t size, char *why,
	     int timeout_ms)
{
	int none;

	return call(c, op, arg, fd, out, size, NULL, 0, &none, why, timeout_ms);
}

int ctl_fds(struct ctl *c, uint32_t from, struct ctl_fds *out, int fds[CTL_FDS_MAX], int timeout_ms)
{
	char why[CTL_WHY_MAX];
	int n = 0, r = call(c, CTL_FDS, from, -1, out, sizeof(*out), fds, CTL_FDS_MAX, &n, why, timeout_ms);

	if (!r && (out->count != (uint32_t)n || out->total < from + out->count))
		r = -EPROTO;
	for (int i = 0; r && i < n; i++)
		close(fds[i]);
	return r;
}

static void printable(char *s, size_t size)
{
	s[size - 1] = 0;
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

int ctl_status(struct ctl *c, struct ctl_status *st, int timeout_ms)
{
	char why[CTL_WHY_MAX];
	int r = ctl_call(c, CTL_STATUS, 0, -1, st, sizeof(*st), why, timeout_ms);

	if (r)
		return r;
	printable(st->id, sizeof(st->id));
	printable(st->name, sizeof(st->name));
	printable(st->program, sizeof(st->program));
	if (st->n_ports > CTL_MAX_PORTS)
		st->n_ports = CTL_MAX_PORTS;
	if (st->n_egress > CTL_MAX_EGRESS)
		st->n_egress = CTL_MAX_EGRESS;
	return 0;
}

int ctl_wait_end(struct ctl *c, int timeout_ms)
{
	char b;
	int r = wait_readable(c->fd, timeout_ms);

	if (r)
		return r;
	return recv(c->fd, &b, 1, MSG_DONTWAIT) > 0 ? -EPROTO : 0;
}

/* --- whom a user means ------------------------------------------------------------------ */

static int by_name(const char *word, struct ctl *c, struct ctl_status *st)
{
	char *path = textf("%u/n/%s", geteuid(), word);
	int r = ctl_open(path, c);

	free(path);
	if (r)
		return r;
	r = ctl_status(c, st, STATUS_MS);
	if (r)
		ctl_close(c);
	return r;
}

/* One that has no name goes by what it runs; a copy of another one goes not by that one's name. */
static bool is_called(const struct ctl_status *st, const char *word)
{
	const char *slash = strrchr(st->program, '/');

	if (st->flags & CTL_F_NAMED || !(st->flags & CTL_F_RESTORED))
		return !strcmp(st->name, word);
	return !strcmp(st->program, word) || (slash && !strcmp(slash + 1, word));
}

int ctl_find(const char *word, struct ctl *c, struct ctl_status *st, struct strings *ids)
{
	struct strings all = {0};
	const char *hit = "";
	size_t len = strlen(word);
	int r = by_name(word, c, st);

	if (!r)
		return 0;
	ctl_list(&all);
	for (size_t i = 0; i < all.n; i++) {
		const char *id = strrchr(all.v[i], '/') + 1;
		bool mine = len >= 3 && !strncmp(id, word, len);

		if (!mine && !ctl_open(all.v[i], c)) {
			mine = !ctl_status(c, st, STATUS_MS) && is_called(st, word);
			ctl_close(c);
		}
		if (mine) {
			strings_add(ids, id);
			hit = all.v[i];
		}
	}
	r = !ids->n ? -ENOENT : ids->n > 1 ? -EEXIST : ctl_open(hit, c);
	if (!r) {
		r = ctl_status(c, st, STATUS_MS);
		/* one that is stopped does not answer; it can still be ended */
		if (r == -ETIMEDOUT) {
			memset(st, 0, sizeof(*st));
			snprintf(st->id, sizeof(st->id), "%s", strrchr(hit, '/') + 1);
			snprintf(st->name, sizeof(st->name), "%s", st->id);
			r = 0;
		} else if (r) {
			ctl_close(c);
		}
	}
	strings_free(&all);
	return r;
}
