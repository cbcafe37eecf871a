// SPDX-License-Identifier: ISC
/*
 * Domains of apps, and their certificates ("SNI endpoints").
 *
 * A host name belongs to the app that took it first; which names may be taken at all is checked in model_domain.c.
 *
 * A certificate answers for those names only that are domains of its app and were tied to it: what is written in the
 * certificate itself gives no right to a name. Certificates are in the table `certs`, checked and read by cert.c, and told to
 * tls.c with their names at start and whenever the names change.
 */
#include "platform/api_util.h"
#include "platform/cert.h"
#include "platform/logs.h"
#include "platform/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CERTS_MAX 100 /* of an app */
#define PEM_MAX	  65536

struct cert {
	char id[37], name[64];
	char *chain, *key, *info;
	int64_t created_us, updated_us;
};
struct certs {
	struct cert *cert;
	size_t n;
};

static char *column(sqlite3_stmt *st, int i)
{
	const char *s = (const char *)sqlite3_column_text(st, i);

	return xstrdup(s ? s : "");
}

#define CERT_COLUMNS "id, name, chain, key, info, created_us, updated_us"
static void take_cert(void *arg, sqlite3_stmt *st)
{
	struct certs *l = arg;
	struct cert *k;

	l->cert = xrealloc(l->cert, (l->n + 1) * sizeof(*l->cert));
	k = &l->cert[l->n++];
	memset(k, 0, sizeof(*k));
	snprintf(k->id, sizeof(k->id), "%s", (const char *)sqlite3_column_text(st, 0));
	snprintf(k->name, sizeof(k->name), "%s", (const char *)sqlite3_column_text(st, 1));
	k->chain = column(st, 2);
	k->key = column(st, 3);
	k->info = column(st, 4);
	k->created_us = sqlite3_column_int64(st, 5);
	k->updated_us = sqlite3_column_int64(st, 6);
}

static void certs_free(struct certs *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->cert[i].chain);
		OPENSSL_cleanse(l->cert[i].key, strlen(l->cert[i].key));
		free(l->cert[i].key);
		free(l->cert[i].info);
	}
	free(l->cert);
	*l = (struct certs){NULL, 0};
}

/* Of this app, by name or id; l has one or none. */
static struct cert *find_cert(const struct app *a, const char *name, struct certs *l)
{
	*l = (struct certs){NULL, 0};
	store_exec("SELECT " CERT_COLUMNS " FROM certs WHERE app_id = ? AND (name = ? OR id = ?)", take_cert,
		   l, "sss", a->id, name, name);
	return l->n ? &l->cert[0] : NULL;
}

/* --- JSON ------------------------------------------------------------------------------------------- */

static json_t *json_cert(const struct app *a, const struct cert *k)
{
	json_t *v = json_object(), *domains = json_array(), *info = json_loads(k->info, 0, NULL);

	for (const struct domain *d = a->domains; d; d = d->next)
		if (!strcmp(d->cert_id, k->id))
			json_array_append_new(domains, json_string(d->id));
	json_object_set_new(v, "app", json_app_ref(a));
	json_object_set_new(v, "certificate_chain", json_string(k->chain));
	json_object_set_new(v, "cname", json_null());
	json_object_set_new(v, "created_at", json_time(k->created_us));
	json_object_set_new(v, "display_name", json_null());
	json_object_set_new(v, "domains", domains);
	json_object_set_new(v, "id", json_string(k->id));
	json_object_set_new(v, "name", json_string(k->name));
	json_object_set_new(v, "ssl_cert", json_is_object(info) ? info : json_object());
	json_object_set_new(v, "updated_at", json_time(k->updated_us));
	return v;
}

static void take_name(void *arg, sqlite3_stmt *st)
{
	snprintf(arg, 64, "%s", (const char *)sqlite3_column_text(st, 0));
}

static json_t *whole_domain(const struct app *a, const struct domain *d)
{
	json_t *v = json_domain(a, d);
	char name[64] = "";

	if (!d || !d->cert_id[0])
		return v;
	store_exec("SELECT name FROM certs WHERE id = ?", take_name, name, "s", d->cert_id);
	if (name[0])
		json_object_set_new(v, "sni_endpoint",
				    json_pack("{s:s, s:s}", "id", d->cert_id, "name", name));
	return v;
}

/* --- certificates and the TLS side -------------------------------------------------------------------- */

/* Tell tls.c the names of a certificate. Error text, or NULL. */
static const char *publish(const struct app *a, const struct cert *k)
{
	const char **names = NULL;
	const char *why;
	unsigned n = 0;

	for (const struct domain *d = a->domains; d; d = d->next) {
		if (strcmp(d->cert_id, k->id))
			continue;
		names = xrealloc(names, (n + 1) * sizeof(*names));
		names[n++] = d->hostname;
	}
	why = tls_cert_set(k->id, k->chain, k->key, names, n);
	free(names);
	return why;
}

