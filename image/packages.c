/* SPDX-License-Identifier: ISC */
/*
 * Which package owns a file, and which files a package needs.
 *
 * Reads dpkg's own files: status (one paragraph per package) and
 * info/PACKAGE.list (one path per line). No dpkg process: one owner lookup
 * reads all lists once, some 10 MB, in about 10 ms.
 *
 * The dependency closure follows Depends and Pre-Depends, not Recommends. It
 * does not follow into what makes a system bootable or manageable (required
 * packages, maintainer script helpers, services), since a single program
 * needs none of that; libraries those would have brought come by the ELF
 * closure of the files that are taken.
 */
#include "image/packages.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE (256u << 20)

/* Marks of the closure. */
enum { DONE = 1 };

struct dpkg {
	struct control db;
	char *owner; /* the last answer */
};

char *dpkg_slurp(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *buf = NULL;
	size_t n = 0;

	if (fd < 0)
		return NULL;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size < MAX_FILE)
		buf = malloc((size_t)st.st_size + 1);
	while (buf && n < (size_t)st.st_size) {
		ssize_t r = read(fd, buf + n, (size_t)st.st_size - n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	close(fd);
	if (buf)
		buf[n] = 0;
	*size = n;
	return buf;
}

struct dpkg *dpkg_open(void)
{
	struct dpkg *d = calloc(1, sizeof(*d));
	size_t size;

	if (!d)
		return NULL;
	char *text = dpkg_slurp(DPKG_STATUS, &size);
	if (!text || !control_read(&d->db, text, size, true)) {
		dpkg_close(d);
		return NULL;
	}
	return d;
}

void dpkg_close(struct dpkg *d)
{
	if (!d)
		return;
	free(d->owner);
	control_free(&d->db);
	free(d);
}

struct control *dpkg_control(struct dpkg *d)
{
	return &d->db;
}

/* --- owners --------------------------------------------------------------------- */

/* Is `path` a whole line of the list? */
static bool has_line(const char *list, const char *path, size_t len)
{
	for (const char *p = list; (p = strstr(p, path)); p += len)
		if ((p == list || p[-1] == '\n') && (p[len] == '\n' || !p[len]))
			return true;
	return false;
}

/* With merged /usr a package may list /bin/x where the file is /usr/bin/x. */
static const char *unmerged(const char *path)
{
	static const char *const dirs[] = {"/usr/bin/", "/usr/sbin/", "/usr/lib/", "/usr/lib64/"};

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (!strncmp(path, dirs[i], strlen(dirs[i])))
			return path + 4;
	return NULL;
}

const char *dpkg_owner(struct dpkg *d, const char *path)
{
	const char *other = unmerged(path);
	DIR *dir = opendir(DPKG_INFO_DIR);
	struct dirent *e;
	bool found = false;

	free(d->owner);
	d->owner = NULL;
	while (dir && !found && (e = readdir(dir))) {
		char file[512];
		size_t n = strlen(e->d_name), size;
		if (n < 6 || strcmp(e->d_name + n - 5, ".list") ||
		    snprintf(file, sizeof(file), DPKG_INFO_DIR "/%s", e->d_name) >= (int)sizeof(file))
			continue;
		char *list = dpkg_slurp(file, &size);
		/* the shorter one is a suffix of the other: one search finds candidates of both */
		if (list && strstr(list, other ? other : path) &&
		    (has_line(list, path, strlen(path)) || (other && has_line(list, other, strlen(other))))) {
			d->owner = strndup(e->d_name, n - 5);
			if (d->owner)
				d->owner[strcspn(d->owner, ":")] = 0; /* libc6:amd64 */
			found = true;
		}
		free(list);
	}
	if (dir)
		closedir(dir);
	return d->owner;
}

/* --- closure -------------------------------------------------------------------- */

bool dpkg_is_system(const struct deb *p)
{
	static const char *const names[] = {"adduser",
					    "debconf",
					    "ucf",
					    "lsb-base",
					    "install-info",
					    "systemd",
					    "dbus",
					    "udev",
					    "dpkg",
					    "cron",
					    "init-system-helpers",
					    "logrotate",
					    "procps",
					    "iproute2",
					    "x11-common",
					    "update-inetd",
					    "sensible-utils",
					    "sgml-base",
					    "xml-core",
					    "dirmngr",
					    "gnupg",
					    "apt",
					    "po-debconf",
					    "man-db",
					    "tzdata",
					    "ca-certificates"};

	if (p->system)
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(p->name, names[i]))
			return true;
	return false;
}

/* libc6-dev, libgcc-12-dev: what a compiler reads. */
static bool is_development(const char *package)
{
	size_t n = strlen(package);

	return n > 4 && !strcmp(package + n - 4, "-dev");
}

