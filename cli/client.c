/* SPDX-License-Identifier: ISC */
/*
 * Requests to a platform's API, over libcurl (lib/host/curl.c loads it): one at a time, over one kept connection.
 *
 * - The token goes only to the URL that the user named, never to one that an answer names, and never over http to another
 *   machine unless the user said so at login.
 * - Certificates are checked, always; --ca-file at login names one to trust. A platform on this very machine is the exception
 *   for the attached run alone (client_tls_open()): its certificate may be one that it made for itself, and nobody is between.
 * - What comes back is bounded: an answer by MAX_ANSWER, a list by MAX_PAGES. Streams are as long as they are.
 * - An error of the API is told with its text and what to do next; the status is EXIT_API.
 *
 * URLs that the platform gives (log session, upload, build output) are fetched as they are: they carry a secret of their own.
 */
#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/host/curl.h"
#include "lib/host/say.h"

#define ACCEPT	   "application/vnd.heroku+json; version=3"
#define MAX_ANSWER (64u << 20)
#define MAX_PAGES  10000
#define CONNECT_S  10L
#define CALL_S	   120L

struct client {
	CURL *easy;
	struct where where;
	char *next_range; /* of the last answer */
	/* the transfer that runs */
	char *body;
	size_t n_body;
	const char *send;
	size_t n_send;
	client_sink *sink;
	client_source *source;
	void *arg;
	bool sink_ended, source_failed;
};

int client_open(struct client **out, const struct where *w)
{
	struct client *c;

	*out = NULL;
	if (!curl_load())
		return EXIT_OURS;
	if (!strncasecmp(w->url, "http://", 7) && !where_is_local(w->url) && !w->plain)
		return say_fail(EXIT_OURS,
				"%s is not encrypted, and the token would be read by anyone on the way; use "
				"https, or say --plain-http to cowbell login",
				w->url);
	c = calloc(1, sizeof(*c));
	if (!c || !(c->easy = curl_api.easy_init())) {
		free(c);
		return say_fail(EXIT_OURS, "libcurl cannot be started");
	}
	c->where = (struct where){.url = textf("%s", w->url),
				  .token = w->token ? textf("%s", w->token) : NULL,
				  .ca_file = w->ca_file ? textf("%s", w->ca_file) : NULL,
				  .plain = w->plain,
				  .from = w->from};
	*out = c;
	return 0;
}

void client_close(struct client *c)
{
	if (!c)
		return;
	curl_api.easy_cleanup(c->easy);
	where_free(&c->where);
	free(c->next_range);
	free(c->body);
	free(c);
}

const struct where *client_where(const struct client *c)
{
	return &c->where;
}

char *client_escape(const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
	char *out = malloc(strlen(text) * 3 + 1), *p = out;

	if (!out)
		exit(say_fail(EXIT_OURS, "out of memory"));
	for (; *text; text++)
		p += strchr(plain, *text) ? sprintf(p, "%c", *text)
					  : sprintf(p, "%%%02X", (unsigned char)*text);
	*p = 0;
	return out;
}

/* --- callbacks ------------------------------------------------------------------------------------------------------ */

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
	struct client *c = arg;
	long status = 0;

	(void)one;
	curl_api.easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	if (c->sink && status >= 200 && status < 300) {
		c->sink_ended = !c->sink(c->arg, data, n);
		return c->sink_ended ? 0 : n;
	}
	if (n > MAX_ANSWER - c->n_body)
		return 0;
	char *more = realloc(c->body, c->n_body + n + 1);
	if (!more)
		return 0;
	c->body = more;
	memcpy(c->body + c->n_body, data, n);
	c->n_body += n;
	c->body[c->n_body] = 0;
	return n;
}

static size_t on_header(char *line, size_t one, size_t n, void *arg)
{
	static const char name[] = "Next-Range:";
	struct client *c = arg;

	(void)one;
	if (n > sizeof(name) && n < 8192 && !strncasecmp(line, name, sizeof(name) - 1)) {
		char *v = textf("%.*s", (int)(n - sizeof(name) + 1), line + sizeof(name) - 1);
		v[strcspn(v, "\r\n")] = 0;
		free(c->next_range);
		c->next_range = v;
	}
	return n;
}

