/* SPDX-License-Identifier: ISC */
/*
 * `cowbell build`: the order of work.
 *
 *   1. detect (detect.c): the plan, from the app's own files and nothing that is run
 *   2. the runtime layer, Debian packages that all apps of the language share (debs.c)
 *   3. steps on a copy of the app, in the sandbox, if there are any (steps.c); else the app's directory is taken as it is
 *   4. the layer of further packages, and the question whether all is there that the app declares (needs.c)
 *   5. the app layer, the configuration, the manifest; and, only when all of these are on disk, the name
 *
 * The result depends on the app's names, contents and links, the options, and the versions of the packages: not on the time, the place, the
 * user, or the order of a directory. A build that fails or is killed leaves the name as it was; what it left in the store
 * belongs to no name and goes with the next prune.
 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/build/assemble.h"
#include "image/build/debs.h"
#include "image/build/detect.h"
#include "image/oci/import.h"
#include "image/oci/oci.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define MAX_BYTES   (1ull << 30)
#define MAX_ENTRIES 100000
#define WEB_PORT    8080

struct build {
	const struct image_build *req;
	struct store *s;
	struct plan plan;
	struct limits lim;
	struct reference name;
	bool named; /* the store gets a name for it */
	struct layer layers[3]; /* runtime, packages, app; lowest first */
	int n_layers;
	size_t files;
	struct oci_config config;
	char config_hex[65], hex[65];
	uint64_t size; /* of manifest, configuration and layers */
};

/* --- the name -------------------------------------------------------------------------------------------------------- */

/* A directory's name as an image's: lower case, what is not allowed becomes '-', "app" if nothing is left. */
static void name_of_dir(const char *dir, char buf[128])
{
	char real[PATH_MAX];
	const char *base = realpath(dir, real) ? strrchr(real, '/') + 1 : "";
	size_t n = 0;

	for (; *base && n < 126; base++) {
		char c = *base >= 'A' && *base <= 'Z' ? (char)(*base + 32) : *base;
		bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
		if (good)
			buf[n++] = c;
		else if (n && buf[n - 1] != '-')
			buf[n++] = c == '.' || c == '_' ? c : '-';
		if (n > 1 && !good && (buf[n - 2] == '.' || buf[n - 2] == '_' || buf[n - 2] == '-'))
			n--; /* one separator in a row */
	}
	while (n && strchr("-._", buf[n - 1]))
		n--;
	buf[n] = 0;
	if (!n)
		strcpy(buf, "app");
}

static int choose_name(struct build *b)
{
	char own[128];
	const char *tag = b->req->tag;

	b->named = tag || !b->req->output;
	if (!tag) {
		name_of_dir(b->req->dir ? b->req->dir : ".", own);
		tag = own;
	}
	const char *why = reference_parse(tag, &b->name);
	if (!why && b->name.hex[0])
		why = "a digest cannot be chosen";
	return why ? out_fail(EXIT_OURS, "-t %s: %s", tag, why) : 0;
}

/* --- configuration and manifest -------------------------------------------------------------------------------------- */

static const char *main_command(const struct plan *p)
{
	const char *web = strings_env(&p->processes, "web");

	return web ? web : strchr(p->processes.v[0], '=') + 1;
}

static bool is_web(const struct plan *p)
{
	return strings_env(&p->processes, "web") != NULL;
}

/* Words where every reader of the configuration would see the same words, else the shell's line. */
static void set_cmd(struct oci_config *c, const char *command)
{
	char *copy = textf("%s", command), *rest = copy;

	if (strpbrk(command, "$`\"'\\|&;<>()*?[]{}~#!=%^")) {
		strings_add(&c->cmd, "/bin/sh");
		strings_add(&c->cmd, "-c");
		strings_add(&c->cmd, command);
	} else {
		for (char *word; (word = strsep(&rest, " \t"));)
			if (*word)
				strings_add(&c->cmd, word);
	}
	c->has_cmd = true;
	free(copy);
}

static void set_env(struct build *b)
{
	struct strings *env = &b->config.env;

	strings_set_env(env, "PATH=" USUAL_PATH);
	strings_set_env(env, "HOME=/app");
	strings_set_env(env, "LANG=C.UTF-8");
	if (is_web(&b->plan)) {
		char *port = textf("PORT=%d", WEB_PORT);
		strings_set_env(env, port);
		free(port);
	}
	for (size_t i = 0; i < b->plan.env.n; i++)
		strings_set_env(env, b->plan.env.v[i]);
}

