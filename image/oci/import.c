/* SPDX-License-Identifier: ISC */
/*
 * From a source's manifest to a native image in the store.
 *
 *   manifest ── memo "import1" ──▶ known, all blobs there: done
 *       │ parse, check platform, media types, counts
 *       ├─ layers are EROFS already ──▶ native: manifest, configuration and layers are copied as they are, so that the
 *       │                               digest, and with it a signature, stays
 *       └─ tar layers ──▶ each one EROFS layer (memo "layer1": tar's diff_id -> EROFS), the lowest merged where an
 *                         instance could not mount so many ──▶ a configuration and a manifest of ours
 *
 * Every byte that enters the store was checked: the manifest by whoever handed it out, the others here (size and SHA-256
 * against the descriptor, a tar's contents against its diff_id). Nothing gets its name in the store before all of
 * it is good (store_begin), so a failure or a kill leaves nothing.
 *
 * Memos remember what unpacking cost, so that limits hold for an image that is known as for a new one.
 */
#include "image/oci/import.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/erofs_path.h"
#include "image/image.h"
#include "image/names.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define MEMO_IMPORT   "import1" /* the number: of the conversion. Another one, another result */
#define MEMO_LAYER    "layer1"
#define MAX_TAR	      (IMAGE_MAX_LAYERS - 2) /* one is for the command line's extras, one for run-time names */
#define MAX_NATIVE    (IMAGE_MAX_LAYERS - 1)
#define MAX_SBOM      (64ull << 20)
#define MAX_BLOB      (1ull << 40)
#define DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define DOCKER_LAYER  "application/vnd.docker.image.rootfs.diff.tar"

enum layer_kind { LAYER_TAR, LAYER_EROFS, LAYER_SBOM };

struct import {
	struct store *s;
	struct image_source *src;
	struct import_limits lim; /* what is left */
	struct oci_manifest in;
	struct oci_config config;
	enum layer_kind kind[OCI_MAX_LAYERS];
	size_t n_fs; /* layers that are file systems */
	struct oci_manifest out;
	struct strings memos; /* "KEY=VALUE" of layers, kept when the import has succeeded */
};

static int bad(const struct import *im, const char *what)
{
	return say_fail(EXIT_OURS, "%s: %s", im->src->name, what);
}

static int bad_store(const struct import *im, int err)
{
	return say_fail(EXIT_OURS, "%s: it cannot be written to the store %s: %s", im->src->name,
			store_dir(im->s), say_errno(-err));
}

/* --- limits ----------------------------------------------------------------------------------------------- */

/* Take what a layer costs from what is left. 0, or an exit status after one line. */
static int charge(struct import *im, uint64_t bytes, uint64_t entries)
{
	if (bytes > im->lim.max_bytes)
		return bad(im, "unpacked it is larger than the limit; raise it with --max-size");
	if (entries > im->lim.max_entries)
		return bad(im, "it has more files than the limit; raise it with --max-entries");
	im->lim.max_bytes -= bytes;
	im->lim.max_entries -= entries;
	return 0;
}

/* --- blobs of the source -------------------------------------------------------------------------------------- */

/* Open a blob; its size must be the descriptor's. 0, or an exit status after one line. */
static int open_blob(struct import *im, const struct oci_descriptor *d, int *fd)
{
	struct stat st;
	int status = im->src->blob(im->src->arg, d, fd);

	if (status)
		return status;
	if (fstat(*fd, &st))
		status = say_fail(EXIT_OURS, "%s: %s", im->src->name, say_errno(errno));
	else if ((uint64_t)st.st_size != d->size)
		status =
			say_fail(EXIT_OURS, "%s: blob sha256:%s has %lld bytes, its descriptor says %" PRIu64,
				 im->src->name, d->hex, (long long)st.st_size, d->size);
	if (status)
		close(*fd);
	return status;
}

