/* SPDX-License-Identifier: ISC */
/*
 * Clients' connections: their bytes, their time-outs, their end. See conn.h.
 *
 *            +-> PROXY -+                                   +-> H1 ---+
 *   accept --+----------+-> (TLS handshake) --> SNIFF/ALPN -+         +-> finishing -> (DRAIN) -> closed
 *                                                           +-> H2 ---+
 *
 * Reading: libuv calls allocate(), which gives the connection's own buffer while a plain HTTP/1 head is awaited (it is then parsed where
 * it lies), else a scratch buffer that all share. Writing: what is put is sent by conn_flush(), at the latest before the loop
 * sleeps (conn_mark()), so that head and body go in one system call.
 *
 * Limits: conns_max at one time (from RLIMIT_NOFILE); a new one over it takes the place of the one that idles longest, or is closed. One client
 * has at most a quarter of them (an IPv6 client is its /64); not one on this machine, which is a balancer or ourselves. When all buffers together
 * have more than buffers_max(), those connections are cut for which most waits: they ask, and do not take what they get.
 * A connection's memory is freed by libuv's close callback, so pointers stay valid until the loop turns.
 */
#include "platform/conn.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

size_t conns_open, conns_max = 512;
bool conns_stopping;

static struct list all = LIST_INIT(all), idle = LIST_INIT(idle);
static void (*all_gone)(void);
static char scratch[64 * 1024];

static const char h2_preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* Connections of clients by a hash of their address. Two that fall together share what one may have. */
#define CLIENTS 4096u
static uint32_t of_client[CLIENTS];

static void finish(struct conn *c);

/* Send, and do what follows from how that went. Never on the stack of an exchange's taker, since it may call the taker back. */
static void settle(struct conn *c)
{
	if (c->closing)
		return;
	bool more;
	do {
		more = c->proto == PROTO_H2 && h2_flush(c);
		if (c->tls)
			tls_encrypt(c);
		sender_flush(&c->out);
	} while (more && !c->closing && !conn_waiting(c));
	if (c->closing)
		return;
	if (c->out.failed)
		conn_cut(c);
	else if (c->finishing && !conn_waiting(c))
		finish(c);
	else if (c->proto == PROTO_H1)
		h1_writable(c);
	else if (c->proto == PROTO_H2)
		h2_writable(c);
}

static void settle_soon(struct soon *s)
{
	struct conn *c = container_of(s, struct conn, soon);
	if (c->proto == PROTO_H1)
		h1_process(c);
	settle(c);
}

void conn_mark(struct conn *c)
{
	if (!c->closing)
		soon_add(&c->soon, settle_soon);
}

static void closed(uv_handle_t *h)
{
	struct conn *c = h->data;
	free(c);
	conns_open--;
	if (conns_stopping && !conns_open && all_gone) {
		void (*cb)(void) = all_gone;
		all_gone = NULL;
		cb();
	}
}

static void tell_gone(struct conn *c)
{
	if (c->proto == PROTO_H1)
		h1_gone(c);
	else if (c->proto == PROTO_H2)
		h2_gone(c);
}

/* Everything but the handle itself. */
static bool let_go(struct conn *c)
{
	if (c->closing)
		return false;
	c->closing = true;
	if (c->client)
		of_client[c->client - 1]--;
	wheel_clear(&c->timer);
	list_del(&c->node);
	list_del(&c->idle_node);
	soon_drop(&c->soon);
	tell_gone(c);
	tls_free(c);
	buf_free(&c->in);
	buf_free(&c->plain);
	sender_close(&c->out);
	return true;
}

void conn_cut(struct conn *c)
{
	if (let_go(c))
		uv_close((uv_handle_t *)&c->tcp, closed);
}

void conn_reset(struct conn *c)
{
	if (let_go(c) && uv_tcp_close_reset(&c->tcp, closed))
		uv_close((uv_handle_t *)&c->tcp, closed);
}

size_t conn_waiting(const struct conn *c)
{
	return buf_len(&c->plain) + sender_waiting(&c->out);
}

void conn_put(struct conn *c, const char *data, size_t n)
{
	if (c->closing)
		return;
	if (c->tls)
		buf_add(&c->plain, data, n);
	else
		sender_put(&c->out, data, n);
	if (c->tls && buf_len(&c->plain) >= 4 * BUF_SIZE)
		tls_encrypt(c);
	conn_mark(c);
}

