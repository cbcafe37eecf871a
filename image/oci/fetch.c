/* SPDX-License-Identifier: ISC */
/*
 * Blobs from a registry, in spite of connections that break.
 *
 * A blob comes into DIR/tmp/partial-HEX of the store, at most its size, and is locked (flock) by who fetches it. What is there
 * already, from a transfer that broke in this process or in one that was killed, is not asked for again: a
 * Range request brings the rest. When all is there the file is hashed; if the digest is wrong, and a part was older than this
 * request, it is fetched once more from the beginning; else the registry does not have what it promised.
 *
 *   absent ──open──▶ partial ──Range──▶ partial ... ──all bytes──▶ hashed ──▶ handed out ──fetch_done()──▶ absent
 *                       ▲                                            │
 *                       └──────────── wrong digest, once ────────────┘
 *
 * Pauses between tries grow; SESSION_TRIES tries in a row without PROGRESS bytes gained are the end, and MAX_ROUNDS in
 * any case. The partial file stays then, for the next `cowbell pull`; prune removes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/oci/registry.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define PROGRESS   (64u << 10)
#define MAX_ROUNDS 200

int fetch_small(struct session *s, const char *what, const char *accept, uint64_t max, const char *hex,
		struct http_response *r, bool *found)
{
	char *url = session_url(s, "%s", what), digest[65];
	struct strings headers = {0};
	struct http_request q = {.method = "GET",
				 .url = url,
				 .headers = &headers,
				 .body_fd = -1,
				 .out_fd = -1,
				 .out_max = max,
				 .follow = true};
	int status = 0;

	if (accept)
		strings_addf(&headers, "Accept: %s", accept);
	enum http_failure f = session_do(s, &q, r, SESSION_TRIES);
	*found = f == HTTP_OK && r->status == 200;
	if (!*found && !(f == HTTP_OK && r->status == 404))
		status = session_fail(s, what + 1, f, r);
	if (*found && hex) {
		sha256_hex(r->body, r->n_body, digest);
		if (strcmp(digest, hex))
			status = say_fail(EXIT_OURS, "%s: %s: what comes does not have the digest sha256:%s",
					  s->host, what + 1, hex);
	}
	if (status) {
		http_response_free(r);
		*found = false;
	}
	strings_free(&headers);
	free(url);
	return status;
}

/* --- the partial file ------------------------------------------------------------------------------------------------- */

static void partial_path(struct store *st, const char *hex, char *buf, size_t size)
{
	snprintf(buf, size, "%s/tmp/partial-%s", store_dir(st), hex);
}

/* Open and lock it; another process may have finished with it, and removed it, while we waited. -errno. */
static int open_partial(struct store *st, const char *hex)
{
	char path[4352];
	struct stat s;

	partial_path(st, hex, path, sizeof(path));
	for (int i = 0; i < 100; i++) {
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX) || fstat(fd, &s)) {
			int err = -errno;
			close(fd);
			return err;
		}
		if (s.st_nlink)
			return fd;
		close(fd);
	}
	return -EBUSY;
}

void fetch_done(struct store *st, const char *hex)
{
	char path[4352];

	partial_path(st, hex, path, sizeof(path));
	unlink(path);
}

/* How much is there; a file that is longer than the blob is of no use. */
static int64_t have_bytes(int fd, uint64_t size)
{
	struct stat s;

	if (fstat(fd, &s))
		return -errno;
	if ((uint64_t)s.st_size <= size)
		return s.st_size;
	return ftruncate(fd, 0) ? -errno : 0;
}

/* --- transfer ------------------------------------------------------------------------------------------------------------ */

/* One request for what is missing. */
static enum http_failure fetch_rest(struct session *s, const char *url, int fd, uint64_t have, uint64_t size,
				    struct http_response *r)
{
	struct http_request q = {.method = "GET",
				 .url = url,
				 .body_fd = -1,
				 .out_fd = fd,
				 .out_max = size - have,
				 .resume_from = have,
				 .follow = true,
				 .progress = true};

