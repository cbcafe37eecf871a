/* SPDX-License-Identifier: ISC */
/*
 * What strangers send to the front: heads and bodies of HTTP/1, answers of instances, and the PROXY protocol. First byte: r request, a answer,
 * p PROXY header, t target and host.
 *
 * Beyond memory errors: what the guard takes, llhttp takes in the same sense (where the head ends, what frames the body, where the body ends);
 * and neither depends on how the bytes are cut into pieces.
 */
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>

#include "platform/conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define MUST(x)                                                                                              \
	do {                                                                                                 \
		if (!(x))                                                                                    \
			abort();                                                                             \
	} while (0)

void *xrealloc(void *p, size_t n)
{
	p = realloc(p, n);
	MUST(p);
	return p;
}

static struct parsed {
	bool ended, head_done;
	uint64_t body;
} seen;

static int on_headers(llhttp_t *p)
{
	p->upgrade = 0;
	seen.head_done = true;
	return p->type == HTTP_RESPONSE && (p->status_code == 204 || p->status_code == 304);
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
	seen.body += n;
	return 0;
}

static int on_complete(llhttp_t *p)
{
	seen.ended = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_headers_complete = on_headers, .on_body = on_body, .on_message_complete = on_complete};

/* The end of the head, found at once and byte by byte. */
static long find_end(const char *p, size_t n, size_t line_max, size_t head_max)
{
	size_t scanned = 0;
	long whole = guard_find_end(p, n, &scanned, line_max, head_max);
	size_t at = 0;
	long pieces = 0;
	for (size_t k = 1; k <= n && !pieces; k++)
		pieces = guard_find_end(p, k, &at, line_max, head_max);
	MUST(pieces == whole || (whole < 0 && pieces < 0));
	return whole;
}

/* A chunked body, at once and byte by byte, and by llhttp after its head. */
static void chunks(llhttp_t *l, const char *p, size_t n)
{
	struct chunk_guard whole = {0}, pieces = {0};
	long used = guard_chunks(&whole, p, n), sum = 0;
	for (size_t k = 0; k < n && sum >= 0 && pieces.state != CHUNKS_END; k++) {
		long u = guard_chunks(&pieces, p + k, 1);
		sum = u < 0 ? -1 : sum + u;
	}
	MUST(sum == used && (used < 0 || whole.state == pieces.state));
	if (used < 0)
		return;
	llhttp_errno_t err = llhttp_execute(l, p, (size_t)used);
	if (err != HPE_OK && err != HPE_PAUSED)
		return; /* a trailer that llhttp does not take: refused */
	if (whole.state == CHUNKS_END)
		MUST(err == HPE_PAUSED && seen.ended && llhttp_get_error_pos(l) == p + used);
	else
		MUST(err == HPE_OK && !seen.ended);
}

static void message(const char *p, size_t n, bool request)
{
	static struct head h;
	const char *why = "";
	size_t line = request ? HEAD_LINE_MAX : ANSWER_LINE_MAX, max = request ? HEAD_MAX : ANSWER_HEAD_MAX;
	long len = find_end(p, n, line, max);
	if (len <= 0)
		return;
	int bad = request ? guard_request(p, (size_t)len, &h, &why) : guard_answer(p, (size_t)len, &h, &why);
	MUST(!bad == !(why && bad));
	if (bad)
		return;
	MUST(!(h.chunked && h.has_length));
	for (unsigned i = 0; i < h.n_headers; i++)
		MUST(h.headers[i].name.p >= p && h.headers[i].value.p + h.headers[i].value.n <= p + len);
	llhttp_t l;
	memset(&seen, 0, sizeof(seen));
	llhttp_init(&l, request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
	llhttp_errno_t err = llhttp_execute(&l, p, (size_t)len);
	if (err != HPE_OK && err != HPE_PAUSED)
		return; /* stricter than the guard: refused */
	MUST(seen.head_done);
	bool body = request ? h.chunked || h.length
			    : h.status >= 200 && h.status != 204 && h.status != 304 &&
				      (!h.has_length || h.length);
	if (!request && h.status < 200)
		return;
	MUST(seen.ended == !body);
	MUST(err == (body ? HPE_OK : HPE_PAUSED));
	if (!body)
		return;
	MUST(!!(l.flags & F_CHUNKED) == h.chunked);
	if (h.chunked)
		chunks(&l, p + len, n - (size_t)len);
	else if (h.has_length)
		MUST(l.content_length == h.length);
}

static void proxy(const char *p, size_t n)
{
	char peer[64] = "old";
	uint16_t port = 1;
	if (!n)
		return;
	long whole = proxy_parse(p, n, peer, &port);
	MUST(whole <= (long)n && memchr(peer, 0, sizeof(peer)));
	long pieces = 0;
	for (size_t k = 1; k <= n && !pieces; k++)
		pieces = proxy_parse(p, k, peer, &port);
	MUST(pieces == whole || (pieces < 0 && whole < 0));
}

static void target(const char *p, size_t n)
{
	struct str name, authority, path, query;
	uint16_t port;
	struct str s = {p, n};
	if (guard_host(s, &name, &port))
		MUST(name.n && name.n <= 253 && name.p >= p && name.p + name.n <= p + n);
	if (guard_target((struct str)STR("GET"), s, &authority, &path, &query))
		MUST(path.n && path.p[0] == '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (!n)
		return 0;
	/* a copy of its own, so that a byte too far is seen */
	char *p = malloc(n - 1 ? n - 1 : 1);
	MUST(p);
	memcpy(p, data + 1, n - 1);
	switch (data[0]) {
	case 'p':
		proxy(p, n - 1);
		break;
	case 't':
		target(p, n - 1);
		break;
	default:
		message(p, n - 1, data[0] != 'a');
	}
	free(p);
	return 0;
}
