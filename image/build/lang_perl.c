/* SPDX-License-Identifier: ISC */
/*
 * Perl. Found by cpanfile or app.psgi; runs with Debian's perl. Modules that cpanfile requires must be vendored
 * (local/lib/perl5 of `cpanm -L local`, lib/) or come from a Debian package. Default process: plackup for app.psgi, else
 * app.pl.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/detect.h"
#include "lib/host/say.h"

static const char *found(const struct app *a)
{
	static const char *const files[] = {"cpanfile", "app.psgi"};

	return app_first(a, files, 2);
}

static void require(struct app *a, const char *file, const char *module)
{
	static const char *const trees[] = {"local/lib/perl5", "lib", "vendor/lib/perl5", "vendor"};
	char path[256], deb[128];
	size_t n = 0, d = 0;

	for (const char *p = module; *p && n < sizeof(path) - 2 && d < sizeof(deb) - 2; p++) {
		if (*p == ':') {
			p += p[1] == ':';
			path[n++] = '/';
			deb[d++] = '-';
		} else {
			path[n++] = *p;
			deb[d++] = (char)tolower((unsigned char)*p);
		}
	}
	path[n] = deb[d] = 0;
	for (size_t i = 0; i < sizeof(trees) / sizeof(trees[0]); i++) {
		char *full = textf("%s/%s.pm", trees[i], path);
		bool there = app_has(a, full);
		free(full);
		if (there)
			return;
	}
	char *advice = textf("vendor it (cpanm -L local %s) or add lib%s-perl to Aptfile", module, deb);
	struct need *need = app_need(a, file, module, advice);
	need_path(need, "/usr/share/perl5/%s.pm", path);
	need_path(need, "/usr/lib/*/perl5/*/%s.pm", path);
	need_path(need, "/usr/share/perl/*/%s.pm", path);
	need_path(need, "/usr/lib/*/perl/*/%s.pm", path);
	need_path(need, "/usr/lib/*/perl-base/%s.pm", path);
	free(advice);
}

/* `requires 'Plack', '1.0';` outside of `on 'test' => sub { ... };` */
static void read_cpanfile(struct app *a)
{
	char *text = app_read(a, "cpanfile", NULL), *rest = text;
	bool skipping = false;

	for (char *p; rest && (p = strsep(&rest, "\n"));) {
		char name[128];
		p += strspn(p, " \t");
		if (!strncmp(p, "on ", 3))
			skipping = strstr(p, "test") || strstr(p, "develop") || strstr(p, "build") ||
				   strstr(p, "configure");
		else if (*p == '}')
			skipping = false;
		if (!skipping && sscanf(p, "requires%*[ \t(]%*1['\"]%127[A-Za-z0-9_:]", name) == 1 &&
		    strcmp(name, "perl"))
			require(a, "cpanfile", name);
	}
	free(text);
}

static int fill(struct app *a)
{
	if (!a->plan->runtime_packages.n)
		app_runtime(a, "perl");
	a->plan->runtime = textf("perl");
	read_cpanfile(a);
	if (app_has(a, "app.psgi")) {
		app_process(a, "web", "plackup -E deployment -o 0.0.0.0 -p $PORT app.psgi");
		if (!a->said_processes && !app_has(a, "local/bin/plackup"))
			strings_add_once(&a->plan->packages, "libplack-perl");
	} else if (app_has(a, "app.pl")) {
		app_process(a, "web", "perl app.pl");
	}
	if (app_has_dir(a, "local/lib/perl5"))
		app_env(a, "PERL5LIB=/app/local/lib/perl5:/app/lib");
	else if (app_has_dir(a, "lib"))
		app_env(a, "PERL5LIB=/app/lib");
	if (app_has_dir(a, "local/bin"))
		app_env(a, "PATH=/app/local/bin:" USUAL_PATH);
	app_env(a, "PLACK_ENV=deployment");
	return 0;
}

const struct language lang_perl = {"Perl", "perl", "cpanfile, app.psgi", " perl plackup starman ",
				   found,  fill};
