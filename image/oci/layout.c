/* SPDX-License-Identifier: ISC */
/*
 * Images in OCI image layout, as a directory (oci:DIR) or as a tar file of one (oci-archive:FILE):
 *
 *   oci-layout              {"imageLayoutVersion": "1.0.0"}
 *   index.json              an index; may lead to further indexes, at most MAX_DEPTH deep
 *   blobs/sha256/<hex>      manifests, configurations, layers
 *
 * The layout is hostile. A blob's path is made of its digest's hexadecimal digits only. In a directory each part of the path is
 * opened without following links, and what is not a regular file is an error before a byte of it is read (a FIFO does not
 * block: O_NONBLOCK). What is read here (indexes, the manifest) is checked against size and digest of its descriptor;
 * the importer does that for the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/oci/import.h"
#include "image/oci/tarfile.h"
#include "lib/host/say.h"

#define MAX_DEPTH 4

struct layout {
	char *name; /* for messages */
	int dir; /* or -1: */
	struct tarfile *tar;
	char *manifest;
	size_t n;
	char media_type[128];
};

/* --- files of the layout ------------------------------------------------------------------------------- */

/* Open a regular file beneath the directory; no part of the path may be a link. */
static int open_beneath(int dir, const char *path)
{
	int at = dir, fd = -ENOENT;
	struct stat st;

	for (const char *p = path;; p++) {
		size_t n = strcspn(p, "/");
		char part[80];
		memcpy(part, p, n);
		part[n] = 0;
		p += n;
		fd = openat(at, part,
			    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY |
				    (*p ? O_DIRECTORY : 0));
		int err = errno;
		if (at != dir)
			close(at);
		if (fd < 0)
			return -err;
		if (!*p)
			break;
		at = fd;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EBADF;
	}
	return fd;
}

/* A phrase about an error of the host; good until the next one. */
static const char *unreadable(int err)
{
	static char text[96];

	snprintf(text, sizeof(text), "cannot be read: %s", strerror(err));
	return text;
}

static const char *why_open(int err)
{
	return err == -ENOENT	 ? "is missing"
	       : err == -ELOOP	 ? "is a symbolic link"
	       : err == -EBADF	 ? "is not a regular file"
	       : err == -ENOTDIR ? "is not below a directory, or there is a symbolic link on the way"
	       : err == -ENXIO	 ? "is not a regular file"
	       : err == -EBADMSG ? "goes beyond the end of the archive"
				 : unreadable(-err);
}

/* A file of the layout; names are ours, never the layout's. 0, or an exit status after one line. */
static int open_member(struct layout *l, const char *path, int *fd)
{
	if (l->dir >= 0) {
		*fd = open_beneath(l->dir, path);
	} else {
		const struct tar_member *m = tarfile_find(l->tar, path);
		*fd = m ? tarfile_fd(l->tar, m) : -ENOENT;
	}
	if (*fd < 0)
		return say_fail(EXIT_OURS, "%s: %s %s", l->name, path, why_open(*fd));
	return 0;
}

/* NULL, or a phrase that says why a small file cannot be read whole. */
static const char *read_whole(int fd, size_t max, char **data, size_t *n)
{
	size_t got = 0;
	struct stat st;
	ssize_t r;

	if (fstat(fd, &st))
		return unreadable(errno);
	if ((uint64_t)st.st_size > max)
		return "is larger than 4 MiB";
	char *buf = malloc((size_t)st.st_size + 1);
	if (!buf)
		return "does not fit into memory";
	while (got < (size_t)st.st_size && (r = read(fd, buf + got, (size_t)st.st_size - got)) != 0) {
		if (r < 0 && errno != EINTR) {
			free(buf);
			return unreadable(errno);
		}
		got += r > 0 ? (size_t)r : 0;
	}
	buf[got] = 0;
	*data = buf;
	*n = got;
	return NULL;
}

/* The whole of a small file of the layout. */
static int read_member(struct layout *l, const char *path, char **data, size_t *n)
{
	int fd, status = open_member(l, path, &fd);
	const char *why;

	*data = NULL;
	*n = 0;
	if (status)
		return status;
	why = read_whole(fd, OCI_MAX_MANIFEST, data, n);
	close(fd);
	return why ? say_fail(EXIT_OURS, "%s: %s %s", l->name, path, why) : 0;
}

static void blob_path(const struct oci_descriptor *d, char path[80])
{
	snprintf(path, 80, "blobs/sha256/%s", d->hex);
}

