/* SPDX-License-Identifier: ISC */
/*
 * /proc/net/tcp, tcp6, udp, udp6, unix: what ss, netstat and lsof read (proc(5)). Only sockets that have a file are
 * shown, each by what the library OS knows of it: the host's buffers and timers are not seen from here.
 */
#include "guest/net/sock.h"
#include "guest/vfs/internal.h"

void net_show_sockets(struct text *t, int family, int type);

/* As <net/tcp_states.h> of the kernel counts them; users see the numbers. */
enum { ESTABLISHED = 1, SYN_SENT = 2, FIN_WAIT2 = 5, CLOSED = 7, CLOSE_WAIT = 8, LISTENING = 10 };

static int tcp_state(struct sock *s)
{
	bool ended = s->shut_rd || s->ops->poll(s) & POLLRDHUP; /* by the peer */

	switch (s->state) {
	case S_LISTEN:
		return LISTENING;
	case S_CONNECTING:
		return SYN_SENT;
	case S_CONNECTED:
		if (ended && s->shut_wr)
			return CLOSED;
		return ended ? CLOSE_WAIT : s->shut_wr ? FIN_WAIT2 : ESTABLISHED;
	default:
		return CLOSED;
	}
}

/* Addresses are words as they lie in memory, in hexadecimal; ports are numbers. */
static void show_address(struct text *t, int family, const struct inaddr *a)
{
	u32 w[4];

	memcpy(w, a->ip, sizeof(w));
	if (family == AF_INET)
		text_add(t, "%08X:%04X", inet_is_any(a) ? 0 : w[3], a->port);
	else if (inet_is_any(a))
		text_add(t, "%032X:%04X", 0, a->port);
	else
		text_add(t, "%08X%08X%08X%08X:%04X", w[0], w[1], w[2], w[3], a->port);
}

static void show_inet(struct text *t, struct sock *s, u32 n)
{
	static const struct inaddr none;
	bool tcp = s->type == SOCK_STREAM, peer = s->state == S_CONNECTED || s->state == S_CONNECTING;
	int state = tcp ? tcp_state(s) : peer ? ESTABLISHED : CLOSED;
	u32 in = s->state == S_LISTEN ? s->n_accept : s->ops->inq(s), out = s->ops->outq(s);

	text_add(t, "%*u: ", tcp ? 4 : 5, n);
	show_address(t, s->family, &s->local);
	text_add(t, " ");
	show_address(t, s->family, peer ? &s->remote : &none);
	text_add(t, " %02X %08X:%08X 00:00000000 00000000 %5u        0 %lu 2 0000000000000000%s\n", state,
		 out, in, s->uid, s->file->ino_anon, tcp ? " 100 0 0 10 0" : " 0");
}

static void show_unix(struct text *t, struct sock *s)
{
	union saddr *a = kzalloc(sizeof(*a));
	int len = a ? s->ops->getname(s, false, a) : 0, off = (int)offsetof(struct sockaddr_un, sun_path);
	bool listening = s->state == S_LISTEN;

	text_add(t, "%016x: %08X %08X %08X %04X %02X %5lu", 0, s->refs + 1, 0, listening ? 0x10000 : 0,
		 s->type, s->state == S_CONNECTED ? 3 : 1, s->file->ino_anon);
	if (len > off && a->un.sun_path[0])
		text_add(t, " %.*s", len - off, a->un.sun_path);
	else if (len > off)
		text_add(t, " @%.*s", len - off - 1, a->un.sun_path + 1);
	text_add(t, "\n");
	kfree(a);
}

void net_show_sockets(struct text *t, int family, int type)
{
	u32 n = 0;

	list_for_each (it, &all_socks) {
		struct sock *s = list_entry(it, struct sock, all_node);

		if (s->family != family || !s->file || (type && s->type != type))
			continue;
		if (family == AF_UNIX)
			show_unix(t, s);
		else if (type == SOCK_DGRAM ||
			 s->state != S_IDLE) /* a stream that is not connected is nobody's */
			show_inet(t, s, n++);
	}
}