static size_t on_send(char *data, size_t one, size_t n, void *arg)
{
	struct client *c = arg;

	(void)one;
	if (c->source) {
		ssize_t k = c->source(c->arg, data, n);
		c->source_failed = k < 0;
		return k < 0 ? CURL_READFUNC_ABORT : (size_t)k;
	}
	if (n > c->n_send)
		n = c->n_send;
	if (n)
		memcpy(data, c->send, n);
	c->send += n;
	c->n_send -= n;
	return n;
}

static int on_turn(void *arg, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e)
{
	(void)arg, (void)a, (void)b, (void)d, (void)e;
	action_turn();
	return 0;
}

/* --- a transfer ------------------------------------------------------------------------------------------------------- */

static void set_common(struct client *c, const char *url)
{
	CURL *e = c->easy;

	curl_api.easy_reset(e); /* connections stay */
	curl_api.easy_setopt(e, CURLOPT_URL, url);
	curl_api.easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_api.easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_api.easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_api.easy_setopt(e, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
	curl_api.easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_api.easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_api.easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	if (where_is_local(url))
		curl_api.easy_setopt(e, CURLOPT_NOPROXY, "*");
	if (c->where.ca_file)
		curl_api.easy_setopt(e, CURLOPT_CAINFO, c->where.ca_file);
	curl_api.easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_api.easy_setopt(e, CURLOPT_WRITEDATA, c);
	curl_api.easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_api.easy_setopt(e, CURLOPT_HEADERDATA, c);
	curl_api.easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_turn);
	curl_api.easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
}

/* No answer at all: why, and what to do. */
static int no_answer(struct client *c, const char *url, CURLcode code, const char *detail)
{
	const char *why = *detail ? detail : curl_api.easy_strerror(code);

	action_fail();
	if (c->source_failed)
		return EXIT_OURS; /* it has said why */
	if (code == CURLE_COULDNT_CONNECT && where_is_local(url))
		return say_fail(EXIT_API,
				"no platform answers at %s; start one: cowbell serve, or say where it is: "
				"cowbell login URL",
				c->where.url);
	if (code == CURLE_PEER_FAILED_VERIFICATION)
		return say_fail(EXIT_API,
				"%s: %s; a certificate to trust is named by: cowbell login --ca-file FILE %s",
				c->where.url, why, c->where.url);
	return say_fail(EXIT_API, "%s: %s", c->where.url, why);
}

/* 0 and *status, or an exit status after one line. */
static int perform(struct client *c, const char *url, struct curl_slist *headers, long *status)
{
	char detail[CURL_ERROR_SIZE] = "";

	free(c->body);
	free(c->next_range);
	c->body = c->next_range = NULL;
	c->n_body = 0;
	c->sink_ended = c->source_failed = false;
	curl_api.easy_setopt(c->easy, CURLOPT_ERRORBUFFER, detail);
	curl_api.easy_setopt(c->easy, CURLOPT_HTTPHEADER, headers);
	CURLcode code = curl_api.easy_perform(c->easy);
	curl_api.slist_free_all(headers);
	curl_api.easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, status);
	/* A server that refuses an upload answers before its end, and closes. */
	if (code && !c->sink_ended && !(c->source && !c->source_failed && *status >= 400))
		return no_answer(c, url, code, detail);
	return 0;
}

static struct curl_slist *header(struct curl_slist *list, const char *name, const char *value)
{
	char *line = textf("%s: %s", name, value);

	list = curl_api.slist_append(list, line);
	explicit_bzero(line, strlen(line));
	free(line);
	return list;
}

static struct curl_slist *api_headers(struct client *c, bool json)
{
	struct curl_slist *list = curl_api.slist_append(NULL, "Expect:");

	list = header(list, "User-Agent", "cowbell/" COWBELL_VERSION);
	list = header(list, "Accept", ACCEPT);
	if (json)
		list = header(list, "Content-Type", "application/json");
	if (c->where.token) {
		char *v = textf("Bearer %s", c->where.token);
		list = header(list, "Authorization", v);
		explicit_bzero(v, strlen(v));
		free(v);
	}
	return list;
}

