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

static int take_blob(void *arg, int dirfd, const char *name)
{
	struct account *a = arg;
	struct stat st;

	if (!is_digest(name) || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return 0; /* not ours */
	a->blobs = grow(a->blobs, a->n_blobs, sizeof(*a->blobs));
	struct account_blob *b = &a->blobs[a->n_blobs++];
	memset(b, 0, sizeof(*b));
	strcpy(b->hex, name);
	b->present = true;
	b->size = (uint64_t)st.st_size;
	b->disk = (uint64_t)st.st_blocks * 512;
	a->disk += b->disk;
	return 0;
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

struct account_image *account_find_image(const struct account *a, const char *hex)
{
	for (size_t i = 0; i < a->n_images; i++)
		if (!strcmp(a->images[i].hex, hex))
			return &a->images[i];
	return NULL;
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

	if (!im) {
		a->images = grow(a->images, a->n_images, sizeof(*a->images));
		im = &a->images[a->n_images++];
		memset(im, 0, sizeof(*im));
		strcpy(im->hex, hex);
		im->damage = read_manifest(s, hex, &im->manifest);
		if (!im->damage)
			hold_all(a, a->n_images - 1, hex, &im->manifest);
		else
			hold(a, a->n_images - 1, hex);
	}
	strings_add(&im->names, ref);
	if (im->damage)
		strings_addf(&a->broken, "%s: %s", ref, im->damage);
}

static bool has_name(const struct account_image *im, const char *name, size_t n)
{
	for (size_t i = 0; i < im->names.n; i++)
		if (!strncmp(im->names.v[i], name, n) && strrchr(im->names.v[i], ':') == im->names.v[i] + n)
			return true;
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

void account_close(struct account *a)
{
	for (size_t i = 0; i < a->n_images; i++) {
		strings_free(&a->images[i].names);
		strings_free(&a->images[i].signatures);
		oci_manifest_free(&a->images[i].manifest);
		free(a->images[i].blob);
	}
	free(a->images);
	free(a->blobs);
	strings_free(&a->orphans);
	strings_free(&a->broken);
	memset(a, 0, sizeof(*a));
}
