/* SPDX-License-Identifier: ISC */
/*
 * cowbell images and cowbell prune: the store's account for people, and as JSON.
 *
 * Sizes are blocks on disk. UNSHARED is what removing all names of the image and a prune would free; the rest of SIZE is
 * held by other images as well. What cannot be read is listed with what is wrong, and makes the exit status 125.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "image/names.h"
#include "image/store/account.h"
#include "image/store/inside.h"
#include "lib/host/say.h"

/* Language and runtime of an image, malloc, or NULL: of its configuration's labels. */
static void read_labels(struct store *s, const struct account_image *im, char **language, char **runtime)
{
	struct oci_config c;
	char *text;
	size_t n;

	*language = *runtime = NULL;
	if (im->damage || store_get(s, im->config, OCI_MAX_CONFIG, &text, &n))
		return;
	const char *why = oci_config_parse(text, n, &c);
	free(text);
	if (why)
		return;
	const char *l = strings_env(&c.labels, LABEL_LANGUAGE), *r = strings_env(&c.labels, LABEL_RUNTIME);
	*language = l ? textf("%s", l) : NULL;
	*runtime = r ? textf("%s", r) : NULL;
	oci_config_free(&c);
}

static void pad(const char *text, int width)
{
	put_text(text);
	for (int n = (int)strlen(text); n < width; n++)
		putchar(' ');
	fputs("  ", stdout);
}

static void print_row(const char *ref, const struct account_image *im, const char *runtime, int name_width,
		      int tag_width, int runtime_width)
{
	const char *colon = strrchr(ref, ':');
	char *name = textf("%.*s", (int)(colon - ref), ref), size[32], own[32], digest[13];

	size_text(im->disk, size);
	size_text(im->own, own);
	snprintf(digest, sizeof(digest), "%s", im->hex);
	pad(name, name_width);
	pad(colon + 1, tag_width);
	pad(digest, 12);
	pad(runtime, runtime_width);
	printf("%10s  %10s", size, own);
	if (im->damage || im->missing)
		printf("  %s", im->damage ? im->damage : "parts of it are missing");
	putchar('\n');
	free(name);
}

static int wider(int width, size_t n)
{
	return n > (size_t)width ? (int)n : width;
}

/* Names of an image that are to be shown. */
static void names_of(const struct account_image *im, bool all, struct strings *out)
{
	for (size_t i = 0; i < im->names.n; i++)
		strings_add(out, im->names.v[i]);
	for (size_t i = 0; all && i < im->signatures.n; i++)
		strings_add(out, im->signatures.v[i]);
}

static void print_table(const struct account *a, bool all, char **runtime)
{
	int name_w = 4, tag_w = 3, run_w = 7;
	struct strings *names = calloc(a->n_images + 1, sizeof(*names));

	if (!names)
		return;
	for (size_t i = 0; i < a->n_images; i++) {
		names_of(&a->images[i], all, &names[i]);
		run_w = wider(run_w, strlen(runtime[i]));
		for (size_t k = 0; k < names[i].n; k++) {
			const char *ref = names[i].v[k], *colon = strrchr(ref, ':');
			name_w = wider(name_w, (size_t)(colon - ref));
			tag_w = wider(tag_w, strlen(colon + 1));
		}
	}
	pad("NAME", name_w);
	pad("TAG", tag_w);
	pad("DIGEST", 12);
	pad("RUNTIME", run_w);
	printf("%10s  %10s\n", "SIZE", "UNSHARED");
	for (size_t i = 0; i < a->n_images; i++) {
		for (size_t k = 0; k < names[i].n; k++)
			print_row(names[i].v[k], &a->images[i], runtime[i], name_w, tag_w, run_w);
		strings_free(&names[i]);
	}
	free(names);
}

static void print_footer(const struct account *a)
{
	char disk[32], unused[32];

	size_text(a->disk, disk);
	size_text(a->unused, unused);
	printf("\n%zu image%s, %s on disk", a->n_images, a->n_images == 1 ? "" : "s", disk);
	if (a->unused)
		printf(", %s of it unused: cowbell prune frees that", unused);
	putchar('\n');
}

static json_t *json_strings(const struct strings *v)
{
	json_t *out = json_array();

	for (size_t i = 0; i < v->n; i++)
		json_array_append_new(out, json_string(v->v[i]));
	return out;
}

