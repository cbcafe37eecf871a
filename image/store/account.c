/* SPDX-License-Identifier: ISC */
/*
 * The account of the store: images, their blobs, and for each blob how many images hold it.
 *
 * An image is a manifest; it may have many names. It holds its manifest, its configuration, every entry among its layers
 * (SBOMs too) and the blobs of its signatures. A signature of the image HEX is kept under "NAME:sha256-HEX.sig" and belongs to
 * the image as long as some NAME:TAG leads to it.
 *
 * Bytes are blocks on disk (st_blocks), as stored: a blob that two images hold is in the `disk` of both and in the
 * `own` of neither, so `own` is exactly what removing an image's names and a prune would free.
 *
 * Images are found by their digests in a table of twice as many places or more, the first 32 bits of a digest saying where
 * to begin to look; blobs are sorted. So the account of n blobs takes O(n log n), however many names there are.
 *
 * A manifest that cannot be read or parsed makes its name "broken": which blobs it needs is not known, so none may be
 * called unused on its account.
 */
#include "image/store/account.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image/store/inside.h"
#include "lib/host/say.h"

static void *grow(void *v, size_t n, size_t size)
{
	if (n & (n - 1)) /* room is doubled when n is a power of two (or 0) */
		return v;
	v = realloc(v, (n ? n * 2 : 1) * size);
	if (!v)
		exit(say_fail(EXIT_OURS, "out of memory"));
	return v;
}

size_t signature_of(const char *ref, char hex[65])
{
	const char *colon = strrchr(ref, ':');

	if (!colon || strncmp(colon, ":sha256-", 8) || strlen(colon) != 8 + 64 + 4 ||
	    strcmp(colon + 72, ".sig"))
		return 0;
	memcpy(hex, colon + 8, 64);
	hex[64] = 0;
	return is_digest(hex) ? (size_t)(colon - ref) : 0;
}

/* --- blobs ---------------------------------------------------------------------------------------- */

static void add_blob(struct account *a, const char *name, const struct stat *st)
{
	a->blobs = grow(a->blobs, a->n_blobs, sizeof(*a->blobs));
	struct account_blob *b = &a->blobs[a->n_blobs++];
	memset(b, 0, sizeof(*b));
	strcpy(b->hex, name);
	b->present = true;
	b->size = (uint64_t)st->st_size;
	b->disk = (uint64_t)st->st_blocks * 512;
	a->disk += b->disk;
}

static int take_blob(void *arg, int dirfd, const char *name)
{
	struct stat st;

	if (is_digest(name) && !fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode))
		add_blob(arg, name, &st);
	return 0; /* others are not ours */
}

static int by_hex(const void *x, const void *y)
{
	return strcmp(((const struct account_blob *)x)->hex, ((const struct account_blob *)y)->hex);
}

ssize_t account_find_blob(const struct account *a, const char *hex)
{
	const struct account_blob *b = a->n_blobs ? bsearch(hex - offsetof(struct account_blob, hex),
							    a->blobs, a->n_blobs, sizeof(*b), by_hex)
						  : NULL;

	return b ? b - a->blobs : -1;
}

/* The image (by index) holds this blob. */
static void hold(struct account *a, size_t image, const char *hex)
{
	struct account_image *im = &a->images[image];
	ssize_t i = account_find_blob(a, hex);

	if (i < 0) {
		im->missing++;
		return;
	}
	struct account_blob *b = &a->blobs[i];
	if (b->last == image + 1)
		return;
	b->last = (unsigned)image + 1;
	b->users++;
	im->blob = grow(im->blob, im->n_blobs, sizeof(*im->blob));
	im->blob[im->n_blobs++] = (size_t)i;
	im->size += b->size;
	im->disk += b->disk;
}

/* --- images ------------------------------------------------------------------------------------------ */

