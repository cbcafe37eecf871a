/* SPDX-License-Identifier: ISC */
/*
 * HTTP for registries: one request at a time over libcurl, which curl.c loads. What addresses are good is decided in url.c.
 * Nobody but these three files knows libcurl.
 *
 * What holds for every request, whatever a registry answers:
 * - TLS certificates are checked, always. There is no option to leave it out.
 * - Only http and https URLs, and http only where allow_plain says so: no redirect leads to file://, and none from https
 *   to http. URLs with a user name in them are refused. No proxy credentials, no netrc, no cookies.
 * - Redirects are followed here, not by libcurl: at most MAX_REDIRECTS, for GET and HEAD only; Authorization is
 *   left out as soon as scheme, host or port is another one, and stays out.
 * - Bodies have a limit that the caller gives; headers have one, too. A peer that goes silent, or drips, is left: connecting may
 *   take CONNECT_S, and there must be more than MIN_RATE bytes a second over the stall time.
 * - SIGPIPE of a connection that breaks is libcurl's to ignore: CURLOPT_NOSIGNAL, which would leave it to us, is not set.
 * - A body that comes compressed is an error for nobody: no Accept-Encoding is sent, and bytes are taken as they come.
 *
 * A response's body goes to the file only if the status is 2xx; else it is kept in memory, for the error in it.
 */
#include "image/oci/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "lib/host/curl.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define CONNECT_S     15L
#define STALL_NS      30000000000ull
#define MIN_RATE      512L /* bytes a second */
#define SMALL_S	      120L /* for a whole request whose bodies are in memory */
#define MAX_REDIRECTS 5
#define MAX_HEADERS   (256u << 10)
#define MAX_HEADER    8192u

struct http {
	CURL *easy;
	char *ca_file;
	bool allow_plain;
	long stall_s;
};

/* One transfer: what the callbacks need. */
struct transfer {
	const struct http_request *q;
	struct http_response *r;
	CURL *easy;
	uint64_t sent; /* of the body */
	uint64_t out_max;
	size_t header_bytes;
	bool begun; /* the body has */
	const char *failed; /* why a callback ended the transfer */
};

struct http *http_open(const struct http_options *o)
{
	struct http *h = curl_load() ? calloc(1, sizeof(*h)) : NULL;
	uint64_t stall = o->stall_ns ? o->stall_ns : STALL_NS;

	if (!h)
		return NULL;
	if (o->ca_file && access(o->ca_file, R_OK)) {
		say("--ca-file %s: %s", o->ca_file, strerror(errno));
		free(h);
		return NULL;
	}
	h->easy = curl_api.easy_init();
	h->ca_file = o->ca_file ? textf("%s", o->ca_file) : NULL;
	h->allow_plain = o->allow_plain;
	h->stall_s = (long)((stall + 999999999u) / 1000000000u);
	if (!h->easy) {
		say("libcurl cannot be started");
		http_close(h);
		return NULL;
	}
	return h;
}

void http_close(struct http *h)
{
	if (!h)
		return;
	if (h->easy)
		curl_api.easy_cleanup(h->easy);
	free(h->ca_file);
	free(h);
}

void http_allow_plain(struct http *h, bool allow)
{
	h->allow_plain = allow;
}

/* --- callbacks --------------------------------------------------------------------------------------------------- */

/* The value if the line is this header, without white space around it; malloc, or NULL. */
static char *header_value(const char *line, size_t n, const char *name)
{
	size_t len = strlen(name);

	if (n <= len || line[len] != ':' || strncasecmp(line, name, len))
		return NULL;
	line += len + 1;
	n -= len + 1;
	while (n && (*line == ' ' || *line == '\t'))
		line++, n--;
	while (n && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' '))
		n--;
	return n <= MAX_HEADER && !memchr(line, 0, n) ? textf("%.*s", (int)n, line) : NULL;
}

static void forget_headers(struct http_response *r)
{
	char **const all[] = {&r->content_type, &r->location,	   &r->content_range,
			      &r->range,	&r->docker_digest, &r->retry_after};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		free(*all[i]);
		*all[i] = NULL;
	}
	while (r->n_challenges)
		free(r->challenge[--r->n_challenges]);
	r->content_length = -1;
}

