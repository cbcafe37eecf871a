/* SPDX-License-Identifier: ISC */
/* The public face of image/: what a program needs, as EROFS layers. */
#ifndef COWBELL_IMAGE_IMAGE_H
#define COWBELL_IMAGE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#define IMAGE_MAX_LAYERS 16

/* Open layers, lowest first, ready to be mapped; and what to start in them. */
struct image_set {
	int n;
	int fd[IMAGE_MAX_LAYERS]; /* read-only, owned by the caller afterwards */
	uint64_t size[IMAGE_MAX_LAYERS];
	char *exe; /* guest path of the program (malloc) */
	char *cwd; /* guest working directory (malloc) */
	char **argv; /* what replaces the request's argv (a script of env(1)), or NULL */
};

struct image_request {
	const char *program; /* as the user typed it */
	const char *const *argv; /* argv[0..], NULL-terminated */
	const char *root; /* --root DIR|IMAGE, or NULL: collect */
	const char *workdir; /* -w, or NULL */
	const char *const *env; /* K=V of the program, NULL-terminated */
	int verbose;
	void (*progress)(void *arg, const char *what); /* long steps; may be NULL */
	void *progress_arg;
};

/*
 * Collect (or look up in the cache) the layers for a program.
 * 0, or the exit status to leave with (125 ours, 126 cannot execute, 127 not found)
 * after one clear line on standard error. Leaves nothing behind on failure.
 */
int image_prepare(const struct image_request *req, struct image_set *out);
void image_set_close(struct image_set *set);

/* The host name that images know, so that it resolves. */
#define IMAGE_HOSTNAME "cowbell"
/* Put a layer on top that knows another host name. 0, or an exit status after one line. */
int image_set_hostname(struct image_set *set, const char *name);

/* The cache: where, how many layers, how many bytes; and remove all of it. 0, or an exit status after one line. */
int image_cache_info(char *path, size_t size, unsigned *layers, uint64_t *bytes);
int image_cache_clear(void);

#endif
