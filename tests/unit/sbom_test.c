/* SPDX-License-Identifier: ISC */
/* unit-sources: image/build/sbom.c image/packages.c image/control.c lib/host/strings.c lib/host/say.c image/store/blob.c image/store/store.c image/store/pending.c image/dirs.c */
/* unit-libs: -ljansson -lnettle */
/*
 * CycloneDX documents of npm's lock files and of Debian packages: what is in
 * them, in which order, and that the same contents give the same bytes.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/build/debs.h"
#include "tests/unit/tap.h"

static struct store *store;

static json_t *document(const char *hex)
{
	char *text;
	size_t n;

	if (store_get(store, hex, 1 << 20, &text, &n))
		return NULL;
	json_t *doc = json_loads(text, 0, NULL);
	free(text);
	return doc;
}

static bool put_lock(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	return f && fputs(text, f) >= 0 && !fclose(f);
}

static void test_npm(const char *dir)
{
	static const char lock[] =
		"{\"name\":\"x\",\"lockfileVersion\":3,\"packages\":{\"\":{\"name\":\"x\",\"version\":\"1\"},"
		"\"node_modules/b\":{\"version\":\"2.0.0\",\"license\":\"MIT\"},"
		"\"node_modules/@s/a\":{\"version\":\"1.0.0-rc+1\"},"
		"\"node_modules/c/node_modules/b\":{\"version\":\"2.0.0\"},"
		"\"node_modules/d\":{\"version\":\"3\",\"dev\":true},"
		"\"node_modules/l\":{\"resolved\":\"../l\",\"link\":true},"
		"\"node_modules/none\":{},\"node_modules/odd\":7}}";
	char *path = textf("%s/package-lock.json", dir), hex[65], again[65];
	uint64_t size;

	ok(put_lock(path, lock) && !sbom_npm(store, path, "app", hex, &size), "a lock file is read");
	json_t *doc = document(hex), *c = json_object_get(doc, "components");
	ok(json_array_size(c) == 2,
	   "packages once each, without development ones, links and what is no package");
	static const char *const purls[] = {"pkg:npm/%40s/a@1.0.0-rc%2B1", "pkg:npm/b@2.0.0"};
	for (size_t i = 0; i < 2; i++) {
		const char *purl = json_string_value(json_object_get(json_array_get(c, i), "purl"));
		ok(purl && !strcmp(purl, purls[i]), "package URL %s", purls[i]);
	}
	ok(!strcmp(json_string_value(json_object_get(doc, "bomFormat")), "CycloneDX"), "format");
	ok(!sbom_npm(store, path, "app", again, &size) && !strcmp(hex, again), "the same bytes again");
	json_decref(doc);
	ok(put_lock(path, "{\"packages\":[]}") && sbom_npm(store, path, "app", hex, &size) < 0,
	   "no lock file: refused");
	ok(put_lock(path, "{\"packages\":{\"a\":") && sbom_npm(store, path, "app", hex, &size) < 0,
	   "cut short: refused");
	ok(put_lock(path, "{\"packages\":{}}") && !sbom_npm(store, path, "app", hex, &size),
	   "an empty one has no packages");
	unlink(path);
	ok(sbom_npm(store, path, "app", hex, &size) == -ENOENT, "none at all");
	free(path);
}

static void test_debs(void)
{
	struct deb a = {.name = "libstdc++6", .version = "1:2.0~rc1+b1", .arch = "amd64", .mark = DEB_FULL};
	struct deb b = {.name = "tzdata", .version = "2025", .arch = "all", .mark = DEB_PART};
	const struct deb *v[] = {&a, &b};
	char hex[65];
	uint64_t size;

	ok(!sbom_debs(store, v, 2, "node", "x", hex, &size), "two packages and a program");
	json_t *doc = document(hex), *c = json_object_get(doc, "components");
	const char *purl = json_string_value(json_object_get(json_array_get(c, 0), "purl"));
	ok(json_array_size(c) == 3 && strstr(purl, "/libstdc%2B%2B6@1%3A2.0~rc1%2Bb1?arch=amd64"),
	   "package URLs are percent-encoded");
	ok(!json_object_get(json_array_get(c, 0), "properties") &&
		   json_object_get(json_array_get(c, 1), "properties"),
	   "a package of which a part is taken says so");
	ok(!strcmp(json_string_value(json_object_get(json_array_get(c, 2), "type")), "application"),
	   "the program");
	json_decref(doc);
}

int main(void)
{
	char dir[] = "/tmp/cowbell-sbom-XXXXXX";

	if (!mkdtemp(dir))
		return 1;
	setenv("XDG_DATA_HOME", dir, 1);
	store = store_open();
	if (!store)
		return 1;
	test_npm(dir);
	test_debs();
	store_close(store);
	store_rmtree(dir);
	return done();
}
