// SPDX-License-Identifier: ISC
/*
 * Handles and the requests that wait on them.
 *
 * A handle is a number of the guest's for a host descriptor. Its life:
 *
 *   handle_new() -> in use -> handle_close() -> free
 *                     \-> closing (CLOSE with drain: queued sends go out first) -> free
 *
 * A descriptor that can be waited for is in the epoll set once, edge-triggered,
 * for as long as it is open: no system call per wait. The event tag carries
 * the handle's generation, so an event of a number used before is not believed.
 *
 * Requests wait in order: `in` (read, receive, accept), `out` (write, send,
 * connect, a draining close), `polls`. Only the first of a list is tried.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "monitor/ring_internal.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(core, epoll_ctl);
HOST_SYSCALL(core, close);

#define WATCH_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

void handles_init(struct ring_server *rs)
{
	list_init(&rs->free_reqs);
	list_init(&rs->stalled);
	rs->handles_free = RING_NO_HANDLE;
}

struct handle *handle_new(struct ring_server *rs, enum handle_kind kind, int fd)
{
	uint32_t id = rs->handles_free;
	struct handle *h;

	if (id != RING_NO_HANDLE) {
		h = &rs->handles[id];
		rs->handles_free = h->next_free;
	} else {
		if (rs->handles_fresh >= RING_MAX_HANDLES)
			return NULL;
		id = rs->handles_fresh++;
		h = &rs->handles[id];
	}
	*h = (struct handle){.id = id, .gen = h->gen + 1, .kind = kind, .fd = fd, .port = -1, .volume = -1};
	list_init(&h->in);
	list_init(&h->out);
	list_init(&h->polls);
	list_init(&h->stalled);
	return h;
}

struct handle *handle_get(struct ring_server *rs, uint32_t id)
{
	struct handle *h;

	if (id >= rs->handles_fresh)
		return NULL;
	h = &rs->handles[id];
	return h->kind == H_FREE || h->closing ? NULL : h;
}

static struct epoll_event watch_event(const struct handle *h)
{
	return (struct epoll_event){.events = WATCH_EVENTS, .data.u64 = (uint64_t)h->gen << 32 | h->id};
}

void handle_rearm(struct ring_server *rs, struct handle *h)
{
	struct epoll_event e = watch_event(h);

	if (h->pollable)
		epoll_ctl(rs->epfd, EPOLL_CTL_MOD, h->fd, &e);
}

bool handle_watch(struct ring_server *rs, struct handle *h)
{
	struct epoll_event e = watch_event(h);

	if (h->pollable) {
		handle_rearm(rs, h);
		return true;
	}
	h->pollable = !epoll_ctl(rs->epfd, EPOLL_CTL_ADD, h->fd, &e);
	if (!h->pollable)
		h->readable = h->writable = true;
	return h->pollable;
}

struct rs_req *handle_queue(struct ring_server *rs, struct list *queue, const struct ring_sqe *sqe)
{
	struct rs_req *r;

	if (!list_empty(&rs->free_reqs)) {
		r = list_first(&rs->free_reqs, struct rs_req, node);
		list_del(&r->node);
	} else if (rs->reqs_fresh < RS_MAX_REQS) {
		r = &rs->reqs[rs->reqs_fresh++];
	} else {
		rs_complete(rs, sqe, -ENOBUFS, 0, 0, 0);
		return NULL;
	}
	rs->n_reqs++;
	r->sqe = *sqe;
	r->done = 0;
	r->turn = rs->turn;
	list_add_tail(queue, &r->node);
	return r;
}

void req_free(struct ring_server *rs, struct rs_req *r)
{
	list_del(&r->node);
	list_add_head(&rs->free_reqs, &r->node);
	rs->n_reqs--;
}

void req_done(struct ring_server *rs, struct rs_req *r, int32_t res, uint64_t val, uint64_t val2)
{
	if (r->turn != rs->turn)
		r->sqe.flags &= ~RING_SQE_QUIET;
	rs_complete(rs, &r->sqe, res, 0, val, val2);
	req_free(rs, r);
}

/* --- running ---------------------------------------------------------------- */

static bool step_in(struct ring_server *rs, struct handle *h, struct rs_req *r)
{
	return h->kind == H_CONSOLE ? console_read(rs, h, r) : net_in(rs, h, r);
}

