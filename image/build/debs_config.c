/* SPDX-License-Identifier: ISC */
/*
 * What the scripts of packages make when they are installed, made again here
 * from the packages' files alone, since scripts are never run:
 *
 *   update-alternatives   of each group the alternative of the highest priority that the layer has; the
 *                         machine's own choice does not count
 *   PHP                   /etc/php/VERSION: php.ini, and the settings that load each extension
 *   Java                  the trusted authorities
 *   nginx                 the default site
 *   ld.so.conf.d          libraries in directories of their own get a link where the dynamic linker looks
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/debs.h"
#include "image/collect.h"

#define ALTERNATIVES "/var/lib/dpkg/alternatives"
#define MAX_SLAVES   64

/* --- alternatives ----------------------------------------------------------------------- */

/* The next line of a text that is being cut into lines, or NULL. */
static char *next_line(char **text)
{
	char *line = *text, *nl;

	if (!line)
		return NULL;
	nl = strchr(line, '\n');
	*text = nl ? nl + 1 : NULL;
	if (nl)
		*nl = 0;
	return *line || nl ? line : NULL;
}

static void put_alternative(struct tree *t, const char *name, const char *link, const char *path)
{
	char at[PATH_MAX], to[PATH_MAX], etc[PATH_MAX];

	if (*link != '/' || !merged_path(link, at, sizeof(at)) || !merged_path(path, to, sizeof(to)) ||
	    dpkg_is_bulk(NULL, at) || !tree_find(t, to) || strchr(name, '/') ||
	    snprintf(etc, sizeof(etc), "/etc/alternatives/%s", name) >= (int)sizeof(etc))
		return;
	tree_put_link(t, at, etc);
	tree_put_link(t, etc, to);
}

/*
 * dpkg's record of a group: "auto" or "manual"; the link; name and link of each slave; an empty line; then for
 * each alternative its path, its priority and the path of each slave (empty: has none); an empty line ends.
 */
static void take_group(struct tree *t, const char *name, char *text)
{
	char *slave[MAX_SLAVES][2], *best = NULL, *best_slaves[MAX_SLAVES], *path, *line;
	int n_slaves = 0;
	long best_priority = 0;

	next_line(&text);
	char *link = next_line(&text);
	while ((line = next_line(&text)) && *line && n_slaves < MAX_SLAVES) {
		slave[n_slaves][0] = line;
		slave[n_slaves][1] = next_line(&text);
		if (!slave[n_slaves++][1])
			return;
	}
	while (link && (path = next_line(&text)) && *path) {
		char buf[PATH_MAX], *slaves[MAX_SLAVES];
		char *priority = next_line(&text);
		for (int i = 0; i < n_slaves; i++)
			slaves[i] = next_line(&text);
		if (!priority || !merged_path(path, buf, sizeof(buf)) || !tree_find(t, buf))
			continue;
		if (best && strtol(priority, NULL, 10) <= best_priority)
			continue;
		best = path;
		best_priority = strtol(priority, NULL, 10);
		memcpy(best_slaves, slaves, sizeof(slaves));
	}
	if (!best)
		return;
	put_alternative(t, name, link, best);
	for (int i = 0; i < n_slaves; i++)
		if (best_slaves[i] && *best_slaves[i])
			put_alternative(t, slave[i][0], slave[i][1], best_slaves[i]);
}

