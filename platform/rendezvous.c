/* SPDX-License-Identifier: ISC */
/*
 * Attached runs, as the heroku command knows them.
 *
 *   client ══ TLS ══▶ secret CR LF                        one use, within ATTACH_MS of the start
 *          ◀════════  "rendezvous" CR LF                   a TLS record of its own: the client throws it away
 *          ◀═══════▶  the process's terminal, or its pipes
 *          ◀════════  U+FFFF " heroku-command-exit-status: N" LF    if the client had asked for it in its command
 *
 * Without a terminal a record that is the single byte EOT (4) is the end of standard input: so the client sends it. A
 * client that goes away hangs up: SIGHUP, and SIGTERM if that does not end it.
 *
 * Here, `run` is one attached process, `conn` one TLS connection; they meet when the secret has come. Each direction has one
 * buffer of BUF bytes, and no more is read while it is full: whoever is slow makes the other wait.
 * The heroku command fails if it wants to say its EOT after we have closed. So when all is said we wait for that, or for the client
 * to close, LINGER_MS at most; not with a terminal, which has no EOT.
 * Strangers can connect: at most MAX_STRANGERS at a time, with FIRST_LINE_MS to say the secret, which is compared in constant time.
 */
#include "platform/rendezvous.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/list.h"
#include "platform/instance.h"
#include "platform/logs.h"
#include "platform/tls_self.h"

#define BUF	      16384
#define MAX_LINE      256
#define MAX_STRANGERS 64u
#define FIRST_LINE_MS 10000
#define ATTACH_MS     60000
#define HANGUP_MS     10000
#define LINGER_MS     1000
#define EOT	      4
#define MARKER	      "\xef\xbf\xbf heroku-command-exit-status: %d\n"

struct conn {
	struct list link; /* of strangers, until the secret has come */
	struct rendezvous *run;
	SSL *ssl;
	int fd;
	uv_poll_t poll;
	uv_timer_t timer;
	unsigned open;
	bool shaken, want_write, client_done;
	char line[MAX_LINE];
	size_t n_line;
};

struct buffer {
	char data[BUF];
	size_t at, n;
};

struct rendezvous {
	struct list link;
	char secret[65];
	struct instance *inst; /* NULL before it runs and after its end */
	struct conn *conn;
	int from,
		to; /* the process's output and input; open until the end, since libuv knows them by number */
	bool from_open, to_open;
	uv_poll_t from_poll, to_poll;
	uv_timer_t timer;
	unsigned open;
	bool tty, marker, told, used, ended, hung_up, closing;
	bool eot, lingering; /* the client said EOT; all is said, and we wait for it */
	int status;
	struct buffer in, out;
};

static struct list runs = LIST_INIT(runs), strangers = LIST_INIT(strangers);
static unsigned n_strangers;
static uv_tcp_t listener;
static SSL_CTX *ctx;

static void pump(struct rendezvous *r);

/* --- closing --------------------------------------------------------------------------------------------- */

static void on_conn_closed(uv_handle_t *h)
{
	struct conn *c = h->data;

	if (--c->open)
		return;
	SSL_free(c->ssl);
	close(c->fd);
	free(c);
}

static void conn_close(struct conn *c)
{
	if (uv_is_closing((uv_handle_t *)&c->timer))
		return;
	if (c->shaken)
		SSL_shutdown(c->ssl);
	ERR_clear_error();
	if (!list_empty(&c->link))
		n_strangers--;
	list_del(&c->link);
	if (c->run)
		c->run->conn = NULL;
	c->run = NULL;
	uv_close((uv_handle_t *)&c->poll, on_conn_closed);
	uv_close((uv_handle_t *)&c->timer, on_conn_closed);
}

static void on_run_closed(uv_handle_t *h)
{
	struct rendezvous *r = h->data;

	if (--r->open)
		return;
	close(r->from);
	close(r->to);
	free(r);
}

