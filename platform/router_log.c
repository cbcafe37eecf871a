/* SPDX-License-Identifier: ISC */
/*
 * The router's line of each request, in Heroku's format:
 *
 *   at=info method=GET path="/" host=demo.localhost request_id=… fwd="192.0.2.1" dyno=web.1 connect=0ms service=5ms status=200 bytes=13 protocol=http
 *   at=error code=H12 desc="Request timeout" method=GET path="/" host=… … status=503 bytes=0 protocol=https
 *
 * What a client or an app chose is cut to a length, and quotes and what is not printable ASCII are replaced, so that it cannot make a
 * second line or another field. It is put together by hand, since it is on the path of every request.
 */
#include "platform/logs.h"
#include "platform/metrics.h"
#include "platform/router_inside.h"

#define PATH_SHOWN 2048
#define FWD_SHOWN  512

struct line {
	size_t n;
	char p[8192]; /* more than all its parts together */
};

static void put(struct line *l, const char *text, size_t n)
{
	memcpy(l->p + l->n, text, n);
	l->n += n;
}
#define PUT(l, lit) put(l, lit, sizeof(lit) - 1)

static void put_text(struct line *l, const char *text)
{
	put(l, text, strlen(text));
}

static void put_shown(struct line *l, struct str s, size_t max)
{
	for (size_t i = 0; i < s.n && i < max; i++) {
		char c = s.p[i];
		l->p[l->n++] = c == '"' ? '\'' : c >= 32 && c < 127 ? c : '?';
	}
}

static void put_ms(struct line *l, uint64_t ns)
{
	l->n += put_dec(l->p + l->n, ns / 1000000);
	PUT(l, "ms");
}

/* The chain of clients: what X-Forwarded-For said, and the peer. */
static void put_fwd(struct line *l, const struct exchange *x)
{
	struct str f = exchange_header(x, "x-forwarded-for");
	if (f.n) {
		put_shown(l, f, FWD_SHOWN);
		PUT(l, ", ");
	}
	put_text(l, x->peer);
}

void rq_log(struct exchange *x, struct app *a, const struct rq *r, enum hcode code, int status,
	    const char *note)
{
	static const struct rq none; /* refused before it was one */

	if (!a)
		return;
	if (!r)
		r = &none;
	uint64_t end = now_ns();
	bool reached = r->inst && r->connected_ns;
	struct request_times t = {
		.queue_ns = (r->acquired_ns ? r->acquired_ns : end) - x->start_ns,
		.connect_ns = reached ? r->connected_ns - r->acquired_ns : 0,
		.service_ns = reached ? end - r->connected_ns : 0,
		.cold = r->cold,
	};
	metrics_request(a, status, code, x->bytes_out, &t);

	static struct line l;
	l.n = 0;
	if (code) {
		const struct hcode_text *h = hcode_text(code);
		put_text(&l, h->info ? "at=info code=H" : "at=error code=H");
		l.n += put_dec(l.p + l.n, (unsigned)code);
		PUT(&l, " desc=\"");
		put_text(&l, h->desc);
		if (note) {
			PUT(&l, ": ");
			put_shown(&l, (struct str){note, strlen(note)}, 200);
		}
		PUT(&l, "\" method=");
	} else {
		PUT(&l, "at=info method=");
	}
	put(&l, x->method.p, x->method.n < 64 ? x->method.n : 64);
	PUT(&l, " path=\"");
	put_shown(&l, x->path, PATH_SHOWN);
	if (x->query.p) {
		PUT(&l, "?");
		put_shown(&l, x->query, PATH_SHOWN);
	}
	PUT(&l, "\" host=");
	put(&l, x->host.p, x->host.n);
	PUT(&l, " request_id=");
	put_text(&l, x->request_id);
	PUT(&l, " fwd=\"");
	put_fwd(&l, x);
	PUT(&l, "\" dyno=");
	if (r->inst)
		put_text(&l, r->inst->dyno);
	PUT(&l, " connect=");
	if (reached)
		put_ms(&l, t.connect_ns);
	PUT(&l, " service=");
	if (reached)
		put_ms(&l, t.service_ns);
	PUT(&l, " status=");
	l.n += put_dec(l.p + l.n, (unsigned)status);
	PUT(&l, " bytes=");
	if (reached)
		l.n += put_dec(l.p + l.n, x->bytes_out);
	put_text(&l, x->tls ? " protocol=https" : " protocol=http");
	log_line(a, "heroku", "router", l.p, l.n);
	if (r->traceparent[0])
		span_log(a, x, r->traceparent, r->parent_span, r->inst ? r->inst->dyno : "", status, code,
			 &t);
}
