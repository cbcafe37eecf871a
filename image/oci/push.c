/* SPDX-License-Identifier: ISC */
/*
 * `cowbell push`: an image of the store to a registry, blobs first, the manifest last, so that what has a name there is whole.
 *
 * For each blob, until one of them does it:
 *   HEAD blobs/DIGEST                       it is there
 *   POST blobs/uploads/?mount=DIGEST&from=  another repository of the registry has it, as we know from an earlier push or pull
 *   POST blobs/uploads/, then one PUT       small ones
 *   POST blobs/uploads/, PATCH ..., PUT     large ones, CHUNK bytes at a time
 *
 * A PATCH that breaks: GET of the upload's address tells how far the registry came (Range: 0-LAST), and the rest follows
 * from there. An upload that the registry does not know any more is begun anew (docker-registry 2.8 forgets an upload whose PATCH
 * broke in the middle: it finds more bytes than its own token says). Tries are bounded, and so are beginnings.
 *
 * The manifest's digest on the registry is compared at the end. Then signatures: those on the registry come here first,
 * so that putting ours there takes none away.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/names.h"
#include "image/oci/registry.h"
#include "image/oci/sign.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define SMALL	   (1u << 20) /* sent in one request */
#define CHUNK	   (32u << 20)
#define MAX_ROUNDS 10000 /* of CHUNK bytes */

struct push {
	struct session session;
	struct store *store;
	size_t uploaded, mounted, present;
};

struct upload {
	struct push *p;
	const struct oci_descriptor *d;
	int fd;
	char *location; /* where the next bytes go, or NULL: no upload has begun */
	uint64_t done; /* bytes that the registry has */
	int restarts; /* uploads that were lost */
	char what[100]; /* for messages */
};

static void request(struct http_request *q, const char *method, const char *url)
{
	*q = (struct http_request){
		.method = method, .url = url, .body_fd = -1, .out_fd = -1, .out_max = HTTP_MAX_SMALL};
}

/* The Location of an answer; the one before stays if there is none. False: it is no address to go to. */
static bool take_location(struct upload *u, const struct http_response *r)
{
	if (!r->location)
		return u->location != NULL;
	char *next =
		http_resolve(u->p->session.http, u->location ? u->location : u->p->session.base, r->location);
	/* Our blobs do not go out in the clear because an answer says so. */
	if (next && http_is_tls(u->p->session.base) && !http_is_tls(next)) {
		free(next);
		next = NULL;
	}
	if (!next)
		return false;
	free(u->location);
	u->location = next;
	return true;
}

/* --- is it there already? ------------------------------------------------------------------------------------------ */

static int blob_present(struct push *p, const struct oci_descriptor *d, bool *present)
{
	char *url = session_url(&p->session, "/blobs/sha256:%s", d->hex);
	struct http_request q;
	struct http_response r;

	request(&q, "HEAD", url);
	q.follow = true;
	enum http_failure f = session_do(&p->session, &q, &r, SESSION_TRIES);
	*present = f == HTTP_OK && r.status == 200 &&
		   (r.content_length < 0 || (uint64_t)r.content_length == d->size);
	/* What other statuses mean shows when the upload begins. */
	int status = f == HTTP_OK ? 0 : session_fail(&p->session, "looking for a blob", f, &r);
	http_response_free(&r);
	free(url);
	return status;
}

/* Begin an upload, or have the blob mounted. *mounted: nothing more is to be done. */
static int begin_upload(struct upload *u, bool try_mount, bool *mounted)
{
	struct push *p = u->p;
	char *from = try_mount ? known_origin(&p->session, p->store, u->d->hex) : NULL, *url;
	struct http_request q;
	struct http_response r;

	if (from) {
		char *escaped = http_escape(from);
		url = session_url(&p->session, "/blobs/uploads/?mount=sha256:%s&from=%s", u->d->hex, escaped);
		free(escaped);
	} else {
		url = session_url(&p->session, "/blobs/uploads/");
	}
	request(&q, "POST", url);
	enum http_failure f = session_do(&p->session, &q, &r, SESSION_TRIES);
	int status = 0;
	*mounted = f == HTTP_OK && r.status == 201 && from;
	free(u->location);
	u->location = NULL;
	u->done = 0;
	if (!*mounted) {
		if (f != HTTP_OK || r.status != 202)
			status = from ? -1 : session_fail(&p->session, u->what, f, &r);
		else if (!take_location(u, &r))
			status = say_fail(EXIT_OURS,
					  "%s: %s: the registry names no valid address for the upload",
					  p->session.host, u->what);
	}
	http_response_free(&r);
	free(url);
	free(from);
	/* A mount that is refused (no right to read there) is no failure. */
	return status < 0 ? begin_upload(u, false, mounted) : status;
}

