// SPDX-License-Identifier: ISC
/*
 * libFuzzer target: references, manifests, indexes and configurations of images (image/oci/reference.c, oci.c). What was
 * accepted must be within the limits, and must come back the same after it was written and read again.
 */
#include <stdlib.h>
#include <string.h>

#include "image/oci/oci.h"
#include "image/oci/reference.h"
#include "image/store/store.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void need(bool good)
{
	if (!good)
		abort();
}

static void manifest(const char *s, size_t n)
{
	struct oci_manifest m, again;

	if (oci_manifest_parse(s, n, &m))
		return;
	need(m.n_layers <= OCI_MAX_LAYERS && is_digest(m.config.hex));
	for (size_t i = 0; i < m.n_layers; i++)
		need(is_digest(m.layers[i].hex) && (int64_t)m.layers[i].size >= 0);
	char *a = oci_manifest_format(&m), *b;
	need(a && !oci_manifest_parse(a, strlen(a), &again));
	b = oci_manifest_format(&again);
	need(b && !strcmp(a, b));
	free(a);
	free(b);
	oci_manifest_free(&m);
	oci_manifest_free(&again);
}

static void config(const char *s, size_t n)
{
	struct oci_config c, again;
	struct strings types = {0};

	if (oci_config_parse(s, n, &c))
		return;
	need(c.diff_ids.n <= OCI_MAX_LAYERS && (!c.workdir || c.workdir[0] == '/'));
	for (size_t i = 0; i < c.env.n; i++)
		need(strchr(c.env.v[i], '=') && c.env.v[i][0] != '=');
	for (size_t i = 0; i < c.volumes.n; i++)
		need(c.volumes.v[i][0] == '/');
	oci_config_processes(&c, &types);
	strings_free(&types);
	char *a = oci_config_format(&c), *b;
	need(a && !oci_config_parse(a, strlen(a), &again));
	b = oci_config_format(&again);
	need(b && !strcmp(a, b));
	free(a);
	free(b);
	oci_config_free(&c);
	oci_config_free(&again);
}

static void reference(const char *s)
{
	struct reference r, again;
	struct source_name src;
	char text[400];

	source_parse(s, &src);
	if (reference_parse(s, &r))
		return;
	need(!strstr(r.name, "..") && r.name[0] != '/' && r.name[0] != '-' && !strstr(r.name, "//"));
	need((!r.hex[0] || is_digest(r.hex)) && r.tag[0] && r.tag[0] != '.');
	reference_text(&r, text, sizeof(text));
	need(!reference_parse(text, &again) && !strcmp(again.name, r.name) && !strcmp(again.tag, r.tag));
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	char *s = malloc(size + 1);
	struct oci_descriptor d;

	if (!s)
		return 0;
	memcpy(s, data, size);
	s[size] = 0;
	manifest(s, size);
	config(s, size);
	reference(s);
	for (int i = 0; i < 2; i++)
		if (!oci_index_pick(s, size, i ? "v1" : NULL, &d)) {
			need(is_digest(d.hex) && d.media_type[0]);
			free(d.title);
		}
	free(s);
	return 0;
}