bool dpkg_is_bulk(const struct deb *p, const char *path)
{
	static const char *const dirs[] = {"/usr/share/doc/",
					   "/usr/share/man/",
					   "/usr/share/locale/",
					   "/usr/share/info/",
					   "/usr/share/lintian/",
					   "/usr/share/bug/",
					   "/usr/share/doc-base/",
					   "/usr/share/menu/",
					   "/usr/share/applications/",
					   "/lib/systemd/",
					   "/usr/lib/systemd/",
					   "/etc/init.d/",
					   "/etc/cron.",
					   "/etc/logrotate.d/",
					   "/etc/default/",
					   "/usr/share/bash-completion/",
					   "/usr/share/icons/",
					   "/usr/share/pixmaps/",
					   "/usr/share/gdb/",
					   "/etc/apt/",
					   "/usr/share/apport/",
					   "/usr/share/zsh/",
					   "/etc/systemd/"};
	size_t n = strlen(path);

	if (n > 8 && !strcmp(path + n - 8, ".service"))
		return !strstr(path, "/lib/systemd/system/"); /* rundirs.c reads them */
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		size_t len = strlen(dirs[i]);
		if (!strncmp(path, dirs[i], len) || (n == len - 1 && !strncmp(path, dirs[i], n)))
			return true; /* the directory itself, too */
	}
	if (p && is_development(p->name))
		return false;
	return !strncmp(path, "/usr/include/", 13) || (n > 2 && !strcmp(path + n - 2, ".a"));
}

bool dpkg_list_path(const struct deb *p, char *buf, size_t size)
{
	if (snprintf(buf, size, DPKG_INFO_DIR "/%s.list", p->name) < (int)size && !access(buf, R_OK))
		return true;
	return p->arch && snprintf(buf, size, DPKG_INFO_DIR "/%s:%s.list", p->name, p->arch) < (int)size &&
	       !access(buf, R_OK);
}

int dpkg_files(const struct deb *p, int (*each)(void *, const char *), void *arg)
{
	char file[512];
	size_t size;
	int r = 0;

	char *list = dpkg_list_path(p, file, sizeof(file)) ? dpkg_slurp(file, &size) : NULL;
	if (!list)
		return -ENOENT;
	for (char *line = list, *next; line && *line && !r; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		if (line[0] == '/' && line[1] && line[1] != '.' && !dpkg_is_bulk(p, line))
			r = each(arg, line);
	}
	free(list);
	return r;
}

static int closure(struct dpkg *d, struct deb *p, int (*each)(void *, const char *), void *arg, int depth);

/* "a (>= 1), b | c:any, d": of alternatives, the first that is installed. */
static int follow_field(struct dpkg *d, const char *field, int (*each)(void *, const char *), void *arg,
			int depth)
{
	struct deb *found = NULL;
	struct relation rel;
	bool last;
	int r = 0;

	while (!r && relation_next(&field, &rel, &last)) {
		if (!found)
			found = control_satisfy(&d->db, &rel);
		if (!last)
			continue;
		if (found && !dpkg_is_system(found))
			r = closure(d, found, each, arg, depth + 1);
		found = NULL;
	}
	return r;
}

static int closure(struct dpkg *d, struct deb *p, int (*each)(void *, const char *), void *arg, int depth)
{
	if (p->mark == DONE || depth > 64)
		return 0;
	p->mark = DONE;
	int r = dpkg_files(p, each, arg);
	if (r == -ENOENT)
		r = 0;
	if (!r)
		r = follow_field(d, p->pre_depends, each, arg, depth);
	if (!r)
		r = follow_field(d, p->depends, each, arg, depth);
	return r;
}

int dpkg_closure(struct dpkg *d, const char *package, int (*each)(void *arg, const char *path), void *arg)
{
	struct relation rel = {.name = package, .name_len = strlen(package)};
	struct deb *p = control_satisfy(&d->db, &rel);

	for (size_t i = 0; i < d->db.n; i++)
		d->db.v[i]->mark = 0;
	return p ? closure(d, p, each, arg, 0) : 0;
}

bool dpkg_has(struct dpkg *d, const char *package)
{
	struct relation rel = {.name = package, .name_len = strlen(package)};

	return control_satisfy(&d->db, &rel) != NULL;
}

int dpkg_tools(struct dpkg *d, int (*each)(void *arg, const char *path), void *arg)
{
	/* what administers a machine; and perl, which is large: who wants it names it */
	static const char *const not [] = {"base-files", "base-passwd",		"dpkg",
					   "login",	 "init-system-helpers", "perl-base",
					   "init",	 "sysvinit-utils",	NULL};
	struct relation awk = {.name = "awk", .name_len = 3};
	struct deb *p = control_satisfy(&d->db, &awk);
	int r = p ? dpkg_files(p, each, arg) : 0;

	for (size_t i = 0; i < d->db.n && (!r || r == -ENOENT); i++) {
		const char *const *n = not ;
		p = d->db.v[i];
		while (*n && strcmp(*n, p->name))
			n++;
		if (p->essential && !*n)
			r = dpkg_files(p, each, arg);
	}
	return r == -ENOENT ? 0 : r;
}
