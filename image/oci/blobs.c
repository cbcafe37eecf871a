/* SPDX-License-Identifier: ISC */
/*
 * Does every blob that a manifest names have its digest?
 *
 * The store checks digests as blobs are written, and boots layers without hashing them again. For an image whose signature
 * is asked for that is not enough: a layer may have been changed on the disk since. So it is hashed again, and what was
 * found good is remembered in a memo, "blob" HEX -> "DEV INODE SIZE MTIME CTIME" (times in ns). As long as all of these
 * are the same, the bytes are: every write changes ctime, and ctime cannot be set back without the system's clock.
 * A file that was changed within the last two seconds gets no memo, since two changes within one tick of the
 * clock that stamps files have one ctime.
 *
 * `cowbell verify` does not use the memo. Not covered: who can write into the store while an image is started (the
 * store's owner and root), for he can write memos, too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/oci/oci.h"
#include "image/oci/sign.h"
#include "lib/host/say.h"

#define KIND	  "blob"
#define SETTLE_NS 2000000000ll

static long long ns_of(struct timespec t)
{
	return (long long)t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void describe(const struct stat *st, char *buf, size_t size)
{
	snprintf(buf, size, "%llx %llx %llx %llx %llx", (unsigned long long)st->st_dev,
		 (unsigned long long)st->st_ino, (unsigned long long)st->st_size,
		 (unsigned long long)ns_of(st->st_mtim), (unsigned long long)ns_of(st->st_ctim));
}

static bool remembered(struct store *s, const char *hex, const char *now)
{
	char *memo = store_memo_get(s, KIND, hex);
	bool same = memo && !strcmp(memo, now);

	free(memo);
	return same;
}

static int hash_blob(struct store *s, int fd, const char *hex)
{
	char before[128], after[128], found[65];
	struct stat st;
	struct timespec clock;

	if (fstat(fd, &st))
		return -errno;
	describe(&st, before, sizeof(before));
	int err = sha256_fd(fd, found);
	if (err)
		return err;
	if (strcmp(found, hex))
		return -EBADMSG;
	if (fstat(fd, &st))
		return -errno;
	describe(&st, after, sizeof(after));
	clock_gettime(CLOCK_REALTIME, &clock);
	if (!strcmp(before, after) && ns_of(clock) - ns_of(st.st_ctim) > SETTLE_NS)
		store_memo_set(s, KIND, hex, after);
	return 0;
}

/* One blob. 0 or -errno: -EBADMSG, -ENOENT. */
static int verify_blob(struct store *s, const struct oci_descriptor *d, bool use_memo)
{
	char now[128];
	struct stat st;
	uint64_t size;
	int err, fd = store_blob(s, d->hex, &size);

	if (fd < 0)
		return fd;
	if (fstat(fd, &st)) {
		err = -errno;
	} else if (size != d->size) {
		err = -EBADMSG;
	} else {
		describe(&st, now, sizeof(now));
		err = use_memo && remembered(s, d->hex, now) ? 0 : hash_blob(s, fd, d->hex);
	}
	close(fd);
	return err;
}

static int complain(const char *name, const char *what, const char *hex, int err)
{
	return say_fail(EXIT_OURS, "%s: %s sha256:%.12s... %s", name, what, hex,
			err == -EBADMSG	 ? "was changed: it does not have its digest"
			: err == -ENOENT ? "is missing"
					 : strerror(-err));
}

int blobs_verify(struct store *s, const char *name, const char *manifest_hex, bool use_memo)
{
	struct oci_manifest m;
	char *text;
	size_t n;
	int err = store_get(s, manifest_hex, OCI_MAX_MANIFEST, &text, &n);

	if (err)
		return complain(name, "manifest", manifest_hex, err);
	const char *why = oci_manifest_parse(text, n, &m);
	free(text);
	if (why)
		return say_fail(EXIT_OURS, "%s: %s", name, why);
	int status = 0;
	if ((err = verify_blob(s, &m.config, use_memo)))
		status = complain(name, "configuration", m.config.hex, err);
	for (size_t i = 0; i < m.n_layers && !status; i++)
		if ((err = verify_blob(s, &m.layers[i], use_memo)))
			status = complain(name, "layer", m.layers[i].hex, err);
	oci_manifest_free(&m);
	return status;
}
