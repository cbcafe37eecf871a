// SPDX-License-Identifier: ISC
/*
 * The ring server's turn: takes what the guest submitted, does what can be
 * done, sleeps if the guest asked for it, brings back every completion.
 *
 * The guest is hostile. Indices and requests are read once into private copies
 * and only these are used; the data of requests may change at any time and is
 * either copied (paths, addresses, options) or handed to a system call that
 * does not interpret it. A structure that no correct library OS would make
 * (indices too far apart, an address outside RAM) ends the instance with a
 * reason; an operation we do not know is answered with -EINVAL.
 *
 * A turn costs one exit of the guest, which is dear, so it gathers as much as
 * it can:
 *   1. copy and execute all submissions; most complete at once;
 *   2. if something that the guest waits for completed, or it did not ask to
 *      wait: one look at epoll without sleeping; else sleep in epoll until a
 *      request completes, the deadline passes or an interrupt comes;
 *   3. readiness is edge-triggered and remembered per handle, so an idle
 *      socket with a receive posted costs no system call at all.
 *
 * Completions that do not fit into the ring wait in rs->late, at most
 * RS_LATE_SIZE of them: each belongs to one of RS_MAX_REQS requests, to one of
 * the RING_ENTRIES submissions of a turn (none is taken while RS_LATE_TAKE are
 * late), or to an accept (not tried while any is late).
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "monitor/ring_internal.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(core, epoll_pwait2);
HOST_SYSCALL(core, write);

#define EPOLL_TAG_INTERRUPT UINT64_MAX
#define EPOLL_TAG_OUTSIDE   (UINT64_MAX - 1)
#define EPOLL_TAG_CPUS	    (UINT64_MAX - 2)
_Static_assert(RS_LATE_SIZE >= RS_MAX_REQS + RS_LATE_TAKE + RING_ENTRIES + RS_MAX_EVENTS + RS_ACCEPT_BATCH,
	       "bound");
_Static_assert((RS_LATE_SIZE & (RS_LATE_SIZE - 1)) == 0, "masked");

/* --- completions --------------------------------------------------------------- */

bool rs_cq_full(struct ring_server *rs)
{
	return rs->late_head != rs->late_tail || rs->cq_tail - rs->cq_head >= RING_ENTRIES;
}

static void cq_put(struct ring_server *rs, const struct ring_cqe *c)
{
	rs->page->cq[rs->cq_tail % RING_ENTRIES] = *c;
	rs->cq_tail++;
}

static void post(struct ring_server *rs, const struct ring_cqe *c, bool urgent)
{
	if (!rs_cq_full(rs))
		cq_put(rs, c);
	else if (rs->late_tail - rs->late_head < RS_LATE_SIZE)
		rs->late[rs->late_tail++ % RS_LATE_SIZE] = *c;
	else
		abort(); /* the bound above is wrong: our bug */
	rs->n_done++;
	rs->n_urgent += urgent;
}

void rs_complete(struct ring_server *rs, const struct ring_sqe *sqe, int32_t res, uint32_t flags,
		 uint64_t val, uint64_t val2)
{
	struct ring_cqe c = {
		.user_data = sqe->user_data, .res = res, .flags = flags, .val = val, .val2 = val2};

	post(rs, &c, res < 0 || !(sqe->flags & RING_SQE_QUIET));
}

static void post_late(struct ring_server *rs)
{
	while (rs->late_head != rs->late_tail && rs->cq_tail - rs->cq_head < RING_ENTRIES) {
		cq_put(rs, &rs->late[rs->late_head++ % RS_LATE_SIZE]);
		rs->n_urgent++;
	}
}

static void post_events(struct ring_server *rs)
{
	for (unsigned i = 0; i < rs->n_events; i++) {
		struct ring_cqe c = {
			.user_data = RING_UD_EVENT, .val = rs->events[i].event, .val2 = rs->events[i].detail};

		post(rs, &c, true);
	}
	rs->n_events = 0;
}

/* --- what submissions refer to ---------------------------------------------------- */

void rs_broken(struct ring_server *rs, const struct ring_sqe *sqe, const char *what)
{
	if (rs->why[0])
		return;
	if (sqe)
		snprintf(rs->why, sizeof(rs->why), "malformed ring request (operation %u): %s", sqe->op,
			 what);
	else
		snprintf(rs->why, sizeof(rs->why), "malformed ring: %s", what);
}