static size_t on_header(char *line, size_t one, size_t n, void *arg)
{
	struct transfer *t = arg;
	struct http_response *r = t->r;
	const struct {
		const char *name;
		char **slot;
	} known[] = {
		{"Content-Type", &r->content_type},	      {"Location", &r->location},
		{"Content-Range", &r->content_range},	      {"Range", &r->range},
		{"Docker-Content-Digest", &r->docker_digest}, {"Retry-After", &r->retry_after},
	};
	char *v;

	(void)one; /* always 1 */
	t->header_bytes += n;
	if (t->header_bytes > MAX_HEADERS) {
		t->failed = "it sends headers without end";
		return 0;
	}
	if (n >= 5 && !memcmp(line, "HTTP/", 5))
		forget_headers(r); /* those so far were of a 1xx answer */
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if ((v = header_value(line, n, known[i].name))) {
			free(*known[i].slot);
			*known[i].slot = v;
			return n;
		}
	if ((v = header_value(line, n, "Content-Length"))) {
		char *end;
		errno = 0;
		long long len = strtoll(v, &end, 10);
		if (!errno && end != v && !*end && len >= 0)
			r->content_length = len;
		free(v);
	} else if ((v = header_value(line, n, "WWW-Authenticate"))) {
		if (r->n_challenges < HTTP_MAX_CHALLENGES)
			r->challenge[r->n_challenges++] = v;
		else
			free(v);
	}
	return n;
}

static long status_of(CURL *easy)
{
	long status = 0;

	curl_api.easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

static size_t keep_in_memory(struct transfer *t, const char *data, size_t n, bool good)
{
	struct http_response *r = t->r;
	uint64_t max = good ? t->q->out_max : HTTP_MAX_SMALL;

	if (n > max || r->n_body > max - n) {
		if (good) {
			t->failed = "the answer is larger than it may be";
			return 0;
		}
		/* An error's text is cut, but the transfer is not read to an end that may never come. */
		t->failed = "the answer is an error and very long";
		return 0;
	}
	char *more = realloc(r->body, r->n_body + n + 1);
	if (!more) {
		t->failed = "out of memory";
		return 0;
	}
	r->body = more;
	memcpy(r->body + r->n_body, data, n);
	r->n_body += n;
	r->body[r->n_body] = 0;
	return n;
}

/*
 * Before the first byte of a good answer goes to a file: is it the part that was asked for? "Content-Range: bytes N-M/SIZE".
 */
static bool begin_body(struct transfer *t, long status)
{
	const struct http_request *q = t->q;
	char want[40];

	t->begun = true;
	t->out_max = q->out_max;
	if (status == 206) {
		int n = snprintf(want, sizeof(want), "bytes %llu-", (unsigned long long)q->resume_from);
		if (q->resume_from && t->r->content_range &&
		    !strncasecmp(t->r->content_range, want, (size_t)n))
			return true;
		t->failed = "it sends another part than was asked for";
		return false;
	}
	if (!q->resume_from)
		return true;
	t->r->restarted = true;
	t->out_max += q->resume_from;
	if (!ftruncate(q->out_fd, 0) && !lseek(q->out_fd, 0, SEEK_SET))
		return true;
	t->failed = strerror(errno);
	return false;
}

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
	struct transfer *t = arg;
	long status = status_of(t->easy);
	bool good = status >= 200 && status < 300;
	size_t done = 0;

	(void)one;
	if (!good || t->q->out_fd < 0)
		return keep_in_memory(t, data, n, good);
	if (!t->begun && !begin_body(t, status))
		return 0;
	if (n > t->out_max || t->r->received > t->out_max - n) {
		t->failed = "it sends more bytes than the blob has";
		return 0;
	}
	while (done < n) {
		ssize_t k = write(t->q->out_fd, data + done, n - done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			t->failed = k ? strerror(errno) : "nothing could be written";
			return 0;
		}
		done += (size_t)k;
	}
	t->r->received += n;
	if (t->q->progress)
		progress_add(n);
	return n;
}