static json_t *json_int(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static void print_json(json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(j);
}

static json_t *json_image(struct store *s, const struct account_image *im)
{
	json_t *j = json_object();
	char digest[80], *language, *runtime;

	read_labels(s, im, &language, &runtime);
	snprintf(digest, sizeof(digest), "sha256:%s", im->hex);
	json_object_set_new(j, "digest", json_string(digest));
	json_object_set_new(j, "names", json_strings(&im->names));
	json_object_set_new(j, "signatures", json_strings(&im->signatures));
	json_object_set_new(j, "language", language ? json_string(language) : json_null());
	json_object_set_new(j, "runtime", runtime ? json_string(runtime) : json_null());
	json_object_set_new(j, "bytes", json_int(im->size));
	json_object_set_new(j, "disk_bytes", json_int(im->disk));
	json_object_set_new(j, "unshared_bytes", json_int(im->own));
	json_object_set_new(j, "shared_bytes", json_int(im->disk - im->own));
	json_object_set_new(j, "missing_blobs", json_int(im->missing));
	json_object_set_new(j, "damage", im->damage ? json_string(im->damage) : json_null());
	free(language);
	free(runtime);
	return j;
}

static void list_json(struct store *s, const struct account *a)
{
	json_t *j = json_object(), *images = json_array();

	for (size_t i = 0; i < a->n_images; i++)
		json_array_append_new(images, json_image(s, &a->images[i]));
	json_object_set_new(j, "images", images);
	json_object_set_new(j, "disk_bytes", json_int(a->disk));
	json_object_set_new(j, "unused_bytes", json_int(a->unused));
	json_object_set_new(j, "unused_blobs", json_int(a->n_unused));
	json_object_set_new(j, "broken", json_strings(&a->broken));
	print_json(j);
}

static void list_text(struct store *s, const struct account *a, bool all)
{
	char **runtime = calloc(a->n_images + 1, sizeof(*runtime));

	for (size_t i = 0; runtime && i < a->n_images; i++) {
		char *language, *run;
		read_labels(s, &a->images[i], &language, &run);
		runtime[i] = run ? run : language ? language : textf("-");
		if (run)
			free(language);
	}
	if (runtime)
		print_table(a, all, runtime);
	print_footer(a);
	for (size_t i = 0; runtime && i < a->n_images; i++)
		free(runtime[i]);
	free(runtime);
}

/* Each thing that is wrong in one line; the exit status that it makes. */
static int report_broken(const struct account *a)
{
	for (size_t i = 0; i < a->broken.n; i++)
		say("%s", a->broken.v[i]);
	return a->broken.n ? EXIT_OURS : 0;
}

int image_list(bool json, bool quiet, bool all)
{
	struct store *s = store_open();
	struct account a;

	if (!s)
		return EXIT_OURS;
	int r = store_hold(s);
	if (!r)
		r = account_open(s, &a);
	if (r) {
		say_fail(EXIT_OURS, "%s: %s", store_dir(s), say_errno(-r));
		store_close(s);
		return EXIT_OURS;
	}
	if (quiet)
		for (size_t i = 0; i < a.n_images; i++)
			printf(all ? "sha256:%s\n" : "%.12s\n", a.images[i].hex);
	else if (json)
		list_json(s, &a);
	else
		list_text(s, &a, all);
	int status = report_broken(&a);
	account_close(&a);
	store_close(s);
	return status;
}

/* --- prune ------------------------------------------------------------------------------------------ */

static void say_waiting(void)
{
	say("prune: waiting for others who use the store");
}

static void prune_json(const struct account *a, const struct prune_result *p, bool dry_run)
{
	json_t *j = json_object();

	json_object_set_new(j, "dry_run", json_boolean(dry_run));
	json_object_set_new(j, "blobs", json_int(p->blobs));
	json_object_set_new(j, "memos", json_int(p->memos));
	json_object_set_new(j, "leftovers", json_int(p->leftovers));
	json_object_set_new(j, "signature_names", json_int(p->names));
	json_object_set_new(j, "freed_bytes", json_int(p->bytes));
	json_object_set_new(j, "broken", json_strings(&a->broken));
	print_json(j);
}

static void prune_text(const struct prune_result *p, bool dry_run)
{
	char size[32];

	size_text(p->bytes, size);
	printf("%s %u blob%s, %u memo%s, %u leftover%s: %s (%llu bytes)%s\n",
	       dry_run ? "would remove" : "removed", p->blobs, p->blobs == 1 ? "" : "s", p->memos,
	       p->memos == 1 ? "" : "s", p->leftovers, p->leftovers == 1 ? "" : "s", size,
	       (unsigned long long)p->bytes, dry_run ? "" : " freed");
}

static int prune_excluded(struct store *s, bool all, bool dry_run, bool json)
{
	struct prune_result p = {0};
	struct account a;
	int r = account_open(s, &a);

	if (r)
		return say_fail(EXIT_OURS, "%s: %s", store_dir(s), say_errno(-r));
	r = prune_run(s, &a, all, dry_run, &p);
	if (json)
		prune_json(&a, &p, dry_run);
	else
		prune_text(&p, dry_run);
	int status = report_broken(&a);
	if (status)
		say("prune: no blob was removed, because it is not known which ones these names need; "
		    "cowbell rm removes a name");
	if (r || p.error)
		status = say_fail(EXIT_OURS, "%s: %s", store_dir(s), say_errno(-(r ? r : p.error)));
	account_close(&a);
	return status;
}

int image_prune(bool all, bool dry_run, bool json)
{
	struct store *s = store_open();

	if (!s)
		return EXIT_OURS;
	int r = store_exclude(s, say_waiting);
	if (r) {
		say_fail(EXIT_OURS, "%s: %s", store_dir(s), say_errno(-r));
		store_close(s);
		return EXIT_OURS;
	}
	int status = prune_excluded(s, all, dry_run, json);
	store_unexclude(s);
	store_close(s);
	return status;
}