void *rs_data(struct ring_server *rs, const struct ring_sqe *sqe, uint64_t gpa, uint32_t len)
{
	void *p;

	if (!len)
		return rs->page;
	p = gpa_ram(rs->mem, (gpa_t){gpa}, len);
	if (!p)
		rs_broken(rs, sqe, "address outside guest memory");
	return p;
}

int rs_path(struct ring_server *rs, uint64_t gpa, uint32_t len, char *buf)
{
	if (!len)
		return -ENOENT;
	if (len >= RING_PATH_MAX)
		return -ENAMETOOLONG;
	if (!gpa_read(rs->mem, (gpa_t){gpa}, buf, len)) {
		rs_broken(rs, NULL, "path outside guest memory");
		return -EFAULT;
	}
	buf[len] = 0;
	return memchr(buf, 0, len) ? -EINVAL : 0;
}

void rs_lost(struct ring_server *rs, int err)
{
	rs->lost = err;
	rs->lost_turn = rs->turn;
}

/* --- operations ----------------------------------------------------------------------- */

/* Put a transfer on its queue and try it if nothing is before it. */
static void op_transfer(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe, bool out)
{
	struct list *q = out ? &h->out : &h->in;

	if (h->kind == H_FILE) {
		rs_complete(rs, sqe, -EINVAL, 0, 0, 0);
		return;
	}
	if (sqe->len > RING_MAX_IO || sqe->len2 > RING_MAX_IO) {
		rs_complete(rs, sqe, -EINVAL, 0, 0, 0);
		return;
	}
	if (!rs_data(rs, sqe, sqe->addr, sqe->len) || !rs_data(rs, sqe, sqe->addr2, sqe->len2))
		return;
	if (handle_queue(rs, q, sqe))
		handle_run(rs, h);
}

static void op_poll(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	if (h->kind == H_FILE) {
		rs_complete(rs, sqe, (int32_t)(sqe->arg & (1 | 4)), 0, 0, 0);
		return;
	}
	if (h->pollable) { /* the bits may say "perhaps": ask for an event that tells */
		h->readable = h->writable = h->rdhup = h->hup = h->err = false;
		handle_rearm(rs, h);
	}
	if (handle_queue(rs, &h->polls, sqe))
		handle_run(rs, h);
}

static void op_cancel(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe)
{
	rs_complete(rs, sqe, handle_cancel(rs, h, sqe->off) ? 0 : -ENOENT, 0, 0, 0);
}

static void on_handle(struct ring_server *rs, const struct ring_sqe *sqe)
{
	struct handle *h = handle_get(rs, sqe->handle);

	if (!h) {
		rs_complete(rs, sqe, -EBADF, 0, 0, 0);
		return;
	}
	switch (sqe->op) {
	case RING_OP_READ:
	case RING_OP_RECV:
		op_transfer(rs, h, sqe, false);
		break;
	case RING_OP_WRITE:
	case RING_OP_SEND:
		op_transfer(rs, h, sqe, true);
		break;
	case RING_OP_CLOSE:
		handle_close(rs, h, sqe);
		break;
	case RING_OP_CANCEL:
		op_cancel(rs, h, sqe);
		break;
	case RING_OP_POLL:
		op_poll(rs, h, sqe);
		break;
	default:
		if (h->kind != H_SOCKET)
			rs_complete(rs, sqe, -ENOTSOCK, 0, 0, 0);
		else
			net_op(rs, h, sqe);
	}
}

