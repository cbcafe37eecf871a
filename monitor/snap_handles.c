/* SPDX-License-Identifier: ISC */
/*
 * Handles and waiting requests as records of a snapshot.
 *
 * What becomes of a handle in a restored instance:
 *   standard stream          the new monitor's
 *   stream on a forwarded port   the port of the new monitor, listening again if it did
 *   datagram socket          a new one, or the forwarded port's; connected again, or dead if the rules forbid that
 *   stream, not connected    a new one
 *   connection               dead: receives and sends end with ECONNRESET, until the guest closes it
 *   file of a volume         opened again by its path, without creating or truncating; if it lost its name while it was
 *                            open, the restore is refused (looked at when the snapshot is taken)
 * Of a moved instance (cfg->given) sockets and files are the old monitor's own descriptors, and all of them live on.
 *
 * Records are as hostile as what a guest submits: a number that no correct
 * monitor writes makes the restore fail, and requests pass the checks that they
 * passed when they were submitted, against the memory of this instance.
 * They are tried in the first turn (every handle is put on the list of the stalled ones).
 */
#include "monitor/snap_handles.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "monitor/handover.h"
#include "monitor/net.h"
#include "monitor/snapfile.h"

/* --- strings ------------------------------------------------------------------ */

uint32_t snap_put_string(struct snap_tables *t, const char *s)
{
	uint32_t at = t->n_strings;
	size_t n = s ? strlen(s) + 1 : 1;

	if (n > SNAP_TABLES_MAX / 2 - t->n_strings) {
		t->failed = true;
		return 0;
	}
	if (t->n_strings + n > t->cap_strings) {
		uint32_t cap = (t->n_strings + (uint32_t)n) * 2;
		char *p = realloc(t->strings, cap);

		if (!p) {
			t->failed = true;
			return 0;
		}
		t->strings = p;
		t->cap_strings = cap;
	}
	memcpy(t->strings + at, s ? s : "", n);
	t->n_strings += (uint32_t)n;
	return at;
}

void snap_tables_free(struct snap_tables *t)
{
	free(t->handles);
	free(t->requests);
	free(t->strings);
	*t = (struct snap_tables){0};
}

/* --- saving --------------------------------------------------------------------- */

static enum snap_handle_kind kind_of(const struct handle *h)
{
	if (h->kind == H_CONSOLE)
		return SNAP_H_CONSOLE;
	if (h->kind == H_FILE)
		return SNAP_H_FILE;
	if (h->dead || (!h->dgram && (h->connecting || h->peer.sa.sa_family)))
		return SNAP_H_DEAD;
	if (h->dgram)
		return SNAP_H_DGRAM;
	return h->port >= 0 ? SNAP_H_LISTEN : SNAP_H_STREAM;
}

static void save_handle(struct ring_server *rs, struct snap_tables *t, const struct handle *h)
{
	struct snap_handle *s = &t->handles[t->n_handles++];

	*s = (struct snap_handle){
		.id = h->id,
		.kind = (uint16_t)kind_of(h),
		.flags =
			(uint16_t)((h->listening ? SNAP_HF_LISTENING : 0) | (h->v6only ? SNAP_HF_V6ONLY : 0) |
				   (h->writable_file ? SNAP_HF_WRITABLE : 0) | (h->is_dir ? SNAP_HF_DIR : 0) |
				   (h->dgram ? SNAP_HF_DGRAM : 0) | (h->closing ? SNAP_HF_CLOSING : 0) |
				   (h->kind == H_FILE && !volume_has_name(rs, h) ? SNAP_HF_GONE : 0)),
		.family = h->family,
		.guest_port = h->port >= 0 || s->kind == SNAP_H_DEAD ? h->guest_port : 0,
		.backlog = h->backlog,
		.volume = h->volume,
		.open_flags = h->open_flags,
		.path = h->kind == H_FILE ? snap_put_string(t, h->path) : 0,
	};
	memcpy(s->peer, &h->peer, sizeof(s->peer));
	if (s->kind == SNAP_H_DEAD)
		s->guest_port = h->guest_port;
}

static void save_queue(struct snap_tables *t, const struct handle *h, const struct list *l, uint32_t queue)
{
	list_for_each (n, l) {
		const struct rs_req *r = list_entry(n, struct rs_req, node);
		struct snap_request *s = &t->requests[t->n_requests++];

		*s = (struct snap_request){.sqe = r->sqe, .queue = queue, .done = r->done};
		s->sqe.handle = h->id;
	}
}

