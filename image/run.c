/* SPDX-License-Identifier: ISC */
/*
 * An image of the store as something to run.
 *
 *   name or import -> signature -> manifest -> config -> layers -> environment, user -> command -> names layer
 *
 * The store is held until the layers are open; from then on a prune takes the names away and nothing else. Manifest and
 * config are verified by their digests at each start. Layers are large and are not: their sizes must be those of the
 * manifest, the reader of EROFS here and in the guest believes nothing, and with --require-signature they are hashed.
 *
 * An image comes from anybody. What its config says is bounded by the parser (image/oci/oci.c) and has an effect inside of the
 * instance only; ports are forwarded, and directories given, by options alone.
 */
#include "image/run.h"

#include <ctype.h>
#include <errno.h>
#include <nettle/sha2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/entry.h"
#include "image/names.h"
#include "image/oci/import.h"
#include "image/oci/oci.h"
#include "image/oci/sign.h"
#include "image/overlay.h"
#include "image/prefix.h"
#include "image/store/store.h"
#include "image/toplayer.h"
#include "image/user.h"
#include "lib/host/say.h"

struct stored {
	const struct image_request *req;
	const struct source_name *src;
	struct store *store;
	char hex[65]; /* of the manifest */
	char name[512]; /* for messages */
	struct oci_manifest manifest;
	struct oci_config config;
	struct overlay files;
	struct strings env;
	const char *workdir; /* absolute */
	char *own_workdir; /* what to free */
};

/* --- from a name to a config --------------------------------------------------------------------- */

static int find_image(struct stored *st)
{
	struct import_limits lim = IMPORT_LIMITS_DEFAULT;

	snprintf(st->name, sizeof(st->name), "%s", st->req->program);
	if (st->src->kind == SOURCE_STORE) {
		char ref[IMAGE_REF_MAX];
		int status = image_find(st->store, st->req->program, ref, st->hex);
		if (!status && *ref)
			snprintf(st->name, sizeof(st->name), "%s", ref);
		return status;
	}
	if (st->req->max_bytes)
		lim.max_bytes = st->req->max_bytes;
	if (st->req->max_entries)
		lim.max_entries = st->req->max_entries;
	if (st->req->progress)
		st->req->progress(st->req->progress_arg, "importing the image");
	return image_import_named(st->store, st->src, &lim, st->hex);
}

/* What is wrong with a blob, as a phrase. */
static const char *blob_error(int err)
{
	return err == -ENOENT	 ? "is missing from the store; pull or build the image again"
	       : err == -EBADMSG ? "is damaged: it does not have its digest; remove the image (cowbell rm), "
				   "prune, and pull or build it again"
	       : err == -EFBIG	 ? "is too large to be what it should be"
				 : strerror(-err);
}

static int read_config(struct stored *st)
{
	char *json = NULL;
	size_t n;
	const char *why = NULL;
	int err = store_get(st->store, st->hex, OCI_MAX_MANIFEST, &json, &n);

	if (err)
		return say_fail(EXIT_OURS, "%s: its manifest %s", st->name, blob_error(err));
	why = oci_manifest_parse(json, n, &st->manifest);
	free(json);
	if (why)
		return say_fail(EXIT_OURS, "%s: its manifest: %s", st->name, why);
	err = store_get(st->store, st->manifest.config.hex, OCI_MAX_CONFIG, &json, &n);
	if (err)
		return say_fail(EXIT_OURS, "%s: its configuration %s", st->name, blob_error(err));
	why = oci_config_parse(json, n, &st->config);
	free(json);
	return why ? say_fail(EXIT_OURS, "%s: its configuration: %s", st->name, why) : 0;
}

