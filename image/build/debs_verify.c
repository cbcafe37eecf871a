/* SPDX-License-Identifier: ISC */
/*
 * Are installed packages what they were when they were installed? A package
 * whose files were changed on this machine (a configuration by its
 * administrator, a program by an upgrade past dpkg) would carry that into
 * every image, and the same versions would no longer give the same bytes.
 *
 * dpkg has an MD5 sum of each file: info/PACKAGE.md5sums, and of
 * configuration files in its status. MD5 is no defence against malice, and
 * need not be one: whoever can write these files can write the sums.
 *
 * A changed package is fetched anew where apt still has its version. Where
 * it has not, the files are taken as they are, without its changed
 * configuration files where others than root may not read them
 * (debs_tree.c), and the user is told.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <nettle/md5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/build/debs.h"

static bool md5_hex(int fd, char hex[33])
{
	static uint8_t buf[1 << 16];
	struct md5_ctx c;
	uint8_t sum[MD5_DIGEST_SIZE];
	ssize_t n;

	md5_init(&c);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		md5_update(&c, (size_t)n, buf);
	md5_digest(&c, sizeof(sum), sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		sprintf(hex + 2 * i, "%02x", sum[i]);
	return n == 0;
}

/* Is the file there with other contents? A missing one is an administrator's choice (documentation left out). */
static bool is_changed(const struct deb *p, const char *path, const char *sum)
{
	char at[PATH_MAX], hex[33];
	struct stat st;

	if (!merged_path(path, at, sizeof(at)) || debs_is_bulk(p, at) ||
	    (p->mark == DEB_PART && !base_wants(p->name, at)))
		return false;
	int fd = open(at, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	bool other = fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && md5_hex(fd, hex) &&
		     strncmp(hex, sum, 32) != 0;
	if (fd >= 0)
		close(fd);
	return other;
}

/* Lines "SUM  usr/bin/x" of a .md5sums file. */
static bool files_changed(const struct deb *p)
{
	char file[PATH_MAX], path[PATH_MAX], *dot;
	bool changed = false;
	size_t size;

	if (!dpkg_list_path(p, file, sizeof(file) - 8))
		return false;
	dot = strrchr(file, '.');
	strcpy(dot, ".md5sums");
	char *text = dpkg_slurp(file, &size);
	for (char *line = text; line && *line && !changed;) {
		size_t n = strcspn(line, "\n");
		if (n > 34 && n - 34 < sizeof(path) - 2) {
			snprintf(path, sizeof(path), "/%.*s", (int)n - 34, line + 34);
			changed = is_changed(p, path, line);
		}
		line += n + (line[n] == '\n');
	}
	free(text);
	return changed;
}

/* Lines " PATH SUM" of the field, "obsolete" or "remove-on-upgrade" may follow. */
static bool conffiles_changed(const struct deb *p)
{
	char path[PATH_MAX], sum[64];

	for (const char *line = p->conffiles; line && *line;) {
		line += strspn(line, " \n");
		size_t n = strcspn(line, "\n");
		if (n < sizeof(path) && sscanf(line, "%4095[^ \n] %63[0-9a-f]", path, sum) == 2 &&
		    strlen(sum) == 32 && *path == '/' && is_changed(p, path, sum))
			return true;
		line += n;
	}
	return false;
}

int debs_verify(struct debs *d)
{
	struct strings changed = {0};

	for (size_t i = 0; i < d->n; i++)
		if (d->v[i]->installed && (files_changed(d->v[i]) || conffiles_changed(d->v[i])))
			strings_add(&changed, d->v[i]->name);
	for (size_t i = 0; i < changed.n; i++) {
		struct deb *p = control_find(d->db, changed.v[i], strlen(changed.v[i]));
		if (fetch_pristine(d, p))
			out_line("%s was changed on this machine: fetched anew", p->name);
		else
			out_line("%s was changed on this machine, and apt has no other %s: taken as it is",
				 p->name, p->version);
	}
	strings_free(&changed);
	return 0;
}
