/* SPDX-License-Identifier: ISC */
/*
 * Which image of the store a word means, and what cowbell tag and cowbell rm do with names.
 *
 * A word is a name first. Only if no image has that name, and the word is four or more hexadecimal digits, is it taken
 * as the beginning of a digest; it must be the beginning of one image's alone.
 *
 * A name leads to its image at once; only a part of a digest, and what has no name, takes a look at all names.
 *
 * Who changes names (tag, rm) takes a lock for it, because the signatures of an image go with its last name.
 */
#include "image/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/image.h"
#include "image/oci/reference.h"
#include "image/store/account.h"
#include "lib/host/say.h"

void size_text(uint64_t bytes, char buf[32])
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes;
	unsigned i = 0;

	for (; v >= 1024 && i < 4; i++)
		v /= 1024;
	snprintf(buf, 32, i ? "%.1f %s" : "%.0f %s", v, unit[i]);
}

void put_text(const char *text)
{
	for (; *text; text++)
		putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
}

static int not_found(const char *word)
{
	return say_fail(EXIT_NOT_FOUND, "%s: no such image; cowbell images lists them", word);
}

/* The one image whose digest begins so; of a whole digest no name is needed. */
static int find_prefix(struct store *s, const char *word, const char *digits, char hex[65])
{
	struct strings refs = {0}, found = {0};
	size_t n = strlen(digits);
	char h[65], sig[65];

	if (is_digest(digits) && store_has(s, digits)) {
		strcpy(hex, digits);
		return 0;
	}
	int r = store_refs(s, &refs);
	if (r)
		return say_fail(EXIT_OURS, "%s: %s", store_dir(s), say_errno(-r));
	for (size_t i = 0; i < refs.n; i++)
		if (!signature_of(refs.v[i], sig) && !store_ref_get(s, refs.v[i], h) &&
		    !strncmp(h, digits, n))
			strings_add_once(&found, h);
	if (found.n == 1)
		strcpy(hex, found.v[0]);
	else if (!found.n)
		r = not_found(word);
	else
		r = say_fail(EXIT_OURS, "%s: the digests of %zu images begin so; give more digits", word,
			     found.n);
	strings_free(&refs);
	strings_free(&found);
	return r;
}

static bool all_hex(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef");

	return n >= 4 && n <= 64 && !s[n];
}

int image_find(struct store *s, const char *word, char ref[IMAGE_REF_MAX], char hex[65])
{
	struct reference r;
	int err = -ENOENT;

	ref[0] = hex[0] = 0;
	if (!strncmp(word, "image:", 6))
		word += 6; /* as cowbell run wants it */
	if (!strncmp(word, "sha256:", 7) && all_hex(word + 7))
		return find_prefix(s, word, word + 7, hex);
	const char *why = reference_parse(word, &r);
	if (!why) {
		reference_text(&r, ref, IMAGE_REF_MAX);
		err = store_ref_get(s, ref, hex);
	}
	if (!err && r.hex[0] && strcmp(r.hex, hex)) {
		if (r.has_tag)
			return say_fail(EXIT_OURS, "%s: the name now means sha256:%.12s...", word, hex);
		ref[0] = 0;
		strcpy(hex, r.hex);
		return store_has(s, hex) ? 0 : not_found(word);
	}
	if (!err)
		return 0;
	ref[0] = 0;
	if (all_hex(word))
		return find_prefix(s, word, word, hex);
	if (why)
		return say_fail(EXIT_OURS, "%s: %s", word, why);
	if (r.hex[0])
		return find_prefix(s, word, r.hex, hex);
	if (err == -ENOENT || err == -ENAMETOOLONG)
		return not_found(word);
	if (err == -EBADMSG)
		return say_fail(EXIT_OURS, "%s: the name is damaged; cowbell rm %s removes it", word, word);
	return say_fail(EXIT_OURS, "%s: %s", word, say_errno(-err));
}

/* --- tag ----------------------------------------------------------------------------------------- */

static int check_manifest(struct store *s, const char *word, const char *hex)
{
	struct oci_manifest m;
	char *text;
	size_t n;
	int r = store_get(s, hex, OCI_MAX_MANIFEST, &text, &n);

	if (r)
		return say_fail(EXIT_OURS, "%s: its manifest cannot be read: %s", word, say_errno(-r));
	const char *why = oci_manifest_parse(text, n, &m);
	free(text);
	if (why)
		return say_fail(EXIT_OURS, "%s: no image: %s", word, why);
	oci_manifest_free(&m);
	return 0;
}

/* "NAME:sha256-HEX.sig" of "NAME:TAG". */
static char *signature_name(const char *ref, const char *hex)
{
	return textf("%.*s:sha256-%s.sig", (int)(strrchr(ref, ':') - ref), ref, hex);
}

/* The new name gets the signatures that the old one has, unless it has some. */
static int copy_signatures(struct store *s, const char *from_ref, const char *to_ref, const char *hex)
{
	char *from = signature_name(from_ref, hex), *to = signature_name(to_ref, hex), sig[65];
	int r = 0;

	if (strcmp(from, to) && !store_ref_get(s, from, sig) &&
	    store_ref_get(s, to, (char[65]){0}) == -ENOENT)
		r = store_ref_set(s, to, sig);
	free(from);
	free(to);
	return r;
}

