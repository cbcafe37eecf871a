/* SPDX-License-Identifier: ISC */
/*
 * The dashboard: one page, its style and script, which are inside the program, and what the script asks for.
 *
 *   /dashboard, /dashboard/apps, /dashboard/apps/NAME, /dashboard/starts    the page; the script shows what the path says
 *   /dashboard/{style.css,main.js,icon.svg,phases.json,...}                      assets
 *   /dashboard/api/login {token}, /logout                                   the cookie
 *   /dashboard/api/{me,overview,apps,apps/NAME}                             JSON
 *   /dashboard/api/live[?app=NAME], /dashboard/api/apps/NAME/logs           event streams
 *   /dashboard/api/v3/...                                                   the Platform API, as the user of the cookie
 *
 * Who is asking: the cookie holds the user's token (HttpOnly, SameSite=Strict, with TLS __Host- and Secure), so a revoked token ends
 * the session, and a restart of the server does not. Clients without a browser may use an Authorization header as for the API.
 *
 * Forged requests: apps of tenants are at NAME.DOMAIN beside us at api.DOMAIN, so "same site" is not enough. What changes something must carry
 * X-Cowbell: dashboard, which no page of another origin can send without a leave that we never give (CORS), and
 * Origin and Sec-Fetch-Site, if they are there, must be our own.
 *
 * The page may load nothing but our own files (Content-Security-Policy), and nobody may frame it.
 */
#include "platform/dashboard.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/api_util.h"
#include "platform/logring.h"

#define BODY_MAX    4096
#define COOKIE_S    (30 * 86400)

#define ASSET(name) extern const char asset_##name[], asset_##name##_end[]
ASSET(index);
ASSET(style);
ASSET(icon);
ASSET(phases);
ASSET(js_main);
ASSET(js_ui);
ASSET(js_chart);
ASSET(js_live);
ASSET(js_cold);
ASSET(js_overview);
ASSET(js_apps);
ASSET(js_one);
ASSET(js_logs);
ASSET(js_starts);

#define JS(name)                                                                                             \
	{                                                                                                    \
		"/" #name ".js", "text/javascript; charset=utf-8", asset_js_##name, asset_js_##name##_end,   \
			""                                                                                   \
	}

static struct asset {
	const char *path, *type, *data, *end;
	char etag[24];
} assets[] = {
	{"", "text/html; charset=utf-8", asset_index, asset_index_end, ""},
	{"/style.css", "text/css; charset=utf-8", asset_style, asset_style_end, ""},
	{"/icon.svg", "image/svg+xml", asset_icon, asset_icon_end, ""},
	{"/phases.json", "application/json", asset_phases, asset_phases_end, ""},
	JS(main),
	JS(ui),
	JS(chart),
	JS(live),
	JS(cold),
	JS(overview),
	JS(apps),
	JS(one),
	JS(logs),
	JS(starts),
};

/* --- answers ---------------------------------------------------------------------------------------------- */

static struct str text_of(const char *s)
{
	return (struct str){s, strlen(s)};
}

void dashboard_json(struct exchange *x, int status, json_t *body)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	static const struct header h[] = {{STR("Content-Type"), STR("application/json")},
					  {STR("Cache-Control"), STR("no-store")},
					  {STR("X-Content-Type-Options"), STR("nosniff")},
					  {STR("Cross-Origin-Resource-Policy"), STR("same-origin")}};

	if (!text)
		text = xstrdup("{}");
	x->user = NULL;
	exchange_respond(x, status, h, sizeof(h) / sizeof(*h), (int64_t)strlen(text));
	if (!str_eq(x->method, "HEAD"))
		exchange_write(x, text, strlen(text));
	exchange_end(x);
	free(text);
	json_decref(body);
}

void dashboard_error(struct exchange *x, int status, const char *id, const char *message)
{
	dashboard_json(x, status, json_pack("{s:s, s:s}", "id", id, "message", message));
}