static int check_machine(const struct stored *st)
{
	const char *arch = st->config.architecture, *os = st->config.os;

	if (os && *os && strcmp(os, "linux"))
		return say_fail(EXIT_CANNOT_EXEC, "%s: is an image for %s; cowbell runs those for linux",
				st->name, os);
	if (arch && *arch && strcmp(arch, "amd64"))
		return say_fail(EXIT_CANNOT_EXEC,
				"%s: is an image for %s; cowbell runs those for amd64 (x86-64)", st->name,
				arch);
	return 0;
}

/* --- layers ------------------------------------------------------------------------------------------ */

static int open_layer(const struct stored *st, const struct oci_descriptor *d, struct image_set *out)
{
	uint64_t size = 0;

	if (out->n == IMAGE_MAX_LAYERS - 1)
		return say_fail(EXIT_OURS, "%s: has more than %d layers", st->name, IMAGE_MAX_LAYERS - 1);
	int fd = store_blob(st->store, d->hex, &size);
	if (fd < 0)
		return say_fail(EXIT_OURS, "%s: its layer %.12s %s", st->name, d->hex, blob_error(fd));
	if (size != d->size || size < 4096 || size % 4096) {
		close(fd);
		return say_fail(EXIT_OURS, "%s: its layer %.12s %s", st->name, d->hex, blob_error(-EBADMSG));
	}
	snprintf(out->hex[out->n], sizeof(out->hex[0]), "%s", d->hex);
	out->fd[out->n] = fd;
	out->size[out->n++] = size;
	return 0;
}

static int open_layers(struct stored *st, struct image_set *out)
{
	const struct oci_manifest *m = &st->manifest;
	int status = 0, bad = 0;

	for (size_t i = 0; !status && i < m->n_layers; i++) {
		const struct oci_descriptor *d = &m->layers[i];
		if (!strcmp(d->media_type, MEDIA_LAYER_EROFS))
			status = open_layer(st, d, out);
		else if (strcmp(d->media_type, MEDIA_SBOM))
			status = say_fail(EXIT_OURS,
					  "%s: has a layer of type %s, which cannot be run as it is",
					  st->name, d->media_type);
	}
	if (!status && !out->n)
		status = say_fail(EXIT_OURS, "%s: has no layers", st->name);
	if (status)
		return status;
	const char *why = overlay_open(&st->files, out->fd, out->n, &bad);
	return why ? say_fail(EXIT_OURS, "%s: its layer number %d %s", st->name, bad + 1, why) : 0;
}

/* --- what the config says ----------------------------------------------------------------------------------- */

/* The program's defaults, the image's, the user's own; a later one wins. */
static void make_env(struct stored *st)
{
	const struct image_request *req = st->req;

	for (const char *const *e = req->env; e && *e; e++)
		if (strncmp(*e, "HOME=", 5)) /* an image's HOME is its own affair */
			strings_set_env(&st->env, *e);
	for (size_t i = 0; i < st->config.env.n; i++)
		if (strchr(st->config.env.v[i], '=') > st->config.env.v[i])
			strings_set_env(&st->env, st->config.env.v[i]);
	for (const char *const *e = req->own_env; e && *e; e++)
		strings_set_env(&st->env, *e);
}

static int set_user(struct stored *st, struct image_set *out)
{
	const char *word = st->req->user ? st->req->user : st->config.user ? st->config.user : "";
	int status = user_lookup(&st->files, word, st->req->user ? "-u" : "the image's User", &out->user);

	if (status || strings_env(&st->env, "HOME"))
		return status;
	char *kv = textf("HOME=%s", *out->user.home ? out->user.home : "/");
	strings_set_env(&st->env, kv);
	free(kv);
	return 0;
}

static void set_workdir(struct stored *st)
{
	const char *w = st->req->workdir ? st->req->workdir : st->config.workdir;

	if (!w || !*w) {
		st->workdir = "/";
	} else if (*w == '/') {
		st->workdir = w;
	} else {
		st->workdir = st->own_workdir = textf("/%s", w);
	}
}