static void set_ports(struct build *b)
{
	const char *port = strings_env(&b->config.env, "PORT");

	for (size_t i = 0; i < b->plan.ports.n; i++)
		strings_add(&b->config.ports, b->plan.ports.v[i]);
	unsigned long n = port ? strtoul(port, NULL, 10) : 0;
	if (!b->plan.ports.n && is_web(&b->plan) && n && n < 65536)
		strings_addf(&b->config.ports, "%lu/tcp", n);
}

static char *processes_json(const struct plan *p)
{
	json_t *o = json_object();

	for (size_t i = 0; i < p->processes.n; i++) {
		const char *eq = strchr(p->processes.v[i], '=');
		char *type = textf("%.*s", (int)(eq - p->processes.v[i]), p->processes.v[i]);
		if (json_object_set_new(o, type, json_string(eq + 1)))
			json_object_set_new(o, type, json_stringn_nocheck(eq + 1, strlen(eq + 1)));
		free(type);
	}
	char *text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text;
}

static int set_labels(struct build *b)
{
	struct strings *l = &b->config.labels;
	char *processes = processes_json(&b->plan);

	if (!processes)
		return out_fail(EXIT_OURS, "A command is not UTF-8");
	strings_addf(l, LABEL_LANGUAGE "=%s", b->plan.language);
	strings_addf(l, LABEL_PROCESSES "=%s", processes);
	strings_addf(l, LABEL_RUNTIME "=%s", b->layers[0].title);
	if (b->plan.name)
		strings_addf(l, "org.opencontainers.image.title=%s", b->plan.name);
	if (b->plan.description)
		strings_addf(l, "org.opencontainers.image.description=%s", b->plan.description);
	free(processes);
	return 0;
}

static int write_config(struct build *b)
{
	struct oci_config *c = &b->config;

	set_cmd(c, main_command(&b->plan));
	set_env(b);
	set_ports(b);
	int status = set_labels(b);
	if (status)
		return status;
	c->user = textf("%d:%d", APP_UID, APP_UID);
	c->workdir = textf("/app");
	c->architecture = textf("amd64");
	c->os = textf("linux");
	for (int i = 0; i < b->n_layers; i++)
		strings_add(&c->diff_ids, b->layers[i].hex);
	char *text = oci_config_format(c);
	if (!text)
		return out_fail(EXIT_OURS,
				"A variable or a description is not UTF-8, as a configuration must be");
	int err = store_put(b->s, text, strlen(text), b->config_hex);
	b->size = strlen(text);
	free(text);
	return err ? out_fail(EXIT_OURS, "%s: %s", store_dir(b->s), say_errno(-err)) : 0;
}

static int write_manifest(struct build *b)
{
	struct oci_manifest m = {0};

	strcpy(m.media_type, MEDIA_MANIFEST);
	oci_descriptor_set(&m.config, MEDIA_CONFIG, b->config_hex, b->size, NULL);
	for (int i = 0; i < b->n_layers; i++) {
		const struct layer *l = &b->layers[i];
		oci_descriptor_set(oci_manifest_add_layer(&m), MEDIA_LAYER_EROFS, l->hex, l->size, l->title);
		b->size += l->size;
	}
	for (int i = 0; i < b->n_layers; i++) {
		const struct layer *l = &b->layers[i];
		if (!l->sbom_hex[0])
			continue;
		char *title = textf("SBOM: %s", l->title);
		oci_descriptor_set(oci_manifest_add_layer(&m), MEDIA_SBOM, l->sbom_hex, l->sbom_size, title);
		b->size += l->sbom_size;
		free(title);
	}
	char *text = oci_manifest_format(&m);
	int err = text ? store_put(b->s, text, strlen(text), b->hex) : -ENOMEM;
	b->size += text ? strlen(text) : 0;
	free(text);
	oci_manifest_free(&m);
	return err ? out_fail(EXIT_OURS, "%s: %s", store_dir(b->s), say_errno(-err)) : 0;
}

/* --- layers ---------------------------------------------------------------------------------------------------------- */