static void serve_asset(struct exchange *x, struct asset *a)
{
	size_t n = (size_t)(a->end - a->data);
	struct str known = exchange_header(x, "If-None-Match");
	bool same;

	if (!a->etag[0]) {
		unsigned char sum[SHA256_DIGEST_LENGTH];
		SHA256((const unsigned char *)a->data, n, sum);
		snprintf(a->etag, sizeof(a->etag), "\"%02x%02x%02x%02x%02x%02x%02x%02x\"", sum[0], sum[1],
			 sum[2], sum[3], sum[4], sum[5], sum[6], sum[7]);
	}
	same = known.p && memmem(known.p, known.n, a->etag, strlen(a->etag));
	struct header h[] = {
		{STR("Content-Type"), text_of(a->type)},
		{STR("Cache-Control"), STR("no-cache")},
		{STR("ETag"), text_of(a->etag)},
		{STR("Content-Security-Policy"),
		 STR("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src "
		     "'self'; form-action "
		     "'self'; base-uri 'none'; frame-ancestors 'none'")},
		{STR("X-Content-Type-Options"), STR("nosniff")},
		{STR("X-Frame-Options"), STR("DENY")},
		{STR("Referrer-Policy"), STR("no-referrer")},
		{STR("Cross-Origin-Opener-Policy"), STR("same-origin")},
		{STR("Cross-Origin-Resource-Policy"), STR("same-origin")},
	};
	exchange_respond(x, same ? 304 : 200, h, sizeof(h) / sizeof(*h), same ? 0 : (int64_t)n);
	if (!same && !str_eq(x->method, "HEAD"))
		exchange_write(x, a->data, n);
	exchange_end(x);
}

/* --- who is asking ------------------------------------------------------------------------------------------ */

static const char *cookie_name(const struct exchange *x)
{
	return x->tls ? "__Host-cowbell" : "cowbell";
}

/* The value of our cookie: "name=value; name=value". */
static struct str cookie(const struct exchange *x)
{
	const char *name = cookie_name(x);
	size_t len = strlen(name);

	for (unsigned i = 0; i < x->n_headers; i++) {
		if (!str_eq_nocase(x->headers[i].name, "cookie"))
			continue;
		const char *p = x->headers[i].value.p, *end = p + x->headers[i].value.n;
		while (p < end) {
			const char *semicolon = memchr(p, ';', (size_t)(end - p)),
				   *stop = semicolon ? semicolon : end;
			while (p < stop && *p == ' ')
				p++;
			if ((size_t)(stop - p) > len && !memcmp(p, name, len) && p[len] == '=')
				return (struct str){p + len + 1, (size_t)(stop - p) - len - 1};
			p = stop + 1;
		}
	}
	return (struct str){NULL, 0};
}

static struct user *who(struct exchange *x)
{
	struct str c = cookie(x);

	if (c.p && c.n && c.n <= 256)
		return model_user_by_token(c.p, c.n);
	return api_user(x);
}

/* Is this a request of our own page (or of a program, which has no cookies that could be abused)? */
static bool our_own(const struct exchange *x)
{
	struct str mark = exchange_header(x, "X-Cowbell"), origin = exchange_header(x, "Origin"),
		   site = exchange_header(x, "Sec-Fetch-Site"), host = exchange_header(x, "Host");
	size_t scheme = x->tls ? 8 : 7;

	if (!mark.p || !str_eq(mark, "dashboard"))
		return false;
	if (site.p && !str_eq(site, "same-origin"))
		return false;
	if (!host.p)
		host = x->host; /* HTTP/2: without its port */
	if (!origin.p)
		return true;
	if (origin.n <= scheme || memcmp(origin.p, x->tls ? "https://" : "http://", scheme))
		return false;
	origin.p += scheme;
	origin.n -= scheme;
	if (origin.n == host.n && !strncasecmp(origin.p, host.p, host.n))
		return true;
	/* :authority without port in x->host */
	return x->version == 20 && origin.n > host.n && !strncasecmp(origin.p, host.p, host.n) &&
	       origin.p[host.n] == ':';
}

