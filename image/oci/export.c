/* SPDX-License-Identifier: ISC */
/*
 * An image of the store as an OCI archive: a ustar file of an OCI layout, which other tools and image_import_named() read.
 *
 *   oci-layout, index.json, blobs/sha256/<manifest>, <config>, <layers, each once, in the manifest's order>
 *
 * Equal images and names give equal bytes: owner 0, mode 0644, time 0, this order, no directories. The file appears whole or
 * not at all: it is written without a name, synced, and then gets its name. Blobs are hashed on the way, so
 * that a store damaged on the disk is not spread.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/oci/import.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define CHUNK (256u << 10)

struct export
{
	struct store *s;
	const char *file; /* for messages */
	struct archive *a;
	struct strings done; /* blobs that are in it */
};

static int bad(const struct export *x)
{
	const char *why = archive_error_string(x->a);

	return say_fail(EXIT_OURS, "%s: it cannot be written: %s", x->file, why ? why : say_errno(errno));
}

static int put_header(struct export *x, const char *name, uint64_t size)
{
	struct archive_entry *e = archive_entry_new();
	int r = ARCHIVE_FATAL;

	if (e) {
		archive_entry_set_pathname(e, name);
		archive_entry_set_size(e, (la_int64_t)size);
		archive_entry_set_filetype(e, AE_IFREG);
		archive_entry_set_perm(e, 0644);
		archive_entry_set_mtime(e, 0, 0);
		r = archive_write_header(x->a, e);
		archive_entry_free(e);
	}
	return r == ARCHIVE_OK ? 0 : bad(x);
}

static int put_text(struct export *x, const char *name, const char *text)
{
	size_t n = strlen(text);
	int status = put_header(x, name, n);

	if (!status && archive_write_data(x->a, text, n) != (la_ssize_t)n)
		status = bad(x);
	return status;
}

