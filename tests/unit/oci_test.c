/* SPDX-License-Identifier: ISC */
/* unit-sources: image/oci/oci.c image/oci/reference.c image/store/blob.c image/store/pending.c image/store/store.c lib/host/strings.c lib/host/say.c image/dirs.c */
/* unit-libs: -ljansson -lnettle */
/* Names of images, and their JSON: what is taken, what is refused with which words, and that writing gives the same bytes. */
#include <string.h>

#include "image/oci/oci.h"
#include "image/oci/reference.h"
#include "tests/unit/tap.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define D   "\"digest\":\"sha256:" HEX "\",\"size\":7"
#define M   "\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","

static void names(void)
{
	static const struct {
		const char *text, *name, *tag;
	} good[] = {
		{"a", "a", "latest"},
		{"hello-world:1.0_x", "hello-world", "1.0_x"},
		{"localhost:5000/a/b:c", "localhost:5000/a/b", "c"},
		{"Registry.EXAMPLE.org/team/app", "registry.example.org/team/app", "latest"},
		{"127.0.0.1:5000/a__b.c---d", "127.0.0.1:5000/a__b.c---d", "latest"},
		{"[::1]:5000/x:1", "[::1]:5000/x", "1"},
		{"foo.bar:5", "foo.bar", "5"},
	};
	static const char *const refused[] = {
		"",	    "A",      "a/",	 "/a",	  "a//b",      "../a", "a..b",	 "a___b",
		"-a",	    "a-",     "a:",	 "a:.x",  "a:-x",      "a b",  "a:b:c",	 "a@sha256:0",
		"a@md5:00", "[..]/a", "h.:80/a", "h:0/a", "h:99999/a", "a\nb", "-h.x/a", "a/../b"};
	struct reference r;
	char text[400], long_name[300];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ok(!reference_parse(good[i].text, &r) && !strcmp(r.name, good[i].name) &&
			   !strcmp(r.tag, good[i].tag) && !r.hex[0],
		   "name %s", good[i].text);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		ok(reference_parse(refused[i], &r) != NULL, "refused: name %zu", i);
	ok(!reference_parse("a:b@sha256:" HEX, &r) && !strcmp(r.hex, HEX) && r.has_tag,
	   "digest after the tag");
	reference_text(&r, text, sizeof(text));
	ok(!strcmp(text, "a:b"), "text is NAME:TAG");
	memset(long_name, 'a', sizeof(long_name));
	long_name[256] = 0;
	ok(reference_parse(long_name, &r) != NULL, "256 bytes are too many");
	long_name[255] = 0;
	ok(!reference_parse(long_name, &r), "255 are not");
}

static void sources(void)
{
	struct source_name s;

	ok(!source_parse("./hello", &s) && s.kind == SOURCE_NONE, "a program is no source");
	ok(!source_parse("image:a:b", &s) && s.kind == SOURCE_STORE && !strcmp(s.store.tag, "b"), "image:");
	ok(!source_parse("oci:/nonexistent/dir:v1", &s) && s.kind == SOURCE_OCI_DIR &&
		   !strcmp(s.path, "/nonexistent/dir") && !strcmp(s.ref, "v1"),
	   "oci:DIR:REF");
	ok(!source_parse("docker-archive:x.tar:name:tag", &s) && !strcmp(s.path, "x.tar") &&
		   !strcmp(s.ref, "name:tag"),
	   "docker-archive:FILE:NAME:TAG");
	ok(!source_parse("oci-archive:x.tar", &s) && s.kind == SOURCE_OCI_ARCHIVE && !s.ref[0],
	   "without a name");
	ok(source_parse("oci:", &s) && source_parse("oci:a:", &s) && source_parse("image:", &s),
	   "empty parts");
}

static void manifest_refused(const char *json, const char *word)
{
	struct oci_manifest m;
	const char *why = oci_manifest_parse(json, strlen(json), &m);

	if (!ok(why && strstr(why, word), "manifest refused: %s", word))
		diag("%s", why ? why : "accepted");
}

