/* SPDX-License-Identifier: ISC */
/*
 * Heads on their way through: what an instance gets in place of what the client sent, and the other way round.
 *
 * Hop-by-hop headers go (Connection and those it names, Keep-Alive, Proxy-*, TE, Trailer, Transfer-Encoding, Upgrade); framing is made anew
 * from what the front understood, never copied. Ours: X-Forwarded-For (appended), X-Forwarded-Proto and -Port, X-Request-Id, X-Request-Start,
 * Via (appended), traceparent (a span of ours in the client's trace, or a new trace). A client cannot set those, nor write them with an
 * underscore for a hyphen, which programs that see headers as environment variables could not tell from ours.
 */
#include "platform/router_inside.h"

#include <stdlib.h>

enum kind { PASS, DROP, OURS, HOST, LENGTH, FORWARDED_FOR, VIA, CONNECTION, EXPECT };

/* Is name the lower-case text, where '_' of name stands for '-'? 2: it was so only with the underscore. */
static int same(struct str name, const char *text)
{
	int r = 1;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		if (c >= 'A' && c <= 'Z')
			c |= 0x20;
		if (c == text[i])
			continue;
		if (c != '_' || text[i] != '-')
			return 0;
		r = 2;
	}
	return r;
}

static const struct {
	const char *name;
	uint8_t len, kind;
} known[] = {
#define K(text, kind)                                                                                        \
	{                                                                                                    \
		text, sizeof(text) - 1, kind                                                                 \
	}
	K("te", DROP),
	K("via", VIA),
	K("host", HOST),
	K("expect", EXPECT),
	K("upgrade", DROP),
	K("trailer", DROP),
	K("connection", CONNECTION),
	K("keep-alive", DROP),
	K("traceparent", OURS),
	K("x-request-id", OURS),
	K("content-length", LENGTH),
	K("http2-settings", DROP),
	K("x-forwarded-for", FORWARDED_FOR),
	K("x-request-start", OURS),
	K("proxy-connection", DROP),
	K("x-forwarded-port", OURS),
	K("transfer-encoding", DROP),
	K("x-forwarded-proto", OURS),
	K("proxy-authenticate", DROP),
	K("proxy-authorization", DROP),
#undef K
};
/* first[n]: index of the first name of n letters in `known`, which is sorted by length. */
static uint8_t first[24];

__attribute__((constructor)) static void index_known(void)
{
	for (unsigned n = 0, i = 0; n < sizeof(first); n++) {
		while (i < sizeof(known) / sizeof(known[0]) && known[i].len < n)
			i++;
		first[n] = (uint8_t)i;
	}
}

static enum kind kind_of(struct str name)
{
	if (name.n >= sizeof(first))
		return PASS;
	for (unsigned i = first[name.n]; i < sizeof(known) / sizeof(known[0]) && known[i].len == name.n;
	     i++) {
		int s = same(name, known[i].name);
		if (s)
			return s == 2 ? DROP : (enum kind)known[i].kind;
	}
	return PASS;
}

/* Is it one of those that a Connection header names? Those that carry meaning of ours are never taken away by it. */
static bool named(const struct str *connection, unsigned n, struct str name)
{
	for (unsigned k = 0; k < n; k++) {
		struct str v = connection[k];
		for (size_t i = 0; i < v.n;) {
			size_t from = i;
			while (i < v.n && v.p[i] != ',' && v.p[i] != ' ' && v.p[i] != '\t')
				i++;
			if (i - from == name.n && !strncasecmp(v.p + from, name.p, name.n))
				return true;
			i++;
		}
	}
	return false;
}

/* Connection headers that name anything beyond the usual words. */
static unsigned unusual(const struct header *v, unsigned n, struct str *out, unsigned max)
{
	unsigned k = 0;
	for (unsigned i = 0; i < n && k < max; i++) {
		if (v[i].name.n != 10 || !str_eq_nocase(v[i].name, "connection"))
			continue;
		struct str c = v[i].value;
		if (!str_eq_nocase(c, "close") && !str_eq_nocase(c, "keep-alive") &&
		    !str_eq_nocase(c, "upgrade"))
			out[k++] = c;
	}
	return k;
}

static void put(struct buf *o, const char *p, size_t n)
{
	buf_room(o, n);
	buf_lit_(o, p, n);
}
#define PUT(o, lit) put(o, lit, sizeof(lit) - 1)

static void put_header(struct buf *o, struct str name, struct str value)
{
	char *p = buf_room(o, name.n + value.n + 4);
	memcpy(p, name.p, name.n);
	p += name.n;
	*p++ = ':';
	*p++ = ' ';
	memcpy(p, value.p, value.n);
	p += value.n;
	*p++ = '\r';
	*p++ = '\n';
	o->end = (uint32_t)(p - o->p);
}

static void put_number(struct buf *o, uint64_t v)
{
	o->end += (uint32_t)put_dec(buf_room(o, 20), v);
}

/* All of the client's, then ours at the end of the list. */
static void put_list(struct buf *o, const struct exchange *x, const char *name, enum kind kind,
		     const char *own)
{
	put(o, name, strlen(name));
	PUT(o, ": ");
	for (unsigned i = 0; i < x->n_headers; i++) {
		if (kind_of(x->headers[i].name) != kind || !x->headers[i].value.n)
			continue;
		put(o, x->headers[i].value.p, x->headers[i].value.n);
		PUT(o, ", ");
	}
	put(o, own, strlen(own));
	PUT(o, "\r\n");
}

static bool hex(const char *p, size_t n)
{
	bool zero = true;
	for (size_t i = 0; i < n; i++) {
		if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f')))
			return false;
		zero &= p[i] == '0';
	}
	return !zero;
}

