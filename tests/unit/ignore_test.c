/* SPDX-License-Identifier: ISC */
/* unit-sources: lib/host/ignore.c lib/host/strings.c lib/host/say.c */
/* .slugignore and .dockerignore: patterns against paths. */
#include "lib/host/ignore.h"

#include <time.h>

#include "tests/unit/tap.h"

static void rule(char kind, const char *text, const char *rel, bool is_dir, bool want)
{
	struct strings rules = {0};

	ignore_parse(&rules, kind, text);
	ok(ignore_match(&rules, rel, is_dir) == want, "%c: %s %s", kind, rel, want ? "is left out" : "stays");
	strings_free(&rules);
}

static void slug(void)
{
	rule('s', "*.psd", "a.psd", false, true);
	rule('s', "*.psd", "deep/down/a.psd", false, true);
	rule('s', "*.psd\n", "a.psdx", false, false);
	rule('s', "# *.psd\n\n", "a.psd", false, false);
	rule('s', "/docs", "docs", true, true);
	rule('s', "/docs", "a/docs", true, false);
	rule('s', "docs/", "a/docs", true, true);
	rule('s', "docs/", "docs", false, false);
	rule('s', "a/b", "a/b", false, true);
	rule('s', "a/b", "x/a/b", false, false);
	rule('s', "a/**/b", "a/b", false, true);
	rule('s', "a/**/b", "a/x/y/b", false, true);
	rule('s', "**/b", "a/x/b", false, true);
	rule('s', "a/*", "a/x/y", false, false);
	rule('s', "*.log\n!keep.log", "x/keep.log", false, false);
	rule('s', "!keep.log\n*.log", "keep.log", false, true);
	rule('s', "file?.[ch]", "file1.c", false, true);
	rule('s', "file?.[!ch]", "file1.c", false, false);
	rule('s', "x  \r\n", "x", false, true);
	rule('s', "\\*", "*", false, true);
	rule('s', "\\*", "a", false, false);
	rule('s', "[", "[", false, true);
	rule('s', "/\n!/\n!", "a", true, false);
}

static void docker(void)
{
	rule('d', "*.psd", "a.psd", false, true);
	rule('d', "*.psd", "deep/a.psd", false, false);
	rule('d', "**/*.psd", "deep/a.psd", false, true);
	rule('d', "**/*.psd", "a.psd", false, true);
	rule('d', "docs", "docs/a/b", false, true);
	rule('d', "/docs/", "docs/a", false, true);
	rule('d', "./docs", "docs", true, true);
	rule('d', "docs\n!docs/a.md", "docs/a.md", false, false);
	rule('d', "docs\n!docs/a.md", "docs", true, false);
	rule('d', "docs\n!docs/a.md", "docs/b.md", false, true);
	rule('d', "docs\n!other", "docs", true, true);
	rule('d', "*\n!src", "src/x", false, false);
	rule('d', "*\n!src", "x", false, true);
	rule('d', "a/*/c", "a/b/c", false, true);
	rule('d', "a/*/c", "a/b/b/c", false, false);
}

static void always(void)
{
	ok(ignore_always(".git", true) && ignore_always("a/.git", true) && ignore_always(".git", false),
	   ".git");
	ok(!ignore_always(".gitignore", false) && !ignore_always("git", true), "not .gitignore");
	ok(ignore_always(".env", false) && ignore_always("x/.env.production", false), ".env");
	ok(!ignore_always(".env.example", false) && !ignore_always(".environment", false),
	   "not .env.example");
	ok(!ignore_always(".env", true), "not a directory of that name");
}

static void hard(void)
{
	struct timespec a, b;
	static char path[256];

	for (int i = 0; i < 255; i++)
		path[i] = 'a';
	clock_gettime(CLOCK_MONOTONIC, &a);
	ok(!ignore_glob("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", path), "a pattern made to take for ever");
	clock_gettime(CLOCK_MONOTONIC, &b);
	ok((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 100, "does not");
}

int main(void)
{
	slug();
	docker();
	always();
	hard();
	return done();
}
