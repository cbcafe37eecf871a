/* SPDX-License-Identifier: ISC */
/*
 * A tar file that carries an image (an OCI layout, or what `docker save` writes), as a table: name, place, size.
 *
 * The archive is read once, headers only: libarchive understands the headers and skips the contents with seeks. What is
 * wanted later is copied from its place into a temporary file without a name, so that an archive with ten
 * platforms costs the blobs of one, and order in the archive means nothing. A compressed archive is first unpacked into such a
 * temporary file, up to MAX_UNPACKED.
 *
 * Nothing in the archive becomes a path on the host: names are keys of the table. What is read from a place is trusted no
 * more than the archive: callers check digests. Names are taken without "./" and '/' in front; a name that occurs twice
 * is refused where it could matter (a regular file or a link).
 */
#include "image/oci/tarfile.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/oci/inflate.h"
#include "lib/host/copy.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"
#include "lib/host/strings.h"

#define MAX_MEMBERS  65536
#define MAX_NAME     1024
#define MAX_LINKS    8
#define MAX_UNPACKED (4ull << 30) /* of a compressed archive */

struct tar_member {
	char *name;
	char *link; /* the member that it stands for, or NULL: a regular file */
	uint64_t offset, size;
};

struct tarfile {
	struct store *store;
	int fd; /* plain tar */
	size_t n, cap;
	struct tar_member *v; /* sorted by name */
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct tar_member *)a)->name, ((const struct tar_member *)b)->name);
}

/* "./a//b/../c" as "a/c": false if it leaves the archive or is too long. */
static bool clean_name(const char *s, char out[MAX_NAME])
{
	size_t len = 0;

	while (*s) {
		size_t n = strcspn(s, "/");
		if (n == 2 && s[0] == '.' && s[1] == '.') {
			if (!len)
				return false;
			while (len && out[len - 1] != '/')
				len--;
			len -= len > 0;
		} else if (n && !(n == 1 && s[0] == '.')) {
			if (len + n + 2 > MAX_NAME)
				return false;
			if (len)
				out[len++] = '/';
			memcpy(out + len, s, n);
			len += n;
		}
		s += n + (s[n] == '/');
	}
	out[len] = 0;
	return len > 0;
}

/* Where a symbolic link of the member `from` points, as a member's name. */
static bool link_name(const char *from, const char *target, char out[MAX_NAME])
{
	char path[2 * MAX_NAME];
	const char *slash = strrchr(from, '/');
	size_t dir = slash && target[0] != '/' ? (size_t)(slash - from) + 1 : 0;

	if (dir + strlen(target) >= sizeof(path))
		return false;
	memcpy(path, from, dir);
	strcpy(path + dir, target);
	return clean_name(path, out);
}

/* One header into the table. NULL, or what is wrong. */
static const char *add_member(struct tarfile *t, struct archive *a, struct archive_entry *e)
{
	const char *raw = archive_entry_pathname(e), *hard = archive_entry_hardlink(e);
	const char *soft = archive_entry_filetype(e) == AE_IFLNK ? archive_entry_symlink(e) : NULL;
	char name[MAX_NAME], target[MAX_NAME];

	if (!raw || !clean_name(raw, name) || (!hard && !soft && archive_entry_filetype(e) != AE_IFREG))
		return NULL; /* a directory, a device, a name that nobody can ask for */
	if (t->n == MAX_MEMBERS)
		return "it has more than 65536 entries";
	if (archive_entry_sparse_count(e))
		return "it has a sparse file";
	if ((hard && !clean_name(hard, target)) || (!hard && soft && !link_name(name, soft, target)))
		return NULL; /* leaves the archive: the same as a link to nothing */
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 64;
		struct tar_member *v = realloc(t->v, cap * sizeof(*v));
		if (!v)
			return "out of memory";
		t->v = v;
		t->cap = cap;
	}
	struct tar_member *m = &t->v[t->n++];
	*m = (struct tar_member){.name = textf("%s", name)};
	if (hard || soft) {
		m->link = textf("%s", target);
	} else {
		m->offset = (uint64_t)archive_filter_bytes(a, 0);
		m->size = (uint64_t)archive_entry_size(e);
	}
	return NULL;
}

static const char *read_headers(struct tarfile *t, struct archive *a)
{
	struct archive_entry *e;
	const char *why = NULL;
	int r;

	while (!why && (r = archive_read_next_header(a, &e)) != ARCHIVE_EOF) {
		if (r < ARCHIVE_WARN)
			return "it is not a tar file, or is damaged";
		why = add_member(t, a, e);
	}
	if (why)
		return why;
	if (t->n)
		qsort(t->v, t->n, sizeof(*t->v), by_name);
	for (size_t i = 1; i < t->n; i++)
		if (!strcmp(t->v[i - 1].name, t->v[i].name))
			return "a file occurs twice in it";
	return t->n ? NULL : "it is empty";
}

