/* SPDX-License-Identifier: ISC */
/*
 * A client's body into a file below data_dir/sources.
 *
 * A small one (most sources are some kilobytes) stays in memory until its end and is written by one write(2), which is a copy to the page
 * cache. Of a larger one pieces of CHUNK bytes go to libuv's pool, one at a time; while one is written the next gathers,
 * and when that is full, too, the client has to wait (spool_write() says false, room() when it may go on). So a body takes at most 2 * CHUNK
 * bytes and what one read of a socket brings.
 *
 *   open ── write* ── finish ──▶ done(path)          the file is the taker's
 *        └─ abort ──▶ nothing                          the file is gone
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/build_inside.h"

#define CHUNK (512u << 10)

struct spool {
	uv_work_t work;
	int fd, err;
	int pool_err; /* of the thread; err is the loop's */
	char *path;
	uint64_t n, max;
	char *gather, *writing; /* CHUNK bytes each once they are needed */
	size_t n_gather, cap, n_writing;
	bool busy, finished, aborted, waits;
	struct spool_events ev;
	void *arg;
};

static int write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t r = write(fd, p, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r ? -errno : -EIO;
		p += r;
		n -= (size_t)r;
	}
	return 0;
}

static void spool_free(struct spool *s, bool keep)
{
	if (s->fd >= 0)
		close(s->fd);
	if (!keep)
		unlink(s->path);
	free(s->path);
	free(s->gather);
	free(s->writing);
	free(s);
}

static void tell_done(struct spool *s)
{
	char *path = s->err ? NULL : xstrdup(s->path);

	s->ev.done(s->arg, path, s->err);
	spool_free(s, path != NULL);
}

static void on_pool(uv_work_t *w)
{
	struct spool *s = w->data;

	s->pool_err = write_all(s->fd, s->writing, s->n_writing);
}

static void flush(struct spool *s);

static void on_written(uv_work_t *w, int status)
{
	struct spool *s = w->data;

	(void)status;
	s->busy = false;
	s->err = s->err ? s->err : s->pool_err;
	free(s->writing);
	s->writing = NULL;
	if (s->aborted) {
		spool_free(s, false);
		return;
	}
	if (!s->err && (s->finished ? s->n_gather > 0 : s->n_gather >= CHUNK))
		flush(s);
	if (s->finished) {
		if (!s->busy)
			tell_done(s);
		return;
	}
	if (s->waits) {
		s->waits = false;
		s->ev.room(s->arg);
	}
}

/* What has gathered goes out: a large piece by the pool, the last small one at once. */
static void flush(struct spool *s)
{
	if (s->finished && s->n_gather <= CHUNK / 4) {
		s->err = write_all(s->fd, s->gather, s->n_gather);
		s->n_gather = 0;
		return;
	}
	s->writing = s->gather;
	s->n_writing = s->n_gather;
	s->gather = NULL;
	s->n_gather = s->cap = 0;
	s->busy = true;
	uv_queue_work(loop, &s->work, on_pool, on_written);
}

struct spool *spool_open(const char *name, uint64_t max, const struct spool_events *ev, void *arg)
{
	struct spool *s = xcalloc(1, sizeof(*s));
	size_t len = strlen(config.data_dir) + strlen(name) + 8;

	s->path = xcalloc(1, len);
	snprintf(s->path, len, "%s/sources/%s", config.data_dir, name);
	s->fd = open(s->path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (s->fd < 0) {
		plog("error", NULL, "%s: %s", s->path, strerror(errno));
		free(s->path);
		free(s);
		return NULL;
	}
	s->max = max;
	s->ev = *ev;
	s->arg = arg;
	s->work.data = s;
	return s;
}

int spool_error(const struct spool *s)
{
	return s->err;
}

bool spool_write(struct spool *s, const char *data, size_t n)
{
	if (s->err || n > s->max - s->n) {
		s->err = s->err ? s->err : -EFBIG; /* what comes now is thrown away */
		return true;
	}
	s->n += n;
	if (s->n_gather + n > s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 4096;
		while (cap < s->n_gather + n)
			cap *= 2;
		s->gather = xrealloc(s->gather, cap);
		s->cap = cap;
	}
	memcpy(s->gather + s->n_gather, data, n);
	s->n_gather += n;
	if (s->n_gather < CHUNK)
		return true;
	if (!s->busy) {
		flush(s);
		return true;
	}
	s->waits = true;
	return false;
}

void spool_finish(struct spool *s)
{
	s->finished = true;
	if (s->busy)
		return;
	if (s->n_gather && !s->err)
		flush(s);
	if (!s->busy)
		tell_done(s);
}

void spool_abort(struct spool *s)
{
	s->aborted = true;
	if (!s->busy)
		spool_free(s, false);
}