/* Operations on memory and on the instance itself. */
static void on_instance(struct ring_server *rs, const struct ring_sqe *sqe)
{
	int r = 0;
	uint64_t val = 0;

	switch (sqe->op) {
	case RING_OP_NOP:
		break;
	case RING_OP_MEM_GROW:
		if (sqe->off > rs->mem->ram_max)
			r = -ENOMEM;
		else if (sqe->off > rs->mem->ram_size)
			r = rs->hooks.grow ? rs->hooks.grow(rs->hooks.arg, sqe->off) : -ENOMEM;
		val = rs->mem->ram_size;
		break;
	case RING_OP_MEM_RELEASE:
	case RING_OP_MEM_HUGE:
		if (((sqe->off | sqe->addr2) & (BOOT_PAGE_SIZE - 1)) ||
		    !gpa_is_ram(rs->mem, (gpa_t){sqe->off}, sqe->addr2)) {
			rs_broken(rs, sqe, "range outside guest memory");
			return;
		}
		if (sqe->op == RING_OP_MEM_HUGE && rs->hooks.huge)
			rs->hooks.huge(rs->hooks.arg, sqe->off, sqe->addr2);
		else if (sqe->op == RING_OP_MEM_RELEASE)
			r = rs->hooks.release ? rs->hooks.release(rs->hooks.arg, sqe->off, sqe->addr2)
					      : -ENOSYS;
		break;
	case RING_OP_SNAPSHOT:
		if (rs->freeze_asked) {
			rs->frozen = true;
			rs->freeze_sqe = *sqe;
			return;
		}
		r = -EINVAL;
		break;
	case RING_OP_READY:
		if (sqe->arg == RING_READY_APP)
			r = rs->cfg->standby_fd && rs->hooks.app ? rs->hooks.app(rs->hooks.arg) : -EINVAL;
		else if (sqe->arg != RING_READY_PREFIX)
			ready_told(rs, sqe->arg);
		else if (rs->cfg->snapshot_at == SNAPSHOT_AT_PREFIX)
			rs->prefix_asked = true;
		else
			r = -EINVAL;
		break;
	case RING_OP_EXIT:
		rs->exiting = true;
		rs->wait_status = (int)sqe->arg;
		break;
	case RING_OP_STOP:
		if (rs->hooks.stopped)
			rs->hooks.stopped(rs->hooks.arg, (int)sqe->arg);
		break;
	case RING_OP_LOG:
		console_log(rs, sqe);
		break;
	default:
		r = -EINVAL;
	}
	rs_complete(rs, sqe, r, 0, val, 0);
}

static void execute(struct ring_server *rs, const struct ring_sqe *sqe)
{
	if (sqe->flags & ~(RING_SQE_MORE | RING_SQE_QUIET) ||
	    (sqe->flags & RING_SQE_MORE && sqe->op != RING_OP_ACCEPT)) {
		rs_complete(rs, sqe, -EINVAL, 0, 0, 0);
		return;
	}
	rs->acted |= (sqe->op >= RING_OP_READ && sqe->op <= RING_OP_POLL && sqe->op != RING_OP_CLOSE &&
		      sqe->op != RING_OP_CANCEL && sqe->op != RING_OP_POLL) ||
		     sqe->op == RING_OP_SOCKET ||
		     (sqe->op >= RING_OP_VOL_OPEN && sqe->op <= RING_OP_VOL_LOCK);
	if (sqe->op == RING_OP_LISTEN && sqe->handle == RING_NO_HANDLE) {
		net_settle(rs);
		rs_complete(rs, sqe, 0, 0, 0, 0);
	} else if (sqe->op == RING_OP_SOCKET)
		net_op(rs, NULL, sqe);
	else if ((sqe->op >= RING_OP_READ && sqe->op <= RING_OP_POLL) ||
		 (sqe->op > RING_OP_SOCKET && sqe->op <= RING_OP_GETNAME))
		on_handle(rs, sqe);
	else if (sqe->op >= RING_OP_VOL_OPEN && sqe->op <= RING_OP_VOL_LOCK)
		volume_op(rs, sqe);
	else if (sqe->op == RING_OP_TTY_GET || sqe->op == RING_OP_TTY_SET)
		console_tty(rs, sqe);
	else
		on_instance(rs, sqe);
}

/* --- the turn -------------------------------------------------------------------------- */

