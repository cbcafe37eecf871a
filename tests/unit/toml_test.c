/* SPDX-License-Identifier: ISC */
/* unit-sources: lib/host/toml.c */
/* The TOML reader: what is read, what is refused and with which line. */
#include "lib/host/toml.h"

#include <string.h>

#include "tests/unit/tap.h"

static void has(const char *text, const char *path, const char *value)
{
	struct toml t;
	bool good = toml_parse(text, strlen(text), &t);
	const struct toml_entry *e = good ? toml_find(&t, path) : NULL;

	if (!ok(e && !strcmp(e->value, value), "%s is '%s'", path, value))
		diag("%s; got %s", t.error, e ? e->value : "nothing");
	toml_free(&t);
}

static void bad(const char *text, const char *error)
{
	struct toml t;
	bool good = toml_parse(text, strlen(text), &t);

	if (!ok(!good && !strncmp(t.error, error, strlen(error)), "refused: %s", error))
		diag("%s", good ? "taken" : t.error);
	toml_free(&t);
}

static void values(void)
{
	has("a = \"b\"", "a", "b");
	has("a = 'c:\\x' # comment", "a", "c:\\x");
	has("\"quoted key\" = 1", "quoted key", "1");
	has("a.b . c = 1_000", "a/b/c", "1000");
	has("a = +7", "a", "7");
	has("a = -7", "a", "-7");
	has("a = 1.5e3", "a", "1.5e3");
	has("a = 1979-05-27 07:32:00Z\nb = 2", "b", "2");
	has("a = true", "a", "true");
	has("a = \"\\u00e4\\U0001F600\\t\\\"\"", "a", "\xc3\xa4\xf0\x9f\x98\x80\t\"");
	has("a = \"\"\"\nx\\\n   y\"\"\"\"\n", "a", "xy\"");
	has("a = '''\nx\n'''", "a", "x\n");
	has("a = [1, \"two\", [3],\n # comment\n]\n", "a/1", "two");
	has("a = {b = 1, c.d = 'x'}", "a/c/d", "x");
	has("[a.b]\nc = 1\n[d]\nc = 2\n", "a/b/c", "1");
	has("[a.b]\nc = 1\n[a]\nd = 2\n", "a/d", "2");
	has("[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 3", "a/1/b", "2");
	has("[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 3", "a/1/c/d", "3");
	has("\xef\xbb\xbf"
	    "a = 1\r\nb = 2\r\n",
	    "b", "2");
}

static void refusals(void)
{
	bad("a = 1\na = 2", "line 2: a key that is there already");
	bad("[a]\nb = 1\n[a]", "line 3: a table that is there already");
	bad("a = 1\n[a]", "line 2: a table that is there already");
	bad("a = {b = 1}\n[a.c]\n", "line 2: a table's name leads through a value");
	bad("\n\na", "line 3: no '=' after a key");
	bad("a = b", "line 1: no value where one should be (text needs quotes)");
	bad("a = \"x", "line 1: a string that does not end");
	bad("a = \"x\ny\"", "line 1: a string that does not end");
	bad("a = \"\\q\"", "line 1: unknown escape");
	bad("a = \"\\ud800\"", "line 1: \\u names no character");
	bad("a = [1, 2", "line 1: an array that does not end");
	bad("a = {b = 1\n}", "line 1: an inline table that does not end");
	bad("a = 1 b = 2", "line 1: 'b' where the line should end");
	bad("[a\nb = 1", "line 1: a table's name that does not end");
	bad("= 1", "line 1: no key where one should be");
	bad("a = [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", "line 1: values nested more than 16 deep");
	bad("a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = 1", "line 1: a key that is too long or too deep");
	bad("a = 1\x01", "line 1: '?' where the line should end");
}

static void listing(void)
{
	static const char text[] = "x = 1\n[p]\nweb = \"a\"\nworker = \"b\"\n[p.sub]\nz = 1\n[q]\n";
	struct toml t;
	const char *key;
	size_t at = 0;

	ok(toml_parse(text, sizeof(text) - 1, &t), "a file of tables");
	ok(toml_next(&t, "p", &at, &key) && !strcmp(key, "web"), "first of a table");
	ok(toml_next(&t, "p", &at, &key) && !strcmp(key, "worker"), "second, in the file's order");
	ok(toml_next(&t, "p", &at, &key) && !strcmp(key, "sub"), "a table in it");
	ok(!toml_next(&t, "p", &at, &key), "nothing of deeper ones or of other tables");
	toml_free(&t);
	char nul[] = "a = 1\0";
	ok(!toml_parse(nul, sizeof(nul), &t), "a NUL byte is refused");
	toml_free(&t);
}

int main(void)
{
	values();
	refusals();
	listing();
	return done();
}
