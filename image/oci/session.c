/* SPDX-License-Identifier: ISC */
/*
 * Talking to one repository of one registry (OCI distribution specification 1.0; Docker's token authentication).
 *
 *   request ──▶ 2xx, 3xx, 4xx ──▶ the caller
 *      ▲  │
 *      │  └──▶ 401: which challenge?  Bearer: fetch a token (with credentials if there are any) ─┐
 *      │                              Basic:  credentials, or the end                            │
 *      └───────────── once more, with Authorization ◀────────────────────────────────────────────┘
 *
 * A second 401 in a row ends it. A token is used until it expires or is refused; then the same road is taken again.
 *
 * Who gets what: Authorization goes to the registry's own origin (scheme, host and port) alone. The credentials
 * also go to the token server that the registry names (realm), as the protocol has it; so that this is not a
 * way to read them on the wire, a realm must be https, unless the registry itself is spoken to over http and the realm is
 * on the same host or on this machine.
 *
 * http is used only if the user says so, or if the registry is on this machine (localhost, 127.0.0.0/8, ::1) and does
 * not speak TLS there.
 */
#include "image/oci/session.h"

#include <jansson.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "image/oci/challenge.h"
#include "image/oci/credentials.h"
#include "lib/host/say.h"

#define MAX_TOKEN      (64u << 10)
#define DEFAULT_EXPIRY 60 /* seconds, of a token that does not say; from the token specification */
#define MAX_PAUSE_MS   10000

#define HUB	       "docker.io"
#define HUB_HOST       "registry-1.docker.io"

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- opening ---------------------------------------------------------------------------------------------------- */

/* HOST[:PORT] of a name whose first part is one. */
static bool split_host(const char *name, char host[256], char path[256])
{
	const char *slash = strchr(name, '/');
	size_t n = slash ? (size_t)(slash - name) : 0;

	if (!n || n >= 256 ||
	    !(memchr(name, '.', n) || memchr(name, ':', n) || (n == 9 && !memcmp(name, "localhost", 9))))
		return false;
	memcpy(host, name, n);
	host[n] = 0;
	snprintf(path, 256, "%s%s", !strcmp(host, HUB) && !strchr(slash + 1, '/') ? "library/" : "",
		 slash + 1);
	return true;
}

static void set_base(struct session *s, const char *scheme)
{
	free(s->base);
	s->base = textf("%s://%s", scheme, strcmp(s->host, HUB) ? s->host : HUB_HOST);
	http_allow_plain(s->http, !strcmp(scheme, "http"));
}

/* A registry on this machine may speak plain HTTP: find out. */
static void probe_loopback(struct session *s)
{
	struct http_response r;
	char *url = textf("%s/v2/", s->base);
	struct http_request q = {.method = "HEAD", .url = url, .body_fd = -1, .out_fd = -1};

	if (http_do(s->http, &q, &r) == HTTP_NOT_TLS)
		set_base(s, "http");
	http_response_free(&r);
	free(url);
}

int session_open(struct session *s, const struct reference *r, const struct registry_options *o)
{
	struct http_options ho = {.ca_file = o->ca_file, .stall_ns = o->stall_ns};

	memset(s, 0, sizeof(*s));
	s->options = o;
	if (!split_host(r->name, s->host, s->path))
		return say_fail(
			EXIT_OURS,
			"%s: names no registry; a registry's image is HOST[:PORT]/NAME[:TAG], such as "
			"registry.example/%s:%s",
			r->name, r->name, r->tag);
	if (sodium_init() < 0)
		return say_fail(EXIT_OURS, "libsodium cannot be started");
	s->http = http_open(&ho);
	if (!s->http)
		return EXIT_OURS;
	set_base(s, o->plain_http ? "http" : "https");
	if (!o->plain_http && !o->ca_file && http_is_loopback(s->http, s->base))
		probe_loopback(s);
	return 0;
}

static void forget_authorization(struct session *s)
{
	if (s->authorization)
		sodium_memzero(s->authorization, strlen(s->authorization));
	free(s->authorization);
	s->authorization = NULL;
	s->expires_ns = 0;
}

void session_close(struct session *s)
{
	forget_authorization(s);
	http_close(s->http);
	free(s->base);
	memset(s, 0, sizeof(*s));
}

char *session_url(const struct session *s, const char *fmt, ...)
{
	char *rest = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&rest, fmt, ap) < 0)
		exit(say_fail(EXIT_OURS, "out of memory"));
	va_end(ap);
	char *url = textf("%s/v2/%s%s", s->base, s->path, rest);
	free(rest);
	return url;
}

/* --- errors ------------------------------------------------------------------------------------------------------- */

/* "CODE: message" of the registry's JSON error, malloc, or NULL. */
static char *registry_error(const struct http_response *r)
{
	const char *code = NULL, *message = NULL;
	char *text = NULL;
	json_t *j = json_loadb(r->body, r->n_body, 0, NULL);

	/* The token servers' form is {"details": "..."} or {"error": ..., "error_description": ...}. */
	if (j && !json_unpack(j, "{s:[{s:s,s?s}]}", "errors", "code", &code, "message", &message))
		text = textf("%.64s%s%.512s", code, message && *message ? ": " : "", message ? message : "");
	else if (j && (!json_unpack(j, "{s:s}", "details", &message) ||
		       !json_unpack(j, "{s:s}", "error_description", &message) ||
		       !json_unpack(j, "{s:s}", "error", &message)))
		text = textf("%.512s", message);
	json_decref(j);
	return text;
}