void conn_ciphertext(struct conn *c, const char *data, size_t n)
{
	sender_put(&c->out, data, n);
}

/* Everything is written: what remains of the end. */
static void finish(struct conn *c)
{
	if (!c->linger) {
		conn_cut(c);
		return;
	}
	if (c->proto == PROTO_DRAIN)
		return;
	tell_gone(c);
	c->proto = PROTO_DRAIN;
	uv_os_fd_t fd;
	if (!uv_fileno((uv_handle_t *)&c->tcp, &fd))
		shutdown(fd, SHUT_WR);
	conn_reading(c, true);
	buf_free(&c->in);
}

void conn_flush(struct conn *c)
{
	if (c->closing)
		return;
	if (c->proto == PROTO_H2)
		h2_flush(c);
	if (c->tls)
		tls_encrypt(c);
	sender_flush(&c->out);
	if (c->out.failed || c->finishing)
		conn_mark(c);
}

static void timeout(struct wheel_timer *t);

void conn_finish(struct conn *c, bool linger)
{
	if (c->closing || c->finishing)
		return;
	c->finishing = true;
	c->linger = linger;
	list_del(&c->idle_node);
	if (c->tls)
		tls_bye(c);
	if (linger)
		wheel_set(&c->timer, LINGER_MS, timeout);
	conn_flush(c);
}

static void progress(struct sender *s)
{
	struct conn *c = container_of(s, struct conn, out);
	settle(c);
}

static void allocate(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
	(void)suggested;
	struct conn *c = h->data;
	if (!c->tls && c->proto == PROTO_H1 && h1_wants_in(c)) {
		b->base = buf_room(&c->in, 4096);
		b->len = c->in.cap - c->in.end;
		return;
	}
	*b = uv_buf_init(scratch, sizeof(scratch));
}

/* Count it for its client, whose address is known now. False: he has too many. */
static bool count_client(struct conn *c)
{
	static uint64_t seed;
	uint8_t a[16] = {0};
	size_t n = 4;
	uint64_t h;

	if (inet_pton(AF_INET, c->peer, a) != 1) {
		if (inet_pton(AF_INET6, c->peer, a) != 1 || !memcmp(a, &in6addr_loopback, 16))
			return true;
		n = 8;
	} else if (a[0] == 127) {
		return true;
	}
	while (!seed)
		memcpy(&seed, few_random_bytes(8), 8);
	h = seed;
	for (size_t i = 0; i < n; i++)
		h = (h ^ a[i]) * 0x100000001b3u;
	c->client = 1 + (uint32_t)(h >> 32) % CLIENTS;
	return ++of_client[c->client - 1] <= conns_max / 4 + 1;
}

/* PROXY header first: the connection is not known before. */
static void proxy_input(struct conn *c, const char *data, size_t n)
{
	buf_add(&c->in, data, n);
	long len = proxy_parse(c->in.p + c->in.start, buf_len(&c->in), c->peer, &c->peer_port);
	if (len < 0) {
		plog("info", NULL, "client %s: no valid PROXY protocol header", c->peer);
		conn_cut(c);
		return;
	}
	if (!len)
		return;
	if (!count_client(c)) {
		conn_cut(c);
		return;
	}
	c->proto = PROTO_SNIFF;
	struct buf rest = c->in;
	c->in = (struct buf){0};
	buf_take(&rest, (size_t)len);
	if (!buf_len(&rest))
		return;
	if (c->tls)
		tls_input(c, rest.p + rest.start, buf_len(&rest));
	else
		conn_plain(c, rest.p + rest.start, buf_len(&rest));
	buf_free(&rest);
}

/* HTTP/2 by ALPN, or by its preface (prior knowledge) in the clear; else HTTP/1. */
static void sniff(struct conn *c, const char *data, size_t n)
{
	if (c->tls) {
		c->proto = tls_is_h2(c) ? PROTO_H2 : PROTO_H1;
	} else {
		size_t have = buf_len(&c->in), k = sizeof(h2_preface) - 1;
		size_t look = n < k - have ? n : k - have;
		if (!memcmp(h2_preface + have, data, look)) {
			if (have + look < k) {
				buf_add(&c->in, data, n);
				return;
			}
			c->proto = PROTO_H2;
		} else {
			c->proto = PROTO_H1;
		}
	}
	struct buf before = c->in;
	c->in = (struct buf){0};
	if (c->proto == PROTO_H2)
		h2_start(c);
	else
		h1_start(c);
	if (buf_len(&before))
		conn_plain(c, before.p + before.start, buf_len(&before));
	buf_free(&before);
	if (!c->closing)
		conn_plain(c, data, n);
}

