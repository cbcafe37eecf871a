/* SPDX-License-Identifier: ISC */
/*
 * Signatures of images: what is signed, where signatures are kept, how they are checked.
 *
 * The form is that of cosign's container signatures, so that other tools can check them and any registry keeps them. The
 * signatures of a manifest with digest HEX, which the name NAME:TAG points at, are an OCI image under the name
 *
 *   NAME:sha256-HEX.sig
 *
 * whose layers are payloads (payload.c), each with its signature in an annotation:
 *
 *   {"mediaType": MEDIA_SIMPLESIGNING, "digest": of the payload, "size": ...,
 *    "annotations": {"dev.cosignproject.cosign/signature": BASE64}}
 *
 * The signature is Ed25519 (RFC 8032) over the payload's bytes. Several keys may sign: each adds a layer. What another
 * tool wrote into a layer (further annotations, signatures by other algorithms) is kept as it is.
 *
 * What a signature covers: the payload names the manifest's digest; the manifest names configuration and layers by their
 * digests. So a valid signature together with a store in which every blob has its digest covers every byte that is
 * booted. The store checks a blob as it is written; blobs_verify() looks again (see blobs.c for when).
 * What it does not: which name the image goes by, and whether it is the newest.
 */
#include "image/oci/sign.h"

#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/image.h"
#include "image/names.h"
#include "image/oci/key.h"
#include "image/oci/oci.h"
#include "image/oci/payload.h"
#include "lib/host/say.h"

#define ANNOTATION "dev.cosignproject.cosign/signature"
#define EPOCH	   "0001-01-01T00:00:00Z" /* no time: equal input, equal bytes */

/* --- names ---------------------------------------------------------------------------------------------------- */

bool signature_is_tag(const char *tag)
{
	char hex[65];

	if (strlen(tag) != 7 + 64 + 4 || strncmp(tag, "sha256-", 7) || strcmp(tag + 71, ".sig"))
		return false;
	memcpy(hex, tag + 7, 64);
	hex[64] = 0;
	return is_digest(hex);
}

void signature_ref(const char *name, const char *manifest_hex, char *buf, size_t size)
{
	const char *colon = strrchr(name, ':');
	int n = colon && !strchr(colon, '/') ? (int)(colon - name) : (int)strlen(name);

	snprintf(buf, size, "%.*s:sha256-%s.sig", n, name, manifest_hex);
}

/*
 * The image that a word means. `ref` gets its name, or the word if that is a digest (then `named` is false). Hold the store.
 * 0, or an exit status after one line.
 */
static int resolve(struct store *s, const char *word, char ref[IMAGE_REF_MAX], char hex[65], bool *named)
{
	int status = image_find(s, word, ref, hex);

	*named = !status && ref[0];
	if (!ref[0])
		snprintf(ref, IMAGE_REF_MAX, "%s", word);
	return status;
}

/* --- the list of signatures --------------------------------------------------------------------------------------- */