int session_fail(const struct session *s, const char *what, enum http_failure f,
		 const struct http_response *r)
{
	if (f == HTTP_NOT_TLS)
		return say_fail(EXIT_OURS,
				"%s: %s: no TLS connection (%s); a registry without TLS needs --plain-http",
				s->host, what, r->error);
	if (f != HTTP_OK)
		return say_fail(EXIT_OURS, "%s: %s: %s", s->host, what, r->error);
	char *text = registry_error(r);
	int status = text ? say_fail(EXIT_OURS, "%s: %s: %s (HTTP %ld)", s->host, what, text, r->status)
		     : r->status == 404
			     ? say_fail(EXIT_OURS, "%s: %s: there is no such thing (HTTP 404)", s->host, what)
			     : say_fail(EXIT_OURS, "%s: %s: the registry answers with HTTP status %ld",
					s->host, what, r->status);
	free(text);
	return status;
}

/* --- authentication ------------------------------------------------------------------------------------------------- */

/* Make `r` say that authentication failed, and why. */
static enum http_failure refuse(struct http_response *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static enum http_failure refuse(struct http_response *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->error, sizeof(r->error), fmt, ap);
	va_end(ap);
	return HTTP_REFUSED;
}

/* "Basic ..." (malloc). */
static char *basic(const struct credentials *c)
{
	char *both = textf("%s:%s", c->user, c->password);
	size_t n = strlen(both), size = sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL);
	char *b64 = malloc(size);

	if (!b64)
		exit(say_fail(EXIT_OURS, "out of memory"));
	sodium_bin2base64(b64, size, (unsigned char *)both, n, sodium_base64_VARIANT_ORIGINAL);
	char *text = textf("Basic %s", b64);
	sodium_memzero(both, n);
	sodium_memzero(b64, size);
	free(both);
	free(b64);
	return text;
}

/* The URL to fetch a token from (malloc), or NULL with r->error. */
static char *token_url(struct session *s, const struct challenge *c, const char *user,
		       struct http_response *r)
{
	char *realm = http_resolve(s->http, s->base, c->realm), *more;

	if (!realm || !c->realm[0]) {
		refuse(r, "it asks for a token from an address that is not http or https");
		free(realm);
		return NULL;
	}
	bool near = http_is_loopback(s->http, realm) || http_same_host(s->http, realm, s->base);
	if (!http_is_tls(realm) && (http_is_tls(s->base) || !near)) {
		refuse(r, "it asks for a token from %.200s, which is not encrypted", realm);
		free(realm);
		return NULL;
	}
	char *service = http_escape(c->service), *scopes = textf("%s", c->scope), *save = NULL;
	char *url = textf("%s%sservice=%s", realm, strchr(realm, '?') ? "&" : "?", service);
	for (char *word = strtok_r(scopes, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		char *scope = http_escape(word);
		more = textf("%s&scope=%s", url, scope);
		free(scope);
		free(url);
		url = more;
	}
	if (user) {
		char *account = http_escape(user);
		more = textf("%s&account=%s", url, account);
		free(account);
		free(url);
		url = more;
	}
	free(service);
	free(scopes);
	free(realm);
	return url;
}

/* What a token server answered, as an Authorization header. */
static bool take_token(struct session *s, const struct http_response *a)
{
	const char *token = NULL, *access = NULL;
	json_int_t seconds = DEFAULT_EXPIRY;
	json_t *j = json_loadb(a->body, a->n_body, 0, NULL);
	bool good = j && !json_unpack(j, "{s?s,s?s,s?I}", "token", &token, "access_token", &access,
				      "expires_in", &seconds);

	if (good && !token)
		token = access;
	good = good && token && *token;
	for (const char *p = token; good && *p; p++)
		good = *p > 32 && *p < 127; /* it goes into a header */
	if (good) {
		forget_authorization(s);
		s->authorization = textf("Bearer %s", token);
		if (seconds < DEFAULT_EXPIRY)
			seconds = DEFAULT_EXPIRY;
		else if (seconds > 86400)
			seconds = 86400;
		/* A little early: the request takes time, too. */
		s->expires_ns = now_ns() + (uint64_t)(seconds - DEFAULT_EXPIRY / 6) * 1000000000u;
	}
	json_decref(j);
	return good;
}

static enum http_failure fetch_token(struct session *s, const struct challenge *c,
				     const struct credentials *creds, struct http_response *r)
{
	char *url = token_url(s, c, creds->user, r);

	if (!url)
		return HTTP_REFUSED;
	char *authorization = creds->user ? basic(creds) : NULL;
	struct http_request q = {.method = "GET",
				 .url = url,
				 .authorization = authorization,
				 .body_fd = -1,
				 .out_fd = -1,
				 .out_max = MAX_TOKEN,
				 .follow = true};
	struct http_response a;
	enum http_failure f = http_do(s->http, &q, &a);
	if (f != HTTP_OK) {
		snprintf(r->error, sizeof(r->error), "token server: %s", a.error);
	} else if (a.status != 200) {
		char *text = registry_error(&a);
		f = refuse(r, "the token server refuses%s%s%s (HTTP %ld)",
			   creds->user ? " the credentials" : "", text ? ": " : "", text ? text : "",
			   a.status);
		free(text);
	} else if (!take_token(s, &a)) {
		f = refuse(r, "the token server's answer holds no token");
	}
	http_response_free(&a);
	if (authorization)
		sodium_memzero(authorization, strlen(authorization));
	free(authorization);
	free(url);
	return f;
}

/* The challenge to answer: Bearer before Basic. */
static bool choose(const struct http_response *r, struct challenge *out)
{
	bool found = false;

	for (int i = 0; i < r->n_challenges; i++) {
		struct challenge list[CHALLENGE_MAX];
		int n = challenge_parse(r->challenge[i], list);
		for (int k = 0; k < n; k++) {
			if (!strcmp(list[k].scheme, "bearer") ||
			    (!found && !strcmp(list[k].scheme, "basic"))) {
				*out = list[k];
				found = true;
			}
			if (found && !strcmp(out->scheme, "bearer"))
				return true;
		}
	}
	return found;
}

static enum http_failure no_credentials(enum credentials_state state, const struct credentials *c,
					struct http_response *r)
{
	switch (state) {
	case CREDENTIALS_HELPER:
		return refuse(
			r, "%s names a credential helper, which is not supported; give --creds USER:PASSWORD",
			c->file);
	case CREDENTIALS_TOKEN:
		return refuse(
			r, "%s holds an identity token, which is not supported; give --creds USER:PASSWORD",
			c->file);
	case CREDENTIALS_BAD:
		return c->file ? refuse(r, "%s: is no valid auth file", c->file)
			       : refuse(r, "--creds must be USER:PASSWORD");
	default:
		return refuse(r, "it asks for a user and a password; give --creds USER:PASSWORD, or log in "
				 "with docker "
				 "or skopeo");
	}
}

/* Get what a 401 asks for. HTTP_OK: there is a new Authorization. */
static enum http_failure authenticate(struct session *s, struct http_response *r)
{
	struct challenge c;
	struct credentials creds;
	char name[520];
	enum http_failure f = HTTP_OK;