void conn_plain(struct conn *c, const char *data, size_t n)
{
	if (c->closing || c->finishing || !n)
		return;
	switch (c->proto) {
	case PROTO_H1:
		h1_input(c, data, n);
		break;
	case PROTO_H2:
		h2_input(c, data, n);
		break;
	case PROTO_SNIFF:
		sniff(c, data, n);
		break;
	case PROTO_PROXY:
	case PROTO_DRAIN:
		break;
	}
}

/* An eighth of what instances may have, which is at most a sixteenth of the memory unless it was set. */
static size_t buffers_max(void)
{
	static size_t max;
	if (!max)
		max = config.memory_budget
			      ? config.memory_budget / 8
			      : (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) / 16;
	return max;
}

/*
 * At most ten looks a second: it is a walk over all connections, and what is to be had may be elsewhere. When a quarter too
 * much is there, it cannot wait so long: many who send at the same moment fill a machine in a tenth of a second.
 */
static void relieve(const struct conn *but)
{
	static uint64_t looked;
	uint64_t now = now_ns(); /* not the loop's: in one turn of it all of them may be read */
	if (now - looked < (buf_bytes > buffers_max() / 4 * 5 ? 2000000u : 100000000u))
		return;
	looked = now;
	for (int k = 0; k < 64 && buf_bytes > buffers_max() / 8 * 7; k++) {
		struct conn *most = NULL;
		size_t most_waits = 64 * 1024;
		list_for_each (it, &all) {
			struct conn *c = list_entry(it, struct conn, node);
			size_t waits = conn_waiting(c) + (c->proto == PROTO_H2 ? h2_waiting(c) : 0);
			if (c != but && waits > most_waits) {
				most = c;
				most_waits = waits;
			}
		}
		if (!most)
			return;
		plog("warn", NULL, "client %s: cut off, since %zu bytes wait for it and memory is short",
		     most->peer, most_waits);
		conn_cut(most);
	}
}

static void on_read(uv_stream_t *s, ssize_t nread, const uv_buf_t *b)
{
	struct conn *c = s->data;
	if (buf_bytes > buffers_max())
		relieve(c);
	if (nread == 0 || c->closing) {
		buf_take(&c->in, 0); /* allocate() made it */
		return;
	}
	if (nread < 0) {
		if (c->proto == PROTO_H1 && c->finishing && nread == UV_EOF && conn_waiting(c)) {
			c->linger = false; /* it said all it had to; it still gets its answer */
			conn_reading(c, false);
			return;
		}
		conn_cut(c);
		return;
	}
	size_t n = (size_t)nread;
	if (c->proto == PROTO_DRAIN || c->finishing) {
		c->lingered += n;
		if (c->lingered > LINGER_BYTES)
			conn_cut(c);
	} else if (c->proto == PROTO_PROXY) {
		proxy_input(c, b->base, n);
	} else if (c->tls) {
		tls_input(c, b->base, n);
	} else if (b->base != scratch) {
		c->in.end += (uint32_t)n;
		h1_input(c, NULL, n);
	} else {
		conn_plain(c, b->base, n);
	}
}

void conn_reading(struct conn *c, bool on)
{
	if (c->closing || c->reading == on)
		return;
	c->reading = on;
	if (on)
		uv_read_start((uv_stream_t *)&c->tcp, allocate, on_read);
	else
		uv_read_stop((uv_stream_t *)&c->tcp);
}

void conn_idle(struct conn *c, bool on)
{
	list_del(&c->idle_node);
	if (on)
		list_add_tail(&idle, &c->idle_node);
}

/* Does the client take what waits? Looked at every STALL_LOOK_MS; false when nothing moved for WRITE_TIMEOUT_MS. */
static bool takes(struct conn *c)
{
	size_t waits = conn_waiting(c) ? uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) : 0;
	uint64_t now = uv_now(loop);
	if (!waits || waits != c->out_seen || !c->stalled_since) {
		c->out_seen = waits;
		c->stalled_since = waits ? now : 0;
		return true;
	}
	return now - c->stalled_since < WRITE_TIMEOUT_MS;
}