/* "SIGQUIT", "QUIT", "3", "SIGRTMIN+3"; 0: not a signal. */
static int signal_number(const char *s)
{
	char *end;
	long n = strtol(s, &end, 10);

	if (isdigit((unsigned char)*s))
		return !*end && n > 0 && n <= 64 ? (int)n : 0;
	if (!strncasecmp(s, "SIG", 3))
		s += 3;
	if (!strncasecmp(s, "RTMIN", 5)) {
		n = strtol(s + 5, &end, 10);
		return !*end && (!s[5] || s[5] == '+') && n >= 0 && n <= 30 ? 34 + (int)n : 0;
	}
	if (!strncasecmp(s, "RTMAX", 5)) {
		n = strtol(s + 5, &end, 10);
		return !*end && (!s[5] || s[5] == '-') && n <= 0 && n >= -30 ? 64 + (int)n : 0;
	}
	for (int i = 1; i < 32; i++)
		if (sigabbrev_np(i) && !strcasecmp(sigabbrev_np(i), s))
			return i;
	return 0;
}

static bool is_given(const struct image_request *req, const char *volume)
{
	for (const char *const *v = req->volumes; v && *v; v++)
		if (!strcmp(*v, volume))
			return true;
	return false;
}

static int set_defaults(struct stored *st, struct image_set *out)
{
	struct image_defaults *d = out->defaults = calloc(1, sizeof(*d));
	const struct oci_config *c = &st->config;
	const char *stop = c->stop_signal;
	struct strings volumes = {0};

	if (!d)
		return say_fail(EXIT_OURS, "out of memory");
	if (stop && *stop) {
		d->stop_signal = signal_number(stop);
		if (!d->stop_signal)
			return say_fail(EXIT_OURS, "%s: its StopSignal %s is no signal", st->name, stop);
	}
	size_t n_ports = sizeof(d->ports) / sizeof(d->ports[0]);
	d->more_ports = c->ports.n > n_ports;
	for (size_t i = 0; i < c->ports.n && i < n_ports; i++) {
		d->ports[d->n_ports].port = (uint16_t)strtoul(c->ports.v[i], NULL, 10);
		d->ports[d->n_ports++].udp = strstr(c->ports.v[i], "/udp");
	}
	for (size_t i = 0; i < c->volumes.n; i++) {
		char *v = c->volumes.v[i];
		for (size_t n = strlen(v); n > 1 && v[n - 1] == '/';)
			v[--n] = 0;
		if (*v != '/' || !v[strspn(v, "/")] || is_given(st->req, v))
			continue;
		strings_add(&volumes, v);
		if (st->req->verbose)
			say("%s: its volume %s is in memory and gone at the end; keep it with -v HOSTDIR:%s",
			    st->name, v, v);
	}
	d->volumes = volumes.v;
	const char *word = st->src->kind == SOURCE_STORE ? st->src->store.name : st->src->path;
	const char *slash = strrchr(word, '/');
	d->name = textf("%s", slash && slash[1] ? slash + 1 : word);
	return 0;
}

/* --- all of it -------------------------------------------------------------------------------------------------- */

static int set_command(struct stored *st, struct image_set *out)
{
	struct entry e = {.req = st->req,
			  .config = &st->config,
			  .files = &st->files,
			  .user = &out->user,
			  .image = st->name,
			  .workdir = st->workdir,
			  .env = &st->env};
	int status = entry_command(&e);

	if (!status)
		status = entry_program(&e);
	if (!status) {
		out->exe = e.exe;
		out->argv = e.argv.v;
		memset(&e.argv, 0, sizeof(e.argv));
		e.exe = NULL;
		out->cwd = textf("%s", st->workdir);
		out->defaults->env = st->env.v;
		memset(&st->env, 0, sizeof(st->env));
	}
	entry_free(&e);
	return status;
}