/* --- bytes ------------------------------------------------------------------------------------------------------------- */

/* "0-LAST" of a Range header: how many bytes that are. An upload of nothing is "0-0" as well. */
static bool range_end(const struct http_response *r, uint64_t size, uint64_t *done)
{
	unsigned long long last;
	const char *text = r->range;
	char tail;

	if (!text)
		return false;
	if (!strncmp(text, "bytes=", 6))
		text += 6;
	if (sscanf(text, "0-%llu%c", &last, &tail) != 1 || last >= size)
		return false;
	*done = last ? last + 1 : 0;
	return true;
}

/* How far did the registry come? False: it does not know the upload any more. */
static bool ask_upload(struct upload *u)
{
	struct http_request q;
	struct http_response r;

	request(&q, "GET", u->location);
	enum http_failure f = session_do(&u->p->session, &q, &r, SESSION_TRIES);
	bool known =
		f == HTTP_OK && (r.status == 204 || r.status == 200) && range_end(&r, u->d->size, &u->done);
	/* With the address first: `q` points at the old one. */
	known = known && take_location(u, &r);
	http_response_free(&r);
	return known;
}

/* One PATCH with the next bytes. */
static enum http_failure send_chunk(struct upload *u, struct http_response *r)
{
	uint64_t n = u->d->size - u->done < CHUNK ? u->d->size - u->done : CHUNK;
	struct strings headers = {0};
	struct http_request q;

	request(&q, "PATCH", u->location);
	strings_add(&headers, "Content-Type: application/octet-stream");
	strings_addf(&headers, "Content-Range: %llu-%llu", (unsigned long long)u->done,
		     (unsigned long long)(u->done + n - 1));
	q.headers = &headers;
	q.body_fd = u->fd;
	q.body_offset = u->done;
	q.body_size = n;
	q.progress = true;
	enum http_failure f = session_do(&u->p->session, &q, r, 1);
	strings_free(&headers);
	if (f == HTTP_OK && r->status >= 200 && r->status < 300) {
		uint64_t sent = u->done + n;
		if (!range_end(r, u->d->size, &u->done) || u->done > sent)
			u->done = sent;
		if (!take_location(u, r)) {
			snprintf(r->error, sizeof(r->error),
				 "the registry names no valid address for the upload");
			return HTTP_REFUSED;
		}
	}
	return f;
}

/* The end of an upload: PUT with the digest, and with all bytes where none were sent before. */
static enum http_failure finish_upload(struct upload *u, struct http_response *r)
{
	char *url = textf("%s%sdigest=sha256%%3A%s", u->location, strchr(u->location, '?') ? "&" : "?",
			  u->d->hex);
	struct strings headers = {0};
	struct http_request q;

	request(&q, "PUT", url);
	strings_add(&headers, "Content-Type: application/octet-stream");
	q.headers = &headers;
	if (u->done < u->d->size) {
		q.body_fd = u->fd;
		q.body_offset = u->done;
		q.body_size = u->d->size - u->done;
		q.progress = true;
	}
	enum http_failure f = session_do(&u->p->session, &q, r, 1);
	strings_free(&headers);
	free(url);
	return f;
}

/* After a request that failed in a way that may pass: where do we stand? */
static int recover(struct upload *u, int tries, const struct http_response *r)
{
	bool mounted;

	session_pause(tries, r);
	if (u->d->size > SMALL && ask_upload(u))
		return 0;
	if (++u->restarts >= SESSION_TRIES)
		return say_fail(
			EXIT_OURS,
			"%s: %s: the connection broke too often, and the registry forgets what it had",
			u->p->session.host, u->what);
	return begin_upload(u, false, &mounted);
}