static int tag_held(struct store *s, const char *from, const char *to, const struct reference *target)
{
	char ref[IMAGE_REF_MAX], new_ref[IMAGE_REF_MAX], hex[65], sig[65];
	int status = image_find(s, from, ref, hex);

	if (!status)
		status = check_manifest(s, from, hex);
	if (status)
		return status;
	reference_text(target, new_ref, sizeof(new_ref));
	if (signature_of(new_ref, sig))
		return say_fail(EXIT_OURS, "%s: names of this form are for signatures", to);
	int r = store_ref_set(s, new_ref, hex);
	if (!r && ref[0])
		r = copy_signatures(s, ref, new_ref, hex);
	if (r == -ENAMETOOLONG)
		return say_fail(EXIT_OURS, "%s: too long a name", to);
	return r ? say_fail(EXIT_OURS, "%s: %s", to, say_errno(-r)) : 0;
}

/* Open the store, hold it, and be the only one who changes names. NULL after one line. */
static struct store *open_for_names(int *lock)
{
	struct store *s = store_open();

	if (!s)
		return NULL;
	*lock = store_hold(s);
	if (!*lock)
		*lock = store_lock(s, "names");
	if (*lock >= 0)
		return s;
	say("%s: %s", store_dir(s), say_errno(-*lock));
	store_close(s);
	return NULL;
}

int image_tag(const char *from, const char *to)
{
	struct reference target;
	const char *why = reference_parse(to, &target);
	int lock;

	if (why)
		return say_fail(EXIT_OURS, "%s: %s", to, why);
	if (target.hex[0])
		return say_fail(EXIT_OURS, "%s: a new name cannot have a digest", to);
	struct store *s = open_for_names(&lock);
	if (!s)
		return EXIT_OURS;
	int status = tag_held(s, from, to, &target);
	close(lock);
	store_close(s);
	return status;
}

/* --- rm ---------------------------------------------------------------------------------------------- */

/* Has another name with the same NAME this digest? */
static bool still_named(struct store *s, const char *ref, const char *hex)
{
	struct strings refs = {0};
	int n = (int)(strrchr(ref, ':') - ref) + 1;
	char h[65], *begin = textf("%.*s", n, ref);
	bool found = false;

	store_refs_like(s, begin, "", &refs);
	for (size_t i = 0; i < refs.n && !found; i++)
		found = !strchr(refs.v[i] + n, ':') && !store_ref_get(s, refs.v[i], h) && !strcmp(h, hex);
	strings_free(&refs);
	free(begin);
	return found;
}

static int remove_ref(struct store *s, const char *ref)
{
	char hex[65], sig_hex[65];
	bool whole = !store_ref_get(s, ref, hex);
	int r = store_ref_remove(s, ref);

	if (r)
		return say_fail(r == -ENOENT ? EXIT_NOT_FOUND : EXIT_OURS, "%s: %s", ref,
				r == -ENOENT ? "no such image" : say_errno(-r));
	printf("removed %s\n", ref);
	char *sig = whole ? signature_name(ref, hex) : NULL;
	if (sig && store_ref_get(s, sig, sig_hex) != -ENOENT && !still_named(s, ref, hex) &&
	    !store_ref_remove(s, sig))
		printf("removed %s\n", sig);
	free(sig);
	return 0;
}

/* All names of the image with this digest; more than one only with -f. */
static int remove_all_names(struct store *s, const char *word, const char *hex, bool force)
{
	struct strings refs = {0}, names = {0};
	char h[65], sig[65];
	int status = 0;

	store_refs(s, &refs);
	for (size_t i = 0; i < refs.n; i++)
		if (!signature_of(refs.v[i], sig) && !store_ref_get(s, refs.v[i], h) && !strcmp(h, hex))
			strings_add(&names, refs.v[i]);
	if (!names.n)
		status = say_fail(EXIT_NOT_FOUND, "%s: no name leads to it; cowbell prune removes it", word);
	else if (names.n > 1 && !force)
		status = say_fail(EXIT_OURS, "%s: has %zu names, %s and others; -f removes them all", word,
				  names.n, names.v[0]);
	for (size_t i = 0; i < names.n && !status; i++)
		status = remove_ref(s, names.v[i]);
	strings_free(&refs);
	strings_free(&names);
	return status;
}

static int remove_one(struct store *s, const char *word, bool force)
{
	struct reference r;
	char ref[IMAGE_REF_MAX], hex[65];

	/* by its text first: a damaged name can be removed, too */
	if (!reference_parse(word, &r) && !r.hex[0]) {
		reference_text(&r, ref, sizeof(ref));
		int err = store_ref_get(s, ref, hex);
		if (!err || err == -EBADMSG)
			return remove_ref(s, ref);
		if (err == -ENOENT && force && !all_hex(word))
			return 0;
	}
	int status = image_find(s, word, ref, hex);
	if (status)
		return force && status == EXIT_NOT_FOUND ? 0 : status;
	return ref[0] ? remove_ref(s, ref) : remove_all_names(s, word, hex, force);
}

int image_remove(const char *const *names, bool force)
{
	int lock, status = 0;
	struct store *s = open_for_names(&lock);

	if (!s)
		return EXIT_OURS;
	for (; *names; names++) {
		int st = remove_one(s, *names, force);
		status = status ? status : st;
	}
	close(lock);
	store_close(s);
	return status;
}