/* All that the layer of names comes from besides the other layers. */
static void hash_names(const struct toplayer *n, char hex[65])
{
	struct sha256_ctx s;
	uint8_t sum[SHA256_DIGEST_SIZE];
	struct stat rs = {0};
	char text[160];

	stat("/etc/resolv.conf", &rs);
	int len = snprintf(text, sizeof(text), "%u %u %llu %llu %lld %ld", n->uid, n->gid,
			   (unsigned long long)rs.st_ino, (unsigned long long)rs.st_size,
			   (long long)rs.st_mtim.tv_sec, rs.st_mtim.tv_nsec);
	sha256_init(&s);
	sha256_update(&s, (size_t)len + 1, (const uint8_t *)text);
	sha256_update(&s, strlen(n->hostname) + 1, (const uint8_t *)n->hostname);
	sha256_update(&s, strlen(n->workdir) + 1, (const uint8_t *)n->workdir);
	for (char *const *v = n->volumes; v && *v; v++)
		sha256_update(&s, strlen(*v) + 1, (const uint8_t *)*v);
	sha256_digest(&s, sizeof(sum), sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		sprintf(hex + 2 * i, "%02x", sum[i]);
}

static int add_names(struct stored *st, struct image_set *out)
{
	struct toplayer n = {.hostname = st->req->hostname ? st->req->hostname : IMAGE_HOSTNAME,
			     .workdir = st->workdir,
			     .volumes = out->defaults->volumes,
			     .uid = out->user.uid,
			     .gid = out->user.gid};
	enum image_prefix how = IMAGE_BOOT;
	int err;

	if (st->req->prefix) {
		prefix_describe(out);
		hash_names(&n, out->app.names);
		if (out->app.layer)
			how = st->req->prefix(st->req->prefix_arg, out);
	}
	if (how == IMAGE_GO_ON) {
		out->size[out->n] = 0;
		out->fd[out->n++] = -1;
		return 0;
	}
	/* of those who only wish to make others faster no failure is told */
	if (how == IMAGE_BOOT_AND_MAKE && (prefix_skeleton(out) || toplayer_preload(out, &st->files, &n)))
		out->app.layer = 0;
	err = toplayer_add(out, &st->files, &n);

	return err ? say_fail(EXIT_OURS, "%s: cannot make its layer of names: %s", st->name, strerror(-err))
		   : 0;
}

static int prepare(struct stored *st, struct image_set *out)
{
	int status = find_image(st);

	if (!status && st->req->require_signature)
		status = signature_check(st->store, st->name, st->hex, st->req->require_signature);
	if (!status)
		status = read_config(st);
	if (!status)
		status = check_machine(st);
	if (!status)
		status = open_layers(st, out);
	store_release(st->store);
	if (status)
		return status;
	make_env(st);
	set_workdir(st);
	status = set_user(st, out);
	if (!status)
		status = set_defaults(st, out);
	if (!status)
		status = set_command(st, out);
	return status ? status : add_names(st, out);
}

int prepare_stored(const struct image_request *req, const struct source_name *src, struct image_set *out)
{
	struct stored st = {.req = req, .src = src, .store = store_open()};
	int status;

	if (!st.store)
		return EXIT_OURS;
	int err = store_hold(st.store);
	status = err ? say_fail(EXIT_OURS, "%s: cannot lock the store: %s", store_dir(st.store),
				strerror(-err))
		     : prepare(&st, out);
	overlay_close(&st.files);
	oci_manifest_free(&st.manifest);
	oci_config_free(&st.config);
	strings_free(&st.env);
	free(st.own_workdir);
	store_close(st.store);
	return status;
}

bool stored_has(const char *word)
{
	struct reference r;
	char ref[IMAGE_REF_MAX], hex[65];

	if (reference_parse(word, &r) || !store_is_there())
		return false;
	struct store *s = store_open();
	reference_text(&r, ref, sizeof(ref));
	bool have = s && !store_ref_get(s, ref, hex);
	store_close(s);
	return have;
}