/* 0: the registry has all bytes under their digest. */
static int send_blob(struct upload *u)
{
	int tries = 0;

	for (int round = 0;; round++) {
		struct http_response r;
		uint64_t before = u->done;
		bool last = u->d->size <= SMALL || u->done == u->d->size;
		enum http_failure f = last ? finish_upload(u, &r) : send_chunk(u, &r);
		bool good = f == HTTP_OK && (r.status == 201 || (r.status >= 200 && r.status < 300 && !last));
		if (good && last) {
			http_response_free(&r);
			return 0;
		}
		/* 404, 416 and a wrong digest: the registry lost bytes, or its upload. */
		bool lost = f == HTTP_OK && (r.status == 404 || r.status == 416 || (r.status == 400 && last));
		tries = good && u->done > before ? 0 : tries + 1;
		if ((!good && !lost && !session_passing(f, &r)) || tries >= SESSION_TRIES ||
		    round >= MAX_ROUNDS) {
			int status = session_fail(&u->p->session, u->what, f, &r);
			http_response_free(&r);
			return status;
		}
		if (lost && last)
			u->done = u->d->size; /* ask_upload() corrects it */
		int status = good ? 0 : recover(u, tries, &r);
		http_response_free(&r);
		if (status)
			return status;
	}
}

static int push_blob(struct push *p, const struct oci_descriptor *d)
{
	struct upload u = {.p = p, .d = d, .fd = -1};
	bool present, mounted = false;
	uint64_t size;
	int status = blob_present(p, d, &present);

	if (status || present) {
		p->present += present;
		return status;
	}
	snprintf(u.what, sizeof(u.what), "blob sha256:%s", d->hex);
	u.fd = store_blob(p->store, d->hex, &size);
	if (u.fd < 0 || size != d->size) {
		status = say_fail(EXIT_OURS, "%s: is not in the store as the manifest has it", u.what);
	} else {
		progress_begin("pushing", d->size, true);
		status = begin_upload(&u, true, &mounted);
		if (!status && !mounted)
			status = send_blob(&u);
		progress_end();
		p->mounted += !status && mounted;
		p->uploaded += !status && !mounted;
	}
	if (u.fd >= 0)
		close(u.fd);
	free(u.location);
	return status;
}

/* --- manifests ------------------------------------------------------------------------------------------------------------ */

static int put_manifest(struct push *p, const char *tag, const char *media_type, const char *text, size_t n)
{
	char *url = session_url(&p->session, "/manifests/%s", tag), *what = textf("manifest %s", tag);
	struct strings headers = {0};
	struct http_request q;
	struct http_response r;

	request(&q, "PUT", url);
	strings_addf(&headers, "Content-Type: %s", media_type);
	q.headers = &headers;
	q.body = text;
	q.body_size = n;
	enum http_failure f = session_do(&p->session, &q, &r, SESSION_TRIES);
	int status = f == HTTP_OK && r.status >= 200 && r.status < 300
			     ? 0
			     : session_fail(&p->session, what, f, &r);
	http_response_free(&r);
	strings_free(&headers);
	free(what);
	free(url);
	return status;
}

/* Does the registry now have this manifest under this tag? */
static int check_manifest(struct push *p, const char *tag, const char *media_type, const char *hex)
{
	char *what = textf("/manifests/%s", tag), found_hex[65];
	struct http_response r;
	bool found;
	int status = fetch_small(&p->session, what, media_type, OCI_MAX_MANIFEST, NULL, &r, &found);

	free(what);
	if (status)
		return status;
	sha256_hex(r.body, r.n_body, found_hex);
	http_response_free(&r);
	if (found && !strcmp(found_hex, hex))
		return 0;
	return say_fail(EXIT_OURS, "%s: the registry does not give back the manifest that it was given",
			p->session.host);
}