static void size_words(uint64_t bytes, char buf[32])
{
	if (bytes < 1024)
		snprintf(buf, 32, "%llu bytes", (unsigned long long)bytes);
	else if (bytes < 1 << 20)
		snprintf(buf, 32, "%.1f KiB", (double)bytes / 1024);
	else
		snprintf(buf, 32, "%.1f MiB", (double)bytes / (1 << 20));
}

static void told_layer(const char *what, const struct layer *l)
{
	char size[32];

	size_words(l->size, size);
	out_step("%s: %s (%s)", what, l->title, size);
}

/* The runtime: packages, or a vendor's program that no package owns. */
static int runtime_layer(struct build *b)
{
	struct plan *p = &b->plan;
	struct layer *l = &b->layers[0];
	int status;

	if (!p->runtime_packages.n && p->runtime) {
		status = program_layer(b->s, p->runtime, l);
		strings_add(&p->runtime_packages, "libc6"); /* the base is below what follows */
	} else {
		if (!p->runtime_packages.n)
			strings_add(&p->runtime_packages, "libc6"); /* a program brings itself */
		status = debs_layer(b->s, &p->runtime_packages, NULL, l);
	}
	if (status)
		return status;
	b->n_layers = 1;
	told_layer("Runtime", l);
	return 0;
}

static int packages_layer(struct build *b)
{
	struct layer *l = &b->layers[1];

	if (!b->plan.packages.n)
		return 0;
	int status = debs_layer(b->s, &b->plan.packages, &b->plan.runtime_packages, l);
	if (status)
		return status;
	if (l->size) {
		b->n_layers = 2;
		told_layer("Packages", l);
	} else {
		out_step("Packages: the runtime has them all");
	}
	for (size_t i = 0; i < b->plan.packages.n; i++)
		out_line("%s", b->plan.packages.v[i]);
	return 0;
}

static void told_processes(const struct plan *p)
{
	out_step("Process types");
	for (size_t i = 0; i < p->processes.n; i++) {
		const char *eq = strchr(p->processes.v[i], '=');
		out_line("%.*s: %s", (int)(eq - p->processes.v[i]), p->processes.v[i], eq + 1);
	}
}

static int make_layers(struct build *b)
{
	struct plan *p = &b->plan;
	struct layer app = {0};
	const char *dir = b->req->dir;
	int status = runtime_layer(b);

	if (!status && p->steps)
		status = built_layer(b->s, dir, p, &b->lim, &app, &b->files);
	else if (!status && !p->runtime)
		status = plan_built(dir, dir, p);
	if (!status)
		status = packages_layer(b);
	if (!status)
		status = plan_check(b->s, p, b->layers, b->n_layers);
	if (!status && !p->steps)
		status = app_layer(b->s, dir, false, p, &b->lim, &app, &b->files);
	if (status)
		return status;
	b->layers[b->n_layers++] = app;
	told_processes(p);
	char size[32];
	size_words(app.size, size);
	out_step("App layer: %zu file%s (%s)", b->files, b->files == 1 ? "" : "s", size);
	return 0;
}

/* --- the end ----------------------------------------------------------------------------------------------------------- */

/* All is UTF-8 here: what is not, write_config() has refused. */
static json_t *texts(const struct strings *v)
{
	json_t *a = json_array();

	for (size_t i = 0; i < v->n; i++)
		json_array_append_new(a, json_string(v->v[i]));
	return a;
}

static void report_json(const struct build *b, const char *ref)
{
	json_t *layers = json_array(), *processes = json_object();

	for (int i = 0; i < b->n_layers; i++)
		json_array_append_new(layers, json_pack("{s:s, s:o, s:I}", "title", b->layers[i].title,
							"digest", json_sprintf("sha256:%s", b->layers[i].hex),
							"size", (json_int_t)b->layers[i].size));
	for (size_t i = 0; i < b->plan.processes.n; i++) {
		const char *eq = strchr(b->plan.processes.v[i], '=');
		char *type = textf("%.*s", (int)(eq - b->plan.processes.v[i]), b->plan.processes.v[i]);
		json_object_set_new(processes, type, json_string(eq + 1));
		free(type);
	}
	json_t *o =
		json_pack("{s:s, s:s?, s:o, s:I, s:s, s:s, s:I, s:o, s:o, s:o, s:o}", "event", "image",
			  "name", b->named ? ref : NULL, "digest", json_sprintf("sha256:%s", b->hex), "size",
			  (json_int_t)b->size, "language", b->plan.language, "runtime", b->layers[0].title,
			  "files", (json_int_t)b->files, "layers", layers, "processes", processes, "env",
			  texts(&b->config.env), "ports", texts(&b->config.ports));
	char *text = json_dumps(o, JSON_COMPACT);
	if (text)
		out_raw(text);
	free(text);
	json_decref(o);
}