/* --- log-in --------------------------------------------------------------------------------------------------- */

struct login {
	char body[BODY_MAX];
	size_t n;
	bool too_long;
};

static void login_done(struct exchange *x, struct login *l)
{
	json_t *o = l->too_long ? NULL : json_loadb(l->body, l->n, JSON_REJECT_DUPLICATES, NULL);
	const char *token = json_string_value(json_object_get(o, "token"));
	size_t n = token ? json_string_length(json_object_get(o, "token")) : 0;
	struct user *u = n && n <= 256 ? model_user_by_token(token, n) : NULL;
	char value[400];
	bool good = u;

	for (size_t i = 0; good && i < n; i++)
		good = (token[i] >= '0' && token[i] <= '9') || (token[i] >= 'a' && token[i] <= 'z') ||
		       (token[i] >= 'A' && token[i] <= 'Z') || token[i] == '-' || token[i] == '_';
	x->user = NULL;
	if (!good) {
		dashboard_error(x, 401, "unauthorized", "This token is not known.");
	} else {
		snprintf(value, sizeof(value), "%s=%.*s; Path=%s; Max-Age=%d; HttpOnly; SameSite=Strict%s",
			 cookie_name(x), (int)n, token, x->tls ? "/" : "/dashboard", COOKIE_S,
			 x->tls ? "; Secure" : "");
		struct header h[] = {{STR("Set-Cookie"), text_of(value)},
				     {STR("Content-Type"), STR("application/json")},
				     {STR("Cache-Control"), STR("no-store")}};
		exchange_respond(x, 200, h, 3, 2);
		exchange_write(x, "{}", 2);
		exchange_end(x);
	}
	explicit_bzero(l, sizeof(*l));
	explicit_bzero(value, sizeof(value));
	json_decref(o);
	free(l);
}

static void login_body(struct exchange *x, const char *data, size_t n)
{
	struct login *l = x->user;

	if (!l || l->too_long)
		return;
	if (n > sizeof(l->body) - l->n) {
		l->too_long = true;
		return;
	}
	memcpy(l->body + l->n, data, n);
	l->n += n;
}

static void login_end(struct exchange *x)
{
	if (x->user)
		login_done(x, x->user);
}

static void login_closed(struct exchange *x)
{
	if (x->user)
		explicit_bzero(x->user, sizeof(struct login));
	free(x->user);
}

static void nothing(struct exchange *x)
{
	(void)x;
}

static const struct exchange_handler login_handler = {login_body, login_end, nothing, login_closed};

static void login(struct exchange *x)
{
	x->user = xcalloc(1, sizeof(struct login));
	x->handler = &login_handler;
	if (x->content_length == 0)
		login_done(x, x->user);
	else
		exchange_continue(x);
}

static void logout(struct exchange *x)
{
	char value[160];

	snprintf(value, sizeof(value), "%s=; Path=%s; Max-Age=0; HttpOnly; SameSite=Strict%s", cookie_name(x),
		 x->tls ? "/" : "/dashboard", x->tls ? "; Secure" : "");
	struct header h[] = {{STR("Set-Cookie"), text_of(value)}, {STR("Cache-Control"), STR("no-store")}};
	exchange_respond(x, 204, h, 2, 0);
	exchange_end(x);
}

/* --- routes --------------------------------------------------------------------------------------------------- */

static bool take_prefix(struct str *s, const char *prefix)
{
	size_t n = strlen(prefix);

	if (s->n < n || memcmp(s->p, prefix, n))
		return false;
	s->p += n;
	s->n -= n;
	return true;
}

/* The app of a path or a query that this user may see, or NULL. */
static struct app *app_of(const struct user *u, struct str name)
{
	char text[64];
	struct app *a;

	if (!name.n || name.n >= sizeof(text))
		return NULL;
	memcpy(text, name.p, name.n);
	text[name.n] = 0;
	a = model_app(text);
	return a && model_role(u, a) != ROLE_NONE ? a : NULL;
}

