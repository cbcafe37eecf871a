/* SPDX-License-Identifier: ISC */
/*
 * Ruby. Found by Gemfile or config.ru; runs with Debian's ruby. Gems that Gemfile names must be vendored by
 * `bundle install --path vendor/bundle` or come from a Debian package. Gemfile is Ruby; it is not run here but
 * its `gem "NAME"` lines are read, those in a group of development or test left out.
 *
 * Default process: `rails server` for Rails, rackup for config.ru, else app.rb, server.rb or main.rb.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/detect.h"
#include "lib/host/say.h"

static const char *found(const struct app *a)
{
	static const char *const files[] = {"Gemfile", "config.ru"};

	return app_first(a, files, 2);
}

/* vendor/bundle/ruby/VERSION, malloc, or NULL. */
static char *bundle_dir(const struct app *a)
{
	static const char *const tops[] = {"vendor/bundle/ruby", "vendor/ruby"};

	for (size_t i = 0; i < 2; i++) {
		char *version = app_glob(a, tops[i], "[0-9]*", false);
		char *dir = version ? textf("%s/%s", tops[i], version) : NULL;
		free(version);
		if (dir)
			return dir;
	}
	return NULL;
}

static void require(struct app *a, const char *bundle, const char *name)
{
	char *dir = textf("%s/gems", bundle ? bundle : "vendor"), *pattern = textf("%s-[0-9]*", name);
	char *hit = app_glob(a, dir, pattern, false);

	free(dir);
	free(pattern);
	free(hit);
	if (hit)
		return;
	char *deb = textf("%s", name);
	for (char *p = deb; *p; p++)
		*p = *p == '_' ? '-' : (char)tolower((unsigned char)*p);
	char *advice = textf("vendor it (bundle config set --local path vendor/bundle; bundle install) or "
			     "add %s%s to Aptfile",
			     !strncmp(deb, "ruby-", 5) || !strcmp(deb, "rake") || !strcmp(deb, "puma") ||
					     !strcmp(deb, "rails")
				     ? ""
				     : "ruby-",
			     deb);
	struct need *n = app_need(a, "Gemfile", name, advice);
	need_path(n, "/usr/share/rubygems-integration/*/specifications/%s-[0-9]*.gemspec", name);
	need_path(n, "/usr/lib/*/rubygems-integration/*/specifications/%s-[0-9]*.gemspec", name);
	need_path(n, "/usr/lib/ruby/gems/*/specifications/%s-[0-9]*.gemspec", name);
	need_path(n, "/usr/lib/ruby/gems/*/specifications/default/%s-[0-9]*.gemspec", name);
	free(advice);
	free(deb);
}

/* `gem 'sinatra', '~> 3'` outside of development and test groups. */
static void read_gemfile(struct app *a, const char *bundle)
{
	char *text = app_read(a, "Gemfile", NULL), *rest = text;
	int skipping = 0; /* depth of blocks in a group that is left out */

	for (char *p; rest && (p = strsep(&rest, "\n"));) {
		char name[128];
		p += strspn(p, " \t");
		size_t n = strlen(p);
		bool opens = strstr(p, " do") && (!strncmp(p, "group", 5) || skipping);
		if (opens && (skipping || strstr(p, ":test") || strstr(p, ":development")) &&
		    !strstr(p, ":production"))
			skipping++;
		else if (skipping && !strncmp(p, "end", 3))
			skipping--;
		if (skipping || n < 6 || strncmp(p, "gem", 3) || !strchr(" \t(", p[3]))
			continue;
		if (strstr(p, ":development") || strstr(p, ":test"))
			continue;
		p += 3 + strspn(p + 3, " \t(");
		if (sscanf(p, "%*1['\"]%127[A-Za-z0-9_.-]", name) == 1)
			require(a, bundle, name);
	}
	free(text);
}

static void default_process(struct app *a)
{
	static const char *const files[] = {"app.rb", "server.rb", "main.rb"};
	const char *file = app_first(a, files, 3);

	if (app_has(a, "bin/rails")) {
		app_process(a, "web", "ruby bin/rails server -b 0.0.0.0 -p $PORT");
	} else if (app_has(a, "config.ru")) {
		app_process(a, "web", "rackup config.ru -E production -o 0.0.0.0 -p $PORT");
		if (!a->said_processes) {
			strings_add_once(&a->plan->packages, "ruby-rack");
			strings_add_once(&a->plan->packages, "ruby-webrick");
		}
	} else if (file) {
		char *command = textf("ruby %s", file);
		app_process(a, "web", command);
		free(command);
	}
}

static int fill(struct app *a)
{
	char *bundle = bundle_dir(a);

	if (!a->plan->runtime_packages.n)
		app_runtime(a, "ruby");
	a->plan->runtime = textf("ruby");
	read_gemfile(a, bundle);
	default_process(a);
	if (bundle) {
		/* the colon at the end keeps Debian's own directories */
		char *gems = textf("GEM_PATH=/app/%s:", bundle),
		     *path = textf("PATH=/app/%s/bin:" USUAL_PATH, bundle);
		app_env(a, gems);
		app_env(a, path);
		free(gems);
		free(path);
	}
	app_env(a, "RACK_ENV=production");
	strings_add(&a->plan->drop, "vendor/cache");
	free(bundle);
	return 0;
}

const struct language lang_ruby = {
	"Ruby", "ruby", "Gemfile, config.ru", " ruby rackup bundle rails rake puma ", found, fill,
};
