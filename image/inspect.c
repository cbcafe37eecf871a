/* SPDX-License-Identifier: ISC */
/*
 * cowbell inspect: one image in full: what it is made of, what it would start; with --shared its other names, and what of it
 * other images hold. The latter takes a look at every image of the store, the former at this one alone.
 *
 * Texts come from manifests and configurations of strangers and are shown with control characters made visible.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "image/names.h"
#include "image/store/account.h"
#include "lib/host/say.h"

struct inspected {
	struct account_image *image;
	struct account_image unnamed; /* for a digest that no name leads to */
	struct oci_manifest manifest; /* zeroed if image->damage is set */
	bool shared; /* the whole store was looked at: it is known what others share, and all names */
	char *config_text; /* JSON, or NULL */
	size_t config_len;
	struct oci_config config; /* zeroed if config_text is NULL */
	const char *config_damage; /* or NULL */
};

/* --- for people ------------------------------------------------------------------------------------ */

/* "  Label       " */
static void label(const char *text)
{
	printf("  %-12s", text);
}

static void line(const char *name, const char *text)
{
	if (!text || !*text)
		return;
	label(name);
	put_text(text);
	putchar('\n');
}

/* The first with the label, each on a line. */
static void lines(const char *name, const struct strings *v)
{
	for (size_t i = 0; i < v->n; i++)
		line(i ? "" : name, v->v[i]);
}

/* As a shell would need it: words with anything but plain characters in single quotes. */
static void put_word(const char *w)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";

	if (*w && strspn(w, plain) == strlen(w)) {
		put_text(w);
		return;
	}
	putchar('\'');
	for (; *w; w++)
		if (*w == '\'')
			fputs("'\\''", stdout);
		else
			put_text((char[]){*w, 0});
	putchar('\'');
}

static void words(const char *name, const struct strings *v)
{
	if (!v->n)
		return;
	label(name);
	for (size_t i = 0; i < v->n; i++) {
		if (i)
			putchar(' ');
		put_word(v->v[i]);
	}
	putchar('\n');
}

static void print_config(const struct inspected *in)
{
	const struct oci_config *c = &in->config;
	struct strings processes = {0};

	line("Config", in->config_damage);
	if (!in->config_text)
		return;
	line("Language", strings_env(&c->labels, LABEL_LANGUAGE));
	line("Runtime", strings_env(&c->labels, LABEL_RUNTIME));
	if (c->os || c->architecture) {
		label("Platform");
		put_text(c->os ? c->os : "?");
		putchar('/');
		put_text(c->architecture ? c->architecture : "?");
		putchar('\n');
	}
	words("Entrypoint", &c->entrypoint);
	words("Command", &c->cmd);
	oci_config_processes(c, &processes);
	lines("Processes", &processes);
	strings_free(&processes);
	line("Directory", c->workdir);
	line("User", c->user);
	lines("Environment", &c->env);
	lines("Ports", &c->ports);
	lines("Volumes", &c->volumes);
	line("Stop signal", c->stop_signal);
}

static void print_layer(const struct account *a, const struct oci_descriptor *d, bool shared)
{
	ssize_t i = account_find_blob(a, d->hex);
	char size[32];

	label("");
	printf("sha256:%.12s  ", d->hex);
	if (i < 0) {
		printf("%10s  %-*s", "-", shared ? 16 : 0, "missing");
	} else {
		const struct account_blob *b = &a->blobs[i];
		size_text(b->disk, size);
		printf("%10s  ", size);
		if (!shared)
			;
		else if (b->users > 1)
			printf("shared by %-6u", b->users);
		else
			printf("%-16s", "unshared");
		if (b->size != d->size)
			fputs("  damaged: of another size", stdout);
	}
	printf("  ");
	put_text(d->title ? d->title : !strcmp(d->media_type, MEDIA_LAYER_EROFS) ? "" : d->media_type);
	putchar('\n');
}

static void print_layers(const struct account *a, const struct oci_manifest *m, bool shared)
{
	bool sbom = false;

	for (size_t i = 0; i < m->n_layers; i++)
		sbom = sbom || !strcmp(m->layers[i].media_type, MEDIA_SBOM);
	line("SBOM", sbom ? "CycloneDX, below" : "none");
	label("Layers");
	printf("lowest first\n");
	for (size_t i = 0; i < m->n_layers; i++)
		print_layer(a, &m->layers[i], shared);
}