/* A blob that is read whole: size and digest must be the descriptor's. */
static int read_blob(struct layout *l, const struct oci_descriptor *d, char **data, size_t *n)
{
	char path[80], hex[65];
	int status;

	blob_path(d, path);
	status = read_member(l, path, data, n);
	if (status)
		return status;
	sha256_hex(*data, *n, hex);
	if (*n == d->size && !strcmp(hex, d->hex))
		return 0;
	if (*n != d->size)
		say("%s: %s has %zu bytes, its descriptor says %llu", l->name, path, *n,
		    (unsigned long long)d->size);
	else
		say("%s: %s does not have that digest", l->name, path);
	free(*data);
	*data = NULL;
	return EXIT_OURS;
}

/* --- from index.json to the manifest ----------------------------------------------------------------------- */

static int check_version(struct layout *l)
{
	const char *version;
	json_t *root;
	char *data;
	size_t n;
	int status = read_member(l, "oci-layout", &data, &n);

	if (status)
		return status;
	root = json_loadb(data, n, JSON_REJECT_DUPLICATES, NULL);
	free(data);
	version = json_string_value(json_object_get(root, "imageLayoutVersion"));
	if (!version || strcmp(version, "1.0.0"))
		status = say_fail(EXIT_OURS, "%s: oci-layout does not say version 1.0.0", l->name);
	json_decref(root);
	return status;
}

static bool is_index(const struct oci_descriptor *d)
{
	return !strcmp(d->media_type, MEDIA_INDEX) || !strcmp(d->media_type, MEDIA_DOCKER_LIST);
}

static int find_manifest(struct layout *l, const char *ref)
{
	struct oci_descriptor d = {0};
	const char *what = "index.json", *why;
	char *data = NULL;
	size_t n = 0;
	int depth = 0, status = check_version(l);

	if (!status)
		status = read_member(l, "index.json", &data, &n);
	while (!status && data) {
		why = depth == MAX_DEPTH ? "indexes lead to indexes, more than 4 deep"
					 : oci_index_pick(data, n, depth ? NULL : ref, &d);
		free(data);
		data = NULL;
		depth++;
		if (why)
			return say_fail(EXIT_OURS, "%s: %s: %s", l->name, what, why);
		free(d.title);
		what = "an index in it";
		status = read_blob(l, &d, &data, &n);
		if (!status && !is_index(&d))
			break;
	}
	l->manifest = data;
	l->n = n;
	memcpy(l->media_type, d.media_type, sizeof(l->media_type));
	return status;
}

/* --- the source --------------------------------------------------------------------------------------------- */

static int layout_manifest(void *arg, char **data, size_t *n, char media_type[128])
{
	struct layout *l = arg;

	*data = malloc(l->n + 1);
	if (!*data)
		return say_fail(EXIT_OURS, "out of memory");
	memcpy(*data, l->manifest, l->n + 1);
	*n = l->n;
	memcpy(media_type, l->media_type, 128);
	return 0;
}

static int layout_blob(void *arg, const struct oci_descriptor *d, int *fd)
{
	char path[80];

	blob_path(d, path);
	return open_member(arg, path, fd);
}

static void layout_close(void *arg)
{
	struct layout *l = arg;

	if (l->dir >= 0)
		close(l->dir);
	tarfile_close(l->tar);
	free(l->manifest);
	free(l->name);
	free(l);
}

static int open_layout(struct layout *l, const char *ref, struct image_source *out)
{
	int status = find_manifest(l, ref);

	if (status) {
		layout_close(l);
		return status;
	}
	*out = (struct image_source){l, l->name, layout_manifest, layout_blob, layout_close};
	return 0;
}

static struct layout *new_layout(const char *name)
{
	struct layout *l = calloc(1, sizeof(*l));

	if (!l)
		exit(say_fail(EXIT_OURS, "out of memory"));
	l->name = textf("%s", name);
	l->dir = -1;
	return l;
}

int source_open_oci_dir(const char *dir, const char *ref, struct image_source *out)
{
	struct layout *l = new_layout(dir);

	l->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->dir < 0) {
		int err = errno;
		layout_close(l);
		return say_fail(EXIT_OURS, "%s: %s", dir, strerror(err));
	}
	return open_layout(l, ref, out);
}

int source_open_oci_archive(struct store *s, const char *file, const char *ref, struct image_source *out)
{
	struct layout *l = new_layout(file);

	l->tar = tarfile_open(s, file);
	if (!l->tar) {
		layout_close(l);
		return EXIT_OURS;
	}
	return open_layout(l, ref, out);
}