bool ring_server_save(struct ring_server *rs, struct snap_tables *t, struct snap_header *hd)
{
	t->handles = calloc(rs->handles_fresh + 1, sizeof(*t->handles));
	t->requests = calloc(rs->n_reqs + 1, sizeof(*t->requests));
	if (!t->handles || !t->requests)
		t->failed = true;
	for (uint32_t i = 0; i < rs->handles_fresh && !t->failed; i++) {
		const struct handle *h = &rs->handles[i];

		if (h->kind == H_FREE)
			continue;
		save_handle(rs, t, h);
		save_queue(t, h, &h->in, 0);
		save_queue(t, h, &h->out, 1);
		save_queue(t, h, &h->polls, 2);
	}
	hd->handle_max = rs->handles_fresh;
	hd->sq_head = rs->sq_head;
	hd->cq_tail = rs->cq_tail;
	return !t->failed;
}

/* --- loading ---------------------------------------------------------------------- */

struct loader {
	struct ring_server *rs;
	const struct snap_file *f;
	char *why;
	size_t size;
};

static int no(struct loader *l, const char *what)
{
	snprintf(l->why, l->size, "%s", what);
	return -1;
}

/* The entry of number id, in the state in which handle_new() leaves one. */
static struct handle *place_handle(struct ring_server *rs, const struct snap_handle *s, enum handle_kind kind,
				   int fd)
{
	struct handle *h = &rs->handles[s->id];

	*h = (struct handle){
		.id = s->id, .gen = h->gen + 1, .kind = kind, .fd = fd, .port = -1, .volume = -1};
	list_init(&h->in);
	list_init(&h->out);
	list_init(&h->polls);
	list_init(&h->stalled);
	h->family = s->family;
	h->guest_port = s->guest_port;
	h->dgram = s->flags & SNAP_HF_DGRAM;
	h->v6only = s->flags & SNAP_HF_V6ONLY;
	return h;
}

static int load_console(struct loader *l, const struct snap_handle *s)
{
	if (s->id > 2 || l->rs->handles[s->id].kind != H_CONSOLE)
		return no(l, "it is damaged: an impossible standard stream");
	return 0;
}

/* net_bind() for a record: the forwarded port's own socket. */
static int load_port(struct loader *l, const struct snap_handle *s)
{
	struct handle *h = place_handle(l->rs, s, H_SOCKET, -1);

	if (net_take_port(l->rs, h, s->guest_port, s->flags & SNAP_HF_V6ONLY)) {
		snprintf(l->why, l->size, "its program uses %s port %u: forward it with -p HOST:%u",
			 h->dgram ? "UDP" : "TCP", s->guest_port, s->guest_port);
		h->kind = H_FREE;
		return -1;
	}
	if (s->flags & SNAP_HF_LISTENING && !h->dgram && net_relisten(l->rs, h, s->backlog))
		return no(l, "a port cannot be listened on");
	return 0;
}

static int load_dead(struct loader *l, const struct snap_handle *s)
{
	struct handle *h = place_handle(l->rs, s, H_SOCKET, -1);

	h->dead = h->readable = h->writable = true;
	h->closing = s->flags & SNAP_HF_CLOSING;
	memcpy(&h->peer, s->peer, sizeof(s->peer));
	if (!net_addr_len(&h->peer))
		memset(&h->peer, 0, sizeof(h->peer));
	return 0;
}