/* The contents of a blob; its digest must be its name. */
static int put_contents(struct export *x, int fd, const char *hex)
{
	uint8_t *buf = malloc(CHUNK), digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx ctx;
	char found[65];
	int status = 0;
	ssize_t n = 0;

	sha256_init(&ctx);
	while (buf && !status && ((n = read(fd, buf, CHUNK)) > 0 || (n < 0 && errno == EINTR))) {
		if (n < 0)
			continue;
		sha256_update(&ctx, (size_t)n, buf);
		if (archive_write_data(x->a, buf, (size_t)n) != n)
			status = bad(x);
		progress_add((uint64_t)n);
	}
	free(buf);
	if (status)
		return status;
	if (!buf || n < 0)
		return say_fail(EXIT_OURS, "%s: blob sha256:%s of the store cannot be read", x->file, hex);
	sha256_digest(&ctx, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(found + 2 * i, 3, "%02x", digest[i]);
	if (strcmp(found, hex))
		return say_fail(EXIT_OURS, "%s: blob sha256:%s of the store is damaged", x->file, hex);
	return 0;
}

static int put_blob(struct export *x, const char *hex)
{
	uint64_t size;
	char name[80];
	int fd, status;

	if (strings_has(&x->done, hex))
		return 0;
	strings_add(&x->done, hex);
	fd = store_blob(x->s, hex, &size);
	if (fd < 0)
		return say_fail(EXIT_OURS, "%s: blob sha256:%s is not in the store: %s", x->file, hex,
				say_errno(-fd));
	snprintf(name, sizeof(name), "blobs/sha256/%s", hex);
	status = put_header(x, name, size);
	if (!status)
		status = put_contents(x, fd, hex);
	close(fd);
	return status;
}

/* index.json with one image. malloc. */
static char *format_index(const char *hex, size_t n, const char *ref)
{
	json_t *entry = json_pack("{s:s, s:s+, s:I}", "mediaType", MEDIA_MANIFEST, "digest", "sha256:", hex,
				  "size", (json_int_t)n);
	json_t *root;
	char *text;

	if (entry && ref && *ref)
		json_object_set_new(entry, "annotations",
				    json_pack("{s:s}", "org.opencontainers.image.ref.name", ref));
	root = json_pack("{s:i, s:s, s:[o]}", "schemaVersion", 2, "mediaType", MEDIA_INDEX, "manifests",
			 entry);
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}

static int put_image(struct export *x, const char *hex, const char *ref)
{
	struct oci_manifest m;
	const char *why;
	char *data, *index;
	uint64_t total = 0;
	size_t n;
	int status, r = store_get(x->s, hex, OCI_MAX_MANIFEST, &data, &n);

	if (r)
		return say_fail(EXIT_OURS, "%s: manifest sha256:%s of the store: %s", x->file, hex,
				say_errno(-r));
	why = oci_manifest_parse(data, n, &m);
	free(data);
	if (why)
		return say_fail(EXIT_OURS, "%s: manifest sha256:%s of the store: %s", x->file, hex, why);
	for (size_t i = 0; i < m.n_layers; i++)
		total += m.layers[i].size;
	progress_begin("Exporting", total, true);
	index = format_index(hex, n, ref);
	status = put_text(x, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
	if (!status)
		status = index ? put_text(x, "index.json", index)
			       : say_fail(EXIT_OURS, "%s: out of memory", x->file);
	if (!status)
		status = put_blob(x, hex);
	if (!status)
		status = put_blob(x, m.config.hex);
	for (size_t i = 0; !status && i < m.n_layers; i++)
		status = put_blob(x, m.layers[i].hex);
	progress_end();
	free(index);
	oci_manifest_free(&m);
	return status;
}

static int write_archive(struct export *x, int fd, const char *hex, const char *ref)
{
	int status;

	x->a = archive_write_new();
	if (!x->a)
		return say_fail(EXIT_OURS, "out of memory");
	if (archive_write_set_format_ustar(x->a) || archive_write_set_bytes_per_block(x->a, CHUNK) ||
	    archive_write_set_bytes_in_last_block(x->a, 512) || archive_write_open_fd(x->a, fd))
		status = bad(x);
	else
		status = put_image(x, hex, ref);
	if (!status && archive_write_close(x->a))
		status = bad(x);
	archive_write_free(x->a);
	strings_free(&x->done);
	return status;
}

/*
 * A file without a name in the directory of `file`, so that a kill leaves nothing; *named: the file system cannot do that,
 * and it has the name `tmp`. -1 with errno.
 */
static int open_beside(const char *file, const char *tmp, bool *named)
{
	const char *slash = strrchr(file, '/');
	char *dir = slash ? textf("%.*s", (int)(slash - file) + 1, file) : textf(".");
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);

	free(dir);
	*named = false;
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
		fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		*named = fd >= 0;
	}
	return fd;
}

/* On disk, then under its name in one step. */
static bool give_name(int fd, const char *tmp, bool *named, const char *file)
{
	char path[32];

	if (fsync(fd))
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!*named && linkat(AT_FDCWD, path, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW))
		return false;
	*named = true;
	if (rename(tmp, file))
		return false;
	*named = false;
	return true;
}

int image_export_archive(struct store *s, const char *hex, const char *ref, const char *file)
{
	struct export x = {.s = s, .file = file};
	struct stat st;
	bool named;

	/* A rename would put a file where a device or a directory is. */
	if (!stat(file, &st) && !S_ISREG(st.st_mode))
		return say_fail(EXIT_OURS, "%s: it cannot be written: it is no regular file", file);
	char *tmp = textf("%s.%d.tmp", file, (int)getpid());
	int fd = open_beside(file, tmp, &named);
	int status = fd < 0 ? -1 : write_archive(&x, fd, hex, ref);
	if (status < 0 || (!status && !give_name(fd, tmp, &named, file)))
		status = say_fail(EXIT_OURS, "%s: it cannot be written: %s", file, say_errno(errno));
	if (named)
		unlink(tmp);
	if (fd >= 0)
		close(fd);
	free(tmp);
	return status;
}
