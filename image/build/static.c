/* SPDX-License-Identifier: ISC */
/*
 * What needs no language: a static site, and a program that a Procfile names.
 *
 * Static: found by Staticfile, or by index.html where nothing else matches; served by Debian's nginx, one process. Staticfile's options
 * as its users know them: root: DIR, directory: visible, pushstate: enabled; others are named in one line and have no effect.
 * nginx reads no environment, so the port in its configuration is the one that the image is built with (8080, or PORT of
 * cowbell.toml, app.json or --env); it is published with `cowbell run -p ANY:8080`.
 *
 * Program: a process whose first word is an ELF file of the tree.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/detect.h"
#include "lib/host/say.h"

#define NGINX_CONF "/etc/cowbell/nginx.conf"

struct site {
	char root[512];
	bool listing, pushstate;
};

static const char *found_static(const struct app *a)
{
	static const char *const files[] = {"Staticfile", "index.html", "public/index.html",
					    "dist/index.html"};

	return app_first(a, files, 4);
}

static bool plain_path(const char *s)
{
	for (const char *p = s; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-_./", *p))
			return false;
	return *s && *s != '/' && !strstr(s, "..");
}

static int read_staticfile(struct app *a, struct site *site)
{
	char *text = app_read(a, "Staticfile", NULL), *rest = text;
	int status = 0, line = 0;

	for (char *p; rest && !status && (p = strsep(&rest, "\n"));) {
		char key[64], value[512] = "";
		line++;
		p[strcspn(p, "#\r")] = 0;
		if (sscanf(p, " %63[a-zA-Z_] : %511[^\n]", key, value) < 1 || !value[0])
			continue;
		for (size_t n = strlen(value); n && isspace((unsigned char)value[n - 1]);)
			value[--n] = 0;
		if (!strcmp(key, "root") && !plain_path(value))
			status = out_fail(EXIT_OURS,
					  "Staticfile, line %d: root is no directory of the app: %s", line,
					  value);
		else if (!strcmp(key, "root"))
			snprintf(site->root, sizeof(site->root), "%s", value);
		else if (!strcmp(key, "directory"))
			site->listing = !strcmp(value, "visible");
		else if (!strcmp(key, "pushstate"))
			site->pushstate = !strcmp(value, "enabled");
		else
			out_line("Staticfile: %s is not known here and has no effect", key);
	}
	free(text);
	return status;
}

static void add_config(struct app *a, const struct site *site)
{
	const char *port = strings_env(&a->plan->env, "PORT");

	strings_addf(&a->plan->add,
		     NGINX_CONF
		     "="
		     "daemon off;\nmaster_process off;\npid /tmp/nginx.pid;\nerror_log stderr;\n"
		     "events { worker_connections 512; }\n"
		     "http {\n"
		     "	include /etc/nginx/mime.types;\n	default_type application/octet-stream;\n"
		     "	access_log off;\n	server_tokens off;\n	tcp_nopush on;\n"
		     "	client_body_temp_path /tmp/body;\n	proxy_temp_path /tmp/proxy;\n"
		     "	fastcgi_temp_path /tmp/fastcgi;\n	uwsgi_temp_path /tmp/uwsgi;\n	"
		     "scgi_temp_path /tmp/scgi;\n"
		     "	server {\n		listen %s;\n		root /app/%s;\n"
		     "		index index.html index.htm;\n		port_in_redirect off;\n"
		     "		location / {\n			try_files $uri $uri/ %s;\n%s		}\n"
		     "		location ~ /\\.(?!well-known/) { return 404; }\n"
		     "	}\n}\n",
		     port ? port : "8080", !strcmp(site->root, ".") ? "" : site->root,
		     site->pushstate ? "/index.html" : "=404",
		     site->listing ? "			autoindex on;\n" : "");
}

static int fill_static(struct app *a)
{
	struct site site = {.root = "."};
	const char *port = strings_env(&a->plan->env, "PORT");

	if (!app_has(a, "index.html") && app_has(a, "public/index.html"))
		strcpy(site.root, "public");
	else if (!app_has(a, "index.html") && app_has(a, "dist/index.html"))
		strcpy(site.root, "dist");
	int status = read_staticfile(a, &site);
	if (status)
		return status;
	if (!app_has_dir(a, site.root) && strcmp(site.root, "."))
		return out_fail(EXIT_OURS, "Staticfile: root %s is not there", site.root);
	if (port && strspn(port, "0123456789") != strlen(port))
		return out_fail(EXIT_OURS, "PORT=%s is no number", port);
	if (!a->plan->runtime_packages.n)
		app_runtime(a, "nginx");
	a->plan->runtime = textf("nginx");
	app_process(a, "web", "nginx -e stderr -c " NGINX_CONF);
	add_config(a, &site);
	return 0;
}

const struct language lang_static = {
	"Static",
	"static",
	"Staticfile; or index.html, also in public/ or dist/, where nothing else matches",
	" nginx ",
	found_static,
	fill_static,
};

/* The program of a process that is an ELF file of the tree, relative, in a static buffer. */
static const char *found_program(const struct app *a)
{
	static char word[512], why[600];

	for (size_t i = 0; i < a->plan->processes.n; i++) {
		const char *type = a->plan->processes.v[i], *command = strchr(type, '=') + 1;
		if (!command_word(command, word, sizeof(word)) || !strchr(word, '/'))
			continue;
		const char *rel = !strncmp(word, "./", 2)      ? word + 2
				  : !strncmp(word, "/app/", 5) ? word + 5
							       : word;
		if (app_is_elf(a, rel)) {
			snprintf(why, sizeof(why), "%s of the Procfile", rel);
			return why;
		}
	}
	return NULL;
}

static int fill_program(struct app *a)
{
	(void)a; /* its libraries are found when the image is put together */
	return 0;
}

const struct language lang_program = {
	"Program", "program",	  "an ELF program of the tree that a Procfile names (web: ./server)",
	NULL,	   found_program, fill_program,
};
