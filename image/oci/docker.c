/* SPDX-License-Identifier: ISC */
/*
 * docker-archive:FILE, the tar file that `docker save` and `skopeo copy ... docker-archive:` write:
 *
 *   manifest.json      [{"Config": NAME, "RepoTags": ["name:tag"], "Layers": [NAME, ...]}, ...], layers lowest first
 *   NAME               the configuration (its diff_ids are the layers' digests), and layers as tar files, plain or
 *                      gzip'ed; layers may be links to one another, entries may come in any order
 *
 * There is no OCI manifest in it: one is made here, so that all sources look alike. A plain layer's digest is its diff_id,
 * so nothing is read before the importer verifies it; a compressed layer is hashed once more here. NAMEs are looked up in the
 * archive's table and are never paths of the host.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/oci/import.h"
#include "image/oci/tarfile.h"
#include "lib/host/say.h"

struct docker {
	char *name;
	struct tarfile *tar;
	struct oci_manifest manifest; /* the one made here */
	const struct tar_member *config;
	const struct tar_member *layers[OCI_MAX_LAYERS];
};

/* --- which image of the archive ------------------------------------------------------------------------------ */

/* "docker.io/library/x:latest", "localhost/x" and "x" name the same image here. */
static void plain_tag(const char *s, char *buf, size_t size)
{
	struct reference r;

	if (!strncmp(s, "docker.io/", 10))
		s += 10;
	if (!strncmp(s, "library/", 8))
		s += 8;
	if (!strncmp(s, "localhost/", 10))
		s += 10;
	if (reference_parse(s, &r))
		buf[0] = 0;
	else
		reference_text(&r, buf, size);
}

static bool has_tag(const json_t *entry, const char *ref)
{
	const json_t *tags = json_object_get(entry, "RepoTags");
	char want[400], have[400];

	plain_tag(ref, want, sizeof(want));
	for (size_t i = 0; i < json_array_size(tags); i++) {
		const char *tag = json_string_value(json_array_get(tags, i));
		if (!tag)
			continue;
		plain_tag(tag, have, sizeof(have));
		if (!strcmp(tag, ref) || (want[0] && !strcmp(want, have)))
			return true;
	}
	return false;
}

static int no_choice(const struct docker *d, const json_t *list, const char *ref)
{
	struct strings tags = {0};
	char text[500] = "";

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *v = json_object_get(json_array_get(list, i), "RepoTags");
		for (size_t k = 0; k < json_array_size(v) && tags.n < 8; k++)
			if (json_is_string(json_array_get(v, k)))
				strings_add(&tags, json_string_value(json_array_get(v, k)));
	}
	for (size_t i = 0; i < tags.n; i++) {
		size_t len = strlen(text);
		snprintf(text + len, sizeof(text) - len, "%s%.100s", i ? ", " : "", tags.v[i]);
	}
	strings_free(&tags);
	if (ref)
		return say_fail(EXIT_OURS, "%s: it has no image %s; it has %s", d->name, ref,
				*text ? text : "no names");
	return say_fail(EXIT_OURS, "%s: it has several images; name one of %s", d->name,
			*text ? text : "them");
}

static int choose(const struct docker *d, const json_t *list, const char *ref, const json_t **entry)
{
	*entry = NULL;
	if (!json_is_array(list) || !json_array_size(list))
		return say_fail(EXIT_OURS, "%s: manifest.json is not a list of images", d->name);
	if (!ref && json_array_size(list) > 1)
		return no_choice(d, list, NULL);
	for (size_t i = 0; i < json_array_size(list) && !*entry; i++)
		if (!ref || has_tag(json_array_get(list, i), ref))
			*entry = json_array_get(list, i);
	return *entry ? 0 : no_choice(d, list, ref);
}

/* --- its parts ------------------------------------------------------------------------------------------------ */

static int find(const struct docker *d, const json_t *name, const char *what, const struct tar_member **m)
{
	const char *s = json_string_value(name);

	if (!s)
		return say_fail(EXIT_OURS, "%s: manifest.json does not name the %s", d->name, what);
	*m = tarfile_find(d->tar, s);
	return *m ? 0 : say_fail(EXIT_OURS, "%s: %s %s is missing in it", d->name, what, s);
}

static int read_small(const struct docker *d, const struct tar_member *m, const char *what, char **data,
		      size_t *n)
{
	const char *why = "is larger than 4 MiB";

	*n = (size_t)tarfile_size(m);
	*data = NULL;
	if (tarfile_size(m) <= OCI_MAX_CONFIG) {
		char *buf = malloc(*n + 1);
		long r = buf ? tarfile_peek(d->tar, m, buf, *n) : -ENOMEM;
		if (buf && r == (long)*n) {
			buf[*n] = 0;
			*data = buf;
			return 0;
		}
		free(buf);
		why = r < 0 ? strerror((int)-r) : "ends after the archive does";
	}
	say("%s: %s: %s", d->name, what, why);
	return EXIT_OURS;
}

/* Digest and media type of a layer's bytes as they are in the archive. */
static int describe_layer(struct docker *d, const struct tar_member *m, const char *diff_id,
			  struct oci_descriptor *out)
{
	unsigned char magic[4] = {0};
	char hex[65];
	int fd, r;

