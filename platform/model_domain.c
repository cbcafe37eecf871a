/* SPDX-License-Identifier: ISC */
/*
 * Custom domains. A host name belongs to one app. Nobody may take a name of the platform's own domain, nor one that
 * another owner's wildcard covers, nor a wildcard over another owner's names.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "platform/model_inside.h"
#include "platform/settings.h"

#define MAX_DOMAINS 1000 /* of an app */

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

/* Does `pattern`, "*.example.org", cover this name? One label, as certificates have it. */
static bool covers(const char *pattern, const char *name)
{
	const char *dot = strchr(name, '.');

	return pattern[0] == '*' && dot && !strcmp(pattern + 1, dot);
}

static bool looks_like_address(const char *name)
{
	struct in_addr a;

	return inet_pton(AF_INET, name, &a) == 1 || strspn(name, "0123456789.") == strlen(name);
}

static bool ours(const char *name)
{
	char below[260];

	snprintf(below, sizeof(below), ".%s", config.domain);
	return !strcmp(name, config.domain) || ends_with(name, below) || covers(name, config.domain) ||
	       !strcmp(name, "localhost") || ends_with(name, ".localhost");
}

/* Is there another owner's domain that this one would take requests from, or give to? */
static bool collides(const struct app *a, const char *name)
{
	const struct domain *d;
	const char *dot = strchr(name, '.');
	char wild[260];
	size_t at = 0;

	if (name[0] != '*') {
		snprintf(wild, sizeof(wild), "*%s", dot ? dot : "");
		d = table_get(&model.domains, wild, strlen(wild));
		return d && d->app->owner != a->owner;
	}
	while ((d = table_next(&model.domains, &at)))
		if (d->app->owner != a->owner && covers(name, d->hostname))
			return true;
	return false;
}

static struct fault check(struct app *a, const char *name)
{
	unsigned n = 0;

	if (!valid_hostname(name[0] == '*' && name[1] == '.' ? name + 2 : name) || !strchr(name, '.') ||
	    looks_like_address(name))
		return fault_of(422, "invalid_params", "Domain '%.100s' is not a valid host name.", name);
	if (name[0] == '*' && !strchr(name + 2, '.'))
		return fault_of(422, "invalid_params",
				"A wildcard needs two more labels, as in *.example.org.");
	if (ours(name))
		return fault_of(422, "invalid_params", "%s belongs to the platform.", name);
	if (table_get(&model.domains, name, strlen(name)))
		return fault_of(422, "invalid_params", "%s is already in use%s", name,
				((struct domain *)table_get(&model.domains, name, strlen(name)))->app == a
					? " by this app"
					: "");
	if (collides(a, name))
		return fault_of(422, "invalid_params", "%s is covered by a domain of another account", name);
	for (const struct domain *d = a->domains; d; d = d->next)
		n++;
	return n < MAX_DOMAINS
		       ? FAULT_NONE
		       : fault_of(422, "invalid_params", "An app has at most %d domains.", MAX_DOMAINS);
}

struct fault model_domain_add(struct app *a, const char *hostname, struct domain **out)
{
	char name[256], id[37];
	int64_t now = real_us();
	size_t n = strlen(hostname);

	if (n && hostname[n - 1] == '.')
		n--;
	if (n >= sizeof(name))
		return fault_of(422, "invalid_params", "The host name is too long.");
	for (size_t i = 0; i < n; i++)
		name[i] = (char)tolower((unsigned char)hostname[i]);
	name[n] = 0;
	struct fault f = check(a, name);
	if (f.status)
		return f;
	make_uuid(id);
	int rc = store_exec("INSERT INTO domains (id, app_id, hostname, created_us) VALUES (?, ?, ?, ?)",
			    NULL, NULL, "sssi", id, a->id, name, now);
	if (rc)
		return store_fault(rc);
	*out = domain_new(a, id, name);
	(*out)->created_us = now;
	return FAULT_NONE;
}

struct fault model_domain_remove(struct app *a, struct domain *d)
{
	int rc = store_exec("DELETE FROM domains WHERE id = ?", NULL, NULL, "s", d->id);

	if (!rc)
		domain_free(d);
	return store_fault(rc);
}

struct fault model_domain_cert(struct domain *d, const char *cert_id)
{
	int rc = store_exec("UPDATE domains SET cert_id = ? WHERE id = ?", NULL, NULL, "ss", cert_id, d->id);

	if (!rc)
		snprintf(d->cert_id, sizeof(d->cert_id), "%s", cert_id);
	return store_fault(rc);
}