static void run_close(struct rendezvous *r)
{
	if (r->closing)
		return;
	r->closing = true;
	list_del(&r->link);
	if (r->conn)
		conn_close(r->conn);
	uv_close((uv_handle_t *)&r->from_poll, on_run_closed);
	uv_close((uv_handle_t *)&r->to_poll, on_run_closed);
	uv_close((uv_handle_t *)&r->timer, on_run_closed);
}

/* --- the process's side ------------------------------------------------------------------------------------ */

/* Closes what is behind a descriptor, and keeps its number taken: libuv would take another file with it for ours. */
static void close_behind(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup3(null, fd, O_CLOEXEC) < 0)
		plog("error", NULL, "a pipe of an attached run cannot be closed: %s", strerror(errno));
	if (null >= 0)
		close(null);
}

static void close_input(struct rendezvous *r)
{
	uv_poll_stop(&r->to_poll);
	if (r->to_open)
		close_behind(r->to);
	r->to_open = false;
	r->in.n = 0;
}

static void close_output(struct rendezvous *r)
{
	uv_poll_stop(&r->from_poll);
	if (r->from_open)
		close_behind(r->from);
	r->from_open = false;
}

static void on_hangup_time(uv_timer_t *t)
{
	struct rendezvous *r = t->data;

	if (r->inst && r->inst->app)
		sched_stop(r->inst->app, r->inst->dyno);
}

/* The client has gone, or never came. */
static void hang_up(struct rendezvous *r)
{
	if (r->hung_up)
		return;
	r->hung_up = true;
	close_input(r);
	close_output(r);
	if (!r->inst) {
		if (r->ended)
			run_close(r);
		return;
	}
	if (r->inst->app)
		log_linef(r->inst->app, "heroku", r->inst->dyno,
			  "Client connection closed. Sending SIGHUP to all processes");
	instance_signal(r->inst, SIGHUP);
	uv_timer_start(&r->timer, on_hangup_time, HANGUP_MS, 0);
}

static void on_attach_time(uv_timer_t *t)
{
	struct rendezvous *r = t->data;

	if (r->inst && r->inst->app)
		log_linef(r->inst->app, "heroku", r->inst->dyno,
			  "Error R13 (Attach error) -> Failed to attach to process");
	r->used = true;
	hang_up(r);
}

/* --- carrying ---------------------------------------------------------------------------------------------- */

static void update_polls(struct rendezvous *r);

static void on_process(uv_poll_t *p, int status, int events)
{
	pump(p->data);
}

/* Bytes of the process into `out`. */
static bool fill_out(struct rendezvous *r)
{
	if (!r->from_open || r->out.n || !r->conn)
		return false;
	ssize_t n = read(r->from, r->out.data, BUF);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) { /* a terminal says EIO when all of its users have gone */
		close_output(r);
		return true;
	}
	r->out.at = 0;
	r->out.n = (size_t)n;
	return true;
}

static bool flush_in(struct rendezvous *r)
{
	if (!r->in.n)
		return false;
	if (!r->to_open) {
		r->in.n = 0;
		return true;
	}
	ssize_t n = write(r->to, r->in.data + r->in.at, r->in.n);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0) {
		close_input(r); /* it does not read any more */
		return true;
	}
	r->in.at += (size_t)n;
	r->in.n -= (size_t)n;
	return true;
}

/* What SSL said: true: it waits for the socket. false: the connection is over. */
static bool is_patient(struct conn *c, int ret)
{
	int e = SSL_get_error(c->ssl, ret);

	ERR_clear_error();
	c->want_write = e == SSL_ERROR_WANT_WRITE;
	return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
}

/* The client will send no more: of a terminal it hangs up, of pipes it is the end of the input. */
static void client_ended(struct rendezvous *r, bool clean)
{
	r->conn->client_done = true;
	if (clean && !r->tty) {
		close_input(r);
		return;
	}
	conn_close(r->conn);
	hang_up(r);
}

