/* SPDX-License-Identifier: ISC */
/*
 * PHP. Found by composer.json or index.php (also in public/ or web/); runs with Debian's php-cli and PHP's own web server.
 * Libraries of composer.json must be vendored (vendor/VENDOR/NAME); extensions ("ext-NAME") come from php-NAME.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/detect.h"
#include "lib/host/say.h"

static const char *found(const struct app *a)
{
	static const char *const files[] = {"composer.json", "index.php", "public/index.php",
					    "web/index.php"};

	return app_first(a, files, 4);
}

static bool built_in(const char *ext)
{
	static const char *const names[] = {
		"core",	   "ctype", "date",	"fileinfo",  "filter",	   "ftp",      "hash",
		"iconv",   "json",  "libxml",	"openssl",   "pcntl",	   "pcre",     "pdo",
		"phar",	   "posix", "random",	"readline",  "reflection", "session",  "sockets",
		"sodium",  "spl",   "standard", "tokenizer", "zlib",	   "calendar", "exif",
		"gettext", "ffi",   "sysvmsg",	"sysvsem",   "sysvshm",	   "opcache"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(names[i], ext))
			return true;
	return false;
}

static bool plain_name(const char *s)
{
	return *s &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-./ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(s) &&
	       !strstr(s, "..");
}

static void require(struct app *a, const char *name)
{
	struct need *n;
	char *advice;

	if (!plain_name(name) || !strncmp(name, "php", 3))
		return;
	if (!strncmp(name, "ext-", 4)) {
		if (built_in(name + 4))
			return;
		advice = textf("add php-%s to Aptfile", name + 4);
		n = app_need(a, "composer.json", name, advice);
		need_path(n, "/usr/lib/php/*/%s.so", name + 4);
	} else {
		char *dir = textf("vendor/%s", name);
		bool there = app_has_dir(a, dir);
		free(dir);
		if (there || !strchr(name, '/'))
			return;
		advice = textf("vendor it (composer install --no-dev, and keep vendor/)");
		app_need(a, "composer.json", name, advice);
	}
	free(advice);
}

static int fill(struct app *a)
{
	int status;
	json_t *o = app_json(a, "composer.json", &status), *v;
	const char *key, *root = app_has(a, "public/index.php") ? "public"
				 : app_has(a, "web/index.php")	? "web"
								: ".";

	if (status)
		return status;
	json_object_foreach(json_object_get(o, "require"), key, v)
	{
		require(a, key);
	}
	json_decref(o);
	if (!a->plan->runtime_packages.n)
		app_runtime(a, "php-cli");
	a->plan->runtime = textf("php");
	app_link(a, "php=/usr/bin/php8.2 /usr/bin/php8.4 /usr/bin/php8.3 /usr/bin/php8.5");
	if (app_has(a, "index.php") || strcmp(root, ".")) {
		/* a framework's front controller also answers paths that are no files */
		char *command = textf("php -S 0.0.0.0:$PORT -t %s", root);
		app_process(a, "web", command);
		free(command);
	}
	return 0;
}

const struct language lang_php = {"PHP",   "php", "composer.json, index.php, public/index.php",
				  " php ", found, fill};
