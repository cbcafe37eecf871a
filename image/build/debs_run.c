/* SPDX-License-Identifier: ISC */
/*
 * Running one of Debian's tools, without a shell, and reading all it says.
 * Output has a limit; a tool that says more is taken to have ended there.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image/build/debs.h"
#include "lib/host/progress.h"

#define MAX_OUTPUT (64u << 20)

struct capture {
	char *text;
	size_t n, cap;
};

/* What a descriptor has. False at its end. */
static bool capture_more(struct capture *c, int fd)
{
	if (c->cap - c->n < 4096) {
		size_t cap = c->cap ? c->cap * 2 : 16384;
		char *text = cap > MAX_OUTPUT ? NULL : realloc(c->text, cap);
		if (!text)
			return false;
		c->text = text;
		c->cap = cap;
	}
	ssize_t r = read(fd, c->text + c->n, c->cap - c->n - 1);
	if (r < 0 && errno == EINTR)
		return true;
	if (r > 0)
		c->n += (size_t)r;
	c->text[c->n] = 0;
	return r > 0;
}

static void capture_both(struct capture *out, struct capture *err, int out_fd, int err_fd)
{
	struct pollfd p[2] = {{out_fd, POLLIN, 0}, {err_fd, POLLIN, 0}};

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[0].fd >= 0 && p[0].revents && !capture_more(out, out_fd))
			p[0].fd = -1;
		if (p[1].fd >= 0 && p[1].revents && !capture_more(err, err_fd))
			p[1].fd = -1;
		progress_add(0);
	}
}

int fetch_run(const char *const *argv, const char *dir, int stdin_fd, char **out, size_t *n, char **err)
{
	struct capture o = {0}, e = {0};
	struct strings env = {0};
	posix_spawn_file_actions_t fa;
	int po[2], pe[2], status = -1;
	pid_t pid;

	out_live(); /* apt takes its time */
	if (pipe2(po, O_CLOEXEC))
		return -1;
	if (pipe2(pe, O_CLOEXEC)) {
		close(po[0]);
		close(po[1]);
		return -1;
	}
	posix_spawn_file_actions_init(&fa);
	if (stdin_fd >= 0)
		posix_spawn_file_actions_adddup2(&fa, stdin_fd, 0);
	else
		posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, po[1], 1);
	posix_spawn_file_actions_adddup2(&fa, pe[1], 2);
	if (dir)
		posix_spawn_file_actions_addchdir_np(&fa, dir);
	for (char **v = environ; *v; v++)
		strings_add(&env, *v);
	strings_set_env(&env, "LC_ALL=C.UTF-8"); /* what tools say is read */
	int r = posix_spawnp(&pid, argv[0], &fa, NULL, (char *const *)argv, env.v);
	strings_free(&env);
	posix_spawn_file_actions_destroy(&fa);
	close(po[1]);
	close(pe[1]);
	if (!r) {
		capture_both(&o, &e, po[0], pe[0]);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	}
	close(po[0]);
	close(pe[0]);
	*out = o.text ? o.text : calloc(1, 1);
	*n = o.n;
	if (err)
		*err = e.text ? e.text : calloc(1, 1);
	else
		free(e.text);
	return status;
}