static void manifests(void)
{
	static const char good[] =
		"{\"schemaVersion\":2," M "\"config\":{" M D "},\"layers\":[{\"mediaType\":\"x\"," D
		",\"annotations\":{\"org.opencontainers.image.title\":\"t\"}}],\"annotations\":{\"a\":\"b\"}"
		"}";
	struct oci_manifest m;
	char *text, many[OCI_MAX_LAYERS * 130 + 1000];

	ok(!oci_manifest_parse(good, strlen(good), &m) && m.n_layers == 1 && m.layers[0].size == 7 &&
		   !strcmp(m.layers[0].title, "t") && !strcmp(m.annotations.v[0], "a=b"),
	   "a manifest");
	text = oci_manifest_format(&m);
	ok(text && !strcmp(text, good), "written as it was read");
	free(text);
	oci_manifest_free(&m);
	manifest_refused("[]", "not a JSON object");
	manifest_refused("{", "not valid JSON");
	manifest_refused("{\"a\":1,\"a\":2}", "twice");
	manifest_refused("{\"a\":\"\\u0000\"}", "NUL");
	manifest_refused("{\"schemaVersion\":1}", "version 1");
	manifest_refused("{\"schemaVersion\":2}", "no config");
	manifest_refused("{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}", "at once");
	manifest_refused("{\"schemaVersion\":2,\"manifests\":[]}", "an index");
	manifest_refused("{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" HEX "\",\"size\":\"7\"}}",
			 "whole number");
	manifest_refused("{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" HEX "\",\"size\":7.5}}",
			 "whole number");
	manifest_refused("{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" HEX "\",\"size\":-7}}",
			 "negative");
	manifest_refused("{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:" HEX
			 "\",\"size\":99999999999999999999}}",
			 "not valid JSON");
	manifest_refused("{\"schemaVersion\":2,\"config\":{\"digest\":\"sha512:" HEX HEX "\",\"size\":7}}",
			 "another algorithm");
	manifest_refused(
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:../../etc/passwd\",\"size\":7}}",
		"64 hexadecimal");
	size_t at = (size_t)sprintf(many, "{\"schemaVersion\":2,\"config\":{" D "},\"layers\":[");
	for (int i = 0; i <= OCI_MAX_LAYERS; i++)
		at += (size_t)sprintf(many + at, "%s{" D "}", i ? "," : "");
	strcpy(many + at, "]}");
	manifest_refused(many, "more than 128");
	char *deep = malloc(100001);
	memset(deep, '[', 100000);
	deep[100000] = 0;
	memcpy(deep, "{\"a\":", 5);
	manifest_refused(deep, "too deeply");
	free(deep);
}

static void config_refused(const char *config, const char *word)
{
	struct oci_config c;
	char *json = textf("{\"rootfs\":{\"diff_ids\":[]},\"config\":%s}", config);
	const char *why = oci_config_parse(json, strlen(json), &c);

	if (!ok(why && strstr(why, word), "configuration refused: %s", word))
		diag("%s", why ? why : "accepted");
	free(json);
}

static void configs(void)
{
	static const char good[] =
		"{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"User\":\"web\",\"ExposedPorts\":{"
		"\"80/tcp\":{}},"
		"\"Env\":[\"A=b\"],\"Entrypoint\":[\"/x\",\"\"],\"Cmd\":[],\"Volumes\":{\"/"
		"v\":{}},\"WorkingDir\":\"/w\","
		"\"Labels\":{\"dev.cowbell.processes\":\"{\\\"web\\\":\\\"a "
		"b\\\",\\\"worker\\\":\\\"c\\\"}\"},"
		"\"StopSignal\":\"SIGINT\"},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:" HEX
		"\"]}}";
	static const char loose[] = "{\"config\":{\"Cmd\":null,\"Env\":[\"A=1\",\"B=2\",\"A=3\"],"
				    "\"ExposedPorts\":{\"53/udp\":{},\"80\":null},"
				    "\"Labels\":null},\"rootfs\":{\"diff_ids\":null}}";
	struct strings types = {0};
	struct oci_config c;
	char *text;

	ok(!oci_config_parse(good, strlen(good), &c) && c.has_cmd && !c.cmd.n && c.entrypoint.n == 2 &&
		   !strcmp(c.user, "web") && !strcmp(c.stop_signal, "SIGINT") &&
		   !strcmp(c.diff_ids.v[0], HEX),
	   "a configuration");
	text = oci_config_format(&c);
	ok(text && !strcmp(text, good), "written as it was read");
	free(text);
	oci_config_processes(&c, &types);
	ok(types.n == 2 && !strcmp(types.v[0], "web=a b") && !strcmp(types.v[1], "worker=c"),
	   "process types in order");
	strings_free(&types);
	strings_add(&c.env, "B=\xff");
	ok(!oci_config_format(&c), "not written: a string that is not UTF-8");
	oci_config_free(&c);
	ok(!oci_config_parse(loose, strlen(loose), &c) && !c.has_cmd && !c.workdir && c.env.n == 2 &&
		   !strcmp(c.env.v[0], "A=3") && !strcmp(c.ports.v[0], "53/udp") &&
		   !strcmp(c.ports.v[1], "80/tcp"),
	   "null is absent, the last value wins, a port gets its protocol");
	oci_config_free(&c);
	config_refused("{\"Env\":[\"A\"]}", "NAME=VALUE");
	config_refused("{\"Env\":[\"=x\"]}", "NAME=VALUE");
	config_refused("{\"Env\":[1]}", "not a string");
	config_refused("{\"Cmd\":\"sh\"}", "Cmd");
	config_refused("{\"Entrypoint\":[null]}", "Entrypoint");
	config_refused("{\"WorkingDir\":\"app\"}", "absolute");
	config_refused("{\"Volumes\":{\"data\":{}}}", "absolute");
	char many[257 * 12 + 32], *at = many + sprintf(many, "{\"Volumes\":{");
	for (int i = 0; i < 257; i++)
		at += sprintf(at, "%s\"/%d\":{}", i ? "," : "", i);
	strcpy(at, "}}");
	config_refused(many, "at most 256");
	config_refused("{\"ExposedPorts\":{\"0/tcp\":{}}}", "port");
	config_refused("{\"ExposedPorts\":{\"65536/tcp\":{}}}", "port");
	config_refused("{\"ExposedPorts\":{\"80/icmp\":{}}}", "port");
	config_refused("{\"User\":\"a\\nb\"}", "User");
	config_refused("{\"Labels\":{\"a\":1}}", "Labels");
	config_refused("[]", "not an object");
}