	if (tarfile_peek(d->tar, m, magic, 4) < 0)
		return say_fail(EXIT_OURS, "%s: a layer cannot be read", d->name);
	bool gzip = magic[0] == 0x1f && magic[1] == 0x8b;
	if (!gzip && memcmp(magic, "\x28\xb5\x2f\xfd", 4)) {
		oci_descriptor_set(out, MEDIA_LAYER_TAR, diff_id, tarfile_size(m), NULL);
		return 0;
	}
	fd = tarfile_fd(d->tar, m);
	r = fd < 0 ? fd : sha256_fd(fd, hex);
	if (fd >= 0)
		close(fd);
	if (r)
		return say_fail(EXIT_OURS, "%s: a layer cannot be read: %s", d->name, strerror(-r));
	oci_descriptor_set(out, gzip ? MEDIA_LAYER_TAR "+gzip" : MEDIA_LAYER_TAR "+zstd", hex,
			   tarfile_size(m), NULL);
	return 0;
}

static int read_config(struct docker *d, const json_t *entry, struct oci_config *config)
{
	const char *why;
	char *data, hex[65];
	size_t n;
	int status = find(d, json_object_get(entry, "Config"), "configuration", &d->config);

	if (!status)
		status = read_small(d, d->config, "the configuration", &data, &n);
	if (status)
		return status;
	sha256_hex(data, n, hex);
	oci_descriptor_set(&d->manifest.config, MEDIA_CONFIG, hex, n, NULL);
	why = oci_config_parse(data, n, config);
	free(data);
	return why ? say_fail(EXIT_OURS, "%s: the configuration: %s", d->name, why) : 0;
}

/* Layer `i`. One file may be many layers: it is looked at once. */
static int add_layer(struct docker *d, size_t i, const char *diff_id)
{
	struct oci_descriptor *out = oci_manifest_add_layer(&d->manifest);
	const struct oci_descriptor *v = d->manifest.layers;

	for (size_t k = 0; k < i; k++)
		if (d->layers[k] == d->layers[i] && strcmp(v[k].media_type, MEDIA_LAYER_TAR)) {
			oci_descriptor_set(out, v[k].media_type, v[k].hex, v[k].size, NULL);
			return 0;
		}
	return describe_layer(d, d->layers[i], diff_id, out);
}

static int read_image(struct docker *d, const json_t *entry)
{
	const json_t *layers = json_object_get(entry, "Layers");
	struct oci_config config = {0};
	int status = read_config(d, entry, &config);

	if (!status && json_array_size(layers) != config.diff_ids.n)
		status = say_fail(EXIT_OURS, "%s: manifest.json names %zu layers, the configuration %zu",
				  d->name, json_array_size(layers), config.diff_ids.n);
	for (size_t i = 0; !status && i < config.diff_ids.n; i++) {
		status = find(d, json_array_get(layers, i), "layer", &d->layers[i]);
		if (!status)
			status = add_layer(d, i, config.diff_ids.v[i]);
	}
	oci_config_free(&config);
	return status;
}

static int read_archive(struct docker *d, const char *ref)
{
	const struct tar_member *m = tarfile_find(d->tar, "manifest.json");
	const json_t *entry;
	json_t *list;
	char *data;
	size_t n;
	int status;

	if (!m)
		return say_fail(EXIT_OURS, "%s: it has no manifest.json%s", d->name,
				tarfile_find(d->tar, "oci-layout") ? ": use oci-archive:" : "");
	status = read_small(d, m, "manifest.json", &data, &n);
	if (status)
		return status;
	list = json_loadb(data, n, JSON_REJECT_DUPLICATES, NULL);
	free(data);
	status = choose(d, list, ref && *ref ? ref : NULL, &entry);
	if (!status)
		status = read_image(d, entry);
	json_decref(list);
	return status;
}

/* --- the source ------------------------------------------------------------------------------------------------- */

static int docker_manifest(void *arg, char **data, size_t *n, char media_type[128])
{
	struct docker *d = arg;

	*data = oci_manifest_format(&d->manifest);
	*n = strlen(*data);
	strcpy(media_type, MEDIA_MANIFEST);
	return 0;
}

static int docker_blob(void *arg, const struct oci_descriptor *want, int *fd)
{
	struct docker *d = arg;
	const struct tar_member *m = NULL;

	if (!strcmp(want->hex, d->manifest.config.hex))
		m = d->config;
	for (size_t i = 0; !m && i < d->manifest.n_layers; i++)
		if (!strcmp(want->hex, d->manifest.layers[i].hex))
			m = d->layers[i];
	*fd = m ? tarfile_fd(d->tar, m) : -ENOENT;
	return *fd < 0 ? say_fail(EXIT_OURS, "%s: blob %s: %s", d->name, want->hex, strerror(-*fd)) : 0;
}

static void docker_close(void *arg)
{
	struct docker *d = arg;

	tarfile_close(d->tar);
	oci_manifest_free(&d->manifest);
	free(d->name);
	free(d);
}

int source_open_docker_archive(struct store *s, const char *file, const char *ref, struct image_source *out)
{
	struct docker *d = calloc(1, sizeof(*d));
	int status = EXIT_OURS;

	if (!d)
		exit(say_fail(EXIT_OURS, "out of memory"));
	d->name = textf("%s", file);
	d->tar = tarfile_open(s, file);
	if (d->tar)
		status = read_archive(d, ref);
	if (status) {
		docker_close(d);
		return status;
	}
	*out = (struct image_source){d, d->name, docker_manifest, docker_blob, docker_close};
	return 0;
}