static uint32_t load(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void take_submissions(struct ring_server *rs)
{
	uint32_t tail = load(&rs->page->ctl.sq_tail);

	if (tail - rs->sq_head > RING_ENTRIES) {
		rs_broken(rs, NULL, "submission index out of range");
		return;
	}
	while (rs->sq_head != tail && !rs->exiting && !rs->frozen && !rs->why[0] &&
	       rs->late_tail - rs->late_head < RS_LATE_TAKE) {
		/* one copy, which the compiler may not undo */
		const volatile struct ring_sqe *shared = &rs->page->sq[rs->sq_head % RING_ENTRIES];
		struct ring_sqe sqe = *shared;

		rs->sq_head++;
		execute(rs, &sqe);
	}
	__atomic_store_n(&rs->page->ctl.sq_head, rs->sq_head, __ATOMIC_RELEASE);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The one place where the guest's clock meets the host's. */
static uint64_t host_deadline(const struct ring_server *rs, uint64_t guest_ns)
{
	return guest_ns == UINT64_MAX ? UINT64_MAX : guest_ns + (uint64_t)rs->mono_off_ns;
}

static void on_event(struct ring_server *rs, const struct epoll_event *e)
{
	uint32_t id = (uint32_t)e->data.u64;
	struct handle *h;

	if (e->data.u64 == EPOLL_TAG_INTERRUPT) {
		rs->interrupted = true;
		return;
	}
	if (e->data.u64 == EPOLL_TAG_OUTSIDE) {
		rs->outside = true;
		return;
	}
	if (e->data.u64 == EPOLL_TAG_CPUS) {
		rs->interrupted |= rs->hooks.cpus(rs->hooks.arg);
		return;
	}
	if (e->data.u64 >> 32 == RS_TAG_PORT) {
		net_turn_away(rs, id);
		return;
	}
	if (id >= rs->handles_fresh)
		return;
	h = &rs->handles[id];
	if (h->kind == H_FREE || h->gen != (uint32_t)(e->data.u64 >> 32))
		return;
	h->rdhup |= (e->events & EPOLLRDHUP) != 0;
	h->hup |= (e->events & EPOLLHUP) != 0;
	h->err |= (e->events & EPOLLERR) != 0;
	ready_activity(rs, h);
	if (e->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		h->readable = true;
	if (e->events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		h->writable = true;
	handle_run(rs, h);
}

/* Wait at most until the host time `deadline` (0: do not wait) for events and act on them. */
static void gather(struct ring_server *rs, uint64_t deadline)
{
	struct epoll_event ev[RS_BATCH];
	struct timespec ts = {0, 0}, *timeout = &ts;
	uint64_t now;
	int n;

	if (deadline == UINT64_MAX) {
		timeout = NULL;
	} else if (deadline && deadline > (now = now_ns())) {
		ts.tv_sec = (time_t)((deadline - now) / 1000000000u);
		ts.tv_nsec = (long)((deadline - now) % 1000000000u);
	}
	n = epoll_pwait2(rs->epfd, ev, RS_BATCH, timeout, NULL);
	for (int i = 0; i < n; i++)
		on_event(rs, &ev[i]);
}

/* Handles that had more to give than there was room for. */
static void run_stalled(struct ring_server *rs)
{
	struct list again;

	if (list_empty(&rs->stalled))
		return;
	list_init(&again);
	while (!list_empty(&rs->stalled)) {
		struct handle *h = list_first(&rs->stalled, struct handle, stalled);

		list_del(&h->stalled);
		list_add_tail(&again, &h->stalled);
	}
	while (!list_empty(&again)) {
		struct handle *h = list_first(&again, struct handle, stalled);

		list_del(&h->stalled);
		handle_run(rs, h);
	}
}

/* What a program wrote before it ended still goes out; for sockets within a bound. */
static void drain_at_exit(struct ring_server *rs)
{
	uint64_t end = now_ns() + 5000000000u;

	if (rs->outside_fd >= 0) /* nobody serves it now */
		epoll_ctl(rs->epfd, EPOLL_CTL_DEL, rs->outside_fd, NULL);
	rs->outside_fd = -1;
	if (rs->cpus_fd >= 0)
		epoll_ctl(rs->epfd, EPOLL_CTL_DEL, rs->cpus_fd, NULL);

	for (;;) {
		bool console = false, socket = false;

		for (uint32_t i = 0; i < rs->handles_fresh; i++) {
			struct handle *h = &rs->handles[i];

			if (h->kind == H_FREE || list_empty(&h->out))
				continue;
			if (h->kind == H_CONSOLE)
				console = true;
			else
				socket = true;
		}
		if (rs->interrupted || (!console && (!socket || now_ns() >= end)))
			return;
		gather(rs, console ? UINT64_MAX : end);
		rs->cq_head = rs->cq_tail; /* nobody reads completions any more */
		rs->late_head = rs->late_tail;
	}
}

static void publish(struct ring_server *rs)
{
	__atomic_store_n(&rs->page->ctl.more, rs->late_tail - rs->late_head, __ATOMIC_RELAXED);
	__atomic_store_n(&rs->page->ctl.cq_tail, rs->cq_tail, __ATOMIC_RELEASE);
}

static void wait_and_gather(struct ring_server *rs)
{
	bool wait = load(&rs->page->ctl.wait) != 0;
	uint64_t deadline =
		host_deadline(rs, __atomic_load_n(&rs->page->ctl.wait_until_ns, __ATOMIC_RELAXED));

	if (!wait || rs->now || rs->n_urgent || !list_empty(&rs->stalled)) {
		gather(rs, 0);
		return;
	}
	if (rs->answered && rs->hooks.answered) {
		rs->hooks.answered(rs->hooks.arg);
		rs->hooks.answered = NULL;
	}
	do {
		uint64_t until = ready_before_sleep(rs, deadline);

		gather(rs, until);
		ready_after_sleep(rs);
	} while (!rs->n_urgent && !rs->interrupted && !rs->outside && !rs->why[0] &&
		 list_empty(&rs->stalled) && !rs->ready.is &&
		 (deadline == UINT64_MAX || now_ns() < deadline));
}

enum turn_result ring_server_turn(struct ring_server *rs, int *wait_status, const char **why)
{
	uint32_t head = load(&rs->page->ctl.cq_head);

	rs->turn++;
	rs->n_done = rs->n_urgent = 0;
	rs->interrupted = rs->outside = false;
	if (rs->cq_tail - head > RING_ENTRIES)
		rs_broken(rs, NULL, "completion index out of range");
	else
		rs->cq_head = head;
	if (!rs->why[0]) {
		post_late(rs);
		post_events(rs);
		run_stalled(rs);
		take_submissions(rs);
	}
	if (rs->frozen && rs->late_head != rs->late_tail) {
		rs->frozen = false;
		rs_complete(rs, &rs->freeze_sqe, -EAGAIN, 0, 0, 0);
	}
	if (!rs->why[0] && !rs->exiting && !rs->frozen)
		wait_and_gather(rs);
	publish(rs);
	if (rs->why[0]) {
		*why = rs->why;
		return TURN_BROKEN;
	}
	if (rs->exiting) {
		drain_at_exit(rs);
		if (rs->lost && rs->lost_turn == rs->turn && rs->wait_status != SIGPIPE)
			say("output was lost: %s", strerror(rs->lost));
		*wait_status = rs->wait_status;
		return TURN_EXIT;
	}
	return rs->frozen ? TURN_FROZEN : TURN_RUN;
}

enum turn_result ring_server_turn_now(struct ring_server *rs, int *wait_status, const char **why)
{
	enum turn_result r;

	rs->now = true;
	r = ring_server_turn(rs, wait_status, why);
	rs->now = false;
	return r;
}

bool ring_server_interrupted(const struct ring_server *rs)
{
	return rs->interrupted;
}

bool ring_server_turned_for_nothing(const struct ring_server *rs)
{
	return rs->interrupted && !rs->n_done && !rs->outside && !rs->ready.is;
}

bool ring_server_has_completions(const struct ring_server *rs)
{
	return load(&rs->page->ctl.cq_head) != load(&rs->page->ctl.cq_tail);
}

/* --- snapshots ----------------------------------------------------------------------------- */

void ring_server_freeze(struct ring_server *rs)
{
	rs->freeze_asked = true;
	ring_server_event(rs, RING_EV_SNAPSHOT, 0);
	ring_server_interrupt(rs);
}

bool ring_server_prefix(const struct ring_server *rs, bool *spoilt)
{
	*spoilt = rs->acted;
	return rs->prefix_asked;
}

bool ring_server_rests_at_prefix(const struct ring_server *rs)
{
	return rs->frozen && rs->prefix_asked && !rs->acted && rs->freeze_sqe.arg == 1;
}

const uint8_t *ring_server_census(const struct ring_server *rs, uint64_t *len)
{
	const struct ring_sqe *s = &rs->freeze_sqe;

	*len = rs->frozen && s->addr ? s->len : 0;
	return *len ? gpa_ram(rs->mem, (gpa_t){s->addr}, *len) : NULL;
}

void ring_server_thaw(struct ring_server *rs, int res)
{
	rs->freeze_asked = rs->frozen = false;
	rs_complete(rs, &rs->freeze_sqe, res, 0, 0, 0);
	publish(rs);
}

void ring_server_set_clock(struct ring_server *rs, int64_t host_minus_guest_ns)
{
	rs->mono_off_ns = host_minus_guest_ns;
}

/* --- life --------------------------------------------------------------------------------- */

void ring_server_event(struct ring_server *rs, uint32_t event, uint64_t detail)
{
	for (unsigned i = 0; i < rs->n_events; i++)
		if (rs->events[i].event == event && rs->events[i].detail == detail)
			return; /* like a signal that is pending already */
	if (rs->n_events < RS_MAX_EVENTS) {
		rs->events[rs->n_events].event = event;
		rs->events[rs->n_events++].detail = detail;
	}
}

void ring_server_interrupt(struct ring_server *rs)
{
	uint64_t one = 1;
	int saved = errno;
	ssize_t n = write(rs->evfd, &one, sizeof(one)); /* EAGAIN: it is signalled already */

	(void)n;
	errno = saved;
}

int ring_server_poll_fd(struct ring_server *rs)
{
	return rs->epfd;
}

int ring_server_watch_cpus(struct ring_server *rs, int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = EPOLL_TAG_CPUS};

	if (epoll_ctl(rs->epfd, EPOLL_CTL_ADD, fd, &e))
		return -errno;
	rs->cpus_fd = fd;
	return 0;
}

int ring_server_watch(struct ring_server *rs, int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = EPOLL_TAG_OUTSIDE};

	if (epoll_ctl(rs->epfd, EPOLL_CTL_ADD, fd, &e))
		return -errno;
	rs->outside_fd = fd;
	return 0;
}

bool ring_server_outside(const struct ring_server *rs)
{
	return rs->outside;
}

uint16_t ring_server_host_port(struct ring_server *rs, int index)
{
	return index >= 0 && index < rs->cfg->n_ports ? rs->ports[index].host : 0;
}

static int open_events(struct ring_server *rs)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u64 = EPOLL_TAG_INTERRUPT};

	rs->epfd = epoll_create1(EPOLL_CLOEXEC);
	rs->evfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (rs->epfd < 0 || rs->evfd < 0 || epoll_ctl(rs->epfd, EPOLL_CTL_ADD, rs->evfd, &e)) {
		say("cannot create epoll: %s", strerror(errno));
		return -1;
	}
	return 0;
}