static void serve_live(struct exchange *x, struct user *u)
{
	char *name = api_query(x, "app");
	struct app *a = name && *name ? app_of(u, text_of(name)) : NULL;

	if (!str_eq(x->method, "GET")) /* HEAD, whose answer would never end */
		dashboard_error(x, 405, "method_not_allowed", "Only GET.");
	else if (name && *name && !a)
		dashboard_error(x, 404, "not_found", "There is no such app.");
	else
		dashboard_live(x, u, a);
	free(name);
}

static void serve_app(struct exchange *x, struct user *u, struct str rest)
{
	static const struct log_filter all = {{0}, {0}};
	struct str name = {rest.p, 0};
	struct app *a;

	while (name.n < rest.n && rest.p[name.n] != '/')
		name.n++;
	rest.p += name.n;
	rest.n -= name.n;
	a = app_of(u, name);
	if (!a)
		dashboard_error(x, 404, "not_found", "There is no such app.");
	else if (!rest.n)
		dashboard_json(x, 200, dashboard_app(u, a));
	else if (str_eq(rest, "/logs"))
		log_stream(x, a, &all, 200, true, true);
	else
		dashboard_error(x, 404, "not_found", "There is nothing here.");
}

static void serve_get(struct exchange *x, struct user *u, struct str rest)
{
	if (str_eq(rest, "me"))
		dashboard_json(
			x, 200,
			json_pack("{s:s, s:s, s:b}", "email", u->email, "id", u->id, "admin", u->admin));
	else if (str_eq(rest, "overview"))
		dashboard_json(x, 200, dashboard_overview(u));
	else if (str_eq(rest, "apps"))
		dashboard_json(x, 200, dashboard_apps(u, x));
	else if (str_eq(rest, "live"))
		serve_live(x, u);
	else if (take_prefix(&rest, "apps/"))
		serve_app(x, u, rest);
	else
		dashboard_error(x, 404, "not_found", "There is nothing here.");
}

static void serve_api(struct exchange *x, struct str rest)
{
	bool get = str_eq(x->method, "GET") || str_eq(x->method, "HEAD");
	struct user *u;

	if (!get && !our_own(x)) {
		dashboard_error(x, 403, "forbidden", "This request does not come from the dashboard.");
		return;
	}
	if (!get && str_eq(rest, "login")) {
		login(x);
		return;
	}
	if (!get && str_eq(rest, "logout")) {
		logout(x);
		return;
	}
	u = who(x);
	if (!u) {
		dashboard_error(x, 401, "unauthorized", "Log in first.");
	} else if (rest.n > 3 && !memcmp(rest.p, "v3/", 3)) {
		x->path = (struct str){rest.p + 2, rest.n - 2};
		api_serve_as(x, u);
	} else if (get) {
		serve_get(x, u, rest);
	} else {
		dashboard_error(x, 405, "method_not_allowed", "Only GET.");
	}
}

void dashboard_serve(struct exchange *x)
{
	struct str rest = x->path;

	take_prefix(&rest, "/dashboard");
	if (take_prefix(&rest, "/api/")) {
		serve_api(x, rest);
		return;
	}
	if (!str_eq(x->method, "GET") && !str_eq(x->method, "HEAD")) {
		dashboard_error(x, 405, "method_not_allowed", "Only GET.");
		return;
	}
	for (size_t i = 1; i < sizeof(assets) / sizeof(*assets); i++)
		if (str_eq(rest, assets[i].path)) {
			serve_asset(x, &assets[i]);
			return;
		}
	if (!rest.n || str_eq(rest, "/") || str_eq(rest, "/apps") || str_eq(rest, "/starts") ||
	    (rest.n > 6 && !memcmp(rest.p, "/apps/", 6)))
		serve_asset(x, &assets[0]);
	else
		dashboard_error(x, 404, "not_found", "There is nothing here.");
}