/* Layers of a signature manifest that are signatures, as a JSON array of their own; NULL if the text is no manifest. */
static json_t *layers_of(const char *json, size_t n)
{
	json_t *j = n <= SIGNATURE_MAX_MANIFEST ? json_loadb(json, n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	json_t *layers = json_object_get(j, "layers"), *out = NULL, *l;
	size_t i;

	if (json_is_array(layers))
		out = json_array();
	json_array_foreach(layers, i, l)
	{
		const char *type, *digest, *sig;
		json_int_t size;
		if (json_array_size(out) == SIGNATURE_MAX_LAYERS)
			break;
		if (!json_unpack(l, "{s:s,s:s,s:I,s:{s:s}}", "mediaType", &type, "digest", &digest, "size",
				 &size, "annotations", ANNOTATION, &sig) &&
		    !strcmp(type, MEDIA_SIMPLESIGNING) && !strncmp(digest, "sha256:", 7) &&
		    is_digest(digest + 7) && size > 0 && size <= (json_int_t)SIGNATURE_MAX_PAYLOAD)
			json_array_append(out, l);
	}
	json_decref(j);
	return out;
}

/* The signatures that a name holds; an empty array if there are none. NULL: they cannot be read (err says why). */
static json_t *load_layers(struct store *s, const char *ref, int *err)
{
	char hex[65], *text;
	size_t n;

	*err = store_ref_get(s, ref, hex);
	if (*err == -ENOENT) {
		*err = 0;
		return json_array();
	}
	if (!*err)
		*err = store_get(s, hex, SIGNATURE_MAX_MANIFEST, &text, &n);
	if (*err)
		return NULL;
	json_t *out = layers_of(text, n);
	free(text);
	if (!out)
		*err = -EBADMSG;
	return out;
}

static json_t *descriptor(const char *type, const char *hex, size_t size)
{
	char digest[72];

	snprintf(digest, sizeof(digest), "sha256:%s", hex);
	return json_pack("{s:s,s:I,s:s}", "mediaType", type, "size", (json_int_t)size, "digest", digest);
}

/* Put JSON as a blob; takes over `j`. 0 or -errno. */
static int put_json(struct store *s, json_t *j, char hex[65], size_t *size)
{
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	int err = -ENOMEM;

	if (text) {
		*size = strlen(text);
		err = store_put(s, text, *size, hex);
	}
	free(text);
	json_decref(j);
	return err;
}

/* Write configuration and manifest for these layers, and point the name at them. 0 or -errno. */
static int save_layers(struct store *s, const char *ref, json_t *layers)
{
	json_t *ids = json_array(), *history = json_array(), *l;
	char hex[65];
	size_t i, size;

	json_array_foreach(layers, i, l)
	{
		json_array_append(ids, json_object_get(l, "digest"));
		json_array_append_new(history, json_pack("{s:s}", "created", EPOCH));
	}
	int err = put_json(s,
			   json_pack("{s:s,s:s,s:o,s:s,s:{s:s,s:o},s:{}}", "architecture", "", "created",
				     EPOCH, "history", history, "os", "", "rootfs", "type", "layers",
				     "diff_ids", ids, "config"),
			   hex, &size);
	if (!err)
		err = put_json(s,
			       json_pack("{s:i,s:s,s:o,s:O}", "schemaVersion", 2, "mediaType", MEDIA_MANIFEST,
					 "config", descriptor(MEDIA_CONFIG, hex, size), "layers", layers),
			       hex, &size);
	if (!err && size > SIGNATURE_MAX_MANIFEST)
		err = -EFBIG;
	return err ? err : store_ref_set(s, ref, hex);
}

static const char *layer_signature(const json_t *l)
{
	return json_string_value(json_object_get(json_object_get(l, "annotations"), ANNOTATION));
}

static bool has_layer(json_t *layers, const json_t *new)
{
	json_t *l;
	size_t i;

	json_array_foreach(layers, i, l)
	{
		if (json_equal(json_object_get(l, "digest"), json_object_get(new, "digest")) &&
		    !strcmp(layer_signature(l), layer_signature(new)))
			return true;
	}
	return false;
}

static int merge_locked(struct store *s, const char *ref, const char *json, size_t n)
{
	int err;
	json_t *have = load_layers(s, ref, &err), *more = layers_of(json, n), *l;
	size_t i, before;

	if (!have || !more) {
		json_decref(have);
		json_decref(more);
		return err ? err : -EBADMSG;
	}
	before = json_array_size(have);
	json_array_foreach(more, i, l)
	{
		const char *digest = json_string_value(json_object_get(l, "digest"));
		if (!has_layer(have, l) && json_array_size(have) < SIGNATURE_MAX_LAYERS &&
		    store_has(s, digest + 7))
			json_array_append(have, l);
	}
	if (json_array_size(have) > before)
		err = save_layers(s, ref, have);
	json_decref(have);
	json_decref(more);
	return err;
}

int signature_merge(struct store *s, const char *ref, const char *json, size_t n)
{
	int lock = store_lock(s, "names");

	if (lock < 0)
		return lock;
	int err = merge_locked(s, ref, json, n);
	close(lock);
	return err;
}

/* --- checking -------------------------------------------------------------------------------------------------------- */

/* What was found while looking for one good signature; `why` is the best reason why there is none. */
struct finding {
	size_t signatures;
	bool good;
	const char *why; /* of a signature that could have been the one */
};

static void check_layer(struct store *s, const json_t *l, const char *manifest_hex, const uint8_t *key,
			struct finding *f)
{
	const char *digest = json_string_value(json_object_get(l, "digest")), *b64 = layer_signature(l), *end;
	uint8_t sig[crypto_sign_BYTES];
	char *payload;
	size_t n, n_sig;

	f->signatures++;
	/* One of another algorithm has another length: not by this key. */
	if (sodium_base642bin(sig, sizeof(sig), b64, strlen(b64), NULL, &n_sig, &end,
			      sodium_base64_VARIANT_ORIGINAL) ||
	    *end || n_sig != sizeof(sig))
		return;
	int err = store_get(s, digest + 7, SIGNATURE_MAX_PAYLOAD, &payload, &n);
	if (err) {
		f->why = err == -EBADMSG ? "the payload of a signature was changed"
					 : "the payload of a signature is missing";
		return;
	}
	if (!crypto_sign_verify_detached(sig, (const uint8_t *)payload, n, key)) {
		const char *why = payload_check(payload, n, manifest_hex);
		if (why)
			f->why = !strcmp(why, "it is for another image")
					 ? "the signature by this key is for another image"
					 : why;
		else
			f->good = true;
	}
	free(payload);
}

static int check_ref(struct store *s, const char *ref, const char *manifest_hex, const uint8_t *key,
		     struct finding *f)
{
	json_t *layers, *l;
	size_t i;
	int err;

	layers = load_layers(s, ref, &err);
	if (!layers) {
		f->why = "its signatures cannot be read";
		return err;
	}
	json_array_foreach(layers, i, l)
	{
		if (!f->good)
			check_layer(s, l, manifest_hex, key, f);
	}
	json_decref(layers);
	return 0;
}

/* Under its own name first; then under any, for an image that was given another name after it was signed. */
static void find_signature(struct store *s, const char *name, const char *manifest_hex, const uint8_t *key,
			   struct finding *f)
{
	struct strings refs = {0};
	char ref[512];

	memset(f, 0, sizeof(*f));
	signature_ref(name, manifest_hex, ref, sizeof(ref));
	check_ref(s, ref, manifest_hex, key, f);
	if (f->good || store_refs_like(s, "", strrchr(ref, ':'), &refs))
		return;
	for (size_t i = 0; i < refs.n && !f->good; i++) {
		if (strcmp(refs.v[i], ref))
			check_ref(s, refs.v[i], manifest_hex, key, f);
	}
	strings_free(&refs);
}

/* A valid signature by the key is there. 0, or an exit status after one line. */
static int require_signature(struct store *s, const char *name, const char *manifest_hex,
			     const char *public_pem_file, struct finding *f)
{
	uint8_t key[KEY_PUBLIC_BYTES];
	int status = key_read(public_pem_file, KEY_PUBLIC, key);

	if (status)
		return status;
	if (sodium_init() < 0)
		return say_fail(EXIT_OURS, "libsodium cannot be started");
	find_signature(s, name, manifest_hex, key, f);
	if (f->good)
		return 0;
	if (f->why)
		return say_fail(EXIT_OURS, "%s: %s", name, f->why);
	if (!f->signatures)
		return say_fail(EXIT_OURS, "%s: is not signed", name);
	return say_fail(EXIT_OURS, "%s: no valid signature by the key in %s (it has %zu other%s)", name,
			public_pem_file, f->signatures, f->signatures == 1 ? "" : "s");
}

int signature_check(struct store *s, const char *name, const char *manifest_hex, const char *public_pem_file)
{
	struct finding f;
	int status = require_signature(s, name, manifest_hex, public_pem_file, &f);

	return status ? status : blobs_verify(s, name, manifest_hex, true);
}

static int report(const char *name, const char *hex, const char *public_file, const struct finding *f,
		  int status, bool json)
{
	if (json) {
		char *digest = textf("sha256:%s", hex);
		json_t *j = json_pack("{s:s,s:s,s:s,s:b,s:b,s:I}", "name", name, "digest", digest, "key",
				      public_file, "signed", f->good, "verified", !status, "signatures",
				      (json_int_t)f->signatures);
		json_dumpf(j, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(j);
		free(digest);
	} else if (!status) {
		printf("%s: sha256:%s is signed by the key in %s, and every blob has its digest\n", name, hex,
		       public_file);
	}
	return status;
}

int image_verify(const char *name, const char *public_file, bool json)
{
	struct finding f = {0};
	char ref[IMAGE_REF_MAX], hex[65];
	bool named;
	struct store *s = store_open();

	if (!s)
		return EXIT_OURS;
	int err = store_hold(s);
	int status = err ? say_fail(EXIT_OURS, "the store cannot be locked: %s", strerror(-err))
			 : resolve(s, name, ref, hex, &named);
	if (!status) {
		status = require_signature(s, ref, hex, public_file, &f);
		if (!status)
			status = blobs_verify(s, ref, hex, false);
		status = report(ref, hex, public_file, &f, status, json);
	}
	store_close(s);
	return status;
}

/* --- signing ---------------------------------------------------------------------------------------------------------- */

static json_t *new_layer(struct store *s, const char *repository, const char *manifest_hex,
			 const uint8_t secret[64], int *err)
{
	char *payload = payload_format(repository, manifest_hex), hex[65], b64[128];
	size_t n = strlen(payload);
	uint8_t sig[crypto_sign_BYTES];

	crypto_sign_detached(sig, NULL, (const uint8_t *)payload, n, secret);
	sodium_bin2base64(b64, sizeof(b64), sig, sizeof(sig), sodium_base64_VARIANT_ORIGINAL);
	*err = store_put(s, payload, n, hex);
	free(payload);
	if (*err)
		return NULL;
	json_t *l = descriptor(MEDIA_SIMPLESIGNING, hex, n);
	json_object_set_new(l, "annotations", json_pack("{s:s}", ANNOTATION, b64));
	return l;
}

/* Add our signature under the image's signature name, unless the key has signed already. 0 or -errno. */
static int add_signature(struct store *s, const char *ref, const char *hex, const uint8_t secret[64],
			 const uint8_t public_key[32], bool *was_there)
{
	struct finding f = {0};
	char sig_ref[512], *repository;
	int err;

	signature_ref(ref, hex, sig_ref, sizeof(sig_ref));
	check_ref(s, sig_ref, hex, public_key, &f);
	*was_there = f.good;
	if (f.good)
		return 0;
	json_t *layers = load_layers(s, sig_ref, &err);
	if (!layers)
		return err;
	if (json_array_size(layers) >= SIGNATURE_MAX_LAYERS) {
		json_decref(layers);
		return -E2BIG;
	}
	repository = textf("%.*s", (int)(strrchr(sig_ref, ':') - sig_ref), sig_ref);
	json_t *l = new_layer(s, repository, hex, secret, &err);
	free(repository);
	if (l) {
		json_array_append_new(layers, l);
		err = save_layers(s, sig_ref, layers);
	}
	json_decref(layers);
	return err;
}

/* With the store held and the image's signatures locked. */
static int sign_held(struct store *s, const char *name, const uint8_t secret[64],
		     const uint8_t public_key[32])
{
	char ref[IMAGE_REF_MAX], hex[65];
	bool was_there, named;
	int status = resolve(s, name, ref, hex, &named);

	if (!status && !named)
		return say_fail(EXIT_OURS,
				"%s: is a digest; give the image's name, which the signature is kept with",
				name);
	/* Nobody should sign what is broken. */
	if (!status)
		status = blobs_verify(s, ref, hex, true);
	if (status)
		return status;
	int lock = store_lock(s, "names");
	int err = lock < 0 ? lock : add_signature(s, ref, hex, secret, public_key, &was_there);
	if (lock >= 0)
		close(lock);
	if (err)
		return say_fail(EXIT_OURS, "%s: cannot be signed: %s", ref,
				err == -E2BIG ? "it has too many signatures already" : strerror(-err));
	printf("%s: sha256:%s %s\n", ref, hex, was_there ? "was signed with this key already" : "signed");
	return 0;
}

int image_sign(const char *name, const char *private_file)
{
	uint8_t secret[crypto_sign_SECRETKEYBYTES], public_key[KEY_PUBLIC_BYTES];
	int status = key_read_pair(private_file, secret, public_key);
	struct store *s = status ? NULL : store_open();

	if (!s) {
		sodium_memzero(secret, sizeof(secret));
		return EXIT_OURS;
	}
	int err = store_hold(s);
	status = err ? say_fail(EXIT_OURS, "the store cannot be locked: %s", strerror(-err))
		     : sign_held(s, name, secret, public_key);
	sodium_memzero(secret, sizeof(secret));
	store_release(s);
	store_close(s);
	return status;
}
