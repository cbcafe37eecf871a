/* SPDX-License-Identifier: ISC */
/*
 * What is inside a layer, as a CycloneDX 1.4 document: for Debian packages
 * from the records of dpkg and apt, for Node's from package-lock.json.
 *
 * The same contents give the same bytes: no time, no tool version, components
 * sorted by name, and a serial number made of the contents' digest (the form
 * of a UUID of version 8, which is free to be that).
 */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image/build/debs.h"

#define MAX_LOCK (64 << 20)

/* Percent-encoded as package URLs want it; malloc. */
static char *purl_text(const char *s)
{
	char *out = malloc(strlen(s) * 3 + 1), *p = out;

	for (; out && *s; s++) {
		if (isalnum((unsigned char)*s) || strchr("-._~", *s))
			*p++ = *s;
		else
			p += sprintf(p, "%%%02X", (unsigned char)*s);
	}
	if (out)
		*p = 0;
	return out;
}

/* The distribution's name, of os-release: "debian". */
static void distribution(char *buf, size_t size)
{
	size_t n;
	char *text = dpkg_slurp("/usr/lib/os-release", &n), *id = text ? strstr(text, "\nID=") : NULL;

	snprintf(buf, size, "debian");
	if (id && strspn(id + 4, "abcdefghijklmnopqrstuvwxyz0123456789") == strcspn(id + 4, "\n"))
		snprintf(buf, size, "%.*s", (int)strcspn(id + 4, "\n"), id + 4);
	free(text);
}

static json_t *deb_component(const struct deb *p, const char *distro)
{
	char *name = purl_text(p->name), *version = purl_text(p->version);
	char *purl = textf("pkg:deb/%s/%s@%s?arch=%s", distro, name ? name : "", version ? version : "",
			   p->arch ? p->arch : "all");
	json_t *c = json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", "library", "bom-ref", purl, "name",
			      p->name, "version", p->version, "purl", purl);

	if (c && p->mark == DEB_PART)
		json_object_set_new(
			c, "properties",
			json_pack("[{s:s, s:s}]", "name", "cowbell:part", "value", "selected files"));
	free(name);
	free(version);
	free(purl);
	return c;
}

/* Its version is known to the program alone, which is not run here. */
static json_t *program_component(const char *name)
{
	char *text = purl_text(name), *purl = textf("pkg:generic/%s", text ? text : "");
	json_t *c = json_pack("{s:s, s:s, s:s, s:s}", "type", "application", "bom-ref", purl, "name", name,
			      "purl", purl);

	free(text);
	free(purl);
	return c;
}

/* Takes `components` over. */
static int put_document(struct store *s, json_t *components, const char *title, char hex[65], uint64_t *size)
{
	char serial[80], digest[65];
	char *text = json_dumps(components, JSON_COMPACT);

	if (!text) {
		json_decref(components);
		return -ENOMEM;
	}
	sha256_hex(text, strlen(text), digest);
	free(text);
	snprintf(serial, sizeof(serial), "urn:uuid:%.8s-%.4s-8%.3s-8%.3s-%.12s", digest, digest + 8,
		 digest + 12, digest + 15, digest + 18);
	json_t *doc = json_pack("{s:s, s:s, s:s, s:i, s:{s:{s:s, s:s}}, s:o}", "bomFormat", "CycloneDX",
				"specVersion", "1.4", "serialNumber", serial, "version", 1, "metadata",
				"component", "type", "container", "name", title, "components", components);
	text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
	int r = text ? store_put(s, text, strlen(text), hex) : -ENOMEM;
	*size = text ? strlen(text) : 0;
	free(text);
	json_decref(doc);
	return r;
}

int sbom_debs(struct store *s, const struct deb *const *v, size_t n, const char *program, const char *title,
	      char hex[65], uint64_t *size)
{
	json_t *components = json_array();
	char distro[32];

	distribution(distro, sizeof(distro));
	for (size_t i = 0; i < n; i++)
		json_array_append_new(components, deb_component(v[i], distro));
	if (program)
		json_array_append_new(components, program_component(program));
	return put_document(s, components, title, hex, size);
}

/* --- npm -------------------------------------------------------------------------------------------- */

/* "node_modules/a/node_modules/@b/c" -> "@b/c" */
static const char *npm_name(const char *path)
{
	const char *name = NULL, *p = path;

	while ((p = strstr(p, "node_modules/"))) {
		p += 13;
		name = p;
	}
	return name;
}

static char *npm_purl(const char *name, const char *version)
{
	const char *slash = *name == '@' ? strchr(name, '/') : NULL;
	char *scope = slash ? strndup(name, (size_t)(slash - name)) : NULL;
	char *a = scope ? purl_text(scope) : NULL, *b = purl_text(slash ? slash + 1 : name),
	     *c = purl_text(version);
	char *purl = textf("pkg:npm/%s%s%s@%s", a ? a : "", a ? "/" : "", b ? b : "", c ? c : "");

	free(scope);
	free(a);
	free(b);
	free(c);
	return purl;
}

static json_t *npm_component(const char *path, json_t *entry)
{
	const char *name = json_string_value(json_object_get(entry, "name"));
	const char *version = json_string_value(json_object_get(entry, "version"));
	const char *license = json_string_value(json_object_get(entry, "license"));

	if (!name)
		name = npm_name(path);
	if (!name || !version || json_is_true(json_object_get(entry, "dev")) ||
	    json_is_true(json_object_get(entry, "link")))
		return NULL;
	char *purl = npm_purl(name, version);
	json_t *c = json_pack("{s:s, s:s, s:s, s:s}", "type", "library", "name", name, "version", version,
			      "purl", purl);
	if (c && license && *license)
		json_object_set_new(c, "licenses", json_pack("[{s:{s:s}}]", "license", "name", license));
	free(purl);
	return c;
}

static int by_purl(const void *a, const void *b)
{
	json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;

	return strcmp(json_string_value(json_object_get(x, "purl")),
		      json_string_value(json_object_get(y, "purl")));
}

/* Sorted, each package once; takes the components over. */
static json_t *sorted_once(json_t **v, size_t n)
{
	json_t *out = json_array();

	if (n)
		qsort(v, n, sizeof(json_t *), by_purl);
	for (size_t i = 0; i < n; i++) {
		if (i && !by_purl(&v[i - 1], &v[i])) {
			json_decref(v[i - 1]);
			continue;
		}
		if (i)
			json_array_append_new(out, v[i - 1]);
	}
	if (n)
		json_array_append_new(out, v[n - 1]);
	return out;
}

int sbom_npm(struct store *s, const char *package_lock, const char *title, char hex[65], uint64_t *size)
{
	struct stat st;
	if (stat(package_lock, &st))
		return -errno;
	if (st.st_size > MAX_LOCK)
		return -EFBIG;
	json_t *lock = json_load_file(package_lock, JSON_REJECT_DUPLICATES, NULL), *entry;
	json_t *packages = json_object_get(lock, "packages");
	const char *path;
	size_t n = 0;

	if (!json_is_object(packages)) {
		json_decref(lock);
		return -EINVAL;
	}
	json_t **v = calloc(json_object_size(packages) + 1, sizeof(json_t *));
	json_object_foreach(packages, path, entry)
	{
		json_t *c = v && *path ? npm_component(path, entry) : NULL;
		if (c)
			v[n++] = c;
	}
	json_decref(lock);
	if (!v)
		return -ENOMEM;
	json_t *components = sorted_once(v, n);
	free(v);
	return put_document(s, components, title, hex, size);
}
