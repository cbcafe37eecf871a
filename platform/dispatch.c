/* SPDX-License-Identifier: ISC */
/*
 * Who answers a request: by its host, our own pages (API, git, dashboard) or an app; then by its path.
 *
 * Own hosts: localhost, 127.0.0.1, ::1, api.DOMAIN, and DOMAIN itself unless an app has it as its custom domain. Any other name is
 * looked up among the apps; there is no default app, so a host that nobody has gets a page that says so.
 */
#include "platform/api.h"
#include "platform/build.h"
#include "platform/logs.h"
#include "platform/metrics.h"
#include "platform/router.h"

#include <string.h>

static bool starts(struct str s, const char *with)
{
	size_t n = strlen(with);
	return s.n >= n && !memcmp(s.p, with, n);
}

/* /NAME.git, or below it */
static bool is_git(struct str path)
{
	const char *p = path.p + 1, *end = path.p + path.n;
	const char *slash = path.n > 1 ? memchr(p, '/', (size_t)(end - p)) : NULL;
	if (slash)
		end = slash;
	return path.n > 1 && end - p > 4 && !memcmp(end - 4, ".git", 4);
}

static bool wants_html(struct exchange *x)
{
	struct str a = exchange_header(x, "accept");
	return a.p && memmem(a.p, a.n, "text/html", 9);
}

static void home(struct exchange *x)
{
	struct header h = {STR("Location"), STR("/dashboard")};
	exchange_respond(x, 302, &h, 1, 0);
	exchange_end(x);
}

/* Our own pages. */
static void serve_own(struct exchange *x)
{
	struct str p = x->path;
	size_t n = p.n;
	if (is_git(p))
		git_serve(x);
	else if (starts(p, "/dashboard") && (n == 10 || p.p[10] == '/'))
		dashboard_serve(x);
	else if (str_eq(p, "/metrics"))
		metrics_serve(x);
	else if (starts(p, "/log-sessions/"))
		logs_session(x);
	else if (starts(p, "/sources/"))
		source_serve(x);
	else if (starts(p, "/builds/") && n > 15 && !memcmp(p.p + n - 7, "/output", 7))
		build_output_serve(x);
	else if (str_eq(p, "/") && str_eq(x->method, "GET") && wants_html(x))
		home(x);
	else
		api_serve(x);
}

static bool own_host(struct str h)
{
	size_t n = strlen(config.domain);
	return str_eq(h, "localhost") || str_eq(h, "127.0.0.1") || str_eq(h, "::1") ||
	       (h.n == n + 4 && !memcmp(h.p, "api.", 4) &&
		str_eq_nocase((struct str){h.p + 4, n}, config.domain));
}

static void no_such_app(struct exchange *x)
{
	static const char html[] =
		"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
		"content=\"width=device-width\"><title>No such app</title><style>body{font:16px/1.5 "
		"system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em;color-scheme:light "
		"dark}</style><h1>No such app</h1><p>There is nothing here. If this is to be your app: check "
		"its name with <code>cowbell apps</code>, or add this host with <code>cowbell "
		"domains</code>.</p></html>\n";
	static const char text[] = "no such app\n";
	bool h = wants_html(x);
	exchange_reply(x, 404, h ? "text/html; charset=utf-8" : "text/plain; charset=utf-8", h ? html : text,
		       h ? sizeof(html) - 1 : sizeof(text) - 1);
}

void http_dispatch(struct exchange *x)
{
	if (own_host(x->host)) {
		serve_own(x);
		return;
	}
	struct app *a = model_app_by_host(x->host.p, x->host.n);
	if (a)
		router_serve(x, a);
	else if (str_eq_nocase(x->host, config.domain))
		serve_own(x);
	else
		no_such_app(x);
}
