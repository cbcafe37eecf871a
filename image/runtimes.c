/* SPDX-License-Identifier: ISC */
/*
 * What interpreters read beyond the packages that own them.
 *
 * A Debian interpreter finds modules of other packages in well-known places;
 * an app may import any of them, so all of those belong to its runtime layer.
 * An interpreter that was installed by hand or by a version manager brings a
 * prefix of its own: PREFIX/bin/X needs PREFIX/lib. A prefix of its own is
 * taken whole; of a shared one (/usr/local, ~/.local) only what is called
 * like the program.
 */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/collect.h"

/* Names that are never part of what a program reads at work. */
const char *const runtime_skip_names[] = {
	".git",	   "include", "man",  "doc",	 "info", "pkgconfig", "config-3.11-x86_64-linux-gnu",
	"gtk-doc", "src.zip", "demo", "aclocal", NULL};

struct runtime {
	const char *stem; /* program names that begin with this */
	const char *dirs[12];
};

static const struct runtime runtimes[] = {
	{"python3",
	 {"/usr/lib/python3", "/usr/lib/python3.11", "/usr/local/lib/python3.11", "/etc/python3.11",
	  "/usr/share/python3", "/usr/share/python-wheels"}},
	{"node",
	 {"/usr/share/nodejs", "/usr/lib/nodejs", "/usr/lib/x86_64-linux-gnu/nodejs", "/usr/lib/node_modules",
	  "/usr/share/node_modules", "/usr/local/lib/node_modules"}},
	{"perl",
	 {"/usr/share/perl5", "/usr/share/perl", "/usr/lib/x86_64-linux-gnu/perl5",
	  "/usr/lib/x86_64-linux-gnu/perl", "/usr/lib/x86_64-linux-gnu/perl-base", "/usr/local/share/perl",
	  "/usr/local/lib/x86_64-linux-gnu/perl", "/etc/perl"}},
	{"ruby",
	 {"/usr/lib/ruby", "/var/lib/gems", "/usr/share/rubygems-integration",
	  "/usr/lib/x86_64-linux-gnu/ruby", "/usr/share/ruby-rubygems", "/usr/local/lib/ruby",
	  "/usr/local/lib/site_ruby"}},
	{"php", {"/usr/lib/php", "/etc/php", "/usr/share/php"}},
	{"java", {"/etc/java-17-openjdk", "/etc/ssl/certs/java", "/usr/share/java"}},
	{"lua",
	 {"/usr/share/lua", "/usr/lib/x86_64-linux-gnu/lua", "/usr/local/share/lua", "/usr/local/lib/lua"}},
	{"nginx", {"/etc/nginx", "/usr/share/nginx", "/usr/lib/nginx", "/var/www", "/var/lib/nginx"}},
	{"redis", {"/etc/redis", "/var/lib/redis"}},
	{"tclsh", {"/usr/share/tcltk", "/usr/lib/tcltk"}},
	{"guile", {"/usr/share/guile", "/usr/lib/x86_64-linux-gnu/guile"}},
};

/* Length of a program's name without its version: python3.11 -> 6. */
static size_t stem_length(const char *name)
{
	size_t n = strlen(name);

	while (n && (isdigit((unsigned char)name[n - 1]) || strchr(".-", name[n - 1])))
		n--;
	return n;
}

static void each_if_there(const char *dir, void (*each)(void *, const char *), void *arg)
{
	if (!access(dir, R_OK | X_OK))
		each(arg, dir);
}

/* Entries of PREFIX/lib and PREFIX/share that are called like the program. */
static void shared_prefix(const char *prefix, const char *name, void (*each)(void *, const char *), void *arg)
{
	static const char *const subs[] = {"lib", "share", "etc", "libexec"};
	size_t stem = stem_length(name);

	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]) && stem; i++) {
		char path[PATH_MAX], sub[PATH_MAX];
		struct dirent *e;
		if (snprintf(path, sizeof(path), "%s/%s", prefix, subs[i]) >= (int)sizeof(path))
			return;
		DIR *d = opendir(path);
		while (d && (e = readdir(d)))
			if (!strncmp(e->d_name, name, stem) &&
			    snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name) < (int)sizeof(sub))
				each_if_there(sub, each, arg);
		if (d)
			closedir(d);
	}
}

static bool is_shared(const char *prefix)
{
	const char *home = getenv("HOME");
	size_t n = home ? strlen(home) : 0;

	if (!*prefix || !strcmp(prefix, "/usr/local") || !strcmp(prefix, "/opt"))
		return true;
	return n && !strncmp(prefix, home, n) && (!prefix[n] || !strcmp(prefix + n, "/.local"));
}

/* A bin directory alone is somebody's collection of programs, not an installation. */
static bool has_lib(const char *prefix)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/lib", prefix) < (int)sizeof(path) &&
	       !access(path, R_OK | X_OK);
}

void runtime_roots(const char *real_path, void (*each)(void *arg, const char *dir), void *arg)
{
	const char *name = strrchr(real_path, '/');
	char prefix[PATH_MAX];

	if (!name)
		return;
	size_t dir_len = (size_t)(name - real_path);
	name++;
	/* One in /opt or a home directory does not look into the packages' directories. */
	bool system = !strncmp(real_path, "/usr/", 5) || !strncmp(real_path, "/bin/", 5);
	for (size_t i = 0; i < sizeof(runtimes) / sizeof(runtimes[0]) && system; i++)
		if (!strncmp(name, runtimes[i].stem, strlen(runtimes[i].stem)))
			for (const char *const *d = runtimes[i].dirs; *d; d++)
				each_if_there(*d, each, arg);
	if (dir_len < 4 || strncmp(real_path + dir_len - 4, "/bin", 4))
		return;
	snprintf(prefix, sizeof(prefix), "%.*s", (int)dir_len - 4, real_path);
	if (!strcmp(prefix, "/usr") || !strcmp(prefix, ""))
		return; /* the packages' part */
	if (is_shared(prefix))
		shared_prefix(prefix, name, each, arg);
	else if (has_lib(prefix))
		each_if_there(prefix, each, arg);
}