static size_t on_read(char *data, size_t one, size_t n, void *arg)
{
	struct transfer *t = arg;
	const struct http_request *q = t->q;
	uint64_t left = q->body_size - t->sent;

	(void)one;
	if (n > left)
		n = (size_t)left;
	if (q->body_fd < 0) {
		if (n)
			memcpy(data, (const char *)q->body + t->sent, n);
	} else {
		ssize_t k = pread(q->body_fd, data, n, (off_t)(q->body_offset + t->sent));
		if (k < 0 || (n && !k)) {
			t->failed = k ? strerror(errno) : "the file became shorter";
			return CURL_READFUNC_ABORT;
		}
		n = (size_t)k;
	}
	t->sent += n;
	if (q->progress)
		progress_add(n);
	return n;
}

/*
 * libcurl wants to send the body once more, because a kept connection was closed under it. Not a PATCH: who knows how much of
 * it the server has taken; the caller asks.
 */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct transfer *t = arg;

	if (t->sent && !strcmp(t->q->method, "PATCH"))
		return CURL_SEEKFUNC_FAIL;
	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->q->body_size)
		return CURL_SEEKFUNC_FAIL;
	t->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* --- one request --------------------------------------------------------------------------------------------------- */

static struct curl_slist *header_list(const struct http_request *q, bool with_authorization)
{
	struct curl_slist *list = NULL;
	/* Not waiting for "100 Continue"; a 401 with a small body is cheap, and large ones come after it. */
	static const char *const always[] = {"Expect:", "User-Agent: cowbell"};

	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		list = curl_api.slist_append(list, always[i]);
	for (size_t i = 0; q->headers && i < q->headers->n; i++)
		list = curl_api.slist_append(list, q->headers->v[i]);
	if (q->resume_from) {
		char *line = textf("Range: bytes=%llu-", (unsigned long long)q->resume_from);
		list = curl_api.slist_append(list, line);
		free(line);
	}
	if (with_authorization && q->authorization) {
		char *line = textf("Authorization: %s", q->authorization);
		list = curl_api.slist_append(list, line);
		explicit_bzero(line, strlen(line));
		free(line);
	}
	return list;
}

static void set_limits(struct http *h, const struct http_request *q)
{
	CURL *c = h->easy;

	curl_api.easy_setopt(c, CURLOPT_PROTOCOLS_STR, h->allow_plain ? "http,https" : "https");
	curl_api.easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	curl_api.easy_setopt(c, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	curl_api.easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_api.easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
	curl_api.easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, MIN_RATE);
	curl_api.easy_setopt(c, CURLOPT_LOW_SPEED_TIME, h->stall_s);
	if (q->out_fd < 0 && q->body_fd < 0)
		curl_api.easy_setopt(c, CURLOPT_TIMEOUT, SMALL_S);
	curl_api.easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	curl_api.easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_api.easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_api.easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
	if (h->ca_file) {
		curl_api.easy_setopt(c, CURLOPT_CAINFO, h->ca_file);
		curl_api.easy_setopt(c, CURLOPT_CAPATH, NULL);
	}
}

static void set_method(CURL *c, const struct http_request *q, struct transfer *t)
{
	bool has_body = strcmp(q->method, "GET") && strcmp(q->method, "HEAD");

	if (!strcmp(q->method, "HEAD"))
		curl_api.easy_setopt(c, CURLOPT_NOBODY, 1L);
	if (has_body) {
		curl_api.easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_api.easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
		curl_api.easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->body_size);
		curl_api.easy_setopt(c, CURLOPT_READFUNCTION, on_read);
		curl_api.easy_setopt(c, CURLOPT_READDATA, t);
		curl_api.easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
		curl_api.easy_setopt(c, CURLOPT_SEEKDATA, t);
		curl_api.easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10);
	}
	curl_api.easy_setopt(c, CURLOPT_BUFFERSIZE, 512L << 10);
	curl_api.easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_api.easy_setopt(c, CURLOPT_WRITEDATA, t);
	curl_api.easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_api.easy_setopt(c, CURLOPT_HEADERDATA, t);
}

