/* SPDX-License-Identifier: ISC */
/*
 * Threads that call spawn().
 *
 * vfork(2) stops whoever calls it until the child has got a CPU and is through its exec: 0.1 ms on an idle machine, but milliseconds on
 * one where all CPUs are busy starting others. Only the calling thread stops, so it is not the loop's. The threads live as long as
 * the process, which PR_SET_PDEATHSIG needs: it means the thread that made the child.
 *
 * Jobs go to the threads by one list, and come back to the loop by another.
 */
#include "platform/spawner.h"

#include <pthread.h>
#include <signal.h>

#include "platform/platform.h"

#define N_THREADS 2

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct spawn_job *todo, **todo_end = &todo; /* under lock */
static struct spawn_job *done, **done_end = &done;
static uv_async_t wake;

static void *work(void *arg)
{
	for (;;) {
		pthread_mutex_lock(&lock);
		while (!todo)
			pthread_cond_wait(&more, &lock);
		struct spawn_job *j = todo;
		todo = j->next;
		if (!todo)
			todo_end = &todo;
		pthread_mutex_unlock(&lock);
		j->result = spawn(&j->spawn, &j->pid, &j->pidfd);
		j->next = NULL;
		pthread_mutex_lock(&lock);
		*done_end = j;
		done_end = &j->next;
		pthread_mutex_unlock(&lock);
		uv_async_send(&wake);
	}
	return arg;
}

static void on_wake(uv_async_t *a)
{
	pthread_mutex_lock(&lock);
	struct spawn_job *j = done;
	done = NULL;
	done_end = &done;
	pthread_mutex_unlock(&lock);
	for (struct spawn_job *next; j; j = next) {
		next = j->next;
		j->done(j);
	}
}

int spawner_open(void)
{
	sigset_t all, before;
	int err = uv_async_init(loop, &wake, on_wake);

	if (err)
		return err;
	uv_unref((uv_handle_t *)&wake);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
	for (int k = 0; k < N_THREADS && !err; k++) {
		pthread_t t;
		err = -pthread_create(&t, NULL, work, NULL);
		if (!err)
			pthread_detach(t);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

void spawner_start(struct spawn_job *j)
{
	j->next = NULL;
	pthread_mutex_lock(&lock);
	*todo_end = j;
	todo_end = &j->next;
	pthread_cond_signal(&more);
	pthread_mutex_unlock(&lock);
}