	forget_authorization(s);
	if (!choose(r, &c))
		return refuse(r, "it asks for an authentication that is not supported");
	snprintf(name, sizeof(name), "%s/%s", s->host, s->path);
	enum credentials_state state = credentials_find(s->options->creds, name, &creds);
	if (!strcmp(c.scheme, "basic")) {
		if (state == CREDENTIALS_FOUND)
			s->authorization = basic(&creds);
		else
			f = no_credentials(state, &creds, r);
	} else if (state == CREDENTIALS_BAD) {
		f = no_credentials(state, &creds, r);
	} else {
		f = fetch_token(s, &c, &creds, r);
		if (f != HTTP_OK && (state == CREDENTIALS_HELPER || state == CREDENTIALS_TOKEN))
			f = no_credentials(state, &creds, r);
	}
	credentials_free(&creds);
	return f;
}

/* --- requests ---------------------------------------------------------------------------------------------------------- */

static enum http_failure authenticated(struct session *s, struct http_request *q, struct http_response *r)
{
	bool ours = http_same_origin(s->http, q->url, s->base);

	if (s->expires_ns && now_ns() > s->expires_ns)
		forget_authorization(s);
	q->authorization = ours ? s->authorization : NULL;
	enum http_failure f = http_do(s->http, q, r);
	if (f != HTTP_OK || r->status != 401 || !ours)
		return f;
	f = authenticate(s, r);
	if (f != HTTP_OK)
		return f;
	http_response_free(r);
	q->authorization = s->authorization;
	return http_do(s->http, q, r);
}

bool session_passing(enum http_failure f, const struct http_response *r)
{
	if (f != HTTP_OK)
		return f == HTTP_BROKEN;
	return r->status == 429 || r->status == 408 || r->status == 500 || r->status == 502 ||
	       r->status == 503 || r->status == 504;
}

void session_pause(int n, const struct http_response *r)
{
	long ms = 100l << (n < 7 ? n : 7);

	if (r->retry_after) {
		long s = strtol(r->retry_after, NULL, 10); /* a date gives a strange number: bounded below */
		if (s > 0 && s * 1000 > ms)
			ms = s < 3600 ? s * 1000 : MAX_PAUSE_MS;
	}
	if (ms > MAX_PAUSE_MS)
		ms = MAX_PAUSE_MS;
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&ts, NULL);
}

enum http_failure session_do(struct session *s, struct http_request *q, struct http_response *r, int tries)
{
	for (int n = 1;; n++) {
		enum http_failure f = authenticated(s, q, r);
		if (n >= tries || !session_passing(f, r))
			return f;
		session_pause(n, r);
		http_response_free(r);
	}
}