static void print_text(const struct account *a, const char *word, const struct inspected *in)
{
	const struct account_image *im = in->image;
	char disk[32], own[32];

	put_text(im->names.n ? im->names.v[0] : word);
	putchar('\n');
	label("Digest");
	printf("sha256:%s\n", im->hex);
	for (size_t i = 1; i < im->names.n; i++)
		line(i == 1 ? "Also named" : "", im->names.v[i]);
	line("Damaged", im->damage);
	if (im->damage)
		return;
	size_text(im->disk, disk);
	size_text(im->own, own);
	label("Size");
	if (in->shared)
		printf("%s on disk, %s of it unshared\n", disk, own);
	else
		printf("%s on disk\n", disk);
	if (im->missing)
		line("Incomplete", "parts of it are not in the store; pull or build it again");
	print_config(in);
	if (im->signatures.n)
		line("Signed", "yes; cowbell verify checks by whom");
	else
		line("Signed", "no");
	print_layers(a, &in->manifest, in->shared);
}

/* --- as JSON ---------------------------------------------------------------------------------------- */

static json_t *json_digest(const char *hex)
{
	return json_sprintf("sha256:%s", hex);
}

static json_t *json_int(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *json_list(const struct strings *v)
{
	json_t *out = json_array();

	for (size_t i = 0; i < v->n; i++)
		json_array_append_new(out, json_string(v->v[i]));
	return out;
}

static json_t *json_layer(const struct account *a, const struct oci_descriptor *d, bool shared)
{
	ssize_t i = account_find_blob(a, d->hex);
	json_t *j = json_object();

	json_object_set_new(j, "digest", json_digest(d->hex));
	json_object_set_new(j, "media_type", json_string(d->media_type));
	json_object_set_new(j, "title", d->title ? json_string(d->title) : json_null());
	json_object_set_new(j, "bytes", json_int(d->size));
	json_object_set_new(j, "present", json_boolean(i >= 0));
	json_object_set_new(j, "disk_bytes", json_int(i < 0 ? 0 : a->blobs[i].disk));
	if (shared)
		json_object_set_new(j, "images", json_int(i < 0 ? 0 : a->blobs[i].users));
	return j;
}

static json_t *json_of_blob(struct store *s, const char *hex, size_t max)
{
	char *text;
	size_t n;

	if (store_get(s, hex, max, &text, &n))
		return json_null();
	json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
	free(text);
	return j ? j : json_null();
}

static json_t *to_json(struct store *s, const struct account *a, const struct inspected *in)
{
	const struct account_image *im = in->image;
	json_t *j = json_object(), *layers = json_array(), *processes = json_object();
	struct strings list = {0};

	json_object_set_new(j, "digest", json_digest(im->hex));
	json_object_set_new(j, "names", json_list(&im->names));
	json_object_set_new(j, "signatures", json_list(&im->signatures));
	json_object_set_new(j, "damage", im->damage ? json_string(im->damage) : json_null());
	json_object_set_new(j, "bytes", json_int(im->size));
	json_object_set_new(j, "disk_bytes", json_int(im->disk));
	if (in->shared)
		json_object_set_new(j, "unshared_bytes", json_int(im->own));
	json_object_set_new(j, "missing_blobs", json_int(im->missing));
	for (size_t i = 0; i < in->manifest.n_layers; i++)
		json_array_append_new(layers, json_layer(a, &in->manifest.layers[i], in->shared));
	json_object_set_new(j, "layers", layers);
	oci_config_processes(&in->config, &list);
	for (size_t i = 0; i < list.n; i++) {
		char *eq = strchr(list.v[i], '=');
		if (eq) {
			*eq = 0;
			json_object_set_new(processes, list.v[i], json_string(eq + 1));
		}
	}
	strings_free(&list);
	json_object_set_new(j, "processes", processes);
	json_object_set_new(j, "manifest", json_of_blob(s, im->hex, OCI_MAX_MANIFEST));
	json_object_set_new(j, "config",
			    im->damage ? json_null() : json_of_blob(s, im->config, OCI_MAX_CONFIG));
	return j;
}

/* --- finding ----------------------------------------------------------------------------------------- */

/* NULL, or what is wrong with it. */
static const char *load_manifest(struct store *s, const char *hex, struct oci_manifest *m)
{
	char *text;
	size_t n;

	memset(m, 0, sizeof(*m));
	if (store_get(s, hex, OCI_MAX_MANIFEST, &text, &n))
		return "no manifest";
	const char *why = oci_manifest_parse(text, n, m);
	free(text);
	return why;
}

/* An image without a name: accounted for by itself, all of it unshared or held by others. */
static void account_unnamed(const struct account *a, const char *hex, const struct oci_manifest *m,
			    struct account_image *im)
{
	strcpy(im->hex, hex);
	strcpy(im->config, m->config.hex);
	for (size_t i = 0; i < m->n_layers + 2; i++) {
		const char *h = !i ? hex : i == 1 ? m->config.hex : m->layers[i - 2].hex;
		ssize_t b = account_find_blob(a, h);
		im->missing += b < 0;
		im->size += b < 0 ? 0 : a->blobs[b].size;
		im->disk += b < 0 ? 0 : a->blobs[b].disk;
		im->own += b < 0 || a->blobs[b].users ? 0 : a->blobs[b].disk;
	}
}

static void load_config(struct store *s, struct inspected *in)
{
	if (in->image->damage)
		return;
	int r = store_get(s, in->image->config, OCI_MAX_CONFIG, &in->config_text, &in->config_len);
	if (r)
		in->config_damage = r == -ENOENT ? "missing" : r == -EBADMSG ? "damaged" : "cannot be read";
	else
		in->config_damage = oci_config_parse(in->config_text, in->config_len, &in->config);
	if (!r && in->config_damage) {
		free(in->config_text);
		in->config_text = NULL;
		memset(&in->config, 0, sizeof(in->config));
	}
}

static int show(struct store *s, const struct account *a, const char *word, struct inspected *in,
		json_t *list, bool first)
{
	int status = 0;

	load_config(s, in);
	if (in->image->damage || in->config_damage || in->image->missing)
		status = say_fail(EXIT_OURS, "%s: %s", word,
				  in->image->damage   ? in->image->damage
				  : in->config_damage ? "its configuration is damaged or missing"
						      : "parts of it are not in the store");
	if (list) {
		json_array_append_new(list, to_json(s, a, in));
	} else {
		if (!first)
			putchar('\n');
		print_text(a, word, in);
	}
	oci_config_free(&in->config);
	free(in->config_text);
	return status;
}

/* all: the account of the whole store, or NULL. */
static int inspect_one(struct store *s, const struct account *all, const char *word, json_t *list, bool first)
{
	char ref[IMAGE_REF_MAX], hex[65];
	struct inspected in = {.shared = all};
	struct account one;
	int status = image_find(s, word, ref, hex);

	if (status)
		return status;
	const char *why = load_manifest(s, hex, &in.manifest);
	if (why && !ref[0] && !(all && account_find_image(all, hex)))
		return say_fail(EXIT_OURS, "%s: no image: %s", word, why);
	if (!all && account_open_one(s, ref, hex, &one))
		return say_fail(EXIT_OURS, "%s: cannot be looked at", word);
	const struct account *a = all ? all : &one;
	in.image = account_find_image(a, hex);
	if (!in.image) {
		account_unnamed(a, hex, &in.manifest, &in.unnamed);
		in.image = &in.unnamed;
	}
	status = show(s, a, word, &in, list, first);
	oci_manifest_free(&in.manifest);
	if (!all)
		account_close(&one);
	return status;
}

int image_inspect(const char *const *names, bool json, bool shared)
{
	struct store *s = store_open();
	json_t *list = json ? json_array() : NULL;
	struct account a = {0};
	int status = 0;

	if (!s)
		return EXIT_OURS;
	int r = store_hold(s);
	if (!r && shared)
		r = account_open(s, &a);
	if (r) {
		say("%s: %s", store_dir(s), strerror(-r));
		json_decref(list);
		store_close(s);
		return EXIT_OURS;
	}
	for (const char *const *n = names; *n; n++) {
		int st = inspect_one(s, shared ? &a : NULL, *n, list, n == names);
		status = status ? status : st;
	}
	if (json) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(list);
	}
	account_close(&a);
	store_close(s);
	return status;
}
