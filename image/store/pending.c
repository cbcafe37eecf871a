/* SPDX-License-Identifier: ISC */
/*
 * Blobs that get their names together, or not at all: an import adds many, and one that fails on its last layer leaves
 * nothing.
 *
 *   store_begin ──▶ blob_commit: pending_take, an open file without a name ──▶ store_end(true): linked, in the order they came
 *                                                                         └──▶ store_end(false): closed, gone
 *
 * Removing blobs after a failure instead would be wrong: another process may have found them meanwhile and count on them. A
 * killed process leaves nothing either, where files without a name can be made; else entries of tmp/, for prune.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/store/inside.h"

struct pending {
	size_t n, cap;
	struct one {
		char hex[65];
		char tmp[TMP_NAME_MAX]; /* or "" */
		int fd;
	} * v;
};

static const struct one *find(const struct store *s, const char *hex)
{
	for (size_t i = 0; s->pending && i < s->pending->n; i++)
		if (!strcmp(s->pending->v[i].hex, hex))
			return &s->pending->v[i];
	return NULL;
}

void store_begin(struct store *s)
{
	if (s->pending || store_hold(s))
		return;
	s->pending =
		calloc(1, sizeof(*s->pending)); /* no memory: blobs are named at once, and stay until prune */
	if (!s->pending)
		store_release(s);
}

bool pending_take(struct store *s, const char *hex, int fd, const char *tmp)
{
	struct pending *p = s->pending;

	if (!p)
		return false;
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 16;
		struct one *v = realloc(p->v, cap * sizeof(*v));
		if (!v)
			return false;
		p->v = v;
		p->cap = cap;
	}
	struct one *o = &p->v[p->n++];
	o->fd = fd;
	memcpy(o->hex, hex, sizeof(o->hex));
	memcpy(o->tmp, tmp, sizeof(o->tmp));
	return true;
}

bool pending_has(struct store *s, const char *hex)
{
	return find(s, hex);
}

int pending_open(struct store *s, const char *hex)
{
	const struct one *o = find(s, hex);
	char path[32];
	int fd;

	if (!o)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", o->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) /* no /proc here: the offset is shared then, and must be the beginning */
		fd = lseek(o->fd, 0, SEEK_SET) ? -1 : fcntl(o->fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* The final name. Another process may have been faster with the same bytes. */
static int give_name(struct store *s, struct one *o)
{
	char path[BLOB_PATH_MAX];
	int r;

	if (!blob_path(path, o->hex))
		return -EINVAL;
	if (o->tmp[0]) {
		r = renameat(s->dir, o->tmp, s->dir, path) ? -errno : 0;
		o->tmp[0] = 0;
		return r;
	}
	r = link_fd(s, o->fd, path);
	return r == -EEXIST ? 0 : r;
}

int store_end(struct store *s, bool keep)
{
	struct pending *p = s->pending;
	int r = 0;

	if (!p)
		return 0;
	s->pending = NULL;
	for (size_t i = 0; i < p->n; i++) {
		if (keep && !r)
			r = give_name(s, &p->v[i]);
		if (p->v[i].tmp[0])
			unlinkat(s->dir, p->v[i].tmp, 0);
		close(p->v[i].fd);
	}
	free(p->v);
	free(p);
	store_release(s);
	return r;
}
