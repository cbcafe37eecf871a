/* SPDX-License-Identifier: ISC */
/*
 * image_prepare(): from a program's name to open layers.
 *
 * Warm path: find the program, look up the index entry of (program, working
 * directory, arguments that are files, ...), check its signatures by stat(2),
 * compare the working directory by a walk, open the layers. No file is read
 * but the entry, nothing is hashed but metadata, no process is started.
 *
 * Cold path: collect (collect.c), build what layers are missing (cache.c),
 * store the entry. A file that changes while it is copied makes us start
 * over; so does a file that changed within the clock's granularity before it
 * was looked at, since a second change in the same tick would go unnoticed.
 */
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/collect.h"
#include "image/root.h"
#include "image/run.h"
#include "image/toplayer.h"
#include "image/user.h"
#include "lib/host/say.h"

#define MAX_TRIES 3
#define TICK_NS	  20000000ll /* more than the file system's time granularity */
#define FORMAT	  "image 8" /* change it when the same sources give another layer */

static void hash_text(struct sha256_ctx *s, const char *text)
{
	if (text)
		sha256_update(s, strlen(text) + 1, (const uint8_t *)text);
	sha256_update(s, 1, (const uint8_t *)"|");
}

/* What the answer depends on besides the state of files. */
static void make_key(const struct image_request *req, const struct program *p, char key[65])
{
	struct sha256_ctx s;
	uint8_t sum[SHA256_DIGEST_SIZE];
	char id[32];

	sha256_init(&s);
	hash_text(&s, FORMAT);
	hash_text(&s, p->path);
	hash_text(&s, p->real);
	hash_text(&s, p->cwd);
	hash_text(&s, env_get(req->env, "LD_LIBRARY_PATH"));
	hash_text(&s, getenv("HOME"));
	snprintf(id, sizeof(id), "%d %d", (int)getuid(), p->take_cwd);
	hash_text(&s, id);
	for (const char *const *w = req->with; w && *w; w++)
		hash_text(&s, *w);
	hash_text(&s, NULL);
	for (const char *const *a = p->argv; *a; a++) {
		struct stat st;
		if (a > p->argv && !stat(*a, &st) && S_ISREG(st.st_mode))
			hash_text(&s, *a);
	}
	sha256_digest(&s, sizeof(sum), sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		sprintf(key + 2 * i, "%02x", sum[i]);
}

/* Open what an entry names. 0 or -errno; nothing stays open on failure. */
static int open_layers(struct cache *c, const struct index_entry *e, struct image_set *out)
{
	out->n = 0;
	for (int i = 0; i < e->n_layers; i++) {
		int fd = cache_layer(c, e->layer[i], &out->size[i]);
		if (fd < 0) {
			image_set_close(out);
			return fd;
		}
		out->fd[out->n++] = fd;
	}
	return 0;
}

/* State of the working directory; "" if it is not part of the image, or cannot be. */
static void cwd_digest(const struct program *prog, char hex[65])
{
	int err;
	struct tree *t = prog->take_cwd ? collect_cwd(prog, &err) : NULL;

	hex[0] = 0;
	if (t)
		tree_digest(t, hex);
	tree_free(t);
}

static bool warm(struct cache *c, const char key[65], const struct program *prog, struct image_set *out)
{
	struct index_entry e;
	char hex[65];

	if (!cache_lookup(c, key, &e))
		return false;
	cwd_digest(prog, hex);
	return !strcmp(hex, e.cwd_digest) && !open_layers(c, &e, out);
}

/* If something changed a moment ago, let the moment pass. True if it had to. */
static bool wait_for_tick(const struct collection *col)
{
	struct timespec ts, pause = {0, TICK_NS};
	int64_t newest =
		col->app->newest_ns > col->runtime->newest_ns ? col->app->newest_ns : col->runtime->newest_ns;

	clock_gettime(CLOCK_REALTIME, &ts);
	int64_t age = ts.tv_sec * 1000000000ll + ts.tv_nsec - newest;
	if (age < 0 || age > TICK_NS)
		return false;
	nanosleep(&pause, NULL);
	return true;
}

static int build_failed(const struct cache *c, int r)
{
	if (r == -ENOSPC || r == -EDQUOT)
		return say_fail(
			EXIT_OURS,
			"%s: no space for the image; make room, or empty the cache: cowbell cache clear",
			cache_dir(c));
	return say_fail(EXIT_OURS, "%s: cannot write the image: %s", cache_dir(c), strerror(-r));
}

/* One attempt: 0 done, -ESTALE again, > 0 exit status. */
static int cold_once(const struct image_request *req, struct cache *c, const char key[65],
		     const struct program *prog, struct image_set *out)
{
	struct collection col;
	struct index_entry e = {.n_layers = 2};
	char after[65] = "";

	cwd_digest(prog, e.cwd_digest);
	int r = collect(req, prog, &col);

	if (!r && wait_for_tick(&col))
		r = -ESTALE;
	if (!r) {
		if (req->progress)
			req->progress(req->progress_arg, "building the image");
		r = cache_build(c, col.runtime, e.layer[0]);
		if (!r)
			r = cache_build(c, col.app, e.layer[1]);
		if (r && r != -ESTALE)
			r = build_failed(c, r);
	}
	if (!r)
		r = open_layers(c, &e, out) ? -ESTALE : 0; /* pruned by another process that moment */
	cwd_digest(prog, after);
	if (!r && !strcmp(e.cwd_digest, after)) { /* else it changes as we look: remember nothing */
		e.sigs = col.sigs;
		cache_store(c, key, &e);
	}
	collection_free(&col);
	return r;
}

static int cold(const struct image_request *req, struct cache *c, const char key[65],
		const struct program *prog, struct image_set *out)
{
	for (int i = 0; i < MAX_TRIES; i++) {
		int r = cold_once(req, c, key, prog, out);
		if (r != -ESTALE)
			return r;
	}
	return say_fail(EXIT_OURS,
			"files keep changing while they are collected; try again when %s is at rest",
			prog->cwd);
}

static int prepare_host(const struct image_request *req, struct image_set *out)
{
	struct program prog;
	char key[65];
	int status = program_find(req, &prog);

	if (status)
		return status;
	struct cache *c = cache_open();
	if (!c) {
		program_free(&prog);
		return EXIT_OURS;
	}
	make_key(req, &prog, key);
	if (!warm(c, key, &prog, out)) {
		status = program_check(&prog);
		if (!status)
			status = cold(req, c, key, &prog, out);
	}
	cache_close(c);
	if (!status) {
		out->exe = strdup(prog.path);
		out->cwd = strdup(prog.cwd);
		out->argv = prog.own_argv; /* lives on in the set */
		if (!out->exe || !out->cwd)
			status = say_fail(EXIT_OURS, "out of memory");
	} else {
		program_free(&prog);
	}
	return status;
}

/* Put a layer on top that knows another host name. */
static int set_hostname(struct image_set *set, const char *name)
{
	struct tree *t = tree_new("/");

	if (t)
		base_hostname(t, name);
	int r = toplayer_put(set, t);
	return r ? say_fail(EXIT_OURS, "--name %s: %s", name, strerror(-r)) : 0;
}

/* A program of the host or of --root: what the options change about its layers and its user. */
static int adjust(const struct image_request *req, struct image_set *out)
{
	int status = 0;

	if (req->user)
		status = user_of_set(out, req->user);
	if (!status && req->hostname && !req->root)
		status = set_hostname(out, req->hostname);
	return status;
}

static int prepare_program(const struct image_request *req, struct image_set *out)
{
	if (req->with && req->root)
		return say_fail(EXIT_OURS,
				"--root and --with exclude each other: that tree has its own files");
	const char *only = req->process	     ? "--process: a process type"
			   : req->entrypoint ? "--entrypoint: an entrypoint"
					     : NULL;

	if (req->require_signature)
		return say_fail(EXIT_OURS,
				"--require-signature: %s is not a signed image but a program; images of the "
				"store have signatures",
				req->program);
	if (only)
		return say_fail(EXIT_OURS, "%s is what images have, and %s is a program", only, req->program);
	int status = req->root ? prepare_root(req, out) : prepare_host(req, out);
	return status ? status : adjust(req, out);
}

int image_prepare(const struct image_request *req, struct image_set *out)
{
	struct source_name src;
	const char *why = source_parse(req->program, &src);
	int status;

	memset(out, 0, sizeof(*out));
	if (why)
		return say_fail(EXIT_OURS, "%s: %s", req->program, why);
	if (src.kind != SOURCE_NONE && req->root)
		return say_fail(EXIT_OURS, "--root and %s exclude each other: an image has its own files",
				req->program);
	if (src.kind != SOURCE_NONE && req->with)
		return say_fail(
			EXIT_OURS,
			"--with: %s is an image; what it has is decided when it is built, by its Aptfile",
			req->program);
	status = src.kind != SOURCE_NONE ? prepare_stored(req, &src, out) : prepare_program(req, out);
	if (status)
		image_set_close(out);
	return status;
}

static void list_free(char **v)
{
	for (char **p = v; p && *p; p++)
		free(*p);
	free(v);
}

void image_set_close(struct image_set *set)
{
	for (int i = 0; i < set->n; i++)
		close(set->fd[i]);
	free(set->exe);
	free(set->cwd);
	if (set->defaults) {
		list_free(set->argv);
		list_free(set->defaults->env);
		list_free(set->defaults->volumes);
		free(set->defaults->name);
		free(set->defaults);
	} else if (set->argv) { /* one block: see find.c */
		free(set->argv[0]);
		free(set->argv);
	}
	memset(set, 0, sizeof(*set));
}