int ring_server_features(const struct monitor_config *cfg)
{
	int f = HOST_core;

	if (cfg->n_ports || cfg->n_egress)
		f |= HOST_net;
	if (cfg->n_volumes)
		f |= HOST_volume;
	if (isatty(0) || isatty(1) || isatty(2))
		f |= HOST_tty;
	return f;
}

struct ring_server *ring_server_new(const struct monitor_config *cfg, struct guest_mem *m, gpa_t ring,
				    const struct ring_server_hooks *hooks)
{
	struct ring_server *rs = calloc(1, sizeof(*rs));

	if (!rs) {
		say("out of memory");
		return NULL;
	}
	*rs = (struct ring_server){.cfg = cfg,
				   .mem = m,
				   .hooks = *hooks,
				   .epfd = -1,
				   .evfd = -1,
				   .outside_fd = -1,
				   .cpus_fd = -1};
	rs->uid = geteuid();
	rs->gid = getegid();
	/* large, zeroed by mmap, and touched only as far as used */
	rs->late = calloc(RS_LATE_SIZE, sizeof(*rs->late));
	rs->reqs = calloc(RS_MAX_REQS, sizeof(*rs->reqs));
	rs->handles = calloc(RING_MAX_HANDLES, sizeof(*rs->handles));
	rs->page = gpa_ram(m, ring, sizeof(struct ring_page));
	if (!rs->late || !rs->reqs || !rs->handles || !rs->page) {
		say("out of memory");
		ring_server_free(rs);
		return NULL;
	}
	handles_init(rs);
	if (cfg->n_volumes)
		umask(0); /* files on volumes get the mode that the program asked for: its own umask is applied */
	if (open_events(rs) || console_init(rs) || net_init(rs)) {
		ring_server_free(rs);
		return NULL;
	}
	return rs;
}

void ring_server_free(struct ring_server *rs)
{
	if (!rs)
		return;
	ring_server_restore_tty();
	for (uint32_t i = 0; i < rs->handles_fresh; i++)
		if (rs->handles[i].kind != H_FREE && rs->handles[i].port < 0 && rs->handles[i].fd > 2)
			close(rs->handles[i].fd);
	net_free(rs);
	if (rs->epfd >= 0)
		close(rs->epfd);
	if (rs->evfd >= 0)
		close(rs->evfd);
	free(rs->late);
	free(rs->reqs);
	free(rs->handles);
	free(rs);
}
