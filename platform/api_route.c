// SPDX-License-Identifier: ISC
/*
 * From a method and a path to a route of the API.
 *
 * The families' tables are read once into an index: routes by their number of segments. A path is cut at its slashes first and its
 * segments are decoded then, so that an encoded slash belongs to a name (drains are named by their URL). Where two routes
 * fit, the one with the earlier literal wins: /apps/{app}/dynos/actions/x before /apps/{app}/dynos/{}/{}.
 */
#include "platform/api_util.h"

#include <stdlib.h>
#include <string.h>

#define PATH_MAX_BYTES 4096
#define ROUTES_MAX     512

static const struct route *const families[] = {
	api_apps_routes,  api_config_routes, api_release_routes, api_formation_routes, api_dyno_routes,
	api_build_routes, api_log_routes,    api_domain_routes,	 api_account_routes,   api_misc_routes,
};

enum segment_kind { SEGMENT_LITERAL, SEGMENT_APP, SEGMENT_PARAM };
struct entry {
	const struct route *route;
	unsigned n;
	struct {
		enum segment_kind kind;
		struct str text;
	} segment[API_SEGMENTS_MAX];
};

static struct {
	struct entry *entries;
	size_t n;
} table;

static void add_route(const struct route *r)
{
	struct entry *e;
	const char *p = r->path;

	if (table.n == ROUTES_MAX)
		abort();
	e = &table.entries[table.n++];
	e->route = r;
	while (*p == '/') {
		size_t n = strcspn(++p, "/");
		if (e->n == API_SEGMENTS_MAX)
			abort();
		e->segment[e->n].text = (struct str){p, n};
		e->segment[e->n].kind = n == 5 && !memcmp(p, "{app}", 5) ? SEGMENT_APP
					: n == 2 && !memcmp(p, "{}", 2)	 ? SEGMENT_PARAM
									 : SEGMENT_LITERAL;
		e->n++;
		p += n;
	}
}

static void load(void)
{
	if (table.entries)
		return;
	table.entries = xcalloc(ROUTES_MAX, sizeof(*table.entries));
	for (size_t f = 0; f < sizeof(families) / sizeof(families[0]); f++)
		for (const struct route *r = families[f]; r->method; r++)
			add_route(r);
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 32) >= 'a' && (c | 32) <= 'f')
		return (c | 32) - 'a' + 10;
	return -1;
}

/* Cut and decode; the number of segments, or -1. */
static int cut(struct str path, char *out, char *segment[API_SEGMENTS_MAX])
{
	int n = 0;

	if (!path.n || path.p[0] != '/' || path.n > PATH_MAX_BYTES)
		return -1;
	for (size_t i = 0; i < path.n; i++) {
		char c = path.p[i];
		if (c == '/') {
			if (i + 1 == path.n && n > 0) /* "/apps/" is "/apps" */
				break;
			if (n == API_SEGMENTS_MAX)
				return -1;
			if (n)
				*out++ = '\0';
			segment[n++] = out;
			continue;
		}
		if (c == '%') {
			int a = i + 2 < path.n ? hex(path.p[i + 1]) : -1,
			    b = a >= 0 ? hex(path.p[i + 2]) : -1;
			if (a < 0 || b < 0 || (a | b) == 0)
				return -1;
			c = (char)(a << 4 | b);
			i += 2;
		}
		*out++ = c;
	}
	*out = '\0';
	return n;
}

/* Does it fit, and how well: a bit for each literal, the first the highest. -1: no. */
static int fit(const struct entry *e, char *segment[], unsigned n)
{
	int score = 0;

	if (e->n != n)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		score <<= 1;
		if (e->segment[i].kind != SEGMENT_LITERAL) {
			if (!segment[i][0])
				return -1;
			continue;
		}
		if (!str_eq(e->segment[i].text, segment[i]))
			return -1;
		score |= 1;
	}
	return score;
}

static void remember_method(struct api_match *m, const char *method)
{
	size_t have = strlen(m->allow), n = strlen(method);

	if (strstr(m->allow, method) || have + n + 3 > sizeof(m->allow))
		return;
	if (have) {
		memcpy(m->allow + have, ", ", 2);
		have += 2;
	}
	memcpy(m->allow + have, method, n + 1);
}

bool api_route_find(struct str method, struct str path, struct api_match *m)
{
	char *segment[API_SEGMENTS_MAX];
	const struct entry *best = NULL;
	int n, best_score = -1, params = 0;

	load();
	memset(m, 0, sizeof(*m));
	m->text = xcalloc(1, path.n + 1);
	n = cut(path, m->text, segment);
	if (n < 0)
		return false;
	if (str_eq(method, "HEAD"))
		method = STR("GET");
	for (size_t i = 0; i < table.n; i++) {
		const struct entry *e = &table.entries[i];
		int score = fit(e, segment, (unsigned)n);
		if (score < 0)
			continue;
		remember_method(m, e->route->method);
		if (score > best_score && str_eq(method, e->route->method)) {
			best = e;
			best_score = score;
		}
	}
	if (!best)
		return true;
	m->route = best->route;
	for (unsigned i = 0; i < best->n; i++) {
		if (best->segment[i].kind == SEGMENT_APP)
			m->app = segment[i];
		else if (best->segment[i].kind == SEGMENT_PARAM && params < API_PARAMS_MAX)
			m->param[params++] = segment[i];
	}
	return true;
}

json_t *api_route_list(void)
{
	static const char *const needs[] = {"nothing", "user", "collaborator", "owner", "admin"};
	json_t *list = json_array();

	load();
	for (size_t i = 0; i < table.n; i++) {
		const struct route *r = table.entries[i].route;
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "method", r->method, "path", r->path,
						      "need", needs[r->need]));
	}
	return list;
}