static bool fill_in(struct rendezvous *r)
{
	struct conn *c = r->conn;

	if (!c || r->in.n || c->client_done)
		return false;
	int n = SSL_read(c->ssl, r->in.data, BUF);
	if (n <= 0) {
		bool clean = SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN;
		if (is_patient(c, n))
			return false;
		client_ended(r, clean);
		return true;
	}
	if (!r->tty && n == 1 && *r->in.data == EOT) {
		r->eot = true;
		close_input(r);
		return true;
	}
	r->in.at = 0;
	r->in.n = (size_t)n;
	return true;
}

static bool flush_out(struct rendezvous *r)
{
	struct conn *c = r->conn;

	if (!c || !r->out.n)
		return false;
	int n = SSL_write(c->ssl, r->out.data + r->out.at, (int)r->out.n);
	if (n <= 0) {
		if (is_patient(c, n))
			return false;
		client_ended(r, false);
		return true;
	}
	c->want_write = false;
	r->out.at += (size_t)n;
	r->out.n -= (size_t)n;
	return true;
}

static void say(struct rendezvous *r, const char *text)
{
	r->out.at = 0;
	r->out.n = strlen(text);
	memcpy(r->out.data, text, r->out.n);
}

/* All was carried and the process has ended. */
static bool is_finished(struct rendezvous *r)
{
	char text[64];

	if (!r->ended || r->from_open || r->out.n || !r->conn)
		return false;
	if (r->marker && !r->told) {
		snprintf(text, sizeof(text), MARKER, r->status);
		say(r, text);
		r->told = true;
		return false;
	}
	return true;
}

static void on_linger_time(uv_timer_t *t)
{
	run_close(t->data);
}

/* Everything is said: close, or wait a little for what the client has yet to say. False: it waits. */
static bool part(struct rendezvous *r)
{
	if (r->tty || r->eot || r->conn->client_done) {
		run_close(r);
		return true;
	}
	if (!r->lingering)
		uv_timer_start(&r->timer, on_linger_time, LINGER_MS, 0);
	r->lingering = true;
	return false;
}

static void pump(struct rendezvous *r)
{
	bool more = true;

	if (r->closing)
		return;
	for (int k = 0; more && k < 64; k++) {
		more = flush_out(r);
		more |= fill_out(r);
		more |= flush_in(r);
		more |= fill_in(r);
		if (r->closing)
			return;
		if (is_finished(r) && part(r))
			return;
		more |= r->out.n && r->ended && !r->from_open && r->conn && !r->conn->want_write;
	}
	update_polls(r);
}

static void on_socket(uv_poll_t *p, int status, int events);

static void update_polls(struct rendezvous *r)
{
	struct conn *c = r->conn;

	if (r->from_open && !r->out.n && c)
		uv_poll_start(&r->from_poll, UV_READABLE, on_process);
	else
		uv_poll_stop(&r->from_poll);
	if (r->to_open && r->in.n)
		uv_poll_start(&r->to_poll, UV_WRITABLE, on_process);
	else
		uv_poll_stop(&r->to_poll);
	if (!c)
		return;
	int events =
		(c->want_write || r->out.n ? UV_WRITABLE : 0) | (r->in.n || c->client_done ? 0 : UV_READABLE);
	if (events)
		uv_poll_start(&c->poll, events, on_socket);
	else
		uv_poll_stop(&c->poll);
}

/* --- the secret --------------------------------------------------------------------------------------------- */

static struct rendezvous *find(const char *secret, size_t n)
{
	struct rendezvous *found = NULL;

	list_for_each (l, &runs) {
		struct rendezvous *r = list_entry(l, struct rendezvous, link);
		if (n == sizeof(r->secret) - 1 && !CRYPTO_memcmp(r->secret, secret, n) && !r->used)
			found = r;
	}
	return found;
}

static void meet(struct conn *c, struct rendezvous *r)
{
	uv_timer_stop(&c->timer);
	uv_timer_stop(&r->timer);
	list_del(&c->link);
	n_strangers--;
	r->used = true;
	r->conn = c;
	c->run = r;
	say(r, "rendezvous\r\n");
	pump(r);
}