static bool step_out(struct ring_server *rs, struct handle *h, struct rs_req *r)
{
	return h->kind == H_CONSOLE ? console_write(rs, h, r) : net_out(rs, h, r);
}

static void run_polls(struct ring_server *rs, struct handle *h)
{
	uint32_t ready = (h->readable ? POLLIN : 0) | (h->writable ? POLLOUT : 0) |
			 (h->rdhup ? POLLRDHUP : 0) | (h->hup ? POLLHUP : 0) | (h->err ? POLLERR : 0);

	list_for_each_safe (it, &h->polls) {
		struct rs_req *r = list_entry(it, struct rs_req, node);
		uint32_t got = ready & (r->sqe.arg | POLLHUP | POLLERR);

		if (got)
			req_done(rs, r, (int32_t)got, 0, 0);
	}
}

void handle_free(struct ring_server *rs, struct handle *h)
{
	if (h->kind == H_SOCKET)
		net_close(rs, h);
	if (h->fd > 2)
		close(h->fd);
	else if (h->fd >= 0 && h->pollable) /* the process's own stream stays open */
		epoll_ctl(rs->epfd, EPOLL_CTL_DEL, h->fd, NULL);
	free(h->path);
	h->path = NULL;
	h->fd = -1;
	h->kind = H_FREE;
	h->closing = h->dead = false;
	list_del(&h->stalled);
	h->next_free = rs->handles_free;
	rs->handles_free = h->id;
}

/* Whatever is asked of a connection that did not live on has an answer at once. */
static void run_dead(struct ring_server *rs, struct handle *h)
{
	struct list *lists[] = {&h->in, &h->out};

	for (unsigned i = 0; i < 2; i++) {
		while (!list_empty(lists[i])) {
			struct rs_req *r = list_first(lists[i], struct rs_req, node);

			if (r->sqe.op == RING_OP_CLOSE) {
				handle_free(rs, h);
				req_done(rs, r, 0, 0, 0);
				return;
			}
			req_done(rs, r, -ECONNRESET, 0, 0);
		}
	}
	h->readable = h->writable = h->rdhup = h->hup = h->err = true;
	run_polls(rs, h);
}

void handle_run(struct ring_server *rs, struct handle *h)
{
	if (h->dead) {
		run_dead(rs, h);
		return;
	}
	while (h->readable && !list_empty(&h->in))
		if (!step_in(rs, h, list_first(&h->in, struct rs_req, node)))
			break;
	while (!list_empty(&h->out)) {
		struct rs_req *r = list_first(&h->out, struct rs_req, node);

		if (r->sqe.op == RING_OP_CLOSE) {
			handle_free(rs, h);
			req_done(rs, r, 0, 0, 0);
			return;
		}
		if (!h->writable || !step_out(rs, h, r))
			break;
	}
	if (!list_empty(&h->polls))
		run_polls(rs, h);
}

static void cancel_list(struct ring_server *rs, struct list *l)
{
	while (!list_empty(l))
		req_done(rs, list_first(l, struct rs_req, node), -ECANCELED, 0, 0);
}

bool handle_cancel(struct ring_server *rs, struct handle *h, uint64_t user_data)
{
	struct list *lists[] = {&h->in, &h->out, &h->polls};

	for (unsigned i = 0; i < 3; i++) {
		list_for_each (it, lists[i]) {
			struct rs_req *r = list_entry(it, struct rs_req, node);

			if (r->sqe.user_data != user_data || r->sqe.op == RING_OP_CLOSE)
				continue;
			/* what is partly written is reported, so that the guest knows where it stands */
			req_done(rs, r, r->done ? (int32_t)r->done : -ECANCELED, 0, 0);
			return true;
		}
	}
	return false;
}

void handle_close(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	bool drain = sqe->arg == RING_CLOSE_DRAIN && !list_empty(&h->out);

	cancel_list(rs, &h->in);
	cancel_list(rs, &h->polls);
	if (drain && handle_queue(rs, &h->out, sqe)) {
		h->closing = true;
		handle_run(rs, h);
		return;
	}
	cancel_list(rs, &h->out);
	handle_free(rs, h);
	if (!drain)
		rs_complete(rs, sqe, 0, 0, 0, 0);
}