static bool write_all(int fd, const uint8_t *data, size_t n)
{
	while (n) {
		ssize_t r = write(fd, data, n);
		if (r < 0 && errno != EINTR)
			return false;
		data += r > 0 ? r : 0;
		n -= r > 0 ? (size_t)r : 0;
	}
	return true;
}

/* Put the plain contents of a compressed archive in its place. NULL, or what is wrong. */
static const char *unpack(struct tarfile *t, uint64_t size)
{
	struct inflate *f = inflate_open(t->fd, size, 2 * MAX_UNPACKED);
	int out = f ? store_tmpfile(t->store) : -1, r = -1;
	const char *why = f ? "no temporary file can be made in the store" : "out of memory";
	uint64_t total = 0;
	const void *data;
	size_t n;

	while (out >= 0 && (r = inflate_next(f, &data, &n)) > 0) {
		progress_add(inflate_progress(f));
		total += n;
		if (total <= MAX_UNPACKED && write_all(out, data, n))
			continue;
		why = total > MAX_UNPACKED ? "it unpacks to more than 4 GiB: unpack it first"
					   : "its contents cannot be written to the store";
		break;
	}
	if (r < 0 && out >= 0)
		why = inflate_error(f); /* a static text */
	if (f)
		inflate_close(f);
	if (r == 0) {
		close(t->fd);
		t->fd = out;
		return NULL;
	}
	if (out >= 0)
		close(out);
	return why;
}

/* By the magic number; of xz and bzip2 inflate.c says that they are not known. */
static bool is_compressed(int fd)
{
	static const char *const magic[] = {"\x1f\x8b", "\x28\xb5\x2f\xfd", "\xfd\x37zXZ", "BZh"};
	char m[8] = {0};

	if (pread(fd, m, sizeof(m), 0) != sizeof(m))
		return false;
	for (size_t i = 0; i < sizeof(magic) / sizeof(magic[0]); i++)
		if (!memcmp(m, magic[i], strlen(magic[i])))
			return true;
	return false;
}

static const char *read_table(struct tarfile *t, uint64_t size)
{
	const char *why = "it is not a tar file";
	struct archive *a;

	if (is_compressed(t->fd)) {
		progress_begin("Unpacking the archive", size, true);
		const char *failed = unpack(t, size);
		progress_end();
		if (failed)
			return failed;
	}
	a = archive_read_new();
	if (a && !archive_read_support_format_tar(a) && lseek(t->fd, 0, SEEK_SET) == 0 &&
	    !archive_read_open_fd(a, t->fd, 1 << 16))
		why = read_headers(t, a);
	archive_read_free(a);
	return why;
}

struct tarfile *tarfile_open(struct store *s, const char *file)
{
	struct tarfile *t = calloc(1, sizeof(*t));
	struct stat st;
	const char *why;

	if (!t) {
		say("out of memory");
		return NULL;
	}
	t->store = s;
	t->fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (t->fd < 0)
		why = strerror(errno);
	else if (fstat(t->fd, &st) || !S_ISREG(st.st_mode))
		why = "not a regular file";
	else
		why = read_table(t, (uint64_t)st.st_size);
	if (!why)
		return t;
	say("%s: %s", file, why);
	tarfile_close(t);
	return NULL;
}

void tarfile_close(struct tarfile *t)
{
	if (!t)
		return;
	if (t->fd >= 0)
		close(t->fd);
	for (size_t i = 0; i < t->n; i++) {
		free(t->v[i].name);
		free(t->v[i].link);
	}
	free(t->v);
	free(t);
}

const struct tar_member *tarfile_find(const struct tarfile *t, const char *name)
{
	char clean[MAX_NAME];
	struct tar_member key = {.name = clean};
	const struct tar_member *m;

	if (!clean_name(name, clean) || !t->n)
		return NULL;
	m = bsearch(&key, t->v, t->n, sizeof(*t->v), by_name);
	for (int i = 0; m && m->link && i < MAX_LINKS; i++) {
		key.name = m->link;
		m = bsearch(&key, t->v, t->n, sizeof(*t->v), by_name);
	}
	return m && m->link ? NULL : m;
}

uint64_t tarfile_size(const struct tar_member *m)
{
	return m->size;
}

long tarfile_peek(const struct tarfile *t, const struct tar_member *m, void *buf, size_t n)
{
	ssize_t r = pread(t->fd, buf, n < m->size ? n : (size_t)m->size, (off_t)m->offset);

	return r < 0 ? -errno : (long)r;
}

int tarfile_fd(struct tarfile *t, const struct tar_member *m)
{
	int fd = store_tmpfile(t->store), r;

	if (fd < 0)
		return fd;
	r = copy_bytes(t->fd, m->offset, m->size, fd, 0);
	if (r) {
		close(fd);
		return r == -ENODATA ? -EBADMSG : r;
	}
	return fd;
}
