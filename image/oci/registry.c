/* SPDX-License-Identifier: ISC */
/*
 * A registry as a source of images, and `cowbell pull`.
 *
 * The manifest is asked for by tag or digest; of an index the entry for linux/amd64 is taken and asked for by its digest. What
 * was asked for by digest must have it. Blobs that the store has are not fetched: layers of native images have the same
 * bytes in the store as on the registry.
 *
 * A registry is a stranger: manifests are bounded, blobs are bounded by what the manifest says and by the limit on
 * unpacked bytes (nothing useful is larger packed than unpacked), all blobs together as well.
 *
 * Signatures of a native image come along: its manifest, and so its digest, is the same here as there. An image
 * that was converted on its way (tar layers) has another digest here; signatures for the old one would say nothing.
 */
#include "image/oci/registry.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/oci/payload.h"
#include "image/oci/sign.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define ACCEPT	    MEDIA_MANIFEST ", " MEDIA_INDEX ", " MEDIA_DOCKER_MANIFEST ", " MEDIA_DOCKER_LIST
#define DEFAULT_MAX (1ull << 30)
#define ORIGIN	    "origin" /* memo: blob -> HOST/PATH */

struct registry_source {
	struct session session;
	struct registry_options options;
	struct store *store;
	struct reference ref;
	char name[420];
	char hex[65]; /* of the manifest that was handed out */
	uint64_t left; /* bytes that may still be fetched */
	struct strings fetched; /* blobs whose partial files are to go */
};

/* --- origins of blobs ---------------------------------------------------------------------------------------------------- */

void remember_origin(struct session *s, struct store *st, const char *hex)
{
	char *value = textf("%s/%s", s->host, s->path), *old = store_memo_get(st, ORIGIN, hex);

	if (!old || strcmp(old, value))
		store_memo_set(st, ORIGIN, hex, value);
	free(old);
	free(value);
}

char *known_origin(struct session *s, struct store *st, const char *hex)
{
	char *value = store_memo_get(st, ORIGIN, hex), *path = NULL;
	size_t n = strlen(s->host);

	if (value && !strncmp(value, s->host, n) && value[n] == '/' && strcmp(value + n + 1, s->path))
		path = textf("%s", value + n + 1);
	free(value);
	return path;
}

/* --- the source ------------------------------------------------------------------------------------------------------------ */

/* The type without parameters; what the JSON itself says counts if the header says nothing. */
static void type_of(const struct http_response *r, char media_type[128])
{
	json_t *j = json_loadb(r->body, r->n_body, 0, NULL);
	const char *inside = json_string_value(json_object_get(j, "mediaType"));
	const char *type = inside ? inside : r->content_type ? r->content_type : "";

	snprintf(media_type, 128, "%.*s", (int)strcspn(type, "; \t"), type);
	if (!inside && !strncmp(media_type, "application/json", 16))
		strcpy(media_type, json_object_get(j, "manifests") ? MEDIA_INDEX : MEDIA_MANIFEST);
	json_decref(j);
}

/* One manifest or index by tag or digest. */
static int get_manifest(struct registry_source *g, const char *tag, const char *hex, struct http_response *r,
			char media_type[128])
{
	char *what = hex ? textf("/manifests/sha256:%s", hex) : textf("/manifests/%s", tag), found_hex[65];
	bool found;
	int status = fetch_small(&g->session, what, ACCEPT, OCI_MAX_MANIFEST, hex, r, &found);

	free(what);
	if (status)
		return status;
	if (!found) {
		status = r->n_body ? session_fail(&g->session, g->name, HTTP_OK, r)
				   : say_fail(EXIT_OURS, "%s: the registry has no such image", g->name);
		http_response_free(r);
		return status;
	}
	sha256_hex(r->body, r->n_body, found_hex);
	if (r->docker_digest &&
	    (strncmp(r->docker_digest, "sha256:", 7) || strcmp(r->docker_digest + 7, found_hex))) {
		http_response_free(r);
		return say_fail(
			EXIT_OURS,
			"%s: the manifest is damaged: it does not have the digest that the registry says",
			g->name);
	}
	memcpy(g->hex, found_hex, sizeof(found_hex));
	type_of(r, media_type);
	return 0;
}

