/* SPDX-License-Identifier: ISC */
/*
 * What is the same for exchanges of HTTP/1 and HTTP/2: looking at headers, request ids, whole answers; the rest goes to h1.c or h2.c by
 * the exchange's version. See http.h.
 */
#include "platform/conn.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>

struct str exchange_header(const struct exchange *x, const char *name)
{
	size_t n = strlen(name);
	for (unsigned i = 0; i < x->n_headers; i++)
		if (x->headers[i].name.n == n && str_eq_nocase(x->headers[i].name, name))
			return x->headers[i].value;
	return (struct str){0};
}

const uint8_t *few_random_bytes(size_t n)
{
	static uint8_t store[4096];
	static size_t used = sizeof(store);
	if (used + n > sizeof(store)) {
		if (getrandom(store, sizeof(store), 0) != sizeof(store))
			random_bytes(store, sizeof(store));
		used = 0;
	}
	const uint8_t *p = store + used;
	used += n;
	return p;
}

/* A client's own id is kept if it is of 20 to 200 bytes that are harmless in a log line and a header. */
static bool good_id(struct str s)
{
	if (s.n < 20 || s.n > 200)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		      c == '-' || c == '_' || c == '.' || c == '/' || c == '+' || c == '='))
			return false;
	}
	return true;
}

void exchange_identify(struct exchange *x)
{
	struct str own = exchange_header(x, "x-request-id");
	if (own.p && good_id(own)) {
		memcpy(x->request_id, own.p, own.n);
		x->request_id[own.n] = 0;
		return;
	}
	static const char digit[] = "0123456789abcdef";
	const uint8_t *r = few_random_bytes(16);
	char *o = x->request_id;
	for (unsigned i = 0; i < 16; i++) {
		uint8_t b = r[i];
		if (i == 6)
			b = (uint8_t)((b & 0x0f) | 0x40);
		if (i == 8)
			b = (uint8_t)((b & 0x3f) | 0x80);
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*o++ = '-';
		*o++ = digit[b >> 4];
		*o++ = digit[b & 15];
	}
	*o = 0;
}

const char *http_date(void)
{
	static char text[32];
	static uint64_t made; /* ms of the loop's clock */
	if (text[0] && uv_now(loop) - made < 250)
		return text;
	time_t now = (time_t)(real_us() / 1000000);
	struct tm tm;
	gmtime_r(&now, &tm);
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	made = uv_now(loop);
	return text;
}

const char *http_reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reason[] = {
		{100, "Continue"},
		{101, "Switching Protocols"},
		{103, "Early Hints"},
		{200, "OK"},
		{201, "Created"},
		{202, "Accepted"},
		{203, "Non-Authoritative Information"},
		{204, "No Content"},
		{205, "Reset Content"},
		{206, "Partial Content"},
		{207, "Multi-Status"},
		{300, "Multiple Choices"},
		{301, "Moved Permanently"},
		{302, "Found"},
		{303, "See Other"},
		{304, "Not Modified"},
		{307, "Temporary Redirect"},
		{308, "Permanent Redirect"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{402, "Payment Required"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{406, "Not Acceptable"},
		{408, "Request Timeout"},
		{409, "Conflict"},
		{410, "Gone"},
		{411, "Length Required"},
		{412, "Precondition Failed"},
		{413, "Content Too Large"},
		{414, "URI Too Long"},
		{415, "Unsupported Media Type"},
		{416, "Range Not Satisfiable"},
		{417, "Expectation Failed"},
		{418, "I'm a teapot"},
		{421, "Misdirected Request"},
		{422, "Unprocessable Content"},
		{423, "Locked"},
		{424, "Failed Dependency"},
		{425, "Too Early"},
		{426, "Upgrade Required"},
		{428, "Precondition Required"},
		{429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{451, "Unavailable For Legal Reasons"},
		{499, "Client Closed Request"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"},
		{507, "Insufficient Storage"},
	};
	if (status == 200)
		return "OK";
	for (size_t i = 0; i < sizeof(reason) / sizeof(reason[0]); i++)
		if (reason[i].status == status)
			return reason[i].text;
	return "Unknown";
}

void exchange_respond(struct exchange *x, int status, const struct header *headers, unsigned n,
		      int64_t content_length)
{
	if (x->version == 20)
		h2_respond(x, status, headers, n, content_length);
	else
		h1_respond(x, status, headers, n, content_length);
}

bool exchange_write(struct exchange *x, const char *data, size_t n)
{
	return x->version == 20 ? h2_write(x, data, n) : h1_write(x, data, n);
}

void exchange_end(struct exchange *x)
{
	if (x->version == 20)
		h2_end(x);
	else
		h1_end(x);
}

void exchange_abort(struct exchange *x)
{
	if (x->version == 20)
		h2_abort(x);
	else
		h1_abort(x);
}

void exchange_pause(struct exchange *x)
{
	if (x->version == 20)
		h2_pause(x, true);
	else
		h1_pause(x, true);
}

void exchange_resume(struct exchange *x)
{
	if (x->version == 20)
		h2_pause(x, false);
	else
		h1_pause(x, false);
}

void exchange_continue(struct exchange *x)
{
	if (x->version == 20)
		h2_continue(x);
	else
		h1_continue(x);
}

void exchange_tunnel(struct exchange *x)
{
	if (x->version != 20)
		h1_tunnel(x);
}

void exchange_reply(struct exchange *x, int status, const char *content_type, const char *body, size_t n)
{
	struct header h[2] = {{STR("Content-Type"), {content_type, strlen(content_type)}},
			      {STR("X-Request-Id"), {x->request_id, strlen(x->request_id)}}};
	exchange_respond(x, status, h, 2, (int64_t)n);
	exchange_write(x, body, n);
	exchange_end(x);
}