static const char *entry(const char *platform, const char *name, char digit)
{
	static char buf[4][400];
	static int next;
	char *b = buf[next++ % 4];

	sprintf(b, "{" M "\"digest\":\"sha256:%c%s\",\"size\":1%s%s%s%s}", digit, &HEX[1],
		platform ? ",\"platform\":" : "", platform ? platform : "",
		name ? ",\"annotations\":{\"org.opencontainers.image.ref.name\":" : "", name ? name : "");
	if (name)
		strcat(b, "}");
	return b;
}

/* The first digit of what is picked, or the phrase. */
static void picks(const char *what, const char *want, const char *ref, const char *a, const char *b,
		  const char *c)
{
	char *json = textf("{\"schemaVersion\":2,\"manifests\":[%s%s%s%s%s]}", a ? a : "", b ? "," : "",
			   b ? b : "", c ? "," : "", c ? c : "");
	struct oci_descriptor d;
	const char *why = oci_index_pick(json, strlen(json), ref, &d);

	if (!ok(why ? !!strstr(why, want) : d.hex[0] == want[0] && !want[1], "index: %s", what))
		diag("%s", why ? why : d.hex);
	free(json);
}

static void indexes(void)
{
#define AMD64 "{\"os\":\"linux\",\"architecture\":\"amd64\"}"
#define V3    "{\"os\":\"linux\",\"architecture\":\"amd64\",\"variant\":\"v3\"}"
#define ARM64 "{\"os\":\"linux\",\"architecture\":\"arm64\"}"
	picks("the only one", "1", NULL, entry(NULL, NULL, '1'), NULL, NULL);
	picks("by platform", "2", NULL, entry(ARM64, NULL, '1'), entry(AMD64, NULL, '2'), NULL);
	picks("not the one for newer CPUs", "2", NULL, entry(V3, NULL, '1'), entry(AMD64, NULL, '2'), NULL);
	picks("by name", "2", "b", entry(NULL, "\"a\"", '1'), entry(NULL, "\"b\"", '2'), NULL);
	picks("by name and platform", "3", "a", entry(ARM64, "\"a\"", '1'), entry(AMD64, "\"b\"", '2'),
	      entry(AMD64, "\"a\"", '3'));
	picks("several names", "name one of a, b", NULL, entry(NULL, "\"a\"", '1'), entry(NULL, "\"b\"", '2'),
	      NULL);
	picks("two names of one image", "1", NULL, entry(NULL, "\"a\"", '1'), entry(NULL, "\"b\"", '1'),
	      NULL);
	picks("no such name", "it has a, b", "c", entry(NULL, "\"a\"", '1'), entry(NULL, "\"b\"", '2'), NULL);
	picks("wrong platform", "it has linux/arm64", NULL, entry(ARM64, NULL, '1'), NULL, NULL);
	picks("an attestation is no image", "1", NULL,
	      entry("{\"os\":\"unknown\",\"architecture\":\"unknown\"}", NULL, '2'), entry(AMD64, NULL, '1'),
	      NULL);
	picks("empty", "no image", NULL, NULL, NULL, NULL);
}

int main(void)
{
	names();
	sources();
	manifests();
	configs();
	indexes();
	return done();
}