static void report(const struct build *b, const char *ref)
{
	char size[32], word[300];

	if (out_is_json()) {
		report_json(b, ref);
		return;
	}
	size_words(b->size, size);
	out_step("Image %s (%s)", b->named ? ref : b->req->output, size);
	out_line("sha256:%s", b->hex);
	if (!b->named) {
		out_line("cowbell run oci-archive:%s", b->req->output);
		return;
	}
	snprintf(word, sizeof(word), "%s%s%s", b->name.name, strcmp(b->name.tag, "latest") ? ":" : "",
		 strcmp(b->name.tag, "latest") ? b->name.tag : "");
	const char *port = b->config.ports.n ? b->config.ports.v[0] : NULL;
	if (port)
		out_line("cowbell run -p %.*s:%.*s image:%s", (int)strcspn(port, "/"), port,
			 (int)strcspn(port, "/"), port, word);
	else
		out_line("cowbell run image:%s", word);
}

/* Archive and name: what others see of the build. */
static int publish(struct build *b)
{
	char ref[400];

	reference_text(&b->name, ref, sizeof(ref));
	if (b->req->output) {
		int status = image_export_archive(b->s, b->hex, ref, b->req->output);
		if (status)
			return status;
	}
	int err = b->named ? store_ref_set(b->s, ref, b->hex) : 0;
	if (err)
		return out_fail(EXIT_OURS, "%s: %s", ref, say_errno(-err));
	report(b, ref);
	return 0;
}

static int build_app(struct build *b)
{
	for (const char *const *e = b->req->env; e && *e; e++)
		strings_set_env(&b->plan.env, *e);
	int status = plan_detect(b->req->dir, &b->plan);

	if (!status)
		status = make_layers(b);
	if (!status)
		status = write_config(b);
	if (!status)
		status = write_manifest(b);
	return status ? status : publish(b);
}

/* `--from`: a container image, as it is. */
static int build_from(struct build *b)
{
	struct import_limits lim = {b->lim.max_bytes, b->lim.max_entries};
	char ref[400];

	out_step("Importing %s", b->req->from);
	int status = image_import_as(b->s, b->req->from, &lim, &b->name, b->hex);
	if (status)
		return status;
	reference_text(&b->name, ref, sizeof(ref));
	if (b->req->output)
		status = image_export_archive(b->s, b->hex, ref, b->req->output);
	if (status)
		return status;
	if (out_is_json()) {
		json_t *o = json_pack("{s:s, s:s, s:o}", "event", "image", "name", ref, "digest",
				      json_sprintf("sha256:%s", b->hex));
		char *text = json_dumps(o, JSON_COMPACT);
		out_raw(text);
		free(text);
		json_decref(o);
		return 0;
	}
	out_step("Image %s", ref);
	out_line("sha256:%s", b->hex);
	out_line("cowbell run image:%s", strcmp(b->name.tag, "latest") ? ref : b->name.name);
	return 0;
}

int image_build(const struct image_build *req)
{
	struct build b = {.req = req,
			  .lim = {.max_bytes = req->max_bytes ? req->max_bytes : MAX_BYTES,
				  .max_entries = req->max_entries ? req->max_entries : MAX_ENTRIES,
				  .timeout_ns = req->timeout_ns}};

	out_json(req->json);
	if (req->json)
		progress_off();
	int status = choose_name(&b);
	if (status)
		return status;
	b.s = store_open();
	if (!b.s)
		return EXIT_OURS;
	known_use(b.s);
	int err = store_hold(b.s);
	if (err)
		status = out_fail(EXIT_OURS, "%s: %s", store_dir(b.s), say_errno(-err));
	else
		status = req->from ? build_from(&b) : build_app(&b);
	known_use(NULL);
	store_close(b.s);
	oci_config_free(&b.config);
	plan_free(&b.plan);
	return status;
}