/* While we do not read we are not told that the client has gone: ask. */
static bool has_gone(struct conn *c)
{
	struct tcp_info i;
	socklen_t len = sizeof(i);
	uv_os_fd_t fd;
	return !c->reading && !uv_fileno((uv_handle_t *)&c->tcp, &fd) &&
	       !getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) && i.tcpi_state != TCP_ESTABLISHED;
}

static void timeout(struct wheel_timer *t)
{
	struct conn *c = container_of(t, struct conn, timer);
	uint64_t next = 0;
	if (!takes(c) || has_gone(c))
		next = 0;
	else if (c->finishing)
		next = conn_waiting(c) ? STALL_LOOK_MS : 0; /* 0: the linger is over */
	else if (c->proto == PROTO_H1)
		next = h1_timeout(c);
	else if (c->proto == PROTO_H2)
		next = h2_timeout(c);
	if (c->closing || c->timer.fire)
		return;
	if (!next)
		conn_cut(c);
	else
		wheel_set(&c->timer, conn_waiting(c) && next > STALL_LOOK_MS ? STALL_LOOK_MS : next, timeout);
}

void conn_timeout(struct conn *c, uint64_t ms)
{
	if (!c->closing)
		wheel_set(&c->timer, ms, timeout);
}

static void name_peer(struct conn *c)
{
	struct sockaddr_storage a;
	int len = sizeof(a);
	strcpy(c->peer, "unknown");
	if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&a, &len))
		return;
	if (a.ss_family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)&a;
		uv_ip4_name(in, c->peer, sizeof(c->peer));
		c->peer_port = ntohs(in->sin_port);
	} else if (a.ss_family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a;
		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
			inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], c->peer, sizeof(c->peer));
		else
			uv_ip6_name(in6, c->peer, sizeof(c->peer));
		c->peer_port = ntohs(in6->sin6_port);
	}
}

static void make_room(void)
{
	if (conns_open < conns_max || list_empty(&idle))
		return;
	conn_cut(list_first(&idle, struct conn, idle_node));
}

void conn_accept(uv_stream_t *server, bool tls)
{
	struct conn *c = xcalloc(1, sizeof(*c));
	uv_tcp_init(loop, &c->tcp);
	c->tcp.data = c;
	conns_open++;
	list_init(&c->node);
	list_init(&c->idle_node);
	sender_init(&c->out, (uv_stream_t *)&c->tcp, progress);
	c->proto = config.proxy_protocol ? PROTO_PROXY : PROTO_SNIFF;
	if (uv_accept(server, (uv_stream_t *)&c->tcp) || conns_stopping) {
		conn_cut(c);
		return;
	}
	list_add_tail(&all, &c->node);
	make_room();
	if (conns_open > conns_max + 64 || (tls && !tls_start(c))) {
		conn_cut(c);
		return;
	}
	uv_tcp_nodelay(&c->tcp, 1);
	name_peer(c);
	if (!config.proxy_protocol && !count_client(c)) {
		conn_cut(c);
		return;
	}
	c->head_since = uv_now(loop);
	wheel_set(&c->timer, HEAD_TIMEOUT_MS, timeout);
	conn_idle(c, true);
	conn_reading(c, true);
}

/* Those that did not end by themselves. */
static void stop_now(uv_timer_t *t)
{
	uv_close((uv_handle_t *)t, NULL);
	list_for_each_safe (it, &all) {
		conn_cut(list_entry(it, struct conn, node));
	}
}

void conns_stop(void (*cb)(void))
{
	static uv_timer_t limit;
	uv_timer_init(loop, &limit);
	uv_timer_start(&limit, stop_now, STOP_MS, 0);
	uv_unref((uv_handle_t *)&limit);
	conns_stopping = true;
	all_gone = cb;
	list_for_each_safe (it, &all) {
		struct conn *c = list_entry(it, struct conn, node);
		if (c->proto == PROTO_H2)
			h2_stop(c);
		else if (c->proto != PROTO_H1 || c->h1.state == H1_HEAD)
			conn_cut(c);
	}
	if (!conns_open && all_gone) {
		all_gone = NULL;
		cb();
	}
}