/* What the API's error is, and what to do about it. */
static int api_error(struct client *c, long status)
{
	json_t *o = c->body ? json_loadb(c->body, c->n_body, 0, NULL) : NULL;
	const char *text = jstr(o, "message"), *id = jstr(o, "id");

	action_fail();
	if (status == 401)
		say_fail(EXIT_API, "%s: %s; log in: cowbell login %s", c->where.url,
			 c->where.token ? "the platform does not know this token"
					: "the platform asks for a token",
			 c->where.url);
	else if (status == 404 && !strcmp(id, "not_found") && !*text)
		say_fail(EXIT_API, "there is no such thing here; all apps: cowbell apps");
	else if (*text)
		say_fail(EXIT_API, "%s%s", text,
			 status == 404 && strstr(text, "app") ? "; all apps: cowbell apps" : "");
	else if (status == 429)
		say_fail(EXIT_API, "too many requests; try again in a minute");
	else
		say_fail(EXIT_API, "%s answers with status %ld", c->where.url, status);
	json_decref(o);
	return EXIT_API;
}

static int call(struct client *c, const char *method, const char *path, const json_t *body, const char *range,
		long accept, json_t **out)
{
	char *url = textf("%s%s", c->where.url, path), *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	bool sends = strcmp(method, "GET") && (body || strcmp(method, "DELETE"));
	long status = 0;

	if (out)
		*out = NULL;
	set_common(c, url);
	curl_api.easy_setopt(c->easy, CURLOPT_TIMEOUT, CALL_S);
	curl_api.easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, method);
	c->sink = NULL;
	c->source = NULL;
	if (sends) {
		c->send = text ? text : "";
		c->n_send = text ? strlen(text) : 0;
		curl_api.easy_setopt(c->easy, CURLOPT_UPLOAD, 1L);
		curl_api.easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, method);
		curl_api.easy_setopt(c->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->n_send);
		curl_api.easy_setopt(c->easy, CURLOPT_READFUNCTION, on_send);
		curl_api.easy_setopt(c->easy, CURLOPT_READDATA, c);
	}
	struct curl_slist *headers = api_headers(c, sends);
	if (range)
		headers = header(headers, "Range", range);
	int r = perform(c, url, headers, &status);
	if (text)
		explicit_bzero(text, strlen(text)); /* there may be secrets in it */
	free(text);
	free(url);
	if (r || status == accept)
		return r;
	if (status < 200 || status > 299)
		return api_error(c, status);
	if (!out)
		return 0;
	*out = c->n_body ? json_loadb(c->body, c->n_body, JSON_DECODE_ANY, NULL) : json_null();
	if (*out)
		return 0;
	action_fail();
	return say_fail(EXIT_API, "%s: the answer is no JSON; is it a platform?", c->where.url);
}

int client_call(struct client *c, const char *method, const char *path, const json_t *body, json_t **out)
{
	return call(c, method, path, body, NULL, 0, out);
}

int client_try(struct client *c, const char *method, const char *path, const json_t *body, long accept,
	       json_t **out)
{
	return call(c, method, path, body, NULL, accept, out);
}

int client_list(struct client *c, const char *path, json_t **out)
{
	json_t *page;
	char *range = NULL;
	int r = 0;

	*out = json_array();
	for (int i = 0; i < MAX_PAGES && !r; i++) {
		r = call(c, "GET", path, NULL, range, 0, &page);
		if (!r && !json_is_array(page))
			r = say_fail(EXIT_API, "%s: the answer is no list; is it a platform?", c->where.url);
		if (r)
			break;
		json_array_extend(*out, page);
		json_decref(page);
		free(range);
		range = c->next_range;
		c->next_range = NULL;
		if (!range)
			break;
	}
	free(range);
	if (r) {
		json_decref(*out);
		*out = NULL;
	}
	return r;
}

/* --- streams ------------------------------------------------------------------------------------------------------------ */

/* A URL of the platform's own choice: nothing but http and https, and not to worse protection than before. */
static int set_given(struct client *c, const char *url, client_sink *sink, client_source *source, void *arg)
{
	if (strncasecmp(url, "https://", 8) &&
	    (strncasecmp(url, "http://", 7) || strncasecmp(c->where.url, "http://", 7))) {
		action_fail();
		return say_fail(EXIT_API, "%s sends us to '%s', which is no good address", c->where.url, url);
	}
	set_common(c, url);
	c->sink = sink;
	c->source = source;
	c->arg = arg;
	return 0;
}