/* One byte at a time: what follows the line is the process's. A leading '/' and "?..." are allowed. */
static void read_line(struct conn *c)
{
	char b;
	int n;

	while ((n = SSL_read(c->ssl, &b, 1)) == 1) {
		if (b != '\n' && c->n_line < MAX_LINE) {
			c->line[c->n_line++] = b;
			continue;
		}
		if (c->n_line && c->line[c->n_line - 1] == '\r')
			c->n_line--;
		struct rendezvous *r = b == '\n' ? find(c->line, c->n_line) : NULL;
		OPENSSL_cleanse(c->line, sizeof(c->line));
		if (r)
			meet(c, r);
		else
			conn_close(c);
		return;
	}
	if (!is_patient(c, n))
		conn_close(c);
	else
		uv_poll_start(&c->poll, c->want_write ? UV_WRITABLE : UV_READABLE, on_socket);
}

static void on_socket(uv_poll_t *p, int status, int events)
{
	struct conn *c = p->data;

	if (c->run) {
		pump(c->run);
		return;
	}
	if (!c->shaken) {
		int n = SSL_accept(c->ssl);
		if (n != 1) {
			if (!is_patient(c, n))
				conn_close(c);
			else
				uv_poll_start(&c->poll, c->want_write ? UV_WRITABLE : UV_READABLE, on_socket);
			return;
		}
		c->shaken = true;
	}
	read_line(c);
}

static void on_stranger_time(uv_timer_t *t)
{
	conn_close(t->data);
}

static void on_tcp_closed(uv_handle_t *h)
{
	free(h);
}

/* libuv gives a stream; SSL wants the descriptor. */
static void on_connection(uv_stream_t *s, int status)
{
	uv_tcp_t *t = xcalloc(1, sizeof(*t));
	int fd = -1, own = -1;

	uv_tcp_init(loop, t);
	if (!status && !uv_accept(s, (uv_stream_t *)t) && !uv_fileno((uv_handle_t *)t, &fd))
		own = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	uv_close((uv_handle_t *)t, on_tcp_closed);
	if (own < 0)
		return;
	if (n_strangers >= MAX_STRANGERS) {
		close(own);
		return;
	}
	struct conn *c = xcalloc(1, sizeof(*c));
	c->fd = own;
	c->ssl = SSL_new(ctx);
	SSL_set_fd(c->ssl, own);
	SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	c->poll.data = c->timer.data = c;
	uv_poll_init(loop, &c->poll, own);
	uv_timer_init(loop, &c->timer);
	c->open = 2;
	list_add_tail(&strangers, &c->link);
	n_strangers++;
	uv_timer_start(&c->timer, on_stranger_time, FIRST_LINE_MS, 0);
	uv_poll_start(&c->poll, UV_READABLE, on_socket);
}

/* --- for the API ---------------------------------------------------------------------------------------------- */

/* On the address that the API listens on, any port. */
static int open_listener(void)
{
	struct sockaddr_storage a = {0};
	char host[64] = "127.0.0.1";
	const char *l = config.listen ? config.listen : config.listen_tls,
		   *colon = l ? strrchr(l, ':') : NULL;

	if (colon && colon > l && (size_t)(colon - l) < sizeof(host)) {
		bool bracket = *l == '[';
		snprintf(host, sizeof(host), "%.*s", (int)(colon - l) - 2 * bracket, l + bracket);
	}
	if (uv_ip4_addr(host, 0, (struct sockaddr_in *)&a) && uv_ip6_addr(host, 0, (struct sockaddr_in6 *)&a))
		uv_ip4_addr("127.0.0.1", 0, (struct sockaddr_in *)&a);
	ctx = tls_self_ctx();
	if (!ctx)
		return -EPROTO;
	uv_tcp_init(loop, &listener);
	int r = uv_tcp_bind(&listener, (struct sockaddr *)&a, 0);
	return r ? r : uv_listen((uv_stream_t *)&listener, 64, on_connection);
}

