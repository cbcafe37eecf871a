/* SPDX-License-Identifier: ISC */
/*
 * OCI image manifests and configurations, parsed into structs and written back. Source: the OCI image
 * specification 1.0; Docker's image manifest v2 schema 2, which is read as well.
 *
 * A native image is an OCI image whose layers are EROFS images instead of tar files, so that they boot in place; ordinary
 * registries and tools carry it. Input is hostile: sizes, counts, digests, names and types are checked here.
 */
#ifndef COWBELL_IMAGE_OCI_OCI_H
#define COWBELL_IMAGE_OCI_OCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/host/strings.h"

#define MEDIA_MANIFEST	"application/vnd.oci.image.manifest.v1+json"
#define MEDIA_INDEX	"application/vnd.oci.image.index.v1+json"
#define MEDIA_CONFIG	"application/vnd.oci.image.config.v1+json"
#define MEDIA_LAYER_TAR "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_LAYER_EROFS                                                                                    \
	"application/vnd.cowbell.layer.v1.erofs" /* ours: uncompressed EROFS, mapped in place */
#define MEDIA_SBOM	      "application/vnd.cyclonedx+json" /* rides along among the layers; never mounted */
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"

#define OCI_MAX_LAYERS	      128
#define OCI_MAX_MANIFEST      (4u << 20)
#define OCI_MAX_CONFIG	      (4u << 20)

/* Labels of ours in the configuration. */
#define LABEL_PROCESSES                                                                                      \
	"dev.cowbell.processes" /* JSON object: process type -> command line, as in a Procfile */
#define LABEL_RUNTIME "dev.cowbell.runtime" /* such as "python3 3.11.2-6+deb12u6" */
#define ANNOTATION_SOURCE                                                                                    \
	"dev.cowbell.source.digest" /* of a converted image: the digest of the manifest it was made from */
#define LABEL_LANGUAGE "dev.cowbell.language" /* such as "Python" */

struct oci_descriptor {
	char media_type[128];
	char hex[65];
	uint64_t size;
	char *title; /* annotation org.opencontainers.image.title, or NULL (malloc) */
};

struct oci_manifest {
	char media_type[128];
	struct oci_descriptor config;
	size_t n_layers;
	struct oci_descriptor *layers; /* lowest first */
	struct strings annotations; /* K=V */
};

struct oci_config {
	struct strings entrypoint, cmd, env, ports /* "8080/tcp" */, volumes, labels /* K=V */;
	bool has_entrypoint, has_cmd;
	char *user, *workdir, *stop_signal, *architecture, *os; /* malloc, or NULL */
	struct strings diff_ids; /* hex, lowest first */
};

/*
 * NULL, or a phrase that says what is wrong ("it has no config"); then `out` is empty. A phrase of oci_index_pick() lasts until
 * its next call.
 */
const char *oci_manifest_parse(const char *json, size_t n, struct oci_manifest *out);
const char *oci_config_parse(const char *json, size_t n, struct oci_config *out);
/* The entry of an index (or manifest list) for linux/amd64; ref: the name to look for among annotations, or NULL. */
const char *oci_index_pick(const char *json, size_t n, const char *ref, struct oci_descriptor *out);
/* JSON text, keys in a fixed order, malloc. Equal structs give equal bytes. NULL: a string in it is not UTF-8. */
char *oci_manifest_format(const struct oci_manifest *m);
char *oci_config_format(const struct oci_config *c);
void oci_descriptor_set(struct oci_descriptor *d, const char *media_type, const char *hex, uint64_t size,
			const char *title);
struct oci_descriptor *oci_manifest_add_layer(struct oci_manifest *m); /* a zeroed one at the end */
void oci_manifest_free(struct oci_manifest *m);
void oci_config_free(struct oci_config *c);
/* Process types of LABEL_PROCESSES as a list of "TYPE=COMMAND" in the label's order; empty if there are none. */
void oci_config_processes(const struct oci_config *c, struct strings *out);

#endif