static void publish_id(const struct app *a, const char *id)
{
	struct certs l;
	struct cert *k = *id ? find_cert(a, id, &l) : NULL;
	const char *why = k ? publish(a, k) : NULL;

	if (why)
		plog("error", a->name, "certificate %s: %s", k->name, why);
	if (*id)
		certs_free(&l);
}

struct owned {
	char id[37], app[37];
};
struct owned_list {
	struct owned *v;
	size_t n;
};

static void take_owned(void *arg, sqlite3_stmt *st)
{
	struct owned_list *l = arg;

	l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
	snprintf(l->v[l->n].id, 37, "%s", (const char *)sqlite3_column_text(st, 0));
	snprintf(l->v[l->n++].app, 37, "%s", (const char *)sqlite3_column_text(st, 1));
}

void api_certs_open(void)
{
	struct owned_list l = {NULL, 0};

	store_exec("SELECT id, app_id FROM certs", take_owned, &l, "");
	for (size_t i = 0; i < l.n; i++) {
		struct app *a = model_app(l.v[i].app);
		if (a)
			publish_id(a, l.v[i].id);
	}
	free(l.v);
}

static void cert_list(struct call *c)
{
	struct certs l = {NULL, 0};
	json_t *all = json_array();

	store_exec("SELECT " CERT_COLUMNS " FROM certs WHERE app_id = ?", take_cert, &l, "s", c->app->id);
	for (size_t i = 0; i < l.n; i++)
		json_array_append_new(all, json_cert(c->app, &l.cert[i]));
	certs_free(&l);
	api_reply_list(c, all, "name");
}

static void no_cert(struct call *c)
{
	api_error(c, 404, "not_found", "Couldn't find that SNI endpoint.");
}

static void cert_info_(struct call *c)
{
	struct certs l;
	struct cert *k = find_cert(c->app, c->param[0], &l);

	if (k)
		api_reply(c, 200, json_cert(c->app, k));
	else
		no_cert(c);
	certs_free(&l);
}

/* Chain and key of the body, checked: they belong together. info: what is in it. False: answered. */
static bool read_pair(struct call *c, const char **chain, const char **key, json_t **info)
{
	bool ok = true;
	const char *why;

	*chain = body_string(c, "certificate_chain", &ok);
	*key = ok ? body_string(c, "private_key", &ok) : NULL;
	if (!ok)
		return false;
	if (!*chain || !*key) {
		api_error(c, API_INVALID, "Parameters certificate_chain and private_key are needed.");
		return false;
	}
	if (strlen(*chain) > PEM_MAX || strlen(*key) > PEM_MAX) {
		api_error(c, API_INVALID, "The certificate chain or the key is larger than 64 KiB.");
		return false;
	}
	why = cert_check(*chain, *key, info);
	if (why)
		api_error(c, API_INVALID, "%s", why);
	return !why;
}

/* "*.example.org" and "www.example.org": does a name of the certificate cover this one? */
static bool covers(const char *pattern, const char *host)
{
	const char *dot;

	if (!strcasecmp(pattern, host))
		return true;
	dot = strchr(host, '.');
	return pattern[0] == '*' && pattern[1] == '.' && dot && host[0] != '*' &&
	       !strcasecmp(pattern + 1, dot);
}

/* Domains of the app that have no certificate and are named in this one get it. */
static struct fault tie_free_domains(struct app *a, const char *id, json_t *info)
{
	json_t *names = json_object_get(info, "cert_domains"), *name;
	struct fault f = FAULT_NONE;
	size_t i;

	for (struct domain *d = a->domains; d; d = d->next) {
		json_array_foreach(names, i, name)
		{
			if (d->cert_id[0] || !covers(json_string_value(name), d->hostname))
				continue;
			f = model_domain_cert(d, id);
			if (f.status)
				return f;
		}
	}
	return f;
}

static void take_count(void *arg, sqlite3_stmt *st)
{
	*(int64_t *)arg = sqlite3_column_int64(st, 0);
}

