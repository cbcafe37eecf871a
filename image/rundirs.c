/* SPDX-License-Identifier: ISC */
/*
 * Directories that a running system would make for a package's servers when
 * it boots, since /run and the like are empty then: lines `d PATH MODE USER GROUP`
 * of /usr/lib/tmpfiles.d (systemd-tmpfiles), and RuntimeDirectory= of the
 * units in /usr/lib/systemd/system. sshd, PostgreSQL and php-fpm do not start
 * without theirs.
 *
 * Only what lies below /run, /var and /tmp is made, nothing that is there
 * already is changed, and owners are looked up in the tree's own /etc/passwd
 * and /etc/group; who is not there is root.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/collect.h"

#define MAX_TEXT 65536

/* A small text file of the tree, in `buf`, or "". */
static const char *text_of(const struct tree *t, const struct node *n, char *buf)
{
	ssize_t got = 0;

	if (n && S_ISREG(n->mode) && n->data) {
		got = n->size < MAX_TEXT - 1 ? (ssize_t)n->size : MAX_TEXT - 1;
		memcpy(buf, n->data, (size_t)got);
	} else if (n && S_ISREG(n->mode)) {
		int fd = tree_open(t, n);
		got = fd < 0 ? 0 : read(fd, buf, MAX_TEXT - 1);
		if (fd >= 0)
			close(fd);
	}
	buf[got > 0 ? got : 0] = 0;
	return buf;
}

/* The number of a user or group of that name. */
static uint32_t id_of(const struct tree *t, const char *file, const char *name)
{
	static char buf[MAX_TEXT];
	size_t n = strlen(name);

	for (const char *line = text_of(t, tree_find(t, file), buf); line && *line;
	     line = strchr(line, '\n')) {
		line += *line == '\n';
		const char *x = !strncmp(line, name, n) && line[n] == ':' ? strchr(line + n + 1, ':') : NULL;
		if (x)
			return (uint32_t)strtoul(x + 1, NULL, 10);
	}
	return 0;
}

static void make_dir(struct tree *t, const char *path, uint32_t mode, const char *user, const char *group)
{
	bool suits = !strncmp(path, "/run/", 5) || !strncmp(path, "/var/", 5) || !strncmp(path, "/tmp/", 5);

	if (!suits || strstr(path, "..") || strchr(path, '%') || tree_find(t, path))
		return;
	struct node *n = tree_put_dir(t, path, mode & 03777);
	if (!n)
		return;
	n->uid = id_of(t, "/etc/passwd", user);
	n->gid = id_of(t, "/etc/group", group);
}

static void tmpfiles_line(struct tree *t, const char *line)
{
	char type[8], path[256], mode[16], user[64], group[64];

	if (sscanf(line, " %7s %255s %15s %63s %63s", type, path, mode, user, group) != 5 ||
	    (*type != 'd' && *type != 'D'))
		return;
	if (!strncmp(path, "/var/run/", 9))
		memmove(path, path + 4, strlen(path + 4) + 1);
	make_dir(t, path, *mode == '-' ? 0755 : (uint32_t)strtoul(mode, NULL, 8), user, group);
}

static void take_tmpfiles(struct tree *t, char *text)
{
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		tmpfiles_line(t, line);
}

/* RuntimeDirectory= of a unit, with the owner that User= and Group= say. */
static void take_unit(struct tree *t, char *text)
{
	char dirs[256] = "", user[64] = "root", group[64] = "", mode[16] = "0755", path[300], *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "RuntimeDirectory=%255[^\n]", dirs) == 1 ||
		    sscanf(line, "RuntimeDirectoryMode=%15s", mode) == 1 ||
		    sscanf(line, "User=%63s", user) == 1 || sscanf(line, "Group=%63s", group) == 1)
			continue;
	}
	for (char *d = strtok_r(dirs, " \t", &save); d; d = strtok_r(NULL, " \t", &save)) {
		snprintf(path, sizeof(path), "/run/%s", d);
		make_dir(t, path, (uint32_t)strtoul(mode, NULL, 8), user, *group ? group : user);
	}
}

static void each_file(struct tree *t, const char *dir, const char *suffix,
		      void (*take)(struct tree *, char *))
{
	static char buf[MAX_TEXT];
	const struct node *d = tree_find(t, dir);
	size_t n = strlen(suffix);

	for (const struct node *c = d ? d->child : NULL; c; c = c->sibling)
		if (c->name_len > n && !strcmp(c->name + c->name_len - n, suffix) && *text_of(t, c, buf))
			take(t, buf);
}

void rundirs_add(struct tree *t)
{
	each_file(t, "/usr/lib/tmpfiles.d", ".conf", take_tmpfiles);
	each_file(t, "/usr/lib/systemd/system", ".service", take_unit);
}