static int load_socket(struct loader *l, const struct snap_handle *s)
{
	bool dgram = s->kind == SNAP_H_DGRAM;
	union rs_addr peer;
	struct handle *h;
	int fd;

	memset(&peer, 0, sizeof(peer));
	memcpy(&peer, s->peer, sizeof(s->peer));
	if (s->guest_port)
		return load_port(l, s);
	if (!(l->rs->cfg->n_ports || l->rs->cfg->n_egress))
		return no(l, "its program uses the network, which is not granted here (--egress or -p)");
	fd = socket(s->family, (dgram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return no(l, strerror(errno));
	h = place_handle(l->rs, s, H_SOCKET, fd);
	if (!dgram)
		return 0;
	if (net_addr_len(&peer)) {
		if (net_answer_check(l->rs, h, &peer) || connect(fd, &peer.sa, net_addr_len(&peer))) {
			close(fd);
			return load_dead(l, s);
		}
		h->peer = peer;
	}
	handle_watch(l->rs, h);
	h->writable = true;
	return 0;
}

static int load_file(struct loader *l, const struct snap_handle *s)
{
	const char *path = snapfile_string(l->f, s->path);
	struct handle *h;
	int fd;

	if (s->volume < 0 || s->volume >= l->rs->cfg->n_volumes)
		return no(l, "it is damaged: an impossible volume");
	if (s->flags & SNAP_HF_GONE) {
		snprintf(l->why, l->size,
			 "its program had a file open, %s in %s, that was removed or renamed before the "
			 "snapshot",
			 path, l->rs->cfg->volumes[s->volume].guest_dir);
		return -1;
	}
	fd = volume_reopen(l->rs, s->volume, path, s->open_flags, s->flags & SNAP_HF_DIR);
	if (fd < 0) {
		snprintf(l->why, l->size,
			 "a file that its program has open, %s in %s, cannot be opened again: %s", path,
			 l->rs->cfg->volumes[s->volume].guest_dir, strerror(-fd));
		return -1;
	}
	h = place_handle(l->rs, s, H_FILE, fd);
	h->volume = s->volume;
	h->is_dir = s->flags & SNAP_HF_DIR;
	h->writable_file = s->flags & SNAP_HF_WRITABLE;
	h->open_flags = s->open_flags;
	h->path = strdup(path);
	return 0;
}

/* The descriptor that it had. */
static void load_given(struct loader *l, const struct snap_handle *s, int fd)
{
	struct handle *h = place_handle(l->rs, s, s->kind == SNAP_H_FILE ? H_FILE : H_SOCKET, fd);

	if (h->kind == H_FILE) {
		h->volume = s->volume;
		h->is_dir = s->flags & SNAP_HF_DIR;
		h->writable_file = s->flags & SNAP_HF_WRITABLE;
		h->open_flags = s->open_flags;
		h->path = strdup(snapfile_string(l->f, s->path));
		return;
	}
	h->closing = s->flags & SNAP_HF_CLOSING;
	for (int i = 0; i < l->rs->cfg->n_ports; i++) /* accepted there */
		h->is_unix |=
			s->guest_port && l->rs->ports[i].is_unix && l->rs->ports[i].guest == s->guest_port;
	memcpy(&h->peer, s->peer, sizeof(s->peer));
	l->rs->had_peer |= s->kind == SNAP_H_DEAD;
	if (s->kind != SNAP_H_STREAM)
		handle_watch(l->rs, h);
	h->readable = h->writable = s->kind != SNAP_H_STREAM; /* a try tells */
}

static int load_handle(struct loader *l, const struct snap_handle *s)
{
	bool inet = s->family == AF_INET || s->family == AF_INET6;
	int given = handover_given(l->rs->cfg, CTL_FD_HANDLE, s->id);

	if (s->kind != SNAP_H_CONSOLE && s->kind != SNAP_H_FILE && !inet)
		return no(l, "it is damaged: an impossible socket");
	if (given >= 0 && s->kind != SNAP_H_CONSOLE && s->kind != SNAP_H_LISTEN) {
		if (s->kind == SNAP_H_FILE && (s->volume < 0 || s->volume >= l->rs->cfg->n_volumes))
			return no(l, "it is damaged: an impossible volume");
		load_given(l, s, given);
		return 0;
	}
	switch (s->kind) {
	case SNAP_H_CONSOLE:
		return load_console(l, s);
	case SNAP_H_LISTEN:
	case SNAP_H_DGRAM:
	case SNAP_H_STREAM:
		if ((s->kind == SNAP_H_DGRAM) != !!(s->flags & SNAP_HF_DGRAM) ||
		    (s->kind == SNAP_H_STREAM && s->guest_port) ||
		    (s->kind == SNAP_H_LISTEN && !s->guest_port))
			break;
		return load_socket(l, s);
	case SNAP_H_DEAD:
		return load_dead(l, s);
	case SNAP_H_FILE:
		return load_file(l, s);
	}
	return no(l, "it is damaged: an impossible handle");
}

/* Ids rise; what lies between them is free. */
static int load_handles(struct loader *l)
{
	struct ring_server *rs = l->rs;
	const struct snap_header *h = &l->f->h;
	uint32_t next = 0;

	if (h->handle_max < rs->handles_fresh)
		return no(l, "it is damaged: standard streams are missing");
	rs->handles_fresh = h->handle_max;
	for (uint32_t i = 0; i <= h->handles.count; i++) {
		const struct snap_handle *s = i < h->handles.count ? &l->f->handles[i] : NULL;
		uint32_t id = s ? s->id : h->handle_max;

		if (id < next || id > h->handle_max || (s && id == h->handle_max))
			return no(l, "it is damaged: impossible handle numbers");
		for (; next < id; next++) {
			if (next >
			    2) { /* never used here; a stream that the guest closed gives its place up */
				rs->handles[next].id = next;
				rs->handles[next].fd = -1;
				rs->handles[next].port = -1;
				list_init(&rs->handles[next].stalled);
			}
			handle_free(rs, &rs->handles[next]);
		}
		next = id + 1;
		if (s && load_handle(l, s))
			return -1;
	}
	return 0;
}

/* May this operation wait on this list of this handle? */
static bool fits(const struct handle *h, const struct snap_request *r)
{
	bool stream = h->kind == H_SOCKET && !h->dgram;

	if (h->kind == H_FREE || h->kind == H_FILE)
		return false;
	switch (r->sqe.op) {
	case RING_OP_READ:
	case RING_OP_RECV:
		return r->queue == 0 && !h->listening;
	case RING_OP_ACCEPT:
		return r->queue == 0 && h->listening;
	case RING_OP_WRITE:
	case RING_OP_SEND:
		return r->queue == 1 && !h->listening;
	case RING_OP_CONNECT:
	case RING_OP_SHUTDOWN:
		return r->queue == 1 && stream && (h->dead || h->peer.sa.sa_family);
	case RING_OP_CLOSE:
		return r->queue == 1 && h->closing;
	case RING_OP_POLL:
		return r->queue == 2;
	}
	return false;
}

static int load_request(struct loader *l, const struct snap_request *r)
{
	struct ring_server *rs = l->rs;
	struct rs_req *q;
	struct handle *h;
	bool has_data =
		r->sqe.op != RING_OP_POLL && r->sqe.op != RING_OP_SHUTDOWN && r->sqe.op != RING_OP_CLOSE;

	if (r->sqe.handle >= rs->handles_fresh)
		return no(l, "it is damaged: a request without a handle");
	h = &rs->handles[r->sqe.handle];
	if (!fits(h, r) || r->sqe.flags & ~(RING_SQE_MORE | RING_SQE_QUIET) ||
	    (r->sqe.flags & RING_SQE_MORE && r->sqe.op != RING_OP_ACCEPT) ||
	    (has_data && (r->sqe.len > RING_MAX_IO || r->sqe.len2 > RING_MAX_IO ||
			  !gpa_ram(rs->mem, (gpa_t){r->sqe.addr}, r->sqe.len) ||
			  !gpa_ram(rs->mem, (gpa_t){r->sqe.addr2}, r->sqe.len2) || r->done > r->sqe.len)))
		return no(l, "it is damaged: an impossible request");
	q = handle_queue(rs, r->queue == 0 ? &h->in : r->queue == 1 ? &h->out : &h->polls, &r->sqe);
	if (!q)
		return no(l, "it is damaged: too many requests");
	q->done = has_data ? r->done : 0;
	if (r->sqe.op == RING_OP_CONNECT && !h->dead) {
		h->connecting = true;
		h->writable = false; /* an event tells how it went */
	}
	q->turn = 0;
	if (list_empty(&h->stalled))
		list_add_tail(&rs->stalled, &h->stalled);
	return 0;
}

int ring_server_load(struct ring_server *rs, const struct snap_file *f, char *why, size_t size)
{
	struct loader l = {rs, f, why, size};

	rs->sq_head = f->h.sq_head;
	rs->cq_tail = f->h.cq_tail;
	rs->turn = 1;
	if (load_handles(&l))
		return -1;
	for (uint32_t i = 0; i < f->h.requests.count; i++)
		if (load_request(&l, &f->requests[i]))
			return -1;
	if (!rs->cfg->given && !rs->cfg->prefix)
		ring_server_event(rs, RING_EV_RESTORED, 0);
	return 0;
}