static int source_manifest(void *arg, char **data, size_t *n, char media_type[128])
{
	struct registry_source *g = arg;
	struct http_response r;
	struct oci_descriptor d = {0};
	int status = get_manifest(g, g->ref.tag, g->ref.hex[0] ? g->ref.hex : NULL, &r, media_type);

	if (!status && (!strcmp(media_type, MEDIA_INDEX) || !strcmp(media_type, MEDIA_DOCKER_LIST))) {
		const char *why = oci_index_pick(r.body, r.n_body, NULL, &d);
		http_response_free(&r);
		if (why)
			return say_fail(EXIT_OURS, "%s: %s", g->name, why);
		free(d.title);
		status = get_manifest(g, NULL, d.hex, &r, media_type);
	}
	if (status)
		return status;
	*data = r.body;
	*n = r.n_body;
	r.body = NULL;
	http_response_free(&r);
	return 0;
}

static int source_blob(void *arg, const struct oci_descriptor *d, int *fd)
{
	struct registry_source *g = arg;
	uint64_t size;
	int have = store_blob(g->store, d->hex, &size);

	if (have >= 0 && size == d->size) {
		*fd = have;
		return 0;
	}
	if (have >= 0)
		close(have);
	if (d->size > g->left)
		return say_fail(
			EXIT_OURS, "%s: more than %llu MiB are to be fetched, which is the limit", g->name,
			(unsigned long long)((g->options.max_bytes ? g->options.max_bytes : DEFAULT_MAX) >>
					     20));
	g->left -= d->size;
	int status = fetch_blob(&g->session, g->store, d, fd);
	if (!status)
		strings_add(&g->fetched, d->hex);
	return status;
}

static void source_close(void *arg)
{
	struct registry_source *g = arg;

	for (size_t i = 0; i < g->fetched.n; i++)
		fetch_done(g->store, g->fetched.v[i]);
	strings_free(&g->fetched);
	session_close(&g->session);
	free(g);
}

int source_open_registry(struct store *s, const struct reference *r, const struct registry_options *o,
			 struct image_source *out)
{
	struct registry_source *g = calloc(1, sizeof(*g));

	if (!g) {
		say("out of memory");
		return EXIT_OURS;
	}
	g->store = s;
	g->ref = *r;
	g->options = *o;
	g->left = o->max_bytes ? o->max_bytes : DEFAULT_MAX;
	if (r->hex[0])
		snprintf(g->name, sizeof(g->name), "%s@sha256:%s", r->name, r->hex);
	else
		reference_text(r, g->name, sizeof(g->name));
	int status = session_open(&g->session, r, &g->options);
	if (status) {
		free(g);
		return status;
	}
	*out = (struct image_source){g, g->name, source_manifest, source_blob, source_close};
	return 0;
}

/* --- signatures ---------------------------------------------------------------------------------------------------------------- */

/* The payloads of a signature manifest, into the store. */
static int fetch_payloads(struct session *s, struct store *st, const struct oci_manifest *m, size_t *n)
{
	int status = 0;

	*n = 0;
	for (size_t i = 0; i < m->n_layers && !status && *n < SIGNATURE_MAX_LAYERS; i++) {
		const struct oci_descriptor *d = &m->layers[i];
		char what[96], hex[65];
		struct http_response r;
		bool found;
		if (strcmp(d->media_type, MEDIA_SIMPLESIGNING) || d->size > SIGNATURE_MAX_PAYLOAD)
			continue;
		++*n;
		if (store_has(st, d->hex))
			continue;
		snprintf(what, sizeof(what), "/blobs/sha256:%s", d->hex);
		status = fetch_small(s, what, NULL, SIGNATURE_MAX_PAYLOAD, d->hex, &r, &found);
		if (status)
			break;
		int err = found ? store_put(st, r.body, r.n_body, hex) : 0;
		if (err)
			status = say_fail(EXIT_OURS, "the store cannot be written: %s", say_errno(-err));
		http_response_free(&r);
	}
	return status;
}

int signatures_fetch(struct session *s, struct store *st, const char *sig_ref, const char *hex, size_t *n)
{
	char what[128];
	struct http_response r;
	struct oci_manifest m;
	bool found;

	*n = 0;
	snprintf(what, sizeof(what), "/manifests/sha256-%s.sig", hex);
	int status = fetch_small(s, what, MEDIA_MANIFEST, SIGNATURE_MAX_MANIFEST, NULL, &r, &found);
	if (status)
		return status;
	const char *why = found ? oci_manifest_parse(r.body, r.n_body, &m) : NULL;
	if (why) {
		status = say_fail(EXIT_OURS, "%s: its signatures cannot be read: %s", s->host, why);
	} else if (found) {
		status = fetch_payloads(s, st, &m, n);
		int err = status ? 0 : signature_merge(st, sig_ref, r.body, r.n_body);
		if (err)
			status = say_fail(EXIT_OURS, "%s: signatures cannot be kept: %s", sig_ref,
					  say_errno(-err));
		oci_manifest_free(&m);
	}
	http_response_free(&r);
	return status;
}

