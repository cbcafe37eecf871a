/* SPDX-License-Identifier: ISC */
/*
 * Removing what no name reaches. The caller excludes all others.
 *
 *   1. names of signatures whose image is gone
 *   2. everything in tmp/: nobody is writing. But a download that broke off within the last day stays, for the pull that goes
 *      on with it (image/oci/fetch.c)
 *   3. memos that speak of blobs which go; all of them with `all`
 *   4. blobs that no image holds: manifests first, then the rest
 *
 * Each step is on disk before the next: whoever finds a manifest, by a memo or by its digest, may rely on it that its
 * layers were not taken first, even if this here is killed in the middle. If a name is broken (account.c) step 4 is left
 * out: a blob that looks unused could be that name's.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/store/account.h"
#include "image/store/inside.h"

#define DOWNLOAD_KEPT_S 86400

struct prune {
	struct store *s;
	struct account *a;
	bool all, dry_run;
	struct prune_result *r;
};

static void failed(struct prune *p, int err)
{
	if (!p->r->error)
		p->r->error = err;
}

static uint64_t disk_of(const struct stat *st)
{
	return (uint64_t)st->st_blocks * 512;
}

/* --- tmp/ -------------------------------------------------------------------------------------------- */

static uint64_t tree_sum; /* nftw(3) takes no argument */

static int add_to_sum(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path, (void)type, (void)ftw;
	tree_sum += disk_of(st);
	return 0;
}

/* A download that somebody may want to go on with? */
static bool fresh_download(int dirfd, const char *name)
{
	struct stat st;

	return !strncmp(name, "partial-", 8) && !fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) &&
	       S_ISREG(st.st_mode) && time(NULL) - st.st_mtime < DOWNLOAD_KEPT_S;
}

static int clear_leftover(void *arg, int dirfd, const char *name)
{
	struct prune *p = arg;

	if (!p->all && fresh_download(dirfd, name))
		return 0;
	char *path = textf("%s/tmp/%s", p->s->path, name);
	int r = 0;
	tree_sum = 0;
	nftw(path, add_to_sum, 32, FTW_PHYS);
	if (!p->dry_run)
		r = unlink(path) && errno != ENOENT ? -errno : 0;
	if (r == -EISDIR)
		r = store_rmtree(path);
	free(path);
	if (r) {
		failed(p, r);
		return 0;
	}
	p->r->leftovers++;
	p->r->bytes += tree_sum;
	return 0;
}

/* --- memos --------------------------------------------------------------------------------------------- */

/* Does a memo's value, or its name, speak of a blob that goes? Other digests say nothing: they may be those of sources. */
static bool memo_is_stale(struct prune *p, const char *value)
{
	static const char digits[] = "0123456789abcdef";
	char hex[65] = "";

	for (const char *c = value; *c;) {
		size_t n = strspn(c, digits);
		if (n != 64) {
			c += n ? n : 1;
			continue;
		}
		memcpy(hex, c, 64);
		ssize_t i = account_find_blob(p->a, hex);
		if (i >= 0 && !p->a->blobs[i].users && !p->r->refused)
			return true;
		c += n;
	}
	return false;
}

static int clear_memo(void *arg, int dirfd, const char *name)
{
	struct prune *p = arg;
	struct stat st;
	char *value = memo_value(p->s, name);
	bool stale = p->all || !value || memo_is_stale(p, value) || memo_is_stale(p, name);

	free(value);
	if (!stale || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return 0;
	if (!p->dry_run && unlinkat(dirfd, name, 0)) {
		failed(p, -errno);
		return 0;
	}
	p->r->memos++;
	p->r->bytes += disk_of(&st);
	return 0;
}

/* --- blobs ------------------------------------------------------------------------------------------------ */

/* A manifest that no image holds: it goes before what it speaks of. Most large blobs are none by their size. */
static bool looks_like_manifest(struct store *s, const struct account_blob *b)
{
	struct oci_manifest m;
	char *text;
	size_t n;

	if (b->size > OCI_MAX_MANIFEST || store_get(s, b->hex, OCI_MAX_MANIFEST, &text, &n))
		return false;
	const char *why = text[0] == '{' ? oci_manifest_parse(text, n, &m) : "no JSON";
	if (!why)
		oci_manifest_free(&m);
	free(text);
	return !why;
}

static void clear_blobs(struct prune *p, bool manifests)
{
	for (size_t i = 0; i < p->a->n_blobs; i++) {
		struct account_blob *b = &p->a->blobs[i];
		if (b->users || b->manifest != manifests)
			continue;
		char *path = textf(BLOBS "/%s", b->hex);
		int r = !p->dry_run && unlinkat(p->s->dir, path, 0) && errno != ENOENT ? -errno : 0;
		free(path);
		if (r) {
			failed(p, r);
			if (manifests)
				return; /* what it speaks of stays, too: prune_run() ends here */
			continue;
		}
		p->r->blobs++;
		p->r->bytes += b->disk;
	}
	int r = p->dry_run ? 0 : sync_dir(p->s, BLOBS);
	if (r)
		failed(p, r);
}

int prune_run(struct store *s, struct account *a, bool all, bool dry_run, struct prune_result *out)
{
	struct prune p = {s, a, all, dry_run, out};
	int r;

	memset(out, 0, sizeof(*out));
	out->refused = a->broken.n > 0;
	for (size_t i = 0; i < a->orphans.n; i++) {
		r = dry_run ? 0 : store_ref_remove(s, a->orphans.v[i]);
		if (r)
			return r;
		out->names++;
	}
	if ((r = each_entry(s, "tmp", clear_leftover, &p)))
		return r;
	for (size_t i = 0; i < a->n_blobs; i++)
		if (!a->blobs[i].users)
			a->blobs[i].manifest = looks_like_manifest(s, &a->blobs[i]);
	if ((r = each_entry(s, "memos", clear_memo, &p)))
		return r;
	if (out->refused)
		return 0;
	if (!dry_run && (r = sync_dir(s, "memos")))
		return r;
	clear_blobs(&p, true);
	if (!out->error)
		clear_blobs(&p, false);
	return 0;
}
