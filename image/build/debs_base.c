/* SPDX-License-Identifier: ISC */
/*
 * The base: what is in every image below its packages, made from the files of
 * essential packages alone, so that it does not depend on how the building
 * machine is set up.
 *
 *   C library (the common character sets of iconv), dash as sh, the programs of coreutils, sed and grep that
 *   entry scripts use, the C.UTF-8 locale, time zones, the certificate authorities of ca-certificates as one
 *   file, services and protocols, Debian's own system accounts.
 *
 * Coreutils rather than busybox: every Debian machine has them, so that two
 * machines build the same base, and `ls` behaves as the manual says. They
 * cost 2.5 MiB once per language, not per app.
 *
 * Names and addresses (/etc/resolv.conf, hosts, hostname) come at run time. No
 * ld.so.cache: the dynamic linker finds Debian's library directories by
 * itself, and opening a file is a function call in the guest.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/debs.h"
#include "image/collect.h"

static const char *const libc_takes[] = {"/usr/lib64/", "/usr/lib/x86_64-linux-gnu/", "/etc/ld.so.conf.d/",
					 NULL};
static const char *const libc_bin_takes[] = {"/usr/lib/locale/C.utf8/", "/etc/ld.so.conf",
					     "/etc/ld.so.conf.d/", "/usr/bin/getent", NULL};
static const char *const dash_takes[] = {"/usr/bin/dash", "/usr/bin/sh", NULL};
static const char *const sed_takes[] = {"/usr/bin/sed", NULL};
static const char *const grep_takes[] = {"/usr/bin/grep", NULL};
static const char *const base_files_takes[] = {"/usr/lib/os-release", "/etc/os-release",
					       "/etc/debian_version", NULL};
static const char *const netbase_takes[] = {"/etc/services", "/etc/protocols", NULL};
static const char *const tzdata_takes[] = {"/usr/share/zoneinfo/", NULL};
static const char *const nothing[] = {NULL};
static const char *const ca_takes[] = {"/usr/share/ca-certificates/", NULL};
static const char *const coreutils_takes[] = {"/usr/bin/[",	   "/usr/bin/base64",
					      "/usr/bin/basename", "/usr/bin/cat",
					      "/usr/bin/chmod",	   "/usr/bin/chown",
					      "/usr/bin/cp",	   "/usr/bin/cut",
					      "/usr/bin/date",	   "/usr/bin/df",
					      "/usr/bin/dirname",  "/usr/bin/du",
					      "/usr/bin/echo",	   "/usr/bin/env",
					      "/usr/bin/expr",	   "/usr/bin/false",
					      "/usr/bin/head",	   "/usr/bin/id",
					      "/usr/bin/ln",	   "/usr/bin/ls",
					      "/usr/bin/mkdir",	   "/usr/bin/mktemp",
					      "/usr/bin/mv",	   "/usr/bin/nproc",
					      "/usr/bin/od",	   "/usr/bin/printenv",
					      "/usr/bin/printf",   "/usr/bin/pwd",
					      "/usr/bin/readlink", "/usr/bin/realpath",
					      "/usr/bin/rm",	   "/usr/bin/rmdir",
					      "/usr/bin/seq",	   "/usr/bin/sha256sum",
					      "/usr/bin/sleep",	   "/usr/bin/sort",
					      "/usr/bin/stat",	   "/usr/bin/tail",
					      "/usr/bin/tee",	   "/usr/bin/test",
					      "/usr/bin/timeout",  "/usr/bin/touch",
					      "/usr/bin/tr",	   "/usr/bin/true",
					      "/usr/bin/uname",	   "/usr/bin/uniq",
					      "/usr/bin/wc",	   "/usr/bin/whoami",
					      "/usr/bin/yes",	   NULL};

const struct base_part base_parts[] = {
	{"libc6", true, libc_takes},
	{"libc-bin", false, libc_bin_takes},
	{"dash", true, dash_takes},
	{"coreutils", true, coreutils_takes},
	{"sed", true, sed_takes},
	{"grep", true, grep_takes},
	{"base-files", false, base_files_takes},
	{"base-passwd", false, nothing}, /* of its lists of accounts /etc/passwd and group are made */
	{"netbase", false, netbase_takes},
	{"tzdata", false, tzdata_takes},
	{"ca-certificates", false, ca_takes}, /* of its certificates one file is made */
	{NULL, false, NULL},
};

/* Of iconv's two hundred character sets, those that one meets; the C library has the Unicode ones inside. */
static bool gconv_wanted(const char *name)
{
	static const char *const stems[] = {
		"gconv-modules", "ISO8859-", "UTF-", "CP125", "UNICODE.", "EUC-JP.", "EUC-KR.", "EUC-CN.",
		"SJIS.",	 "KOI8-",    "GBK.", "BIG5.", "GB18030.", "libJIS.", "libKSC.", "libGB."};

	for (size_t i = 0; i < sizeof(stems) / sizeof(stems[0]); i++)
		if (!strncmp(name, stems[i], strlen(stems[i])))
			return true;
	return false;
}

bool base_wants(const char *package, const char *path)
{
	static const char gconv[] = "/usr/lib/x86_64-linux-gnu/gconv/", zones[] = "/usr/share/zoneinfo/";
	const struct base_part *b = base_parts;

	while (b->name && strcmp(b->name, package))
		b++;
	if (!b->name || !b->take)
		return true;
	if (!strncmp(path, gconv, strlen(gconv)))
		return gconv_wanted(path + strlen(gconv));
	if (!strncmp(path, zones, strlen(zones)) &&
	    (!strncmp(path + strlen(zones), "right", 5) || !strncmp(path + strlen(zones), "posix/", 6)))
		return false;
	for (const char *const *t = b->take; *t; t++) {
		size_t n = strlen(*t);
		if ((*t)[n - 1] == '/' ? !strncmp(path, *t, n) : !strcmp(path, *t))
			return true;
	}
	return false;
}

