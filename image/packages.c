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

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INFO_DIR "/var/lib/dpkg/info"
#define MAX_FILE (256u << 20)

struct package {
	const char *name, *depends, *pre_depends, *provides,
		*arch; /* inside `status`, NUL-terminated, or NULL */
	bool system; /* essential or required */
	bool installed, done;
};

struct dpkg {
	char *status;
	struct package *pkgs;
	size_t n, cap;
	char *owner; /* the last answer */
};

/* A whole file with a NUL after it, or NULL. */
static char *slurp(const char *path, size_t *size)
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

/* --- the status file ---------------------------------------------------------- */

static void take_field(struct package *p, const char *line)
{
	static const struct {
		const char *key;
		size_t at;
	} fields[] = {
		{"Package: ", offsetof(struct package, name)},
		{"Depends: ", offsetof(struct package, depends)},
		{"Pre-Depends: ", offsetof(struct package, pre_depends)},
		{"Provides: ", offsetof(struct package, provides)},
		{"Architecture: ", offsetof(struct package, arch)},
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		size_t n = strlen(fields[i].key);
		if (!strncmp(line, fields[i].key, n))
			*(const char **)((char *)p + fields[i].at) = line + n;
	}
	if (!strcmp(line, "Essential: yes") || !strcmp(line, "Priority: required"))
		p->system = true;
	if (!strncmp(line, "Status: ", 8) && strstr(line, " installed"))
		p->installed = true;
}

static bool add_package(struct dpkg *d, const struct package *p)
{
	if (!p->name || !p->installed)
		return true;
	if (d->n == d->cap) {
		size_t cap = d->cap ? d->cap * 2 : 1024;
		struct package *v = realloc(d->pkgs, cap * sizeof(*v));
		if (!v)
			return false;
		d->pkgs = v;
		d->cap = cap;
	}
	d->pkgs[d->n++] = *p;
	return true;
}

struct dpkg *dpkg_open(void)
{
	struct dpkg *d = calloc(1, sizeof(*d));
	struct package p = {0};
	size_t size;

	if (!d)
		return NULL;
	d->status = slurp(DPKG_STATUS, &size);
	if (!d->status) {
		free(d);
		return NULL;
	}
	for (char *line = d->status, *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		if (*line) {
			take_field(&p, line);
		} else {
			if (!add_package(d, &p))
				break;
			memset(&p, 0, sizeof(p));
		}
	}
	add_package(d, &p);
	return d;
}

void dpkg_close(struct dpkg *d)
{
	if (!d)
		return;
	free(d->owner);
	free(d->pkgs);
	free(d->status);
	free(d);
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
	DIR *dir = opendir(INFO_DIR);
	struct dirent *e;
	bool found = false;

	free(d->owner);
	d->owner = NULL;
	while (dir && !found && (e = readdir(dir))) {
		char file[512];
		size_t n = strlen(e->d_name), size;
		if (n < 6 || strcmp(e->d_name + n - 5, ".list") ||
		    snprintf(file, sizeof(file), INFO_DIR "/%s", e->d_name) >= (int)sizeof(file))
			continue;
		char *list = slurp(file, &size);
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

static bool name_is(const char *word, size_t len, const char *name)
{
	return strlen(name) == len && !strncmp(word, name, len);
}

/* Does a comma-separated relation field name the package? */
static bool field_names(const char *field, const char *word, size_t len)
{
	for (const char *p = field; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
		p += strspn(p, " ");
		if (!strncmp(p, word, len) && strchr(" ,(:|", p[len]))
			return true; /* strchr also finds the NUL at the end */
	}
	return false;
}

static struct package *find_package(struct dpkg *d, const char *word, size_t len)
{
	struct package *foreign = NULL;

	for (size_t i = 0; i < d->n; i++)
		if (name_is(word, len, d->pkgs[i].name)) {
			if (d->pkgs[i].arch && strcmp(d->pkgs[i].arch, "i386"))
				return &d->pkgs[i];
			foreign = &d->pkgs[i];
		}
	for (size_t i = 0; i < d->n && !foreign; i++)
		if (d->pkgs[i].provides && field_names(d->pkgs[i].provides, word, len))
			return &d->pkgs[i];
	return foreign;
}

/* What a running program has no use for, though packages depend on it. */
static bool is_system(const struct package *p)
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

/* Parts of packages that are bulk and never read by a program at work. */
static bool is_bulk(const char *path)
{
	static const char *const dirs[] = {"/usr/share/doc/",
					   "/usr/share/man/",
					   "/usr/share/locale/",
					   "/usr/share/info/",
					   "/usr/share/lintian/",
					   "/usr/share/bug/",
					   "/usr/include/",
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

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (!strncmp(path, dirs[i], strlen(dirs[i])))
			return true;
	return n > 2 && !strcmp(path + n - 2, ".a");
}

static int package_files(const struct package *p, int (*each)(void *, const char *), void *arg)
{
	char file[512];
	size_t size;
	int r = 0;

	snprintf(file, sizeof(file), INFO_DIR "/%s.list", p->name);
	char *list = slurp(file, &size);
	if (!list && p->arch) {
		snprintf(file, sizeof(file), INFO_DIR "/%s:%s.list", p->name, p->arch);
		list = slurp(file, &size);
	}
	for (char *line = list, *next; line && *line && !r; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		if (line[0] == '/' && line[1] && line[1] != '.' && !is_bulk(line))
			r = each(arg, line);
	}
	free(list);
	return r;
}

static int closure(struct dpkg *d, struct package *p, int (*each)(void *, const char *), void *arg,
		   int depth);

/* "a (>= 1), b | c:any, d": of alternatives, the first that is installed. */
static int follow_field(struct dpkg *d, const char *field, int (*each)(void *, const char *), void *arg,
			int depth)
{
	int r = 0;

	for (const char *p = field; p && *p && !r;) {
		const char *end = p + strcspn(p, ",");
		struct package *found = NULL;
		while (p < end && !found) {
			p += strspn(p, " |");
			size_t len = strcspn(p, " ,(:|");
			if (len)
				found = find_package(d, p, len);
			p += strcspn(p, "|,");
			if (*p == '|')
				p++;
		}
		if (found && !is_system(found))
			r = closure(d, found, each, arg, depth + 1);
		p = *end ? end + 1 : end;
	}
	return r;
}

static int closure(struct dpkg *d, struct package *p, int (*each)(void *, const char *), void *arg, int depth)
{
	if (p->done || depth > 64)
		return 0;
	p->done = true;
	int r = package_files(p, each, arg);
	if (!r)
		r = follow_field(d, p->pre_depends, each, arg, depth);
	if (!r)
		r = follow_field(d, p->depends, each, arg, depth);
	return r;
}

int dpkg_closure(struct dpkg *d, const char *package, int (*each)(void *arg, const char *path), void *arg)
{
	struct package *p = find_package(d, package, strlen(package));

	for (size_t i = 0; i < d->n; i++)
		d->pkgs[i].done = false;
	return p ? closure(d, p, each, arg, 0) : 0;
}
