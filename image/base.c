/* SPDX-License-Identifier: ISC */
/*
 * What every program may ask for, whatever it is: the directories that are
 * always there, a minimal /etc, certificates, time zones, the C library.
 *
 * Accounts: system users of the host (uid below 1000) and nobody, so that a
 * server can give up root by name; people's accounts stay outside. Nothing
 * secret is taken: no shadow file, no /etc/ssl/private.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/collect.h"

#define MAX_TEXT (256u << 10)

/* A small text file, NUL-terminated, or "". Static: valid until the next call. */
static const char *read_text(const char *path)
{
	static char buf[MAX_TEXT];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof(buf) - 1);

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = 0;
	return buf;
}

/* Lines of passwd or group whose number (third field) is a system's. */
static void put_accounts(struct tree *t, const char *path, const char *fallback)
{
	static char out[MAX_TEXT];
	size_t n = 0;

	for (const char *line = read_text(path); *line;) {
		size_t len = strcspn(line, "\n");
		const char *f = memchr(line, ':', len), *end = line + len;
		f = f ? memchr(f + 1, ':', (size_t)(end - f - 1)) : NULL;
		unsigned long id = f ? strtoul(f + 1, NULL, 10) : 1000;
		if ((id < 1000 || id == 65534) && n + len + 1 < sizeof(out)) {
			memcpy(out + n, line, len);
			n += len;
			out[n++] = '\n';
		}
		line += len + (line[len] == '\n');
	}
	if (n)
		tree_put_file(t, path, 0644, out, n);
	else
		tree_put_file(t, path, 0644, fallback, strlen(fallback));
}

static void put_text(struct tree *t, const char *path, const char *text)
{
	tree_put_file(t, path, 0644, text, strlen(text));
}

void base_hostname(struct tree *t, const char *name)
{
	char *text;

	if (asprintf(&text,
		     "127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost ip6-localhost ip6-loopback\n%s",
		     name, read_text("/etc/hosts")) > 0) {
		put_text(t, "/etc/hosts", text);
		free(text);
	}
	if (asprintf(&text, "%s\n", name) > 0) {
		put_text(t, "/etc/hostname", text);
		free(text);
	}
}

static void put_etc(struct tree *t)
{
	static const char *const taken[] = {"/etc/services",	    "/etc/protocols",	   "/etc/mime.types",
					    "/etc/os-release",	    "/etc/debian_version", "/etc/ld.so.cache",
					    "/etc/ld.so.conf",	    "/etc/localtime",	   "/etc/timezone",
					    "/etc/ssl/openssl.cnf", "/etc/ethertypes",	   "/etc/rpc",
					    "/usr/lib/ssl",	    "/usr/bin/env",	   "/bin/sh"};

	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		tree_add(t, taken[i]);
	put_accounts(t, "/etc/passwd",
		     "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n");
	put_accounts(t, "/etc/group", "root:x:0:\nnogroup:x:65534:\n");
	put_text(t, "/etc/nsswitch.conf",
		 "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n");
	put_text(t, "/etc/resolv.conf", read_text("/etc/resolv.conf"));
	put_text(t, "/etc/host.conf", "multi on\n");
	static const char *const records[] = {"/var/log/lastlog", "/var/log/wtmp", "/run/utmp"};
	for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
		put_text(t, records[i], ""); /* of logins: a server adds to them if they are there */
	base_hostname(t, IMAGE_HOSTNAME);
}

void base_dirs(struct tree *t)
{
	static const struct {
		const char *path;
		uint32_t mode;
	} dirs[] = {{"/tmp", 01777},	{"/var/tmp", 01777}, {"/run", 0755},	   {"/run/lock", 01777},
		    {"/dev", 0755},	{"/proc", 0555},     {"/sys", 0555},	   {"/root", 0700},
		    {"/home", 0755},	{"/mnt", 0755},	     {"/opt", 0755},	   {"/srv", 0755},
		    {"/var/log", 0755}, {"/var/lib", 0755},  {"/var/cache", 0755}, {"/var/spool", 0755}};

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		tree_put_dir(t, dirs[i].path, dirs[i].mode);
	tree_put_link(t, "/var/run", "/run");
}

static void put_dirs(struct tree *t)
{
	static const char *const more[] = {"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local/bin"};

	base_dirs(t);
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
		tree_put_dir(t, more[i], 0755);
	static const char *const links[] = {"/bin", "/sbin", "/lib", "/lib64"};
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		tree_add_nofollow(t, links[i]);
}

static void take_dir(struct tree *t, const char *path, const char *const *skip)
{
	struct walk_limit lim = {APP_MAX_BYTES, APP_MAX_NODES * 4, skip, 0};
	struct node *n = tree_add(t, path);

	if (n && S_ISDIR(n->mode))
		tree_walk(t, n, &lim);
}

void base_collect(struct tree *t, struct sigs *sigs)
{
	static const char *const zone_skip[] = {"right", "posix", NULL}, *const no_skip[] = {NULL};
	static const char *const trees[] = {"/etc/ssl/certs", "/usr/share/ca-certificates",
					    "/usr/local/share/ca-certificates", "/usr/lib/locale/C.utf8",
					    "/etc/ld.so.conf.d"};
	static const char *const libs[] = {"libc.so.6",	      "libm.so.6",	     "libgcc_s.so.1",
					   "libstdc++.so.6",  "libresolv.so.2",	     "libpthread.so.0",
					   "libdl.so.2",      "librt.so.1",	     "libnss_files.so.2",
					   "libnss_dns.so.2", "ld-linux-x86-64.so.2"};
	static const char *const watched[] = {"/etc/resolv.conf",    "/etc/hosts",	"/etc/passwd",
					      "/etc/group",	     "/etc/localtime",	"/etc/ssl/certs",
					      "/usr/share/zoneinfo", "/etc/ld.so.cache"};

	put_dirs(t);
	put_etc(t);
	for (size_t i = 0; i < sizeof(trees) / sizeof(trees[0]); i++)
		take_dir(t, trees[i], no_skip);
	take_dir(t, "/usr/share/zoneinfo", zone_skip);
	for (size_t i = 0; i < sizeof(libs) / sizeof(libs[0]); i++) {
		char path[128];
		snprintf(path, sizeof(path), "/lib/x86_64-linux-gnu/%s", libs[i]);
		if (tree_add(t, path))
			sigs_add(sigs, path);
	}
	tree_add(t, "/lib64/ld-linux-x86-64.so.2");
	for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++)
		sigs_add(sigs, watched[i]);
}