uint16_t rendezvous_port(void)
{
	static bool tried;
	static uint16_t port;
	struct sockaddr_storage a;
	int len = sizeof(a);

	if (tried)
		return port;
	tried = true;
	int r = open_listener();
	if (!r)
		r = uv_tcp_getsockname(&listener, (struct sockaddr *)&a, &len);
	if (r)
		plog("error", NULL, "attached runs are not possible: %s", uv_strerror(r));
	else
		port = ntohs(((struct sockaddr_in *)&a)->sin_port); /* the same place in sockaddr_in6 */
	return port;
}

static void set_flags(int fd)
{
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Above 2 whatever we were started with, and close-on-exec. */
static int up(int fd)
{
	int r = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 10);

	if (fd >= 0)
		close(fd);
	return r;
}

static int open_terminal(struct rendezvous *r, unsigned columns, unsigned lines, int stdio[3])
{
	struct winsize w = {.ws_col = (unsigned short)(columns && columns < 10000 ? columns : 80),
			    .ws_row = (unsigned short)(lines && lines < 10000 ? lines : 24)};
	int master, slave;

	if (openpty(&master, &slave, NULL, NULL, &w) < 0)
		return -errno;
	r->from = up(master);
	r->to = fcntl(r->from, F_DUPFD_CLOEXEC, 10);
	stdio[0] = up(slave);
	stdio[1] = fcntl(stdio[0], F_DUPFD_CLOEXEC, 10);
	stdio[2] = fcntl(stdio[0], F_DUPFD_CLOEXEC, 10);
	set_flags(r->from);
	return r->to < 0 || stdio[2] < 0 ? -EMFILE : 0;
}

static int open_pipes(struct rendezvous *r, int stdio[3])
{
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(out, O_CLOEXEC) < 0) {
		close(in[0]), close(in[1]);
		return -errno;
	}
	stdio[0] = up(in[0]);
	r->to = up(in[1]);
	r->from = up(out[0]);
	stdio[1] = up(out[1]);
	stdio[2] = fcntl(stdio[1], F_DUPFD_CLOEXEC, 10);
	set_flags(r->from);
	set_flags(r->to);
	return stdio[2] < 0 ? -EMFILE : 0;
}

int rendezvous_new(bool tty, unsigned columns, unsigned lines, bool marker, int stdio[3],
		   struct rendezvous **out)
{
	struct rendezvous *r = xcalloc(1, sizeof(*r));

	stdio[0] = stdio[1] = stdio[2] = r->from = r->to = -1;
	r->tty = tty;
	r->marker = marker;
	int err = tty ? open_terminal(r, columns, lines, stdio) : open_pipes(r, stdio);
	if (err) {
		for (int k = 0; k < 3; k++)
			if (stdio[k] >= 0)
				close(stdio[k]);
		if (r->from >= 0)
			close(r->from);
		if (r->to >= 0)
			close(r->to);
		free(r);
		return err;
	}
	make_token(r->secret, sizeof(r->secret) - 1);
	r->from_poll.data = r->to_poll.data = r->timer.data = r;
	uv_poll_init(loop, &r->from_poll, r->from);
	uv_poll_init(loop, &r->to_poll, r->to);
	uv_timer_init(loop, &r->timer);
	r->open = 3;
	r->from_open = r->to_open = true;
	list_add_tail(&runs, &r->link);
	*out = r;
	return 0;
}

const char *rendezvous_secret(const struct rendezvous *r)
{
	return r->secret;
}

void rendezvous_runs(struct rendezvous *r, struct instance *i)
{
	if (!i) {
		run_close(r);
		return;
	}
	r->inst = i;
	uv_timer_start(&r->timer, on_attach_time, ATTACH_MS, 0);
}

void rendezvous_ended(void *arg, struct instance *i, int exit_status)
{
	struct rendezvous *r = arg;

	r->ended = true;
	r->status = exit_status;
	r->inst = NULL;
	if (r->hung_up)
		run_close(r);
	else
		pump(r);
}
