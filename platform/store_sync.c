/* SPDX-License-Identifier: ISC */
/*
 * Barriers of the store, and the thread that syncs its log.
 *
 *   store_barrier() -> waiting --the loop turned, no sync runs--> syncing --fdatasync ended--> answered
 *
 * One sync runs at a time, for all who waited when it began; who comes meanwhile waits for the next one, so the more
 * answers wait the more of them share a sync. It is a thread of its own, not the pool's: an answer does not wait behind somebody's tar.
 *
 * A sync that failed is final: the kernel may have dropped the pages, and a later one would succeed without them. Everything that waits
 * and all that comes is told so, and the store refuses changes, until the server is started anew.
 */
#include "platform/store_sync.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "platform/platform.h"
#include "platform/store.h"

struct waiter {
	void (*done)(void *arg, int err);
	void *arg;
	struct waiter *next;
};

/* The loop's */
static struct {
	bool sync, broken;
	uint64_t written, synced; /* changes; how many of them are on disk */
	struct waiter *first, **last; /* no sync was begun for them */
	struct waiter *syncing; /* those of the sync that runs */
	uv_idle_t turn; /* active while some wait for the loop to turn */
	uv_async_t ended; /* the thread's word to the loop */
} S = {.last = &S.first};

/* Shared with the thread */
static struct {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int fd; /* -1: not open */
	bool go, stop; /* under the lock, as those below */
	uint64_t upto; /* changes that the sync is of */
	int err;
} Y = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .fd = -1};

static void *syncer(void *arg)
{
	for (;;) {
		pthread_mutex_lock(&Y.lock);
		while (!Y.go && !Y.stop)
			pthread_cond_wait(&Y.wake, &Y.lock);
		bool stop = Y.stop && !Y.go;
		pthread_mutex_unlock(&Y.lock);
		if (stop)
			return NULL;
		int err = fdatasync(Y.fd) ? errno : 0;
		pthread_mutex_lock(&Y.lock);
		Y.err = err;
		Y.go = false;
		pthread_mutex_unlock(&Y.lock);
		uv_async_send(&S.ended);
	}
}

static void answer(struct waiter *w, int err)
{
	while (w) {
		struct waiter *next = w->next;
		w->done(w->arg, err);
		free(w);
		w = next;
	}
}

static struct waiter *take_waiting(void)
{
	struct waiter *w = S.first;

	S.first = NULL;
	S.last = &S.first;
	return w;
}

static void failed(int err)
{
	S.broken = true;
	plog("error", NULL,
	     "the store's log cannot be synced: %s; changes are refused until the server is started anew",
	     strerror(err));
}

/* The loop has turned, and no sync runs: one for all that waited. */
static void turned(uv_idle_t *idle)
{
	struct waiter *w = take_waiting();

	uv_idle_stop(idle);
	if (!w)
		return;
	if (!S.sync || S.broken || S.synced == S.written) {
		answer(w, S.broken ? EIO : 0);
		return;
	}
	S.syncing = w;
	pthread_mutex_lock(&Y.lock);
	Y.upto = S.written;
	Y.go = true;
	pthread_cond_signal(&Y.wake);
	pthread_mutex_unlock(&Y.lock);
}

static void sync_ended(uv_async_t *a)
{
	struct waiter *w = S.syncing;

	pthread_mutex_lock(&Y.lock);
	bool running = Y.go;
	int err = Y.err;
	pthread_mutex_unlock(&Y.lock);
	if (running || !w)
		return;
	S.syncing = NULL;
	if (err)
		failed(err);
	else
		S.synced = Y.upto;
	answer(w, err ? EIO : 0);
	if (S.first)
		uv_idle_start(&S.turn, turned);
}

void store_barrier(void (*done)(void *arg, int err), void *arg)
{
	struct waiter *w = xcalloc(1, sizeof(*w));

	*w = (struct waiter){done, arg, NULL};
	*S.last = w;
	S.last = &w->next;
	if (!S.syncing)
		uv_idle_start(&S.turn, turned);
}

void sync_written(void)
{
	S.written++;
}

bool sync_broken(void)
{
	return S.broken;
}

int sync_open(const char *log, bool sync)
{
	S.sync = sync;
	uv_idle_init(loop, &S.turn);
	uv_async_init(loop, &S.ended, sync_ended);
	uv_unref((uv_handle_t *)&S.ended);
	Y.fd = open(log, O_RDWR | O_CLOEXEC);
	if (Y.fd < 0)
		return say_fail(EXIT_OURS, "serve: %s: %s", log, strerror(errno));
	int err = pthread_create(&Y.thread, NULL, syncer, NULL);
	if (!err)
		return 0;
	close(Y.fd);
	Y.fd = -1;
	return say_fail(EXIT_OURS, "serve: a thread cannot be started: %s", strerror(err));
}

void sync_close(void)
{
	if (Y.fd < 0)
		return;
	pthread_mutex_lock(&Y.lock);
	Y.stop = true;
	pthread_cond_signal(&Y.wake);
	pthread_mutex_unlock(&Y.lock);
	pthread_join(Y.thread, NULL);
	/* What nobody waits for is on disk, too. */
	if (S.sync && !S.broken && (Y.err || fdatasync(Y.fd)))
		failed(Y.err ? Y.err : errno);
	answer(S.syncing, S.broken ? EIO : 0);
	S.syncing = NULL;
	answer(take_waiting(), S.broken ? EIO : 0);
	uv_idle_stop(&S.turn);
	close(Y.fd);
	Y.fd = -1;
}