/* 00-<32 hex digits>-<16>-<2>: see W3C Trace Context. Each hop is a span; its id is new. */
void rq_trace(struct rq *r)
{
	static const char digit[] = "0123456789abcdef";
	const uint8_t *random = few_random_bytes(24);
	char *o = r->traceparent;
	struct str t = exchange_header(r->x, "traceparent");
	bool good = t.n == 55 && t.p[0] == '0' && t.p[1] == '0' && t.p[2] == '-' && t.p[35] == '-' &&
		    t.p[52] == '-' && hex(t.p + 3, 32) && hex(t.p + 36, 16) &&
		    (t.p[53] == '0' || hex(t.p + 53, 1)) && (t.p[54] == '0' || hex(t.p + 54, 1));
	memcpy(o, good ? t.p : "00-", good ? 36 : 3);
	if (!good) {
		for (unsigned i = 0; i < 16; i++) {
			o[3 + 2 * i] = digit[random[i] >> 4];
			o[4 + 2 * i] = digit[random[i] & 15];
		}
		o[35] = '-';
	}
	for (unsigned i = 0; i < 8; i++) {
		o[36 + 2 * i] = digit[random[16 + i] >> 4];
		o[37 + 2 * i] = digit[random[16 + i] & 15];
	}
	o[52] = '-';
	memcpy(o + 53, good ? t.p + 53 : "00", 2);
	o[55] = 0;
	r->parent_span[0] = 0;
	r->sampled = false;
	if (!good)
		return;
	memcpy(r->parent_span, t.p + 36, 16);
	r->parent_span[16] = 0;
	r->sampled = strchr("13579bdf", t.p[54]) != NULL;
}

static void put_ours(struct rq *r, struct buf *o)
{
	struct exchange *x = r->x;
	put_list(o, x, "X-Forwarded-For", FORWARDED_FOR, x->peer);
	put_list(o, x, "Via", VIA,
		 x->version == 20   ? "2 cowbell"
		 : x->version == 11 ? "1.1 cowbell"
				    : "1.0 cowbell");
	put_header(o, (struct str)STR("X-Forwarded-Proto"),
		   x->tls ? (struct str)STR("https") : (struct str)STR("http"));
	PUT(o, "X-Forwarded-Port: ");
	put_number(o, x->host_port ? x->host_port : x->tls ? 443 : 80);
	PUT(o, "\r\nX-Request-Start: ");
	put_number(o, (uint64_t)real_us() / 1000);
	PUT(o, "\r\n");
	put_header(o, (struct str)STR("X-Request-Id"), (struct str){x->request_id, strlen(x->request_id)});
	put_header(o, (struct str)STR("Traceparent"), (struct str){r->traceparent, 55});
}

void rq_write_head(struct rq *r, struct buf *o)
{
	struct exchange *x = r->x;
	struct str conn[8];
	unsigned n_conn = unusual(x->headers, x->n_headers, conn, 8);
	bool length_said = false, expect = false;
	put(o, x->method.p, x->method.n);
	PUT(o, " ");
	put(o, x->path.p, x->path.n);
	if (x->query.p) {
		PUT(o, "?");
		put(o, x->query.p, x->query.n);
	}
	PUT(o, " HTTP/1.1\r\n");
	for (unsigned i = 0; i < x->n_headers; i++) {
		const struct header *h = &x->headers[i];
		enum kind k = kind_of(h->name);
		if (k == HOST || (k == PASS && (!n_conn || !named(conn, n_conn, h->name))))
			put_header(o, h->name, h->value);
		else if (k == LENGTH)
			length_said = true;
		else if (k == EXPECT)
			expect = x->expect_continue;
	}
	put_ours(r, o);
	if (expect)
		PUT(o, "Expect: 100-continue\r\n");
	if (x->content_length < 0) {
		PUT(o, "Transfer-Encoding: chunked\r\n");
	} else if (x->content_length || length_said) {
		PUT(o, "Content-Length: ");
		put_number(o, (uint64_t)x->content_length);
		PUT(o, "\r\n");
	}
	if (x->upgrade) {
		PUT(o, "Connection: Upgrade\r\n");
		put_header(o, (struct str)STR("Upgrade"), exchange_header(x, "upgrade"));
	}
	PUT(o, "\r\n");
}

unsigned answer_headers(struct rq *r, const struct head *h, struct header **out, const char **why)
{
	static struct header v[HEAD_HEADERS_MAX + 8];
	static char via[1024];
	struct str conn[8];
	unsigned n_conn = unusual(h->headers, h->n_headers, conn, 8), n = 0;
	size_t via_n = 0;
	*out = v;
	*why = NULL;
	for (unsigned i = 0; i < h->n_headers; i++) {
		const struct header *e = &h->headers[i];
		enum kind k = kind_of(e->name);
		if (k == VIA && via_n + e->value.n + 2 < sizeof(via) - 16) {
			memcpy(via + via_n, e->value.p, e->value.n);
			memcpy(via + via_n + e->value.n, ", ", 2);
			via_n += e->value.n + 2;
			continue;
		}
		if (e->name.n == 10 && e->value.n > COOKIE_MAX && str_eq_nocase(e->name, "set-cookie")) {
			*why = "oversized cookie";
			return 0;
		}
		if (k == DROP || k == LENGTH || k == CONNECTION || k == VIA ||
		    (n_conn && named(conn, n_conn, e->name)))
			continue;
		v[n++] = *e;
	}
	memcpy(via + via_n, "1.1 cowbell", 11);
	v[n++] = (struct header){STR("Via"), {via, via_n + 11}};
	if (h->status == 101) {
		v[n++] = (struct header){STR("Connection"), STR("Upgrade")};
		v[n++] = (struct header){STR("Upgrade"), h->upgrade};
	}
	return n;
}
