// SPDX-License-Identifier: ISC
/*
 * The objects of the API as Heroku's clients know them: names and types of fields are those of its Platform API, version 3. What
 * does not exist here (teams, spaces, billing) is null, so that a client that looks finds an answer.
 */
#include "platform/api_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_t *json_time(int64_t us)
{
	char text[32];

	if (us <= 0)
		return json_null();
	format_time(us, text);
	return json_string(text);
}

/* Text of anybody: never NULL, also if it is no UTF-8. */
static json_t *text(const char *s)
{
	json_t *v = s ? json_string(s) : NULL;

	return v ? v : json_string("");
}

json_t *json_user_ref(const struct user *u)
{
	if (!u)
		return json_null();
	return json_pack("{s:s, s:o}", "id", u->id, "email", text(u->email));
}

json_t *json_app_ref(const struct app *a)
{
	return json_pack("{s:s, s:s}", "id", a->id, "name", a->name);
}

json_t *json_user(const struct user *u)
{
	json_t *v = json_pack("{s:s, s:o, s:o, s:b, s:b, s:s, s:b, s:b}", "id", u->id, "email",
			      text(u->email), "name", text(u->name), "verified", 1, "allow_tracking", 0,
			      "federated_identity", "", "beta", 0, "two_factor_authentication", 0);

	json_object_set_new(v, "federated", json_false());
	json_object_set_new(v, "federated_identity", json_null());
	json_object_set_new(v, "admin", json_boolean(u->admin));
	json_object_set_new(v, "created_at", json_time(u->created_us));
	json_object_set_new(v, "updated_at", json_time(u->created_us));
	json_object_set_new(v, "last_login", json_null());
	json_object_set_new(v, "delinquent_at", json_null());
	json_object_set_new(v, "suspended_at", json_null());
	json_object_set_new(v, "sms_number", json_null());
	json_object_set_new(v, "country_of_residence", json_null());
	json_object_set_new(v, "default_organization", json_null());
	json_object_set_new(v, "default_team", json_null());
	json_object_set_new(v, "identity_provider", json_null());
	return v;
}

/* "scheme://host[:port]" of apps (TLS when there is a certificate that clients can trust), or of the API. */
static char *origin(const char *host, const char *sub)
{
	uint16_t plain = front_port(false), tls = front_port(true);
	bool secure = tls && (!plain || config.tls_cert);
	uint16_t port = secure ? tls : plain;
	char *url = NULL;
	int n;

	if (port == (secure ? 443 : 80))
		n = asprintf(&url, "%s://%s%s%s", secure ? "https" : "http", sub, *sub ? "." : "", host);
	else
		n = asprintf(&url, "%s://%s%s%s:%u", secure ? "https" : "http", sub, *sub ? "." : "", host,
			     port);
	return n < 0 ? xstrdup("") : url;
}

static char *with_path(char *base, const char *path)
{
	char *url = NULL;

	if (asprintf(&url, "%s/%s", base, path) < 0)
		url = xstrdup("");
	free(base);
	return url;
}

char *app_url(const struct app *a)
{
	return with_path(origin(config.domain, a->name), "");
}

char *app_git_url(const struct app *a)
{
	char path[APP_NAME_MAX + 8];

	snprintf(path, sizeof(path), "%s.git", a->name);
	return with_path(origin(config.domain, strcmp(config.domain, "localhost") ? "api" : ""), path);
}

static json_t *named(const char *id, const char *name)
{
	return json_pack("{s:s, s:s}", "id", id, "name", name);
}

json_t *json_app(const struct app *a)
{
	char *web = app_url(a), *git = app_git_url(a);
	json_t *v = json_object();

	json_object_set_new(v, "id", json_string(a->id));
	json_object_set_new(v, "name", json_string(a->name));
	json_object_set_new(v, "acm", json_false());
	json_object_set_new(v, "archived_at", json_null());
	json_object_set_new(v, "build_stack", named(STACK_ID, STACK_NAME));
	json_object_set_new(v, "buildpack_provided_description", json_null());
	json_object_set_new(v, "create_status", json_string("complete"));
	json_object_set_new(v, "created_at", json_time(a->created_us));
	json_object_set_new(v, "generation", json_pack("{s:s}", "name", "cedar"));
	json_object_set_new(v, "git_url", text(git));
	json_object_set_new(v, "internal_routing", json_null());
	json_object_set_new(v, "locked", json_boolean(a->locked));
	json_object_set_new(v, "maintenance", json_boolean(a->maintenance));
	json_object_set_new(v, "organization", json_null());
	json_object_set_new(v, "owner", json_user_ref(a->owner));
	json_object_set_new(v, "process_tier", json_string("production"));
	json_object_set_new(v, "region", named(REGION_ID, REGION_NAME));
	json_object_set_new(v, "released_at", json_time(a->released_us));
	json_object_set_new(v, "repo_size", json_integer(0));
	json_object_set_new(v, "slug_size", json_integer((json_int_t)a->release.image_bytes));
	json_object_set_new(v, "space", json_null());
	json_object_set_new(v, "stack", named(STACK_ID, STACK_NAME));
	json_object_set_new(v, "team", json_null());
	json_object_set_new(v, "updated_at", json_time(a->updated_us));
	json_object_set_new(v, "web_url", text(web));
	free(web);
	free(git);
	return v;
}

json_t *json_formation(const struct app *a, const struct formation *f)
{
	json_t *v = json_object();

	json_object_set_new(v, "app", json_app_ref(a));
	json_object_set_new(v, "command", text(f->command));
	json_object_set_new(v, "created_at", json_time(f->created_us));
	json_object_set_new(v, "dyno_size", json_dyno_size(f->size));
	json_object_set_new(v, "id", json_string(f->id));
	json_object_set_new(v, "quantity", json_integer(f->quantity));
	json_object_set_new(v, "size", json_string(f->size));
	json_object_set_new(v, "type", text(f->type));
	json_object_set_new(v, "updated_at", json_time(f->updated_us));
	return v;
}

json_t *json_domain(const struct app *a, const struct domain *d)
{
	char *web = app_url(a), *host = strstr(web, "://");
	json_t *v = json_object();

	/* The name to point a CNAME at: the app's own. */
	host = host ? host + 3 : web;
	host[strcspn(host, ":/")] = '\0';
	json_object_set_new(v, "acm_status", json_null());
	json_object_set_new(v, "acm_status_reason", json_null());
	json_object_set_new(v, "app", json_app_ref(a));
	json_object_set_new(v, "cname", d ? json_string(host) : json_null());
	json_object_set_new(v, "created_at", json_time(d ? d->created_us : a->created_us));
	json_object_set_new(v, "hostname", d ? text(d->hostname) : json_string(host));
	json_object_set_new(v, "id", json_string(d ? d->id : a->id));
	json_object_set_new(v, "kind", json_string(d ? "custom" : "heroku"));
	json_object_set_new(v, "sni_endpoint", json_null());
	json_object_set_new(v, "status", json_string("none"));
	json_object_set_new(v, "updated_at", json_time(d ? d->created_us : a->created_us));
	free(web);
	return v;
}