/* headers: taken. */
static int perform_given(struct client *c, const char *url, struct curl_slist *headers)
{
	long status = 0;
	int r = perform(c, url, headers, &status);

	c->sink = NULL;
	c->source = NULL;
	return r ? r : status >= 200 && status <= 299 ? 0 : api_error(c, status);
}

int client_stream(struct client *c, const char *url, const char *accept, client_sink *sink, void *arg)
{
	int r = set_given(c, url, sink, NULL, arg);

	return r ? r
		 : perform_given(c, url, header(curl_api.slist_append(NULL, "Expect:"), "Accept", accept));
}

int client_put(struct client *c, const char *url, client_source *source, void *arg)
{
	int r = set_given(c, url, NULL, source, arg);

	if (r)
		return r;
	/* PUT, chunked: the size is known only at the end */
	curl_api.easy_setopt(c->easy, CURLOPT_UPLOAD, 1L);
	curl_api.easy_setopt(c->easy, CURLOPT_READFUNCTION, on_send);
	curl_api.easy_setopt(c->easy, CURLOPT_READDATA, c);
	curl_api.easy_setopt(c->easy, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
	struct curl_slist *headers = curl_api.slist_append(NULL, "Expect:");
	return perform_given(c, url, curl_api.slist_append(headers, "Content-Type:"));
}

/* --- TLS for an attached run ---------------------------------------------------------------------------------------------- */

struct client_tls {
	CURL *easy;
	curl_socket_t fd;
};

struct client_tls *client_tls_open(struct client *c, const char *host_port)
{
	struct client_tls *t = calloc(1, sizeof(*t));
	char *url = textf("https://%s/", host_port), detail[CURL_ERROR_SIZE] = "";
	bool local = where_is_local(url) && where_is_local(c->where.url);

	if (!t || !(t->easy = curl_api.easy_init()))
		exit(say_fail(EXIT_OURS, "libcurl cannot be started"));
	curl_api.easy_setopt(t->easy, CURLOPT_URL, url);
	curl_api.easy_setopt(t->easy, CURLOPT_CONNECT_ONLY, 1L);
	curl_api.easy_setopt(t->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_api.easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
	curl_api.easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
	curl_api.easy_setopt(t->easy, CURLOPT_SSL_ENABLE_ALPN, 0L);
	curl_api.easy_setopt(t->easy, CURLOPT_ERRORBUFFER, detail);
	if (local) {
		curl_api.easy_setopt(t->easy, CURLOPT_NOPROXY, "*");
		curl_api.easy_setopt(t->easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_api.easy_setopt(t->easy, CURLOPT_SSL_VERIFYHOST, 0L);
	} else if (c->where.ca_file) {
		curl_api.easy_setopt(t->easy, CURLOPT_CAINFO, c->where.ca_file);
	}
	CURLcode code = curl_api.easy_perform(t->easy);
	if (!code)
		code = curl_api.easy_getinfo(t->easy, CURLINFO_ACTIVESOCKET, &t->fd);
	if (code) {
		action_fail();
		say("%s: %s", host_port, *detail ? detail : curl_api.easy_strerror(code));
		curl_api.easy_cleanup(t->easy);
		free(t);
		t = NULL;
	} else {
		curl_api.easy_setopt(t->easy, CURLOPT_ERRORBUFFER, NULL);
	}
	free(url);
	return t;
}

int client_tls_fd(const struct client_tls *t)
{
	return t->fd;
}

ssize_t client_tls_read(struct client_tls *t, void *buf, size_t n)
{
	size_t got = 0;
	CURLcode code = curl_api.easy_recv(t->easy, buf, n, &got);

	return code == CURLE_AGAIN ? -EAGAIN : code ? -EIO : (ssize_t)got;
}

int client_tls_write(struct client_tls *t, const void *buf, size_t n)
{
	const char *p = buf;

	while (n) {
		size_t sent = 0;
		CURLcode code = curl_api.easy_send(t->easy, p, n, &sent);
		if (code == CURLE_AGAIN) {
			struct pollfd pfd = {.fd = t->fd, .events = POLLOUT};
			poll(&pfd, 1, 1000);
			continue;
		}
		if (code)
			return -EIO;
		p += sent;
		n -= sent;
	}
	return 0;
}

void client_tls_close(struct client_tls *t)
{
	curl_api.easy_cleanup(t->easy);
	free(t);
}