static int not_dot(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static void put_alternatives(struct tree *t)
{
	struct dirent **v;
	int n = scandir(ALTERNATIVES, &v, not_dot, alphasort);

	for (int i = 0; i < n; i++) {
		char path[PATH_MAX];
		size_t size;
		snprintf(path, sizeof(path), ALTERNATIVES "/%s", v[i]->d_name);
		char *text = dpkg_slurp(path, &size);
		if (text)
			take_group(t, v[i]->d_name, text);
		free(text);
		free(v[i]);
	}
	if (n >= 0)
		free(v);
}

/* --- alternatives that a script would register ------------------------------------------------ */

struct words {
	char *v[64];
	int n;
};

/* Words of a command up to its end. False: it has something that only a shell knows. */
static bool read_words(char **pp, struct words *w)
{
	char *p = *pp;
	bool plain = true;

	for (w->n = 0;;) {
		p += strspn(p, " \t");
		if (*p == '\\' && p[1] == '\n') {
			p += 2;
			continue;
		}
		if (!*p || strchr("\n;&|", *p))
			break;
		size_t n = strcspn(p, " \t\n;&|");
		char end = p[n];
		plain &= strcspn(p, "$`\"'\\*?(){}<>") >= n && w->n < 64;
		if (w->n < 64)
			w->v[w->n++] = p;
		p[n] = 0;
		p += n;
		if (!end)
			break;
		if (strchr("\n;&|", end)) {
			p++;
			break;
		}
		p++;
	}
	*pp = p;
	return plain;
}

/* update-alternatives --install LINK NAME PATH PRIORITY [--slave LINK NAME PATH]... */
static void take_command(struct tree *t, const struct words *w)
{
	for (int i = 0; i < w->n; i++) {
		if (!strcmp(w->v[i], "--install") && i + 4 < w->n) {
			char etc[PATH_MAX];
			snprintf(etc, sizeof(etc), "/etc/alternatives/%s", w->v[i + 2]);
			if (tree_find(t, etc))
				return; /* of an installed package, or of an earlier one: packages come in order */
			put_alternative(t, w->v[i + 2], w->v[i + 1], w->v[i + 3]);
		} else if (!strcmp(w->v[i], "--slave") && i + 3 < w->n) {
			put_alternative(t, w->v[i + 2], w->v[i + 1], w->v[i + 3]);
		}
	}
}

static void read_script(struct tree *t, char *text)
{
	static const char command[] = "update-alternatives";
	struct words w;

	while ((text = strstr(text, command))) {
		text += strlen(command);
		if (read_words(&text, &w))
			take_command(t, &w);
	}
}

/* --- PHP ---------------------------------------------------------------------------------- */

/* Debian's packages say "; priority=20" in an extension's settings. */
static int ini_priority(const char *text)
{
	const char *p = strstr(text, "priority=");
	int n = p ? atoi(p + 9) : 20;

	return n >= 0 && n < 100 ? n : 20;
}

static void put_copy(struct tree *t, const char *to, const char *from)
{
	size_t n;
	char *text = tree_text(t, from, &n);

	if (text)
		tree_put_file(t, to, 0644, text, n);
	free(text);
}

static void put_php_ini(struct tree *t, const char *version, const char *file, const char *path)
{
	static const char *const sapis[] = {"cli", "cgi", "fpm"};
	char to[PATH_MAX], link[PATH_MAX], binary[PATH_MAX];
	size_t n, stem = strlen(file) - 4;
	char *text = tree_text(t, path, &n);

	if (!text)
		return;
	snprintf(to, sizeof(to), "/etc/php/%s/mods-available/%s", version, file);
	tree_put_file(t, to, 0644, text, n);
	for (size_t i = 0; i < sizeof(sapis) / sizeof(sapis[0]); i++) {
		snprintf(binary, sizeof(binary), "/usr/lib/php/%s/sapi/%s", version, sapis[i]);
		if (!tree_find(t, binary))
			continue;
		snprintf(link, sizeof(link), "/etc/php/%s/%s/conf.d/%02d-%.*s.ini", version, sapis[i],
			 ini_priority(text), (int)stem, file);
		tree_put_link(t, link, to);
	}
	free(text);
}

/* Everything below /usr/share/phpVERSION-PACKAGE/EXTENSION/ that ends in .ini. */
static void put_php_extensions(struct tree *t, const char *version, const struct node *dir)
{
	for (const struct node *sub = dir->child; sub; sub = sub->sibling)
		for (const struct node *f = sub->child; f; f = f->sibling) {
			char path[PATH_MAX];
			if (S_ISREG(f->mode) && f->name_len > 4 &&
			    !strcmp(f->name + f->name_len - 4, ".ini") && tree_path(f, path, sizeof(path)))
				put_php_ini(t, version, f->name, path);
		}
}

static void put_php(struct tree *t)
{
	static const char *const inis[][2] = {{"cli", "php.ini-production.cli"},
					      {"cgi", "php.ini-production"},
					      {"fpm", "php.ini-production"}};
	struct node *share = tree_find(t, "/usr/share");
	char version[16], from[128], to[128];

	for (struct node *n = share ? share->child : NULL; n; n = n->sibling) {
		size_t len = strspn(n->name + (n->name_len > 3 ? 3 : 0), "0123456789.");
		if (strncmp(n->name, "php", 3) || !len || len >= sizeof(version) || n->name[3 + len] != '-')
			continue;
		snprintf(version, sizeof(version), "%.*s", (int)len, n->name + 3);
		put_php_extensions(t, version, n);
		for (size_t i = 0; i < sizeof(inis) / sizeof(inis[0]); i++) {
			snprintf(from, sizeof(from), "/usr/lib/php/%s/sapi/%s", version, inis[i][0]);
			if (!tree_find(t, from))
				continue;
			snprintf(from, sizeof(from), "/usr/lib/php/%s/%s", version, inis[i][1]);
			snprintf(to, sizeof(to), "/etc/php/%s/%s/php.ini", version, inis[i][0]);
			put_copy(t, to, from);
		}
	}
}

/* --- Java, nginx, libraries ------------------------------------------------------------------ */

static void put_java(struct debs *d, struct tree *t)
{
	struct node *jvm = tree_find(t, "/usr/lib/jvm");
	char path[PATH_MAX];
	bool java = false;

	for (struct node *n = jvm ? jvm->child : NULL; n; n = n->sibling) {
		snprintf(path, sizeof(path), "/usr/lib/jvm/%s/lib/server/libjvm.so", n->name);
		java |= tree_find(t, path) != NULL;
	}
	if (java)
		java_put_authorities(d, t);
}

/* npm replaces itself in place, so its package's list says little. */
static void put_npm(struct tree *t)
{
	const struct walk_limit lim = {1ull << 30, 200000, runtime_skip_names, 0};
	struct node *npm = tree_find(t, "/usr/lib/node_modules/npm");

	if (npm && S_ISDIR(npm->mode) && npm->ino)
		tree_walk(t, npm, &lim);
}

static void put_nginx(struct tree *t)
{
	if (tree_find(t, "/etc/nginx/sites-available/default"))
		tree_put_link(t, "/etc/nginx/sites-enabled/default", "/etc/nginx/sites-available/default");
	if (tree_find(t, "/usr/share/nginx/html/index.html"))
		put_copy(t, "/var/www/html/index.nginx-debian.html", "/usr/share/nginx/html/index.html");
}

/* A library in a directory that only ld.so.cache would lead to. */
static void link_libraries(struct tree *t, const char *dir)
{
	struct node *d = tree_find(t, dir);
	char link[PATH_MAX], target[PATH_MAX];

	for (struct node *n = d && S_ISDIR(d->mode) ? d->child : NULL; n; n = n->sibling) {
		if (S_ISDIR(n->mode) || !strstr(n->name, ".so") ||
		    snprintf(link, sizeof(link), "/usr/lib/x86_64-linux-gnu/%s", n->name) >=
			    (int)sizeof(link) ||
		    snprintf(target, sizeof(target), "%s/%s", dir, n->name) >= (int)sizeof(target))
			continue;
		if (!tree_find(t, link))
			tree_put_link(t, link, target);
	}
}

static void put_libraries(struct tree *t)
{
	static const char *const known[] = {"/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64"};
	struct node *conf = tree_find(t, "/etc/ld.so.conf.d");
	char path[PATH_MAX], dir[PATH_MAX];
	size_t n;

	for (struct node *f = conf ? conf->child : NULL; f; f = f->sibling) {
		char *text = tree_path(f, path, sizeof(path)) ? tree_text(t, path, &n) : NULL;
		char *rest = text, *line;
		while ((line = next_line(&rest))) {
			bool is_known = *line != '/' || !merged_path(line, dir, sizeof(dir));
			for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && !is_known; i++)
				is_known = !strcmp(dir, known[i]);
			if (!is_known)
				link_libraries(t, dir);
		}
		free(text);
	}
}

void config_put(struct debs *d, struct tree *t)
{
	put_alternatives(t);
	for (size_t i = 0; i < d->scripts.n; i++)
		read_script(t, d->scripts.v[i]);
	put_npm(t);
	put_php(t);
	put_java(d, t);
	put_nginx(t);
	put_libraries(t);
}