static void cert_create(struct call *c)
{
	const char *chain, *key;
	json_t *info = NULL;
	struct certs l;
	struct cert *k;
	struct fault f = FAULT_NONE;
	char id[37], name[32], digits[9], *text;
	int64_t count = 0, now = real_us();
	int err;

	if (!read_pair(c, &chain, &key, &info))
		return;
	store_exec("SELECT count(*) FROM certs WHERE app_id = ?", take_count, &count, "s", c->app->id);
	if (count >= CERTS_MAX) {
		json_decref(info);
		api_error(c, API_INVALID, "An app has at most %d certificates.", CERTS_MAX);
		return;
	}
	make_uuid(id);
	make_token(digits, 8);
	snprintf(name, sizeof(name), "cert-%.8s", digits);
	text = json_dumps(info, JSON_COMPACT);
	err = store_exec("INSERT INTO certs (id, app_id, name, chain, key, info, created_us, updated_us) "
			 "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			 NULL, NULL, "ssssssii", id, c->app->id, name, chain, key, text, now, now);
	free(text);
	if (err)
		f = store_fault(err);
	if (!f.status)
		f = tie_free_domains(c->app, id, info);
	json_decref(info);
	if (f.status) {
		api_fault(c, &f);
		return;
	}
	k = find_cert(c->app, id, &l);
	if (k) {
		publish_id(c->app, id);
		api_reply(c, 201, json_cert(c->app, k));
	} else {
		no_cert(c);
	}
	certs_free(&l);
}

static void cert_update(struct call *c)
{
	const char *chain, *key;
	json_t *info = NULL;
	struct certs l;
	struct cert *k = find_cert(c->app, c->param[0], &l);
	struct fault f;
	char id[37], *text;
	int err;

	if (!k) {
		no_cert(c);
		return;
	}
	snprintf(id, sizeof(id), "%s", k->id);
	certs_free(&l);
	if (!read_pair(c, &chain, &key, &info))
		return;
	text = json_dumps(info, JSON_COMPACT);
	err = store_exec("UPDATE certs SET chain = ?, key = ?, info = ?, updated_us = ? WHERE id = ?", NULL,
			 NULL, "sssis", chain, key, text, real_us(), id);
	free(text);
	json_decref(info);
	if (err) {
		f = store_fault(err);
		api_fault(c, &f);
		return;
	}
	publish_id(c->app, id);
	k = find_cert(c->app, id, &l);
	if (k)
		api_reply(c, 200, json_cert(c->app, k));
	else
		no_cert(c);
	certs_free(&l);
}

static void cert_remove(struct call *c)
{
	struct certs l;
	struct cert *k = find_cert(c->app, c->param[0], &l);
	struct fault f = FAULT_NONE;
	json_t *was;
	int err;

	if (!k) {
		no_cert(c);
		return;
	}
	was = json_cert(c->app, k);
	for (struct domain *d = c->app->domains; d && !f.status; d = d->next)
		if (!strcmp(d->cert_id, k->id))
			f = model_domain_cert(d, "");
	if (!f.status && (err = store_exec("DELETE FROM certs WHERE id = ? AND app_id = ?", NULL, NULL, "ss",
					   k->id, c->app->id)))
		f = store_fault(err);
	if (!f.status)
		tls_cert_remove(k->id);
	certs_free(&l);
	if (f.status) {
		json_decref(was);
		api_fault(c, &f);
		return;
	}
	api_reply(c, 200, was);
}

/* --- domains ---------------------------------------------------------------------------------------------- */

static struct domain *find_domain(const struct app *a, const char *name)
{
	for (struct domain *d = a->domains; d; d = d->next)
		if (!strcasecmp(d->hostname, name) || !strcmp(d->id, name))
			return d;
	return NULL;
}

static bool is_own_name(const struct app *a, const char *name)
{
	json_t *v = json_domain(a, NULL);
	bool same =
		!strcmp(name, a->id) || !strcasecmp(name, json_string_value(json_object_get(v, "hostname")));

	json_decref(v);
	return same;
}

static void no_domain(struct call *c)
{
	api_error(c, 404, "not_found", "Couldn't find that domain name.");
}

static void domain_list(struct call *c)
{
	json_t *all = json_array();

	json_array_append_new(all, whole_domain(c->app, NULL));
	for (struct domain *d = c->app->domains; d; d = d->next)
		json_array_append_new(all, whole_domain(c->app, d));
	api_reply_list(c, all, "id");
}

static void domain_info(struct call *c)
{
	struct domain *d = find_domain(c->app, c->param[0]);

	if (d || is_own_name(c->app, c->param[0]))
		api_reply(c, 200, whole_domain(c->app, d));
	else
		no_domain(c);
}

/* The certificate that a domain is to have: "sni_endpoint" of the body, a name, an id or null. False: answered. */
static bool read_endpoint(struct call *c, char id[37], bool *said)
{
	json_t *v = json_object_get(c->body, "sni_endpoint");
	struct certs l;
	struct cert *k;

	id[0] = '\0';
	*said = v != NULL;
	if (!v || json_is_null(v))
		return true;
	if (!json_is_string(v)) {
		api_error(c, API_INVALID, "Parameter sni_endpoint must be a string.");
		return false;
	}
	k = find_cert(c->app, json_string_value(v), &l);
	if (k)
		snprintf(id, 37, "%s", k->id);
	certs_free(&l);
	if (!id[0])
		no_cert(c);
	return id[0];
}

static void domain_create(struct call *c)
{
	bool ok = true, said;
	const char *host = body_string(c, "hostname", &ok);
	struct domain *d = NULL;
	struct fault f;
	char cert[37];

	if (!ok)
		return;
	if (!host) {
		api_error(c, API_INVALID, "Parameter hostname is missing.");
		return;
	}
	if (!read_endpoint(c, cert, &said))
		return;
	f = model_domain_add(c->app, host, &d);
	if (!f.status && cert[0])
		f = model_domain_cert(d, cert);
	if (f.status) {
		api_fault(c, &f);
		return;
	}
	publish_id(c->app, cert);
	log_linef(c->app, "app", "api", "Add %s domain by user %s", d->hostname, c->user->email);
	api_reply(c, 201, whole_domain(c->app, d));
}

static void domain_update(struct call *c)
{
	struct domain *d = find_domain(c->app, c->param[0]);
	char cert[37], before[37];
	bool said;
	struct fault f;

	if (!d) {
		no_domain(c);
		return;
	}
	if (!read_endpoint(c, cert, &said))
		return;
	if (said) {
		snprintf(before, sizeof(before), "%s", d->cert_id);
		f = model_domain_cert(d, cert);
		if (f.status) {
			api_fault(c, &f);
			return;
		}
		publish_id(c->app, before);
		publish_id(c->app, cert);
	}
	api_reply(c, 200, whole_domain(c->app, d));
}

static void domain_remove(struct call *c)
{
	struct domain *d = find_domain(c->app, c->param[0]);
	char cert[37], host[256];
	json_t *was;
	struct fault f;

	if (!d) {
		if (is_own_name(c->app, c->param[0]))
			api_error(c, API_INVALID, "The app's own domain cannot be removed.");
		else
			no_domain(c);
		return;
	}
	was = whole_domain(c->app, d);
	snprintf(cert, sizeof(cert), "%s", d->cert_id);
	snprintf(host, sizeof(host), "%s", d->hostname);
	f = model_domain_remove(c->app, d);
	if (f.status) {
		json_decref(was);
		api_fault(c, &f);
		return;
	}
	publish_id(c->app, cert);
	log_linef(c->app, "app", "api", "Remove %s domain by user %s", host, c->user->email);
	api_reply(c, 200, was);
}

/* --- what Heroku has and this platform has not ------------------------------------------------------------- */

static void no_acm(struct call *c)
{
	api_error(c, API_INVALID,
		  "Certificates are not fetched automatically here. Use certs:add with one of your own.");
}

static void acm_off(struct call *c)
{
	api_reply(c, 200, json_app(c->app));
}

static void no_ssl_endpoints(struct call *c)
{
	api_reply_list(c, json_array(), "id");
}

static void ssl_endpoint_refused(struct call *c)
{
	api_error(c, API_INVALID, "SSL endpoints are gone. Use SNI endpoints (certs:add).");
}

const struct route api_domain_routes[] = {
	{"GET", "/apps/{app}/domains", NEED_COLLABORATOR, domain_list, NULL},
	{"POST", "/apps/{app}/domains", NEED_COLLABORATOR, domain_create, NULL},
	{"GET", "/apps/{app}/domains/{}", NEED_COLLABORATOR, domain_info, NULL},
	{"PATCH", "/apps/{app}/domains/{}", NEED_COLLABORATOR, domain_update, NULL},
	{"DELETE", "/apps/{app}/domains/{}", NEED_COLLABORATOR, domain_remove, NULL},
	{"GET", "/apps/{app}/sni-endpoints", NEED_COLLABORATOR, cert_list, NULL},
	{"POST", "/apps/{app}/sni-endpoints", NEED_COLLABORATOR, cert_create, NULL},
	{"GET", "/apps/{app}/sni-endpoints/{}", NEED_COLLABORATOR, cert_info_, NULL},
	{"PATCH", "/apps/{app}/sni-endpoints/{}", NEED_COLLABORATOR, cert_update, NULL},
	{"DELETE", "/apps/{app}/sni-endpoints/{}", NEED_COLLABORATOR, cert_remove, NULL},
	{"GET", "/apps/{app}/ssl-endpoints", NEED_COLLABORATOR, no_ssl_endpoints, NULL},
	{"POST", "/apps/{app}/ssl-endpoints", NEED_COLLABORATOR, ssl_endpoint_refused, NULL},
	{"POST", "/apps/{app}/acm", NEED_COLLABORATOR, no_acm, NULL},
	{"PATCH", "/apps/{app}/acm", NEED_COLLABORATOR, no_acm, NULL},
	{"DELETE", "/apps/{app}/acm", NEED_COLLABORATOR, acm_off, NULL},
	{0},
};
