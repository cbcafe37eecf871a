/* SPDX-License-Identifier: ISC */
/*
 * `cowbell` under the name pre-receive: the hook of a platform's repositories, started by `git receive-pack` (platform/git.c).
 *
 * Standard input has a line "OLD NEW REF" for each ref that is pushed; git shows what we print on standard error to the client as
 * "remote: ...". Not 0 refuses the whole push. Nothing of it is visible in the repository yet: objects are in quarantine, and git's
 * environment lets its commands, which we start, see them.
 *
 * refs/heads/main or master is deployed: its tree goes to the file COWBELL_PUSH_TAR by `git archive` (of the tree, not of the commit, so that
 * no export-subst of .gitattributes puts anything into it), then "deploy COMMIT" to descriptor 3, where the platform answers with frames:
 * platform/git_push.c has them byte by byte. Other refs are stored and not deployed, as on Heroku.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/host/say.h"

#define PLATFORM_FD 3
#define FRAME_MAX   (1u << 21)

static int refuse(const char *fmt, const char *what)
{
	fputs(" !     ", stderr);
	fprintf(stderr, fmt, what);
	fputs("\n", stderr);
	return 1;
}

/* Names of refs come from the client; git lets no control characters into them, but other bytes may be anything. */
static void make_plain(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
			*s = '?';
}

static bool is_object(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef");

	return (n == 40 || n == 64) && !s[n];
}

static bool is_zero(const char *s)
{
	return strspn(s, "0") == strlen(s);
}

/* The tree of a commit as a tar, into the file. */
static int export_tree(const char *commit)
{
	const char *path = getenv("COWBELL_PUSH_TAR"), *max = getenv("COWBELL_PUSH_MAX");
	char tree[80];
	int status, fd = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;

	if (fd < 0)
		return refuse("the source cannot be written: %s", strerror(errno));
	snprintf(tree, sizeof(tree), "%s^{tree}", commit);
	pid_t pid = fork();
	if (!pid) {
		rlim_t limit = max ? strtoull(max, NULL, 10) : 1u << 30;
		struct rlimit r = {limit, limit};
		if (setrlimit(RLIMIT_FSIZE, &r) || dup2(fd, 1) < 0)
			_exit(125);
		close(PLATFORM_FD);
		execlp("git", "git", "archive", "--format=tar", tree, (char *)NULL);
		_exit(127);
	}
	close(fd);
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return refuse("git archive: %s", strerror(errno));
	if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status))
		return refuse("%s cannot be exported: it is too large, or the server's disk is full", commit);
	return 0;
}

static bool read_all(int fd, void *p, size_t n)
{
	char *at = p;

	while (n) {
		ssize_t r = read(fd, at, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		at += r;
		n -= (size_t)r;
	}
	return true;
}

/* What the platform says, until it says whether the push goes on. */
static int listen_to_build(void)
{
	uint8_t head[5];

	while (read_all(PLATFORM_FD, head, sizeof(head))) {
		size_t n = head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16 | (size_t)head[4] << 24;
		char *text = n <= FRAME_MAX ? malloc(n + 1) : NULL;
		bool good = text && read_all(PLATFORM_FD, text, n),
		     goes_on = good && n == 1 && text[0] == '0';
		if (good && head[0] == 'o') {
			fwrite(text, 1, n, stderr);
			fflush(stderr);
		}
		free(text);
		if (good && head[0] == 'e')
			return goes_on ? 0 : 1;
		if (!good)
			break;
	}
	return refuse("%s", "the connection to the platform broke: nothing was deployed");
}

static int deploy(const char *commit)
{
	char line[80];
	int n = snprintf(line, sizeof(line), "deploy %s\n", commit), status = export_tree(commit);

	if (status)
		return status;
	if (write(PLATFORM_FD, line, (size_t)n) != n)
		return refuse("the platform cannot be reached: %s", strerror(errno));
	return listen_to_build();
}

/* Is the ref still what the client saw? git asks this, too, but only after us. Refs here are never packed. */
static bool is_current(const char *ref, const char *old)
{
	char now[80] = "";
	FILE *f = fopen(ref, "re"); /* we are in the repository's directory */
	bool there = f && fgets(now, sizeof(now), f);

	if (f)
		fclose(f);
	now[strcspn(now, "\n")] = 0;
	return there ? !strcmp(now, old) : is_zero(old);
}

int git_hook(void)
{
	char line[4096], commit[80] = "", branch[16] = "";

	setvbuf(stderr, NULL, _IOLBF, 8192);
	while (fgets(line, sizeof(line), stdin)) {
		char *old = line, *new = strchr(line, ' '), *ref = new ? strchr(new + 1, ' ') : NULL;
		if (!ref || !strchr(ref, '\n'))
			return refuse("%s", "not a push");
		*new ++ = *ref++ = 0;
		ref[strcspn(ref, "\n")] = 0;
		if (!is_object(old) || !is_object(new))
			return refuse("%s", "not a push");
		bool main = !strcmp(ref, "refs/heads/main"), master = !strcmp(ref, "refs/heads/master");
		if (!main && !master) {
			make_plain(ref);
			fprintf(stderr, "Pushed to %.200s, which is not main or master: nothing is built.\n",
				ref);
			continue;
		}
		if (is_zero(new))
			return refuse("%s cannot be deleted: it is what is deployed", ref);
		if (!is_current(ref, old))
			return refuse("%s was changed by another push; fetch, and push again", ref);
		if (!commit[0] || main) {
			snprintf(commit, sizeof(commit), "%s", new);
			snprintf(branch, sizeof(branch), "%s", main ? "main" : "master");
		}
	}
	int status = commit[0] ? deploy(commit) : 0;
	if (!status && !strcmp(branch, "master") &&
	    access("refs/heads/main", F_OK)) { /* what a clone checks out */
		FILE *f = fopen("HEAD", "we");
		if (f) {
			fputs("ref: refs/heads/master\n", f);
			fclose(f);
		}
	}
	return status;
}