	if (lseek(fd, (off_t)have, SEEK_SET) < 0) {
		memset(r, 0, sizeof(*r));
		snprintf(r->error, sizeof(r->error), "%s", say_errno(errno));
		return HTTP_REFUSED;
	}
	enum http_failure f = session_do(s, &q, r, 1);
	/* Nothing of the part that we hoped to go on with is valid. */
	if (f == HTTP_OK && r->status == 416 && have && !ftruncate(fd, 0))
		r->restarted = true;
	return f;
}

/* Until all bytes are there. *resumed: some of them are older than the last answer from the beginning. */
static int fetch_all(struct session *s, const char *what, const char *url, int fd, uint64_t size,
		     bool *resumed)
{
	int tries = 0;
	int64_t have = have_bytes(fd, size);

	*resumed = have > 0;
	for (int round = 0; have >= 0 && (uint64_t)have < size; round++) {
		struct http_response r;
		uint64_t before = (uint64_t)have;
		enum http_failure f = fetch_rest(s, url, fd, before, size, &r);
		if (r.restarted)
			*resumed = false;
		have = have_bytes(fd, size);
		bool good = f == HTTP_OK &&
			    (r.status == 200 || r.status == 206 || (r.status == 416 && r.restarted));
		if (have >= 0 && (uint64_t)have == size && good) {
			http_response_free(&r);
			break;
		}
		tries = have >= 0 && (uint64_t)have >= before + PROGRESS ? 1 : tries + 1;
		if ((!good && !session_passing(f, &r)) || tries >= SESSION_TRIES || round >= MAX_ROUNDS) {
			if (good)
				snprintf(r.error, sizeof(r.error),
					 "the connection ends before all bytes are there");
			int status = session_fail(s, what, good ? HTTP_BROKEN : f, &r);
			/* Bytes of an answer that was no good, or that do not fit on the disk, are not to be kept. */
			if (f == HTTP_REFUSED && have != (int64_t)before && ftruncate(fd, 0))
				say("%s: %s", what, say_errno(errno));
			http_response_free(&r);
			return status;
		}
		session_pause(tries, &r);
		http_response_free(&r);
	}
	return have < 0 ? say_fail(EXIT_OURS, "%s: %s", what, say_errno((int)-have)) : 0;
}

static int fetch_checked(struct session *s, const struct oci_descriptor *d, const char *what, int fd)
{
	char *url = session_url(s, "/blobs/sha256:%s", d->hex), found[65];
	int status = 0;

	for (int i = 0; i < 2; i++) {
		bool resumed;
		status = fetch_all(s, what, url, fd, d->size, &resumed);
		if (status)
			break;
		int err = sha256_fd(fd, found);
		if (!err && !strcmp(found, d->hex))
			break;
		status = err ? say_fail(EXIT_OURS, "%s: %s", what, say_errno(-err)) : -1;
		if (err || ftruncate(fd, 0) || !resumed)
			break;
	}
	free(url);
	return status < 0 ? say_fail(EXIT_OURS, "%s: %s: what comes does not have this digest", s->host, what)
			  : status;
}

int fetch_blob(struct session *s, struct store *st, const struct oci_descriptor *d, int *out)
{
	char what[100];
	int fd = open_partial(st, d->hex);

	if (fd < 0)
		return say_fail(EXIT_OURS, "%s/tmp: %s", store_dir(st), say_errno(-fd));
	snprintf(what, sizeof(what), "blob sha256:%s", d->hex);
	progress_begin("fetching", d->size, true);
	int64_t have = have_bytes(fd, d->size);
	if (have > 0)
		progress_add((uint64_t)have);
	int status = fetch_checked(s, d, what, fd);
	progress_end();
	if (!status && lseek(fd, 0, SEEK_SET) < 0)
		status = say_fail(EXIT_OURS, "%s: %s", what, say_errno(errno));
	if (status) {
		if (have_bytes(fd, d->size) == 0)
			fetch_done(st, d->hex); /* nothing to go on with */
		close(fd);
		return status;
	}
	*out = fd;
	return 0;
}