/* Where the image is in the table, or would be. */
static size_t place_of(const struct account *a, const char *hex)
{
	char head[9] = "";

	memcpy(head, hex, 8);
	size_t at = strtoul(head, NULL, 16) & (a->n_table - 1);
	while (a->table[at] && strcmp(a->images[a->table[at] - 1].hex, hex))
		at = (at + 1) & (a->n_table - 1);
	return at;
}

struct account_image *account_find_image(const struct account *a, const char *hex)
{
	uint32_t i = a->n_table ? a->table[place_of(a, hex)] : 0;

	return i ? &a->images[i - 1] : NULL;
}

/* Room for one image more; the last one is entered. */
static void enter_last(struct account *a)
{
	size_t from = a->n_images - 1;

	if (a->n_images * 2 > a->n_table) {
		free(a->table);
		a->n_table = a->n_table ? a->n_table * 2 : 64;
		a->table = calloc(a->n_table, sizeof(*a->table));
		if (!a->table)
			exit(say_fail(EXIT_OURS, "out of memory"));
		from = 0;
	}
	for (size_t i = from; i < a->n_images; i++)
		a->table[place_of(a, a->images[i].hex)] = (uint32_t)i + 1;
}

static const char *read_manifest(struct store *s, const char *hex, struct oci_manifest *m)
{
	char *text;
	size_t n;

	memset(m, 0, sizeof(*m));
	int r = store_get(s, hex, OCI_MAX_MANIFEST, &text, &n);
	if (r)
		return r == -ENOENT    ? "its manifest is missing"
		       : r == -EBADMSG ? "its manifest is damaged"
				       : "its manifest cannot be read";
	const char *why = oci_manifest_parse(text, n, m);
	free(text);
	return why;
}

static void mark_manifest(struct account *a, const char *hex)
{
	ssize_t i = account_find_blob(a, hex);

	if (i >= 0)
		a->blobs[i].manifest = true;
}

/* The manifest's blobs are the image's. */
static void hold_all(struct account *a, size_t image, const char *hex, const struct oci_manifest *m)
{
	mark_manifest(a, hex);
	hold(a, image, hex);
	hold(a, image, m->config.hex);
	for (size_t i = 0; i < m->n_layers; i++)
		hold(a, image, m->layers[i].hex);
}

static void take_image(struct store *s, struct account *a, const char *ref, const char *hex)
{
	struct account_image *im = account_find_image(a, hex);
	struct oci_manifest m;

	if (!im) {
		a->images = grow(a->images, a->n_images, sizeof(*a->images));
		im = &a->images[a->n_images++];
		memset(im, 0, sizeof(*im));
		strcpy(im->hex, hex);
		enter_last(a);
		im->damage = read_manifest(s, hex, &m);
		if (!im->damage) {
			strcpy(im->config, m.config.hex);
			hold_all(a, a->n_images - 1, hex, &m);
			oci_manifest_free(&m);
		} else {
			hold(a, a->n_images - 1, hex);
		}
	}
	if (*ref)
		strings_add(&im->names, ref);
	if (im->damage)
		strings_addf(&a->broken, "%s: %s", ref, im->damage);
}