/* What libcurl's result means for the caller. */
static enum http_failure judge(CURLcode code, struct transfer *t, const char *detail)
{
	struct http_response *r = t->r;
	const char *text = t->failed ? t->failed : *detail ? detail : curl_api.easy_strerror(code);

	snprintf(r->error, sizeof(r->error), "%s", text);
	if (t->failed)
		return HTTP_REFUSED;
	switch (code) {
	case CURLE_SSL_CONNECT_ERROR:
		return HTTP_NOT_TLS;
	case CURLE_PEER_FAILED_VERIFICATION:
		snprintf(r->error, sizeof(r->error), "%s (--ca-file names certificates to trust)", text);
		return HTTP_REFUSED;
	case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9 as well, which is what anything that is not HTTP looks like */
	case CURLE_URL_MALFORMAT:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_OUT_OF_MEMORY:
	case CURLE_LOGIN_DENIED:
	case CURLE_COULDNT_RESOLVE_HOST:
		return HTTP_REFUSED;
	case CURLE_SEND_FAIL_REWIND:
		snprintf(r->error, sizeof(r->error), "the connection broke");
		return HTTP_BROKEN;
	case CURLE_OPERATION_TIMEDOUT:
		snprintf(r->error, sizeof(r->error), "the connection stalls");
		return HTTP_BROKEN;
	default:
		return HTTP_BROKEN;
	}
}

/* The environment's proxies are used, but not for this very machine, which a proxy would take for itself. */
static void set_proxy(struct http *h, const char *url)
{
	if (http_is_loopback(h, url))
		curl_api.easy_setopt(h->easy, CURLOPT_NOPROXY, "*");
}

static enum http_failure do_once(struct http *h, const struct http_request *q, const char *url,
				 bool with_authorization, struct http_response *r)
{
	struct transfer t = {.q = q, .r = r, .easy = h->easy};
	struct curl_slist *list = header_list(q, with_authorization);
	char detail[CURL_ERROR_SIZE] = "";

	forget_headers(r);
	r->n_body = 0;
	r->body[0] = 0;
	curl_api.easy_reset(h->easy); /* connections stay */
	set_limits(h, q);
	set_proxy(h, url);
	set_method(h->easy, q, &t);
	curl_api.easy_setopt(h->easy, CURLOPT_URL, url);
	curl_api.easy_setopt(h->easy, CURLOPT_HTTPHEADER, list);
	curl_api.easy_setopt(h->easy, CURLOPT_ERRORBUFFER, detail);
	CURLcode code = curl_api.easy_perform(h->easy);
	r->status = status_of(h->easy);
	curl_api.easy_setopt(h->easy, CURLOPT_ERRORBUFFER, NULL);
	curl_api.slist_free_all(list);
	/* The server may answer (401, 413) and hang up before it has read all: the answer counts. */
	if (code == CURLE_SEND_ERROR && r->status >= 400)
		code = CURLE_OK;
	return code ? judge(code, &t, detail) : HTTP_OK;
}

static bool is_redirect(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

enum http_failure http_do(struct http *h, const struct http_request *q, struct http_response *r)
{
	bool with_authorization = true;
	char *url = textf("%s", q->url);
	enum http_failure f;

	memset(r, 0, sizeof(*r));
	r->content_length = -1;
	r->body = textf("%s", "");
	for (int hops = 0;; hops++) {
		f = do_once(h, q, url, with_authorization, r);
		if (f != HTTP_OK || !q->follow || !is_redirect(r->status) || !r->location)
			break;
		char *next = http_resolve(h, url, r->location);
		if (!next || hops == MAX_REDIRECTS || (http_is_tls(url) && !http_is_tls(next))) {
			snprintf(r->error, sizeof(r->error), "%s",
				 !next ? "it redirects to an address that is not http or https"
				 : hops == MAX_REDIRECTS
					 ? "it redirects without end"
					 : "it redirects to an address that is not encrypted (http)");
			free(next);
			f = HTTP_REFUSED;
			break;
		}
		with_authorization = with_authorization && http_same_origin(h, url, next);
		free(url);
		url = next;
	}
	free(url);
	return f;
}

void http_response_free(struct http_response *r)
{
	forget_headers(r);
	free(r->body);
	r->body = NULL;
}
