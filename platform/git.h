/* SPDX-License-Identifier: ISC */
/* What git.c, git_push.c and git_repo.c share. */
#ifndef COWBELL_PLATFORM_GIT_H
#define COWBELL_PLATFORM_GIT_H

#include <zlib.h>

#include "platform/build_inside.h"

struct push;

/* One request: a child `git`. Freed when it has ended, its output was read, and its handles are closed. */
struct git {
	struct exchange *x; /* NULL: the client has gone, or has its answer */
	struct app
		*app; /* good while the request begins; later only by git_push.c, which is told of its end */
	char user_id[37]; /* he may be gone before the push is through */
	struct git *next; /* of all */
	bool receive, version2;
	uv_process_t process;
	uv_pipe_t in, out;
	uv_timer_t timer; /* from SIGTERM to SIGKILL */
	uv_shutdown_t shutdown;
	unsigned open_handles;
	bool exited, drained, done, killed, paused, inflating, inflated;
	bool inflate_on; /* there is more to be inflated when the child has taken what came before */
	int status;
	uint64_t answered_bytes, body_bytes, body_max;
	z_stream z;
	char *packed; /* gzip that waits for that; n_packed bytes */
	size_t n_packed;
	char tar[4200]; /* where the hook puts the commit's tree */
	struct push *push; /* of receive-pack's POST; NULL else */
};

void git_kill(struct git *g);

/* --- git_repo.c ----------------------------------------------------------------------------------------------------------- */
void git_dir(const struct app *a, char *out, size_t size);
int git_make(const struct app *a); /* unless it is there; 0 or -errno */
void git_remove(const char *path);
void git_open(void); /* removes repositories whose apps went in a crash */
const char *git_hooks_dir(void);

/* --- git_push.c ----------------------------------------------------------------------------------------------------------- */
void git_push_begin(struct git *g); /* makes g->push */
uv_stream_t *git_push_stream(struct git *g);
void git_push_read(struct git *g);
void git_push_client_gone(struct git *g);
void git_push_over(struct git *g); /* the child has ended; g->push is NULL afterwards */
void git_app_gone(struct app *a);

#endif