/* Has it a name NAME:TAG with the NAME that these n bytes are? Names were added in their order. */
static bool has_name(const struct account_image *im, const char *name, size_t n)
{
	size_t low = 0, high = im->names.n;

	while (low < high) {
		size_t mid = (low + high) / 2;
		if (strncmp(im->names.v[mid], name, n + 1) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < im->names.n && !strncmp(im->names.v[low], name, n + 1); low++)
		if (strrchr(im->names.v[low], ':') == im->names.v[low] + n)
			return true; /* else a port's colon: NAME is the beginning of another one */
	return false;
}

static void take_signature(struct store *s, struct account *a, const char *ref, const char *hex)
{
	struct oci_manifest m;
	char target[65];
	size_t n = signature_of(ref, target);
	struct account_image *im = account_find_image(a, target);

	if (!im || !has_name(im, ref, n)) {
		strings_add(&a->orphans, ref);
		return;
	}
	strings_add(&im->signatures, ref);
	const char *why = read_manifest(s, hex, &m);
	if (why) {
		strings_addf(&a->broken, "%s: %s", ref, why);
		return;
	}
	hold_all(a, (size_t)(im - a->images), hex, &m);
	oci_manifest_free(&m);
}

static void sum_up(struct account *a)
{
	for (size_t i = 0; i < a->n_images; i++)
		for (size_t k = 0; k < a->images[i].n_blobs; k++) {
			const struct account_blob *b = &a->blobs[a->images[i].blob[k]];
			a->images[i].own += b->users == 1 ? b->disk : 0;
		}
	for (size_t i = 0; i < a->n_blobs; i++)
		if (!a->blobs[i].users) {
			a->unused += a->blobs[i].disk;
			a->n_unused++;
		}
}

int account_open(struct store *s, struct account *a)
{
	struct strings refs = {0};
	char hex[65], target[65];

	memset(a, 0, sizeof(*a));
	int r = store_refs(s, &refs);
	if (!r)
		r = each_entry(s, BLOBS, take_blob, a);
	if (a->n_blobs)
		qsort(a->blobs, a->n_blobs, sizeof(*a->blobs), by_hex);
	/* images first: signatures ask whose they are */
	for (int pass = 0; !r && pass < 2; pass++)
		for (size_t i = 0; i < refs.n; i++) {
			if (!signature_of(refs.v[i], target) != !pass)
				continue;
			if (store_ref_get(s, refs.v[i], hex))
				strings_addf(&a->broken, "%s: the name is damaged", refs.v[i]);
			else if (pass)
				take_signature(s, a, refs.v[i], hex);
			else
				take_image(s, a, refs.v[i], hex);
		}
	strings_free(&refs);
	if (r)
		account_close(a);
	else
		sum_up(a);
	return r;
}

/* --- one image ----------------------------------------------------------------------------------------- */

static void stat_blob(struct store *s, struct account *a, const char *hex)
{
	char path[BLOB_PATH_MAX];
	struct stat st;

	for (size_t i = 0; i < a->n_blobs; i++)
		if (!strcmp(a->blobs[i].hex, hex))
			return;
	if (blob_path(path, hex) && !fstatat(s->dir, path, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode))
		add_blob(a, hex, &st);
}

static void stat_all(struct store *s, struct account *a, const char *hex)
{
	struct oci_manifest m;

	stat_blob(s, a, hex);
	if (read_manifest(s, hex, &m))
		return;
	stat_blob(s, a, m.config.hex);
	for (size_t i = 0; i < m.n_layers; i++)
		stat_blob(s, a, m.layers[i].hex);
	oci_manifest_free(&m);
}

int account_open_one(struct store *s, const char *ref, const char *hex, struct account *a)
{
	const char *colon = strrchr(ref, ':');
	char *sig = colon ? textf("%.*s:sha256-%s.sig", (int)(colon - ref), ref, hex) : NULL, sig_hex[65];
	bool has_sig = sig && !store_ref_get(s, sig, sig_hex);

	memset(a, 0, sizeof(*a));
	stat_all(s, a, hex);
	if (has_sig)
		stat_all(s, a, sig_hex);
	if (a->n_blobs)
		qsort(a->blobs, a->n_blobs, sizeof(*a->blobs), by_hex);
	take_image(s, a, ref, hex);
	if (has_sig)
		take_signature(s, a, sig, sig_hex);
	free(sig);
	return 0;
}

void account_close(struct account *a)
{
	for (size_t i = 0; i < a->n_images; i++) {
		strings_free(&a->images[i].names);
		strings_free(&a->images[i].signatures);
		free(a->images[i].blob);
	}
	free(a->images);
	free(a->table);
	free(a->blobs);
	strings_free(&a->orphans);
	strings_free(&a->broken);
	memset(a, 0, sizeof(*a));
}
