/* SPDX-License-Identifier: ISC */
/*
 * Who answers a request: by its host, our own pages (API, git, dashboard) or an app; then by its path.
 *
 * Own hosts: localhost, 127.0.0.1, ::1, api.DOMAIN, and DOMAIN itself, before any app's wildcard. Any other name is
 * looked up among the apps; there is no default app, so a host that nobody has gets a page that says so.
 */
#include "platform/api.h"
#include "platform/build.h"
#include "platform/logs.h"
#include "platform/metrics.h"
#include "platform/router_inside.h"

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
	else if (str_eq(p, "/") && str_eq(x->method, "GET") && page_wanted(x))
		home(x);
	else
		api_serve(x);
}

static bool own_host(struct str h)
{
	size_t n = strlen(config.domain);
	return str_eq(h, "localhost") || str_eq(h, "127.0.0.1") || str_eq(h, "::1") ||
	       str_eq_nocase(h, config.domain) ||
	       (h.n == n + 4 && !memcmp(h.p, "api.", 4) &&
		str_eq_nocase((struct str){h.p + 4, n}, config.domain));
}

static void no_such_app(struct exchange *x)
{
	page_send(x, 404, "No such app",
		  "There is no such app here. If this is to be yours: look at its name, or add this host to "
		  "its domains.");
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
	else
		no_such_app(x);
}