/* An image of the store under a tag of the registry. */
static int push_image(struct push *p, const char *hex, const char *tag)
{
	struct oci_manifest m;
	char *text;
	size_t n;
	int err = store_get(p->store, hex, OCI_MAX_MANIFEST, &text, &n), status;

	if (err)
		return say_fail(EXIT_OURS, "manifest sha256:%s: %s", hex,
				err == -EBADMSG ? "was changed: it does not have its digest"
						: strerror(-err));
	const char *why = oci_manifest_parse(text, n, &m);
	if (why) {
		free(text);
		return say_fail(EXIT_OURS, "manifest sha256:%s: %s", hex, why);
	}
	status = push_blob(p, &m.config);
	for (size_t i = 0; i < m.n_layers && !status; i++) {
		status = push_blob(p, &m.layers[i]);
		if (!status)
			remember_origin(&p->session, p->store, m.layers[i].hex);
	}
	if (!status)
		status = put_manifest(p, tag, m.media_type, text, n);
	if (!status)
		status = check_manifest(p, tag, m.media_type, hex);
	oci_manifest_free(&m);
	free(text);
	return status;
}

/* The name under which the store has signatures of the image: its own, else any. False: there are none. */
static bool find_signatures(struct store *s, const char *ref, const char *hex, char sig_ref[512])
{
	struct strings refs = {0};
	char found[65];

	signature_ref(ref, hex, sig_ref, 512);
	if (!store_ref_get(s, sig_ref, found))
		return true;
	bool yes = !store_refs_like(s, "", strrchr(sig_ref, ':'), &refs) && refs.n;
	if (yes)
		snprintf(sig_ref, 512, "%s", refs.v[0]); /* at most NAME_MAX */
	strings_free(&refs);
	return yes;
}

static int push_signatures(struct push *p, const char *ref, const char *hex, bool *signatures)
{
	char sig_ref[512], sig_hex[65], tag[80];
	size_t n;

	*signatures = find_signatures(p->store, ref, hex, sig_ref);
	if (!*signatures)
		return 0;
	int status = signatures_fetch(&p->session, p->store, sig_ref, hex, &n);
	if (status)
		return status;
	int err = store_ref_get(p->store, sig_ref, sig_hex);
	if (err)
		return say_fail(EXIT_OURS, "%s: %s", sig_ref, strerror(-err));
	snprintf(tag, sizeof(tag), "sha256-%s.sig", hex);
	return push_image(p, sig_hex, tag);
}

/* --- the command ----------------------------------------------------------------------------------------------------------- */

static void report(const struct image_transfer *t, const struct push *p, const char *hex, bool signatures)
{
	if (!t->json) {
		printf("%s: sha256:%s pushed%s\n", t->name, hex, signatures ? ", with signatures" : "");
		return;
	}
	char *digest = textf("sha256:%s", hex);
	json_t *j = json_pack("{s:s,s:s,s:I,s:I,s:I,s:b}", "name", t->name, "digest", digest, "uploaded",
			      (json_int_t)p->uploaded, "mounted", (json_int_t)p->mounted, "present",
			      (json_int_t)p->present, "signed", signatures);
	json_dumpf(j, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(j);
	free(digest);
}

static int push_held(struct store *s, const struct image_transfer *t, const struct reference *remote)
{
	struct push p = {.store = s};
	struct registry_options o;
	char ref[IMAGE_REF_MAX], hex[65];
	bool signatures;
	int status = image_find(s, t->as ? t->as : t->name, ref, hex);

	if (status)
		return status;
	if (!ref[0]) /* a digest: signatures are looked for under the name there, then under any */
		reference_text(remote, ref, sizeof(ref));
	transfer_options(t, &o);
	status = session_open(&p.session, remote, &o);
	if (status)
		return status;
	status = push_image(&p, hex, remote->tag);
	if (!status)
		status = push_signatures(&p, ref, hex, &signatures);
	if (!status)
		report(t, &p, hex, signatures);
	session_close(&p.session);
	return status;
}

int image_push(const struct image_transfer *t)
{
	struct reference remote;
	const char *why = reference_parse(t->name, &remote);

	if (!why && remote.hex[0])
		why = "a push goes to a tag, not to a digest";
	if (why)
		return say_fail(EXIT_OURS, "%s: %s", t->name, why);
	struct store *s = store_open();
	if (!s)
		return EXIT_OURS;
	if (t->json)
		progress_off();
	int err = store_hold(s);
	int status = err ? say_fail(EXIT_OURS, "the store cannot be locked: %s", strerror(-err))
			 : push_held(s, t, &remote);
	store_release(s);
	store_close(s);
	return status;
}
