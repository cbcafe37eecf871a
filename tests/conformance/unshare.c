// SPDX-License-Identifier: ISC
/* unshare(CLONE_FS): of one thread among several, and of a whole process. */
#include "conf.h"

#include <sched.h>
#include <sys/wait.h>

static bool at(const char *dir)
{
	char buf[256];

	return getcwd(buf, sizeof(buf)) && !strcmp(buf, dir);
}

static void *made_by_it(void *arg)
{
	CHECK("a thread that it makes is where it is", at("/tmp"));
	return arg;
}

static void *alone(void *arg)
{
	pthread_t t;
	int st;

	CHECK("a thread unshares its directories", !unshare(CLONE_FS));
	CHECK("it is where it was", at("/"));
	CHECK("it goes elsewhere", !chdir("/tmp") && at("/tmp"));
	umask(077);
	pthread_create(&t, NULL, made_by_it, NULL);
	pthread_join(t, NULL);
	fflush(stdout);
	if (!fork())
		_exit(at("/tmp") ? 0 : 1);
	CHECK("a child process is where the thread is", wait(&st) > 0 && !st);
	return arg;
}

int main(void)
{
	pthread_t t;

	umask(022);
	CHECK("start at /", !chdir("/"));
	pthread_create(&t, NULL, alone, NULL);
	pthread_join(t, NULL);
	CHECK("the process stayed where it was", at("/"));
	CHECK("its umask, too", umask(022) == 022);
	CHECK("alone, it unshares from nobody", !unshare(CLONE_FS) && at("/"));
	return conf_done();
}
