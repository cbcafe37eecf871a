/* SPDX-License-Identifier: ISC */
/*
 * Bringing images into the store. A source (OCI layout, archive, registry) hands out a manifest and blobs; the
 * importer verifies every digest, turns tar layers into EROFS layers and writes the native manifest.
 */
#ifndef COWBELL_IMAGE_OCI_IMPORT_H
#define COWBELL_IMAGE_OCI_IMPORT_H

#include "image/oci/oci.h"
#include "image/oci/reference.h"
#include "image/store/store.h"

struct import_limits {
	uint64_t max_bytes; /* unpacked, all layers together; 1 GiB */
	uint64_t max_entries; /* 100,000 */
};
#define IMPORT_LIMITS_DEFAULT                                                                                \
	{                                                                                                    \
		1ull << 30, 100000                                                                           \
	}

/* Where an image comes from. Functions print one line and return an exit status (EXIT_OURS...) on failure. */
struct image_source {
	void *arg;
	const char *name; /* for messages */
	/* The manifest's bytes (malloc) and media type; an index was resolved already. */
	int (*manifest)(void *arg, char **data, size_t *n, char media_type[128]);
	/* A descriptor at offset 0 of the blob's bytes; the importer checks size and digest and closes it. */
	int (*blob)(void *arg, const struct oci_descriptor *d, int *fd);
	void (*close)(void *arg);
};

/* layout.c: a directory or an archive. 0, or an exit status after one line. */
int source_open_oci_dir(const char *dir, const char *ref, struct image_source *out);
int source_open_oci_archive(struct store *s, const char *file, const char *ref, struct image_source *out);
int source_open_docker_archive(struct store *s, const char *file, const char *ref, struct image_source *out);
/* registry.c. reference without HOST: an error that says so. */
struct registry_options {
	const char *creds; /* "USER:PASSWORD", or NULL: from the environment or the auth file */
	bool plain_http;
	const char *ca_file; /* PEM, or NULL */
	uint64_t stall_ns; /* give up when nothing moves for this long; 0: 30 s */
	uint64_t max_bytes; /* of one blob, and of all that are fetched; 0: 1 GiB */
};
int source_open_registry(struct store *s, const struct reference *r, const struct registry_options *o,
			 struct image_source *out);

/*
 * Import; hex gets the digest of the native manifest, which no name keeps yet. Hold the store. A source that was imported
 * before costs a look at its manifest. 0, or an exit status after one line; on failure the store is as before.
 */
int image_import(struct store *s, struct image_source *src, const struct import_limits *lim, char hex[65]);
/* The same by name: oci:..., oci-archive:..., docker-archive:... */
int image_import_named(struct store *s, const struct source_name *n, const struct import_limits *lim,
		       char hex[65]);
/*
 * For `build --from`: import from what the user wrote (oci:DIR, ...) and give it a name. Holds the store itself.
 * 0, or an exit status after one line.
 */
int image_import_as(struct store *s, const char *source_word, const struct import_limits *lim,
		    const struct reference *as, char hex[65]);
/* Write an image of the store as an OCI archive (a tar file of an OCI layout). Atomic. */
int image_export_archive(struct store *s, const char *hex, const char *ref, const char *file);

/*
 * layer.c: tar layers into one EROFS layer. `n` tars, lowest first, are merged by OCI's rules (n > 1 only where an
 * image has more layers than an instance can mount; then they are the image's lowest). Each `fd` is a compressed or
 * plain tar; its SHA-256 and size must be those of `d`, that of its plain contents `diff_id` ("" : not known).
 * lim is used up as it goes. 0, or an exit status after one line.
 */
struct tar_layer {
	int fd;
	const struct oci_descriptor *d;
	const char *diff_id;
};
int layer_from_tars(struct store *s, const struct tar_layer *v, int n, struct import_limits *lim,
		    char hex[65], uint64_t *size);

#endif