/* --- pull ------------------------------------------------------------------------------------------------------------------------ */

void transfer_options(const struct image_transfer *t, struct registry_options *o)
{
	*o = (struct registry_options){.creds = t->creds,
				       .plain_http = t->plain_http,
				       .ca_file = t->ca_file,
				       .stall_ns = t->stall_ns,
				       .max_bytes = t->max_bytes};
}

/* The name that the image gets here; see image/names.c for what a tag cannot be. 0, or an exit status after one line. */
static int local_name(const struct image_transfer *t, const struct reference *r, char ref[400])
{
	struct reference as = *r;
	const char *why = t->as ? reference_parse(t->as, &as) : NULL;

	if (why || (t->as && as.hex[0]))
		return say_fail(EXIT_OURS, "-t %s: %s", t->as, why ? why : "a new name has no digest");
	if (!t->as && r->hex[0] && !r->has_tag)
		return say_fail(EXIT_OURS,
				"%s: a digest is no name; say with -t NAME what it shall be called here",
				t->name);
	if (signature_is_tag(as.tag))
		return say_fail(EXIT_OURS, "%s: names of this form are for signatures",
				t->as ? t->as : t->name);
	reference_text(&as, ref, 400);
	return 0;
}

/* What the blobs came from, for pushes that can mount them from there. */
static void remember_blobs(struct registry_source *g, const char *hex)
{
	struct oci_manifest m;
	char *text;
	size_t n;

	if (store_get(g->store, hex, OCI_MAX_MANIFEST, &text, &n))
		return;
	if (!oci_manifest_parse(text, n, &m)) {
		for (size_t i = 0; i < m.n_layers; i++)
			remember_origin(&g->session, g->store, m.layers[i].hex);
		oci_manifest_free(&m);
	}
	free(text);
}

static void report(const struct image_transfer *t, const char *ref, const char *hex, size_t signatures)
{
	if (!t->json) {
		printf("%s: sha256:%s%s\n", ref, hex, signatures ? ", with signatures" : "");
		return;
	}
	char *digest = textf("sha256:%s", hex);
	json_t *j = json_pack("{s:s,s:s,s:s,s:I}", "name", ref, "from", t->name, "digest", digest,
			      "signatures", (json_int_t)signatures);
	json_dumpf(j, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(j);
	free(digest);
}

static int pull_held(struct store *s, const struct image_transfer *t, const struct reference *r,
		     const char *ref)
{
	struct import_limits lim = IMPORT_LIMITS_DEFAULT;
	struct registry_options o;
	struct image_source src;
	char hex[65], sig_ref[512];
	size_t signatures = 0;
	int err;

	transfer_options(t, &o);
	if (t->max_bytes)
		lim.max_bytes = t->max_bytes;
	if (t->max_entries)
		lim.max_entries = t->max_entries;
	int status = source_open_registry(s, r, &o, &src);
	if (status)
		return status;
	struct registry_source *g = src.arg;
	status = image_import(s, &src, &lim, hex);
	if (!status && !strcmp(hex, g->hex)) {
		remember_blobs(g, hex);
		signature_ref(ref, hex, sig_ref, sizeof(sig_ref));
		status = signatures_fetch(&g->session, s, sig_ref, hex, &signatures);
	}
	if (!status && (err = store_ref_set(s, ref, hex)))
		status = say_fail(EXIT_OURS, "%s: %s", ref, say_errno(-err));
	src.close(src.arg);
	if (!status)
		report(t, ref, hex, signatures);
	return status;
}

int image_pull(const struct image_transfer *t)
{
	struct reference r;
	char ref[400];
	const char *why = reference_parse(t->name, &r);

	if (why)
		return say_fail(EXIT_OURS, "%s: %s", t->name, why);
	int status = local_name(t, &r, ref);
	struct store *s = status ? NULL : store_open();
	if (!s)
		return EXIT_OURS;
	if (t->json)
		progress_off();
	int err = store_hold(s);
	status = err ? say_fail(EXIT_OURS, "the store cannot be locked: %s", say_errno(-err))
		     : pull_held(s, t, &r, ref);
	store_release(s);
	store_close(s);
	return status;
}