static void put_text(struct tree *t, const char *path, const char *text)
{
	tree_put_file(t, path, 0644, text, strlen(text));
}

/* --- certificate authorities ------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct node *const *)a)->name, (*(struct node *const *)b)->name);
}

/* Append each certificate of a directory of the tree, in the order of their names. */
static void add_certs(struct tree *t, const struct node *dir, FILE *f)
{
	struct node **v = calloc(dir->n_children + 1, sizeof(struct node *));
	size_t n = 0, size;
	char path[PATH_MAX];

	for (struct node *c = dir->child; c && v; c = c->sibling)
		if (S_ISDIR(c->mode) || (c->name_len > 4 && !strcmp(c->name + c->name_len - 4, ".crt")))
			v[n++] = c;
	if (n)
		qsort(v, n, sizeof(struct node *), by_name);
	for (size_t i = 0; i < n; i++) {
		if (S_ISDIR(v[i]->mode)) {
			add_certs(t, v[i], f);
			continue;
		}
		char *text = tree_path(v[i], path, sizeof(path)) ? tree_text(t, path, &size) : NULL;
		if (text)
			fprintf(f, "%s%s", text, size && text[size - 1] != '\n' ? "\n" : "");
		free(text);
	}
	free(v);
}

static int each_cert(void *arg, const char *path)
{
	size_t n = strlen(path);

	if (!strncmp(path, "/usr/share/ca-certificates/", 27) && n > 4 && !strcmp(path + n - 4, ".crt"))
		strings_add(arg, path);
	return 0;
}

/* From this machine's package: for a layer that has the base below it. */
static void add_installed_certs(struct debs *d, FILE *f)
{
	const struct deb *p = control_find(d->db, "ca-certificates", 15);
	struct strings paths = {0};
	size_t size;

	if (p && p->installed)
		dpkg_files(p, each_cert, &paths);
	strings_sort(&paths);
	for (size_t i = 0; i < paths.n; i++) {
		char *text = dpkg_slurp(paths.v[i], &size);
		if (text)
			fprintf(f, "%s\n", text);
		free(text);
	}
	strings_free(&paths);
}

char *base_authorities(struct debs *d, struct tree *t)
{
	struct node *dir = tree_find(t, "/usr/share/ca-certificates");
	char *all = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&all, &n);

	if (!f)
		return NULL;
	if (dir)
		add_certs(t, dir, f);
	else
		add_installed_certs(d, f);
	fclose(f);
	return all;
}

/* One file with all authorities of the package; a machine's own ones stay on it. OpenSSL finds it as cert.pem. */
static void put_certs(struct debs *d, struct tree *t)
{
	const struct deb *p = control_find(d->db, "ca-certificates", 15);
	struct node *dir = tree_find(t, "/usr/share/ca-certificates");
	char *all = p && dir ? base_authorities(d, t) : NULL;

	if (!all)
		return;
	if (p->mark == DEB_PART)
		dir->mode = 0; /* out again: one file is smaller than 140 */
	if (*all) {
		put_text(t, "/etc/ssl/certs/ca-certificates.crt", all);
		tree_put_link(t, "/usr/lib/ssl/certs", "/etc/ssl/certs");
		tree_put_link(t, "/usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt");
		tree_put_link(t, "/usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf");
	}
	free(all);
}

/* --- accounts ------------------------------------------------------------------------------ */

/* Debian's list of accounts, with the shell that there is, and `app`, which apps run as. */
static void put_accounts(struct tree *t, const char *path, const char *master, const char *fallback,
			 const char *app)
{
	size_t n, at = 0;
	char *text = dpkg_slurp(master, &n), *out = text ? malloc(n + strlen(app) + 1) : NULL;

	if (!out) {
		put_text(t, path, fallback);
		free(text);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (!strncmp(text + i, "/bin/bash\n", 10)) {
			at = (size_t)(stpcpy(out + at, "/bin/sh") - out);
			i += 8;
		} else {
			out[at++] = text[i];
		}
	}
	strcpy(out + at, app);
	put_text(t, path, out);
	free(out);
	free(text);
}

void base_put(struct debs *d, struct tree *t)
{
	base_dirs(t);
	tree_put_link(t, "/usr/bin/sh", "dash");
	put_accounts(t, "/etc/passwd", "/usr/share/base-passwd/passwd.master",
		     "root:*:0:0:root:/root:/bin/sh\n"
		     "www-data:*:33:33:www-data:/var/www:/usr/sbin/nologin\n"
		     "nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
		     "app:*:1000:1000:app:/app:/bin/sh\n",
		     "app:*:1000:1000:app:/app:/bin/sh\n");
	put_accounts(t, "/etc/group", "/usr/share/base-passwd/group.master",
		     "root:*:0:\nwww-data:*:33:\nnogroup:*:65534:\napp:*:1000:\n", "app:*:1000:\n");
	put_text(t, "/etc/nsswitch.conf",
		 "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n");
	put_text(t, "/etc/host.conf", "multi on\n");
	put_text(t, "/etc/timezone", "Etc/UTC\n");
	tree_put_link(t, "/etc/localtime", "/usr/share/zoneinfo/Etc/UTC");
	put_certs(d, t);
}
