/* SPDX-License-Identifier: ISC */
/*
 * Toolchains for build steps: Debian's, else a vendor's in /usr/local, /opt or wherever PATH finds it, as long as showing its
 * directory does not show somebody's home: ~/.cargo has registry tokens beside its programs, ~/.nvm/versions/node/v20 has none.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/build/sandbox.h"
#include "lib/host/say.h"

/* Would showing this directory show somebody's home, or the system's? */
static bool too_wide(const char *prefix)
{
	static const char *const never[] = {"/",    "/home", "/root", "/etc", "/var", "/tmp",
					    "/opt", "/srv",  "/run",  "/mnt", NULL};
	const char *home = getenv("HOME");
	size_t n = strlen(prefix);

	for (const char *const *p = never; *p; p++)
		if (!strcmp(prefix, *p))
			return true;
	if (home && (!strncmp(home, prefix, n) && (home[n] == '/' || !home[n])))
		return true;
	/* /home/USER and ~/.cargo, ~/.local: settings and passwords lie beside the programs; ~/.nvm/versions/node/v20 is fine */
	size_t depth = 0;
	for (const char *p = prefix; *p; p++)
		depth += *p == '/';
	bool in_home = !strncmp(prefix, "/home/", 6) || !strncmp(prefix, "/root/", 6) ||
		       (home && home[0] == '/' && home[1] && !strncmp(prefix, home, strlen(home)));
	return in_home && depth < (!strncmp(prefix, "/root/", 6) ? 4u : 5u);
}

char *view_tool_prefix(const char *program)
{
	char path[PATH_MAX], real[PATH_MAX];
	const char *dirs = getenv("PATH");

	if (strchr(program, '/'))
		return NULL; /* of the app, or a path in /usr */
	for (const char *const *d = (const char *const[]){"/usr/bin", "/usr/local/bin", "/bin", NULL}; *d;
	     d++) {
		snprintf(path, sizeof(path), "%s/%s", *d, program);
		if (!access(path, X_OK) && realpath(path, real) && !strncmp(real, "/usr/", 5))
			return NULL;
	}
	for (const char *d = dirs; d && *d; d += strcspn(d, ":"), d += *d == ':') {
		snprintf(path, sizeof(path), "%.*s/%s", (int)strcspn(d, ":"), d, program);
		if (path[0] != '/' || access(path, X_OK) || !realpath(path, real))
			continue;
		char *slash = strstr(real, "/bin/");
		if (!slash || !strncmp(real, "/usr/", 5))
			return NULL;
		*slash = 0;
		return too_wide(real) ? NULL : strdup(real);
	}
	return NULL;
}

static bool installed(const char *package)
{
	char path[PATH_MAX];

	for (const char *const *s = (const char *const[]){".md5sums", ":amd64.md5sums", NULL}; *s; s++) {
		snprintf(path, sizeof(path), "/var/lib/dpkg/info/%s%s", package, *s);
		if (!access(path, F_OK))
			return true;
	}
	return false;
}

/* A vendor's program counts as well as the package's. */
static bool have_program(const char *package)
{
	static const struct {
		const char *package, *program;
	} of[] = {{"golang-go", "go"},
		  {"cargo", "cargo"},
		  {"rustc", "rustc"},
		  {"nodejs", "node"},
		  {"npm", "npm"},
		  {"ghc", "ghc"},
		  {"cabal-install", "cabal"},
		  {"ocaml-dune", "dune"},
		  {"ocaml", "ocamlopt"},
		  {"ocaml-nox", "ocamlopt"},
		  {"gcc", "gcc"},
		  {"make", "make"},
		  {"g++", "g++"}};

	for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
		char path[PATH_MAX];
		if (strcmp(of[i].package, package))
			continue;
		for (const char *const *d = (const char *const[]){"/usr/bin", "/usr/local/bin", NULL}; *d;
		     d++) {
			snprintf(path, sizeof(path), "%s/%s", *d, of[i].program);
			if (!access(path, X_OK))
				return true;
		}
		char *prefix = view_tool_prefix(of[i].program);
		free(prefix);
		return prefix != NULL;
	}
	return false;
}

int sandbox_check(const struct plan *p)
{
	char *missing = NULL;

	for (size_t i = 0; i < p->build_packages.n; i++) {
		const char *package = p->build_packages.v[i];
		if (installed(package) || have_program(package))
			continue;
		char *more = textf("%s%s%s", missing ? missing : "", missing ? " " : "", package);
		free(missing);
		missing = more;
	}
	if (!missing)
		return 0;
	int status = out_fail(
		EXIT_OURS,
		"To build this %s app, tools are needed that are not on this machine:\n  apt install %s",
		p->language ? p->language : "", missing);
	free(missing);
	return status;
}