/* Copy a blob into the store, checked on the way. */
static int copy_blob(struct import *im, const struct oci_descriptor *d)
{
	struct blob *b;
	char hex[65];
	uint64_t size, total = 0;
	ssize_t n;
	int fd, r = 0, status;
	char *buf;

	if (store_has(im->s, d->hex))
		return 0;
	if ((status = open_blob(im, d, &fd)))
		return status;
	b = blob_new(im->s);
	buf = malloc(1 << 18);
	if (!b || !buf)
		r = b ? -ENOMEM : -errno;
	progress_begin("Copying", d->size, true);
	while (!r && total < d->size && (n = read(fd, buf, 1 << 18)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		r = n < 0 ? -errno : blob_write(b, buf, (size_t)n);
		total += n > 0 ? (uint64_t)n : 0;
		progress_add(n > 0 ? (uint64_t)n : 0);
	}
	progress_end();
	free(buf);
	close(fd);
	if (r)
		blob_abort(b);
	else
		r = blob_commit(b, d->hex, hex, &size);
	if (r == -EBADMSG)
		return say_fail(EXIT_OURS, "%s: blob sha256:%s does not have that digest", im->src->name,
				d->hex);
	return r ? bad_store(im, r) : 0;
}

/* A small blob whole, checked. */
static int read_blob(struct import *im, const struct oci_descriptor *d, size_t max, char **data)
{
	int fd, status;
	size_t got = 0;
	ssize_t n;
	char hex[65];

	if (d->size > max)
		return say_fail(EXIT_OURS, "%s: blob sha256:%s is larger than %zu bytes", im->src->name,
				d->hex, max);
	if ((status = open_blob(im, d, &fd)))
		return status;
	*data = malloc((size_t)d->size + 1);
	if (!*data) {
		close(fd);
		return bad(im, "out of memory");
	}
	while (got < d->size &&
	       ((n = read(fd, *data + got, (size_t)d->size - got)) > 0 || (n < 0 && errno == EINTR)))
		got += n > 0 ? (size_t)n : 0;
	close(fd);
	(*data)[got] = 0;
	sha256_hex(*data, got, hex);
	if (got == d->size && !strcmp(hex, d->hex))
		return 0;
	free(*data);
	*data = NULL;
	return say_fail(EXIT_OURS, "%s: blob sha256:%s does not have that digest", im->src->name, d->hex);
}

/* --- what the manifest says ------------------------------------------------------------------------------------ */

/* Is `type` the base, plain or compressed in a way that is known? */
static bool is_tar_of(const char *type, const char *base, char separator)
{
	size_t n = strlen(base);

	if (strncmp(type, base, n))
		return false;
	return !type[n] ||
	       (type[n] == separator && (!strcmp(type + n + 1, "gzip") || !strcmp(type + n + 1, "zstd")));
}

static int classify(struct import *im, size_t i)
{
	const struct oci_descriptor *d = &im->in.layers[i];

	if (d->size > MAX_BLOB)
		return say_fail(EXIT_OURS, "%s: layer %zu claims %" PRIu64 " bytes", im->src->name, i + 1,
				d->size);
	if (strstr(d->media_type, "nondistributable") || strstr(d->media_type, "foreign"))
		return say_fail(EXIT_OURS, "%s: layer %zu is not distributable (%s): it is not in the image",
				im->src->name, i + 1, d->media_type);
	if (!strcmp(d->media_type, MEDIA_LAYER_EROFS))
		im->kind[i] = LAYER_EROFS;
	else if (!strcmp(d->media_type, MEDIA_SBOM) && d->size <= MAX_SBOM)
		im->kind[i] = LAYER_SBOM;
	else if (is_tar_of(d->media_type, MEDIA_LAYER_TAR, '+') ||
		 is_tar_of(d->media_type, DOCKER_LAYER, '.') || is_tar_of(d->media_type, DOCKER_LAYER, '+'))
		im->kind[i] = LAYER_TAR;
	else
		return say_fail(EXIT_OURS, "%s: layer %zu is of an unknown type: %s", im->src->name, i + 1,
				d->media_type[0] ? d->media_type : "none is given");
	im->n_fs += im->kind[i] != LAYER_SBOM;
	return 0;
}

static int read_config(struct import *im, char **data)
{
	const char *why, *os, *arch;
	int status;

	if (strcmp(im->in.config.media_type, MEDIA_CONFIG) && strcmp(im->in.config.media_type, DOCKER_CONFIG))
		return say_fail(EXIT_OURS, "%s: it is not a container image: its config is of type %s",
				im->src->name,
				im->in.config.media_type[0] ? im->in.config.media_type : "(none)");
	if ((status = read_blob(im, &im->in.config, OCI_MAX_CONFIG, data)))
		return status;
	why = oci_config_parse(*data, (size_t)im->in.config.size, &im->config);
	if (why)
		return say_fail(EXIT_OURS, "%s: the configuration: %s", im->src->name, why);
	os = im->config.os ? im->config.os : "linux";
	arch = im->config.architecture ? im->config.architecture : "amd64";
	if (strcmp(os, "linux") || strcmp(arch, "amd64"))
		return say_fail(EXIT_OURS, "%s: it is an image for %s/%s: linux/amd64 is what runs here",
				im->src->name, os, arch);
	if (im->config.diff_ids.n != im->n_fs)
		return say_fail(EXIT_OURS, "%s: it has %zu layers, but its configuration names %zu",
				im->src->name, im->n_fs, im->config.diff_ids.n);
	return 0;
}

static int check_manifest(struct import *im, const char *data, size_t n, char **config)
{
	const char *why = oci_manifest_parse(data, n, &im->in);
	int status = 0;

	if (why)
		return say_fail(EXIT_OURS, "%s: the manifest: %s", im->src->name, why);
	for (size_t i = 0; !status && i < im->in.n_layers; i++)
		status = classify(im, i);
	if (!status && !im->n_fs)
		status = bad(im, "it has no layers, so there is nothing to run");
	return status ? status : read_config(im, config);
}

/* --- layers ------------------------------------------------------------------------------------------------------- */

/* A layer that is EROFS already. */
static int take_erofs(struct import *im, const struct oci_descriptor *d, const char *diff_id)
{
	struct erofs_image e;
	const char *why;
	int fd, status;

	if (strcmp(d->hex, diff_id))
		return say_fail(EXIT_OURS, "%s: layer sha256:%s has another digest in the configuration",
				im->src->name, d->hex);
	if (d->size < 4096 || d->size % 4096)
		return say_fail(EXIT_OURS, "%s: layer sha256:%s is no EROFS image of whole pages",
				im->src->name, d->hex);
	if ((status = charge(im, d->size, 0)) || (status = copy_blob(im, d)))
		return status;
	fd = store_blob(im->s, d->hex, NULL);
	if (fd < 0)
		return bad_store(im, fd);
	why = erofs_image_open(&e, fd);
	if (!why) {
		status = charge(im, 0, e.fs.n_inodes);
		erofs_image_close(&e);
	} else {
		status = say_fail(EXIT_OURS, "%s: layer sha256:%s %s", im->src->name, d->hex, why);
	}
	close(fd);
	return status;
}

/* The memo of a conversion: "HEX SIZE BYTES ENTRIES". True: it holds, and the layer is there. */
static bool layer_known(struct import *im, const char *key, struct oci_descriptor *d, int *status)
{
	char *v = store_memo_get(im->s, MEMO_LAYER, key), hex[65];
	uint64_t size, bytes, entries, there = 0;
	bool known = false;

	if (v &&
	    sscanf(v, "%64[0-9a-f] %" SCNu64 " %" SCNu64 " %" SCNu64, hex, &size, &bytes, &entries) == 4) {
		int fd = store_blob(im->s, hex, &there);
		known = fd >= 0 && there == size;
		if (fd >= 0)
			close(fd);
	}
	free(v);
	if (!known)
		return false;
	*status = charge(im, bytes, entries);
	oci_descriptor_set(d, MEDIA_LAYER_EROFS, hex, size, NULL);
	return true;
}

/* Tar layers from..from+n of the manifest, whose diff_ids begin at `id`, as one EROFS layer. */
static int take_tars(struct import *im, size_t from, size_t n, size_t id, struct oci_descriptor *out)
{
	struct tar_layer v[OCI_MAX_LAYERS];
	struct import_limits before = im->lim;
	char key[65], hex[65], what[64];
	struct strings all = {0};
	size_t opened = 0;
	uint64_t size;
	int status = 0;

	strings_addf(&all, "%s", im->config.diff_ids.v[id]);
	for (size_t i = 1; i < n; i++) { /* a digest over digests for merged ones */
		char *text = textf("%s %s", all.v[0], im->config.diff_ids.v[id + i]);
		sha256_hex(text, strlen(text), key);
		free(text);
		memcpy(all.v[0], key, 64);
	}
	memcpy(key, all.v[0], 65);
	strings_free(&all);
	if (layer_known(im, key, out, &status))
		return status;
	for (; !status && opened < n; opened++) {
		v[opened].d = &im->in.layers[from + opened];
		v[opened].diff_id = im->config.diff_ids.v[id + opened];
		status = open_blob(im, v[opened].d, &v[opened].fd);
		if (status)
			break;
	}
	if (!status) {
		uint64_t total = 0;
		for (size_t i = 0; i < n; i++)
			total += v[i].d->size;
		snprintf(what, sizeof(what), "Layer %zu of %zu", id + n, im->n_fs);
		progress_begin(what, total, true);
		status = layer_from_tars(im->s, v, (int)n, &im->lim, hex, &size);
		progress_end();
	}
	while (opened)
		close(v[--opened].fd);
	if (status)
		return status;
	oci_descriptor_set(out, MEDIA_LAYER_EROFS, hex, size, NULL);
	strings_addf(&im->memos, "%s=%s %" PRIu64 " %" PRIu64 " %" PRIu64, key, hex, size,
		     before.max_bytes - im->lim.max_bytes, before.max_entries - im->lim.max_entries);
	return 0;
}

/* How many of the lowest layers become one, so that at most MAX_TAR remain; 0: they cannot. */
static size_t merged(const struct import *im)
{
	size_t n = im->n_fs > MAX_TAR ? im->n_fs - MAX_TAR + 1 : 1, seen = 0;

	for (size_t i = 0; n > 1 && i < im->in.n_layers && seen < n; i++) {
		if (im->kind[i] == LAYER_EROFS)
			return 0;
		seen += im->kind[i] == LAYER_TAR;
	}
	/* They must lie side by side in the manifest. */
	for (size_t i = 0; n > 1 && i < n; i++)
		if (im->kind[i] != LAYER_TAR)
			return 0;
	return n;
}

static int convert_layers(struct import *im)
{
	size_t first = merged(im), id = 0, n;
	struct strings ids = {0};
	int status = first ? 0 : bad(im, "it has too many layers");

	for (size_t i = 0; !status && i < im->in.n_layers; i += n) {
		const struct oci_descriptor *d = &im->in.layers[i];
		struct oci_descriptor *o = oci_manifest_add_layer(&im->out);
		n = 1;
		if (im->kind[i] == LAYER_SBOM) {
			status = copy_blob(im, d);
			oci_descriptor_set(o, d->media_type, d->hex, d->size, d->title);
			continue;
		}
		if (im->kind[i] == LAYER_EROFS) {
			status = take_erofs(im, d, im->config.diff_ids.v[id]);
			oci_descriptor_set(o, d->media_type, d->hex, d->size, d->title);
		} else {
			n = id ? 1 : first;
			status = take_tars(im, i, n, id, o);
		}
		if (!status)
			strings_add(&ids, o->hex);
		id += n;
	}
	strings_free(&im->config.diff_ids);
	im->config.diff_ids = ids;
	return status;
}

/* --- the image of ours --------------------------------------------------------------------------------------------- */

static int put_string(struct import *im, char *text, char hex[65], uint64_t *size)
{
	int r;

	if (!text)
		return bad(im, "a string in it is not UTF-8");
	*size = strlen(text);
	r = store_put(im->s, text, (size_t)*size, hex);
	free(text);
	return r ? bad_store(im, r) : 0;
}

static int write_converted(struct import *im, const char *source_hex, char hex[65])
{
	char *note = textf("%s=sha256:%s", ANNOTATION_SOURCE, source_hex);
	char config_hex[65];
	uint64_t size;
	int status;

	for (size_t i = 0; i < im->in.annotations.n; i++)
		strings_add(&im->out.annotations, im->in.annotations.v[i]);
	strings_set_env(&im->out.annotations, note);
	free(note);
	status = put_string(im, oci_config_format(&im->config), config_hex, &size);
	if (status)
		return status;
	strcpy(im->out.media_type, MEDIA_MANIFEST);
	oci_descriptor_set(&im->out.config, MEDIA_CONFIG, config_hex, size, NULL);
	return put_string(im, oci_manifest_format(&im->out), hex, &size);
}

/* Everything is native: as it is. */
static int write_native(struct import *im, const char *data, size_t n, const char *config, char hex[65])
{
	char config_hex[65];
	size_t id = 0;
	int status = im->n_fs <= MAX_NATIVE ? 0 : bad(im, "it has more layers than an instance can mount");
	int r;

	for (size_t i = 0; !status && i < im->in.n_layers; i++) {
		if (im->kind[i] == LAYER_SBOM)
			status = copy_blob(im, &im->in.layers[i]);
		else
			status = take_erofs(im, &im->in.layers[i], im->config.diff_ids.v[id++]);
	}
	if (status)
		return status;
	r = store_put(im->s, config, (size_t)im->in.config.size, config_hex);
	if (!r)
		r = store_put(im->s, data, n, hex);
	return r ? bad_store(im, r) : 0;
}

static bool is_native(const struct import *im)
{
	for (size_t i = 0; i < im->in.n_layers; i++)
		if (im->kind[i] == LAYER_TAR)
			return false;
	return !strcmp(im->in.media_type, MEDIA_MANIFEST) && !strcmp(im->in.config.media_type, MEDIA_CONFIG);
}

/* --- the whole ------------------------------------------------------------------------------------------------------ */

/* Is the image `hex` there with all its blobs? */
static bool is_whole(struct store *s, const char *hex)
{
	struct oci_manifest m;
	char *data;
	size_t n;
	bool ok;

	if (store_get(s, hex, OCI_MAX_MANIFEST, &data, &n))
		return false;
	ok = !oci_manifest_parse(data, n, &m);
	free(data);
	if (!ok)
		return false;
	ok = store_has(s, m.config.hex);
	for (size_t i = 0; ok && i < m.n_layers; i++)
		ok = store_has(s, m.layers[i].hex);
	oci_manifest_free(&m);
	return ok;
}

/* The memo of an import: "HEX BYTES ENTRIES". True: it was imported, is whole, and within the limits. */
static bool import_known(const struct import *im, const char *source_hex, char hex[65])
{
	char *v = store_memo_get(im->s, MEMO_IMPORT, source_hex);
	uint64_t bytes, entries;
	bool known = v && sscanf(v, "%64[0-9a-f] %" SCNu64 " %" SCNu64, hex, &bytes, &entries) == 3 &&
		     bytes <= im->lim.max_bytes && entries <= im->lim.max_entries && is_whole(im->s, hex);

	free(v);
	return known;
}

static void write_memos(struct import *im, const char *source_hex, const char *hex,
			const struct import_limits *had)
{
	char *v = textf("%s %" PRIu64 " %" PRIu64, hex, had->max_bytes - im->lim.max_bytes,
			had->max_entries - im->lim.max_entries);

	store_memo_set(im->s, MEMO_IMPORT, source_hex, v);
	free(v);
	for (size_t i = 0; i < im->memos.n; i++) {
		im->memos.v[i][64] = 0;
		store_memo_set(im->s, MEMO_LAYER, im->memos.v[i], im->memos.v[i] + 65);
	}
}

static int import_new(struct import *im, const char *data, size_t n, const char *source_hex, char hex[65])
{
	struct import_limits had = im->lim;
	char *config = NULL;
	int status, r;

	store_begin(im->s);
	status = check_manifest(im, data, n, &config);
	if (!status && is_native(im))
		status = write_native(im, data, n, config, hex);
	else if (!status && !(status = convert_layers(im)))
		status = write_converted(im, source_hex, hex);
	free(config);
	r = store_end(im->s, !status);
	if (!status && r)
		status = bad_store(im, r);
	if (!status)
		write_memos(im, source_hex, hex, &had);
	return status;
}

int image_import(struct store *s, struct image_source *src, const struct import_limits *lim, char hex[65])
{
	static const struct import_limits standard = IMPORT_LIMITS_DEFAULT;
	struct import im = {.s = s, .src = src, .lim = lim ? *lim : standard};
	char *data, type[128], source_hex[65];
	int lock, status;
	size_t n;

	status = src->manifest(src->arg, &data, &n, type);
	if (status)
		return status;
	sha256_hex(data, n, source_hex);
	if (!import_known(&im, source_hex, hex)) {
		lock = store_lock(
			s, source_hex); /* the same image twice at once: the second finds the first's */
		if (!import_known(&im, source_hex, hex))
			status = import_new(&im, data, n, source_hex, hex);
		if (lock >= 0)
			close(lock);
	}
	free(data);
	oci_manifest_free(&im.in);
	oci_manifest_free(&im.out);
	oci_config_free(&im.config);
	strings_free(&im.memos);
	return status;
}

int image_import_named(struct store *s, const struct source_name *n, const struct import_limits *lim,
		       char hex[65])
{
	const char *ref = n->ref[0] ? n->ref : NULL;
	char store_ref[IMAGE_REF_MAX];
	struct image_source src;
	int status;

	switch (n->kind) {
	case SOURCE_STORE:
		return image_find(s, n->path, store_ref, hex);
	case SOURCE_OCI_DIR:
		status = source_open_oci_dir(n->path, ref, &src);
		break;
	case SOURCE_OCI_ARCHIVE:
		status = source_open_oci_archive(s, n->path, ref, &src);
		break;
	case SOURCE_DOCKER_ARCHIVE:
		status = source_open_docker_archive(s, n->path, ref, &src);
		break;
	default:
		return say_fail(EXIT_OURS, "no source of an image");
	}
	if (status)
		return status;
	status = image_import(s, &src, lim, hex);
	src.close(src.arg);
	return status;
}

int image_import_as(struct store *s, const char *source_word, const struct import_limits *lim,
		    const struct reference *as, char hex[65])
{
	struct source_name n;
	const char *why = source_parse(source_word, &n);
	char text[400];
	int status, r;

	if (why)
		return say_fail(EXIT_OURS, "%s: %s", source_word, why);
	if (n.kind == SOURCE_NONE)
		return say_fail(EXIT_OURS,
				"%s: not oci:DIR, oci-archive:FILE, docker-archive:FILE or image:NAME",
				source_word);
	if ((r = store_hold(s)))
		return say_fail(EXIT_OURS, "the store %s cannot be locked: %s", store_dir(s), say_errno(-r));
	status = image_import_named(s, &n, lim, hex);
	if (!status && as) {
		reference_text(as, text, sizeof(text));
		r = store_ref_set(s, text, hex);
		if (r)
			status = say_fail(EXIT_OURS, "%s: the name cannot be written to the store: %s", text,
					  say_errno(-r));
	}
	store_release(s);
	return status;
}
