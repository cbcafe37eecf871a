/* SPDX-License-Identifier: ISC */
/* Inside of image/: what the collector finds, and what the cache remembers of it. */
#ifndef COWBELL_IMAGE_COLLECT_H
#define COWBELL_IMAGE_COLLECT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/image.h"
#include "image/tree.h"

#define APP_MAX_BYTES  (1ull << 30)
#define APP_MAX_NODES  100000u
#define ROOT_MAX_BYTES (64ull << 30)
#define ROOT_MAX_NODES 4000000u

/* A host path whose state decided the image; see cache.c. */
struct sig {
	char *path;
	uint64_t ino, size; /* ino 0: was not there */
	int64_t mtime_ns, ctime_ns;
};

struct sigs {
	struct sig *v;
	size_t n, cap;
};

/* Remember the state of a path now. Twice is harmless. */
void sigs_add(struct sigs *s, const char *path);
void sigs_free(struct sigs *s);
/* cache.c: as text, a "sig ..." line each (malloc); and does every line of such a text still hold? It is cut up. */
char *sigs_print(const struct sigs *s);
bool sigs_hold(char *text);

/* How the program was found on the host. */
struct program {
	char path[PATH_MAX]; /* absolute, links not resolved: what the guest executes */
	char real[PATH_MAX]; /* without links */
	char cwd[PATH_MAX]; /* of the host */
	bool take_cwd; /* cwd is an application's directory, not a system one */
	const char *const *argv; /* of the request, or rewritten */
	char **own_argv; /* what to free, or NULL */
};

/* Result of collecting: two trees and what they depend on. */
struct collection {
	struct tree *runtime, *app;
	struct sigs sigs;
};

/* find.c: 0 or an exit status after one line. Also checks that the file can be executed. */
int program_find(const struct image_request *req, struct program *out);
/* Check it again, all that can be checked: for the cold path. */
int program_check(struct program *p);
void program_free(struct program *p);
/* Search the host's PATH: 0, or an exit status, nothing printed. */
int program_search(const char *name, char *out, size_t size);
/* The value of NAME in a K=V list, or NULL. */
const char *env_get(const char *const *env, const char *name);

/* collect.c */
int collect(const struct image_request *req, const struct program *prog, struct collection *out);
void collection_free(struct collection *c);
/*
 * Put a program that no package owns into a tree that has a base already: its installation prefix, and all that this links to.
 * 0 or -errno. sigs: what decided it.
 */
int collect_program(struct tree *t, const char *program, struct sigs *sigs);
/* Walk the working directory into a tree, as collect() does: for comparing by digest. */
struct tree *collect_cwd(const struct program *prog, int *err);

/* base.c: what every program may ask for: a minimal /etc, certificates, time zones, the C library. */
void base_collect(struct tree *t, struct sigs *sigs);
/* The directories that every system has, and /var/run. */
void base_dirs(struct tree *t);
/* /etc/hostname and /etc/hosts. */
void base_hostname(struct tree *t, const char *name);

/* runtimes.c: directories that belong to an interpreter beyond its packages; calls `each` for those that exist. */
void runtime_roots(const char *real_path, void (*each)(void *arg, const char *dir), void *arg);
/* alternatives.c: names such as /usr/bin/awk for programs that are in the tree already. */
void alternatives_add(struct tree *t, struct sigs *sigs);
/* made.c: files that the packages' scripts made in the packages' directories `dirs`. */
struct strings;
void made_add(struct tree *t, struct sigs *sigs, const struct strings *dirs);
/* rundirs.c: directories below /run and /var that the packages' servers expect to find. */
void rundirs_add(struct tree *t);
/* Names of directories that are never taken from a runtime. */
extern const char *const runtime_skip_names[];

/* cache.c */
struct cache;
struct index_entry {
	int n_layers;
	char layer[IMAGE_MAX_LAYERS][65];
	char cwd_digest[65]; /* "" if the working directory is not part */
	struct sigs sigs;
};

/* NULL after one line. `create`: false in the warm path. */
struct cache *cache_open(void);
void cache_close(struct cache *c);
/* True if the index has an entry whose signatures all still hold. */
bool cache_lookup(struct cache *c, const char key[65], struct index_entry *e);
void cache_store(struct cache *c, const char key[65], const struct index_entry *e);
/* An open layer by its digest, or -ENOENT. */
int cache_layer(struct cache *c, const char hex[65], uint64_t *size);
/* Make sure that the layer of a tree exists; hex gets its name. 0, or -errno (-ESTALE: sources changed meanwhile). */
int cache_build(struct cache *c, struct tree *t, char hex[65]);
const char *cache_dir(const struct cache *c);

#endif
